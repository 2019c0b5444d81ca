"""A simulated landscape with known truth: what the demo shows and tests measure against."""

from __future__ import annotations

from deepfeatures.simulate.dataset import render, template
from deepfeatures.simulate.landscape import Landscape, plan

__all__ = ["Landscape", "plan", "render", "template"]
