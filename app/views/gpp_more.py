"""Below the chart of the GPP laboratory: residuals, disagreement, scatter, importance, ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
from bokeh.models import Range1d

from app import reads, sections, style, work
from app.reads.gpp import Shown
from app.views import gpp_words as words
from app.views.find_parts import note
from app.views.gpp_plots import UNIT, Bars, Lines, Scatter, plain
from deepfeatures.gpp import live
from deepfeatures.settings import Workspace

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}

GROUPS = (
    "Each bar: how much the error of a model grows when a group of drivers comes from other days "
    "of the period. Groups are permuted as a whole, with their days before."
)


def html(text: str = "") -> pn.pane.HTML:
    """Make a pane for words."""
    return pn.pane.HTML(text, stylesheets=[style.CSS], sizing_mode="stretch_width", margin=(4, 0))


class Board:
    """The leaderboard, with the weight that the user gives to skill."""

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws
        self.names: tuple[str, ...] = ()
        self.rows: list[dict[str, Any]] = []
        self.color: Mapping[str, str] = {}
        self.pane: pn.pane.HTML | None = None

    def make(self) -> pn.Column:
        """Make slider and table."""
        self.pane = html(note("Measuring the models."))
        self.weight = pmui.FloatSlider(
            label="Weight of skill against compactness", start=0, end=1, step=0.05, value=0.7,
            size="small", sizing_mode="stretch_width", max_width=360, margin=(4, 10),
        )  # fmt: skip
        self.weight.param.watch(lambda _: self._draw(), "value")
        self._measure()
        return pn.Column(self.weight, self.pane, **WIDE)

    def show(self, names: Sequence[str], color: Mapping[str, str]) -> None:
        """Rank other models."""
        fresh = tuple(names) != self.names
        self.names, self.color = tuple(names), color
        if self.pane is not None:
            self._measure() if fresh else self._draw()

    def _measure(self) -> None:
        names = self.names

        def then(rows: list[dict[str, Any]]) -> None:
            if names == self.names:
                self.rows = rows
                self._draw()

        work.run(reads.gpp.described, self.ws, names, then=then, failed=self._say)

    def _say(self, sentence: str) -> None:
        if self.pane is not None:
            self.pane.object = note(sentence, alert=True)

    def _draw(self) -> None:
        if self.pane is not None and self.rows:
            self.pane.object = words.ranks(live.ranked(self.rows, self.weight.value), self.color)


class Details:
    """The parts that look closer; each is made when it is first opened."""

    def __init__(self, x_range: Range1d, importance: Callable[[Shown, Any], None]) -> None:
        self.x_range, self.ask = x_range, importance
        self.residuals: Lines | None = None
        self.apart: Lines | None = None
        self.scatter: Scatter | None = None
        self.bars: Bars | None = None
        self.groups = html()
        self.last: tuple[Shown, tuple[float, float], Mapping[str, str]] | None = None
        self.asked: Any = None

    def card(self, board: Board) -> pn.Column:
        """Make the place for them."""
        parts: dict[str, sections.Make] = {
            "Residuals": self._residuals,
            "Disagreement": self._apart,
            "Scatter": self._scatter,
            "Importance": self._bars,
            "Leaderboard": board.make,
        }
        return sections.either(
            parts,
            label="What is looked at closer",
            name="card sheet third",
            sizing_mode="stretch_width",
        )

    def _made(self, figure: Any, words: pn.pane.HTML) -> pn.Column:
        self._again()
        return pn.Column(pn.pane.Bokeh(plain(figure), height=figure.height, **WIDE), words, **WIDE)

    def _residuals(self) -> pn.Column:
        self.residuals = Lines(self.x_range, "gpp-residuals", f"Residual [{UNIT}]")
        return self._made(
            self.residuals.figure,
            html(note("Predicted minus observed, on days whose observation counts as truth.")),
        )

    def _apart(self) -> pn.Column:
        self.apart = Lines(self.x_range, "gpp-apart", f"Spread [{UNIT}]")
        return self._made(
            self.apart.figure,
            html(
                note(
                    "Largest minus smallest prediction of the chosen models on each day, with the "
                    "drivers as the sliders say."
                )
            ),
        )

    def _scatter(self) -> pn.Column:
        self.scatter = Scatter()
        words = "The observed days in view; dashed: no error."
        return self._made(self.scatter.figure, html(note(words)))

    def _bars(self) -> pn.Column:
        self.bars = Bars()
        return self._made(self.bars.figure, self.groups)

    def _again(self) -> None:
        if self.last is not None:
            self.show(*self.last)

    def show(self, shown: Shown, window: tuple[float, float], color: Mapping[str, str]) -> None:
        """Draw what is open."""
        self.last = shown, window, color
        told = {n: shown.answer.told[n] for n in color if n in shown.answer.told}
        if self.residuals is not None:
            truth = np.where(shown.usable, shown.observed, np.nan)
            off = {name: one.mean - truth for name, one in told.items()}
            self.residuals.show(shown.days, off, color)
        if self.apart is not None:
            lines = {"all": live.disagreement(told)} if len(told) > 1 else {}
            self.apart.show(shown.days, lines, {"all": style.PRIMARY})
        self.zoomed(window)
        key = (shown.asked.period, shown.asked.models)
        if self.bars is not None and key != self.asked:
            self.asked = key
            self.groups.object = note("Asking the models with drivers of other days.")

            def then(found: dict[str, list[dict[str, Any]]]) -> None:
                if key == self.asked and self.bars is not None:
                    self.bars.show(found, color)
                    self.groups.object = note(GROUPS)

            self.ask(shown, then)

    def zoomed(self, window: tuple[float, float]) -> None:
        """Draw what depends on the days in view."""
        if self.last is None:
            return
        shown, _, color = self.last
        self.last = shown, window, color
        if self.scatter is not None:
            self.scatter.show(shown, words.inside(shown, window), color)
