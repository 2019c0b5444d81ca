"""What the views of time read and compute; all of it is slow, so it goes in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from app.reads.cubes import Times, opened
from deepfeatures import aoi, reading, seasons
from deepfeatures.reading import tables
from deepfeatures.settings import Workspace

Place = tuple[str, float, float]
"""Id, longitude and latitude [degrees] of a pixel."""

AREA = "Area"
"""Id of the drawn area among the places."""

BAND = ("p05", "p95")
"""Percentiles that bound the band of an area."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some dates of a place in a cube."""

    cube: str
    """Name of the cube."""
    times: Times
    """(time,) acquisitions, UTC."""
    values: dict[str, NDArray[np.float32]]
    """Channel -> (time,) values; of an area ``channel_mean`` and so on."""
    usable: NDArray[Any]
    """(time,) whether the pixel is usable, or the usable pixels of the area."""
    pixels: int = 1
    """Pixels of the place."""

    @property
    def clear(self) -> NDArray[np.bool_]:
        """(time,) whether at least half of the place is usable."""
        return 2 * self.usable.astype(np.int64) >= self.pixels


Key = tuple[str, str]
"""``bands`` or ``features``, and the id of a place."""


@dataclass(frozen=True, eq=False)
class Found:
    """What one step of filling in gives."""

    chunks: dict[Key, Chunk]
    """The dates that were read."""
    more: bool
    """Whether there are further steps."""


@dataclass(frozen=True)
class Asked:
    """What series are wanted."""

    bands: str
    """Name of the band cube, or empty."""
    features: str
    """Name of the feature cube, or empty."""
    chosen: tuple[str, ...]
    """Channels and indices of the band cube; all are taken of the feature cube."""
    day: str
    """Date that is looked at, YYYY-MM-DD: the dates around it are read first."""


def pixels(ws: Workspace, asked: Asked, places: tuple[Place, ...], step: int) -> Found:
    """Read some dates of some pixels, those around the shown date in step 0.

    Raises
    ------
    ValueError
        If the last of the places lies in no cube.
    """

    def read(cube: reading.OpenCube, times: slice, wanted: Any) -> Iterable[tuple[str, Chunk]]:
        for place, lon, lat in places:
            try:
                row, column = reading.locate(cube, lon, lat)
            except ValueError:
                if place == places[-1][0]:
                    raise
                continue
            one = reading.series(cube, row, column, channels=wanted, masked=False, times=times)
            yield place, Chunk(cube.name, one.times, one.values, one.valid)

    return _filled(ws, asked, step, read)


def area(ws: Workspace, asked: Asked, drawn: dict[str, Any], step: int) -> Found:
    """Summarise a drawn area at some dates.

    Raises
    ------
    ValueError
        If the area touches no cube or is too large.
    """

    def read(cube: reading.OpenCube, times: slice, wanted: Any) -> Iterable[tuple[str, Chunk]]:
        days = cube.times[times].astype("datetime64[D]")
        start, end = days[0].item(), days[-1].item()
        found = reading.area_series(
            cube, aoi.from_geojson(drawn, start=start, end=end), channels=wanted
        )
        values = {
            f"{channel}_{name}": numbers
            for channel, statistics in found.statistics.items()
            for name, numbers in statistics.items()
        }
        count = next(iter(found.count.values()))
        yield AREA, Chunk(cube.name, found.times, values, count, found.pixels)

    return _filled(ws, asked, step, read)


def _filled(
    ws: Workspace,
    asked: Asked,
    step: int,
    read: Callable[[reading.OpenCube, slice, Any], Iterable[tuple[str, Chunk]]],
) -> Found:
    """Read one step of both cubes; each step has twice as many parts as the one before."""
    chunks: dict[Key, Chunk] = {}
    more, outside = False, None
    for kind, name, wanted in (
        ("bands", asked.bands, list(asked.chosen)),
        ("features", asked.features, None),
    ):
        if not name or wanted == []:
            continue
        cube = opened(ws, name)
        parts = reading.parts(cube, _near(cube, asked.day))
        for times in parts[2**step - 1 : 2 ** (step + 1) - 1]:
            try:
                for place, chunk in read(cube, times, wanted):
                    key = kind, place
                    chunks[key] = joined([chunks[key], chunk]) if key in chunks else chunk
            except ValueError as error:
                outside = outside or error
                break
        more = more or len(parts) > 2 ** (step + 1) - 1
    if outside and not chunks and step == 0:
        raise outside
    return Found(chunks, more)


def _near(cube: reading.OpenCube, day: str) -> int:
    if not day:
        return len(cube.times) - 1
    return int(np.abs(cube.times.astype("datetime64[D]") - np.datetime64(day)).argmin())


def joined(chunks: list[Chunk]) -> Chunk:
    """Put chunks of one place into the order of time."""
    times = np.concatenate([one.times for one in chunks])
    order = np.argsort(times)
    first = chunks[0]
    values = {
        name: np.concatenate([one.values[name] for one in chunks])[order] for name in first.values
    }
    usable = np.concatenate([one.usable for one in chunks])[order]
    return Chunk(first.cube, times[order], values, usable, first.pixels)


def usual(chunks: dict[Key, Chunk]) -> dict[Key, dict[str, seasons.UsualYear]]:
    """Give the usual year of each channel of some pixels."""
    return {
        key: {
            channel: seasons.usual_year(chunk.times, values, chunk.clear)
            for channel, values in chunk.values.items()
        }
        for key, chunk in chunks.items()
    }


def table(
    chunks: Mapping[Key, Chunk], places: tuple[Place, ...], drawn: dict[str, Any] | None
) -> str:
    """Write what is drawn as one long table (`tables.tidy`)."""
    shapes: dict[str, Any] = {place: shapely.Point(lon, lat) for place, lon, lat in places}
    ids = {place: place for place in shapes}
    if drawn is not None:
        found = aoi.from_geojson(drawn)
        shapes[AREA], ids[AREA] = found.geometry, found.name
    return tables.tidy(
        tables.Entry(
            one.cube, ids[place], shapes[place], one.times, one.values, np.asarray(one.usable)
        )
        for (_, place), one in chunks.items()
        if place in shapes
    )


@dataclass(frozen=True, eq=False)
class Line:
    """A channel along a line, and the colours that suit it."""

    found: reading.Transect
    limits: tuple[float, float]


def line(ws: Workspace, name: str, corners: tuple[tuple[float, float], ...], channel: str) -> Line:
    """Read a channel along a line at all dates.

    Raises
    ------
    ValueError
        If this is no line on the cube, or it is too long.
    """
    cube = opened(ws, name)
    found = reading.transect(cube, corners, channel)
    return Line(found, reading.limits(cube, channel))
