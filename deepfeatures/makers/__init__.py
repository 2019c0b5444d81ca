"""How tiles are made: of a band cube from its sources, of other cubes from a band cube.

Each maker holds plain values only and is called with a tile; it travels to any worker.
"""

from __future__ import annotations

from deepfeatures.makers.derived import Indices, Nadir, tallied
from deepfeatures.makers.fresh import Bands, Imported, area, completed, lost

__all__ = ["Bands", "Imported", "Indices", "Nadir", "area", "completed", "lost", "tallied"]
