"""Another picture right of a line on the map: its cube, what of it is shown, its date."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import offers, style
from app.fields import Picker
from app.state import State, nearest, offered


class CompareView(pn.viewable.Viewer):
    """The choice of the other picture of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        wide = {"sizing_mode": "stretch_width", "size": "small", "margin": (5, 0)}
        self.on = pmui.Switch.from_param(
            self.state.param.split, label="Compare two pictures (key c)", size="small",
            margin=(4, 0), description="",
        )  # fmt: skip
        self.cube = pmui.Select(label="Cube on the right", options=[], **wide)
        self.show = Picker(
            label="Show on the right", placeholder="Name, words or band", margin=(8, 0, 5, 0),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.date = pmui.Select(label="Date on the right", options=[], **wide)
        self.note = pn.pane.HTML(
            '<div class="note">Drag the line on the map, or focus it and use the arrow keys.</div>',
            stylesheets=[style.CSS], margin=(4, 0),
        )  # fmt: skip
        self.cube.param.watch(lambda event: self._chosen("other_cube", event.new), "value")
        self.show.param.watch(lambda event: self._chosen("other_show", event.new), "value")
        self.date.param.watch(lambda event: self._chosen("other_date", event.new), "value")
        self.state.param.watch(
            self._options, ["cubes", "other_cube", "other_show", "other_date", "own"]
        )
        self._options()

    def _chosen(self, name: str, value: str | None) -> None:
        if value and value != getattr(self.state, name):
            self.state.param.update(**{name: value})

    def _options(self, *_: Any) -> None:
        state = self.state
        if not state.cubes:
            return
        self.cube.param.update(options=list(state.cubes), value=state.other_cube or None)
        info = state.cubes.get(state.other_cube)
        if info is None:
            return
        days = [time[:10] for time in info["times"]]
        self.date.param.update(options=days, value=state.other_date or None)
        groups = offers.layers(info, state.pictures(state.other_cube), state.own)
        if groups != self.show.groups:
            self.show.groups = groups
        self.show.value = state.other_show

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.on, self.cube, self.show, self.date, self.note,
            sizing_mode="stretch_width", margin=(8, 12, 4, 12),
        )  # fmt: skip


def follow(state: State) -> None:
    """Keep the other picture one that there is: at first the features of the cube on the map."""

    def settle(*_: Any) -> None:
        if not state.split or not state.info:
            return
        if state.other_cube not in state.cubes:
            other = state.features if state.features in state.cubes else state.cube
            state.other_cube = other
        info = state.cubes[state.other_cube]
        days = [time[:10] for time in info["times"]]
        values = list(state.pictures(state.other_cube).values())
        usual = state.show if offered(info, state.show) else (values or info["channels"])[0]
        stays = state.other_show and offered(info, state.other_show)
        state.param.update(
            other_show=state.other_show if stays else usual,
            other_date=state.other_date if state.other_date in days else nearest(days, state.date),
        )

    state.param.watch(settle, ["split", "other_cube", "cubes"])
    settle()
