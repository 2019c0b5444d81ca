"""Overviews of a store: means of 2 x 2, 4 x 4, ... pixels for the map at low zoom."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
import zarr

from deepfeatures import contract
from deepfeatures.store.layout import CODEC, EDGE, QUICK, TOGETHER, chunked, edge
from deepfeatures.store.opening import configured
from deepfeatures.tiles import Tile, split

OVERVIEW_FROM = 128
"""Overviews are made while their longer edge has at least this many pixels."""
Coarse = Callable[[int, Tile], xr.Variable]
"""Gives the stored numbers (time, channel, y, x) in a tile of the overview of a factor."""
WORKERS = min(os.cpu_count() or 1, 8)
"""Threads that make overviews; each holds one shard of the source."""


def create(group: zarr.Group) -> None:
    """Make the empty arrays of all overviews of a store under ``overviews/``."""
    factor = 2
    while max(_array(group, "valid").shape[1:]) // factor >= OVERVIEW_FROM:
        level = group.require_group(f"overviews/{factor}")
        for name in _names(group):
            _create(_array(group, name), level, name, factor)
        factor *= 2


def write_overviews(
    group: zarr.Group,
    reading: Mapping[str, Any],
    writing: Mapping[str, Any],
    coarse: Coarse | None = None,
) -> None:
    """Write the means of 2 x 2, 4 x 4, ... pixels of the main array under ``overviews/``.

    Pixels without value are left out of the means; a pixel of ``valid`` is 1 where at least
    half of its parts are, else 0.

    Parameters
    ----------
    group
        The store, opened to be written.
    reading, writing
        Settings of zarr for what is read, and for what is written.
    coarse
        Makes the main array of an overview, instead of the means.
    """
    with configured(reading):
        sources = {name: _array(group, name) for name in _names(group)}
    factor = 2
    with ThreadPoolExecutor(WORKERS) as pool:
        while f"overviews/{factor}" in group:
            for name, source in sources.items():
                with configured(writing):
                    target = _array(group, f"overviews/{factor}/{name}")
                if coarse is not None and name != "valid":
                    tiles = split(
                        (target.shape[-2], target.shape[-1]), (target.shards or target.chunks)[-1]
                    )
                    list(pool.map(partial(_given, coarse, target, factor), tiles))
                    continue
                # each shard is an object of its own, so they can be written side by side
                list(pool.map(partial(_fill, source, target, name, factor), *_shards(target)))
            factor *= 2


def _names(group: zarr.Group) -> list[str]:
    return [name for name, _ in contract.MAIN.values() if name in group] + ["valid"]


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


def _create(source: zarr.Array, level: zarr.Group, name: str, factor: int) -> None:
    *lead, rows, columns = source.shape
    shape = (*lead, -(-rows // factor), -(-columns // factor))
    side = edge((shape[-2], shape[-1]), lead[0])
    chunks, shards = chunked(shape, (*source.chunks[:-2], EDGE, EDGE), side)
    attributes = dict(source.attrs)
    if name == "valid" and "flag_values" in attributes:
        attributes |= {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
    level.create_array(
        name, shape=shape, dtype=source.dtype, chunks=chunks, shards=shards,
        compressors=QUICK if name == "si" else CODEC, fill_value=source.fill_value,
        dimension_names=source.metadata.dimension_names,  # type: ignore[union-attr]
        attributes=attributes,
    )  # fmt: skip


def _shards(target: zarr.Array) -> tuple[list[Tile], list[tuple[slice, ...]]]:
    """Give window and channels of each shard."""
    *lead, rows, columns = target.shape
    whole = target.chunks[1] if len(lead) == 2 else 1
    pairs = [
        (tile, index)
        for tile in split((rows, columns), (target.shards or target.chunks)[-1])
        for index in channel_slices(tuple(lead), whole)
    ]
    return [tile for tile, _ in pairs], [index for _, index in pairs]


def _given(coarse: Coarse, target: zarr.Array, factor: int, tile: Tile) -> None:
    """Write a tile of an overview that is made otherwise, channel after channel."""
    block = coarse(factor, tile)
    for index in channel_slices(target.shape[:2], TOGETHER):
        target[(*index, *tile.core)] = block[index].values


def _fill(
    source: zarr.Array,
    target: zarr.Array,
    name: str,
    factor: int,
    tile: Tile,
    index: tuple[slice, ...],
) -> None:
    """Write one shard of an overview."""
    target[(*index, *tile.core)] = _coarse_tile(source, index, tile, name, factor)


def _coarse_tile(
    source: zarr.Array, index: tuple[slice, ...], tile: Tile, name: str, factor: int
) -> np.ndarray:
    """Average what lies under a tile of an overview, reading one shard of the source at a time."""
    *lead, rows, columns = source.shape
    kept = [len(range(*part.indices(n))) for part, n in zip(index, lead, strict=True)]
    out = np.empty((*kept, tile.y1 - tile.y0, tile.x1 - tile.x0), source.dtype)
    side = (source.shards or source.chunks)[-1]
    step = max(side // factor, 1)
    for part in split(out.shape[-2:], step):
        top, left = tile.y0 + part.y0, tile.x0 + part.x0
        below, right = tile.y0 + part.y1, tile.x0 + part.x1
        window = (
            slice(top * factor, min(below * factor, rows)),
            slice(left * factor, min(right * factor, columns)),
        )
        values = np.asarray(source[(*index, *window)])
        if name == "valid":
            coarse = coarsen((values == 1).astype(source.dtype), factor, None)
        else:
            coarse = coarsen(values, factor, source.fill_value)
        out[(..., *part.core)] = coarse
    return out


def coarsen(values: np.ndarray, factor: int, fill: float | None) -> np.ndarray:
    """Average blocks of `factor` x `factor` pixels of the last two dimensions.

    Parameters
    ----------
    values
        Integers or floats (..., y, x).
    factor
        Edge of a block [px]; ragged blocks at the lower and right border are averaged as well.
    fill
        The value that means none, left out of the mean; a block of only these keeps it.

    Returns
    -------
    numpy.ndarray
        (..., ceil(y / factor), ceil(x / factor)), of the type of `values`.
    """
    there = np.ones(values.shape, bool) if fill is None else values != fill
    if values.dtype.kind == "f":
        there &= ~np.isnan(values)
    harmless = values.dtype.kind in "iu" and fill in (0, None)
    total = _sums(values if harmless else np.where(there, values, 0), factor)
    count = _sums(there, factor)
    mean = total / np.maximum(count, 1)
    if values.dtype.kind in "iu":
        mean = np.floor(mean + 0.5)
    return np.where(count > 0, mean, 0 if fill is None else fill).astype(values.dtype)


def _sums(values: np.ndarray, factor: int) -> np.ndarray:
    """Sum blocks of the last two dimensions, by strided parts: `reduceat` takes five times as long.

    Integers are exact up to 2^24.
    """
    *lead, rows, columns = values.shape
    flat = np.zeros((*lead, -(-rows // factor), columns), np.float32)
    for offset in range(factor):
        part = values[..., offset::factor, :]
        flat[..., : part.shape[-2], :] += part
    total = np.zeros((*flat.shape[:-1], -(-columns // factor)), np.float32)
    for offset in range(factor):
        part = flat[..., offset::factor]
        total[..., : part.shape[-1]] += part
    return total


def channel_slices(lead: tuple[int, ...], whole: int = 1) -> list[tuple[slice, ...]]:
    """Cut the leading dimensions into whole-time slices of `whole` channels."""
    if len(lead) < 2:
        return [(slice(None),) * len(lead)]
    return [(slice(None), slice(i, min(i + whole, lead[1]))) for i in range(0, lead[1], whole)]


def representable(target: Any) -> tuple[np.float32, np.float32]:
    """Give the least and the greatest value that a packed array can hold; beyond is cut."""
    codes = np.iinfo(target.dtype)
    step, offset = target.attrs["scale_factor"], target.attrs.get("add_offset", 0.0)
    least = codes.min + (1 if target.fill_value == codes.min else 0)
    return np.float32(least * step + offset), np.float32(codes.max * step + offset)
