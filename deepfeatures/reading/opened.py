"""Open cubes: arrays, grid and coding of a store, looked up once; places and dates in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import contract, indices, render, store

COMPONENTS = ("PC1", "PC2", "PC3")
"""Principal components of a feature cube, read like channels."""


@dataclass(frozen=True, eq=False)
class OpenCube:
    """A cube whose arrays are open: all that a read needs, looked up once."""

    url: str
    """Where the store is."""
    name: str
    """Name in the catalogue, for messages."""
    version: str
    """Changes whenever the content does."""
    kind: str
    """``bands``, ``index``, ``features`` or ``layer``."""
    variable: str
    """Name of the main array."""
    channels: tuple[str, ...]
    """Labels of the main array's channels."""
    times: NDArray[np.datetime64]
    """(time,) acquisitions, UTC, in seconds."""
    geobox: GeoBox
    """The pixel grid."""
    grid: render.Grid
    """The same for `render`."""
    levels: tuple[int, ...]
    """Overview factors, 1 first."""
    arrays: Mapping[tuple[str, int], zarr.Array]
    """(variable, level) -> stored array, for the main array and ``valid``."""
    scales: tuple[float, ...]
    """Of each channel: physical value = stored * scale + offset."""
    offsets: tuple[float, ...]
    """See `scales`."""
    fill: int | None
    """Stored number that means no value; None for floats, where NaN does."""
    available: tuple[str, ...]
    """Channels that can be read by name: the stored ones; of bands their indices, of features their
    principal components."""
    classes: tuple[str, ...] = ()
    """Names of the codes 1, 2, ... of a layer of classes; empty for anything else."""


def open(url: str, name: str = "") -> OpenCube:  # noqa: A001 (reads as reading.open)
    """Open a cube for reading; opened once per version, however often it is asked for.

    Parameters
    ----------
    url
        Place of the store.
    name
        What messages call it.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    stem = url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr")
    return _open(url, name or stem, store.token(url))


@lru_cache(maxsize=32)
def _open(url: str, name: str, token: str) -> OpenCube:
    ds = store.open(url)
    with store.configured(store.pipeline(url)):
        group = store.arrays(url)
        kind = contract.kind(ds)
        variable = contract.MAIN[kind][0]
        levels = tuple(sorted(int(key) for key in _overviews(group)))
        arrays: dict[tuple[str, int], Any] = {
            (key, level): group[key if level == 1 else f"overviews/{level}/{key}"]
            for key in (variable, "valid")
            for level in (1, *levels)
        }
    geobox = contract.geobox(ds)
    box, step = geobox.extent.boundingbox, float(abs(geobox.resolution.x))
    stored = arrays[variable, 1]
    integer = stored.dtype.kind in "iu"
    channels = tuple(contract.channels(ds))
    scales, offsets = store.factors(group, variable)
    return OpenCube(
        url=url,
        name=name,
        version=str(group.attrs["version"]),
        kind=kind,
        variable=variable,
        channels=channels,
        times=ds["time"].values.astype("datetime64[s]"),
        geobox=geobox,
        grid=render.Grid(str(geobox.crs), box.left, box.top, step, *geobox.shape),
        levels=(1, *levels),
        arrays=arrays,
        scales=scales,
        offsets=offsets,
        fill=int(stored.fill_value) if integer else None,
        available=channels + _derivable(kind, channels),
        classes=_classes(ds) if kind == "layer" else (),
    )


def _derivable(kind: str, channels: tuple[str, ...]) -> tuple[str, ...]:
    if kind == "bands":
        return indices.available(channels)
    return COMPONENTS[: len(channels)] if kind == "features" else ()


def component(name: str) -> int:
    """Give the number, from 0, of a principal component of the features."""
    return COMPONENTS.index(name)


def _classes(ds: xr.Dataset) -> tuple[str, ...]:
    found = contract.provenance(ds).get("classes")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _overviews(group: zarr.Group) -> list[str]:
    return list(group["overviews"].group_keys()) if "overviews" in group else []  # type: ignore


def step(cube: OpenCube, time: str | int | None) -> int:
    """Give the index of an acquisition.

    Parameters
    ----------
    cube
        The cube.
    time
        A date (ISO), an index from 0, or None for the last acquisition.

    Raises
    ------
    ValueError
        If the cube has no acquisition there; the sentence names the range or the nearest date.
    """
    last = len(cube.times) - 1
    days = cube.times.astype("datetime64[D]")
    span = f"{cube.name!r} has {last + 1} dates from {days[0]} to {days[-1]}"
    if time is None or time == "":
        return last
    text = str(time).strip()
    if text.isdecimal() and len(text) < 8:
        if int(text) > last:
            raise ValueError(f"there is no date number {text}; {span}, numbered 0 to {last}")
        return int(text)
    try:
        day = np.datetime64(text.removesuffix("Z"), "D")
        if np.isnat(day):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"the time {text[:40]!r} is no date (YYYY-MM-DD) and no index; {span}"
        ) from None
    if not days[0] <= day <= days[-1]:
        raise ValueError(f"the date {day} is outside; {span}")
    nearest = int(np.argmin(np.abs(days - day)))
    if days[nearest] != day:
        raise ValueError(
            f"{cube.name!r} has no acquisition on {day}; the nearest is {days[nearest]}"
        )
    return nearest


def locate(cube: OpenCube, lon: float, lat: float) -> tuple[int, int]:
    """Give row and column of the pixel at a longitude and latitude (degrees, WGS84).

    Raises
    ------
    ValueError
        If a number is not finite or the place lies outside the cube.
    """
    if not (math.isfinite(lon) and math.isfinite(lat) and abs(lon) <= 360 and abs(lat) <= 90):
        raise ValueError(f"lon={lon:g}, lat={lat:g} is no place; give degrees (WGS84)")
    grid = cube.grid
    x, y = render.transformer("EPSG:4326", grid.crs).transform(lon, lat)
    inside = math.isfinite(x) and math.isfinite(y)
    row = math.floor((grid.north - y) / grid.resolution) if inside else -1
    column = math.floor((x - grid.west) / grid.resolution) if inside else -1
    if not (0 <= row < grid.height and 0 <= column < grid.width):
        west, south, east, north = render.bounds(grid, "EPSG:4326")
        raise ValueError(
            f"lon={lon:g}, lat={lat:g} lies outside {cube.name!r}, which covers "
            f"lon {west:.5f} to {east:.5f} and lat {south:.5f} to {north:.5f}"
        )
    return row, column


def decode(cube: OpenCube, stored: NDArray, channel: str) -> NDArray[np.float32]:
    """Turn stored numbers of a channel into physical values; NaN where there is none."""
    if cube.fill is None:
        return stored.astype(np.float32)
    values = render.physical(stored, *coding(cube, channel))
    values[stored == cube.fill] = np.nan
    return values


def coding(cube: OpenCube, channel: str) -> tuple[float, float]:
    """Give scale and offset of a stored channel."""
    number = cube.channels.index(channel)
    return cube.scales[number], cube.offsets[number]


def source(cube: OpenCube) -> indices.Coding | None:
    """Give the coding of the bands of a cube; None for floats."""
    if cube.fill is None:
        return None
    return indices.Coding(cube.scales[0], cube.offsets[0], cube.fill)


def checked(cube: OpenCube, channels: Sequence[str] | None) -> list[str]:
    """Give the channels that are asked for, by default all stored ones.

    Raises
    ------
    ValueError
        If one is neither stored nor, of a band cube, an index or an expression that its bands
        allow.
    """
    wanted = list(dict.fromkeys(channels or cube.channels))
    for channel in wanted:
        if channel not in cube.available:
            _derived(cube, channel)
    return wanted


def _derived(cube: OpenCube, text: str) -> None:
    """See that an expression can be computed from the bands of a cube."""
    name = text.strip().isidentifier()
    if name or cube.kind != "bands":
        more = ", NDVI, EVI, ... (any index or expression)" if cube.kind == "bands" else ""
        hint = indices.hint(text) if name and cube.kind == "bands" else ""
        raise ValueError(
            f"{cube.name!r} has no channel {text[:40]!r}{hint}; "
            f"choose from {', '.join(cube.channels[:16])}{more}"
        )
    indices.chosen([text], cube.channels)
