"""Daily weather of a place from a reanalysis or a station, under the cube contract.

`read` takes ERA5, ERA5-Land or AgERA5 as Zarr or NetCDF by path or URL, hourly or daily, or the
table of a station as CSV. GRIB is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from deepfeatures import __version__
from deepfeatures.bands import attributes
from deepfeatures.weather import grids, record, stations
from deepfeatures.weather.sources import SOURCES, STATION, Driver

__all__ = ["SOURCES", "STATION", "Driver", "from_table", "read"]

_GRIB = (".grib", ".grb", ".grib2", ".grb2")


def read(
    source: str,
    *,
    lat: float,
    lon: float,
    start: str | np.datetime64,
    end: str | np.datetime64,
    elevation: float | None = None,
    columns: Mapping[str, str] | None = None,
    nearest: bool = False,
    utc_offset: float = 0.0,
    accumulated: str | None = None,
) -> xr.Dataset:
    """Read the daily drivers of a place and derive what follows from them.

    Parameters
    ----------
    source
        Path or URL (``https://``, ``s3://``, ...) of a Zarr store, a NetCDF file (``.nc``) or a
        table (``.csv``, ``.txt``, ``.tsv``). Of a Zarr store only the cells and period are
        fetched; a remote NetCDF file is fetched whole.
    lat, lon
        The place [degree].
    start, end
        First and last day, both included.
    elevation
        Of the place [m]; without it neither clear-sky radiation nor Penman-Monteith.
    columns
        What variables of the source are, where it is not known: name there ->
        ``"temperature_mean [degC]"``. Units in brackets go before those that the source states.
    nearest
        Take the nearest cell; by default the bilinear mean of the four around the place (cells
        without a value left out).
    utc_offset
        Hours that the day is ahead of UTC, for hourly sources; 0 is the UTC day,
        ``round(lon / 15)`` about the local one. Tables keep their own day.
    accumulated
        ``"interval"`` (ERA5) or ``"day"`` (sums since 00 UTC, ERA5-Land) for hourly amounts; found
        from the values by default.

    Returns
    -------
    xarray.Dataset
        float32 variables ``(time_meteo,)`` of `deepfeatures.bands.VARIABLES`, all days of the
        period; missing days are NaN and counted in the attribute ``missing_days``. The attribute
        ``comment`` of a variable says where it is from or by which formula.

    Raises
    ------
    FileNotFoundError
        If there is nothing at a path.
    ValueError
        If nothing is known in it, units are unknown or impossible, the place or period lies
        outside, or too much would be fetched.
    """
    source = str(source)
    days = _days(start, end)
    if not (-90 <= lat <= 90 and -180 <= lon <= 360):
        raise ValueError(f"({lat:g}, {lon:g}) is no place; give latitude and longitude in degrees")
    if accumulated not in (None, "interval", "day"):
        raise ValueError(f"accumulated={accumulated!r} is not known; say 'interval' or 'day'")
    plain = source.split("?")[0].rstrip("/").lower()
    if plain.endswith(_GRIB):
        raise ValueError(f"{source} is GRIB, which is not read; convert it to NetCDF or Zarr")
    if plain.endswith(stations.TABLES):
        found = stations.read(source, columns)
        utc_offset = 0.0
    else:
        # time zones, the last flux of a day (stamped 00 UTC of the next), one more to take apart
        margin = np.timedelta64(40, "h")
        period = days[0] - margin, days[-1] + np.timedelta64(24, "h") + margin
        found = grids.read(
            source, lat=lat, lon=lon, period=period, columns=columns, nearest=nearest
        )
    return _dataset(found, days, source, lat, lon, elevation, utc_offset, accumulated)


def from_table(
    frame: pd.DataFrame,
    *,
    lat: float,
    lon: float,
    start: str | np.datetime64 | None = None,
    end: str | np.datetime64 | None = None,
    elevation: float | None = None,
    columns: Mapping[str, str] | None = None,
    name: str = "the table",
) -> xr.Dataset:
    """Make daily drivers of the rows of one station, as `read` does of its CSV file.

    Parameters
    ----------
    frame
        A column of dates (``date``, ``TIMESTAMP``, ...) and columns of FLUXNET (``TA_F``, ``TA``),
        of the contract, or in `columns`; rows of one station.
    lat, lon, elevation, columns
        As for `read`.
    start, end
        First and last day; those of the table by default.
    name
        What to call it in errors and attributes.
    """
    found = stations.from_frame(frame, {}, columns, name)
    first, last = (str(t.astype("datetime64[D]")) for t in (found.time[0], found.time[-1]))
    days = _days(first if start is None else start, last if end is None else end)
    return _dataset(found, days, name, lat, lon, elevation, 0.0, None)


def _days(start: str | np.datetime64, end: str | np.datetime64) -> np.ndarray:
    try:
        first, last = np.datetime64(str(start), "D"), np.datetime64(str(end), "D")
    except ValueError:
        raise ValueError(f"{start!r} to {end!r} are no days; write them as YYYY-MM-DD") from None
    if not first <= last:
        raise ValueError(f"the period ends ({last}) before it starts ({first}); swap the two")
    if last - first > np.timedelta64(400 * 366, "D"):
        raise ValueError(f"{first} to {last} is more than 400 years; choose a shorter period")
    return np.arange(first, last + 1)


def _dataset(
    found: record.Record,
    days: np.ndarray,
    source: str,
    lat: float,
    lon: float,
    elevation: float | None,
    utc_offset: float,
    accumulated: str | None,
) -> xr.Dataset:
    made = record.daily(found, days, utc_offset=utc_offset, accumulated=accumulated)
    if not made.values:
        raise ValueError(f"{source} has no value from {days[0]} to {days[-1]}; choose other days")
    record.derive(made, latitude=lat, elevation=elevation)
    missing = {name: int(np.isnan(values).sum()) for name, values in made.values.items()}
    ds = xr.Dataset(
        {
            name: ("time_meteo", values.astype(np.float32),
                   attributes(name) | {"comment": made.notes[name]})
            for name, values in sorted(made.values.items())
        },
        coords={"time_meteo": days.astype("datetime64[ns]")},
    )  # fmt: skip
    return ds.assign_attrs(
        title="Daily weather of one place",
        source=f"{source} ({found.place})",
        processing=json.dumps([f"weather.read (deepfeatures {__version__})"]),
        licence=found.licence,
        attribution=found.attribution,
        missing_days=json.dumps({name: count for name, count in missing.items() if count}),
        latitude=float(lat),
        longitude=float(lon),
    )
