"""The values in the view as a histogram, and the range of the colours drawn over it."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import BoxAnnotation, ColumnDataSource, Range1d

from app import style, work
from app.state import State
from deepfeatures import reading

NONE = '<div class="note">Choose a single channel or index; a colour picture has no range.</div>'


class HistogramView(pn.viewable.Viewer):
    """The histogram of what one session looks at."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, count: Any, bounds: Any, **params: Any) -> None:
        super().__init__(**params)
        self.count, self.bounds = count, bounds
        self.found: reading.Histogram | None = None
        self.writing = False
        text = {"variant": "text", "size": "small", "margin": 0}
        self.again = pmui.Button(label="Count this view", icon="refresh", **text)
        self.robust = pmui.Button(label="2-98 % of the view", icon="compress", **text)
        self.note = pn.pane.HTML(NONE, stylesheets=[style.CSS], margin=(4, 0))
        self.bars = ColumnDataSource({"left": [], "right": [], "top": []}, name="histogram")
        self.range = BoxAnnotation(
            fill_color=style.PRIMARY, fill_alpha=0.18, line_color=style.PRIMARY, editable=True,
            movable="x", resizable="x", visible=False,
        )  # fmt: skip
        self.figure = style.plain(
            height=130, sizing_mode="stretch_width", tools="", x_range=Range1d(0, 1),
            y_range=Range1d(0, 1),
        )  # fmt: skip
        self.figure.yaxis.visible = False
        self.figure.quad(
            left="left", right="right", top="top", bottom=0, source=self.bars,
            fill_color=style.LINE, line_color=None,
        )  # fmt: skip
        self.figure.add_layout(self.range)
        self._wire()

    def _wire(self) -> None:
        self.again.on_click(self._ask)
        self.robust.on_click(self._fit)
        for end in ("left", "right"):
            self.range.on_change(end, lambda _attr, _old, _new: self._dragged())
        self.state.param.watch(self._ask, ["cube", "show", "date"])
        self.state.param.watch(self._limits, "limits")
        self._ask()

    def _ask(self, *_: Any) -> None:
        state = self.state
        if not state.info or "," in state.show or state.date not in state.days:
            self._shown(None)
            self.note.object = NONE
            return
        asked = state.cube, state.show, state.date
        work.run(
            self.count,
            *asked,
            self.bounds(),
            then=lambda found: self._counted(asked, found),
            failed=self._failed,
        )

    def _failed(self, sentence: str) -> None:
        self._shown(None)
        self.note.object = f'<div class="note">{escape(sentence)}</div>'

    def _counted(self, asked: tuple[str, str, str], found: reading.Histogram) -> None:
        if asked != (self.state.cube, self.state.show, self.state.date):
            return
        self._shown(found)
        low, high = found.percentiles
        words = "No usable pixel in the view at this date; take a clearer one."
        if math.isfinite(low):
            least, most = found.range
            words = (
                f"{escape(asked[1])}: {least:.3g} to {most:.3g}, 2-98 % from {low:.3g} to "
                f"{high:.3g}; {found.usable:.0%} of the view usable."
            )
        self.note.object = f'<div class="note">{words}</div>'

    def _shown(self, found: reading.Histogram | None) -> None:
        self.found = found
        self.figure.visible = found is not None
        if found is not None:
            top = max(int(found.counts.max()), 1)
            self.bars.data = {
                "left": found.edges[:-1], "right": found.edges[1:], "top": found.counts / top,
            }  # fmt: skip
            self.figure.x_range.update(start=found.edges[0], end=found.edges[-1])
        self._limits()

    def _limits(self, *_: Any) -> None:
        limits = self.state.limits
        self.writing = True
        self.range.visible = limits is not None
        if limits is not None:
            self.range.update(left=limits[0], right=limits[1])
        self.writing = False

    def _dragged(self) -> None:
        low, high = self.range.left, self.range.right
        numbers = isinstance(low, int | float) and isinstance(high, int | float)
        if not self.writing and numbers and low < high:
            self.state.limits = (float(f"{low:.4g}"), float(f"{high:.4g}"))

    def _fit(self, _: Any) -> None:
        if self.found is not None and self.found.percentiles[0] < self.found.percentiles[1]:
            low, high = self.found.percentiles
            self.state.limits = (float(f"{low:.4g}"), float(f"{high:.4g}"))

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.note,
            pn.Row(self.again, self.robust, margin=0),
            sizing_mode="stretch_width", margin=(8, 12, 4, 12),
        )  # fmt: skip
