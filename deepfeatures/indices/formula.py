"""Formulas of bands: text in, trees out; what is wrong is said with its place.

A formula is text with ``+ - * / **``, signs, parentheses, numbers and names that binds as in
Python: ``-N ** 2`` is ``-(N ** 2)`` and ``a ** b ** c`` is ``a ** (b ** c)``. It is read here, from
left to right, and never handed to Python's own parser: nothing in it can be run, no character
turns into another one, and each mistake has a place in the text as it was written.
"""

from __future__ import annotations

import difflib
import keyword
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

from deepfeatures.bands import BANDS

Tree = tuple[Any, ...]
"""``("name", text)``, ``("const", float)``, ``("neg", tree)``, ``("exp", tree)`` or
``(operator, tree, tree)``."""

MAX_LENGTH = 500
"""Longest formula [characters]."""
MAX_DEPTH = 40
"""Deepest nesting of parentheses, signs and powers, and longest chain of operators."""
MAX_EXPONENT = 8
"""Largest absolute exponent."""
MAX_CONSTANT = 1e9
"""Largest absolute number."""
MIN_CONSTANT = 1e-30
"""Smallest absolute number but 0: in float32 much smaller ones are 0."""
SHOWN = 60
"""Longest part of a formula that an error repeats [characters]."""

_LEVELS = (("+", "-"), ("*", "/"))
_TOKEN = re.compile(
    r"[ \t]*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<operator>\*\*|[-+*/()])|(?P<end>\Z)|(?P<wrong>.))",
    re.ASCII | re.DOTALL,
)
_WORD = re.compile(r"[\w.]*", re.ASCII)
_BANDS = {*BANDS, *(band.spyndex for band in BANDS.values())}
_REASONS = {
    "^": "is no operator; write ** for powers",
    ",": "is not allowed; write decimals with a point, and one formula at a time",
    ".": "is not part of a number; write numbers like 0.5, and names without a dot",
    "\\": "is not allowed; write the formula in one line",
    "#": "begins a comment; write the formula alone",
}
_REASONS |= dict.fromkeys("'\"", "begins a text; write names without quotes")
_REASONS |= dict.fromkeys("[]{}", "is not allowed; use ( and )")
_REASONS |= dict.fromkeys("<>=!:", "compares or assigns; write only what gives the value")
_REASONS |= dict.fromkeys("\n\r\f\v", "breaks the line; write the formula in one line")
_INSTEAD = dict.fromkeys("\u2212\u2013\u2014", "-") | dict.fromkeys("\u00d7\u00b7\u22c5", "*")
_INSTEAD |= {"\u00f7": "/", "\u2215": "/", "\u00b2": "** 2", "\u00b3": "** 3", "\u00a0": " "}
_KINDS = (
    "; use bands (B01..B12), symbols (N, R, ...), constants (L, gamma, ...) or indices of the "
    "catalogue (NDVI, ...)"
)


class FormulaError(ValueError):
    """A mistake in a formula; as text one sentence with its place, the reason and the remedy."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        super().__init__(text, position, reason)
        self.text = text
        """The formula as it was written."""
        self.position = position
        """Column of the mistake from 0; the length of the text if something lacks at its end."""
        self.reason = reason
        """What is wrong there, and the remedy."""

    def __str__(self) -> str:
        start = max(0, min(self.position - SHOWN // 2, len(self.text) - SHOWN))
        part = self.text[start : start + SHOWN]
        shown = "..." * (start > 0) + part + "..." * (start + SHOWN < len(self.text))
        behind = self.position >= len(self.text)
        place = "at the end" if behind else f"at character {self.position + 1}"
        return f"{shown!r}: {place} {self.reason}"


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_Part = tuple[Tree, int]
"""A tree and how deep it is."""


class _Reader:
    """Reads a formula by recursive descent, one token ahead."""

    def __init__(self, text: str, allowed: Collection[str]) -> None:
        self.text, self.allowed = text, allowed
        self.token = self._scan(0)

    def whole(self) -> Tree:
        tree, _ = self._chain(0, 1)
        if self.token.text == ")":
            self._fail(self.token.position, "')' closes nothing; remove it, or open it with '('")
        if self.token.kind != "end":
            self._lacks_operator()
        return tree

    def _chain(self, level: int, depth: int) -> _Part:
        """Read terms of a sum (level 0) or factors of a product (level 1)."""
        if level == len(_LEVELS):
            return self._signed(depth)
        left = self._chain(level + 1, depth)
        while self.token.text in _LEVELS[level]:
            operator, at = self._next(), self.token.position
            right = self._chain(level + 1, depth)
            if operator.text == "/" and right[0] == ("const", 0.0):
                self._fail(at, "the denominator is zero; write another number")
            left = self._joined(operator.text, operator, left, right)
        return left

    def _signed(self, depth: int) -> _Part:
        if self.token.text not in ("+", "-"):
            return self._power(depth)
        sign = self._next()
        self._check_depth(depth, sign)
        part = self._signed(depth + 1)
        return part if sign.text == "+" else self._joined("neg", sign, part)

    def _power(self, depth: int) -> _Part:
        base = self._atom(depth)
        if self.token.text != "**":
            return base
        operator, at = self._next(), self.token.position
        self._check_depth(depth, operator)
        exponent = self._signed(depth + 1)
        self._check_exponent(exponent[0], at)
        return self._joined("**", operator, base, exponent)

    def _atom(self, depth: int) -> _Part:
        token = self._next()
        if token.kind == "number":
            return ("const", self._number(token)), 1
        if token.kind == "name":
            self._check_name(token)
            return ("name", token.text), 1
        self._check_character(token)
        if token.text != "(":
            before = "" if token.kind == "end" else f" before {token.text!r}"
            self._fail(token.position, f"a number, a name or '(' is missing{before}; write it")
        self._check_depth(depth, token)
        inner = self._chain(0, depth + 1)
        if self.token.kind == "end":
            self._fail(token.position, "'(' is never closed; write ')' where it ends")
        if self.token.text != ")":
            self._lacks_operator()
        self._next()
        return inner

    def _joined(self, operation: str, token: _Token, *parts: _Part) -> _Part:
        height = 1 + max(height for _, height in parts)
        self._check_depth(height, token)
        return (operation, *(tree for tree, _ in parts)), height

    def _scan(self, start: int) -> _Token:
        found = _TOKEN.match(self.text, start)
        assert found is not None  # it matches any character, and the end
        kind = str(found.lastgroup)
        self.end = found.end()
        return _Token(kind, found[kind], found.start(kind))

    def _next(self) -> _Token:
        token = self.token
        self.token = self._scan(self.end)
        return token

    def _number(self, token: _Token) -> float:
        glued = _WORD.findall(self.text, token.position + len(token.text))[0]
        if glued:
            self._fail(
                token.position,
                f"{_short(token.text + glued)} is no number; write 1000, 0.5 or 1e-3, and products "
                "with *",
            )
        value = float(token.text)
        if value > MAX_CONSTANT:
            self._fail(token.position, f"the number is above {MAX_CONSTANT:g}; scale it down")
        if 0 < value < MIN_CONSTANT:
            self._fail(token.position, f"the number is below {MIN_CONSTANT:g}; scale it up")
        return value

    def _check_character(self, token: _Token) -> None:
        if token.kind == "wrong":
            reason = _REASONS.get(token.text, "is not allowed; use + - * / **, numbers and names")
            self._fail(token.position, f"{token.text!r} {reason}")

    def _check_name(self, token: _Token) -> None:
        name = token.text
        if name in self.allowed:
            return
        if keyword.iskeyword(name):
            reason = f"{name!r} is a word of Python; use + - * / **, numbers and names"
        elif self.token.text == "(":
            reason = f"{_short(name)} cannot be called; use + - * / ** (a root is ** 0.5)"
        else:
            reason = f"{_short(name)} is unknown{hint(name, self.allowed) or _KINDS}"
        self._fail(token.position, reason)

    def _check_exponent(self, tree: Tree, position: int) -> None:
        band = next((name for name in names(tree) if name in _BANDS), None)
        if band is not None:
            self._fail(position, f"the exponent holds the band {band}; write a number")
        sign, size = (-1.0, tree[1]) if tree[0] == "neg" else (1.0, tree)
        if size[0] == "const" and not 0 < size[1] <= MAX_EXPONENT:
            self._fail(
                position,
                f"the exponent {sign * size[1]:g} is 0 or beyond {MAX_EXPONENT}; write another",
            )

    def _check_depth(self, depth: int, token: _Token) -> None:
        if depth > MAX_DEPTH:
            self._fail(
                token.position,
                f"{token.text!r} makes the formula more than {MAX_DEPTH} deep; split the formula",
            )

    def _lacks_operator(self) -> NoReturn:
        self._check_character(self.token)
        found = _short(self.token.text)
        self._fail(
            self.token.position, f"an operator is missing before {found}; write one of + - * / **"
        )

    def _fail(self, position: int, reason: str) -> NoReturn:
        raise FormulaError(self.text, position, reason)


def parse(expression: str, allowed: Collection[str]) -> Tree:
    """Read a formula without evaluating it.

    Parameters
    ----------
    expression
        For example ``"(N - R) / (N + R)"``.
    allowed
        Names that may occur in it.

    Raises
    ------
    FormulaError
        If it is no formula, is too long or too deep, has an unknown name, divides by the number
        0, has an exponent that cannot be, or holds anything but ``+ - * / **``, signs,
        parentheses, numbers and names.
    """
    if len(expression) > MAX_LENGTH:
        raise FormulaError(
            expression,
            MAX_LENGTH,
            f"the formula is longer than {MAX_LENGTH} characters; split it",
        )
    if not expression.strip():
        raise FormulaError(
            expression, len(expression), "a formula is missing; write one, such as 'B08 - B04'"
        )
    for position, character in enumerate(expression):
        if not character.isascii():
            raise FormulaError(expression, position, _foreign(character))
    return _Reader(expression, allowed).whole()


def names(tree: Tree) -> tuple[str, ...]:
    """Give the names in a tree, each once, in the order of appearance."""
    if tree[0] == "name":
        return (tree[1],)
    found = (name for part in tree[1:] if isinstance(part, tuple) for name in names(part))
    return tuple(dict.fromkeys(found))


def bind(tree: Tree, symbols: Mapping[str, Tree]) -> Tree:
    """Replace names in a tree by other trees; names that `symbols` lacks stay."""
    if tree[0] == "name":
        return symbols.get(tree[1], tree)
    return (
        tree[0],
        *(bind(part, symbols) if isinstance(part, tuple) else part for part in tree[1:]),
    )


def hint(name: str, known: Collection[str]) -> str:
    """Say which known names a mistyped one may mean: ``; did you mean NDVI?`` or nothing."""
    typed = name.lower()
    found = [one for one in known if one.lower() == typed]
    if not found:
        by_lower = {one.lower(): one for one in known}
        swapped = [by_lower[one] for one in by_lower if sorted(one) == sorted(typed)]
        alike = 0.66 if len(typed) < 4 else 0.72  # one of three characters is another one
        near = difflib.get_close_matches(typed, by_lower, n=3, cutoff=alike)
        found = list(dict.fromkeys(swapped + [by_lower[one] for one in near]))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN // 2 else text[: SHOWN // 2] + "...")


def _foreign(character: str) -> str:
    """Say what a character beyond ASCII is: many look like one of ASCII."""
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    remedy = f"write {_INSTEAD[character]!r}" if character in _INSTEAD else "type it anew in ASCII"
    return f"{character!r} ({name}) is not allowed; {remedy}"
