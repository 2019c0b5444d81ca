"""Where the pixels of a foreign file are: axes, pixel centres, CRS, hemisphere.

What comes out has ``x`` rising and ``y`` falling in equal steps of metres at pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import pyproj
import xarray as xr
from odc.geo.geobox import GeoBox

from deepfeatures import grid
from deepfeatures.foreign.plain import Plain, missing

SOUTH = 10_000_000
"""False northing of the southern UTM zones [m]; the northern ones have none."""
LARGEST_WARP = 4 * 2**30
"""Most bytes of a file in degrees, which is put on a UTM grid in memory."""

_AXES = {
    "x": ("x", "lon", "longitude", "X", "easting", "xc"),
    "y": ("y", "lat", "latitude", "Y", "northing", "yc"),
}
_LOOSE = 0.01
"""Steps may differ by this share of a pixel (coordinates in float32) before it is an error."""


def placed(plain: Plain) -> Plain:
    """Put a plain dataset on the grid of the contract.

    Raises
    ------
    ValueError
        If it has no usable axes or names no CRS.
    """
    plain = _axes(plain)
    data = plain.data
    crs = find_crs(data)
    if crs is None and _in_degrees(data):
        crs = pyproj.CRS.from_epsg(4326)
    if crs is None:
        raise ValueError(
            "the file names no CRS; add a variable 'spatial_ref' with the attribute 'crs_wkt', or "
            "say it with --map crs=EPSG:32631"
        )
    plain = _north_up(plain.then(_even(_sized(data))))
    if crs.is_geographic:
        return _warped(plain, crs)
    return _hemisphere(plain, crs)


def find_crs(ds: xr.Dataset) -> pyproj.CRS | None:
    """Give the CRS that a file names, in any of the usual places; None if it names none."""
    for source in _crs_sources(ds):
        try:
            return pyproj.CRS.from_user_input(source)
        except pyproj.exceptions.CRSError:
            continue
    return None


def _crs_sources(ds: xr.Dataset) -> list[Any]:
    found: list[Any] = []
    names = [str(ds[name].attrs.get("grid_mapping", "")) for name in ds.data_vars]
    for name in ("spatial_ref", "crs", *names):
        if name in ds.variables:
            attrs = ds[name].attrs
            found += [attrs.get(key) for key in ("crs_wkt", "spatial_ref", "wkt")]
            if "grid_mapping_name" in attrs:
                found.append({"cf": dict(attrs)})
    arrays = [dict(ds[name].attrs) for name in ds.data_vars if ds[name].ndim >= 2]
    for attrs in (dict(ds.attrs), *arrays[:3]):
        found += [attrs.get(key) for key in ("crs_wkt", "crs", "spatial_ref", "epsg", "proj:code")]
    for name in ("epsg", "proj:epsg", "proj:code"):
        if name in ds.coords:
            values = np.unique(ds[name].values)
            found += [values[0].item()] if values.size == 1 else []
    return [_plain_crs(source) for source in found if source not in (None, "")]


def _plain_crs(source: Any) -> Any:
    if isinstance(source, dict):
        try:
            return pyproj.CRS.from_cf(source["cf"])
        except (pyproj.exceptions.CRSError, KeyError, ValueError):
            return ""
    text = str(source)
    return f"EPSG:{text}" if text.isdigit() else text


def _axes(plain: Plain) -> Plain:
    """Name the axes of space ``x`` and ``y``."""
    data, renamed = plain.data, {}
    for axis, names in _AXES.items():
        there = [name for name in names if name in data.dims and name in data.coords]
        if not there:
            raise ValueError(
                f"the file has the dimensions {', '.join(map(str, data.dims))}; it needs "
                "coordinates 'x' and 'y' (or 'lon' and 'lat'), or --map dims.x=... dims.y=..."
            )
        if data.sizes[there[0]] == 0:
            raise ValueError(f"the dimension {there[0]!r} of the file is empty; check the file")
        if axis not in there:
            renamed[there[0]] = axis
    if not renamed:
        return plain
    words = ", ".join(f"{old} to {new}" for old, new in renamed.items())
    return plain.then(data.rename(renamed), f"renamed {words}")


def _sized(data: xr.Dataset) -> xr.Dataset:
    """Find the pixel size of a single pixel, which its coordinates do not tell."""
    if data.sizes["x"] > 1 or data.sizes["y"] > 1:
        return data
    words = str(data["spatial_ref"].attrs.get("GeoTransform", "")) if "spatial_ref" in data else ""
    stated = [data.attrs.get(key) for key in ("resolution", "pixel_size_m", "spatial_res")]
    for value in (*stated, *words.split(" ")[1:2]):
        try:
            step = abs(float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if step > 0 and math.isfinite(step):
            return data.assign_attrs(resolution=step)
    raise ValueError(
        "the file has a single pixel and does not say its size; say it with --map resolution=10"
    )


def steady(values: np.ndarray) -> np.ndarray:
    """Remove the rounding of coordinates in float32: equal steps, a round pixel size.

    Parameters
    ----------
    values
        Coordinates of an axis (n,).

    Returns
    -------
    numpy.ndarray
        float64 (n,); `values` themselves if their steps differ by more than `_LOOSE` pixels.
    """
    exact = np.asarray(values, np.float64)
    if exact.size < 2:
        return exact
    step = (exact[-1] - exact[0]) / (exact.size - 1)
    digits = 4 - math.floor(math.log10(abs(step))) if step else 0
    for candidate in (round(step, max(0, digits - 4)), round(step, digits), step):
        ideal = exact[0] + candidate * np.arange(exact.size)
        if np.abs(ideal - exact).max() <= _LOOSE * abs(step) and candidate:
            return ideal
    return exact


def _even(data: xr.Dataset) -> xr.Dataset:
    for axis in ("x", "y"):
        values = data[axis].values
        ideal = values if values.dtype == np.float64 else steady(values)
        if not np.array_equal(ideal, values) or values.dtype != np.float64:
            data = data.assign_coords({axis: ideal})
    return data


def _north_up(plain: Plain) -> Plain:
    """Turn the axes so that x rises and y falls."""
    data, words = plain.data, []
    for axis, sign, word in (("x", 1, "west first"), ("y", -1, "north first")):
        steps = np.diff(data[axis].values) * sign
        if steps.size and np.all(steps < 0):
            data = data.isel({axis: slice(None, None, -1)})
            words.append(f"turned along {axis}: {word}")
        elif np.any(steps <= 0):
            raise ValueError(
                f"the coordinate {axis!r} neither rises nor falls throughout; sort the file first"
            )
    return plain.then(data, *words)


def _hemisphere(plain: Plain, crs: pyproj.CRS) -> Plain:
    """Set the CRS; a northern UTM zone south of the equator becomes the southern one.

    Both have the same projection and differ by the false northing only, so that this is exact.
    """
    data, code = plain.data, crs.to_epsg() or 0
    words: list[str] = []
    if 32601 <= code <= 32660 and data["y"].size and float(data["y"].values.max()) < 0:
        data = data.assign_coords(y=data["y"].values + SOUTH)
        words = [f"northing below zero in EPSG:{code}: moved by +{SOUTH} m to EPSG:{code + 100}"]
        code = code + 100
    if words or "spatial_ref" not in data.coords or not _names_wkt(data):
        extra = [name for name in ("spatial_ref", "crs") if name in data.variables]
        data = data.drop_vars(extra).odc.assign_crs(f"EPSG:{code}" if code else crs.to_wkt())
    return plain.then(data, *words)


def _names_wkt(data: xr.Dataset) -> bool:
    attrs: Mapping[str, Any] = data["spatial_ref"].attrs
    return bool(attrs.get("crs_wkt") or attrs.get("spatial_ref"))


def _in_degrees(data: xr.Dataset) -> bool:
    return bool(np.abs(data["x"].values).max() <= 360 and np.abs(data["y"].values).max() <= 90)


def _warped(plain: Plain, crs: pyproj.CRS) -> Plain:
    """Put a cube in longitude/latitude on a UTM grid by nearest neighbour."""
    raw = plain.data.odc.assign_crs(crs.to_wkt() if crs.to_epsg() is None else str(crs))
    target = _utm(raw.odc.geobox)
    on_grid = raw[[name for name in raw.data_vars if {"y", "x"} <= set(raw[name].dims)]]
    if on_grid.nbytes > LARGEST_WARP:
        raise ValueError(
            f"the file is in degrees and has {on_grid.nbytes / 2**30:.1f} GiB (at most "
            f"{LARGEST_WARP / 2**30:.0f} are put on a UTM grid); cut it or reproject it first"
        )
    moved = {
        name: array.transpose(..., "y", "x")
        .load()
        .odc.reproject(target, resampling="nearest", dst_nodata=missing(array))
        .assign_attrs(array.attrs)
        for name, array in on_grid.items()
    }
    rest = raw.drop_vars([*on_grid.data_vars, "x", "y", "spatial_ref"])
    data = xr.Dataset(moved, attrs=raw.attrs).assign(rest.data_vars)
    step = f"reprojected from {crs} to {target.crs} at {target.resolution.x:g} m, nearest"
    return plain.then(data.assign_coords(rest.coords), step)


def _utm(source: GeoBox) -> GeoBox:
    """Give the UTM grid around a geographic one, its pixels as tall, to 10 m."""
    metres = abs(source.resolution.y) * 111_320
    return grid.cover(source.extent, resolution=max(10.0, round(metres / 10) * 10.0))
