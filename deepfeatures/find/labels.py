"""Labels that people click: places with the name of a class, as GeoJSON points and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepfeatures.find.clusters import MOST

MAX_LABELS = 2000
"""Most labels of one classification."""
MAX_BYTES = 2_000_000
"""Largest GeoJSON of labels [bytes]."""
MAX_NAME = 40
"""Longest name of a class."""


@dataclass(frozen=True)
class Label:
    """One labelled place.

    Raises
    ------
    ValueError
        If the place is none, or the name is empty or too long.
    """

    lon: float
    """Longitude [degrees, WGS84]."""
    lat: float
    """Latitude [degrees, WGS84]."""
    name: str
    """Name of the class."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not (math.isfinite(self.lon) and abs(self.lon) <= 180 and abs(self.lat) <= 90):
            raise ValueError(f"lon={self.lon:g}, lat={self.lat:g} is no place; give degrees")
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise ValueError(
                f"the class {self.name[:50]!r} needs a name of 1 to {MAX_NAME} characters"
            )


def classes(labels: Sequence[Label]) -> tuple[str, ...]:
    """Give the names of the classes in the order in which they first come.

    Raises
    ------
    ValueError
        If there are too many labels, or fewer than two or more than `MOST` classes.
    """
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels are too many; {MAX_LABELS} may be used at once")
    names = tuple(dict.fromkeys(label.name for label in labels))
    if not 2 <= len(names) <= MOST:
        raise ValueError(f"the labels name {len(names)} classes; give 2 to {MOST}")
    return names


def to_geojson(labels: Sequence[Label]) -> dict[str, Any]:
    """Write labels as a FeatureCollection of points with the property ``class``."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"class": label.name},
                "geometry": {"type": "Point", "coordinates": [label.lon, label.lat]},
            }
            for label in labels
        ],
    }


def from_geojson(source: str | bytes | Mapping[str, Any]) -> list[Label]:
    """Read labels: points with the property ``class``, longitude and latitude in degrees.

    Raises
    ------
    ValueError
        If it is too large, no such GeoJSON, or a label is not usable.
    """
    data: Any = source
    if isinstance(source, str | bytes):
        if len(source) > MAX_BYTES:
            raise ValueError(
                f"the labels of {len(source) / 1e6:.1f} MB are too large "
                f"(limit {MAX_BYTES / 1e6:.0f} MB); give fewer"
            )
        try:
            data = json.loads(source)
        except (ValueError, RecursionError):
            raise ValueError("the labels are no JSON; give GeoJSON points") from None
    features = data.get("features") if isinstance(data, Mapping) else None
    if not isinstance(features, list):
        raise ValueError("the labels are no GeoJSON FeatureCollection of points")
    if len(features) > MAX_LABELS:
        raise ValueError(f"{len(features)} labels are too many; {MAX_LABELS} may be used at once")
    return [_label(feature, number) for number, feature in enumerate(features, 1)]


def _label(feature: Any, number: int) -> Label:
    try:
        geometry, properties = feature["geometry"], feature["properties"]
        lon, lat = (float(value) for value in geometry["coordinates"][:2])
        kind, name = geometry["type"], properties["class"]
    except (TypeError, KeyError, ValueError, IndexError):
        kind, name, lon, lat = "", "", 0.0, 0.0
    if kind != "Point" or not isinstance(name, str):
        raise ValueError(f"label {number} is no point with a property 'class'; correct it")
    return Label(lon, lat, name.strip())
