"""The latent space beside the map: a cloud of pixel-dates, a lasso, an area, ways through time."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import numpy as np
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

from app import reads, style, work
from app.sections import Part
from app.state import State
from app.views import cloud as picture
from app.views.choices import Choices
from app.views.fitting import Offer
from deepfeatures import latent, space

LINE = 18
"""Height of a line of the legend [px]."""


def polygon(event: dict[str, Any]) -> list[tuple[float, float]]:
    """Give the corners of a Bokeh selection (box or lasso)."""
    if event["type"] == "rect":
        x0, x1, y0, y1 = (float(event[key]) for key in ("x0", "x1", "y0", "y1"))
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return [(float(x), float(y)) for x, y in zip(event["x"], event["y"], strict=True)]


def note(sentence: str) -> str:
    """Write a sentence under the controls."""
    return f'<div class="note">{escape(sentence)}</div>'


def axis_names(plane: space.Plane) -> tuple[str, str]:
    """Name the axes of a plane."""
    if not isinstance(plane.axes, latent.PCA):
        return "UMAP, first axis", "UMAP, second axis"
    shares = [*plane.axes.explained, 0.0]
    return (
        f"First component ({shares[0]:.0%} of the variance)",
        f"Second component ({shares[1]:.0%})",
    )


def empty(*names: str, name: str = "") -> ColumnDataSource:
    """Make a data source without rows."""
    return ColumnDataSource({key: [] for key in names}, name=name or None)


class LatentView(pn.viewable.Viewer):
    """The latent space of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.plane: space.Plane | None = None
        self.shade = picture.PLAIN
        self.colors: dict[str, str] = {}
        self.marked: Any = None
        self.image = empty("image", "x", "y", "dw", "dh", name="latent-image")
        self.lines = empty("xs", "ys", "color")
        self.path = empty("x", "y", "day", "color", name="latent-path")
        self.area = empty("x", "y", "day", name="latent-area")
        self.here = empty("x", "y")
        self.lasso = empty("xs", "ys")
        self.choices = Choices(state=self.state)
        self._figure()
        self._controls()
        self._wire()

    def _figure(self) -> None:
        fig = style.plain(
            tools="", x_range=Range1d(-1, 1), y_range=Range1d(-1, 1), name="latent",
            x_axis_label="First component", y_axis_label="Second component",
        )  # fmt: skip
        fig.image_rgba("image", x="x", y="y", dw="dw", dh="dh", source=self.image)
        fig.scatter("x", "y", source=self.area, size=4, color=style.ACCENT, alpha=0.7)
        fig.patches(
            "xs", "ys", source=self.lasso, fill_color=style.ACCENT, fill_alpha=0.15,
            line_color=style.ACCENT, line_width=2,
        )  # fmt: skip
        fig.multi_line("xs", "ys", color="color", source=self.lines, line_width=1.2, alpha=0.8)
        dots = fig.scatter(
            "x", "y", source=self.path, size=8, fill_color="color", line_color="#ffffff"
        )
        fig.scatter(
            "x", "y", source=self.here, size=16, fill_alpha=0, line_color=style.ACCENT,
            line_width=2.5,
        )  # fmt: skip
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
        text = {"size": "small", "variant": "text", "margin": 0}
        self.more = pmui.Button(label="Options", icon="tune", **text)
        self.clear = pmui.Button(label="Clear", icon="close", disabled=True, **text)
        html = {"margin": 0, "sizing_mode": "stretch_width", "stylesheets": [style.CSS]}
        # both have their height from the beginning: what grows pushes the figure over the legend
        self.note = pn.pane.HTML("", min_height=LINE, **html)
        self.legend = pn.pane.HTML(picture.months(), height=LINE, **html)
        self.options = Part(self.choices.fields, visible=False)
        self.offer = Part(lambda: Offer(state=self.state, made=self._load), visible=False)
        self.clear.on_click(lambda _: self._forget())
        self.more.on_click(self._opened)
        self.mode.param.watch(self._tool, "value")

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._load, "features")
        state.param.watch(self._cubes, "cubes")
        state.param.watch(self._follow, ["lon", "lat", "date", "area"])
        state.param.watch(self._inside, ["area", "date"])
        state.param.watch(self._load, "plane")
        state.param.watch(self._colour, "shade")
        state.param.watch(self._follow, ["years", "whose"])
        self._load()

    def _opened(self, _: Any) -> None:
        self.options.show()
        self.options.holder.visible = not self.options.holder.visible

    def _tool(self, *_: Any) -> None:
        self.figure.toolbar.active_drag = self.tools[self.mode.value]

    def _cubes(self, *_: Any) -> None:
        if self.plane is None:
            self._load()

    def _asked(self) -> tuple[str, str]:
        return self.state.features, self.state.plane

    def _load(self, *_: Any) -> None:
        asked = self._asked()
        self.plane = None
        self._forget()
        if self.offer.made is not None:
            self.offer.made.leave()
            self.offer.holder.visible = False
        if asked[0]:
            work.run(
                reads.latent.plane, self.state.ws, *asked,
                then=partial(self._planed, asked), failed=self._empty,
            )  # fmt: skip
        else:
            self._empty("No features yet: draw an area on the map and compute them.")

    def _empty(self, sentence: str) -> None:
        self.marked = None
        for source in (self.image, self.path, self.lines, self.here, self.area):
            source.data = {key: [] for key in source.data}
        self.note.object = note(sentence) if sentence else ""

    def _planed(
        self, asked: tuple[str, str], found: tuple[space.Plane, picture.Ranges] | None
    ) -> None:
        if asked != self._asked():
            return
        if found is None:
            self._empty("")
            offer = self.offer.show()
            self.offer.holder.visible = True
            offer.ask(asked[0])
            return
        self.plane, ((left, right), (bottom, top)) = found
        self.shade = picture.PLAIN
        self.figure.x_range.update(start=left, end=right)
        self.figure.y_range.update(start=bottom, end=top)
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = axis_names(self.plane)
        self._colour()
        self._follow()
        self._inside()

    def _colour(self, *_: Any) -> None:
        plane, by = self.plane, self.state.shade
        if plane is None:
            return
        if by == "density":
            self._shaded(plane, picture.PLAIN)
            return
        state = self.state
        work.run(
            reads.latent.shade, state.ws, state.features, plane, by, self.choices.source,
            then=partial(self._shaded, plane), failed=lambda words: self._say(note(words)),
        )  # fmt: skip

    def _shaded(self, plane: space.Plane, shade: picture.Shade) -> None:
        if plane is self.plane and shade.name == self.state.shade:
            self.shade = shade
            self._legends()
            self._draw()

    def _legends(self) -> None:
        ways = picture.years(self.colors) if self.colors else picture.months()
        plain = self.shade.name == "density"
        same = self.shade.name == "month" and not self.colors
        lines = [ways] if plain else [picture.legend(self.shade), *([] if same else [ways])]
        self.legend.param.update(object="".join(lines), height=LINE * len(lines))

    def _draw(self, *_: Any) -> None:
        x, y = self.figure.x_range, self.figure.y_range
        shown = ((x.start, x.end), (y.start, y.end))
        if self.plane is not None and len(self.plane.scores):
            asked = self.plane, self.shade
            work.run(
                picture.cloud, self.plane.scores, shown, self.shade,
                then=partial(self._drawn, shown, asked), failed=self._empty,
            )  # fmt: skip

    def _drawn(self, shown: picture.Ranges, asked: Any, image: np.ndarray) -> None:
        (left, right), (bottom, top) = shown
        now = self.figure.x_range.start, self.figure.y_range.start
        if (left, bottom) == now and asked == (self.plane, self.shade):
            self.image.data = {
                "image": [image], "x": [left], "y": [bottom],
                "dw": [right - left], "dh": [top - bottom],
            }  # fmt: skip

    @property
    def _whole(self) -> bool:
        """Whether the way of the area is drawn."""
        return self.state.whose == "Area" and self.state.area is not None

    def _follow(self, *_: Any) -> None:
        state, plane, area = self.state, self.plane, self._whole
        place = state.area if area else state.point
        if plane is None or place is None:
            return
        asked = plane, place
        work.run(
            reads.latent.mean_track if area else reads.latent.track,
            state.ws, state.features, plane, place,
            then=partial(self._path, asked), failed=lambda _: self._path(asked),
        )  # fmt: skip

    def _path(
        self, asked: tuple[Any, Any], found: tuple[np.ndarray, np.ndarray] | None = None
    ) -> None:
        state, area = self.state, self._whole
        if asked != (self.plane, state.area if area else state.point):
            return
        times, scores = found or (np.array([], "datetime64[s]"), np.empty((0, 2)))
        year = state.date[:4]
        if self.state.years:
            walked, self.colors = picture.paths(times, scores)
        else:
            walked, self.colors = picture.path(times, scores, year), {}
        self.lines.data = picture.lines(walked, "" if self.colors else style.LINE)
        self.path.data = walked
        at = [i for i, day in enumerate(walked["day"]) if day == state.date]
        self.here.data = {axis: [walked[axis][i] for i in at] for axis in ("x", "y")}
        self._legends()
        self._say(note(self._hint(len(walked["day"]))))

    def _hint(self, dates: int) -> str:
        if not dates:
            return "A lasso around points lights them up on the map."
        what = "the mean of the area" if self._whole else "the clicked pixel"
        when = "all years" if self.colors else self.state.date[:4]
        return f"A lasso lights up the map. Line: {what}, {when}."

    def _say(self, words: str) -> None:
        if not self.state.selection:
            self.note.object = words

    def _inside(self, *_: Any) -> None:
        state, plane = self.state, self.plane
        asked = plane, state.area, state.date[:4]
        if asked == self.marked:
            return  # another date of the same year
        self.marked = asked
        if plane is None or state.area is None:
            self.area.data = {key: [] for key in self.area.data}
            return
        work.run(
            reads.latent.inside, state.ws, state.features, plane, *asked[1:],
            then=partial(self._marked, asked), failed=lambda _: self._marked(asked),
        )  # fmt: skip

    def _marked(self, asked: Any, found: dict[str, list[Any]] | None = None) -> None:
        if asked == (self.plane, self.state.area, self.state.date[:4]):
            self.area.data = found or {key: [] for key in self.area.data}

    def _selected(self, event: SelectionGeometry) -> None:
        if not event.final or self.plane is None:
            return
        corners = polygon(event.geometry)
        self.lasso.data = {"xs": [[x for x, _ in corners]], "ys": [[y for _, y in corners]]}
        work.run(
            reads.latent.select, self.state.features, self.plane, corners,
            then=self._chosen, failed=self._refused,
        )  # fmt: skip

    def _chosen(self, found: tuple[str, float]) -> None:
        self.state.selection, share = found
        self.clear.disabled = False
        self.note.object = note(
            f"{share:.1%} of the pixels and dates are inside; the map shows them in pink."
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
            pn.Row(self.mode, pn.Spacer(sizing_mode="stretch_width"), self.more, self.clear,
                   margin=0, sizing_mode="stretch_width"),
            self.options.holder, self.note, self.offer.holder,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", margin=0), self.legend,
            sizing_mode="stretch_both", margin=0, min_height=280,
        )  # fmt: skip
