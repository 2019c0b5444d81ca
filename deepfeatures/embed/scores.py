"""How well features keep what was seen and tell what was hidden, on places held out."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures.embed import data
from deepfeatures.embed.sensors import MAIN
from deepfeatures.predictor import Predictor, usable
from deepfeatures.tiles import Tile

FOLDS = 4
"""The clear dates are hidden in so many turns, each of them once."""


def held_out(predictor: Predictor, ds: xr.Dataset, *, share: float) -> dict[str, float]:
    """Score a predictor on the first held-out block of a cube; empty if there is none."""
    _, judge = data.places(ds, held_out=share)
    return block_of(predictor, ds, judge[0]) if judge else {}


def unseen(predictor: Predictor, ds: xr.Dataset) -> dict[str, float]:
    """Score a predictor on the first block of a cube that it never saw."""
    return block_of(predictor, ds, data.places(ds, held_out=0.0)[0][0])


def block_of(predictor: Predictor, ds: xr.Dataset, tile: Tile) -> dict[str, float]:
    """Score a predictor on a block of a cube; empty if it has too few clear dates."""
    rows, columns = tile.core
    sensor = predictor.card.sensor
    if sensor != MAIN:
        return judged(predictor, data.seen_by(ds, sensor, predictor.inputs, (rows, columns)))
    contexts = predictor.contexts
    return judged(
        predictor, data.read(ds, predictor.inputs, sensors=contexts, rows=rows, columns=columns)
    )


def judged(predictor: Predictor, block: data.Block) -> dict[str, float]:
    """Give mean absolute errors of reflectance over the clear dates of a block.

    Clear are dates on which more than 90 % of the pixels are usable and the median blue is under
    0.2 (the mask misses whole clouds). They are hidden in `FOLDS` turns, every fourth at a time,
    and told from what is left.

    Returns
    -------
    dict
        ``seen``: date seen, decoded from its features; ``seen_int8``: the same after rounding to
        the quantisation; ``hidden``: date hidden; ``linear``, ``median``: a hidden date from
        linear interpolation in time and from the median of the five nearest usable dates;
        ``dates``: how many.
    """
    seen = usable(block.values, block.valid)
    clear = clear_dates(block, predictor.card.sensor)
    if len(clear) < FOLDS:
        return {}
    z = predictor.latent(block.values, seen, block.days, block.others)[clear]
    steps = np.rint(z / predictor.scale) * predictor.scale
    errors: dict[str, list[float]] = {
        "seen": _errors(predictor.decode(z), block, seen, clear),
        "seen_int8": _errors(predictor.decode(steps), block, seen, clear),
        "hidden": [],
        "linear": [],
        "median": [],
    }
    for fold in range(FOLDS):
        hide = clear[fold::FOLDS]
        left = seen.copy()
        left[hide] = False
        z = predictor.latent(block.values, left, block.days, block.others)[hide]
        errors["hidden"] += _errors(predictor.decode(z), block, seen, hide)
        errors["linear"] += _errors(linear(block, left, hide), block, seen, hide)
        errors["median"] += _errors(median(block, left, hide), block, seen, hide)
    found = {name: round(float(np.mean(values)), 5) for name, values in errors.items()}
    return found | {"dates": len(clear)}


def clear_dates(block: data.Block, sensor: str = MAIN) -> NDArray[np.intp]:
    """Give the indices of the dates that are clear nearly everywhere.

    For the optical sensor the first channel has to be the bluest one.
    """
    seen = usable(block.values, block.valid)
    share = seen.mean(axis=(1, 2))
    if sensor != MAIN:
        return np.flatnonzero(share > 0.9)
    first = np.where(seen, block.values[:, 0], np.nan)
    often = np.flatnonzero(share > 0.9)
    return often[np.nanmedian(first[often], axis=(1, 2)) < 0.2]


def _errors(
    told: NDArray[np.floating], block: data.Block, seen: NDArray[np.bool_], dates: NDArray[np.intp]
) -> list[float]:
    """Give the mean absolute error of each date ``told (date, channel, y, x)``."""
    errors = []
    for i, date in enumerate(dates):
        gap = np.abs(told[i] - block.values[date][: told.shape[1]]).mean(axis=0)[seen[date]]
        errors.append(float(gap[np.isfinite(gap)].mean()))
    return errors


def linear(
    block: data.Block, left: NDArray[np.bool_], dates: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Tell dates ``(date, channel, y, x)`` by linear interpolation between usable dates.

    Before the first and after the last usable date their values hold; NaN where there is none.
    """
    index = np.arange(len(block.days))[:, None, None]
    told = []
    for date in dates:
        before = np.where(left & (index < date), index, -1).max(axis=0)
        after = np.where(left & (index > date), index, len(index)).min(axis=0)
        none = (before < 0) & (after == len(index))
        first = np.where(before < 0, after, before) % len(index)
        last = np.where(after == len(index), before, after) % len(index)
        span = block.days[last] - block.days[first]
        share = np.where(span > 0, (block.days[date] - block.days[first]) / np.maximum(span, 1e-9),
                         0.0).clip(0, 1)  # fmt: skip
        found = _pick(block, first) * (1 - share) + _pick(block, last) * share
        told.append(np.where(none, np.nan, found))
    return np.stack(told)


def median(
    block: data.Block, left: NDArray[np.bool_], dates: NDArray[np.intp], *, count: int = 5
) -> NDArray[np.float64]:
    """Tell dates ``(date, channel, y, x)`` by the median of the nearest usable dates."""
    told = []
    for date in dates:
        away = np.abs(block.days - block.days[date])[:, None, None]
        gap = np.where(left, away, np.inf)
        nearest = np.argsort(gap, axis=0, kind="stable")[:count]
        there = np.isfinite(np.take_along_axis(gap, nearest, axis=0))  # (count, y, x)
        values = np.stack([_pick(block, index) for index in nearest])  # (count, channel, y, x)
        ranked = np.sort(np.where(there[:, None], values, np.inf), axis=0)
        number = there.sum(axis=0)
        low, high = (number - 1).clip(0) // 2, number.clip(1) // 2
        middle = [np.take_along_axis(ranked, at[None, None], axis=0)[0] for at in (low, high)]
        told.append(np.where(number > 0, (middle[0] + middle[1]) / 2, np.nan))
    return np.stack(told)


def _pick(block: data.Block, index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Give the channels ``(channel, y, x)`` at one date per pixel ``index (y, x)``."""
    found = np.take_along_axis(block.values, index[None, None], axis=0)[0]
    return found.astype(np.float64)
