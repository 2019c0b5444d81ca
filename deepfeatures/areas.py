"""Areas that users keep in the workspace: one GeoJSON file each, in a folder of their owner.

Only the owner sees an area in the list; who was given its id can read it, so that an address of
the page with an area in it works for others too.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepfeatures.aoi import AOI, from_geojson, to_geojson
from deepfeatures.settings import NAME, Workspace

MAX_AREAS = 200
"""Most areas that one owner may keep."""
MAX_TITLE = 80
"""Longest name of an area, in characters."""

_ID = re.compile(r"[0-9a-f]{16}")


def keep(ws: Workspace, owner: str, area: AOI, title: str = "") -> str:
    """Keep an area.

    Parameters
    ----------
    ws
        The workspace.
    owner
        Who keeps it; empty: everybody sees it.
    area
        The area; its period is kept too.
    title
        What it is called; by default the name of the area.

    Returns
    -------
    str
        Id of the area, which can not be guessed.

    Raises
    ------
    ValueError
        If the owner keeps too many, or the title is none.
    """
    folder = _folder(ws, owner)
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.geojson"))) >= MAX_AREAS:
        raise ValueError(f"you keep {MAX_AREAS} areas already; delete one that you do not need")
    key = secrets.token_hex(8)
    feature = to_geojson(area)
    feature["id"] = key
    feature["properties"] |= {
        "title": _title(title or area.name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(folder / f"{key}.geojson", feature)
    return key


def listing(ws: Workspace, owner: str) -> list[dict[str, Any]]:
    """Give the areas of an owner and those of everybody as GeoJSON Features, the newest first."""
    folders = {_folder(ws, owner), _folder(ws, "")}
    found = [_read(path) for folder in folders for path in folder.glob("*.geojson")]
    return sorted(
        (one for one in found if one is not None),
        key=lambda one: (one["properties"]["created"], one["id"]),
        reverse=True,
    )


def get(ws: Workspace, key: str) -> dict[str, Any]:
    """Give an area as a GeoJSON Feature, whoever keeps it.

    Raises
    ------
    KeyError
        If there is none of this id.
    """
    found = _read(_path(ws, key))
    if found is None:
        raise _missing(key)
    return found


def rename(ws: Workspace, key: str, owner: str, title: str) -> dict[str, Any]:
    """Call an area otherwise.

    Raises
    ------
    KeyError
        If the owner keeps no area of this id.
    ValueError
        If the title is none.
    """
    path = _own(ws, key, owner)
    feature = get(ws, key)
    feature["properties"]["title"] = _title(title)
    _write(path, feature)
    return feature


def remove(ws: Workspace, key: str, owner: str) -> None:
    """Forget an area.

    Raises
    ------
    KeyError
        If the owner keeps no area of this id.
    """
    _own(ws, key, owner).unlink(missing_ok=True)


def _folder(ws: Workspace, owner: str) -> Path:
    if owner and not NAME.fullmatch(owner):
        raise ValueError(f"the owner {owner[:40]!r} can not be used; take letters and digits")
    return ws.home / "areas" / (owner or "shared")


def _path(ws: Workspace, key: str) -> Path:
    if not _ID.fullmatch(key):
        raise _missing(key)
    return next((ws.home / "areas").glob(f"*/{key}.geojson"), ws.home / "areas" / "none")


def _own(ws: Workspace, key: str, owner: str) -> Path:
    path = _path(ws, key)
    if path.parent not in (_folder(ws, owner), _folder(ws, "")):
        raise _missing(key)
    return path


def _missing(key: str) -> KeyError:
    return KeyError(f"there is no kept area {key[:40]!r}; draw it again, or choose another one")


def _title(text: str) -> str:
    title = " ".join(text.split())[:MAX_TITLE]
    if not title or not title.isprintable():
        raise ValueError(f"the name {text[:40]!r} of the area can not be used; take a short word")
    return title


def _read(path: Path) -> dict[str, Any] | None:
    """Give a kept area, None if the file is gone or was spoilt by hand."""
    try:
        feature = json.loads(path.read_text(encoding="utf-8"))
        kept = to_geojson(from_geojson(feature))
        words = {key: str(feature["properties"][key]) for key in ("title", "created")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**kept, "id": path.stem, "properties": kept["properties"] | words}


def _write(path: Path, feature: dict[str, Any]) -> None:
    kept = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    kept.write_text(json.dumps(feature), encoding="utf-8")
    kept.replace(path)
