"""What probes need of a place: rows of features beside what is true there, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfeatures.embed.evaluate import probes
from deepfeatures.embed.evaluate.place import FOOTPRINT, Place
from deepfeatures.predictor import usable

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

ROWS = 3000
"""Pixel-dates, and pixels, that are drawn of each place."""
SEASONS = 4
"""Parts of the year of which a class probe sees the mean features."""
YEAR = 365.25
PATCH = 16
"""Edge [px] of the patches that are held out in turn where no other place teaches; less in places
that are smaller than four of them."""
PARTS = 4
"""Folds of those patches."""
TURNS = 2
"""Folds of the fields of a place."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of features of a place; rows of all representations of it are the same pixels."""

    place: Place
    """Where."""
    x: Floats
    """Features of drawn pixel-dates ``(n, k)``."""
    at: Ints
    """Their time, row and column ``(n, 3)``."""
    seasons: Floats
    """Mean features of each season, of labelled pixels ``(pixel, SEASONS * k)``."""
    pixels: Ints
    """Row and column of those ``(pixel, 2)``."""
    tower: Floats
    """Mean features of the footprints of towers on usable dates ``(m, k)``."""
    gpp: Floats
    """What the towers measured then ``(m,)``."""


def rows(place: Place, features: Floats, *, seed: int = 0) -> Rows:
    """Draw what probes need, so that the features of a place need not be kept.

    Parameters
    ----------
    place
        Where.
    features
        ``(time, k, y, x)``, NaN where not usable.
    seed
        Seed of the choice of pixels.
    """
    rng = np.random.default_rng(seed)
    seen = usable(place.block.values, place.block.valid)
    drawn = np.flatnonzero(seen)
    drawn = np.sort(rng.permutation(drawn)[:ROWS])
    at = np.stack(np.unravel_index(drawn, seen.shape), axis=1)
    labelled = np.zeros((0, 2), np.intp)
    if place.labels is not None:
        labelled = np.argwhere((place.labels != 0) & seen.any(axis=0))
        labelled = labelled[np.sort(rng.permutation(len(labelled))[:ROWS])]
    tower, gpp = _towers(place, features)
    return Rows(
        place, features[at[:, 0], :, at[:, 1], at[:, 2]], at,
        seasonal(features[:, :, labelled[:, 0], labelled[:, 1]], place.block.days), labelled,
        tower, gpp,
    )  # fmt: skip


def seasonal(features: Floats, days: NDArray[np.float64]) -> Floats:
    """Average features ``(time, k, pixel)`` over parts of the year ``(pixel, SEASONS * k)``.

    A part in which a pixel was never usable has the mean of the pixel.
    """
    seen = np.isfinite(features)
    known = np.where(seen, features, np.float32(0))

    def mean(dates: NDArray[np.bool_]) -> Floats:
        number = seen[dates].sum(axis=0)
        return np.where(
            number > 0, known[dates].sum(axis=0, dtype=np.float64) / number.clip(1), np.nan
        )

    whole = mean(np.ones(len(days), bool))  # (k, pixel)
    part = ((days % YEAR) / YEAR * SEASONS).astype(int)
    found = [mean(part == k) for k in range(SEASONS)]
    return np.concatenate([np.where(np.isfinite(m), m, whole) for m in found]).T


def _towers(place: Place, features: Floats) -> tuple[Floats, Floats]:
    """Give features and flux of all towers and usable dates."""
    x, y = [np.empty((0, features.shape[1]))], [np.empty(0)]
    towers = place.towers
    if towers is not None:
        for row, column, gpp in zip(towers.row, towers.column, towers.gpp, strict=True):
            window = (slice(max(k - FOOTPRINT, 0), k + FOOTPRINT + 1) for k in (row, column))
            part = features[(slice(None), slice(None), *window)].reshape(*features.shape[:2], -1)
            there = np.isfinite(part).all(axis=1).mean(axis=1) > 0.5
            there &= np.isfinite(gpp)
            x.append(np.nanmean(part[there], axis=2))
            y.append(gpp[there])
    return np.concatenate(x), np.concatenate(y)


def quantities(train: Sequence[Rows], test: Rows) -> dict[str, float]:
    """Score ridge probes of all that is known at the pixel-dates of a place.

    The probe learns on the training places of the same region. Where there are none, patches of
    the place itself (`PATCH`) are held out in turn, in `PARTS` folds. (Halves would not do: a
    village in one and fields in the other give an R2 below -1 to every representation.)

    Returns
    -------
    dict
        Quantity -> R2; ``tower GPP`` among them if both sides have towers.
    """
    others = _teachers(train, test)
    found = {}
    for name, truth in test.place.truth.items():
        y = _values(test, truth)
        taught = [r for r in others if name in r.place.truth]
        if not taught:
            found[name] = _among_patches(test, y)
            continue
        groups = np.concatenate([_quadrant(r) + 4 * i for i, r in enumerate(taught)])
        found[name] = _scored(
            np.concatenate([r.x for r in taught]),
            np.concatenate([_values(r, r.place.truth[name]) for r in taught]),
            groups // 4 if len(taught) > 1 else groups, test.x, y,
        )  # fmt: skip
    taught = [r for r in others if len(r.gpp)]
    if taught and len(test.gpp):
        groups = np.concatenate([np.full(len(r.gpp), i) for i, r in enumerate(taught)])
        found["tower GPP"] = _scored(
            np.concatenate([r.tower for r in taught]), np.concatenate([r.gpp for r in taught]),
            groups, test.tower, test.gpp,
        )  # fmt: skip
    return found


def _among_patches(test: Rows, y: Floats) -> float:
    """Give R2 of ridge probes that are told patches which they did not learn on."""
    there = np.isfinite(y) & np.isfinite(test.x).all(axis=1)
    edge = max(1, min(PATCH, max(test.place.block.valid.shape[1:]) // PARTS))
    x, y, at = test.x[there], y[there], test.at[there] // edge
    groups = at[:, 1] * (at[:, 2].max(initial=0) + 1) + at[:, 2]
    fold = probes.folds(groups, PARTS)
    if len(np.unique(fold)) < PARTS:
        return float("nan")
    told = np.empty(len(y))
    for k in range(PARTS):
        old = fold != k
        told[~old] = probes.ridge(x[old], y[old], groups[old], x[~old])
    return probes.r2(y, told)


def _scored(x: Floats, y: Floats, groups: Ints, x_new: Floats, y_new: Floats) -> float:
    """Give R2 of a ridge probe, of the rows in which all is known."""
    old = np.isfinite(y) & np.isfinite(x).all(axis=1)
    new = np.isfinite(y_new) & np.isfinite(x_new).all(axis=1)
    if old.sum() <= 10 or new.sum() <= 10:
        return float("nan")
    return probes.r2(y_new[new], probes.ridge(x[old], y[old], groups[old], x_new[new]))


def classes(train: Sequence[Rows], test: Rows) -> float:
    """Score a class probe on the mean features of the seasons: macro F1.

    The probe learns on the training places of the same region; where there are none, in `TURNS`
    folds over the fields of the place itself (connected pixels of equal label, at least
    `probes.SMALLEST`; classes with fewer fields than folds are left out). NaN without labels.
    """
    labels = test.place.labels
    if labels is None or not len(test.pixels):
        return float("nan")
    others = [r for r in _teachers(train, test) if len(r.pixels)]
    y = labels[test.pixels[:, 0], test.pixels[:, 1]]
    if not others:
        return _among_fields(test, y)
    y_old = np.concatenate([_labels(r) for r in others])
    groups = np.concatenate([_half(r) + 2 * i for i, r in enumerate(others)])
    groups = groups // 2 if len(others) > 1 else groups
    known = np.isin(y, y_old)
    told = probes.classify(
        np.concatenate([r.seasons for r in others]), y_old, groups, test.seasons[known]
    )
    return probes.macro_f1(y[known], told)


def _among_fields(test: Rows, y: Ints) -> float:
    labels = test.place.labels
    assert labels is not None
    numbers = probes.fields(labels)
    at = tuple(test.pixels.T)
    field, fold = numbers[at], probes.field_folds(labels, numbers, TURNS)[at]
    if len(np.unique(y[fold >= 0])) < 2:
        return float("nan")
    told = np.zeros_like(y)
    for k in range(TURNS):
        old, new = (fold >= 0) & (fold != k), fold == k
        told[new] = probes.classify(test.seasons[old], y[old], field[old], test.seasons[new])
    return probes.macro_f1(y[fold >= 0], told[fold >= 0])


def _teachers(train: Sequence[Rows], test: Rows) -> list[Rows]:
    here = test.place
    return [r for r in train if r.place.region == here.region and r.place.name != here.name]


def _values(of: Rows, truth: Floats) -> Floats:
    return truth[tuple(of.at.T)].astype(np.float64)


def _labels(of: Rows) -> Ints:
    assert of.place.labels is not None
    found: Ints = of.place.labels[tuple(of.pixels.T)]
    return found


def _quadrant(of: Rows) -> Ints:
    height, width = of.place.block.valid.shape[1:]
    found: Ints = (of.at[:, 1] >= height // 2) * 2 + (of.at[:, 2] >= width // 2)
    return found


def _half(of: Rows) -> Ints:
    found: Ints = (of.pixels[:, 0] >= of.place.block.valid.shape[1] // 2).astype(np.int64)
    return found
