"""How alike the features of pixels are to those of a reference, over one date or many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def usable(vectors: Floats) -> NDArray[np.bool_]:
    """Tell where all features of a pixel are there: (time, feature, ...) -> (time, ...)."""
    # a sum is finite where all its parts are, and takes a fifth of the time of looking at each
    return np.asarray(np.isfinite(vectors.sum(axis=1)))


def similarity(vectors: Floats, reference: Floats, method: str = "cosine") -> Floats:
    """Compare the way of each pixel through feature space with that of a reference.

    Only dates count on which both are usable, so that gaps of one do not make it unlike.

    Parameters
    ----------
    vectors
        (time, feature, pixel), NaN where not usable.
    reference
        (time, feature), NaN where not usable.
    method
        ``cosine``: cosine of the angle between the two ways, all dates in one vector, -1..1,
        1 for the same direction. ``euclid``: root mean square over the dates of the distance,
        0 for the same features, in units of the cube's spread.

    Returns
    -------
    numpy.ndarray
        (pixel,) float32; NaN where no date is common.

    Raises
    ------
    ValueError
        If the method is unknown, the shapes do not fit, or the reference is nowhere usable.
    """
    if method not in METHODS:
        raise ValueError(f"{method[:40]!r} is no similarity; choose {' or '.join(METHODS)}")
    if vectors.ndim != 3 or reference.shape != vectors.shape[:2]:
        raise ValueError(
            f"the reference of shape {reference.shape} does not fit vectors of {vectors.shape}"
        )
    dates = usable(reference)
    if not dates.any():
        raise ValueError("the reference is usable on no date; choose another pixel, area or date")
    kept = vectors if dates.all() else vectors[dates]
    there = usable(kept)
    clean = kept if there.all() else np.where(there[:, None], kept, np.float32(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = METHODS[method](clean, reference[dates], there)
    return np.where(there.any(axis=0), found, np.float32(np.nan)).astype(np.float32)


def _cosine(vectors: Floats, reference: Floats, there: NDArray[np.bool_]) -> Floats:
    product = reference.reshape(-1) @ vectors.reshape(reference.size, -1)
    own = np.einsum("tfn,tfn->n", vectors, vectors)
    other = (reference**2).sum(axis=1) @ there.astype(np.float32)
    return np.clip(product / np.sqrt(own * other), -1, 1)


def _euclid(vectors: Floats, reference: Floats, there: NDArray[np.bool_]) -> Floats:
    apart = (vectors - reference[:, :, None]) * there[:, None]
    return np.sqrt(np.einsum("tfn,tfn->n", apart, apart) / there.sum(axis=0))


METHODS: dict[str, Callable[[Floats, Floats, NDArray[np.bool_]], Floats]] = {
    "cosine": _cosine,
    "euclid": _euclid,
}
"""Name of a measure to the function that computes it."""

RISING = {"cosine": True, "euclid": False}
"""Whether a larger value of a measure means more alike."""
