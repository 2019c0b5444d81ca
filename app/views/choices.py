"""How the latent space is shown: which plane, which colours, whose way through time."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import offers
from app.fields import Picker
from app.state import State, origin
from app.views.cloud import LAYER
from deepfeatures import space

WAYS = [
    ("density", "Density", "how many points", ""),
    ("month", "Month", "time of the year", ""),
    ("year", "Year", "", ""),
    ("place", "Place", "position on the map", ""),
]
"""Colours that need no channel."""


class Choices(param.Parameterized):
    """The choices of one session; the fields for them are made when they are first shown."""

    state = param.ClassSelector(class_=State)
    method = param.Selector(objects=list(space.METHODS), doc="Way to the plane.")
    by = param.String("density", doc="What colours the points: one of `WAYS` or a channel.")
    of = param.Selector(objects=["Pixel", "Area"], doc="Whose way through time is drawn.")
    all_years = param.Boolean(False, doc="Draw the way through each year.")

    @property
    def source(self) -> str:
        """Band cube that the features were made from, or empty."""
        return origin(self.state.cubes, self.state.features)

    def groups(self) -> offers.Groups:
        """Give what can colour the points."""
        cubes = self.state.cubes
        features = cubes.get(self.state.features, {})
        found: offers.Groups = [("Points", WAYS)]
        layers = [
            (f"{LAYER}{name}", name, str(one["title"]), "")
            for name, one in cubes.items()
            if one["kind"] == "layer" and one["attrs"].get("source_cube") == self.state.features
        ]
        if layers:
            found.append(("Layers", layers))
        if features:
            found += offers.channels(features, [])
        if self.source:
            found += offers.channels(cubes[self.source], self.state.own)
        return found

    def fields(self) -> pn.viewable.Viewable:
        """Make the fields."""
        self.plane = pmui.RadioButtonGroup(
            options={"PCA": "pca", "UMAP": "umap"}, value=self.method, size="small", margin=(8, 0),
            description="Plane of the latent space",
        )  # fmt: skip
        self.colour = Picker(
            label="Colour by", value=self.by, groups=self.groups(), width=120, margin=(4, 0)
        )
        self.whose = pmui.RadioButtonGroup(
            options=["Pixel", "Area"], value=self.of, size="small", margin=(8, 0),
            description="Whose way through time is drawn", disabled=self.state.area is None,
        )  # fmt: skip
        self.years = pmui.Switch(
            label="All years", value=self.all_years, size="small", margin=(8, 0)
        )
        self.plane.link(self, value="method")
        self.colour.link(self, value="by")
        self.whose.link(self, value="of")
        self.years.link(self, value="all_years")
        self.state.param.watch(self._follow, ["cubes", "features", "own", "area"])
        return pn.FlexBox(
            self.plane, self.colour, self.whose, self.years, gap="2px 8px", margin=0,
            align_items="center", sizing_mode="stretch_width",
        )  # fmt: skip

    def _follow(self, *_: Any) -> None:
        self.colour.groups = self.groups()
        self.whose.disabled = self.state.area is None
        if self.state.area is None:
            self.whose.value = "Pixel"
