"""The figures of the GPP laboratory: series with extremes, residuals, scatter, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d, Span
from bokeh.plotting import figure
from numpy.typing import NDArray

from app import style
from app.reads.gpp import Shown

UNIT = "gC m⁻² d⁻¹"
LOWER, UPPER = "#e69f0052", "#56b4e947"
"""Colours behind days of unusually little and unusually much GPP; they let the paper through."""

SEEN, FAR = style.LINE, "#d1490f"
"""Colours of observations, and of days that are out of domain."""

DAY = 86_400_000
"""Milliseconds of a day."""


def moments(days: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give days since 1970-01-01 as a time axis takes them [ms]."""
    return days.astype(np.float64) * DAY


def colours(models: Sequence[str]) -> dict[str, str]:
    """Give the colour of each model."""
    return {name: style.SERIES[n % len(style.SERIES)] for n, name in enumerate(models)}


class Course:
    """Observed and predicted GPP through time, bands of uncertainty, shaded extremes."""

    def __init__(self, x_range: Range1d) -> None:
        self.figure = style.dated(
            style.plain(
                tools="xpan,xwheel_zoom,reset", active_scroll="xwheel_zoom", x_range=x_range,
                y_range=Range1d(0, 1), x_axis_type="datetime", y_axis_label=f"GPP [{UNIT}]",
                name="gpp", sizing_mode="stretch_width", height=300,
            )
        )  # fmt: skip
        self.shades = ColumnDataSource({"x0": [], "x1": [], "color": []}, name="gpp-extremes")
        self.bands = ColumnDataSource({"xs": [], "ys": [], "color": []}, name="gpp-bands")
        self.before = ColumnDataSource({"xs": [], "ys": [], "color": []}, name="gpp-before")
        self.told = ColumnDataSource(
            {"xs": [], "ys": [], "color": [], "model": []}, name="gpp-told"
        )
        self.season = ColumnDataSource({"x": [], "y": []}, name="gpp-season")
        self.seen = ColumnDataSource({"x": [], "y": [], "fill": [], "state": []}, name="gpp-seen")
        self.far = ColumnDataSource({"x": [], "y": []}, name="gpp-far")
        self._before: list[tuple[str, str]] | None = None
        self._draw()

    def _draw(self) -> None:
        fig = self.figure
        fig.vstrip(
            x0="x0", x1="x1", source=self.shades, fill_color="color", line_color=None,
            level="underlay",
        )  # fmt: skip
        fig.patches("xs", "ys", source=self.bands, color="color", fill_alpha=0.13, line_alpha=0)
        fig.line("x", "y", source=self.season, color=style.GAP, line_dash="dashed", line_width=1.5)
        seen = fig.scatter(
            "x", "y", source=self.seen, size=4, line_color=SEEN, fill_color="fill", line_width=0.9,
        )  # fmt: skip
        fig.multi_line(
            "xs", "ys", source=self.before, color="color", line_dash=[2, 3], line_alpha=0.8
        )
        fig.multi_line("xs", "ys", source=self.told, color="color", line_width=1.8)
        fig.scatter("x", "y", source=self.far, marker="dash", size=6, line_width=3, color=FAR)
        fig.add_tools(
            HoverTool(
                renderers=[seen], formatters={"@x": "datetime"},
                tooltips=[("", "@x{%F}, @state"), ("observed", f"@y{{0.00}} {UNIT}")],
            )
        )  # fmt: skip

    def begin(self, shown: Shown) -> None:
        """Draw what does not depend on any model: observations, usual season, extremes."""
        x = moments(shown.days)
        self.shades.data = shades(shown)
        self.season.data = {"x": x, "y": shown.season}
        there = np.isfinite(shown.observed)
        usable = shown.usable[there].tolist()
        self.seen.data = {
            "x": x[there], "y": shown.observed[there],
            "fill": [SEEN if good else style.PAPER for good in usable],
            "state": ["counts as truth" if good else "gap-filled, not scored" for good in usable],
        }  # fmt: skip
        self._fit(0.0, 1e-3)
        self._before = None

    def show(self, shown: Shown, color: Mapping[str, str]) -> None:
        """Draw what models tell."""
        x, answer = moments(shown.days), shown.answer
        told = {name: answer.told[name] for name in color if name in answer.told}
        names = list(told)
        self.bands.data = {
            "xs": [np.concatenate([x, x[::-1]])] * len(names),
            "ys": [np.concatenate([one.low, one.high[::-1]]) for one in told.values()],
            "color": [color[name] for name in names],
        }
        self.told.data = {
            "xs": [x] * len(names), "ys": [one.mean for one in told.values()],
            "color": [color[n] for n in names], "model": names,
        }  # fmt: skip
        changed = [n for n in names if told[n] is not answer.usual[n]]
        if self._before != (before := [(n, color[n]) for n in changed]):  # else it is there already
            self._before = before
            self.before.data = {
                "xs": [x] * len(changed), "ys": [answer.usual[n].mean for n in changed],
                "color": [color[n] for n in changed],
            }  # fmt: skip
        self._limits(shown, [v for one in told.values() for v in (one.low, one.high)])
        far = np.zeros(len(x), bool)
        for name in names:
            far |= answer.distance[name] > 1
        low = self.figure.y_range.start
        marks = {"x": x[far], "y": np.full(int(far.sum()), low + 0.02 * abs(low or 1))}
        if far.any() or len(self.far.data["x"]):
            self.far.data = marks

    def _limits(self, shown: Shown, edges: list[NDArray[Any]]) -> None:
        values = np.concatenate([shown.observed[shown.usable], *edges, [0.0]])
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        air = 0.04 * max(high - low, 1.0)
        span = self.figure.y_range
        # a scale that jumps with each step of a slider hides what the step does
        if low - air < span.start or high + air > span.end or high < 0.6 * span.end:
            self._fit(low - air, high + air)

    def _fit(self, low: float, high: float) -> None:
        self.figure.y_range.update(start=low, end=high, reset_start=low, reset_end=high)


def shades(shown: Shown) -> dict[str, list[Any]]:
    """Lay the times of extremes out that are within the period."""
    first, last = int(shown.days[0]), int(shown.days[-1])
    found: dict[str, list[Any]] = {"x0": [], "x1": [], "color": []}
    for tail, color in (("lower", LOWER), ("upper", UPPER)):
        for start, end in shown.site.extremes[tail]:
            if end >= first and start <= last:
                found["x0"].append((max(start, first) - 0.5) * DAY)
                found["x1"].append((min(end, last) + 0.5) * DAY)
                found["color"].append(color)
    return found


class Lines:
    """Residuals of each model, or how far the models are apart, below the same time axis."""

    def __init__(self, x_range: Range1d, name: str, label: str) -> None:
        self.figure = style.dated(
            style.plain(
                tools="xpan,xwheel_zoom,reset", x_range=x_range, x_axis_type="datetime",
                y_axis_label=label, name=name, sizing_mode="stretch_width", height=210,
            )
        )  # fmt: skip
        self.source = ColumnDataSource({"xs": [], "ys": [], "color": []}, name=f"{name}-lines")
        self.figure.add_layout(Span(location=0, dimension="width", line_color=style.GAP))
        self.figure.multi_line("xs", "ys", source=self.source, color="color", line_width=1.4)

    def show(
        self, days: NDArray[np.int64], lines: Mapping[str, NDArray[Any]], color: Mapping[str, str]
    ) -> None:
        """Draw a line for each name."""
        x = moments(days)
        self.source.data = {
            "xs": [x] * len(lines), "ys": [np.asarray(v, np.float64) for v in lines.values()],
            "color": [color[name] for name in lines],
        }  # fmt: skip


class Scatter:
    """Predicted against observed GPP of the days of the window."""

    def __init__(self) -> None:
        self.figure = style.plain(
            tools="pan,wheel_zoom,reset", name="gpp-scatter", sizing_mode="stretch_width",
            height=260, x_axis_label=f"Observed GPP [{UNIT}]",
            y_axis_label=f"Predicted [{UNIT}]", x_range=Range1d(0, 1), y_range=Range1d(0, 1),
        )  # fmt: skip
        self.dots = ColumnDataSource({"x": [], "y": [], "color": []}, name="gpp-pairs")
        self.even = ColumnDataSource({"x": [], "y": []})
        self.figure.line("x", "y", source=self.even, color=style.GAP, line_dash="dashed")
        self.figure.scatter(
            "x", "y", source=self.dots, size=4, color="color", fill_alpha=0.45, line_alpha=0
        )

    def show(self, shown: Shown, inside: NDArray[np.bool_], color: Mapping[str, str]) -> None:
        """Draw the usable days inside the window."""
        names = [name for name in color if name in shown.answer.told]
        mine = inside & shown.usable
        x = np.tile(shown.observed[mine], len(names)) if names else np.zeros(0)
        told = [shown.answer.told[name].mean[mine] for name in names]
        y = np.concatenate(told) if told else np.zeros(0)
        marks = [color[name] for name in names for _ in range(int(mine.sum()))]
        self.dots.data = {"x": x, "y": y, "color": marks}
        if not x.size:
            return
        low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
        air = 0.04 * max(high - low, 1.0)
        for axis in (self.figure.x_range, self.figure.y_range):
            axis.update(start=low - air, end=high + air)
        self.even.data = {"x": [low, high], "y": [low, high]}


class Bars:
    """How much worse each model is without a group of drivers."""

    def __init__(self) -> None:
        self.source = ColumnDataSource({"at": [], "rise": [], "color": []}, name="gpp-importance")
        self.figure = style.plain(
            tools="", name="gpp-bars", sizing_mode="stretch_width", height=260,
            x_range=FactorRange(), y_axis_label=f"Rise of RMSE [{UNIT}]",
        )  # fmt: skip
        self.figure.vbar(
            x="at", top="rise", source=self.source, width=0.85, color="color", line_color=None
        )
        self.figure.xgrid.visible = False
        axis = self.figure.xaxis[0]
        axis.major_label_text_font_size = "0px"  # the colours say which model it is
        axis.major_tick_line_color = None
        axis.group_text_color, axis.group_text_font_size = style.LINE, "12px"
        axis.group_text_font, axis.separator_line_color = style.FONT, style.GRID
        axis.group_text_font_style = "normal"

    def show(self, found: Mapping[str, list[dict[str, Any]]], color: Mapping[str, str]) -> None:
        """Draw the groups, the one that matters most to all first."""
        rises: dict[str, dict[str, float]] = {}
        for model, rows in found.items():
            for row in rows:
                rises.setdefault(row["group"], {})[model] = row["rise"]
        order = sorted(rises, key=lambda group: -float(np.mean(list(rises[group].values()))))
        at = [(group, model) for group in order for model in rises[group]]
        self.figure.x_range.factors = at
        self.source.data = {
            "at": at, "rise": [rises[group][model] for group, model in at],
            "color": [color.get(model, style.GAP) for _, model in at],
        }  # fmt: skip


def plain(fig: figure) -> figure:
    """Leave the mouse wheel to the page."""
    fig.toolbar.active_scroll = None
    return fig
