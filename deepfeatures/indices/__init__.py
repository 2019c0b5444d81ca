"""Spectral indices of Sentinel-2: the table, the plan for any set of them, and its evaluators.

``formula`` parses text through an allow-list, ``program`` makes one plan of many formulas,
``native`` runs it as machine code on the processor, ``tensor`` on torch, ``table`` knows the
catalogue, ``ranges`` what values are usual and how they are coded, ``search`` looks them up, and
``engine`` puts them together.
"""

from __future__ import annotations

from deepfeatures.indices.engine import compute, encode, select
from deepfeatures.indices.native import NO_VALUE, Coding
from deepfeatures.indices.search import described, of_bands, search
from deepfeatures.indices.table import (
    CATALOGUE,
    CONSTANTS,
    INDICES,
    Index,
    available,
    chosen,
    define,
    find,
    hint,
    names,
)

__all__ = [
    "CATALOGUE",
    "CONSTANTS",
    "INDICES",
    "NO_VALUE",
    "Coding",
    "Index",
    "available",
    "chosen",
    "compute",
    "define",
    "described",
    "encode",
    "find",
    "hint",
    "names",
    "of_bands",
    "search",
    "select",
]
