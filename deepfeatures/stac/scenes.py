"""Which scenes a catalogue has of an area, by day, before any pixel is fetched."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Any

import shapely
import shapely.geometry

from deepfeatures.aoi import AOI
from deepfeatures.settings import checked_name
from deepfeatures.stac import plan
from deepfeatures.stac.providers import PROVIDERS
from deepfeatures.stac.search import find

MAX_DAYS = 3700
"""Longest period of a search (ten years), in days."""


@dataclass(frozen=True)
class Day:
    """The scenes of one day."""

    day: str
    """``YYYY-MM-DD``."""
    cloud: float
    """Mean share of clouds that the scenes state, percent; NaN if they do not."""
    share: float
    """Share of the area that their footprints cover, 0..1."""
    items: int
    """How many scenes."""


def catalogs() -> dict[str, tuple[str, str | None]]:
    """Give the catalogues that may be asked: name to address (or preset) and collection.

    The presets, and the words ``name=address`` or ``name=address#collection`` of the environment
    variable ``DEEPFEATURES_STAC``. A user chooses a name and never gives an address, so that the
    server asks nobody else.
    """
    found: dict[str, tuple[str, str | None]] = {name: (name, None) for name in PROVIDERS}
    for word in os.environ.get("DEEPFEATURES_STAC", "").split():
        name, _, address = word.partition("=")
        address, _, collection = address.partition("#")
        if not address:
            raise ValueError(
                f"DEEPFEATURES_STAC has {word[:60]!r}; write name=address or "
                "name=address#collection"
            )
        found[checked_name(name)] = (address, collection or None)
    return found


def catalog(name: str) -> tuple[str, str | None]:
    """Give address (or preset) and collection of an allowed catalogue.

    Raises
    ------
    ValueError
        If it is none of `catalogs`.
    """
    allowed = catalogs()
    if name not in allowed:
        raise ValueError(
            f"the catalogue {name[:60]!r} is not one of {', '.join(allowed)}; an operator adds "
            "others with DEEPFEATURES_STAC"
        )
    return allowed[name]


def search(name: str, area: AOI, start: str, end: str) -> list[Day]:
    """Find the days on which a catalogue has scenes of an area.

    Parameters
    ----------
    name
        One of `catalogs`.
    area
        The area; its own period is not looked at.
    start, end
        First and last day, ``YYYY-MM-DD``.

    Raises
    ------
    ConnectionError
        If the catalogue can not be reached.
    ValueError
        If it is not allowed, the period is too long, or there is nothing.
    """
    address, collection = catalog(name)
    try:
        days = (date.fromisoformat(end) - date.fromisoformat(start)).days
    except ValueError:
        raise ValueError(
            f"the period {start[:20]!r} to {end[:20]!r} needs two days; write them as YYYY-MM-DD"
        ) from None
    if days > MAX_DAYS:
        raise ValueError(f"the period has {days:,} days; search in at most {MAX_DAYS:,}")
    items = find(address, area.geometry.bounds, start=start, end=end, collection=collection)
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in plan.newest(items, area.geometry.centroid.x):
        groups[str(plan.moment(item))[:10]].append(item)
    return [_day(day, group, area) for day, group in sorted(groups.items())]


def _day(day: str, items: list[Any], area: AOI) -> Day:
    stated = [item.properties.get("eo:cloud_cover") for item in items]
    clouds = [float(value) for value in stated if isinstance(value, int | float)]
    shapes = [shapely.geometry.shape(item.geometry) for item in items if item.geometry]
    whole = shapely.union_all([shape for shape in shapes if shape.is_valid])
    covered = whole.intersection(area.geometry).area / area.geometry.area
    cloud = sum(clouds) / len(clouds) if clouds else math.nan
    return Day(day, cloud, min(covered, 1.0), len(items))


def chosen(days: list[Day], cloud: float) -> list[Day]:
    """Give the days with at most so many clouds [percent]; one that states none is kept."""
    return [day for day in days if not day.cloud > cloud]
