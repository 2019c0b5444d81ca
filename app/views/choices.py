"""How the latent space is shown: which plane, which colours, whose way through time."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import offers
from app.fields import Picker
from app.state import LAYER, State, origin

WAYS = [
    ("density", "Density", "how many points", ""),
    ("month", "Month", "time of the year", ""),
    ("year", "Year", "", ""),
    ("place", "Place", "position on the map", ""),
]
"""Colours that need no channel, `state.SHADES`."""


class Choices(param.Parameterized):
    """The fields of one session; they are made when they are first shown."""

    state = param.ClassSelector(class_=State)

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
            options={"PCA": "pca", "UMAP": "umap"}, value=self.state.plane, size="small",
            margin=(8, 0), description="Plane of the latent space",
        )  # fmt: skip
        self.colour = Picker(
            label="Colour by",
            value=self.state.shade,
            groups=self.groups(),
            width=120,
            margin=(4, 0),
        )
        self.whose = pmui.RadioButtonGroup(
            options=["Pixel", "Area"], value=self.state.whose, size="small", margin=(8, 0),
            description="Whose way through time is drawn", disabled=self.state.area is None,
        )  # fmt: skip
        self.years = pmui.Switch(
            label="All years", value=self.state.years, size="small", margin=(8, 0)
        )
        self.plane.link(self.state, value="plane")
        self.colour.link(self.state, value="shade")
        self.whose.link(self.state, value="whose")
        self.years.link(self.state, value="years")
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
