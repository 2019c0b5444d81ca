"""Two causal networks over days: recurrent ones, and a transformer in the style of GPT-2.

Both take ``(window, day, channel)`` and give ``(window, day, 3)``: the mean, and how far the 5th
and the 95th percentile lie below and above it (before `spread_out`). What they give for a day
depends on that day and those before it only, so windows may be padded at their end, and days may
be given one by one with the state that the call before returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepfeatures import compress

TOLD = 3
"""Numbers per day: mean, distance to the 5th and to the 95th percentile."""

SHORT = 90
"""Days up to which weights of the attention are dropped in training as well; with more, a step
of a training would take five times as long, for fast attention drops none."""

CELLS: dict[str, tuple[Callable[..., nn.RNNBase], int]] = {
    "rnn": (nn.RNN, 1),
    "gru": (nn.GRU, 3),
    "lstm": (nn.LSTM, 4),
}
"""Name -> layer, and how many gates it has."""

State = Any
"""What a network carries from day to day."""


class Recurrent(nn.Module):
    """A recurrent network: Elman's, GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997).

    Two dense layers before and after the cells let even the simplest cell see products of drivers.

    Parameters
    ----------
    channels
        Numbers per day.
    cell
        One of `CELLS`.
    hidden
        Numbers of the state.
    layers
        Layers of cells.
    dropout
        Share of the state that is dropped before the head while it trains.
    context
        Taken for the sake of the same call as `Causal`; a state knows no longest context.
    """

    def __init__(
        self,
        channels: int,
        *,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.1,
        context: int = 0,
    ) -> None:
        super().__init__()
        layer, self.gates = CELLS[cell]
        self.enter = nn.Sequential(
            nn.Linear(channels, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )
        self.cells = layer(hidden, hidden, layers, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, TOLD))

    def forward(self, values: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Give ``(window, day, 3)`` and the state after the last day."""
        hidden, after = self.cells(self.enter(values), state)
        return self.head(self.drop(hidden)), after

    def multiply_adds(self, days: int) -> int:
        """Count multiplications with additions for one window of `days` days."""
        size = self.cells.hidden_size
        cells = self.gates * size * size * 2 * self.cells.num_layers
        return days * (cells + _linear(self.enter)) + _linear(self.head)


class Block(nn.Module):
    """A layer of GPT-2: attention to the days so far and a small network, each after a norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.between = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None) -> tuple[Tensor, State]:
        """Give the days after this layer, and the keys and values of all days so far."""
        batch, days, width = x.shape
        parts = self.attend(self.before(x)).view(batch, days, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        seen = key.shape[2]
        if cache is None:
            mask = None
        else:  # a new day sees all old ones, and the new ones up to itself
            mask = torch.ones(days, seen, dtype=torch.bool, device=x.device).tril(seen - days)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=cache is None,
            dropout_p=self.dropout if self.training and seen <= SHORT else 0.0,
        )  # fmt: skip
        x = x + self.drop(self.join(mixed.transpose(1, 2).reshape(batch, days, width)))
        wide = functional.gelu(self.widen(self.between(x)), approximate="tanh")
        return x + self.drop(self.narrow(wide)), (key, value)


class Causal(nn.Module):
    """A decoder-only transformer with learned positions (Radford et al. 2019, GPT-2) over days.

    Parameters
    ----------
    channels
        Numbers per day.
    width, layers, heads
        Size of the network.
    dropout
        Share that is dropped while it trains.
    context
        Days that it can look back at most.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        context: int = 30,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, TOLD)

    def forward(self, values: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Give ``(window, day, 3)``, and keys and values of all days so far.

        Raises
        ------
        ValueError
            If there are more days than positions.
        """
        past = state[0][0].shape[2] if state else 0
        days = values.shape[1]
        if past + days > len(self.position):
            raise ValueError(
                f"{past + days} days are more than the {len(self.position)} that this transformer "
                "can look back; begin a new window"
            )
        x = self.enter(values) + self.position[past : past + days]
        after = []
        for number, block in enumerate(self.blocks):
            x, cache = block(x, state[number] if state else None)
            after.append(cache)
        return self.head(self.norm(x)), after

    def multiply_adds(self, days: int) -> int:
        """Count multiplications with additions for one window of `days` days."""
        width = self.position.shape[1]
        return days * _linear(self) + len(self.blocks) * width * days * (days + 1)


def _linear(module: nn.Module) -> int:
    """Count multiplications with additions of the linear layers, for one day."""
    return sum(
        layer.in_features * layer.out_features
        for layer in module.modules()
        if isinstance(layer, nn.Linear | compress.MatrixProduct)
    )


def spread_out(out: Tensor) -> Tensor:
    """Turn what a network gives ``(..., 3)`` into mean, 5th and 95th percentile.

    The percentiles lie below and above the mean, whose gradient they leave alone.
    """
    mean = out[..., 0]
    away = functional.softplus(out[..., 1:])
    fixed = mean.detach()
    return torch.stack([mean, fixed - away[..., 0], fixed + away[..., 1]], -1)


def last(out: Tensor, length: Tensor) -> Tensor:
    """Give what is told ``(window, 3)`` of the last day of each window."""
    return out[torch.arange(len(out), device=out.device), length - 1]


NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "rnn": (Recurrent, {"cell": "rnn"}),
    "gru": (Recurrent, {"cell": "gru"}),
    "lstm": (Recurrent, {"cell": "lstm"}),
    "gpt": (Causal, {}),
}
"""Name -> network, and its options."""
