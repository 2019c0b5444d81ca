"""The latent space of a feature cube: samples of it, planes kept beside the cube, its meaning."""

from __future__ import annotations

from deepfeatures.space.fitting import Settings, fit_umap
from deepfeatures.space.meaning import Meaning, channel, layer, meaning
from deepfeatures.space.planes import METHODS, POINTS, Plane, clear, forget, plane, stored
from deepfeatures.space.sampling import Sample, gather, inside, sample, vectors

__all__ = [
    "METHODS",
    "POINTS",
    "Meaning",
    "Plane",
    "Sample",
    "Settings",
    "channel",
    "clear",
    "fit_umap",
    "forget",
    "gather",
    "inside",
    "layer",
    "meaning",
    "plane",
    "sample",
    "stored",
    "vectors",
]
