"""Area of interest: a named polygon in longitude/latitude with a period, checked when made."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry
from pyproj import CRS, Geod, Transformer
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry
from shapely.ops import transform
from shapely.validation import explain_validity

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

MAX_BYTES = 5_000_000
"""Largest GeoJSON text that is read, in bytes."""
MAX_VERTICES = 10_000
"""Most vertices of one area."""
MAX_AREA_KM2 = 2_500.0
"""Largest area, in km2 (25 million pixels of 10 m)."""

_GEOD = Geod(ellps="WGS84")
_LONLAT = "give longitude/latitude in degrees (WGS84)"
_NOT_FINITE = "The area has NaN or infinite coordinates; replace them by numbers."
_LONLAT_CRS = ("CRS84", "EPSG:4326", "EPSG::4326")
_SEGMENT_DEGREES = 0.01  # edges are straight in lon/lat; finer pieces keep them so on the UTM grid


@dataclass(frozen=True)
class AOI:
    """An area of interest; making one checks everything, so that every AOI is usable.

    Raises
    ------
    ValueError
        One sentence that says what is wrong with the area or the period, and the remedy.
    """

    name: str
    """Letters, digits, ``-`` and ``_``; other characters are replaced by ``-``."""
    geometry: shapely.geometry.Polygon | shapely.geometry.MultiPolygon
    """Polygon or MultiPolygon, longitude/latitude in degrees (WGS84)."""
    start: date | None = None
    """First day of the period, None: from the first date of the cube."""
    end: date | None = None
    """Last day of the period (included), None: to the last date of the cube."""
    resolution: float = 10.0
    """Pixel size in metres."""

    def __post_init__(self) -> None:
        """Check the fields and sanitise the name."""
        object.__setattr__(self, "name", sanitise(self.name))
        object.__setattr__(self, "geometry", _checked(self.geometry))
        if self.start and self.end and self.start > self.end:
            raise ValueError(
                f"The period starts on {self.start} after its end {self.end}; swap the two dates."
            )
        if not (math.isfinite(self.resolution) and self.resolution > 0):
            raise ValueError(f"The resolution {self.resolution!r} must be metres above zero.")

    @property
    def area_km2(self) -> float:
        """Geodesic area on the WGS84 ellipsoid, in km2."""
        return _area_km2(self.geometry)


def sanitise(name: str) -> str:
    """Reduce a name to letters, digits, ``-`` and ``_`` (at most 64; ``area`` if none is left)."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-")[:64].rstrip("-") or "area"


def from_geojson(
    source: str | bytes | Mapping[str, Any],
    *,
    name: str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
) -> AOI:
    """Read an area from GeoJSON (RFC 7946): a Feature, a FeatureCollection or a bare geometry.

    Parameters
    ----------
    source
        Text, UTF-8 bytes or the decoded object; several polygons become one area.
    name, start, end
        Override the properties ``name``, ``start`` and ``end`` of the first feature; dates are
        ``date`` or ISO text.

    Raises
    ------
    ValueError
        One sentence that says what is wrong and the remedy.
    """
    data = _decoded(source)
    _check_crs(data)
    geometries, properties = _parts(data)
    polygons = [_polygon(item) for item in geometries]
    if not polygons:
        raise ValueError("The GeoJSON holds no geometry; draw at least one polygon.")
    if len(polygons) > 1:
        polygons = [_checked(polygon, whole=False) for polygon in polygons]
    geometry: Any = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
    return AOI(
        name=str(name or properties.get("name") or "area"),
        geometry=geometry,
        start=_day(start if start is not None else properties.get("start"), "start"),
        end=_day(end if end is not None else properties.get("end"), "end"),
        resolution=_resolution(properties.get("resolution")),
    )


def to_geojson(aoi: AOI) -> dict[str, Any]:
    """Return the area as a GeoJSON Feature that `from_geojson` reads back equal."""
    properties: dict[str, Any] = {"name": aoi.name, "resolution": aoi.resolution}
    for key, day in (("start", aoi.start), ("end", aoi.end)):
        if day is not None:
            properties[key] = day.isoformat()
    # shapely gives tuples; through JSON text they become the lists that GeoJSON has
    geometry = json.loads(json.dumps(shapely.geometry.mapping(aoi.geometry)))
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def window(aoi: AOI, geobox: GeoBox) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Pixels of a grid whose centre lies inside the area.

    Parameters
    ----------
    aoi
        The area.
    geobox
        Grid of the cube (shape (y, x), affine, CRS).

    Returns
    -------
    ((y0, y1, x0, x1), mask)
        The smallest window that holds these pixels, and a bool mask (y, x) of that window.

    Raises
    ------
    ValueError
        If no pixel centre is inside; the sentence names both bounds.
    """
    crs = CRS.from_user_input(str(geobox.crs))
    project = Transformer.from_crs(4326, crs, always_xy=True).transform
    shape = transform(project, shapely.segmentize(aoi.geometry, _SEGMENT_DEGREES))
    height, width = geobox.shape
    if not shape.intersects(shapely.geometry.box(*geobox.extent.boundingbox)):
        raise ValueError(_outside(aoi, geobox, crs))
    y0, y1, x0, x1 = _pixel_bounds(shape, geobox)
    y0, y1 = max(y0, 0), min(y1, height)
    x0, x1 = max(x0, 0), min(x1, width)
    if y1 <= y0 or x1 <= x0:
        raise ValueError(_outside(aoi, geobox, crs))
    affine = geobox.affine * geobox.affine.translation(x0, y0)
    mask = geometry_mask([shape], (y1 - y0, x1 - x0), affine, invert=True)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError(
            f"The area {aoi.name!r} covers no pixel centre of the cube "
            f"(pixels of {abs(geobox.resolution.x):g} m); draw it larger."
        )
    bounds = (y0 + rows[0], y0 + rows[-1] + 1, x0 + columns[0], x0 + columns[-1] + 1)
    core = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return (int(bounds[0]), int(bounds[1]), int(bounds[2]), int(bounds[3])), core


def _pixel_bounds(shape: BaseGeometry, geobox: GeoBox) -> tuple[int, int, int, int]:
    left, bottom, right, top = shape.bounds
    corners = [~geobox.affine * corner for corner in ((left, bottom), (right, top))]
    columns, rows = zip(*corners, strict=True)
    return (
        math.floor(min(rows)),
        math.ceil(max(rows)),
        math.floor(min(columns)),
        math.ceil(max(columns)),
    )


def _outside(aoi: AOI, geobox: GeoBox, crs: CRS) -> str:
    back = Transformer.from_crs(crs, 4326, always_xy=True)
    cube = back.transform_bounds(*geobox.extent.boundingbox)
    west, south, east, north = aoi.geometry.bounds
    swapped = south < cube[2] and north > cube[0] and west < cube[3] and east > cube[1]
    remedy = "swap longitude and latitude" if swapped else "draw it inside the cube"
    return (
        f"The area {aoi.name!r} ({_text(aoi.geometry.bounds)}) does not touch the cube "
        f"({_text(cube)}); {remedy}."
    )


def _text(bounds: tuple[float, ...]) -> str:
    west, south, east, north = bounds
    return f"lon {west:.4f} to {east:.4f}, lat {south:.4f} to {north:.4f}"


def _decoded(source: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    if len(source) > MAX_BYTES:
        raise ValueError(
            f"The file of {len(source) / 1e6:.1f} MB is too large for an area "
            f"(limit {MAX_BYTES / 1e6:.0f} MB); simplify the polygon or take only its feature."
        )
    try:
        text = source.decode("utf-8-sig") if isinstance(source, bytes) else source
        data = json.loads(text.lstrip("\ufeff"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(
            f"The file is not GeoJSON ({_first_line(error)}); save the area as .geojson in "
            "longitude/latitude."
        ) from None
    if not isinstance(data, Mapping):
        raise ValueError(
            f"The file holds a JSON {type(data).__name__}, not GeoJSON; give a Feature, a "
            "FeatureCollection or a Polygon."
        )
    return data


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _check_crs(data: Mapping[str, Any]) -> None:
    """Refuse the `crs` member of old GeoJSON unless it says longitude/latitude."""
    crs = data.get("crs")
    if crs is None:
        return
    label = str(_mapping(_mapping(crs).get("properties")).get("name", crs))
    if not label.endswith(_LONLAT_CRS):
        raise ValueError(f"The GeoJSON is in {label[:80]!r}; {_LONLAT} instead.")


def _parts(data: Mapping[str, Any]) -> tuple[list[Any], Mapping[str, Any]]:
    """Geometries of a GeoJSON object, and the properties of its first feature."""
    kind = data.get("type")
    if kind == "FeatureCollection":
        features = data.get("features")
        if not isinstance(features, list):
            raise ValueError("The FeatureCollection has no list of features; draw one polygon.")
        members = [f if isinstance(f, Mapping) else {} for f in features]
        properties = members[0].get("properties") if members else None
        return [f.get("geometry") for f in members], _mapping(properties)
    if kind == "Feature":
        return [data.get("geometry")], _mapping(data.get("properties"))
    if kind == "GeometryCollection":
        geometries = data.get("geometries")
        return geometries if isinstance(geometries, list) else [], {}
    return [data], {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _polygon(data: Any) -> BaseGeometry:
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(
            f"The geometry is {str(kind or 'missing')[:40]}, not an area; give a Polygon or "
            "MultiPolygon."
        )
    _check_numbers(data.get("coordinates"))
    try:
        geometry = shapely.geometry.shape(data)
    except (ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise ValueError(
            f"The coordinates of the {kind} cannot be read ({_first_line(error)}); "
            "each ring needs four or more [longitude, latitude] pairs, the last equal to the first."
        ) from None
    except shapely.errors.GEOSException as error:
        raise ValueError(
            f"The {kind} is not valid ({_first_line(error)}); close each ring."
        ) from None
    return shapely.force_2d(geometry)


def _check_numbers(coordinates: Any) -> None:
    """Refuse too many vertices and NaN before anything is built of them."""
    count, stack = 0, [coordinates]
    while stack:
        item = stack.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(_NOT_FINITE)
        if not isinstance(item, list | tuple):
            continue
        stack.extend(item)
        count += bool(item) and not isinstance(item[0], list | tuple)
        if count > MAX_VERTICES:
            raise ValueError(
                f"The area has more than {MAX_VERTICES:,} vertices; simplify it (10 m is enough)."
            )


def _checked(geometry: Any, *, whole: bool = True) -> Any:
    """Return the geometry if it is a usable area in longitude/latitude."""
    if not isinstance(geometry, shapely.geometry.Polygon | shapely.geometry.MultiPolygon):
        raise ValueError(
            f"The geometry is {getattr(geometry, 'geom_type', type(geometry).__name__)}, not an "
            "area; give a Polygon or MultiPolygon."
        )
    if geometry.is_empty:
        raise ValueError("The area is empty; draw a polygon with at least three corners.")
    xy = shapely.get_coordinates(geometry)
    if len(xy) > MAX_VERTICES:
        raise ValueError(
            f"The area has {len(xy):,} vertices, more than {MAX_VERTICES:,}; simplify it "
            "(10 m is enough)."
        )
    if not np.isfinite(xy).all():
        raise ValueError(_NOT_FINITE)
    _check_range(xy)
    # the hull, because the two halves of a figure of eight cancel in the area
    if geometry.convex_hull.area == 0:
        raise ValueError("The area of the polygon is zero; draw corners that are not on one line.")
    if not geometry.is_valid:
        raise ValueError(_invalid(geometry))
    if whole:
        _check_area(geometry)
    return geometry


def _check_range(xy: np.ndarray) -> None:
    longitude, latitude = np.abs(xy[:, 0]), np.abs(xy[:, 1])
    if longitude.max() <= 180 and latitude.max() <= 90:
        return
    worst = xy[np.argmax(np.maximum(longitude / 180, latitude / 90))]
    where = f"The coordinate ({worst[0]:g}, {worst[1]:g}) is outside longitude/latitude"
    if longitude.max() <= 90 and latitude.max() <= 180:
        raise ValueError(f"{where}; longitude and latitude look swapped: give longitude first.")
    if max(longitude.max(), latitude.max()) > 1000:
        raise ValueError(f"{where}; these are probably projected metres: {_LONLAT}.")
    raise ValueError(f"{where}; {_LONLAT}, longitude within 180 and latitude within 90.")


def _invalid(geometry: BaseGeometry) -> str:
    reason = explain_validity(geometry)
    found = re.match(r"(.*)\[(\S+) (\S+)\]$", reason)
    where = f"lon {float(found[2]):.5f}, lat {float(found[3]):.5f}" if found else "unknown place"
    if "elf-intersection" in reason:
        return f"The outline crosses itself at {where}; draw it without crossing."
    return f"The area is not valid ({found[1] if found else reason} at {where}); draw it anew."


def _check_area(geometry: BaseGeometry) -> None:
    area = _area_km2(geometry)
    if area > MAX_AREA_KM2:
        raise ValueError(
            f"The area of {area:,.0f} km2 is above the limit of {MAX_AREA_KM2:,.0f} km2; "
            "draw a smaller one or split it."
        )


def _area_km2(geometry: BaseGeometry) -> float:
    # signed areas of GeoJSON depend on the ring order; oriented rings make holes subtract
    oriented = shapely.orient_polygons(geometry)
    return abs(float(_GEOD.geometry_area_perimeter(oriented)[0])) / 1e6


def _day(value: Any, label: str) -> date | None:
    if value is None or value == "":
        return None
    if isinstance(value, date):
        return date(value.year, value.month, value.day)  # a datetime is a date too
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        raise ValueError(
            f"The {label} {str(value)[:40]!r} is not a date; write it as YYYY-MM-DD."
        ) from None


def _resolution(value: Any) -> float:
    try:
        return 10.0 if value is None else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"The resolution {value!r} is not a number; give metres.") from None
