"""From what a sensor gives to what a network takes: indices made, clipped, scaled, gaps marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfeatures import indices
from deepfeatures.embed.sensors import MAIN, SENSORS
from deepfeatures.indices.ranges import display
from deepfeatures.indices.tensor import Layer

WIDER = 0.5
"""How far beyond its displayed range an index is kept, as a share of that range."""


@dataclass(frozen=True)
class Scaling:
    """How channels become numbers around 0; every field is (channel,)."""

    centre: tuple[float, ...]
    """Value that becomes 0 [unit of the channel]."""
    spread: tuple[float, ...]
    """Step that becomes 1 [unit of the channel]."""
    low: tuple[float, ...]
    """Values below are clipped to it [unit of the channel]."""
    high: tuple[float, ...]
    """Values above are clipped to it [unit of the channel]."""


def derived(channels: Sequence[str]) -> list[str]:
    """Give the channels that are spectral indices, or expressions, of bands."""
    return [name for name in channels if name in indices.INDICES or not name.isidentifier()]


def required(channels: Sequence[str]) -> list[str]:
    """Give the channels a cube must have: bands in the place of indices."""
    made = derived(channels)
    found = [name for name in channels if name not in made]
    found += [band for name in made for band in indices.find(name).bands]
    return list(dict.fromkeys(found))


def limits(sensor: str, channels: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give the lowest and the highest value of each channel that is told from others."""
    made = derived(channels)
    pairs = []
    for name in channels:
        if name in made:
            low, high = display(name)
            more = WIDER * (high - low)
            pairs.append((round(low - more, 6), round(high + more, 6)))
        else:
            pairs.append(SENSORS[sensor].limits)
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


class Preparation(nn.Module):
    """Physical units to the numbers that a network takes, and back.

    Parameters
    ----------
    channels
        Channels of the network: of the sensor, or indices and expressions of its bands.
    scaling
        Their scaling.
    sensor
        Key of `SENSORS`.
    """

    centre: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, channels: Sequence[str], scaling: Scaling, sensor: str = MAIN) -> None:
        super().__init__()
        self.channels, self.sensor = list(channels), sensor
        self.inputs = required(channels)
        self.made = derived(channels)
        self.layer = Layer(self.made, self.inputs) if self.made else None
        self.limits = SENSORS[sensor].limits
        for name in ("centre", "spread", "low", "high"):
            values = torch.tensor(getattr(scaling, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)

    def forward(self, given: Tensor) -> Tensor:
        """Give normalised channels ``(.., channel, y, x)`` of ``(.., input, y, x)``.

        An index that is undefined where its bands are known, at a pole, counts as its centre.
        """
        given = given.clamp(*self.limits)
        x = given
        if self.layer is not None:
            known = dict(zip(self.inputs, given.unbind(-3), strict=True))
            known |= dict(zip(self.made, self.layer(given).unbind(-3), strict=True))
            x = torch.stack([known[name] for name in self.channels], dim=-3)
        x = (x.clamp(self.low, self.high) - self.centre) / self.spread
        return torch.nan_to_num(x, nan=0.0)

    def invert(self, x: Tensor) -> Tensor:
        """Give physical units ``(.., channel, y, x)`` of normalised channels."""
        return x * self.spread + self.centre
