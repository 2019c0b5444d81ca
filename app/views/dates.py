"""The time axis: slider, step buttons, arrow keys, and the usable share of each date."""

from __future__ import annotations

from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, CustomJS, HoverTool, Range1d
from bokeh.plotting import figure
from panel.custom import JSComponent

from app import style, work
from app.state import State

CLEAR = 0.5
"""A date counts as clear from this usable share on."""

NAMES = (style.ASSETS / "names.js").read_text()
"""Gives a name to what the library leaves without one."""

KEYS = (style.ASSETS / "keys.js").read_text()
"""Turns keys, pressed anywhere but in a field for text, into steps and other actions."""


class Player(JSComponent):
    """Buttons that play through the dates; a step is asked for when the map is drawn."""

    playing = param.Boolean(False, doc="Go on to the next date by itself.")
    loop = param.Boolean(True, doc="Begin again after the last date.")
    date = param.String(doc="The date that is shown.")
    first = param.String(doc="First date of the cube.")
    last = param.String(doc="Last date of the cube.")
    start = param.String(doc="Play from this date on.")
    end = param.String(doc="Play up to this date.")
    guide = param.Boolean(False, doc="Show the line that lists the keys.")

    _esm = (style.ASSETS / "player.js").read_text()
    _stylesheets = [(style.ASSETS / "player.css").read_text()]  # noqa: RUF012


def following(
    days: list[str], index: int, shares: list[float], *,
    clear: bool, period: tuple[str, str], loop: bool,
) -> int | None:  # fmt: skip
    """Give the position that is played after another one; None at the end of the period."""
    first, last = (day or other for day, other in zip(period, (days[0], days[-1]), strict=True))
    inside = [place for place, day in enumerate(days) if first <= day <= last]
    if not inside:
        return None
    if inside[0] <= index < inside[-1]:
        place = step(days, index, 1, shares, clear=clear)
        if place != index and place <= inside[-1]:
            return place
    elif inside[0] > index or index > inside[-1]:
        return inside[0]
    begin = step(days, inside[0] - 1, 1, shares, clear=clear)
    if begin > inside[-1] or begin < inside[0]:
        return None  # no date of the period is clear
    return begin if loop and begin != index else None


def step(days: list[str], index: int, by: int, shares: list[float], *, clear: bool) -> int:
    """Give the position of the next date in a direction, skipping cloudy ones if asked.

    Where no date is left in that direction, the position stays.
    """
    place = index + by
    while 0 <= place < len(days):
        if not clear or place >= len(shares) or shares[place] >= CLEAR:
            return place
        place += by
    return index


def strip(shares: ColumnDataSource, now: ColumnDataSource) -> figure:
    """Draw one bar per date, as high as its usable share, and a mark at the current one."""
    fig = style.plain(
        height=40, sizing_mode="stretch_width", tools="",
        y_range=Range1d(-0.28, 1.05), x_range=Range1d(-0.5, 0.5),
    )  # fmt: skip
    fig.min_border = 0
    fig.grid.visible = fig.axis.visible = False
    bars = fig.vbar("index", top="share", width=0.8, color="color", source=shares)
    fig.vbar("index", top="share", width=0.8, color=style.ACCENT, source=now)
    fig.scatter("index", -0.16, marker="triangle", size=9, color=style.ACCENT, source=now)
    fig.add_tools(HoverTool(renderers=[bars], tooltips=[("", "@day"), ("usable", "@share{0 %}")]))
    return fig


class DatesView(pn.viewable.Viewer):
    """The time axis of one session."""

    state = param.ClassSelector(class_=State)
    shares = param.List([], doc="Usable share 0..1 of each date of the cube.")

    def __init__(self, *, read: Any, **params: Any) -> None:
        super().__init__(**params)
        self.read = read
        self.bars = ColumnDataSource({"index": [], "share": [], "day": [], "color": []})
        self.now = ColumnDataSource({"index": [], "share": []})
        self.keys = ColumnDataSource({"x": [], "y": [], "key": []})
        self.strip = strip(self.bars, self.now)
        self.strip.scatter("x", "y", source=self.keys, size=0)
        self.strip.on_event(Tap, lambda event: self.go(round(event.x)))
        self.keys.on_change("data", lambda _, __, new: self._pressed(new["key"]))
        self.slider = pmui.DiscreteSlider(
            options=["-"], show_value=False, label="Date", sizing_mode="stretch_width",
            margin=(0, 14), sx={"& .MuiFormLabel-root": {"display": "none"}},
        )  # fmt: skip
        self.clear = pmui.Switch(value=True, label="Clear only", size="small", margin=(0, 4))
        self.text = pn.pane.HTML("", margin=(0, 4), min_width=170, stylesheets=[style.CSS])
        self.player = Player(margin=(0, 14), sizing_mode="stretch_width")
        self.player.on_msg(lambda _: self._play())
        self._build()
        self.state.param.watch(self._cube, ["cube"])
        self.state.param.watch(self._date, ["date"])
        self._cube()

    def _build(self) -> None:
        def button(icon: str, label: str, by: int) -> pmui.IconButton:
            return pmui.IconButton(
                icon=icon, description=label, on_click=lambda _: self.move(by), margin=0
            )

        self.slider.param.watch(lambda event: self._slid(event.new), "value")
        self.bar = pn.Column(
            pn.Row(
                button("chevron_left", "Previous date (left arrow key)", -1),
                button("chevron_right", "Next date (right arrow key)", 1),
                self.text,
                pn.Spacer(sizing_mode="stretch_width"),
                self.clear,
                sizing_mode="stretch_width",
                align="center",
                margin=0,
            ),
            self.player,
            self.slider,
            pn.pane.Bokeh(self.strip, sizing_mode="stretch_width", height=40, margin=(0, 22)),
            sizing_mode="stretch_width",
            margin=0,
        )
        if document := pn.state.curdoc:
            document.js_on_event("document_ready", CustomJS(args={"keys": self.keys}, code=KEYS))
            document.js_on_event("document_ready", CustomJS(code=NAMES))

    def move(self, by: int) -> None:
        """Go one date back (-1) or on (+1)."""
        days = self.state.days
        self.go(step(days, self.state.index, by, self.shares, clear=self.clear.value))

    def go(self, index: int) -> None:
        """Show the date at a position, if there is one."""
        if 0 <= index < len(self.state.days):
            self.state.date = self.state.days[index]

    def _pressed(self, keys: list[str]) -> None:
        for key in keys:
            if key in ("previous", "next"):
                self.move(1 if key == "next" else -1)
            elif key == "play":
                self.player.playing = not self.player.playing
            elif key == "compare":
                self.state.split = not self.state.split
            elif key == "help":
                self.player.guide = not self.player.guide
            else:
                self._layer(1 if key == "layer after" else -1)

    def _layer(self, by: int) -> None:
        layers, show = self.state.layers(), self.state.show
        if layers:
            place = layers.index(show) + by if show in layers else 0
            self.state.param.update(show=layers[place % len(layers)], limits=None)

    def _play(self) -> None:
        if not self.player.playing or not self.state.days:
            return
        place = following(
            self.state.days, self.state.index, self.shares, clear=self.clear.value,
            period=(self.player.start, self.player.end), loop=self.player.loop,
        )  # fmt: skip
        if place is None:
            self.player.playing = False
        else:
            self.go(place)

    def _slid(self, day: str) -> None:
        if day in self.state.days:
            self.state.date = day

    def _cube(self, *_: Any) -> None:
        days = self.state.days
        self.shares = []
        self.slider.param.update(options=days or ["-"], value=self.state.date or "-")
        first, last = (days[0], days[-1]) if days else ("", "")
        self.player.param.update(first=first, last=last, start=first, end=last)
        self.strip.x_range.update(start=-0.5, end=max(len(days) - 0.5, 0.5))
        self.bars.data = {"index": [], "share": [], "day": [], "color": []}
        self._date()
        if days:
            name = self.state.cube
            work.run(
                self.read, name, then=lambda shares: self._shares(name, shares), failed=self._failed
            )

    def _shares(self, name: str, shares: list[float]) -> None:
        if self.state.cube != name:
            return
        self.shares = shares
        self.bars.data = {
            "index": list(range(len(shares))),
            "share": shares,
            "day": self.state.days,
            "color": [style.PRIMARY if share >= CLEAR else f"{style.GAP}80" for share in shares],
        }
        self._date()

    def _failed(self, sentence: str) -> None:
        self.text.object = escape(sentence)

    def _date(self, *_: Any) -> None:
        state = self.state
        if state.date not in state.days:
            self.text.object = ""
            return
        share = self.shares[state.index] if self.shares else None
        usable = "" if share is None else f"<span>{share:.0%} usable</span>"
        self.text.object = f'<div class="day"><b>{state.date}</b>{usable}</div>'
        self.slider.value = state.date
        self.player.date = state.date
        self.now.data = {"index": [state.index], "share": [share or 0.0]}

    def __panel__(self) -> pn.viewable.Viewable:
        return self.bar
