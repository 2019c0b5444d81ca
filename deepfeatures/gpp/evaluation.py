"""Models judged by the same scores on the same days: over splits, seeds, sites and subsets."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from deepfeatures import work
from deepfeatures.gpp import baselines, cycle, metrics, training
from deepfeatures.gpp.networks import NETWORKS
from deepfeatures.gpp.splits import SPLITS, Split
from deepfeatures.gpp.towers import Towers

MODELS = (*NETWORKS, *baselines.BASELINES)
"""Names of the models."""

POOLED = "all"
"""Name of the site in rows over all sites."""

ENOUGH_SITES = 10
"""Towers from which on latitude, elevation and vegetation help on a tower that is held out."""

Record = Callable[[str, int, str, NDArray[np.float32]], None]


@dataclass(frozen=True)
class Predictions:
    """What models told of all tested days, and what each of them cost."""

    towers: Towers
    known: NDArray[np.bool_]
    """Days whose GPP models of the split may know; with sites held out, none of theirs."""
    told: dict[tuple[str, int], NDArray[np.float32]]
    """(model, seed) -> GPP ``(day,)``, NaN where it was not tested."""
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    """Time of training and telling [s]."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Model that could not be fitted -> why."""


def predict(
    towers: Towers,
    split: str = "year",
    models: Sequence[str] = MODELS,
    *,
    seeds: int = 1,
    recipe: training.Recipe | None = None,
    only: Sequence[str] | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Fit models on each division of a split and tell its tested days.

    Parameters
    ----------
    towers
        Daily series.
    split
        A key of `deepfeatures.gpp.splits.SPLITS`.
    models
        Names among `MODELS`.
    seeds
        Trainings of each model that depends on chance.
    recipe
        Window, steps and size of the networks.
    only
        Names of the divisions wanted (the towers held out); all by default.
    executor
        Who fits, several at a time (`deepfeatures.work.workers` with processes); None for the
        caller. The result is the same.
    progress
        Called with (fits done, fits).

    Raises
    ------
    ValueError
        If a name is unknown or the towers can not be split so.
    """
    wrong = [name for name in models if name not in MODELS]
    if wrong or not models:
        raise ValueError(f"no model is called {', '.join(wrong)!r}; choose from {list(MODELS)}")
    if split not in SPLITS:
        raise ValueError(f"no split is called {split!r}; choose from {list(SPLITS)}")
    divisions = [one for one in SPLITS[split](towers) if not only or one.name in only]
    if not divisions:
        raise ValueError(f"no tower is called {', '.join(only or [])}; there are {towers.sites}")
    plain = recipe or training.Recipe()
    fair = split == "year" or len(towers.sites) >= ENOUGH_SITES
    plain = replace(plain, statics=plain.statics and fair)
    known = np.ones(len(towers.day), bool)
    for one in divisions:
        known &= ~one.test
    found = Predictions(towers, known, {})
    fits = [
        (model, seed, one)
        for model, one in itertools.product(models, divisions)
        for seed in range(seeds if model in (*NETWORKS, "trees") else 1)
    ]
    fits.sort(key=lambda fit: fit[0] != "gpt")  # the longest first, so that none waits at the end
    calls = [(towers, plain, *fit) for fit in fits]
    made = work.each(_fitted, calls, executor)
    for number, ((model, seed, one), (told, seconds, why)) in enumerate(
        zip(fits, made, strict=True), 1
    ):
        if why:
            found.skipped[model] = why
        else:
            whole = found.told.setdefault(
                (model, seed), np.full(len(towers.day), np.nan, np.float32)
            )
            whole[one.test] = told
            found.seconds[model, seed] = found.seconds.get((model, seed), 0.0) + seconds
        if progress:
            progress(number, len(fits))
    order = sorted(found.told, key=lambda key: (models.index(key[0]), key[1]))
    return replace(found, told={key: found.told[key] for key in order})


@training.one_thread()
def _fitted(
    towers: Towers, recipe: training.Recipe, model: str, seed: int, split: Split
) -> tuple[NDArray[np.float32], float, str]:
    """Give what a model tells of the tested days of one division, the seconds, or why it can not.

    Days that are not usable are told too, never scored.
    """
    rows = np.flatnonzero(split.test)
    start = time.perf_counter()
    if model in NETWORKS:
        own = replace(recipe, kind=model, seed=seed)
        told = training.train(towers, split, own)(towers, rows).mean
    else:
        try:
            fitted = baselines.BASELINES[model]
            told = fitted(towers, split, rows, seed=seed, window=recipe.window)
        except ValueError as error:
            return np.zeros(0, np.float32), 0.0, str(error)
    return told, time.perf_counter() - start, ""


def rows(found: Predictions) -> list[dict[str, Any]]:
    """Give the scores: one row per model, seed, subset and site, sites pooled in `POOLED`.

    NRMSE is RMSE over the range of the observations of the row's own days.
    """
    towers = found.towers
    made: list[dict[str, Any]] = []
    for (model, seed), told in found.told.items():
        tested = np.isfinite(told) & towers.usable
        for subset, days in cycle.subsets(towers, tested, found.known).items():
            parts = {}
            for number in np.unique(towers.site[days]):
                mine = days & (towers.site == number)
                parts[towers.sites[number]] = metrics.sums(towers.gpp[mine], told[mine])
            for site, part in [(POOLED, metrics.merged(parts.values())), *parts.items()]:
                row = {"model": model, "subset": subset, "site": site, "seed": seed}
                seconds = round(found.seconds.get((model, seed), 0.0), 2)
                made.append(row | part.scores() | {"days": part.count, "seconds": seconds})
    return made


def summary(table: Sequence[dict[str, Any]], site: str = POOLED) -> pd.DataFrame:
    """Give mean and spread over seeds of pooled scores, the best R2 of the full year first."""
    frame = pd.DataFrame(table)
    frame = frame[frame["site"] == site]
    groups = frame.groupby(["model", "subset"])
    made = groups[["r2", "rmse", "nrmse", "kge", "bias"]].mean()
    made["r2_spread"] = groups["r2"].std(ddof=0)
    made["rmse_spread"] = groups["rmse"].std(ddof=0)
    made["seeds"] = groups.size()
    full = made.xs("full", level="subset")["r2"].sort_values(ascending=False)
    order = [(m, s) for m in full.index for s in frame["subset"].unique() if (m, s) in made.index]
    return made.loc[order].reset_index()


def median_site(table: Sequence[dict[str, Any]], subset: str = "full") -> pd.DataFrame:
    """Give the median over sites of the scores of each model, seeds averaged before."""
    frame = pd.DataFrame(table)
    frame = frame[(frame["site"] != POOLED) & (frame["subset"] == subset)]
    sites = frame.groupby(["model", "site"])[["r2", "rmse", "nrmse", "kge", "bias"]].mean()
    return sites.groupby("model").median().sort_values("rmse").reset_index()


def paired(found: Predictions, one: str, other: str) -> dict[str, float]:
    """Test whether one model's errors are smaller than another's on the same tower-years.

    Wilcoxon's signed-rank test on the RMSE of each tower and year, seeds averaged: days are not
    independent, years nearly are.

    Returns
    -------
    dict
        ``pairs``, ``difference`` (mean RMSE of the one minus the other), ``p``.
    """
    towers = found.towers
    codes = towers.site.astype(np.int64) * 10_000 + towers.year
    errors = []
    for model in (one, other):
        runs = [told for (name, _), told in found.told.items() if name == model]
        if not runs:
            raise ValueError(f"the model {model!r} was not evaluated")
        squared = np.mean([(told - towers.gpp) ** 2 for told in runs], axis=0)
        errors.append(np.where(towers.usable, squared, np.nan))
    both = np.isfinite(errors[0]) & np.isfinite(errors[1])
    _, group = np.unique(codes[both], return_inverse=True)
    count = np.bincount(group)
    rmse = [np.sqrt(np.bincount(group, error[both]) / count) for error in errors]
    off = rmse[0] - rmse[1]
    p = float(stats.wilcoxon(off).pvalue) if len(off) > 5 and np.any(off) else math.nan
    return {"pairs": len(off), "difference": float(off.mean()), "p": p}


def beside_best(found: Predictions) -> list[dict[str, Any]]:
    """Test the model with the smallest pooled RMSE against each other one, see `paired`.

    Returns
    -------
    list of dict
        ``model, best, pairs, difference`` (mean RMSE of the model minus that of the best), ``p``
        corrected for the number of tests by Holm's method (1979); nothing for one model.
    """
    full = [row for row in rows(found) if row["site"] == POOLED and row["subset"] == "full"]
    means = pd.DataFrame(full).groupby("model")["rmse"].mean().sort_values()
    best, *others = (str(name) for name in means.index)
    tests = [{"model": name, "best": best} | paired(found, name, best) for name in others]
    p = np.array([test["p"] for test in tests])
    order = np.argsort(p)
    held = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    for at, value in zip(order, held, strict=True):
        tests[at]["p"] = float(value)
    return tests
