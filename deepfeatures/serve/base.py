"""What all routes share: pools of threads, sign-in, arguments, answers, errors in one sentence."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from tornado.web import HTTPError, RequestHandler, stream_request_body

from deepfeatures import aoi, catalogue, reading
from deepfeatures.errors import sentence
from deepfeatures.serve import owners
from deepfeatures.serve.limits import Limits, Refusal
from deepfeatures.settings import Workspace

T = TypeVar("T")

MAX_BODY = aoi.MAX_BYTES
"""Largest body of a request [bytes]."""

IMMUTABLE = "private, max-age=31536000, immutable"
"""For answers whose URL holds the version of the cube."""

REVALIDATE = "private, no-cache"
"""For all others: kept, but asked about each time (ETag)."""

_JSON = ("application/json", "application/geo+json")
_log = logging.getLogger(__name__)


class Pool:
    """Threads for work that would block the event loop, with a bounded queue."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="deepfeatures")
        self._waiting = waiting
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return self._count > 0

    def start(self, work: Callable[..., Any], *args: Any) -> None:
        """Run `work` in a thread some time; nobody waits for it."""
        self._executor.submit(work, *args)

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in a thread and give what it returns.

        Raises
        ------
        Refusal
            503 if too much is waiting already.
        """
        if self._count >= self._waiting:
            raise Refusal(503, "the server is busy; try again in a few seconds", retry=2.0)
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)
        finally:
            self._count -= 1


@dataclass(frozen=True, eq=False)
class Context:
    """What the handlers of one server share."""

    ws: Workspace
    """The workspace that is served."""
    ready: Callable[[], dict[str, Any]]
    """Says how the server is; raises if the page can not be built."""
    quick: Pool
    """For tiles and pixel series: milliseconds each."""
    slow: Pool
    """For areas and exports: seconds or minutes, so they never hold up a tile."""
    probe: Pool
    """For the question of health, which must be answered when all others are busy."""
    limits: Limits
    """What one user may ask for."""
    numbers: Callable[[], bytes]
    """Gives what ``/metrics`` answers."""

    def cube(self, name: str) -> reading.OpenCube:
        """Open a cube of the workspace.

        Raises
        ------
        Refusal
            404 if there is none of this name, or it is being written; 503 if its store can not
            be reached; 500 if the catalogue is
            not usable.
        """
        try:
            return cube(self.ws, name)
        except KeyError as error:
            raise Refusal(404, sentence(error)) from error
        except FileNotFoundError as error:  # its message holds a path of the server
            _log.warning("%s", error)
            raise Refusal(
                404, f"the cube {name!r} is being written or gone; try later, or make it again"
            ) from error
        except ConnectionError as error:
            _log.warning("%s", error)
            raise Refusal(
                503, f"the store of {name!r} can not be reached; try again later", retry=2.0
            ) from error
        except ValueError as error:
            _log.warning("%s", error)
            raise Refusal(
                500, f"the catalogue can not give {name!r}; the log of the server says why"
            ) from error


def cube(ws: Workspace, name: str) -> reading.OpenCube:
    """Open a cube of a workspace for quick reads; the catalogue is read again when it changed.

    Raises
    ------
    KeyError
        If the catalogue has no cube of this name.
    FileNotFoundError
        If its store is gone or being written.
    """
    state = os.stat(ws.catalog) if ws.catalog.exists() else None
    signature = (state.st_mtime_ns, state.st_ino) if state else (0, 0)
    return reading.open(_url(ws, name, signature), name)


@lru_cache(maxsize=256)
def _url(ws: Workspace, name: str, signature: tuple[int, int]) -> str:
    return catalogue.url(ws, name)


@stream_request_body
class Base(RequestHandler):
    """Handler whose errors are JSON and whose work runs in threads.

    The body is taken as it arrives, so that one that is too large is dropped and not held.
    """

    open_to_all = False
    """Whether the route answers without sign-in."""

    def initialize(self, context: Context) -> None:
        """Take the shared context."""
        self.context = context
        self.user = ""
        self._body = bytearray()
        self._received = 0
        self._refusal: Refusal | None = None
        self._gone = False
        self._slow = False
        self._etag: str | None = None

    @property
    def owner(self) -> str:
        """Who asks, as jobs and areas know them; see `owners.owner`."""
        return owners.owner(self.user, self.get_cookie(owners.COOKIE))

    def set_default_headers(self) -> None:
        """Forbid browsers to guess types, to frame or to run what is served here."""
        self.set_header("Server", "deepfeatures")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", REVALIDATE)

    async def prepare(self) -> None:
        """Refuse who is not signed in or asks for too much, and writing from another site."""
        try:
            await self._check_user()
            self._check_origin()
            if not self.open_to_all:
                self.context.limits.take("requests", self.asker)
        except Refusal as refusal:
            self._refusal = refusal
            if self.request.method != "POST":
                raise
            # An answer before the body is read would not reach the client: `post` gives it.

    async def _check_user(self) -> None:
        provider = getattr(self.application, "auth_provider", None)
        if provider is None or self.open_to_all:
            return
        asks = getattr(provider, "get_user", None)
        asks_later = getattr(provider, "get_user_async", None)
        user: Any = True
        if asks is not None:
            user = asks(self)
        elif asks_later is not None:
            user = await asks_later(self)
        if not user:
            raise Refusal(401, "sign in first: open the page in a browser")
        self.user = user if isinstance(user, str) else ""

    @property
    def asker(self) -> str:
        """Whose requests are counted together: of who signed in, else of an address."""
        return self.user or str(self.request.remote_ip)

    def _check_origin(self) -> None:
        if self.request.method in ("GET", "HEAD"):
            return
        if self.request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "this page belongs to another site; use the page of this server")
        kind = self.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if self.request.method == "POST" and kind not in _JSON:
            # A form of another site can not send this type without asking first.
            raise Refusal(415, "send the body as JSON, with 'Content-Type: application/json'")

    async def post(self, *path: str) -> None:
        """Hand a body that was let in to `posted`."""
        if self._refusal is not None:
            raise self._refusal
        await self.posted(self.body(), *path)

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Answer a JSON object; routes that take none keep this."""
        raise HTTPError(405)

    def data_received(self, chunk: bytes) -> None:
        """Keep the body up to the limit, and count the rest."""
        self._received += len(chunk)
        if self._received <= MAX_BODY:
            self._body += chunk

    def on_connection_close(self) -> None:
        """Remember that nobody waits for the answer any more."""
        self._gone = True
        self.on_finish()

    def on_finish(self) -> None:
        """Count a slow request as over."""
        if self._slow:
            self._slow = False
            self.context.limits.end(self.asker)

    def body(self) -> dict[str, Any]:
        """Give the JSON object that was sent.

        Raises
        ------
        Refusal
            413 if it is too large.
        ValueError
            If it is no JSON object.
        """
        if self._received > MAX_BODY:
            raise Refusal(
                413,
                f"the body of {self._received / 1e6:.1f} MB is too large "
                f"(limit {MAX_BODY / 1e6:.0f} MB); simplify the polygon",
            )
        try:
            found = json.loads(bytes(self._body))
        except (ValueError, RecursionError):
            raise ValueError("the body is no JSON; send one object") from None
        if not isinstance(found, dict):
            raise ValueError(f"the body is a JSON {type(found).__name__}; send an object")
        return found

    async def quick(self, work: Callable[..., T], *args: Any) -> T:
        """Run milliseconds of work in a thread, unless the client has gone meanwhile."""
        return await self.context.quick.run(self._unless_gone, work, *args)

    async def slow(self, work: Callable[..., T], *args: Any) -> T:
        """Run seconds of work in a thread of another pool; each user may have a few of them.

        The request counts until its answer has ended.
        """
        if not self._slow:
            self.context.limits.begin(self.asker)
            self._slow = True
        return await self.context.slow.run(self._unless_gone, work, *args)

    def _unless_gone(self, work: Callable[..., T], *args: Any) -> T:
        if self._gone:
            raise Refusal(499, "the client has gone")
        return work(*args)

    def text(self, name: str, default: str = "") -> str:
        """Give a query argument."""
        return self.get_query_argument(name, default) or default

    def number(self, name: str) -> float | None:
        """Give a finite number of the query, None if it is not there.

        Raises
        ------
        ValueError
            If it is no finite number.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{name}={text[:40]!r} is no finite number")
        return value

    def names(self, name: str) -> list[str] | None:
        """Give a comma-separated list of the query, None if it is not there."""
        found = [part.strip() for part in self.text(name).split(",") if part.strip()]
        return found or None

    def answer(self, value: Any, status: int = 200) -> None:
        """Send a value as JSON; NaN becomes null."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(plain(value), allow_nan=False, separators=(",", ":")))

    def unchanged(self, etag: str) -> bool:
        """Set the ETag; True (and the answer is 304) if the client has this already."""
        self._etag = f'"{etag}"'
        self.set_header("Etag", self._etag)
        if not self.check_etag_header():
            return False
        self.set_status(304)
        self.finish()
        return True

    def compute_etag(self) -> str | None:
        """Give the ETag that was set, else one of the whole answer."""
        return self._etag or super().compute_etag()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Tell what the user got wrong from what failed here."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, Refusal):
            status_code = error.status
        elif isinstance(error, ValueError):
            status_code = 400
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            status_code = 507
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send ``{"error": sentence}``."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, ValueError):
            message = sentence(error)
        elif status_code == 507:
            message = "the disk of the server is full; nothing was lost, free space and try again"
        elif status_code >= 500:
            message = "the server failed; its log says why"
        else:
            message = f"{self._reason}: {self.request.method} {self.request.path[:100]}"
        retry = error.retry if isinstance(error, Refusal) else 2.0 * (status_code == 503)
        if retry:
            self.set_header("Retry-After", str(math.ceil(retry)))
        if self._refusal is not None:
            self.set_header("Connection", "close")  # tornado closes it after so early an answer
        self.set_header("Cache-Control", "no-store")
        self.answer({"error": message}, status_code)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what failed here with its trace; what users got wrong names their places: not so."""
        if isinstance(value, ValueError) or getattr(value, "status_code", 500) < 500:
            _log.debug("%s: %s", type(self).__name__, sentence(value))
        else:
            super().log_exception(typ, value, tb)


def plain(value: Any) -> Any:
    """Give a value that JSON can carry: arrays as lists, dates as ISO text, NaN as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "M":
            return np.datetime_as_string(value, unit="s").tolist()
        if value.dtype.kind == "f":
            # The shortest text that gives the same float back, not the digits of its double.
            return [float(str(v)) if math.isfinite(v) else None for v in value]
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
