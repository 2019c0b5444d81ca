"""Train predictors: principal components, and the convolutional temporal network."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deepfeatures import __version__, fit, latent
from deepfeatures.embed import data, scores
from deepfeatures.embed.model import ConvTemporal, Projection
from deepfeatures.predictor import Card, Predictor, network

CHANNELS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Input of the predictors: the bands at 10 and 20 m."""

FEATURES = 6
"""How many numbers a pixel-date becomes."""

SAMPLE = 200_000
"""Pixel-dates from which means, spreads and axes are computed."""

LIMITS = (-0.1, 1.2)
"""Reflectance outside is clipped: saturated cloud tops tell nothing."""

STEPS = 1500
"""Optimiser steps of the network unless told otherwise."""

Progress = Callable[[int, int], None]


def train(
    cubes: dict[str, xr.Dataset],
    *,
    kind: str = "convtemporal",
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    steps: int | None = None,
    held_out: float = 0.25,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Train a predictor on band cubes.

    Parameters
    ----------
    cubes
        Name -> band cube (lazy or not) with the bands B02-B08, B8A, B11 and B12.
    kind
        ``pca`` or ``convtemporal``.
    out
        File of the checkpoint (.safetensors), whose stem becomes the name of the model; None
        writes none.
    seed
        Seed of samples, weights, batches and augmentation: the same seed gives the same
        checkpoint on the same machine and number of threads.
    steps
        Optimiser steps of the network; by default `STEPS`.
    held_out
        Eastern share of each cube that is not learned from; the scores in the checkpoint are
        computed there.
    progress, cancelled
        Called with (steps done, steps), and asked after each step.

    Raises
    ------
    ValueError
        If the kind is unknown, there is no cube, or a cube lacks a band.
    InterruptedError
        If `cancelled` says so.
    """
    if kind not in TRAINERS:
        raise ValueError(f"{kind!r} can not be trained; choose from {', '.join(TRAINERS)}")
    if not cubes:
        raise ValueError("there is no cube to train on; name at least one band cube")
    if not 0 <= held_out < 1:
        raise ValueError(f"the held-out share is {held_out}; it must be from 0 to below 1")
    began = time.process_time()
    sample = data.pixels(cubes, CHANNELS, count=SAMPLE, seed=seed, held_out=held_out)
    training: dict[str, Any] = {
        "cubes": {name: _origin(ds) for name, ds in cubes.items()},
        "seed": seed,
        "held_out": held_out,
        "pixel_dates": len(sample),
        "versions": {"deepfeatures": __version__, "torch": version("torch")},
    }
    predictor = TRAINERS[kind](
        cubes, sample, training, name=Path(out).stem if out else kind, seed=seed,
        steps=steps or STEPS, held_out=held_out, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    training["scores"] = {
        name: found
        for name, ds in cubes.items()
        if (found := scores.held_out(predictor, ds, share=held_out))
    }
    training["cpu_seconds"] = round(time.process_time() - began)
    if out is not None:
        predictor.save(out)
    return predictor


def _pca(
    cubes: dict[str, xr.Dataset],
    sample: np.ndarray,
    training: dict[str, Any],
    *,
    name: str,
    progress: Progress | None,
    **_: Any,
) -> Predictor:
    """Principal components of the standardised channels, whitened."""
    centre, spread, rows = _standard(sample)
    made = card(
        name, "pca", centre, spread, training, scale=1 / 32,
        description=(
            "Principal components of the standardised surface reflectance of clear pixel-dates, "
            "whitened: each feature has mean 0 and deviation 1 over the training sample."
        ),
    )  # fmt: skip
    axes = latent.pca(rows, n=FEATURES)
    training["explained"] = [round(float(share), 6) for share in axes.explained]
    module = network(made)
    assert isinstance(module, Projection)
    module.start(*_whitened(axes, rows))
    if progress:
        progress(1, 1)
    return Predictor(made, module)


def _convtemporal(
    cubes: dict[str, xr.Dataset],
    sample: np.ndarray,
    training: dict[str, Any],
    *,
    name: str,
    seed: int,
    steps: int,
    held_out: float,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> Predictor:
    """Train the network that reconstructs seen and hidden dates from six bounded numbers."""
    centre, spread, rows = _standard(sample)
    config = {"width": 32, "context": 8, "heads": 4}
    made = card(
        name, "convtemporal", centre, spread, training,
        scale=1 / 127, halo=ConvTemporal.halo, context=config["context"], config=config,
        description=(
            "Six bounded numbers from the bands of a pixel, its 7 x 7 px surroundings and eight "
            "dates on each side (attention along time at each pixel), trained to reconstruct "
            "the bands of seen and of hidden dates."
        ),
    )  # fmt: skip
    torch.manual_seed(seed)
    module = network(made)
    assert isinstance(module, ConvTemporal)
    axes = latent.pca(rows, n=FEATURES)
    module.start(*_whitened(axes, rows), torch.from_numpy(axes.mean))
    training["steps"] = steps
    training["history"] = fit.fit(
        module,
        data.batches(cubes, CHANNELS, seed=seed, held_out=held_out),
        fit.Config(steps=steps, seed=seed),
        loss=Reconstruction(made),
        progress=progress,
        cancelled=cancelled,
    )
    return Predictor(made, module)


def _standard(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give mean, deviation and the standardised rows of a sample."""
    rows = sample.clip(*LIMITS).astype(np.float64)
    centre, spread = rows.mean(axis=0).round(6), rows.std(axis=0).round(6)
    if spread.min() <= 0:
        raise ValueError("the cubes vary too little to learn from; give more dates or places")
    return centre, spread, (rows - centre) / spread


class Reconstruction:
    """Loss: mean absolute error and spectral angle of seen and of hidden dates."""

    def __init__(self, card: Card) -> None:
        shape = (-1, 1, 1)
        self.centre = torch.tensor(card.centre).view(shape)
        self.spread = torch.tensor(card.spread).view(shape)

    def __call__(self, module: nn.Module, batch: data.Batch) -> Tensor:
        """Give the loss of a batch."""
        x = (batch.values.clamp(*LIMITS) - self.centre) / self.spread * batch.seen[:, :, None]
        z = module(x, batch.seen, batch.days)
        # The store keeps int8: learn under the noise of rounding.
        z = z + (torch.rand_like(z) - 0.5) / 127 if module.training else z
        told = module.decode(z) * self.spread + self.centre  # type: ignore[operator]
        error = (told - batch.target).abs().mean(2)  # (batch, time, y, x)
        angle = _angle(told, batch.target)
        seen, hidden = batch.known * batch.seen, batch.known * (1 - batch.seen)
        cost = 20 * error + angle
        return _mean(cost, seen) * 2 + _mean(cost, hidden)


def _angle(told: Tensor, target: Tensor) -> Tensor:
    """Give 1 - cosine of the angle between spectra ``(batch, time, y, x)``."""
    size = told.norm(dim=2) * target.norm(dim=2)
    return 1 - (told * target).sum(2) / size.clamp(min=1e-3)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _whitened(axes: latent.PCA, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Give the maps to whitened scores (component, channel) and back (channel, component)."""
    deviation = ((rows - axes.mean) @ axes.components.T).std(axis=0)[:, None]
    if deviation.min() < 1e-6:
        raise ValueError("the cubes vary too little to learn from; give more dates or places")
    forth, back = axes.components / deviation, (axes.components * deviation).T.copy()
    return torch.from_numpy(forth), torch.from_numpy(back)


def card(
    name: str,
    kind: str,
    centre: ArrayLike,
    spread: ArrayLike,
    training: dict[str, Any],
    **more: Any,
) -> Card:
    """Write the card of a predictor of `CHANNELS` with `FEATURES` features."""
    return Card(
        name=name,
        kind=kind,
        channels=CHANNELS,
        features=tuple(f"F{i:02d}" for i in range(1, FEATURES + 1)),
        centre=tuple(float(value) for value in np.asarray(centre)),
        spread=tuple(float(value) for value in np.asarray(spread)),
        limits=LIMITS,
        training=training,
        **more,
    )


def _origin(ds: xr.Dataset) -> dict[str, Any]:
    """Say where a cube comes from, as far as its attributes tell."""
    names = ("title", "source", "licence", "attribution", "simulated")
    told = {name: ds.attrs[name] for name in names if name in ds.attrs}
    times = ds["time"].values.astype("datetime64[D]").astype(str)
    return told | {"shape": list(ds.sizes[d] for d in ("time", "y", "x")),
                   "period": [str(times[0]), str(times[-1])]}  # fmt: skip


TRAINERS: dict[str, Callable[..., Predictor]] = {"pca": _pca, "convtemporal": _convtemporal}
"""Kind of a predictor -> the function that trains it."""
