"""Scenes of the area in a catalogue: a chart of days and clouds, what a fetch takes, fetch."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from app import reads, style, work
from app.state import State
from app.views.area import WIDE

START, END, CLOUD = "2023-01-01", "2023-12-31", 30


def chart(source: ColumnDataSource) -> figure:
    """Draw one dot per day, as high as its clouds; days above the limit are grey."""
    fig = style.dated(
        style.plain(
            height=150, sizing_mode="stretch_width", tools="", x_axis_type="datetime",
            y_range=Range1d(-6, 106), y_axis_label="clouds [%]",
        )
    )  # fmt: skip
    fig.segment("time", 0, "time", "cloud", source=source, color="color", line_width=2)
    dots = fig.scatter("time", "cloud", source=source, size=6, color="color")
    words = [("", "@day"), ("clouds", "@cloud{0.0} %"), ("of the area", "@share{0 %}")]
    fig.add_tools(HoverTool(renderers=[dots], tooltips=words))
    return fig


class ScenesView(pn.viewable.Viewer):
    """The search for scenes of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.days: list[dict[str, Any]] = []
        self.asked: tuple[Any, ...] = ()
        self.source = ColumnDataSource(
            {"time": [], "cloud": [], "share": [], "day": [], "color": []}, name="scenes"
        )
        self._make()
        self.state.param.watch(self._changed, "area")
        work.run(reads.areas.catalogs, then=self._catalogs, failed=self._failed)
        self._changed()

    def _make(self) -> None:
        half = {"size": "small", "sizing_mode": "stretch_width", "max_length": 10}
        self.catalog = pmui.Select(label="Catalogue", options=[], size="small", **WIDE)
        self.first = pmui.TextInput(label="First day", value=START, margin=(4, 4, 4, 0), **half)
        self.last = pmui.TextInput(label="Last day", value=END, margin=(4, 0, 4, 4), **half)
        self.cloud = pmui.IntSlider(
            label="Clouds at most [%]", start=0, end=100, value=CLOUD, size="small",
            sizing_mode="stretch_width", margin=(4, 12),
        )  # fmt: skip
        self.search = pmui.Button(
            label="Search scenes", icon="travel_explore", variant="outlined", disabled=True, **WIDE
        )
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.place = pn.Column(sizing_mode="stretch_width", margin=0)
        self.fetch: Any = None
        self.search.on_click(self._search)
        for field in (self.catalog, self.first, self.last):
            field.param.watch(self._changed, "value")
        self.cloud.param.watch(lambda _: self.days and self._filter(), "value")

    def _catalogs(self, names: list[str]) -> None:
        # an operator's own catalogue comes last in the list, and is what the operator wants
        self.catalog.param.update(options=names, value=names[-1] if len(names) > 3 else names[0])

    def _wanted(self) -> tuple[Any, ...]:
        return self.state.area, self.catalog.value, self.first.value, self.last.value

    def _changed(self, *_: Any) -> None:
        """Forget the scenes of another area or period."""
        self.search.disabled = self.state.area is None or not self.catalog.value
        if self.asked and self.asked != self._wanted():
            self.asked, self.days = (), []
            self.place.objects = []
        if not self.days:
            self._say(
                "Draw an area on the map first; then its scenes can be searched."
                if self.state.area is None
                else "Nothing is fetched by a search; it only lists days and clouds."
            )

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(sentence)}</div>'

    def _failed(self, sentence: str) -> None:
        self.search.disabled = self.state.area is None
        self.note.object = f'<div class="note" role="alert"><b>{escape(sentence)}</b></div>'

    def _search(self, _: Any) -> None:
        self.asked, self.days = self._wanted(), []
        asked = self.asked
        self.search.disabled = True
        self._say("Asking the catalogue.")
        area, catalog, start, end = asked
        work.run(
            reads.areas.scenes, catalog, area, start.strip(), end.strip(),
            then=lambda days: self._found(asked, days), failed=self._failed,
        )  # fmt: skip

    def _found(self, asked: tuple[Any, ...], days: list[dict[str, Any]]) -> None:
        self.search.disabled = False
        if asked != self._wanted():
            return
        self.days = days
        if self.fetch is None:
            self.fetch = pmui.Button(label="Fetch", icon="download", variant="contained", **WIDE)
            self.fetch.on_click(self._fetch)
            self.pane = pn.pane.Bokeh(
                chart(self.source), sizing_mode="stretch_width", height=150, margin=0
            )
        self.place.objects = [self.pane, self.fetch]
        self._filter()

    def _chosen(self) -> list[dict[str, Any]]:
        return [day for day in self.days if not day["cloud"] > self.cloud.value]

    def _filter(self) -> None:
        """Colour the days that are fetched, and say what they take."""
        chosen = {day["day"] for day in self._chosen()}
        self.source.data = {
            "time": np.array([day["day"] for day in self.days], "datetime64[ms]"),
            "cloud": [day["cloud"] for day in self.days],
            "share": [day["share"] for day in self.days],
            "day": [day["day"] for day in self.days],
            "color": [style.PRIMARY if day["day"] in chosen else style.GAP for day in self.days],
        }
        self.fetch.disabled = not chosen
        counted = f"{len(chosen)} of {len(self.days)} days have at most {self.cloud.value} % clouds"
        if not chosen:
            self._say(f"{counted}; allow more clouds.")
            return
        work.run(
            reads.areas.fetch_size, self.state.ws, self.state.area, self._settings(),
            then=lambda size: self._say(
                f"{counted}: {size['pixels']:,} pixels, about {style.duration(size['seconds'])} "
                f"and at most {style.megabytes(size['bytes'])}."
            ),
            failed=self._failed,
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        return {
            "catalog": self.catalog.value,
            "start": self.first.value.strip(),
            "end": self.last.value.strip(),
            "cloud": self.cloud.value,
            "dates": len(self._chosen()),
        }

    def _fetch(self, _: Any) -> None:
        self.fetch.disabled = True
        work.run(
            reads.areas.fetch, self.state.ws, self.state.owner, self.state.area, self._settings(),
            then=self._queued, failed=self._failed,
        )  # fmt: skip

    def _queued(self, key: str) -> None:
        self._say("The fetch waits for the worker; Jobs shows how far it is.")
        if not self.state.job:
            self.state.job = key

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.catalog, pn.Row(self.first, self.last, margin=0), self.cloud, self.search,
            self.note, self.place, sizing_mode="stretch_width", margin=(4, 12, 10, 12),
        )  # fmt: skip
