"""Places kept in the workspace: save the present view, go back to one, delete it."""

from __future__ import annotations

from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import style, work
from app.state import State, nearest
from deepfeatures import places


class PlacesView(pn.viewable.Viewer):
    """The places of the workspace, as one session sees them."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, bounds: Any, go: Any, **params: Any) -> None:
        super().__init__(**params)
        self.bounds, self.go = bounds, go
        self.found: dict[str, places.Place] = {}
        wide = {"sizing_mode": "stretch_width", "size": "small", "margin": (5, 0)}
        self.called = pmui.TextInput(label="Name of this view", max_length=places.MAX_NAME, **wide)
        self.words = pmui.TextInput(label="Note", max_length=places.MAX_NOTE, **wide)
        self.save = pmui.Button(label="Save this view", icon="add_location", size="small", margin=0)
        self.chosen = pmui.Select(label="Kept places", options=[], **wide)
        self.visit = pmui.Button(label="Go there", icon="place", size="small", margin=0)
        self.forget = pmui.Button(
            label="Delete", icon="delete", variant="text", size="small", margin=0
        )
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], margin=(4, 0))
        self.save.on_click(self._saved)
        self.visit.on_click(self._visited)
        self.forget.on_click(self._deleted)
        self.chosen.param.watch(lambda *_: self._describe(), "value")
        self._read()

    def _read(self, chosen: str = "") -> None:
        work.run(
            places.listing,
            self.state.ws,
            then=lambda found: self._listed(found, chosen),
            failed=self._say,
        )

    def _listed(self, found: list[places.Place], chosen: str) -> None:
        self.found = {one.name: one for one in found}
        names = list(self.found)
        value = chosen if chosen in names else (names or [None])[0]
        self.chosen.param.update(options=names, value=value, visible=bool(names))
        self.visit.visible = self.forget.visible = bool(names)
        self._describe()

    def _describe(self) -> None:
        place = self.found.get(self.chosen.value or "")
        if place is None:
            self._say("No place is kept yet. Move the map, give the view a name and save it.")
        else:
            at = f"{place.lat:.4f}, {place.lon:.4f}"
            self._say(" · ".join(part for part in (at, place.date, place.note) if part))

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(sentence)}</div>'

    def _saved(self, _: Any) -> None:
        west, south, east, north = self.bounds()
        place = places.Place(
            self.called.value_input or self.called.value, (west + east) / 2, (south + north) / 2,
            (west, south, east, north), self.state.date, self.words.value_input or "",
        )  # fmt: skip
        work.run(places.keep, self.state.ws, place, then=self._kept, failed=self._say)

    def _kept(self, place: places.Place) -> None:
        self.called.param.update(value="", value_input="")
        self.words.param.update(value="", value_input="")
        self._read(place.name)

    def _visited(self, _: Any) -> None:
        place = self.found.get(self.chosen.value or "")
        if place is not None:
            self.go(list(place.bounds))
            if place.date and self.state.days:
                self.state.date = nearest(self.state.days, place.date)

    def _deleted(self, _: Any) -> None:
        work.run(
            places.remove,
            self.state.ws,
            self.chosen.value or "",
            then=lambda _: self._read(),
            failed=self._say,
        )

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.called, self.words, self.save, self.chosen, self.note,
            pn.Row(self.visit, self.forget, margin=0),
            sizing_mode="stretch_width", margin=(8, 12, 4, 12),
        )  # fmt: skip
