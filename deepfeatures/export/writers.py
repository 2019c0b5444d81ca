"""Writers of the formats: a selection to a file, block by block."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import rasterio.shutil
import rasterio.windows
import xarray as xr

from deepfeatures import contract
from deepfeatures.export import tables
from deepfeatures.export.blocks import EDGE, arrays, cut

MAX_TIFF_BANDS = 120
"""Bands up to which a GeoTIFF is one file."""
_CHUNK = (16, 256, 256)
_CACHE = 64 << 20
"""Bytes of blocks that GDAL holds; its own choice grows with the machine."""


def plain(ds: xr.Dataset) -> xr.Dataset:
    """Strip what a cube carries from its store, and make attributes that any format can hold."""
    ds = ds.drop_encoding()
    crs = pyproj.CRS.from_wkt(contract.crs(ds).to_wkt())
    mapping = {key: value for key, value in crs.to_cf().items() if value is not None}
    mapping["spatial_ref"] = mapping["crs_wkt"]
    mapping["GeoTransform"] = " ".join(f"{v!r}" for v in contract.geobox(ds).affine.to_gdal())
    ds = ds.assign_coords(spatial_ref=xr.Variable((), np.int32(0), mapping))
    for axis in ("x", "y"):
        ds[axis].attrs = {
            "units": "m",
            "long_name": f"{axis} of the pixel centre",
            "standard_name": f"projection_{axis}_coordinate",
            "axis": axis.upper(),
        }
    texts = {name: array for name, array in ds.coords.items() if array.dtype.kind in "UT"}
    # text of variable length is what NetCDF and Zarr v3 both know
    ds = ds.assign_coords({name: array.astype(object) for name, array in texts.items()})
    for array in ds.variables.values():
        array.attrs = {
            str(key): _attribute(value)
            for key, value in array.attrs.items()
            if key not in ("grid_mapping", "_FillValue", "scale_factor", "add_offset")
        }
        if {"y", "x"} <= set(array.dims):
            array.attrs["grid_mapping"] = "spatial_ref"
    attrs = {str(key): _attribute(value) for key, value in ds.attrs.items()}
    return ds.assign_attrs({**attrs, "Conventions": "CF-1.11"})


def _attribute(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, dict):
        return json.dumps(value)
    return value


def _chunks(array: xr.DataArray) -> tuple[int, ...]:
    most = {"time": _CHUNK[0], "y": _CHUNK[1], "x": _CHUNK[2]}
    if array.dims[1] == "feature":
        most["feature"] = array.sizes["feature"]
    return tuple(min(size, most.get(str(dim), 1)) for dim, size in array.sizes.items())


def _zarr(ds: xr.Dataset, path: Path) -> None:
    _zipped(ds, path, {name: _chunks(ds[name]) for name in ds.data_vars})


def _research(ds: xr.Dataset, path: Path) -> None:
    features = ds["features"]
    count, _, rows, columns = _chunks(features)[1], *features.shape[1:]
    features = features.where(ds["valid"] == 1).astype(np.float32).assign_attrs(features.attrs)
    ds = ds.drop_vars("valid").assign(features=features.transpose("feature", "time", "y", "x"))
    _zipped(ds, path, {"features": (count, 1, rows, columns)})


def _zipped(ds: xr.Dataset, path: Path, chunks: dict[Any, tuple[int, ...]]) -> None:
    """Write variables in chunks to a Zarr v3 group in an uncompressed zip."""
    folder = path.with_suffix(".folder")
    ds = ds.assign(
        {
            name: ds[name].chunk(dict(zip(ds[name].dims, chunks[name], strict=True)))
            for name in chunks
        }
    )
    encoding = {name: {"chunks": chunks[name]} for name in chunks}
    # one chunk after the other: when one fails, no other is still being written
    ds.to_zarr(
        folder, mode="w", zarr_format=3, consolidated=False, encoding=encoding, compute=False
    ).compute(scheduler="synchronous")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(item for item in folder.rglob("*") if item.is_file()):
            _store(archive, file, file.relative_to(folder).as_posix())


def _netcdf(ds: xr.Dataset, path: Path) -> None:
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": _chunks(ds[name])}
        for name in ds.data_vars
    }
    for array in arrays(ds):
        encoding[array.name]["_FillValue"] = np.float32(np.nan)
    ds.to_netcdf(path, engine="netcdf4", format="NETCDF4", encoding=encoding)


def tiff_bands(ds: xr.Dataset) -> int:
    """Count the bands of a GeoTIFF with all dates, channels and masks."""
    return (1 + sum(array.shape[1] for array in arrays(ds))) * ds.sizes["time"]


def _geotiff(ds: xr.Dataset, path: Path) -> None:
    if tiff_bands(ds) <= MAX_TIFF_BANDS:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE):
            _cogs(ds, [path])
    else:
        _dated(ds, path)


def _dated(ds: xr.Dataset, path: Path) -> None:
    """Write a zip with one COG per date."""
    days = _days(ds)
    dates = max(array.chunksizes["time"][0] if array.chunks else 1 for array in arrays(ds))
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE),
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
    ):
        if origin := ds.attrs.get("provenance"):
            archive.writestr(zipfile.ZipInfo("provenance.json"), str(origin))
        for first in range(0, len(days), dates):  # as many as are decoded together anyway
            part = slice(first, min(first + dates, len(days)))
            files = [path.with_name(f"{day}.tif") for day in days[part]]
            _cogs(ds.isel(time=part), files)
            for file in files:
                _store(archive, file, file.name)


def _store(archive: zipfile.ZipFile, file: Path, name: str) -> None:
    """Move a file into a zip, without the clock, so that the same data give the same bytes."""
    with (
        file.open("rb") as source,
        archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target,
    ):
        shutil.copyfileobj(source, target)
    file.unlink()


def _days(ds: xr.Dataset) -> list[str]:
    return [str(day) for day in np.datetime_as_string(ds["time"].values, unit="D")]


def _cogs(ds: xr.Dataset, paths: list[Path]) -> None:
    """Write all dates to one COG, or each to its own; bands are sorted by date, then channel."""
    box = contract.geobox(ds)
    layers = [*arrays(ds), ds["valid"].expand_dims(mask=["valid"], axis=1)]
    labels = [str(label) for array in layers for label in array[array.dims[1]].values]
    bands = [f"{day} {label}" for day in _days(ds) for label in labels]
    each = len(bands) // len(paths)
    plain = [path.with_suffix(".plain.tif") for path in paths]
    tags = {str(key): str(value) for key, value in ds.attrs.items()}
    with ExitStack() as stack:
        targets = [
            stack.enter_context(rasterio.open(
                file, "w", driver="GTiff", dtype="float32", nodata=np.nan, tiled=True,
                height=box.shape[0], width=box.shape[1], count=each, interleave="band",
                crs=contract.crs(ds).to_wkt(), transform=box.affine, bigtiff="IF_SAFER",
                blockxsize=EDGE, blockysize=EDGE,
            ))
            for file in plain
        ]  # fmt: skip
        for number, band in enumerate(bands):
            target, at = targets[number // each], number % each + 1
            target.set_band_description(at, band)
            target.update_tags(
                at, **dict(zip(("date", "channel"), band.split(" ", 1), strict=True))
            )
        for target in targets:
            target.update_tags(**tags)
        _fill(layers, targets, each)
    for file, path in zip(plain, paths, strict=True):
        rasterio.shutil.copy(
            file, path, driver="COG", compress="DEFLATE", predictor="YES",
            blocksize=EDGE, overview_resampling="NEAREST", bigtiff="IF_SAFER",
        )  # fmt: skip
        file.unlink()


def _fill(layers: list[xr.DataArray], targets: list[Any], each: int) -> None:
    """Write (time, channel, y, x) arrays, counting bands through all targets, block by block."""
    per_date = sum(array.shape[1] for array in layers)
    first = 0
    for array in layers:
        for t, y in cut(array):
            values = array.isel(time=t, y=y).values.astype(np.float32)
            window = rasterio.windows.Window(0, y.start, values.shape[-1], values.shape[-2])
            for at, stack in enumerate(values, t.start):
                number = at * per_date + first
                bands = [number % each + 1 + c for c in range(len(stack))]
                targets[number // each].write(stack, bands, window=window)
        first += array.shape[1]


WRITERS: dict[str, Callable[[xr.Dataset, Path], None]] = {
    "zarr": _zarr,
    "netcdf": _netcdf,
    "geotiff": _geotiff,
    "geotiff-dates": _dated,
    "csv": tables.csv,
    "parquet": tables.parquet,
    "research": _research,
}
"""Format -> the function that writes a plain selection to a file."""
