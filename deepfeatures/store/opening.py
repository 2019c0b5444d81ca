"""Opening a store: labelled and lazy, or its raw arrays."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
import zarr

from deepfeatures.store import places
from deepfeatures.store.layout import CODED, DATES, FACTORS

READING = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
"""Setting of zarr under which local arrays are opened to be read: chunks are decoded twice as
fast."""

WRITING = READING | {"threading.max_workers": 1}
"""Setting of zarr under which local arrays of indices are opened to be written."""

_SETTING = threading.RLock()

FRESH = 5.0
"""Seconds for which the version of a remote store is remembered."""

_OWN = ("complete", "version")


def pipeline(url: str) -> dict[str, Any]:
    """Give the settings of zarr under which arrays of a store are opened to be read.

    The pipeline of `READING` reads the local disk only; remote stores take that of zarr.
    """
    return {} if places.remote(url) else dict(READING)


@contextmanager
def configured(settings: Mapping[str, Any]) -> Iterator[None]:
    """Open arrays under settings of zarr, one thread at a time.

    The settings are the whole process's: threads that set and reset them at the same time would
    open arrays under each other's, and leave them changed. So who wants none has to wait as well.
    """
    with _SETTING, zarr.config.set(dict(settings)):
        yield


def open(url: str) -> xr.Dataset:  # noqa: A001 (reads as store.open)
    """Open a store lazily: decoded, labelled, in dask chunks of several stored ones.

    Decoding happens where a chunk is read, so that a small selection reads little.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    group = arrays(url)
    with configured(pipeline(url)):
        raw = xr.open_zarr(group.store, consolidated=False, chunks=None, decode_cf=False)
    for array in raw.variables.values():
        # Of this type the factors make float32 of integers; plain ones would make float64.
        array.attrs |= {key: np.float32(array.attrs[key]) for key in FACTORS if key in array.attrs}
    chunks = {name: _dask_chunks(array) for name, array in raw.data_vars.items()}
    ds = xr.decode_cf(raw)
    for name, array in list(ds.variables.items()):
        if array.dtype.kind == "T":
            ds[name] = (array.dims, np.array(array.values.tolist(), dtype=str), array.attrs)
    for name, array in ds.data_vars.items():
        if {"y", "x"} <= set(array.dims):
            ds[name] = array.chunk(chunks[name])
    if set(CODED) <= set(ds.coords):
        ds = _uncoded(ds)
    ds.attrs = {key: value for key, value in ds.attrs.items() if key not in _OWN}
    return ds


def _uncoded(ds: xr.Dataset) -> xr.Dataset:
    """Decode indices, each with its own factors."""
    scale, offset = (ds[name].astype(np.float32) for name in CODED)
    values = (ds["si"] * scale + offset).transpose(*ds["si"].dims).drop_vars(CODED)
    return ds.assign(si=values.assign_attrs(ds["si"].attrs)).drop_vars(CODED)


def factors(group: zarr.Group, variable: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give scale and offset of each channel of a main array ``(time, channel, y, x)``."""
    array: Any = group[variable]
    if variable == "si" and CODED[0] in group:
        scale, offset = (np.asarray(group[name]).tolist() for name in CODED)
        return tuple(scale), tuple(offset)
    one, two = array.attrs.get("scale_factor", 1.0), array.attrs.get("add_offset", 0.0)
    return (float(one),) * array.shape[1], (float(two),) * array.shape[1]


def _dask_chunks(raw: xr.DataArray) -> dict[Any, int]:
    """Give chunks of whole squares of a shard, several stored chunks long in time."""
    inner = raw.encoding.get("chunks") or raw.shape
    outer = raw.encoding.get("shards") or inner
    sizes = dict(zip(raw.dims, inner, strict=True))
    sizes |= {dim: n for dim, n in zip(raw.dims, outer, strict=True) if dim in ("y", "x")}
    return sizes | {dim: 4 * DATES for dim in ("time", "time_s1", "time_lst") if dim in sizes}


def token(url: str) -> str:
    """Give a word that changes whenever the store at a place does.

    Local places are looked at each time, remote ones at most every `FRESH` seconds.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    if not places.remote(url):
        try:
            state = os.stat(os.path.join(url, "zarr.json"))
            return f"{state.st_mtime_ns}-{state.st_ino}-{state.st_size}"
        except OSError:
            pass
    return _version(url, int(time.monotonic() / FRESH))


@functools.lru_cache(maxsize=64)
def _version(url: str, moment: int) -> str:
    return str(arrays(url).attrs["version"])


def arrays(url: str) -> zarr.Group:
    """Open the raw arrays of a complete store, read-only.

    Raises
    ------
    FileNotFoundError
        If there is no store, or it was never completed.
    """
    try:
        with places.reached(url):
            store = places.zarr_store(url, read_only=True)
            group = zarr.open_group(store, mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no cube at {url}; `list` shows what there is") from error
    if group.attrs.get("complete") != "true":
        raise FileNotFoundError(
            f"the cube at {url} was never completed; run the command that makes it again"
        )
    return group
