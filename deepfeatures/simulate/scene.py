"""What the sensor delivers: reflectance under haze, shadow, clouds and noise, and its classes.

Bands keep their native resolution: cells of 20 and 60 m are means of the pixels below, repeated
to the 10 m grid (60 m cells are cut at the border of a block).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepfeatures.bands import BANDS
from deepfeatures.clouds import from_scl
from deepfeatures.simulate import canopy, surfaces
from deepfeatures.simulate.growth import Growth
from deepfeatures.simulate.land import BEECH, PINE, WATER, Land
from deepfeatures.simulate.noise import smoothstep
from deepfeatures.simulate.setting import Setting
from deepfeatures.simulate.sky import VEIL, Calendar, Sky
from deepfeatures.simulate.weather import Weather

CANOPY_OF_CLASS = np.array([5, 0, 1, 2, 3, 4, 5, 3, 5, 5, 5], np.uint8)
"""Index into `canopy.CANOPIES` for each class of the land."""
OPEN_SOIL = 3
"""Canopy whose ground is the open soil (a field)."""

_WAVELENGTH = np.array([band.wavelength_nm for band in BANDS.values()], np.float32)
_NAMES = tuple(BANDS)
_FINE = np.array([band.resolution_m == 10 for band in BANDS.values()])
_CELLS = {band: BANDS[band].resolution_m // 10 for band in BANDS}
# Aerosol scatters with an Angstrom exponent of 1.3; the share of diffuse light falls like that.
_HAZE = (_WAVELENGTH / 492) ** np.float32(-1.3)
_DIFFUSE = 0.30 * (_WAVELENGTH / 492) ** np.float32(-1.6)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images of one block."""

    reflectance: np.ndarray
    """(time, band, y, x) float32, NaN where there is no value."""
    scl: np.ndarray
    """Scene classification (time, y, x) uint8."""
    valid: np.ndarray
    """1 where usable (time, y, x) uint8."""
    cloud: np.ndarray
    """True opacity of clouds and shadows (time, y, x) float32: cloud above 0, shadow below."""


def scenes(
    setting: Setting,
    weather: Weather,
    dates: Calendar,
    land: Land,
    grown: Growth,
    sky: Sky,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> Scenes:
    """Render all dates of a block.

    Parameters
    ----------
    setting
        Gives plants, soil and what the instrument does.
    weather, dates
        Of the landscape.
    land, grown
        The pixels of the block, flattened.
    sky
        Clouds and shadows of the block, (time, y, x).
    rng
        Stream for the noise of this block.
    shape
        Rows and columns of the block.
    """
    tables = canopy.table(setting.canopies, setting.soil)
    gain, offset = (np.array(part, np.float32)[:, None, None] for part in
                    (setting.gain, setting.offset))  # fmt: skip
    count = dates.time.size
    values = np.empty((count, len(BANDS), *shape), np.float32)
    scl = np.empty((count, *shape), np.uint8)
    truth = np.empty((count, *shape), np.float32)
    for i in range(count):
        ground, snow = _ground(tables, weather, dates, land, grown, i)
        ground = np.ascontiguousarray(ground.T).reshape(len(BANDS), *shape)
        cloud, shadow, haze, missing = (part[i].astype(np.float32) for part in vars(sky).values())
        missing = cells(missing, 2) > 0  # a cell of 20 m is seen as a whole or not at all
        seen = _native(_through(ground, cloud, shadow, haze)) * gain + offset
        seen = _noisy(seen, setting.noise, rng)
        values[i] = np.where(missing, np.nan, seen)
        classes = _Classes(cloud, shadow, missing, snow.reshape(shape), land.label.reshape(shape))
        scl[i] = _classify(seen, classes, dates, i, rng)
        truth[i] = np.where(cloud > 0.02, cloud, -shadow * (shadow > 0.02))
    return Scenes(values, scl, from_scl(scl), truth)


def _ground(
    tables: np.ndarray, weather: Weather, dates: Calendar, land: Land, grown: Growth, i: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance (pixel, band) of the land on a date and the share of snow (pixel,)."""
    day = int(dates.day[i])
    dated = canopy.at_sun(tables, int(dates.view[i]), float(dates.sun_zenith[i]))
    soil = canopy.bare_soil(float(weather.wetness[day]), land.brightness)
    kind = CANOPY_OF_CLASS[land.label]
    bare = canopy.on_soil(dated[OPEN_SOIL, 0, 0, 0], soil)
    spectra = bare.copy()
    leafy = np.flatnonzero((grown.plant_area[day] > 0) & (land.label != WATER))
    spectra[leafy] = canopy.look_up(
        dated, kind[leafy], grown.plant_area[day, leafy], grown.chlorophyll[day, leafy],
        grown.brown[day, leafy], soil[leafy],
    )  # fmt: skip
    snow = snow_cover(weather, land, grown, day)
    return surfaces.cover(spectra, bare, land, day, snow), snow


def snow_cover(weather: Weather, land: Land, grown: Growth, day: int) -> np.ndarray:
    """Give the share of the ground under snow that is seen from above, (pixel,)."""
    patchy = np.clip(1 - 0.25 * land.texture, 0.3, 1.7)
    snow = smoothstep(weather.snow[day] * patchy / 9.0)
    forest = (land.label >= BEECH) & (land.label <= PINE)
    return snow * np.where(forest, 0.38 * np.exp(-0.22 * grown.leaf_area[day]), 0.95)


def _through(
    ground: np.ndarray, cloud: np.ndarray, shadow: np.ndarray, haze: np.ndarray
) -> np.ndarray:
    """Look at the ground (band, y, x) through haze, cloud shadow and cloud."""
    lit = ground * (1 - shadow * (1 - _DIFFUSE)[:, None, None])
    dim = haze * _HAZE[:, None, None]
    hazy = lit * (1 - 1.1 * dim) + dim
    top = surfaces.CLOUD[:, None, None] * (0.62 + 0.60 * cloud * cloud)
    return hazy * (1 - cloud) + top * cloud


def _native(values: np.ndarray) -> np.ndarray:
    """Average each band (band, y, x) over its native cells, in place."""
    for step in (2, 6):
        which = [k for k, name in enumerate(_NAMES) if _CELLS[name] == step]
        values[which] = cells(values[which], step)
    return values


def cells(values: np.ndarray, step: int) -> np.ndarray:
    """Average (..., y, x) over cells of `step` pixels and repeat the means, same shape."""
    rows, columns = (np.arange(0, n, step) for n in values.shape[-2:])
    total = np.add.reduceat(np.add.reduceat(values, rows, -2), columns, -1)
    tall, wide = (np.diff(np.append(at, n)) for at, n in
                  zip((rows, columns), values.shape[-2:], strict=True))  # fmt: skip
    mean = total / np.outer(tall, wide).astype(np.float32)
    return mean.repeat(tall, -2).repeat(wide, -1)


def _noisy(values: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add sensor noise, independent at the native resolution, and round like the product."""
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    for step in (2, 6):
        which = [k for k, name in enumerate(_NAMES) if _CELLS[name] == step]
        coarse = noise[which][:, ::step, ::step].repeat(step, 1).repeat(step, 2)
        noise[which] = coarse[:, : values.shape[1], : values.shape[2]]
    noisy = values + noise * np.float32(level) * (0.0012 + 0.007 * np.abs(values))
    return np.round(np.clip(noisy, 0.0001, 1.6), 4)


@dataclass(frozen=True, eq=False)
class _Classes:
    """What the scene classification tries to find, each (y, x)."""

    cloud: np.ndarray
    shadow: np.ndarray
    missing: np.ndarray
    snow: np.ndarray
    label: np.ndarray


def _classify(
    seen: np.ndarray, true: _Classes, dates: Calendar, i: int, rng: np.random.Generator
) -> np.ndarray:
    """Classify the 20 m cells of a date as Sen2Cor does, with its usual mistakes."""
    blue, green, red, nir = (cells(seen[_NAMES.index(b)], 2) for b in ("B02", "B03", "B04", "B08"))
    cloud, shadow, snow = (cells(part, 2) for part in (true.cloud, true.shadow, true.snow))
    doubt = cells(rng.standard_normal(blue.shape, dtype=np.float32), 2) * 2
    cloud = cloud * (1 - dates.missed[i]) + 0.025 * doubt
    shadow = shadow + 0.05 * doubt
    ndvi = (nir - red) / (nir + red)
    found = np.full(blue.shape, 5, np.uint8)
    found[nir < 0.085] = 2
    found[ndvi > 0.40] = 4
    found[(green > nir) & (nir < 0.12)] = 6
    found[(snow > 0.35) & (blue > 0.30)] = 11
    found[(shadow > 0.38) & (cloud < 0.3)] = 3
    # Bright roofs and fields are sometimes taken for clouds.
    found[(cloud > 0.20) | ((blue > 0.235) & (found == 5) & (doubt > 0.4))] = 8
    found[cloud > 0.52] = 9
    if dates.kind[i] == VEIL:
        found[(cloud > 0.10) & (cloud <= 0.52)] = 10
    found[true.missing] = 0
    return found
