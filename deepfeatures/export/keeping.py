"""Finished exports that are kept for a while, so that a download can be taken up again.

Each lies in a folder named by the hash of what was asked for. It is made in a folder beside it
under a lock, which ends with the process that holds it, and gets its name in one step: what has a
name is whole, what nobody makes any more is swept away.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from deepfeatures.settings import Workspace

KEEP_SECONDS = 6 * 3600
"""Seconds after its last use for which a file is kept."""
KEEP_BYTES = 20_000_000_000
"""Bytes that are kept; of more, what was not used for longest goes."""

_KEY = re.compile(r"[0-9a-f]{32}")
_making: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_guard = threading.Lock()


def place(ws: Workspace) -> Path:
    """Give the folder of the files that are kept."""
    return ws.home / "exports"


def find(ws: Workspace, key: str) -> Path | None:
    """Give the file that is kept under a hash, None if there is none (any more)."""
    if not _KEY.fullmatch(key):
        return None
    folder = place(ws) / key
    try:
        file = next(folder.iterdir(), None)
        os.utime(folder)  # it was used now
    except OSError:
        return None
    return file


def keep(ws: Workspace, key: str, make: Callable[[Path], Path]) -> Path:
    """Give the file that is kept under a hash; make it if there is none.

    Parameters
    ----------
    ws
        The workspace.
    key
        Hash of all that the file follows from: 32 hexadecimal digits.
    make
        Writes one file into the folder that it is given, and gives its path; called by one thread
        at a time for each hash.

    Raises
    ------
    OSError, ValueError
        What `make` raises; then nothing is kept.
    """
    target = place(ws) / key
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if (found := find(ws, key)) is not None:
            return found
        sweep(ws)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
        try:
            with _held(folder):
                (folder / "made").mkdir()
                name = make(folder / "made").name
                try:
                    os.replace(folder / "made", target)
                except OSError:
                    if not target.exists():  # else another process was faster
                        raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target / name


def sweep(ws: Workspace) -> None:
    """Remove what is too old or too much, and what a killed writer left."""
    found = []
    for folder in place(ws).iterdir():
        try:
            if folder.name.startswith(".making-"):
                if _abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            elif _KEY.fullmatch(folder.name):
                size = sum(file.stat().st_size for file in folder.iterdir())
                found.append((folder.stat().st_mtime, size, folder))
        except FileNotFoundError:
            continue  # another process sweeps as well
    total = 0
    for used, size, folder in sorted(found, reverse=True):
        total += size
        if total > KEEP_BYTES or time.time() - used > KEEP_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)  # who reads it has it open


def _alone(target: Path) -> threading.Lock:
    """Give the lock of a file; it is forgotten when nobody waits for it any more."""
    with _guard:
        lock = _making.get(target)
        if lock is None:
            lock = _making[target] = threading.Lock()
        return lock


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _abandoned(folder: Path) -> bool:
    """Tell whether no process holds the lock of a folder, which it takes at once."""
    try:
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > 60
    return True
