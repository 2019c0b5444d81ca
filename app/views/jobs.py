"""An area becomes features: see what it costs, start, watch, cancel."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import style, work
from app.state import State
from app.views.area import WIDE, AreaView
from deepfeatures import aoi, cards, jobs, kinds

POLL = 500
"""Milliseconds between two looks at a job."""

OPEN = ("queued", "running", "cancelling")
"""States of a job that is not over."""


def periods(days: list[str]) -> dict[str, tuple[str, str]]:
    """Give the periods to choose from: the whole cube and each year of it."""
    if not days:
        return {}
    years = sorted({day[:4] for day in days}, reverse=True)
    whole = {f"All {len(days)} dates": (days[0], days[-1])}
    return whole | {year: (f"{year}-01-01", f"{year}-12-31") for year in years}


def told(expected: dict[str, Any], square_kilometres: float) -> str:
    """Say in one sentence what a job would take."""
    return (
        f"{style.area(square_kilometres * 1e6)}, {expected['pixels']:,} pixels, "
        f"{expected['dates']} dates: about {style.duration(expected['seconds'])} and at most "
        f"{style.megabytes(expected['bytes'])}."
    )


def remaining(job: dict[str, Any]) -> str:
    """Say how long a job will take still, empty if nobody knows."""
    seconds = job.get("remaining")
    return "" if seconds is None else f", about {style.duration(seconds)} to go"


def progressed(job: dict[str, Any]) -> str:
    """Say in one sentence how far a job is."""
    known = kinds.KINDS.get(job.get("kind", "embed"))
    doing = known.title if known else "Working"
    return {
        "queued": "Waiting for the worker.",
        "running": f"{doing}: {job['fraction']:.0%}{remaining(job)}.",
        "cancelling": "Cancelling.",
        "done": f"Done: {job.get('out')} is on the map.",
        "failed": f"Failed: {job.get('error')}",
        "cancelled": "Cancelled; nothing was kept.",
    }[job["state"]]


class JobsView(pn.viewable.Viewer):
    """The area and the job of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, read: Any, **params: Any) -> None:
        super().__init__(**params)
        self.read = read
        self.area = AreaView(state=self.state)
        self.period = pmui.Select(label="Period", options={}, size="small", **WIDE)
        self.model = pmui.Select(label="Model", options=[], size="small", **WIDE)
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self._job()
        self._wire()

    def _job(self) -> None:
        self.start = pmui.Button(
            label="Compute features", icon="bolt", variant="contained", disabled=True, **WIDE
        )
        self.bar = pmui.LinearProgress(value=0, variant="determinate", visible=False, **WIDE)
        self.progress = pn.pane.HTML("", stylesheets=[style.CSS], visible=False, **WIDE)
        self.cancel = pmui.Button(
            label="Cancel", icon="close", variant="outlined", size="small", visible=False, **WIDE
        )
        self.start.on_click(self._submit)
        self.cancel.on_click(self._cancel)
        self.clock: Any = None

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._source, ["cube", "cubes"])
        state.param.watch(self._ask, ["area", "mode"])
        state.param.watch(lambda event: event.new and self._watch(), "job")
        self.area.param.watch(self._ask, "sentence")
        self.period.param.watch(self._ask, "value")
        self.model.param.watch(self._ask, "value")
        self._source()
        if state.job:  # from the address: the page was loaded again
            self._watch()

    def _source(self, *_: Any) -> None:
        info = self.state.cubes.get(self.state.source, {})
        options = periods([time[:10] for time in info.get("times", [])])
        if options != self.period.options:
            self.period.param.update(options=options, value=next(iter(options.values()), None))
        names = cards.names(self.state.ws)
        if names != self.model.options:
            first = cards.DEFAULT if cards.DEFAULT in names else (names or [None])[0]
            self.model.param.update(options=names, value=first)
        self._ask()

    def _wanted(self) -> aoi.AOI:
        start, end = self.period.value or (None, None)
        return aoi.from_geojson(self.state.area or {}, start=start, end=end)

    def _asked(self) -> tuple[Any, ...]:
        return self.state.area, self.state.source, self.period.value, self.model.value

    def _ask(self, *_: Any) -> None:
        self.start.disabled = True
        if hint := self.area.note():
            self.note.object = hint
        elif not self.state.source or not self.model.value:
            self._say("There is no band cube or no model to compute features with.")
        else:
            asked = self._asked()
            work.run(
                self._estimate,
                then=lambda found: self._estimated(*found) if asked == self._asked() else None,
                failed=self._failed,
            )

    def _estimate(self) -> tuple[dict[str, Any], float]:
        wanted = self._wanted()
        found = jobs.estimate(self.state.ws, self.state.source, self.model.value, wanted)
        return found, wanted.area_km2

    def _estimated(self, expected: dict[str, Any], square_kilometres: float) -> None:
        self._say(told(expected, square_kilometres))
        self.start.disabled = bool(self.state.job)

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note">{escape(sentence)}</div>'

    def _failed(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="alert"><b>{escape(sentence)}</b></div>'

    def _submit(self, _: Any) -> None:
        self.start.disabled = True
        work.run(
            self._queue, then=lambda key: self.state.param.update(job=key), failed=self._failed
        )

    def _queue(self) -> str:
        return jobs.submit(
            self.state.ws,
            cube=self.state.source,
            model=self.model.value,
            aoi=self._wanted(),
            owner=self.state.owner,
        )

    def _watch(self) -> None:
        """Follow the job of the session until it is over."""
        self.bar.param.update(value=0, visible=True)
        self.progress.param.update(object="Waiting for the worker.", visible=True)
        self.cancel.param.update(visible=True, disabled=False)
        self.start.disabled = True
        if self.clock is None:
            self.clock = pn.state.add_periodic_callback(self._poll, POLL)

    def _cancel(self, _: Any) -> None:
        self.cancel.disabled = True
        state = self.state
        work.run(
            jobs.cancel, state.ws, state.job, state.owner, then=self._looked, failed=self._failed
        )

    def _poll(self) -> None:
        if self.state.job:
            work.run(jobs.get, self.state.ws, self.state.job, then=self._looked, failed=self._lost)

    def _lost(self, sentence: str) -> None:
        job = {"id": self.state.job, "state": "failed", "error": sentence, "fraction": 0.0}
        self._looked(job)

    def _looked(self, job: dict[str, Any]) -> None:
        if job["id"] != self.state.job:
            return
        self.bar.value = int(100 * job["fraction"])
        self.progress.object = f'<div class="note" role="status">{escape(progressed(job))}</div>'
        if job["state"] in OPEN:
            return
        if self.clock is not None:
            self.clock.stop()
            self.clock = None
        self.state.job = ""
        self.cancel.visible = False
        self.bar.visible = job["state"] == "done"
        if job["state"] == "done":
            work.run(self.read, then=partial(self._done, job["out"]), failed=self._failed)
        self._ask()

    def _done(self, name: str, cubes: dict[str, dict[str, Any]]) -> None:
        self.state.cubes = cubes
        made = cubes.get(name, {}).get("kind")
        if made == "features":
            self.state.param.update(features=name, over=True)
        elif made:
            self.state.cube = name

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.area, self.period, self.model, self.note, self.start, self.bar, self.progress,
            self.cancel, sizing_mode="stretch_width", margin=(4, 12, 10, 12),
        )  # fmt: skip
