"""Job records of a workspace in SQLite: legal transitions, exclusive claims, monotone progress."""

from __future__ import annotations

import json
import platform
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from deepfeatures import cards, catalogue, contract, settings
from deepfeatures.aoi import AOI, from_geojson, to_geojson, window
from deepfeatures.cube import feature_name
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
MAX_WAITING = 100
"""Most jobs that may wait in the queue."""
MAX_PIXEL_DATES = 5_000_000_000
"""Largest job, in pixels times dates (one Sentinel-2 tile at 40 dates)."""
RESERVE_BYTES = 100_000_000
"""Disk space that a job must leave free."""
DEFAULT_RATE = 50_000.0
"""Pixel-dates per second until a job of the model was measured on this machine (conservative)."""

_BUSY_SECONDS = 10.0
_VERSION = 1
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, cube TEXT NOT NULL, model TEXT NOT NULL,
    aoi TEXT, out TEXT NOT NULL, state TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    pixel_dates INTEGER NOT NULL DEFAULT 0, seconds_expected REAL NOT NULL DEFAULT 0,
    message TEXT, error TEXT, attempts INTEGER NOT NULL DEFAULT 0, pid INTEGER,
    created REAL NOT NULL, started REAL, finished REAL, heartbeat REAL);
CREATE TABLE IF NOT EXISTS rates (
    model TEXT, machine TEXT, pixel_dates REAL NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (model, machine));
PRAGMA user_version = 1;
"""


def submit(
    ws: Workspace,
    *,
    cube: str,
    model: str,
    aoi: AOI | str | bytes | Mapping[str, Any] | None = None,
    out: str | None = None,
) -> str:
    """Queue the embedding of an area of a band cube.

    Parameters
    ----------
    ws
        The workspace.
    cube, model
        Names of a band cube in the catalogue and of a model.
    aoi
        Area and period (or its GeoJSON); None is the whole cube.
    out
        Name of the new cube; by default made of cube, area and model, with a number if taken.

    Returns
    -------
    str
        Id of the job.

    Raises
    ------
    KeyError
        If the cube or the model is unknown.
    ValueError
        If the area, period, size, name or free disk space does not allow the job.
    """
    area = aoi if isinstance(aoi, AOI) or aoi is None else from_geojson(aoi)
    expected = estimate(ws, cube, model, area)
    _check_size(ws, expected)
    record = {
        "id": uuid.uuid4().hex[:12],
        "kind": "embed",
        "cube": cube,
        "model": model,
        "aoi": None if area is None else json.dumps(to_geojson(area)),
        "state": "queued",
        "pixel_dates": expected["pixels"] * expected["dates"],
        "seconds_expected": expected["seconds"],
        "created": time.time(),
    }
    with _database(ws) as db:
        db.execute("BEGIN IMMEDIATE")  # the name stays free until the record is in
        waiting = db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0]
        if waiting >= MAX_WAITING:
            raise ValueError(
                f"{waiting} jobs wait already, no more than {MAX_WAITING} may; "
                "try again when some have finished"
            )
        record["out"] = _output_name(ws, db, out, feature_name(cube, model, area))
        columns = ", ".join(record)
        marks = ", ".join(f":{column}" for column in record)
        db.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", record)
        db.execute("COMMIT")
    return str(record["id"])


def get(ws: Workspace, job: str) -> dict[str, Any]:
    """Give the record of a job; times are seconds since 1970, `fraction` is 0..1.

    Raises
    ------
    KeyError
        If there is no such job.
    """
    with _database(ws) as db:
        row = db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None:
        raise KeyError(f"there is no job {job[:80]!r}; `jobs list` shows all of them")
    return _record(row)


def listing(ws: Workspace, *, state: str | None = None) -> list[dict[str, Any]]:
    """Give the records of all jobs (or those in one state), the newest first."""
    with _database(ws) as db:
        rows = db.execute(
            "SELECT * FROM jobs WHERE :state IS NULL OR state = :state ORDER BY rowid DESC",
            {"state": state},
        ).fetchall()
    return [_record(row) for row in rows]


def cancel(ws: Workspace, job: str) -> dict[str, Any]:
    """Ask for the end of a job: a queued one is cancelled, a running one at its next tile.

    Raises
    ------
    KeyError
        If there is no such job.
    ValueError
        If it is done or failed.
    """
    # twice, because a worker may claim the job or give it back between two statements
    for source, target in (("queued", "cancelled"), ("running", "cancelling")) * 2:
        ended = {"finished": time.time()} if target == "cancelled" else {}
        if moved := move(ws, job, source, target, message=target, **ended):
            return moved
    found = get(ws, job)
    if found["state"] in ("cancelling", "cancelled"):
        return found
    raise ValueError(f"the job {job} is {found['state']} already; there is nothing to cancel")


def claim(ws: Workspace, pid: int) -> dict[str, Any] | None:
    """Take the oldest queued job for the process `pid`, or None; no two processes get the same."""
    with _database(ws) as db:
        row = db.execute(
            """UPDATE jobs SET state = 'running', pid = :pid, attempts = attempts + 1,
                   started = coalesce(started, :now), heartbeat = :now, message = 'running'
               WHERE state = 'queued' AND id = (
                   SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, rowid LIMIT 1)
               RETURNING *""",
            {"pid": pid, "now": time.time()},
        ).fetchone()
    return None if row is None else _record(row)


def progress(ws: Workspace, job: str, done: int, total: int) -> None:
    """Record the progress of a running job; the share done never falls, whatever is reported."""
    with _database(ws) as db:
        db.execute(
            """UPDATE jobs SET heartbeat = :now, total = :total, done = min(:total, max(:done,
                   CASE WHEN total > 0 THEN (done * :total + total - 1) / total ELSE 0 END))
               WHERE id = :id AND state IN ('running', 'cancelling')""",
            {"id": job, "done": done, "total": max(total, 1), "now": time.time()},
        )


def finish(ws: Workspace, job: str) -> dict[str, Any] | None:
    """Set a running job done; None if it is not running, for example cancelled meanwhile."""
    total = max(get(ws, job)["total"], 1)
    return move(
        ws, job, "running", "done",
        message="done", done=total, total=total, finished=time.time(), pid=None,
    )  # fmt: skip


def fail(ws: Workspace, job: str, error: str) -> dict[str, Any] | None:
    """Set a running job failed with one sentence; None if it is not running."""
    return move(
        ws, job, "running", "failed",
        message="failed", error=error, finished=time.time(), pid=None,
    )  # fmt: skip


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
    with _database(ws) as db:
        row = db.execute(
            f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in values)} "
            "WHERE id = :job AND state = :source RETURNING *",
            {**values, "job": job, "source": source},
        ).fetchone()
    return None if row is None else _record(row)


def estimate(ws: Workspace, cube: str, model: str, aoi: AOI | None = None) -> dict[str, Any]:
    """Estimate a job before it is asked for.

    Returns
    -------
    dict
        ``pixels`` (of the window that is read), ``dates``, ``bytes`` (at most, on disk) and
        ``seconds`` (from the rate measured on this machine, else a conservative default).

    Raises
    ------
    KeyError, ValueError
        As `submit`, without the limits of size and disk.
    """
    ds = catalogue.open(ws, cube)
    if contract.kind(ds) != "bands":
        raise ValueError(
            f"the cube {cube!r} holds {contract.kind(ds)}; choose a cube of bands to embed"
        )
    features = _features(ws, model, contract.channels(ds))
    height, width = contract.main(ds).sizes["y"], contract.main(ds).sizes["x"]
    if aoi is not None:
        (y0, y1, x0, x1), _ = window(aoi, contract.geobox(ds))
        height, width = y1 - y0, x1 - x0
    dates = _dates(cube, ds["time"].values.astype("datetime64[D]"), aoi)
    pixel_dates = height * width * dates
    # one byte per feature and one for the mask; the overviews add a third
    return {
        "pixels": height * width,
        "dates": dates,
        "bytes": int(pixel_dates * (features + 1) * 4 / 3),
        "seconds": round(pixel_dates / rate(ws, model), 1),
    }


def rate(ws: Workspace, model: str) -> float:
    """Pixel-dates per second of a model on this machine, measured or `DEFAULT_RATE`."""
    with _database(ws) as db:
        row = db.execute(
            "SELECT pixel_dates / seconds AS rate FROM rates WHERE model = ? AND machine = ?",
            (model, platform.node()),
        ).fetchone()
    return DEFAULT_RATE if row is None else float(row["rate"])


def measured(ws: Workspace, model: str, pixel_dates: int, seconds: float) -> None:
    """Add what a finished job took to the rate of its model; older jobs fade by half each time."""
    with _database(ws) as db:
        db.execute(
            """INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                   pixel_dates = pixel_dates / 2 + excluded.pixel_dates,
                   seconds = seconds / 2 + excluded.seconds""",
            (model, platform.node(), max(pixel_dates, 1), max(seconds, 1e-3)),
        )


def _features(ws: Workspace, model: str, channels: list[str]) -> int:
    card = cards.read(ws, model)
    missing = [channel for channel in card["channels"] if channel not in channels]
    if missing:
        raise ValueError(
            f"the model {model!r} needs {', '.join(missing)}, which the cube does not have; "
            "choose another model or cube"
        )
    return len(card["features"])


def _dates(cube: str, days: np.ndarray, aoi: AOI | None) -> int:
    start = np.datetime64(aoi.start if aoi and aoi.start else days[0], "D")
    end = np.datetime64(aoi.end if aoi and aoi.end else days[-1], "D")
    count = int(((days >= start) & (days <= end)).sum())
    if not count:
        raise ValueError(
            f"the cube {cube!r} has no date from {start} to {end}; "
            f"choose a period within {days[0]} to {days[-1]}"
        )
    return count


def _check_size(ws: Workspace, expected: dict[str, Any]) -> None:
    work = expected["pixels"] * expected["dates"]
    if work > MAX_PIXEL_DATES:
        raise ValueError(
            f"{expected['pixels']:,} pixels at {expected['dates']} dates are more than one job "
            f"may hold ({MAX_PIXEL_DATES:,} pixel-dates); choose a smaller area or period"
        )
    free = shutil.disk_usage(ws.home).free
    if expected["bytes"] + RESERVE_BYTES > free:
        raise ValueError(
            f"the result needs up to {expected['bytes'] / 1e9:.2f} GB and the disk of the "
            f"workspace has {free / 1e9:.2f} GB left; free some space or choose a smaller area"
        )


def _output_name(ws: Workspace, db: sqlite3.Connection, out: str | None, usual: str) -> str:
    open_jobs = db.execute(
        "SELECT out FROM jobs WHERE state IN ('queued', 'running', 'cancelling')"
    ).fetchall()
    taken = {row["out"] for row in open_jobs} | set(catalogue.names(ws))
    if out is not None:
        if settings.checked_name(out) in taken:
            raise ValueError(f"the name {out!r} is taken; choose another one")
        return out
    numbered = (f"{usual[:90]}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (usual, *numbered) if name not in taken)


def _record(row: sqlite3.Row) -> dict[str, Any]:
    record = dict(row)
    record["aoi"] = None if record["aoi"] is None else json.loads(record["aoi"])
    record["fraction"] = record["done"] / record["total"] if record["total"] else 0.0
    return record


@contextmanager
def _database(ws: Workspace) -> Iterator[sqlite3.Connection]:
    """Open the database for one short piece of work; what was not committed is rolled back."""
    try:
        opened = sqlite3.connect(ws.jobs_db, timeout=_BUSY_SECONDS, isolation_level=None)
        with closing(opened) as db:
            db.row_factory = sqlite3.Row
            if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                db.executescript(_SCHEMA)
            yield db
    except sqlite3.Error as error:
        raise OSError(
            f"the jobs database {str(ws.jobs_db)!r} can not be used ({error}); "
            "free disk space, or move the file away to start with an empty list"
        ) from error
