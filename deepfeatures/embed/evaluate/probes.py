"""Linear probes: what can be read off features by one matrix, on places held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.optimize import minimize

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

PENALTIES = (1e-5, 1e-3, 1e-1)
"""Ridge penalties that are tried, per row and for features of variance 1."""
DECAYS = (1e-4, 1e-2)
"""Penalties of logistic regression that are tried: half of it times the squared weights is added
to the mean loss."""
STEPS = 60
"""Most steps of L-BFGS for a logistic regression."""
SMALLEST = 10
"""Pixels of the smallest field."""


def folds(groups: Ints, count: int) -> Ints:
    """Deal groups to folds, the largest first and each to the fold that has least.

    Parameters
    ----------
    groups
        Group of each row ``(n,)``; a group is never cut.
    count
        Number of folds.

    Returns
    -------
    Fold of each row ``(n,)``.
    """
    names, at, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    held, fold = np.zeros(count, int), np.zeros(len(names), int)
    for group in np.argsort(-sizes, kind="stable"):
        fold[group] = held.argmin()
        held[fold[group]] += sizes[group]
    return fold[at]


def fields(labels: Ints) -> Ints:
    """Give each field a number ``(y, x)``: connected pixels of equal label; 0 = none, too small."""
    found, last = np.zeros(labels.shape, np.int64), 0
    for value in np.unique(labels[labels != 0]):
        numbers, _ = label(labels == value)
        sizes = np.bincount(numbers.ravel())
        numbers[sizes[numbers] < SMALLEST] = 0
        found = np.where(numbers > 0, numbers + last, found)
        last = int(found.max())
    return found


def field_folds(labels: Ints, field: Ints, count: int) -> Ints:
    """Deal the fields of each class to folds ``(y, x)``; -1 where a class has fewer fields."""
    found = np.full(labels.shape, -1)
    for value in np.unique(labels[field > 0]):
        here = (labels == value) & (field > 0)
        if len(np.unique(field[here])) >= count:
            found[here] = folds(field[here], count)
    return found


def ridge(x: Floats, y: Floats, groups: Ints, x_new: Floats) -> Floats:
    """Tell a quantity by ridge regression on standardised features.

    The penalty is the one of `PENALTIES` with the least squared error over the groups of the
    training rows, each held out in turn (in four folds at most); one group: the middle one.

    Parameters
    ----------
    x, y, groups
        Training rows ``(n, k)``, ``(n,)``, ``(n,)``.
    x_new
        Rows to tell ``(m, k)``.

    Returns
    -------
    ``(m,)``
    """
    count = min(4, len(np.unique(groups)))
    best = PENALTIES[len(PENALTIES) // 2]
    if count > 1:
        fold = folds(groups, count)
        total = np.zeros(len(PENALTIES))
        for k in range(count):
            told = _ridges(x[fold != k], y[fold != k], x[fold == k], PENALTIES)
            total += ((told - y[fold == k]) ** 2).sum(axis=1)
        best = PENALTIES[int(total.argmin())]
    found: Floats = _ridges(x, y, x_new, (best,))[0]
    return found


def _ridges(x: Floats, y: Floats, x_new: Floats, penalties: Sequence[float]) -> Floats:
    """Tell by ridge regression with each of some penalties ``(penalty, m)``."""
    scaled, new = _standardised(x, x_new)
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(x))
    right = vectors.T @ (scaled.T @ (y - y.mean()) / len(x))
    rotated = new @ vectors
    return np.stack([rotated @ (right / (values.clip(0) + p)) + y.mean() for p in penalties])


def r2(true: Floats, told: Floats) -> float:
    """Give the share of the variance that is told: 1 = all, 0 = as good as the mean."""
    rest, whole = ((true - told) ** 2).sum(), ((true - true.mean()) ** 2).sum()
    return float(1 - rest / whole) if whole > 0 else float("nan")


def logistic(x: Floats, y: Ints, x_new: Floats, decay: float) -> Ints:
    """Tell classes by multinomial logistic regression on standardised features (L-BFGS).

    Parameters
    ----------
    x, y
        Training rows ``(n, k)`` and their classes ``(n,)``.
    x_new
        Rows to tell ``(m, k)``.
    decay
        See `DECAYS`; the intercepts are free.

    Returns
    -------
    Classes ``(m,)``.
    """
    scaled, new = _standardised(x, x_new)
    classes, index = np.unique(y, return_inverse=True)
    n, k, c = len(x), x.shape[1], len(classes)
    hot = np.eye(c)[index]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, start = flat[: k * c].reshape(k, c), flat[k * c :]
        score = scaled @ weights + start
        score -= score.max(axis=1, keepdims=True)
        odds = np.exp(score)
        total = odds.sum(axis=1, keepdims=True)
        cost = np.log(total[:, 0]).mean() - (score * hot).sum() / n
        rest = (odds / total - hot) / n
        slope = np.concatenate([(scaled.T @ rest + decay * weights).ravel(), rest.sum(axis=0)])
        return float(cost + decay / 2 * (weights**2).sum()), slope

    found = minimize(
        loss, np.zeros((k + 1) * c), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    ).x
    score = new @ found[: k * c].reshape(k, c) + found[k * c :]
    told: Ints = classes[score.argmax(axis=1)]
    return told


def classify(x: Floats, y: Ints, groups: Ints, x_new: Floats) -> Ints:
    """Tell classes with the decay of `DECAYS` that is best on groups held out (two folds)."""
    best = DECAYS[-1]
    fold = folds(groups, 2)
    if len(np.unique(fold)) == 2:
        right = [
            sum((logistic(x[fold != k], y[fold != k], x[fold == k], d) == y[fold == k]).sum()
                for k in range(2))
            for d in DECAYS
        ]  # fmt: skip
        best = DECAYS[int(np.argmax(right))]
    return logistic(x, y, x_new, best)


def macro_f1(true: Ints, told: Ints) -> float:
    """Give the mean over the classes that there are of the harmonic mean of both accuracies."""
    scores = []
    for value in np.unique(true):
        hit = ((true == value) & (told == value)).sum()
        scores.append(2 * hit / ((true == value).sum() + (told == value).sum()))
    return float(np.mean(scores))


def _standardised(x: Floats, x_new: Floats) -> tuple[Floats, Floats]:
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    return (x - mean) / deviation, (x_new - mean) / deviation
