"""Formulas of bands: parsed through an `ast` allow-list, run in cache-sized blocks.

A formula is text with ``+ - * / **``, unary minus, numbers and names; whatever else Python can
say (calls, attributes, subscripts, comprehensions ...) is refused before anything is evaluated.
Many formulas become one `Program`: equal parts are computed once, small powers are
multiplications, and each step is one array operation over a block that stays in the cache.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from typing import Any

Tree = tuple[Any, ...]
"""``("name", text)``, ``("const", float)``, ``("exp", tree)`` or ``(operator, tree, tree)``."""

MAX_LENGTH = 500
"""Longest formula [characters]."""
MAX_DEPTH = 40
"""Deepest nesting of a formula."""
MAX_EXPONENT = 8
"""Largest absolute exponent."""
MAX_CONSTANT = 1e9
"""Largest absolute number."""
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}


def parse(expression: str, allowed: Collection[str]) -> Tree:
    """Parse a formula without evaluating it.

    Parameters
    ----------
    expression
        For example ``"(N - R) / (N + R)"``.
    allowed
        Names that may occur in it.

    Raises
    ------
    ValueError
        If it is no formula, is too long or too deep, has an unknown name, or holds anything but
        ``+ - * / **``, unary minus, numbers and names.
    """
    if len(expression) > MAX_LENGTH:
        raise ValueError(
            f"the formula has {len(expression)} characters; at most {MAX_LENGTH} are allowed"
        )
    try:
        body = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(
            f"{expression!r} is no formula; write it like '(N - R) / (N + R)'"
        ) from None
    return _walk(body, frozenset(allowed), 1)


def names(tree: Tree) -> tuple[str, ...]:
    """Give the names in a tree, each once, in the order of appearance."""
    if tree[0] == "name":
        return (tree[1],)
    found = (name for part in tree[1:] if isinstance(part, tuple) for name in names(part))
    return tuple(dict.fromkeys(found))


def _walk(node: ast.expr, allowed: frozenset[str], depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise ValueError(f"the formula is nested more than {MAX_DEPTH} deep; simplify it")
    if isinstance(node, ast.Constant):
        return ("const", _number(node.value))
    if isinstance(node, ast.Name):
        if node.id not in allowed:
            raise ValueError(f"{node.id!r} is unknown here; choose from {', '.join(allowed)}")
        return ("name", node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ("neg", _walk(node.operand, allowed, depth + 1))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left = _walk(node.left, allowed, depth + 1)
        right = _walk(node.right, allowed, depth + 1)
        return (_OPERATORS[type(node.op)], left, right)
    kind = type(getattr(node, "op", node)).__name__
    raise ValueError(f"{kind} is not allowed in a formula; use + - * / **, numbers and names")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not allowed in a formula; use numbers and names")
    if not abs(value) <= MAX_CONSTANT:
        raise ValueError(
            f"a number in the formula is larger than {MAX_CONSTANT:g}; use smaller ones"
        )
    return float(value)


def bind(tree: Tree, symbols: Mapping[str, Tree]) -> Tree:
    """Replace names in a tree by other trees; names that `symbols` lacks stay."""
    if tree[0] == "name":
        return symbols.get(tree[1], tree)
    return (
        tree[0],
        *(bind(part, symbols) if isinstance(part, tuple) else part for part in tree[1:]),
    )
