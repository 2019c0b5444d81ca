"""A predictor over the tiles of a cube: a new cube, written and resumed tile by tile.

A tile of the store is worked through in parts (some dates with their neighbours x some pixels
with their halo), so that memory is bounded whatever the cube. The result does not depend on how
it was cut.
"""

from __future__ import annotations

import functools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import dask.array
import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import __version__, contract, store
from deepfeatures.bands import attributes
from deepfeatures.clouds import USABLE
from deepfeatures.embed import data
from deepfeatures.predictor import Predictor
from deepfeatures.tiles import Tile, split

DATES = 96
"""Dates that are worked on at once; their neighbours come on top."""

MEMORY = 512 * 2**20
"""Bytes that the numbers of one part may take inside the network."""

AHEAD = 8
"""Parts that an executor may be ahead of the writer: more workers than that stay idle."""

STEP = 64, 256
"""Dates and rows of the source's mask that are looked at together."""

ERROR = "reconstruction_error"
"""Variable of how well the features tell the bands they were made of."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """What is worked on at once: dates and pixels of the source cube."""

    times: slice
    """Dates that are written."""
    around: slice
    """Dates that are read: `times` and their neighbours."""
    tile: Tile
    """Pixels, with the halo that is read."""


@dataclass(frozen=True)
class Region:
    """Pixels and dates of the source cube in memory."""

    block: data.Block
    """The values."""
    y0: int
    """Row of the source cube where they begin."""
    x0: int
    """Column of the source cube where they begin."""


@dataclass(frozen=True)
class Made:
    """What was made of the core of a part."""

    features: NDArray[np.float32]
    """``(time, feature, y, x)``, NaN where not usable."""
    error: NDArray[np.float32] | None
    """Mean difference of bands and decoded bands ``(time, y, x)``, if it was asked for."""


def run(
    predictor: Predictor,
    ds: xr.Dataset,
    url: str,
    *,
    window: tuple[int, int, int, int] | None = None,
    mask: NDArray[np.bool_] | None = None,
    period: tuple[str, str] | None = None,
    error: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write the feature cube of a cube, or of a part of it, and resume where that was begun.

    Parameters
    ----------
    predictor
        Predictor; its channels must be in the cube.
    ds
        Cube under the contract, lazy or in memory.
    url
        Store to write.
    window
        Rows and columns ``(y0, y1, x0, x1)`` of the cube to embed; the halo around it is read.
    mask
        ``(y, x)`` of the window; pixels where it is false stay empty.
    period
        First and last date (ISO) to embed; neighbouring dates outside are read.
    error
        Write `ERROR` as well: the mean difference of the bands and what the features tell of them.
    executor
        Who computes the parts; by default the caller, one after the other.
    progress
        Called with parts done and parts in all.
    cancelled
        Asked between parts.

    Raises
    ------
    ValueError
        If the cube lacks a channel, or window, mask or period do not fit it.
    InterruptedError
        If `cancelled` said so; what is complete stays and the next run goes on from there.
    """
    data.require(ds, predictor.inputs)
    box = _window(ds, window, mask)
    times = _times(ds, period)
    target = template(predictor, ds, window=box, times=times, mask=mask, error=error)
    target["valid_share"] = shares(ds, times, box, mask)
    writer = store.Writer.create(url, target, plan=_plan(predictor, mask))
    total = sum(len(parts(predictor, ds, times, box, tile)) for tile in writer.tiles)
    pending = writer.pending()
    done = total - sum(len(parts(predictor, ds, times, box, tile)) for tile in pending)
    for tile in pending:
        block = _blank(target, tile)
        todo = parts(predictor, ds, times, box, tile)
        for part, made in _computed(predictor, ds, todo, executor, error):
            _place(block, part, made, times, box, tile, mask)
            done += 1
            if progress and part is not todo[-1]:
                progress(done, total)
            if cancelled and cancelled():
                raise InterruptedError("cancelled")
        writer.write(tile, block)
        if progress:
            progress(done, total)
    writer.finish()
    if progress and not pending:
        progress(total, total)


@dataclass(frozen=True)
class Features:
    """Makes whole tiles of a feature cube, in whatever process or machine it is called."""

    url: str
    """Store of the source cube."""
    name: str
    """Name of the source cube."""
    model: str
    """File of the predictor."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    window: tuple[int, int, int, int] | None = None
    """See `run`."""
    mask: NDArray[np.bool_] | None = None
    """See `run`."""
    period: tuple[str, str] | None = None
    """See `run`."""
    error: bool = False
    """See `run`."""

    def template(self) -> xr.Dataset:
        """Give the feature cube to be, lazy and empty."""
        predictor, ds, box, times = self._opened()
        data.require(ds, predictor.inputs)
        target = self._target(predictor, ds, box, times)
        return target.assign(valid_share=shares(ds, times, box, self.mask))

    def plan(self) -> str:
        """Give the words that tell this content from any other."""
        return _plan(_loaded(self.model, self.device), self.mask)

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str]:
        """Make a tile in memory."""
        predictor, ds, box, times = self._opened()
        block = _blank(self._target(predictor, ds, box, times), tile)
        todo = parts(predictor, ds, times, box, tile)
        for part, made in _computed(predictor, ds, todo, None, self.error):
            _place(block, part, made, times, box, tile, self.mask)
        return block, ""

    def _target(
        self, predictor: Predictor, ds: xr.Dataset, box: tuple[int, int, int, int], times: slice
    ) -> xr.Dataset:
        return template(predictor, ds, window=box, times=times, mask=self.mask, error=self.error)

    def _opened(self) -> tuple[Predictor, xr.Dataset, tuple[int, int, int, int], slice]:
        ds = store.open(self.url).assign_attrs(cube_name=self.name)
        box, times = _window(ds, self.window, self.mask), _times(ds, self.period)
        return _loaded(self.model, self.device), ds, box, times


@functools.lru_cache(maxsize=2)
def _loaded(model: str, device: str) -> Predictor:
    # whole tiles are made side by side: threads inside of one product would only wait
    torch.set_num_threads(1)
    return Predictor.load(model, device=device)


@contextmanager
def workers(predictor: Predictor) -> Iterator[Executor | None]:
    """Give an executor that keeps all cores busy; none on a GPU, which one caller fills.

    Many small products gain little from threads inside one product, so each thread works on
    parts of its own.
    """
    if predictor.device.type != "cpu":
        yield None
        return
    cores, before = os.cpu_count() or 1, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(cores, AHEAD)) as executor:
            yield executor
    finally:
        torch.set_num_threads(before)


def template(
    predictor: Predictor,
    ds: xr.Dataset,
    *,
    window: tuple[int, int, int, int],
    times: slice,
    mask: NDArray[np.bool_] | None = None,
    error: bool = False,
) -> xr.Dataset:
    """Give the feature cube to be, lazy and empty, with coordinates and provenance."""
    y0, y1, x0, x1 = window
    where = ds[["time", "y", "x"]].isel(time=times, y=slice(y0, y1), x=slice(x0, x1))
    count, rows, columns = (where.sizes[name] for name in ("time", "y", "x"))
    names = predictor.features
    cut = dask.array.zeros((count, len(names), rows, columns), dtype=np.float32,
                           chunks=(16, -1, 64, 64))  # fmt: skip
    seen = dask.array.zeros((count, rows, columns), dtype=np.uint8, chunks=(16, 64, 64))
    features = xr.Variable(("time", "feature", "y", "x"), cut, attributes("features"),
                           {"scale_factor": predictor.scale})  # fmt: skip
    flags = {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
    valid = xr.Variable(("time", "y", "x"), seen, attributes("valid") | flags)
    made = xr.Dataset(
        {"features": features, "valid": valid, **_edges(predictor, ds, times, window)},
        coords={"time": where["time"], "feature": names, "y": where["y"], "x": where["x"],
                "spatial_ref": ds["spatial_ref"]},
        attrs=_provenance(predictor, ds, where["time"].values),
    )  # fmt: skip
    if error:
        blank = dask.array.zeros((count, rows, columns), dtype=np.float32, chunks=(16, 64, 64))
        made[ERROR] = (("time", "y", "x"), blank, {
            "units": "1",
            "long_name": "Mean absolute error of the bands that the features tell",
            "comment": "mean over the bands that went in of |band - decoded band|, of the "
            "quantised features; no value where not usable",
        })  # fmt: skip
    if mask is not None:
        made.attrs["coverage"] = f"{np.count_nonzero(mask)} of {mask.size} pixels: area of interest"
    return contract.check(made)


def _edges(
    predictor: Predictor, ds: xr.Dataset, times: slice, window: tuple[int, int, int, int]
) -> dict[str, xr.Variable]:
    """Flag dates, rows and columns of which a part of the neighbourhood lies outside the source."""
    y0, y1, x0, x1 = window
    each = {
        "time": (times, predictor.context, "neighbouring dates"),
        "y": (slice(y0, y1), predictor.halo, "rows"),
        "x": (slice(x0, x1), predictor.halo, "columns"),
    }
    found = {}
    for dim, (part, reach, what) in each.items():
        place = np.arange(ds.sizes[dim])[part]
        near = (place < reach) | (place >= ds.sizes[dim] - reach)
        found[f"edge_{dim}"] = xr.Variable((dim,), near.astype(np.uint8), {
            "units": "1",
            "long_name": f"Neighbourhood in {dim} reaches beyond the source cube",
            "flag_values": [0, 1],
            "flag_meanings": "complete padded",
            "comment": f"of the {reach} {what} on each side some are missing where this is 1; a "
            "pixel and date has its whole neighbourhood where edge_time, edge_y and edge_x are 0",
        })  # fmt: skip
    return found


def shares(
    ds: xr.Dataset,
    times: slice,
    window: tuple[int, int, int, int],
    mask: NDArray[np.bool_] | None,
) -> xr.Variable:
    """Give the share of the pixels of window or mask that the source tells usable, per date."""
    (y0, y1, x0, x1), (dates, rows) = window, STEP
    seen = ds["valid"].isel(time=times, x=slice(x0, x1))
    count = np.zeros(seen.sizes["time"], np.int64)
    for t in range(0, count.size, dates):
        for y in range(y0, y1, rows):
            below = min(y + rows, y1)
            block = seen.isel(time=slice(t, t + dates), y=slice(y, below)).values == USABLE
            if mask is not None:
                block &= mask[y - y0 : below - y0]
            count[t : t + dates] += block.sum(axis=(1, 2))
    pixels = (y1 - y0) * (x1 - x0) if mask is None else int(np.count_nonzero(mask))
    return xr.Variable("time", (count / max(pixels, 1)).astype(np.float32), {
        "units": "1",
        "long_name": "Share of usable pixels",
        "comment": "pixels that the source cube marks as usable, of those of the embedded area",
    })  # fmt: skip


def _provenance(predictor: Predictor, ds: xr.Dataset, times: NDArray[Any]) -> dict[str, str]:
    """Say where the features come from, with the ``geoemb:`` convention for embeddings.

    Source: geo-embeddings/embeddings-zarr-convention, 61c12cc5-0e28-4056-999a-480cf3fb7e4c.
    """
    kept = ("summary", "source", "source_items", "licence", "attribution", "simulated")
    attrs = {name: ds.attrs[name] for name in kept if name in ds.attrs}
    title = str(ds.attrs.get("title", "a cube"))
    name = str(ds.attrs.get("cube_name", title))
    known = json.loads(ds.attrs.get("processing") or "[]")
    step = f"deepfeatures {__version__} embed: model {predictor.name} {predictor.checksum[:12]}"
    quantisation = {
        "method": "linear: value = integer x scale, -128 = no value",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": {"type": "scalar", "value": predictor.scale},
    }
    return attrs | {
        "title": f"Features of {title}",
        "processing": json.dumps([*known, step]),
        "time_coverage_start": str(times[0])[:10],
        "time_coverage_end": str(times[-1])[:10],
        "model": predictor.name,
        "model_checksum": predictor.checksum,
        "model_channels": json.dumps(predictor.channels),
        "quantisation": json.dumps(quantisation),
        "source_cube": name,
        "geoemb:type": "pixel",
        "geoemb:dimensions": str(len(predictor.features)),
        "geoemb:model": f"{predictor.name}#sha256={predictor.checksum}",
        "geoemb:source_data": json.dumps([name]),
        "geoemb:data_type": "int8",
        "geoemb:gsd": f"{abs(float(ds['x'][1] - ds['x'][0])) if ds.sizes['x'] > 1 else 10.0:g}",
        "geoemb:quantization": json.dumps(quantisation),
    }


def _window(
    ds: xr.Dataset, window: tuple[int, int, int, int] | None, mask: NDArray[np.bool_] | None
) -> tuple[int, int, int, int]:
    rows, columns = ds.sizes["y"], ds.sizes["x"]
    y0, y1, x0, x1 = window or (0, rows, 0, columns)
    if not (0 <= y0 < y1 <= rows and 0 <= x0 < x1 <= columns):
        raise ValueError(
            f"the window {window} is empty or outside the cube of {rows} x {columns} px"
        )
    if mask is not None and mask.shape != (y1 - y0, x1 - x0):
        raise ValueError(f"the mask is {mask.shape}, the window {(y1 - y0, x1 - x0)} px")
    return int(y0), int(y1), int(x0), int(x1)


def _times(ds: xr.Dataset, period: tuple[str, str] | None) -> slice:
    when = ds["time"].values.astype("datetime64[D]")
    if period is None:
        return slice(0, when.size)
    start, end = (np.datetime64(str(day)[:10], "D") for day in period)
    first, last = np.searchsorted(when, start), np.searchsorted(when, end, side="right")
    if first >= last:
        raise ValueError(
            f"no date lies from {start} to {end}; the cube has {when[0]} to {when[-1]}"
        )
    return slice(int(first), int(last))


def _plan(predictor: Predictor, mask: NDArray[np.bool_] | None) -> str:
    shape = "" if mask is None else np.packbits(mask).tobytes().hex()
    return f"{predictor.checksum} {DATES} {MEMORY} {shape}"


def parts(
    predictor: Predictor,
    ds: xr.Dataset,
    times: slice,
    window: tuple[int, int, int, int],
    tile: Tile,
) -> list[Part]:
    """Cut a tile of the store into parts that fit into `MEMORY`."""
    reach, halo = predictor.context, predictor.halo
    count = ds.sizes["time"]
    dates = min(DATES, times.stop - times.start) + 2 * reach
    most = max(int((MEMORY / (4 * predictor.floats * dates)) ** 0.5) - 2 * halo, 1)
    shape = tile.y1 - tile.y0, tile.x1 - tile.x0
    edge = -(-max(shape) // -(-max(shape) // most))  # as few parts as may be, of one size
    cells = split(shape, edge)
    found = []
    for start in range(times.start, times.stop, DATES):
        stop = min(start + DATES, times.stop)
        around = slice(max(start - reach, 0), min(stop + reach, count))
        for cell in cells:
            y, x = window[0] + tile.y0, window[2] + tile.x0
            y0, y1, x0, x1 = cell.y0 + y, cell.y1 + y, cell.x0 + x, cell.x1 + x
            place = Tile(
                y0, y1, x0, x1,
                max(y0 - halo, 0), min(y1 + halo, ds.sizes["y"]),
                max(x0 - halo, 0), min(x1 + halo, ds.sizes["x"]),
            )  # fmt: skip
            found.append(Part(slice(start, stop), around, place))
    return found


def _computed(
    predictor: Predictor, ds: xr.Dataset, todo: list[Part], executor: Executor | None, error: bool
) -> Iterator[tuple[Part, Made]]:
    """Give parts with what was made of them in order; an executor is never far ahead.

    Parts of the same dates are read together: chunks that lie under several halos are decoded
    once, and while an executor works on some, the next are read.
    """
    waiting: deque[tuple[Part, Future[Made]]] = deque()
    for _, group in groupby(todo, key=lambda part: (part.around.start, part.around.stop)):
        together = list(group)
        region = read(predictor, ds, together)
        for part in together:
            if executor is None:
                yield part, _make(predictor, region, part, error)
                continue
            waiting.append((part, executor.submit(_make, predictor, region, part, error)))
            if len(waiting) > AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def read(predictor: Predictor, ds: xr.Dataset, together: list[Part]) -> Region:
    """Read what parts of the same dates need."""
    tiles = [part.tile for part in together]
    y0, y1 = min(tile.ry0 for tile in tiles), max(tile.ry1 for tile in tiles)
    x0, x1 = min(tile.rx0 for tile in tiles), max(tile.rx1 for tile in tiles)
    rows, columns = slice(y0, y1), slice(x0, x1)
    around = together[0].around
    block = data.read(
        ds, predictor.inputs, sensors=predictor.contexts, times=around, rows=rows, columns=columns
    )
    return Region(block, y0, x0)


def _make(predictor: Predictor, region: Region, part: Part, error: bool) -> Made:
    features = compute(predictor, region, part)
    return Made(features, errors(predictor, region, part, features) if error else None)


def compute(predictor: Predictor, region: Region, part: Part) -> NDArray[np.float32]:
    """Give the features ``(time, feature, y, x)`` of the core of a part."""
    tile, block = part.tile, region.block
    rows = slice(tile.ry0 - region.y0, tile.ry1 - region.y0)
    columns = slice(tile.rx0 - region.x0, tile.rx1 - region.x0)
    values, valid = block.values[..., rows, columns], block.valid[..., rows, columns]
    others = {
        name: replace(series, values=series.values[..., rows, columns])
        for name, series in block.others.items()
    }
    features = predictor(values, valid, block.days, others, inner=tile.inner)
    first = part.times.start - part.around.start
    inside = slice(first, first + part.times.stop - part.times.start)
    return features[inside]


def errors(
    predictor: Predictor, region: Region, part: Part, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give how far the features of a part, as they are stored, are from its bands (time, y, x)."""
    first, tile = part.times.start - part.around.start, part.tile
    values = region.block.values[
        first : first + len(features),
        :,
        tile.y0 - region.y0 : tile.y1 - region.y0,
        tile.x0 - region.x0 : tile.x1 - region.x0,
    ]
    return predictor.error(values, np.round(features / predictor.scale) * predictor.scale)


def _blank(target: xr.Dataset, tile: Tile) -> xr.Dataset:
    """Give an empty block of the feature cube in memory."""
    rows, columns = tile.core
    block = target.isel(y=rows, x=columns)
    features, valid = block["features"], block["valid"]
    made = block.assign(
        features=(features.dims, np.full(features.shape, np.nan, np.float32), features.attrs),
        valid=(valid.dims, np.zeros(valid.shape, np.uint8), valid.attrs),
    )
    if ERROR in block:
        made[ERROR] = (valid.dims, np.full(valid.shape, np.nan, np.float32), block[ERROR].attrs)
    return made


def _place(
    block: xr.Dataset,
    part: Part,
    made: Made,
    times: slice,
    window: tuple[int, int, int, int],
    tile: Tile,
    mask: NDArray[np.bool_] | None,
) -> None:
    """Put what was made of a part into the block of its tile."""
    features = made.features
    when = slice(part.times.start - times.start, part.times.stop - times.start)
    y0, x0 = part.tile.y0 - window[0], part.tile.x0 - window[2]
    height, width = features.shape[2:]
    if mask is not None:
        features = np.where(mask[y0 : y0 + height, x0 : x0 + width], features, np.float32(np.nan))
    y, x = y0 - tile.y0, x0 - tile.x0
    at = (when, slice(None), slice(y, y + height), slice(x, x + width))
    block["features"].values[at] = features
    seen = np.isfinite(features[:, 0])
    block["valid"].values[at[0], at[2], at[3]] = seen
    if made.error is not None:
        block[ERROR].values[at[0], at[2], at[3]] = np.where(seen, made.error, np.float32(np.nan))
