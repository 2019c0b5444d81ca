"""What is trained, on what and how: it stands in the run folder and in the checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from deepfeatures.embed.sensors import MAIN, SENSORS

PRESETS: dict[str, dict[str, int]] = {
    "small": {"width": 24, "context": 5, "heads": 4},
    "base": {"width": 32, "context": 8, "heads": 4},
    "large": {"width": 64, "context": 12, "heads": 4},
}
"""Name -> size of the network: inner channels, dates looked at on each side, attention heads."""

LOSSES: dict[str, float] = {"mae": 20.0, "sam": 1.0, "ssim": 0.0, "indices": 0.5}
"""Weights of the parts of the loss: absolute error, spectral angle and structural similarity of
the channels of a series; absolute error of spectral indices told linearly from a code, beside that
of its channels in units of their spread."""

KINDS = ("pca", "temporal", "fusion")
"""What can be trained."""


@dataclass(frozen=True)
class Recipe:
    """What is trained and how."""

    kind: str = "temporal"
    """``pca``, ``temporal`` (one sensor) or ``fusion`` (encoders of several sensors, joined)."""
    sensor: str = MAIN
    """Sensor of a one-sensor model, a key of `SENSORS`."""
    channels: tuple[str, ...] = ()
    """Bands, indices or expressions that go in; empty: those of the sensor, or of the encoder."""
    features: int = 6
    """Numbers per pixel and date."""
    preset: str = "base"
    """Size of the network, a key of `PRESETS`."""
    seed: int = 0
    """Seed of samples, weights, batches and augmentation."""
    steps: int = 3000
    """Optimiser steps at most."""
    held_out: float = 0.25
    """Eastern share of each cube that is not learned from."""
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSSES))
    """Weights of the parts of the loss."""
    encoders: tuple[str, ...] = ()
    """Checkpoints of the encoders that a fusion joins, the optical one first."""
    series: str = ""
    """Checkpoint of one sensor whose clean series are taken, so that only another code of them is
    learned; empty: both are learned."""

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.kind, KINDS, "model"),
            (self.sensor, SENSORS, "sensor"),
            (self.preset, PRESETS, "size"),
        ):
            if value not in known:
                raise ValueError(f"no {what} is called {value!r}; choose from {', '.join(known)}")
        if unknown := set(self.losses) - set(LOSSES):
            raise ValueError(
                f"no loss is called {unknown.pop()!r}; choose from {', '.join(LOSSES)}"
            )
        if not 0 <= self.held_out < 1:
            raise ValueError(f"the held-out share is {self.held_out}; it must be from 0 to below 1")
        if not 1 <= self.features <= 64:
            raise ValueError(f"{self.features} features were asked for; take 1 to 64")
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps were asked for; take 1 or more")
        if self.kind == "fusion" and len(self.encoders) < 2:
            raise ValueError("a fusion needs two encoders or more; name their checkpoints")
        if self.kind != "temporal" and self.series:
            raise ValueError(f"a model of kind {self.kind} has no series; take kind temporal")

    def settled(self) -> Self:
        """Give the recipe with the sensor's channels in the place of none.

        A fusion takes those of its encoders.
        """
        if self.kind == "fusion":
            if self.channels:
                raise ValueError("a fusion takes the channels of its encoders; name none")
            return self
        return replace(self, channels=self.channels or SENSORS[self.sensor].channels)

    def told(self) -> dict[str, Any]:
        """Give the recipe as plain data for JSON; of checkpoints names and checksums."""
        series = [self.series] if self.series else []
        return asdict(self) | {"encoders": _sums(self.encoders), "series": _sums(series)}


def _sums(files: Iterable[str]) -> dict[str, str]:
    """Give name -> SHA-256 of files."""
    found = {}
    for file in files:
        with Path(file).open("rb") as stream:
            found[Path(file).stem] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
