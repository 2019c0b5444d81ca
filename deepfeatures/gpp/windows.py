"""Windows as lazy indices into daily arrays: nothing is copied before a batch is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfeatures.gpp.towers import Towers


@dataclass(frozen=True)
class Windows:
    """Windows that end on given days of towers; the days before the first one are not there."""

    towers: Towers
    ends: NDArray[np.int64]
    """``(window,)`` row of the last day."""
    length: int
    """Days of a window at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 1000:
            raise ValueError(f"a window of {self.length} days is not possible; take 1 to 1000")

    def __len__(self) -> int:
        return len(self.ends)

    def rows(
        self, which: NDArray[np.int64], shorter: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the rows ``(window, day)`` of windows, and how many of them count.

        Parameters
        ----------
        which
            Numbers of the windows.
        shorter
            Days to use of each window, its last ones; all by default.
        """
        ends = self.ends[which]
        days = np.minimum(self.length, ends - self.towers.first[ends] + 1)
        if shorter is not None:
            days = np.minimum(days, shorter)
        rows = (ends - days + 1)[:, None] + np.arange(self.length)
        return np.minimum(rows, ends[:, None]), days
