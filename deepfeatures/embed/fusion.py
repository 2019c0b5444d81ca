"""The network that joins the features of several sensors at the dates of the first.

Stage 2 of Peters et al. 2025 (arXiv:2511.11706) with encoders that stay as they were trained: a
new sensor means one more encoder, and new layers here only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deepfeatures.embed.cleaning import Inner, cropped
from deepfeatures.embed.coding import BOUND, SHRINK, Telling
from deepfeatures.embed.sensors import FAR
from deepfeatures.embed.temporal import Temporal


@dataclass(frozen=True)
class Seen:
    """What the network of one sensor takes."""

    values: Tensor
    """Normalised channels ``(batch, time, channel, y, x)``, 0 where nothing was seen."""
    there: Tensor
    """``(batch, time, y, x)``, 0 or 1."""
    days: Tensor
    """``(batch, time)`` from the origin of the networks."""


class Fusion(nn.Module):
    """Features of several sensors, joined at each date of the first.

    Each other sensor gives its features of the date that is nearest in time (its network tells
    those also where it saw nothing that day), the distance in days, and whether it saw anything
    at all near that date; what it did not see is left out. Latents are bounded by tanh.

    Parameters
    ----------
    encoders
        Sensor -> its trained network, the main one first; they are not trained further.
    features
        Number of latents.
    width
        Inner channels.
    """

    def __init__(self, encoders: Mapping[str, Temporal], features: int, *, width: int = 48) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.main, *self.rest = encoders
        self.halo = max(encoder.halo for encoder in encoders.values())
        self.context = encoders[self.main].context
        self.floats = sum(encoder.floats for encoder in encoders.values())
        sizes = {name: encoder.features for name, encoder in encoders.items()}
        self._straight = {n: nn.Linear(size, features, bias=False) for n, size in sizes.items()}
        self._leave = {n: Telling(features, one.channels) for n, one in encoders.items()}
        self.straight = nn.ModuleDict(self._straight)
        self.leave = nn.ModuleDict(self._leave)
        self.enter = nn.ModuleDict(
            {name: nn.Linear(size + 4, width, bias=False) for name, size in sizes.items()}
        )
        self.middle = nn.Linear(width, width)
        self.final = nn.Linear(width, features)
        self.encoders.requires_grad_(requires_grad=False)

    def start(self, forth: Tensor, offset: Tensor, back: Tensor, mean: Tensor) -> None:
        """Start at a linear map of the encoders' scores, and one to the channels.

        Parameters
        ----------
        forth, offset
            (feature, scores of all sensors) and (feature,): to scores, the first of deviation 1.
        back, mean
            (channels of all sensors, feature) and (channels of all sensors,): the way on.
        """
        layers = list(self._straight.values())
        with torch.no_grad():
            for straight, one in zip(
                layers, forth.split([layer.in_features for layer in layers], 1), strict=True
            ):
                straight.weight.copy_(one * SHRINK)
            self.final.weight.zero_()
            self.final.bias.copy_(offset * SHRINK)
        sizes = [leave.restore.out_features for leave in self._leave.values()]
        parts = zip(self._leave.values(), back.split(sizes), mean.split(sizes), strict=True)
        for leave, *part in parts:
            leave.start(*part)

    def forward(self, seen: Mapping[str, Seen], inner: Inner = 0) -> Tensor:
        """Give bounded latents ``(batch, time, feature, y, x)`` at the dates of the main sensor."""
        return self.fuse(self.encode(seen, inner))

    def encode(self, seen: Mapping[str, Seen], inner: Inner = 0) -> dict[str, Tensor]:
        """Give what `fuse` takes of each sensor ``(batch, time, y, x, latent + 4)``.

        Its scores at the dates of the main one, the distance, its size, whether it saw that date,
        and whether anything near it.
        """
        return {
            name: self._aligned(name, seen[name], seen[self.main].days, inner)
            for name in self.encoders
            if name in seen and seen[name].days.shape[1]
        }

    def fuse(self, found: Mapping[str, Tensor]) -> Tensor:
        """Give latents ``(batch, time, feature, y, x)`` of what `encode` gave."""
        straight, entered = [], []
        for name, told in found.items():
            there = told[..., -1:]
            straight.append(self.straight[name](told[..., :-4]) * there)
            entered.append(self.enter[name](told) * there)
        joined = F.silu(self.middle(F.silu(torch.stack(entered).sum(0))))
        return torch.tanh(torch.stack(straight).sum(0) + self.final(joined)).movedim(-1, 2)

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels of the main sensor that a latent means."""
        return self.tell(latent, self.main)

    def tell(self, latent: Tensor, sensor: str) -> Tensor:
        """Give the normalised channels of a sensor that a latent means, at its nearest date."""
        told: Tensor = self.leave[sensor](latent.movedim(2, -1)).movedim(-1, 2)
        return told

    def alone(self, found: Mapping[str, Tensor], sensor: str) -> Tensor:
        """Give the normalised channels that the features of one sensor mean, from `encode`."""
        own = torch.tanh(found[sensor][..., :-4]).movedim(-1, 2)
        told: Tensor = self.encoders[sensor].decode(own)  # type: ignore[operator]
        return told

    def _aligned(self, name: str, seen: Seen, days: Tensor, inner: Inner) -> Tensor:
        encoder = self.encoders[name]
        latent = encoder(seen.values, seen.there, seen.days, inner).movedim(2, -1)
        score = torch.atanh(latent.clamp(-BOUND, BOUND))
        there = cropped(seen.there, inner)
        context = int(encoder.context)  # type: ignore[arg-type]
        near = around(there, context).unsqueeze(-1)
        own = there.unsqueeze(-1)
        gap = torch.zeros_like(days)
        if name != self.main:
            index, gap = nearest(seen.days, days)
            score, near, own = (taken(part, index) for part in (score, near, own))
            near = near * (gap.abs() <= FAR).to(near)[:, :, None, None, None]
        gap = (gap / 10.0).clamp(-2, 2)[:, :, None, None, None].expand_as(own)
        return torch.cat([score, gap, gap.abs(), own, near], -1)


def around(there: Tensor, context: int) -> Tensor:
    """Tell where anything was seen within `context` dates, ``(batch, time, y, x)``."""
    series = there.movedim(1, -1)
    shape = series.shape
    wide = F.max_pool1d(series.reshape(-1, 1, shape[-1]), 2 * context + 1, 1, context)
    return wide.reshape(shape).movedim(-1, 1)


def nearest(other: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
    """Give for each date (batch, time) the nearest one of another series, and its distance [d]."""
    gaps = other.unsqueeze(1) - days.unsqueeze(2)  # (batch, time, other)
    index = gaps.abs().argmin(2)
    return index, gaps.gather(2, index.unsqueeze(2)).squeeze(2)


def taken(series: Tensor, index: Tensor) -> Tensor:
    """Take dates ``index (batch, time)`` of ``(batch, other, ..)``."""
    return torch.stack([one[at] for one, at in zip(series, index, strict=True)])
