"""Formulas of bands: parsed through an `ast` allow-list, run in cache-sized blocks.

A formula is text with ``+ - * / **``, unary minus, numbers and names; whatever else Python can
say (calls, attributes, subscripts, comprehensions ...) is refused before anything is evaluated.
Many formulas become one `Program`: equal parts are computed once, small powers are
multiplications, and each step is one array operation over a block that stays in the cache.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
BLOCK = 32768
"""Values per block: 128 KiB in float32, so that the live blocks of a program stay in the cache."""

_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
_UFUNCS: dict[str, np.ufunc] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "copy": np.positive,
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


@dataclass(frozen=True)
class Program:
    """Formulas compiled together; operands are inputs, constants, slots, outputs, in this order."""

    inputs: tuple[str, ...]
    """Names of the arrays that it reads."""
    constants: tuple[np.float32, ...]
    """Numbers that it uses."""
    slots: int
    """Blocks that it needs for intermediate values."""
    outputs: int
    """Number of formulas."""
    code: tuple[tuple[np.ufunc, tuple[int, ...]], ...]
    """Steps: the operation, its operands, then where the result goes."""


class _Graph:
    """Nodes of a program, each stored once (hash-consing), constants folded in float64."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Any, ...]] = []
        self.ids: dict[tuple[Any, ...], int] = {}

    def intern(self, *key: Any) -> int:
        if key not in self.ids:
            self.ids[key] = len(self.nodes)
            self.nodes.append(key)
        return self.ids[key]

    def add(self, tree: Tree) -> int:
        operator = tree[0]
        if operator in ("name", "const"):
            return self.intern(*tree)
        parts = [self.add(part) for part in tree[1:]]
        values = [self.nodes[part][1] for part in parts if self.nodes[part][0] == "const"]
        if len(values) == len(parts):
            return self.intern("const", _fold(operator, values))
        if operator == "**":
            return self.power(*parts)
        if operator == "/" and self.nodes[parts[1]] == ("const", 0.0):
            raise ValueError("a denominator is always zero; check the numbers of the formula")
        if operator in ("+", "*"):  # exact in either order, so that a + b and b + a are one node
            parts.sort()
        return self.intern(operator, *parts)

    def power(self, base: int, exponent: int) -> int:
        if self.nodes[exponent][0] != "const":
            raise ValueError("an exponent must be a number")
        value = self.nodes[exponent][1]
        _check_exponent(value)
        if value < 0:
            one = self.intern("const", 1.0)
            return self.intern("/", one, self.power(base, self.intern("const", -value)))
        if value == 0.5:
            return self.intern("sqrt", base)
        if value != int(value):
            return self.intern("**", base, exponent)
        return self.product(base, int(value))

    def product(self, base: int, times: int) -> int:
        if times == 1:
            return base
        half = self.product(base, times // 2)
        square = self.intern("*", half, half)
        return square if times % 2 == 0 else self.intern("*", *sorted((square, base)))


def _check_exponent(value: float) -> None:
    if not 0 < abs(value) <= MAX_EXPONENT:
        raise ValueError(
            f"the exponent {value:g} is not allowed; it must not be 0 nor beyond {MAX_EXPONENT}"
        )


def _fold(operator: str, values: Sequence[float]) -> float:
    if operator == "**":
        _check_exponent(values[1])
    with np.errstate(all="ignore"):
        result = float(_UFUNCS[operator](*(np.float64(value) for value in values)))
    if not math.isfinite(result) or abs(result) > float(np.finfo(np.float32).max):
        raise ValueError(f"a constant part of the formula is {result}; check its numbers")
    return result


def bind(tree: Tree, symbols: Mapping[str, Tree]) -> Tree:
    """Replace names in a tree by other trees; names that `symbols` lacks stay."""
    if tree[0] == "name":
        return symbols.get(tree[1], tree)
    return (
        tree[0],
        *(bind(part, symbols) if isinstance(part, tuple) else part for part in tree[1:]),
    )


def compiled(trees: Sequence[Tree]) -> Program:
    """Compile formulas into one program in which equal parts are computed once.

    Raises
    ------
    ValueError
        If an exponent is no number, is 0 or too large, or a constant part is not finite.
    """
    graph = _Graph()
    roots = [graph.add(tree) for tree in trees]
    order = _order(graph, roots)
    inputs = [node for node in order if graph.nodes[node][0] == "name"]
    constants = [node for node in order if graph.nodes[node][0] == "const"]
    place = {node: at for at, node in enumerate(inputs + constants)}
    first_slot = len(place)
    steps = [node for node in order if node not in place]
    rows = {node: row for row, node in reversed(list(enumerate(roots))) if node not in place}
    slots, taken = _allocate(graph, steps, rows)
    place |= {node: first_slot + slot for node, slot in slots.items()}
    place |= {node: first_slot + taken + row for node, row in rows.items()}
    code = [
        (_UFUNCS[graph.nodes[node][0]], (*(place[p] for p in graph.nodes[node][1:]), place[node]))
        for node in steps
    ]
    for row, node in enumerate(roots):
        if rows.get(node) != row:  # a bare band, a number, or a formula that came before
            code.append((np.positive, (place[node], first_slot + taken + row)))
    return Program(
        inputs=tuple(graph.nodes[node][1] for node in inputs),
        constants=tuple(np.float32(graph.nodes[node][1]) for node in constants),
        slots=taken,
        outputs=len(roots),
        code=tuple(code),
    )


def _order(graph: _Graph, roots: Sequence[int]) -> list[int]:
    """Sort the needed nodes so that operands come before their users, close to them."""
    done: dict[int, None] = {}

    def visit(node: int) -> None:
        if node in done:
            return
        if graph.nodes[node][0] not in ("name", "const"):
            for part in graph.nodes[node][1:]:
                visit(part)
        done[node] = None

    for root in roots:
        visit(root)
    return list(done)


def _allocate(
    graph: _Graph, steps: Sequence[int], rows: Mapping[int, int]
) -> tuple[dict[int, int], int]:
    """Give each intermediate node a slot; a slot is free again after the last use of its node."""
    last = {part: at for at, node in enumerate(steps) for part in graph.nodes[node][1:]}
    slots: dict[int, int] = {}
    free: list[int] = []
    taken = 0
    for at, node in enumerate(steps):
        gone = {part for part in graph.nodes[node][1:] if last[part] == at}
        free += sorted(slots[part] for part in gone if part in slots)
        if node in rows:
            continue
        if not free:
            free.append(taken)
            taken += 1
        slots[node] = free.pop()
    return slots, taken


class _Flag:
    """Notes that the last operation divided by zero or overflowed (numpy calls `__call__`)."""

    raised = False

    def __call__(self, kind: str, code: int) -> None:
        self.raised = True


def run(program: Program, arrays: Mapping[str, np.ndarray], out: np.ndarray) -> None:
    """Evaluate a program in blocks of `BLOCK` values.

    A quotient whose denominator is zero, and whatever overflows, is NaN at that very step, so
    that an infinity never turns into a number again further on. Numpy reports both through the
    processor's own flags, which costs nothing where all is well.

    Parameters
    ----------
    program
        From `compiled`.
    arrays
        One flat contiguous float32 array (n,) for each of ``program.inputs``.
    out
        Flat rows (formulas, n), float32, C-contiguous; written.
    """
    slots = list(np.empty((program.slots, BLOCK), np.float32))
    inputs = [arrays[name] for name in program.inputs]
    flag = _Flag()
    with np.errstate(divide="call", over="call", invalid="ignore", under="ignore", call=flag):
        for start in range(0, out.shape[1], BLOCK):
            end = min(start + BLOCK, out.shape[1])
            values: list[Any] = [array[start:end] for array in inputs]
            values += program.constants
            values += [slot[: end - start] for slot in slots]
            values += list(out[:, start:end])
            for operation, places in program.code:
                result = operation(*[values[place] for place in places])
                if flag.raised:
                    flag.raised = False
                    result[~np.isfinite(result)] = np.nan
