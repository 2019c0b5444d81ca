"""What a feature cube is, before a number of it is made: extent, coordinates, edges, provenance.

Everything here follows from the source cube and the predictor's card; `deepfeatures.infer` makes
the numbers.
"""

from __future__ import annotations

import json
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import __version__, contract
from deepfeatures.bands import attributes
from deepfeatures.clouds import USABLE
from deepfeatures.predictor import Predictor
from deepfeatures.tiles import Tile

STEP = 64, 256
"""Dates and rows of the source's mask that are looked at together."""

ERROR = "reconstruction_error"
"""Variable of how well the features tell the bands they were made of."""


def extent(
    ds: xr.Dataset, window: tuple[int, int, int, int] | None, mask: NDArray[np.bool_] | None
) -> tuple[int, int, int, int]:
    """Give the rows and columns ``(y0, y1, x0, x1)`` of a cube that are embedded.

    Parameters
    ----------
    ds
        Source cube.
    window
        Rows and columns that are asked for; all by default.
    mask
        ``(y, x)`` of the window: the pixels that are asked for; all by default.

    Raises
    ------
    ValueError
        If the window is empty or reaches beyond the cube, or the mask has another shape.
    """
    rows, columns = ds.sizes["y"], ds.sizes["x"]
    y0, y1, x0, x1 = window or (0, rows, 0, columns)
    if not (0 <= y0 < y1 <= rows and 0 <= x0 < x1 <= columns):
        raise ValueError(
            f"the window {window} is empty or outside the cube of {rows} x {columns} px"
        )
    if mask is not None and mask.shape != (y1 - y0, x1 - x0):
        raise ValueError(f"the mask is {mask.shape}, the window {(y1 - y0, x1 - x0)} px")
    return int(y0), int(y1), int(x0), int(x1)


def interval(ds: xr.Dataset, period: tuple[str, str] | None) -> slice:
    """Give the dates of a cube that are embedded, as their places in it.

    Parameters
    ----------
    ds
        Source cube.
    period
        First and last day (ISO) that are asked for; all by default.

    Raises
    ------
    ValueError
        If no date of the cube lies in the period.
    """
    when = ds["time"].values.astype("datetime64[D]")
    if period is None:
        return slice(0, when.size)
    start, end = (np.datetime64(str(day)[:10], "D") for day in period)
    first, last = np.searchsorted(when, start), np.searchsorted(when, end, side="right")
    if first >= last:
        raise ValueError(
            f"no date lies from {start} to {end}; the cube has {when[0]} to {when[-1]}"
        )
    return slice(int(first), int(last))


def template(
    predictor: Predictor,
    ds: xr.Dataset,
    *,
    window: tuple[int, int, int, int],
    times: slice,
    mask: NDArray[np.bool_] | None = None,
    error: bool = False,
) -> xr.Dataset:
    """Give the feature cube to be, lazy and empty, with coordinates and provenance.

    Parameters
    ----------
    predictor
        Predictor that is to make the features.
    ds
        Source cube.
    window, times
        Part of the source cube that is embedded: see `extent` and `interval`.
    mask
        ``(y, x)`` of the window: the pixels that are asked for; it is told in ``coverage``.
    error
        Whether `ERROR` stands beside the features.

    Returns
    -------
    xarray.Dataset
        Under the contract; all but ``valid_share``, which asks for the mask of the source.
    """
    y0, y1, x0, x1 = window
    where = ds[["time", "y", "x"]].isel(time=times, y=slice(y0, y1), x=slice(x0, x1))
    count, rows, columns = (where.sizes[name] for name in ("time", "y", "x"))
    names = predictor.features
    cut = dask.array.zeros((count, len(names), rows, columns), dtype=np.float32,
                           chunks=(16, -1, 64, 64))  # fmt: skip
    seen = dask.array.zeros((count, rows, columns), dtype=np.uint8, chunks=(16, 64, 64))
    features = xr.Variable(("time", "feature", "y", "x"), cut, attributes("features"),
                           {"scale_factor": predictor.scale})  # fmt: skip
    flags = {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
    valid = xr.Variable(("time", "y", "x"), seen, attributes("valid") | flags)
    made = xr.Dataset(
        {"features": features, "valid": valid, **_edges(predictor, ds, times, window)},
        coords={"time": where["time"], "feature": names, "y": where["y"], "x": where["x"],
                "spatial_ref": ds["spatial_ref"]},
        attrs=_provenance(predictor, ds, where["time"].values),
    )  # fmt: skip
    if error:
        zeros = dask.array.zeros((count, rows, columns), dtype=np.float32, chunks=(16, 64, 64))
        made[ERROR] = (("time", "y", "x"), zeros, {
            "units": "1",
            "long_name": "Mean absolute error of the bands that the features tell",
            "comment": "mean over the bands that went in of |band - decoded band|, of the "
            "quantised features; no value where not usable",
        })  # fmt: skip
    if mask is not None:
        made.attrs["coverage"] = f"{np.count_nonzero(mask)} of {mask.size} pixels: area of interest"
    return contract.check(made)


def _edges(
    predictor: Predictor, ds: xr.Dataset, times: slice, window: tuple[int, int, int, int]
) -> dict[str, xr.Variable]:
    """Flag dates, rows and columns of which a part of the neighbourhood lies outside the source."""
    y0, y1, x0, x1 = window
    each = {
        "time": (times, predictor.context, "neighbouring dates"),
        "y": (slice(y0, y1), predictor.halo, "rows"),
        "x": (slice(x0, x1), predictor.halo, "columns"),
    }
    found = {}
    for dim, (part, reach, what) in each.items():
        place = np.arange(ds.sizes[dim])[part]
        near = (place < reach) | (place >= ds.sizes[dim] - reach)
        found[f"edge_{dim}"] = xr.Variable((dim,), near.astype(np.uint8), {
            "units": "1",
            "long_name": f"Neighbourhood in {dim} reaches beyond the source cube",
            "flag_values": [0, 1],
            "flag_meanings": "complete padded",
            "comment": f"of the {reach} {what} on each side some are missing where this is 1; a "
            "pixel and date has its whole neighbourhood where edge_time, edge_y and edge_x are 0",
        })  # fmt: skip
    return found


def shares(
    ds: xr.Dataset,
    times: slice,
    window: tuple[int, int, int, int],
    mask: NDArray[np.bool_] | None,
) -> xr.Variable:
    """Give the share of the pixels of window or mask that the source tells usable, per date.

    The source's mask is read in steps of `STEP`, so that memory is bounded whatever the cube.
    """
    (y0, y1, x0, x1), (dates, rows) = window, STEP
    seen = ds["valid"].isel(time=times, x=slice(x0, x1))
    count = np.zeros(seen.sizes["time"], np.int64)
    for t in range(0, count.size, dates):
        for y in range(y0, y1, rows):
            below = min(y + rows, y1)
            block = seen.isel(time=slice(t, t + dates), y=slice(y, below)).values == USABLE
            if mask is not None:
                block &= mask[y - y0 : below - y0]
            count[t : t + dates] += block.sum(axis=(1, 2))
    pixels = (y1 - y0) * (x1 - x0) if mask is None else int(np.count_nonzero(mask))
    return xr.Variable("time", (count / max(pixels, 1)).astype(np.float32), {
        "units": "1",
        "long_name": "Share of usable pixels",
        "comment": "pixels that the source cube marks as usable, of those of the embedded area",
    })  # fmt: skip


def _provenance(predictor: Predictor, ds: xr.Dataset, times: NDArray[Any]) -> dict[str, str]:
    """Say where the features come from, with the ``geoemb:`` convention for embeddings.

    Source: geo-embeddings/embeddings-zarr-convention, 61c12cc5-0e28-4056-999a-480cf3fb7e4c.
    """
    kept = ("summary", "source", "source_items", "licence", "attribution", "simulated")
    attrs = {name: ds.attrs[name] for name in kept if name in ds.attrs}
    title = str(ds.attrs.get("title", "a cube"))
    name = str(ds.attrs.get("cube_name", title))
    known = json.loads(ds.attrs.get("processing") or "[]")
    step = f"deepfeatures {__version__} embed: model {predictor.name} {predictor.checksum[:12]}"
    quantisation = {
        "method": "linear: value = integer x scale, -128 = no value",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": {"type": "scalar", "value": predictor.scale},
    }
    return attrs | {
        "title": f"Features of {title}",
        "processing": json.dumps([*known, step]),
        "time_coverage_start": str(times[0])[:10],
        "time_coverage_end": str(times[-1])[:10],
        "model": predictor.name,
        "model_checksum": predictor.checksum,
        "model_channels": json.dumps(predictor.channels),
        "quantisation": json.dumps(quantisation),
        "source_cube": name,
        "geoemb:type": "pixel",
        "geoemb:dimensions": str(len(predictor.features)),
        "geoemb:model": f"{predictor.name}#sha256={predictor.checksum}",
        "geoemb:source_data": json.dumps([name]),
        "geoemb:data_type": "int8",
        "geoemb:gsd": f"{abs(float(ds['x'][1] - ds['x'][0])) if ds.sizes['x'] > 1 else 10.0:g}",
        "geoemb:quantization": json.dumps(quantisation),
    }


def blank(target: xr.Dataset, tile: Tile) -> xr.Dataset:
    """Give an empty block of the feature cube in memory."""
    rows, columns = tile.core
    block = target.isel(y=rows, x=columns)
    features, valid = block["features"], block["valid"]
    made = block.assign(
        features=(features.dims, np.full(features.shape, np.nan, np.float32), features.attrs),
        valid=(valid.dims, np.zeros(valid.shape, np.uint8), valid.attrs),
    )
    if ERROR in block:
        made[ERROR] = (valid.dims, np.full(valid.shape, np.nan, np.float32), block[ERROR].attrs)
    return made
