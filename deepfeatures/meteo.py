"""Meteorology of a place: humidity, radiation, reference evapotranspiration, days and steps.

Temperatures in degC, pressures in hPa, radiation as the mean of the day in W m-2, water in
mm d-1. Humidity follows Magnus with the constants of Alduchov and Eskridge 1996
(doi:10.1175/1520-0450(1996)035<0601:IMFAOS>2.0.CO;2); radiation and evapotranspiration follow
FAO-56 (Allen et al. 1998, ISBN 92-5-104219-5), whose own vapour pressure (equation 11) is used
inside of its equations only. Arrays broadcast; NaN gives NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SOLAR_CONSTANT = 1367.0
"""W m-2; FAO-56 writes 0.0820 MJ m-2 min-1."""

MEGAJOULES = 0.0864
"""MJ m-2 d-1 in one W m-2."""
_EVAPORATED = 0.408  # mm of water per MJ m-2 (FAO-56, equation 20)
_STEFAN_BOLTZMANN = 4.903e-9  # MJ K-4 m-2 d-1
_ALBEDO = 0.23  # of the reference grass

STATISTICS = ("mean", "min", "max", "sum")
"""What `daily` and `steps` make of several values."""


def saturation_vapour_pressure(temperature: ArrayLike) -> Array:
    """Give the saturation vapour pressure over water [hPa] by Magnus' formula.

    ``6.1094 exp(17.625 t / (t + 243.04))``, Alduchov and Eskridge 1996, equation 21; within
    0.4 % from -40 to 50 degC.
    """
    t = np.asarray(temperature, np.float64)
    return 6.1094 * np.exp(17.625 * t / (t + 243.04))


def dewpoint(vapour_pressure: ArrayLike) -> Array:
    """Give the dew point [degC] of a vapour pressure [hPa]: the inverse of Magnus' formula."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.asarray(vapour_pressure, np.float64) / 6.1094)
    return 243.04 * ratio / (17.625 - ratio)


def vapour_pressure_deficit(temperature: ArrayLike, dew: ArrayLike) -> Array:
    """Give the vapour pressure deficit [hPa], at least 0, from temperature and dew point."""
    deficit = saturation_vapour_pressure(temperature) - saturation_vapour_pressure(dew)
    return np.maximum(deficit, 0.0)


def relative_humidity(temperature: ArrayLike, dew: ArrayLike) -> Array:
    """Give the relative humidity [%] over water, at most 100, from temperature and dew point."""
    share = saturation_vapour_pressure(dew) / saturation_vapour_pressure(temperature)
    return np.minimum(100.0 * share, 100.0)


def day_of_year(days: NDArray[np.datetime64]) -> Array:
    """Give the number of each day in its year, 1 on the first of January."""
    days = days.astype("datetime64[D]")
    return (days - days.astype("datetime64[Y]")).astype(np.float64) + 1.0


def extraterrestrial_radiation(number: ArrayLike, latitude: ArrayLike) -> Array:
    """Give the daily mean radiation at the top of the atmosphere [W m-2].

    FAO-56, equations 21 to 25; in polar night 0, on a polar day the sun never sets.

    Parameters
    ----------
    number
        Day of the year, 1 to 366.
    latitude
        Degrees north.
    """
    angle = 2 * np.pi * np.asarray(number, np.float64) / 365
    distance = 1 + 0.033 * np.cos(angle)
    declination = 0.409 * np.sin(angle - 1.39)
    phi = np.radians(latitude)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    geometry = sunset * np.sin(phi) * np.sin(declination)
    geometry = geometry + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return SOLAR_CONSTANT / np.pi * distance * geometry


def clear_sky_radiation(number: ArrayLike, latitude: ArrayLike, elevation: ArrayLike) -> Array:
    """Give the daily mean radiation at the ground without clouds [W m-2].

    ``(0.75 + 2e-5 z) Ra`` with the elevation z [m]: FAO-56, equation 37.
    """
    share = 0.75 + 2e-5 * np.asarray(elevation, np.float64)
    return share * extraterrestrial_radiation(number, latitude)


def pressure(elevation: ArrayLike) -> Array:
    """Give the mean air pressure [hPa] at an elevation [m] (FAO-56, equation 7)."""
    ratio = (293.0 - 0.0065 * np.asarray(elevation, np.float64)) / 293.0
    return 1013.0 * ratio**5.26


def wind_at_2m(speed: ArrayLike, height: float = 10.0) -> Array:
    """Give the wind speed at 2 m [m s-1] from that at a height [m] (FAO-56, equation 47)."""
    return np.asarray(speed, np.float64) * 4.87 / np.log(67.8 * height - 5.42)


def fao_saturation(temperature: ArrayLike) -> Array:
    """Give the saturation vapour pressure [hPa] as FAO-56 does (equation 11)."""
    t = np.asarray(temperature, np.float64)
    return 6.108 * np.exp(17.27 * t / (t + 237.3))


def penman_monteith(
    *,
    temperature_min: ArrayLike,
    temperature_max: ArrayLike,
    vapour_pressure: ArrayLike,
    solar_radiation: ArrayLike,
    wind_2m: ArrayLike,
    number: ArrayLike,
    latitude: float,
    elevation: float,
    surface_pressure: ArrayLike | None = None,
) -> Array:
    """Give the reference evapotranspiration of grass [mm d-1] by Penman and Monteith.

    FAO-56, equation 6, without heat flux into the soil; at least 0. The mean temperature is that
    of minimum and maximum, the ratio of radiation to clear sky is held within 0.3..1
    (ASCE-EWRI 2005, ISBN 978-0-7844-0805-6).

    Parameters
    ----------
    temperature_min, temperature_max
        degC.
    vapour_pressure
        Actual vapour pressure [hPa].
    solar_radiation
        Mean downward short-wave radiation of the day [W m-2].
    wind_2m
        Wind speed at 2 m [m s-1].
    number
        Day of the year.
    latitude, elevation
        Degrees north, m.
    surface_pressure
        hPa; that of the elevation by default.
    """
    low, high = np.asarray(temperature_min, np.float64), np.asarray(temperature_max, np.float64)
    mean = (low + high) / 2
    air = pressure(elevation) if surface_pressure is None else np.asarray(surface_pressure)
    gamma = 0.665e-3 * air / 10  # kPa K-1, equation 8
    slope = 4098 * fao_saturation(mean) / 10 / (mean + 237.3) ** 2
    actual = np.asarray(vapour_pressure, np.float64) / 10
    deficit = (fao_saturation(low) + fao_saturation(high)) / 20 - actual
    clear = clear_sky_radiation(number, latitude, elevation)
    net = _net_radiation(low, high, actual, np.asarray(solar_radiation, np.float64), clear)
    wind = np.asarray(wind_2m, np.float64)
    drive = _EVAPORATED * slope * net + gamma * 900 / (mean + 273) * wind * deficit
    return np.maximum(drive / (slope + gamma * (1 + 0.34 * wind)), 0.0)


def _net_radiation(low: Array, high: Array, actual: Array, solar: Array, clear: Array) -> Array:
    """Net radiation of grass [MJ m-2 d-1]: FAO-56, equations 38 to 40; `actual` in kPa."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(clear > 0, solar / clear, np.where(np.isnan(solar), np.nan, 1.0))
    cloudiness = 1.35 * np.clip(ratio, 0.3, 1.0) - 0.35
    emitted = _STEFAN_BOLTZMANN * ((low + 273.16) ** 4 + (high + 273.16) ** 4) / 2
    lost = emitted * (0.34 - 0.14 * np.sqrt(np.maximum(actual, 0.0))) * cloudiness
    return (1 - _ALBEDO) * solar * MEGAJOULES - lost


def hargreaves(
    temperature_min: ArrayLike, temperature_max: ArrayLike, number: ArrayLike, latitude: float
) -> Array:
    """Give the reference evapotranspiration [mm d-1] from temperatures alone.

    Hargreaves and Samani as FAO-56, equation 52; at least 0.
    """
    low, high = np.asarray(temperature_min, np.float64), np.asarray(temperature_max, np.float64)
    radiation = extraterrestrial_radiation(number, latitude) * MEGAJOULES * _EVAPORATED
    spread = np.sqrt(np.maximum(high - low, 0.0))
    return np.maximum(0.0023 * ((low + high) / 2 + 17.8) * spread * radiation, 0.0)


def deaccumulate(values: Array, time: NDArray[np.datetime64]) -> Array:
    """Give the amount of each interval from sums that start anew every day at 00 UTC.

    In ERA5-Land the value at 01 UTC is the first hour of the day and that at 00 UTC the whole day
    before (ECMWF, "Conversion table for accumulated variables").

    Parameters
    ----------
    values
        ``(hour, ...)`` sums since the last 00 UTC, exclusive.
    time
        ``(hour,)`` end of each interval, UTC, rising evenly.

    Returns
    -------
    numpy.ndarray
        Amounts of the intervals; NaN for the first one, unless it starts a day.
    """
    time = time.astype("datetime64[s]")
    step = interval(time)
    starts = (time - step) == (time - step).astype("datetime64[D]")
    follows = np.r_[False, np.diff(time) == step]
    before = np.full_like(values, np.nan)
    before[1:] = values[:-1]
    before[~follows] = np.nan
    before[starts] = 0.0
    return values - before


def interval(time: NDArray[np.datetime64]) -> np.timedelta64:
    """Give the smallest step of a rising time axis; a day if it has one step only.

    Raises
    ------
    ValueError
        If the times do not rise.
    """
    if time.size < 2:
        return np.timedelta64(86400, "s")
    steps = np.diff(time.astype("datetime64[s]"))
    smallest: np.timedelta64 = steps.min()
    if smallest <= np.timedelta64(0, "s"):
        where = time[int(np.argmin(steps)) + 1]
        raise ValueError(f"the times do not rise at {where}; sort them and drop duplicates")
    return smallest


def daily(
    values: Array,
    time: NDArray[np.datetime64],
    statistic: str,
    *,
    ends: bool = False,
    utc_offset: float = 0.0,
) -> tuple[NDArray[np.datetime64], Array]:
    """Make days of hours (or any other even part of a day).

    Parameters
    ----------
    values
        ``(hour, ...)``.
    time
        ``(hour,)`` UTC, rising.
    statistic
        One of `STATISTICS`.
    ends
        Whether a time marks the end of its interval, so that 00 UTC belongs to the day before
        (fluxes of ERA5); otherwise 00 UTC is the first value of its day.
    utc_offset
        Hours that the day is ahead of the UTC day, e.g. ``longitude / 15`` for the solar day.

    Returns
    -------
    days, values
        ``(day,)`` datetime64[D] and ``(day, ...)``. A day with a missing hour is NaN.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"{statistic!r} is no statistic; choose from {', '.join(STATISTICS)}")
    moved = time.astype("datetime64[s]") + np.timedelta64(round(utc_offset * 3600), "s")
    step = interval(time)
    day = (moved - np.timedelta64(int(ends), "s")).astype("datetime64[D]")
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    count = np.diff(np.r_[first, day.size])
    reduce = {"min": np.minimum, "max": np.maximum}.get(statistic, np.add)
    made = reduce.reduceat(np.asarray(values, np.float64), first, axis=0)
    shape = (-1, *[1] * (made.ndim - 1))
    if statistic == "mean":
        made = made / count.reshape(shape)
    whole = count * step >= np.timedelta64(86400, "s")
    return day[first], np.where(whole.reshape(shape), made, np.nan)


def steps(
    values: Array,
    days: NDArray[np.datetime64],
    starts: NDArray[np.datetime64],
    length: int = 5,
) -> dict[str, Array]:
    """Summarise daily values over steps of several days, as a minicube has them.

    Parameters
    ----------
    values
        ``(day, ...)``.
    days
        ``(day,)`` rising.
    starts
        ``(step,)`` first day of each step; a step holds the days ``start <= day < start + length``.
    length
        Days of a step.

    Returns
    -------
    dict
        ``mean``, ``min``, ``max`` over the days with a value (NaN without any), ``sum`` (NaN
        unless all `length` days have one) and ``count`` of days, each ``(step, ...)``.
    """
    values = np.asarray(values, np.float64)
    days, starts = days.astype("datetime64[D]"), starts.astype("datetime64[D]")
    interval(days)
    begin = np.searchsorted(days, starts)
    end = np.searchsorted(days, starts + np.timedelta64(length, "D"))
    shape = (starts.size, *values.shape[1:])
    made = {name: np.full(shape, np.nan) for name in STATISTICS} | {"count": np.zeros(shape)}
    for at, (low, high) in enumerate(zip(begin, end, strict=True)):
        part = values[low:high]
        there = np.isfinite(part)
        count = there.sum(axis=0)
        some = count > 0
        total = np.where(there, part, 0.0).sum(axis=0)
        made["count"][at] = count
        made["sum"][at] = np.where(count == length, total, np.nan)
        made["mean"][at] = np.where(some, total / np.maximum(count, 1), np.nan)
        least = np.where(there, part, np.inf).min(axis=0, initial=np.inf)
        most = np.where(there, part, -np.inf).max(axis=0, initial=-np.inf)
        made["min"][at] = np.where(some, least, np.nan)
        made["max"][at] = np.where(some, most, np.nan)
    return made
