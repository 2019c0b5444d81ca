"""Daily weather from a seeded generator, with a drought, a snow pack and plant-relevant sums.

Rain follows a two-state Markov chain with gamma amounts, temperature a seasonal cycle with
first-order autoregressive anomalies that depend on the state (Richardson 1981,
doi:10.1029/WR017i001p00182). Radiation, vapour pressure and psychrometry follow FAO-56
(Allen et al. 1998, ISBN 92-5-104219-5), the effect of clouds on radiation Kasten and Czeplak
1980 (doi:10.1016/0038-092X(80)90391-6), potential evapotranspiration Priestley and Taylor 1972
(doi:10.1175/1520-0493(1972)100<0081:OTAOSH>2.3.CO;2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.meteo import extraterrestrial_radiation as extraterrestrial
from deepfeatures.meteo import fao_saturation as saturation
from deepfeatures.simulate.noise import stream
from deepfeatures.simulate.setting import USUAL, Setting

DROUGHT_MONTHS = (4, 5, 6, 7, 8)
"""Months with little rain in the year of the drought."""

_WET_AFTER_DRY, _WET_AFTER_WET = 0.30, 0.62
_RAIN_SHAPE, _RAIN_SCALE = 0.75, 6.6  # gamma distribution of the rain of a wet day [1], [mm]
_LATENT_HEAT = 2.45e6  # J kg-1
_PSYCHROMETRIC = 0.66  # hPa K-1


@dataclass(frozen=True, eq=False)
class Weather:
    """Daily weather of one place; every field but the dates is float64 (day,)."""

    date: np.ndarray
    """Dates, datetime64[D]."""
    day_of_year: np.ndarray
    """1 on the first of January."""
    temperature_mean: np.ndarray
    """Mean air temperature [degC]."""
    temperature_min: np.ndarray
    """Minimum air temperature [degC]."""
    temperature_max: np.ndarray
    """Maximum air temperature [degC]."""
    dewpoint: np.ndarray
    """Dew point [degC]."""
    precipitation: np.ndarray
    """Rain and snowfall [mm d-1]."""
    solar_radiation: np.ndarray
    """Mean downward short-wave radiation [W m-2]."""
    vapour_pressure: np.ndarray
    """Vapour pressure [hPa]."""
    wind_speed: np.ndarray
    """Wind speed at 10 m [m s-1]."""
    cloud_cover: np.ndarray
    """Share of the sky covered by clouds, 0..1."""
    vapour_deficit: np.ndarray
    """Vapour pressure deficit of the day [hPa]."""
    evaporation: np.ndarray
    """Potential evapotranspiration [mm d-1]."""
    water_input: np.ndarray
    """Rain and melt water that reach the soil [mm d-1]."""
    snow: np.ndarray
    """Water in the snow pack [mm]."""
    wetness: np.ndarray
    """Wetness of the soil surface, 0..1."""
    warmth: np.ndarray
    """Sum of the degrees above 5 degC since the first of January [degC d]."""


METEO = (
    "temperature_mean", "temperature_min", "temperature_max", "dewpoint", "precipitation",
    "solar_radiation", "vapour_pressure", "wind_speed",
)  # fmt: skip
"""The fields of `Weather` that a cube carries as daily drivers."""


def generate(seed: int, start: int, years: int, setting: Setting = USUAL) -> Weather:
    """Generate the weather of whole calendar years; one of them has a drought.

    Parameters
    ----------
    seed
        Seed of the landscape.
    start
        First year.
    years
        Number of years, 1 or more; the drought is in the second, or in the only one.
    setting
        Gives latitude and climate.
    """
    rng = stream(seed, "weather")
    first, end = np.datetime64(f"{start}-01-01"), np.datetime64(f"{start + years}-01-01")
    date = np.arange(first, end, dtype="datetime64[D]")
    year = date.astype("datetime64[Y]").astype(int) + 1970
    day_of_year = (date - date.astype("datetime64[Y]")).astype(int) + 1.0
    month = date.astype("datetime64[M]").astype(int) % 12 + 1
    dry_spell = (year == drought_year(start, years)) & np.isin(month, DROUGHT_MONTHS)
    wet, rain = _rain(rng, dry_spell, setting)
    cover = np.where(wet, rng.beta(5.0, 0.8, wet.size), rng.beta(0.8, 0.65, wet.size))
    cover = cover**setting.clarity
    mean = _mean_temperature(rng, setting, day_of_year, year, cover, dry_spell)
    spread = 3.0 + 6.0 * (1 - cover) * (0.6 - 0.4 * np.cos(2 * np.pi * (day_of_year - 15) / 365.25))
    low, high = mean - spread * 0.95, mean + spread * 1.05
    dewpoint = np.minimum(low - np.where(wet, 0.0, 1.2) + rng.normal(0, 0.8, wet.size), mean - 0.2)
    vapour = saturation(dewpoint)
    deficit = np.maximum(0.5 * (saturation(low) + saturation(high)) - vapour, 0.0)
    clear = 0.75 * extraterrestrial(day_of_year, setting.latitude)
    radiation = clear * (1 - 0.75 * cover**3.4)
    snow, water_input = _snow_pack(rain, mean)
    return Weather(
        date=date, day_of_year=day_of_year, temperature_mean=mean, temperature_min=low,
        temperature_max=high, dewpoint=dewpoint, precipitation=rain, solar_radiation=radiation,
        vapour_pressure=vapour, wind_speed=rng.gamma(4.0, 0.9, wet.size), cloud_cover=cover,
        vapour_deficit=deficit, evaporation=_priestley_taylor(mean, radiation, cover),
        water_input=water_input, snow=snow, wetness=_surface(water_input, radiation),
        warmth=_warmth(mean, year),
    )  # fmt: skip


def drought_year(start: int, years: int) -> int:
    """Give the year with the drought: the second of the period, or the only one."""
    return start + min(1, years - 1)


def _rain(
    rng: np.random.Generator, dry_spell: np.ndarray, setting: Setting
) -> tuple[np.ndarray, np.ndarray]:
    draws = rng.random(dry_spell.size)
    wet = np.zeros(dry_spell.size, bool)
    for day in range(1, dry_spell.size):
        chance = _WET_AFTER_WET if wet[day - 1] else _WET_AFTER_DRY
        wet[day] = draws[day] < chance * setting.showers * (0.45 if dry_spell[day] else 1.0)
    amount = rng.gamma(_RAIN_SHAPE, _RAIN_SCALE, dry_spell.size) * np.where(dry_spell, 0.7, 1.0)
    return wet, np.where(wet, np.maximum(amount * setting.rain, 0.1), 0.0)


def _mean_temperature(
    rng: np.random.Generator,
    setting: Setting,
    day_of_year: np.ndarray,
    year: np.ndarray,
    cover: np.ndarray,
    dry_spell: np.ndarray,
) -> np.ndarray:
    season = np.cos(2 * np.pi * (day_of_year - 201) / 365.25)
    anomaly = np.zeros(day_of_year.size)
    shocks = rng.normal(0, 2.1, day_of_year.size)
    for day in range(1, day_of_year.size):
        anomaly[day] = 0.78 * anomaly[day - 1] + shocks[day]
    by_year = rng.normal(0, 0.7, np.unique(year).size)[year - year.min()]
    # Clouds cool in summer and warm in winter.
    clouds = -2.0 * season * (cover - 0.5)
    course = setting.temperature + setting.amplitude * season
    return course + anomaly + by_year + clouds + np.where(dry_spell, 2.2, 0.0)


def _snow_pack(rain: np.ndarray, temperature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degree-day snow pack: water in it [mm] and water that leaves it or rains through."""
    snow, out = np.zeros(rain.size), np.zeros(rain.size)
    pack = 0.0
    for day in range(rain.size):
        falls = rain[day] if temperature[day] < 0.5 else 0.0
        pack += falls
        melt = min(pack, 3.5 * max(temperature[day], 0.0))
        pack -= melt
        snow[day], out[day] = pack, rain[day] - falls + melt
    return snow, out


def _priestley_taylor(
    temperature: np.ndarray, radiation: np.ndarray, cover: np.ndarray
) -> np.ndarray:
    slope = 4098 * saturation(temperature) / (temperature + 237.3) ** 2
    net = np.maximum(0.77 * radiation - 65 * (1 - 0.6 * cover), 0)
    return 1.26 * slope / (slope + _PSYCHROMETRIC) * net * 86400 / _LATENT_HEAT


def _surface(water_input: np.ndarray, radiation: np.ndarray) -> np.ndarray:
    wetness = np.empty(water_input.size)
    state = 0.7
    for day in range(water_input.size):
        state = min(1.0, state * (1 - 0.05 - radiation[day] / 1500) + water_input[day] / 8)
        wetness[day] = state
    return wetness


def _warmth(temperature: np.ndarray, year: np.ndarray) -> np.ndarray:
    above = np.maximum(temperature - 5.0, 0.0)
    total = np.cumsum(above)
    first = np.searchsorted(year, year)
    return total - total[first] + above[first]
