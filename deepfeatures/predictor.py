"""A network with all that it needs to be used: physical units in, features out, one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from deepfeatures.embed.cleaning import Inner, cropped
from deepfeatures.embed.data import Series
from deepfeatures.embed.fusion import Seen
from deepfeatures.embed.inputs import Preparation, Scaling
from deepfeatures.embed.model import NETWORKS
from deepfeatures.embed.sensors import MAIN
from deepfeatures.embed.temporal import ORIGIN

SHIPPED = Path(__file__).parent / "models"
"""Folder of the checkpoints that come with the package."""

GAPS = (
    "a pixel-date counts if it is valid and all bands are finite, others are masked; an index that "
    "is undefined where its bands are known counts as its centre"
)
"""The rule for gaps that `Predictor` keeps; it stands in every checkpoint."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about itself."""

    name: str
    """Name of the model."""
    kind: str
    """Network, a key of `deepfeatures.embed.model.NETWORKS`."""
    channels: tuple[str, ...]
    """Channels that go in, in order: bands, and spectral indices, which are made of the bands on
    the way in."""
    features: tuple[str, ...]
    """Labels of the features that come out."""
    centre: tuple[float, ...]
    """Value of each channel that becomes 0 [physical units]."""
    spread: tuple[float, ...]
    """Step of each channel that becomes 1 [physical units]."""
    low: tuple[float, ...]
    """Values of each channel below this count as this [physical units]."""
    high: tuple[float, ...]
    """Values of each channel above this count as this [physical units]."""
    scale: float
    """Step of the int8 quantisation: feature = integer x scale, integers -127..127."""
    sensor: str = MAIN
    """Sensor of the channels, a key of `deepfeatures.embed.sensors.SENSORS`."""
    halo: int = 0
    """Pixels around a pixel that play a part."""
    context: int = 0
    """Dates on each side of a date that play a part."""
    gaps: str = GAPS
    """Rule for missing values."""
    config: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    explained: tuple[str, ...] = ()
    """Indices that the features were trained to tell linearly."""
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of a fusion: sensor -> card of its encoder, the main one first."""
    description: str = ""
    """What the features are, in a sentence or two."""
    purpose: str = ""
    """What they are meant for."""
    limitations: str = ""
    """What they are not good for, as far as it is known."""
    licence: str = ""
    """Licence of the weights."""
    training: dict[str, Any] = field(default_factory=dict)
    """Training data, seed, steps, versions, time used and scores."""

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS:
            raise ValueError(f"no network is called {self.kind!r}; choose from {list(NETWORKS)}")
        each = (self.centre, self.spread, self.low, self.high)
        if any(len(self.channels) != len(values) for values in each):
            raise ValueError("channels, centre, spread, low and high must have the same length")

    @property
    def scaling(self) -> Scaling:
        """How the channels become numbers around 0."""
        return Scaling(self.centre, self.spread, self.low, self.high)


class Predictor:
    """Network, normalisation, channel list, gap rule and quantisation in one object.

    Parameters
    ----------
    card
        Everything but the weights.
    module
        The network; by default a fresh one of the card's kind.
    device
        ``cpu``, ``cuda`` or ``auto`` (CUDA if there is one).
    """

    def __init__(self, card: Card, module: nn.Module | None = None, *, device: str = "cpu") -> None:
        self.card = card
        self.device = choose_device(device)
        self.module = module or network(card)
        self.module.to(self.device).eval()
        cards = {name: read_card(told) for name, told in card.encoders.items()}
        self._others = {name: one for name, one in cards.items() if name != card.sensor}
        self._prepare = {
            name: Preparation(one.channels, one.scaling, name).to(self.device)
            for name, one in {card.sensor: card, **self._others}.items()
        }

    @classmethod
    def load(cls, path_or_name: str | os.PathLike[str], device: str = "cpu") -> Self:
        """Read a checkpoint: a safetensors file, or the name of one that ships.

        Raises
        ------
        FileNotFoundError
            If there is neither such a file nor such a name.
        ValueError
            If the file is no checkpoint of this package.
        """
        path = locate(path_or_name)
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get("predictor")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            card = read_card(json.loads(text or ""))
            module = network(card)
            module.load_state_dict(tensors)
        except OSError as error:
            raise ValueError(f"the checkpoint {str(path)!r} can not be read: {error}") from error
        except (RuntimeError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"{str(path)!r} is no checkpoint of deepfeatures; "
                "make one with `deepfeatures train embedding`"
            ) from error
        return cls(card, module, device=device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the checkpoint as one safetensors file; a reader never sees half of it."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_bytes(save(self._tensors(), metadata={"predictor": self._metadata()}))
        os.replace(partial, target)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def channels(self) -> list[str]:
        """Channels that go in, in order."""
        return list(self.card.channels)

    @property
    def inputs(self) -> list[str]:
        """Channels that a cube must have: those of `channels`, bands in the place of indices."""
        return list(self._prepare[self.card.sensor].inputs)

    @property
    def contexts(self) -> dict[str, int]:
        """Other sensors that it takes, and how many of their dates around the nearest one."""
        return {name: card.context for name, card in self._others.items()}

    @property
    def features(self) -> list[str]:
        """Labels of the features that come out."""
        return list(self.card.features)

    @property
    def halo(self) -> int:
        """Pixels around a pixel that play a part."""
        return self.card.halo

    @property
    def context(self) -> int:
        """Dates on each side of a date that play a part."""
        return self.card.context

    @property
    def scale(self) -> float:
        """Step of the int8 quantisation."""
        return self.card.scale

    @property
    def floats(self) -> int:
        """Numbers that the network holds per pixel-date while it works, roughly."""
        return int(getattr(self.module, "floats", 4 * len(self.channels)))

    @property
    def checksum(self) -> str:
        """The sha256 sum of metadata and weights, the same on every device."""
        total = hashlib.sha256(self._metadata().encode())
        for name, tensor in sorted(self._tensors().items()):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.numpy().tobytes())
        return total.hexdigest()

    def __call__(
        self,
        values: NDArray[np.floating],
        valid: NDArray[Any],
        days: NDArray[Any],
        others: Mapping[str, Series] | None = None,
        *,
        inner: Inner = 0,
    ) -> NDArray[np.float32]:
        """Give the features of a block of a cube.

        Parameters
        ----------
        values
            ``(time, channel, y, x)`` in physical units, channels in the order of `inputs`,
            NaN = no value.
        valid
            ``(time, y, x)``, true = usable.
        days
            ``(time,)``, days since 1970-01-01.
        others
            What the sensors of `contexts` saw; one that is not there is left out.
        inner
            Rows and columns that are wanted; the rest is seen as their surroundings.

        Returns
        -------
        ``(time, feature, y, x)`` float32, within +-127 steps of `scale`, NaN where not valid or
        where a band has no value.
        """
        features = self.latent(values, valid, days, others, inner=inner)
        seen = cropped(usable(values, valid), inner)
        features[~np.broadcast_to(seen[:, None], features.shape)] = np.nan
        return features

    def latent(
        self,
        values: NDArray[np.floating],
        valid: NDArray[Any],
        days: NDArray[Any],
        others: Mapping[str, Series] | None = None,
        *,
        inner: Inner = 0,
    ) -> NDArray[np.float32]:
        """Give the features of `__call__` everywhere, also where nothing was seen.

        What a network tells of a date that it did not see comes from the neighbouring dates and
        from other sensors.
        """
        self._check(values, valid, days)
        with torch.inference_mode():
            own = self._seen(self.card.sensor, values, usable(values, valid), days)
            if self._others:
                z = self.module({self.card.sensor: own, **self._also(others or {})}, inner)
            else:
                z = self.module(own.values, own.there, own.days, inner)
            z = z[0].clamp(-127 * self.scale, 127 * self.scale)
        result: NDArray[np.float32] = z.cpu().numpy()
        return result

    def _also(self, others: Mapping[str, Series]) -> dict[str, Seen]:
        """Prepare what other sensors saw."""
        found = {}
        for name in self._others:
            if name in others and len(others[name].days):
                values = others[name].values
                there = np.asarray(np.isfinite(values).all(axis=1))
                found[name] = self._seen(name, values, there, others[name].days)
        return found

    def _seen(
        self, sensor: str, values: NDArray[Any], there: NDArray[np.bool_], days: NDArray[Any]
    ) -> Seen:
        """Normalise what a sensor saw."""
        mask = torch.from_numpy(there).to(self.device).float()[None]
        given = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
        x = self._prepare[sensor](given[None]) * mask.unsqueeze(2)
        since = (np.asarray(days, np.float64) - ORIGIN).astype(np.float32)
        return Seen(x, mask, torch.from_numpy(since).to(self.device)[None])

    def decode(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give the channels ``(time, channel, y, x)`` [physical units] that features stand for."""
        with torch.inference_mode():
            z = torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(self.device)
            x = self._prepare[self.card.sensor].invert(self.module.decode(z[None])[0])  # type: ignore[operator]
        result: NDArray[np.float32] = x.cpu().numpy()
        return result

    def error(
        self, values: NDArray[np.floating], features: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Give how far the bands that features tell are from those that were seen.

        Parameters
        ----------
        values
            ``(time, channel, y, x)`` in physical units, channels in the order of `inputs`.
        features
            ``(time, feature, y, x)`` of the same dates and pixels.

        Returns
        -------
        ``(time, y, x)``, the mean absolute difference over the bands among `channels` [unit of
        the bands]; NaN where a feature or a band has no value.

        Raises
        ------
        ValueError
            If all channels are indices.
        """
        bands = [name for name in self.channels if name in self.inputs]
        if not bands:
            raise ValueError(f"{self.name!r} knows indices only; leave the error of the bands out")
        told = [self.channels.index(name) for name in bands]
        seen = [self.inputs.index(name) for name in bands]
        found = np.empty((len(values), *values.shape[2:]), np.float32)
        for at in range(len(values)):  # each date by itself, as the decoder is larger than features
            decoded = self.decode(features[at : at + 1])[0, told]
            found[at] = np.abs(decoded - values[at, seen]).mean(axis=0)
        return found

    def _check(self, values: NDArray[Any], valid: NDArray[Any], days: NDArray[Any]) -> None:
        time, channels, *space = values.shape
        if channels != len(self.inputs):
            raise ValueError(
                f"{channels} channels were given; {self.name!r} needs "
                f"{len(self.inputs)}: {', '.join(self.inputs)}"
            )
        if valid.shape != (time, *space) or np.shape(days) != (time,):
            raise ValueError(
                f"values {values.shape}, valid {valid.shape} and days {np.shape(days)} do not "
                "fit; they must be (time, channel, y, x), (time, y, x) and (time,)"
            )

    def _metadata(self) -> str:
        return json.dumps(asdict(self.card), sort_keys=True)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {n: t.detach().cpu().contiguous() for n, t in self.module.state_dict().items()}


def usable(values: NDArray[np.floating], valid: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which pixel-dates ``(time, y, x)`` count: valid, and every channel finite."""
    # a mask may hold codes that say why a pixel is not usable: only 1 is usable
    return (np.asarray(valid) == 1) & np.isfinite(values).all(axis=1)


def network(card: Card) -> nn.Module:
    """Build the untrained network of a card."""
    if card.encoders:
        # JSON forgets the order: the main one first, the others by name
        order = sorted(card.encoders, key=lambda name: (name != card.sensor, name))
        built = {name: network(read_card(card.encoders[name])) for name in order}
        fused: nn.Module = NETWORKS[card.kind](built, len(card.features), **card.config)
        return fused
    module: nn.Module = NETWORKS[card.kind](len(card.channels), len(card.features), **card.config)
    return module


def read_card(told: dict[str, Any]) -> Card:
    """Make a card of plain data as JSON gives it."""
    known: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in told.items()}
    return Card(**known)


def shipped() -> list[str]:
    """Give the names of the checkpoints that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def locate(path_or_name: str | os.PathLike[str]) -> Path:
    """Give the file of a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is neither such a file nor a shipped checkpoint of that name.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    ours = SHIPPED / f"{path_or_name}.safetensors"
    if path.name == str(path_or_name) and ours.is_file():
        return ours
    raise FileNotFoundError(
        f"there is no model {str(path_or_name)!r}; give a .safetensors file or one of "
        f"{', '.join(shipped()) or 'none that ship'}"
    )


def choose_device(device: str) -> torch.device:
    """Give the device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ValueError
        If the name is another one, or CUDA is asked for where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"the device {device!r} is unknown; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here; choose --device auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
