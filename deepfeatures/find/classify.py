"""Classes from a few clicked pixels: training, honest validation, maps with probabilities.

What is trained lives as long as the call: nothing of it is written, as samples and settings are
enough to make it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from deepfeatures.find.clusters import STEP, THREADS

FOLDS = 5
"""Most parts that the blocks are dealt into."""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the training labels that the learning curve is drawn at."""
Rows = NDArray[np.float32]
Codes = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Validation:
    """How well labels are told that lie away from those that were learned from."""

    accuracy: float
    """Share of the labels that were told rightly, 0..1; NaN if it could not be asked."""
    confusion: NDArray[np.int64]
    """(class, class) labels of a class (row) that were told as another (column)."""
    learning: tuple[tuple[float, float], ...]
    """(mean number of training labels, accuracy), rising number."""
    blocks: int
    """Groups of neighbouring labels, of which none was on both sides."""
    note: str
    """One sentence: how it was validated, or why it could not be."""


def blocks(places: NDArray[np.floating], gap: float) -> NDArray[np.int32]:
    """Put labels that are near each other into one block.

    Neighbouring pixels are alike, so a label beside one that was learned from tells nothing
    (Roberts et al. 2017, doi 10.1111/ecog.02881).

    Parameters
    ----------
    places
        (label, 2) coordinates [m].
    gap
        Labels not farther apart than this are in the same block [m].

    Returns
    -------
    numpy.ndarray
        (label,) number of the block, from 0.
    """
    pairs = cKDTree(places).query_pairs(gap, output_type="ndarray")
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(places),) * 2)
    return connected_components(graph, directed=False)[1]


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=500)


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=3, weights="distance")


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, min_samples_leaf=2, random_state=0, n_jobs=1)


METHODS: dict[str, Callable[[], Any]] = {
    "logistic": _logistic,
    "neighbours": _neighbours,
    "forest": _forest,
}
"""Name of a classifier to what makes an untrained one."""


def train(samples: Rows, codes: Codes, method: str = "logistic") -> Any:
    """Train a classifier on labelled rows.

    Parameters
    ----------
    samples
        (label, column), finite.
    codes
        (label,) class 1..k.
    method
        One of `METHODS`.

    Raises
    ------
    ValueError
        If the method is unknown, or a class has no sample.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method not in METHODS:
        raise ValueError(f"{method[:40]!r} is no classifier; choose {', '.join(METHODS)}")
    if len(np.unique(codes)) < 2:
        raise ValueError("the usable labels name fewer than two classes; label a second one")
    model = METHODS[method]()
    if method == "neighbours":
        model.set_params(n_neighbors=min(3, len(codes)))
    with threadpool_limits(THREADS):
        return make_pipeline(StandardScaler(), model).fit(samples, codes)


def predict(model: Any, rows: Rows, k: int) -> tuple[NDArray[np.uint8], Rows]:
    """Classify rows.

    Parameters
    ----------
    model
        From `train`.
    rows
        (row, column); rows with NaN have no class.
    k
        Number of classes.

    Returns
    -------
    (codes, probabilities)
        (row,) 1..k, 0 where a row has NaN; (k, row) with NaN there, summing to one elsewhere.
    """
    there = np.flatnonzero(np.isfinite(rows).all(axis=1))
    codes = np.zeros(len(rows), np.uint8)
    chances = np.full((k, len(rows)), np.nan, np.float32)
    known = np.asarray(model.classes_, np.int64)
    for at in range(0, len(there), STEP):
        part = there[at : at + STEP]
        with threadpool_limits(THREADS):
            found = model.predict_proba(rows[part])
        codes[part] = known[found.argmax(axis=1)]
        chances[:, part] = 0
        for column, code in enumerate(known):
            chances[code - 1, part] = found[:, column]
    return codes, chances


def validate(
    samples: Rows, codes: Codes, block: Codes, *, k: int, method: str = "logistic", seed: int = 0
) -> Validation:
    """Ask a classifier for labels of blocks that it was not trained on.

    Parameters
    ----------
    samples, codes
        As `train`.
    block
        (label,) block of each label, from `blocks`.
    k
        Number of classes.
    method, seed
        Classifier, and seed of the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    present = np.unique(codes)
    count = min((len(np.unique(block[codes == code])) for code in present), default=0)
    nothing = np.zeros((k, k), np.int64)
    total = len(np.unique(block))
    if count < 2:
        return Validation(
            float("nan"), nothing, (), total,
            "Not validated: label every class at two or more places away from each other.",
        )  # fmt: skip
    folds = StratifiedGroupKFold(min(FOLDS, count), shuffle=True, random_state=seed)
    told = np.zeros(len(codes), np.int64)
    curve: dict[float, list[tuple[int, int, int]]] = {share: [] for share in SHARES}
    for learn, ask in folds.split(samples, codes, block):
        for share in SHARES:
            part = _share(learn, codes, block, share, seed)
            if len(np.unique(codes[part])) < 2:
                continue
            guess = train(samples[part], codes[part], method).predict(samples[ask])
            curve[share].append((len(part), int((guess == codes[ask]).sum()), len(ask)))
            if share == 1.0:
                told[ask] = guess
    asked = told > 0
    np.add.at(nothing, (codes[asked] - 1, told[asked] - 1), 1)
    return Validation(
        accuracy=float((told == codes)[asked].mean()) if asked.any() else float("nan"),
        confusion=nothing,
        learning=tuple(_point(found) for found in curve.values() if found),
        blocks=total,
        note=f"Validated on {folds.get_n_splits()} folds of {total} blocks; neighbouring labels "
        "are never on both sides.",
    )


def _point(found: list[tuple[int, int, int]]) -> tuple[float, float]:
    learned, right, asked = np.array(found).T
    return float(learned.mean()), float(right.sum() / asked.sum())


def _share(learn: Codes, codes: Codes, block: Codes, share: float, seed: int) -> Codes:
    """Keep whole blocks of the training labels up to a share, at least one of each class."""
    if share >= 1:
        return learn
    order = np.random.default_rng(seed).permutation(np.unique(block[learn]))
    first = [next(b for b in order if (codes[learn][block[learn] == b] == code).any())
             for code in np.unique(codes[learn])]  # fmt: skip
    wanted = list(dict.fromkeys([*first, *order]))
    kept = wanted[: max(len(set(first)), round(share * len(order)))]
    return learn[np.isin(block[learn], kept)]
