"""Asking for a job: what it would take, whether it may run, its name, its place in the queue."""

from __future__ import annotations

import json
import platform
import shutil
import sqlite3
import time
import uuid
from collections.abc import Mapping
from typing import Any

from deepfeatures import catalogue, kinds
from deepfeatures.aoi import AOI, from_geojson, to_geojson
from deepfeatures.jobs import logs, records
from deepfeatures.jobs.database import opened
from deepfeatures.settings import Workspace, checked_name

MAX_WAITING = 100
"""Most jobs that may wait in the queue."""
MAX_WAITING_EACH = 20
"""Most jobs of one owner that may wait there; a client that is nobody has only the limit of all."""
MAX_PIXEL_DATES = 5_000_000_000
"""Largest job, in pixels times dates (one Sentinel-2 tile at 40 dates)."""
RESERVE_BYTES = 100_000_000
"""Disk space that a job must leave free."""

MAX_SETTINGS = 1_000_000
"""Longest settings of a job, as JSON [bytes]."""
MAX_KEPT = 2_000
"""Jobs that are remembered; the oldest of those that are over are forgotten."""

Area = AOI | str | bytes | Mapping[str, Any] | None


def submit(
    ws: Workspace,
    *,
    kind: str = "embed",
    cube: str = "",
    model: str = "",
    aoi: Area = None,
    settings: Mapping[str, Any] | None = None,
    out: str | None = None,
    owner: str = "",
    title: str = "",
) -> str:
    """Queue a job.

    Parameters
    ----------
    ws
        The workspace.
    kind
        What is to be done, one of `kinds.KINDS`.
    cube, model
        Names of a cube in the catalogue and of a model, where the kind needs them.
    aoi
        Area and period (or its GeoJSON); None is the whole cube.
    settings
        What else the kind wants to know; JSON, at most `MAX_SETTINGS` bytes.
    out
        Name of the result; by default made by the kind, with a number if taken.
    owner
        Who asks. Others do not see the area, title and settings; empty: everybody does.
    title
        What the user calls it.

    Returns
    -------
    str
        Id of the job.

    Raises
    ------
    KeyError
        If the cube or the model is unknown.
    ValueError
        If the kind, area, period, size, name or free disk space does not allow the job, or too
        many jobs wait (`MAX_WAITING`, of this owner `MAX_WAITING_EACH`).
    """
    asked = _asked(kind, cube, model, aoi, settings)
    expected = _expected(ws, asked)
    _check_size(ws, expected)
    made = kinds.kind(kind)
    record = {
        **asked,
        "id": uuid.uuid4().hex[:12],
        "aoi": None if asked["aoi"] is None else json.dumps(asked["aoi"]),
        "settings": json.dumps(asked["settings"]),
        "owner": owner[:200],
        "title": " ".join(title.split())[:200],
        "state": "queued",
        "pixel_dates": expected["pixels"] * expected["dates"],
        "seconds_expected": expected["seconds"],
        "created": time.time(),
    }
    with opened(ws) as db:
        db.execute("BEGIN IMMEDIATE")  # the name stays free until the record is in
        _check_queue(db, str(record["owner"]))
        record["out"] = _output_name(ws, db, out, made.name(asked))
        columns = ", ".join(record)
        marks = ", ".join(f":{column}" for column in record)
        db.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", record)
        forgotten = _forget(db)
        db.execute("COMMIT")
    for old in forgotten:
        logs.drop(ws, old)
    logs.log(ws, str(record["id"]), f"asked for: {kind} {cube and f'of {cube} '}to {record['out']}")
    return str(record["id"])


def retry(ws: Workspace, job: str, owner: str | None = None) -> str:
    """Ask again for a job that failed or was cancelled, as a new job.

    Returns
    -------
    str
        Id of the new job.

    Raises
    ------
    KeyError
        If there is no such job.
    PermissionError
        If it is not a job of this owner (None: of anybody).
    ValueError
        If it is not over or was done, or `submit` refuses it now.
    """
    old = records.get(ws, job)
    records.check_owner(old, owner)
    if old["state"] not in ("failed", "cancelled"):
        raise ValueError(
            f"the job {job} is {old['state']}; only one that failed or was cancelled is retried"
        )
    same = ("kind", "cube", "model", "aoi", "settings", "out", "owner", "title")
    new = submit(ws, **{key: old[key] for key in same})
    logs.log(ws, new, f"the job {job} once more")
    return new


def _asked(
    kind: str, cube: str, model: str, aoi: Area, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Give the part of a record that its kind reads."""
    kinds.kind(kind)
    area = aoi if isinstance(aoi, AOI) or aoi is None else from_geojson(aoi)
    try:
        text = json.dumps(settings or {}, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("the settings of the job are no JSON; give numbers and texts") from None
    if len(text) > MAX_SETTINGS:
        raise ValueError(
            f"the settings of the job take {len(text):,} bytes; no more than {MAX_SETTINGS:,} may"
        )
    geojson = None if area is None else to_geojson(area)
    return {
        "kind": kind, "cube": cube, "model": model, "aoi": geojson, "settings": json.loads(text),
    }  # fmt: skip


def _forget(db: sqlite3.Connection) -> list[str]:
    """Remove the oldest jobs that are over, and give their ids."""
    rows = db.execute(
        """DELETE FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND rowid NOT IN (
               SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?) RETURNING id""",
        (MAX_KEPT,),
    ).fetchall()
    return [row["id"] for row in rows]


def estimate(
    ws: Workspace,
    cube: str = "",
    model: str = "",
    aoi: Area = None,
    *,
    kind: str = "embed",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Estimate a job before it is asked for.

    Returns
    -------
    dict
        ``pixels`` (of the window that is read), ``dates``, ``bytes`` (at most, on disk) and
        ``seconds`` (from the rate measured on this machine, else a conservative default); 0 where
        the kind can not say.

    Raises
    ------
    KeyError, ValueError
        As `submit`, without the limits of size and disk.
    """
    return _expected(ws, _asked(kind, cube, model, aoi, settings))


def _expected(ws: Workspace, asked: dict[str, Any]) -> dict[str, Any]:
    made = kinds.kind(asked["kind"])
    size = made.size(ws, asked)
    each = rate(ws, asked["model"], kind=asked["kind"])
    return {**size, "seconds": round(size["pixels"] * size["dates"] / each, 1)}


def rate(ws: Workspace, model: str = "", *, kind: str = "embed") -> float:
    """Pixel-dates per second of a kind and model on this machine, measured or a default."""
    with opened(ws) as db:
        row = db.execute(
            "SELECT pixel_dates / seconds AS rate FROM rates WHERE model = ? AND machine = ?",
            (_rated(kind, model), platform.node()),
        ).fetchone()
    return kinds.kind(kind).rate if row is None else float(row["rate"])


def measured(
    ws: Workspace, model: str, pixel_dates: int, seconds: float, *, kind: str = "embed"
) -> None:
    """Add what a finished job took to the rate of its kind and model; older jobs fade by half."""
    with opened(ws) as db:
        db.execute(
            """INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                   pixel_dates = pixel_dates / 2 + excluded.pixel_dates,
                   seconds = seconds / 2 + excluded.seconds""",
            (_rated(kind, model), platform.node(), max(pixel_dates, 1), max(seconds, 1e-3)),
        )


def _rated(kind: str, model: str) -> str:
    # a space is in no name of a model, so no kind takes the rate of a model
    return model if kind == "embed" else f"{kind} {model}"


def _check_queue(db: sqlite3.Connection, owner: str) -> None:
    """Refuse a job if too many wait, of all or of its owner; one owner can not fill the queue."""
    rows = db.execute("SELECT owner FROM jobs WHERE state = 'queued'").fetchall()
    if len(rows) >= MAX_WAITING:
        raise ValueError(
            f"{len(rows)} jobs wait already, no more than {MAX_WAITING} may; "
            "try again when some have finished"
        )
    own = sum(row["owner"] == owner for row in rows)
    if owner and own >= MAX_WAITING_EACH:
        raise ValueError(
            f"{own} jobs of yours wait already, no more than {MAX_WAITING_EACH} may; "
            "cancel one of them, or try again when one has started"
        )


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
        if checked_name(out) in taken:
            raise ValueError(f"the name {out!r} is taken; choose another one")
        return out
    numbered = (f"{usual[:90]}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (usual, *numbered) if name not in taken)
