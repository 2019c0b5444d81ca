"""Quick reads from the store of a cube: windows, pixel series, area series, latent selections.

The page and the HTTP routes read here and not through xarray: stored integers come from a bounded
cache of decoded chunks that all readers of the process share, so that the next date, the tile
beside and a second click cost microseconds. What is read equals what ``store.open`` gives.
"""

from __future__ import annotations

from deepfeatures.reading.chunks import CHUNKS, Cache, read
from deepfeatures.reading.components import principal
from deepfeatures.reading.lines import Transect, along, transect
from deepfeatures.reading.opened import (
    COMPONENTS,
    OpenCube,
    checked,
    coding,
    decode,
    locate,
    open,
    step,
)
from deepfeatures.reading.pixels import AreaSeries, Series, area_series, parts, period, series
from deepfeatures.reading.selection import Selection, contained, members
from deepfeatures.reading.values import limits, load, sample, shares, stored, values
from deepfeatures.reading.views import Bounds, Histogram, histogram, point
from deepfeatures.reading.virtual import Coded, spectral

__all__ = [
    "Bounds",
    "CHUNKS",
    "COMPONENTS",
    "Coded",
    "AreaSeries",
    "Cache",
    "Histogram",
    "OpenCube",
    "Selection",
    "Series",
    "Transect",
    "along",
    "area_series",
    "checked",
    "coding",
    "contained",
    "decode",
    "histogram",
    "limits",
    "load",
    "locate",
    "members",
    "open",
    "parts",
    "period",
    "point",
    "principal",
    "read",
    "sample",
    "series",
    "shares",
    "spectral",
    "step",
    "stored",
    "transect",
    "values",
]
