"""Series of the clicked pixel, of kept ones and of the area: indices above, features below."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import numpy as np
import panel as pn
import param
from bokeh.events import Tap
from bokeh.models import Range1d

from app import offers, reads, style, work
from app.bar import Bar
from app.fields import Picker
from app.reads.times import AREA, Chunk, Found, Key
from app.state import MOST_SERIES, PINS, State
from app.views.calendar import CalendarView
from app.views.plot import DASHES, Band, Plot, Trace
from deepfeatures import seasons

PIXEL = "Pixel"
"""Id of the clicked pixel among the places."""

TOGGLES = {
    "area": ("Area", "Mean of the drawn area, and a band from its 5th to its 95th percentile"),
    "usual": ("Usual year", "What is usual on each day of the year: 10th to 90th percentile"),
    "axes": ("Own axes", "Channels of another range get a vertical axis of their own"),
    "calendar": ("Calendar", "How much of the cube is usable on each date"),
}
"""Switches of the view: label and hint."""


class SeriesView(pn.viewable.Viewer):
    """The series of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.chunks: dict[Key, Chunk] = {}
        self.usual: dict[Key, dict[str, seasons.UsualYear]] = {}
        self.on = dict.fromkeys(TOGGLES, False)
        self.turn = 0  # counts what was asked, so that late answers to older questions are dropped
        self.waiting = 0
        self.spanned = ""
        self.marked = 0.0
        self.wanted: float | None = None
        self.x_range = Range1d(0, 1)
        self.panes: list[pn.pane.Bokeh] = []
        self.bottom: Plot | None = None
        self.calendar: CalendarView | None = None
        self.pick = Picker(
            label="Indices and bands", placeholder="Add", most=MOST_SERIES,
            colors=list(style.SERIES), sizing_mode="stretch_width", margin=(12, 0, 4, 0),
        )  # fmt: skip
        self.bar = Bar(label="Series", sizing_mode="stretch_width", margin=(0, 0, 4, 0))
        self.note = pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS])
        self.box = pn.Column(
            self.note, self.pick, self.bar, sizing_mode="stretch_both", margin=0, min_height=300
        )
        self.top = self._plot("Index", "series-indices")
        self.top.legend.visible = False  # the field shows the colours
        self._wire()

    def _plot(self, label: str, name: str) -> Plot:
        plot = Plot(label, x_range=self.x_range, name=name)
        plot.figure.on_event(Tap, self._tapped)
        plot.now.location = self.marked
        plot.now.on_change("location", self._dragged)
        pane = pn.pane.Bokeh(plot.figure, sizing_mode="stretch_both", margin=0)
        self.panes.append(pane)
        self.box.append(pane)
        return plot

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._choices, ["cube", "cubes", "own"])
        state.param.watch(self._pick, ["chosen"])
        asks = ["cube", "lon", "lat", "chosen", "features", "cubes", "pins"]
        state.param.watch(self._ask, asks)
        state.param.watch(lambda *_: self._ask() if self.on["area"] else self._buttons(), "area")
        state.param.watch(self._mark, ["date"])
        self.pick.param.watch(lambda event: self._picked(event.new), "values")
        self.bar.pressed(self._pressed)
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

    def places(self) -> tuple[reads.times.Place, ...]:
        """Give the kept pixels and, last, the clicked one unless it is kept."""
        kept = [(one["id"], one["lon"], one["lat"]) for one in self.state.pins]
        point = self.state.point
        if point is not None and all((lon, lat) != point for _, lon, lat in kept):
            kept.append((PIXEL, *point))
        return tuple(kept)

    def _ask(self, *_: Any) -> None:
        self.turn += 1
        self.waiting = 0
        self.chunks, self.usual = {}, {}
        self._buttons()
        self._span()
        state, places = self.state, self.places()
        asked = reads.times.Asked(state.source, state.features, tuple(self._known()), state.date)
        if not places:
            self._empty("Click a pixel on the map to see its series.")
        else:
            self._start(partial(reads.times.pixels, state.ws, asked, places), self._empty)
        if self.on["area"] and state.area:
            self._start(partial(reads.times.area, state.ws, asked, state.area), self._say)

    def _start(self, read: Callable[[int], Found], failed: Callable[[str], None]) -> None:
        self.waiting += 1
        self._fill(self.turn, read, failed, 0)

    def _fill(
        self, turn: int, read: Callable[[int], Found], failed: Callable[[str], None], step: int
    ) -> None:
        """Read a step and draw it, then the next one."""

        def then(found: Found) -> None:
            if turn != self.turn:
                return
            for key, chunk in found.chunks.items():
                known = [self.chunks[key]] if key in self.chunks else []
                self.chunks[key] = reads.times.joined([*known, chunk])
            self.waiting -= not found.more
            self._describe()
            self._draw()
            if found.more:
                self._fill(turn, read, failed, step + 1)
            elif self.on["usual"] and not self.waiting:
                self._ask_usual()

        def fail(sentence: str) -> None:
            if turn == self.turn:
                self.waiting -= 1
                failed(sentence)

        work.run(read, step, then=then, failed=fail)

    def _ask_usual(self) -> None:
        turn, place = self.turn, self._current()
        chunks = {key: one for key, one in self.chunks.items() if key[1] == place}

        def then(found: dict[Key, dict[str, seasons.UsualYear]]) -> None:
            if turn == self.turn and self.on["usual"]:
                self.usual = found
                self._draw()

        work.run(reads.times.usual, chunks, then=then, failed=self._say)

    def _current(self) -> str:
        """Give the id of the clicked pixel, which may be a kept one."""
        point = self.state.point
        kept = [one["id"] for one in self.state.pins if (one["lon"], one["lat"]) == point]
        return (kept or [PIXEL])[0]

    def _draw(self) -> None:
        bands = self._known()
        self.top.show(*self._layout("bands", bands), own=self.on["axes"])
        features = list(self.state.cubes.get(self.state.features, {}).get("channels", []))
        if self.bottom is None and any(kind == "features" for kind, _ in self.chunks):
            self.bottom = self._plot("Feature", "series-features")
            self._arrange()
        if self.bottom is not None:
            self.bottom.show(*self._layout("features", features), own=self.on["axes"])

    def _layout(self, kind: str, channels: list[str]) -> tuple[list[Trace], list[Band]]:
        traces, bands = [], []
        for (part, place), one in self.chunks.items():
            for i, channel in enumerate(channels if part == kind else []):
                color = style.SERIES[i % len(style.SERIES)]
                mean = channel if place != AREA else f"{channel}_mean"
                if mean not in one.values:
                    continue
                traces.append(
                    Trace(
                        channel, place, one.times, one.values[mean], one.clear, color, _look(place)
                    )
                )
                if place == AREA:
                    ends = (one.values[f"{channel}_{end}"][one.clear] for end in reads.times.BAND)
                    bands.append(Band(channel, "area", one.times[one.clear], *ends, color))
                if channel in (years := self.usual.get((part, place), {})):
                    days, low, high = _unrolled(years[channel], one.times)
                    bands.append(Band(channel, "usual", days, low, high, color))
        return traces, bands

    def _span(self) -> None:
        """Show all dates when another cube is shown; a zoom stays when another pixel is."""
        days = np.array(self.state.days, "datetime64[ms]").astype(float)
        if self.state.source == self.spanned or not days.size:
            return
        self.spanned = self.state.source
        air = 0.01 * (days[-1] - days[0]) + 86_400_000
        start, end = days[0] - air, days[-1] + air
        self.x_range.update(start=start, end=end, reset_start=start, reset_end=end)

    def _describe(self) -> None:
        place = self._current()
        found = {kind: one for (kind, name), one in self.chunks.items() if name == place}
        one = found.get("bands", found.get("features"))
        if one is None:
            return
        lon, lat = self.state.point or (0.0, 0.0)
        usable = f"{int(one.clear.sum())} of {one.times.size} dates usable"
        so_far = f"reading, {one.times.size} dates so far" if self.waiting else usable
        self._say(
            f"{'Pixel' if place == PIXEL else f'Pixel {place}'} at {abs(lat):.5f}° "
            f"{'N' if lat >= 0 else 'S'}, {abs(lon):.5f}° {'E' if lon >= 0 else 'W'} · {so_far}"
            f"{'' if 'features' in found else ' · no features at this pixel'}"
        )

    def _empty(self, sentence: str) -> None:
        self._say(sentence)
        self._draw()

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(sentence)}</div>'

    def _buttons(self) -> None:
        state = self.state
        pinned = self._current() != PIXEL or state.point is None or len(state.pins) >= len(PINS)
        found = [("pin", "Pin", "Keep this pixel, up to six", "disabled" if pinned else "")]
        for name, (label, hint) in TOGGLES.items():
            how = "on" if self.on[name] else "off"
            if name == "area" and not state.area:
                how, hint = "disabled", "Draw an area on the map first"
            found.append((name, label, hint, how))
        found.append(("csv", "CSV", "Save what is drawn: place, coordinates, geometry, values", ""))
        chips = [
            (one["id"], f"pixel {one['id']} at {one['lon']:.5f}, {one['lat']:.5f}", one["color"],
             DASHES[_look(one["id"])] if _look(one["id"]) else "none")
            for one in state.pins
        ]  # fmt: skip
        self.bar.param.update(buttons=found, chips=chips)

    def _pressed(self, do: str, name: str) -> None:
        state = self.state
        if do == "remove":
            state.pins = [one for one in state.pins if one["id"] != name]
        elif name == "pin":
            self._keep()
        elif name == "csv":
            self._save()
        elif name in TOGGLES:
            self.on[name] = not self.on[name]
            self._switched(name)

    def _keep(self) -> None:
        state = self.state
        free = [one for one in PINS if one not in [pin["id"] for pin in state.pins]]
        if free and state.point is not None and self._current() == PIXEL:
            color = style.SERIES[PINS.index(free[0])]
            lon, lat = state.point
            state.pins = [*state.pins, {"id": free[0], "lon": lon, "lat": lat, "color": color}]

    def _switched(self, name: str) -> None:
        if name == "area":
            self._ask()
        elif name == "usual" and self.on[name]:
            self._ask_usual()
        elif name == "calendar":
            self._calendar()
        else:
            self.usual = self.usual if self.on["usual"] else {}
            self._draw()
        self._buttons()

    def _calendar(self) -> None:
        if self.calendar is None:
            read = partial(reads.cubes.shares, self.state.ws)
            self.calendar = CalendarView(state=self.state, read=read)
            self.box.insert(3, self.calendar)
        self.calendar.show(self.on["calendar"])
        self._arrange()

    def _arrange(self) -> None:
        """Give the room of the features to the calendar while it is open."""
        below = self.bottom is not None and not self.on["calendar"]
        self.top.figure.xaxis.visible = not below
        for pane in self.panes[1:]:
            pane.visible = below

    def _save(self) -> None:
        state = self.state
        name = f"{state.cube}-series.csv"
        work.run(
            reads.times.table, dict(self.chunks), self.places(), state.area,
            then=lambda text: self.bar.save(name, text), failed=self._say,
        )  # fmt: skip

    def _plots(self) -> list[Plot]:
        return [self.top, self.bottom] if self.bottom else [self.top]

    def _mark(self, *_: Any) -> None:
        if self.state.date:
            self.marked = float(np.datetime64(self.state.date, "ms").astype(float))
            for plot in self._plots():
                plot.now.location = self.marked

    def _dragged(self, _attr: str, _old: Any, new: float) -> None:
        """Follow the line of the shown date that is being moved, some times a second."""
        document = self.top.figure.document
        if abs(new - self.marked) < 1:
            return
        first, self.wanted = self.wanted is None, new
        if document is None:
            self._dropped()
        elif first:
            document.add_timeout_callback(self._dropped, 150)

    def _dropped(self) -> None:
        at, self.wanted = self.wanted, None
        self._go(at)
        self._mark()

    def _tapped(self, event: Tap) -> None:
        self._go(event.x)

    def _go(self, moment: float | None) -> None:
        """Show the date next to a moment [ms]."""
        days = np.array(self.state.days, "datetime64[ms]").astype(float)
        if days.size and moment is not None:
            self.state.date = self.state.days[int(np.abs(days - moment).argmin())]

    def __panel__(self) -> pn.viewable.Viewable:
        return self.box


def _look(place: str) -> int:
    return PINS.find(place) + 1


def _unrolled(year: seasons.UsualYear, times: Any) -> tuple[Any, Any, Any]:
    """Repeat the usual year over the period of a series, a value for each day."""
    first, last = times[[0, -1]].astype("datetime64[D]")
    days = np.arange(first, last + 1)
    at = np.floor(seasons.day_of_year(days)).astype(int)
    return days, year.low[at], year.high[at]
