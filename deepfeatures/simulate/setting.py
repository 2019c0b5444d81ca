"""What makes one landscape unlike another: plants, soil, climate, air, archive and instrument.

`USUAL` is the setting of the demo. `draw` varies everything by a seed, so that what is learned
from many landscapes does not learn the constants of one. Leaves stay within the measured ranges
of LOPEX and ANGERS (Feret et al. 2008, doi:10.1016/j.rse.2008.02.012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deepfeatures.bands import BANDS
from deepfeatures.simulate.canopy import CANOPIES, LOAM, Canopy, Soil
from deepfeatures.simulate.noise import stream

LATITUDE = 52.15
"""Latitude of the usual landscape [degree north]."""


@dataclass(frozen=True)
class Setting:
    """The constants of one landscape."""

    canopies: tuple[Canopy, ...] = tuple(CANOPIES.values())
    """Canopies in the order of `canopy.CANOPIES`."""
    soil: Soil = LOAM
    """The open soil."""
    latitude: float = LATITUDE
    """Latitude of sun and radiation [degree north]."""
    temperature: float = 9.9
    """Mean annual air temperature [degC]."""
    amplitude: float = 9.0
    """Half of the difference between summer and winter [K]."""
    rain: float = 1.0
    """Rain of a wet day relative to the usual one [1]."""
    showers: float = 1.0
    """Chance of a wet day relative to the usual one [1]."""
    clarity: float = 1.0
    """Exponent of the daily cloud cover: above 1 the sky is clearer [1]."""
    timing: float = 0.0
    """Shift of the phenology, in standard deviations between sites [1]."""
    vigour: float = 1.0
    """Factor on leaf area [1]."""
    haze: tuple[float, float] = (1.6, 0.0045)
    """Shape (skewness is 2 / sqrt(shape)) and scale of the gamma distribution of the aerosol that
    is left, reflectance in the blue band [1]."""
    missed: tuple[float, float, float] = (0.05, 0.5, 0.95)
    """Share of the dates whose thin clouds the classification misses, and between which shares of
    their opacity it does [1]."""
    lost: float = 0.34
    """Share of the optical acquisitions that the archive lacks [1]."""
    noise: float = 1.0
    """Sensor noise relative to the usual one [1]."""
    gain: tuple[float, ...] = (1.0,) * len(BANDS)
    """Error of the calibration of each band, a factor on reflectance [1]."""
    offset: tuple[float, ...] = (0.0,) * len(BANDS)
    """The same, added to reflectance [1]."""


USUAL = Setting()
"""Lowland of Central Europe: the demo."""


def draw(seed: int) -> Setting:
    """Draw a setting.

    Parameters
    ----------
    seed
        Seed of the landscape; equal seeds give equal settings.
    """
    rng = stream(seed, "setting")
    latitude = rng.uniform(39, 57)
    # About 0.6 K per degree of latitude in the west of Europe.
    temperature = np.clip(9.9 + 0.6 * (LATITUDE - latitude) + rng.normal(0, 1.8), 5.5, 18.5)
    shape, mean = rng.uniform(0.7, 2.6), rng.uniform(0.003, 0.018)
    worst = rng.uniform(0.70, 1.0)
    showers, clarity = rng.uniform(0.7, 1.2), np.exp(rng.uniform(-0.25, 0.9))
    return Setting(
        canopies=tuple(_canopy(rng, usual) for usual in CANOPIES.values()),
        soil=_soil(rng),
        latitude=float(latitude), temperature=float(temperature),
        amplitude=rng.uniform(6.0, 11.5), rain=rng.uniform(0.55, 1.6),
        showers=showers, clarity=float(clarity),
        timing=float(rng.normal(0, 1.2)), vigour=rng.uniform(0.75, 1.15),
        haze=(shape, mean / shape),
        missed=(rng.uniform(0.02, 0.20), worst - rng.uniform(0.2, 0.5), worst),
        lost=_lost(rng, float(clarity), showers), noise=float(np.exp(rng.normal(0, 0.4))),
        gain=tuple(rng.uniform(0.97, 1.03, len(BANDS)).tolist()),
        offset=tuple(rng.uniform(-0.003, 0.003, len(BANDS)).tolist()),
    )  # fmt: skip


def _canopy(rng: np.random.Generator, usual: Canopy) -> Canopy:
    """Vary a canopy: factors are log-normal, angles and shares normal, all within their ranges."""

    def factor(value: float, spread: float, low: float, high: float) -> float:
        return float(np.clip(value * np.exp(rng.normal(0, spread)), low, high))

    def shift(value: float, spread: float, low: float, high: float) -> float:
        return float(np.clip(value + rng.normal(0, spread), low, high))

    layers, water, matter = usual.leaf
    leaf = (
        factor(layers, 0.12, 1.1, 2.7), factor(water, 0.25, 0.0045, 0.034),
        factor(matter, 0.25, 0.0018, 0.025),
    )  # fmt: skip
    return replace(
        usual, leaf=leaf, angle=shift(usual.angle, 7, 22, 72),
        hotspot=factor(usual.hotspot, 0.4, 0.01, 0.3), litter=factor(usual.litter, 0.2, 0.35, 1.1),
        clumping=shift(usual.clumping, 0.08, 0.45, 1.0), tan=shift(usual.tan, 0.18, 0.15, 1.2),
        crowns=factor(usual.crowns, 0.35, 0.0, 0.5),
    )  # fmt: skip


def _lost(rng: np.random.Generator, clarity: float, showers: float) -> float:
    """Draw the share of lost acquisitions for 5 to 18 days between clear ones, where they can be.

    Of the passes, one in two and a half days, about 28 % are clear under the usual sky.
    """
    revisit = np.exp(rng.uniform(np.log(5), np.log(18)))
    clear = 0.28 * clarity**0.7 / showers**0.5
    return float(np.clip(1 - 2.5 / (revisit * clear), 0, 0.8))


def _soil(rng: np.random.Generator) -> Soil:
    """Draw a soil between dark peat, red clay rich in iron and pale chalk."""
    return Soil(
        brightness=float(np.exp(rng.uniform(-0.55, 0.45))),
        redness=rng.uniform(-0.45, 0.9), slope=rng.uniform(-0.45, 0.2),
    )  # fmt: skip
