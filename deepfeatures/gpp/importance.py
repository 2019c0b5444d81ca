"""What a GPP model rests on: groups of drivers taken from it, and gradients along a way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepfeatures import work
from deepfeatures.gpp import cycle, metrics, readers, splits, training
from deepfeatures.gpp.batches import batch
from deepfeatures.gpp.networks import last
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.towers import Towers
from deepfeatures.gpp.windows import Windows

SEASON = 30
"""Days of the year within which windows change places when the season is kept."""

WAY = 32
"""Points on the way from no information to the input, for integrated gradients."""


def permutation(
    model: Predictor,
    towers: Towers,
    rows: NDArray[np.int64],
    *,
    repeats: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Give how much the RMSE rises where a group of drivers comes from other windows.

    All drivers of a group move together (correlated ones would otherwise stand in for each
    other), with the whole window. ``anywhere`` takes windows from any day of any tower; ``season``
    only from the same 30 days of the year, so that what the calendar tells is kept.

    Returns
    -------
    list of dict
        ``group, within, rise`` [gC m-2 d-1], mean of the repeats, and ``spread`` over them.
    """
    prepared, random = model.prepare(towers), np.random.default_rng(seed)
    windows = Windows(towers, rows, model.card.window)
    some = batch(prepared, np.nan_to_num(towers.gpp), windows, np.arange(len(rows)))
    before = _rmse(model, some.values, some.length, towers.gpp[rows])
    bins = {"anywhere": np.zeros(len(rows), int), "season": towers.of_year[rows] // SEASON}
    made = []
    for group, columns in readers.groups(model.card.drivers).items():
        for within, label in bins.items():
            rises = []
            for _ in range(repeats):
                order = _shuffled(label, random)
                values = some.values.clone()
                values[:, :, columns] = some.values[order][:, :, columns]
                rises.append(_rmse(model, values, some.length, towers.gpp[rows]) - before)
            made.append(
                {"group": group, "within": within, "rise": float(np.mean(rises)),
                 "spread": float(np.std(rises))}
            )  # fmt: skip
    return made


def _shuffled(label: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    order = np.arange(len(label))
    for one in np.unique(label):
        mine = np.flatnonzero(label == one)
        order[mine] = random.permutation(mine)
    return order


def _rmse(
    model: Predictor, values: torch.Tensor, length: torch.Tensor, gpp: NDArray[np.float32]
) -> float:
    centre, spread = model.card.target
    with torch.inference_mode():
        parts = [
            last(model.module(v)[0], n)[:, 0]
            for v, n in zip(values.split(2048), length.split(2048), strict=True)
        ]
    return metrics.sums(gpp, torch.cat(parts).numpy() * spread + centre).rmse


def gradients(
    model: Predictor, towers: Towers, rows: NDArray[np.int64], *, points: int = WAY
) -> NDArray[np.float32]:
    """Give integrated gradients ``(row, day, channel)`` [gC m-2 d-1] (arXiv:1703.01365).

    The way begins where every channel has its training mean. The sum over days and channels is
    what the model tells minus what it tells of means only, up to the coarseness of the way.
    """
    windows = Windows(towers, rows, model.card.window)
    some = batch(model.prepare(towers), np.zeros(len(towers.day), np.float32), windows,
                 np.arange(len(rows)))  # fmt: skip
    total = torch.zeros_like(some.values)
    for point in (torch.arange(points) + 0.5) / points:
        values = (some.values * point).requires_grad_()
        out, _ = model.module(values)
        (slope,) = torch.autograd.grad(last(out, some.length)[:, 0].sum(), values)
        total += slope
    found: NDArray[np.float32] = (total / points * some.values).detach().numpy()
    return found * np.float32(model.card.target[1])


def by_group(model: Predictor, found: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Give the mean size of the gradients of each group, and the share of the last seven days."""
    made = []
    for group, columns in readers.groups(model.card.drivers).items():
        part = found[:, :, columns].sum(axis=2)
        size = float(np.abs(part.sum(axis=1)).mean())
        total = float(np.abs(part).sum())
        recent = float(np.abs(part[:, -7:]).sum()) / total if total else 0.0
        made.append({"group": group, "attribution": size, "last_week": recent})
    return made


def compare(
    towers: Towers,
    kinds: Sequence[str],
    recipe: training.Recipe,
    *,
    seeds: int = 1,
    most: int = 4000,
    executor: Executor | None = None,
    progress: Any = None,
) -> list[dict[str, Any]]:
    """Train networks in the split by year and ask each what it rests on, on its tested days.

    Returns
    -------
    list of dict
        What `permutation` and `by_group` give, with ``model`` and ``seed``; at most `most` days
        are asked, evenly spaced.
    """
    plans = [replace(recipe, kind=kind, seed=seed) for kind in kinds for seed in range(seeds)]
    calls = [(towers, plan, most) for plan in plans]
    made: list[dict[str, Any]] = []
    for number, found in enumerate(work.each(_asked, calls, executor), 1):
        made += found
        if progress:
            progress(number, len(plans))
    return made


@training.one_thread()
def _asked(towers: Towers, recipe: training.Recipe, most: int) -> list[dict[str, Any]]:
    """Train one network and give what it rests on."""
    split = splits.by_year(towers)[0]
    rows = np.flatnonzero(split.test & towers.usable)
    rows = rows[:: max(1, -(-len(rows) // most))]
    model = training.train(towers, split, recipe)
    slopes = {one["group"]: one for one in by_group(model, gradients(model, towers, rows[::4]))}
    return [
        {"model": recipe.kind, "seed": recipe.seed} | one | slopes[one["group"]]
        for one in permutation(model, towers, rows, seed=recipe.seed)
    ]


def context(
    towers: Towers,
    kinds: Sequence[str],
    lengths: Sequence[int],
    recipe: training.Recipe,
    *,
    seeds: int = 1,
    executor: Executor | None = None,
    progress: Any = None,
) -> list[dict[str, Any]]:
    """Train networks anew with windows of several lengths, in the split by year.

    Returns
    -------
    list of dict
        ``model, window, seed, r2, rmse, lower_rmse, multiply_adds`` (of one day told),
        ``parameters``.
    """
    plans = [
        replace(recipe, kind=kind, window=length, seed=seed)
        for length in sorted(lengths, reverse=True)  # the longest take the most time
        for kind in kinds
        for seed in range(seeds)
    ]
    made = []
    calls = [(towers, plan) for plan in plans]
    for number, found in enumerate(work.each(_looked, calls, executor), 1):
        made.append(found)
        if progress:
            progress(number, len(plans))
    return sorted(made, key=lambda row: (kinds.index(row["model"]), row["window"], row["seed"]))


@training.one_thread()
def _looked(towers: Towers, recipe: training.Recipe) -> dict[str, Any]:
    """Train one network and give its skill and cost."""
    split = splits.by_year(towers)[0]
    tested = split.test & towers.usable
    rows = np.flatnonzero(tested)
    lower = cycle.subsets(towers, tested, split.known)["lower"][rows]
    model = training.train(towers, split, recipe)
    told = model(towers, rows).mean
    scores = metrics.sums(towers.gpp[rows], told)
    tail = metrics.sums(towers.gpp[rows][lower], told[lower])
    return {
        "model": recipe.kind, "window": recipe.window, "seed": recipe.seed, "r2": scores.r2,
        "rmse": scores.rmse, "lower_rmse": tail.rmse,
        "multiply_adds": model.multiply_adds(recipe.window), "parameters": model.parameters,
    }  # fmt: skip
