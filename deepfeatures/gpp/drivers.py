"""Drivers of towers from cubes: weather, and features, bands or indices around a tower."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from odc.geo import CRS

from deepfeatures import meteo

ENOUGH = 0.25
"""Share of the pixels around a tower that must be usable on a date."""

MOST = 40_000_000
"""Values of a cube that are read around a place at most."""

CHANNELS = {"features": "feature", "reflectance": "band", "si": "index"}
"""Variable of a cube -> its dimension of channels."""


def weather(ds: xr.Dataset) -> pd.DataFrame:
    """Give the daily weather of a cube in the columns and units of a table of towers.

    Raises
    ------
    ValueError
        If the cube carries no daily weather of one place.
    """
    columns = {
        "SW_IN": "solar_radiation", "TA": "temperature_mean", "P": "precipitation",
        "WS": "wind_speed",
    }  # fmt: skip
    there = {k: n for k, n in columns.items() if n in ds and ds[n].dims == ("time_meteo",)}
    if not {"SW_IN", "TA"} <= there.keys():
        raise ValueError("the cube has no daily radiation and temperature; build it with --weather")
    made = pd.DataFrame({k: ds[n].to_numpy().astype(float) for k, n in there.items()})
    if "vapour_pressure" in ds:
        full = meteo.saturation_vapour_pressure(made["TA"].to_numpy())
        made["VPD"] = np.maximum(full - ds["vapour_pressure"].to_numpy(), 0.0)
    return made.assign(date=pd.to_datetime(ds["time_meteo"].to_numpy()).normalize())


def around(ds: xr.Dataset, lon: float, lat: float, radius: float = 25.0) -> pd.DataFrame:
    """Give mean and spread of the channels of a cube around a place, date by date.

    Parameters
    ----------
    ds
        A cube of features, bands or indices.
    lon, lat
        Degrees.
    radius
        Pixels whose centre is at most so far away count [m].

    Returns
    -------
    pandas.DataFrame
        ``date``, each channel (mean) and ``NAME_std`` (standard deviation), dates on which a
        quarter of the pixels is usable.

    Raises
    ------
    ValueError
        If the place lies outside, or the cube has no channels.
    """
    return inside_of(ds, near(ds, lon, lat, radius))


def near(ds: xr.Dataset, lon: float, lat: float, radius: float) -> NDArray[np.bool_]:
    """Tell which pixels ``(y, x)`` have their centre within some metres of a place.

    A radius of 0 is the one pixel that holds the place.

    Raises
    ------
    ValueError
        If there is none.
    """
    crs = CRS(ds["spatial_ref"].attrs["crs_wkt"])
    x, y = CRS("EPSG:4326").transformer_to_crs(crs)(lon, lat)
    far = np.hypot(ds["x"].to_numpy()[None] - x, ds["y"].to_numpy()[:, None] - y)
    half = 0.71 * abs(float(ds["x"][1] - ds["x"][0]))
    if far.min() > (radius or half):
        raise ValueError(f"no pixel lies within {radius:g} m of {lon:.4f}, {lat:.4f}")
    return np.asarray(far <= (radius or far.min()))


def empty(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Give a mask ``(y, x)`` of the grid of a cube with no pixel in it."""
    return np.zeros((ds.sizes["y"], ds.sizes["x"]), bool)


def inside_of(ds: xr.Dataset, inside: NDArray[np.bool_]) -> pd.DataFrame:
    """Give mean and spread of the channels of a cube over pixels ``(y, x)``; see `around`.

    Raises
    ------
    ValueError
        If the cube has no channels, or there are more pixels than may be read at once.
    """
    variable = next((name for name in CHANNELS if name in ds), None)
    if variable is None:
        raise ValueError("the cube has no features, bands or indices; choose another")
    rows, columns = np.nonzero(inside)
    box = {"y": slice(rows.min(), rows.max() + 1), "x": slice(columns.min(), columns.max() + 1)}
    part = ds[[variable, "valid"]].isel(box)
    if part[variable].size > MOST:
        raise ValueError(
            f"the area holds {part[variable].size:,} values, no more than {MOST:,} are read at "
            "once; draw a smaller one"
        )
    part, inside = part.load(), inside[box["y"], box["x"]]
    usable = (part["valid"].to_numpy() == 1) & inside
    values = part[variable].transpose("time", CHANNELS[variable], "y", "x").to_numpy()
    dates = usable.sum(axis=(1, 2)) >= ENOUGH * inside.sum()
    made = {"date": pd.to_datetime(part["time"].to_numpy()[dates]).normalize()}
    for number, name in enumerate(part[CHANNELS[variable]].to_numpy()):
        masked = np.where(usable[dates], values[dates, number], np.nan)
        made[str(name)] = np.nanmean(masked, axis=(1, 2))
        made[f"{name}_std"] = np.nanstd(masked, axis=(1, 2))
    return pd.DataFrame(made).drop_duplicates("date")


def at_pixels(
    cube: xr.Dataset, channels: xr.Dataset | None, inside: NDArray[np.bool_], name: str
) -> pd.DataFrame:
    """Give a table of one place, whose pixels need no tower.

    Parameters
    ----------
    cube
        Cube with daily weather; where it is simulated with ``truth_gpp``, that stands for GPP.
    channels
        Feature cube or band cube on the same grid; None: weather only.
    inside
        Pixels ``(y, x)`` that belong to the place.
    name
        What it is called.

    Raises
    ------
    ValueError
        If there is no daily weather, or `inside_of` finds nothing.
    """
    table = weather(cube).assign(site=name, igbp="", GPP=np.nan, GPP_QC=0.0)
    rows, columns = np.nonzero(inside)
    crs = CRS(cube["spatial_ref"].attrs["crs_wkt"])
    middle = float(cube["x"][columns].mean()), float(cube["y"][rows].mean())
    lon, lat = crs.transformer_to_crs(CRS("EPSG:4326"))(*middle)
    table = table.assign(lon=lon, lat=lat)
    if channels is not None:
        table = table.merge(inside_of(channels, inside), on="date", how="left")
    if "truth_gpp" in cube:
        box = {"y": slice(rows.min(), rows.max() + 1), "x": slice(columns.min(), columns.max() + 1)}
        part = cube["truth_gpp"].isel(box).transpose("time", "y", "x").to_numpy()
        mean = part[:, inside[box["y"], box["x"]]].mean(axis=1)
        stamps = pd.to_datetime(cube["time"].to_numpy()).normalize()
        truth = pd.Series(mean, index=stamps).groupby(level=0).first()
        known = table["date"].map(truth)
        table = table.assign(GPP=known, GPP_QC=known.notna().astype(float), source="simulated")
    return table


def from_cube(
    cube: xr.Dataset,
    channels: xr.Dataset | None = None,
    towers: pd.DataFrame | None = None,
    *,
    radius: float = 25.0,
) -> pd.DataFrame:
    """Give a table of towers with the drivers that cubes hold.

    Parameters
    ----------
    cube
        Cube with daily weather, and with towers if `towers` is not given.
    channels
        Cube of features, bands or indices whose pixels around each tower go in; None: weather only.
    towers
        Table with ``date, site, GPP, lat, lon``; its own drivers stay.
    radius
        See `around`.
    """
    table = simulated(cube) if towers is None else towers
    if towers is None:
        table = table.merge(weather(cube), on="date", how="left")
    if channels is None:
        return table
    parts = []
    for _, group in table.groupby("site"):
        place = group.iloc[0]
        seen = around(channels, float(place["lon"]), float(place["lat"]), radius)
        parts.append(group.merge(seen, on="date", how="left"))
    return pd.concat(parts, ignore_index=True)


def simulated(cube: xr.Dataset) -> pd.DataFrame:
    """Give the towers that a simulated cube carries, without drivers.

    Raises
    ------
    ValueError
        If it carries none.
    """
    if "tower_gpp" not in cube:
        raise ValueError("the cube has no towers; give a table of them with --towers")
    names = dict(
        zip(
            np.atleast_1d(cube["tower_class"].attrs["flag_values"]).tolist(),
            str(cube["tower_class"].attrs["flag_meanings"]).split(),
            strict=True,
        )
    )
    date = pd.to_datetime(cube["time_meteo"].to_numpy()).normalize()
    parts = [
        pd.DataFrame(
            {
                "date": date, "site": str(name), "GPP": cube["tower_gpp"].to_numpy()[n],
                "GPP_QC": 1.0, "igbp": names.get(int(cube["tower_class"].to_numpy()[n]), ""),
                "lat": float(cube["tower_lat"][n]), "lon": float(cube["tower_lon"][n]),
                "source": "simulated",
            }
        )
        for n, name in enumerate(cube["tower"].to_numpy())
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
