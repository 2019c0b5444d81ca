"""The form of DeepExtremeCubes: its grid, its five-day steps, and what a pixel of it holds.

Arrays only. The form: 128 x 128 px at 20 m in UTM around a place, steps of five days counted from
2016-01-01, the least cloudy acquisition of each step (Ji et al. 2024, arXiv:2406.18179).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import point

from deepfeatures import contract

PIXELS = 128
"""Edge of a minicube [px]."""
RESOLUTION = 20.0
"""Edge of a pixel [m]."""
STEP = 5
"""Length of a time step [d]."""
ORIGIN = np.datetime64("2016-01-01", "D")
"""First day of step 0 of every minicube, so that all minicubes share their steps."""
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A")
"""Bands of a minicube."""

SKY = ("free_sky", "cloud", "cloud_shadows", "snow", "masked_other_reasons")
"""Meanings of the codes 0..4 of ``cloudmask_en``."""
OTHER = 4
"""Code of a pixel that is masked for another reason, or has no value."""

_SNOW = 11
# Codes of `valid` and of the scene classification -> code of the cloud mask; `valid` goes first,
# and where it only says "not usable" (0) the classification gives the reason.
_BY_VALID = np.full(256, OTHER, np.uint8)
_BY_VALID[[1, 2, 3, 6, 7, 8, 9]] = [0, 1, 2, 1, 2, 1, 2]
_BY_SCL = np.full(256, OTHER, np.uint8)
_BY_SCL[[3, 8, 9, 10]] = [2, 1, 1, 1]


def grid(ds: xr.Dataset, lat: float | None = None, lon: float | None = None) -> GeoBox:
    """Give the grid of a minicube on the pixels of a cube.

    Parameters
    ----------
    ds
        Cube under the contract with pixels of 20 m or a whole fraction of that; the minicube
        takes its CRS, and each pixel of it is made of whole pixels of the cube.
    lat, lon
        Place in the middle, degrees (WGS84), rounded to the nearest corner of pixels; by default
        the middle of the cube.

    Raises
    ------
    ValueError
        If the pixels do not divide 20 m, or the minicube would not touch the cube.
    """
    box = contract.geobox(ds)
    _parts(box)
    if lat is None or lon is None:
        x, y = box.extent.centroid.coords[0]
    else:
        x, y = point(lon, lat, "EPSG:4326").to_crs(contract.crs(ds)).coords[0]
    half = PIXELS * RESOLUTION / 2
    left, _, _, top = box.boundingbox.bbox
    size = box.resolution.x
    # multiples of 20 m where the cube lies on multiples of its pixels, as those of Sentinel-2 do
    west, north = (
        phase + RESOLUTION * round((edge - phase) / RESOLUTION)
        for phase, edge in ((left % size, x - half), (top % size, y + half))
    )
    bounds = (west, north - 2 * half, west + 2 * half, north)
    # without `tight` the grid would be moved onto multiples of its pixels
    found = GeoBox.from_bbox(bounds, crs=box.crs, shape=(PIXELS, PIXELS), tight=True)
    if not found.extent.intersection(box.extent).area:
        raise ValueError(
            f"a minicube at lat {lat:g}, lon {lon:g} does not touch the cube; choose a place in it"
        )
    return found


def steps(start: np.datetime64, end: np.datetime64) -> NDArray[np.datetime64]:
    """Give the first days of the five-day steps that cover a period, both days included.

    Raises
    ------
    ValueError
        If the period ends before it starts.

    Examples
    --------
    >>> steps(np.datetime64("2016-01-01"), np.datetime64("2022-10-10")).size
    495
    """
    if end < start:
        raise ValueError(f"the period ends on {end}, before its start {start}; swap the two days")
    first, last = ((day - ORIGIN) // np.timedelta64(STEP, "D") for day in (start, end))
    return ORIGIN + STEP * np.arange(first, last + 1)


def choose(
    time: NDArray[np.datetime64], free: NDArray[Any], days: NDArray[np.datetime64]
) -> NDArray[np.int64]:
    """Choose the least cloudy acquisition of each step.

    Parameters
    ----------
    time
        Times of the acquisitions (n,).
    free
        Share of usable pixels of each (n,); NaN for one without any data here.
    days
        First days of the steps (m,).

    Returns
    -------
    numpy.ndarray
        Index of the acquisition (m,), the earliest of equally good ones; -1 for a step without.
    """
    step = (time.astype("datetime64[D]") - days[0]) // np.timedelta64(STEP, "D")
    chosen = np.full(days.size, -1)
    for index in np.lexsort((-np.arange(time.size), free)):  # the best comes last
        if not np.isnan(free[index]) and 0 <= step[index] < days.size:
            chosen[step[index]] = index
    return chosen


def cut(ds: xr.Dataset, box: GeoBox) -> tuple[xr.Dataset, GeoBox]:
    """Give what a minicube needs of a cube, still lazy, and its grid.

    Parameters
    ----------
    ds
        Cube under the contract.
    box
        Grid from `grid`.
    """
    source = contract.geobox(ds)
    column, row = _corner(source, box)
    edge = PIXELS * _parts(source)
    rows = slice(max(row, 0), min(row + edge, source.shape.y))
    columns = slice(max(column, 0), min(column + edge, source.shape.x))
    return ds.isel(y=rows, x=columns), source[rows, columns]


def window(array: NDArray[Any], source: GeoBox, target: GeoBox, fill: float) -> NDArray[Any]:
    """Cut a minicube's window out of an array and lay the parts of each pixel side by side.

    Parameters
    ----------
    array
        Values on the grid `source` (..., y, x).
    source, target
        Grids of the array and of the minicube, from `grid`.
    fill
        Value of what lies outside the array.

    Returns
    -------
    numpy.ndarray
        (parts, ..., 128, 128), contiguous: the parts of a pixel are layers.
    """
    count = _parts(source)
    column, row = _corner(source, target)
    edge = PIXELS * count
    found = np.full((*array.shape[:-2], edge, edge), fill, array.dtype)
    rows = slice(max(row, 0), min(row + edge, array.shape[-2]))
    columns = slice(max(column, 0), min(column + edge, array.shape[-1]))
    inner = (
        slice(rows.start - row, rows.stop - row),
        slice(columns.start - column, columns.stop - column),
    )
    found[(..., *inner)] = array[..., rows, columns]
    parts = found.reshape(*array.shape[:-2], PIXELS, count, PIXELS, count)
    layers = np.moveaxis(parts, (-3, -1), (0, 1))
    return layers.reshape(count * count, *array.shape[:-2], PIXELS, PIXELS)


def mean(values: NDArray[Any], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average the parts of each pixel: the usable ones, where they are at least half of them.

    Parameters
    ----------
    values
        (parts, ...), NaN = no value.
    usable
        Which parts are usable, of the same shape.

    Returns
    -------
    numpy.ndarray
        float32 (...): the mean of the usable parts where they are at least half of all parts,
        else of all parts with a value (a cloud looks like a cloud); NaN where there is none.
    """
    there = np.isfinite(values)
    taken = there & (usable | ~_half(usable))
    count = taken.sum(axis=0)
    total = np.where(taken, values, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan).astype(np.float32)


def most_frequent(codes: NDArray[Any], missing: int = 0) -> NDArray[Any]:
    """Give the most frequent code among the parts of each pixel.

    Of equally frequent codes the smallest is taken, `missing` only where nothing is as frequent.

    Parameters
    ----------
    codes
        (parts, ...).
    missing
        The code that means none.
    """
    found = np.full(codes.shape[1:], missing, codes.dtype)
    most = np.zeros(codes.shape[1:], np.int16)
    present = np.unique(codes)
    for code in [*present[present != missing], missing]:
        count = (codes == code).sum(axis=0)
        found = np.where(count > most, code, found).astype(codes.dtype)
        most = np.maximum(most, count).astype(np.int16)
    return found


def cloudmask(valid: NDArray[np.uint8], scl: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the cloud mask of pixels from the masks of their parts.

    Parameters
    ----------
    valid
        Coded mask of the cube (parts, ...): 1 usable, 0 no value or not usable, any other code
        the reason why not.
    scl
        Scene classification (parts, ...); 0 where there is none.

    Returns
    -------
    numpy.ndarray
        uint8 (...), codes of `SKY`: where at least half of the parts are usable 0, or 3 if most
        of these are snow; elsewhere the most frequent reason. The margin of clouds, defective
        pixels and pixels without value are "other reasons".
    """
    usable = valid == 1
    reasons = np.where(usable, 0, np.where(valid == 0, _BY_SCL[scl], _BY_VALID[valid]))
    counts = [(reasons == code).sum(axis=0) for code in range(1, len(SKY))]
    reason = np.argmax(counts, axis=0) + 1
    snow = (usable & (scl == _SNOW)).sum(axis=0) * 2 > usable.sum(axis=0)
    return np.where(_half(usable), np.where(snow, 3, 0), reason).astype(np.uint8)


def _corner(source: GeoBox, target: GeoBox) -> tuple[int, int]:
    """Give the column and the row of a minicube's upper left corner in pixels of a cube."""
    inner, outer = target.boundingbox, source.boundingbox
    size = source.resolution.x
    return round((inner.left - outer.left) / size), round((outer.top - inner.top) / size)


def _half(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(2 * usable.sum(axis=0) >= usable.shape[0])


def _parts(box: GeoBox) -> int:
    """Give the number of pixels of a cube along the edge of one of a minicube."""
    ratio = RESOLUTION / box.resolution.x
    whole = round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6
    if not whole or box.crs is None or not box.crs.projected:
        raise ValueError(
            f"pixels of {box.resolution.x:g} m do not divide {RESOLUTION:g} m; take a cube of "
            "10 or 20 m"
        )
    return round(ratio)
