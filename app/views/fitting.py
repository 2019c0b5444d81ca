"""A UMAP that is not there yet: what it costs, start, watch, cancel."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from app import reads, style, work
from app.state import State
from deepfeatures import jobs

POLL = 500
"""Milliseconds between two looks at the job."""


class Offer(pn.viewable.Viewer):
    """The UMAP of a feature cube as a job of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, *, made: Callable[[], None], **params: Any) -> None:
        super().__init__(**params)
        self.made, self.cube, self.job = made, "", ""
        self.clock: Any = None
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], margin=(4, 0))
        self.start = pmui.Button(
            label="Compute UMAP", icon="bolt", variant="contained", size="small", margin=(4, 0)
        )
        self.bar = pmui.LinearProgress(
            value=0, variant="determinate", visible=False, margin=(8, 0),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.cancel = pmui.Button(
            label="Cancel", icon="close", variant="outlined", size="small", margin=0, visible=False
        )
        self.start.on_click(self._submit)
        self.cancel.on_click(self._cancel)

    def ask(self, name: str) -> None:
        """Say what the UMAP of a cube takes, or watch the job that makes it."""
        self.cube, self.job = name, ""
        self.start.param.update(visible=True, disabled=True)
        work.run(
            reads.latent.expected, self.state.ws, name,
            then=lambda found: self._estimated(name, *found), failed=self._say,
        )  # fmt: skip

    def leave(self) -> None:
        """Look at the job no more; it goes on."""
        self.cube = self.job = ""
        if self.clock is not None:
            self.clock.stop()
            self.clock = None

    def _say(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="status">{escape(sentence)}</div>'

    def _estimated(self, name: str, seconds: float, running: str) -> None:
        if name != self.cube:
            return
        if running:
            self._watch(running)
            return
        self.start.disabled = False
        self._say(
            f"There is no UMAP of {name} yet. It takes about {style.duration(seconds)}, is made "
            "once for everybody, and you can go on meanwhile."
        )

    def _submit(self, _: Any) -> None:
        self.start.disabled = True
        work.run(
            reads.latent.fit, self.state.ws, self.cube, then=self._watch, failed=self._say
        )  # fmt: skip

    def _watch(self, key: str) -> None:
        self.job = key
        self.start.visible = False
        self.bar.param.update(value=0, visible=True)
        self.cancel.param.update(visible=True, disabled=False)
        self._say("Waiting for the worker.")
        if self.clock is None:
            self.clock = pn.state.add_periodic_callback(self._poll, POLL)

    def _cancel(self, _: Any) -> None:
        self.cancel.disabled = True
        work.run(jobs.cancel, self.state.ws, self.job, then=self._looked, failed=self._say)

    def _poll(self) -> None:
        if self.job:
            work.run(jobs.get, self.state.ws, self.job, then=self._looked, failed=self._say)

    def _looked(self, job: dict[str, Any]) -> None:
        if job["id"] != self.job:
            return
        self.bar.value = int(100 * job["fraction"])
        if job["state"] in reads.latent.OPEN:
            waits = job["state"] == "queued"
            self._say("Waiting for the worker." if waits else f"UMAP: {job['fraction']:.0%}.")
            return
        self.leave_bar()
        if job["state"] == "done":
            self.leave()
            self.made()
        else:
            cube = self.cube
            self.leave()
            self.cube = cube
            self._say(f"UMAP {job['state']}. {job['error'] or ''}")
            self.start.param.update(visible=True, disabled=False)

    def leave_bar(self) -> None:
        """Hide what belongs to a running job."""
        self.bar.visible = self.cancel.visible = False

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.note, self.start, self.bar, self.cancel, sizing_mode="stretch_width", margin=0
        )
