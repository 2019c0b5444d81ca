"""GPP networks in NumPy, for a server that holds them ready and answers while somebody waits.

The same weights give the same numbers as `deepfeatures.gpp.predictor` (up to rounding), without
torch. What goes in is brought to the width of the network once a day, not once a window, and of
the last layer of a transformer only the day that is told is computed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from deepfeatures.gpp import card as cards
from deepfeatures.gpp.card import Card, Told
from deepfeatures.gpp.towers import Towers
from deepfeatures.gpp.windows import Windows

DAYS_AT_ONCE = 2048
"""Days of windows that a transformer works on together, so that they stay in the cache."""

Array = NDArray[np.float32]


class Light:
    """A trained model, ready to tell.

    Parameters
    ----------
    card
        What the model says about itself.
    weights
        Its arrays by the names of the checkpoint.
    size
        Bytes of its file.
    """

    def __init__(self, card: Card, weights: dict[str, NDArray[Any]], size: int = 0) -> None:
        self.card, self.size = card, size
        self.inverse = weights["domain.inverse"]
        self.parameters = sum(a.size for n, a in weights.items() if n != "domain.inverse")
        self.weights = {n: a.astype(np.float32, copy=False) for n, a in weights.items()}
        for name in card.bonds:
            self.weights[f"{name}.weight"] = _whole(self.weights, name)
        self._network = _recurrent if card.kind != "gpt" else _causal

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Light:
        """Read a checkpoint.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no checkpoint of a GPP model.
        """
        card, weights = cards.read(path)
        try:
            return cls(card, weights, Path(path).stat().st_size)
        except (KeyError, ValueError) as error:
            raise ValueError(cards.not_one(path)) from error

    def __call__(self, towers: Towers, rows: NDArray[np.int64], context: int | None = None) -> Told:
        """Tell the GPP of some days.

        Parameters
        ----------
        towers
            Their daily drivers.
        rows
            Days that are told.
        context
            Days to look at; by default those of the card, which are also the most.
        """
        return self.tell(cards.prepare(self.card, towers), towers, rows, context)

    def tell(
        self,
        prepared: Array,
        towers: Towers,
        rows: NDArray[np.int64],
        context: int | None = None,
    ) -> Told:
        """Tell days from prepared channels ``(day, channel)``."""
        length = min(context or self.card.window, self.card.window)
        windows = Windows(towers, np.asarray(rows, np.int64), length)
        if not len(windows):
            nothing = np.zeros(0, np.float32)
            return Told(nothing, nothing, nothing)
        return self.windows(prepared, *windows.rows(np.arange(len(windows))))

    def windows(self, prepared: Array, rows: NDArray[np.int64], days: NDArray[np.int64]) -> Told:
        """Tell the last days of windows.

        Parameters
        ----------
        prepared
            Channels ``(day, channel)``.
        rows
            Days ``(window, day)`` of the windows, padded at their end.
        days
            How many of them count ``(window,)``.
        """
        first = int(rows.min())
        out = self._network(self, prepared[first : rows.max() + 1], rows - first, days)
        centre, spread = np.float32(self.card.target[0]), np.float32(self.card.target[1])
        mean, away = out[:, 0] * spread + centre, np.logaddexp(0, out[:, 1:]) * spread
        return Told(mean, mean - away[:, 0], mean + away[:, 1])

    def distance(self, towers: Towers) -> Array:
        """Give how far the drivers of each day are from the training days; see `card.distance`."""
        return cards.distance(self.card, self.inverse, cards.prepare(self.card, towers))

    def multiply_adds(self, days: int) -> int:
        """Count multiplications with additions that one day told from `days` days takes."""
        sizes = {n: self.weights[n].size for n in self.weights if _matrix(n, self.weights[n])}
        head = sum(size for name, size in sizes.items() if name.startswith("head"))
        if self.card.kind != "gpt":
            return int(days * (sum(sizes.values()) - head) + head)
        width = self.weights["position"].shape[1]
        return int(days * sum(sizes.values()) + _blocks(self) * width * days * (days + 1))

    def linear(self, name: str, values: Array) -> Array:
        """Apply a linear layer to ``(..., inputs)``."""
        weight = self.weights[f"{name}.weight"]
        made: Array = values.reshape(-1, values.shape[-1]) @ weight.T  # one product, not many
        if f"{name}.bias" in self.weights:
            made += self.weights[f"{name}.bias"]
        return made.reshape(*values.shape[:-1], -1)

    def norm(self, name: str, values: Array) -> Array:
        """Apply a layer norm to ``(..., width)``."""
        off: Array = values - values.mean(axis=-1, keepdims=True)
        variance = np.einsum("...w,...w->...", off, off)[..., None] / values.shape[-1]
        off /= np.sqrt(variance + np.float32(1e-5))
        off *= self.weights[f"{name}.weight"]
        off += self.weights[f"{name}.bias"]
        return off


def _matrix(name: str, array: NDArray[Any]) -> bool:
    return array.ndim == 2 and ".weight" in name and name != "domain.inverse"


def _whole(weights: dict[str, Array], name: str) -> Array:
    """Put a matrix-product operator of two tensors together."""
    chain = np.tensordot(weights[f"{name}.cores.0"], weights[f"{name}.cores.1"], 1)[0, ..., 0]
    rows, columns, more_rows, more_columns = chain.shape
    whole = chain.transpose(0, 2, 1, 3)
    return np.ascontiguousarray(whole).reshape(rows * more_rows, columns * more_columns)


def _gelu(values: Array) -> Array:
    made: Array = values * np.float32(0.5) * (1 + erf(values * np.float32(0.70710678)))
    return made


def _quick_gelu(values: Array) -> Array:
    made: Array = values * values  # in place from here: temporaries cost more than the arithmetic
    made *= np.float32(0.7978846 * 0.044715)
    made += np.float32(0.7978846)
    made *= values
    np.tanh(made, out=made)
    made += 1
    made *= values
    made *= np.float32(0.5)
    return made


def _recurrent(
    model: Light, values: Array, rows: NDArray[np.int64], days: NDArray[np.int64]
) -> Array:
    """Give what a recurrent network says ``(window, 3)`` of the last day of each window."""
    cells, kind = model.weights, model.card.kind
    entered = model.linear("enter.2", _gelu(model.linear("enter.0", values)))
    layers = sum(name.startswith("cells.weight_ih_l") for name in cells)
    size = cells["cells.weight_hh_l0"].shape[1]
    states = np.zeros((layers, 2, len(rows), size), np.float32)
    first = entered @ cells["cells.weight_ih_l0"].T + cells["cells.bias_ih_l0"]
    told = np.zeros((len(rows), size), np.float32)
    ends = np.flatnonzero(np.bincount(days - 1, minlength=rows.shape[1]))
    for step in range(int(days.max())):
        x = first[rows[:, step]]
        for layer in range(layers):
            if layer:
                x = states[layer - 1, 0] @ cells[f"cells.weight_ih_l{layer}"].T
                x += cells[f"cells.bias_ih_l{layer}"]
            h = states[layer, 0] @ cells[f"cells.weight_hh_l{layer}"].T
            h += cells[f"cells.bias_hh_l{layer}"]
            states[layer] = CELLS[kind](x, h, states[layer])
        if step in ends:
            mine = days == step + 1
            told[mine] = states[-1, 0, mine]
    return model.linear("head.2", _gelu(model.linear("head.0", told)))


def _rnn(x: Array, h: Array, state: Array) -> tuple[Array, Array]:
    return np.tanh(x + h), state[1]


def _gru(x: Array, h: Array, state: Array) -> tuple[Array, Array]:
    size = state.shape[-1]
    gates = expit(x[:, : 2 * size] + h[:, : 2 * size])
    reset, keep = gates[:, :size], gates[:, size:]
    new = np.tanh(x[:, 2 * size :] + reset * h[:, 2 * size :])
    return new + keep * (state[0] - new), state[1]


def _lstm(x: Array, h: Array, state: Array) -> tuple[Array, Array]:
    size = state.shape[-1]
    gates = x + h
    enter, forget = expit(gates[:, :size]), expit(gates[:, size : 2 * size])
    new, leave = np.tanh(gates[:, 2 * size : 3 * size]), expit(gates[:, 3 * size :])
    memory = forget * state[1] + enter * new
    return leave * np.tanh(memory), memory


CELLS = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}
"""Kind of cell -> output and memory after a day, from both sums of its gates and the state."""


def _blocks(model: Light) -> int:
    return sum(name.endswith("before.weight") for name in model.weights)


def _causal(model: Light, values: Array, rows: NDArray[np.int64], days: NDArray[np.int64]) -> Array:
    """Give what a transformer says ``(window, 3)`` of the last day of each window."""
    entered = model.linear("enter", values)
    step = max(1, DAYS_AT_ONCE // rows.shape[1])
    parts = [
        _attended(model, entered, rows[start : start + step], days[start : start + step])
        for start in range(0, len(rows), step)
    ]
    return model.linear("head", model.norm("norm", np.concatenate(parts)))


def _attended(
    model: Light, entered: Array, rows: NDArray[np.int64], days: NDArray[np.int64]
) -> Array:
    x = entered[rows] + model.weights["position"][: rows.shape[1]]
    windows, length, width = x.shape
    heads = int(model.card.config.get("heads", 4))
    blocks = _blocks(model)
    for number in range(blocks):
        name = f"blocks.{number}"
        inner = model.norm(f"{name}.before", x)
        mixed = model.linear(f"{name}.attend", inner).reshape(windows, length, 3, heads, -1)
        query, key, value = mixed.transpose(2, 0, 3, 1, 4)
        if number + 1 < blocks:
            seen = np.tri(length, dtype=bool)[None]
        else:  # only the last day goes on
            last = np.arange(windows), days - 1
            x, query = x[last][:, None], query[last[0], :, last[1]][:, :, None]
            seen = (np.arange(length) < days[:, None])[:, None]
        scores = query @ key.transpose(0, 1, 3, 2)
        scores /= np.float32(np.sqrt(width // heads))
        np.copyto(scores, np.float32(-np.inf), where=~seen[:, None])
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        joined = scores @ value
        joined = joined.transpose(0, 2, 1, 3).reshape(windows, -1, width)
        x = x + model.linear(f"{name}.join", joined)
        wide = _quick_gelu(model.linear(f"{name}.widen", model.norm(f"{name}.between", x)))
        x = x + model.linear(f"{name}.narrow", wide)
    return x[:, 0]
