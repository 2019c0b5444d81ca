"""Withheld dates: a clear date is hidden, and its bands are told from what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from deepfeatures.embed import scores
from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate.representation import Representation
from deepfeatures.predictor import usable

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
Teller = Callable[[Block, Mask, NDArray[np.intp]], Floats]
"""Block, what is left to see ``(time, y, x)``, hidden dates -> ``(date, channel, y, x)``."""

YEAR = 365.25
PENALTY = 1.0
"""Weight [dates] that keeps the harmonics of a season small where little was seen."""
LEAST = 0.5
"""Dates of which a smaller share is a target do not count: the rest is mostly hazy as well."""


def climatology(block: Block, left: Mask, dates: NDArray[np.intp], *, harmonics: int = 2) -> Floats:
    """Tell dates ``(date, channel, y, x)`` from the season: harmonics of the year per pixel.

    Least squares on what is left to see, with a ridge of `PENALTY` dates on the harmonics
    (Zhu and Woodcock 2014, doi 10.1016/j.rse.2014.01.011, without the trend).
    """
    phase = 2 * np.pi * block.days / YEAR
    waves = [part(k * phase) for k in range(1, harmonics + 1) for part in (np.cos, np.sin)]
    base = np.stack([np.ones_like(phase), *waves], axis=1)  # (time, term)
    terms = base.shape[1]
    weight = left.reshape(len(left), -1).astype(np.float64)  # (time, pixel)
    pairs = (base[:, :, None] * base[:, None, :]).reshape(len(base), -1)
    normal = (weight.T @ pairs).reshape(-1, terms, terms)
    normal += np.diag([1e-9, *[PENALTY] * (terms - 1)])
    values = np.where(left[:, None], block.values, 0.0)
    flat = values.reshape(*values.shape[:2], -1)
    right = np.einsum("ti,tcp->pic", base, flat, optimize=True)
    solved = np.linalg.solve(normal, right)  # (pixel, term, channel)
    told = np.einsum("di,pic->dcp", base[dates], solved, optimize=True)
    told[:, :, weight.sum(axis=0) == 0] = np.nan
    return told.reshape(len(dates), *values.shape[1:])


def told_by(representation: Representation) -> Teller:
    """Tell hidden dates from the features that a representation has of them."""
    return lambda block, left, dates: representation.told(block, left)[dates]


TELLERS: dict[str, Teller] = {
    "linear interpolation": scores.linear,
    "median of five dates": scores.median,
    "climatology": climatology,
}
"""Ways to tell a hidden date without features."""


def hidden_errors(
    block: Block, teller: Teller, targets: Mapping[str, Mask] | None = None
) -> dict[str, Floats]:
    """Give the mean absolute error of each clear date when it is hidden.

    The dates of `scores.clear_dates` are hidden in `scores.FOLDS` turns, each fourth at a time;
    everything else that the mask of the block calls usable is seen. The error of a date is the
    mean over channels and target pixels.

    Parameters
    ----------
    block, teller
        Where, and by whom.
    targets
        Name -> pixel-dates ``(time, y, x)`` that count, of those that the mask calls usable; by
        default all of them, as ``all``.

    Returns
    -------
    dict
        Name -> ``(date,)``, NaN where a date has too few targets (`LEAST`) or nothing was told.
        No dates if there are fewer than the turns.
    """
    seen = usable(block.values, block.valid)
    wanted = {"all": seen} if targets is None else {k: seen & v for k, v in targets.items()}
    clear = scores.clear_dates(block)
    if len(clear) < scores.FOLDS:
        clear = clear[:0]
    found = {name: np.full(len(clear), np.nan) for name in wanted}
    for fold in range(scores.FOLDS if len(clear) else 0):
        hide = clear[fold :: scores.FOLDS]
        left = seen.copy()
        left[hide] = False
        told = teller(block, left, hide)
        for name, mask in wanted.items():
            found[name][fold :: scores.FOLDS] = errors(told, block.values[hide], mask[hide])
    return found


def seen_errors(
    block: Block,
    representation: Representation,
    targets: Mapping[str, Mask] | None = None,
    *,
    int8: bool = False,
) -> dict[str, Floats]:
    """Give the mean absolute error of each clear date told from its own features.

    Parameters
    ----------
    block, representation
        Where, and by what.
    targets
        As for `hidden_errors`.
    int8
        Whether the features are rounded to their quantisation before.
    """
    seen, clear = usable(block.values, block.valid), scores.clear_dates(block)
    z = representation.latent(block)[clear]
    if int8:
        z = representation.rounded(z)
    if representation.decode is None:
        raise ValueError(f"{representation.name!r} can not be decoded; take one with a decoder")
    told = representation.decode(z)
    wanted = {"all": seen} if targets is None else {k: seen & v for k, v in targets.items()}
    return {name: errors(told, block.values[clear], mask[clear]) for name, mask in wanted.items()}


def errors(told: Floats, values: Floats, targets: Mask) -> Floats:
    """Give the mean absolute error over channels and target pixels of each date ``(date,)``."""
    gap = np.abs(told.astype(np.float64) - values).mean(axis=1)  # (date, y, x)
    counts = targets & np.isfinite(gap)
    number = counts.sum(axis=(1, 2))
    total = np.where(counts, gap, 0.0).sum(axis=(1, 2))
    enough = (targets.mean(axis=(1, 2)) >= LEAST) & (number > 0)
    return np.where(enough, total / number.clip(1), np.nan)
