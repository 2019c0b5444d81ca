"""Series of a pixel, an area or a line, as JSON or CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import numpy as np
import shapely

from deepfeatures import aoi, reading
from deepfeatures.reading import tables
from deepfeatures.serve.base import Base, plain

Period = tuple[date | None, date | None]
Opened = Callable[[str], reading.OpenCube]


class Through(Base):
    """What the routes of series share: their arguments, and an answer in one of two forms."""

    def masked(self) -> bool:
        """Tell whether what is not usable is left out."""
        return self.text("masked", "1") not in ("0", "false")

    def period(self) -> Period:
        """Give ``start`` and ``end`` of the query, None where it says nothing.

        Raises
        ------
        ValueError
            If one is no date, or they are the wrong way round.
        """
        start, end = self._day("start"), self._day("end")
        if start and end and start > end:
            raise ValueError(f"the period starts on {start} after its end {end}; swap the dates")
        return start, end

    def _day(self, key: str) -> date | None:
        text = self.text(key)
        try:
            return date.fromisoformat(text[:10]) if text else None
        except ValueError:
            raise ValueError(f"{key}={text[:40]!r} is no date; write YYYY-MM-DD") from None

    def table(self) -> bool:
        """Tell whether CSV is asked for.

        Raises
        ------
        ValueError
            If another form is.
        """
        form = self.text("format")
        if form not in ("", "json", "csv"):
            raise ValueError(f"unknown format {form[:40]!r}; choose json or csv")
        accepts = "text/csv" in self.request.headers.get("Accept", "")
        return form == "csv" or (not form and accepts)

    def send(self, stem: str, text: str) -> None:
        """Send what was written in a thread: CSV if it is asked for, else JSON."""
        if self.table():
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.set_header("Content-Disposition", f'attachment; filename="{stem}.csv"')
        else:
            self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(text)


class Series(Through):
    """``/api/cubes/{name}/series``."""

    async def get(self, name: str) -> None:
        """Send the series at a place.

        ``lon``, ``lat``, ``channels``, ``masked``, ``start``, ``end``, ``place``, ``format``.
        """
        lon, lat = self.number("lon"), self.number("lat")
        if lon is None or lat is None:
            raise ValueError("give the place: lon=..&lat=.. in degrees (WGS84)")
        place = aoi.sanitise(self.text("place", "pixel")[:200])
        form = _csv if self.table() else _json
        wanted = self.names("channels"), self.masked(), self.period()
        found = await self.quick(_pixel, self.context.cube, name, (lon, lat, place), wanted, form)
        self.send(f"{name}-{place}", found)

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Send mean and percentiles over the polygon (GeoJSON) in the body."""
        (name,) = path
        form = _csv if self.table() else _json
        wanted = self.names("channels"), self.masked(), self.period()
        found = await self.slow(_area, self.context.cube, name, body, wanted, form)
        self.send(f"{name}-area", found)


class Transect(Through):
    """``/api/cubes/{name}/transect``."""

    async def get(self, name: str) -> None:
        """Send a channel along ``line=lon,lat;lon,lat``.

        ``channel``, ``masked``, ``start``, ``end``, ``format``.
        """
        text = self.text("line")
        try:
            corners = [(float(x), float(y)) for x, y in (p.split(",") for p in text.split(";"))]
        except ValueError:
            raise ValueError(
                f"line={text[:60]!r} is no line; write lon,lat;lon,lat in degrees (WGS84)"
            ) from None
        await self._along(name, corners)

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Send a channel along the LineString (GeoJSON) in the body."""
        await self._along(path[0], _line(body))

    async def _along(self, name: str, corners: list[tuple[float, float]]) -> None:
        channel = self.text("channel")
        if not channel:
            raise ValueError("say what to read: channel=NDVI, a band, a feature or an expression")
        form = _matrix_csv if self.table() else _matrix_json
        wanted = channel, self.masked(), self.period()
        found = await self.slow(_transect, self.context.cube, name, corners, wanted, form)
        self.send(f"{name}-transect", found)


def _line(body: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Give the points of a GeoJSON LineString or a Feature of one."""
    geometry = body.get("geometry") if body.get("type") == "Feature" else body
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(geometry, dict) or kind != "LineString":
        raise ValueError(f"the GeoJSON holds a {str(kind)[:40]!r}; send a LineString")
    points = geometry.get("coordinates")
    try:
        return [(float(point[0]), float(point[1])) for point in points or []]
    except (TypeError, ValueError, IndexError, KeyError):
        raise ValueError("a point of the LineString is none; write [longitude, latitude]") from None


def _pixel(
    opened: Opened,
    name: str,
    where: tuple[float, float, str],
    wanted: tuple[list[str] | None, bool, Period],
    form: Callable[[dict[str, Any]], str],
) -> str:
    cube = opened(name)
    lon, lat, place = where
    channels, masked, period = wanted
    row, column = reading.locate(cube, lon, lat)
    times = reading.period(cube, *period)
    found = reading.series(cube, row, column, channels=channels, masked=masked, times=times)
    grid = cube.grid
    answer = {
        "cube": name,
        "version": cube.version,
        "place": place,
        "lon": lon,
        "lat": lat,
        "geometry": shapely.Point(lon, lat),
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
    return form(answer)


def _area(
    opened: Opened,
    name: str,
    body: Mapping[str, Any],
    wanted: tuple[list[str] | None, bool, Period],
    form: Callable[[dict[str, Any]], str],
) -> str:
    cube = opened(name)
    channels, masked, (start, end) = wanted
    area = aoi.from_geojson(body, start=start, end=end)
    found = reading.area_series(cube, area, channels=channels, masked=masked)
    answer = {
        "cube": name,
        "version": cube.version,
        "area": area.name,
        "geometry": area.geometry,
        "area_km2": area.area_km2,
        "pixels": found.pixels,
        "masked": masked,
        "times": found.times,
        "channels": {
            channel: {"count": found.count[channel]} | statistics
            for channel, statistics in found.statistics.items()
        },
    }
    return form(answer)


def _transect(
    opened: Opened,
    name: str,
    corners: list[tuple[float, float]],
    wanted: tuple[str, bool, Period],
    form: Callable[[dict[str, Any]], str],
) -> str:
    cube = opened(name)
    channel, masked, period = wanted
    times = reading.period(cube, *period)
    found = reading.transect(cube, corners, channel, times=times, masked=masked)
    answer = {
        "cube": name,
        "version": cube.version,
        "channel": channel,
        "masked": masked,
        "distance": found.path.distance,
        "lon": found.path.lon,
        "lat": found.path.lat,
        "times": found.times,
        "values": found.values,
    }
    return form(answer)


def _json(found: dict[str, Any]) -> str:
    kept = {key: value for key, value in found.items() if key != "geometry"}
    return json.dumps(plain(kept), allow_nan=False, separators=(",", ":"))


def _matrix_json(found: dict[str, Any]) -> str:
    return _json(found | {"values": list(found["values"])})


def _csv(found: dict[str, Any]) -> str:
    """Give a table with a row per date that carries place, geometry and values together."""
    times = found["times"]
    centre = found["geometry"].centroid
    fixed: dict[str, Any] = {
        key: found[key] for key in ("cube", "place", "lon", "lat", "area") if key in found
    }
    if "area" in found:
        fixed |= {"place": found["area"], "lon": centre.x, "lat": centre.y}
        fixed |= {"pixels": found["pixels"]}
    columns: dict[str, Any] = {"time": times}
    columns |= {key: [value] * len(times) for key, value in fixed.items()}
    columns["geometry"] = tables.wkt(found["geometry"], len(times))
    if "valid" in found:
        columns["valid"] = found["valid"]
    for channel, values in found["channels"].items():
        parts = values if isinstance(values, dict) else {"": values}
        for key, array in parts.items():
            columns[f"{channel}_{key}" if key else channel] = array
    return tables.text(columns)


def _matrix_csv(found: dict[str, Any]) -> str:
    """Give a table with a row per date and sample."""
    dates, samples = found["values"].shape
    columns = {
        "time": np.repeat(found["times"], samples),
        "distance": np.tile(found["distance"], dates),
        "lon": np.tile(np.round(found["lon"], 7), dates),
        "lat": np.tile(np.round(found["lat"], 7), dates),
        found["channel"]: found["values"].ravel(),
    }
    return tables.text(columns)
