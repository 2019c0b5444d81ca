"""Figures of the GPP laboratory, drawn without a display as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepfeatures.gpp import cycle
from deepfeatures.gpp.evaluation import POOLED, Predictions

COLOURS = {
    "rnn": "#56b4e9", "gru": "#0072b2", "lstm": "#009e73", "gpt": "#d55e00",
    "climatology": "#999999", "trees": "#cc79a7", "lue": "#e69f00",
}  # fmt: skip
"""Model -> colour, of Okabe and Ito: safe for the colour-blind."""

UNIT = "gC m$^{-2}$ d$^{-1}$"


def scores(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the pooled RMSE of each model on each subset; whiskers are the spread over seeds."""
    frame = pd.DataFrame(rows)
    frame = frame[frame["site"] == POOLED]
    names, subsets = list(frame["model"].unique()), list(frame["subset"].unique())
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        groups = frame[frame["model"] == name].groupby("subset")["rmse"]
        mean, spread = groups.mean()[subsets], groups.std(ddof=0)[subsets]
        at = np.arange(len(subsets)) + (number - (len(names) - 1) / 2) * width
        axes.bar(at, mean, width, yerr=spread, label=name, color=COLOURS[name], capsize=2)
    axes.set_xticks(range(len(subsets)), subsets)
    axes.set_ylabel(f"RMSE [{UNIT}]")
    axes.legend(ncols=len(names), fontsize=8, loc="upper left")
    _save(figure, path)


def course(found: Predictions, path: Path, *, site: str, year: int) -> None:
    """Draw a year of a tower: observed, gap-filled, told by models, the usual year, the lower tail.

    Raises
    ------
    ValueError
        If no model was tested on that year.
    """
    towers = found.towers
    if site not in towers.sites:
        raise ValueError(f"there is no tower {site!r}; choose from {', '.join(towers.sites)}")
    mine = (towers.site == towers.sites.index(site)) & (towers.year == year)
    told = {
        name: np.mean([t[mine] for (n, _), t in found.told.items() if n == name], axis=0)
        for name in dict.fromkeys(name for name, _ in found.told)
    }
    tested = np.isfinite(next(iter(found.told.values()))) & towers.usable
    if not (mine & tested).any():
        raise ValueError(f"{site} was not tested in {year}; choose another year or split")
    days = towers.day[mine].astype("datetime64[D]")
    low = cycle.subsets(towers, tested, found.known)["lower"][mine]
    truth = np.where(towers.usable, towers.gpp, np.nan)[mine]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for day in days[low]:
        axes.axvspan(day, day + np.timedelta64(1, "D"), color="#f0e442", alpha=0.5, lw=0)
    axes.plot(days, truth, "k.", ms=3, label="observed")
    axes.plot(days, np.where(towers.usable, np.nan, towers.gpp)[mine], ".", ms=3, mfc="none",
              mec="#777777", mew=0.5, label="gap-filled")  # fmt: skip
    usual = cycle.reference(towers, found.known)[mine]
    axes.plot(days, usual, color="#999999", lw=2, label="usual year", zorder=1)
    for name, values in told.items():
        if name != "climatology":
            axes.plot(days, values, lw=1, color=COLOURS[name], label=name)
    axes.set_ylabel(f"GPP of {site} [{UNIT}]")
    axes.legend(ncols=4, fontsize=8)
    _save(figure, path)


def context(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the RMSE of networks against the days that they look at, and against the work."""
    frame = pd.DataFrame(rows)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, part in frame.groupby("model", sort=False):
        mean = part.groupby("window")[["rmse", "lower_rmse", "multiply_adds"]].mean()
        colour = COLOURS[str(name)]
        left.plot(mean.index, mean["rmse"], "o-", color=colour, label=name)
        left.plot(mean.index, mean["lower_rmse"], "o--", color=colour, mfc="white")
        right.plot(mean["multiply_adds"], mean["rmse"], "o-", color=colour)
    left.set_xlabel("days looked at (dashed: lower tail)")
    right.set_xlabel("multiply-adds per day told")
    left.set_ylabel(f"RMSE [{UNIT}]")
    left.set_xscale("log")
    right.set_xscale("log")
    left.legend()
    _save(figure, path)


def importance(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw how much the RMSE rises without each group of drivers."""
    frame = pd.DataFrame(rows)
    order = frame[frame["within"] == "anywhere"].groupby("group")["rise"].mean()
    order = order.sort_values()
    models = list(frame["model"].unique())
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(order)), layout="constrained")
    for axes, within in zip(
        figure.subplots(1, 2, sharey=True), ("anywhere", "season"), strict=True
    ):
        for number, name in enumerate(models):
            part = frame[(frame["model"] == name) & (frame["within"] == within)]
            mean = part.groupby("group")["rise"].mean()[order.index]
            height = 0.8 / len(models)
            at = np.arange(len(order)) + (number - (len(models) - 1) / 2) * height
            axes.barh(at, mean, height, color=COLOURS[name], label=name)
        axes.set_yticks(range(len(order)), order.index)
        axes.set_title({"anywhere": "any day", "season": "within 30 days of the year"}[within])
        axes.set_xlabel(f"rise of RMSE [{UNIT}]")
    figure.axes[0].legend(fontsize=8)
    _save(figure, path)


def size(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the skill of compressed models against the share of numbers that they keep."""
    frame = pd.DataFrame(rows).sort_values("share")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in (("cut", "o--"), ("healed", "o-")):
        axes.plot(frame["share"] * 100, frame[f"r2_{name}"], style, color="#d55e00", label=name)
    axes.axhline(frame["r2_before"].iloc[0], color="#999999", label="whole")
    low = min(float(frame["r2_healed"].min()), 0.8)
    axes.set_ylim(max(low - 0.05, 0), 1)
    axes.set_xlabel("numbers kept [%]")
    axes.set_ylabel("R2")
    axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=130)
