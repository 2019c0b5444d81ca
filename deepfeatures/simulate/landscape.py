"""The plan of a simulated landscape, and the data of any window of it.

Everything random is keyed by the seed and by a block of 64 x 64 px of the full grid, so a window
gives the same bytes whoever renders it and however the grid is cut into tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter

from deepfeatures.simulate import growth, land, radar, scene, sky, thermal, weather
from deepfeatures.simulate.noise import stream
from deepfeatures.simulate.setting import USUAL, Setting, draw
from deepfeatures.simulate.sky import Sky

BLOCK = 64
"""Edge of the blocks that carry their own streams of noise [px]."""
SMALLEST = 48
"""Edge below which the classes do not find room [px]."""
TOWERS = (
    ("SIM-Bee", land.BEECH), ("SIM-Spr", land.SPRUCE), ("SIM-Whe", land.WHEAT),
    ("SIM-Mea", land.MEADOW),
)  # fmt: skip
"""Name and class of the towers."""
FOOTPRINT = 2
"""Pixels on each side of a tower that it measures (5 x 5 px)."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """The plan of a landscape: what has no more than two dimensions."""

    seed: int
    """Seed of all random numbers."""
    size: int
    """Edge of the grid [px]."""
    start: int
    """First year."""
    years: int
    """Number of years."""
    setting: Setting
    """Plants, soil, climate, air, archive and instrument."""
    weather: weather.Weather
    """Daily weather."""
    land: land.Land
    """Maps."""
    dates: sky.Calendar
    """Acquisitions of Sentinel-2."""
    passes: radar.Passes
    """Acquisitions of Sentinel-1."""
    thermal: sky.Calendar
    """Acquisitions of the thermal radiometer."""

    @cached_property
    def sky(self) -> Sky:
        """Clouds and shadows of the whole grid for all dates (some seconds, kept)."""
        return sky.paint(self.seed, self.size, self.dates)

    @cached_property
    def thermal_sky(self) -> Sky:
        """The same for the dates of the thermal radiometer."""
        return sky.paint(self.seed, self.size, self.thermal, "thermal_sky")

    @cached_property
    def towers(self) -> Towers:
        """Towers with their daily record."""
        return _towers(self)


@dataclass(frozen=True, eq=False)
class Towers:
    """Flux towers; maps are (tower,), records (tower, day) float32."""

    name: tuple[str, ...]
    """Names."""
    label: np.ndarray
    """Class of the land."""
    row: np.ndarray
    """Row of the tower's pixel."""
    column: np.ndarray
    """Column of the tower's pixel."""
    truth: np.ndarray
    """True gross primary production of the footprint [gC m-2 d-1]."""
    gpp: np.ndarray
    """The same with the error of a measurement, NaN in gaps."""


def plan(
    *, seed: int = 0, size: int = 256, years: int = 3, start: int = 2021, varied: bool = False
) -> Landscape:
    """Plan a simulated landscape of `size` x `size` pixels of 10 m.

    Parameters
    ----------
    seed
        Seed; equal seeds give equal landscapes, 0 is the demo.
    size
        Edge [px], even and at least `SMALLEST`.
    years
        Number of calendar years; the drought is in the second, or in the only one.
    start
        First year.
    varied
        Draw plants, soils, climate, air, archive and instrument from the seed as well, see
        `setting.draw`; else they are those of the demo.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    if size < SMALLEST or size % 2:
        raise ValueError(f"size {size!r} must be an even number of at least {SMALLEST} pixels")
    if years < 1 or not 1970 <= start <= 2200:
        raise ValueError(f"{years!r} years from {start!r} can not be simulated; take 1 or more")
    if seed < 0:
        raise ValueError(f"seed {seed!r} must not be negative")
    setting = draw(seed) if varied else USUAL
    air = weather.generate(seed, start, years, setting)
    dry = np.datetime64(f"{weather.drought_year(start, years)}-07-05") - air.date[0]
    ground = land.layout(
        seed, size, days=air.date.size, mortality_day=int(dry.astype(int)),
        logging_day=int(0.72 * air.date.size),
    )  # fmt: skip
    ground = replace(
        ground, vigour=ground.vigour * np.float32(setting.vigour),
        timing=ground.timing + np.float32(setting.timing),
    )  # fmt: skip
    return Landscape(
        seed=seed, size=size, start=start, years=years, setting=setting, weather=air, land=ground,
        dates=sky.calendar(seed, air, setting), passes=radar.passes(seed, air),
        thermal=thermal.calendar(seed, air, setting.latitude),
    )  # fmt: skip


def blocks(landscape: Landscape, y0: int, y1: int, x0: int, x1: int) -> list[tuple[slice, slice]]:
    """Give the blocks of the grid (rows, columns) that a window touches."""
    return [
        (slice(y, min(y + BLOCK, landscape.size)), slice(x, min(x + BLOCK, landscape.size)))
        for y in range(y0 // BLOCK * BLOCK, y1, BLOCK)
        for x in range(x0 // BLOCK * BLOCK, x1, BLOCK)
    ]


def block(landscape: Landscape, rows: slice, columns: slice) -> dict[str, np.ndarray]:
    """Compute all variables of one block, (..., y, x), without labels."""
    pixels = cut(landscape.land, rows, columns)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    grown = growth.grow(landscape.weather, pixels)
    keys = rows.start // BLOCK, columns.start // BLOCK
    overhead, above = (
        Sky(*(part[:, rows, columns] for part in vars(whole).values()))
        for whole in (landscape.sky, landscape.thermal_sky)
    )
    seen = scene.scenes(
        landscape.setting, landscape.weather, landscape.dates, pixels, grown, overhead,
        stream(landscape.seed, "sensor", *keys), shape,
    )  # fmt: skip
    echoes = radar.backscatter(
        landscape.weather, landscape.passes, pixels, grown,
        stream(landscape.seed, "radar", *keys), shape,
    )  # fmt: skip
    warmth = thermal.surface_temperature(
        landscape.weather, landscape.thermal, landscape.setting.latitude, pixels, grown, above,
        stream(landscape.seed, "radiometer", *keys), shape,
    )  # fmt: skip
    day = landscape.dates.day
    found = {
        "truth_lai": grown.leaf_area[day],
        "truth_chlorophyll": grown.chlorophyll[day],
        "truth_gpp": grown.gpp[day],
        "truth_stress": grown.supply[day],
        "truth_greenup": growth.green_up(landscape.weather, grown.leaf_area),
    }
    found = {name: values.reshape(-1, *shape) for name, values in found.items()}
    return found | {
        "reflectance": seen.reflectance, "valid": seen.valid, "scl": seen.scl,
        "truth_cloud": seen.cloud, "backscatter": echoes, "surface_temperature": warmth,
    }  # fmt: skip


def cut(maps: land.Land, rows: slice, columns: slice) -> land.Land:
    """Cut a window out of the maps and flatten it to (pixel,)."""
    return land.Land(**{name: values[rows, columns].ravel() for name, values in vars(maps).items()})


def _towers(landscape: Landscape) -> Towers:
    rng = stream(landscape.seed, "towers")
    names, places, truth, measured = [], [], [], []
    for name, label in TOWERS:
        row, column = _site(landscape, label)
        window = (slice(max(k - FOOTPRINT, 0), k + FOOTPRINT + 1) for k in (row, column))
        gpp = growth.grow(landscape.weather, cut(landscape.land, *window)).gpp.mean(1)
        # Random errors of fluxes grow with the flux (Richardson et al. 2006,
        # doi:10.1016/j.agrformet.2006.01.007).
        noisy = gpp + rng.normal(0, 1, gpp.size) * (0.20 + 0.07 * gpp)
        noisy[_gaps(rng, gpp.size)] = np.nan
        names.append(name)
        places.append((label, row, column))
        truth.append(gpp)
        measured.append(noisy)
    label_, row_, column_ = np.array(places).T
    return Towers(
        name=tuple(names), label=label_.astype(np.uint8), row=row_, column=column_,
        truth=np.array(truth, np.float32), gpp=np.array(measured, np.float32),
    )  # fmt: skip


def _site(landscape: Landscape, label: int) -> tuple[int, int]:
    """Find the pixel with the most of its class, and no event, around it."""
    maps = landscape.land
    share = uniform_filter(((maps.label == label) & (maps.event == 0)).astype(np.float32), 9)
    at_class = np.where((maps.label == label) & (maps.event == 0), share, -1)
    at_class[:FOOTPRINT] = at_class[-FOOTPRINT:] = -1
    at_class[:, :FOOTPRINT] = at_class[:, -FOOTPRINT:] = -1
    row, column = np.unravel_index(int(np.argmax(at_class)), at_class.shape)
    return int(row), int(column)


def _gaps(rng: np.random.Generator, days: int) -> np.ndarray:
    """Give the days without a measurement: single ones and failures of a week or two."""
    gap = rng.random(days) < 0.05
    for first in np.flatnonzero(rng.random(days) < 0.006):
        gap[first : first + int(rng.integers(3, 15))] = True
    return gap
