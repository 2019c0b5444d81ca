"""The network of one sensor: series are cleaned and filled, each date becomes a few numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepfeatures.embed.cleaning import Cleaning, Inner, cropped
from deepfeatures.embed.coding import Coding

ORIGIN = 18262.0
"""Day from which the networks count: 2020-01-01, in days since 1970-01-01."""


class Temporal(nn.Module):
    """Features of a pixel and date from its surroundings and its neighbouring dates.

    `Cleaning` tells the channels of each date, seen or not, and `Coding` what few numbers say of
    them. The two are learned one after the other: another number of features, or of indices that
    they have to tell, is another code of the same clean series.

    Parameters
    ----------
    channels, features
        Number of input channels and of latents.
    width, context, heads
        See `Cleaning`.
    explained
        See `Coding`.
    """

    halo = Cleaning.halo

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        width: int = 32,
        context: int = 8,
        heads: int = 4,
        explained: int = 0,
    ) -> None:
        super().__init__()
        self.context, self.channels, self.features = context, channels, features
        self.cleaning = Cleaning(channels, width=width, context=context, heads=heads)
        self.coding = Coding(channels, features, explained=explained)
        self.floats = self.cleaning.floats

    def forward(self, values: Tensor, seen: Tensor, days: Tensor, inner: Inner = 0) -> Tensor:
        """Give bounded latents ``(batch, time, feature, y, x)``, less `inner` px at each edge.

        Parameters
        ----------
        values
            ``(batch, time, channel, y, x)``, normalised and 0 where nothing was seen.
        seen
            ``(batch, time, y, x)``, 0 or 1.
        days
            ``(batch, time)`` from `ORIGIN`.
        inner
            What is wanted.
        """
        space = cropped(seen, inner).shape[-2:]
        pieces = self.cleaning.pieces(values, seen, days, inner)
        return torch.cat([self.coding(piece) for piece in pieces], 3).unflatten(3, space)

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels that a latent ``(batch, time, feature, y, x)`` means."""
        return self.coding.decode(latent)
