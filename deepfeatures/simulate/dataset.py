"""Labels of the simulated landscape: its empty template and its windows as cubes."""

from __future__ import annotations

import json
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from odc.geo.crs import CRS as OdcCRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from deepfeatures import __version__
from deepfeatures.bands import BANDS, attributes
from deepfeatures.clouds import SCL_FLAGS, VALID_FLAGS
from deepfeatures.simulate import canopy, radar, sky, weather
from deepfeatures.simulate.land import CLASSES, EVENTS, NEVER
from deepfeatures.simulate.landscape import BLOCK, Landscape, block, blocks
from deepfeatures.simulate.setting import LATITUDE, USUAL
from deepfeatures.tiles import Tile

CRS = "EPSG:32632"
"""Coordinate reference system (UTM zone 32 north)."""
CORNER = (634_000.0, 5_780_000.0)
"""Easting and northing of the upper left corner [m]; the place is nominal."""

_CLASS_FLAGS = {"flag_values": list(range(len(CLASSES))), "flag_meanings": " ".join(CLASSES)}
_EVENT_FLAGS = {"flag_values": list(range(len(EVENTS))), "flag_meanings": " ".join(EVENTS)}
_TYX = ("time", "y", "x")
_GPP = "gross primary production"
# Name -> (dimensions, type, attributes) of what a window holds.
_GRIDDED: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "reflectance": (("time", "band", "y", "x"), "float32", attributes("reflectance")),
    "valid": (_TYX, "uint8", attributes("valid") | VALID_FLAGS),
    "scl": (_TYX, "uint8", attributes("scl") | SCL_FLAGS),
    "backscatter": (
        ("time_s1", "polarisation", "y", "x"), "float32", attributes("backscatter"),
    ),
    "truth_lai": (_TYX, "float32", {"units": "m2 m-2", "long_name": "Leaf area index"}),
    "truth_chlorophyll": (
        _TYX, "float32", {"units": "ug cm-2", "long_name": "Leaf chlorophyll"},
    ),
    "truth_gpp": (_TYX, "float32", {"units": "gC m-2 d-1", "long_name": _GPP.capitalize()}),
    "truth_cloud": (
        _TYX, "float32",
        {"units": "1", "long_name": "Opacity of clouds, or of their shadows where negative"},
    ),
    "truth_greenup": (
        ("year", "y", "x"), "int16",
        {"units": "d", "long_name": "Day of the year of green-up (0 = none)"},
    ),
    "truth_stress": (
        _TYX, "float32",
        {"units": "1", "long_name": "Share of the demand for water that the soil meets"},
    ),
    "surface_temperature": (
        ("time_lst", "y", "x"), "float32", attributes("surface_temperature"),
    ),
}  # fmt: skip


def template(landscape: Landscape) -> xr.Dataset:
    """Give the whole cube with true labels and small variables; the large ones are lazy zeros.

    Parameters
    ----------
    landscape
        Plan from `plan`.
    """
    ds = _frame(landscape, slice(0, landscape.size), slice(0, landscape.size))
    for name, (dims, kind, attrs) in _GRIDDED.items():
        shape = tuple(ds.sizes[dim] for dim in dims)
        lazy = dask.array.zeros(shape, dtype=kind, chunks=(*shape[:-2], BLOCK, BLOCK))
        ds[name] = (dims, lazy, _simulated(attrs))
    return _order(ds)


def render(landscape: Landscape, tile: Tile) -> xr.Dataset:
    """Compute a window of the cube; the same pixels come out whatever the tile.

    Parameters
    ----------
    landscape
        Plan from `plan`.
    tile
        Window; its core ``[y0:y1, x0:x1]`` is rendered.

    Returns
    -------
    xarray.Dataset
        All variables of `template` on the window, in memory.
    """
    ds = _frame(landscape, slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
    arrays = {
        name: np.empty(tuple(ds.sizes[dim] for dim in dims), kind)
        for name, (dims, kind, _) in _GRIDDED.items()
    }
    for rows, columns in blocks(landscape, tile.y0, tile.y1, tile.x0, tile.x1):
        y0, y1 = max(rows.start, tile.y0), min(rows.stop, tile.y1)
        x0, x1 = max(columns.start, tile.x0), min(columns.stop, tile.x1)
        for name, values in block(landscape, rows, columns).items():
            inner = values[..., y0 - rows.start : y1 - rows.start,
                           x0 - columns.start : x1 - columns.start]  # fmt: skip
            arrays[name][..., y0 - tile.y0 : y1 - tile.y0, x0 - tile.x0 : x1 - tile.x0] = inner
    for name, (dims, _, attrs) in _GRIDDED.items():
        ds[name] = (dims, arrays[name], _simulated(attrs))
    return _order(ds)


def geobox(landscape: Landscape) -> GeoBox:
    """Give the grid of the landscape."""
    west, north = _corner(landscape)
    edge = landscape.size * sky.PIXEL
    return GeoBox.from_bbox(
        (west, north - edge, west + edge, north), crs=CRS, resolution=sky.PIXEL, tight=True
    )


def _corner(landscape: Landscape) -> tuple[float, float]:
    """Give the upper left corner [m]: the nominal place moves with the latitude of the sun."""
    west, north = CORNER
    return west, north + round((landscape.setting.latitude - LATITUDE) * 111.2) * 1000.0


def _simulated(attrs: dict[str, Any]) -> dict[str, Any]:
    return attrs | {"long_name": f"Simulated {attrs['long_name'][0].lower()}"
                                 f"{attrs['long_name'][1:]}"}  # fmt: skip


def _order(ds: xr.Dataset) -> xr.Dataset:
    return ds[[*_GRIDDED, *(name for name in ds.data_vars if name not in _GRIDDED)]]


def _frame(landscape: Landscape, rows: slice, columns: slice) -> xr.Dataset:
    """Coordinates, attributes, and all variables of up to two dimensions."""
    grid = geobox(landscape)[rows, columns]
    coords: dict[Any, Any] = dict(xr_coords(grid)) | {
        "time": landscape.dates.time, "band": list(BANDS), "time_s1": landscape.passes.time,
        "polarisation": list(radar.POLARISATIONS), "time_lst": landscape.thermal.time,
        "time_meteo": landscape.weather.date.astype("datetime64[ns]"),
        "year": landscape.start + np.arange(landscape.years),
        "tower": list(landscape.towers.name),
    }  # fmt: skip
    variables = _maps(landscape, rows, columns) | _series(landscape) | _tower_variables(landscape)
    ds = xr.Dataset(variables, coords=coords, attrs=_attributes(landscape))
    ds["year"].attrs = {"units": "1", "long_name": "Calendar year"}
    return ds


def _maps(landscape: Landscape, rows: slice, columns: slice) -> dict[str, Any]:
    maps, window, yx = landscape.land, (rows, columns), ("y", "x")
    day = np.where(maps.event_day == NEVER, -32768, maps.event_day).astype(np.int32)
    since = f"Day of the event, counted from {landscape.start}-01-01 (-32768 = none)"
    return {
        "elevation": (yx, maps.elevation[window], _simulated(attributes("elevation"))),
        "label_class": (
            yx, maps.label[window],
            _simulated({"units": "1", "long_name": "Land cover at the start"}) | _CLASS_FLAGS,
        ),
        "label_parcel": (
            yx, maps.parcel[window],
            _simulated({"units": "1", "long_name": "Number of the field (stands: negative)"}),
        ),
        "truth_event": (
            yx, maps.event[window], _simulated({"units": "1", "long_name": "Event"}) | _EVENT_FLAGS,
        ),
        "truth_event_day": (yx, day[window], _simulated({"units": "d", "long_name": since})),
    }  # fmt: skip


def _series(landscape: Landscape) -> dict[str, Any]:
    dates, air = landscape.dates, landscape.weather
    views = np.array(canopy.VIEWS)[dates.view]
    angles = {
        "sun_zenith": dates.sun_zenith, "sun_azimuth": dates.sun_azimuth,
        "view_zenith": views[:, 0], "view_azimuth": views[:, 1],
    }  # fmt: skip
    found: dict[str, Any] = {
        name: ("time", values.astype(np.float32), _simulated(attributes(name)))
        for name, values in angles.items()
    }
    for name in weather.METEO:
        values = getattr(air, name).astype(np.float32)
        found[name] = ("time_meteo", values, _simulated(attributes(name)))
    flags = {"flag_values": [0, 1, 2], "flag_meanings": "unknown ascending descending"}
    orbit = _simulated(attributes("orbit")) | flags
    return found | {"orbit": ("time_s1", landscape.passes.orbit, orbit)}


def _tower_variables(landscape: Landscape) -> dict[str, Any]:
    towers = landscape.towers
    west, north = _corner(landscape)
    x = west + (towers.column + 0.5) * sky.PIXEL
    y = north - (towers.row + 0.5) * sky.PIXEL
    lon, lat = OdcCRS(CRS).transformer_to_crs("EPSG:4326")(x, y)
    rows: dict[str, tuple[Any, np.ndarray, str, str]] = {
        "tower_x": ("tower", x, "m", "Easting of the tower"),
        "tower_y": ("tower", y, "m", "Northing of the tower"),
        "tower_lon": ("tower", np.asarray(lon), "degree_east", "Longitude of the tower"),
        "tower_lat": ("tower", np.asarray(lat), "degree_north", "Latitude of the tower"),
        "tower_class": ("tower", towers.label, "1", "Land cover at the tower"),
        "tower_gpp": (
            ("tower", "time_meteo"), towers.gpp, "gC m-2 d-1", f"Measured {_GPP} at the tower",
        ),
        "tower_gpp_true": (
            ("tower", "time_meteo"), towers.truth, "gC m-2 d-1", f"True {_GPP} at the tower",
        ),
    }  # fmt: skip
    found: dict[str, Any] = {
        name: (dims, values, _simulated({"units": units, "long_name": text}))
        for name, (dims, values, units, text) in rows.items()
    }
    found["tower_class"][2].update(_CLASS_FLAGS)
    return found


def _attributes(landscape: Landscape) -> dict[str, str]:
    steps = [
        f"deepfeatures {__version__}: simulated with seed {landscape.seed}, "
        f"{landscape.size} px, {landscape.years} years"
        + (", varied" if landscape.setting != USUAL else ""),
        "PROSPECT-D and 4SAIL, light-use efficiency, water-cloud model",
        "valid: scl in 2, 4, 5, 6, 7, 11",
    ]
    last = landscape.start + landscape.years - 1
    period = str(last) if landscape.years == 1 else f"{landscape.start}-{last}"
    return {
        "title": f"Simulated landscape {period}",
        "summary": "Simulated: no satellite saw this place, its coordinates are nominal.",
        "source": "simulation (deepfeatures.simulate)",
        "source_items": json.dumps([]),
        "processing": json.dumps(steps),
        "licence": "CC0-1.0",
        "attribution": "Simulated data, no source to name",
        "time_coverage_start": str(landscape.weather.date[0]),
        "time_coverage_end": str(landscape.weather.date[-1]),
        "simulated": "true",
    }
