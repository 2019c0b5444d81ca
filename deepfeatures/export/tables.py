"""Selections as long tables, a row per date, channel and pixel that has a value."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
import xarray as xr

from deepfeatures import contract
from deepfeatures.export.blocks import arrays, cut


def csv(ds: xr.Dataset, path: Path) -> None:
    """Write a text table after a header of ``#`` lines."""
    pixels, rows = np.empty((0, 0), object), slice(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        for key, value in {**ds.attrs, "crs": str(contract.crs(ds))}.items():
            file.write(f"# {key}: {' '.join(str(value).split())}\n")
        file.write("time,channel,x,y,lon,lat,geometry,value,valid\n")
        for array in arrays(ds):
            for t, y in cut(array, 16):  # text takes more room than numbers
                if y != rows:
                    pixels, rows = _pixels(ds.isel(y=y)), y
                usable = ds["valid"].isel(time=t, y=y).values.astype(str)
                for text in _rows(array.isel(time=t, y=y), pixels, usable):
                    file.write(text)


def _pixels(ds: xr.Dataset) -> np.ndarray:
    """Give the columns that say where a pixel is, ready to write: text (y, x)."""
    x, y, lon, lat = _places(ds)
    columns = zip(x.flat, y.flat, lon.flat, lat.flat, strict=True)
    texts = [f"{a:.12g},{b:.12g},{c:.7f},{d:.7f},POINT ({c:.7f} {d:.7f})" for a, b, c, d in columns]
    return np.array(texts, object).reshape(x.shape)


def _rows(block: xr.DataArray, pixels: np.ndarray, usable: np.ndarray) -> Iterator[str]:
    """Give the lines of a block, one text per date and channel."""
    values = block.values
    times = np.datetime_as_string(block["time"].values, unit="s")
    channels = block[block.dims[1]].values
    for (t, time), (c, channel) in itertools.product(enumerate(times), enumerate(channels)):
        there = np.isfinite(values[t, c])
        # equal numbers are turned into text once: stored values are whole steps, so many are equal
        numbers, which = np.unique(values[t, c][there], return_inverse=True)
        texts = numbers.astype(str).astype(object)[which]
        columns = zip(pixels[there], texts, usable[t][there], strict=True)
        yield "".join(
            [f"{time},{channel},{pixel},{text},{mask}\n" for pixel, text, mask in columns]
        )


def _places(ds: xr.Dataset) -> tuple[np.ndarray, ...]:
    """Give x, y [m], longitude and latitude [degree] of each pixel centre, (y, x) each."""
    x, y = np.meshgrid(ds["x"].values, ds["y"].values)
    to_lonlat = pyproj.Transformer.from_crs(contract.crs(ds).to_wkt(), "EPSG:4326", always_xy=True)
    return x, y, *to_lonlat.transform(x, y)


SCHEMA = pa.schema(
    {
        "time": pa.timestamp("ms"),
        "channel": pa.string(),
        "x": pa.float64(),
        "y": pa.float64(),
        "lon": pa.float64(),
        "lat": pa.float64(),
        "geometry": pa.binary(),
        "value": pa.float32(),
        "valid": pa.uint8(),
    }
)
"""Columns of the Parquet table."""

_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
}
"""What GeoParquet 1.1 asks for; without a CRS it is longitude and latitude (OGC:CRS84)."""


def parquet(ds: xr.Dataset, path: Path) -> None:
    """Write a Parquet table, a row group per piece."""
    words = {**ds.attrs, "crs": str(contract.crs(ds)), "geo": json.dumps(_GEO)}
    schema = SCHEMA.with_metadata({str(key): str(value) for key, value in words.items()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for array in arrays(ds):
            for t, y in cut(array, 64):  # a row takes about ninety bytes, a value four
                block, usable = array.isel(time=t, y=y), ds["valid"].isel(time=t, y=y)
                writer.write_table(_table(block, usable.values, schema))


def _table(block: xr.DataArray, usable: np.ndarray, schema: pa.Schema) -> pa.Table:
    values = block.values.astype(np.float32)
    x, y, lon, lat = _places(block.to_dataset(name="block"))
    points = np.asarray(shapely.to_wkb(shapely.points(lon, lat)))
    t, c, row, column = np.nonzero(np.isfinite(values))
    columns = [
        block["time"].values.astype("datetime64[ms]")[t],
        pa.DictionaryArray.from_arrays(c, pa.array(block[block.dims[1]].values, pa.string())).cast(
            pa.string()
        ),
        *(place[row, column] for place in (x, y, lon, lat, points)),
        values[t, c, row, column],
        usable[t, row, column].astype(np.uint8),
    ]
    cells = [pa.array(one, kind) for one, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(cells, schema=schema)
