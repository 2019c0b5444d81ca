"""HTTP routes beside the page: health, catalogue, map tiles, series, exports, jobs.

`routes` gives tornado patterns, for Panel's server (``extra_patterns``) as for a bare
``tornado.web.Application``. Nothing blocks the event loop: all work runs in two bounded pools of
threads, one for what takes milliseconds and one for the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tornado.web import Application

from deepfeatures import catalogue, render
from deepfeatures.serve import gate
from deepfeatures.serve.areas import Area, Areas
from deepfeatures.serve.base import Base, Context, Pool, Refusal, cube
from deepfeatures.serve.cubes import Cube, Cubes, Health
from deepfeatures.serve.exports import Export, Kept
from deepfeatures.serve.find import Find, FoundTile, Polygons
from deepfeatures.serve.jobs import Job, Jobs, Log, Retry
from deepfeatures.serve.limits import SHARED, Allowed, Limits
from deepfeatures.serve.metrics import Meter, Metrics
from deepfeatures.serve.pictures import Animation, Picture, Span, View, animate
from deepfeatures.serve.series import Series, Transect
from deepfeatures.serve.spectral import Check, Indices
from deepfeatures.serve.tiles import SELECTIONS, Legend, Style, Tile, picture
from deepfeatures.serve.view import Histogram, Value
from deepfeatures.settings import Workspace

__all__ = [
    "SELECTIONS",
    "SHARED",
    "Allowed",
    "Meter",
    "Span",
    "Style",
    "View",
    "animate",
    "cube",
    "guard",
    "picture",
    "routes",
]

Routes = list[tuple[str, type[Base], dict[str, Any]]]

_QUICK_WAITING = 512
_SLOW_WAITING = 32


class Unknown(Base):
    """Any other path below the interface."""

    async def get(self) -> None:
        """Say that there is nothing here."""
        raise Refusal(404, f"there is no {self.request.path[:100]!r}; see /api/cubes")

    head = delete = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Say the same to whoever sends something."""
        await self.get()


def routes(
    ws: Workspace,
    *,
    ready: Callable[[], dict[str, Any]] | None = None,
    allowed: Allowed | None = None,
    meter: Meter | None = None,
) -> Routes:
    """Give the routes of a workspace.

    Parameters
    ----------
    ws
        The workspace to serve.
    ready
        What ``/healthz`` asks: gives words for the answer, raises if the page can not be built.
        By default the catalogue is read.
    allowed
        What each user may ask for; by default as fast as the server can.
    meter
        What ``/metrics`` tells the numbers of.

    Returns
    -------
    list of (pattern, handler, keyword arguments)
    """
    quick = Pool(min(4, max(2, os.cpu_count() or 2)), _QUICK_WAITING)
    quick.start(render.rgb_webp, np.zeros((1, 1), np.uint32))
    check = ready or (lambda: {"cubes": len(catalogue.names(ws))})
    quick.start(render.colours, Style.cmap)  # the first tile need not wait for a slow import
    numbers = (meter or Meter(ws)).text
    pools = quick, Pool(2, _SLOW_WAITING), Pool(1, 8)
    shared = {"context": Context(ws, check, *pools, Limits(allowed), numbers)}
    name = r"([^/]+)"
    table: list[tuple[str, type[Base]]] = [
        (r"/healthz", Health),
        (r"/metrics", Metrics),
        (r"/api/cubes", Cubes),
        (rf"/api/cubes/{name}", Cube),
        (rf"/api/cubes/{name}/legend", Legend),
        (rf"/api/cubes/{name}/histogram", Histogram),
        (rf"/api/cubes/{name}/value", Value),
        (rf"/api/cubes/{name}/series", Series),
        (rf"/api/cubes/{name}/transect", Transect),
        (rf"/api/cubes/{name}/export", Export),
        (rf"/api/cubes/{name}/(similar|groups|classify|change)", Find),
        (rf"/api/cubes/{name}/polygons", Polygons),
        (rf"/tiles/{name}/found/([^/]+)/([^/]+)/([^/]+)/([^/]+)\.png", FoundTile),
        (rf"/api/exports/{name}/{name}", Kept),
        (rf"/api/cubes/{name}/picture\.png", Picture),
        (rf"/api/cubes/{name}/animation\.(gif|mp4)", Animation),
        (r"/api/indices", Indices),
        (r"/api/indices/check", Check),
        (r"/api/jobs", Jobs),
        (rf"/api/jobs/{name}", Job),
        (rf"/api/jobs/{name}/log", Log),
        (rf"/api/jobs/{name}/retry", Retry),
        (r"/api/areas", Areas),
        (rf"/api/areas/{name}", Area),
        (rf"/tiles/{name}/([^/]+)/([^/]+)/([^/]+)\.png", Tile),
        (r"/(?:api|tiles)(?:/.*)?", Unknown),
    ]
    return [(pattern, handler, shared) for pattern, handler in table]


def guard(application: Application, made: Routes, host: str, named: Iterable[str]) -> None:
    """Put a gate before all routes of an application, those of the page among them.

    Parameters
    ----------
    application
        The application that serves the routes.
    made
        What `routes` gave.
    host
        Address that the server listens at.
    named
        Other names of the server, with or without port.
    """
    context = made[0][2]["context"]
    application.add_handlers(".*", [gate.rule(gate.Gate(host, named, context.limits), context)])
