"""Which pixels are usable: clouds and shadows from classes, in time, and by a network."""

from __future__ import annotations

from deepfeatures.clouds.classes import (
    NO_DATA,
    SCENE_CLASSES,
    SCL_FLAGS,
    USABLE,
    VALID,
    VALID_CLASSES,
    VALID_FLAGS,
    SceneClass,
    from_scl,
)
from deepfeatures.clouds.refine import METHODS, OURS, needs, reach, refine, steps

__all__ = [
    "METHODS",
    "NO_DATA",
    "OURS",
    "SCENE_CLASSES",
    "SCL_FLAGS",
    "USABLE",
    "VALID",
    "VALID_CLASSES",
    "VALID_FLAGS",
    "SceneClass",
    "from_scl",
    "needs",
    "reach",
    "refine",
    "steps",
]
