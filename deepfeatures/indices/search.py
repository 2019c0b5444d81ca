"""Looking indices up: by words, use and bands; and all that is known about one."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from deepfeatures.bands import BANDS
from deepfeatures.indices.ranges import RANGES
from deepfeatures.indices.table import INDICES, Index, available

_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")  # not the e of 1e-3
_TEXT: dict[str, str] = {
    **{band.spyndex: band.name for band in BANDS.values()},
    **{f"lambda{band.spyndex}": f"{band.wavelength_nm:g}" for band in BANDS.values()},
}
_KERNEL = re.compile(r"k([NGRBL])([NGRBL])")


def search(
    words: str = "",
    domain: str | None = None,
    bands: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> list[Index]:
    """Give the indices of the catalogue that fit.

    Parameters
    ----------
    words
        Each must occur in the short or the long name, in either case.
    domain
        Use: ``vegetation``, ``water``, ...
    bands
        Bands that there are (``B04``): only indices that they allow.
    names
        Names among which to search, such as a set; all by default.

    Returns
    -------
    list of Index
        Those whose short name is the words first, then those whose short name begins with them,
        then those that have them in it, then the others; each in the order of the catalogue.

    Raises
    ------
    ValueError
        If the domain or a band is unknown.
    """
    domains = sorted({index.domain for index in INDICES.values()})
    if domain is not None and domain not in domains:
        raise ValueError(f"{domain!r} is no domain; choose one of {', '.join(domains)}")
    wrong = [band for band in bands or () if band not in BANDS]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no band; choose from {', '.join(BANDS)}")
    parts = words.lower().split()
    among = set(INDICES if names is None else names)
    among &= set(INDICES if bands is None else available(bands))
    found = [
        index
        for index in INDICES.values()
        if index.name in among
        and domain in (None, index.domain)
        and all(part in f"{index.name} {index.long_name}".lower() for part in parts)
    ]
    return sorted(found, key=lambda index: _distance(index.name.lower(), " ".join(parts)))


def _distance(name: str, words: str) -> int:
    return 0 if name == words else 1 if name.startswith(words) else 2 if words in name else 3


def described(index: Index) -> dict[str, Any]:
    """Give all that is known about an index, in plain values that JSON can carry.

    Returns
    -------
    dict
        ``name, long_name, formula, of_bands, bands, domain, reference, constants``, and ``range``
        [low, high] if it is one of the catalogue with a range.
    """
    known = index == INDICES.get(index.name)
    return {
        "name": index.name,
        "long_name": index.long_name,
        "formula": index.formula,
        "of_bands": of_bands(index.formula),
        "bands": list(index.bands),
        "domain": index.domain,
        "reference": index.reference,
        "constants": dict(index.constants),
        **({"range": list(RANGES[index.name])} if known and index.name in RANGES else {}),
    }


def of_bands(formula: str) -> str:
    """Write a formula with the names of the bands instead of the symbols of the catalogue.

    Wavelengths become numbers [nm], kernels ``k(B08, B04)``, other indices their formulas.
    """

    def written(found: re.Match[str]) -> str:
        name = found[0]
        if name in _TEXT:
            return _TEXT[name]
        if kernel := _KERNEL.fullmatch(name):
            second = "L" if kernel[2] == "L" else _TEXT[kernel[2]]
            return f"k({_TEXT[kernel[1]]}, {second})"
        return f"({of_bands(INDICES[name].formula)})" if name in INDICES else name

    return _NAME.sub(written, formula)
