"""Judge features beside the simple things: principal components, bands, indices, interpolation.

``place`` reads blocks with what is known to be true there, ``representation`` puts pixel-dates
into numbers, ``withheld``, ``veil``, ``reading`` (by linear ``probes``) and ``change`` are the
tasks, ``table`` runs them all, ``claims`` compares and ``picture`` draws.
"""

from __future__ import annotations

from deepfeatures.embed.evaluate.claims import Claim, claims
from deepfeatures.embed.evaluate.models import judge
from deepfeatures.embed.evaluate.picture import draw
from deepfeatures.embed.evaluate.place import Events, Place, Towers, place
from deepfeatures.embed.evaluate.representation import (
    Representation,
    all_indices,
    bands,
    neighbourhood_pca,
    of_predictor,
    pca,
    six_indices,
)
from deepfeatures.embed.evaluate.table import (
    BEST,
    TASKS,
    Row,
    Task,
    evaluate,
    render,
    summary,
    write,
)

__all__ = [
    "BEST",
    "TASKS",
    "Claim",
    "Events",
    "Place",
    "Representation",
    "Row",
    "Task",
    "Towers",
    "all_indices",
    "bands",
    "claims",
    "draw",
    "evaluate",
    "judge",
    "neighbourhood_pca",
    "of_predictor",
    "pca",
    "place",
    "render",
    "six_indices",
    "summary",
    "write",
]
