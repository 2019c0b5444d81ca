"""The server process: the page, the HTTP routes beside it, and the worker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import panel as pn
from bokeh.document import Document
from panel.io.state import set_curdoc
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.ioloop import IOLoop

from app import logs, signin, style
from app.main import build
from app.views import cloud
from deepfeatures import catalogue, serve, worker
from deepfeatures.errors import sentence
from deepfeatures.serve import gate
from deepfeatures.settings import Workspace

log = logging.getLogger(__name__)

WARMING = "the page is being built for the first time; ask again in a few seconds"
BROKEN = "the page can not be built; the log of the server says why"

LOOK_SECONDS = 60.0
"""Who asks for the health so long after the page was last built lets it be built again."""

UNUSED_SESSION = 30_000
"""Milliseconds after which a page is forgotten that was closed, or fetched but never opened."""
LOOK_FOR_UNUSED = 5_000
"""Milliseconds between two looks for such pages."""


@dataclass
class Health:
    """Whether the page can be built, for ``/healthz``."""

    ws: Workspace
    """The workspace that is served."""
    problem: str = field(default=WARMING)
    """Why the page is not ready; empty if it is."""
    looked: float = field(default_factory=time.monotonic)
    """When the page was last built [s of `time.monotonic`]."""

    def __call__(self) -> dict[str, Any]:
        """Give words for the answer; the page is built anew if that is long ago.

        Raises
        ------
        RuntimeError
            If the page is not ready.
        """
        if time.monotonic() - self.looked > LOOK_SECONDS:
            self.look()
        if self.problem:
            raise RuntimeError(self.problem)
        return {"cubes": len(catalogue.names(self.ws))}

    def look(self) -> None:
        """Build a page that nobody sees; in a thread, for it takes a second."""
        self.looked = time.monotonic()
        document = Document()
        with set_curdoc(document), contextlib.suppress(Exception):
            emptied(document, self.built(), None)  # it has no session that would end

    def built(self) -> Any:
        """Build a page, and remember how that went."""
        try:
            page = build(self.ws)
        except Exception as error:  # whatever it is, the page is broken
            self.problem = f"{BROKEN} ({sentence(error)})"
            log.exception("the page can not be built")
            raise
        self.problem = ""
        self.looked = time.monotonic()
        if document := pn.state.curdoc:
            document.on_session_destroyed(partial(emptied, document, page))
        return page


def emptied(document: Document, page: Any, _: Any) -> None:
    """Let go of what holds a page, and of what its document holds, when its session has ended.

    Contexts of threads and timers may outlive the session, and keep the document itself. A page
    follows the state of the whole process, to show that it is busy, and never stops by itself.
    """
    for watcher in list(pn.state.param.watchers.get("busy", {}).get("value", [])):
        if getattr(getattr(watcher.fn, "__self__", None), "self", None) is page:
            pn.state.param.unwatch(watcher)
    document.models.flush_synced()
    for waiting in document.session_callbacks:
        # it ran in this moment, or the document has let go of all of them
        with contextlib.suppress(ValueError, AttributeError):
            document.callbacks.remove_session_callback(waiting)


def serve_forever(ws: Workspace, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; the address is printed once the page was built.

    Raises
    ------
    OSError
        If the port is taken.
    """
    logs.start()
    pn.config.js_files = {"theme": "assets/theme.js", "tiles": "assets/tiles.js"}
    pn.config.global_css = [style.COLOURS]
    health = Health(ws)
    server = made(health, host=host, port=port)
    loop = IOLoop.current()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop))
    stop_worker = worker.supervise(ws)
    local = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    loop.add_callback(warm, health, f"http://{local}:{port}/", partial(pages, server))
    try:
        server.start()
        loop.start()
    finally:
        stop_worker()
        server.stop()


def made(
    health: Health,
    *,
    host: str,
    port: int,
    sign_in: signin.SignIn | None = None,
    unused: int = UNUSED_SESSION,
) -> Any:
    """Make the server; it does not run yet.

    Parameters
    ----------
    health
        Builds the page of its workspace.
    host, port
        Where to listen.
    sign_in
        Who may use the server; by default what the environment says.
    unused
        Milliseconds after which a page that was closed is forgotten.

    Raises
    ------
    OSError
        If the port is taken.
    ValueError
        If the environment contradicts itself.
    """
    who = sign_in or signin.from_environment()
    alone = host in gate.LOCAL and not who.provider
    named = os.environ.get("DEEPFEATURES_HOSTS", "").split()
    meter = serve.Meter(health.ws)
    allowed = None if alone else serve.SHARED
    patterns = serve.routes(health.ws, ready=health, allowed=allowed, meter=meter)
    try:
        server = pn.serve(
            {"/": health.built},
            address=host,
            port=port,
            show=False,
            start=False,
            verbose=False,
            title=style.TITLE,
            websocket_origin="*",  # the gate asks for the very name and port of the server
            static_dirs={"assets": str(style.ASSETS)},
            extra_patterns=patterns,
            unused_session_lifetime_milliseconds=unused,
            check_unused_sessions_milliseconds=min(unused, LOOK_FOR_UNUSED),
            # only who was given the page can open a session
            sign_sessions=True,
            secret_key=secrets.token_bytes(32),
            log_function=meter.observe,
            use_xheaders=bool(os.environ.get("DEEPFEATURES_PROXY")),
            **signin.settings(who),
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(f"port {port} is taken by another program; set PORT to a free one") from error
    running = server._tornado
    meter.sessions = partial(pages, server)
    server.io_loop.add_callback(meter.probe)
    serve.guard(running, patterns, host, named)
    return server


def spare() -> None:
    """Let the garbage collector pass over what is there now: libraries, which stay.

    Each look at their half a million objects holds the event loop for up to a second, and one
    comes with each page that is closed.
    """
    gc.collect()
    gc.freeze()


def spare_later(held: Callable[[], int]) -> None:
    """Do so once more when no page is open: the first ones have brought more that stays."""
    if held():
        IOLoop.current().call_later(1.0, spare_later, held)
    else:
        spare()


def pages(server: Any) -> int:
    """Count the pages that a server holds."""
    return sum(len(list(app.sessions)) for app in server._tornado.applications.values())


async def warm(health: Health, address: str, held: Callable[[], int]) -> None:
    """Compile what is compiled at first use, build the page once, and say where it is."""
    await asyncio.to_thread(cloud.cloud, np.zeros((8, 2)), ((-1.0, 1.0), (-1.0, 1.0)))
    await asyncio.to_thread(health.look)
    spare()
    with contextlib.suppress(HTTPClientError, OSError):
        await AsyncHTTPClient().fetch(address, request_timeout=60)
    if health.problem:
        sys.stderr.write(f"{health.problem}\n")
    else:
        sys.stdout.write(f"{style.TITLE}: {address}\n")
        sys.stdout.flush()
    spare_later(held)
