"""One door to the maps of a cube: a method and settings in plain words give layers and a summary.

The page, the HTTP routes, the command line and the jobs all come through here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepfeatures import aoi, catalogue, layers, mapping, reading
from deepfeatures.find import labels
from deepfeatures.find.similarity import RISING
from deepfeatures.layers import Layer
from deepfeatures.mapping import Cancelled, Progress
from deepfeatures.settings import Workspace, checked_name

MAX_NOW = 200_000_000
"""Pixel-dates up to which a map is made while somebody waits; beyond it is a job."""
MAX_EDGES = 60
"""Most edges of the bins of change."""
Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found."""

    layers: tuple[Layer, ...]
    """The map, and perhaps one with probabilities."""
    summary: dict[str, Any]
    """Areas, bins, accuracy: plain values that JSON can carry."""


def find(
    cube: reading.OpenCube,
    method: str,
    settings: Settings,
    *,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Found:
    """Make the map of a method.

    Parameters
    ----------
    cube
        A cube of features, bands or indices.
    method
        One of `METHODS`.
    settings
        ``similar``: ``lon`` and ``lat``, or ``aoi`` (GeoJSON); ``measure``, ``when``.
        ``groups``: ``k``, ``when``, ``seed``. ``classify``: ``labels`` (GeoJSON points with the
        property ``class``), ``classifier``, ``when``, ``gap``. ``change``: ``before``, ``after``,
        ``edges``.
    progress
        Called with windows done and windows in all.
    cancelled
        Asked between windows.

    Raises
    ------
    ValueError
        With one sentence about what is wrong with the settings or the cube.
    InterruptedError
        If `cancelled` said so.
    """
    known = _words(method)
    wrong = [str(key) for key in settings if key not in known]
    if wrong:
        raise ValueError(f"{method} has no setting {wrong[0][:40]!r}; it has {', '.join(known)}")
    return METHODS[method][0](cube, settings, {"progress": progress, "cancelled": cancelled})


def pixel_dates(cube: reading.OpenCube, method: str, settings: Settings) -> int:
    """Give the pixels times dates that a method reads: what it costs.

    Raises
    ------
    ValueError
        If the method or a period is unknown.
    """
    _words(method)
    whens = ("before", "after") if method == "change" else ("when",)
    count = 0
    for key in whens:
        times = mapping.dates(cube, _text(settings, key))
        count += times.stop - times.start
    return cube.grid.height * cube.grid.width * count


def save(ws: Workspace, found: Found, name: str | None = None) -> list[str]:
    """Store the layers of a result as cubes of the workspace; gives their names.

    The first has the name that is asked for, probabilities that name with ``-probability``.

    Raises
    ------
    KeyError
        If the cube that it was made of is gone.
    ValueError
        If a name is taken or can not be used.
    """
    first, *others = found.layers
    if name is not None:
        taken = catalogue.names(ws)
        for one in (name, *(f"{name}-{other.method}" for other in others)):
            if checked_name(one) in taken:
                raise ValueError(f"the name {one!r} is taken; choose another one")
    made = [layers.save(ws, first, name)]
    return made + [layers.save(ws, other, f"{made[0]}-{other.method}") for other in others]


def _words(method: str) -> tuple[str, ...]:
    if method not in METHODS:
        raise ValueError(f"there is no method {method[:40]!r}; choose {', '.join(METHODS)}")
    return METHODS[method][1]


def _text(settings: Settings, key: str, usual: str = "") -> str:
    value = settings.get(key, usual)
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError(f"the setting {key!r} must be a short text")
    return value


def _number(settings: Settings, key: str, usual: float | None = None) -> float:
    value = settings.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the setting {key!r} must be a number")
    return float(value)


def _whole(settings: Settings, key: str, usual: int | None = None) -> int:
    value = _number(settings, key, usual)
    if value != int(value) or not 0 <= value < 2**32:
        raise ValueError(f"the setting {key!r} must be a whole number from 0")
    return int(value)


def _similar(cube: reading.OpenCube, settings: Settings, more: Any) -> Found:
    measure = _text(settings, "measure", "cosine")
    place: Any
    if "aoi" in settings:
        area = settings["aoi"]
        if not isinstance(area, Mapping):
            raise ValueError("the setting 'aoi' must be a GeoJSON polygon in longitude/latitude")
        place = aoi.from_geojson(area)
    else:
        place = (_number(settings, "lon"), _number(settings, "lat"))
    layer = mapping.similar(cube, place, method=measure, when=_text(settings, "when"), **more)
    there = layer.values[np.isfinite(layer.values)]
    low, high = np.percentile(there, (1, 99)) if there.size else (0.0, 1.0)
    return Found((layer,), {
        "measure": measure,
        "larger_is_more_alike": RISING[measure],
        "range": [float(low), float(high)],
        "area_ha": float(there.size * layers.pixel_ha(cube)),
    })  # fmt: skip


def _groups(cube: reading.OpenCube, settings: Settings, more: Any) -> Found:
    layer = mapping.groups(
        cube, _whole(settings, "k", 5), when=_text(settings, "when"),
        seed=_whole(settings, "seed", 0), **more,
    )  # fmt: skip
    return Found((layer,), {"areas_ha": layers.areas(layer, layers.pixel_ha(cube))})


def _classify(cube: reading.OpenCube, settings: Settings, more: Any) -> Found:
    marked = settings.get("labels")
    if not isinstance(marked, Mapping):
        raise ValueError("the setting 'labels' must be GeoJSON points with the property 'class'")
    found = mapping.classify(
        cube, labels.from_geojson(marked), method=_text(settings, "classifier", "logistic"),
        when=_text(settings, "when"), gap=_number(settings, "gap", mapping.GAP), **more,
    )  # fmt: skip
    checked = found.validation
    return Found((found.layer, found.chances), {
        "classes": list(found.layer.classes),
        "areas_ha": layers.areas(found.layer, layers.pixel_ha(cube)),
        "labels_used": found.used,
        "accuracy": checked.accuracy if math.isfinite(checked.accuracy) else None,
        "confusion": checked.confusion.tolist(),
        "learning_curve": [list(point) for point in checked.learning],
        "blocks": checked.blocks,
        "note": checked.note,
    })  # fmt: skip


def _change(cube: reading.OpenCube, settings: Settings, more: Any) -> Found:
    edges = settings.get("edges")
    if edges is not None:
        if not isinstance(edges, list | tuple) or not 2 <= len(edges) <= MAX_EDGES:
            raise ValueError(f"the setting 'edges' must be a list of 2 to {MAX_EDGES} numbers")
        edges = [_number({"edges": edge}, "edges") for edge in edges]
    before, after = _text(settings, "before"), _text(settings, "after")
    found = mapping.change(cube, before, after, edges=edges, **more)
    return Found((found.layer,), {
        "edges": found.edges.tolist(),
        "areas_ha": found.areas.tolist(),
        "not_comparable_ha": found.missing,
    })  # fmt: skip


METHODS: dict[str, tuple[Callable[[reading.OpenCube, Settings, Any], Found], tuple[str, ...]]] = {
    "similar": (_similar, ("lon", "lat", "aoi", "measure", "when")),
    "groups": (_groups, ("k", "when", "seed")),
    "classify": (_classify, ("labels", "classifier", "when", "gap")),
    "change": (_change, ("before", "after", "edges")),
}
"""Name of a method to what does it, and the settings it takes."""
