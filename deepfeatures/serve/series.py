"""Series of a pixel or an area, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepfeatures import aoi, reading
from deepfeatures.serve.base import Base, plain


class Series(Base):
    """``/api/cubes/{name}/series``."""

    async def get(self, name: str) -> None:
        """Send the series at a place: ``lon``, ``lat``, ``channels``, ``masked``, ``format``."""
        lon, lat = self.number("lon"), self.number("lat")
        if lon is None or lat is None:
            raise ValueError("give the place: lon=..&lat=.. in degrees (WGS84)")
        work = self.context.cube, name, lon, lat, self.names("channels"), self._masked()
        self._send(f"{name}-pixel", await self.quick(_pixel, *work))

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Send mean and percentiles over the polygon (GeoJSON) in the body."""
        (name,) = path
        work = self.context.cube, name, body, self.names("channels"), self._masked()
        self._send(f"{name}-area", await self.slow(_area, *work))

    def _masked(self) -> bool:
        return self.text("masked", "1") not in ("0", "false")

    def _send(self, stem: str, found: dict[str, Any]) -> None:
        form = self.text("format")
        if form not in ("", "json", "csv"):
            raise ValueError(f"unknown format {form[:40]!r}; choose json or csv")
        if form == "csv" or (not form and "text/csv" in self.request.headers.get("Accept", "")):
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.set_header("Content-Disposition", f'attachment; filename="{stem}.csv"')
            self.finish(_csv(found))
        else:
            self.answer(found)


def _pixel(
    opened: Any, name: str, lon: float, lat: float, channels: list[str] | None, masked: bool
) -> dict[str, Any]:
    cube: reading.OpenCube = opened(name)
    row, column = reading.locate(cube, lon, lat)
    found = reading.series(cube, row, column, channels=channels, masked=masked)
    grid = cube.grid
    return {
        "cube": name,
        "version": cube.version,
        "lon": lon,
        "lat": lat,
        "row": row,
        "column": column,
        "x": grid.west + (column + 0.5) * grid.resolution,
        "y": grid.north - (row + 0.5) * grid.resolution,
        "crs": str(cube.geobox.crs),
        "masked": masked,
        "times": found.times,
        "valid": found.valid.astype(np.uint8),
        "channels": found.values,
    }


def _area(
    opened: Any, name: str, body: Mapping[str, Any], channels: list[str] | None, masked: bool
) -> dict[str, Any]:
    cube: reading.OpenCube = opened(name)
    area = aoi.from_geojson(body)
    found = reading.area_series(cube, area, channels=channels, masked=masked)
    return {
        "cube": name,
        "version": cube.version,
        "area": area.name,
        "area_km2": area.area_km2,
        "pixels": found.pixels,
        "masked": masked,
        "times": found.times,
        "channels": {
            channel: {"count": found.count[channel]} | statistics
            for channel, statistics in found.statistics.items()
        },
    }


def _csv(found: dict[str, Any]) -> str:
    """Give a table with a row per date that carries place and values together."""
    times = plain(found["times"])
    fixed = {key: found[key] for key in ("cube", "lon", "lat", "area", "pixels") if key in found}
    columns: dict[str, list[Any]] = {"time": times}
    columns |= {key: [value] * len(times) for key, value in fixed.items()}
    if "valid" in found:
        columns["valid"] = plain(found["valid"])
    for channel, values in found["channels"].items():
        parts = values if isinstance(values, dict) else {"": values}
        for key, array in parts.items():
            columns[f"{channel}_{key}" if key else channel] = plain(array)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))  # None becomes an empty field
    return out.getvalue()
