"""What a feature means: the bands and indices that it goes together with, as sorted bars."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d, TapTool

from app import reads, style, work
from app.state import State, origin
from deepfeatures import indices, space
from deepfeatures.bands import BANDS

STRONGEST = 20
"""Bars that are shown."""

SIGNS = (style.SERIES[1], style.SERIES[0])
"""Colours of a negative and a positive correlation."""

Bars = dict[str, list[Any]]


def bars(found: space.Meaning, feature: str, ranks: bool) -> Bars:
    """Give the strongest correlations of a feature, strongest first."""
    table = found.spearman if ranks else found.pearson
    values = table[found.features.index(feature)]
    order = np.argsort(-np.abs(np.nan_to_num(values)), kind="stable")[:STRONGEST]
    chosen = [at for at in order.tolist() if np.isfinite(values[at])]
    return {
        "name": [found.names[at] for at in chosen],
        "value": [float(values[at]) for at in chosen],
        "words": [described(found.names[at]) for at in chosen],
        "color": [SIGNS[int(values[at] > 0)] for at in chosen],
    }


def described(name: str) -> str:
    """Say in words what a band or an index is."""
    if name in BANDS:
        return f"{BANDS[name].common_name}, {BANDS[name].wavelength_nm:.0f} nm"
    return indices.INDICES[name].long_name if name in indices.INDICES else name


class MeaningView(pn.viewable.Viewer):
    """The meaning of the features of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.found: space.Meaning | None = None
        self.of = ("", "")
        self.bars = ColumnDataSource(
            {"name": [], "value": [], "words": [], "color": []}, name="meaning-bars"
        )
        self.feature = pmui.Select(
            label="Feature", options=[], size="small", width=110, margin=(4, 0)
        )
        self.ranks = pmui.RadioButtonGroup(
            options={"Pearson": False, "Spearman": True}, value=False,
            size="small", margin=(8, 0), description="Correlation of values or of ranks",
        )  # fmt: skip
        self.note = pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[style.CSS])
        self._figure()
        self.feature.param.watch(self._show, "value")
        self.ranks.param.watch(self._show, "value")
        self.state.param.watch(self._load, ["features", "cubes"])
        self._load()

    def _figure(self) -> None:
        fig = style.plain(
            tools="", name="meaning", x_range=Range1d(-1, 1), y_range=FactorRange(),
            x_axis_label="Correlation", x_axis_location="above", height=16 * STRONGEST + 50,
            sizing_mode="stretch_width",
        )  # fmt: skip
        drawn = fig.hbar(
            y="name", right="value", left=0, height=0.8, color="color", source=self.bars,
            nonselection_alpha=1.0,
        )  # fmt: skip
        tips = [("", "@name"), ("", "@words"), ("Correlation", "@value{0.000}")]
        fig.add_tools(HoverTool(renderers=[drawn], tooltips=tips), TapTool(renderers=[drawn]))
        fig.yaxis.major_label_text_font_size = "10px"
        fig.ygrid.grid_line_color = None
        self.bars.selected.on_change("indices", self._tapped)
        self.figure = fig

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note">{escape(sentence)}</div>'

    def _asked(self) -> tuple[str, str]:
        return self.state.features, origin(self.state.cubes, self.state.features)

    def _load(self, *_: Any) -> None:
        asked = self._asked()
        if self.found is not None and asked == self.of:
            return
        self.of, self.found = asked, None
        self._draw({key: [] for key in self.bars.data})
        if not asked[0]:
            self._say("No features yet: draw an area on the map and compute them.")
        elif not asked[1]:
            self._say("The bands that these features were made from are not in this workspace.")
        else:
            self._say("Comparing the features with every index.")
            work.run(
                reads.latent.meaning, self.state.ws, *asked,
                then=partial(self._found, asked), failed=self._say,
            )  # fmt: skip

    def _found(self, asked: tuple[str, str], found: space.Meaning) -> None:
        if asked != self._asked():
            return
        self.found = found
        names = list(found.features)
        chosen = self.feature.value if self.feature.value in names else names[0]
        self.feature.param.update(options=names, value=chosen)
        self._show()

    def _show(self, *_: Any) -> None:
        found, feature = self.found, self.feature.value
        if found is None or feature not in found.features:
            return
        self._draw(bars(found, feature, self.ranks.value))
        self._say(
            f"Strongest of {len(found.names)} over {found.count:,} pixels and dates. "
            "Click a bar to map it."
        )

    def _draw(self, data: Bars) -> None:
        self.bars.selected.indices = []
        self.figure.y_range.factors = data["name"][::-1]
        self.bars.data = data

    def _tapped(self, _attr: str, _old: list[int], new: list[int]) -> None:
        if new and self.of[1]:
            name = self.bars.data["name"][new[0]]
            self.state.param.update(cube=self.of[1], show=name, limits=None)

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.FlexBox(self.feature, self.ranks, gap="2px 10px", margin=0, align_items="center",
                       sizing_mode="stretch_width"),
            self.note,
            pn.Column(
                pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
                scroll="y-auto", sizing_mode="stretch_both", margin=0,
            ),
            sizing_mode="stretch_both", margin=0, min_height=280,
        )  # fmt: skip
