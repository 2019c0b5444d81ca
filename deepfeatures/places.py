"""Places that are kept in the workspace: named views of the map in one GeoJSON file."""

from __future__ import annotations

import json
import math
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import filelock

from deepfeatures.settings import Workspace

MAX_PLACES = 1000
"""Most places of a workspace."""
MAX_NAME = 80
"""Longest name of a place, in characters."""
MAX_NOTE = 500
"""Longest note, in characters."""


@dataclass(frozen=True)
class Place:
    """A view of the map that somebody wants to come back to."""

    name: str
    """What it is called; unique in the workspace."""
    lon: float
    """Longitude of its pixel or middle [degrees]."""
    lat: float
    """Latitude of the same [degrees]."""
    bounds: tuple[float, float, float, float]
    """West, south, east, north of the view [degrees]."""
    date: str = ""
    """Date that was looked at, YYYY-MM-DD, or empty."""
    note: str = ""
    """What there is to see."""


def keep(ws: Workspace, place: Place) -> Place:
    """Keep a place, in place of one of the same name; give it as it was kept.

    Raises
    ------
    ValueError
        If the name, a number or the date can not be used, or too many places are kept.
    """
    kept = _checked(place)
    with _locked(ws):
        others = [one for one in listing(ws) if one.name != kept.name]
        if len(others) >= MAX_PLACES:
            raise ValueError(f"the workspace keeps {MAX_PLACES} places already; delete one first")
        _write(_file(ws), [*others, kept])
    return kept


def remove(ws: Workspace, name: str) -> None:
    """Forget a place.

    Raises
    ------
    KeyError
        If there is none of this name.
    """
    with _locked(ws):
        found = listing(ws)
        others = [one for one in found if one.name != name]
        if len(others) == len(found):
            raise KeyError(f"there is no place {name[:40]!r} any more; load the page again")
        _write(_file(ws), others)


def listing(ws: Workspace) -> list[Place]:
    """Give the places of a workspace by name; what was spoilt by hand is left out."""
    try:
        features = json.loads(_file(ws).read_text(encoding="utf-8"))["features"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{_file(ws).name} is no GeoJSON any more; mend or move it") from error
    found = [_read(feature) for feature in features[:MAX_PLACES]]
    return sorted((one for one in found if one), key=lambda one: one.name.casefold())


def _checked(place: Place) -> Place:
    name = " ".join(place.name.split())[:MAX_NAME]
    if not name or not name.isprintable():
        raise ValueError(f"the name {place.name[:40]!r} of the place can not be used; write a word")
    west, south, east, north = place.bounds
    numbers = (place.lon, place.lat, *place.bounds)
    if not all(map(math.isfinite, numbers)) or not (west < east and south < north):
        raise ValueError(f"the view of {name!r} is no place; move the map and try again")
    if abs(place.lat) > 90 or abs(place.lon) > 180:
        raise ValueError(f"lon={place.lon:g}, lat={place.lat:g} is no place; give degrees (WGS84)")
    if place.date:
        date.fromisoformat(place.date)
    note = " ".join(place.note.split())[:MAX_NOTE]
    bounds = (round(west, 6), round(south, 6), round(east, 6), round(north, 6))
    return Place(name, round(place.lon, 6), round(place.lat, 6), bounds, place.date, note)


def _read(feature: Any) -> Place | None:
    try:
        lon, lat = feature["geometry"]["coordinates"]
        words = {key: str(feature["properties"].get(key, "")) for key in ("name", "date", "note")}
        west, south, east, north = map(float, feature["bbox"])
        return _checked(
            Place(lon=float(lon), lat=float(lat), bounds=(west, south, east, north), **words)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _write(path: Path, found: list[Place]) -> None:
    features = [
        {
            "type": "Feature",
            "bbox": list(one.bounds),
            "properties": {k: v for k, v in asdict(one).items() if k in ("name", "date", "note")},
            "geometry": {"type": "Point", "coordinates": [one.lon, one.lat]},
        }
        for one in found
    ]
    draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    content = {"type": "FeatureCollection", "features": features}
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    draft.replace(path)


def _file(ws: Workspace) -> Path:
    return ws.home / "places.geojson"


def _locked(ws: Workspace) -> filelock.BaseFileLock:
    return filelock.FileLock(ws.home / "places.lock", timeout=10)
