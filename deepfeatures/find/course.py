"""The course of a pixel through the year in a few numbers, whatever dates it was seen on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepfeatures.find.similarity import usable

YEAR = 365.25
"""Length of the period [days]."""
FEWEST = 6
"""Usable dates below which a pixel has no course."""
PARTS = ("mean", "cosine", "sine")
"""What the course has of each feature, in this order."""
RIDGE = 0.01
"""Pulls the wave to zero, as a share of the dates: seasons that were never seen stay tame."""


def course(vectors: NDArray[np.float32], days: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fit a mean and one yearly wave to each feature of each pixel.

    Least squares on the usable dates (Menenti et al. 1993, doi 10.1016/0273-1177(93)90550-U).

    Parameters
    ----------
    vectors
        (time, feature, pixel), NaN where not usable.
    days
        (time,) days since any day; only their differences count.

    Returns
    -------
    numpy.ndarray
        (3 * feature, pixel): the means, then the cosines, then the sines of all features; NaN
        where fewer than `FEWEST` dates are usable.
    """
    dates, features, pixels = vectors.shape
    angle = 2 * np.pi * np.asarray(days, np.float64) / YEAR
    basis = np.stack([np.ones(dates), np.cos(angle), np.sin(angle)]).astype(np.float32)
    there = usable(vectors)
    clean = np.where(there[:, None], vectors, np.float32(0))
    pairs = (basis[:, None] * basis[None]).reshape(9, dates)
    normal = (pairs @ there.astype(np.float32)).T.reshape(pixels, 3, 3).astype(np.float64)
    count = there.sum(axis=0)
    normal += RIDGE * count[:, None, None] * np.diag([0.0, 1.0, 1.0])
    enough = count >= FEWEST
    normal[~enough] = np.eye(3)
    right = (basis @ clean.reshape(dates, -1)).reshape(3, features, pixels)
    found = np.linalg.solve(normal, right.transpose(2, 0, 1).astype(np.float64))
    found[~enough] = np.nan
    return found.transpose(1, 2, 0).reshape(3 * features, pixels).astype(np.float32)
