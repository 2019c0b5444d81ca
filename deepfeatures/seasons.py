"""The usual year of a series: what each day of the year was like over all years. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAYS = 365
"""Steps of the usual year; a leap year is drawn into the same circle."""

HALF_WIDTH = 15.0
"""Days before and after a day of the year that count for it."""

FEWEST = 3
"""Observations below which a day of the year has no value."""

RANGE = (10.0, 90.0)
"""Percentiles that bound the usual range."""


@dataclass(frozen=True, eq=False)
class UsualYear:
    """What is usual on each day of the year."""

    mean: NDArray[np.float64]
    """(365,) mean, NaN where too little was seen."""
    low: NDArray[np.float64]
    """(365,) lower end of the usual range."""
    high: NDArray[np.float64]
    """(365,) upper end of the usual range."""
    count: NDArray[np.int64]
    """(365,) observations that counted."""
    years: int
    """Calendar years with at least one observation."""


def day_of_year(times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Place dates on a circle of 365 days, 0 on 1 January; a leap year is squeezed by 0.3 %."""
    day = times.astype("datetime64[D]")
    year = day.astype("datetime64[Y]")
    first, following = year.astype("datetime64[D]"), (year + 1).astype("datetime64[D]")
    passed = (day - first).astype(np.float64)
    return np.asarray(passed * DAYS / (following - first).astype(np.float64), np.float64)


def usual_year(
    times: NDArray[np.datetime64],
    values: NDArray[np.floating],
    usable: NDArray[np.bool_] | None = None,
    *,
    half_width: float = HALF_WIDTH,
) -> UsualYear:
    """Summarise a series by day of the year.

    For day d the observations i of all years with a circular distance
    ``min(|d - d_i|, 365 - |d - d_i|) <= half_width`` count, each the same: their mean, and their
    percentiles 10 and 90 with linear interpolation. Observations that are not usable or not
    finite are left out; a day with fewer than `FEWEST` gets NaN.

    Parameters
    ----------
    times
        (time,) dates, in any order.
    values
        (time,) values in any unit.
    usable
        (time,) whether an observation counts; by default all.
    half_width
        Days, above 0 and below 182.5.

    Raises
    ------
    ValueError
        If the half width is outside of its range.
    """
    if not 0 < half_width < DAYS / 2:
        raise ValueError(f"a half width of {half_width:g} days is none; give 1 to 182")
    good = np.isfinite(values) & (True if usable is None else usable)
    day, kept = day_of_year(times[good]), np.asarray(values, np.float64)[good]
    order = np.argsort(day, kind="stable")
    day, kept = day[order], kept[order]
    # A day's window is a run of this list, also at the turn of the year.
    around = np.concatenate([day - DAYS, day, day + DAYS])
    tripled = np.tile(kept, 3)
    centres = np.arange(DAYS)
    first = np.searchsorted(around, centres - half_width, side="left")
    stop = np.searchsorted(around, centres + half_width, side="right")
    found = np.full((3, DAYS), np.nan)
    for at in np.flatnonzero(stop - first >= FEWEST):
        window = tripled[first[at] : stop[at]]
        found[:, at] = window.mean(), *np.percentile(window, RANGE)
    years = np.unique(times[good].astype("datetime64[Y]")).size
    mean, low, high = found
    return UsualYear(mean, low, high, (stop - first).astype(np.int64), int(years))
