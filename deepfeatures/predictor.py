"""A network with all that it needs to be used: physical units in, features out, one file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from deepfeatures.embed.model import NETWORKS
from deepfeatures.indices import INDICES, find
from deepfeatures.indices.tensor import Layer

SHIPPED = Path(__file__).parent / "models"
"""Folder of the checkpoints that come with the package."""

GAPS = "a pixel-date counts if it is valid and all channels are finite; others are masked"
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
    limits: tuple[float, float]
    """What a cube gives is clipped to this range before indices are made of it and before it is
    normalised [physical units]; indices are not clipped."""
    scale: float
    """Step of the int8 quantisation: feature = integer x scale, integers -127..127."""
    halo: int = 0
    """Pixels around a pixel that play a part."""
    context: int = 0
    """Dates on each side of a date that play a part."""
    gaps: str = GAPS
    """Rule for missing values."""
    config: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""
    description: str = ""
    """What the features are, in a sentence or two."""
    training: dict[str, Any] = field(default_factory=dict)
    """Training data, seed, steps and scores."""

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS:
            raise ValueError(f"no network is called {self.kind!r}; choose from {list(NETWORKS)}")
        if not len(self.channels) == len(self.centre) == len(self.spread):
            raise ValueError("channels, centre and spread must have the same length")


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
        shape = (-1, 1, 1)
        self._made = derived(card.channels)
        self._indices = Layer(self._made, self.inputs) if self._made else None
        self._centre = torch.tensor(card.centre, device=self.device).view(shape)
        self._spread = torch.tensor(card.spread, device=self.device).view(shape)

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
            card = Card(**_tuples(json.loads(text or "")))
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
        found = [name for name in self.channels if name not in self._made]
        found += [band for name in self._made for band in find(name).bands]
        return list(dict.fromkeys(found))

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
        self, values: NDArray[np.floating], valid: NDArray[Any], days: NDArray[Any]
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
            ``(time,)`` [days] from any origin.

        Returns
        -------
        ``(time, feature, y, x)`` float32, within +-127 steps of `scale`, NaN where not valid or
        where a channel has no value.
        """
        x, there = self._prepared(values, valid, days)
        features = self._features(x, there, days)
        seen = there.cpu().numpy()
        features[~np.broadcast_to(seen[:, None], features.shape)] = np.nan
        return features

    def latent(
        self, values: NDArray[np.floating], valid: NDArray[Any], days: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Give the features of `__call__` everywhere, also where nothing was seen.

        What a network tells of a date that it did not see comes from the neighbouring dates.
        """
        return self._features(*self._prepared(values, valid, days), days)

    def _prepared(
        self, values: NDArray[np.floating], valid: NDArray[Any], days: NDArray[Any]
    ) -> tuple[Tensor, Tensor]:
        """Give the channels of the network (time, channel, y, x), and where all are there."""
        self._check(values, valid, days)
        with torch.inference_mode():
            there = torch.from_numpy(usable(values, valid)).to(self.device)
            x = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
            x = x.clamp(*self.card.limits)
            if self._indices is not None:
                given = dict(zip(self.inputs, x.unbind(1), strict=True))
                given |= dict(zip(self._made, self._indices(x).unbind(1), strict=True))
                x = torch.stack([given[name] for name in self.channels], dim=1)
                there &= x.isfinite().all(dim=1)
        return x, there

    def _features(self, x: Tensor, there: Tensor, days: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x = (x - self._centre) / self._spread
            x = torch.where(there[:, None], x, 0.0)
            since = np.asarray(days, np.float64) - float(days[0])
            when = torch.from_numpy(since.astype(np.float32)).to(self.device)
            z = self.module(x[None], there[None].float(), when[None])[0]
            z = z.clamp(-127 * self.scale, 127 * self.scale)
        result: NDArray[np.float32] = z.cpu().numpy()
        return result

    def decode(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give the channels ``(time, channel, y, x)`` [physical units] that features stand for."""
        with torch.inference_mode():
            z = torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(self.device)
            x = self.module.decode(z[None])[0] * self._spread + self._centre  # type: ignore[operator]
        result: NDArray[np.float32] = x.cpu().numpy()
        return result

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


def derived(channels: Sequence[str]) -> list[str]:
    """Give the channels that are spectral indices, or expressions, of bands."""
    return [name for name in channels if name in INDICES or not name.isidentifier()]


def network(card: Card) -> nn.Module:
    """Build the untrained network of a card."""
    module: nn.Module = NETWORKS[card.kind](len(card.channels), len(card.features), **card.config)
    return module


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


def _tuples(found: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON into the tuples of a card."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
