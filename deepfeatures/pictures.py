"""Pictures for people, made with matplotlib and without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from scipy.cluster import hierarchy

from deepfeatures.collinearity import Collinearity, tree

DPI = 150
"""Dots per inch of a picture."""

_CELLS = 13.0  # inches that the cells of a matrix take up, unless they get too small or large
_SMALLEST, _LARGEST = 0.112, 0.42  # edge of a cell
_TREE, _BARS, _LEGEND = 1.6, 2.8, 0.95  # widths, and the height of the legend
_TOP, _EDGE = 1.75, 0.3  # margins
_LONGEST = 24  # characters of a name that are shown
_INK, _FAINT, _RULE = "#222222", "#6b6b6b", "#e4e4e4"
_KEPT, _DROPPED, _RANKS = "#009e73", "#cdcdcd", "#333333"  # the green of Okabe and Ito
# of ColorBrewer: diverging, safe for the colour-blind; without its ends, which are nearly black
_MAP = ListedColormap(colormaps["RdBu_r"](np.linspace(0.05, 0.95, 256)))
_LAST, _BEYOND = 1e8, 2e9  # end of the axis of VIF, and where what is infinite is drawn


def collinearity(found: Collinearity, path: Path, *, title: str, note: str) -> None:
    """Draw correlations as a clustered matrix and, beside it, the variance inflation.

    Below the diagonal stand Pearson's correlations, above it Spearman's. Channels are in the order
    of the dendrogram of ``1 - |rank correlation|``; boxes on the diagonal are groups of near-equal
    channels. Bars are the VIF of values, dots that of ranks; names of kept channels are bold.

    Parameters
    ----------
    found
        The analysis.
    path
        The PNG that is written.
    title, note
        What is written above it.
    """
    names = [_short(name) for name in found.names]
    cell = min(max(_CELLS / len(names), _SMALLEST), _LARGEST)
    side, points = len(names) * cell, min(cell * 72 * 0.8, 11.0)
    label = 0.15 + max(map(len, names)) * points * 0.68 / 72
    left, foot = _EDGE + _TREE, _EDGE + max(label, _LEGEND)
    width, height = left + side + label + _BARS + _EDGE, foot + side + _TOP
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes(start: float, across: float, bottom: float = foot, up: float = side) -> Axes:
        return figure.add_axes((start / width, bottom / height, across / width, up / height))

    drawn = hierarchy.dendrogram(tree(found.spearman.correlation), no_plot=True)
    order = [int(leaf) for leaf in drawn["leaves"]]
    _draw_tree(axes(_EDGE, _TREE), drawn, len(names))
    image = _draw_matrix(axes(left, side), found, order, names, points)
    _draw_bars(axes(left + side + label, _BARS), found, order, points)
    _draw_scale(axes(_EDGE, _TREE - 0.25, foot - 0.45, 0.1), image)
    for text, size, colour, below in ((title, 17, _INK, 0.5), (note, 10.5, _FAINT, 0.62)):
        side_of_line = "bottom" if colour == _INK else "top"
        figure.text(
            _EDGE / width, 1 - below / height, text, fontsize=size, color=colour,
            va=side_of_line, linespacing=1.5,
        )  # fmt: skip
    figure.savefig(path, dpi=DPI)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\u2026"


def _draw_tree(axes: Axes, drawn: dict[str, Any], count: int) -> None:
    # the square root opens the many forks near zero
    for depths, places in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        rows = (np.asarray(places) - 5) / 10
        axes.plot(np.sqrt(depths), rows, color=_FAINT, linewidth=0.7, solid_capstyle="round")
    axes.set(xlim=(1.02, -0.01), ylim=(count - 0.5, -0.5))
    axes.axis("off")


def _draw_matrix(
    axes: Axes, found: Collinearity, order: list[int], names: list[str], points: float
) -> AxesImage:
    both = np.where(
        np.tri(len(order), dtype=bool),
        found.pearson.correlation[np.ix_(order, order)],
        found.spearman.correlation[np.ix_(order, order)],
    )
    image = axes.imshow(both, cmap=_MAP, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(order)), [names[at] for at in order], rotation=90, fontsize=points)
    axes.set_yticks(range(len(order)), [names[at] for at in order], fontsize=points)
    axes.yaxis.tick_right()
    axes.tick_params(length=0, pad=2.5)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for at, label in zip(order, labels, strict=True):
            kept = found.names[at] in found.pearson.kept
            label.set(color=_INK if kept else _FAINT, fontweight="bold" if kept else "normal")
    for group in found.spearman.groups:
        rows = [row for row, at in enumerate(order) if found.names[at] in group]
        if rows[-1] - rows[0] + 1 == len(rows):  # the tree may part them
            corner, edge = (rows[0] - 0.5, rows[0] - 0.5), len(rows)
            axes.add_patch(Rectangle(corner, edge, edge, fill=False, ec="white", lw=1.1))
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _draw_bars(axes: Axes, found: Collinearity, order: list[int], points: float) -> None:
    rows = np.arange(len(order))
    vif, ranks = found.pearson.vif[order], found.spearman.vif[order]
    kept = np.array([found.names[at] in found.pearson.kept for at in order])
    lengths = np.where(np.isinf(vif), _BEYOND, vif) - 1
    labels = ("of values, kept", "of values, dropped")
    for part, colour, label in zip((kept, ~kept), (_KEPT, _DROPPED), labels, strict=True):
        axes.barh(rows[part], lengths[part], left=1, height=0.74, color=colour, label=label)
    axes.scatter(
        np.where(np.isinf(ranks), _BEYOND, ranks), rows, s=points * 1.4, color=_RANKS, zorder=3,
        linewidths=0, label="of ranks",
    )  # fmt: skip
    axes.axvline(found.threshold, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.axvspan(_LAST, _BEYOND / 2.2, color="white", zorder=2)  # the axis is broken here
    axes.set(xscale="log", xlim=(1, _BEYOND * 1.3), ylim=(len(order) - 0.5, -0.5), yticks=[])
    powers = range(2, 9, 2)
    words = ["1", *(f"$10^{power}$" for power in powers), "\u221e"]
    axes.set_xticks([1, *(10.0**power for power in powers), _BEYOND], words, fontsize=9)
    axes.minorticks_off()
    axes.tick_params(length=0, top=True, labeltop=True, labelcolor=_FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=_RULE, linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("Variance inflation", fontsize=10.5, color=_INK, loc="left", pad=8)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.12, 0), fontsize=9, labelcolor=_FAINT, frameon=False,
        borderpad=0, borderaxespad=2.6, handlelength=1.2,
    )  # fmt: skip


def _draw_scale(axes: Axes, image: AxesImage) -> None:
    figure = axes.figure
    assert figure is not None
    bar = figure.colorbar(image, cax=axes, orientation="horizontal", ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=_FAINT, pad=3)
    axes.set_title("Correlation", fontsize=10.5, color=_INK, pad=5)
