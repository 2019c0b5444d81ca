"""Chunks of the dates that somebody will look at next, loaded while nobody waits."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from deepfeatures.serve.base import Pool

WAITING = 64
"""Windows that wait to be loaded, at most; the oldest are forgotten."""

_log = logging.getLogger(__name__)


class Ahead:
    """Work of no hurry: done one after the other, only while the pool has nothing else to do."""

    def __init__(self, limit: int = WAITING) -> None:
        self._limit = limit
        self._waiting: OrderedDict[Hashable, Callable[[], object]] = OrderedDict()
        self._lock = threading.Lock()
        self._running = False

    def ask(self, pool: Pool, key: Hashable, work: Callable[[], object]) -> None:
        """Do work some time; the same `key` is done once, and what waits too long never."""
        with self._lock:
            self._waiting[key] = work
            self._waiting.move_to_end(key)
            while len(self._waiting) > self._limit:
                self._waiting.popitem(last=False)
            if self._running or pool.busy:
                return
            self._running = True
        pool.start(self._drain, pool)

    def _drain(self, pool: Pool) -> None:
        while True:
            with self._lock:
                if pool.busy or not self._waiting:
                    self._running = False
                    return
                _, work = self._waiting.popitem(last=True)
            try:
                work()
            except Exception as error:  # nobody waits for it; whoever needs it meets the failure
                _log.debug("nothing was loaded ahead: %s", error)
