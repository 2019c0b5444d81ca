"""Embeddings: numbers per pixel and date, made from the bands and their neighbouring dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING

from deepfeatures.embed.recipe import Recipe

if TYPE_CHECKING:
    import xarray as xr

    from deepfeatures.predictor import Predictor

__all__ = ["Recipe", "train"]


def train(
    cubes: Mapping[str, xr.Dataset],
    recipe: Recipe,
    *,
    validation: Mapping[str, xr.Dataset] | None = None,
    test: Mapping[str, xr.Dataset] | None = None,
    out: str | PathLike[str] | None = None,
    run: str | PathLike[str] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Train a predictor on cubes; see `deepfeatures.embed.training.train`.

    The trainer is loaded on the call, because it brings torch with it.
    """
    from deepfeatures.embed import training

    return training.train(
        cubes,
        recipe,
        validation=validation,
        test=test,
        out=out,
        run=run,
        device=device,
        progress=progress,
        cancelled=cancelled,
    )
