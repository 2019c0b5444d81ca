"""The page: holds state and draws; it computes no science and never blocks the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepfeatures.settings import Workspace


def serve(ws: Workspace, *, host: str = "127.0.0.1", port: int = 5006) -> None:
    """Serve the page and the HTTP routes of a workspace until the process is stopped."""
    from app import messages, server, visitors  # loads Panel and the plotting libraries

    messages.install()
    visitors.install()
    server.serve_forever(ws, host=host, port=port)
