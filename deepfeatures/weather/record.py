"""From a record of a source to daily drivers under the contract, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepfeatures import meteo
from deepfeatures.weather.sources import (
    COMPONENTS,
    PLAUSIBLE,
    Driver,
    conversion,
    units_of,
)

Array = NDArray[np.float64]
Days = NDArray[np.datetime64]

FLUXES = ("precipitation", "solar_radiation", "evaporation", "potential_evaporation")
"""Drivers that a reanalysis gives per interval, stamped with its end."""


@dataclass(frozen=True, eq=False)
class Series:
    """One variable of a source at a place."""

    source: str
    """Its name there."""
    driver: Driver
    """What it is."""
    units: str
    """Its units there."""
    values: Array
    """``(time,)``, NaN where there is no value."""


@dataclass(frozen=True, eq=False)
class Record:
    """What was read of a source, at its own times."""

    time: Days
    """``(time,)`` rising."""
    series: tuple[Series, ...]
    """Its variables."""
    ends: bool
    """Whether the times of fluxes mark the end of their interval."""
    place: str
    """Words on where the values are from: which cells, or the station."""
    licence: str
    attribution: str


@dataclass(eq=False)
class Daily:
    """Daily drivers in the making."""

    days: Days
    """``(day,)`` of the wanted period, without gaps."""
    values: dict[str, Array] = field(default_factory=dict)
    """Driver -> ``(day,)``."""
    notes: dict[str, str] = field(default_factory=dict)
    """Driver -> where it comes from."""

    def add(self, name: str, values: Array, note: str) -> None:
        """Keep a driver unless it is there already."""
        if name not in self.values and np.isfinite(values).any():
            self.values[name], self.notes[name] = values, note

    def has(self, *names: str) -> bool:
        """Tell whether all these drivers are there."""
        return all(name in self.values for name in names)


def daily(record: Record, days: Days, *, utc_offset: float, accumulated: str | None) -> Daily:
    """Make daily drivers in the units of the contract.

    Raises
    ------
    ValueError
        If units are unknown, values impossible, or the steps longer than a day.
    """
    step = meteo.interval(record.time)
    if step > np.timedelta64(86400, "s"):
        raise ValueError(
            f"the source has a value every {step / np.timedelta64(86400, 's'):g} days; "
            "give daily or hourly weather"
        )
    made = Daily(days)
    if step > np.timedelta64(20 * 3600, "s"):
        stamps = record.time.astype("datetime64[D]")
        for one in record.series:
            made.add(one.driver.name, _on(days, stamps, _converted(one)), f"from {one.source}")
    else:
        _hourly(made, record, utc_offset, accumulated)
    for name, values in made.values.items():
        _plausible(name, values, made.notes[name])
    return made


def _converted(one: Series) -> Array:
    scale, shift, _ = conversion(one.driver.name, one.units)
    return one.values * one.driver.sign * scale + shift


def _on(days: Days, stamps: Days, values: Array) -> Array:
    """Put values of some days on the wanted ones."""
    made = np.full(days.size, np.nan)
    if len(np.unique(stamps)) != stamps.size:
        raise ValueError("the source has two values on one day; keep one value per day")
    _, here, there = np.intersect1d(days, stamps, assume_unique=True, return_indices=True)
    made[here] = values[there]
    return made


def _hourly(made: Daily, record: Record, utc_offset: float, accumulated: str | None) -> None:
    fluxes = [one for one in record.series if one.driver.name in FLUXES]
    way = accumulated or (accumulation(record.time, fluxes) if record.ends else "interval")
    zone = f"UTC{utc_offset:+g} h" if utc_offset else ("UTC" if record.ends else "the station")

    def keep(name: str, values: Array, statistic: str, note: str, ends: bool = False) -> None:
        stamps, by_day = meteo.daily(
            values, record.time, statistic, ends=ends, utc_offset=utc_offset
        )
        made.add(name, _on(made.days, stamps, by_day), f"{note}, {statistic} of the day of {zone}")

    hours: dict[str, Array] = {}
    for one in record.series:
        values = _converted(one)
        name, note = one.driver.name, f"from {one.source}"
        amount = conversion(name, one.units)[2]
        if name in FLUXES:
            if amount and way == "day":
                values = meteo.deaccumulate(values, record.time)
                note += " (sums since 00 UTC taken apart)"
            keep(name, values, "sum" if amount else "mean", note, record.ends)
            continue
        hours.setdefault(name, values)
        if name in COMPONENTS:
            continue
        keep(name, values, one.driver.statistic, note)
        if name == "temperature_mean":
            for extreme in _EXTREMES:
                keep(f"temperature_{extreme}", values, extreme, note)
    if all(name in hours for name in COMPONENTS):
        speed = np.hypot(*(hours[name] for name in COMPONENTS))
        keep("wind_speed", speed, "mean", "speed of the hourly wind components")
    if "temperature_mean" in hours and "dewpoint" in hours:
        air, dew = hours["temperature_mean"], hours["dewpoint"]
        deficit = meteo.vapour_pressure_deficit(air, dew)
        keep("vapour_pressure_deficit", deficit, "mean", f"derived hour by hour: {_MAGNUS}")
        humidity = meteo.relative_humidity(air, dew)
        keep("relative_humidity", humidity, "mean", f"derived hour by hour: {_MAGNUS}")


def accumulation(time: Days, fluxes: list[Series]) -> str:
    """Tell whether amounts are those of an ``interval`` (ERA5) or sums of the ``day`` (ERA5-Land).

    Sums since 00 UTC never fall within a day and amounts of radiation do every evening.

    Raises
    ------
    ValueError
        If the values leave it open.
    """
    amounts = [one for one in fluxes if conversion(one.driver.name, one.units)[2]]
    moved = time.astype("datetime64[s]") - np.timedelta64(1, "s")
    same = np.diff(moved.astype("datetime64[D]")) == np.timedelta64(0, "D")
    rising: list[bool] = []
    for one in (one for one in amounts if one.driver.sign > 0):
        change = np.diff(one.values)[same]
        change = change[np.isfinite(change)]
        # packed sums may fall by one step of the packing
        allowed = 1e-4 * np.nanmax(np.abs(one.values), initial=0.0)
        if np.any(np.abs(change) > allowed):
            rising.append(bool(np.all(change >= -allowed)))
    if not rising and any(np.nan_to_num(one.values).any() for one in amounts):
        raise ValueError(
            "the values do not tell whether they are sums of the hour (ERA5) or since 00 UTC "
            "(ERA5-Land); say accumulated='interval' or 'day'"
        )
    return "day" if rising and all(rising) else "interval"


def _plausible(name: str, values: Array, note: str) -> None:
    low, high = PLAUSIBLE.get(name, PLAUSIBLE.get(units_of(name), (-np.inf, np.inf)))
    wrong = values[np.isfinite(values) & ((values < low) | (values > high))]
    if wrong.size:
        raise ValueError(
            f"{name} ({note}) would be {wrong[0]:g} {units_of(name)} on a day, which the Earth "
            "does not have; state the units in the source or with columns={...: 'name [unit]'}"
        )


_MAGNUS = "Magnus, Alduchov and Eskridge 1996 (17.625, 243.04, 610.94 Pa)"


def derive(made: Daily, *, latitude: float, elevation: float | None) -> None:
    """Add what follows from the drivers that are there, each with a note on its formula."""
    v = made.values
    if made.has(*COMPONENTS):
        note = "speed of the daily mean wind components, lower than the mean speed"
        made.add("wind_speed", np.hypot(*(v[name] for name in COMPONENTS)), note)
    for name in COMPONENTS:
        v.pop(name, None)
    for name in ("precipitation", "solar_radiation", "relative_humidity"):
        if name in v:
            v[name] = np.clip(v[name], 0.0, 100.0 if name == "relative_humidity" else np.inf)
    if made.has("temperature_min", "temperature_max"):
        low, high = (meteo.saturation_vapour_pressure(v[f"temperature_{w}"]) for w in _EXTREMES)
        _humidity(made, (low + high) / 2, "mean saturation of minimum and maximum temperature")
    elif made.has("temperature_mean"):
        saturation = meteo.saturation_vapour_pressure(v["temperature_mean"])
        _humidity(made, saturation, "saturation at the mean temperature")
    number = meteo.day_of_year(made.days)
    if elevation is not None:
        clear = meteo.clear_sky_radiation(number, latitude, elevation)
        note = f"derived: (0.75 + 2e-5 z) Ra, FAO-56 equations 21 and 37, z = {elevation:g} m"
        made.add("clear_sky_radiation", clear, note)
    _evapotranspiration(made, number, latitude, elevation)


_EXTREMES = ("min", "max")


def _humidity(made: Daily, saturation: Array, words: str) -> None:
    """Vapour pressure, dew point, deficit and relative humidity, one from the other."""
    v, formula = made.values, f"{words}; {_MAGNUS}"
    if made.has("dewpoint"):
        vapour = meteo.saturation_vapour_pressure(v["dewpoint"])
        made.add("vapour_pressure", vapour, f"derived from the dew point: {_MAGNUS}")
    elif made.has("vapour_pressure_deficit"):
        vapour = np.maximum(saturation - v["vapour_pressure_deficit"], 0.0)
        made.add("vapour_pressure", vapour, f"derived from the deficit, {formula}")
    elif made.has("relative_humidity"):
        vapour = saturation * v["relative_humidity"] / 100
        made.add("vapour_pressure", vapour, f"derived from the relative humidity, {formula}")
    if not made.has("vapour_pressure"):
        return
    vapour = np.maximum(v["vapour_pressure"], 1e-3)
    made.add("dewpoint", meteo.dewpoint(vapour), f"derived from the vapour pressure: {_MAGNUS}")
    deficit = np.maximum(saturation - v["vapour_pressure"], 0.0)
    made.add("vapour_pressure_deficit", deficit, f"derived: {formula}")
    humidity = np.minimum(100 * v["vapour_pressure"] / saturation, 100.0)
    made.add("relative_humidity", humidity, f"derived: {formula}")


def _evapotranspiration(
    made: Daily, number: Array, latitude: float, elevation: float | None
) -> None:
    v = made.values
    needed = ("temperature_min", "temperature_max", "vapour_pressure", "solar_radiation")
    if elevation is not None and made.has(*needed, "wind_speed"):
        reference = meteo.penman_monteith(
            temperature_min=v["temperature_min"],
            temperature_max=v["temperature_max"],
            vapour_pressure=v["vapour_pressure"],
            solar_radiation=v["solar_radiation"],
            wind_2m=meteo.wind_at_2m(v["wind_speed"]),
            number=number,
            latitude=latitude,
            elevation=elevation,
        )
        note = "derived: Penman-Monteith, FAO-56 equation 6, wind as at 10 m"
        made.add("reference_evapotranspiration", reference, note)
    if made.has("temperature_min", "temperature_max"):
        reference = meteo.hargreaves(v["temperature_min"], v["temperature_max"], number, latitude)
        note = "derived: Hargreaves, FAO-56 equation 52"
        made.add("reference_evapotranspiration", reference, note)
