"""Leaf area and pigments that each canopy would have with enough water, day by day.

Green-up follows the sum of warmth (Menzel 2002, doi:10.1023/A:1021249520542, on degree-day
models of leaf unfolding), autumn the length of the day, crops the calendar of their farmer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.simulate.land import (
    BARE,
    BEECH,
    GARDEN,
    MAIZE,
    MEADOW,
    PINE,
    SPRUCE,
    TOWN,
    WHEAT,
    Land,
)  # fmt: skip
from deepfeatures.simulate.noise import smoothstep
from deepfeatures.simulate.weather import Weather


@dataclass(frozen=True, eq=False)
class Leaves:
    """Leaves of pixels, each (day, pixel) float32."""

    area: np.ndarray
    """Leaf area index [m2 m-2]."""
    chlorophyll: np.ndarray
    """Leaf chlorophyll [ug cm-2]."""
    brown: np.ndarray
    """Share of dead or brown leaves, 0..1."""
    wood: np.ndarray
    """Area of stems, branches and stubble [m2 m-2]."""


@dataclass(frozen=True)
class Trees:
    """Yearly course of a forest canopy."""

    low: float
    """Leaf area in winter as a share of that in summer."""
    high: float
    """Leaf area in summer [m2 m-2]."""
    wood: float
    """Wood area [m2 m-2]."""
    chlorophyll: float
    """Chlorophyll in summer [ug cm-2]."""
    start: float
    """Warmth at bud break [degC d]."""
    span: float
    """Further warmth until the leaves are full [degC d]."""


TREES = {
    BEECH: Trees(0.0, 4.8, 0.75, 42, 110, 130),
    SPRUCE: Trees(0.82, 4.6, 0.40, 45, 230, 330),
    PINE: Trees(0.74, 2.7, 0.45, 43, 260, 380),
}
"""Forest canopies."""


def season(label: int, weather: Weather, land: Land) -> Leaves:
    """Give the potential leaves of pixels that share one class.

    Parameters
    ----------
    label
        Class, index into `land.CLASSES`.
    weather
        Daily weather.
    land
        The pixels: maps flattened to (pixel,).
    """
    if label in TREES:
        return _trees(TREES[label], weather, land)
    if label == WHEAT:
        return _wheat(weather, land)
    if label == MAIZE:
        return _maize(weather, land)
    if label == MEADOW:
        return _meadow(weather, land, np.ones(land.label.shape))
    if label == TOWN:
        return _meadow(weather, land, np.where(land.surface == GARDEN, 0.8, 0.12))
    return _weeds(weather, land, 0.35 if label == BARE else 0.0)


def chance(parcel: np.ndarray, key: int | np.ndarray) -> np.ndarray:
    """Give a number in 0..1 for each parcel and key (a year, say), the same for the same pair."""
    mixed = parcel.astype(np.int64) * 2654435761 + np.asarray(key) * 40503 + 12345
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 % 2**32
    return (((mixed ^ (mixed >> 13)) % 65521) / 65521).astype(np.float32)


def _clock(weather: Weather) -> tuple[np.ndarray, np.ndarray]:
    """Warmth [degC d] and day of the year as columns (day, 1) float32."""
    return weather.warmth[:, None].astype(np.float32), weather.day_of_year[:, None].astype("f4")


def _draw(weather: Weather, land: Land, key: int) -> np.ndarray:
    """Give a number in 0..1 for each day and pixel that changes with the year and the parcel."""
    year = weather.date.astype("datetime64[Y]").astype(int) + 1970
    first = int(year[0])
    keys = np.arange(first, int(year[-1]) + 1)[:, None] + key
    return chance(land.parcel, keys)[year - first]


def _leaves(
    area: np.ndarray, chlorophyll: np.ndarray, brown: np.ndarray, wood: np.ndarray | float
) -> Leaves:
    parts = (area, chlorophyll, np.clip(brown, 0, 1), np.broadcast_to(wood, area.shape))
    return Leaves(*(np.ascontiguousarray(part, dtype=np.float32) for part in parts))


def _trees(tree: Trees, weather: Weather, land: Land) -> Leaves:
    warmth, day = _clock(weather)
    # Short days hold buds back in a warm March (Koerner and Basler 2010,
    # doi:10.1126/science.1186473).
    long_days = smoothstep((day - 92 - 3 * land.timing) / 22)
    up = np.minimum(smoothstep((warmth - tree.start - 22 * land.timing) / tree.span), long_days)
    green = smoothstep((warmth - tree.start - 22 * land.timing - 30) / (tree.span + 150))
    autumn = day - 274 - 5 * land.timing
    fall = smoothstep(autumn / 36)
    shed = smoothstep((autumn - 12) / 34)
    deciduous = 1.0 - tree.low
    area = tree.high * land.vigour * (tree.low + deciduous * up * (1 - shed))
    pigment = np.where(tree.low > 0, 0.86 + 0.14 * green, 0.45 + 0.55 * green)
    chlorophyll = tree.chlorophyll * pigment * (1 - 0.9 * (tree.low == 0) * fall)
    # Needles are paler in winter.
    chlorophyll = chlorophyll * (1 - 0.10 * (tree.low > 0) * (fall + (warmth < 60)))
    brown = 0.85 * (tree.low == 0) * fall
    return _leaves(area, chlorophyll, brown, tree.wood * (0.6 + 0.4 * land.vigour))


def _wheat(weather: Weather, land: Land) -> Leaves:
    warmth, day = _clock(weather)
    harvest = 205 + 16 * _draw(weather, land, 0) + 3 * land.timing
    up = smoothstep((warmth - 40 - 25 * land.timing) / 430)
    ripe = smoothstep((day - harvest + 40) / 34)
    growing = 0.45 + (5.0 * land.vigour - 0.45) * up
    standing = day < harvest
    plough = harvest + 14 + 30 * _draw(weather, land, 50)
    sown = 268 + 22 * _draw(weather, land, 90)
    seedling = 0.50 * smoothstep((day - sown - 12) / 60)
    catch = 1.9 * (_draw(weather, land, 7) < 0.45) * smoothstep((day - plough - 10) / 45)
    catch = catch * (day < sown)
    area = np.where(standing, growing * (1 - 0.50 * ripe), np.maximum(seedling, catch))
    chlorophyll = np.where(standing, 28 + 20 * up, 33) * (1 - 0.97 * np.where(standing, ripe, 0))
    brown = np.where(standing, ripe, 0)
    stubble = np.where(standing, 0.25 * up, np.where(day < plough, 0.75, 0.05))
    return _leaves(area, chlorophyll, brown, stubble)


def _maize(weather: Weather, land: Land) -> Leaves:
    warmth, day = _clock(weather)
    sown = 112 + 18 * _draw(weather, land, 0) + 3 * land.timing
    index = np.clip(np.rint(sown).astype(int), 1, 365)
    first = np.arange(warmth.size)[:, None] - weather.day_of_year.astype(int)[:, None] + 1
    last = warmth.size - 1
    at_sowing = warmth[np.minimum(first + index - 1, last), 0]
    since = np.where(day >= sown, warmth - at_sowing, 0)
    up = smoothstep((since - 60) / 620)
    harvest = 262 + 20 * _draw(weather, land, 31)
    ripe = smoothstep((day - harvest + 38) / 42)
    standing = (day >= sown) & (day < harvest)
    cover = chance(land.parcel, 3) < 0.55  # a cover crop between two crops of maize
    spring = (0.6 + 0.9 * smoothstep((warmth - 15) / 160)) * (day < sown - 10)
    autumn = 0.6 * smoothstep((day - harvest - 12) / 70)
    winter = np.where(day >= harvest, autumn, spring) * cover
    area = np.where(standing, 4.4 * land.vigour * up * (1 - 0.35 * ripe), winter)
    chlorophyll = np.where(standing, 28 + 20 * up, 30) * (1 - 0.85 * np.where(standing, ripe, 0))
    brown = np.where(standing, 0.8 * ripe, 0)
    bare_stalks = np.where(standing, 0.15 * up, np.where(day >= harvest, 0.45, 0.10))
    return _leaves(area, chlorophyll, brown, bare_stalks)


def _meadow(weather: Weather, land: Land, cover: np.ndarray) -> Leaves:
    warmth, day = _clock(weather)
    up = smoothstep((warmth - 20 - 14 * land.timing) / 300)
    down = smoothstep((day - 268 - 6 * land.timing) / 75)
    regrown = np.ones((weather.date.size, land.label.size), np.float32)
    for number, usual in enumerate((142, 192, 246)):
        cut = usual + 22 * (_draw(weather, land, 100 * (number + 1)) - 0.5)
        # The third cut is not made everywhere.
        made = (number < 2) | (_draw(weather, land, 400) < 0.6)
        since = np.where((day >= cut) & made, day - cut, np.float32(np.inf))
        regrown = np.minimum(regrown, 0.16 + 0.84 * smoothstep((since + 4) / 48))
    top = 4.0 * land.vigour
    area = (0.95 + (top - 0.95) * up * (1 - down)) * np.where(up > 0.5, regrown, 1.0)
    chlorophyll = (36 + 12 * up * (1 - 0.6 * down)) * (0.72 + 0.28 * regrown)
    brown = 0.07 + 0.18 * (1 - up * (1 - down)) + 0.18 * (1 - regrown) * (up > 0.5)
    return _leaves(area * cover, chlorophyll, brown, 0.22 * cover)


def _weeds(weather: Weather, land: Land, height: float) -> Leaves:
    warmth, day = _clock(weather)
    up = smoothstep((warmth - 60 - 20 * land.timing) / 500)
    area = height * land.vigour * (0.2 + 0.8 * up * (1 - smoothstep((day - 265) / 40)))
    return _leaves(area, np.full(area.shape, 32.0), np.full(area.shape, 0.15), 0.0)
