"""What the GPP laboratory has done elsewhere: an own table, a training, a map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui

from app import reads, sections, style, work
from app.state import State
from app.views.find_parts import note
from app.views.jobs import OPEN, progressed
from deepfeatures import jobs
from deepfeatures.gpp import readers, shelf

if TYPE_CHECKING:
    from app.views.gpp import GppView

POLL = 500
"""Milliseconds between two looks at a job."""

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (5, 0)}
SMALL = WIDE | {"size": "small"}

KINDS = {"GRU": "gru", "LSTM": "lstm", "RNN": "rnn", "GPT": "gpt"}
"""Label to kind of network."""


class Order:
    """A job of this session: start, how far it is, cancel."""

    def __init__(
        self, state: State, label: str, submit: Callable[[], str], done: Callable[[dict], None]
    ) -> None:
        self.state, self.submit, self.done, self.job = state, submit, done, ""
        self.clock: Any = None
        self.start = pmui.Button(label=label, icon="bolt", variant="contained", **SMALL)
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.cancel = pmui.Button(
            label="Cancel", icon="close", variant="outlined", visible=False, **SMALL
        )
        self.start.on_click(self._start)
        self.cancel.on_click(self._cancel)

    @property
    def parts(self) -> list[Any]:
        """What is shown of it."""
        return [self.start, self.note, self.cancel]

    def _start(self, _: Any) -> None:
        self.start.disabled = True
        work.run(self.submit, then=self._watch, failed=self._failed)

    def _watch(self, job: str) -> None:
        self.job = job
        self.cancel.param.update(visible=True, disabled=False)
        self.note.object = note("Waiting for the worker.")
        if self.clock is None:
            self.clock = pn.state.add_periodic_callback(self._poll, POLL)

    def _poll(self) -> None:
        if self.job:
            work.run(jobs.get, self.state.ws, self.job, then=self._looked, failed=self._failed)

    def _cancel(self, _: Any) -> None:
        self.cancel.disabled = True
        work.run(
            jobs.cancel, self.state.ws, self.job, self.state.owner, then=self._looked,
            failed=self._failed,
        )  # fmt: skip

    def _looked(self, job: dict[str, Any]) -> None:
        if job["id"] != self.job:
            return
        self.note.object = note(progressed(job))
        if job["state"] in OPEN:
            return
        self._over()
        if job["state"] == "done":
            self.done(job)

    def _over(self) -> None:
        self.job = ""
        if self.clock is not None:
            self.clock.stop()
            self.clock = None
        self.cancel.visible = False
        self.start.disabled = False

    def _failed(self, sentence: str) -> None:
        self._over()
        self.note.object = note(sentence, alert=True)


def orders(view: GppView) -> dict[str, sections.Make]:
    """Give the parts that can be unfolded: heading to what makes the part."""
    return {
        "Own tower": lambda: own(view),
        "Train a model": lambda: training(view),
        "Map of GPP": lambda: mapping(view),
        "About the models": lambda: about(view),
    }


def _box(*parts: Any) -> pn.Column:
    return pn.Column(*parts, sizing_mode="stretch_width", margin=(4, 12, 10, 12))


def own(view: GppView) -> pn.Column:
    """Take a table of towers."""
    said = pn.pane.HTML(
        note(
            "A file of FLUXNET2015, ICOS or AmeriFlux, or a daily table with date, site, GPP and "
            "drivers; CSV or Parquet, 12 MB at most. Everybody who uses this workspace sees it."
        ),
        stylesheets=[style.CSS], **WIDE,
    )  # fmt: skip
    field = pmui.FileInput(
        label="Upload a table of towers", accept=",".join(shelf.SUFFIXES), variant="outlined",
        size="small", max_file_size=shelf.MAX_BYTES, **WIDE,
    )  # fmt: skip

    def kept(name: str) -> None:
        said.object = note(f"The towers are kept as {name}.")
        view.renew(f"{name}/")

    def failed(sentence: str) -> None:
        said.object = note(sentence, alert=True)

    def taken(event: Any) -> None:
        if event.new:
            said.object = note("Reading the table.")
            work.run(
                shelf.add, view.state.ws, event.new, field.filename or "", then=kept, failed=failed
            )

    field.param.watch(taken, "value")
    return _box(said, field)


def training(view: GppView) -> pn.Column:
    """Train a model on the towers of the table that is looked at."""
    kind = pmui.Select(label="Network", options=KINDS, value="gru", **SMALL)
    window = pmui.IntSlider(
        label="Days it may look at", start=1, end=365, value=30, size="small",
        sizing_mode="stretch_width", margin=(4, 12),
    )  # fmt: skip
    steps = pmui.IntSlider(
        label="Steps of training", start=100, end=2000, step=100, value=400, size="small",
        sizing_mode="stretch_width", margin=(4, 12),
    )  # fmt: skip

    def submit() -> str:
        table = view.tower.value.partition("/")[0]
        if table in ("", reads.gpp.MAP):
            raise ValueError("A model learns from towers; choose one in the field above.")
        return reads.gpp.train(
            view.state.ws, table, kind.value, view.state.owner,
            window=int(window.value), steps=int(steps.value),
        )  # fmt: skip

    order = Order(view.state, "Train", submit, lambda job: view.learned(job["out"]))
    words = note(
        "Learns from all towers of the chosen table but their last years, on which it is judged. "
        "It knows no place and no vegetation, so that it can be asked at every pixel."
    )
    return _box(
        pn.pane.HTML(words, stylesheets=[style.CSS], **WIDE), kind, window, steps, *order.parts
    )


def mapping(view: GppView) -> pn.Column:
    """Make a map of GPP of the shown date, as a layer with its uncertainty."""
    state = view.state
    said = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
    model = pmui.Select(label="Model", options=[], **SMALL)

    def submit() -> str:
        if not model.value:
            raise ValueError("There is no model to map with.")
        return reads.gpp.paint(
            state.ws, state.features, model.value, state.date, state.area, state.owner
        )

    def done(job: dict[str, Any]) -> None:
        work.run(
            reads.cubes.described, state.ws, then=partial(show, job["out"]), failed=order._failed
        )

    def show(name: str, cubes: dict[str, dict[str, Any]]) -> None:
        state.param.update(cubes=cubes)
        state.param.update(cube=name, show="gpp", cmap="viridis", limits=None, lab=False)

    order = Order(state, "Map this date", submit, done)

    def offer(names: list[str]) -> None:
        kept = model.value if model.value in names else (names or [None])[0]
        model.param.update(options=names, value=kept)
        tell()

    def tell(*_: Any) -> None:
        if not state.features:
            said.object = note("The cube on the map has no features; compute them first.")
        elif not model.options:
            said.object = note("No model here can be asked at each pixel; train one first.")
        else:
            where = "of the drawn area" if state.area else "of the whole cube"
            said.object = note(
                f"GPP {where} on {state.date or 'the shown date'}, its range and the distance to "
                "the training days, as a layer on the map."
            )
        order.start.disabled = not (state.features and model.options) or bool(order.job)

    def renew(*_: Any) -> None:
        work.run(reads.gpp.map_models, state.ws, state.features, then=offer, failed=order._failed)

    state.param.watch(renew, ["features", "cubes"])
    state.param.watch(tell, ["date", "area"])
    view.param.watch(renew, "models_known")
    renew()
    return _box(said, model, *order.parts)


def about(view: GppView) -> pn.Column:
    """Show what the chosen models say about themselves."""
    pane = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)

    def draw(*_: Any) -> None:
        known = view.site.cards if view.site else {}
        parts = [_card(known[name]) for name in view.models.values if name in known]
        pane.object = "".join(parts) or note("Choose a model.")

    view.models.param.watch(draw, "values")
    draw()
    return _box(pane)


def _card(card: Any) -> str:
    told = card.training
    towers = ", ".join(told.get("towers", []))
    years = "–".join(str(year) for year in told.get("years", []))
    units = readers.UNITS
    drivers = ", ".join(f"{n} [{units[n]}]" if n in units else n for n in card.drivers)
    origin = "simulated data" if told.get("simulated") else str(told.get("source", ""))
    rows = [
        ("Learned from", f"{towers} ({years}; {origin})"),
        ("Takes", f"{drivers}; {card.window} days"),
        ("Beware", card.limitations),
    ]
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows if v)
    return (
        f'<div class="index"><h3>{escape(card.name)}<i>{escape(card.kind)}</i></h3>'
        f"{escape(card.description)}<dl>{items}</dl></div><br>"
    )
