"""A GPP network with all that it needs to be used: physical units in, gC m-2 d-1 out, one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from deepfeatures import compress
from deepfeatures.gpp import card as cards
from deepfeatures.gpp.batches import batch
from deepfeatures.gpp.card import Card, Told
from deepfeatures.gpp.networks import NETWORKS, last, spread_out
from deepfeatures.gpp.towers import Towers
from deepfeatures.gpp.windows import Windows

AT_ONCE = 2048
"""Windows that are told in one call of a network."""


class Predictor:
    """Network, normalisation, drivers and gap rule in one object.

    Parameters
    ----------
    card
        Everything but the weights.
    module
        The network; by default a fresh one of the card's kind.
    inverse
        Inverse covariance ``(driver, driver)`` of the scaled drivers in training.
    """

    def __init__(
        self,
        card: Card,
        module: nn.Module | None = None,
        inverse: NDArray[np.float32] | None = None,
    ) -> None:
        self.card = card
        self.module = (module or network(card)).eval()
        self.inverse = np.eye(len(card.drivers), dtype=np.float32) if inverse is None else inverse

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no checkpoint of a GPP model.
        """
        card, arrays = cards.read(path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            inverse = tensors.pop("domain.inverse").numpy()
            module = network(card)
            module.load_state_dict(tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(cards.not_one(path)) from error
        return cls(card, module, inverse)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint as one safetensors file; a reader never sees half of it."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        tensors = {n: t.detach().cpu().contiguous() for n, t in self.module.state_dict().items()}
        tensors["domain.inverse"] = torch.from_numpy(np.ascontiguousarray(self.inverse))
        told = json.dumps(asdict(self.card), sort_keys=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_bytes(save(tensors, metadata={"gpp": told}))
        os.replace(partial, target)

    @property
    def parameters(self) -> int:
        """Numbers that the network has."""
        return sum(weight.numel() for weight in self.module.parameters())

    def multiply_adds(self, days: int) -> int:
        """Count multiplications with additions that one day told from `days` days takes."""
        return int(self.module.multiply_adds(days))  # type: ignore[operator]

    def prepare(self, towers: Towers) -> NDArray[np.float32]:
        """Give the channels ``(day, channel)`` that the network takes.

        Raises
        ------
        ValueError
            If the towers lack a driver.
        """
        return cards.prepare(self.card, towers)

    def __call__(
        self, towers: Towers, rows: NDArray[np.int64] | None = None, *, context: int | None = None
    ) -> Told:
        """Tell the GPP of days.

        Parameters
        ----------
        towers
            Their daily drivers.
        rows
            Days that are told; all by default.
        context
            Days to look at; by default those of the card, which are also the most.
        """
        every = np.arange(len(towers.day)) if rows is None else np.asarray(rows, np.int64)
        length = min(context or self.card.window, self.card.window)
        return self.tell(self.prepare(towers), Windows(towers, every, length))

    def tell(self, prepared: NDArray[np.float32], windows: Windows) -> Told:
        """Tell the last days of windows of prepared channels."""
        nothing = np.zeros(len(prepared), np.float32)
        parts = [np.zeros((0, 3), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(windows), AT_ONCE):
                which = np.arange(start, min(start + AT_ONCE, len(windows)))
                some = batch(prepared, nothing, windows, which)
                out, _ = self.module(some.values)
                parts.append(spread_out(last(out, some.length)).numpy())
        centre, spread = self.card.target
        told = np.concatenate(parts) * np.float32(spread) + np.float32(centre)
        return Told(told[:, 0], told[:, 1], told[:, 2])

    def distance(self, towers: Towers) -> NDArray[np.float32]:
        """Give how far the drivers of each day ``(day,)`` are from the training days.

        It is Mahalanobis' distance divided by that which 99.5 % of the training days keep: above 1
        the model is out of its domain.
        """
        return cards.distance(self.card, self.inverse, self.prepare(towers))


def network(card: Card) -> nn.Module:
    """Build the untrained network of a card."""
    make, options = NETWORKS[card.kind]
    made = make(card.channels, context=card.window, **options, **card.config)
    return compress.compressed(made, card.bonds) if card.bonds else made
