"""What was computed, kept: in memory always, on disk if the environment names a folder."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfeatures import settings
from deepfeatures.reading.chunks import Cache

MEMORY = 256 * 1024**2
"""Bytes of computed blocks that one process keeps in memory."""
HEAD = 128
"""Bytes that a file holds besides the values of its block."""
ABANDONED = 3600
"""Seconds after which a file that nobody finished is taken for that of a killed process."""


class Folder:
    """Computed blocks as files under a limit of bytes; the least recently used ones go.

    Several processes may share one. A file appears whole or not at all, and one that can not be
    read is made again.

    Parameters
    ----------
    path
        Where the files lie.
    limit
        Bytes that they may take. A process looks at the folder again when it has filled what it
        found free, so several together may take a little more in between.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit
        self._room = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> NDArray | None:
        """Give a block, None if it is not there."""
        file = self._file(name)
        try:
            found: NDArray = np.load(file, allow_pickle=False)
            os.utime(file)
        except (OSError, ValueError, EOFError):
            return None
        return found

    def put(self, name: str, block: NDArray) -> None:
        """Keep a block; what does not fit any more goes."""
        size = block.nbytes + HEAD
        if size > self.limit:
            return
        with self._lock:
            self.path.mkdir(parents=True, exist_ok=True)
            if size > self._room:
                self._room = self._emptied(max(size, self.limit // 8))
            if size > self._room:
                return
            draft = self.path / f"{self._file(name).stem}.{os.getpid()}.draft"
            with draft.open("wb") as file:
                np.save(file, block, allow_pickle=False)
            draft.replace(self._file(name))
            self._room -= size

    def _emptied(self, wanted: int) -> int:
        """Remove what was not used for longest until so many bytes are free; tell how many are."""
        states = []
        for file in self.path.iterdir():
            try:
                states.append((file.stat(), file))
            except FileNotFoundError:  # another process was quicker
                continue
        free = self.limit - sum(state.st_size for state, _ in states)
        for state, file in sorted(states, key=lambda item: item[0].st_mtime_ns):
            if free >= wanted:
                break
            if file.suffix == ".draft" and time.time() - state.st_mtime < ABANDONED:
                continue  # somebody may be writing it
            file.unlink(missing_ok=True)
            free += state.st_size
        return free

    def _file(self, name: str) -> Path:
        return self.path / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.npy"


BLOCKS = Cache(MEMORY)
"""The computed blocks of this process."""


@cache
def folder() -> Folder | None:
    """Give the folder that ``DEEPFEATURES_CACHE`` names, None if it names none."""
    place = settings.cache()
    return None if place is None else Folder(*place)


def kept(name: str, make: Callable[[], NDArray]) -> NDArray:
    """Give a computed block: from memory, from disk, or made and kept.

    Parameters
    ----------
    name
        Says all that the block depends on, the version of its store included.
    make
        Computes it.
    """
    found = BLOCKS.get(name)
    if found is None:
        disk = folder()
        found = disk.get(name) if disk else None
        if found is None:
            found = make()
            if disk:
                disk.put(name, found)
        found.flags.writeable = False
        BLOCKS.put(name, found)
    return found
