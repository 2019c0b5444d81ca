"""Physical values of windows: channels decoded, indices computed; ranges, valid shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deepfeatures import indices, latent, render
from deepfeatures.clouds import USABLE
from deepfeatures.indices.ranges import RANGES
from deepfeatures.reading.chunks import gathered, read, runs
from deepfeatures.reading.components import principal
from deepfeatures.reading.opened import OpenCube, checked, component, decode, source

_SAMPLED_DATES = 8
_WHOLE = 512


def stored(
    cube: OpenCube, t: int, channel: str, rows: slice, columns: slice, *, level: int = 1
) -> NDArray:
    """Read stored numbers (rows, columns) of one stored channel at one date."""
    c = cube.channels.index(channel)
    box = (slice(t, t + 1), slice(c, c + 1), rows, columns)
    return read(cube, cube.variable, box, level=level)[0, 0]


def values(
    cube: OpenCube, channels: Sequence[str], times: slice, rows: slice, columns: slice,
    *, level: int = 1,
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Read physical values of stored channels and of indices.

    Returns
    -------
    dict
        Channel -> (time, rows, columns) float32, NaN where there is none.

    Raises
    ------
    ValueError
        If a channel is unknown.
    """
    return derive(
        cube,
        checked(cube, channels),
        lambda low, high: read(
            cube, cube.variable, (times, slice(low, high + 1), rows, columns), level=level
        ),
    )


def derive(
    cube: OpenCube, wanted: Sequence[str], fetch: Callable[[int, int], NDArray]
) -> dict[str, NDArray[np.float32]]:
    """Decode the stored channels of `wanted` and compute the indices among them.

    For `fetch` see `gathered`.
    """
    codes = gathered(cube, needed(cube, wanted), fetch)
    found = {c: decode(cube, codes[c], c) for c in wanted if c in cube.channels}
    derived = [channel for channel in wanted if channel not in cube.channels]
    if derived and cube.kind == "features":
        layers = np.stack([decode(cube, codes[c], c) for c in cube.channels], axis=-1)
        scores = latent.transform(principal(cube), layers)
        found |= {channel: scores[..., component(channel)] for channel in derived}
    elif derived:
        layers = indices.compute(codes, derived, source=source(cube))
        found |= dict(zip(derived, layers, strict=True))
    return {channel: found[channel] for channel in wanted}


def needed(cube: OpenCube, wanted: Sequence[str]) -> set[str]:
    """Give the stored channels that some channels, indices or components follow from."""
    derived = [channel for channel in wanted if channel not in cube.channels]
    if derived and cube.kind == "features":
        return set(cube.channels)
    found = {channel for channel in wanted if channel in cube.channels}
    return found.union(*(indices.find(channel).bands for channel in derived))


def load(
    cube: OpenCube, channels: Sequence[str], t: int, rows: slice, columns: slice,
    *, level: int = 1,
) -> None:  # fmt: skip
    """Take what channels of a window need at one date into the cache of chunks."""
    for low, high in runs(sorted(cube.channels.index(one) for one in needed(cube, channels))):
        box = (slice(t, t + 1), slice(low, high + 1), rows, columns)
        read(cube, cube.variable, box, level=level)


def _overall(cube: OpenCube) -> int:
    """Give the finest level at which the whole cube is a small image."""
    edge = max(cube.grid.height, cube.grid.width)
    return next((level for level in cube.levels if edge / level <= _WHOLE), cube.levels[-1])


@lru_cache(maxsize=1024)
def limits(cube: OpenCube, channel: str) -> tuple[float, float]:
    """Give a range of values that suits a channel.

    That of the table for an index of the catalogue, so that its colours mean the same in every
    cube; else percentiles 2 and 98 of `sample`, the same for every tile and date of a version of
    the cube.
    """
    if cube.classes:
        return render.CODES  # so that each code has the colour of its class
    if channel in RANGES and (cube.kind == "index" or channel not in cube.channels):
        return RANGES[channel]
    pool = sample(cube, channel)
    if not pool.size:
        return 0.0, 1.0
    low, high = (float(f"{number:.3g}") for number in np.percentile(pool, (2, 98)))
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def sample(cube: OpenCube, channel: str) -> NDArray[np.float32]:
    """Give the values (n,) of usable pixels of a few dates, the same each time."""
    level = _overall(cube)
    shape = cube.arrays["valid", level].shape
    rows, columns = slice(0, shape[1]), slice(0, shape[2])
    chosen = np.unique(np.linspace(0, shape[0] - 1, _SAMPLED_DATES).astype(int))
    found = []
    for t in chosen.tolist():
        times = slice(t, t + 1)
        valid = read(cube, "valid", (times, rows, columns), level=level) == USABLE
        layer = values(cube, [channel], times, rows, columns, level=level)[channel]
        found.append(layer[valid & np.isfinite(layer)])
    return np.concatenate(found)


@lru_cache(maxsize=64)
def shares(cube: OpenCube) -> NDArray[np.float32]:
    """Give the share of valid pixels of each date, 0..1; of large cubes from an overview."""
    level = _overall(cube)
    dates, height, width = cube.arrays["valid", level].shape
    found = np.empty(dates, np.float32)
    for times in spans(cube, 0, dates):
        block = read(cube, "valid", (times, slice(0, height), slice(0, width)), level=level)
        found[times] = (block == USABLE).mean(axis=(1, 2))
    return found


def spans(cube: OpenCube, t0: int, t1: int) -> Iterator[slice]:
    """Cut a period along the stored chunks."""
    edge = cube.arrays[cube.variable, 1].chunks[0]
    start = t0
    while start < t1:
        stop = min((start // edge + 1) * edge, t1)
        yield slice(start, stop)
        start = stop
