"""Pixel grids of cubes: UTM, with edges on multiples of the pixel size.

Arrays and numbers only. Snapping makes cubes of neighbouring places, and of any two dates, share
their pixels, and puts 10 m pixels onto those of the Sentinel-2 tiles.
"""

from __future__ import annotations

import math

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, point

LARGEST = 11_000
"""Most pixels along an edge; a whole Sentinel-2 tile at 10 m has 10,980."""


def utm(lat: float, lon: float) -> str:
    """Give the EPSG code of the UTM zone of a place (degrees, WGS84).

    Raises
    ------
    ValueError
        If the place is no place or lies beyond UTM (84 N, 80 S).
    """
    if not (math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180):
        raise ValueError(
            f"lat {lat!r}, lon {lon!r} is no place; give degrees, lat within 90 and lon within 180"
        )
    if not -80 <= lat <= 84:
        raise ValueError(f"lat {lat:g} is outside UTM; choose a place between 80 S and 84 N")
    zone = int((lon + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def square(
    lat: float, lon: float, edge_size: float, resolution: float = 10.0, *, units: str = "px"
) -> GeoBox:
    """Give the square grid around a place.

    The corners lie on multiples of the resolution in the UTM zone of the centre (for an even
    number of pixels the rule of the package cubo: the centre is rounded to the resolution).

    Parameters
    ----------
    lat, lon
        Centre, degrees (WGS84).
    edge_size
        Length of the edge.
    resolution
        Pixel size [m].
    units
        Of `edge_size`: ``px`` or ``m`` (rounded up to whole pixels).

    Raises
    ------
    ValueError
        If the place, the size, the resolution or the unit is not usable.

    Examples
    --------
    >>> square(50.816, 3.024, 64).shape
    Shape2d(x=64, y=64)
    """
    _check_resolution(resolution)
    if units not in ("px", "m"):
        raise ValueError(f"units {units!r} is unknown; choose 'px' or 'm'")
    count = edge_size if units == "px" else edge_size / resolution
    if not (math.isfinite(count) and count > 0):
        raise ValueError(f"edge size {edge_size!r} must be above zero {units}")
    pixels = math.ceil(round(count, 6))
    _check_size(pixels, pixels)
    crs = utm(lat, lon)
    x, y = point(lon, lat, "EPSG:4326").to_crs(crs).coords[0]
    left = math.floor(x / resolution - pixels / 2 + 0.5)
    bottom = math.floor(y / resolution - pixels / 2 + 0.5)
    return _box(left, bottom, pixels, pixels, resolution, crs)


def cover(area: Geometry, *, resolution: float = 10.0, crs: str | None = None) -> GeoBox:
    """Give the smallest snapped grid that covers an area.

    Parameters
    ----------
    area
        A geometry with its CRS.
    resolution
        Pixel size [m].
    crs
        A projected CRS such as ``EPSG:32631``; None for the UTM zone of the area's centre.

    Raises
    ------
    ValueError
        If the area or the resolution is not usable.
    """
    _check_resolution(resolution)
    lonlat = area.to_crs("EPSG:4326")
    if crs is None:
        lon, lat = lonlat.centroid.coords[0]
        crs = utm(lat, lon)
    # straight in degrees is curved in metres: finer pieces keep the edges where they are
    bounds = np.array(area.to_crs(crs, resolution="auto").boundingbox.bbox) / resolution
    low = np.floor(np.round(bounds[:2], 6)).astype(int)
    high = np.ceil(np.round(bounds[2:], 6)).astype(int)
    width, height = (int(n) for n in np.maximum(high - low, 1))
    _check_size(width, height)
    return _box(int(low[0]), int(low[1]), width, height, resolution, crs)


def _box(left: int, bottom: int, width: int, height: int, resolution: float, crs: str) -> GeoBox:
    west, south = left * resolution, bottom * resolution
    bounds = (west, south, west + width * resolution, south + height * resolution)
    return GeoBox.from_bbox(bounds, crs=crs, shape=(height, width))


def _check_resolution(resolution: float) -> None:
    if not (math.isfinite(resolution) and resolution > 0):
        raise ValueError(f"resolution {resolution!r} must be metres above zero")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > LARGEST:
        raise ValueError(
            f"{width:,} x {height:,} pixels are too many (at most {LARGEST:,} along an edge); "
            "take a smaller area or a coarser resolution"
        )
