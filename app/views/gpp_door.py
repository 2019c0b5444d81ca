"""The way into the GPP laboratory, at the side of the map."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import style
from app.state import State
from app.views.find_parts import note

WORDS = (
    "What do vegetation models make of this place? Compare networks with flux towers, change "
    "radiation, warmth and dryness, and see at once what they answer."
)


class GppDoor(pn.viewable.Viewer):
    """A button that opens and closes the laboratory."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.button = pmui.Button(
            label="", icon="science", variant="contained", size="small",
            sizing_mode="stretch_width", margin=(6, 0),
        )  # fmt: skip
        self.button.on_click(lambda _: self.state.param.update(lab=not self.state.lab))
        self.state.param.watch(self._name, "lab")
        self._name()

    def _name(self, *_: Any) -> None:
        self.button.label = "Back to the map" if self.state.lab else "Open the laboratory"

    def __panel__(self) -> pn.viewable.Viewable:
        words = pn.pane.HTML(note(WORDS), stylesheets=[style.CSS], margin=0)
        return pn.Column(words, self.button, sizing_mode="stretch_width", margin=(4, 12, 10, 12))
