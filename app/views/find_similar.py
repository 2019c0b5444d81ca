"""Similar pixels: like the clicked one or the drawn area, with a threshold that only filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui

from app import style
from app.reads.find import Map, beyond
from app.views.find_parts import SMALL, WIDE, Finder, note, ramp, whens

MEASURES = {"Direction (cosine)": "cosine", "Distance (Euclid)": "euclid"}
"""How features are compared."""


class SimilarFinder(Finder):
    """Finds what is similar to a pixel or an area."""

    method = "similar"

    def build(self) -> None:
        """Make the controls."""
        self.like = pmui.Select(
            label="Similar to", options=["The clicked pixel", "The drawn area"], **SMALL
        )
        self.measure = pmui.Select(label="Compare by", options=MEASURES, **SMALL)
        self.when = pmui.Select(
            label="Dates", options=whens(self.info, self.state.date), value="", **SMALL
        )
        self.start.label = "Find similar pixels"
        self.state.param.watch(self._clicked, ["lon", "lat"])
        self.state.param.watch(lambda *_: self.renew(), "date")

    def renew(self) -> None:
        """Follow cube and date."""
        options = whens(self.info, self.state.date)
        if options != self.when.options:
            kept = self.when.value if self.when.value in options.values() else ""
            self.when.param.update(options=options, value=kept)

    def settings(self) -> dict[str, Any]:
        """Give place, measure and dates."""
        words = {"measure": self.measure.value, "when": self.when.value or ""}
        if self.like.value == "The drawn area":
            if self.state.area is None:
                raise ValueError("Draw an area on the map first, with Box or Polygon.")
            return {"aoi": self.state.area, **words}
        if self.state.point is None:
            raise ValueError("Click a pixel on the map first.")
        return {"lon": self.state.lon, "lat": self.state.lat, **words}

    def _clicked(self, *_: Any) -> None:
        # once asked, the map follows the clicks
        if self.active and self.made is not None and self.like.value == "The clicked pixel":
            self.ask()

    def fill(self, made: Map) -> list[Any]:
        """Show legend, threshold and area."""
        assert made.found is not None
        summary = made.found.summary
        self.rising = bool(summary["larger_is_more_alike"])
        values = made.ordered if made.ordered.size else np.zeros(1, np.float32)
        self.span = (-1.0, 1.0) if self.rising else (0.0, max(float(values[-1]), 0.1))
        usual = float(np.quantile(values, 0.9 if self.rising else 0.1))
        self.threshold = pmui.FloatSlider(
            label="At least" if self.rising else "At most", start=self.span[0], end=self.span[1],
            step=0.01, value=round(usual, 2), **WIDE,
        )  # fmt: skip
        self.area = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.threshold.param.watch(self._filter, "value_throttled")
        self._tell()
        what = "Cosine of the angle" if self.rising else "Distance in deviations"
        bar = pn.pane.HTML(ramp(self._cmap, *self.span, what), stylesheets=[style.CSS], **WIDE)
        return [bar, self.threshold, self.area]

    @property
    def _cmap(self) -> str:
        return "viridis" if self.rising else "cividis"

    def _filter(self, *_: Any) -> None:
        self._tell()
        self.draw()

    def _tell(self) -> None:
        if self.made is None and self.cube == "":
            return
        made = self.made
        assert made is not None
        hectares = beyond(made, self.threshold.value, self.rising)
        total = made.ordered.size * made.pixel_ha
        share = hectares / total if total else 0.0
        word = "at least" if self.rising else "at most"
        self.area.object = note(
            f"{style.area(hectares * 1e4)} ({share:.1%} of what can be compared) is {word} "
            f"{self.threshold.value:.2f}."
        )

    def limits(self) -> dict[str, float]:
        """Give the threshold."""
        return {"least" if self.rising else "most": round(float(self.threshold.value), 4)}

    def look(self, made: Map) -> dict[str, Any]:
        """Draw what is beyond the threshold."""
        low, high = self.span
        return {"vmin": f"{low:g}", "vmax": f"{high:g}", "cmap": self._cmap, **self.limits()}

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.like, self.measure, self.when, self.start, self.note, self.result,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
