"""What a GPP model says about itself, and how drivers become what it takes; needs no torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from deepfeatures.gpp.towers import HELD, Towers

UNIT = "gC m-2 d-1"
"""Unit of GPP."""

KINDS = ("rnn", "gru", "lstm", "gpt")
"""Networks, the keys of `deepfeatures.gpp.networks.NETWORKS`."""

CLIPPED = 5.0
"""Spreads from the centre at which an input is held."""

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
    """Network, one of `KINDS`."""
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
        if self.kind not in KINDS:
            raise ValueError(f"no network is called {self.kind!r}; choose from {list(KINDS)}")
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


def lacking(card: Card, towers: Towers) -> list[str]:
    """Name the drivers that a model can not do without and that towers do not have.

    A driver that was missing on days of the training is marked where it is missing, and may be
    missing altogether.
    """
    known = {*towers.drivers, *card.marked}
    return [name for name in card.drivers if name not in known]


def prepare(card: Card, towers: Towers) -> NDArray[np.float32]:
    """Give the channels ``(day, channel)`` that a network takes.

    Raises
    ------
    ValueError
        If the towers lack a driver.
    """
    if absent := lacking(card, towers):
        raise ValueError(
            f"the model {card.name} needs {', '.join(absent)}; the table has "
            f"{', '.join(towers.drivers)}"
        )
    values = np.full((len(towers.day), len(card.drivers)), np.nan, np.float32)
    for at, name in enumerate(card.drivers):
        if name in towers.drivers:
            values[:, at] = towers.values[:, towers.drivers.index(name)]
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


def distance(
    card: Card, inverse: NDArray[np.float32], prepared: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give how far the prepared drivers of each day ``(day,)`` are from the training days.

    It is Mahalanobis' distance divided by that which 99.5 % of the training days keep: above 1
    the model is out of its domain.
    """
    scaled = prepared[:, : len(card.drivers)]
    squared = np.einsum("di,ij,dj->d", scaled, inverse, scaled, optimize=True)
    found: NDArray[np.float32] = np.sqrt(np.maximum(squared, 0)) / max(card.domain, 1e-6)
    return found.astype(np.float32)


def read_card(told: dict[str, Any]) -> Card:
    """Make a card of plain data as JSON gives it."""
    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in told.items()}
    known["place"] = tuple((pair[0], pair[1]) for pair in known.get("place", ()))
    return Card(**known)


def read(path: str | os.PathLike[str]) -> tuple[Card, dict[str, NDArray[Any]]]:
    """Read card and arrays of a checkpoint.

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
        with safe_open(path, framework="numpy") as file:
            told = json.loads((file.metadata() or {})["gpp"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return read_card(told), arrays
    except (KeyError, OSError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(not_one(path)) from error


def not_one(path: str | os.PathLike[str]) -> str:
    """Say that a file is no checkpoint."""
    return f"{str(path)!r} is no GPP model of deepfeatures; make one with `deepfeatures train gpp`"
