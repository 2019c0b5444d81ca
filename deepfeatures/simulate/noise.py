"""Seeded random streams and smooth random fields."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft

STREAMS = (
    "weather", "layout", "parcels", "fields", "calendar", "sky", "sensor", "radar", "towers",
    "setting", "thermal", "thermal_sky", "radiometer",
)  # fmt: skip
"""Independent streams of random numbers; the position is part of the key."""


def stream(seed: int, name: str, *keys: int) -> np.random.Generator:
    """Give the generator of one stream; equal keys give equal numbers, in any order of calls.

    Parameters
    ----------
    seed
        Seed of the landscape, not negative.
    name
        One of `STREAMS`.
    keys
        Further keys, e.g. the number of a date or the position of a block; not negative.
    """
    return np.random.default_rng([seed, STREAMS.index(name), *keys])


def fractal(
    rng: np.random.Generator,
    size: int,
    *,
    largest: float,
    smallest: float = 2.0,
    slope: float = 3.0,
) -> np.ndarray:
    """Make a periodic Gaussian random field with a power-law spectrum.

    Parameters
    ----------
    rng
        Source of the numbers.
    size
        Edge of the field [px].
    largest, smallest
        Wavelengths between which the field has power [px].
    slope
        Negative exponent of the power spectrum: about 3 for land and clouds, 0 for white noise.

    Returns
    -------
    numpy.ndarray
        (size, size) float32 with mean 0 and standard deviation 1.
    """
    frequency = _frequency(size)
    kept = (frequency >= 1 / largest) & (frequency <= 1 / smallest)
    amplitude = np.where(kept, frequency ** np.float32(-slope / 2), np.float32(0))
    spectrum = fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    field = fft.irfft2(spectrum * amplitude, s=(size, size))
    return ((field - field.mean()) / field.std()).astype(np.float32)


@lru_cache(maxsize=8)
def _frequency(size: int) -> np.ndarray:
    """Give the spatial frequency of each coefficient [1/px]; the mean has none."""
    frequency = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    return frequency.astype(np.float32)


def smoothstep(values: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 to 1 while `values` go from 0 to 1 (cubic, flat at both ends)."""
    t = np.clip(values, 0, 1)
    return t * t * (3 - 2 * t)
