"""The server process: the page, the HTTP routes beside it, and the worker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import panel as pn
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.ioloop import IOLoop

from app import style
from app.main import build
from app.views import latent
from deepfeatures import catalogue, serve, worker
from deepfeatures.settings import Workspace

WARMING = "the page is being built for the first time; ask again in a few seconds"
BROKEN = "the page can not be built; the log of the server says why"

UNUSED_SESSION = 30_000
"""Milliseconds after which a page that was fetched but never opened is forgotten."""


@dataclass
class Health:
    """Whether the page was built, for ``/healthz``."""

    ws: Workspace
    """The workspace that is served."""
    problem: str = field(default=WARMING)
    """Why the page is not ready; empty if it is."""

    def __call__(self) -> dict[str, Any]:
        """Give words for the answer.

        Raises
        ------
        RuntimeError
            If the page is not ready.
        """
        if self.problem:
            raise RuntimeError(self.problem)
        return {"cubes": len(catalogue.names(self.ws))}


def origins(host: str, port: int) -> list[str]:
    """Give the addresses that may open the websocket: those under which the page is asked for."""
    names = {"127.0.0.1", "localhost"} | ({host} - {"", "0.0.0.0", "::"})
    return sorted(f"{name}:{port}" for name in names)


def serve_forever(ws: Workspace, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; the address is printed once the page was built.

    Raises
    ------
    OSError
        If the port is taken.
    """
    pn.config.js_files = {"tiles": "assets/tiles.js"}
    health = Health(ws)
    server = _server(ws, health, host, port)
    loop = IOLoop.current()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop))
    stop_worker = worker.supervise(ws)
    local = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    loop.add_callback(warm, health, f"http://{local}:{port}/")
    try:
        server.start()
        loop.start()
    finally:
        stop_worker()
        server.stop()


def _server(ws: Workspace, health: Health, host: str, port: int) -> Any:
    def page() -> Any:
        made = build(ws)
        health.problem = ""
        return made

    try:
        return pn.serve(
            {"/": page},
            address=host,
            port=port,
            show=False,
            start=False,
            verbose=False,
            title=style.TITLE,
            websocket_origin=origins(host, port),
            static_dirs={"assets": str(style.ASSETS)},
            extra_patterns=serve.routes(ws, ready=health),
            unused_session_lifetime=UNUSED_SESSION,
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(f"port {port} is taken by another program; set PORT to a free one") from error


async def warm(health: Health, address: str) -> None:
    """Compile what is compiled at first use, build the page once, and say where it is."""
    await asyncio.to_thread(latent.cloud, np.zeros((8, 2)), ((-1.0, 1.0), (-1.0, 1.0)))
    health.problem = BROKEN  # until it was built: a page that failed answers 200 as well
    with contextlib.suppress(HTTPClientError, OSError):
        await AsyncHTTPClient().fetch(address, request_timeout=60)
    if health.problem:
        sys.stderr.write(f"{BROKEN}\n")
    else:
        sys.stdout.write(f"{style.TITLE}: {address}\n")
        sys.stdout.flush()
