"""The gate before all routes of the port, the page among them: hosts, paths, sizes, rates.

A browser can be led to send a request for a name of its attacker to this server (DNS rebinding),
so the server answers only to the names that it was given. A request that does not pass never
reaches the route that it asks for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule

from deepfeatures.serve.base import MAX_BODY, Base, Context
from deepfeatures.serve.limits import Limits, Refusal

MAX_PATH = 2_000
"""Longest path of a request [characters]."""
MAX_QUERY = 16_000
"""Longest query of a request [characters]."""
MAX_FORM = 100_000
"""Largest body for a route that is not below ``/api`` [bytes]: a form to sign in."""

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names under which a computer knows itself."""
EVERYWHERE = ("", "0.0.0.0", "::")
"""Addresses to listen at that mean all of the computer."""
CLOSED = re.compile(r"/(?:components|autoload\.js|metadata|rest|admin)(?:/.*)?")
"""Routes of the page's libraries that this page has no use for."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METHODS = {
    "/api": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    "/login": ("GET", "HEAD", "POST"),
}


class Gate(Matcher):
    """Matches what is refused; the request then goes to `Refused` and nowhere else.

    Parameters
    ----------
    host
        Address that the server listens at.
    named
        Other names of the server, with or without port, e.g. ``("maps.example.org",)``.
    limits
        What one address may ask for.
    """

    def __init__(self, host: str, named: Iterable[str], limits: Limits) -> None:
        self._named = {name.lower() for name in named}
        self._names = {*LOCAL, *self._named, *(_name(one) for one in self._named)}
        self._names |= {host.lower()} - {*EVERYWHERE}
        self._any_address = host not in LOCAL
        self._limits = limits

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Give the refusal as the arguments of a handler, None if the request may pass."""
        try:
            self.check(request)
        except Refusal as refusal:
            request.refusal = refusal  # type: ignore[attr-defined]
            return {}
        return None

    def check(self, request: HTTPServerRequest) -> None:
        """Look at all but the body of a request.

        Raises
        ------
        Refusal
            If it must not go on.
        """
        self._check_host(request)
        path = _path(request)
        form = MAX_FORM if not path.startswith("/api/") else 4 * MAX_BODY
        if _length(request) > form:
            raise Refusal(413, f"the body is larger than {form / 1e6:.1f} MB; send less")
        if form == MAX_FORM and "Transfer-Encoding" in request.headers:
            raise Refusal(411, "say how long the body is (Content-Length)")
        allowed = next((m for root, m in _METHODS.items() if path.startswith(root)), ())
        if request.method not in (allowed or ("GET", "HEAD")):
            raise Refusal(405, f"{str(request.method)[:20]} is no method of this address")
        if CLOSED.fullmatch(path):
            raise Refusal(404, f"there is no {path[:100]!r}; see /api/cubes")
        if path == "/":
            if request.method != "GET":
                raise Refusal(405, "the page can only be got (GET)")
            self._limits.take("pages", str(request.remote_ip))
        if path == "/login" and request.method == "POST":
            self._limits.take("sign-ins", str(request.remote_ip))

    def _check_host(self, request: HTTPServerRequest) -> None:
        host = (request.headers.get("Host") or "").lower()
        if request.path == "/healthz":  # asked by whoever watches the machine, under any name
            return
        if not self._known(host):
            raise Refusal(
                421,
                f"this server is not called {host[:100]!r}; its owner can add the name to "
                "DEEPFEATURES_HOSTS",
            )
        origin = request.headers.get("Origin")
        if origin and request.path == "/ws":
            place = urlsplit(origin).netloc.lower()
            if place != host and place not in self._named:
                raise Refusal(403, "this page belongs to another site; use that of this server")

    def _known(self, host: str) -> bool:
        name = _name(host)
        return name in self._names or (self._any_address and _is_address(name))


class Refused(Base):
    """Answers what did not pass the gate."""

    open_to_all = True

    async def prepare(self) -> None:
        """Refuse at once; a body only after it was sent, or the client would not hear it."""
        self._refusal = self.request.refusal  # type: ignore[attr-defined]
        if self.request.method not in ("POST", "PUT", "PATCH"):
            raise self._refusal

    async def refuse(self, *path: str) -> None:
        """Say why."""
        raise self._refusal  # type: ignore[misc]

    get = head = post = put = patch = delete = options = refuse


def rule(gate: Gate, context: Context) -> Rule:
    """Give what a tornado application takes in before all its routes."""
    return Rule(gate, Refused, {"context": context})


def _path(request: HTTPServerRequest) -> str:
    """Give the decoded path.

    Raises
    ------
    Refusal
        If it is too long, or no path of this server can look like it.
    """
    if len(request.path) > MAX_PATH or len(request.query) > MAX_QUERY:
        raise Refusal(414, "the address of the request is too long; send a shorter one")
    path, query = unquote(request.path), unquote(request.query)
    if _CONTROL.search(path) or "\x00" in query:
        raise Refusal(400, "the address of the request holds a character that no name has")
    if "\\" in path or {".", ".."} & set(path.split("/")) or "//" in path:
        raise Refusal(400, "the path of the request leads up or out; ask for what you need itself")
    return path


def _length(request: HTTPServerRequest) -> int:
    text = request.headers.get("Content-Length") or "0"
    return int(text) if text.isascii() and text.isdecimal() else 0


def _name(host: str) -> str:
    """Give the name or address in ``name:port``, ``[address]:port`` or either without port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
