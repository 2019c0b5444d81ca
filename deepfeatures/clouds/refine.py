"""What a scene classification misses: clouds found in time and by a network, and their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening

from deepfeatures.clouds import coarse, opinion, temporal
from deepfeatures.clouds.classes import (
    CLOUD_BY_MODEL,
    CLOUD_BY_TIME,
    NEAR_CLOUD,
    NO_DATA,
    SHADOW_BY_MODEL,
    SHADOW_BY_TIME,
    USABLE,
    VALID_CLASSES,
)

METHODS = ("full", "temporal", "scl")
"""How clouds are looked for, the most thorough first."""

OURS = "clouds and shadows that show in time"
"""Words of `steps` by which a cube is known whose clouds were looked for already."""

BUFFER_M = 60.0
"""Distance to a cloud or shadow [m] within which pixels are not usable: its thin edge, and the
light that it scatters."""
SPECK_M = 30.0
"""Clouds narrower than this [m] get no buffer: bright roofs and bare fields, seldom clouds."""


def needs(bands: Sequence[str], method: str) -> list[str]:
    """Give the bands that a method looks at, of those that there are."""
    wanted: set[str | None] = set()
    chosen = temporal.roles(tuple(bands)) if method != "scl" else None
    if chosen:
        wanted |= {chosen.blue, chosen.red, chosen.green, chosen.nir, chosen.swir}
    if method == "full" and opinion.possible(bands):
        wanted |= set(opinion.BANDS)
    return [band for band in bands if band in wanted]


def reach(resolution: float, method: str) -> int:
    """Give how many pixels around a pixel a method looks at, a multiple of `coarse.factor`."""
    if method == "scl":
        return 0
    size = coarse.factor(resolution)
    pixel = size * resolution
    blocks = temporal.reach(pixel) + 3 * _pixels(SPECK_M / 2, pixel) + _pixels(BUFFER_M, pixel)
    return size * blocks


def refine(
    valid: NDArray[np.uint8],
    bands: Mapping[str, NDArray[np.float32]],
    days: NDArray[np.datetime64],
    resolution: float,
    method: str = "full",
) -> NDArray[np.uint8]:
    """Mark the clouds and shadows that a mask misses, and the surroundings of all.

    Parameters
    ----------
    valid
        Codes of a mask ``(time, y, x)``, see `classes.VALID`.
    bands
        Reflectance ``(time, y, x)`` of the bands of `needs`, NaN where there is none.
    days
        Day of each date ``(time,)``.
    resolution
        Pixel size [m].
    method
        ``scl`` returns the mask as it is. ``temporal`` adds what shows in time
        (`temporal.detect`) and a buffer of `BUFFER_M`. ``full`` also asks a network
        (`opinion.classify`) where its bands are there.

    Returns
    -------
    numpy.ndarray
        Codes; only usable pixels are changed. Pixels below 20 m are judged in blocks
        (`coarse`). A pixel's code depends on pixels within `reach` if the window begins on a
        multiple of `coarse.factor`, and with ``full`` on the window that is given.

    Raises
    ------
    ValueError
        If the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"clouds {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if method == "scl":
        return valid
    size = coarse.factor(resolution)
    usable = valid == USABLE
    level = {name: coarse.mean(values, usable, size) for name, values in bands.items()}
    codes = coarse.some(usable, size).astype(np.uint8)  # USABLE, or what it was before
    _judge(codes, level, days, size * resolution, method)
    near = _near(coarse.half(_bad(valid), size) | _bad(codes), size * resolution)
    codes[near & (codes == USABLE)] = NEAR_CLOUD
    return np.where(usable, coarse.fine(codes, size, valid.shape), valid)


def _judge(
    codes: NDArray[np.uint8],
    bands: Mapping[str, NDArray[np.float32]],
    days: NDArray[np.datetime64],
    resolution: float,
    method: str,
) -> None:
    """Write what time and the network find into the usable pixels of a mask."""
    found = temporal.detect(bands, codes == USABLE, days, resolution)
    codes[found.cloud] = CLOUD_BY_TIME
    codes[found.shadow] = SHADOW_BY_TIME
    if method == "full" and opinion.possible(tuple(bands)):
        cloud, shadow = opinion.classify(bands, codes == USABLE)
        # bright fields look like clouds to the network, and ploughed ones like shadows, but they
        # do not come and go
        codes[cloud & found.brighter] = CLOUD_BY_MODEL
        codes[shadow & found.darker] = SHADOW_BY_MODEL


def _bad(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell what is cloud, shadow or defective."""
    return (codes != USABLE) & (codes != NO_DATA)


def steps(method: str, bands: Sequence[str]) -> list[str]:
    """Say what is done, for the attribute ``processing``."""
    first = f"valid from SCL {', '.join(map(str, VALID_CLASSES))}"
    if method == "scl":
        return [first]
    found = [first]
    chosen = temporal.roles(tuple(bands))
    if chosen:
        found.append(f"{OURS} ({chosen.blue}, {chosen.nir})")
    else:
        found.append("clouds were not looked for in time: B02 or B05 and near infrared are missing")
    if method == "full":
        found.append(opinion.step(bands))
    return [*found, f"pixels within {BUFFER_M:g} m of clouds and shadows are not usable"]


def _near(seed: NDArray[np.bool_], resolution: float) -> NDArray[np.bool_]:
    """Tell which pixels lie near a cloud or shadow that is no speck."""
    radius = _pixels(BUFFER_M, resolution)
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = y * y + x * x <= (BUFFER_M / resolution) ** 2
    square = np.ones((2 * _pixels(SPECK_M / 2, resolution) + 1,) * 2, bool)
    near = np.zeros(seed.shape, bool)
    for step in np.flatnonzero(seed.any(axis=(1, 2))):
        wide = binary_opening(seed[step], square)
        if wide.any():
            # what the opening cut off a cloud belongs to it, what stands alone does not
            whole = seed[step] & binary_dilation(wide, square)
            near[step] = binary_dilation(whole, disc)
    return near


def _pixels(metres: float, resolution: float) -> int:
    return int(np.ceil(metres / resolution))
