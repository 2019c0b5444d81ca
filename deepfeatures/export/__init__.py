"""Selections of a cube as files: Zarr, NetCDF, GeoTIFF, CSV, Parquet, with their provenance.

Values are written decoded (float32), so that every reader sees the same numbers that the store
gives; only the area, the period and the channels asked for are read, piece by piece.

* ``zarr``: a Zarr v3 group in an uncompressed zip; open it through ``zarr.storage.ZipStore``.
* ``netcdf``: NetCDF-4, CF conventions with the grid mapping ``spatial_ref``.
* ``geotiff``: one cloud-optimised GeoTIFF (COG) with a band per date and channel, described as
  ``2021-05-03 B04``; of more than `MAX_TIFF_BANDS` bands a zip with one COG per date.
* ``geotiff-dates``: always a zip with one COG per date, and ``provenance.json``.
* ``csv``: a row per date, channel and pixel that has a value, after a header of ``#`` lines;
  ``pandas.read_csv(path, comment="#")`` reads it.
* ``parquet``: the same table as GeoParquet 1.1, with the pixel centres as points.
* ``research``: of a feature cube, ``features (feature, time, y, x)`` as the research code writes
  it, NaN where ``valid`` is not 1, in a zip like that of ``zarr``.

The others hold the mask ``valid`` beside the values: as a variable, as a band per date, as a
column.
"""

from __future__ import annotations

from deepfeatures.export.files import (
    check_size,
    estimate,
    kept,
    key,
    save,
    write,
)
from deepfeatures.export.formats import FORMATS, Format, content_type
from deepfeatures.export.keeping import find, keep, sweep
from deepfeatures.export.order import Order, ordered, version_of
from deepfeatures.export.selection import select

__all__ = [
    "FORMATS",
    "Format",
    "Order",
    "check_size",
    "content_type",
    "estimate",
    "find",
    "keep",
    "kept",
    "key",
    "ordered",
    "save",
    "select",
    "sweep",
    "version_of",
    "write",
]
