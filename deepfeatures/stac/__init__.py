"""Sentinel-2 from STAC catalogues as band cubes: the only room that knows STAC."""

from __future__ import annotations

from deepfeatures.grid import square
from deepfeatures.stac.providers import PROVIDERS
from deepfeatures.stac.read import load, sources, template
from deepfeatures.stac.source import NBAR_FLAGS, NO_NBAR, SCENE, Source, Window, read

__all__ = [
    "NBAR_FLAGS",
    "NO_NBAR",
    "PROVIDERS",
    "SCENE",
    "Source",
    "Window",
    "load",
    "read",
    "sources",
    "square",
    "template",
]
