"""Embeddings: numbers per pixel and date, made from the bands and their neighbouring dates."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from deepfeatures.predictor import Predictor


def train(
    cubes: dict[str, xr.Dataset],
    *,
    kind: str = "convtemporal",
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    steps: int | None = None,
    held_out: float = 0.25,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Train a predictor on band cubes; see `deepfeatures.embed.training.train`.

    The trainer is loaded on the call, because it brings torch with it.
    """
    from deepfeatures.embed import training

    return training.train(
        cubes,
        kind=kind,
        out=out,
        seed=seed,
        steps=steps,
        held_out=held_out,
        progress=progress,
        cancelled=cancelled,
    )
