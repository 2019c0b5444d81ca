"""Weather and angles of foreign files under the names and units of the contract."""

from __future__ import annotations

import numpy as np
import xarray as xr

from deepfeatures.bands import attributes
from deepfeatures.foreign.plain import ANGLES, decoded
from deepfeatures.weather.sources import COMPONENTS, Driver, conversion, lookup

_KELVIN = 150.0
"""Temperatures on average above this are in kelvin."""


def driver_of(array: xr.DataArray) -> Driver | None:
    """Tell which driver of the contract a daily series is; None if it is none."""
    found = lookup(str(array.name), str(array.attrs.get("units", "")))
    return None if found is None or found.name in COMPONENTS else found


def weather(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    """Give the daily drivers ``(time_meteo,)`` that a plain dataset holds.

    Units that the file states count; else those that its source is known for, and a temperature
    that is in degrees Celsius already is seen from its mean.
    """
    found: dict[str, xr.DataArray] = {}
    for source, array in raw.data_vars.items():
        driver = driver_of(array) if array.dims == ("time_meteo",) else None
        if driver is None or driver.name in found:
            continue
        values = decoded(array).astype(np.float64).load()
        stated = str(array.attrs.get("units", ""))
        try:
            scale, shift, _ = conversion(driver.name, stated)
        except ValueError:
            scale, shift, _ = conversion(driver.name, driver.units)
            if driver.units == "K" and not float(values.mean()) > _KELVIN:
                shift = 0.0
        values = (driver.sign * values * scale + shift).astype(np.float32).sortby("time_meteo")
        found[driver.name] = values.assign_attrs(
            attributes(driver.name), comment=f"from {source}"
        ).rename(driver.name)
    return found


def scene_angles(raw: xr.Dataset, count: int) -> dict[str, tuple[str, np.ndarray]]:
    """Average grids of sun and view angles (any dimensions) to one value for each step.

    Azimuths are averaged as directions. A grid without time counts for all steps.
    """
    found = {}
    for source, prefix in (("solar_angle", "sun"), ("viewing_angle", "view")):
        if source not in raw or "angle" not in raw[source].dims:
            continue
        grid = decoded(raw[source]).load()
        others = [dim for dim in grid.dims if dim not in ("time", "angle")]
        for index, kind in enumerate(_angle_order(grid)):
            part = grid.isel(angle=index, drop=True)
            radians = np.deg2rad(part)
            sine, cosine = (xr.apply_ufunc(turn, radians).mean(others) for turn in (np.sin, np.cos))
            mean = np.rad2deg(np.arctan2(sine, cosine)) % 360
            values = mean if kind == "azimuth" else part.mean(others)
            flat = np.broadcast_to(np.asarray(values.values, np.float32), (count,))
            found[f"{prefix}_{kind}"] = ("time", flat.copy())
    assert set(found) <= set(ANGLES)
    return found


def _angle_order(grid: xr.DataArray) -> list[str]:
    if "angle" in grid.coords:
        return [str(label).lower() for label in grid["angle"].values]
    return ["zenith", "azimuth"]
