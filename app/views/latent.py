"""The latent space beside the map: a cloud of sampled pixels, a lasso, and a pixel's year."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import datashader as ds
import numpy as np
import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.events import RangesUpdate, SelectionGeometry
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    HoverTool,
    LassoSelectTool,
    PanTool,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure
from datashader import transfer_functions as tf

from app import style, work
from app.state import State

CLOUD = ["#d9e4e6", "#7fb0b2", "#0b5d5e", "#062f33"]
SIZE = (460, 360)
"""Width and height of the picture of the cloud [px]."""

Ranges = tuple[tuple[float, float], tuple[float, float]]


def ranges(scores: np.ndarray) -> Ranges:
    """Give the ranges that show all but the outermost points of a cloud (n, 2)."""
    if len(scores) == 0:
        return (-1.0, 1.0), (-1.0, 1.0)
    low, high = np.percentile(scores[:, :2], [0.2, 99.8], axis=0)
    air = 0.12 * (high - low) + 1e-6
    x, y = zip(low - air, high + air, strict=True)
    return (float(x[0]), float(x[1])), (float(y[0]), float(y[1]))


def cloud(scores: np.ndarray, shown: Ranges) -> np.ndarray:
    """Draw points (n, 2) as a density picture: packed RGBA (height, width), lowest row first."""
    canvas = ds.Canvas(plot_width=SIZE[0], plot_height=SIZE[1], x_range=shown[0], y_range=shown[1])
    points = canvas.points(pd.DataFrame(scores[:, :2], columns=["x", "y"]), "x", "y")
    image = tf.dynspread(tf.shade(points, cmap=CLOUD, how="eq_hist"), threshold=0.5, max_px=3)
    return np.asarray(image.data, np.uint32)


def path(times: np.ndarray, scores: np.ndarray, year: str) -> dict[str, list[Any]]:
    """Lay out the dates of one year of a pixel: place, day, colour of the month."""
    days = times.astype("datetime64[D]")
    kept = np.isfinite(scores).all(axis=1) & (days.astype("datetime64[Y]").astype(str) == year)
    months = days[kept].astype("datetime64[M]").astype(int) % 12
    return {
        "x": scores[kept, 0].tolist(),
        "y": scores[kept, 1].tolist(),
        "day": days[kept].astype(str).tolist(),
        "color": [style.MONTHS[month] for month in months],
    }


def polygon(event: dict[str, Any]) -> list[tuple[float, float]]:
    """Give the corners of a Bokeh selection (box or lasso)."""
    if event["type"] == "rect":
        x0, x1, y0, y1 = (float(event[key]) for key in ("x0", "x1", "y0", "y1"))
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return [(float(x), float(y)) for x, y in zip(event["x"], event["y"], strict=True)]


def note(sentence: str) -> str:
    """Write a sentence under the controls."""
    return f'<div class="note">{escape(sentence)}</div>'


def months() -> str:
    """Write the legend of the month colours."""
    parts = [
        f'<span style="white-space:nowrap"><i style="background:{color}"></i>{name}</span>'
        for name, color in zip(style.MONTH_NAMES, style.MONTHS, strict=True)
    ]
    return f'<div class="months">{"".join(parts)}</div>'


class LatentView(pn.viewable.Viewer):
    """The latent space of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, sample: Any, track: Any, select: Any, **params: Any) -> None:
        super().__init__(**params)
        self.sample, self.track, self.select = sample, track, select
        self.scores = np.empty((0, 2))
        self.image = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self.path = ColumnDataSource({"x": [], "y": [], "day": [], "color": []}, name="latent-path")
        self.here = ColumnDataSource({"x": [], "y": []})
        self.lasso = ColumnDataSource({"xs": [], "ys": []})
        self._figure()
        self._controls()
        self._wire()

    def _figure(self) -> None:
        shown = Range1d(-1, 1), Range1d(-1, 1)
        fig = style.plain(
            tools="", x_range=shown[0], y_range=shown[1], name="latent",
            x_axis_label="First component", y_axis_label="Second component",
        )  # fmt: skip
        fig.image_rgba("image", x="x", y="y", dw="dw", dh="dh", source=self.image)
        fig.patches(
            "xs", "ys", source=self.lasso, fill_color=style.ACCENT, fill_alpha=0.15,
            line_color=style.ACCENT, line_width=2,
        )  # fmt: skip
        fig.line("x", "y", source=self.path, color=style.INK, line_width=1, alpha=0.7)
        dots = fig.scatter(
            "x", "y", source=self.path, size=8, fill_color="color", line_color="#ffffff"
        )
        fig.scatter(
            "x",
            "y",
            source=self.here,
            size=16,
            fill_alpha=0,
            line_color=style.ACCENT,
            line_width=2.5,
        )
        self.tools = {
            "Lasso": LassoSelectTool(continuous=False),
            "Box": BoxSelectTool(),
            "Move": PanTool(),
        }
        wheel = WheelZoomTool()
        fig.add_tools(*self.tools.values(), wheel, HoverTool(renderers=[dots], tooltips="@day"))
        fig.toolbar.active_scroll = wheel
        fig.toolbar.active_drag = self.tools["Lasso"]
        fig.on_event(SelectionGeometry, self._selected)
        fig.on_event(RangesUpdate, self._draw)
        self.figure: figure = fig

    def _controls(self) -> None:
        self.mode = pmui.RadioButtonGroup(
            options=list(self.tools), value="Lasso", size="small", margin=0,
            description="What dragging does in the latent space",
        )  # fmt: skip
        self.clear = pmui.Button(
            label="Clear", icon="close", size="small", variant="text", margin=0, disabled=True
        )
        self.note = pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS])
        self.clear.on_click(lambda _: self._forget())
        self.mode.param.watch(self._tool, "value")

    def _wire(self) -> None:
        self.state.param.watch(self._load, ["features", "cubes"])
        self.state.param.watch(self._follow, ["lon", "lat", "date"])
        self._load()

    def _tool(self, *_: Any) -> None:
        self.figure.toolbar.active_drag = self.tools[self.mode.value]

    def _load(self, *_: Any) -> None:
        name = self.state.features
        self._forget()
        if name:
            work.run(self.sample, name, then=partial(self._cloud, name), failed=self._empty)
        else:
            self._empty("No features yet: draw an area on the map and compute them.")

    def _empty(self, sentence: str) -> None:
        self.scores = np.empty((0, 2))
        for source in (self.image, self.path, self.here):
            source.data = {key: [] for key in source.data}
        self.note.object = note(sentence)

    def _cloud(self, name: str, found: tuple[np.ndarray, np.ndarray]) -> None:
        if name != self.state.features:
            return
        self.scores, explained = found
        (left, right), (bottom, top) = ranges(self.scores)
        self.figure.x_range.update(start=left, end=right)
        self.figure.y_range.update(start=bottom, end=top)
        self.figure.xaxis.axis_label = f"First component ({explained[0]:.0%} of the variance)"
        self.figure.yaxis.axis_label = f"Second component ({explained[1]:.0%})"
        self._draw()
        self._follow()

    def _draw(self, *_: Any) -> None:
        x, y = self.figure.x_range, self.figure.y_range
        shown = ((x.start, x.end), (y.start, y.end))
        if len(self.scores):
            work.run(
                cloud, self.scores, shown, then=partial(self._drawn, shown), failed=self._empty
            )

    def _drawn(self, shown: Ranges, image: np.ndarray) -> None:
        (left, right), (bottom, top) = shown
        if left == self.figure.x_range.start and bottom == self.figure.y_range.start:
            self.image.data = {
                "image": [image], "x": [left], "y": [bottom],
                "dw": [right - left], "dh": [top - bottom],
            }  # fmt: skip

    def _follow(self, *_: Any) -> None:
        state = self.state
        asked = state.features, state.point
        if state.features and state.point is not None and len(self.scores):
            work.run(
                self.track,
                *asked,
                then=partial(self._path, asked),
                failed=lambda _: self._path(asked),
            )

    def _path(
        self, asked: tuple[Any, Any], found: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        state = self.state
        if asked != (state.features, state.point):
            return
        times, scores = found or (np.array([], "datetime64[s]"), np.empty((0, 2)))
        year = state.date[:4]
        self.path.data = walked = path(times, scores, year)
        at = [i for i, day in enumerate(walked["day"]) if day == state.date]
        self.here.data = {axis: [walked[axis][i] for i in at] for axis in ("x", "y")}
        if not state.selection:
            self.note.object = note(self._hint(len(walked["day"]), year))

    def _hint(self, dates: int, year: str) -> str:
        path_note = f"The line is the clicked pixel through {year}." if dates else ""
        return f"Drag a lasso around points to light them up on the map. {path_note}"

    def _selected(self, event: SelectionGeometry) -> None:
        name = self.state.features
        if not event.final or not name:
            return
        corners = polygon(event.geometry)
        self.lasso.data = {"xs": [[x for x, _ in corners]], "ys": [[y for _, y in corners]]}
        work.run(self.select, name, corners, then=self._chosen, failed=self._refused)

    def _chosen(self, found: tuple[str, float]) -> None:
        self.state.selection, share = found
        self.clear.disabled = False
        self.note.object = note(
            f"{share:.1%} of the sampled pixels and dates are inside; the map shows them in pink."
            if share
            else "No pixel is inside; draw the lasso around some points."
        )

    def _refused(self, sentence: str) -> None:
        self._forget()
        self.note.object = note(sentence)

    def _forget(self) -> None:
        self.lasso.data = {"xs": [], "ys": []}
        self.state.selection = ""
        self.clear.disabled = True

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.Row(self.mode, pn.Spacer(sizing_mode="stretch_width"), self.clear, margin=0,
                   sizing_mode="stretch_width"),
            self.note,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", margin=0),
            pn.pane.HTML(
                months(), margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS]
            ),
            sizing_mode="stretch_both", margin=0, min_height=280,
        )  # fmt: skip
