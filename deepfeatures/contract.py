"""The cube contract, checked by one function at every door.

A cube is a plain `xarray.Dataset` on one UTM grid with one main array
``(time, <channel>, y, x)``. Its words, units and coordinates are stated in ``docs/cubes.md``.
"""

from __future__ import annotations

import json
from collections.abc import Hashable

import numpy as np
import xarray as xr
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from deepfeatures.bands import BANDS

MAIN: dict[str, tuple[str, str]] = {
    "bands": ("reflectance", "band"),
    "index": ("si", "index"),
    "features": ("features", "feature"),
    "layer": ("layer", "map"),
}
"""Kind of a cube -> its main variable and the name of the channel dimension."""


def kind(ds: xr.Dataset) -> str:
    """Tell what a cube holds: ``bands``, ``index``, ``features`` or ``layer`` (a result).

    Raises
    ------
    ValueError
        If it has none of the main arrays.
    """
    for name, (variable, _) in MAIN.items():
        if variable in ds:
            return name
    wanted = ", ".join(variable for variable, _ in MAIN.values())
    raise ValueError(f"this is no cube: it has none of the variables {wanted}")


def main(ds: xr.Dataset) -> xr.DataArray:
    """Give the main array ``(time, <channel>, y, x)`` of a cube."""
    return ds[MAIN[kind(ds)][0]]


def channels(ds: xr.Dataset) -> list[str]:
    """Give the labels of the main array's channels, in order."""
    return [str(label) for label in ds[MAIN[kind(ds)][1]].values]


def geobox(ds: xr.Dataset) -> GeoBox:
    """Give the pixel grid of a cube: shape, affine transform and CRS."""
    x, y = ds["x"].values, ds["y"].values
    step = _resolution(ds)
    bounds = (
        float(x[0]) - step / 2,
        float(y[-1]) - step / 2,
        float(x[-1]) + step / 2,
        float(y[0]) + step / 2,
    )
    # tight, because otherwise the grid would be moved onto multiples of the pixel size
    return GeoBox.from_bbox(bounds, crs=crs(ds), shape=(y.size, x.size), tight=True)


def crs(ds: xr.Dataset) -> CRS:
    """Give the coordinate reference system of a cube.

    Raises
    ------
    ValueError
        If ``spatial_ref`` is missing or empty.
    """
    attrs = ds["spatial_ref"].attrs if "spatial_ref" in ds.coords else {}
    wkt = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if not wkt:
        raise ValueError("the cube has no CRS; its coordinate 'spatial_ref' needs 'crs_wkt'")
    found = CRS(wkt)
    return CRS(f"EPSG:{found.epsg}") if found.epsg else found


def provenance(ds: xr.Dataset) -> dict[str, object]:
    """Give the attributes of a cube with the JSON lists among them decoded."""
    found: dict[str, object] = {}
    for name, value in ds.attrs.items():
        found[str(name)] = value
        if isinstance(value, str) and value[:1] in "[{":
            try:
                found[str(name)] = json.loads(value)
            except json.JSONDecodeError:
                continue
    return found


def check(ds: xr.Dataset) -> xr.Dataset:
    """Return `ds` unchanged if it keeps the contract.

    Values are not read: dimensions, coordinates, types and attributes are.

    Raises
    ------
    ValueError
        With one sentence about the first breach.
    """
    variable, channel = MAIN[kind(ds)]
    dims = ("time", channel, "y", "x")
    if ds[variable].dims != dims:
        raise ValueError(f"{variable!r} has the dimensions {ds[variable].dims}; it needs {dims}")
    _check_space(ds)
    _check_times(ds)
    _check_channels(ds, channel)
    _check_valid(ds)
    for name, array in ds.data_vars.items():
        _check_attributes(name, array)
    return ds


def _resolution(ds: xr.Dataset) -> float:
    x, y = ds["x"].values, ds["y"].values
    longer = x if x.size >= y.size else y
    if longer.size > 1:
        return float(abs(longer[-1] - longer[0]) / (longer.size - 1))
    return float(ds.attrs.get("resolution", 10.0))


def _check_space(ds: xr.Dataset) -> None:
    step = _resolution(ds)
    for name, sign in (("x", 1), ("y", -1)):
        values = ds[name].values
        if values.size == 0 or not np.all(np.isfinite(values)):
            raise ValueError(f"the coordinate {name!r} is empty or not finite")
        if not np.allclose(np.diff(values), sign * step, rtol=0, atol=step * 1e-6):
            way = "rise" if sign > 0 else "fall"
            raise ValueError(f"the coordinate {name!r} must {way} in equal steps of {step:g} m")
    found = crs(ds)
    if not found.projected:
        raise ValueError(
            f"the cube is in {found!s}, which is not in metres; put it on a UTM grid first"
        )


def _check_times(ds: xr.Dataset) -> None:
    for name in ("time", "time_s1", "time_lst", "time_meteo"):
        if name not in ds.coords:
            continue
        values = ds[name].values
        if values.dtype.kind != "M" or np.any(np.isnat(values)):
            raise ValueError(f"the coordinate {name!r} must be dates (UTC, without zone)")
        if np.any(np.diff(values) <= np.timedelta64(0)):
            raise ValueError(f"the coordinate {name!r} must be strictly increasing")
    days = ds["time"].values.astype("datetime64[D]")
    if days.size == 0:
        raise ValueError("the cube has no date")
    same = days[1:][np.diff(days) == np.timedelta64(0, "D")]
    if same.size:
        raise ValueError(
            f"{same[0]} has two steps; mosaic the granules of a day, one step per day is allowed"
        )


def _check_channels(ds: xr.Dataset, channel: str) -> None:
    labels = [str(label) for label in ds[channel].values]
    if len(set(labels)) != len(labels):
        raise ValueError(f"the labels of {channel!r} are not unique: {labels}")
    if channel == "band":
        wrong = [label for label in labels if label not in BANDS]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no band; choose from {', '.join(BANDS)}")
        if labels != [name for name in BANDS if name in labels]:
            raise ValueError(f"the bands {labels} must be in the order of wavelength")


def _check_valid(ds: xr.Dataset) -> None:
    if "valid" not in ds or ds["valid"].dims != ("time", "y", "x"):
        raise ValueError("the cube needs the mask 'valid' with the dimensions (time, y, x)")
    if ds["valid"].dtype != np.uint8:
        raise ValueError(f"'valid' is {ds['valid'].dtype}; it must be uint8 (1 = usable)")


def _check_attributes(name: Hashable, array: xr.DataArray) -> None:
    for attribute in ("units", "long_name"):
        if not array.attrs.get(attribute):
            raise ValueError(f"the variable {name!r} has no attribute {attribute!r}")
