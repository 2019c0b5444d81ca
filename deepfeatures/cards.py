"""What the models of a workspace say about themselves, read without loading a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from deepfeatures.settings import Workspace

SHIPPED = Path(__file__).parent / "models"
"""Folder of the checkpoints that come with the package."""

DEFAULT = "optical"
"""Model that is taken where none is named."""


def names(ws: Workspace) -> list[str]:
    """Give the names of all models, the shipped ones and those trained in this workspace."""
    files = [*SHIPPED.glob("*.safetensors"), *ws.models.glob("*.safetensors")]
    return sorted({path.stem for path in files})


def locate(ws: Workspace, name: str) -> Path:
    """Give the checkpoint of a model, one of the workspace before a shipped one.

    Raises
    ------
    KeyError
        If there is no model of this name.
    """
    known = names(ws)
    if name not in known:
        there = ", ".join(known) or "none, make one with `train embedding`"
        raise KeyError(f"there is no model {name[:80]!r}; there are: {there}")
    own = ws.models / f"{name}.safetensors"
    return own if own.is_file() else SHIPPED / own.name


def read(ws: Workspace, name: str) -> dict[str, Any]:
    """Give what a model says about itself: name, kind, channels, features, training and more.

    Raises
    ------
    KeyError
        If there is no model of this name.
    ValueError
        If its file is no checkpoint.
    """
    path = locate(ws, name)
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {}).get("predictor") or "null")
    except (OSError, SafetensorError, json.JSONDecodeError):
        card = None
    if not isinstance(card, dict):
        raise ValueError(f"{str(path)!r} is no checkpoint of deepfeatures; remove it")
    return card
