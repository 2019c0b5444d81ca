"""Radar backscatter of Sentinel-1 from the water-cloud model.

A canopy is a cloud of water drops above soil (Attema and Ulaby 1978,
doi:10.1029/RS013i002p00357): with ``t2 = exp(-2 B L / cos(i))``,

``sigma = A L^E cos(i) (1 - t2) + t2 * soil``

where L is the plant area index, i the incidence angle, and the soil brightens with moisture.
Speckle is gamma distributed with the equivalent number of looks of the GRD product, 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.simulate.growth import Growth
from deepfeatures.simulate.land import (
    ASPHALT,
    BARE,
    BEECH,
    EVENTS,
    GARDEN,
    MAIZE,
    MEADOW,
    MINE,
    PINE,
    SPRUCE,
    TOWN,
    WATER,
    WHEAT,
    Land,
)  # fmt: skip
from deepfeatures.simulate.noise import stream
from deepfeatures.simulate.weather import Weather

POLARISATIONS = ("VV", "VH")
"""Polarisations in the order of the array."""
ASCENDING, DESCENDING = 1, 2
"""Values of ``orbit``."""
LOOKS = 4.4
"""Equivalent number of looks of a pixel."""

_INCIDENCE = {ASCENDING: 38.5, DESCENDING: 43.0}  # degree
_PASSES = ((2, ASCENDING, "17:09:20"), (8, DESCENDING, "05:25:40"))  # day in a cycle of 12 days

# A (VV, VH), B (VV, VH) and exponent E of each class; sigma in linear units.
_CLOUD: dict[int, tuple[float, float, float, float, float]] = {
    BEECH: (0.135, 0.036, 0.34, 0.30, 0.06),
    SPRUCE: (0.125, 0.033, 0.32, 0.30, 0.06),
    PINE: (0.150, 0.038, 0.36, 0.34, 0.06),
    WHEAT: (0.030, 0.0085, 0.26, 0.20, 0.25),
    MAIZE: (0.095, 0.025, 0.24, 0.22, 0.30),
    MEADOW: (0.062, 0.014, 0.30, 0.26, 0.20),
    BARE: (0.062, 0.014, 0.30, 0.26, 0.20),
    WATER: (0.0, 0.0, 0.0, 0.0, 1.0),
    TOWN: (0.062, 0.014, 0.30, 0.26, 0.20),
    MINE: (0.0, 0.0, 0.0, 0.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class Passes:
    """Acquisitions of Sentinel-1; every field is (time_s1,)."""

    time: np.ndarray
    """Time, datetime64[ns] UTC."""
    day: np.ndarray
    """Day after the start, int64."""
    orbit: np.ndarray
    """`ASCENDING` or `DESCENDING`, uint8."""


def passes(seed: int, weather: Weather) -> Passes:
    """Give the acquisitions: each orbit once in twelve days, a few lost."""
    rng = stream(seed, "radar")
    rows = []
    for offset, orbit, clock in _PASSES:
        for day in range(offset, weather.date.size, 12):
            if rng.random() > 0.04:
                rows.append((np.datetime64(f"{weather.date[day]}T{clock}", "ns"), day, orbit))
    rows.sort()
    times, days, orbits = zip(*rows, strict=True)
    return Passes(np.array(times), np.array(days, np.int64), np.array(orbits, np.uint8))


def backscatter(
    weather: Weather,
    dates: Passes,
    land: Land,
    grown: Growth,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """Render the backscatter of a block [dB], (time_s1, polarisation, y, x) float32.

    Parameters
    ----------
    weather, dates
        Of the landscape.
    land, grown
        The pixels of the block, flattened.
    rng
        Stream for the speckle of this block.
    shape
        Rows and columns of the block.
    """
    found = np.empty((dates.time.size, len(POLARISATIONS), *shape), np.float32)
    for i, (day, orbit) in enumerate(zip(dates.day, dates.orbit, strict=True)):
        power = _power(weather, land, grown, int(day), int(orbit))
        speckle = rng.gamma(LOOKS, 1 / LOOKS, power.shape).astype(np.float32)
        found[i] = (10 * np.log10(np.maximum(power * speckle, 1e-4))).reshape(-1, *shape)
    return found


def _power(weather: Weather, land: Land, grown: Growth, day: int, orbit: int) -> np.ndarray:
    """Backscatter without speckle, (polarisation, pixel) in linear units."""
    cosine = np.float32(np.cos(np.radians(_INCIDENCE[orbit])))
    table = np.array([_CLOUD.get(k, (0,) * 5) for k in range(11)], np.float32)[land.label].T
    area = np.maximum(grown.plant_area[day], 1e-3)
    # Frozen ground and dry snow look like dry soil.
    wet = weather.wetness[day] if weather.temperature_mean[day] > -1 else 0.1
    rough = 0.9 * land.texture + 2.2 * (land.brightness - 0.5)
    found = []
    for p in range(len(POLARISATIONS)):
        soil_db = (-16.2, -24.0)[p] + (5.6, 4.8)[p] * wet + rough
        soil = 10 ** (soil_db / 10).astype(np.float32)
        two_way = np.exp(-2 * table[2 + p] * area / cosine)
        power = table[p] * area ** table[4] * cosine * (1 - two_way) + two_way * soil
        found.append(_special(power, land, day, orbit, p))
    return np.stack(found)


def _special(power: np.ndarray, land: Land, day: int, orbit: int, p: int) -> np.ndarray:
    """Replace water, which mirrors the pulse away, and walls, which mirror it back."""
    water = 10 ** ((-20.5, -27.5)[p] / 10) * (1 + 0.1 * land.texture)
    walls = 10 ** (((-4.5, -11.5)[p] + 2.2 * land.texture + 1.2 * (orbit == ASCENDING)) / 10)
    built = (land.label == TOWN) & (land.surface != GARDEN) & (land.surface != ASPHALT)
    mined = (land.event == EVENTS.index("mining")) & (land.event_day <= day)
    power = np.where(land.label == WATER, np.maximum(water, 1e-4), power)
    power = np.where(built & ~mined, walls, power)
    return power.astype(np.float32)
