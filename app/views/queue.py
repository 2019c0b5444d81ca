"""The jobs of the workspace: how far each is, its log, cancel, retry."""

from __future__ import annotations

from typing import Any

import panel as pn
import param
from panel.custom import JSComponent

from app import reads, style, work
from app.state import State
from app.views.jobs import OPEN, remaining
from deepfeatures import jobs, kinds

LOOK = 1000
"""Milliseconds between two looks at the jobs while they are shown."""


class Queue(JSComponent):
    """A list of jobs with buttons; `on_msg` takes ``{"id", "action"}``."""

    jobs = param.List([], doc="Rows, see `row`.")
    logged = param.String(doc="Id of the job whose log is open, or empty.")
    log = param.String(doc="The log.")
    sentence = param.String("Loading the jobs.", doc="What there is to say about the whole list.")

    _esm = (style.ASSETS / "queue.js").read_text()
    _stylesheets = [(style.ASSETS / "queue.css").read_text()]  # noqa: RUF012


def row(job: dict[str, Any], owner_is_asking: bool) -> dict[str, Any]:
    """Give what is shown of a job: texts, percent, and what can be done with it."""
    known = kinds.KINDS.get(job["kind"])
    doing = known.title if known else job["kind"]
    name = job.get("title") or job.get("out") or job["kind"]
    states = {
        "queued": f"waiting{remaining(job)}",
        "running": f"{job['fraction']:.0%}{remaining(job)}",
        "failed": f"failed: {job.get('error')}" if job.get("error") else "failed",
    }
    actions = []
    if owner_is_asking:
        actions = ["log"]
        actions += ["cancel"] if job["state"] in ("queued", "running") else []
        actions += ["retry"] if job["state"] in ("failed", "cancelled") else []
    return {
        "id": job["id"],
        "name": name,
        "doing": doing,
        "state": states.get(job["state"], job["state"]),
        "percent": round(100 * job["fraction"]),
        "open": job["state"] in OPEN,
        "failed": job["state"] == "failed",
        "actions": actions,
    }


class QueueView(pn.viewable.Viewer):
    """The list of jobs of one session, looked at each second while it is open."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.queue = Queue(sizing_mode="stretch_width", margin=(4, 12, 10, 12))
        self.queue.on_msg(lambda event: self.act(event.data))
        self.clock: Any = None
        self.state.param.watch(self._tick, "looking")
        self._look()
        self._tick()

    def _tick(self, *_: Any) -> None:
        """Look each second, but only while somebody sees it."""
        if self.clock is None and self.state.looking:
            self.clock = pn.state.add_periodic_callback(self._look, LOOK)
            self._look()
        elif self.clock is not None and not self.state.looking:
            self.clock.stop()
            self.clock = None

    def _look(self) -> None:
        state = self.state
        work.run(reads.areas.listed, state.ws, state.owner, then=self._show, failed=self._failed)
        if self.queue.logged:
            self._read(self.queue.logged)

    def _show(self, found: list[dict[str, Any]]) -> None:
        rows = [row(job, job["mine"]) for job in found]
        if rows != self.queue.jobs:
            self.queue.jobs = rows
        waiting = sum(one["open"] for one in rows)
        self.queue.sentence = (
            "No job yet. Draw an area and compute its features."
            if not rows
            else f"{waiting} of {len(rows)} jobs waiting or running."
        )

    def _failed(self, sentence: str) -> None:
        self.queue.sentence = sentence

    def act(self, message: Any) -> None:
        """Do what a button asks for."""
        job, action = str(message.get("id")), message.get("action")
        state = self.state
        if action == "log":
            closing = self.queue.logged == job
            self.queue.param.update(logged="" if closing else job, log="")
            if not closing:
                self._read(job)
        elif action in ("cancel", "retry"):
            call = jobs.cancel if action == "cancel" else jobs.retry
            work.run(
                call, state.ws, job, state.owner, then=lambda _: self._look(), failed=self._failed
            )

    def _read(self, job: str) -> None:
        state = self.state
        work.run(
            reads.areas.log, state.ws, state.owner, job,
            then=lambda text: self._logged(job, text), failed=self._failed,
        )  # fmt: skip

    def _logged(self, job: str, text: str) -> None:
        if self.queue.logged == job:
            self.queue.log = text

    def __panel__(self) -> pn.viewable.Viewable:
        return self.queue
