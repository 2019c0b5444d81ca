"""Blocks of cubes as arrays, and training batches drawn from them.

Only the blocks in use are in memory: nothing else is read, no index is materialised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from deepfeatures import contract, tiles
from deepfeatures.bands import BANDS
from deepfeatures.clouds import USABLE

EDGE = 64
"""Edge of the blocks that are read for training [px]."""


@dataclass(frozen=True)
class Block:
    """A window of a cube in memory."""

    values: NDArray[np.float32]
    """Channels ``(time, channel, y, x)`` in physical units, NaN = no value."""
    valid: NDArray[np.bool_]
    """Usable pixel-dates ``(time, y, x)``."""
    days: NDArray[np.float64]
    """Days since 1970-01-01 ``(time,)``."""


def require(ds: xr.Dataset, channels: Sequence[str]) -> None:
    """Make sure that a cube has the channels a model needs.

    Raises
    ------
    ValueError
        Naming those that it lacks.
    """
    there = contract.channels(ds)
    lacking = [name for name in channels if name not in there]
    if lacking:
        raise ValueError(
            f"the cube lacks {', '.join(lacking)}, which the model needs; it has "
            f"{', '.join(there)}: take a model for these channels or build a cube with all of them"
        )


def days(ds: xr.Dataset) -> NDArray[np.float64]:
    """Give the dates of a cube as days since 1970-01-01 ``(time,)``."""
    since = ds["time"].values.astype("datetime64[s]").astype(np.float64)
    result: NDArray[np.float64] = since / 86400.0
    return result


def read(
    ds: xr.Dataset,
    channels: Sequence[str],
    *,
    times: slice = slice(None),
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Block:
    """Read a window of a lazy cube with one computation."""
    variable, dim = contract.MAIN[contract.kind(ds)]
    part = ds[[variable, "valid"]].isel(time=times, y=rows, x=columns)
    part = part.sel({dim: list(channels)}).compute(scheduler="threads")
    values = part[variable].transpose("time", dim, "y", "x").values.astype(np.float32, copy=False)
    return Block(values, part["valid"].values == USABLE, days(part))


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
    cubes: dict[str, xr.Dataset],
    channels: Sequence[str],
    *,
    count: int,
    seed: int,
    held_out: float = 0.0,
    blocks: int = 8,
) -> NDArray[np.float32]:
    """Sample clear pixel-dates ``(n, channel)``, as many from each cube.

    Parameters
    ----------
    cubes, channels
        Band cubes and the channels to take.
    count
        Pixel-dates to draw from all cubes together; fewer come where there are fewer.
    seed
        Seed of the choice.
    held_out
        Share of each cube that is not looked at.
    blocks
        Blocks that are read from each cube at most.
    """
    rng = np.random.default_rng(seed)
    found = []
    for ds in cubes.values():
        require(ds, channels)
        learn, _ = places(ds, held_out=held_out)
        chosen = rng.permutation(len(learn))[:blocks]
        each = -(-count // (len(cubes) * len(chosen)))
        for tile in (learn[i] for i in chosen):
            block = read(ds, channels, rows=tile.core[0], columns=tile.core[1])
            clear = block.valid & np.isfinite(block.values).all(axis=1)
            rows = np.moveaxis(block.values, 1, -1)[clear]
            found.append(rows[rng.permutation(len(rows))[:each]])
    return np.concatenate(found)


@dataclass(frozen=True)
class Batch:
    """Patches of series: what the network sees, and what was there."""

    values: Tensor
    """Input ``(batch, time, channel, y, x)`` in physical units, 0 where nothing is seen."""
    seen: Tensor
    """Input mask ``(batch, time, y, x)``, 0 or 1."""
    days: Tensor
    """Days from the first date ``(batch, time)``."""
    target: Tensor
    """Clean channels ``(batch, time, channel, y, x)``, 0 where there are none."""
    known: Tensor
    """Where `target` holds ``(batch, time, y, x)``, 0 or 1."""


def batches(
    cubes: dict[str, xr.Dataset],
    channels: Sequence[str],
    *,
    seed: int,
    held_out: float = 0.0,
    size: int = 8,
    length: int = 40,
    edge: int = 8,
    pool: int = 12,
    renew: int = 25,
) -> Iterator[Batch]:
    """Draw augmented training batches without end, the same for the same seed.

    Parameters
    ----------
    cubes, channels
        Band cubes and the channels to take.
    seed
        Seed of all choices.
    held_out
        Share of each cube that is never looked at (its eastern part).
    size, length, edge
        Patches per batch, dates and pixels along an edge of a patch.
    pool
        Blocks kept in memory.
    renew
        Batches after which one of them is exchanged.
    """
    rng = np.random.default_rng(seed)
    for ds in cubes.values():
        require(ds, channels)
    sources = [(ds, places(ds, held_out=held_out)[0]) for ds in cubes.values()]
    held: list[Block] = []
    drawn = 0
    while True:
        if len(held) < pool or drawn % renew == 0:
            ds, learn = sources[drawn % len(sources) if len(held) < pool else
                                int(rng.integers(len(sources)))]  # fmt: skip
            tile = learn[int(rng.integers(len(learn)))]
            block = read(ds, channels, rows=tile.core[0], columns=tile.core[1])
            held = [*held[-(pool - 1) :], block] if pool > 1 else [block]
        patches = [_mixed(held[int(rng.integers(len(held)))], length, edge, rng)
                   for _ in range(size)]  # fmt: skip
        yield augment(patches, channels, rng)
        drawn += 1


def _mixed(block: Block, length: int, edge: int, rng: np.random.Generator) -> Block:
    """Cut a patch, half of the time mixed with the series of another place of the same block."""
    time, _, height, width = block.values.shape
    start = int(rng.integers(max(time - length, 0) + 1))
    times = slice(start, min(start + length, time))

    def cut() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        y = int(rng.integers(max(height - edge, 0) + 1))
        x = int(rng.integers(max(width - edge, 0) + 1))
        values = block.values[times, :, y : y + edge, x : x + edge]
        valid = block.valid[times, y : y + edge, x : x + edge]
        turn = int(rng.integers(4)) if height >= edge and width >= edge else 0
        return np.rot90(values, turn, (2, 3)), np.rot90(valid, turn, (1, 2))

    values, valid = cut()
    if rng.random() < 0.5:
        others, too = cut()
        share = np.float32(rng.random())
        values, valid = share * values + (1 - share) * others, valid & too
    return _padded(values, valid, block.days[times], length, edge)


def _padded(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    when: NDArray[np.float64],
    length: int,
    edge: int,
) -> Block:
    """Fill a patch that is short in time or space with pixel-dates where nothing was seen."""
    time, _, height, width = values.shape
    short = ((0, length - time), (0, edge - height), (0, edge - width))
    values = np.pad(values, (short[0], (0, 0), *short[1:]), constant_values=np.nan)
    return Block(values, np.pad(valid, short), np.pad(when - when[0], short[0], mode="edge"))


def augment(patches: list[Block], channels: Sequence[str], rng: np.random.Generator) -> Batch:
    """Change patches in physically meant ways and hide some of their dates.

    Per patch: gain (25 %) and offset (0.015) per channel, time reversed, day distances stretched,
    4 % of the dates under haze or shadow that the mask does not know, a share of the dates hidden.
    The target stays free of haze and shadow.
    """
    values = np.stack([p.values for p in patches])  # (batch, time, channel, y, x)
    valid = np.stack([p.valid for p in patches]) & np.isfinite(values).all(axis=2)
    when = np.stack([p.days for p in patches])
    batch, time, channel = values.shape[:3]
    gain = 1 + rng.uniform(-0.25, 0.25, (batch, 1, channel, 1, 1))
    offset = rng.uniform(-0.015, 0.015, (batch, 1, channel, 1, 1))
    plain = rng.random((batch, 1, 1, 1, 1)) < 0.25
    target = np.where(plain, values, values * gain + offset)
    target = np.where(valid[:, :, None], target, 0.0).astype(np.float32)
    when = when * np.exp(rng.uniform(-0.7, 0.7, (batch, 1)))
    dim = veiled(target, channels, rng)
    hidden = rng.random((batch, time)) < rng.uniform(0.05, 0.6, (batch, 1))
    seen = valid & ~hidden[:, :, None, None]
    back = rng.random(batch) < 0.5
    for array in (target, dim, seen, valid):
        array[back] = array[back, ::-1]
    when[back] = when[back, -1:] - when[back, ::-1]
    return Batch(
        torch.from_numpy(np.where(seen[:, :, None], dim, 0.0).astype(np.float32)),
        torch.from_numpy(seen.astype(np.float32)),
        torch.from_numpy(when.astype(np.float32)),
        torch.from_numpy(target),
        torch.from_numpy(valid.astype(np.float32)),
    )


def veiled(
    values: NDArray[np.float32],
    channels: Sequence[str],
    rng: np.random.Generator,
    *,
    share: float = 0.04,
) -> NDArray[np.float32]:
    """Put thin haze or a cloud's shadow over a share of the dates ``(batch, time, ...)``.

    Haze of optical weight a moves a reflectance r to ``r (1 - a) + 0.6 a``, with a falling with
    the wavelength to a power between 0 (droplets) and 1.3 (aerosol); shadow takes a part of r.
    """
    shape = values.shape[:2]
    waves = np.array([BANDS[name].wavelength_nm if name in BANDS else 800.0 for name in channels])
    power = rng.uniform(0, 1.3, (*shape, 1))
    weight = rng.uniform(0.04, 0.5, (*shape, 1)) * (waves / 490.0) ** -power
    hazy = rng.random((*shape, 1)) < share * 0.75
    dark = (rng.random((*shape, 1)) < share * 0.25) & ~hazy
    keep = np.where(hazy, 1 - weight, np.where(dark, rng.uniform(0.4, 0.9, (*shape, 1)), 1.0))
    light = np.where(hazy, 0.6 * weight, 0.0)
    veil = values * keep[..., None, None] + light[..., None, None]
    return veil.astype(np.float32)
