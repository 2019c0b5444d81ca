"""The usable share of every date as a calendar: a row per year, a click shows the date."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
import param
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper, Range1d
from bokeh.palettes import Blues256

from app import style, work
from app.state import State

ROW = 24
"""Height of a year [px]."""

MONTHS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
"""Day of the year on which each month begins, from 0."""


def cells(days: list[str], shares: list[float]) -> dict[str, list[Any]]:
    """Lay dates out by year and day of the year; each is as wide as to the next, at most 8 days."""
    dates = np.array(days, "datetime64[D]")
    years = dates.astype("datetime64[Y]")
    of_year = (dates - years.astype("datetime64[D]")).astype(int)
    step = np.diff(dates.astype(int), append=dates[-1:].astype(int) + 8)
    return {
        "left": of_year.tolist(),
        "right": (of_year + np.clip(step, 1, 8)).tolist(),
        "year": (years.astype(int) + 1970).tolist(),
        "share": list(shares),
        "date": list(days),
    }


class CalendarView(pn.viewable.Viewer):
    """The calendar of one session; made when it is first opened."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, read: Any, **params: Any) -> None:
        super().__init__(**params)
        self.read = read
        empty: dict[str, list[Any]] = {"left": [], "right": [], "year": [], "share": [], "date": []}
        self.cells = ColumnDataSource(empty, name="calendar")
        self.now = ColumnDataSource({"left": [], "right": [], "year": []})
        self.figure = self._figure()
        self.note = pn.pane.HTML("", margin=0, stylesheets=[style.CSS])
        self.box = pn.Column(
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.note, sizing_mode="stretch_width", margin=(0, 0, 4, 0),
        )  # fmt: skip
        self.state.param.watch(self._cube, ["cube", "cubes"])
        self.state.param.watch(self._date, ["date"])
        self._cube()

    def _figure(self) -> Any:
        fig = style.plain(
            name="calendar-plot", tools="", sizing_mode="stretch_width", height=3 * ROW,
            x_range=Range1d(-2, 368), y_range=Range1d(1, 0),
        )  # fmt: skip
        fig.grid.visible = False
        fig.xaxis.ticker = FixedTicker(ticks=list(MONTHS))
        names = zip(MONTHS, style.MONTH_NAMES, strict=True)
        fig.xaxis.major_label_overrides = {day: name for day, name in names}
        colors = LinearColorMapper(palette=Blues256[::-1], low=0, high=1)
        bars = fig.hbar(
            y="year", left="left", right="right", height=0.82, source=self.cells,
            fill_color={"field": "share", "transform": colors}, line_color="#d5dcdf",
            line_width=0.5,
        )  # fmt: skip
        fig.hbar(
            y="year", left="left", right="right", height=0.94, source=self.now,
            fill_color=None, line_color=style.ACCENT, line_width=2.5,
        )  # fmt: skip
        tips = [("", "@date"), ("usable", "@share{0 %}")]
        fig.add_tools(HoverTool(renderers=[bars], tooltips=tips))
        fig.on_event(Tap, self._tapped)
        return fig

    def show(self, visible: bool) -> None:
        """Show or hide the calendar."""
        self.box.visible = visible

    def _cube(self, *_: Any) -> None:
        name = self.state.cube

        def then(shares: list[float]) -> None:
            if name == self.state.cube:
                self._fill(shares)

        work.run(self.read, name, then=then, failed=self._say)

    def _fill(self, shares: list[float]) -> None:
        found = cells(self.state.days, shares)
        years = sorted(set(found["year"]))
        self.figure.y_range.update(start=years[-1] + 0.5, end=years[0] - 0.5)
        self.figure.yaxis.ticker = FixedTicker(ticks=years)
        self.figure.yaxis.major_label_overrides = {year: str(year) for year in years}
        self.figure.height = min(len(years), 8) * ROW + 2 * ROW
        self.cells.data = found
        self._say("Usable share of each date, white 0 % to blue 100 %. Click one to see it.")
        self._date()

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note">{sentence}</div>'

    def _date(self, *_: Any) -> None:
        found = self.cells.data
        if self.state.date in found["date"]:
            at = found["date"].index(self.state.date)
            self.now.data = {key: [found[key][at]] for key in ("left", "right", "year")}

    def _tapped(self, event: Tap) -> None:
        found = self.cells.data
        if event.x is None or event.y is None or not found["date"]:
            return
        away = [
            (abs(year - event.y) > 0.5, abs((left + right) / 2 - event.x))
            for left, right, year in zip(found["left"], found["right"], found["year"], strict=True)
        ]
        self.state.date = found["date"][away.index(min(away))]

    def __panel__(self) -> pn.viewable.Viewable:
        return self.box
