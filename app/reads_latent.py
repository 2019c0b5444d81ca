"""What the views of the latent space read, as plain calls into the package; all go in a thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.data import Times, opened
from deepfeatures import latent, reading, serve, space
from deepfeatures.settings import Workspace


def plane(ws: Workspace, name: str, method: str = "pca") -> space.Plane:
    """Give a plane of a feature cube.

    Raises
    ------
    ValueError
        If it was not fitted yet.
    """
    found = space.plane(ws, name, method)
    if found is None:
        raise ValueError(f"There is no {method.upper()} of {name} yet.")
    return found


def sample(ws: Workspace, name: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Give the cloud of a feature cube in its first two principal components.

    Returns
    -------
    (scores, explained)
        (n, 2) scores of sampled pixels and dates, and the variance share of each axis.
    """
    found = plane(ws, name)
    assert isinstance(found.axes, latent.PCA)
    return found.scores, found.axes.explained


def track(
    ws: Workspace, name: str, point: tuple[float, float], method: str = "pca"
) -> tuple[Times, NDArray[np.floating]]:
    """Give the way of a pixel through a plane: (time,) and (time, 2), with NaN."""
    cube = opened(ws, name)
    pixel = reading.series(cube, *reading.locate(cube, *point))
    vectors = np.stack([pixel.values[channel] for channel in cube.channels], axis=1)
    return pixel.times, latent.place(plane(ws, name, method).axes, vectors)


def select(
    ws: Workspace, name: str, corners: list[tuple[float, float]], method: str = "pca"
) -> tuple[str, float]:
    """Keep a selection for the tile route.

    Returns
    -------
    (id, share)
        The id that tiles are asked for with, and the share of the sampled points inside.

    Raises
    ------
    ValueError
        If the corners make no polygon.
    """
    found = plane(ws, name, method)
    ring = np.array(corners, np.float64)
    inside = reading.contained(ring, found.scores.T)
    key = serve.SELECTIONS.put(reading.Selection(name, None, found.axes, ring))
    return key, float(inside.mean())
