"""Opening files of strangers: NetCDF and Zarr, lazily, within limits, without running code.

What a file declares is checked before any of its values is decoded: the number and size of its
arrays, the size of a chunk in memory, and for Zarr the codecs, of which some (``pickle``) would run
code of whoever wrote the store.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from deepfeatures.grid import LARGEST

VARIABLES = 1000
"""Most variables in a file."""
LONGEST = 200_000
"""Longest axis other than x and y (dates of five centuries)."""
CHUNK = 2**31
"""Largest chunk in memory [bytes]."""
SCHEMES = ("https", "http", "s3", "gs", "abfs")
"""Kinds of URL under which a Zarr store may lie."""

DATES = 32
EDGE = 512
"""Chunks of the arrays handed out have at most this many dates and pixels along an edge, unless
the stored ones are larger."""
TASKS = 200_000
"""Most chunks of an array: their number, unlike the bytes on disk, is only declared."""
TASK = 2**26
"""Stored chunks are read together up to this size in memory [bytes]."""

_CODECS = frozenset(
    [
        "blosc",
        "bz2",
        "lz4",
        "lzma",
        "zlib",
        "gzip",
        "zstd",
        "snappy",
        "shuffle",
        "delta",
        "fixedscaleoffset",
        "quantize",
        "packbits",
        "astype",
        "crc32",
        "crc32c",
        "adler32",
        "fletcher32",
        "jenkins_lookup3",
        "bitround",
        "vlen-utf8",
        "vlen-bytes",
        "bytes",
        "transpose",
        "sharding_indexed",
        "endian",
    ]
)
"""Codecs that only move bytes: everything but those of Python objects."""
_SPACE = ("x", "y", "lat", "lon", "latitude", "longitude", "X", "Y")
_STACKED = ("band", "bands", "channel", "index", "feature", "variable")


def open_raw(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store: undecoded values, decoded times, dask arrays.

    Parameters
    ----------
    path
        A NetCDF file, a folder with a Zarr store (format 2 or 3), or the URL of a Zarr store.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is neither, is too large, or has a codec that is not taken.
    """
    place = os.fspath(path)
    scheme, remote, _ = place.partition("://")
    if remote:
        return _zarr(_checked_url(place, scheme))
    local = Path(place)
    if local.is_dir():
        return _zarr(place)
    if not local.is_file():
        raise FileNotFoundError(f"there is no file {place}; check the path")
    return _netcdf(place)


def _checked_url(url: str, scheme: str) -> str:
    if scheme not in SCHEMES:
        raise ValueError(f"{url} cannot be read; give a local path or a URL of {list(SCHEMES)}")
    return url


def _netcdf(path: str) -> xr.Dataset:
    try:
        raw = xr.open_dataset(path, mask_and_scale=False, decode_coords="all")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read as NetCDF ({str(error).splitlines()[0][:100]}); give a .nc "
            "file or a Zarr store"
        ) from None
    for name, variable in raw.variables.items():
        _check_size(str(name), variable.sizes)
        _check_chunk(str(name), variable.encoding.get("chunksizes") or (), variable.dtype.itemsize)
    _check_count(path, len(raw.variables))
    return raw.chunk({name: _wanted(str(name)) for name in raw.sizes})


def _zarr(url: str) -> xr.Dataset:
    try:
        group = zarr.open_group(url, mode="r")
        arrays = dict(group.arrays())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(
            f"{url} is no Zarr group ({reason}); give the folder or URL of the store itself"
        ) from None
    # the same metadata are checked here and used below: a store may hold them twice
    consolidated = group.metadata.consolidated_metadata is not None
    _check_count(url, len(arrays))
    for name, array in arrays.items():
        _check_codecs(name, array.metadata.to_dict())
        _check_chunk(name, array.shards or array.chunks, array.dtype.itemsize)
    try:
        raw = xr.open_zarr(
            group.store, group=group.path or None, consolidated=consolidated,
            mask_and_scale=False, decode_coords="all", chunks=None,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(
            f"{url} cannot be opened ({reason}); its coordinates may be damaged, get it again"
        ) from None
    for name, variable in raw.variables.items():
        _check_size(str(name), variable.sizes)
    for name, variable in raw.data_vars.items():
        stored = variable.encoding.get("chunks") or variable.shape
        sizes = {str(dim): n for dim, n in zip(variable.dims, stored, strict=True)}
        joined = _joined(sizes, variable.sizes, variable.dtype.itemsize)
        count = math.prod(-(-variable.sizes[dim] // max(n, 1)) for dim, n in joined.items())
        if count > TASKS:
            raise ValueError(
                f"{name!r} has {count:,} chunks (at most {TASKS:,}); write it in larger ones"
            )
        raw[name] = variable.chunk(joined)
    return raw


def _wanted(dim: str) -> int:
    """Give the chunk along a dimension: of bands and the like each its own."""
    return 1 if dim in _STACKED else DATES if "time" in dim or dim == "t" else EDGE


def _joined(stored: dict[str, int], sizes: Mapping[Any, int], itemsize: int) -> dict[str, int]:
    """Join small stored chunks, in space first, so that a task is worth its while."""
    found = dict(stored)
    for dim in sorted(stored, key=lambda dim: dim not in _SPACE):
        while (
            2 * found[dim] <= _wanted(dim)
            and found[dim] < sizes[dim]
            and 2 * math.prod(found.values()) * itemsize <= TASK
        ):
            found[dim] *= 2
    return found


def _check_codecs(name: str, metadata: Mapping[str, Any]) -> None:
    found: list[Any] = [metadata.get("compressor"), *(metadata.get("filters") or ())]
    found += metadata.get("codecs") or ()
    while found:
        codec = found.pop()
        if not isinstance(codec, Mapping):
            codec = codec.get_config() if hasattr(codec, "get_config") else {}
        word = str(codec.get("id") or codec.get("name") or "bytes")
        if word.removeprefix("numcodecs.").lower() not in _CODECS:
            raise ValueError(
                f"the array {name!r} is stored with the codec {word!r}, which is not taken because "
                "it may run code; write the store without it"
            )
        inner = codec.get("configuration") or {}
        found += [*(inner.get("codecs") or ()), *(inner.get("index_codecs") or ())]


def _check_count(place: str, count: int) -> None:
    if count > VARIABLES:
        raise ValueError(f"{place} has {count:,} variables; at most {VARIABLES:,} are read")


def _check_size(name: str, sizes: Mapping[Any, int]) -> None:
    for dim, size in sizes.items():
        most = LARGEST if dim in _SPACE else LONGEST
        if size > most:
            raise ValueError(
                f"{name!r} has {size:,} steps along {dim!r} (at most {most:,}); cut the file first"
            )


def _check_chunk(name: str, chunk: tuple[int, ...], itemsize: int) -> None:
    size = math.prod(chunk) * itemsize
    if size > CHUNK:
        raise ValueError(
            f"one chunk of {name!r} takes {size / 2**30:.1f} GiB (at most {CHUNK / 2**30:.0f}); "
            "write the file in smaller chunks"
        )
