"""Exports: a file is made once, kept for a while, and sent whole or in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from shapely.geometry.base import BaseGeometry

from deepfeatures import aoi, export
from deepfeatures.serve import sending
from deepfeatures.serve.base import Base, Refusal


class Export(Base):
    """``/api/cubes/{name}/export``."""

    async def get(self, name: str) -> None:
        """Send a selection by ``format``, ``bbox``, ``start``, ``end``, ``channels``."""
        await self._send(self._order(name, bbox=box(self)))

    async def head(self, name: str) -> None:
        """Say of what type it will be, and how large it is if it is there already."""
        order = self._order(name, bbox=box(self))
        kind, path = await self.slow(self._look, order)
        if path is not None:
            await sending.send(self, path, kind)
            return
        self.set_header("Content-Type", kind)
        self.set_header("Accept-Ranges", "bytes")
        self.finish()

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Send the selection inside the polygon (GeoJSON) in the body."""
        area = aoi.from_geojson(body)
        start, end = ("" if day is None else str(day) for day in (area.start, area.end))
        order = self._order(path[0], geometry=area.geometry, start=start, end=end)
        await self._send(order)

    def _order(
        self,
        name: str,
        *,
        bbox: tuple[float, ...] | None = None,
        geometry: BaseGeometry | None = None,
        start: str = "",
        end: str = "",
    ) -> export.Order:
        return export.Order(
            name,
            self.text("format", "netcdf"),
            bbox=bbox,
            geometry=geometry,
            start=self.text("start", start),
            end=self.text("end", end),
            channels=tuple(self.names("channels") or ()),
        )

    def _look(self, order: export.Order) -> tuple[str, Path | None]:
        self.context.cube(order.cube)
        export.check_size(export.ordered(self.context.ws, order), order.fmt)
        found = export.find(self.context.ws, export.key(self.context.ws, order))
        kind = export.content_type(found) if found else export.FORMATS[order.fmt].content_type
        return kind, found

    async def _send(self, order: export.Order) -> None:
        path = await self.slow(self._make, order)
        kind = export.content_type(path)
        if "application/json" not in self.request.headers.get("Accept", ""):
            await sending.send(self, path, kind)
            return
        href = f"/api/exports/{path.parent.name}/{quote(path.name)}"
        size = await self.quick(lambda: path.stat().st_size)
        self.set_header("Location", href)
        self.answer({"href": href, "bytes": size, "type": kind}, 201)

    def _make(self, order: export.Order) -> Path:
        self.context.cube(order.cube)  # says in other words what is missing
        return export.kept(self.context.ws, order)


class Kept(Base):
    """``/api/exports/{key}/{filename}``."""

    async def get(self, key: str, filename: str) -> None:
        """Send a file that was made before and is still kept."""
        path = await self.quick(export.find, self.context.ws, key)
        if path is None or path.name != filename:
            raise Refusal(404, "the file is not kept any more; ask for it again")
        await sending.send(self, path, export.content_type(path))

    head = get


def box(handler: Base) -> tuple[float, ...] | None:
    """Read ``bbox`` from the query.

    Raises
    ------
    ValueError
        If it is no box.
    """
    parts = handler.names("bbox")
    if parts is None:
        return None
    shown = repr(handler.text("bbox")[:80])
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"bbox={shown} is no box; give west,south,east,north in degrees") from None
    if not (west < east and south < north):  # also refuses NaN
        raise ValueError(f"bbox={shown} is empty; give west,south,east,north in degrees")
    return west, south, east, north
