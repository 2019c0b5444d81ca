"""The seasonal cycle of towers, and the days that are extremes against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepfeatures.gpp.towers import Towers

SMOOTHED = 15
"""Days over which a seasonal cycle is averaged."""

GROWING = 0.25
"""A day belongs to the growing season where the cycle is above this share of its range."""

TAIL = 0.05
"""Share of the days, by their anomaly, that are the lower and the upper tail."""

YEAR = 366
"""Days of a cycle."""


def seasonal(of_year: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give the mean of each day of the year ``(366,)`` over a circular window of 15 days.

    Days without any value in their window are interpolated; NaN if there is no value at all.
    """
    sums = np.bincount(of_year, values, YEAR).astype(float)
    numbers = np.bincount(of_year, minlength=YEAR).astype(float)
    half = SMOOTHED // 2
    kernel = np.ones(SMOOTHED)

    def smooth(series: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(np.r_[series[-half:], series, series[:half]], kernel, "valid")

    total, count = smooth(sums), smooth(numbers)
    some = np.flatnonzero(count)
    if not some.size:
        return np.full(YEAR, np.nan)
    return np.interp(np.arange(YEAR), some, total[some] / count[some], period=YEAR)


def cycles(towers: Towers, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the seasonal cycle ``(site, 366)`` of the GPP of known days; NaN without any."""
    mine = known & towers.usable
    of_year = towers.of_year
    return np.stack(
        [
            seasonal(of_year[mine & (towers.site == n)], towers.gpp[mine & (towers.site == n)])
            for n in range(len(towers.sites))
        ]
    )


def reference(towers: Towers, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the cycle ``(day,)`` that anomalies are measured against.

    It is that of the known days of a tower; of a tower that was held out as a whole, that of all
    its own days. It only says which days are extremes, and is no input of any model.
    """
    cycle = cycles(towers, known)
    own = cycles(towers, np.ones_like(known))
    cycle = np.where(np.isnan(cycle), own, cycle)
    return cycle[towers.site, towers.of_year]


def subsets(
    towers: Towers, tested: NDArray[np.bool_], known: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Give the days ``(day,)`` of each subset of the tested days.

    ``full``; ``growing``, where the seasonal cycle is above 25 % of its range; ``lower`` and
    ``upper``, the 5 % of a tower's tested days with the smallest and the largest anomaly;
    ``drought`` where the table says so.
    """
    usual = reference(towers, known)
    anomaly = towers.gpp - usual
    found = {name: np.zeros_like(tested) for name in ("full", "growing", "lower", "upper")}
    for number in range(len(towers.sites)):
        mine = tested & (towers.site == number)
        if not mine.any():
            continue
        cycle = usual[towers.site == number]
        bar = cycle.min() + GROWING * (cycle.max() - cycle.min())
        low, high = np.quantile(anomaly[mine], [TAIL, 1 - TAIL])
        found["full"] |= mine
        found["growing"] |= mine & (usual >= bar)
        found["lower"] |= mine & (anomaly <= low)
        found["upper"] |= mine & (anomaly >= high)
    if (towers.drought & tested).any():
        found["drought"] = towers.drought & tested
    return found
