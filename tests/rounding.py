"""Float64 values of formulas, and how far float32 may be from them: a running error analysis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.indices.formula import Tree, bind, names, parse

U = 2.0**-24
"""Half a unit in the last place of float32, relative."""
LARGEST = float(np.finfo(np.float32).max)

Bounded = tuple[np.ndarray, np.ndarray]
"""Values, and how far float32 may be from them: inf where anything goes, and 0 with the value NaN
where only NaN is right."""


def _kernel(a: str, b: str) -> Tree:
    if a == b:
        return ("const", 1.0)
    ratio = parse(f"({a} - {b}) / ({a} + {b})", [a, b])
    return ("exp", ("*", ("const", -2.0), ("**", ratio, ("const", 2.0))))


SYMBOLS: dict[str, Tree] = {band.spyndex: ("name", name) for name, band in BANDS.items()}
NUMBERS: dict[str, Tree] = {
    name: ("const", float(value)) for name, value in indices.CONSTANTS.items() if value is not None
} | {"lambda" + band.spyndex: ("const", band.wavelength_nm) for band in BANDS.values()}
KERNELS = {f"k{a}{b}": _kernel(a, b) for a, b in ("NN", "NR", "NB", "NL", "GG", "GR", "GB")}


def tree_of(formula: str) -> Tree:
    """Read a formula of the catalogue; only bands, by their names, remain as names."""
    read = parse(formula, [*SYMBOLS, *NUMBERS, *KERNELS, *BANDS])
    return bind(bind(bind(read, KERNELS), NUMBERS), SYMBOLS)


def bounded(tree: Tree, bands: Mapping[str, np.ndarray]) -> Bounded:
    """Evaluate a tree: each operation adds half a unit in the last place to its operands' error."""
    with np.errstate(all="ignore"):
        return _bounded(tree, bands, next(iter(bands.values())).shape)


def _bounded(tree: Tree, bands: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> Bounded:
    kind = tree[0]
    if kind == "name":
        values = bands[tree[1]].astype(float)
        return np.where(np.isfinite(values), values, np.nan), np.zeros(shape)
    if kind == "const":
        return np.full(shape, tree[1]), np.full(shape, U * abs(tree[1]))
    a, da = _bounded(tree[1], bands, shape)
    if kind == "neg":
        return -a, da
    if kind == "exp":
        off = np.exp(a) * np.expm1(da)
        return _settled(np.exp(a), off, (a, da))
    if kind == "**":
        exponent = _number(tree[2])
        if exponent < 0:
            inverse = ("/", ("const", 1.0), ("**", tree[1], ("const", -exponent)))
            return _bounded(inverse, bands, shape)
        return _settled(*_power(a, da, exponent), (a, da))
    b, db = _bounded(tree[2], bands, shape)
    if kind in "+-":
        value, off = (a + b if kind == "+" else a - b), da + db
    elif kind == "*":
        value, off = a * b, da * abs(b) + db * abs(a) + da * db
    else:
        value = np.where(b == 0, np.nan, a / b)
        off = np.where(db < abs(b), (da + abs(value) * db) / (abs(b) - db), np.inf)
        off = np.where((b == 0) & (db == 0), 0, off)
    return _settled(value, off, (a, da), (b, db))


def _number(tree: Tree) -> float:
    """Give the value of a tree of numbers."""
    assert not names(tree)
    return float(_bounded(tree, {}, ())[0])


def _power(a: np.ndarray, da: np.ndarray, exponent: float) -> Bounded:
    """Bound a power by its slope at the steepest end of what its base may be."""
    slopes = [exponent * np.maximum(abs(a) + sign * da, 0) ** (exponent - 1) for sign in (-1, 1)]
    value, off = a**exponent, np.where(da > 0, np.maximum(*slopes) * da, 0)
    # a whole power is a few products; any other has its exponent in float32
    steps = 8 if exponent == int(exponent) else exponent * abs(np.log(abs(a))) + 1
    off = off + np.where(a == 0, 0, steps * U * abs(value))
    doubtful = (da > 0) & (a - da <= 0) & (a + da >= 0) & (exponent != int(exponent))
    off = np.where(np.isnan(value) & ~doubtful, 0, off)
    return value, np.where(doubtful, np.inf, off)


def _settled(value: np.ndarray, off: np.ndarray, *operands: Bounded) -> Bounded:
    """Add the rounding of one operation. What overflows is lost, and stays so."""
    undefined = np.isnan(value) & (off == 0)
    off = 1.001 * off + U * abs(value) + 2.0**-148
    lost = np.any([np.isnan(a) & (da == 0) for a, da in operands], axis=0)
    lost |= undefined | (abs(value) - off > LARGEST)
    loose = np.any([np.isinf(da) for _, da in operands], axis=0)
    loose |= ~(abs(value) + off <= LARGEST)
    return np.where(lost, np.nan, value), np.where(lost, 0, np.where(loose, np.inf, off))
