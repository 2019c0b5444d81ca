"""Networks that turn what sensors saw into features, and back: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deepfeatures.embed.cleaning import Inner, cropped
from deepfeatures.embed.fusion import Fusion
from deepfeatures.embed.temporal import Temporal


class Projection(nn.Module):
    """A linear map of the channels of each pixel-date, such as principal components."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.forth = nn.Linear(channels, features, bias=False)
        self.back = nn.Linear(features, channels, bias=False)

    def start(self, forth: Tensor, back: Tensor) -> None:
        """Set the maps (feature, channel) and (channel, feature)."""
        with torch.no_grad():
            self.forth.weight.copy_(forth)
            self.back.weight.copy_(back)

    def forward(self, values: Tensor, seen: Tensor, days: Tensor, inner: Inner = 0) -> Tensor:
        """Project each pixel-date; neither the mask nor the days play a part."""
        values = cropped(values, inner)
        return torch.einsum("btcyx,fc->btfyx", values, self.forth.weight)

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels that a latent ``(batch, time, feature, y, x)`` means."""
        return torch.einsum("btfyx,cf->btcyx", latent, self.back.weight)


NETWORKS: dict[str, Callable[..., Any]] = {
    "pca": Projection,
    "temporal": Temporal,
    "fusion": Fusion,
}
"""Kind of a predictor -> its network, built with (channels, features, **config); a fusion with
(encoders, features, **config)."""
