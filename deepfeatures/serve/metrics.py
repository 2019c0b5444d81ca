"""What the server does, in numbers: counted here, read by Prometheus at ``/metrics``."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry, Gauge, Histogram

from deepfeatures import jobs
from deepfeatures.reading.chunks import CHUNKS
from deepfeatures.reading.kept import BLOCKS
from deepfeatures.serve.base import Base
from deepfeatures.serve.limits import Refusal
from deepfeatures.settings import Workspace

PROBE_SECONDS = 0.005
"""Pause between two looks at how late the event loop is."""

_LAGS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0
)  # fmt: skip
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_STATES = ("queued", "running", "cancelling", "done", "failed", "cancelled")
_FORWARDED = ("X-Forwarded-For", "X-Real-Ip", "Forwarded")
_SALT = secrets.token_bytes(16)
_log = logging.getLogger(__name__)


class Meter:
    """The numbers of one server.

    Parameters
    ----------
    ws
        The workspace that is served.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self.sessions: Callable[[], int] = int
        """Tells how many pages are open."""
        self.registry = registry = CollectorRegistry()
        self._answers = prometheus.Counter(
            "deepfeatures_requests", "Answers by route and status.", ["route", "status"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "deepfeatures_request_seconds", "Time until an answer was sent.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._lag = Histogram(
            "deepfeatures_event_loop_lag_seconds", "How late the event loop was.",
            buckets=_LAGS, registry=registry,
        )  # fmt: skip
        self._worst = 0.0
        self._longest = Gauge(
            "deepfeatures_event_loop_lag_seconds_max", "Latest it was since this was asked last.",
            registry=registry,
        )  # fmt: skip
        self._pages = Gauge("deepfeatures_sessions", "Open pages.", registry=registry)
        self._jobs = Gauge("deepfeatures_jobs", "Jobs by state.", ["state"], registry=registry)
        self._cache = Gauge(
            "deepfeatures_cache_bytes", "Decoded and computed values in memory.", registry=registry
        )
        prometheus.ProcessCollector(registry=registry)

    def observe(self, handler: Any) -> None:
        """Count an answer and log it: no address, no place, and of the user only a pseudonym."""
        route, status = type(handler).__name__, handler.get_status()
        seconds = handler.request.request_time()
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        level = logging.ERROR if status >= 500 and status != 503 else logging.INFO
        user = getattr(handler, "asker", "") or handler.request.remote_ip
        fields = {
            "route": route,
            "method": str(handler.request.method)[:20],
            "status": status,
            "ms": round(seconds * 1e3, 1),
            "user": pseudonym(str(user)),
        }
        _log.log(level, "answered", extra={"fields": fields})

    def probe(self) -> None:
        """Measure from now on how late the event loop calls what asked to be called."""
        loop = asyncio.get_running_loop()

        def look(due: float) -> None:
            late = max(loop.time() - due, 0.0)
            self._lag.observe(late)
            self._worst = max(self._worst, late)
            loop.call_later(PROBE_SECONDS, look, loop.time() + PROBE_SECONDS)

        look(loop.time())

    def text(self) -> bytes:
        """Give all numbers in the format of Prometheus."""
        counted = Counter(job["state"] for job in jobs.listing(self._ws))
        for state in _STATES:
            self._jobs.labels(state).set(counted[state])
        self._pages.set(self.sessions())
        self._cache.set(CHUNKS.size + BLOCKS.size)
        worst, self._worst = self._worst, 0.0
        self._longest.set(worst)
        return prometheus.generate_latest(self.registry)


class Metrics(Base):
    """``/metrics``."""

    async def get(self) -> None:
        """Send all numbers, to who signed in or asks from the computer itself."""
        if not self.user and not self._from_here():
            raise Refusal(403, "the numbers are for who signed in, or for the computer itself")
        found = await self.context.probe.run(self.context.numbers)
        self.set_header("Content-Type", prometheus.CONTENT_TYPE_LATEST)
        self.set_header("Cache-Control", "no-store")
        self.finish(found)

    head = get

    def _from_here(self) -> bool:
        if any(name in self.request.headers for name in _FORWARDED):
            return False  # a proxy on this computer asks for somebody else
        return ipaddress.ip_address(self.request.remote_ip or "0.0.0.0").is_loopback


def pseudonym(user: str) -> str:
    """Give a name for the log that only this process can tell to be of the same user."""
    return hashlib.blake2b(user.encode(), key=_SALT, digest_size=6).hexdigest()
