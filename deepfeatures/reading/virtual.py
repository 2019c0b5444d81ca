"""SI cubes that nobody stored: an array of indices that is computed where it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from deepfeatures import __version__, contract, indices, store
from deepfeatures.bands import attributes
from deepfeatures.reading import opened
from deepfeatures.reading.chunks import gathered, read, runs
from deepfeatures.reading.kept import kept
from deepfeatures.tiles import Tile

DIMS = ("time", "index", "y", "x")
GROUP = 8
"""Indices that are computed at once to be stored: more share little more, and take memory."""
MAX_BYTES = 8 * 1024**3
"""Most that is computed in one go."""


class Indices(BackendArray):
    """Indices of a band cube as a float32 array (time, index, y, x)."""

    def __init__(
        self,
        cube: opened.OpenCube,
        wanted: Sequence[indices.Index],
        constants: Mapping[str, float] | None = None,
    ) -> None:
        self.cube, self.wanted, self.constants = cube, tuple(wanted), dict(constants or {})
        self.shape = (len(cube.times), len(wanted), cube.grid.height, cube.grid.width)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Compute a selection (xarray's protocol)."""
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._selected)

    def _selected(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        places = [np.atleast_1d(np.arange(n)[k]) for k, n in zip(key, self.shape, strict=True)]
        size = 4 * int(np.prod([place.size for place in places]))
        if size > MAX_BYTES:
            raise ValueError(
                f"{size / 1024**3:.0f} GiB of indices are more than can be computed in one go; "
                "select less, or open the cube in dask chunks (chunks={})"
            )
        found = np.empty([place.size for place in places], np.float32)
        if found.size:
            self._fill(found, *places)
        # whole numbers take their dimension away
        return found[tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)]

    def _fill(
        self, out: NDArray[np.float32], times: NDArray, rows: NDArray, y: NDArray, x: NDArray
    ) -> None:
        """Compute the smallest window around the pixels, for runs of consecutive dates."""
        window = slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1)
        wanted = [self.wanted[row] for row in rows]
        for first, last in runs(np.unique(times).tolist()):
            block = self._block(wanted, (slice(first, last + 1), *window))
            here = np.flatnonzero((times >= first) & (times <= last))
            inner = np.ix_(
                np.arange(len(rows)), times[here] - first, y - window[0].start, x - window[1].start
            )
            out[here] = block[inner].swapaxes(0, 1)

    def _block(self, wanted: list[indices.Index], box: tuple[slice, ...]) -> NDArray[np.float32]:
        """Give indices (index, time, y, x) in a box, from what was kept if it was."""
        cube = self.cube
        words = [(index.name, index.formula) for index in wanted]
        given = sorted(self.constants.items())
        name = repr((__version__, cube.url, cube.version, words, given, box))
        return kept(name, lambda: self._computed(wanted, box))

    def _computed(self, wanted: list[indices.Index], box: tuple[slice, ...]) -> NDArray[np.float32]:
        cube = self.cube
        codes = gathered(
            cube,
            (band for index in wanted for band in index.bands),
            lambda low, high: read(cube, cube.variable, (box[0], slice(low, high + 1), *box[1:])),
        )
        source = opened.source(cube)
        return indices.compute(codes, wanted, constants=self.constants, source=source)


class Coded(BackendArray):
    """Indices of a band cube in a tile as they are stored: integers (time, index, y, x)."""

    def __init__(
        self,
        url: str,
        wanted: Sequence[indices.Index],
        codings: Sequence[tuple[float, float]],
        constants: Mapping[str, float],
        tile: Tile,
        level: int = 1,
    ) -> None:
        self.wanted, self.constants = tuple(wanted), dict(constants)
        self.scale, self.offset = np.array(codings).T
        cube = opened.open(url)
        rows, columns = tile.core
        self.source = opened.source(cube)
        bands, usable = (cube.arrays[name, level] for name in (cube.variable, "valid"))
        self.bands = {
            name: np.asarray(bands[:, cube.channels.index(name), rows, columns])
            for name in dict.fromkeys(band for index in wanted for band in index.bands)
        }
        self.usable = np.asarray(usable[:, rows, columns])
        self.counts = np.zeros((len(wanted), 4), np.int64)
        height, width = self.usable.shape[1:]
        self.shape = (len(cube.times), len(wanted), height, width)
        self.dtype = np.dtype(np.int16)
        self._held: tuple[int, NDArray[np.int16] | None] = (-1, None)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Compute a selection (xarray's protocol)."""
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._selected)

    def _selected(self, key: tuple[Any, ...]) -> NDArray[np.int16]:
        """Give whole indices, one after the other; several are computed at once."""
        first, last, _ = key[1].indices(len(self.wanted))
        groups = range(first // GROUP, -(-last // GROUP))
        parts = [self._group(number) for number in groups]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        start = first - groups.start * GROUP
        return whole[key[0], start : start + last - first, key[2], key[3]]

    def _group(self, number: int) -> NDArray[np.int16]:
        held, found = self._held
        if found is None or held != number:
            found = self._computed(slice(number * GROUP, (number + 1) * GROUP)).swapaxes(0, 1)
            self._held = number, found
        return found

    def _computed(self, part: slice) -> NDArray[np.int16]:
        return indices.encode(
            self.bands, self.wanted[part], source=self.source, constants=self.constants,
            scale=self.scale[part], offset=self.offset[part], counts=self.counts[part],
            mask=self.usable, threads=1,
        )  # fmt: skip

    def lazy(self) -> xr.Variable:
        """Give it as a variable whose values are computed when they are asked for."""
        return xr.Variable(DIMS, indexing.LazilyIndexedArray(self))

    def report(self) -> str:
        """Say of each index how many usable values there were, and what became of them."""
        names = ("undefined", "below", "above", "values")
        rows = zip(self.wanted, self.counts.tolist(), strict=True)
        found = {index.name: dict(zip(names, row, strict=True)) for index, row in rows}
        return json.dumps(found)


def spectral(
    url: str,
    wanted: Sequence[str | indices.Index] | None = None,
    *,
    constants: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Open the SI cube of a band cube: lazy, computed where it is read.

    Parameters
    ----------
    url
        Store of the band cube.
    wanted
        Names of the catalogue or expressions; by default all that the bands allow.
    constants
        Other values than the catalogue's, such as ``{"L": 0.5}``.

    Returns
    -------
    xarray.Dataset
        ``si`` (time, index, y, x) float32, ``valid`` (time, y, x), and the attributes of the
        band cube. ``xarray.open_dataset(url, engine="deepfeatures", view="si", chunks={})`` is
        the same in dask chunks.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    KeyError
        If an index is unknown.
    ValueError
        If the store holds no bands, or lacks one that an index needs.
    """
    cube = opened.open(url)
    if cube.kind != "bands":
        raise ValueError(f"{cube.name!r} is no cube of bands; open the one it was made from")
    found = indices.chosen(wanted or indices.available(cube.channels), cube.channels)
    ds = store.open(url)
    array = Indices(cube, found, constants)
    side = store.edge((array.shape[2], array.shape[3]), array.shape[0])
    sizes = (min(4 * store.DATES, array.shape[0]), 1, side, side)
    attrs = attributes("si") | {"catalogue": indices.CATALOGUE}
    si = xr.Variable(DIMS, indexing.LazilyIndexedArray(array), attrs)
    si.encoding["preferred_chunks"] = dict(zip(DIMS, sizes, strict=True))
    coords = {name: c for name, c in ds.coords.items() if set(c.dims) <= {"time", "y", "x"}}
    labels = [index.name for index in found]
    title = f"Spectral indices of {ds.attrs.get('title', cube.name)}"
    result = xr.Dataset(
        {"si": si, "valid": ds["valid"]},
        coords=coords | {"index": labels},
        attrs=ds.attrs | {"title": title, "source_cube": cube.name},
    )
    return contract.check(result)
