"""Shape of a store: chunks, shards and stored types."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import xarray as xr
from zarr.codecs import BloscCodec

DATES = 16
"""Dates in an inner chunk."""
EDGE = 64
"""Edge of an inner chunk [px]."""
CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
"""Compression of every array on the grid but indices."""
QUICK = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")
"""Compression of indices: seven times as fast for a tenth more bytes, as they can be made anew."""
TOGETHER = 8
"""Indices that are written at once: each call has its price."""
FACTORS = ("scale_factor", "add_offset")
"""Attributes that decode a stored integer: value = integer * scale_factor + add_offset."""
CODED = ("si_scale", "si_offset")
"""Coordinates (index,) that do so for each index of an SI cube."""

_FILLED = {"int8": -128, "int16": -32768, "uint16": 0}
_PACKED: dict[str, dict[str, Any]] = {
    # An offset keeps slightly negative reflectance; stored = digital number + 1000, 0 = no value.
    "reflectance": {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.1},
    "backscatter": {"dtype": "int16", "scale_factor": 2e-3},
    # the offset keeps an error of zero apart from no value
    "reconstruction_error": {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -1e-4},
    "truth": {"dtype": "int16", "scale_factor": 5e-3},
}


def edge(shape: tuple[int, int], dates: int = 0) -> int:
    """Give the edge of a shard [px].

    Small cubes get small shards, so that several workers can write them and a killed writer
    loses little; large ones get few files, unless their series is so long that a tile of all
    its dates would be heavy.

    Parameters
    ----------
    shape
        Rows and columns of the raster.
    dates
        Acquisitions of the cube.

    Returns
    -------
    int
        64 from 401 dates on, 128 up to 512 px or from 101 dates on, else 256: whoever makes a
        tile holds about as much whatever the length of the series.
    """
    if dates > 400:
        return 64
    return 128 if max(shape) <= 512 or dates > 100 else 256


def together(name: str, target: Any) -> int:
    """Give the number of channels of an array that are written at once."""
    if name == "si":
        return TOGETHER
    return int(target.chunks[1]) if target.ndim == 4 else 1


def square(template: xr.Dataset) -> int:
    """Give the edge of the shards of a cube [px], the same for all its variables."""
    return edge((template.sizes["y"], template.sizes["x"]), template.sizes["time"])


def chunked(
    shape: tuple[int, ...], inner: tuple[int, ...], side: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give chunks and shards: shards hold the full time and a square of whole chunks.

    Parameters
    ----------
    shape
        Shape of the array (..., y, x), the first dimension being time.
    inner
        Wanted inner chunk.
    side
        Edge of a shard [px].
    """
    *lead, _, _ = shape
    chunks = tuple(min(i, n) for i, n in zip(inner[:-2], lead, strict=True)) + (EDGE, EDGE)
    full = tuple(
        -(-n // chunk) * chunk if axis == 0 else chunk
        for axis, (n, chunk) in enumerate(zip(lead, chunks[: len(lead)], strict=True))
    )
    return chunks, (*full, side, side)


def version(template: xr.Dataset, plan: str) -> str:
    """Give a checksum of everything that determines the content of a store."""
    sizes = {str(name): size for name, size in template.sizes.items()}
    words = json.dumps(
        [plan, sizes, square(template), template.attrs, sorted(map(str, template.variables))],
        sort_keys=True, default=str,
    )  # fmt: skip
    digest = hashlib.sha256(words.encode())
    for name in template.coords:
        digest.update(str(template[name].values.tolist()).encode())
    return digest.hexdigest()


def encoding(name: str, array: xr.Variable, side: int) -> dict[str, Any]:
    """Give the encoding of a variable on the grid: chunks, shards, compression, stored type.

    Parameters
    ----------
    name
        Name of the variable.
    array
        The variable (..., y, x); its values are not used.
    side
        Edge of a shard [px].
    """
    features = name == "features"
    inner = {
        2: (EDGE, EDGE),
        3: (DATES, EDGE, EDGE),
        4: (DATES, array.shape[1] if features else 1, EDGE, EDGE),
    }[array.ndim]
    chunks, shards = chunked(array.shape, inner, side)
    codec = QUICK if name == "si" else CODEC
    coding: dict[str, Any] = {"chunks": chunks, "shards": shards, "compressors": (codec,)}
    packed = dict(_PACKED.get(name, {}))
    if name.startswith("truth_") and array.ndim == 3 and array.dtype.kind == "f":
        packed = dict(_PACKED["truth"])
    if name == "si" and array.dtype == "int16":
        # Each index has factors of its own, which CF has no words for: see `CODED`.
        coding |= {"_FillValue": _FILLED["int16"], "fill_value": _FILLED["int16"]}
    if features and "scale_factor" in array.encoding:
        packed = {"dtype": "int8", "scale_factor": float(array.encoding["scale_factor"])}
    if name == "layer" and array.dtype == "uint8":
        coding |= {"_FillValue": 0, "fill_value": 0}  # codes of classes start at 1
    if packed:
        # For CF readers the first, for chunks that nobody wrote the second.
        packed["_FillValue"] = packed["fill_value"] = _FILLED[packed["dtype"]]
    return coding | packed
