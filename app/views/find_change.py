"""Change between two dates or two years in feature space, with the area of each bin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from app import style, work
from app.reads.find import Map
from app.views.find_parts import SMALL, WIDE, Finder, note, ramp


def moments(info: dict[str, Any], shares: Sequence[float] = ()) -> dict[str, str]:
    """Give the years and dates of a cube that can be compared, with their usable shares."""
    days = [time[:10] for time in info.get("times", [])]
    years = sorted({day[:4] for day in days})
    found = {year: year for year in years} if len(years) > 1 else {}
    if len(shares) != len(days):
        return found | {day: day for day in days}
    return found | {f"{day} ({share:.0%})": day for day, share in zip(days, shares, strict=True)}


def clearest(days: Sequence[str], shares: Sequence[float]) -> tuple[str, str]:
    """Give the clearest date of the first third and of the last third of a cube."""
    third = max(len(days) // 3, 1)
    rank = sorted(range(len(days)), key=lambda at: -shares[at])
    first = next(at for at in rank if at < third)
    last = next(at for at in rank if at >= len(days) - third)
    return days[first], days[last]


def chart(source: ColumnDataSource) -> figure:
    """Draw the area of each bin."""
    fig = style.plain(
        tools="", height=160, sizing_mode="stretch_width", name="change-chart",
        x_axis_label="Change [deviations]", y_axis_label="Area [ha]",
    )  # fmt: skip
    fig.quad(
        left="left", right="right", top="hectares", bottom=0, source=source,
        fill_color=style.PRIMARY, line_color=style.PAPER,
    )  # fmt: skip
    fig.y_range.start = 0
    return fig


class ChangeFinder(Finder):
    """Compares two moments."""

    method = "change"
    _days: list[str] = []

    def build(self) -> None:
        """Make the controls."""
        self.before = pmui.Select(label="From (usable share)", options=[], **SMALL)
        self.after = pmui.Select(label="To (usable share)", options=[], **SMALL)
        self.start.label = "Map the change"
        self.renew()

    def renew(self) -> None:
        """Follow the cube."""
        options = moments(self.info)
        if list(options.values()) == self._days:
            return
        self._days = list(options.values())
        self._offer(options, self._days[:1], self._days[-1:])
        work.run(
            self._shares, self.base, then=partial(self._clear, self.base), failed=lambda _: None
        )

    def _clear(self, base: str, shares: list[float]) -> None:
        days = [day for day in self._days if len(day) > 4]
        years = [day for day in self._days if len(day) == 4]
        if base == self.base and len(days) == len(shares):
            first, last = (years[0], years[-1]) if years else clearest(days, shares)
            self._offer(moments(self.info, shares), [first], [last])

    def _offer(self, options: dict[str, str], first: list[str], last: list[str]) -> None:
        self.before.param.update(options=options, value=(first or [None])[0])
        self.after.param.update(options=options, value=(last or [None])[0])

    def settings(self) -> dict[str, Any]:
        """Give the two moments."""
        before, after = self.before.value, self.after.value
        if not before or not after or len(before) != len(after):
            raise ValueError("Choose two dates, or two years.")
        return {"before": before, "after": after}

    def fill(self, made: Map) -> list[Any]:
        """Show legend and chart."""
        assert made.found is not None
        summary = made.found.summary
        edges, hectares = summary["edges"], summary["areas_ha"]
        source = ColumnDataSource(
            {"left": edges[:-1], "right": edges[1:], "hectares": hectares}, name="change-bins"
        )
        values = made.ordered if made.ordered.size else np.zeros(1, np.float32)
        self.span = (0.0, max(float(np.quantile(values, 0.99)), 0.1))
        missing = summary["not_comparable_ha"]
        words = f"{style.area(sum(hectares) * 1e4)} compared"
        if missing:
            words += f", {style.area(missing * 1e4)} not usable in both"
        return [
            pn.pane.HTML(
                ramp("magma", *self.span, "Change in deviations"), stylesheets=[style.CSS], **WIDE
            ),
            pn.pane.Bokeh(chart(source), height=160, **WIDE),
            pn.pane.HTML(note(f"{words}."), stylesheets=[style.CSS], **WIDE),
        ]

    def limits(self) -> dict[str, float]:
        """Take the most changed tenth as polygons."""
        if self.made is None or not self.made.ordered.size:
            return {}
        return {"least": round(float(np.quantile(self.made.ordered, 0.9)), 4)}

    def look(self, made: Map) -> dict[str, Any]:
        """Draw the change."""
        return {"vmin": f"{self.span[0]:g}", "vmax": f"{self.span[1]:g}", "cmap": "magma"}

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.before, self.after, self.start, self.note, self.result,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
