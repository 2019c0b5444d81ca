"""What one user may ask for: requests in a second, slow requests at once, pages."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass

MOST_USERS = 10_000
"""Users that are remembered; of more, those who were quiet for longest are forgotten."""


class Refusal(ValueError):
    """An answer other than success: an HTTP status and one sentence for the user."""

    def __init__(self, status: int, sentence: str, *, retry: float = 0.0) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry = retry
        """Seconds after which asking again makes sense; 0 if it never does."""


class Rate:
    """So many events in a second for each key, and a number of them at once.

    Parameters
    ----------
    per_second
        Events that are allowed in the long run; `math.inf` for all.
    at_once
        Events that may come at once after a pause.
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._held: dict[str, tuple[float, float]] = {}  # key: events left, and when

    def wait(self, key: str, now: float) -> float:
        """Count an event; give 0, or the seconds until it would be allowed.

        Parameters
        ----------
        key
            Who.
        now
            Time [s] of a clock that never goes back.
        """
        if math.isinf(self._per_second):
            return 0.0
        left, since = self._held.pop(key, (float(self._at_once), now))
        left = min(left + (now - since) * self._per_second, float(self._at_once))
        allowed = left >= 1
        self._held[key] = (left - allowed, now)  # the last key is the one that came last
        while len(self._held) > MOST_USERS:
            self._held.pop(next(iter(self._held)))
        return 0.0 if allowed else (1 - left) / self._per_second


@dataclass(frozen=True)
class Allowed:
    """What each user may do; a user is who signed in, else an address."""

    requests: float = math.inf
    """Requests of tiles, series, ... in a second; the tenfold at once."""
    slow: int = 4
    """Areas and exports at the same time."""
    pages: float = math.inf
    """Pages in a minute; as many at once."""
    sign_ins: float = 10.0
    """Attempts to sign in from one address in a minute."""


SHARED = Allowed(requests=200.0, pages=60.0)
"""For a server that others than the owner of the computer can reach."""


class Limits:
    """Counts what each user does, and refuses what is too much."""

    def __init__(self, allowed: Allowed | None = None) -> None:
        self.allowed = allowed = allowed or Allowed()
        whole = 10 * allowed.requests
        self._rates = {
            "requests": Rate(allowed.requests, 0 if math.isinf(whole) else math.ceil(whole)),
            "pages": Rate(
                allowed.pages / 60, 0 if math.isinf(allowed.pages) else math.ceil(allowed.pages)
            ),
            "sign-ins": Rate(allowed.sign_ins / 60, math.ceil(allowed.sign_ins)),
        }
        self._slow: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, what: str, user: str) -> None:
        """Count one of ``requests``, ``pages`` or ``sign-ins``.

        Raises
        ------
        Refusal
            429 if the user has asked for too many.
        """
        with self._lock:
            wait = self._rates[what].wait(user, time.monotonic())
        if wait:
            raise Refusal(
                429,
                f"too many {what} of one user; try again in {math.ceil(wait)} s",
                retry=wait,
            )

    def begin(self, user: str) -> None:
        """Count a slow request that begins; each needs an `end`.

        Raises
        ------
        Refusal
            429 if the user has too many of them under way.
        """
        with self._lock:
            if self._slow[user] >= self.allowed.slow:
                raise Refusal(
                    429,
                    f"{self.allowed.slow} areas or exports of yours are under way; "
                    "wait for one of them",
                    retry=5.0,
                )
            self._slow[user] += 1

    def end(self, user: str) -> None:
        """Count a slow request that ended."""
        with self._lock:
            self._slow[user] -= 1
            if self._slow[user] <= 0:
                del self._slow[user]
