"""Indices of arrays in memory, and of band cubes as virtual cubes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures.bands import attributes
from deepfeatures.indices import native
from deepfeatures.indices.native import Coding
from deepfeatures.indices.program import Program
from deepfeatures.indices.table import CATALOGUE, Index, chosen, program

ALIGNED = 64
"""Bytes to which results begin: full cache lines can then be written past the caches."""


def compute(
    reflectance: Mapping[str, NDArray[Any]],
    wanted: Sequence[str | Index],
    *,
    constants: Mapping[str, float] | None = None,
    source: Coding | None = None,
    out: NDArray[np.float32] | None = None,
    counts: NDArray[np.int64] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Compute indices from band arrays.

    Parameters
    ----------
    reflectance
        Band name -> surface reflectance 0..1, all of one shape (...); NaN = no value. With
        `source` stored integers (uint16).
    wanted
        Names of the catalogue, expressions such as ``"(B08 - B05) / (B08 + B05)"``, or indices
        from `define`.
    constants
        Other values than the catalogue's, such as ``{"L": 0.5}``.
    source
        How the integers of `reflectance` are coded.
    out
        Array (index, ...), float32 and C-contiguous, that takes the result.
    counts
        Array (index, 4), int64, added to: the first column counts values that are undefined
        although all bands are there (a zero denominator, a root of a negative number, an
        overflow), the last one pixels in which all bands are there.
    threads
        How many work at most; by default one per core.

    Returns
    -------
    numpy.ndarray
        (index, ...) float32; NaN where a band has no value and where the index is undefined.

    Raises
    ------
    KeyError
        If an index is unknown.
    ValueError
        If a band or a constant is missing, an expression is none, or shapes differ.
    """
    plan, labels = _planned(reflectance, wanted, constants)
    flat, shape = _flat(plan, reflectance, np.float32 if source is None else np.uint16)
    whole = (len(labels), *shape)
    if out is None:
        out = blank(whole)
    elif out.shape != whole or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(
            f"'out' must be contiguous float32 of shape {whole}, not {out.dtype} {out.shape}"
        )
    rows = out.reshape(len(labels), -1)
    native.run(plan, flat, rows, source=source, counts=counts, threads=threads)
    return out


def encode(
    reflectance: Mapping[str, NDArray[Any]],
    wanted: Sequence[str | Index],
    *,
    source: Coding | None,
    scale: NDArray[np.floating],
    offset: NDArray[np.floating],
    constants: Mapping[str, float] | None = None,
    counts: NDArray[np.int64] | None = None,
    mask: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> NDArray[np.int16]:
    """Compute indices as integers that can be stored, straight from stored integers.

    Parameters
    ----------
    reflectance, wanted, constants, source, threads
        See `compute`.
    scale, offset
        (index,): value = stored * scale + offset.
    counts
        Array (index, 4), int64, added to: values undefined, clipped from below, from above, and
        pixels in which all bands are there.
    mask
        (...): only pixels where it is 1 are counted.

    Returns
    -------
    numpy.ndarray
        (index, ...) int16, -32768 where there is no value.
    """
    plan, labels = _planned(reflectance, wanted, constants)
    flat, shape = _flat(plan, reflectance, np.float32 if source is None else np.uint16)
    out = np.empty((len(labels), *shape), np.int16)
    step = np.asarray(scale, np.float64)
    factors = np.stack([1.0 / step, -np.asarray(offset, np.float64) / step], axis=1)
    native.run(
        plan, flat, out.reshape(len(labels), -1), source=source,
        factors=factors.astype(np.float32), counts=counts,
        mask=None if mask is None else np.ascontiguousarray(mask, np.uint8).reshape(-1),
        threads=threads,
    )  # fmt: skip
    return out


def select(
    ds: xr.Dataset,
    wanted: Sequence[str | Index],
    *,
    constants: Mapping[str, float] | None = None,
) -> xr.DataArray:
    """Give indices of a band cube as a virtual cube: computed when, and where, it is read.

    Parameters
    ----------
    ds
        A band cube, or any selection of one: ``reflectance`` (..., band, ...).
    wanted
        Names of the catalogue, expressions, or indices from `define`. Those asked for together
        are computed together, so ask for what you need and not for all.
    constants
        Other values than the catalogue's, such as ``{"L": 0.5}``.

    Returns
    -------
    xarray.DataArray
        ``si`` with ``index`` in the place of ``band``, float32: over dask where the cube is (one
        task per chunk of time and space), else computed at once.

    Raises
    ------
    KeyError
        If an index is unknown.
    ValueError
        If the cube lacks a band.
    """
    source = ds["reflectance"]
    bands = [str(band) for band in source["band"].values]
    found = chosen(wanted, bands)
    needed = [band for band in bands if any(band in index.bands for index in found)]
    source = source.sel(band=needed)
    axis = source.get_axis_num("band")
    block = partial(_block, bands=needed, wanted=found, constants=constants, axis=axis)
    if source.chunks is None:
        data = block(source.values)
    else:
        whole = source.data.rechunk({axis: -1})
        chunks = list(whole.chunks)
        chunks[axis] = (len(found),)
        # dask's own threads run several blocks at once: each block has one
        alone = partial(block, threads=1)
        data = whole.map_blocks(
            alone, chunks=tuple(chunks), dtype=np.float32, meta=np.empty((0,) * whole.ndim, "f4")
        )
    coords = {name: c for name, c in source.coords.items() if "band" not in c.dims}
    return xr.DataArray(
        data,
        dims=["index" if dim == "band" else dim for dim in source.dims],
        coords=coords | {"index": [index.name for index in found]},
        name="si",
        attrs=attributes("si") | {"catalogue": CATALOGUE},
    )


def blank(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Give an uninitialised float32 array that begins at a cache line."""
    size = int(np.prod(shape, dtype=np.int64)) * 4
    raw = np.empty(size + ALIGNED, np.uint8)
    start = -raw.ctypes.data % ALIGNED
    return raw[start : start + size].view(np.float32).reshape(shape)


def _block(
    values: NDArray[np.float32],
    *,
    bands: Sequence[str],
    wanted: Sequence[Index],
    constants: Mapping[str, float] | None,
    axis: int,
    threads: int | None = None,
) -> NDArray[np.float32]:
    layers = {name: np.take(values, at, axis=axis) for at, name in enumerate(bands)}
    return np.moveaxis(compute(layers, wanted, constants=constants, threads=threads), 0, axis)


def _planned(
    bands: Mapping[str, Any],
    wanted: Sequence[str | Index],
    constants: Mapping[str, float] | None,
) -> tuple[Program, list[Index]]:
    found = chosen(wanted, bands)
    return program(tuple(found), tuple(sorted((constants or {}).items()))), found


def _flat(
    plan: Program, bands: Mapping[str, NDArray[Any]], dtype: type
) -> tuple[list[NDArray[Any]], tuple[int, ...]]:
    """Give the bands of a program as flat contiguous arrays, and their common shape."""
    shapes = {name: np.shape(bands[name]) for name in plan.inputs}
    shape = next(iter(shapes.values()))
    if set(shapes.values()) != {shape}:
        raise ValueError(f"the bands differ in shape: {shapes}")
    return [np.ascontiguousarray(bands[name], dtype).reshape(-1) for name in plan.inputs], shape
