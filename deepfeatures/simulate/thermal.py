"""Land surface temperature of a thermal radiometer, from the energy balance of the land.

The temperature of leaves and of the soil between them solves the combination equation (Jackson
et al. 1981, doi:10.1029/WR017i004p01133) with isothermal net radiation (Jones 2014, Plants and
Microclimate, ISBN 9780521279598):

``Ts - Ta = r * (g * (Rn - G) / (rho cp) - D) / (g + s * r)``

with ``g = gamma * (ra + rs)`` and ``1 / r = 1 / ra + 4 sigma Ta^3 / (rho cp)``, where ``ra`` and
``rs`` are the resistances of air and surface, ``D`` the vapour pressure deficit and ``s`` the
slope of the saturation curve. Leaves close their stomata with the water stress of the growth
(minimum of FAO-56, ISBN 92-5-104219-5), soil dries up as in Sellers et al. 1992
(doi:10.1029/92JD01096). The radiometer sees both by their cover, ``T^4 = f Tc^4 + (1 - f) Ts^4``
(Norman et al. 1995, doi:10.1016/0168-1923(95)02265-Y), as if their emissivity were known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.meteo import fao_saturation as saturation
from deepfeatures.simulate import canopy, scene, surfaces
from deepfeatures.simulate.growth import EXTINCTION, Growth
from deepfeatures.simulate.land import BEECH, MAIZE, PINE, SPRUCE, TOWN, WATER, WHEAT, Land
from deepfeatures.simulate.noise import stream
from deepfeatures.simulate.sky import LONGITUDE, Calendar, Sky, heights, kinds, overhead, sun
from deepfeatures.simulate.weather import Weather

CELL = 10
"""Edge of a native cell [px]: 100 m."""
NOISE = 0.5
"""Standard deviation of the noise of a cell [K]."""
FREEZING = 273.15
"""0 degC [K]."""

_CYCLE, _FIRST_DAY = 8, 4  # days between passes of the pair of satellites, day of the first
_OVERPASS = 10 * 3600 + 11 * 60 + 40  # s UTC
_LOST = 0.12  # share of passes that the archive lacks
_OPAQUE = 0.05  # opacity of cloud or shadow from which a cell has no value

_STEFAN_BOLTZMANN = 5.67e-8  # W m-2 K-4
_HEAT = 1200.0  # volumetric heat capacity of air [J m-3 K-1]
_PSYCHROMETRIC = 0.66  # hPa K-1
_SOLAR_CONSTANT = 1361.0  # W m-2
_STOMATA = 100.0  # resistance of an open leaf [s m-1], FAO-56
_INTO_GROUND, _INTO_STANDS = 0.30, 0.06  # share of net radiation that warms ground and plants
# Resistance of the air [s m-1] times wind speed [m s-1]: tall and rough land is well coupled.
_COUPLING = {BEECH: 45.0, SPRUCE: 40.0, PINE: 40.0, WHEAT: 110.0, MAIZE: 80.0, TOWN: 80.0}
_SHORT = 150.0
_GROUND = 190.0  # the same of bare ground
_TOWN_ALBEDO = 0.15


def calendar(seed: int, weather: Weather, latitude: float) -> Calendar:
    """Choose the acquisitions: one in eight days, fewer on days of closed cloud, some lost.

    Parameters
    ----------
    seed
        Seed of the landscape.
    weather
        Daily weather; its cloud cover decides about the sky.
    latitude
        Latitude of the sun [degree north].
    """
    rng = stream(seed, "thermal")
    cover = overhead(rng, weather)
    chance = rng.random(cover.size)
    day = np.arange(_FIRST_DAY, cover.size, _CYCLE)
    # A series has at least one date, whatever is lost.
    day = day[(chance[day] > np.where(cover[day] > 0.8, 0.7, _LOST)) | (day == day[0])]
    cover, count = cover[day], day.size
    time = weather.date[day].astype("datetime64[ns]") + np.timedelta64(_OVERPASS, "s")
    zenith, azimuth = sun(time, latitude, LONGITUDE)
    kind = kinds(rng, cover)
    nothing = np.zeros(count)
    return Calendar(
        time=time, day=day, view=rng.integers(0, len(canopy.VIEWS), count), sun_zenith=zenith,
        sun_azimuth=azimuth, kind=kind, cover=cover, height=heights(rng, kind), haze=nothing,
        edge=np.where(rng.random(count) < 0.03, rng.uniform(0.1, 0.6, count), 0.0),
        missed=nothing,
    )  # fmt: skip


def surface_temperature(
    weather: Weather,
    dates: Calendar,
    latitude: float,
    land: Land,
    grown: Growth,
    sky: Sky,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """Render the land surface temperature of a block [K], (time_lst, y, x) float32.

    Cells of 100 m are means of the pixels below, repeated to the 10 m grid and cut at the border
    of the block; a cell with cloud, cloud shadow or no observation anywhere in it is NaN.

    Parameters
    ----------
    weather, dates, latitude
        Of the landscape; the dates are those of `calendar`.
    land, grown
        The pixels of the block, flattened.
    sky
        Clouds and shadows of the block, (time_lst, y, x).
    rng
        Stream for the noise of this block.
    shape
        Rows and columns of the block.
    """
    found = np.empty((dates.time.size, *shape), np.float32)
    lake = _lake(weather.temperature_mean)
    for i in range(dates.time.size):
        day = int(dates.day[i])
        air = _air(weather, dates, i, latitude)
        seen = _land(air, weather, land, grown, day) + FREEZING
        seen = np.where(land.label == WATER, lake[day] + FREEZING, seen)
        noise = rng.standard_normal(shape, dtype=np.float32)[::CELL, ::CELL]
        noise = noise.repeat(CELL, 0).repeat(CELL, 1)[: shape[0], : shape[1]]
        hidden = (sky.cloud[i] > _OPAQUE) | (sky.shadow[i] > _OPAQUE) | (sky.missing[i] > 0)
        values = scene.cells(seen.reshape(shape).astype(np.float32), CELL) + NOISE * noise
        hidden = scene.cells(hidden.astype(np.float32), CELL) > 0
        found[i] = np.where(hidden, np.nan, np.round(values, 2))
    return found


@dataclass(frozen=True)
class Air:
    """The air at the moment of an overpass, under a clear sky."""

    temperature: float
    """Air temperature [degC]."""
    deficit: float
    """Vapour pressure deficit [hPa]."""
    sunlight: float
    """Downward short-wave radiation [W m-2]."""
    outgoing: float
    """Net long-wave radiation of a surface at air temperature [W m-2]."""
    wind: float
    """Wind speed [m s-1]."""

    def excess(
        self, albedo: np.ndarray | float, stored: float, coupling: np.ndarray | float,
        surface: np.ndarray | float,
    ) -> np.ndarray:  # fmt: skip
        """Give how much warmer than the air a surface is [K].

        Parameters
        ----------
        albedo
            Albedo [1].
        stored
            Share of the net radiation that goes into the ground [1].
        coupling
            Resistance of the air times wind speed [1].
        surface
            Resistance of the surface to vapour [s m-1].
        """
        kelvin = self.temperature + FREEZING
        # Below zero under a low sun: then the ground gives heat.
        net = ((1 - albedo) * self.sunlight - self.outgoing) * (1 - stored)
        aerodynamic = coupling / self.wind
        heat = 1 / (1 / aerodynamic + 4 * _STEFAN_BOLTZMANN * kelvin**3 / _HEAT)
        pressure = float(saturation(np.float64(self.temperature)))
        slope = 4098 * pressure / (self.temperature + 237.3) ** 2
        vapour = _PSYCHROMETRIC * (aerodynamic + surface)
        found = heat * (vapour * net / _HEAT - self.deficit) / (vapour + slope * heat)
        return np.asarray(found)


def air_temperature(low: float, high: float, hour: float, day_length: float) -> float:
    """Give the air temperature of an hour by daylight [unit of `low`].

    A sine from the minimum at sunrise to the maximum after noon (Parton and Logan 1981,
    doi:10.1016/0002-1571(81)90105-9, whose lag of the maximum is 1.86 h).

    Parameters
    ----------
    low, high
        Minimum and maximum of the day.
    hour
        Solar time [h].
    day_length
        Time from sunrise to sunset [h].
    """
    since = np.clip(hour - (12 - day_length / 2), 0, day_length)
    return float(low + (high - low) * np.sin(np.pi * since / (day_length + 2 * 1.86)))


def day_length(day_of_year: float, latitude: float) -> float:
    """Give the time from sunrise to sunset [h] (FAO-56, equations 24, 25 and 34).

    Parameters
    ----------
    day_of_year
        1 on the first of January.
    latitude
        Latitude [degree north], outside of the polar circles.
    """
    declination = 0.409 * np.sin(2 * np.pi * day_of_year / 365 - 1.39)
    sunset = np.arccos(-np.tan(np.radians(latitude)) * np.tan(declination))
    return float(24 / np.pi * sunset)


def _air(weather: Weather, dates: Calendar, i: int, latitude: float) -> Air:
    day = int(dates.day[i])
    cosine = max(float(np.cos(np.radians(dates.sun_zenith[i]))), 0.0)
    vapour = float(weather.vapour_pressure[day])
    hour = _OVERPASS / 3600 + LONGITUDE / 15
    length = day_length(float(weather.day_of_year[day]), latitude)
    low, high = float(weather.temperature_min[day]), float(weather.temperature_max[day])
    warm = air_temperature(low, high, hour, length)
    # FAO-56, equations 37 and 39, for a clear sky.
    emitted = _STEFAN_BOLTZMANN * (warm + FREEZING) ** 4
    return Air(
        temperature=warm,
        deficit=max(float(saturation(np.float64(warm))) - vapour, 0.0),
        sunlight=0.75 * _SOLAR_CONSTANT * cosine,
        outgoing=emitted * (0.34 - 0.14 * np.sqrt(vapour / 10)),
        wind=max(float(weather.wind_speed[day]), 1.5),
    )


def _land(air: Air, weather: Weather, land: Land, grown: Growth, day: int) -> np.ndarray:
    """Temperature of all that is no water (pixel,) [degC]."""
    plants, leaves = grown.plant_area[day], grown.leaf_area[day]
    cover = 1 - np.exp(-EXTINCTION * plants)
    active = 0.5 * leaves * (1 - grown.brown[day]) * grown.supply[day] / np.maximum(cover, 0.01)
    coupling = np.array([_COUPLING.get(k, _SHORT) for k in range(11)])[land.label]
    stomata = _STOMATA / np.maximum(active, 0.02)
    # Straw and dry grass are brighter than leaves.
    leafy = air.excess(0.18 + 0.08 * grown.brown[day], _INTO_STANDS, coupling, stomata)
    wetness = float(weather.wetness[day])
    bright = 0.10 + 0.22 * canopy.bare_soil(wetness, land.brightness)
    dry = np.exp(8.206 - 4.255 * wetness)
    ground = air.excess(bright, _INTO_GROUND, _GROUND, dry)
    built = air.excess(_TOWN_ALBEDO, _INTO_GROUND, _COUPLING[TOWN], 1e6)
    green = np.array([surfaces.GREEN[k] for k in sorted(surfaces.GREEN)])[land.surface]
    paved = np.where(land.label == TOWN, 1 - green, 0.0)
    kelvin = air.temperature + FREEZING
    fourth = cover * (kelvin + leafy) ** 4 + (1 - cover) * (kelvin + ground) ** 4
    fourth = (1 - paved) * fourth + paved * (kelvin + built) ** 4
    found = fourth**0.25 - FREEZING
    snow = scene.snow_cover(weather, land, grown, day)
    return found * (1 - snow) + np.minimum(found, 0) * snow


def _lake(temperature: np.ndarray) -> np.ndarray:
    """Give the temperature of the lake (day,) [degC]: it follows the air within three weeks."""
    found = np.empty(temperature.size)
    state = max(float(temperature[:30].mean()), 0.5)
    for day, warm in enumerate(temperature):
        state = max(state + (float(warm) - state) / 20, 0.5)
        found[day] = state
    return found
