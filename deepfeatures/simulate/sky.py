"""What stands between the land and the satellite: dates, sun, clouds, shadows and haze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.simulate.canopy import VIEWS
from deepfeatures.simulate.noise import fractal, smoothstep, stream
from deepfeatures.simulate.setting import USUAL, Setting
from deepfeatures.simulate.weather import Weather

LONGITUDE = 10.97
"""Longitude of the landscape [degree east]."""
PIXEL = 10.0
"""Edge of a pixel [m]."""
CLEAR, CUMULUS, DECK, VEIL = range(4)
"""Kinds of sky: no cloud, single clouds, a layer with gaps, thin high clouds."""

_OVERPASS = (10 * 3600 + 20 * 60 + 31, 10 * 3600 + 30 * 60 + 29)  # s UTC, by orbit
_CYCLE = 5  # days until a pair of satellites comes back on an orbit
_FIRST_DAY = (1, 3)  # of each orbit in the cycle: passes are 2 or 3 days apart


@dataclass(frozen=True, eq=False)
class Calendar:
    """Acquisitions of Sentinel-2; every field is (time,)."""

    time: np.ndarray
    """Time of the overpass, datetime64[ns] UTC."""
    day: np.ndarray
    """Day after the start, int64."""
    view: np.ndarray
    """Orbit, index into `canopy.VIEWS`, int64."""
    sun_zenith: np.ndarray
    """Sun zenith angle [degree]."""
    sun_azimuth: np.ndarray
    """Sun azimuth, clockwise from north [degree]."""
    kind: np.ndarray
    """Kind of sky, int64."""
    cover: np.ndarray
    """Share of the sky that clouds cover, 0..1."""
    height: np.ndarray
    """Height of the clouds above the ground [m]."""
    haze: np.ndarray
    """Residual aerosol after atmospheric correction, reflectance in the blue band [1]."""
    edge: np.ndarray
    """Share of the landscape that lies outside the swath, 0..1."""
    missed: np.ndarray
    """How badly the scene classification misses thin clouds, 0..1."""


def calendar(seed: int, weather: Weather, setting: Setting = USUAL) -> Calendar:
    """Choose the acquisitions: two orbits, fewer on days of closed cloud, some lost at random.

    Parameters
    ----------
    seed
        Seed of the landscape.
    weather
        Daily weather; its cloud cover decides about the sky.
    setting
        Gives latitude, haze, and what is lost and missed.
    """
    rng = stream(seed, "calendar")
    days = np.arange(weather.date.size)
    view = np.select([days % _CYCLE == _FIRST_DAY[0], days % _CYCLE == _FIRST_DAY[1]], [0, 1], -1)
    cover = overhead(rng, weather)
    # Archives are searched with a limit on cloud cover, and some passes are never there.
    lost = (cover > 0.80) & (rng.random(days.size) < 0.85) | (rng.random(days.size) < setting.lost)
    day = days[(view >= 0) & ~lost]
    view, cover = view[day], cover[day]
    count = day.size
    seconds = np.array(_OVERPASS)[view] + rng.integers(-4, 5, count)
    time = weather.date[day].astype("datetime64[ns]") + seconds.astype("timedelta64[s]")
    zenith, azimuth = sun(time, setting.latitude, LONGITUDE)
    kind = kinds(rng, cover)
    share, least, most = setting.missed
    return Calendar(
        time=time, day=day, view=view, sun_zenith=zenith, sun_azimuth=azimuth, kind=kind,
        cover=np.where(kind == CLEAR, 0.0, cover), height=heights(rng, kind),
        haze=np.minimum(rng.gamma(*setting.haze, count), 0.06),
        edge=np.where(rng.random(count) < 0.035, rng.uniform(0.1, 0.6, count), 0.0),
        missed=np.where(rng.random(count) < share, rng.uniform(least, most, count), 0.0),
    )  # fmt: skip


def overhead(rng: np.random.Generator, weather: Weather) -> np.ndarray:
    """Draw the share of the sky that clouds cover at the overpass of each day (day,)."""
    usual = weather.cloud_cover * 1.16 - 0.24
    return np.clip(usual + rng.normal(0, 0.06, usual.size), 0, 1)


def kinds(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Draw the kind of sky by the share that clouds cover, (time,) int64."""
    kind = np.select([cover < 0.08, cover < 0.50], [CLEAR, CUMULUS], DECK)
    kind[(cover >= 0.08) & (cover < 0.80) & (rng.random(cover.size) < 0.18)] = VEIL
    return kind


def heights(rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """Draw the height of clouds of each kind above the ground [m]."""
    low, high = np.array([0, 700, 900, 6000])[kind], np.array([1, 1900, 3200, 9000])[kind]
    return rng.uniform(low, high)


def sun(time: np.ndarray, latitude: float, longitude: float) -> tuple[np.ndarray, np.ndarray]:
    """Give zenith and azimuth of the sun [degree], without refraction.

    The almanac of Michalsky 1988 (doi:10.1016/0038-092X(88)90045-X), within 0.01 degree.

    Parameters
    ----------
    time
        Times, datetime64 UTC.
    latitude, longitude
        Place [degree].
    """
    noon = np.datetime64("2000-01-01T12:00")
    days = (time - noon).astype("timedelta64[s]").astype(float) / 86400
    hour = (time - time.astype("datetime64[D]")).astype("timedelta64[s]").astype(float) / 3600
    anomaly = np.radians(357.528 + 0.9856003 * days)
    mean = 280.460 + 0.9856474 * days
    ecliptic = np.radians(mean + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    sidereal = 6.697375 + 0.0657098242 * days + hour
    angle = np.radians(15 * sidereal + longitude) - ascension
    phi = np.radians(latitude)
    height = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    east = -np.cos(declination) * np.sin(angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(angle)
    return np.degrees(np.arccos(height)), np.degrees(np.arctan2(east, north)) % 360


def shadow_offset(height: float, sun_zenith: float, sun_azimuth: float) -> tuple[int, int]:
    """Give rows and columns from a cloud at `height` [m] to its shadow: away from the sun."""
    length = height * np.tan(np.radians(sun_zenith)) / PIXEL
    azimuth = np.radians(sun_azimuth)
    return round(float(length * np.cos(azimuth))), round(float(-length * np.sin(azimuth)))


@dataclass(frozen=True, eq=False)
class Sky:
    """Fields of all dates, each (time, y, x) float16."""

    cloud: np.ndarray
    """Opacity of the clouds, 0..1."""
    shadow: np.ndarray
    """Share of direct sunlight that clouds take, 0..1."""
    haze: np.ndarray
    """Haze as reflectance in the blue band [1]."""
    missing: np.ndarray
    """1 outside the swath."""


def paint(seed: int, size: int, dates: Calendar, name: str = "sky") -> Sky:
    """Compute clouds, shadows and haze of the whole grid for all dates.

    Clouds are thresholded fractal fields on a periodic sky of twice the edge, so that the shadow
    of a cloud outside the grid still falls into it.

    Parameters
    ----------
    seed, size
        Seed and edge [px] of the landscape.
    dates
        Acquisitions.
    name
        Stream of random numbers, one of `noise.STREAMS`.
    """
    shape = (dates.time.size, size, size)
    fields = [np.zeros(shape, np.float16) for _ in range(4)]
    for i in range(shape[0]):
        opacity, veil = _clouds(seed, size, dates, i, name)
        rows, columns = shadow_offset(dates.height[i], dates.sun_zenith[i], dates.sun_azimuth[i])
        shade = np.roll(opacity, (rows, columns), (0, 1))
        crop = np.s_[:size, :size]
        fields[0][i] = 1 - (1 - opacity[crop]) * (1 - veil[crop])
        fields[1][i] = 1 - (1 - shade[crop]) * (1 - 0.35 * veil[crop])
        fields[2][i] = _haze(seed, size, dates, i, name)
        fields[3][i] = _outside(seed, size, dates, i)
    return Sky(*fields)


def _clouds(
    seed: int, size: int, dates: Calendar, i: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Opacity of low clouds and of high thin ones on the periodic sky of twice the edge."""
    grid = max(2 * size, 192)
    kind, cover = int(dates.kind[i]), float(dates.cover[i])
    nothing = np.zeros((grid, grid), np.float32)
    if kind == CLEAR:
        return nothing, nothing
    rng = stream(seed, name, int(dates.day[i]))
    largest = {CUMULUS: rng.uniform(60, 130), DECK: rng.uniform(200, 500), VEIL: 400}[kind]
    field = fractal(rng, grid, largest=largest, smallest=4, slope=3.7 if kind == CUMULUS else 4.0)
    over = field - np.quantile(field[:size, :size], min(max(1 - cover, 0.0), 1.0))
    if kind == VEIL:
        streaks = 0.5 + 0.5 * smoothstep(over / 2 + 0.5)
        return nothing, (0.05 + 0.30 * cover) * smoothstep(over / 1.5 + 0.35) * streaks
    sharpness = rng.uniform(2.5, 4.5) if kind == CUMULUS else rng.uniform(1.2, 2.6)
    thick = 1 - np.exp(-sharpness * np.maximum(over + 0.10, 0) ** 1.3 / 0.55)
    return np.minimum(thick, 0.985).astype(np.float32), nothing


def _haze(seed: int, size: int, dates: Calendar, i: int, name: str) -> np.ndarray:
    if dates.haze[i] == 0:
        return np.zeros((size, size), np.float32)
    rng = stream(seed, name, int(dates.day[i]), 1)
    field = fractal(rng, size, largest=size, smallest=24, slope=3.2)
    return dates.haze[i] * np.clip(1 + 0.35 * field, 0.2, 2.2)


def _outside(seed: int, size: int, dates: Calendar, i: int) -> np.ndarray:
    """Beyond the edge of the swath, which runs along the inclined track of the satellite."""
    if dates.edge[i] == 0:
        return np.zeros((size, size), np.float32)
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    across = steps[None, :] + 0.23 * (steps[:, None] - 0.5)
    east = VIEWS[int(dates.view[i])][1] < 180
    side = across > 1 - dates.edge[i] if east else across < dates.edge[i]
    return side.astype(np.float32)
