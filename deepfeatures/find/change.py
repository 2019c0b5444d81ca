"""How far pixels moved in feature space between two dates or two years."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepfeatures.find.similarity import usable

BINS = 12
"""Bins of the chart of change."""


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the distance of each pixel between two states in feature space.

    Parameters
    ----------
    before, after
        (step, feature, pixel) each: one step for a date, twelve for the months of a year; NaN
        where not usable. Steps count where both are usable.

    Returns
    -------
    numpy.ndarray
        (pixel,) root mean square over the common steps of the distance, in units of the cube's
        spread; NaN without a common step.

    Raises
    ------
    ValueError
        If the two shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"states of shape {before.shape} and {after.shape} can not be compared")
    both = usable(before) & usable(after)
    apart = np.where(both[:, None], after - before, np.float32(0))
    count = both.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.sqrt(np.einsum("tfn,tfn->n", apart, apart) / count)
    return np.where(count > 0, found, np.float32(np.nan)).astype(np.float32)


def months(vectors: NDArray[np.float32], month: NDArray[np.integer]) -> NDArray[np.float32]:
    """Give the mean of the usable dates of each month.

    Parameters
    ----------
    vectors
        (time, feature, pixel), NaN where not usable.
    month
        (time,) 0..11.

    Returns
    -------
    numpy.ndarray
        (12, feature, pixel), NaN where a month has no usable date.
    """
    there = usable(vectors)
    clean = np.where(there[:, None], vectors, np.float32(0))
    found = np.full((12, *vectors.shape[1:]), np.nan, np.float32)
    for number in range(12):
        of = month == number
        count = there[of].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[number] = np.where(count > 0, clean[of].sum(axis=0) / count, np.nan)
    return found


def bins(
    values: NDArray[np.float32], pixel_ha: float, edges: Sequence[float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Give the area of each bin of change.

    Parameters
    ----------
    values
        Change of each pixel, NaN where there is none.
    pixel_ha
        Area of a pixel [ha].
    edges
        Edges of the bins, rising; those of `BINS` equal bins up to the largest value by default.
        What lies beyond the outer edges counts in the outer bins.

    Returns
    -------
    (edges, areas, missing)
        (bin + 1,) edges, (bin,) areas [ha], and the area without a value [ha]; areas and missing
        sum to that of all pixels.

    Raises
    ------
    ValueError
        If the edges do not rise.
    """
    there = values[np.isfinite(values)].astype(np.float64)
    if edges is None:
        top = float(there.max()) if there.size and there.max() > 0 else 1.0
        limits = np.linspace(0, top, BINS + 1)
    else:
        limits = np.asarray(edges, np.float64)
    if limits.size < 2 or not (np.diff(limits) > 0).all():
        raise ValueError(f"the edges {list(edges or ())} must be two or more rising numbers")
    counts = np.histogram(np.clip(there, limits[0], limits[-1]), limits)[0]
    return limits, counts * pixel_ha, float((values.size - there.size) * pixel_ha)
