"""What a band cube is read from, and the reading of one window of it.

A `Source` holds plain values only, so that it travels to any worker; a window is read at once,
file by file. Reflectance is kept as the integers of the store (0.0001 each, 1000 is zero, 0 is no
value): half the memory of float32, and what is written in the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import granule, nbar, rasters
from deepfeatures.stac.plan import SCALE, Asset, Date, Scene
from deepfeatures.stac.providers import SCL
from deepfeatures.stac.signing import signer

ZERO = 1000
"""Stored integer of reflectance 0; lower ones are slightly negative reflectance."""

NO_NBAR, GRID, SCENE = 0, 1, 2
"""How a date was corrected to nadir: not, with its grids of angles, with its mean angles."""

NBAR_FLAGS: dict[str, object] = {
    "flag_values": [NO_NBAR, GRID, SCENE],
    "flag_meanings": "not_corrected grid_of_angles mean_angles_of_scene",
}
"""CF attributes of the variable ``nbar``."""

Lost = dict[str, str]
"""What could not be read: ``date``, ``item``, ``asset`` and ``reason``."""


@dataclass(frozen=True)
class Source:
    """Where the pixels of a band cube come from."""

    geobox: GeoBox
    """Grid of the cube."""
    bands: tuple[str, ...]
    """Bands, in the order of wavelength."""
    dates: tuple[Date, ...]
    """Steps of the cube."""
    resampling: Mapping[str, str]
    """Band (and SCL) -> how it comes onto the grid."""
    catalog: str
    """Preset name, address or path of the catalogue."""
    collection: str
    """Id of the collection."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of GDAL for the provider."""
    nbar: tuple[int, ...] = ()
    """For each date `NO_NBAR`, `GRID` or `SCENE`."""
    grids: Mapping[str, granule.Angles] = field(default_factory=dict)
    """Id of an item -> its grids of angles."""


@dataclass(frozen=True)
class Window:
    """Pixels of all dates in memory."""

    reflectance: NDArray[np.uint16]
    """Stored integers ``(time, band, y, x)``, 0 = no value."""
    scl: NDArray[np.uint8]
    """Scene classes ``(time, y, x)``."""
    lost: tuple[Lost, ...]
    """Files that could not be read; their dates are empty."""


def read(source: Source, geobox: GeoBox) -> Window:
    """Read all dates of a window of the cube's grid.

    A file that is missing or broken costs its date in this window: half a spectrum would be
    taken for a whole one.
    """
    shape = geobox.shape.y, geobox.shape.x
    reflectance = np.zeros((len(source.dates), len(source.bands), *shape), np.uint16)
    scl = np.zeros((len(source.dates), *shape), np.uint8)
    lost: list[Lost] = []
    for index, date in enumerate(source.dates):
        try:
            scl[index] = plane(source, index, SCL, geobox)
            for channel, band in enumerate(source.bands):
                reflectance[index, channel] = plane(source, index, band, geobox)
        except rasters.Unreadable as error:
            reflectance[index], scl[index] = 0, 0
            lost.append(_loss(date, error))
    return Window(reflectance, scl, tuple(lost))


def plane(source: Source, index: int, band: str, geobox: GeoBox) -> NDArray[Any]:
    """Read one band of one date: integers of the store, or classes.

    Raises
    ------
    rasters.Unreadable
        If one of the files cannot be had.
    """
    date = source.dates[index]
    result = np.zeros((geobox.shape.y, geobox.shape.x), np.uint8 if band == SCL else np.uint16)
    for scene in date.scenes:
        if result.all():
            break
        if band not in scene.assets:
            continue
        values = _values(source, scene, band, geobox)
        if band != SCL:
            factor = _factor(source, scene, source.nbar[index], band, geobox)
            values = encoded(values, scene.assets[band], factor)
        np.copyto(result, values, where=result == 0)
    return result


def encoded(
    numbers: NDArray[np.integer | np.floating], asset: Asset, factor: NDArray[np.float32] | float
) -> NDArray[np.uint16]:
    """Turn digital numbers into integers of the store.

    Parameters
    ----------
    numbers
        Digital numbers, 0 = no value.
    asset
        Scale and offset.
    factor
        c-factor of NBAR, one number or one per pixel.

    Returns
    -------
    numpy.ndarray
        uint16. Slightly negative reflectance is kept down to -0.0999; what is lower, and what is
        above 6.4535, is cut.
    """
    if isinstance(factor, float) and factor == 1 and asset.scale == SCALE:
        codes = numbers.astype(np.float32) + np.float32(round(asset.offset / SCALE) + ZERO)
    else:
        codes = numbers.astype(np.float32) * np.float32(asset.scale) + np.float32(asset.offset)
        codes = codes * factor * np.float32(1 / SCALE) + np.float32(ZERO)
    codes = np.clip(np.rint(codes), 1, 65535)
    return np.where(numbers == 0, 0, codes).astype(np.uint16)


def decoded(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Turn integers of the store into reflectance, NaN for no value."""
    values = ((codes.astype(np.float64) - ZERO) * SCALE).astype(np.float32)
    values[codes == 0] = np.nan
    return values


def _values(source: Source, scene: Scene, band: str, geobox: GeoBox) -> NDArray[Any]:
    return rasters.read(
        _signer(source.catalog)(scene.assets[band].href),
        geobox,
        resampling=source.resampling[band],
        settings=source.settings,
    )


@functools.lru_cache(maxsize=4)
def _signer(catalog: str) -> Callable[[str], str]:
    return signer(catalog)


def _factor(
    source: Source, scene: Scene, how: int, band: str, geobox: GeoBox
) -> NDArray[np.float32] | float:
    """Give the c-factor of a scene's band."""
    if how == NO_NBAR or band not in nbar.COEFFICIENTS:
        return 1.0
    if how == SCENE:
        return scene_factor(scene, band)
    return granule.c_window(source.grids[scene.item], geobox, (band,))[0]


def scene_factor(scene: Scene, band: str) -> float:
    """Give the c-factor of a band from the mean angles of a scene."""
    found = scene.angles
    azimuth = found["sun_azimuth"] - found["view_azimuth"]
    return float(nbar.c_factor(found["sun_zenith"], found["view_zenith"], azimuth, (band,))[0])


def _loss(date: Date, error: rasters.Unreadable) -> Lost:
    owner = next(
        (
            (scene.item, band)
            for scene in date.scenes
            for band, asset in scene.assets.items()
            # a signed link is longer than the one that the item states
            if error.href.startswith(asset.href)
        ),
        ("?", "?"),
    )
    day = str(date.time.astype("datetime64[D]"))
    return {"date": day, "item": owner[0], "asset": owner[1], "reason": error.reason}
