"""Cubes as Zarr v3: layout, resumable writing tile by tile, lazy reading.

A pixel series and a map tile must both be quick from one store, so inner chunks are balanced
(some dates x one channel x 64 x 64 px, all features of a feature cube together) and lie in
shards of the full time axis. Whole shards are written, in any order; a journal beside the store
remembers which tiles are done, so that a killed writer resumes and gives the same bytes. The
root attribute ``complete`` turns true last; only then may a catalogue list the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask.array
import fsspec
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from deepfeatures import contract
from deepfeatures.tiles import Tile, split

DATES = 16
"""Dates in an inner chunk."""
EDGE = 64
"""Edge of an inner chunk [px]."""
OVERVIEW_FROM = 128
"""Overviews are made while their longer edge has at least this many pixels."""

READING = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
"""Setting of zarr under which arrays are opened to be read: chunks are decoded twice as fast."""

_OWN = ("complete", "version")
_FACTORS = ("scale_factor", "add_offset")
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
_FILLED = {"int8": -128, "int16": -32768, "uint16": 0}
_PACKED: dict[str, dict[str, Any]] = {
    # An offset keeps slightly negative reflectance; stored = digital number + 1000, 0 = no value.
    "reflectance": {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.1},
    "backscatter": {"dtype": "int16", "scale_factor": 2e-3},
    "truth": {"dtype": "int16", "scale_factor": 5e-3},
}


def edge(shape: tuple[int, int]) -> int:
    """Give the edge of a shard [px] for a raster of `shape` (rows, columns).

    Small cubes get small shards, so that several workers can write them and a killed writer
    loses little; large ones get few files.
    """
    return 128 if max(shape) <= 512 else 256


@dataclass(frozen=True)
class Writer:
    """Writes one store tile by tile; make it with `Writer.create`."""

    url: str
    """Where the store is."""
    tiles: tuple[Tile, ...]
    """The tiles of the store, each a whole number of shards."""

    @classmethod
    def create(cls, url: str, template: xr.Dataset, plan: str = "") -> Writer:
        """Start a store, or resume it if the same plan was begun there before.

        Parameters
        ----------
        url
            Path or URL of the store.
        template
            The cube with all coordinates, attributes and small variables; of the variables on
            the grid only name, dimensions, type, attributes and encoding are used.
        plan
            Words that tell this content from any other (inputs, versions, seeds). If the same
            content is there already, nothing is left to do; if another was begun but not
            completed, it is dropped.

        Raises
        ------
        ValueError
            If the template breaks the cube contract, or another complete cube is there.
        """
        contract.check(template)
        version = _version(template, plan)
        shape = template.sizes["y"], template.sizes["x"]
        writer = cls(str(url), tuple(split(shape, edge(shape))))
        if writer._journal("plan") == version:
            return writer
        there = _complete_version(writer.url)
        if there == version[:12]:
            return writer
        if there is not None:
            raise ValueError(
                f"there is another cube at {url}; remove it first or choose another name"
            )
        _remove(_journal_url(writer.url))
        _remove(writer.url)
        blank = template.assign_attrs(complete="false", version=version[:12])
        _write_metadata(blank, writer.url)
        writer._note("plan", version)
        return writer

    def pending(self) -> list[Tile]:
        """Give the tiles that are still to be written."""
        if self._journal("plan") is None:
            return []
        done = _names(_journal_url(self.url))
        return [tile for tile in self.tiles if tile.name not in done]

    def write(self, tile: Tile, block: xr.Dataset) -> None:
        """Write a tile: all variables of `block` that lie on the grid.

        Lazy variables are computed one channel at a time.
        """
        group = zarr.open_group(self.url, mode="r+")
        for name, array in block.data_vars.items():
            if {"y", "x"} <= set(array.dims):
                _write_variable(group[str(name)], array, tile)
        self._note(tile.name, "done")

    def finish(self) -> None:
        """Make the overviews and declare the store complete; harmless when done before.

        Raises
        ------
        ValueError
            If tiles are missing.
        """
        missing = self.pending()
        if missing:
            raise ValueError(f"{self.url} lacks {len(missing)} of {len(self.tiles)} tiles")
        if self._journal("plan") is None:
            return
        group = zarr.open_group(self.url, mode="r+")
        write_overviews(group)
        group.attrs["complete"] = "true"
        _remove(_journal_url(self.url))

    def _journal(self, name: str) -> str | None:
        fs, path = _filesystem(f"{_journal_url(self.url)}/{name}")
        return fs.cat_file(path).decode() if fs.exists(path) else None

    def _note(self, name: str, text: str) -> None:
        fs, path = _filesystem(f"{_journal_url(self.url)}/{name}")
        fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        fs.pipe_file(path, text.encode())


def write(
    ds: xr.Dataset,
    url: str,
    plan: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a whole cube, tile by tile; resumes if the same plan was begun there before.

    Parameters
    ----------
    ds
        Cube under the contract, lazy or in memory.
    url
        Path or URL of the store.
    plan
        See `Writer.create`.
    progress
        Called with tiles done and tiles in all.
    """
    writer = Writer.create(url, ds, plan)
    for tile in counted(writer, progress):
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns))
    writer.finish()


def counted(writer: Writer, progress: Callable[[int, int], None] | None = None) -> Iterator[Tile]:
    """Walk over the pending tiles of a writer and tell the progress after each."""
    pending = writer.pending()
    total = len(writer.tiles)
    done = total - len(pending)
    for tile in pending:
        yield tile
        done += 1
        if progress is not None:
            progress(done, total)


def open(url: str) -> xr.Dataset:  # noqa: A001 (reads as store.open)
    """Open a store lazily: decoded, labelled, in dask chunks of several stored ones.

    Decoding happens where a chunk is read, so that a small selection reads little.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    group = arrays(url)
    with zarr.config.set(READING):
        raw = xr.open_zarr(group.store, consolidated=False, chunks=None, decode_cf=False)
    for array in raw.variables.values():
        # Of this type the factors make float32 of integers; plain ones would make float64.
        array.attrs |= {key: np.float32(array.attrs[key]) for key in _FACTORS if key in array.attrs}
    ds = xr.decode_cf(raw)
    for name, array in list(ds.variables.items()):
        if array.dtype.kind == "T":
            ds[name] = (array.dims, np.array(array.values.tolist(), dtype=str), array.attrs)
    square = edge((ds.sizes["y"], ds.sizes["x"]))
    sizes = {"time": 4 * DATES, "time_s1": 4 * DATES, "y": square, "x": square}
    sizes |= {"band": 1, "index": 1, "polarisation": 1}
    for name, array in ds.data_vars.items():
        if {"y", "x"} <= set(array.dims):
            ds[name] = array.chunk({dim: sizes.get(str(dim), -1) for dim in array.dims})
    ds.attrs = {key: value for key, value in ds.attrs.items() if key not in _OWN}
    return ds


def arrays(url: str) -> zarr.Group:
    """Open the raw arrays of a complete store, read-only.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    try:
        group = zarr.open_group(str(url), mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no cube at {url}; `list` shows what there is") from error
    if group.attrs.get("complete") != "true":
        raise FileNotFoundError(
            f"the cube at {url} was never completed; run the command that makes it again"
        )
    return group


def remove(url: str) -> None:
    """Remove a store and what is left of its writing."""
    _remove(str(url))
    _remove(_journal_url(str(url)))


def write_overviews(group: zarr.Group) -> None:
    """Write the means of 2 x 2, 4 x 4, ... pixels of the main array under ``overviews/``.

    Pixels without value are left out of the means; a pixel of ``valid`` is 1 where at least
    half of its parts are.
    """
    names = [name for name, _ in contract.MAIN.values() if name in group] + ["valid"]
    shape = group["valid"].shape[1:]  # type: ignore[union-attr]
    factor = 2
    while max(shape) // factor >= OVERVIEW_FROM:
        level = group.require_group(f"overviews/{factor}")
        for name in names:
            _write_overview(group[name], level, name, factor)  # type: ignore[arg-type]
        factor *= 2


def _write_overview(source: zarr.Array, level: zarr.Group, name: str, factor: int) -> None:
    *lead, rows, columns = source.shape
    shape = (*lead, -(-rows // factor), -(-columns // factor))
    chunks, shards = _layout(shape, (*source.chunks[:-2], EDGE, EDGE))
    target = level.create_array(
        name, shape=shape, dtype=source.dtype, chunks=chunks, shards=shards,
        compressors=_CODEC, fill_value=source.fill_value, overwrite=True,
        dimension_names=source.metadata.dimension_names,  # type: ignore[union-attr]
        attributes=dict(source.attrs),
    )  # fmt: skip
    fill = None if name == "valid" else source.fill_value
    for tile in split((shape[-2], shape[-1]), edge((shape[-2], shape[-1]))):
        rows_in = slice(tile.y0 * factor, min(tile.y1 * factor, rows))
        columns_in = slice(tile.x0 * factor, min(tile.x1 * factor, columns))
        for index in _channel_slices(tuple(lead)):
            part = np.asarray(source[(*index, rows_in, columns_in)])
            target[(*index, *tile.core)] = coarsen(part, factor, fill)


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
    rows = np.arange(0, values.shape[-2], factor)
    columns = np.arange(0, values.shape[-1], factor)
    there = np.ones(values.shape, bool) if fill is None else values != fill
    if values.dtype.kind == "f":
        there &= ~np.isnan(values)
    total = np.where(there, values, 0).astype(np.float32)
    total = np.add.reduceat(np.add.reduceat(total, rows, -2), columns, -1)
    count = np.add.reduceat(np.add.reduceat(there.astype(np.float32), rows, -2), columns, -1)
    mean = total / np.maximum(count, 1)
    if values.dtype.kind in "iu":
        mean = np.floor(mean + 0.5)
    return np.where(count > 0, mean, 0 if fill is None else fill).astype(values.dtype)


def _write_variable(target: Any, array: xr.DataArray, tile: Tile) -> None:
    encoding = {key: target.attrs[key] for key in _FACTORS if key in target.attrs}
    if encoding:
        encoding |= {"dtype": target.dtype, "_FillValue": target.fill_value}
    lead = array.shape[:-2]
    for index in _channel_slices(lead, whole=target.chunks[1] if len(lead) == 2 else 1):
        part = array[index] if index else array
        values = np.asarray(part.values)
        if encoding:
            values = np.clip(values, *_representable(target))
        plain = xr.Variable(part.dims, values, encoding=encoding)
        coded = xr.conventions.encode_cf_variable(plain) if encoding else plain
        target[(*index, *tile.core)] = np.asarray(coded.values, dtype=target.dtype)


def _representable(target: Any) -> tuple[np.float32, np.float32]:
    """Give the least and the greatest value that a packed array can hold; beyond is cut."""
    codes = np.iinfo(target.dtype)
    step, offset = target.attrs["scale_factor"], target.attrs.get("add_offset", 0.0)
    least = codes.min + (1 if target.fill_value == codes.min else 0)
    return np.float32(least * step + offset), np.float32(codes.max * step + offset)


def _channel_slices(lead: tuple[int, ...], whole: int = 1) -> list[tuple[slice, ...]]:
    """Cut the leading dimensions into whole-time slices of `whole` channels."""
    if len(lead) < 2:
        return [(slice(None),) * len(lead)]
    return [(slice(None), slice(i, min(i + whole, lead[1]))) for i in range(0, lead[1], whole)]


def _write_metadata(template: xr.Dataset, url: str) -> None:
    blank = template.copy()
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in template.variables.items():
        if {"y", "x"} <= set(array.dims):
            coding = _encoding(str(name), array)
            chunks, shards = coding["chunks"], coding["shards"]
            zeros = dask.array.zeros(array.shape, dtype=array.dtype, chunks=shards or chunks)
            blank[name] = (array.dims, zeros, dict(array.attrs))
            encoding[str(name)] = coding
        elif array.dtype.kind == "U":
            # Text of fixed length has no Zarr v3 specification, text of variable length has.
            blank[name] = (array.dims, array.values.astype(object), dict(array.attrs))
        blank[name].encoding = {}
        if name in template.data_vars and {"y", "x"} <= set(array.dims):
            blank[name].attrs["grid_mapping"] = "spatial_ref"
    for name in ("time", "time_s1", "time_meteo"):
        if name in blank.coords:
            encoding[name] = {"dtype": "int64", "units": "seconds since 1970-01-01"}
    blank.to_zarr(
        url, mode="w", compute=False, encoding=encoding, zarr_format=3, consolidated=False
    )


def _encoding(name: str, array: xr.Variable) -> dict[str, Any]:
    features = name == "features"
    inner = {
        2: (EDGE, EDGE),
        3: (DATES, EDGE, EDGE),
        4: (DATES, array.shape[1] if features else 1, EDGE, EDGE),
    }[array.ndim]
    chunks, shards = _layout(array.shape, inner)
    coding: dict[str, Any] = {"chunks": chunks, "shards": shards, "compressors": (_CODEC,)}
    packed = dict(_PACKED.get(name, {}))
    if name.startswith("truth_") and array.ndim == 3 and array.dtype.kind == "f":
        packed = dict(_PACKED["truth"])
    if features and "scale_factor" in array.encoding:
        packed = {"dtype": "int8", "scale_factor": float(array.encoding["scale_factor"])}
    if packed:
        # For CF readers the first, for chunks that nobody wrote the second.
        packed["_FillValue"] = packed["fill_value"] = _FILLED[packed["dtype"]]
    return coding | packed


def _layout(
    shape: tuple[int, ...], inner: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give chunks and shards: shards hold the full time and a square of whole chunks."""
    *lead, rows, columns = shape
    square = edge((rows, columns))
    chunks = tuple(min(i, n) for i, n in zip(inner[:-2], lead, strict=True)) + (EDGE, EDGE)
    full = tuple(
        -(-n // chunk) * chunk if axis == 0 else chunk
        for axis, (n, chunk) in enumerate(zip(lead, chunks[: len(lead)], strict=True))
    )
    return chunks, (*full, square, square)


def _version(template: xr.Dataset, plan: str) -> str:
    sizes = {str(name): size for name, size in template.sizes.items()}
    words = json.dumps([plan, sizes, template.attrs, sorted(map(str, template.variables))],
                       sort_keys=True, default=str)  # fmt: skip
    digest = hashlib.sha256(words.encode())
    for name in template.coords:
        digest.update(str(template[name].values.tolist()).encode())
    return digest.hexdigest()


def _complete_version(url: str) -> str | None:
    try:
        return str(arrays(url).attrs["version"])
    except FileNotFoundError:
        return None


def _journal_url(url: str) -> str:
    return f"{url.rstrip('/')}.journal"


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, path = fsspec.core.url_to_fs(url)
    return fs, path


def _names(url: str) -> set[str]:
    fs, path = _filesystem(url)
    return {item.rsplit("/", 1)[-1] for item in fs.ls(path, detail=False)}


def _remove(url: str) -> None:
    fs, path = _filesystem(url)
    if fs.exists(path):
        fs.rm(path, recursive=True)
