"""Streamed exports: a file is sent while it is made, and never held in memory."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any, cast

import xarray as xr
from tornado.iostream import StreamClosedError

from deepfeatures import aoi, export, store
from deepfeatures.serve.base import Base, Context, Refusal

_log = logging.getLogger(__name__)


class Export(Base):
    """``/api/cubes/{name}/export``."""

    async def get(self, name: str) -> None:
        """Send a selection by ``format``, ``bbox``, ``start``, ``end``, ``channels``."""
        await self._send(name, {"bbox": self._box()})

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Send the selection inside the polygon (GeoJSON) in the body."""
        area = aoi.from_geojson(body)
        found: dict[str, Any] = {"geometry": area.geometry}
        found |= {key: str(day) for key in ("start", "end") if (day := getattr(area, key))}
        await self._send(path[0], found)

    def _box(self) -> tuple[float, ...] | None:
        parts = self.names("bbox")
        if parts is None:
            return None
        try:
            west, south, east, north = (float(part) for part in parts)
        except ValueError:
            raise ValueError(
                f"bbox={self.text('bbox')[:80]!r} is no box; give west,south,east,north in degrees"
            ) from None
        if not (west < east and south < north):  # also refuses NaN
            raise ValueError(
                f"bbox={self.text('bbox')[:80]!r} is empty; give west,south,east,north in degrees"
            )
        return west, south, east, north

    async def _send(self, name: str, place: dict[str, Any]) -> None:
        period = {key: self.text(key) for key in ("start", "end") if self.text(key)}
        wanted = place | period | {"channels": self.names("channels")}
        form = self.text("format", "netcdf")
        if self.request.method == "HEAD":
            self.set_header(
                "Content-Type", await self.slow(_look, self.context, name, form, wanted)
            )
            self.finish()
            return
        filename, kind, pieces = await self.slow(_begin, self.context, name, form, wanted)
        try:
            self.set_header("Content-Type", kind)
            self.set_header("Content-Disposition", f'attachment; filename="{filename}"')
            self.set_header("Cache-Control", "no-store")
            while piece := await self.context.quick.run(next, pieces, b""):
                self.write(piece)
                await self.flush()
            self.finish()
        except StreamClosedError:
            _log.info("the client left during the export of %s", name)
        except (OSError, Refusal):
            if not self._headers_written:
                raise
            _log.exception("the export of %s failed on its way", name)
            # A cut connection tells the client that the file is not whole; an end would not.
            self.request.connection.close()  # type: ignore[union-attr]
        finally:
            self.context.quick.start(pieces.close)  # the temporary file goes with it


def _look(context: Context, name: str, form: str, wanted: dict[str, Any]) -> str:
    export.check_size(_select(context, name, wanted), form)
    return export.FORMATS[form].content_type


def _begin(
    context: Context, name: str, form: str, wanted: dict[str, Any]
) -> tuple[str, str, Generator[bytes, None, None]]:
    filename, kind, pieces = export.stream(_select(context, name, wanted), form, name=name)
    return filename, kind, cast("Generator[bytes, None, None]", pieces)


def _select(context: Context, name: str, wanted: dict[str, Any]) -> xr.Dataset:
    return export.select(store.open(context.cube(name).url), **wanted)
