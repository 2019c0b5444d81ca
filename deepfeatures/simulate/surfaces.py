"""Reflectance of what is no canopy: water, roofs, mine, snow, cloud tops; bands as in `BANDS`.

Typical values of such surfaces in Sentinel-2 scenes, rounded; they carry no further claim.
"""

from __future__ import annotations

import numpy as np

from deepfeatures.simulate.land import ASPHALT, EVENTS, GARDEN, HALL, ROOF, TOWN, WATER, Land
from deepfeatures.simulate.noise import smoothstep


def _spectrum(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# fmt: off
LAKE = _spectrum(.026, .029, .034, .021, .017, .012, .012, .011, .010, .009, .006, .004)
ROOFS = _spectrum(.068, .078, .100, .150, .170, .190, .200, .215, .225, .240, .280, .250)
STREET = _spectrum(.072, .082, .095, .104, .110, .116, .121, .126, .130, .136, .165, .160)
HALLS = _spectrum(.240, .265, .290, .310, .320, .330, .340, .350, .352, .350, .340, .310)
SAND = _spectrum(.108, .132, .180, .232, .258, .275, .292, .310, .320, .338, .410, .375)
LIGNITE = _spectrum(.030, .033, .038, .045, .049, .053, .058, .063, .066, .073, .105, .105)
SPOIL = _spectrum(.080, .098, .128, .160, .176, .190, .203, .217, .225, .242, .310, .285)
SNOW = _spectrum(.840, .860, .860, .855, .855, .850, .840, .820, .800, .740, .100, .080)
CLOUD = _spectrum(.640, .625, .620, .640, .650, .680, .695, .700, .705, .560, .430, .330)
# fmt: on

BENCH = 70.0
"""Days that the mine needs to advance by one bench [d]."""
_BUILT = np.stack([STREET, 0.7 * ROOFS + 0.3 * STREET, STREET, HALLS])
GREEN = {GARDEN: 0.95, ROOF: 0.30, ASPHALT: 0.18, HALL: 0.02}
"""Green share of the surfaces of the town."""


def cover(
    spectra: np.ndarray, soil: np.ndarray, land: Land, day: int, snow: np.ndarray
) -> np.ndarray:
    """Put water, town, mine and snow over the canopies of a date.

    Parameters
    ----------
    spectra
        Reflectance of canopies and soil (pixel, band) float32.
    soil
        Reflectance of the open soil (pixel, band) float32, for the fresh mine.
    land
        The pixels: maps flattened to (pixel,).
    day
        Day after the start.
    snow
        Share of the ground under snow (pixel,).

    Returns
    -------
    numpy.ndarray
        (pixel, band) float32, a new array.
    """
    found = spectra * (1 + 0.035 * land.texture)[:, None]
    water, town = land.label == WATER, land.label == TOWN
    mined = (land.event == EVENTS.index("mining")) & (land.event_day <= day)
    ripple = 1 + 0.06 * land.texture + 0.25 * (land.brightness - 0.5)
    found[water] = (LAKE * ripple[:, None])[water]
    green = np.array([GREEN[kind] for kind in sorted(GREEN)], np.float32)[land.surface][:, None]
    built = _BUILT[land.surface] * (1 + 0.09 * land.texture)[:, None]
    found[town] = (green * found + (1 - green) * built)[town]
    found[mined] = _mine(day - land.event_day, soil, land.texture)[mined]
    white = np.where(water, 0.0, snow).astype(np.float32)[:, None]
    return np.maximum(found * (1 - white) + SNOW * white, 0.001)


def _mine(since: np.ndarray, soil: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Give the surface by the days since the front came: topsoil off, sand, lignite, spoil."""
    bench = np.floor(since / BENCH)
    stage = bench * BENCH
    found = soil * 0.9
    for start, width, spectrum in ((140, 60, SAND), (560, 60, LIGNITE), (840, 60, SPOIL)):
        share = smoothstep((stage - start) / width).astype(np.float32)[:, None]
        found = found * (1 - share) + spectrum * share
    edge = 1 - 0.30 * (since / BENCH - bench < 0.22) + 0.10 * (np.mod(bench, 3) - 1)
    return found * (edge + 0.05 * texture).astype(np.float32)[:, None]
