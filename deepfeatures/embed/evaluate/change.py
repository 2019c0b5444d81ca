"""Smooth where the surface is, sharp where it changes: steps in time, and dates of events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate.place import Events
from deepfeatures.embed.evaluate.veil import spread
from deepfeatures.predictor import usable

Floats = NDArray[np.floating]

SIDES = 3
"""Fewest usable dates on each side of a change."""
WITHIN = 15.0
"""An event is dated well within so many days."""
SOON = 10.0
"""Usable dates of a pixel that follow within so many days make a step."""
PIXELS = 500
"""Pixels without an event that are looked at."""


def roughness(features: Floats, block: Block, events: Events) -> float:
    """Give the mean step from one usable date to the next, in units of the spread of features.

    Of pixels without an event, over the pairs of usable dates of each pixel that follow each
    other within `SOON` days: there the surface hardly changes (but for harvest and snow), while
    noise, haze and shadow do. The spread is that of `veil.spread`.
    """
    y, x = np.nonzero(events.kind == 0)
    chosen = np.linspace(0, len(y) - 1, min(PIXELS, len(y))).astype(int)
    y, x = y[chosen], x[chosen]
    values = features[:, :, y, x]  # (time, k, pixel)
    seen = usable(block.values, block.valid)[:, y, x]
    index = np.where(seen, np.arange(len(seen))[:, None], -1)
    last = np.maximum.accumulate(index, axis=0)[:-1]  # before each date but the first
    soon = seen[1:] & (last >= 0) & (block.days[1:, None] - block.days[last] <= SOON)
    step = np.linalg.norm(values[1:] - np.take_along_axis(values, last[:, None], axis=0), axis=1)
    if not soon.any():
        return float("nan")
    return float(step[soon].mean()) / spread(features, block)


def dated(features: Floats, days: NDArray[np.float64]) -> float:
    """Give the day on which a series changes for good: the middle of the gap in which that lies.

    The series is cut into two parts of constant mean with the least sum of squares (Bai 1994, doi
    10.1111/j.1467-9892.1994.tb00204.x), so that seasons, which come back, count less than what
    stays.

    Parameters
    ----------
    features
        Usable dates of one pixel ``(time, k)``.
    days
        Their days ``(time,)``.

    Returns
    -------
    A day; NaN for series shorter than twice `SIDES`.
    """
    count = len(features)
    if count < 2 * SIDES:
        return float("nan")
    total = np.cumsum(features, axis=0, dtype=np.float64)
    at = np.arange(SIDES, count - SIDES + 1)
    before, after = total[at - 1], total[-1] - total[at - 1]
    shift = after / (count - at)[:, None] - before / at[:, None]
    gain = (at * (count - at)) * (shift**2).sum(axis=1)
    best = at[gain.argmax()]
    return float(days[best - 1] + days[best]) / 2


def event_errors(features: Floats, block: Block, events: Events) -> Floats:
    """Give how many days `dated` is off the event of each pixel ``(pixel,)``.

    All usable dates of the pixel count, those with overlooked haze too; pixels count whose event
    has `SIDES` of them on both sides.
    """
    seen = usable(block.values, block.valid)
    found = []
    for y, x in zip(*np.nonzero(events.kind > 0), strict=True):
        at, day = np.flatnonzero(seen[:, y, x]), events.day[y, x]
        when = block.days[at]
        if min((when < day).sum(), (when >= day).sum()) >= SIDES:
            found.append(abs(dated(features[at, :, y, x], when) - day))
    return np.array(found, np.float64)


def least_errors(block: Block, events: Events) -> Floats:
    """Give the errors of `event_errors` of whoever knows in which gap the event lies."""
    after = (block.days[:, None, None] >= events.day).astype(np.float32)
    return event_errors(after[:, None], block, events)
