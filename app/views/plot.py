"""One plot of series: lines that break at gaps, dots, bands, up to three vertical axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    Legend,
    LegendItem,
    LinearAxis,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from app import style

LINKS = {"xs": [], "ys": [], "color": [], "channel": [], "place": [], "dash": []}
DOTS = {
    "time": [], "value": [], "channel": [], "color": [], "fill": [], "state": [], "place": [],
    "marker": [], "size": [],
}  # fmt: skip
BANDS = {"xs": [], "ys": [], "color": [], "channel": [], "kind": []}

SMALL = ".bk-label { font-size: 11px !important; }"
"""For the legend: the theme of the page sets larger letters in the browser."""

MOST_AXES = 3
"""Vertical axes of one plot."""

ALIKE = 1 / 3
"""Channels share an axis if each fills at least this share of it."""

DASHES = ("solid", "8 4", "2 3", "10 3 2 3", "14 4", "4 6", "12 3 2 3 2 3")
"""Lines of the clicked pixel and of the kept ones."""

MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star")
"""Dots of the clicked pixel and of the kept ones."""


@dataclass(frozen=True, eq=False)
class Trace:
    """One channel at one place."""

    channel: str
    place: str
    times: NDArray[np.datetime64]
    values: NDArray[np.floating]
    clear: NDArray[np.bool_]
    color: str
    look: int = 0
    """Position in `DASHES` and `MARKERS`."""


@dataclass(frozen=True, eq=False)
class Band:
    """A range around a channel."""

    channel: str
    kind: str
    times: NDArray[np.datetime64]
    low: NDArray[np.floating]
    high: NDArray[np.floating]
    color: str


def limits(values: NDArray[np.floating]) -> tuple[float, float]:
    """Give the ends of a vertical axis that shows all finite values with some air."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    air = 0.08 * (high - low) or 0.1
    return low - air, high + air


def axes(ranges: Mapping[str, tuple[float, float]]) -> dict[str, int]:
    """Share axes out: channels of similar range stand on the same one, 0 first.

    A channel that finds no axis when `MOST_AXES` are there goes to the one that it fills most.
    """
    members: list[list[tuple[float, float]]] = []
    found: dict[str, int] = {}

    def filled(group: list[tuple[float, float]], one: tuple[float, float]) -> float:
        both = [*group, one]
        whole = max(high for _, high in both) - min(low for low, _ in both)
        return min(high - low for low, high in both) / whole if whole > 0 else 1.0

    for channel, ends in ranges.items():
        shares = [filled(group, ends) for group in members]
        best = int(np.argmax(shares)) if shares else -1
        if best < 0 or (shares[best] < ALIKE and len(members) < MOST_AXES):
            members.append([])
            best = len(members) - 1
        members[best].append(ends)
        found[channel] = best
    return found


def columns(
    traces: Sequence[Trace],
) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[str, Any]]:
    """Lay out series for three glyphs.

    Parameters
    ----------
    traces
        What is drawn.

    Returns
    -------
    (bridges, lines, dots)
        Thin lines over the gaps, lines between neighbouring clear dates, one dot per value.
    """
    bridges, lines, dots = ({k: [] for k in keys} for keys in (LINKS, LINKS, DOTS))
    moments, numbers = [], []
    for one in traces:
        good = one.clear & np.isfinite(one.values)
        dash = DASHES[one.look % len(DASHES)]
        # One line a channel: each array travels alone, and NaN breaks a line at its gaps.
        parts = (
            (bridges, one.times[good], one.values[good]),
            (lines, one.times, np.where(good, one.values, np.nan)),
        )
        for target, xs, ys in parts:
            row = (xs, ys, one.color, one.channel, one.place, dash)
            for key, value in zip(LINKS, row, strict=True):
                target[key].append(value)
        there = np.flatnonzero(np.isfinite(one.values))
        clear = one.clear[there].tolist()
        moments.append(one.times[there])
        numbers.append(one.values[there].astype(np.float64))
        dots["color"].extend([one.color if usable else style.GAP for usable in clear])
        dots["fill"].extend([one.color if usable else style.PAPER for usable in clear])
        dots["size"].extend([5 if usable else 3 for usable in clear])
        dots["state"].extend(["usable" if usable else "not usable" for usable in clear])
        marker = MARKERS[one.look % len(MARKERS)]
        for key, value in (
            ("channel", one.channel), ("place", one.place), ("marker", marker)
        ):  # fmt: skip
            dots[key].extend([value] * there.size)
    if moments:
        dots["time"] = np.concatenate(moments).astype("datetime64[ms]")
        dots["value"] = np.concatenate(numbers)
    return bridges, lines, dots


def outlines(bands: Sequence[Band]) -> dict[str, list[Any]]:
    """Lay bands out as outlines; one that has gaps becomes several."""
    found: dict[str, list[Any]] = {key: [] for key in BANDS}
    for band in bands:
        good = np.flatnonzero(np.isfinite(band.low) & np.isfinite(band.high))
        for run in np.split(good, np.flatnonzero(np.diff(good) > 1) + 1):
            if run.size < 2:
                continue
            times = band.times[run].astype("datetime64[ms]")
            row = (
                np.concatenate([times, times[::-1]]),
                np.concatenate([band.low[run], band.high[run][::-1]]).astype(np.float64),
                band.color, band.channel, band.kind,
            )  # fmt: skip
            for key, value in zip(BANDS, row, strict=True):
                found[key].append(value)
    return found


class Scale:
    """A vertical axis, and the glyphs that stand on it."""

    def __init__(self, plot: figure, hover: HoverTool, name: str, number: int) -> None:
        self.bridges, self.lines = ColumnDataSource(LINKS), ColumnDataSource(LINKS)
        end = f"-{number}" if number else ""
        self.dots = ColumnDataSource(DOTS, name=f"{name}-dots{end}")
        self.bands = ColumnDataSource(BANDS, name=f"{name}-bands{end}")
        if number:
            self.range = Range1d(0, 1)
            self.side = _side(f"y{number}")
            plot.extra_y_ranges = {**plot.extra_y_ranges, f"y{number}": self.range}
            plot.add_layout(self.side, "right")
        else:
            self.range, self.side = plot.y_range, plot.yaxis[0]
        at = {"y_range_name": f"y{number}"} if number else {}
        plot.patches(
            "xs", "ys", source=self.bands, color="color", fill_alpha=0.16, line_alpha=0.35,
            level="underlay", **at,
        )  # fmt: skip
        plot.multi_line(
            "xs", "ys", color="color", source=self.bridges, alpha=0.45, line_dash=[2, 3], **at
        )
        self.drawn = plot.multi_line(
            "xs", "ys", color="color", line_dash="dash", source=self.lines, line_width=2, **at
        )
        points = plot.scatter(
            "time", "value", source=self.dots, size="size", line_color="color", fill_color="fill",
            marker="marker", **at,
        )  # fmt: skip
        hover.renderers = [*hover.renderers, points]

    def show(
        self, traces: Sequence[Trace], bands: Sequence[Band], ends: Sequence[tuple[float, float]]
    ) -> None:
        """Draw other series within some ranges."""
        self.bands.data = outlines(bands)
        self.bridges.data, self.lines.data, self.dots.data = columns(traces)
        low = min((low for low, _ in ends), default=0.0)
        high = max((high for _, high in ends), default=1.0)
        self.range.update(start=low, end=high, reset_start=low, reset_end=high)

    def items(self) -> list[LegendItem]:
        """Give an item of the legend for each channel."""
        first: dict[str, int] = {}
        for i, channel in enumerate(self.lines.data["channel"]):
            first.setdefault(channel, i)
        return [
            LegendItem(label=channel, renderers=[self.drawn], index=i)
            for channel, i in first.items()
        ]


def _side(name: str) -> LinearAxis:
    return LinearAxis(
        y_range_name=name, axis_label="", axis_line_color=style.GRID,
        major_tick_line_color=style.GRID, minor_tick_line_color=None,
        major_label_text_color=style.SOFT, major_label_text_font_size="11px",
        major_label_text_font=style.FONT, axis_label_text_font=style.FONT,
        axis_label_text_color=style.SOFT, axis_label_text_font_size="11px",
        axis_label_text_font_style="normal",
    )  # fmt: skip


class Plot:
    """One plot of series and the sources behind it."""

    def __init__(self, label: str, *, x_range: Range1d, name: str) -> None:
        self.label, self.name = label, name
        self.figure = style.dated(
            style.plain(
                tools="xpan,xwheel_zoom,reset", active_scroll="xwheel_zoom", x_range=x_range,
                x_axis_type="datetime", y_range=Range1d(0, 1), y_axis_label=label, name=name,
            )
        )  # fmt: skip
        tips = [("", "@channel @value{0.0000}"), ("", "@time{%F}, @state"), ("", "@place")]
        self.hover = HoverTool(renderers=[], tooltips=tips, formatters={"@time": "datetime"})
        self.scales = [Scale(self.figure, self.hover, name, 0)]
        self.dots = self.scales[0].dots
        self.now = Span(
            location=0, dimension="height", name=f"{name}-now", line_color=style.ACCENT,
            line_width=2, line_alpha=0.8, editable=True,
            hover_line_color=style.ACCENT, hover_line_alpha=1,
        )  # fmt: skip
        self.figure.add_layout(self.now)
        self.figure.add_tools(self.hover)
        self.legend = Legend(
            orientation="horizontal", location=(0, 0), border_line_color=None, margin=0, padding=2,
            label_text_font_size="11px", label_text_color=style.INK, spacing=8, glyph_width=14,
            label_text_font=style.FONT, label_standoff=3, nrows="auto", ncols="auto",
            stylesheets=[SMALL],
        )  # fmt: skip
        self.figure.add_layout(self.legend, "above")

    def show(
        self, traces: Sequence[Trace], bands: Sequence[Band] = (), *, own: bool = False
    ) -> None:
        """Draw other series; with `own` channels of another range get an axis of their own."""
        ends = {}
        for channel in dict.fromkeys(one.channel for one in traces):
            seen = [one.values[one.clear] for one in traces if one.channel == channel]
            edges = [v for band in bands if band.channel == channel for v in (band.low, band.high)]
            ends[channel] = limits(np.concatenate([*seen, *edges]))
        places = axes(ends) if own else dict.fromkeys(ends, 0)
        used = max(places.values(), default=0) + 1
        while len(self.scales) < used:
            self.scales.append(Scale(self.figure, self.hover, self.name, len(self.scales)))
        for number, scale in enumerate(self.scales):
            here = [channel for channel, place in places.items() if place == number]
            scale.show(
                [one for one in traces if one.channel in here],
                [one for one in bands if one.channel in here],
                [ends[channel] for channel in here],
            )
            scale.side.axis_label = ", ".join(here)[:40] if used > 1 else self.label
            scale.side.visible = number < used
        self.legend.items = [item for scale in self.scales for item in scale.items()]
