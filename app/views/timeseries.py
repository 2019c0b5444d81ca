"""The series of the clicked pixel: chosen indices above, all features below, one time axis."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import panel as pn
import param
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, HoverTool, Legend, LegendItem, Range1d, Span

from app import offers, style, work
from app.fields import Picker
from app.state import MOST_SERIES, State

LINKS = {"xs": [], "ys": [], "color": [], "channel": []}
DOTS = {"time": [], "value": [], "channel": [], "color": [], "fill": [], "state": []}


def limits(values: np.ndarray) -> tuple[float, float]:
    """Give the ends of a vertical axis that shows all finite values with some air."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    air = 0.08 * (high - low) or 0.1
    return low - air, high + air


def columns(
    times: np.ndarray, table: dict[str, np.ndarray], clear: np.ndarray
) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[str, list[Any]]]:
    """Lay out series for three glyphs.

    Parameters
    ----------
    times
        Dates (time,).
    table
        Channel to values (time,).
    clear
        Whether the pixel is usable (time,).

    Returns
    -------
    (bridges, lines, dots)
        Thin lines over the gaps, lines between neighbouring clear dates, one dot per value.
    """
    bridges, lines, dots = ({k: [] for k in keys} for keys in (LINKS, LINKS, DOTS))
    for i, (channel, values) in enumerate(table.items()):
        color = style.SERIES[i % len(style.SERIES)]
        good = clear & np.isfinite(values)
        # One line a channel: each array travels alone, and NaN breaks a line at its gaps.
        parts = (
            (bridges, times[good], values[good]),
            (lines, times, np.where(good, values, np.nan)),
        )
        for target, xs, ys in parts:
            for key, value in zip(LINKS, (xs, ys, color, channel), strict=True):
                target[key].append(value)
        there = np.flatnonzero(np.isfinite(values))
        dots["time"].extend(times[there])
        dots["value"].extend(float(value) for value in values[there])
        dots["channel"].extend([channel] * there.size)
        dots["color"].extend([color if clear[k] else style.GAP for k in there])
        dots["fill"].extend([color if clear[k] else style.PAPER for k in there])
        dots["state"].extend(["usable" if clear[k] else "not usable" for k in there])
    return bridges, lines, dots


class Plot:
    """One plot of series and the sources behind it."""

    def __init__(self, label: str, *, x_range: Range1d, name: str) -> None:
        self.figure = style.dated(
            style.plain(
                tools="xpan,xwheel_zoom,reset", active_scroll="xwheel_zoom", x_range=x_range,
                x_axis_type="datetime", y_range=Range1d(0, 1), y_axis_label=label, name=name,
            )
        )  # fmt: skip
        self.bridges, self.lines = ColumnDataSource(LINKS), ColumnDataSource(LINKS)
        self.dots = ColumnDataSource(DOTS, name=f"{name}-dots")
        fig = self.figure
        fig.multi_line("xs", "ys", color="color", source=self.bridges, alpha=0.45, line_dash=[2, 3])
        self.drawn = fig.multi_line("xs", "ys", color="color", source=self.lines, line_width=2)
        points = fig.scatter(
            "time", "value", source=self.dots, size=5, line_color="color", fill_color="fill"
        )
        self.now = Span(location=0, dimension="height", line_color=style.ACCENT, line_alpha=0.8)
        fig.add_layout(self.now)
        tips = [("", "@channel @value{0.0000}"), ("", "@time{%F}, @state")]
        fig.add_tools(
            HoverTool(renderers=[points], tooltips=tips, formatters={"@time": "datetime"})
        )
        self.legend = Legend(
            orientation="horizontal", location=(0, 0), border_line_color=None, margin=0, padding=2,
            label_text_font_size="11px", label_text_color=style.INK, spacing=8, glyph_width=14,
            label_text_font=style.FONT, label_standoff=3, nrows="auto", ncols="auto",
        )  # fmt: skip
        fig.add_layout(self.legend, "above")

    def show(self, times: np.ndarray, table: dict[str, np.ndarray], clear: np.ndarray) -> None:
        """Draw other series."""
        self.bridges.data, self.lines.data, self.dots.data = columns(times, table, clear)
        low, high = limits(np.concatenate([v[clear] for v in table.values()] or [np.array([])]))
        self.figure.y_range.update(start=low, end=high, reset_start=low, reset_end=high)
        first: dict[str, int] = {}
        for i, channel in enumerate(self.lines.data["channel"]):
            first.setdefault(channel, i)
        self.legend.items = [
            LegendItem(label=channel, renderers=[self.drawn], index=i)
            for channel, i in first.items()
        ]


class SeriesView(pn.viewable.Viewer):
    """The series of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, read: Any, **params: Any) -> None:
        super().__init__(**params)
        self.read = read
        x_range = Range1d(0, 1)
        self.top = Plot("Index", x_range=x_range, name="series-indices")
        self.bottom = Plot("Feature", x_range=x_range, name="series-features")
        self.top.figure.xaxis.visible = False
        for plot in (self.top, self.bottom):
            plot.figure.on_event(Tap, self._tapped)
        self.pick = Picker(
            label="Indices and bands", placeholder="Add", most=MOST_SERIES,
            colors=list(style.SERIES), sizing_mode="stretch_width", margin=(12, 0, 4, 0),
        )  # fmt: skip
        self.top.legend.visible = False  # the field shows the colours
        self.note = pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS])
        self._wire()

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._choices, ["cube", "cubes", "own"])
        state.param.watch(self._pick, ["chosen"])
        state.param.watch(self._ask, ["cube", "lon", "lat", "chosen", "features", "cubes"])
        state.param.watch(self._mark, ["date"])
        self.pick.param.watch(lambda event: self._picked(event.new), "values")
        self._choices()
        self._mark()
        self._ask()

    def _choices(self, *_: Any) -> None:
        source = self.state.cubes.get(self.state.source, {})
        groups = offers.channels(source, self.state.own) if source else []
        if groups != self.pick.groups:
            self.pick.groups = groups
        self._pick()

    def _known(self) -> list[str]:
        there = {value for _, options in self.pick.groups for value, *_ in options}
        return [name for name in self.state.chosen if name in there][:MOST_SERIES]

    def _pick(self, *_: Any) -> None:
        self.pick.values = self._known()

    def _picked(self, names: list[str]) -> None:
        # What another cube lacks stays chosen, for the time when this one is shown again.
        if names != self._known():
            self.state.chosen = list(names)

    def _asked(self) -> tuple[Any, ...]:
        return self.state.source, self.state.features, self.state.point, tuple(self._known())

    def _ask(self, *_: Any) -> None:
        asked = self._asked()
        if self.state.point is None:
            self._empty("Click a pixel on the map to see its series.")
            return
        work.run(
            self.read,
            *asked,
            then=lambda found: self._show(found) if asked == self._asked() else None,
            failed=lambda sentence: self._empty(sentence) if asked == self._asked() else None,
        )

    def _show(self, found: dict[str, Any]) -> None:
        times, _, clear = found["bands"] if found["bands"][0].size else found["features"]
        self.top.show(*found["bands"])
        self.bottom.show(*found["features"])
        if times.size:
            ends = times.astype("datetime64[ms]").astype(float)
            air = 0.01 * (ends[-1] - ends[0]) + 1
            self.top.figure.x_range.update(
                start=ends[0] - air, end=ends[-1] + air,
                reset_start=ends[0] - air, reset_end=ends[-1] + air,
            )  # fmt: skip
        lon, lat = self.state.point or (0.0, 0.0)
        self._say(
            f"Pixel at {abs(lat):.5f}° {'N' if lat >= 0 else 'S'}, "
            f"{abs(lon):.5f}° {'E' if lon >= 0 else 'W'} · {int(clear.sum())} of {clear.size} "
            f"dates usable{'' if found['features'][0].size else ' · no features at this pixel'}"
        )

    def _empty(self, sentence: str) -> None:
        nothing = np.array([], "datetime64[ns]"), {}, np.array([], bool)
        self.top.show(*nothing)
        self.bottom.show(*nothing)
        self._say(sentence)

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note">{escape(sentence)}</div>'

    def _mark(self, *_: Any) -> None:
        if self.state.date:
            at = float(np.datetime64(self.state.date, "ms").astype(float))
            self.top.now.location = self.bottom.now.location = at

    def _tapped(self, event: Tap) -> None:
        days = np.array(self.state.days, "datetime64[ms]").astype(float)
        if days.size and event.x is not None:
            self.state.date = self.state.days[int(np.abs(days - event.x).argmin())]

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.note,
            self.pick,
            pn.pane.Bokeh(self.top.figure, sizing_mode="stretch_both", margin=0),
            pn.pane.Bokeh(self.bottom.figure, sizing_mode="stretch_both", margin=0),
            sizing_mode="stretch_both", margin=0, min_height=300,
        )  # fmt: skip
