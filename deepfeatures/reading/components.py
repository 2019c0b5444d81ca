"""Principal components of a feature cube: fitted once per version, on dates of the whole period."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from deepfeatures import latent
from deepfeatures.clouds import USABLE
from deepfeatures.reading.chunks import read
from deepfeatures.reading.opened import COMPONENTS, OpenCube, decode

_DATES = 24
_ROWS = 4_000
"""Pixels of a date that are fitted on, at most."""
_EDGE = 512


@lru_cache(maxsize=32)
def principal(cube: OpenCube) -> latent.PCA:
    """Fit the first components of a feature cube, the same for every date, tile and process.

    The pixels are a regular choice of the usable ones of dates that spread over the whole period,
    so that the colours of a composite mean the same all year; the signs are those of
    `latent.pca`.

    Raises
    ------
    ValueError
        If hardly any pixel is usable.
    """
    edge = max(cube.grid.height, cube.grid.width)
    level = next((level for level in cube.levels if edge / level <= _EDGE), cube.levels[-1])
    shape = cube.arrays["valid", level].shape
    area = slice(0, shape[1]), slice(0, shape[2])
    found = []
    for t in np.unique(np.linspace(0, shape[0] - 1, _DATES).astype(int)).tolist():
        times = slice(t, t + 1)
        box = (times, slice(0, len(cube.channels)), *area)
        stored = read(cube, cube.variable, box, level=level)[0]
        usable = read(cube, "valid", (times, *area), level=level)[0] == USABLE
        pixels = stored[:, usable]
        pixels = pixels[:, :: max(1, pixels.shape[1] // _ROWS)]
        layers = [decode(cube, *pair) for pair in zip(pixels, cube.channels, strict=True)]
        found.append(np.stack(layers, axis=-1))
    table = np.concatenate(found)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < 2:
        raise ValueError(f"{cube.name!r} has no usable pixels to find its components in")
    return latent.pca(table, min(len(COMPONENTS), table.shape[1]))
