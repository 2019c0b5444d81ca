"""A predictor over the tiles of a cube: a new cube, written and resumed tile by tile.

A tile of the store is worked through in parts (some dates with their neighbours x some pixels
with their halo), so that memory is bounded whatever the cube. The result does not depend on how
it was cut. What the new cube is like is said in `deepfeatures.featurecube`.
"""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import featurecube, store
from deepfeatures.embed import data
from deepfeatures.predictor import Predictor
from deepfeatures.tiles import Tile, split

DATES = 96
"""Dates that are worked on at once; their neighbours come on top."""

MEMORY = 512 * 2**20
"""Bytes that the numbers of one part may take inside the network."""

AHEAD = 8
"""Parts that an executor may be ahead of the writer: more workers than that stay idle."""

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
        Write `featurecube.ERROR` as well: the mean difference of the bands and what the features
        tell of them.
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
    box = featurecube.extent(ds, window, mask)
    times = featurecube.interval(ds, period)
    target = featurecube.template(predictor, ds, window=box, times=times, mask=mask, error=error)
    target["valid_share"] = featurecube.shares(ds, times, box, mask)
    writer = store.Writer.create(url, target, plan=_plan(predictor, mask))
    # a tile of a few hectares is one part by its memory: one core would work and the others wait
    least = min(os.cpu_count() or 1, AHEAD) if executor else 1
    planned = {tile: parts(predictor, ds, times, box, tile, least) for tile in writer.tiles}
    total = sum(map(len, planned.values()))
    pending = writer.pending()
    done = total - sum(len(planned[tile]) for tile in pending)
    for tile in pending:
        block = featurecube.blank(target, tile)
        todo = planned[tile]
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
        return target.assign(valid_share=featurecube.shares(ds, times, box, self.mask))

    def plan(self) -> str:
        """Give the words that tell this content from any other."""
        return _plan(_loaded(self.model, self.device), self.mask)

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str]:
        """Make a tile in memory."""
        predictor, ds, box, times = self._opened()
        block = featurecube.blank(self._target(predictor, ds, box, times), tile)
        todo = parts(predictor, ds, times, box, tile)
        for part, made in _computed(predictor, ds, todo, None, self.error):
            _place(block, part, made, times, box, tile, self.mask)
        return block, ""

    def _target(
        self, predictor: Predictor, ds: xr.Dataset, box: tuple[int, int, int, int], times: slice
    ) -> xr.Dataset:
        return featurecube.template(
            predictor, ds, window=box, times=times, mask=self.mask, error=self.error
        )

    def _opened(self) -> tuple[Predictor, xr.Dataset, tuple[int, int, int, int], slice]:
        ds = store.open(self.url).assign_attrs(cube_name=self.name)
        box = featurecube.extent(ds, self.window, self.mask)
        times = featurecube.interval(ds, self.period)
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


def _plan(predictor: Predictor, mask: NDArray[np.bool_] | None) -> str:
    shape = "" if mask is None else np.packbits(mask).tobytes().hex()
    return f"{predictor.checksum} {DATES} {MEMORY} {shape}"


def parts(
    predictor: Predictor,
    ds: xr.Dataset,
    times: slice,
    window: tuple[int, int, int, int],
    tile: Tile,
    least: int = 1,
) -> list[Part]:
    """Cut a tile of the store into parts that fit into `MEMORY`, at least so many if it can be."""
    reach, halo = predictor.context, predictor.halo
    count = ds.sizes["time"]
    dates = min(DATES, times.stop - times.start) + 2 * reach
    most = max(int((MEMORY / (4 * predictor.floats * dates)) ** 0.5) - 2 * halo, 1)
    shape = tile.y1 - tile.y0, tile.x1 - tile.x0
    sides = max(-(-max(shape) // most), math.ceil(math.sqrt(least)))
    edge = -(-max(shape) // sides)  # as few parts as may be, of one size
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
        error = np.where(seen, made.error, np.float32(np.nan))
        block[featurecube.ERROR].values[at[0], at[2], at[3]] = error
