"""Haze, shadow and noise put on clear dates that stay marked usable: how far features move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deepfeatures.bands import BANDS
from deepfeatures.embed import scores
from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate.representation import Representation
from deepfeatures.predictor import usable

Floats = NDArray[np.floating]

HAZE = (0.02, 0.10)
"""Blue reflectance that haze adds on a date, least and most."""
SHADOW = (0.20, 0.60)
"""Share of the direct light that a cloud takes on a date, least and most."""
NOISE = 0.01
"""Standard deviation of the noise, independent in each pixel and channel."""
EVERY = 5
"""Each so-manieth clear date is touched; its neighbours stay as they are."""
WIDTH = 8.0
"""Standard deviation of the kernel that makes haze and shadow smooth [px]."""


def haze(values: Floats, waves: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Add light that aerosol scatters, and take what it holds back.

    Single scattering with an Angstrom exponent of 1.3 (``_through`` of the simulated landscape
    has the same form): ``r (1 - 1.1 h) + h``, with h falling from `HAZE` in the blue.
    """
    weight = strength * rng.uniform(*HAZE, (len(values), 1, 1)) * _field(values, rng)
    dim = weight[:, None] * ((waves / 492.0) ** -1.3)[:, None, None]
    return values * (1 - 1.1 * dim) + dim


def shadow(values: Floats, waves: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Take a share of the direct light; the light of the sky (0.3 in the blue) stays."""
    share = strength * rng.uniform(*SHADOW, (len(values), 1, 1)) * _field(values, rng)
    direct = 1 - 0.30 * (waves / 492.0) ** -1.6
    return values * (1 - share.clip(0, 1)[:, None] * direct[:, None, None])


def noise(values: Floats, waves: Floats, rng: np.random.Generator, strength: float) -> Floats:
    """Add noise of `NOISE`."""
    return values + strength * NOISE * rng.standard_normal(values.shape)


VEILS: dict[str, Callable[[Floats, Floats, np.random.Generator, float], Floats]] = {
    "haze": haze,
    "shadow": shadow,
    "noise": noise,
}
"""What is put on clear dates: values ``(date, channel, y, x)``, wavelengths [nm], random numbers,
strength (1 = as documented) -> values."""


def touched(block: Block) -> NDArray[np.intp]:
    """Give the clear dates that are touched."""
    clear = scores.clear_dates(block)
    return clear[min(EVERY // 2, max(len(clear) - 1, 0)) :: EVERY]


def veiled(
    block: Block, channels: Sequence[str], kind: str, *, strength: float = 1.0, seed: int = 0
) -> Block:
    """Put a veil on each `EVERY`-th clear date of a block; its mask stays as it is.

    Parameters
    ----------
    block, channels
        Where; reflectance bands only.
    kind
        Key of `VEILS`.
    strength
        Factor on the documented strengths.
    seed
        Seed of strengths and patterns.
    """
    rng = np.random.default_rng(seed)
    waves = np.array([BANDS[name].wavelength_nm for name in channels])
    dates, values = touched(block), block.values.copy()
    values[dates] = VEILS[kind](values[dates].astype(np.float64), waves, rng, strength)
    return replace(block, values=values)


@dataclass(frozen=True)
class Answer:
    """What a representation makes of a veil."""

    moved: float
    """Mean Euclidean distance between the features of touched dates with and without the veil,
    over the root mean square distance of random clear pixel-dates of the block (`spread`)."""
    kept: float
    """What of the veil is told: how far the channels told from the features move, over how far
    the channels themselves do (mean absolute differences); NaN without a way back."""


def answer(
    representation: Representation,
    block: Block,
    channels: Sequence[str],
    kind: str,
    *,
    strength: float = 1.0,
    seed: int = 0,
    plain: Floats | None = None,
) -> Answer:
    """Tell how far features, and the channels told from them, move under a veil.

    NaN without clear dates. `plain` are the features without it, if they are known already.
    """
    dates = touched(block)
    if not len(dates):
        return Answer(float("nan"), float("nan"))
    if plain is None:
        plain = representation.features(block)
    under = veiled(block, channels, kind, strength=strength, seed=seed)
    if representation.alone:
        found = representation.features(
            replace(under, values=under.values[dates], valid=under.valid[dates],
                    days=under.days[dates])
        )  # fmt: skip
    else:
        found = representation.features(under)[dates]
    gap = np.linalg.norm(found - plain[dates], axis=1)
    kept = float("nan")
    if representation.decode is not None:
        told = np.abs(representation.decode(found) - representation.decode(plain[dates]))
        there = np.isfinite(told).all(axis=1)
        put = np.abs(under.values[dates] - block.values[dates]).mean(axis=1)[there].mean()
        kept = float(told.mean(axis=1)[there].mean() / put) if put > 0 else 0.0
    return Answer(float(np.nanmean(gap)) / spread(plain, block), kept)


def spread(features: Floats, block: Block) -> float:
    """Give the root mean square distance between features of random clear pixel-dates."""
    clear = scores.clear_dates(block)
    seen = usable(block.values, block.valid)[clear]
    rows = np.moveaxis(features[clear], 1, -1)[seen].astype(np.float64)
    return float(np.sqrt(2 * np.nanvar(rows, axis=0).sum()))


def _field(values: Floats, rng: np.random.Generator) -> Floats:
    """Paint a smooth pattern for each date ``(date, y, x)``, 0.5..1.5 with mean 1."""
    rough = rng.standard_normal((len(values), *values.shape[2:]))
    smooth = gaussian_filter(rough, (0, WIDTH, WIDTH), mode="reflect")
    flat = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    return 1 + 0.5 * flat / np.abs(flat).max(axis=(1, 2), keepdims=True).clip(1e-12)
