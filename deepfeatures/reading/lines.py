"""One channel along a line through a cube at all dates: a Hovmöller diagram's matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from deepfeatures import render
from deepfeatures.clouds import USABLE
from deepfeatures.reading.chunks import read
from deepfeatures.reading.opened import OpenCube, checked
from deepfeatures.reading.values import derive, spans

MAX_CORNERS = 200
"""Most points of a line."""

MAX_SAMPLES = 2_000
"""Most pixels along a line."""

MAX_VALUES = 1_000_000
"""Most values (pixels x dates) of one transect."""

Corners = Sequence[tuple[float, float]]
"""Longitude and latitude of each point of a line [degrees, WGS84]."""


@dataclass(frozen=True, eq=False)
class Path:
    """A line cut into steps of one pixel."""

    distance: NDArray[np.float64]
    """(sample,) way from the first point [m]."""
    lon: NDArray[np.float64]
    """(sample,) longitude [degrees]."""
    lat: NDArray[np.float64]
    """(sample,) latitude [degrees]."""
    rows: NDArray[np.int64]
    """(sample,) row of the pixel; -1 outside the cube."""
    columns: NDArray[np.int64]
    """(sample,) column of the pixel; -1 outside the cube."""


@dataclass(frozen=True, eq=False)
class Transect:
    """One channel along a line."""

    path: Path
    """Where the samples are."""
    times: NDArray[np.datetime64]
    """(time,) acquisitions, UTC."""
    values: NDArray[np.float32]
    """(time, sample) physical values; NaN where there is none or, if masked, none usable."""


def along(cube: OpenCube, corners: Corners) -> Path:
    """Cut a line into steps of one pixel.

    The points are joined by straight lines in the projection of the cube; samples lie one pixel
    size apart from the first point on, each takes the pixel that it falls into.

    Raises
    ------
    ValueError
        If there are too few or too many points, one is no place, the line has no length, is too
        long or misses the cube.
    """
    if not 2 <= len(corners) <= MAX_CORNERS:
        raise ValueError(f"a line needs 2 to {MAX_CORNERS} points, this has {len(corners)}")
    places = np.asarray(corners, np.float64)
    if places.shape != (len(corners), 2) or not np.isfinite(places).all():
        raise ValueError("the points of a line are longitude and latitude in degrees (WGS84)")
    grid = cube.grid
    x, y = render.transformer("EPSG:4326", grid.crs).transform(*places.T)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a point of the line is no place on earth; give degrees (WGS84)")
    line = shapely.LineString(np.stack([x, y], axis=1))
    count = int(line.length // grid.resolution) + 1
    if not 1 < count <= MAX_SAMPLES:
        raise ValueError(
            f"the line is {line.length:,.0f} m long; draw one of {grid.resolution:g} to "
            f"{(MAX_SAMPLES - 1) * grid.resolution:,.0f} m"
        )
    distance = np.arange(count, dtype=np.float64) * float(grid.resolution)
    px, py = shapely.get_coordinates(shapely.line_interpolate_point(line, distance)).T
    rows = np.floor((grid.north - py) / grid.resolution).astype(np.int64)
    columns = np.floor((px - grid.west) / grid.resolution).astype(np.int64)
    outside = (rows < 0) | (rows >= grid.height) | (columns < 0) | (columns >= grid.width)
    if outside.all():
        raise ValueError(f"the line lies outside {cube.name!r}; draw it on the cube")
    rows[outside] = columns[outside] = -1
    lon, lat = render.transformer(grid.crs, "EPSG:4326").transform(px, py)
    return Path(distance, np.asarray(lon), np.asarray(lat), rows, columns)


def transect(
    cube: OpenCube,
    corners: Corners,
    channel: str,
    *,
    times: slice | None = None,
    masked: bool = True,
) -> Transect:
    """Read one channel along a line.

    Parameters
    ----------
    cube
        The cube.
    corners
        The points of the line.
    channel
        A stored channel or, of a band cube, an index or expression.
    times
        Which dates, for instance from `period`; by default all.
    masked
        Whether what is not usable becomes NaN.

    Raises
    ------
    ValueError
        If the channel is unknown, the line is none (see `along`), or this is too much at once.
    """
    (wanted,) = checked(cube, [channel])
    path = along(cube, corners)
    t0, t1 = (0, len(cube.times)) if times is None else (times.start, times.stop)
    if path.distance.size * (t1 - t0) > MAX_VALUES:
        raise ValueError(
            f"{path.distance.size:,} pixels at {t1 - t0:,} dates are too much for one transect; "
            "draw a shorter line, or ask for a shorter period"
        )
    found = np.full((t1 - t0, path.distance.size), np.nan, np.float32)
    for span in spans(cube, t0, t1):
        here = slice(span.start - t0, span.stop - t0)
        for samples in _blocks(cube, path):
            found[here, samples] = _picked(cube, path, samples, span, wanted, masked)
    return Transect(path, cube.times[t0:t1], found)


def _blocks(cube: OpenCube, path: Path) -> Iterator[NDArray[np.int64]]:
    """Give the samples inside the cube in groups that share stored chunks."""
    height, width = cube.arrays[cube.variable, 1].chunks[-2:]
    inside = np.flatnonzero(path.rows >= 0)
    keys = (path.rows[inside] // height) * (cube.grid.width + 1) + path.columns[inside] // width
    for key in np.unique(keys):
        yield inside[keys == key]


def _picked(
    cube: OpenCube, path: Path, samples: NDArray[np.int64], span: slice, channel: str, masked: bool
) -> NDArray[np.float32]:
    """Give (time, sample) of samples that lie close together."""
    rows, columns = path.rows[samples], path.columns[samples]
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    at = rows - rows.min(), columns - columns.min()

    def fetch(low: int, high: int) -> NDArray:
        block = read(cube, cube.variable, (span, slice(low, high + 1), *box))
        return block[:, :, at[0], at[1]]

    values = derive(cube, [channel], fetch)[channel]
    if not masked:
        return values
    usable = read(cube, "valid", (span, *box))[:, at[0], at[1]] == USABLE
    return np.where(usable, values, np.float32(np.nan))
