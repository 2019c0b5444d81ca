"""What values indices take: sets of them, ranges to show and normalise them, codes to store them.

The numbers of the catalogue stand in ``data/indices.json`` beside the formulas; how they were
made is said there. A *range* is the 1st and 99th percentile of cloud-free pixels: what a colour
scale spans and what a network sees as 0..1. *Limits* are wider: the least and the largest value
that an int16 code can hold. An own expression has no table: if it is bounded whatever the
reflectance, such as a normalised difference, its bounds serve; else a sample of its values has to
be given (`display_of`, `coding_of`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfeatures.indices.engine import compute
from deepfeatures.indices.native import CODES
from deepfeatures.indices.table import INDICES, Index, find, names

# The 135 channels of the DeepFeatures model besides its 12 bands, in its order.
_RESEARCH = """
AFRI1600 AFRI2100 ANDWI ARVI ATSAVI AVI AWEInsh AWEIsh BCC BI BITM BIXS BLFEI BNDVI BWDRVI BaI
DBSI DSWI2 DVI EMBI ENDVI EVI2 FAI FCVI GBNDVI GCC GDVI GEMI GLI GNDVI GOSAVI GRNDVI GSAVI GVMI
IKAW IPVI LSWI MBI MBWI MCARI1 MCARI2 MGRVI MLSWI26 MLSWI27 MNDVI MNDWI MNLI MRBVI MSAVI MTVI1
MTVI2 NBAI NBR NBR2 NBRSWIR NBRplus NBSIMS ND705 NDBI NDCI NDGI NDGlaI NDII NDMI NDPI NDPonI NDREI
NDSI NDSII NDSWIR NDSaII NDSoI NDTI NDVI NDVI705 NDVIMNDWI NDWI NDWIns NDYI NGRDI NHFD NIRv NIRvH2
NLI NRFIg NRFIr NSDS NSDSI3 NWI NormG NormNIR NormR OSAVI OSI PI PISI RCC RDVI RENDVI RGBVI RI
RNDVI S2WI S3 SARVI SAVI SI SIPI SR3 SWI SeLI TDVI TSAVI TVI TriVI UI VI700 VIG VgNIRBI VrNIRBI
WDRVI WDVI WI1 WI2 WI2015 bNIRv kIPVI kNDVI kRVI mSR705 sNIRvLSWI sNIRvNDPI sNIRvNDVILSWIP
sNIRvNDVILSWIS sNIRvSWIR
"""

_DOMAINS = sorted({index.domain for index in INDICES.values()})

SETS: dict[str, tuple[str, ...]] = {
    "all": names(),
    "research": tuple(_RESEARCH.split()),
    **{word: tuple(n for n in names() if INDICES[n].domain == word) for word in _DOMAINS},
}
"""Sets of indices that bands alone can give: all, those of the research model, each domain."""

_ROWS: dict[str, dict[str, Any]] = json.loads(
    resources.files("deepfeatures").joinpath("data", "indices.json").read_text("utf-8")
)["indices"]

RANGES: dict[str, tuple[float, float]] = {
    name: (row["range"][0], row["range"][1]) for name, row in _ROWS.items() if "range" in row
}
"""1st and 99th percentile of each index that bands alone can give, with default constants."""

LIMITS: dict[str, tuple[float, float]] = {
    name: (row["limits"][0], row["limits"][1]) for name, row in _ROWS.items() if "limits" in row
}
"""Least and largest value of each index that its int16 codes hold."""

BOUNDS = (1.0, 2.0, 4.0)
"""Bounds that an expression may have to need no sample of its values."""

SPECTRA = 4096
"""Random spectra within the cube of bands, and on its faces, on which `bound` tries an index."""
DARK = 1e-4
"""Least reflectance that is tried: one step of Sentinel-2 products."""
TAIL = 1e-4
"""Share of a sample on each side that `coding_of` leaves out, before it widens."""
WIDER = 2.0
"""How many times farther from the median than its sample `coding_of` puts the limits."""


@lru_cache(maxsize=1024)
def bound(index: Index) -> float | None:
    """Give the least of `BOUNDS` that an index never exceeds in magnitude, whatever reflectance.

    All corners of the cube of bands (1e-4 or 1 in each) are tried, where quotients of linear
    expressions are largest, and random spectra on its faces and within: a search, not a proof.

    Parameters
    ----------
    index
        With default constants.

    Returns
    -------
    float or None
        None if the index exceeds them all, or is undefined everywhere.
    """
    corners = np.array(list(itertools.product((DARK, 1.0), repeat=len(index.bands)))).T
    rng = np.random.default_rng(0)
    inside = DARK ** rng.random((len(index.bands), SPECTRA))
    edges = rng.choice((DARK, 1.0), inside.shape)
    faces = np.where(rng.random(inside.shape) < 0.5, edges, inside)
    spectra = np.concatenate([corners, inside, faces], axis=1).astype(np.float32)
    values = compute(dict(zip(index.bands, spectra, strict=True)), [index])
    if np.isnan(values).all():
        return None
    largest = float(np.nanmax(np.abs(values))) * (1 - 1e-6)
    return next((limit for limit in BOUNDS if largest <= limit), None)


def display(index: str | Index) -> tuple[float, float]:
    """Give the range in which an index is shown, and which a network sees as 0..1.

    Parameters
    ----------
    index
        A name of the catalogue, an expression, or an index from `define`.

    Returns
    -------
    tuple of float
        Low, high: from `RANGES`, else plus and minus what `bound` says.

    Raises
    ------
    KeyError
        If the name is unknown.
    ValueError
        If it is an expression without bounds, or with a mistake in it.
    """
    return _known(index, RANGES, "display_of")


def coding(index: str | Index) -> tuple[float, float]:
    """Give how an index is stored in int16: value = code * scale + offset, codes -32767..32767.

    Parameters
    ----------
    index
        A name of the catalogue, an expression, or an index from `define`.

    Returns
    -------
    tuple of float
        Scale, offset; from `LIMITS`, else plus and minus what `bound` says.

    Raises
    ------
    KeyError
        If the name is unknown.
    ValueError
        If it is an expression without bounds, or with a mistake in it.
    """
    return _coded(*_known(index, LIMITS, "coding_of"))


def display_of(values: ArrayLike) -> tuple[float, float]:
    """Give the 1st and 99th percentile of a sample of an index.

    Parameters
    ----------
    values
        (...); values that are not finite do not count.

    Raises
    ------
    ValueError
        If fewer than two different values are left.
    """
    return _span(values, 0.01)


def coding_of(values: ArrayLike) -> tuple[float, float]:
    """Give an int16 coding from a sample of an index, for expressions that have no bounds.

    The limits are twice as far from the median as the 0.01 and 99.99 percentile.

    Parameters
    ----------
    values
        (...); values that are not finite do not count.

    Returns
    -------
    tuple of float
        Scale, offset.

    Raises
    ------
    ValueError
        If fewer than two different values are left.
    """
    low, high = _span(values, TAIL)
    middle = float(np.median(_finite(values)))
    return _coded(middle - WIDER * (middle - low), middle + WIDER * (high - middle))


def normalise(values: NDArray[np.floating], wanted: Sequence[str | Index]) -> NDArray[np.float32]:
    """Bring indices to 0..1: ``(x - low) / (high - low)`` of `display`, clipped; NaN stays NaN.

    Parameters
    ----------
    values
        (index, ...).
    wanted
        The indices, in the order of the first dimension.

    Raises
    ------
    KeyError, ValueError
        See `display`.
    """
    low, width = _columns(values, wanted)
    return np.clip((values - low) / width, 0, 1).astype(np.float32)


def denormalise(values: NDArray[np.floating], wanted: Sequence[str | Index]) -> NDArray[np.float32]:
    """Undo `normalise` for what was not clipped.

    Parameters
    ----------
    values
        (index, ...), 0..1.
    wanted
        The indices, in the order of the first dimension.

    Raises
    ------
    KeyError, ValueError
        See `display`.
    """
    low, width = _columns(values, wanted)
    return (values * width + low).astype(np.float32)


def _known(
    index: str | Index, table: dict[str, tuple[float, float]], instead: str
) -> tuple[float, float]:
    found = find(index) if isinstance(index, str) else index
    if found == INDICES.get(found.name) and found.name in table:
        return table[found.name]
    limit = None if None in found.constants.values() else bound(found)
    if limit is None:
        raise ValueError(
            f"nothing bounds {found.name!r}; give a sample of its values to ranges.{instead}"
        )
    return -limit, limit


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64).ravel()
    return found[np.isfinite(found)]


def _span(values: ArrayLike, tail: float) -> tuple[float, float]:
    found = _finite(values)
    low, high = np.quantile(found, (tail, 1 - tail)) if found.size else (0.0, 0.0)
    if not high > low:
        raise ValueError(
            f"the sample has {np.unique(found).size} different values; "
            "give more pixels with a value, of different surfaces"
        )
    return float(low), float(high)


def _coded(low: float, high: float) -> tuple[float, float]:
    return (high - low) / (2 * CODES), (low + high) / 2


def _columns(
    values: NDArray[np.floating], wanted: Sequence[str | Index]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(values) != len(wanted):
        raise ValueError(f"{len(values)} rows of values do not fit {len(wanted)} indices")
    spans = np.array([display(index) for index in wanted], dtype=np.float64)
    shape = (-1, *[1] * (values.ndim - 1))
    return spans[:, 0].reshape(shape), (spans[:, 1] - spans[:, 0]).reshape(shape)
