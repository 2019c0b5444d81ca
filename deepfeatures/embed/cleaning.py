"""The first half of the network of one sensor: series without gaps, haze, shadow and noise.

Small convolutions per date, then attention along time at each pixel. Tensors in, tensors out:
``values (batch, time, channel, y, x)``, normalised and 0 where nothing was seen, ``seen (batch,
time, y, x)`` as 0 or 1, and ``days (batch, time)``; it gives channels of the same form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

RANK = 12
"""Most scores of the channels that are averaged: many channels say much of it twice."""

SCALE = 0.4
"""Deviation of the first score at the start."""

AT_ONCE = {"cpu": 2**13, "cuda": 2**18}
"""Pixel-dates that are worked on at once: what a core's cache holds, or what fills a GPU."""

FORBIDDEN = 1e4
"""Taken from the score of a date that was not seen."""

YEAR = 365.2425
"""Days of a year."""

DILATIONS = (1, 2, 4)
"""Steps of the 3 x 3 convolutions: together they see 15 x 15 px."""

STRICT = (4.0, 12.0, 25.0, 25.0)
"""How much the second look of each head minds dates that do not agree, at first [1 per squared
score]; they learn their own."""

PACES = (6.0, 12.0, 25.0, 50.0)
"""Days over which the heads look at first; they learn their own."""


class Cleaning(nn.Module):
    """Tell the channels of each pixel and date from its surroundings and its neighbouring dates.

    The spatial part sees 15 x 15 px of each date. Keys and values are made once per date and
    shared by all the dates that look at them; a date looks at `context` dates on each side, never
    at itself, twice: the second look knows what the first one found, so that a date that does not
    agree with the others can be left out. Each look averages, beside the inner channels, scores
    of the channels themselves, a linear map; a gate chooses between these averages and what the
    date itself says, and the rest of the network corrects the choice.

    Parameters
    ----------
    channels
        Number of channels.
    width
        Inner channels; a multiple of `heads`.
    context
        Neighbouring dates on each side.
    heads
        Attention heads.
    """

    halo = sum(DILATIONS)

    def __init__(self, channels: int, *, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.context, self.heads, self.scores = context, heads, min(channels, RANK)
        self.floats = 5 * channels + 2 * width
        found = width + heads * (self.scores + 2)
        self.lift = nn.Conv2d(channels + 1, width, 1)
        self.blocks = nn.ModuleList(Separable(width, step) for step in DILATIONS)
        self.query = nn.Linear(width + 3, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.nearness = nn.ModuleList(Nearness(heads) for _ in range(2))
        self.think = nn.Sequential(nn.Linear(width + 3 + self.scores + found, width), nn.SiLU())
        self.again = nn.Linear(width, width)
        self.join = nn.Sequential(
            nn.Linear(2 * width + self.scores + found, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
            nn.SiLU(),
        )
        self.guess = nn.Linear(width, heads + 1)
        strict = [STRICT[i % len(STRICT)] for i in range(heads)]
        self.strict = nn.Parameter(torch.tensor(strict).log())
        self.gate = nn.Linear(width, heads + 1)
        self.correct = nn.Linear(width, self.scores)
        self.straight = nn.Linear(channels, self.scores, bias=False)
        self.restore = nn.Linear(self.scores, channels)

    def start(self, forth: Tensor, back: Tensor, mean: Tensor) -> None:
        """Start at what each date itself says, the rest of the network silent.

        Parameters
        ----------
        forth
            (score, channel), the first score of deviation 1.
        back, mean
            (channel, score) and (channel,): the way back.
        """
        with torch.no_grad():
            self.straight.weight.copy_(forth * SCALE)
            self.restore.weight.copy_(back / SCALE)
            self.restore.bias.copy_(mean)
            for last in (self.correct, self.gate, self.guess):
                for part in last.parameters():
                    part.zero_()
            self.gate.bias[-1] = 5.0  # a date that is seen starts as what it is

    def forward(self, values: Tensor, seen: Tensor, days: Tensor, inner: Inner = 0) -> Tensor:
        """Give clean channels ``(batch, time, channel, y, x)``, less `inner` px at each edge."""
        space = cropped(seen, inner).shape[-2:]
        pieces = self.pieces(values, seen, days, inner)
        return torch.cat(list(pieces), 3).unflatten(3, space)

    def pieces(
        self, values: Tensor, seen: Tensor, days: Tensor, inner: Inner = 0
    ) -> Iterator[Tensor]:
        """Give clean channels of some pixels after the other, ``(batch, time, channel, pixel)``."""
        batch, time, _, rows, columns = values.shape
        flat = torch.cat([values, seen.unsqueeze(2)], 2)
        most = AT_ONCE.get(flat.device.type, min(AT_ONCE.values()))
        images = flat.flatten(0, 1).split(max(most // (rows * columns), 1))
        token = torch.cat([self._spatial(part) for part in images]).unflatten(0, (batch, time))
        flat, token = cropped(flat, inner), cropped(token, inner)
        # Pixels do not meet from here on: few of them at a time keep the numbers in the cache.
        line = _Line(days, self.context)
        near = [nearness(line.gaps) + line.closed for nearness in self.nearness]
        count = max(most // (batch * line.length), 1)
        pieces = zip(flat.flatten(3).split(count, 3), token.flatten(3).split(count, 3), strict=True)
        return (self._pixels(one, two, line, near) for one, two in pieces)

    def _spatial(self, images: Tensor) -> Tensor:
        """Give ``(image, width, y, x)`` of images ``(image, channel + 1, y, x)``, 0 if unseen."""
        images = images.contiguous(memory_format=torch.channels_last)
        token: Tensor = self.lift(images)
        for block in self.blocks:
            token = block(token)
        return token * images[:, -1:]

    def _pixels(self, flat: Tensor, token: Tensor, line: _Line, near: list[Tensor]) -> Tensor:
        """Give channels ``(batch, time, channel, pixel)`` of ``(batch, time, .., pixel)``.

        Each inner channel is one line, the dates of all pixels one after the other.
        """
        width, pixels = token.shape[2:]
        given = line.laid(token, flat)
        weights, asked, keyed = self._entering()
        own, query, key, value = (torch.cat(weights) @ given).split([len(w) for w in weights])
        query, key = query.add(asked), key.add(keyed)
        owned = own
        given, own, query = (line.cut(part) for part in (given, own, query))
        seen, mask = given[:width], given[width : width + 1]
        memory = self._headed(key), self._headed(value), line.when(pixels)
        first = self._look(query, *memory, line, near[0])
        inner, activate = self.think
        thought = activate(self._taking(inner, first, given[: width + 3], own))  # type: ignore[arg-type]
        guess = self._chosen(self.guess, thought, first, own, mask)
        again, keys = self._doubting(thought, guess, key, owned)
        second = self._look(again, keys, *memory[1:], line, near[1])
        inner, _, last, _ = self.join
        joined = activate(self._taking(inner, second, seen, thought, own))  # type: ignore[arg-type]
        joined = activate(_apply(last, joined))  # type: ignore[arg-type]
        mixed = self._chosen(self.gate, joined, second, own, mask)
        clean = mixed + _apply(self.correct, joined)
        return line.unlaid(_apply(self.restore, clean))

    def _chosen(
        self,
        gate: nn.Linear,
        inner: Tensor,
        found: tuple[Tensor, Tensor],
        own: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Choose between what each head found and the date's own scores, ``(score, place)``."""
        choice = torch.cat([found[0][:, 0], mask]).clamp(min=1e-6).log()
        share = (choice + _apply(gate, inner)).softmax(0).unsqueeze(1)
        return (share[:-1] * found[0][:, 1 : 1 + self.scores]).sum(0) + share[-1] * own

    def _doubting(
        self, thought: Tensor, guess: Tensor, key: Tensor, owned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give queries and keys that also tell how far each date is from the guess.

        The score falls with the squared distance, so that the mean is taken again without the dates
        that do not agree (iteratively reweighted least squares, Holland and Welsch 1977, doi
        10.1080/03610927708827533, with Gaussian weights).
        """
        weight, bias = self._asking(self.again)
        query = self._headed(torch.addmm(bias.unsqueeze(1), weight, thought))
        strict = self.strict.exp().view(-1, 1, 1)
        ones = torch.ones_like(guess[:1])
        query = torch.cat([query, strict * torch.cat([2 * guess, -ones])], 1).flatten(0, 1)
        told = torch.cat([owned, owned.square().sum(0, keepdim=True)])
        return query, torch.cat([self._headed(key), told.expand(self.heads, -1, -1)], 1)

    def _entering(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """Give weights of what is made of the lines of `_Line.laid`, as one product.

        The linear map, and for each head what `_look` takes: queries, keys, values; then the biases
        of queries and of keys. Keys and values carry the mask: an unseen date gets no weight beside
        a seen one, and adds nothing where all are unseen.
        """
        heads, width, channels = self.heads, len(self.key.weight), self.straight.in_features
        more = 4 + channels
        line = torch.eye(width + more, device=self.key.weight.device)
        mask, moment = line[width : width + 1], line[width + 3 : width + 4]
        own = F.pad(self.straight.weight, (width + 4, 0))
        query, asked = self._asking(self.query)
        key = self._headed(F.pad(self.key.weight, (0, more)))
        key = torch.cat([key, (mask * FORBIDDEN).expand(heads, 1, -1)], 1).flatten(0, 1)
        keyed = F.pad(self._headed(self.key.bias), (0, 1), value=-FORBIDDEN).flatten()
        told = torch.cat([self.value.weight, self.value.bias.unsqueeze(1)], 1)
        told = self._headed(F.pad(told, (0, more - 1)))
        shared = torch.cat([mask, own, moment]).expand(heads, -1, -1)
        value = torch.cat([shared, told], 1).flatten(0, 1)
        weights = [own, F.pad(query, (0, more - 3)), key, value]
        return weights, asked.unsqueeze(1), keyed.unsqueeze(1)

    def _asking(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """Give weight and bias of scaled queries; each head has a row of ones for the mask."""
        scale = (len(layer.weight) / self.heads) ** -0.5
        weight, bias = self._headed(layer.weight * scale), self._headed(layer.bias * scale)
        return F.pad(weight, (0, 0, 0, 1)).flatten(0, 1), F.pad(bias, (0, 1), value=1.0).flatten()

    def _taking(self, layer: nn.Linear, found: tuple[Tensor, Tensor], *own: Tensor) -> Tensor:
        """Apply a layer to inner channels and to what a look found."""
        heads, before = self.heads, sum(len(part) for part in own)
        sizes = [before, heads, heads * self.scores, heads]
        rest = layer.in_features - sum(sizes)
        weight, total, mean, away, value = layer.weight.split([*sizes, rest], 1)
        # the layer knows them part by part, a look gives them head by head
        parts = [part.unflatten(1, (heads, -1)) for part in (total, mean, 0 * away, value)]
        x = torch.addmm(layer.bias.unsqueeze(1), torch.cat(parts, 2).flatten(1),
                        found[0].flatten(0, 1))  # fmt: skip
        x = x.addmm_(away, found[1])
        for columns, part in zip(weight.split([len(part) for part in own], 1), own, strict=True):
            x = x.addmm_(columns, part)
        return x

    def _look(
        self, query: Tensor, key: Tensor, value: Tensor, when: Tensor, line: _Line, near: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Look at the neighbouring dates of each pixel.

        Returns what was found ``(head, part, place)``: 1 if anything was seen, else 0, the mean
        scores, the mean moment [30 days] and the mixed values; and the mean distance
        ``(head, place)`` [30 days].
        """
        each = zip(self._headed(query), key, value, near, strict=True)
        mixed = torch.stack([self._attend(*one, line) for one in each]).flatten(2)
        away = mixed[:, 1 + self.scores] - when * mixed[:, 0]
        return mixed, away.clamp(-6, 6)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, near: Tensor, line: _Line
    ) -> Tensor:
        """Mix the values of one head, ``(part, block, size)``.

        Dates are worked on in blocks that look at a window of the dates around: dense products
        of small matrices, without the squared length of a whole series.
        """
        blocks = query.unfold(1, line.size, line.size).permute(1, 2, 0)  # (block, size, part)
        scores = torch.bmm(blocks, line.windows(key))  # (block, size, looked at)
        scores = scores.view(len(near), -1, *near.shape[2:]).add_(near).flatten(0, 2)
        return torch.bmm(line.windows(value), scores.softmax(-1).transpose(1, 2)).transpose(0, 1)

    def _headed(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.heads, -1))


Inner = int | tuple[slice, slice]
"""What is wanted: all but some pixels at each edge, or some rows and columns."""


def cropped(series: Any, inner: Inner) -> Any:
    """Cut the last two dimensions."""
    if isinstance(inner, int):
        inner = (slice(inner, series.shape[-2] - inner), slice(inner, series.shape[-1] - inner))
    return series[(..., *inner)]


class _Line:
    """How the dates of many pixels lie one after the other, so that no window needs a copy.

    Between two pixels lie places without a date, as many as a window reaches to both sides: each
    window of `size` + 2 `reach` places begins `size` places after the one before.
    """

    def __init__(self, days: Tensor, reach: int) -> None:
        self.days, self.reach, self.size = days, reach, 2 * reach
        blocks = -(-days.shape[1] // self.size) + 1  # the last one lies between two pixels
        self.length = blocks * self.size
        self.short = self.length - days.shape[1]
        looked = F.pad(days, (reach, self.short - reach + self.size))
        looked = looked.unfold(1, 2 * self.size, self.size)
        asking = looked[:, :, reach : reach + self.size]
        self.gaps = looked.unsqueeze(2) - asking.unsqueeze(3)
        """Distances in time (batch, block, size, looked at) [d]."""
        index = torch.arange(2 * self.size, device=days.device)
        steps = (index - index[reach : reach + self.size, None]).abs()
        self.closed = -2 * FORBIDDEN * ((steps == 0) | (steps > reach)).float()
        """What may not be looked at: the date itself and those beyond the context."""

    def laid(self, token: Tensor, flat: Tensor) -> Tensor:
        """Give inner channels, mask, season, moment and bands as (line, place)."""
        token, flat = token.permute(2, 0, 3, 1), flat.permute(2, 0, 3, 1)
        values, mask = flat[:-1], flat[-1:]
        angle = ((2 * math.pi / YEAR) * self.days).unsqueeze(1).expand_as(mask)
        moment = (self.days / 30.0).unsqueeze(1) * mask
        lines = torch.cat([token, mask, torch.sin(angle), torch.cos(angle), moment, values])
        # a pixel too many, so that the last window has its places
        return F.pad(lines.flatten(1, 2), (self.reach, self.short - self.reach, 0, 1)).flatten(1)

    def when(self, pixels: int) -> Tensor:
        """Give the moments of the dates that ask (place,) [30 days]."""
        moments = F.pad(self.days / 30.0, (0, self.short))
        return moments.unsqueeze(1).expand(-1, pixels, -1).flatten()

    def cut(self, lines: Tensor) -> Tensor:
        """Give the places of the dates that ask, in whole blocks."""
        return lines[:, self.reach : lines.shape[1] - self.length + self.reach]

    def windows(self, lines: Tensor) -> Tensor:
        """Give the places each block looks at, (block, part, looked at)."""
        count = (lines.shape[1] - self.length) // self.size
        return lines.unfold(1, 2 * self.size, self.size)[:, :count].permute(1, 0, 2)

    def unlaid(self, lines: Tensor) -> Tensor:
        """Give ``(batch, time, line, pixel)`` of lines as `cut` gives them."""
        long = lines.unflatten(1, (len(self.days), -1, self.length))
        return long[..., : self.days.shape[1]].permute(1, 3, 0, 2)


def _apply(layer: nn.Linear, lines: Tensor) -> Tensor:
    return torch.addmm(layer.bias.unsqueeze(1), layer.weight, lines)


class Nearness(nn.Module):
    """Scores of distances in time, one per head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.learned = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, heads))
        paces = [PACES[i % len(PACES)] for i in range(heads)]
        self.pace = nn.Parameter(torch.tensor(paces).log())

    def forward(self, gaps: Tensor) -> Tensor:
        """Give (head, batch, 1, block, size, looked at) from gaps (batch, block, size, ..) [d]."""
        near = (gaps / 30.0).clamp(-6, 6)
        distance = near.abs()
        told = [near, distance, torch.log(distance + 0.03), torch.exp(-distance)]
        score = self.learned(torch.stack(told, -1))
        score = score - gaps.abs().unsqueeze(-1) / self.pace.exp()
        return score.movedim(-1, 0).unsqueeze(2)


class Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution around a residual."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width)
        self.point = nn.Conv2d(width, width, 1)

    def forward(self, token: Tensor) -> Tensor:
        """Give ``(image, width, y, x)``."""
        return token + self.point(F.silu(self.depth(token)))
