"""Latent selections: which pixels fall into a polygon in the plane of two components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from deepfeatures.reading.chunks import read
from deepfeatures.reading.opened import OpenCube
from deepfeatures.reading.values import decode

MAX_RING = 5_000
"""Most corners of a latent selection."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A polygon in the plane of two principal components of a cube's channels."""

    cube: str
    """Name of the cube."""
    time: str | None
    """Date (ISO) that is marked unless another is asked for; None is the last."""
    mean: NDArray[np.floating]
    """(channel,) mean that is subtracted."""
    components: NDArray[np.floating]
    """(2, channel) axes of the plane."""
    ring: NDArray[np.floating]
    """(corner, 2) corners of the polygon in the plane."""


def members(
    cube: OpenCube, selection: Selection, t: int, rows: slice, columns: slice, *, level: int = 1
) -> NDArray[np.bool_]:
    """Tell which pixels of a window fall into a latent selection at one date.

    Returns
    -------
    array
        (rows, columns) bool; False where a channel has no value.

    Raises
    ------
    ValueError
        If the selection was made for other channels.
    """
    if selection.components.shape != (2, len(cube.channels)):
        raise ValueError(
            f"the selection has {selection.components.shape[1]} channels, {cube.name!r} has "
            f"{len(cube.channels)}; select again"
        )
    box = (slice(t, t + 1), slice(0, len(cube.channels)), rows, columns)
    stored = read(cube, cube.variable, box, level=level)[0]
    vectors = np.stack([decode(cube, *pair) for pair in zip(stored, cube.channels, strict=True)])
    flat = vectors.reshape(len(cube.channels), -1)
    scores = selection.components @ (flat - np.asarray(selection.mean)[:, None])
    return contained(selection.ring, scores).reshape(vectors.shape[1:])


def contained(ring: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which points (2, n) lie in a polygon with corners `ring` (m, 2).

    A drawn outline may cross itself; what it encloses once counts. NaN is never inside.

    Raises
    ------
    ValueError
        If the polygon has fewer than three or more than `MAX_RING` corners, or NaN.
    """
    if not 3 <= len(ring) <= MAX_RING or not np.isfinite(ring).all():
        raise ValueError(
            f"a selection needs 3 to {MAX_RING} finite corners, this has {len(ring)}; draw it anew"
        )
    low, high = np.min(ring, axis=0)[:, None], np.max(ring, axis=0)[:, None]
    inside = ((points >= low) & (points <= high)).all(axis=0)
    shape = shapely.make_valid(shapely.Polygon(ring))
    shapely.prepare(shape)
    inside[inside] = shapely.contains_xy(shape, *points[:, inside])
    return inside
