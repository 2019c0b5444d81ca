"""One channel along a drawn line at all dates: distance upwards, time to the right."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import urlencode

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.events import Tap
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper, Range1d, Span
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from app import offers, reads, style, work
from app.bar import Bar
from app.state import State
from deepfeatures.reading import Transect

WIDEST = 10.0
"""Days before and after a date that its stripe covers at most; what is further away is a gap."""

DAY = 86_400_000.0
"""Milliseconds of a day."""

HINT = "Draw a line on the map: press the button, click its points, and then Finish."


def stripes(found: Transect) -> dict[str, list[Any]]:
    """Lay a transect out as one picture per date, from halfway to the neighbours to halfway.

    Dates without any usable pixel are left out.
    """
    seen = np.isfinite(found.values).any(axis=1)
    times = found.times[seen].astype("datetime64[ms]").astype(np.float64)
    half = np.diff(times) / 2
    most = WIDEST * DAY
    before = np.minimum(np.r_[most, half], most)
    after = np.minimum(np.r_[half, most], most)
    return {
        "image": [line[:, None] for line in found.values[seen]],
        "x": (times - before).tolist(),
        "dw": (before + after).tolist(),
        "time": times.tolist(),
    }


class TransectView(pn.viewable.Viewer):
    """The line of one session; the figure is made when there is something to draw."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, read: Any, **params: Any) -> None:
        super().__init__(**params)
        self.read = read
        self.found: reads.times.Line | None = None
        self.pictures = ColumnDataSource(
            {"image": [], "x": [], "dw": [], "time": []}, name="transect"
        )
        self.colors = LinearColorMapper(
            palette=list(Viridis256), low=0, high=1, nan_color="#00000000"
        )
        self.now = Span(location=0, dimension="height", line_color=style.ACCENT, line_width=2)
        self.figure: figure | None = None
        self.channel = pmui.Select(
            label="Channel", options=[], size="small", sizing_mode="stretch_width", margin=(8, 0)
        )
        self.bar = Bar(label="Line", sizing_mode="stretch_width", margin=(0, 0, 4, 0))
        self.note = pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS])
        self.box = pn.Column(
            self.note, self.channel, self.bar, sizing_mode="stretch_both", margin=0
        )
        self._wire()

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._choices, ["cube", "cubes", "chosen", "features"])
        state.param.watch(self._ask, ["line", "cube", "cubes"])
        state.param.watch(self._buttons, ["mode", "line"])
        state.param.watch(self._mark, ["date"])
        self.channel.param.watch(self._ask, "value")
        self.bar.pressed(self._pressed)
        self._choices()
        self._buttons()
        self._ask()

    def _choices(self, *_: Any) -> None:
        state = self.state
        source = state.cubes.get(state.source, {})
        known = {
            value for _, options in offers.channels(source, state.own) for value, *_ in options
        }
        names = [name for name in state.chosen if name in known]
        names += [
            name
            for cube in dict.fromkeys((state.source, state.features))
            for name in state.cubes.get(cube, {}).get("channels", [])
            if name not in names
        ]
        if names != self.channel.options:
            value = self.channel.value if self.channel.value in names else (names or [None])[0]
            self.channel.param.update(options=names, value=value)

    def _cube(self) -> str:
        """Give the name of the cube that has the channel."""
        features = self.state.cubes.get(self.state.features, {}).get("channels", [])
        return self.state.features if self.channel.value in features else self.state.source

    def _asked(self) -> tuple[Any, ...]:
        line = tuple((lon, lat) for lon, lat in self.state.line)
        return self._cube(), line, self.channel.value

    def _ask(self, *_: Any) -> None:
        asked = self._asked()
        if not self.state.line or not self.channel.value:
            self._say(HINT)
            return
        self._say("Reading …")
        work.run(
            self.read,
            *asked,
            then=lambda found: self._show(found) if asked == self._asked() else None,
            failed=lambda sentence: self._say(sentence) if asked == self._asked() else None,
        )

    def _show(self, line: reads.times.Line) -> None:
        self.found = line
        found = line.found
        laid = stripes(found)
        length = float(found.path.distance[-1])
        if self.figure is None:
            self.figure = self._figure()
            self.box.append(pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", margin=0))
        self.colors.update(low=line.limits[0], high=line.limits[1])
        fig = self.figure
        fig.y_range.update(start=0, end=length, reset_start=0, reset_end=length)
        if laid["x"]:
            start, end = laid["x"][0], laid["x"][-1] + laid["dw"][-1]
            fig.x_range.update(start=start, end=end, reset_start=start, reset_end=end)
        self.pictures.data = laid | {"dh": [length] * len(laid["x"])}
        self._mark()
        self._describe(len(laid["x"]))

    def _describe(self, dates: int) -> None:
        name, line, channel = self._asked()
        query = urlencode(
            {
                "channel": channel,
                "line": ";".join(f"{lon:.6f},{lat:.6f}" for lon, lat in line),
                "format": "csv",
            },
            safe=",;",
        )
        assert self.found is not None
        path = self.found.found.path
        self.note.object = (
            f'<div class="note" role="status">{path.distance[-1]:,.0f} m, {path.distance.size} '
            f"pixels, {dates} of {self.found.found.times.size} dates with a usable one · "
            f'<a href="/api/cubes/{escape(name)}/transect?{escape(query)}" download>CSV</a></div>'
        )

    def _figure(self) -> figure:
        fig = style.dated(
            style.plain(
                name="transect-plot", tools="xpan,xwheel_zoom,reset", active_scroll="xwheel_zoom",
                x_axis_type="datetime", x_range=Range1d(0, 1), y_range=Range1d(0, 1),
                y_axis_label="Distance [m]",
            )
        )  # fmt: skip
        fig.grid.visible = False
        fig.background_fill_color = "#eef1f2"
        self.pictures.data = dict(self.pictures.data) | {"dh": []}
        fig.image(
            image="image", x="x", y=0, dw="dw", dh="dh", source=self.pictures,
            color_mapper=self.colors,
        )  # fmt: skip
        fig.add_layout(self.now)
        bar = ColorBar(
            color_mapper=self.colors, width=8, padding=4, major_label_text_font_size="11px",
            major_label_text_font=style.FONT, major_label_text_color=style.SOFT,
        )  # fmt: skip
        fig.add_layout(bar, "right")
        fig.on_event(Tap, self._tapped)
        return fig

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(sentence)}</div>'

    def _buttons(self, *_: Any) -> None:
        drawing = self.state.mode == "Line"
        hint = "Click the points of a line on the map, then Finish"
        found = [("draw", "Draw a line", hint, "on" if drawing else "off")]
        if self.state.line:
            found.append(("clear", "Remove", "Remove the line", ""))
        self.bar.buttons = found

    def _pressed(self, _do: str, name: str) -> None:
        if name == "draw":
            self.state.mode = "Explore" if self.state.mode == "Line" else "Line"
        elif name == "clear":
            self.state.line = []
            self.pictures.data = {"image": [], "x": [], "dw": [], "time": [], "dh": []}

    def _mark(self, *_: Any) -> None:
        if self.state.date:
            self.now.location = float(np.datetime64(self.state.date, "ms").astype(float))

    def _tapped(self, event: Tap) -> None:
        """Show the date and choose the pixel that were clicked."""
        if event.x is None or event.y is None or self.found is None:
            return
        path = self.found.found.path
        at = int(np.abs(path.distance - event.y).argmin())
        days = np.array(self.state.days, "datetime64[ms]").astype(float)
        self.state.param.update(
            date=self.state.days[int(np.abs(days - event.x).argmin())],
            lon=round(float(path.lon[at]), 6),
            lat=round(float(path.lat[at]), 6),
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return self.box
