"""What the map shows: cube, picture, channel or index, its colours and their range, the legend."""

from __future__ import annotations

from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import about, offers, style, work
from app.fields import Expression, Picker
from app.state import MOST_SERIES, State
from deepfeatures import errors, indices, render
from deepfeatures.indices.formula import FormulaError
from deepfeatures.serve.spectral import computable


def look(text: str, bands: list[str]) -> indices.Index | about.Mistake:
    """Give the index that a name or an expression of bands defines, or what is wrong with it."""
    try:
        return computable(text, bands)
    except FormulaError as error:
        return about.Mistake(text, error.reason, error.position)
    except (KeyError, ValueError) as error:
        return about.Mistake(text, errors.sentence(error))


def classes(info: dict[str, Any]) -> str:
    """Write the legend of a saved layer of classes; empty for any other cube."""
    names = info.get("attrs", {}).get("classes") if info.get("kind") == "layer" else None
    if not isinstance(names, list):
        return ""
    square = "display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px"
    rows = "".join(
        f'<div role="listitem"><i style="{square};background:{render.class_colour(code)}"></i>'
        f"{escape(str(name))}</div>"
        for code, name in enumerate(names, 1)
    )
    return f'<div class="legend" role="list">{rows}</div>'


def legend(show: str, cmap: str, limits: tuple[float, float] | None) -> str:
    """Write the colour bar of a single channel as HTML; empty for a colour picture."""
    if "," in show or limits is None:
        return ""
    name = escape(show)
    stops = render.legend(cmap, *limits)
    colors = ", ".join(str(stop["colour"]) for stop in stops)
    middle = (limits[0] + limits[1]) / 2
    ticks = "".join(f"<span>{value:.3g}</span>" for value in (limits[0], middle, limits[1]))
    return (
        f'<div class="legend" role="img" aria-label="Colours of {name} from {limits[0]:.3g} to '
        f'{limits[1]:.3g}"><b>{name}</b><div class="ramp" style="background:linear-gradient('
        f'to right, {colors})"></div><div class="ticks">{ticks}</div></div>'
    )


class LayerView(pn.viewable.Viewer):
    """What the map of one session shows."""

    state = param.ClassSelector(class_=State)
    auto = param.Tuple(None, length=2, doc="Range that the data suggest for the channel.")

    def __init__(self, *, suggest: Any, reachable: Any, **params: Any) -> None:
        super().__init__(**params)
        self.suggest, self.reachable = suggest, reachable
        self.writing = False
        wide = {"sizing_mode": "stretch_width", "size": "small", "margin": (5, 0)}
        self.cube = pmui.Select(label="Cube", options=[], **wide)
        self.show = Picker(
            label="Show", placeholder="Name, words or band", margin=(12, 0, 5, 0),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self._index()
        self.cmap = pmui.Select(label="Colours", options=list(render.COLOURS), **wide)
        self.low = pmui.FloatInput(label="From", **wide)
        self.high = pmui.FloatInput(label="To", **wide)
        self.fit = pmui.Button(
            label="Usual range", icon="straighten", variant="text", size="small", margin=0
        )
        self.over = pmui.Switch(label="Draw features on top", size="small", margin=(4, 0))
        self.opacity = pmui.FloatSlider.from_param(
            self.state.param.opacity, label="Opacity", step=0.05, size="small", margin=(5, 8),
            sizing_mode="stretch_width", description="",
        )  # fmt: skip
        self.masked = pmui.Switch.from_param(
            self.state.param.masked, label="Hide clouds and gaps", size="small", margin=(4, 0),
            description="",
        )  # fmt: skip
        self.background = pmui.Switch.from_param(
            self.state.param.background, label="Background map", size="small", margin=(4, 0),
            visible=False, description="",
        )  # fmt: skip
        self.features = pmui.Select(label="Features", options=[], **wide)
        self.ramp = pn.pane.HTML("", margin=0)
        self.single = pn.Column(
            self.cmap,
            pn.Row(self.low, self.high, margin=0, sizing_mode="stretch_width"),
            self.fit,
            margin=0, sizing_mode="stretch_width",
        )  # fmt: skip
        self._wire()

    def _index(self) -> None:
        self.about = pn.pane.HTML(
            "", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS]
        )
        text = {"variant": "text", "size": "small", "margin": 0}
        self.plot = pmui.Button(label="Add to the series", icon="show_chart", **text)
        self.change = pmui.Button(label="Edit formula", icon="edit", **text)
        self.own = Expression(
            label="Own index", placeholder="(B08 - B05) / (B08 + B05)", action="Show",
            margin=(12, 0, 5, 0), sizing_mode="stretch_width",
        )  # fmt: skip

    def _wire(self) -> None:
        state = self.state
        self.own.sent(self._ask_own)
        self.plot.on_click(self._plotted)
        self.change.on_click(self._changed)
        self.cube.param.watch(lambda event: self._chosen(cube=event.new), "value")
        self.show.param.watch(lambda event: self._shown(event.new), "value")
        self.cmap.param.watch(lambda event: self._chosen(cmap=event.new), "value")
        self.over.param.watch(lambda event: self._chosen(over=event.new), "value")
        self.features.param.watch(lambda event: self._chosen(features=event.new), "value")
        for box in (self.low, self.high):
            box.param.watch(self._typed, "value")
        self.fit.on_click(lambda _: self._chosen(limits=None))
        state.param.watch(
            self._options, ["cube", "cubes", "show", "features", "over", "cmap", "own", "chosen"]
        )
        state.param.watch(self._ask, ["cube", "show"])
        state.param.watch(self._range, ["limits", "cmap", "show", "cube"])
        self._options()
        self._ask()
        work.run(self.reachable, then=self._reached, failed=lambda _: None)

    def _reached(self, there: bool) -> None:
        self.background.visible = there
        self.state.background = there

    def _shown(self, show: str) -> None:
        if show != self.state.show:
            self._chosen(show=show, limits=None)

    def _chosen(self, **values: Any) -> None:
        state = self.state
        if values.get("cube", state.cube) in state.cubes and values.get("show", "-") is not None:
            state.param.update(**values)

    def _options(self, *_: Any) -> None:
        state = self.state
        self.cube.param.update(options=list(state.cubes), value=state.cube or None)
        partners = [name for name in state.partners() if name != state.cube]
        self.features.param.update(
            options=partners, value=state.features if state.features in partners else None,
            visible=bool(partners),
        )  # fmt: skip
        self.over.param.update(value=state.over, visible=bool(partners))
        if state.info:
            found = offers.layers(state.info, state.pictures(), state.own)
            if found != self.show.groups:
                self.show.groups = found
            self.show.value = state.show
        self.cmap.value = state.cmap
        self.single.visible = "," not in state.show and not classes(state.info)
        self._describe()

    def _describe(self) -> None:
        state, kind = self.state, self.state.info.get("kind")
        bands, single = kind == "bands", kind != "features" and "," not in state.show
        known = state.show in indices.INDICES
        own = single and bands and state.show not in state.info["channels"] and not known
        index = indices.find(state.show) if known or own else None
        self.about.object = about.index(index) if index else ""
        self.plot.visible = single and state.show not in state.chosen
        self.change.visible = bands and index is not None
        self.own.visible = bands

    def _plotted(self, _: Any) -> None:
        self.state.chosen = [*self.state.chosen, self.state.show][-MOST_SERIES:]

    def _changed(self, _: Any) -> None:
        self.own.write(indices.find(self.state.show).formula)

    def _ask_own(self, text: str) -> None:
        asked = text.strip(), list(self.state.info.get("channels", []))
        work.run(
            look,
            *asked,
            then=lambda found: (
                self._judged(found) if asked[1] == self.state.info["channels"] else None
            ),
            failed=lambda sentence: self._judged(about.Mistake(text, sentence)),
        )

    def _judged(self, found: indices.Index | about.Mistake) -> None:
        if isinstance(found, about.Mistake):
            place = -1 if found.position is None else found.position
            self.own.param.update(mistake=about.mistake(found), position=place)
            return
        self.own.mistake = ""
        self._shown(" ".join(found.name.split()))

    def _ask(self, *_: Any) -> None:
        self.auto = None
        self._range()
        if self.state.info and "," not in self.state.show:
            asked = self.state.cube, self.state.show
            work.run(
                self.suggest,
                *asked,
                then=lambda limits: self._suggested(asked, limits),
                failed=lambda _: self._suggested(asked, (0.0, 1.0)),
            )

    def _suggested(self, asked: tuple[str, str], limits: tuple[float, float]) -> None:
        if asked == (self.state.cube, self.state.show):
            self.auto = limits
            if self.state.limits is None:
                self.state.limits = limits

    def _range(self, *_: Any) -> None:
        limits = self.state.limits
        if limits is None and self.auto is not None:
            self.state.limits = self.auto
            return
        if limits is not None:
            self.writing = True  # one end after the other: the pair between is nobody's wish
            self.low.value, self.high.value = limits
            self.writing = False
        named = classes(self.state.info)
        self.ramp.object = named or legend(self.state.show, self.state.cmap, limits)

    def _typed(self, *_: Any) -> None:
        low, high = self.low.value, self.high.value
        if not self.writing and low is not None and high is not None and low < high:
            self.state.limits = (low, high)

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.cube,
            self.show,
            self.about,
            pn.Row(self.plot, self.change, margin=0),
            self.own,
            self.single,
            self.features,
            self.over,
            self.masked,
            self.opacity,
            self.background,
            sizing_mode="stretch_width", margin=(8, 12, 4, 12),
        )  # fmt: skip
