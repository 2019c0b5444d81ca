"""UMAP of a feature cube: fitted to some of its pixel-dates, the others placed between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import latent
from deepfeatures.settings import Workspace
from deepfeatures.space import planes
from deepfeatures.space.sampling import sample, vectors

POLL_SECONDS = 0.25
"""Time between two looks whether the fit was cancelled."""

LIMITS = {
    "points": (50, 200_000),
    "neighbours": (2, 200),
    "epochs": (1, 2_000),
    "seed": (0, 2**31 - 1),
}
"""Smallest and largest value of each setting."""

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How a UMAP is fitted."""

    points: int = 30_000
    """Pixel-dates that it is fitted to; all others are placed between these."""
    neighbours: int = 15
    """Neighbours of a point: few show small groups, many the whole."""
    epochs: int = 200
    """Rounds of the layout."""
    seed: int = 0
    """The same seed gives the same plane."""

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Settings:
        """Check settings from outside.

        Raises
        ------
        ValueError
            If one is unknown, no whole number, or out of its limits.
        """
        names = [field.name for field in fields(cls)]
        for name, value in words.items():
            if name not in names:
                raise ValueError(f"UMAP has no setting {name[:40]!r}; it has {', '.join(names)}")
            low, high = LIMITS[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} is {str(value)[:40]}; give a number from {low} to {high}")
        return cls(**words)


def fit_umap(
    ws: Workspace,
    name: str,
    settings: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> planes.Plane:
    """Fit a UMAP to a feature cube and store the plane with it.

    McInnes, Healy and Melville (2018), arXiv 1802.03426. The layout starts from the principal
    components, so that left and right mean the same as there. Distances are Euclidean in the units
    of the features.

    Parameters
    ----------
    ws
        The workspace.
    name
        A feature cube.
    settings
        The fields of `Settings` that differ from their defaults.
    progress
        Called with percent done and 100.
    cancelled
        Asked a few times a second; a fit that is cancelled ends with its current round.

    Raises
    ------
    InterruptedError
        If it was cancelled; nothing is stored.
    KeyError
        If there is no such cube.
    ValueError
        If it holds no features, a setting is wrong, or too few pixel-dates differ.
    """
    wanted = Settings.of(settings or {})
    report, stop = progress or (lambda _done, _total: None), cancelled or (lambda: False)
    cube = planes.opened(ws, name)
    report(0, 100)
    points = sample(cube, planes.POINTS, seed=wanted.seed)
    table = vectors(cube, points.codes)
    chosen = np.random.default_rng(wanted.seed).permutation(len(table))[: wanted.points]
    known = np.unique(table[chosen], axis=0)
    if len(known) <= wanted.neighbours:
        raise ValueError(
            f"{name!r} has {len(known)} different pixel-dates; "
            f"a UMAP with {wanted.neighbours} neighbours needs more"
        )
    report(5, 100)
    if stop():
        raise InterruptedError("the fit was cancelled")
    axes = latent.Neighbours(known, _layout(known, wanted, report, stop))
    scores = [latent.place(axes, part) for part in np.array_split(table, len(table) // 50_000 + 1)]
    if stop():
        raise InterruptedError("the fit was cancelled")
    made = planes.Plane("umap", cube.version, points, np.concatenate(scores), axes)
    planes.keep(ws, name, made)
    report(100, 100)
    return made


class _Watch:
    """Takes the lines of UMAP's progress bar: reports the rounds, stops when told to."""

    def __init__(self, stopped: threading.Event) -> None:
        self.stopped, self.rounds = stopped, 0

    def write(self, text: str) -> None:
        if self.stopped.is_set():
            raise InterruptedError("the fit was cancelled")
        if text.strip().isdecimal():
            self.rounds = int(text)

    def flush(self) -> None:
        """Do nothing: there is no file behind it."""


def _layout(
    known: NDArray[np.float32], wanted: Settings, report: Report, stop: Callable[[], bool]
) -> NDArray[np.float32]:
    """Lay points out in a thread, so that a cancel is heard while UMAP compiles itself."""
    stopped = threading.Event()
    watch = _Watch(stopped)
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(_fitted(known, wanted, watch))
        except BaseException as error:  # raised again where it is waited for
            result.append(error)

    thread = threading.Thread(target=work, name="umap", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        if stop():
            stopped.set()
            raise InterruptedError("the fit was cancelled")
        report(20 + 70 * watch.rounds // wanted.epochs if watch.rounds else 5, 100)
    if isinstance(result[0], BaseException):
        raise result[0]
    scores: NDArray[np.float32] = result[0]
    return scores


def _fitted(known: NDArray[np.float32], wanted: Settings, watch: _Watch) -> NDArray[np.float32]:
    from umap import UMAP  # compiles itself; only a worker ever gets here

    start = latent.place(latent.pca(known, min(2, known.shape[1])), known)
    bar = {"file": watch, "disable": False, "bar_format": "{n_fmt}", "mininterval": 0.2}
    model = UMAP(
        n_neighbors=wanted.neighbours, n_epochs=wanted.epochs, init=start, tqdm_kwds=bar,
        random_state=wanted.seed, n_jobs=1,
    )  # fmt: skip
    return np.asarray(model.fit_transform(known), np.float32)
