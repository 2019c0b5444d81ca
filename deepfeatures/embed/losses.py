"""What a network is trained for: channels told from features, where they are seen and hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deepfeatures.bands import BANDS
from deepfeatures.embed.inputs import Preparation
from deepfeatures.indices.ranges import display
from deepfeatures.indices.tensor import Layer

TYPICAL = 0.1
"""Weight of a normalised step of a channel that is no reflectance: about the spread of a band."""

SEEN = 2.0
"""Weight of pixel-dates that were seen beside hidden ones."""

WINDOW = 7
"""Edge of the windows of the structural similarity [px]."""

STABLE = (0.01, 0.03)
"""Constants of the structural similarity for a range of 1 (Wang et al. 2004,
doi:10.1109/TIP.2003.819861)."""


class Reconstruction:
    """Mean absolute error, spectral angle and structural similarity of what features tell.

    The parts of Peters et al. 2025 (arXiv:2511.11706), with all of the weight on the pixel and
    the date whose features are read: the surroundings are input only.

    Parameters
    ----------
    preparation
        Of the network; it knows which channels are reflectance.
    weights
        ``mae`` per unit of reflectance, ``sam`` per unit of 1 - cosine, ``ssim`` per unit of
        1 - similarity.
    """

    def __init__(self, preparation: Preparation, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        bands = torch.tensor([name in BANDS for name in preparation.channels])
        self.bands = bands.nonzero().flatten()
        spread = preparation.spread.flatten()
        self.steps = torch.where(bands, spread, torch.full_like(spread, TYPICAL)).view(-1, 1, 1)
        self.preparation = preparation

    def __call__(self, told: Tensor, target: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """Give the loss.

        Parameters
        ----------
        told, target
            Normalised channels ``(batch, time, channel, y, x)``.
        known, seen
            Where the target is known, and where the network saw it, ``(batch, time, y, x)``.
        """
        error = ((told - target).abs() * self.steps.to(told)).mean(2)
        cost = self.weights["mae"] * error
        if self.weights["sam"] and len(self.bands) > 1:
            cost = cost + self.weights["sam"] * self._angle(told, target)
        total = SEEN * _mean(cost, known * seen) + _mean(cost, known * (1 - seen))
        if self.weights["ssim"]:
            total = total + self.weights["ssim"] * dissimilarity(told, target, known)
        return total

    def _angle(self, told: Tensor, target: Tensor) -> Tensor:
        """Give 1 - cosine of the angle between spectra ``(batch, time, y, x)``."""
        one, two = (self.preparation.invert(x)[:, :, self.bands] for x in (told, target))
        size = one.norm(dim=2) * two.norm(dim=2)
        return 1 - (one * two).sum(2) / size.clamp(min=1e-3)


class Explained:
    """Indices of the clean bands, told by a linear layer from the features.

    What is nonlinear in the bands becomes linear in the features, for whoever reads them.

    Parameters
    ----------
    names
        Indices of bands among `inputs`.
    inputs
        Bands, in the order in which they come.
    """

    def __init__(self, names: Sequence[str], inputs: Sequence[str]) -> None:
        self.layer = Layer(names, inputs)
        ranges = torch.tensor([display(name) for name in names])
        self.middle = ranges.mean(1).view(-1, 1, 1)
        self.half = ((ranges[:, 1] - ranges[:, 0]) / 2).view(-1, 1, 1)

    def __call__(self, told: Tensor, target: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """Give the loss.

        Parameters
        ----------
        told
            ``(batch, time, index, y, x)``, 0 and 1 at the middle and the end of each range.
        target
            Bands ``(batch, time, band, y, x)`` in physical units.
        known, seen
            See `Reconstruction`.
        """
        with torch.no_grad():
            found = self.layer(target)
            found = (found - self.middle.to(found)) / self.half.to(found)
            found = torch.nan_to_num(found, nan=0.0).clamp(-2, 2)
        cost = (told - found).abs().mean(2)
        return SEEN * _mean(cost, known * seen) + _mean(cost, known * (1 - seen))


def dissimilarity(told: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Give 1 - structural similarity, the mean over windows that are known as a whole.

    Parameters
    ----------
    told, target
        Normalised channels ``(batch, time, channel, y, x)``; their range is taken as 4.
    known
        ``(batch, time, y, x)``, 0 or 1.
    """
    size = min(WINDOW, *told.shape[-2:])
    shape = told.shape
    a, b = (x.reshape(-1, 1, *shape[-2:]) / 4 for x in (told, target))
    mean_a, mean_b = F.avg_pool2d(a, size, 1), F.avg_pool2d(b, size, 1)
    var_a = F.avg_pool2d(a * a, size, 1) - mean_a**2
    var_b = F.avg_pool2d(b * b, size, 1) - mean_b**2
    both = F.avg_pool2d(a * b, size, 1) - mean_a * mean_b
    one, two = (k**2 for k in STABLE)
    alike = (2 * mean_a * mean_b + one) * (2 * both + two)
    alike = alike / ((mean_a**2 + mean_b**2 + one) * (var_a + var_b + two))
    alike = alike.reshape(*shape[:3], *alike.shape[-2:]).mean(2)
    whole = -F.max_pool2d(-known.flatten(0, 1)[:, None], size, 1).reshape(alike.shape)
    return _mean(1 - alike, whole)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
