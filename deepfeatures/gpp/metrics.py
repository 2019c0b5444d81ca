"""Scores as sums that can be merged: of parts, of sites, of windows of time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Sums:
    """What all scores of predictions are made of; sums of two parts are those of the whole.

    The sums are of squared deviations from the means of the part, merged as Chan et al. do
    (1983, doi 10.1080/00031305.1983.10483115), so that nothing is lost to rounding.
    """

    count: int = 0
    """Pairs of an observation and a prediction."""
    observed: float = 0.0
    """Mean of the observations."""
    predicted: float = 0.0
    """Mean of the predictions."""
    spread_observed: float = 0.0
    """Sum of squared deviations of the observations."""
    spread_predicted: float = 0.0
    """Sum of squared deviations of the predictions."""
    together: float = 0.0
    """Sum of products of both deviations."""
    squared: float = 0.0
    """Sum of squared errors."""
    low: float = math.inf
    """Smallest observation."""
    high: float = -math.inf
    """Largest observation."""

    def __add__(self, other: Sums) -> Sums:
        """Merge the sums of two parts."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        weight = self.count * other.count / count
        step, move = other.observed - self.observed, other.predicted - self.predicted
        return Sums(
            count,
            self.observed + step * other.count / count,
            self.predicted + move * other.count / count,
            self.spread_observed + other.spread_observed + step * step * weight,
            self.spread_predicted + other.spread_predicted + move * move * weight,
            self.together + other.together + step * move * weight,
            self.squared + other.squared,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def r2(self) -> float:
        """Coefficient of determination, which is the efficiency of Nash and Sutcliffe (NSE)."""
        return _ratio(self.spread_observed - self.squared, self.spread_observed)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return math.sqrt(_ratio(self.squared, self.count))

    @property
    def nrmse(self) -> float:
        """RMSE over the range (largest minus smallest) of the observations."""
        return _ratio(self.rmse, self.high - self.low)

    @property
    def bias(self) -> float:
        """Mean of prediction minus observation."""
        return self.predicted - self.observed if self.count else math.nan

    @property
    def kge(self) -> float:
        """Efficiency of Kling and Gupta (Gupta et al. 2009, doi 10.1016/j.jhydrol.2009.08.003)."""
        r = _ratio(self.together, math.sqrt(self.spread_observed * self.spread_predicted))
        alpha = math.sqrt(_ratio(self.spread_predicted, self.spread_observed))
        beta = _ratio(self.predicted, self.observed)
        return 1 - math.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)

    def scores(self) -> dict[str, float]:
        """Give all scores by name, rounded to six decimals."""
        names = ("r2", "rmse", "nrmse", "kge", "bias")
        return {name: round(getattr(self, name), 6) for name in names}


def sums(observed: ArrayLike, predicted: ArrayLike) -> Sums:
    """Give the sums of observations and predictions of the same days; pairs with NaN are left out.

    Raises
    ------
    ValueError
        If the two differ in length.
    """
    truth, told = np.asarray(observed, np.float64), np.asarray(predicted, np.float64)
    if truth.shape != told.shape:
        raise ValueError(f"{truth.size} observations for {told.size} predictions; give pairs")
    both = np.isfinite(truth) & np.isfinite(told)
    truth, told = truth[both], told[both]
    if not truth.size:
        return Sums()
    off, away = truth - truth.mean(), told - told.mean()
    return Sums(
        truth.size, float(truth.mean()), float(told.mean()), float(off @ off), float(away @ away),
        float(off @ away), float(((told - truth) ** 2).sum()), float(truth.min()),
        float(truth.max()),
    )  # fmt: skip


def merged(parts: Iterable[Sums]) -> Sums:
    """Give the sums of the whole."""
    return sum(parts, Sums())


def close(one: Sums, other: Sums) -> bool:
    """Tell whether two sums are equal up to rounding."""
    return bool(np.allclose(astuple(one), astuple(other), rtol=1e-9, atol=1e-9))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
