"""Health, and what the catalogue says: all cubes, one cube."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from deepfeatures import catalogue, reading
from deepfeatures.serve.base import Base, Context, Refusal
from deepfeatures.settings import Workspace

_log = logging.getLogger(__name__)
_BRIEF = ("name", "title", "kind", "dims", "bounds", "crs", "resolution", "simulated", "version")


class Health(Base):
    """``/healthz``."""

    open_to_all = True

    async def get(self) -> None:
        """Send ``{"status": "ok"}`` once the page can be built, else 503 with the reason."""
        self.set_header("Cache-Control", "no-store")
        try:
            found = await self.context.probe.run(self.context.ready)
        except Refusal:
            raise
        except Exception as error:  # whatever it is, the server is not healthy
            _log.debug("not ready: %s", error)
            self.answer({"status": "failing", "error": f"{type(error).__name__}: {error}"}, 503)
        else:
            self.answer({"status": "ok"} | found)

    head = get


class Cubes(Base):
    """``/api/cubes``."""

    async def get(self) -> None:
        """Send a line about each cube."""
        self.answer({"cubes": await self.quick(_listed, self.context)})

    head = get


class Cube(Base):
    """``/api/cubes/{name}``."""

    async def get(self, name: str) -> None:
        """Send all there is to know about one cube, without its values."""
        self.answer(await self.quick(_described, self.context, name))

    head = get


def _described(context: Context, name: str) -> dict[str, Any]:
    cube = context.cube(name)
    return {
        **_info(context.ws, name, cube),
        "valid_share": reading.shares(cube),
        "levels": list(cube.levels),
    }


@lru_cache(maxsize=256)
def _info(ws: Workspace, name: str, cube: reading.OpenCube) -> dict[str, Any]:
    # An open cube is another object when its content has changed.
    return catalogue.info(ws, name)


def _listed(context: Context) -> list[dict[str, Any]]:
    found = []
    for name in catalogue.names(context.ws):
        try:
            whole = _info(context.ws, name, context.cube(name))
        except (LookupError, OSError, ValueError) as error:
            _log.warning("%s can not be listed: %s", name, error)
            continue
        brief = {key: whole[key] for key in _BRIEF}
        found.append(brief | {"start": whole["times"][0], "end": whole["times"][-1]})
    return found
