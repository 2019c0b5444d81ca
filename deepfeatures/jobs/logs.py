"""The log of a job: lines of text with the time, of which the newest are kept."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from deepfeatures.settings import Workspace, checked_name

MAX_LOG = 200_000
"""Bytes of one log; the older half goes when it is full."""
MAX_LINE = 2_000
"""Characters of one line."""


def log(ws: Workspace, job: str, text: str) -> None:
    """Add a line to the log of a job."""
    path = _path(ws, job)
    path.parent.mkdir(exist_ok=True)
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {' '.join(text.split())[:MAX_LINE]}\n"
    if path.exists() and path.stat().st_size + len(line.encode()) > MAX_LOG:
        _halve(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def log_text(ws: Workspace, job: str) -> str:
    """Give the log of a job, empty if nothing was written."""
    path = _path(ws, job)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def drop(ws: Workspace, job: str) -> None:
    """Remove the log of a job that is forgotten."""
    _path(ws, job).unlink(missing_ok=True)


def _path(ws: Workspace, job: str) -> Path:
    return ws.home / "jobs" / f"{checked_name(job)}.log"


def _halve(path: Path) -> None:
    late = path.read_bytes()[-MAX_LOG // 2 :]
    kept = path.with_suffix(f".{os.getpid()}.tmp")
    kept.write_bytes(late[late.find(b"\n") + 1 :])
    kept.replace(path)
