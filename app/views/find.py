"""The section *Find*: one of four ways to ask the features, each made when it is first chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.plotting import figure

from app.state import State
from app.views.find_change import ChangeFinder
from app.views.find_classify import ClassFinder
from app.views.find_groups import GroupFinder
from app.views.find_parts import Finder, Overlay
from app.views.find_similar import SimilarFinder

WAYS: dict[str, type[Finder]] = {
    "Similar": SimilarFinder,
    "Groups": GroupFinder,
    "Classes": ClassFinder,
    "Change": ChangeFinder,
}
"""Title of a way to what shows it."""


class FindView(pn.viewable.Viewer):
    """Similarity, groups, classes and change of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(
        self,
        *,
        chart: figure,
        ask: Callable[..., Any],
        save: Callable[..., Any],
        shares: Callable[[str], list[float]],
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.overlay = Overlay(chart)
        self.given = {"overlay": self.overlay, "ask": ask, "save": save, "shares": shares}
        self.made: dict[str, Finder] = {}
        self.way = pmui.RadioButtonGroup(
            options=list(WAYS), value="Similar", size="small", margin=(4, 0),
            description="What to ask the features", sizing_mode="stretch_width",
        )  # fmt: skip
        self.place = pn.Column(sizing_mode="stretch_width", margin=0)
        self.way.param.watch(self._choose, "value")
        self._choose()

    @property
    def shown(self) -> Finder:
        """The way that is shown."""
        return self.made[self.way.value]

    def _choose(self, *_: Any) -> None:
        for one in self.made.values():
            one.active = False
        self.overlay.dots([], [])
        if self.way.value not in self.made:
            self.made[self.way.value] = WAYS[self.way.value](state=self.state, **self.given)
        self.place.objects = [self.shown]
        self.shown.active = True
        self.shown.draw()

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(self.way, self.place, sizing_mode="stretch_width", margin=(4, 12, 10, 12))
