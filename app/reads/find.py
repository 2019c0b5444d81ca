"""What the section *Find* reads and asks for: maps, layers, labels; all slow, so in a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.reads import cubes
from deepfeatures import finding, jobs, layers, serve
from deepfeatures.finding import Found
from deepfeatures.serve.find import RESULTS
from deepfeatures.settings import Workspace


@dataclass(frozen=True, eq=False)
class Map:
    """A map that was found, as the page needs it."""

    key: str
    """Id that its tiles are asked for with; empty if it became a job."""
    found: Found | None
    """Its layers and summary; None if it became a job."""
    ordered: NDArray[np.float32]
    """Values of the first map of numbers, rising: areas beyond any threshold follow from it."""
    pixel_ha: float
    """Area of a pixel [ha]."""
    job: str = ""
    """Id of the job that makes it, if it takes long."""


def ask(ws: Workspace, name: str, method: str, settings: dict[str, Any], owner: str = "") -> Map:
    """Make a map, or take the one that is kept; what takes long becomes a job.

    Raises
    ------
    ValueError
        With one sentence about what is wrong with the settings.
    """
    cube = serve.cube(ws, name)
    nothing = np.empty(0, np.float32)
    if finding.pixel_dates(cube, method, settings) > finding.MAX_NOW:
        words = {"method": method, **settings}
        key = jobs.submit(ws, kind="find", cube=name, settings=words, owner=owner)
        return Map("", None, nothing, layers.pixel_ha(cube), key)
    key, found = RESULTS.ask(cube, method, settings)
    first = found.layers[0]
    if not first.classes:
        values = first.values[0]
        nothing = np.sort(values[np.isfinite(values)], axis=None)
    return Map(key, found, nothing, layers.pixel_ha(cube))


def save(ws: Workspace, found: Found, name: str) -> tuple[list[str], dict[str, Any]]:
    """Store a map; gives the names of the layers, and all cubes of the workspace.

    Raises
    ------
    ValueError
        If the name is taken or can not be used.
    """
    return finding.save(ws, found, name or None), cubes.described(ws)


def beyond(made: Map, threshold: float, rising: bool) -> float:
    """Give the area [ha] at or above a threshold, or at or below it."""
    edge = np.float32(threshold)
    if rising:
        count = made.ordered.size - int(np.searchsorted(made.ordered, edge, "left"))
    else:
        count = int(np.searchsorted(made.ordered, edge, "right"))
    return count * made.pixel_ha
