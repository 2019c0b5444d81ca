"""Selections of a cube as files: Zarr (zip), NetCDF, GeoTIFF, CSV, with their provenance.

Values are written decoded (float32), so that every reader sees the same numbers that the store
gives; only the area, the period and the channels asked for are read, piece by piece.

* ``zarr``: a Zarr v3 group in an uncompressed zip; open it through ``zarr.storage.ZipStore``.
* ``netcdf``: NetCDF-4, CF conventions with the grid mapping ``spatial_ref``.
* ``geotiff``: one cloud-optimised GeoTIFF (COG) with a band per date and channel, described as
  ``2021-05-03 B04``; of more than `MAX_TIFF_BANDS` bands a zip with one COG per date.
* ``csv``: a row per date, channel and pixel that has a value, after a header of ``#`` lines;
  ``pandas.read_csv(path, comment="#")`` reads it.

* ``research``: of a feature cube, ``features (feature, time, y, x)`` as the research code writes
  it, NaN where ``valid`` is not 1, in a zip like that of ``zarr``.

The others hold the mask ``valid`` beside the values: as a variable, as a band per date, as a
column.
"""

from __future__ import annotations

from deepfeatures.export.files import (
    FORMATS,
    PIECE,
    Format,
    check_size,
    estimate,
    stream,
    write,
)
from deepfeatures.export.selection import select

__all__ = ["FORMATS", "PIECE", "Format", "check_size", "estimate", "select", "stream", "write"]
