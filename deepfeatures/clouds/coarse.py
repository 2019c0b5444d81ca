"""The grid of about 20 m on which clouds are looked for: blocks of finer pixels, and back.

The scene classification and the short-wave infrared have 20 m themselves, haze and shadows are
wider than that, and a cube of 10 m costs a quarter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PIXEL_M = 20.0
"""Pixel size [m] to which finer ones are averaged."""


def factor(resolution: float) -> int:
    """Give the edge of a block [px]; 1 where pixels have 20 m or more.

    Windows of one cube give the same blocks if they begin on multiples of this.
    """
    return max(round(PIXEL_M / resolution), 1)


def mean(values: NDArray[np.float32], usable: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """Average blocks over their usable pixels, or over all that have a value if none is usable.

    Parameters
    ----------
    values
        ``(time, y, x)``, NaN where there is none.
    usable
        Pixels that count ``(time, y, x)``.
    size
        Edge of a block [px].

    Returns
    -------
    numpy.ndarray
        ``(time, ceil(y / size), ceil(x / size))``; NaN where a block has no value. The array
        itself if `size` is 1.
    """
    if size == 1:
        return values
    result = np.empty((len(values), *(-(-n // size) for n in values.shape[1:])), np.float32)
    for step, (value, use) in enumerate(zip(values, usable, strict=True)):
        there = np.isfinite(value)
        count = _sum(there & use, size)
        total = _sum(np.where(there & use, value, 0), size)
        if not count.all():
            unusable = count == 0
            total = np.where(unusable, _sum(np.where(there, value, 0), size), total)
            count = np.where(unusable, _sum(there, size), count)
        result[step] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def some(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Tell which blocks have a pixel of a mask ``(time, y, x)``."""
    if size == 1:
        return mask
    return np.stack([_sum(layer, size) > 0 for layer in mask])


def half(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Tell which blocks have at least half of their pixels in a mask ``(time, y, x)``."""
    if size == 1:
        return mask
    count = _sum(np.ones(mask.shape[1:], bool), size)
    return np.stack([_sum(layer, size) >= count / 2 for layer in mask])


def fine(codes: NDArray[np.uint8], size: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Repeat blocks ``(time, y, x)`` to pixels of a shape."""
    if size == 1:
        return codes
    return codes.repeat(size, 1).repeat(size, 2)[:, : shape[1], : shape[2]]


def _sum(layer: NDArray[np.float32] | NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """Add up blocks of a layer ``(y, x)``; those at the lower and right border may be ragged."""
    total = np.zeros([-(-n // size) for n in layer.shape], np.float32)
    for row in range(size):
        for column in range(size):
            part = layer[row::size, column::size]
            total[: part.shape[0], : part.shape[1]] += part
    return total
