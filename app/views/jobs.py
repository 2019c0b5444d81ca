"""An area becomes features: draw or upload it, see what it costs, start, watch, cancel."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import style, work
from app.state import State
from deepfeatures import aoi, cards, jobs

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


def progressed(job: dict[str, Any]) -> str:
    """Say in one sentence how far a job is."""
    percent = f"{job['fraction']:.0%}"
    return {
        "queued": "Waiting for the worker.",
        "running": f"Computing features: {percent}.",
        "cancelling": "Cancelling after the current tile.",
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
        self._area()
        self._job()
        self._wire()

    def _area(self) -> None:
        wide = {"sizing_mode": "stretch_width", "margin": (4, 0)}
        self.box = pmui.Button(
            label="Draw a box", icon="crop_square", variant="outlined", size="small", margin=0
        )
        self.polygon = pmui.Button(
            label="Draw a polygon", icon="polyline", variant="outlined", size="small", margin=0
        )
        self.upload = pmui.FileInput(
            label="Upload GeoJSON", accept=".geojson,.json", variant="outlined", size="small",
            max_file_size=6_000_000, **wide,
        )  # fmt: skip
        self.period = pmui.Select(label="Period", options={}, size="small", **wide)
        self.model = pmui.Select(label="Model", options=[], size="small", **wide)
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        self.box.on_click(lambda _: self.state.param.update(mode="Box"))
        self.polygon.on_click(lambda _: self.state.param.update(mode="Polygon"))
        self.upload.param.watch(lambda event: self._uploaded(event.new), "value")

    def _job(self) -> None:
        wide = {"sizing_mode": "stretch_width", "margin": (4, 0)}
        self.start = pmui.Button(
            label="Compute features", icon="bolt", variant="contained", disabled=True, **wide
        )
        self.bar = pmui.LinearProgress(value=0, variant="determinate", visible=False, **wide)
        self.progress = pn.pane.HTML("", stylesheets=[style.CSS], visible=False, **wide)
        self.cancel = pmui.Button(
            label="Cancel", icon="close", variant="outlined", size="small", visible=False, **wide
        )
        self.start.on_click(self._submit)
        self.cancel.on_click(self._cancel)
        self.clock = None

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._source, ["cube", "cubes"])
        state.param.watch(self._ask, ["area", "mode"])
        self.period.param.watch(self._ask, "value")
        self.model.param.watch(self._ask, "value")
        self._source()
        if state.job:  # from the address: the page was loaded again
            self.watch(state.job)

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
        hints = {
            "Box": "Drag a box on the map.",
            "Polygon": "Click the corners on the map; double-click the last one, or press Finish.",
        }
        if self.state.mode in hints:
            self._say(hints[self.state.mode])
        elif self.state.area is None:
            self._say("Draw an area on the map, or upload one, to compute its features.")
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

    def _uploaded(self, content: bytes | None) -> None:
        if content:
            work.run(
                lambda: aoi.to_geojson(aoi.from_geojson(content)),
                then=lambda area: self.state.param.update(area=area, mode="Explore"),
                failed=self._failed,
            )

    def _submit(self, _: Any) -> None:
        self.start.disabled = True
        work.run(self._queue, then=self.watch, failed=self._failed)

    def _queue(self) -> str:
        return jobs.submit(
            self.state.ws, cube=self.state.source, model=self.model.value, aoi=self._wanted()
        )

    def watch(self, key: str) -> None:
        """Follow a job until it is over."""
        self.state.job = key
        self.bar.param.update(value=0, visible=True)
        self.progress.param.update(object="Waiting for the worker.", visible=True)
        self.cancel.param.update(visible=True, disabled=False)
        self.start.disabled = True
        self.clock = pn.state.add_periodic_callback(self._poll, POLL)

    def _cancel(self, _: Any) -> None:
        self.cancel.disabled = True
        work.run(jobs.cancel, self.state.ws, self.state.job, then=self._looked, failed=self._failed)

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
        self.state.job = ""
        self.cancel.visible = False
        self.bar.visible = job["state"] == "done"
        if job["state"] == "done":
            work.run(self.read, then=partial(self._done, job["out"]), failed=self._failed)
        self._ask()

    def _done(self, name: str, cubes: dict[str, dict[str, Any]]) -> None:
        self.state.cubes = cubes
        self.state.param.update(features=name, over=True)

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.FlexBox(self.box, self.polygon, gap="8px", margin=(0, 0, 4, 0)),
            self.upload, self.period, self.model, self.note, self.start, self.bar, self.progress,
            self.cancel, sizing_mode="stretch_width", margin=(4, 12, 10, 12),
        )  # fmt: skip
