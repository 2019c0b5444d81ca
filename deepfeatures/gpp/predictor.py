"""A GPP network with all that it needs to be used: physical units in, gC m-2 d-1 out, one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from deepfeatures import compress
from deepfeatures.gpp.networks import NETWORKS, last, spread_out
from deepfeatures.gpp.towers import HELD, Towers
from deepfeatures.gpp.windows import Windows, batch

UNIT = "gC m-2 d-1"
"""Unit of GPP."""

CLIPPED = 5.0
"""Spreads from the centre at which an input is held."""

AT_ONCE = 2048
"""Windows that are told in one call of a network."""

GAPS = (
    f"a missing day of a driver holds its last value for at most {HELD} days; after that it "
    "counts as its mean, and is marked where such days occurred in training"
)
"""The rule for gaps, which stands in every checkpoint."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about itself."""

    name: str
    kind: str
    """Network, a key of `deepfeatures.gpp.networks.NETWORKS`."""
    drivers: tuple[str, ...]
    """Drivers that go in, in order, in the units of the tower table."""
    centre: tuple[float, ...]
    """Value of each driver that becomes 0."""
    spread: tuple[float, ...]
    """Step of each driver that becomes 1."""
    marked: tuple[str, ...]
    """Drivers beside which a channel says whether they have a value."""
    window: int
    """Days that are looked at, the day told included."""
    target: tuple[float, float]
    """Centre and spread of GPP [gC m-2 d-1]."""
    place: tuple[tuple[float, float], ...] = ()
    """Centre and spread of latitude [degrees] and elevation [m]; empty if they do not go in."""
    biomes: tuple[str, ...] = ()
    """Types of vegetation that it knows; empty if they do not go in."""
    config: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    bonds: dict[str, int] = field(default_factory=dict)
    """Layers that are matrix-product operators (`deepfeatures.compress`), and their bonds."""
    domain: float = 0.0
    """Distance to the training days (Mahalanobis, of the drivers) that 99.5 % of them keep."""
    unit: str = UNIT
    gaps: str = GAPS
    description: str = ""
    limitations: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    """Towers, years, seed, steps and scores."""

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS:
            raise ValueError(f"no network is called {self.kind!r}; choose from {list(NETWORKS)}")
        if not len(self.drivers) == len(self.centre) == len(self.spread):
            raise ValueError("drivers, centre and spread must have the same length")

    @property
    def channels(self) -> int:
        """Numbers per day that the network takes."""
        return len(self.drivers) + len(self.marked) + len(self.place) + len(self.biomes)


@dataclass(frozen=True)
class Told:
    """What a model tells of some days; every field is ``(day,)`` [gC m-2 d-1]."""

    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    """5th percentile."""
    high: NDArray[np.float32]
    """95th percentile."""


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
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no GPP model {str(path)!r}; make one: train gpp")
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {})["gpp"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            inverse = tensors.pop("domain.inverse").numpy()
            card = read_card(told)
            module = network(card)
            module.load_state_dict(tensors)
        except (KeyError, OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{str(path)!r} is no GPP model of deepfeatures; make one with "
                "`deepfeatures train gpp`"
            ) from error
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
        card = self.card
        lacking = [name for name in card.drivers if name not in towers.drivers]
        if lacking:
            raise ValueError(
                f"the model {card.name} needs {', '.join(lacking)}; the table has "
                f"{', '.join(towers.drivers)}"
            )
        values = towers.values[:, [towers.drivers.index(name) for name in card.drivers]]
        scaled = (values - np.array(card.centre, np.float32)) / np.array(card.spread, np.float32)
        marks = [np.isnan(values[:, card.drivers.index(name)]) for name in card.marked]
        parts = [np.nan_to_num(np.clip(scaled, -CLIPPED, CLIPPED)), *(m[:, None] for m in marks)]
        still = np.zeros((len(towers.sites), len(card.place) + len(card.biomes)), np.float32)
        for number, (centre, spread) in enumerate(card.place):
            still[:, number] = (towers.places[:, number + 1] - centre) / spread
        for number, biome in enumerate(towers.biomes):
            if biome in card.biomes:
                still[number, len(card.place) + card.biomes.index(biome)] = 1
        still = np.clip(np.nan_to_num(still), -CLIPPED, CLIPPED)
        return np.concatenate([*parts, still[towers.site]], axis=1).astype(np.float32)

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
        scaled = self.prepare(towers)[:, : len(self.card.drivers)]
        squared = np.einsum("di,ij,dj->d", scaled, self.inverse, scaled, optimize=True)
        found: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0)) / max(self.card.domain, 1e-6)
        return found.astype(np.float32)


def network(card: Card) -> nn.Module:
    """Build the untrained network of a card."""
    make, options = NETWORKS[card.kind]
    made = make(card.channels, context=card.window, **options, **card.config)
    return compress.compressed(made, card.bonds) if card.bonds else made


def read_card(told: dict[str, Any]) -> Card:
    """Make a card of plain data as JSON gives it."""
    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in told.items()}
    known["place"] = tuple((pair[0], pair[1]) for pair in known.get("place", ()))
    return Card(**known)
