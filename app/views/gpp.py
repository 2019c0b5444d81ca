"""The GPP laboratory: a tower, models, other drivers, and at once what the models make of them."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.events import RangesUpdate
from bokeh.models import Range1d

from app import reads, sections, style, work
from app.bar import Bar
from app.fields import Picker
from app.reads.gpp import Asked, Place, Shown
from app.state import State
from app.views import gpp_words as words
from app.views.find_parts import note
from app.views.gpp_more import Board, Details
from app.views.gpp_orders import orders
from app.views.gpp_plots import DAY, Course, colours, moments
from deepfeatures.gpp import live, shelf

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (4, 0)}

SLIDERS: dict[str, tuple[str, float, float, float, float]] = {
    "light": ("Radiation [%]", -50, 20, 1, 0),
    "warmth": ("Temperature [°C]", -5, 5, 0.1, 0),
    "dryness": ("Dryness of the air (VPD) [×]", 0, 3, 0.05, 1),
    "rain": ("Rain [%]", -100, 100, 5, 0),
}
"""Change of `live.Change`: label, least, most, step, and the value that changes nothing."""

ALL = "All years"


class GppView(pn.viewable.Viewer):
    """The laboratory of one session."""

    state = param.ClassSelector(class_=State)
    models_known = param.Integer(0, doc="Counts how often the models were looked at again.")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.shown: Shown | None = None
        self.site: reads.gpp.Site | None = None
        self.busy = self.again = self.quiet = False
        self.window = (-np.inf, np.inf)
        self.x_range = Range1d(18_262 * DAY, 18_627 * DAY)  # a year, until there is one
        self.course = Course(self.x_range)
        self.course.figure.on_event(RangesUpdate, lambda _: self._moved())
        self.details = Details(self.x_range, self._importance)
        self.board = Board(self.state.ws)
        self._controls()
        self._panes()
        self.found: reads.gpp.Groups = []
        self.state.param.watch(self._elsewhere, ["lon", "lat", "area", "cube", "cubes", "lab"])
        self.renew()

    def _controls(self) -> None:
        self.tower = Picker(label="Tower or place", margin=(12, 0, 4, 0), width=250)
        self.year = pmui.Select(label="Period", options=[], size="small", width=130, margin=(12, 8))
        self.models = Picker(
            label="Models", placeholder="Add", most=reads.gpp.MOST_MODELS,
            colors=list(style.SERIES), sizing_mode="stretch_width", margin=(12, 0, 4, 0),
            min_width=260,
        )  # fmt: skip
        common = {"size": "small", "sizing_mode": "stretch_width", "margin": (2, 10)}
        self.sliders = {
            name: pmui.FloatSlider(
                label=label, start=low, end=high, step=step, value=value, **common
            )
            for name, (label, low, high, step, value) in SLIDERS.items()
        }
        self.context = pmui.IntSlider(label="Days looked at", start=1, end=30, value=30, **common)
        self.bar = Bar(label="Laboratory", sizing_mode="stretch_width", margin=0)
        self.tower.param.watch(self._chosen, "value")
        self.models.param.watch(lambda _: self._ask(), "values")
        self.year.param.watch(lambda _: self._ask(), "value")
        for one in (*self.sliders.values(), self.context):
            one._debounce = 0  # Panel would wait 50 ms for more; what comes too fast is left out
            one.param.watch(lambda _: self._ask(), "value")
        self.bar.pressed(self._pressed)

    def _panes(self) -> None:
        def pane(text: str = "") -> pn.pane.HTML:
            return pn.pane.HTML(text, stylesheets=[style.CSS], **WIDE)

        self.head, self.note, self.keys = pane(), pane(), pane(words.keys())
        self.scores, self.warning, self.took = pane(), pane(), pane()

    # what can be chosen

    def renew(self, chosen: str = "") -> None:
        """Look again at what towers there are; choose one of them."""
        self._say("Reading the towers.")
        work.run(
            reads.gpp.places, self.state.ws,
            then=lambda groups: self._offer(groups, chosen), failed=self._say,
        )  # fmt: skip

    def _offer(self, groups: reads.gpp.Groups, chosen: str) -> None:
        self.found = groups
        self.tower.groups = self._with_map()
        values = [value for _, options in self.tower.groups for value, *_ in options]
        if not values:
            self._say(
                "There is no tower here yet. Bring a table of your own, or build the simulated "
                "landscape with `deepfeatures demo`."
            )
            return
        same = self.tower.value if self.tower.value in values else values[0]
        mine = [value for value in values if chosen and value.startswith(chosen)]
        fresh = mine[0] if mine else same
        if fresh == self.tower.value:
            self._chosen()
        else:
            self.tower.value = fresh

    def _with_map(self) -> reads.gpp.Groups:
        """Give the towers, and what is chosen on the map."""
        places = []
        if self.state.point is not None and self.state.source:
            places.append((f"{reads.gpp.MAP}/{shelf.PIXEL}", "Clicked pixel", "on the map", ""))
        if self.state.area is not None and self.state.source:
            places.append((f"{reads.gpp.MAP}/{shelf.AREA}", "Drawn area", "on the map", ""))
        return [*self.found, *([("Map", places)] if places else [])]

    def learned(self, name: str) -> None:
        """Ask a model that was just trained as well."""
        self.models_known += 1
        self.quiet = True
        self.models.values = [*self.models.values, name][-reads.gpp.MOST_MODELS :]
        self.quiet = False
        self._chosen()

    def _place(self) -> Place:
        table, _, site = self.tower.value.partition("/")
        if table != reads.gpp.MAP:
            return Place(table, site)
        cube = self.state.source
        if site == shelf.PIXEL:
            return Place(table, site, cube, point=self.state.point)
        return Place(table, site, cube, area=json.dumps(self.state.area, sort_keys=True))

    def _elsewhere(self, *_: Any) -> None:
        """Follow the map, while the laboratory is looked at."""
        if not self.state.lab:
            return
        groups = self._with_map()
        if groups != self.tower.groups:
            self.tower.groups = groups
        there = [value for _, options in groups for value, *_ in options]
        if self.tower.value and self.tower.value not in there and there:
            self.tower.value = there[0]  # the area is gone
        elif self.site is not None and self._place() != self.site.place:
            self._chosen()

    def _chosen(self, *_: Any) -> None:
        if not self.tower.value:
            return
        place = self._place()
        self._say("Reading the drivers.")

        def then(found: reads.gpp.Site) -> None:
            if place == self._place():
                self._opened(found)

        work.run(reads.gpp.site, self.state.ws, place, then=then, failed=self._failed)

    def _opened(self, found: reads.gpp.Site) -> None:
        """Offer the years and models of a site, and ask about the last year."""
        self.site, self.shown = found, None
        kept = [name for name in self.models.values if name in found.cards]
        self.quiet = True
        self.models.groups = self._groups(found)
        self.models.values = kept or found.first()
        years = [*reversed(found.years), ALL]
        same = self.year.value if self.year.value in years else years[0]
        self.year.param.update(options=years, value=same)
        self.quiet = False
        self._ask()

    def _groups(self, found: reads.gpp.Site) -> reads.gpp.Groups:
        options: list[tuple[str, str, str, str]] = []
        for name, card in found.cards.items():
            skill = card.training.get("test", {}).get("r2")
            side = f"R² {skill:.2f}" if skill is not None else ""
            options.append((name, name, card.kind, side))
        return [("Models that know its drivers", options)] if options else []

    # asking

    def change(self) -> live.Change:
        """Give what the sliders say."""
        return live.Change(**{name: one.value for name, one in self.sliders.items()})

    def asked(self) -> Asked:
        """Give what is to be told."""
        year = "" if self.year.value == ALL else str(self.year.value)
        most = self.context.end
        context = None if self.context.value >= most else int(self.context.value)
        return Asked(self._place(), year, tuple(self.models.values), self.change(), context)

    def _ask(self) -> None:
        """Ask the models; what is moved meanwhile is asked afterwards, only the newest of it."""
        if self.quiet or self.site is None:
            return
        if self.busy:
            self.again = True
            return
        self.busy, start = True, time.perf_counter()

        def then(shown: Shown) -> None:
            self._done()
            if shown.asked.place == self._place():
                self._show(shown, time.perf_counter() - start)

        def failed(sentence: str) -> None:
            self._done()
            self._failed(sentence)

        asked = self.asked()
        work.run(reads.gpp.tell, self.state.ws, asked, self.shown, then=then, failed=failed)

    def _done(self) -> None:
        self.busy = False
        if self.again:
            self.again = False
            self._ask()

    def _hint(self) -> str:
        """Say what to do where no model is chosen."""
        if self.site is None or self.models.values:
            return ""
        if self.site.cards:
            return "Choose a model."
        some = "; ".join(f"{n} needs {what}" for n, what in list(self.site.lacking.items())[:3])
        return f"No model knows the drivers of this tower ({some}). Train one at the side."

    def _show(self, shown: Shown, seconds: float) -> None:
        before, self.shown = self.shown, shown
        fresh = before is None or before.asked.period != shown.asked.period
        color = self.colors()
        longest = max(shown.windows.values(), default=30)
        if longest != self.context.end:
            self.quiet = True
            whole = self.context.value >= self.context.end
            self.context.param.update(
                end=longest, value=longest if whole else min(self.context.value, longest)
            )
            self.quiet = False
        if fresh:
            self._span(shown)
            self.course.begin(shown)
            self.head.object = words.head(shown)
        self.course.show(shown, color)
        self.warning.object = words.warning(shown) if shown.answer.told else ""
        what = words.changed(shown.asked.change, shown.asked.context)
        self.took.object = note(f"{what or 'Drivers as measured'} · {1000 * seconds:.0f} ms.")
        self._say(self._hint())
        self._buttons()
        self._judge()
        self.details.show(shown, self.window, color)
        self.board.show(shown.site.alike(shown.asked.models), color)

    def colors(self) -> dict[str, str]:
        """Give the colour of each chosen model, as in the field."""
        return colours(self.models.values)

    def _span(self, shown: Shown) -> None:
        x = moments(shown.days)
        start, end = float(x[0] - DAY), float(x[-1] + DAY)
        self.x_range.update(start=start, end=end, reset_start=start, reset_end=end)
        self.window = (-np.inf, np.inf)

    def _moved(self) -> None:
        self.window = (self.x_range.start / DAY, self.x_range.end / DAY)
        if self.shown is not None:
            self._judge()
            self.details.zoomed(self.window)

    def _judge(self) -> None:
        """Score the days in view."""
        assert self.shown is not None
        self.scores.object = words.table(self.shown, self.window, self.colors())

    def _importance(self, shown: Shown, then: Any) -> None:
        work.run(reads.gpp.importance, self.state.ws, shown.asked, then=then, failed=self._say)

    # words and buttons

    def _say(self, sentence: str) -> None:
        self.note.object = note(sentence)

    def _failed(self, sentence: str) -> None:
        self.note.object = note(sentence, alert=True)

    def _buttons(self) -> None:
        plain = self.asked().context is None and self.change().none
        self.bar.buttons = [
            ("reset", "As measured", "Set all sliders back", "disabled" if plain else ""),
            ("map", "Back to the map", "Close the laboratory", ""),
        ]

    def _pressed(self, _do: str, name: str) -> None:
        if name == "map":
            self.state.lab = False
        elif name == "reset":
            self.quiet = True
            for key, one in self.sliders.items():
                one.value = SLIDERS[key][4]
            self.context.value = self.context.end
            self.quiet = False
            self._ask()

    def _card(self, place: str, *parts: Any) -> pn.Column:
        return pn.Column(
            *parts, css_classes=["card", "sheet", place], stylesheets=[style.CSS], margin=0,
            sizing_mode="stretch_width",
        )  # fmt: skip

    def __panel__(self) -> pn.viewable.Viewable:
        self._buttons()
        choices = pn.FlexBox(
            self.tower, self.year, self.models, gap="0 8px", margin=0, align_items="flex-start",
            sizing_mode="stretch_width",
        )  # fmt: skip
        chart = pn.pane.Bokeh(self.course.figure, sizing_mode="stretch_width", height=300, margin=0)
        bench = pn.Column(
            self._card("first", choices, self.head, self.note, chart, self.keys, self.scores),
            self.details.card(self.board),
            css_classes=["bench"], stylesheets=[style.CSS], margin=0,
        )  # fmt: skip
        title = pn.pane.HTML("<h2>What if</h2>", stylesheets=[style.CSS], margin=(4, 0))
        more = sections.folded(orders(self))
        drive = pn.Column(
            self._card(
                "second", self.bar, title, *self.sliders.values(), self.context, self.took,
                self.warning,
            ),  # fmt: skip
            self._card("fourth", more),
            css_classes=["drive"], stylesheets=[style.CSS], margin=0,
        )  # fmt: skip
        return pn.Row(
            bench, drive, css_classes=["panes", "lab-row"], stylesheets=[style.CSS], margin=0,
            sizing_mode="stretch_width",
        )  # fmt: skip
