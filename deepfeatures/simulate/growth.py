"""Growth day by day: soil water, stress, events, and the carbon that plants take up.

Gross primary production (GPP) is a light-use-efficiency model (Monteith 1972,
doi:10.2307/2401901) with the ramps of temperature and vapour pressure deficit of MOD17 (Running
et al. 2004, doi:10.1641/0006-3568(2004)054[0547:ACSMOG]2.0.CO;2; biome values of the MOD17 user's
guide, version 6) and a factor for soil water:

``GPP = efficiency * f(Tmin) * f(VPD) * f(water) * fAPAR * PAR``

Efficiencies are those that reproduce summers at towers, which are above the ones of MOD17.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.simulate.land import (
    BARE,
    BEECH,
    EVENTS,
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
from deepfeatures.simulate.noise import smoothstep
from deepfeatures.simulate.phenology import Leaves, season
from deepfeatures.simulate.weather import Weather

PAR_SHARE = 0.48
"""Photosynthetically active share of short-wave radiation [1]."""
EXTINCTION = 0.5
"""Extinction coefficient of leaves for that light [1]."""


_Parts = dict[str, np.ndarray]


@dataclass(frozen=True)
class Habit:
    """How a canopy uses light and water."""

    efficiency: float
    """Light-use efficiency without stress [gC MJ-1]."""
    coldest: float
    """Daily minimum temperature without stress [degC]; none is left at -8 degC."""
    driest: float
    """Vapour pressure deficit at which nothing is left [hPa]; stress starts at 6.5 hPa."""
    capacity: float
    """Plant-available water of the root zone [mm]."""
    resistance: float
    """Share of the leaf area that a long drought leaves [1]."""


HABITS: dict[int, Habit] = {
    BEECH: Habit(1.60, 9.94, 26.0, 230, 0.72),
    SPRUCE: Habit(1.30, 8.31, 46.0, 200, 0.86),
    PINE: Habit(1.35, 8.31, 46.0, 180, 0.86),
    WHEAT: Habit(1.75, 9.0, 43.0, 210, 0.60),
    MAIZE: Habit(2.05, 12.02, 43.0, 200, 0.55),
    MEADOW: Habit(1.55, 9.0, 43.0, 135, 0.32),
    BARE: Habit(1.20, 12.02, 43.0, 110, 0.50),
    WATER: Habit(0.0, 12.02, 43.0, 150, 1.0),
    TOWN: Habit(1.30, 9.0, 43.0, 120, 0.40),
    MINE: Habit(0.0, 12.02, 43.0, 60, 1.0),
}
"""Habit of each class."""


@dataclass(frozen=True, eq=False)
class Growth:
    """What grew on pixels, each (day, pixel) float32."""

    leaf_area: np.ndarray
    """Leaf area index [m2 m-2]."""
    chlorophyll: np.ndarray
    """Leaf chlorophyll [ug cm-2]."""
    brown: np.ndarray
    """Brown share of the plant area, 0..1."""
    plant_area: np.ndarray
    """Area of leaves, wood and stubble [m2 m-2]."""
    water: np.ndarray
    """Plant-available water in the root zone [mm]."""
    drained: np.ndarray
    """Sum of the water that drained or evaporated since the start [mm], last day only (pixel,)."""
    gpp: np.ndarray
    """Gross primary production [gC m-2 d-1]."""
    supply: np.ndarray
    """Share of the demand for water that the soil meets: 1 without stress, 0 with none left [1]."""


def grow(weather: Weather, land: Land) -> Growth:
    """Grow pixels through the whole period.

    Parameters
    ----------
    weather
        Daily weather.
    land
        The pixels: maps flattened to (pixel,).
    """
    leaves = _after_events(_potential(weather, land), weather, land)
    table = np.array([[0.0] * 5] + [list(vars(HABITS[k]).values()) for k in sorted(HABITS)])
    efficiency, coldest, driest, capacity, resistance = table[land.label].T.astype(np.float32)
    capacity = capacity * land.capacity
    water, drained, supply, memory = _soil_water(weather, leaves.area, capacity)
    # A long drought costs leaves and chlorophyll, and browns what is left.
    area = leaves.area * (resistance + (1 - resistance) * memory)
    chlorophyll = leaves.chlorophyll * (0.68 + 0.32 * memory)
    dead = np.clip(leaves.brown + (1 - memory) * (1 - resistance), 0, 1)
    plant_area = area + leaves.wood
    brown = (area * dead + leaves.wood) / np.maximum(plant_area, 1e-3)
    green = (1 - np.exp(-EXTINCTION * area)) * (1 - dead) * (1 - np.exp(-0.07 * chlorophyll))
    gpp = efficiency * green * supply * _climate(weather, coldest, driest)
    return Growth(
        leaf_area=area, chlorophyll=np.where(area > 0.02, chlorophyll, 0).astype(np.float32),
        brown=brown.astype(np.float32), plant_area=plant_area, water=water, drained=drained,
        gpp=gpp.astype(np.float32), supply=supply,
    )  # fmt: skip


def green_up(weather: Weather, leaf_area: np.ndarray) -> np.ndarray:
    """Find the day on which half of the spring's rise of leaf area is reached.

    Parameters
    ----------
    weather
        Daily weather of whole years.
    leaf_area
        Leaf area index (day, pixel).

    Returns
    -------
    numpy.ndarray
        (year, pixel) int16, day of the year; 0 where leaf area rises by less than 0.5 or by less
        than a tenth.
    """
    years = weather.date.astype("datetime64[Y]")
    found = []
    for year in np.unique(years):
        area = leaf_area[years == year][:240]
        peak = area.argmax(0)
        before = np.arange(area.shape[0])[:, None] <= peak
        low = np.where(before, area, np.inf).min(0)
        high = area.max(0)
        # The last crossing before the peak: winter cover that is ploughed in does not count.
        below = before & (area < (low + high) / 2)
        day = area.shape[0] - below[::-1].argmax(0) + 1
        rise = (high - low >= 0.5) & (high - low >= 0.1 * high) & below.any(0)
        found.append(np.where(rise, day, 0))
    return np.stack(found).astype(np.int16)


def _potential(weather: Weather, land: Land) -> Leaves:
    shape = (weather.date.size, land.label.size)
    parts = [np.zeros(shape, np.float32) for _ in range(4)]
    for label in np.unique(land.label):
        here = np.flatnonzero(land.label == label)
        some = season(int(label), weather, _pixels(land, here))
        for part, values in zip(parts, vars(some).values(), strict=True):
            part[:, here] = values
    return Leaves(*parts)


def _pixels(land: Land, index: np.ndarray) -> Land:
    return Land(**{name: values[index] for name, values in vars(land).items()})


def _after_events(leaves: Leaves, weather: Weather, land: Land) -> Leaves:
    parts = {name: values for name, values in vars(leaves).items()}
    up = smoothstep((weather.warmth[:, None] - 60) / 350) * (weather.day_of_year[:, None] < 290)
    for event in np.unique(land.event[land.event > 0]):
        here = np.flatnonzero(land.event == event)
        since = np.arange(weather.date.size)[:, None] - land.event_day[here]
        old = {name: values[:, here] for name, values in parts.items()}
        new = {
            "tree_mortality": _mortality, "logging": _logging, "mining": _mining,
        }[EVENTS[event]](old, since, up)  # fmt: skip
        for name, values in new.items():
            parts[name][:, here] = np.where(since >= 0, values, old[name])
    return Leaves(**parts)


def _mortality(
    old: dict[str, np.ndarray], since: np.ndarray, up: np.ndarray
) -> dict[str, np.ndarray]:
    """Crowns turn from green to red-brown within weeks, lose needles within a year."""
    herbs = up * (since > 260)
    return {
        "area": old["area"] * (1 - 0.85 * smoothstep((since - 40) / 260))
        + 0.8 * up * smoothstep((since - 230) / 200),
        "chlorophyll": old["chlorophyll"] * (1 - 0.92 * smoothstep(since / 60))
        + 22 * up * smoothstep((since - 230) / 200),
        "brown": old["brown"] + 0.95 * smoothstep((since - 8) / 60) * (1 - 0.4 * herbs),
        "wood": old["wood"] * (1 + 0.4 * smoothstep((since - 40) / 260)),
    }


def _logging(
    old: dict[str, np.ndarray], since: np.ndarray, up: np.ndarray
) -> dict[str, np.ndarray]:
    """Trunks are gone on the day, slash stays, herbs and young trees come in the next years."""
    herbs = smoothstep(since / 420)
    return {
        "area": 0.12 + 2.1 * up * herbs,
        "chlorophyll": np.full(since.shape, 34.0),
        "brown": 0.7 - 0.55 * herbs,
        "wood": 0.45 * (1 - 0.6 * herbs),
    }


def _mining(old: _Parts, since: np.ndarray, up: np.ndarray) -> _Parts:
    return {name: np.zeros(since.shape) for name in old}


def _soil_water(
    weather: Weather, area: np.ndarray, capacity: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fill and empty the root zone; give water, losses, supply 0..1 and its slow memory 0..1."""
    cover = 1 - np.exp(-EXTINCTION * area)
    demand = weather.evaporation[:, None].astype(np.float32) * (0.20 + 0.68 * cover)
    rain = weather.water_input.astype(np.float32)
    water, supply, memory = (np.empty(area.shape, np.float32) for _ in range(3))
    state = np.float32(0.85) * capacity
    slow = np.ones(capacity.shape, np.float32)
    lost = np.zeros(capacity.shape, np.float32)
    for day in range(area.shape[0]):
        enough = np.minimum(state / (0.30 * capacity), 1)
        supply[day] = enough
        slow = slow + (enough - slow) / np.float32(22)
        memory[day] = slow
        used = np.minimum(demand[day] * enough, state)
        filled = state - used + rain[day]
        state = np.minimum(filled, capacity)
        lost = lost + used + (filled - state)
        water[day] = state
    return water, lost, supply, memory


def _climate(weather: Weather, coldest: np.ndarray, driest: np.ndarray) -> np.ndarray:
    """Light times the ramps of temperature and vapour pressure deficit [MJ m-2 d-1]."""
    light = (PAR_SHARE * weather.solar_radiation * 0.0864).astype(np.float32)
    cold = weather.temperature_min.astype(np.float32)[:, None]
    dry = weather.vapour_deficit.astype(np.float32)[:, None]
    warm = np.clip((cold + 8) / (coldest + 8), 0, 1)
    moist = np.clip((driest - dry) / (driest - 6.5), 0, 1)
    return light[:, None] * warm * moist
