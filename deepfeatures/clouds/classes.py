"""Which pixels are usable, and why not: the codes of a mask, and what Sen2Cor says of them.

Arrays only. The classes are those of the Level-2A product specification (ESA document
S2-PDGS-MPC-L2A-PFS, "Scene Classification"; Main-Knorn et al. 2017, doi 10.1117/12.2278218).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SceneClass:
    """One class of the Sen2Cor scene classification."""

    code: int
    """Value in the SCL layer."""
    meaning: str
    """CF flag meaning: lower case, no blanks."""
    valid: bool
    """True where the ground is seen clearly enough to use the reflectance."""


# Dark pixels (2) are kept: over water, wet soil and dense conifers they are mostly ground, while
# cloud shadow has a class of its own; series of these covers would otherwise lose most dates.
_ROWS = (
    (0, "no_data", False),
    (1, "saturated_or_defective", False),
    (2, "dark_area_pixels", True),
    (3, "cloud_shadows", False),
    (4, "vegetation", True),
    (5, "bare_soils", True),
    (6, "water", True),
    (7, "unclassified", True),
    (8, "cloud_medium_probability", False),
    (9, "cloud_high_probability", False),
    (10, "thin_cirrus", False),
    (11, "snow_or_ice", True),
)

SCENE_CLASSES: dict[int, SceneClass] = {row[0]: SceneClass(*row) for row in _ROWS}
"""The twelve classes by their code."""

VALID_CLASSES: tuple[int, ...] = tuple(c.code for c in SCENE_CLASSES.values() if c.valid)
"""Codes of the usable classes: 2, 4, 5, 6, 7, 11."""

NO_DATA, USABLE, CLOUD, SHADOW, DEFECTIVE, NEAR_CLOUD = 0, 1, 2, 3, 4, 5
CLOUD_BY_MODEL, SHADOW_BY_MODEL, CLOUD_BY_TIME, SHADOW_BY_TIME = 6, 7, 8, 9

VALID: dict[int, str] = {
    NO_DATA: "no_data",
    USABLE: "usable",
    CLOUD: "cloud",
    SHADOW: "cloud_shadow",
    DEFECTIVE: "saturated_or_defective",
    NEAR_CLOUD: "near_cloud",
    CLOUD_BY_MODEL: "cloud_by_model",
    SHADOW_BY_MODEL: "cloud_shadow_by_model",
    CLOUD_BY_TIME: "cloud_by_time",
    SHADOW_BY_TIME: "cloud_shadow_by_time",
}
"""Codes of a `valid` mask: 1 is usable, every other says why not."""

VALID_FLAGS: dict[str, object] = {
    "flag_values": list(VALID),
    "flag_meanings": " ".join(VALID.values()),
}
"""CF attributes of a `valid` mask."""

SCL_FLAGS: dict[str, object] = {
    "flag_values": list(SCENE_CLASSES),
    "flag_meanings": " ".join(c.meaning for c in SCENE_CLASSES.values()),
}
"""CF attributes of an `scl` layer."""

_TABLE = np.zeros(256, np.uint8)
_TABLE[list(VALID_CLASSES)] = USABLE
_TABLE[[1, 3]] = DEFECTIVE, SHADOW
_TABLE[[8, 9, 10]] = CLOUD


def from_scl(scl: np.ndarray) -> np.ndarray:
    """Give the codes of a mask from a scene classification.

    Parameters
    ----------
    scl
        Class codes 0..11, uint8, any shape. Codes that the table does not know are no data.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape, keys of `VALID`.

    Raises
    ------
    ValueError
        If `scl` is not uint8, because a cast could turn a fill value into a class.
    """
    if scl.dtype != np.uint8:
        raise ValueError(f"the scene classification is {scl.dtype}; give it as uint8, 0 = no data")
    return _TABLE[scl]
