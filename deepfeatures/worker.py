"""The worker process of a workspace: takes jobs one at a time; and the watch that keeps it alive.

Exactly one worker lives per workspace, because it holds a file lock that the system gives back
when the process ends, however it ends. Torch is loaded here and in no server process.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import psutil

from deepfeatures import catalogue, jobs, kinds
from deepfeatures.errors import EXPECTED, sentence
from deepfeatures.settings import Workspace

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often an idle worker looks for jobs, and a busy one for a cancel."""
PATIENCE_SECONDS = 1.25
"""How long a cancelled job may take to look up, before the worker is replaced."""
BACKOFF_SECONDS = 1.0
"""Pause before the first restart of a worker that died; it doubles each time."""
MAX_BACKOFF_SECONDS = 60.0
"""Longest pause before a restart."""
NICENESS = 5
"""A worker leaves the processor to the page when both want it."""


def log_path(ws: Workspace) -> Path:
    """Give the log file of the worker."""
    return ws.home / "worker.log"


def lock_path(ws: Workspace) -> Path:
    """Give the file that the living worker keeps locked."""
    return ws.home / "worker.lock"


def run(
    ws: Workspace,
    *,
    parent: int | None = None,
    once: bool = False,
    stop: Callable[[], bool] | None = None,
    warm: Callable[[], None] | None = None,
    give_up: Callable[[], None] | None = None,
) -> int:
    """Take jobs one at a time until told to stop.

    Parameters
    ----------
    ws
        The workspace.
    parent
        Process id of the server that started the worker; the worker stops when it is gone.
    once
        Return when the queue is empty, instead of waiting for more.
    stop
        Asked between tiles and jobs; a job that is stopped goes back to the queue and is
        resumed by the next worker.
    warm
        Called once, when what dead workers left is cleared, before the first job.
    give_up
        Called, from another thread, if a cancelled job does not stop within `PATIENCE_SECONDS`;
        it must not return. Without it the worker waits as long as it takes.

    Returns
    -------
    int
        Number of jobs that were taken.

    Raises
    ------
    ValueError
        If another worker lives in this workspace.
    """
    stopped = _orphaned(parent, stop or (lambda: False))
    taken = 0
    with _locked(ws):
        for over in jobs.recover(ws):
            _clear(ws, over)
        if warm:
            warm()
        while not stopped():
            job = jobs.claim(ws, os.getpid())
            if job is not None:
                taken += 1
                _work(ws, job, stopped, give_up)
            elif once:
                break
            else:
                time.sleep(POLL_SECONDS)
    return taken


def lives(ws: Workspace) -> bool:
    """Tell whether a worker holds the lock of this workspace."""
    lock = filelock.FileLock(lock_path(ws))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def _work(
    ws: Workspace,
    job: dict[str, Any],
    stopped: Callable[[], bool],
    give_up: Callable[[], None] | None,
) -> None:
    """Run one claimed job to one of its ends; nothing that happens in it ends the worker."""
    ident, kind = job["id"], kinds.KINDS.get(job["kind"])
    logger.info("job %s: %s of %s to %s", ident, job["kind"], job["cube"], job["out"])
    began = time.perf_counter()
    try:
        if kind is None:
            raise ValueError(f"this version knows no kind of job {job['kind']!r}; ask for another")
        if not (kind.makes_cube and _result_is_there(ws, job)):
            with _watched(ws, ident, give_up) as cancelled, _logged(ws, ident):
                kind.run(ws, job, _reporter(ws, ident), lambda: stopped() or cancelled.is_set())
    except InterruptedError:
        _interrupted(ws, job)
        return
    except Exception as error:  # whatever a job does, the worker goes on and the record says it
        logger.exception("job %s failed", ident)
        _remove(ws, job)
        hint = "" if isinstance(error, EXPECTED) else f"; {log_path(ws).name} has the details"
        if jobs.fail(ws, ident, sentence(error) + hint) is None:
            _interrupted(ws, job)
        return
    if jobs.finish(ws, ident) is None:  # cancelled after the last tile
        if kind.makes_cube:
            catalogue.remove(ws, job["out"])
        _interrupted(ws, job)
        return
    seconds = time.perf_counter() - began
    logger.info("job %s: done in %.1f s", ident, seconds)
    if job["attempts"] == 1 and job["pixel_dates"]:
        jobs.measured(ws, job["model"], job["pixel_dates"], seconds, kind=job["kind"])


def _reporter(ws: Workspace, ident: str) -> Callable[[int, int], None]:
    """Give what a job reports its progress to: the record, and a line of its log each tenth."""
    last = -1

    def report(done: int, total: int) -> None:
        nonlocal last
        jobs.progress(ws, ident, done, total)
        tenth = 10 * done // max(total, 1)
        if tenth > last:
            last = tenth
            jobs.log(ws, ident, f"{done} of {total}")

    return report


@contextmanager
def _watched(
    ws: Workspace, ident: str, give_up: Callable[[], None] | None
) -> Iterator[threading.Event]:
    """Look for a cancel while a job runs; give the event that says it came.

    A job that does not look at it in time is given up: `give_up` replaces the process, and the
    next one clears what was written.
    """
    cancelled, over = threading.Event(), threading.Event()

    def watch() -> None:
        asked = None
        while not over.wait(POLL_SECONDS):
            with suppress(OSError, KeyError):  # a busy database is asked again
                if jobs.get(ws, ident)["state"] == "cancelling":
                    asked = asked or time.monotonic()
                    cancelled.set()
            if asked and give_up and time.monotonic() - asked > PATIENCE_SECONDS:
                jobs.log(ws, ident, "it does not stop by itself; the worker starts anew")
                give_up()

    thread = threading.Thread(target=watch, name="deepfeatures-cancel-watch", daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        over.set()
        thread.join()


class _JobLog(logging.Handler):
    """Writes what the package logs while a job runs to the log of the job."""

    def __init__(self, ws: Workspace, ident: str) -> None:
        super().__init__(logging.INFO)
        self.ws, self.ident = ws, ident

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        with suppress(OSError):  # a full disk is told by the job itself
            jobs.log(self.ws, self.ident, f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _logged(ws: Workspace, ident: str) -> Iterator[None]:
    handler = _JobLog(ws, ident)
    package = logging.getLogger("deepfeatures")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def _result_is_there(ws: Workspace, job: dict[str, Any]) -> bool:
    """Tell whether an earlier, killed attempt had come to its end but for the record."""
    return job["attempts"] > 1 and job["out"] in catalogue.names(ws)


def _interrupted(ws: Workspace, job: dict[str, Any]) -> None:
    """Cancel a job whose user asked for it, else give it back to the queue."""
    fields = {"message": "queued again", "pid": None, "attempts": job["attempts"] - 1}
    if jobs.move(ws, job["id"], "running", "queued", **fields) is None:
        _clear(ws, jobs.get(ws, job["id"]))


def _clear(ws: Workspace, job: dict[str, Any]) -> None:
    """Remove what a job has written, then say so."""
    _remove(ws, job)
    if job["state"] == "cancelling":
        jobs.move(
            ws, job["id"], "cancelling", "cancelled",
            message="cancelled", finished=time.time(), pid=None,
        )  # fmt: skip
        jobs.log(ws, job["id"], "cancelled; nothing was kept")


def _remove(ws: Workspace, job: dict[str, Any]) -> None:
    kind = kinds.KINDS.get(job["kind"])
    try:
        if kind is not None:
            kind.clear(ws, job)
    except EXPECTED:
        logger.exception("what the job %s has written could not be removed", job["id"])


@contextmanager
def _locked(ws: Workspace) -> Iterator[None]:
    # a short wait, because `lives` holds the lock for an instant
    lock = filelock.FileLock(lock_path(ws), timeout=2)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(
            f"another worker lives in the workspace {str(ws.home)!r}; one is enough"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _orphaned(parent: int | None, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Add the end of the parent process to the reasons to stop."""
    if parent is None:
        return stop
    try:
        # a process object knows the time of its start, so a reused id is another process
        server = psutil.Process(parent)
    except psutil.NoSuchProcess:
        return lambda: True
    return lambda: stop() or not server.is_running()


@dataclass
class _Child:
    """The worker process that this process started for a workspace."""

    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    not_before: float = 0.0


_children: dict[Path, _Child] = {}
_children_lock = threading.Lock()


def ensure(ws: Workspace) -> bool:
    """Start a worker for the workspace if none lives; after deaths with growing pauses.

    Returns
    -------
    bool
        True if a worker lives or was started now, False while a restart waits.
    """
    with _children_lock:
        child = _children.setdefault(ws.home, _Child())
        if child.process is not None:
            if child.process.poll() is None:
                return True
            _note_death(child)
        if lives(ws):
            return True
        if time.monotonic() < child.not_before:
            return False
        child.process, child.started = _start(ws), time.monotonic()
        return True


def supervise(ws: Workspace, *, interval: float = 1.0) -> Callable[[], None]:
    """Keep a worker alive from a thread of this process.

    Parameters
    ----------
    ws
        The workspace.
    interval
        Seconds between two looks.

    Returns
    -------
    callable
        Ends the watch and the worker; a job that runs goes back to the queue.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                ensure(ws)
            except OSError:
                logger.exception("the worker could not be started; trying again")
            over.wait(interval)

    thread = threading.Thread(target=watch, name="deepfeatures-worker-watch", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()
        terminate(ws)

    return end


def terminate(ws: Workspace, *, timeout: float = 10.0) -> None:
    """End the worker that this process started, gently and then not; nothing if there is none."""
    with _children_lock:
        child = _children.pop(ws.home, None)
    if child is None or child.process is None:
        return
    child.process.terminate()
    try:
        child.process.wait(timeout)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()


def _note_death(child: _Child) -> None:
    code = child.process.returncode if child.process else 0
    now = time.monotonic()
    long_ago = now - child.started > 10 * MAX_BACKOFF_SECONDS  # not the same trouble
    child.process = None
    child.deaths = (0 if long_ago else child.deaths) + 1 if code else 0
    pause = min(BACKOFF_SECONDS * 2 ** (child.deaths - 1), MAX_BACKOFF_SECONDS) if code else 0.0
    child.not_before = now + pause
    if code:
        logger.warning("the worker died (exit code %s); restart in %.0f s", code, pause)


def _start(ws: Workspace) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [
        sys.executable, "-m", "deepfeatures", "jobs", "work",
        "--home", str(ws.home), "--parent", str(os.getpid()),
    ]  # fmt: skip
    with log_path(ws).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            # a Ctrl-C for the server is not one for the worker, which stops between two tiles
            start_new_session=True,
        )


def main(ws: Workspace, *, parent: int | None = None, once: bool = False) -> int:
    """Run the worker as a process of its own: log file, low priority, SIGTERM, then `run`."""
    handler = logging.FileHandler(log_path(ws))
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    package = logging.getLogger("deepfeatures")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # stderr goes to the same file
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    return run(ws, parent=parent, once=once, stop=terminated.is_set, warm=_warm, give_up=_anew)


def _warm() -> None:
    """Load torch now, so that the first job need not wait for it."""
    importlib.import_module("deepfeatures.infer")


def _anew() -> None:
    """Become a fresh worker: the same process id and arguments, no lock and no thread kept."""
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
