"""Networks that turn band series into features, and back: tensors in, tensors out.

All of them take ``values (batch, time, channel, y, x)``, normalised and 0 where nothing was seen,
``seen (batch, time, y, x)`` as 0 or 1, and ``days (batch, time)``; they give
``(batch, time, feature, y, x)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

SHRINK = 0.4
"""Deviation of the scores from which `ConvTemporal` starts, inside tanh."""

BOUND = 0.995
"""Latents nearer to 1 than this are read as this: tanh has no inverse there."""

STRIP = 8
"""Rows of pixels on which the attention works at once."""


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

    def forward(self, values: Tensor, seen: Tensor, days: Tensor) -> Tensor:
        """Project each pixel-date; neither the mask nor the days play a part."""
        return torch.einsum("btcyx,fc->btfyx", values, self.forth.weight)

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels that a latent ``(batch, time, feature, y, x)`` means."""
        return torch.einsum("btfyx,cf->btcyx", latent, self.back.weight)


class ConvTemporal(nn.Module):
    """Small convolutions per date, then attention along time at each pixel.

    The spatial part sees 7 x 7 px. Keys and values are made once per date and shared by all the
    dates that look at them; a date looks at `context` dates on each side, never at itself, and
    joins what it finds there with its own values. Latents are bounded by tanh.

    Parameters
    ----------
    channels, features
        Number of input channels and of latents.
    width
        Inner channels; a multiple of `heads`.
    context
        Neighbouring dates on each side.
    heads
        Attention heads.
    """

    halo = 3

    def __init__(
        self, channels: int, features: int, *, width: int = 32, context: int = 8, heads: int = 4
    ) -> None:
        super().__init__()
        self.context, self.heads = context, heads
        self.floats = 5 * channels + 6 * width
        self.lift = nn.Conv2d(channels + 1, width, 3, padding=1)
        self.direct = nn.Conv2d(channels + 1, width, 1, bias=False)
        self.blocks = nn.ModuleList(_Separable(width) for _ in range(2))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.nearness = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, heads))
        self.join = nn.Sequential(
            nn.Linear(2 * width + 2 * heads + 1, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
            nn.SiLU(),
            nn.Linear(width, features),
        )
        self.straight = nn.Linear(channels, features, bias=False)
        self.restore = nn.Linear(features, channels)
        self.refine = nn.Sequential(
            nn.Linear(features, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, channels, bias=False),
        )

    def start(self, forth: Tensor, back: Tensor, mean: Tensor) -> None:
        """Start at a linear map and its inverse, the rest of the network silent.

        Parameters
        ----------
        forth
            (feature, channel) to scores of deviation 1; they come in at `SHRINK` of that, where
            tanh is still nearly straight.
        back, mean
            (channel, feature) and (channel,): the way back.
        """
        with torch.no_grad():
            self.straight.weight.copy_(forth * SHRINK)
            self.restore.weight.copy_(back / SHRINK)
            self.restore.bias.copy_(mean)
            for last in (*self.refine[-1].parameters(), *self.join[-1].parameters()):
                last.zero_()

    def forward(self, values: Tensor, seen: Tensor, days: Tensor) -> Tensor:
        """Give bounded latents ``(batch, time, feature, y, x)``."""
        shape = values.shape[:2]
        flat = torch.cat([values, seen.unsqueeze(2)], 2).flatten(0, 1)
        flat = flat.contiguous(memory_format=torch.channels_last)
        token = F.silu(self.lift(flat)) + self.direct(flat)  # (batch * time, width, y, x)
        for block in self.blocks:
            token = block(token)
        flat = flat.permute(0, 2, 3, 1).unflatten(0, shape)  # (batch, time, y, x, channel + 1)
        token = token.permute(0, 2, 3, 1).unflatten(0, shape)  # (.., y, x, width)
        token = token * flat[..., -1:]
        # Pixels do not meet from here on: strips of rows keep the many numbers of the attention
        # few at a time.
        strips = zip(flat.split(STRIP, 2), token.split(STRIP, 2), strict=True)
        latent = torch.cat([self._strip(first, second, days) for first, second in strips], 2)
        return latent.movedim(-1, 2)

    def _strip(self, flat: Tensor, token: Tensor, days: Tensor) -> Tensor:
        """Give the latents ``(batch, time, y, x, feature)`` of some rows."""
        mask = flat[..., -1:]
        found = self._attend(token, mask, days)
        joined = self.join(torch.cat([token, found, mask], -1))
        return torch.tanh(joined + self.straight(flat[..., :-1]))

    def decode(self, latent: Tensor) -> Tensor:
        """Give the normalised channels that a latent ``(batch, time, feature, y, x)`` means."""
        last = latent.movedim(2, -1)
        # The straight part undoes tanh, as far as eight bits can tell.
        score = torch.atanh(last.clamp(-BOUND, BOUND))
        return (self.restore(score) + self.refine(last)).movedim(-1, 2)

    def _attend(self, token: Tensor, mask: Tensor, days: Tensor) -> Tensor:
        """Look at the neighbouring dates of each pixel.

        Dates are worked on in blocks that look at a window of the dates around: dense products
        of small matrices, without the squared length of a whole series. Two more columns of the
        keys and values carry the mask: an unseen date gets no weight beside a seen one, and adds
        nothing where all are unseen.

        Returns what was found ``(batch, time, y, x, width + 2 * heads)``: the mixed values, and
        per head the weight of what was seen and its mean distance [30 days].
        """
        batch, time, rows, columns, width = token.shape
        token, there = token.flatten(2, 3), mask.flatten(2, 3).unsqueeze(-1)
        when = (days / 30.0)[:, :, None, None, None].expand(-1, -1, rows * columns, self.heads, 1)
        there = there.expand(-1, -1, -1, self.heads, -1)  # (batch, time, pixel, head, 1)
        query = self._headed(self.query(token)) * (width / self.heads) ** -0.5
        query = torch.cat([query, torch.ones_like(there)], -1)
        key = torch.cat([self._headed(self.key(token)), (there - 1) * 1e4], -1)
        value = torch.cat([self._headed(self.value(token)), torch.ones_like(there), when], -1)
        size = min(2 * self.context, time)
        scores = _blocks(query, size) @ _windows(key, size, self.context).transpose(-1, -2)
        scores = scores + self._near(days, size)  # (batch, block, pixel, head, size, looked at)
        mixed = scores.softmax(-1) @ _windows(value * there, size, self.context)
        mixed = mixed.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)[:, :time]
        *_, total, moment = mixed.split([width // self.heads, 1, 1], -1)
        away = (moment - when * total).clamp(-6, 6)
        parts = [mixed[..., :-2].flatten(3), total.flatten(3), away.flatten(3)]
        return torch.cat(parts, -1).unflatten(2, (rows, columns))

    def _near(self, days: Tensor, size: int) -> Tensor:
        """Score the distances in time, (batch, block, 1, head, size, looked at).

        Dates outside the series count as unseen, those beyond the context even less.
        """
        reach, time = self.context, days.shape[1]
        looked = _windows(days[:, :, None, None, None], size, reach).flatten(2)
        gaps = looked.unsqueeze(2) - looked[:, :, reach : reach + size].unsqueeze(3)
        gaps = (gaps / 30.0).clamp(-6, 6)  # (batch, block, size, looked at)
        distance = gaps.abs()
        told = [gaps, distance, torch.log(distance + 0.03), torch.exp(-distance)]
        score = self.nearness(torch.stack(told, -1)).movedim(-1, 2).unsqueeze(2)
        index = torch.arange(looked.shape[2], device=days.device)
        steps = (index - index[reach : reach + size, None]).abs()
        start = torch.arange(looked.shape[1], device=days.device)[:, None] * size - reach
        outside = (start + index < 0) | (start + index >= time)  # (block, looked at)
        score = score - 1e4 * outside[:, None, None, None, :].float()
        return score.masked_fill((steps == 0) | (steps > reach), -2e4)

    def _headed(self, token: Tensor) -> Tensor:
        return token.unflatten(-1, (self.heads, -1))


class _Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution around a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, width, 1)

    def forward(self, token: Tensor) -> Tensor:
        return token + self.point(F.silu(self.depth(token)))


def _blocks(series: Tensor, size: int) -> Tensor:
    """Cut ``(batch, time, pixel, head, part)`` into (batch, block, pixel, head, size, part)."""
    short = -series.shape[1] % size
    padded = F.pad(series, (0, 0, 0, 0, 0, 0, 0, short)).unflatten(1, (-1, size))
    return padded.permute(0, 1, 3, 4, 2, 5)


def _windows(series: Tensor, size: int, reach: int) -> Tensor:
    """Give the dates each block looks at, (batch, block, pixel, head, size + 2 reach, part)."""
    short = -series.shape[1] % size
    padded = F.pad(series, (0, 0, 0, 0, 0, 0, reach, reach + short))
    return padded.unfold(1, size + 2 * reach, size).transpose(-1, -2)


NETWORKS: dict[str, Callable[..., Any]] = {"pca": Projection, "convtemporal": ConvTemporal}
"""Kind of a predictor -> its network, built with (channels, features, **config)."""
