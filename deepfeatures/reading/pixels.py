"""Series over all dates: of one pixel, and of an area in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from deepfeatures.aoi import AOI, window
from deepfeatures.clouds import USABLE
from deepfeatures.reading.chunks import read
from deepfeatures.reading.opened import OpenCube, checked
from deepfeatures.reading.values import derive, spans, values

MAX_AREA_PIXELS = 1_000_000
"""Largest window of an area series [px]."""

MAX_AREA_VALUES = 400_000_000
"""Most values (pixels x dates x channels) of one area series."""

PERCENTILES = (5, 25, 50, 75, 95)
"""Percentiles of an area series."""

PART = 64
"""Dates of a part of a long series, at least; parts end where stored chunks do."""


@dataclass(frozen=True, eq=False)
class Series:
    """One pixel over all dates, or those of a period."""

    row: int
    """Row of the pixel."""
    column: int
    """Column of the pixel."""
    times: NDArray[np.datetime64]
    """(time,) acquisitions, UTC."""
    valid: NDArray[np.bool_]
    """(time,) whether the observation is usable."""
    values: dict[str, NDArray[np.float32]]
    """Channel -> (time,) physical values; NaN where there is none or, if masked, none valid."""


@dataclass(frozen=True, eq=False)
class AreaSeries:
    """Statistics over the pixels of an area, date by date."""

    times: NDArray[np.datetime64]
    """(time,) acquisitions, UTC."""
    pixels: int
    """Pixels whose centre lies in the area."""
    count: dict[str, NDArray[np.int64]]
    """Channel -> (time,) pixels that have a value (and are valid, if masked)."""
    statistics: dict[str, dict[str, NDArray[np.float32]]]
    """Channel -> ``mean``, ``p05``, ``p25``, ``p50``, ``p75``, ``p95`` -> (time,)."""


def series(
    cube: OpenCube,
    row: int,
    column: int,
    *,
    channels: Sequence[str] | None = None,
    masked: bool = True,
    times: slice | None = None,
) -> Series:
    """Read one pixel over all dates, or some.

    Parameters
    ----------
    cube
        The cube.
    row, column
        The pixel, for instance from `locate`.
    channels
        Stored channels and, of a band cube, indices; by default all stored ones.
    masked
        Whether dates that are not valid become NaN.
    times
        Which dates, for instance from `period` or `parts`; by default all.

    Raises
    ------
    ValueError
        If a channel is unknown or the pixel lies outside.
    """
    if not (0 <= row < cube.grid.height and 0 <= column < cube.grid.width):
        raise ValueError(
            f"{cube.name!r} has {cube.grid.height} x {cube.grid.width} pixels; "
            f"({row}, {column}) is none of them"
        )
    chosen = times or slice(0, len(cube.times))
    rows, columns = slice(row, row + 1), slice(column, column + 1)
    valid = read(cube, "valid", (chosen, rows, columns))[:, 0, 0] == USABLE
    found = values(cube, checked(cube, channels), chosen, rows, columns)
    flat = {channel: array[:, 0, 0] for channel, array in found.items()}
    if masked:
        flat = {channel: np.where(valid, v, np.float32(np.nan)) for channel, v in flat.items()}
    return Series(row, column, cube.times[chosen], valid, flat)


def area_series(
    cube: OpenCube,
    area: AOI,
    *,
    channels: Sequence[str] | None = None,
    masked: bool = True,
) -> AreaSeries:
    """Summarise the pixels of an area, date by date, in bounded memory.

    Parameters
    ----------
    cube
        The cube.
    area
        Polygon, and the period if it has one; a pixel counts if its centre lies inside.
    channels
        Stored channels and, of a band cube, indices; by default all stored ones.
    masked
        Whether only valid pixels count.

    Raises
    ------
    ValueError
        If a channel is unknown, the area misses the cube, is too large, or has no date.
    """
    wanted = checked(cube, channels)
    (y0, y1, x0, x1), inside = window(area, cube.geobox)
    dates = period(cube, area.start, area.end)
    t0, t1 = dates.start, dates.stop
    pixels = int(inside.sum())
    if inside.size > MAX_AREA_PIXELS or pixels * (t1 - t0) * len(wanted) > MAX_AREA_VALUES:
        raise ValueError(
            f"the area of {inside.size:,} pixels at {t1 - t0} dates in {len(wanted)} channels "
            "is too much for one series; draw a smaller one, or ask for fewer channels"
        )
    names = ("mean", *(f"p{q:02d}" for q in PERCENTILES))
    statistics = {c: {n: np.full(t1 - t0, np.nan, "f4") for n in names} for c in wanted}
    count = {channel: np.zeros(t1 - t0, np.int64) for channel in wanted}
    rows, columns = slice(y0, y1), slice(x0, x1)
    for times in spans(cube, t0, t1):
        usable = read(cube, "valid", (times, rows, columns))[:, inside] == USABLE
        found = derive(cube, wanted, _fetch(cube, times, rows, columns, inside))
        for channel, array in found.items():
            for at, line in enumerate(array):
                there = line[np.isfinite(line) & (usable[at] | (not masked))]
                place = times.start - t0 + at
                count[channel][place] = there.size
                if there.size:
                    numbers = there.mean(dtype=np.float64), *np.percentile(there, PERCENTILES)
                    for key, number in zip(names, numbers, strict=True):
                        statistics[channel][key][place] = number
    return AreaSeries(cube.times[t0:t1], pixels, count, statistics)


def _fetch(
    cube: OpenCube, times: slice, rows: slice, columns: slice, inside: NDArray[np.bool_]
) -> Callable[[int, int], NDArray]:
    def fetch(low: int, high: int) -> NDArray:
        # One channel at a time: only the pixels inside are kept of each.
        return np.concatenate(
            [
                read(cube, cube.variable, (times, slice(c, c + 1), rows, columns))[..., inside]
                for c in range(low, high + 1)
            ],
            axis=1,
        )

    return fetch


def period(cube: OpenCube, start: date | None = None, end: date | None = None) -> slice:
    """Give the steps of a cube from one day to another, both counted.

    Raises
    ------
    ValueError
        If the cube has no date in between.
    """
    days = cube.times.astype("datetime64[D]")
    low = 0 if start is None else int(np.searchsorted(days, np.datetime64(start)))
    high = days.size
    if end is not None:
        high = int(np.searchsorted(days, np.datetime64(end), side="right"))
    if low >= high:
        raise ValueError(
            f"{cube.name!r} has no date from {start or days[0]} to {end or days[-1]}; "
            f"choose a period within {days[0]} to {days[-1]}"
        )
    return slice(low, high)


def parts(cube: OpenCube, near: int = 0) -> list[slice]:
    """Cut all dates into parts that end where stored chunks do, the one with `near` first.

    Together they are all dates, each once; the others follow by their distance, so that a long
    series can be filled in from the date that is looked at.
    """
    edge = cube.arrays[cube.variable, 1].chunks[0]
    size = -(-PART // edge) * edge
    count = len(cube.times)
    found = [slice(first, min(first + size, count)) for first in range(0, count, size)]
    return sorted(found, key=lambda part: max(part.start - near, near - part.stop + 1, 0))
