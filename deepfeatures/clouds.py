"""Which pixels are usable: the scene classification of Sen2Cor as a mask.

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

VALID_FLAGS: dict[str, object] = {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
"""CF attributes of a `valid` mask."""

SCL_FLAGS: dict[str, object] = {
    "flag_values": list(SCENE_CLASSES),
    "flag_meanings": " ".join(c.meaning for c in SCENE_CLASSES.values()),
}
"""CF attributes of an `scl` layer."""

_TABLE = np.zeros(256, np.uint8)
_TABLE[list(VALID_CLASSES)] = 1


def valid_from_scl(scl: np.ndarray) -> np.ndarray:
    """Mark the usable pixels of a scene classification.

    Parameters
    ----------
    scl
        Class codes 0..11, uint8, any shape. Codes that the table does not know are not usable.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape: 1 where the class is one of `VALID_CLASSES`, else 0.

    Raises
    ------
    ValueError
        If `scl` is not uint8, because a cast could turn a fill value into a class.
    """
    if scl.dtype != np.uint8:
        raise ValueError(f"the scene classification is {scl.dtype}; give it as uint8, 0 = no data")
    return _TABLE[scl]
