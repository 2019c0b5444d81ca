"""Blocks of cubes as arrays: only the blocks in use are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import clouds, contract, tiles
from deepfeatures.clouds import USABLE
from deepfeatures.embed.sensors import FAR, MAIN, SENSORS

EDGE = 64
"""Edge of the blocks that are read for training [px]."""

ALL = 10**6
"""Dates of another sensor to read around a window: all there are."""


@dataclass(frozen=True)
class Series:
    """What another sensor saw of a window, on its own dates."""

    values: NDArray[np.float32]
    """Channels ``(time, channel, y, x)`` in the unit of the variable, NaN = no value."""
    days: NDArray[np.float64]
    """Days since 1970-01-01 ``(time,)``."""


@dataclass(frozen=True)
class Block:
    """A window of a cube in memory."""

    values: NDArray[np.float32]
    """Channels ``(time, channel, y, x)`` in physical units, NaN = no value."""
    valid: NDArray[np.bool_]
    """Usable pixel-dates ``(time, y, x)``."""
    days: NDArray[np.float64]
    """Days since 1970-01-01 ``(time,)``."""
    others: Mapping[str, Series] = field(default_factory=dict)
    """What other sensors saw, by name (keys of `SENSORS`)."""
    clear: NDArray[np.bool_] | None = None
    """Usable pixel-dates in which a test in time finds no haze or shadow ``(time, y, x)``; None: it
    was not asked."""


def refined(ds: xr.Dataset, block: Block, channels: Sequence[str]) -> NDArray[np.bool_]:
    """Look for haze and shadow in time, by a test that no network of this package was taught with.

    Parameters
    ----------
    ds
        Window of a cube.
    block, channels
        Its values, and the names of their channels.

    Returns
    -------
    ``(time, y, x)``: usable, and found clear.
    """
    wanted = clouds.needs(channels, "temporal")
    bands = {name: block.values[:, list(channels).index(name)] for name in wanted}
    edge = abs(float(ds["x"][1] - ds["x"][0]))
    codes = clouds.refine(
        ds["valid"].values.astype(np.uint8), bands, ds["time"].values.astype("datetime64[D]"),
        edge, "temporal",
    )  # fmt: skip
    found: NDArray[np.bool_] = codes == USABLE
    return found & block.valid


def require(ds: xr.Dataset, channels: Sequence[str], sensor: str = MAIN) -> None:
    """Make sure that a cube has the channels a model needs.

    Raises
    ------
    ValueError
        Naming those that it lacks.
    """
    if sensor != MAIN:
        if not has(ds, sensor):
            raise ValueError(f"the cube lacks {SENSORS[sensor].title}; build or import it with it")
        return
    there = contract.channels(ds)
    lacking = [name for name in channels if name not in there]
    if lacking:
        raise ValueError(
            f"the cube lacks {', '.join(lacking)}, which the model needs; it has "
            f"{', '.join(there)}: take a model for these channels or build a cube with all of them"
        )


def days(ds: xr.Dataset, time: str = "time") -> NDArray[np.float64]:
    """Give the dates of a cube as days since 1970-01-01 ``(time,)``."""
    since = ds[time].values.astype("datetime64[s]").astype(np.float64)
    result: NDArray[np.float64] = since / 86400.0
    return result


def read(
    ds: xr.Dataset,
    channels: Sequence[str],
    *,
    sensors: Mapping[str, int] | None = None,
    times: slice = slice(None),
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Block:
    """Read a window of a lazy cube with one computation.

    Parameters
    ----------
    ds, channels
        Cube, and the channels of its main array to take.
    sensors
        Other sensors to take, and how many of their dates on each side of those that lie within
        `FAR` days of the window; one that the cube lacks gives a series of no dates.
    times, rows, columns
        The window.
    """
    variable, dim = contract.MAIN[contract.kind(ds)]
    # in one selection: only then does the store get the slices, and decodes no whole shards
    at = [contract.channels(ds).index(name) for name in channels]
    part = ds[[variable, "valid"]].isel({"time": times, "y": rows, "x": columns, dim: at})
    names = [name for name in sensors or {} if has(ds, name)]
    for name in names:
        sensor = SENSORS[name]
        when = nearby(days(ds, sensor.time), days(part), (sensors or {})[name])
        cut = {sensor.time: when, "y": rows, "x": columns}
        part[sensor.variable] = ds[sensor.variable].isel(cut)
    part = part.compute(scheduler="threads")
    values = part[variable].transpose("time", dim, "y", "x").values.astype(np.float32, copy=False)
    others = {name: _series(part, name) for name in sensors or {}}
    return Block(values, part["valid"].values == USABLE, days(part), others)


def nearby(other: NDArray[np.float64], own: NDArray[np.float64], more: int) -> slice:
    """Give the dates of another sensor within `FAR` days of a window, and `more` on each side."""
    first = int(np.searchsorted(other, own[0] - FAR)) - more
    last = int(np.searchsorted(other, own[-1] + FAR, side="right")) + more
    return slice(max(first, 0), min(last, len(other)))


def has(ds: xr.Dataset, sensor: str) -> bool:
    """Tell whether a cube holds what a sensor saw."""
    return SENSORS[sensor].variable in ds


def _series(ds: xr.Dataset, name: str) -> Series:
    sensor = SENSORS[name]
    if not has(ds, name):
        shape = (0, len(sensor.channels), ds.sizes["y"], ds.sizes["x"])
        return Series(np.empty(shape, np.float32), np.empty(0))
    found = ds[sensor.variable]
    if sensor.dim is None:
        values = found.transpose(sensor.time, "y", "x").values[:, None]
    else:
        found = found.sel({sensor.dim: list(sensor.channels)})
        values = found.transpose(sensor.time, sensor.dim, "y", "x").values
    return Series(values.astype(np.float32, copy=False), days(ds, sensor.time))


def seen_by(ds: xr.Dataset, sensor: str, channels: Sequence[str], window: tuple[slice, slice],
            ) -> Block:  # fmt: skip
    """Read a window as one sensor saw it: a block on the dates of that sensor."""
    rows, columns = window
    if sensor == MAIN:
        return read(ds, channels, rows=rows, columns=columns)
    part = ds[[SENSORS[sensor].variable]].isel(y=rows, x=columns).compute(scheduler="threads")
    series = _series(part, sensor)
    chosen = [SENSORS[sensor].channels.index(name) for name in channels]
    values = series.values[:, chosen]
    return Block(values, np.asarray(np.isfinite(values).all(axis=1)), series.days)


def places(
    ds: xr.Dataset, *, held_out: float, edge: int = EDGE, gap: int = 4
) -> tuple[list[tiles.Tile], list[tiles.Tile]]:
    """Split a cube into blocks to learn from (west) and blocks held out (east).

    Parameters
    ----------
    ds
        Cube.
    held_out
        Share of the columns that is held out, 0..1.
    edge
        Edge of a block [px].
    gap
        Columns between the two that belong to neither.
    """
    height, width = ds.sizes["y"], ds.sizes["x"]
    cut = round(width * (1 - held_out))
    learn = tiles.split((height, max(cut, 1)), edge)
    if cut + gap >= width:
        return learn, []
    judge = [
        tiles.Tile(t.y0, t.y1, t.x0 + cut + gap, t.x1 + cut + gap, t.ry0, t.ry1,
                   t.rx0 + cut + gap, t.rx1 + cut + gap)
        for t in tiles.split((height, width - cut - gap), edge)
    ]  # fmt: skip
    return learn, judge


def pixels(
    cubes: Mapping[str, xr.Dataset],
    channels: Sequence[str],
    *,
    count: int,
    seed: int,
    sensor: str = MAIN,
    held_out: float = 0.0,
    blocks: int = 8,
) -> NDArray[np.float32]:
    """Sample clear pixel-dates ``(n, channel)``, as many from each cube.

    Parameters
    ----------
    cubes, channels
        Cubes and the channels to take.
    count
        Pixel-dates to draw from all cubes together; fewer come where there are fewer.
    seed
        Seed of the choice.
    sensor
        Sensor of the channels.
    held_out
        Share of each cube that is not looked at.
    blocks
        Blocks that are read from each cube at most.
    """
    rng = np.random.default_rng(seed)
    found = []
    for ds in cubes.values():
        require(ds, channels, sensor)
        learn, _ = places(ds, held_out=held_out)
        chosen = rng.permutation(len(learn))[:blocks]
        each = -(-count // (len(cubes) * len(chosen)))
        for tile in (learn[i] for i in chosen):
            block = seen_by(ds, sensor, channels, tile.core)
            clear = block.valid & np.isfinite(block.values).all(axis=1)
            rows = np.moveaxis(block.values, 1, -1)[clear]
            found.append(rows[rng.permutation(len(rows))[:each]])
    return np.concatenate(found)
