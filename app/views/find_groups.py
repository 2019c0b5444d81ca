"""Groups of pixels with alike features, as many as are asked for."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui

from app import style
from app.reads.find import Map
from app.views.find_parts import SMALL, WIDE, Finder, areas, whens


class GroupFinder(Finder):
    """Divides the pixels into groups."""

    method = "groups"

    def build(self) -> None:
        """Make the controls."""
        self.count = pmui.IntSlider(label="Groups", start=2, end=12, value=5, **WIDE)
        self.when = pmui.Select(
            label="Dates", options=whens(self.info, self.state.date), value="", **SMALL
        )
        self.start.label = "Make groups"
        self.state.param.watch(lambda *_: self.renew(), "date")

    def renew(self) -> None:
        """Follow cube and date."""
        options = whens(self.info, self.state.date)
        if options != self.when.options:
            kept = self.when.value if self.when.value in options.values() else ""
            self.when.param.update(options=options, value=kept)

    def settings(self) -> dict[str, Any]:
        """Give number and dates."""
        return {"k": int(self.count.value), "when": self.when.value or ""}

    def fill(self, made: Map) -> list[Any]:
        """Show the legend with the area of each group."""
        assert made.found is not None
        legend = areas(made.found.summary["areas_ha"])
        return [pn.pane.HTML(legend, stylesheets=[style.CSS], **WIDE)]

    def look(self, made: Map) -> dict[str, Any]:
        """Draw the groups in their colours."""
        return {"channel": "group"}

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.count, self.when, self.start, self.note, self.result,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
