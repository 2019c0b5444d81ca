"""The second half of the network of one sensor: few bounded numbers for the channels of a date."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHRINK = 0.4
"""Deviation of the first score from which `Coding` starts, inside tanh."""

BOUND = 0.995
"""Latents nearer to 1 than this are read as this: tanh has no inverse there."""


class Coding(nn.Module):
    """Latents of the channels of one pixel and date, bounded by tanh, and the way back.

    Both ways are a linear map and a small network beside it. What the latents lose least is what
    is asked for while they are learned: the channels, and indices that a linear layer has to tell.

    Parameters
    ----------
    channels, features
        Number of channels and of latents.
    hidden
        Inner channels.
    explained
        Indices that the latents have to tell linearly while they are learned, so that what is
        nonlinear in the bands is linear in the latents.
    """

    def __init__(
        self, channels: int, features: int, *, hidden: int = 128, explained: int = 0
    ) -> None:
        super().__init__()
        self.straight = nn.Linear(channels, features)
        self.bend = nn.Sequential(
            nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, features)
        )
        self.tell = Telling(features, channels, hidden=hidden)
        self.explain = nn.Linear(features, explained) if explained else None

    def start(self, forth: Tensor, back: Tensor, mean: Tensor) -> None:
        """Start at a linear map and its inverse, the rest silent.

        Parameters
        ----------
        forth
            (feature, channel), the first score of deviation 1; they come in at `SHRINK` of that,
            where tanh is still nearly straight.
        back, mean
            (channel, feature) and (channel,): the way back.
        """
        with torch.no_grad():
            self.straight.weight.copy_(forth * SHRINK)
            self.straight.bias.copy_(-forth @ mean * SHRINK)
            for part in self.bend[-1].parameters():
                part.zero_()
        self.tell.start(back, mean)

    def forward(self, values: Tensor) -> Tensor:
        """Give latents ``(.., feature, pixel)`` of channels ``(.., channel, pixel)``."""
        first, activate, last = self.bend
        bent = _apply(last, activate(_apply(first, values)))
        return torch.tanh(_apply(self.straight, values) + bent)

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels that a latent ``(batch, time, feature, y, x)`` means."""
        told: Tensor = self.tell(latent.movedim(2, -1)).movedim(-1, 2)
        return told


class Telling(nn.Module):
    """Channels from bounded latents: a linear map of what tanh bounded, and a small network."""

    def __init__(self, features: int, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.restore = nn.Linear(features, channels)
        self.refine = nn.Sequential(
            nn.Linear(features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, channels, bias=False),
        )

    def start(self, back: Tensor, mean: Tensor) -> None:
        """Start at a linear map (channel, feature) of scores and a mean (channel,)."""
        with torch.no_grad():
            self.restore.weight.copy_(back / SHRINK)
            self.restore.bias.copy_(mean)
            for part in self.refine[-1].parameters():
                part.zero_()

    def forward(self, latent: Tensor) -> Tensor:
        """Give channels ``(.., channel)`` of latents ``(.., feature)``."""
        # The straight part undoes tanh, as far as eight bits can tell.
        told: Tensor = self.restore(torch.atanh(latent.clamp(-BOUND, BOUND)))
        return told + self.refine(latent)


def _apply(layer: nn.Module, values: Tensor) -> Tensor:
    """Apply a linear layer to ``(.., channel, pixel)``."""
    assert isinstance(layer, nn.Linear)
    return layer.weight @ values + layer.bias.unsqueeze(1)
