"""Latent selections: which pixels fall into a polygon in a plane of the latent space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from deepfeatures import latent
from deepfeatures.reading.chunks import read
from deepfeatures.reading.kept import kept
from deepfeatures.reading.opened import OpenCube, decode

MAX_RING = 5_000
"""Most corners of a latent selection."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A polygon in a plane of the latent space of a cube."""

    cube: str
    """Name of the cube."""
    time: str | None
    """Date (ISO) that is marked unless another is asked for; None is the last."""
    plane: latent.Plane
    """Gives the channels of a pixel a place."""
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
    plane, count = selection.plane, len(cube.channels)
    known = (plane.mean if isinstance(plane, latent.PCA) else plane.points).shape[-1]
    if known != count:
        raise ValueError(
            f"the selection has {known} channels, {cube.name!r} has {count}; select again"
        )

    def placed() -> NDArray:
        box = (slice(t, t + 1), slice(0, count), rows, columns)
        stored = read(cube, cube.variable, box, level=level)[0]
        layers = [decode(cube, *pair) for pair in zip(stored, cube.channels, strict=True)]
        return latent.place(plane, np.stack(layers, axis=-1))

    if isinstance(plane, latent.PCA):
        scores = placed()
    else:  # slow enough to be kept for the next lasso
        area = f"{rows.start}:{rows.stop} {columns.start}:{columns.stop}"
        scores = kept(f"{plane.key} {cube.url} {cube.version} {t} {area} {level}", placed)
    return contained(selection.ring, scores.reshape(-1, 2).T).reshape(scores.shape[:2])


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
