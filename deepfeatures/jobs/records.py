"""What happens to a job once it was asked for: legal transitions, exclusive claims, progress."""

from __future__ import annotations

import time
from typing import Any

from deepfeatures.jobs.database import opened, record
from deepfeatures.jobs.logs import log
from deepfeatures.settings import Workspace

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "queued": ("running", "cancelled"),
    "running": ("queued", "cancelling", "done", "failed"),
    "cancelling": ("cancelled",),
    "done": (),
    "failed": (),
    "cancelled": (),
}
"""State -> the states that may follow; nothing else is ever written."""

MAX_ATTEMPTS = 3
"""A job whose worker was killed so often is failed."""


def get(ws: Workspace, job: str) -> dict[str, Any]:
    """Give the record of a job; times are seconds since 1970, `fraction` is 0..1.

    Raises
    ------
    KeyError
        If there is no such job.
    """
    with opened(ws) as db:
        row = db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise KeyError(f"there is no job {job[:80]!r}; `jobs list` shows all of them")
    return record(row)


def listing(ws: Workspace, *, state: str | None = None) -> list[dict[str, Any]]:
    """Give the records of all jobs (or those in one state), the newest first."""
    with opened(ws) as db:
        rows = db.execute(
            "SELECT * FROM jobs WHERE :state IS NULL OR state = :state ORDER BY rowid DESC",
            {"state": state},
        ).fetchall()
    return [record(row) for row in rows]


def mine(job: dict[str, Any], owner: str | None) -> bool:
    """Tell whether a job is for the eyes of an owner: None sees all, what nobody owns all see."""
    return owner is None or job["owner"] in ("", owner)


def seen(job: dict[str, Any], owner: str | None) -> dict[str, Any]:
    """Give what an owner may know of a job; of somebody else's only how far it is."""
    if mine(job, owner):
        hidden = {"pid", "attempts", "owner", "marked", "marked_done"}
        return {key: value for key, value in job.items() if key not in hidden}
    kept = (
        "id", "kind", "state", "done", "total", "fraction", "remaining",
        "created", "started", "finished",
    )  # fmt: skip
    return {key: job[key] for key in kept} | {"title": "somebody's job"}


def cancel(ws: Workspace, job: str, owner: str | None = None) -> dict[str, Any]:
    """Ask for the end of a job: a queued one is cancelled, a running one within two seconds.

    Raises
    ------
    KeyError
        If there is no such job.
    PermissionError
        If it is not a job of this owner (None: of anybody).
    ValueError
        If it is done or failed.
    """
    check_owner(get(ws, job), owner)
    # twice, because a worker may claim the job or give it back between two statements
    for source, target in (("queued", "cancelled"), ("running", "cancelling")) * 2:
        ended = {"finished": time.time()} if target == "cancelled" else {}
        if moved := move(ws, job, source, target, message=target, **ended):
            log(ws, job, "cancelled before it began" if ended else "the user asks for its end")
            return moved
    found = get(ws, job)
    if found["state"] in ("cancelling", "cancelled"):
        return found
    raise ValueError(f"the job {job} is {found['state']} already; there is nothing to cancel")


def check_owner(job: dict[str, Any], owner: str | None) -> None:
    """Refuse what an owner wants of somebody else's job.

    Raises
    ------
    PermissionError
        If it is not theirs.
    """
    if not mine(job, owner):
        raise PermissionError(f"the job {job['id']} is somebody else's; look for your own ones")


def claim(ws: Workspace, pid: int) -> dict[str, Any] | None:
    """Take the oldest queued job for the process `pid`, or None; no two processes get the same."""
    with opened(ws) as db:
        row = db.execute(
            """UPDATE jobs SET state = 'running', pid = :pid, attempts = attempts + 1,
                   started = coalesce(started, :now), heartbeat = :now, message = 'running',
                   marked = NULL, marked_done = NULL
               WHERE state = 'queued' AND id = (
                   SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, rowid LIMIT 1)
               RETURNING *""",
            {"pid": pid, "now": time.time()},
        ).fetchone()
    if row is None:
        return None
    log(ws, row["id"], f"started (attempt {row['attempts']})")
    return record(row)


def progress(ws: Workspace, job: str, done: int, total: int) -> None:
    """Record the progress of a running job; the share done never falls, whatever is reported."""
    with opened(ws) as db:
        db.execute(
            """UPDATE jobs SET
                   marked_done = CASE WHEN marked IS NULL OR total <> :total
                       THEN min(:total, max(:done, 0)) ELSE marked_done END,
                   marked = CASE WHEN marked IS NULL OR total <> :total
                       THEN :now ELSE marked END,
                   heartbeat = :now, total = :total, done = min(:total, max(:done,
                   CASE WHEN total > 0 THEN (done * :total + total - 1) / total ELSE 0 END))
               WHERE id = :id AND state IN ('running', 'cancelling')""",
            {"id": job, "done": done, "total": max(total, 1), "now": time.time()},
        )


def finish(ws: Workspace, job: str) -> dict[str, Any] | None:
    """Set a running job done; None if it is not running, for example cancelled meanwhile."""
    total = max(get(ws, job)["total"], 1)
    return _over(
        ws, job, "done", "done", done=total, total=total,
    )  # fmt: skip


def fail(ws: Workspace, job: str, error: str) -> dict[str, Any] | None:
    """Set a running job failed with one sentence; None if it is not running."""
    return _over(
        ws, job, "failed", f"failed: {error}", error=error,
    )  # fmt: skip


def _over(ws: Workspace, job: str, state: str, line: str, **fields: Any) -> dict[str, Any] | None:
    ended = {"message": state, "finished": time.time(), "pid": None}
    moved = move(ws, job, "running", state, **ended, **fields)
    if moved is not None:
        log(ws, job, line)
    return moved


def recover(ws: Workspace) -> list[dict[str, Any]]:
    """Put the jobs of a dead worker back into the queue.

    Only the holder of the worker's lock may call it: the lock is the proof that whoever had these
    jobs is gone (a process id may be in use again, above all in a container).

    Returns
    -------
    list of dict
        The jobs that are over now, and whose partial output must go: cancelled ones, and those
        failed because their worker was killed `MAX_ATTEMPTS` times.
    """
    over = []
    for job in listing(ws, state="running"):
        if job["attempts"] < MAX_ATTEMPTS:
            move(ws, job["id"], "running", "queued", message="queued again", pid=None)
            continue
        over.append(job)
        fail(
            ws, job["id"],
            f"the worker was killed {job['attempts']} times while it ran this job, probably for "
            "want of memory; choose a smaller area or period",
        )  # fmt: skip
    return over + listing(ws, state="cancelling")


def move(ws: Workspace, job: str, source: str, target: str, **fields: Any) -> dict[str, Any] | None:
    """Move a job from one state to the next and set fields of its record, in one step.

    Returns
    -------
    dict or None
        The new record; None if the job is not in the state `source`.

    Raises
    ------
    ValueError
        If `TRANSITIONS` does not allow the step.
    """
    if target not in TRANSITIONS.get(source, ()):
        raise ValueError(f"a job can not go from {source!r} to {target!r}")
    values = {**fields, "state": target}
    with opened(ws) as db:
        row = db.execute(
            f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in values)} "
            "WHERE id = :job AND state = :source RETURNING *",
            {**values, "job": job, "source": source},
        ).fetchone()
    return None if row is None else record(row)
