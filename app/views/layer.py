"""What the map shows: cube, channel or picture, colour map and its range, and the legend."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import style, work
from app.state import State
from deepfeatures import indices, render

FAVOURITES = ("NDVI", "kNDVI", "EVI", "NDMI", "NDRE", "NIRv", "NBR", "NDWI", "BSI", "CIRE")
"""Indices that stand first in the list."""


def groups(info: dict[str, Any], pictures: dict[str, str]) -> dict[str, dict[str, str]]:
    """Give what a cube can show, in groups: label to the value of `State.show`."""
    found: dict[str, dict[str, str]] = {"Pictures": dict(pictures)}
    channels = list(info.get("channels", []))
    words = {"bands": "Bands", "features": "Features", "index": "Indices"}
    found[words[info["kind"]]] = {channel: channel for channel in channels}
    if info["kind"] == "bands":
        found["Indices"] = {f"{name}": name for name in ordered(channels)}
    return {label: options for label, options in found.items() if options}


def ordered(channels: list[str]) -> list[str]:
    """Give the indices that these bands allow, the usual ones first."""
    names = indices.available(channels)
    first = [name for name in FAVOURITES if name in names]
    return first + [name for name in names if name not in first]


def about(show: str) -> str:
    """Say what an index is; empty for anything else."""
    index = indices.INDICES.get(show)
    return (
        f'<div class="note">{index.long_name}: <code>{index.formula}</code></div>' if index else ""
    )


def legend(show: str, cmap: str, limits: tuple[float, float] | None) -> str:
    """Write the colour bar of a single channel as HTML; empty for a colour picture."""
    if "," in show or limits is None:
        return ""
    stops = render.legend(cmap, *limits)
    colors = ", ".join(str(stop["colour"]) for stop in stops)
    middle = (limits[0] + limits[1]) / 2
    ticks = "".join(f"<span>{value:.3g}</span>" for value in (limits[0], middle, limits[1]))
    return (
        f'<div class="legend" role="img" aria-label="Colours of {show} from {limits[0]:.3g} to '
        f'{limits[1]:.3g}"><b>{show}</b><div class="ramp" style="background:linear-gradient('
        f'to right, {colors})"></div><div class="ticks">{ticks}</div></div>'
    )


class LayerView(pn.viewable.Viewer):
    """What the map of one session shows."""

    state = param.ClassSelector(class_=State)
    auto = param.Tuple(None, length=2, doc="Range that the data suggest for the channel.")

    def __init__(self, *, suggest: Any, reachable: Any, **params: Any) -> None:
        super().__init__(**params)
        self.suggest, self.reachable = suggest, reachable
        wide = {"sizing_mode": "stretch_width", "size": "small", "margin": (5, 0)}
        self.cube = pmui.Select(label="Cube", options=[], **wide)
        self.show = pmui.Select(label="Show", searchable=True, dropdown_height=460, **wide)
        self.about = pn.pane.HTML(
            "", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS]
        )
        self.cmap = pmui.Select(label="Colours", options=list(render.COLOURS), **wide)
        self.low = pmui.FloatInput(label="From", **wide)
        self.high = pmui.FloatInput(label="To", **wide)
        self.fit = pmui.Button(
            label="Fit to the data", icon="straighten", variant="text", size="small", margin=0
        )
        self.over = pmui.Switch(label="Draw features on top", size="small", margin=(4, 0))
        self.masked = pmui.Switch.from_param(
            self.state.param.masked, label="Hide clouds and gaps", size="small", margin=(4, 0)
        )
        self.background = pmui.Switch.from_param(
            self.state.param.background, label="Background map", size="small", margin=(4, 0),
            visible=False,
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

    def _wire(self) -> None:
        state = self.state
        self.cube.param.watch(lambda event: self._chosen(cube=event.new), "value")
        self.show.param.watch(lambda event: self._chosen(show=event.new, limits=None), "value")
        self.cmap.param.watch(lambda event: self._chosen(cmap=event.new), "value")
        self.over.param.watch(lambda event: self._chosen(over=event.new), "value")
        self.features.param.watch(lambda event: self._chosen(features=event.new), "value")
        for box in (self.low, self.high):
            box.param.watch(self._typed, "value")
        self.fit.on_click(lambda _: self._chosen(limits=None))
        state.param.watch(self._options, ["cube", "cubes", "show", "features", "over", "cmap"])
        state.param.watch(self._ask, ["cube", "show"])
        state.param.watch(self._range, ["limits", "cmap", "show"])
        self._options()
        self._ask()
        work.run(self.reachable, then=self._reached, failed=lambda _: None)

    def _reached(self, there: bool) -> None:
        self.background.visible = there
        self.state.background = there

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
            found = groups(state.info, state.pictures())
            if found != self.show.groups:
                self.show.param.update(groups=found, value=state.show)
            self.show.value = state.show
        self.cmap.value = state.cmap
        self.single.visible = "," not in state.show
        self.about.object = about(state.show)

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
            self.low.value, self.high.value = limits
        self.ramp.object = legend(self.state.show, self.state.cmap, limits)

    def _typed(self, *_: Any) -> None:
        low, high = self.low.value, self.high.value
        if low is not None and high is not None and low < high:
            self.state.limits = (low, high)

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.cube, self.show, self.about, self.single, self.features, self.over,
            self.masked, self.background,
            sizing_mode="stretch_width", margin=(8, 12, 4, 12),
        )  # fmt: skip
