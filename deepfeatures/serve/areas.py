"""Kept areas over HTTP: list, keep, read, rename, delete."""

from __future__ import annotations

from typing import Any

from deepfeatures import aoi, areas
from deepfeatures.serve.base import Base, Refusal
from deepfeatures.settings import Workspace


class Areas(Base):
    """``/api/areas``."""

    async def get(self) -> None:
        """Send the areas of whoever asks as a GeoJSON FeatureCollection, the newest first."""
        found = await self.quick(areas.listing, self.context.ws, self.owner)
        self.set_header("Cache-Control", "no-store")
        self.answer({"type": "FeatureCollection", "features": found})

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Keep a GeoJSON area; the property ``title`` is what it is called."""
        key = await self.quick(_kept, self.context.ws, self.owner, body)
        self.set_header("Location", f"/api/areas/{key}")
        self.answer({"id": key}, 201)


class Area(Base):
    """``/api/areas/{id}``."""

    async def get(self, key: str) -> None:
        """Send one area as a GeoJSON Feature; its id is enough."""
        self.set_header("Cache-Control", "no-store")
        self.answer(await self.quick(_found, areas.get, self.context.ws, key))

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Call it otherwise: ``{"title": "..."}``."""
        title = body.get("title")
        if not isinstance(title, str):
            raise ValueError('the body needs "title", what the area is to be called')
        args = (self.context.ws, path[0], self.owner, title)
        self.answer(await self.quick(_found, areas.rename, *args))

    async def delete(self, key: str) -> None:
        """Forget it."""
        await self.quick(_found, areas.remove, self.context.ws, key, self.owner)
        self.answer({"deleted": key})


def _kept(ws: Workspace, owner: str, body: dict[str, Any]) -> str:
    properties = body.get("properties")
    title = properties.get("title") if isinstance(properties, dict) else None
    return areas.keep(ws, owner, aoi.from_geojson(body), str(title or ""))


def _found(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except KeyError as error:
        raise Refusal(404, str(error.args[0])) from error
