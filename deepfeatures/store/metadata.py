"""The metadata of an empty store, made in memory and put in place in one go."""

from __future__ import annotations

from typing import Any

import dask.array
import xarray as xr
import zarr
from zarr.core.buffer import Buffer

from deepfeatures.store import layout, overviews, places


def write(template: xr.Dataset, url: str) -> None:
    """Write an empty store: all metadata, coordinates and small variables of a cube."""
    blank = template.copy()
    encoding: dict[str, dict[str, Any]] = {}
    side = layout.square(template)
    for name, array in template.variables.items():
        if {"y", "x"} <= set(array.dims):
            coding = layout.encoding(str(name), array, side)
            # Integers that come already coded are described by the values that they stand for.
            kind = "float32" if "scale_factor" in coding else array.dtype
            zeros = dask.array.zeros(array.shape, dtype=kind, chunks=coding["shards"])
            blank[name] = (array.dims, zeros, dict(array.attrs))
            encoding[str(name)] = coding
        elif array.dtype.kind == "U":
            # Text of fixed length has no Zarr v3 specification, text of variable length has.
            blank[name] = (array.dims, array.values.astype(object), dict(array.attrs))
        blank[name].encoding = {}
        if name in template.data_vars and {"y", "x"} <= set(array.dims):
            blank[name].attrs["grid_mapping"] = "spatial_ref"
    for name in ("time", "time_s1", "time_lst", "time_meteo"):
        if name in blank.coords:
            # items tell milliseconds, which nobody needs and the whole seconds stored can not hold
            blank[name] = blank[name].dt.floor("s")
            encoding[name] = {"dtype": "int64", "units": "seconds since 1970-01-01"}
    held: dict[str, Buffer] = {}
    memory = zarr.storage.MemoryStore(held)
    blank.to_zarr(
        memory, mode="w", compute=False, encoding=encoding, zarr_format=3, consolidated=False
    )
    overviews.create(zarr.open_group(memory, mode="r+", zarr_format=3))
    places.fill(url, {key: content.to_bytes() for key, content in held.items()})
