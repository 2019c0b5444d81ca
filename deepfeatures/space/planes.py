"""Planes of the latent space: sampled pixel-dates with their places, kept beside the cube.

A plane is one NumPy archive ``planes/CUBE/METHOD-DIGEST.npz`` in the workspace, written whole or
not at all; the digest is that of the cube's version, so that a plane of another version is never
taken.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import catalogue, latent, reading
from deepfeatures.settings import Workspace, checked_name
from deepfeatures.space.sampling import Sample, sample, vectors

METHODS = ("pca", "umap")
"""Ways to a plane: principal components, or UMAP (McInnes et al. 2018, doi 10.21105/joss.00861)."""

POINTS = 1_000_000
"""Pixel-dates of a plane."""

HELD = 4
"""Planes that a process keeps in memory."""

FORM = 1
"""Number of the file format."""

PCA_FIELDS = ("mean", "components", "explained", "deviation")


@dataclass(frozen=True, eq=False)
class Plane:
    """Pixel-dates of a feature cube and their places in a plane."""

    method: str
    """One of `METHODS`."""
    version: str
    """Version of the cube that it was made from."""
    points: Sample
    """The pixel-dates."""
    scores: NDArray[np.float32]
    """(n, 2) their places."""
    axes: latent.Plane
    """Gives a place to any other pixel-date."""


def plane(ws: Workspace, name: str, method: str = "pca") -> Plane | None:
    """Give the plane of a feature cube: the one of principal components is made if it is missing.

    Returns
    -------
    Plane or None
        None if there is no UMAP of this version of the cube yet; `fit_umap` makes it.

    Raises
    ------
    KeyError
        If there is no such cube.
    ValueError
        If it holds no features, the method is unknown, or fewer than two pixel-dates are usable.
    """
    cube = opened(ws, name)
    found = stored(ws, name, method)
    if found is None and method == "pca":
        found = _principal(cube)
        with suppress(OSError):  # a workspace to read only, or a full disk: it is made again
            keep(ws, name, found)
        _remember((ws.home, name, method, cube.version), found)
    return found


def opened(ws: Workspace, name: str) -> reading.OpenCube:
    """Open a feature cube.

    Raises
    ------
    KeyError
        If there is no such cube.
    ValueError
        If it holds no features.
    """
    cube = reading.open(catalogue.url(ws, name), name)
    if cube.kind != "features":
        raise ValueError(f"{name!r} holds {cube.kind}; choose a cube of features")
    return cube


def _principal(cube: reading.OpenCube) -> Plane:
    points = sample(cube, POINTS)
    table = vectors(cube, points.codes)
    if len(table) < 2:
        raise ValueError(f"{cube.name!r} has fewer than two usable pixel-dates")
    axes = latent.pca(table, min(2, table.shape[1]))
    return Plane("pca", cube.version, points, latent.place(axes, table), axes)


_HELD: OrderedDict[Any, Plane] = OrderedDict()
_LOCK = Lock()


def _remember(key: Any, found: Plane) -> None:
    with _LOCK:
        _HELD[key] = found
        _HELD.move_to_end(key)
        while len(_HELD) > HELD:
            _HELD.popitem(last=False)


def stored(ws: Workspace, name: str, method: str) -> Plane | None:
    """Give the stored plane of the present version of a cube, None if there is none.

    Raises
    ------
    KeyError, ValueError
        As `plane`.
    """
    cube = opened(ws, name)
    key = (ws.home, name, method, cube.version)
    file = path(ws, name, method, cube.version)
    with _LOCK:
        found = _HELD.get(key)
    if found is None:
        found = _load(file, method, cube.version)
        if found is not None:
            _remember(key, found)
    return found


def path(ws: Workspace, name: str, method: str, version: str) -> Path:
    """Give the file of a plane.

    Raises
    ------
    ValueError
        If the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"{method[:40]!r} is no way to a plane; choose from {', '.join(METHODS)}")
    digest = hashlib.sha256(f"{FORM} {version}".encode()).hexdigest()[:16]
    return folder(ws, name) / f"{method}-{digest}.npz"


def folder(ws: Workspace, name: str) -> Path:
    """Give the folder of the planes of a cube."""
    return ws.home / "planes" / checked_name(name)


def keep(ws: Workspace, name: str, made: Plane) -> Path:
    """Store a plane, whole or not at all; planes of other versions of the cube go."""
    file = path(ws, name, made.method, made.version)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.stem}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as out:
            np.savez(out, **_arrays(made))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    for other in file.parent.glob(f"{made.method}-*.npz"):
        if other != file:
            other.unlink(missing_ok=True)
    return file


def clear(ws: Workspace, name: str) -> None:
    """Remove what a killed writer has left."""
    for draft in folder(ws, name).glob("*.draft"):
        draft.unlink(missing_ok=True)


def forget(ws: Workspace, name: str) -> None:
    """Remove the planes of a cube that is gone."""
    shutil.rmtree(folder(ws, name), ignore_errors=True)


def _arrays(made: Plane) -> dict[str, Any]:
    points, axes = made.points, made.axes
    found = {"positions": points.positions, "codes": points.codes, "scores": made.scores}
    if isinstance(axes, latent.PCA):
        return found | {f"pca_{field}": getattr(axes, field) for field in PCA_FIELDS}
    return found | {"known_points": axes.points, "known_scores": axes.scores}


def _load(file: Path, method: str, version: str) -> Plane | None:
    try:
        with file.open("rb") as opened_file, np.load(opened_file, allow_pickle=False) as found:
            axes: latent.Plane
            if method == "pca":
                axes = latent.PCA(*(found[f"pca_{field}"] for field in PCA_FIELDS))
            else:
                axes = latent.Neighbours(found["known_points"], found["known_scores"])
            points = Sample(found["positions"], found["codes"])
            return Plane(method, version, points, found["scores"], axes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or broken: it is made again
