"""Sentinel-2 from STAC catalogues as band cubes: the only room that knows STAC."""

from __future__ import annotations

from deepfeatures.grid import square
from deepfeatures.stac.providers import PROVIDERS
from deepfeatures.stac.read import load

__all__ = ["PROVIDERS", "load", "square"]
