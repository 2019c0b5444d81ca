"""The loss of a batch: what the networks of one sensor and of several are asked to tell."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepfeatures.embed import augment
from deepfeatures.embed.cleaning import Cleaning, cropped
from deepfeatures.embed.coding import Coding
from deepfeatures.embed.fusion import Fusion, Seen, nearest, taken
from deepfeatures.embed.inputs import Preparation
from deepfeatures.embed.losses import Explained, Reconstruction
from deepfeatures.embed.sensors import FAR, MAIN
from deepfeatures.predictor import Card, read_card

ROUNDING = 1 / 127
"""Step of the stored features: what the network learns to live with."""

PLAN = augment.Plan()
"""Sizes of the batches."""

CENTRE = 8
"""Pixels along an edge of the middle of a patch, where it is judged."""

PLAIN = {"mae": 20.0, "sam": 0.0, "ssim": 0.0, "indices": 0.0}
"""Weights of the loss of other sensors in a fusion."""


class SensorTask:
    """The losses of the two halves of a network of one sensor."""

    def __init__(self, card: Card, weights: Mapping[str, float]) -> None:
        self.prepare = Preparation(card.channels, card.scaling, card.sensor)
        self.cost = Reconstruction(self.prepare, weights)
        self.weight = weights["indices"]
        self.explained = Explained(card.explained, self.prepare.inputs) if card.explained else None
        self.inner = (PLAN.edge - CENTRE) // 2

    def to(self, device: torch.device) -> SensorTask:
        """Move what it holds."""
        self.prepare.to(device)
        return self

    def clean(self, module: torch.nn.Module, batch: augment.Batch) -> Tensor:
        """Give the loss of clean series, judged in the centre of their patches."""
        assert isinstance(module, Cleaning)
        x = self.prepare(batch.values) * batch.seen.unsqueeze(2)
        told = module(x, batch.seen, batch.days, self.inner)
        target, known, seen = (
            cropped(part, self.inner) for part in (batch.target, batch.known, batch.seen)
        )
        return self.cost(told, self.prepare(target), known, seen)

    def code(self, module: torch.nn.Module, table: Tensor) -> Tensor:
        """Give the loss of the code of single dates ``(pixel-date, 1, input, 1, 1)``.

        The error of a channel counts by its spread: in units of reflectance blue would hardly, and
        be guessed from the others.
        """
        assert isinstance(module, Coding)
        x = self.prepare(table)
        z = rounded(module(x.flatten(3)).unflatten(3, (1, 1)), module.training)
        ones = torch.ones_like(table[:, :, 0])
        total = (module.decode(z) - x).abs().mean()
        if self.explained and module.explain is not None:
            read = module.explain(z.movedim(2, -1)).movedim(-1, 2)
            total = total + self.weight * self.explained(read, table, ones, ones)
        return total


class FusionTask:
    """The loss of a fusion: each sensor told from the joined features, at equal weights."""

    def __init__(self, card: Card, weights: Mapping[str, float]) -> None:
        cards = {sensor: read_card(told) for sensor, told in card.encoders.items()}
        self.sensors = [sensor for sensor in cards if sensor != MAIN]
        self.inner = (PLAN.edge - CENTRE) // 2
        self.prepare = {
            sensor: Preparation(one.channels, one.scaling, sensor) for sensor, one in cards.items()
        }
        self.costs = {
            sensor: Reconstruction(prepare, weights if sensor == MAIN else PLAIN)
            for sensor, prepare in self.prepare.items()
        }

    def to(self, device: torch.device) -> FusionTask:
        """Move what it holds."""
        for prepare in self.prepare.values():
            prepare.to(device)
        return self

    def seen(self, batch: augment.Batch) -> dict[str, Seen]:
        """Give what the encoders take of a batch."""
        found = {MAIN: (batch.values, batch.seen, batch.days)}
        found |= {name: (one.values, one.seen, one.days) for name, one in batch.others.items()}
        return {
            name: Seen(self.prepare[name](values) * seen.unsqueeze(2), seen, days)
            for name, (values, seen, days) in found.items()
        }

    def __call__(self, module: torch.nn.Module, batch: augment.Batch) -> Tensor:
        """Give the loss of a batch, judged in the centre of its patches."""
        assert isinstance(module, Fusion)
        given = self.seen(batch)
        with torch.no_grad():
            found = module.encode(given, self.inner)
        z = rounded(module.fuse(found), module.training)
        target, known, seen = (
            cropped(part, self.inner) for part in (batch.target, batch.known, batch.seen)
        )
        total = self.costs[MAIN](module.decode(z), self.prepare[MAIN](target), known, seen)
        for name in self.sensors:
            one = given[name]
            index, gap = nearest(one.days, batch.days)
            near = (gap.abs() <= FAR).float()[:, :, None, None]
            at = taken(cropped(one.there, self.inner), index) * near
            there = taken(cropped(one.values, self.inner), index)
            # a date told twice, seen or not, weighs like one that was seen
            total = total + self.costs[name](module.tell(z, name), there, at, at)
        return total


def rounded(latent_: Tensor, training: bool) -> Tensor:  # noqa: FBT001
    """Add the noise of rounding to int8 while training."""
    return latent_ + (torch.rand_like(latent_) - 0.5) * ROUNDING if training else latent_
