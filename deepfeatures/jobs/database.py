"""The SQLite file of the jobs: its tables, how an older file is brought up, one short use."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from deepfeatures.settings import Workspace

_BUSY_SECONDS = 10.0
_VERSION = 2
_TABLES = (
    """CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, cube TEXT NOT NULL, model TEXT NOT NULL,
    aoi TEXT, out TEXT NOT NULL, state TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
    pixel_dates INTEGER NOT NULL DEFAULT 0, seconds_expected REAL NOT NULL DEFAULT 0,
    message TEXT, error TEXT, attempts INTEGER NOT NULL DEFAULT 0, pid INTEGER,
    created REAL NOT NULL, started REAL, finished REAL, heartbeat REAL)""",
    """CREATE TABLE IF NOT EXISTS rates (
    model TEXT, machine TEXT, pixel_dates REAL NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (model, machine))""",
)
_ADDED = {
    "settings": "TEXT NOT NULL DEFAULT '{}'",
    "owner": "TEXT NOT NULL DEFAULT ''",
    "title": "TEXT NOT NULL DEFAULT ''",
    "marked": "REAL",
    "marked_done": "INTEGER",
}
"""Columns that version 2 added to the jobs: the last two are time and tiles of the first report of
the attempt that runs, from which the remaining time follows."""


@contextmanager
def opened(ws: Workspace) -> Iterator[sqlite3.Connection]:
    """Open the database for one short piece of work; what was not committed is rolled back.

    Raises
    ------
    OSError
        If the file can not be used.
    """
    try:
        connection = sqlite3.connect(ws.jobs_db, timeout=_BUSY_SECONDS, isolation_level=None)
        with closing(connection) as db:
            db.row_factory = sqlite3.Row
            if _version(db) < _VERSION:
                _bring_up(db)
            yield db
    except sqlite3.Error as error:
        raise OSError(
            f"the jobs database {str(ws.jobs_db)!r} can not be used ({error}); "
            "free disk space, or move the file away to start with an empty list"
        ) from error


def record(row: sqlite3.Row) -> dict[str, Any]:
    """Give the record of a job; `remaining` is in seconds, None while nobody knows."""
    found = dict(row)
    found["aoi"] = None if found["aoi"] is None else json.loads(found["aoi"])
    found["settings"] = json.loads(found["settings"])
    found["fraction"] = found["done"] / found["total"] if found["total"] else 0.0
    found["remaining"] = _remaining(found, time.time())
    return found


def _remaining(job: dict[str, Any], now: float) -> float | None:
    """Seconds to go at the rate of the attempt that runs, else at the rate of earlier jobs."""
    if job["state"] not in ("queued", "running"):
        return None
    if job["state"] == "running" and job["marked"] and job["done"] > job["marked_done"]:
        each = (job["heartbeat"] - job["marked"]) / (job["done"] - job["marked_done"])
        return max(each * (job["total"] - job["done"]) - (now - job["heartbeat"]), 0.0)
    expected = job["seconds_expected"] * (1 - job["fraction"])
    return expected if expected > 0 else None


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _bring_up(db: sqlite3.Connection) -> None:
    """Make the tables, or add to older ones what they lack; nothing in them is lost."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")  # two processes may come here at once
    for table in _TABLES:
        db.execute(table)
    present = {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}
    for column, form in _ADDED.items():
        if column not in present:
            db.execute(f"ALTER TABLE jobs ADD COLUMN {column} {form}")
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")
