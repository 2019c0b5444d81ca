"""The table of spectral indices of Sentinel-2, and what an expression defines.

The table is the Awesome Spectral Indices catalogue as spyndex 0.12.0 carries it (MIT; Montero et
al. 2023, doi 10.1038/s41597-023-02096-0): 245 indices marked Sentinel-2, of which 244 can be
computed from the bands. NIRvP also needs ``PAR``, photosynthetically active radiation, which has
no default. Three things besides bands occur in the formulas:

* constants: the catalogue's defaults (``L = 1``, ``gamma = 1``, ``alpha = 0.1``, ...);
* wavelengths (``lambdaN`` ...): centre wavelengths of Sentinel-2A [nm], see `deepfeatures.bands`;
* kernels (``kNR`` ...): radial basis function ``k(a, b) = exp(-(a - b)^2 / (2 sigma^2))`` with
  ``sigma = 0.5 (a + b)`` at each pixel, so that kNDVI = tanh(NDVI^2) (Camps-Valls et al. 2021,
  doi 10.1126/sciadv.abc7447); ``kNN = k(N, N) = 1`` and ``kNL = k(N, L)``.

A zero denominator gives NaN, never an infinity; NaN in a band gives NaN in each index that uses it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from deepfeatures.bands import BANDS
from deepfeatures.indices import formula as formulas
from deepfeatures.indices.program import Program, compiled


@dataclass(frozen=True)
class Index:
    """A spectral index."""

    name: str
    """Short name, as in the catalogue: ``NDVI``."""
    long_name: str
    """Name in words."""
    formula: str
    """Formula in the symbols of the catalogue (``N``, ``R`` ...) or in band names (``B08`` ...)."""
    bands: tuple[str, ...]
    """Names of the bands that it needs, in the order of wavelength."""
    domain: str
    """Use: vegetation, water, soil, urban, burn, snow, clouds, kernel, or own."""
    reference: str
    """Link to the publication."""
    constants: dict[str, float | None] = field(default_factory=dict, hash=False)
    """Constants in the formula and their defaults (None: has none, must be given)."""


_TABLE = json.loads(
    resources.files("deepfeatures").joinpath("data", "indices.json").read_text("utf-8")
)

CATALOGUE: str = _TABLE["catalogue"]
"""Name and version of the catalogue; recorded with every result."""

CONSTANTS: dict[str, float | None] = _TABLE["constants"]
"""Defaults of the constants of the catalogue."""

_KERNELS = {
    "k" + a + b: (a, b)
    for a, b in (("N", "N"), ("N", "R"), ("N", "B"), ("N", "L"), ("G", "G"), ("G", "R"), ("G", "B"))
}


def _kernel(a: str, b: str) -> formulas.Tree:
    """Write ``exp(-(a - b)^2 / (2 (0.5 (a + b))^2))`` as ``exp(-2 ((a - b) / (a + b))^2)``."""
    if a == b:
        return ("const", 1.0)
    first, second = ("name", a), ("name", b)
    ratio = ("/", ("-", first, second), ("+", first, second))
    return ("exp", ("*", ("const", -2.0), ("**", ratio, ("const", 2.0))))


_BAND_SYMBOLS: dict[str, formulas.Tree] = {
    band.spyndex: ("name", band.name) for band in BANDS.values()
}
_WAVELENGTHS: dict[str, formulas.Tree] = {
    "lambda" + band.spyndex: ("const", band.wavelength_nm) for band in BANDS.values()
}
_KERNEL_TREES = {name: _kernel(a, b) for name, (a, b) in _KERNELS.items()}
_SYMBOLS = (*BANDS, *_BAND_SYMBOLS, *CONSTANTS, *_WAVELENGTHS, *_KERNELS)


@lru_cache(maxsize=1024)
def _tree(formula: str) -> formulas.Tree:
    """Parse a formula; only bands (by our names) and constants remain as names."""
    symbols = _BAND_SYMBOLS | _WAVELENGTHS
    found = formulas.parse(formula, (*_SYMBOLS, *_TABLE["indices"]))
    inner = {
        name: _tree(_TABLE["indices"][name]["formula"])
        for name in formulas.names(found)
        if name not in _SYMBOLS
    }
    return formulas.bind(formulas.bind(formulas.bind(found, inner), _KERNEL_TREES), symbols)


def define(
    name: str,
    formula: str,
    *,
    long_name: str = "",
    domain: str = "own",
    reference: str = "",
) -> Index:
    """Make an index from a formula, such as ``define("NDVI", "(B08 - B04) / (B08 + B04)")``.

    Parameters
    ----------
    name
        What the result is called.
    formula
        ``+ - * / **``, unary minus, numbers; bands by name (``B08``) or by the symbols of the
        catalogue (``N``); the constants, wavelengths and kernels of the catalogue; other indices
        of the catalogue by name (``NDVI``).

    Raises
    ------
    ValueError
        If the formula holds anything else, is too long, or uses no band.
    """
    used = formulas.names(_tree(formula))
    bands = tuple(band for band in BANDS if band in used)
    if not bands:
        raise ValueError(f"the formula {formula!r} uses no band; choose from {', '.join(BANDS)}")
    constants = {constant: CONSTANTS[constant] for constant in used if constant in CONSTANTS}
    index = Index(name, long_name or name, formula, bands, domain, reference, constants)
    try:
        compiled([_bound(index, {key: value or 1.0 for key, value in constants.items()})])
    except ValueError as error:  # what only the plan can see
        raise ValueError(f"{formula!r}: {error}") from None
    return index


def _bound(index: Index, constants: Mapping[str, float]) -> formulas.Tree:
    return formulas.bind(
        _tree(index.formula), {name: ("const", float(value)) for name, value in constants.items()}
    )


INDICES: dict[str, Index] = {
    name: define(name, **{key: row[key] for key in ("formula", "long_name", "domain", "reference")})
    for name, row in _TABLE["indices"].items()
}
"""All 245 indices of the catalogue that are marked Sentinel-2."""


def names() -> tuple[str, ...]:
    """Give the names of all indices that bands alone can give (all of `INDICES` but NIRvP)."""
    return available(BANDS)


def available(bands: Collection[str]) -> tuple[str, ...]:
    """Give the names of the indices that these bands allow, in the order of the catalogue."""
    return tuple(
        name
        for name, index in INDICES.items()
        if set(index.bands) <= set(bands) and None not in index.constants.values()
    )


def hint(name: str) -> str:
    """Say which indices a mistyped name may have meant: ``; did you mean NDVI?`` or nothing."""
    return formulas.hint(name, INDICES)


def find(text: str) -> Index:
    """Give the index of a name of the catalogue, or the one that an expression defines.

    Raises
    ------
    KeyError
        If it is a name that the catalogue does not have.
    ValueError
        If it is an expression with a mistake in it.
    """
    if text.strip() in INDICES:
        return INDICES[text.strip()]
    if text.strip().isidentifier() and text.strip() not in BANDS:
        raise KeyError(f"{text[:60]!r} is no spectral index of {CATALOGUE}{hint(text)}")
    return _own(text)


@lru_cache(maxsize=1024)
def _own(text: str) -> Index:
    return define(text, text)


def chosen(wanted: Sequence[str | Index], bands: Collection[str]) -> list[Index]:
    """Look names and expressions up and see that every band is there.

    Raises
    ------
    KeyError
        If an index is unknown.
    ValueError
        If none is asked for, an expression has a mistake in it, or a band is missing.
    """
    if not wanted:
        raise ValueError("no index is asked for; name at least one, such as 'NDVI'")
    found = [item if isinstance(item, Index) else find(item) for item in wanted]
    for index in found:
        missing = [band for band in index.bands if band not in bands]
        if missing:
            raise ValueError(
                f"{index.name} needs {', '.join(missing)}, which the cube does not have; "
                f"it has {', '.join(bands)}"
            )
    return found


@lru_cache(maxsize=1024)
def program(wanted: tuple[Index, ...], constants: tuple[tuple[str, float], ...]) -> Program:
    """Give the plan of some indices with some constants; made once.

    Raises
    ------
    ValueError
        If a constant is unknown, or has no default and is not given.
    """
    given = dict(constants)
    unknown = [name for name in given if name not in CONSTANTS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no constant; choose from {', '.join(CONSTANTS)}")
    trees = []
    for index in wanted:
        values = index.constants | {k: v for k, v in given.items() if k in index.constants}
        numbers = {name: value for name, value in values.items() if value is not None}
        missing = sorted(values.keys() - numbers.keys())
        if missing:
            raise ValueError(
                f"{index.name} needs the constant {missing[0]!r}, which has no default"
            )
        trees.append(_bound(index, numbers))
    return compiled(trees)
