"""Groups of pixels that resemble each other: k-means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

MOST = 12
"""Most groups or classes: more colours than that nobody tells apart."""
SAMPLE = 100_000
"""Rows that the centres are looked for in, at most."""
STEP = 200_000
"""Rows that are assigned at once."""
THREADS = 2
"""Threads of the linear algebra; the rest of the processor is for the page."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Pixels in groups, the largest first."""

    codes: NDArray[np.uint8]
    """(row,) 1..k, 0 where the row has no value."""
    centres: NDArray[np.float32]
    """(k, column) mean of each group."""
    counts: NDArray[np.int64]
    """(k,) rows of each group, falling."""


def kmeans(rows: NDArray[np.float32], k: int, seed: int = 0) -> Groups:
    """Divide rows into `k` groups around means (mini-batch k-means; Sculley 2010).

    doi 10.1145/1772690.1772862. The means are found in a sample, then every row goes to the
    nearest one.

    Parameters
    ----------
    rows
        (row, column); rows with NaN belong to no group.
    k
        Number of groups, 2 to `MOST`.
    seed
        Seed of sample and start.

    Raises
    ------
    ValueError
        If `k` is out of range or there are fewer different rows than groups.
    """
    from sklearn.cluster import MiniBatchKMeans  # a second to import

    if not 2 <= k <= MOST:
        raise ValueError(f"{k} groups can not be made; ask for 2 to {MOST}")
    there = np.isfinite(rows).all(axis=1)
    usable = np.ascontiguousarray(rows[there], np.float32)
    rng = np.random.default_rng(seed)
    chosen = usable
    if len(usable) > SAMPLE:
        chosen = usable[rng.choice(len(usable), SAMPLE, replace=False)]
    if len(np.unique(chosen[: 50 * k], axis=0)) < k and len(np.unique(chosen, axis=0)) < k:
        raise ValueError(f"there are fewer than {k} different pixels; ask for fewer groups")
    with threadpool_limits(THREADS):
        found = MiniBatchKMeans(k, n_init=5, batch_size=4096, random_state=seed).fit(chosen)
        parts = [found.predict(usable[at : at + STEP]) for at in range(0, len(usable), STEP)]
    labels = np.concatenate(parts)
    counts = np.bincount(labels, minlength=k)
    order = np.argsort(-counts, kind="stable")
    number = np.empty(k, np.uint8)
    number[order] = np.arange(1, k + 1, dtype=np.uint8)
    codes = np.zeros(len(rows), np.uint8)
    codes[there] = number[labels]
    return Groups(codes, found.cluster_centers_[order].astype(np.float32), counts[order])
