"""The quality table as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from deepfeatures.embed.evaluate.table import TASKS

DPI = 130
"""Dots per inch."""

# of Okabe and Ito, safe for the colour-blind; markers tell regions apart without colour
_STYLES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"), ("#cc79a7", "^"))
_INK, _FAINT, _BAND = "#222222", "#8a8a8a", "#f1f4f7"
_TITLES = {
    "bands": "Bands told",
    "veil": "Moved by what the mask does not know",
    "kept": "Haze, shadow and noise told as if they were land",
    "probes": "Read off by a linear probe",
    "time": "In time",
}
_ROW, _HEAD, _FOOT = 0.24, 0.62, 0.55  # inches
_WORST = -0.25  # R2 below this is drawn at the edge


def draw(table: pd.DataFrame, path: str | PathLike[str], *, subjects: Sequence[str] = ()) -> None:
    """Draw a dot for the mean, a line from least to most, and a faint dot for each place and seed.

    Parameters
    ----------
    table
        From `evaluate`.
    path
        The PNG that is written.
    subjects
        Representations whose names are written in bold.
    """
    regions = list(dict.fromkeys(table["region"]))
    groups = [
        (group, [t for t in TASKS if TASKS[t].group == group and t in set(table["task"])])
        for group in _TITLES
    ]
    groups = [(group, tasks) for group, tasks in groups if tasks]
    names = [_names(table, tasks) for _, tasks in groups]
    heights = [len(n) * _ROW for n in names]
    height = sum(heights) + len(groups) * (_HEAD + _FOOT) + 0.7
    figure = Figure(figsize=(15, height), facecolor="white")
    top = height - 0.7
    for (group, tasks), rows, tall in zip(groups, names, heights, strict=True):
        top -= _HEAD
        grid = GridSpec(
            1, len(tasks), figure=figure, left=0.19, right=0.985, wspace=0.16,
            top=top / height, bottom=(top - tall) / height,
        )  # fmt: skip
        figure.text(
            0.012, (top + 0.36) / height, _TITLES[group], weight="bold", size=11, color=_INK
        )
        for k, task in enumerate(tasks):
            axes = figure.add_subplot(grid[0, k])
            _panel(axes, table[table["task"] == task], task, rows, regions)
            _dress(axes, task, len(rows), ticks=4 if len(tasks) < 5 else 2)
            _label(axes, rows, subjects if k == 0 else None)
        top -= tall + _FOOT
    _legend(figure, regions, height)
    figure.savefig(path, dpi=DPI)


def _names(table: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(table[table["task"].isin(tasks)]["representation"]))


def _panel(
    axes: Axes, part: pd.DataFrame, task: str, names: Sequence[str], regions: Sequence[str]
) -> None:
    """Draw the dots of a task."""
    shift = 0.34 / max(len(regions), 2)
    low = _WORST if TASKS[task].metric == "R2" else -np.inf
    for k in range(0, len(names), 2):
        axes.axhspan(k - 0.5, k + 0.5, color=_BAND, lw=0, zorder=0)
    for i, region in enumerate(regions):
        colour, marker = _STYLES[i % len(_STYLES)]
        away = (i - (len(regions) - 1) / 2) * shift
        for k, name in enumerate(names):
            here = (part["region"] == region) & (part["representation"] == name)
            values = part[here]["value"].to_numpy(float)
            if not len(values):
                continue
            shown = values.clip(low)
            axes.plot([shown.min(), shown.max()], [k + away] * 2, color=colour, lw=1.4, alpha=0.55)
            axes.plot(
                shown, [k + away] * len(shown), marker, color=colour, ms=2.5, alpha=0.45, lw=0
            )
            mean = max(float(values.mean()), low)
            shape = marker if values.mean() >= low else "<"
            axes.plot([mean], [k + away], shape, color=colour, ms=6, mec="white", mew=0.6)


def _dress(axes: Axes, task: str, count: int, *, ticks: int) -> None:
    """Give a panel its limits, its grid and its words."""
    arrow = "more is better →" if TASKS[task].higher else "← less is better"
    axes.set_title(task, size=9.5, color=_INK, pad=4)
    axes.set_xlabel(f"{_unit(task)}\n{arrow}", size=7.5, color=_FAINT, labelpad=2)
    axes.set_ylim(count - 0.5, -0.5)
    if not TASKS[task].higher:
        axes.set_xlim(left=0)
    elif TASKS[task].metric != "R2":
        axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=7.5, colors=_FAINT, length=2)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=ticks)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#bbbbbb")


def _unit(task: str) -> str:
    return TASKS[task].metric.replace("mean absolute error of", "error of")


def _label(axes: Axes, names: Sequence[str], bold: Sequence[str] | None) -> None:
    """Write the names beside the first panel only."""
    axes.set_yticks(range(len(names)), names if bold is not None else [""] * len(names))
    axes.tick_params(axis="y", length=0, labelsize=8.5, labelcolor=_INK)
    for text in axes.get_yticklabels():
        if bold and any(text.get_text() in (name, f"{name} int8") for name in bold):
            text.set_fontweight("bold")


def _legend(figure: Figure, regions: Sequence[str], height: float) -> None:
    figure.text(0.012, 1 - 0.3 / height, "Features and the simple things", weight="bold", size=14,
                color=_INK, va="center")  # fmt: skip
    for i, region in enumerate(regions):
        colour, marker = _STYLES[i % len(_STYLES)]
        figure.text(0.33 + 0.14 * i, 1 - 0.3 / height, region, size=10, color=_INK, va="center")
        figure.text(0.322 + 0.14 * i, 1 - 0.3 / height, "●■◆▲"["osD^".index(marker)], size=10,
                    color=colour, va="center", ha="center")  # fmt: skip
    figure.text(0.985, 1 - 0.3 / height, "large: mean; line: least to most over places and seeds",
                size=9, color=_FAINT, va="center", ha="right")  # fmt: skip
