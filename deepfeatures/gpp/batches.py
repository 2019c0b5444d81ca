"""Windows of towers as tensors, as a training step and a prediction take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfeatures.gpp.windows import Windows


@dataclass(frozen=True)
class Batch:
    """Windows side by side; short ones are padded at their end, which a causal network ignores."""

    values: Tensor
    """``(window, day, channel)``."""
    length: Tensor
    """``(window,)`` days of each window; the last of them is the day that is told."""
    target: Tensor
    """``(window,)`` observed GPP, scaled as the network gives it."""


def batch(
    prepared: NDArray[np.float32],
    target: NDArray[np.float32],
    windows: Windows,
    which: NDArray[np.int64],
    shorter: NDArray[np.int64] | None = None,
) -> Batch:
    """Cut windows out of prepared channels ``(day, channel)``."""
    rows, days = windows.rows(which, shorter)
    there = np.arange(windows.length) < days[:, None]
    values = prepared[rows] * there[..., None]
    return Batch(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(days),
        torch.from_numpy(target[windows.ends[which]].astype(np.float32)),
    )
