"""What a view of the map holds: values of a channel in its bounds, those under the pointer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfeatures import render
from deepfeatures.clouds import USABLE
from deepfeatures.reading.chunks import read
from deepfeatures.reading.opened import OpenCube, locate
from deepfeatures.reading.values import values

_EDGE = 512
"""Longest edge of what a histogram is counted from [px of an overview]."""
_TAIL = (0.5, 99.5)
"""Percentiles between which the bins lie."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How the usable values of a channel are distributed in a window at one date."""

    edges: NDArray[np.float64]
    """(bin + 1,) edges, in the units of the channel."""
    counts: NDArray[np.int64]
    """(bin,) pixels of the level; the outer bins also hold what lies beyond them."""
    percentiles: tuple[float, float]
    """Percentiles 2 and 98; NaN if nothing is usable."""
    range: tuple[float, float]
    """Least and largest value; NaN if nothing is usable."""
    usable: float
    """Share of the pixels with a usable value, 0..1."""
    level: int
    """Overview factor that was read."""


def histogram(
    cube: OpenCube, channel: str, t: int, bounds: Bounds | None, *, bins: int = 48
) -> Histogram:
    """Count the usable values of a channel in a view at one date.

    Parameters
    ----------
    cube
        The cube.
    channel
        A stored channel or one that can be computed.
    t
        Position of the date.
    bounds
        West, south, east, north [degrees]; None for the whole cube. Of a large view an overview
        is read.
    bins
        Number of bins.

    Raises
    ------
    ValueError
        If the channel is unknown or the view shows nothing of the cube.
    """
    level, rows, columns = _window(cube, bounds)
    times = slice(t, t + 1)
    layer = values(cube, [channel], times, rows, columns, level=level)[channel][0]
    usable = read(cube, "valid", (times, rows, columns), level=level)[0] == USABLE
    found = layer[usable & np.isfinite(layer)].astype(np.float64)
    if not found.size:
        nothing = (math.nan, math.nan)
        empty = np.zeros(bins, np.int64)
        return Histogram(np.linspace(0, 1, bins + 1), empty, nothing, nothing, 0.0, level)
    low, p2, p98, high = np.percentile(found, (_TAIL[0], 2, 98, _TAIL[1])).tolist()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(found.clip(low, high), bins, (low, high))
    extremes = float(found.min()), float(found.max())
    return Histogram(edges, counts, (p2, p98), extremes, found.size / layer.size, level)


def _window(cube: OpenCube, bounds: Bounds | None) -> tuple[int, slice, slice]:
    """Give the level, rows and columns that show a view in at most `_EDGE` pixels if it can."""
    grid = cube.grid
    west, north, east, south = 0.0, 0.0, float(grid.width), float(grid.height)
    if bounds is not None:
        turn = render.transformer("EPSG:4326", grid.crs)
        left, bottom, right, top = turn.transform_bounds(*bounds, densify_pts=21)
        if not all(map(math.isfinite, (left, bottom, right, top))):
            raise ValueError(f"the view {_words(bounds)} is no place of {cube.name!r}")
        west = max(west, (left - grid.west) / grid.resolution)
        east = min(east, (right - grid.west) / grid.resolution)
        north = max(north, (grid.north - top) / grid.resolution)
        south = min(south, (grid.north - bottom) / grid.resolution)
    if west >= east or north >= south:
        raise ValueError(f"the view {_words(bounds)} shows nothing of {cube.name!r}; move back")
    edge = max(east - west, south - north)
    level = next((one for one in cube.levels if edge / one <= _EDGE), cube.levels[-1])
    height, width = cube.arrays["valid", level].shape[1:]
    return (
        level,
        _cut(north / level, south / level, height),
        _cut(west / level, east / level, width),
    )


def _cut(low: float, high: float, size: int) -> slice:
    first = min(math.floor(low), size - 1)
    return slice(first, min(max(math.ceil(high), first + 1), size))


def _words(bounds: Bounds | None) -> str:
    return ", ".join(f"{one:.6g}" for one in bounds or ())


def point(
    cube: OpenCube, channels: Sequence[str], t: int, lon: float, lat: float
) -> tuple[dict[str, float], bool] | None:
    """Give the values of channels at a place (degrees) and date, and whether they are usable.

    None if the place lies outside the cube.

    Raises
    ------
    ValueError
        If a channel is unknown.
    """
    try:
        row, column = locate(cube, lon, lat)
    except ValueError:
        return None
    box = slice(t, t + 1), slice(row, row + 1), slice(column, column + 1)
    found = values(cube, channels, *box)
    usable = read(cube, "valid", box)[0, 0, 0] == USABLE
    return {channel: float(layer[0, 0, 0]) for channel, layer in found.items()}, bool(usable)
