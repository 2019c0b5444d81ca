"""Programs: many formulas as one list of steps in which equal parts are computed once."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepfeatures.indices.formula import MAX_EXPONENT, Tree

_FOLDED: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": np.divide,
    "**": np.power,
    "neg": operator.neg,
    "exp": np.exp,
}


@dataclass(frozen=True)
class Program:
    """Formulas compiled together; operands are inputs, constants, slots, outputs, in this order."""

    inputs: tuple[str, ...]
    """Names of the arrays that it reads."""
    constants: tuple[float, ...]
    """Numbers that it uses (of float32)."""
    slots: int
    """Places that it needs for intermediate values."""
    outputs: int
    """Number of formulas."""
    code: tuple[tuple[str, tuple[int, ...]], ...]
    """Steps: the operation (``+ - * / ** neg sqrt exp copy``), its operands, then the place of
    the result."""
    uses: tuple[tuple[int, ...], ...]
    """The inputs of each formula, by number."""


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
        operation = tree[0]
        if operation in ("name", "const"):
            return self.intern(*tree)
        parts = [self.add(part) for part in tree[1:]]
        values = [self.nodes[part][1] for part in parts if self.nodes[part][0] == "const"]
        if len(values) == len(parts):
            return self.intern("const", _fold(operation, values))
        if operation == "**":
            return self.power(*parts)
        if operation == "/" and self.nodes[parts[1]] == ("const", 0.0):
            raise ValueError("a denominator is always zero; check the numbers of the formula")
        if operation in ("+", "*"):  # exact in either order, so that a + b and b + a are one node
            parts.sort()
        return self.intern(operation, *parts)

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


def _fold(operation: str, values: Sequence[float]) -> float:
    if operation == "**":
        _check_exponent(values[1])
    with np.errstate(all="ignore"):
        result = float(_FOLDED[operation](*(np.float64(value) for value in values)))
    if not math.isfinite(result) or abs(result) > float(np.finfo(np.float32).max):
        raise ValueError(f"a constant part of the formula is {result}; check its numbers")
    return result


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
        (graph.nodes[node][0], (*(place[p] for p in graph.nodes[node][1:]), place[node]))
        for node in steps
    ]
    for row, node in enumerate(roots):
        if rows.get(node) != row:  # a bare band, a number, or a formula that came before
            code.append(("copy", (place[node], first_slot + taken + row)))
    return Program(
        inputs=tuple(graph.nodes[node][1] for node in inputs),
        constants=tuple(float(np.float32(graph.nodes[node][1])) for node in constants),
        slots=taken,
        outputs=len(roots),
        code=tuple(code),
        uses=_uses(graph, roots, inputs),
    )


def _uses(
    graph: _Graph, roots: Sequence[int], inputs: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Give the inputs of each formula, by number."""
    below: dict[int, frozenset[int]] = {node: frozenset((at,)) for at, node in enumerate(inputs)}
    for node in _order(graph, roots):
        if node not in below:
            leaf = graph.nodes[node][0] == "const"
            parts = () if leaf else graph.nodes[node][1:]
            below[node] = frozenset().union(*(below[part] for part in parts))
    return tuple(tuple(sorted(below[root])) for root in roots)


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
