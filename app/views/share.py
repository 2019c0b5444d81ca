"""What is on the screen to take away: a picture, an animation, a link."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.plotting import figure

from app import link, style, work
from app.state import State
from app.views.jobs import periods
from app.views.map import tile_url
from deepfeatures import serve

COPY = (style.ASSETS / "copy.js").read_text()
"""Copies a text of the page."""
FORMS = {"GIF": "gif", "MP4": "mp4"}
"""Label to form of an animation."""
SPEEDS = {"Slow (2 dates a second)": 2.0, "Medium (4)": 4.0, "Fast (10)": 10.0}
"""Label to dates a second."""
WIDEST = 960
"""Most columns of an animation [px]: more make files that nobody sends."""


def size(chart: figure) -> tuple[int, int]:
    """Give the width and height of the map on the screen [px]; a usual one if it is not known."""
    width, height = chart.inner_width, chart.inner_height
    if not width or not height:
        return 1024, 768
    return max(int(width), 320), max(int(height), 240)


class ShareView(pn.viewable.Viewer):
    """Pictures, animations and the link of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, chart: figure, animate: Any, **params: Any) -> None:
        super().__init__(**params)
        self.chart, self.animate = chart, animate
        self.busy = False
        wide = {"sizing_mode": "stretch_width", "margin": (5, 0)}
        self.picture = pmui.Button(label="Picture (PNG)", icon="image", variant="contained", **wide)
        self.period = pmui.Select(label="Period to animate", options={}, size="small", **wide)
        self.speed = pmui.Select(label="Speed", options=SPEEDS, value=4.0, size="small", **wide)
        self.form = pmui.RadioButtonGroup(
            options=FORMS, value="gif", size="small", description="Form of the animation", **wide
        )
        self.clear = pmui.Switch(value=True, label="Clear dates only", size="small", margin=(4, 0))
        self.make = pmui.Button(label="Make animation", icon="movie", **wide)
        self.file = pmui.Button(
            label="Download animation", icon="download", variant="contained", visible=False, **wide
        )
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        self.link = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        self.copy = pmui.Button(label="Copy link", icon="link", **wide)
        self.copied = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        self.copy.js_on_click(args={"note": self.copied, "what": "address"}, code=COPY)
        self._wire()

    def _wire(self) -> None:
        self.make.on_click(self._make)
        names = list(link.linked(self.state))
        self.state.param.watch(self._show, [*names, "cubes"])
        for widget in (self.period, self.speed, self.form, self.clear):
            widget.param.watch(self._stale, "value")
        self._show()

    def _show(self, *_: Any) -> None:
        state = self.state
        if not state.info:
            return
        options = periods(state.days)
        if options != self.period.options:
            self.period.param.update(options=options, value=next(iter(options.values())))
        width, height = size(self.chart)
        words = tile_url(
            state.info, state.show, state.date,
            cmap=state.cmap, limits=state.limits, masked=state.masked,
        ).split("?", 1)[1]  # fmt: skip
        place = {"bbox": ",".join(map(str, self._box())), "width": width, "height": height}
        name = quote(state.info["name"])
        self.picture.href = f"/api/cubes/{name}/picture.png?{urlencode(place, safe=',')}&{words}"
        address = escape(link.query(state))
        self.link.object = (
            f'<div class="note"><a class="permalink" href="{address}">Link to this view</a></div>'
        )
        self._stale()

    def _stale(self, *_: Any) -> None:
        self.file.visible = False

    def _box(self) -> tuple[float, ...]:
        west, south, east, north = link.bounds(self.chart)
        return max(west, -180.0), max(south, -85.0), min(east, 180.0), min(north, 85.0)

    def _asked(self) -> tuple[Any, ...]:
        state = self.state
        width, height = size(self.chart)
        scale = min(1.0, WIDEST / max(width, height))
        low, high = state.limits or (None, None)
        rgb = "," in state.show
        return (
            state.cube,
            serve.Style(
                channels=tuple(state.show.split(",")),
                vmin=None if rgb else low,
                vmax=None if rgb else high,
                cmap=state.cmap,
                masked=state.masked,
            ),
            serve.View(
                self._box(), max(round(width * scale), 160), max(round(height * scale), 160)
            ),
            serve.Span(*self.period.value, self.clear.value, self.speed.value),
            self.form.value,
        )

    def _make(self, _: Any) -> None:
        if self.busy or not self.state.info:
            return
        self._busy(True)
        self._say("Making the animation …")
        asked = self._asked()
        work.run(
            partial(self.animate, *asked, progress=self._progress()),
            then=lambda path: self._made(asked, path),
            failed=self._failed,
        )

    def _progress(self) -> Callable[[int, int], None]:
        """Give what tells the page from a thread, twice a second at most."""
        document, last = pn.state.curdoc, [0.0]

        def tell(done: int, total: int) -> None:
            now = time.monotonic()
            if document is not None and document.session_context and now - last[0] > 0.5:
                last[0] = now
                words = f"{done} of {total} dates are drawn."
                document.add_next_tick_callback(lambda: self._say(words) if self.busy else None)

        return tell

    def _made(self, asked: tuple[Any, ...], path: Path) -> None:
        self._busy(False)
        megabytes = style.megabytes(path.stat().st_size)
        self._say(f"The animation is ready, {megabytes}; it is kept for some hours.")
        self.file.param.update(
            href=f"/api/exports/{path.parent.name}/{quote(path.name)}",
            visible=asked == self._asked(),
        )

    def _failed(self, sentence: str) -> None:
        self._busy(False)
        self.note.object = f'<div class="note" role="alert"><b>{escape(sentence)}</b></div>'

    def _busy(self, busy: bool) -> None:
        self.busy = busy
        self.make.disabled = busy

    def _say(self, words: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(words)}</div>'

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.picture, self.period, self.speed, self.form, self.clear, self.make, self.note,
            self.file, self.link, self.copy, self.copied,
            sizing_mode="stretch_width", margin=(4, 12, 10, 12),
        )  # fmt: skip
