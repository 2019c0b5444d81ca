"""Results as layers: a map of one grid that is stored, drawn and exported like any other cube."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rasterio.features
import shapely
import xarray as xr
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import shape

from deepfeatures import __version__, catalogue, contract, reading, store
from deepfeatures.bands import attributes
from deepfeatures.settings import Workspace, checked_name
from deepfeatures.tiles import Tile

MAX_POLYGONS = 20_000
"""Most polygons of one GeoJSON."""
MAX_VERTICES = 1_000_000
"""Most corners of one GeoJSON."""
SMALLEST = 4
"""Pixels below which a patch joins its neighbour when polygons are made."""
_KEPT = ("source", "licence", "attribution", "simulated")


@dataclass(frozen=True, eq=False)
class Layer:
    """Maps on the grid of a cube, with the words that make them again."""

    source: str
    """Name of the cube that it was made of."""
    version: str
    """Version of that cube."""
    title: str
    """What it shows, in a line."""
    method: str
    """Function that made it: ``similar``, ``groups``, ``classify``, ``change``."""
    settings: Mapping[str, Any]
    """Arguments of that function, in words that JSON knows."""
    channels: tuple[str, ...]
    """Name of each map."""
    values: NDArray[Any]
    """(channel, y, x) float32, NaN = no value; of classes uint8 codes from 1, 0 = no value."""
    day: np.datetime64
    """Day that it stands for: the last one that went in."""
    classes: tuple[str, ...] = field(default=())
    """Names of the codes 1, 2, ...; empty for numbers."""


def dataset(cube: reading.OpenCube, layer: Layer) -> xr.Dataset:
    """Give a layer as a cube under the contract.

    Parameters
    ----------
    cube
        The cube that it was made of: grid and licence are taken from it.
    layer
        The layer.
    """
    origin = store.open(cube.url)
    steps = json.loads(origin.attrs.get("processing") or "[]")
    steps.append(f"deepfeatures {__version__} find {layer.method}: {json.dumps(layer.settings)}")
    attrs: dict[str, Any] = dict(attributes("layer"))
    if layer.classes:
        # CF has no blanks in a meaning; the names as they were given are in `classes`
        words = " ".join("_".join(name.split()) for name in layer.classes)
        attrs |= {"flag_values": list(range(1, len(layer.classes) + 1)), "flag_meanings": words}
    there = np.asarray(layer.values > 0 if layer.classes else np.isfinite(layer.values))
    flags = {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
    made = xr.Dataset(
        {
            "layer": (("time", "map", "y", "x"), layer.values[None], attrs),
            "valid": (
                ("time", "y", "x"),
                np.all(there, axis=0, keepdims=True).astype(np.uint8),
                attributes("valid") | flags,
            ),
        },
        coords={
            "time": np.array([layer.day], "datetime64[ns]"),
            "map": list(layer.channels),
            **{name: origin[name] for name in ("y", "x", "spatial_ref")},
        },
        attrs={key: origin.attrs[key] for key in _KEPT if key in origin.attrs}
        | {
            "title": layer.title,
            "processing": json.dumps(steps),
            "source_cube": layer.source,
            "source_version": layer.version,
            "method": layer.method,
            "settings": json.dumps(layer.settings),
            "software": f"deepfeatures {__version__}",
        }
        | ({"classes": json.dumps(layer.classes)} if layer.classes else {}),
    )
    return contract.check(made)


def save(ws: Workspace, layer: Layer, name: str | None = None) -> str:
    """Store a layer as a cube of the workspace and list it in the catalogue.

    Parameters
    ----------
    ws
        The workspace.
    layer
        The layer.
    name
        Name of the new cube; by default made of source and method, with a number if taken.

    Returns
    -------
    str
        The name of the new cube.

    Raises
    ------
    KeyError
        If the cube that it was made of is gone.
    ValueError
        If the name is taken or can not be used.
    """
    taken = catalogue.names(ws)
    if name is None:
        stem = f"{layer.source[:80]}-{layer.method}"
        numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
        name = next(one for one in (stem, *numbered) if one not in taken)
    elif checked_name(name) in taken:
        raise ValueError(f"the name {name!r} is taken; choose another one")
    cube = reading.open(catalogue.url(ws, layer.source), layer.source)
    ds = dataset(cube, layer)
    writer = store.Writer.create(catalogue.place(ws, name), ds, plan=_plan(layer))
    for tile in store.counted(writer):
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns))
    writer.finish(coarse=_Nearest(layer.values) if layer.classes else None)
    catalogue.add(ws, name)
    return name


def _plan(layer: Layer) -> str:
    return json.dumps([layer.source, layer.version, layer.method, dict(layer.settings)])


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Makes overviews of codes, of which no mean exists: the pixel in the middle of each block."""

    values: NDArray[Any]

    def __call__(self, factor: int, tile: Tile) -> xr.Variable:
        height, width = self.values.shape[1:]
        rows = np.minimum(np.arange(tile.y0, tile.y1) * factor + factor // 2, height - 1)
        columns = np.minimum(np.arange(tile.x0, tile.x1) * factor + factor // 2, width - 1)
        return xr.Variable(
            ("time", "map", "y", "x"), self.values[None, :, rows[:, None], columns[None]]
        )


def opened(cube: reading.OpenCube) -> Layer:
    """Give the layer that a cube of the workspace holds.

    Raises
    ------
    ValueError
        If the cube holds something else.
    """
    if cube.kind != "layer":
        raise ValueError(f"{cube.name!r} holds {cube.kind}; polygons are made of a saved layer")
    height, width = cube.geobox.shape
    box = (slice(0, 1), slice(0, len(cube.channels)), slice(0, height), slice(0, width))
    attrs = contract.provenance(store.open(cube.url))
    settings = attrs.get("settings")
    return Layer(
        source=str(attrs.get("source_cube", "")),
        version=str(attrs.get("source_version", "")),
        title=str(attrs.get("title", cube.name)),
        method=str(attrs.get("method", "")),
        settings=settings if isinstance(settings, dict) else {},
        channels=cube.channels,
        values=reading.read(cube, cube.variable, box)[0],
        day=cube.times[0],
        classes=cube.classes,
    )


def areas(layer: Layer, pixel_ha: float) -> dict[str, float]:
    """Give the area of each class [ha], and of ``no value`` where there is any."""
    counts = np.bincount(layer.values[0].ravel(), minlength=len(layer.classes) + 1)
    found = {name: float(counts[code] * pixel_ha) for code, name in enumerate(layer.classes, 1)}
    return found | ({"no value": float(counts[0] * pixel_ha)} if counts[0] else {})


def pixel_ha(cube: reading.OpenCube) -> float:
    """Give the area of a pixel on its grid [ha]."""
    return cube.grid.resolution**2 / 1e4


def within(values: NDArray[Any], least: float | None, most: float | None) -> NDArray[np.bool_]:
    """Tell which values are there and lie between two limits, both included."""
    inside = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        if least is not None:
            inside &= values >= np.float32(least)
        if most is not None:
            inside &= values <= np.float32(most)
    return inside


def polygons(
    cube: reading.OpenCube,
    layer: Layer,
    *,
    channel: str | None = None,
    least: float | None = None,
    most: float | None = None,
    smallest: int = SMALLEST,
) -> dict[str, Any]:
    """Give a layer as GeoJSON: a polygon for each patch, longitude and latitude in degrees.

    Parameters
    ----------
    cube
        A cube of the same grid.
    layer
        Classes, or numbers of which those within limits make one class.
    channel
        Which map of the layer; the first by default.
    least, most
        Limits of numbers, both included; at least one is needed.
    smallest
        Patches of fewer pixels join their largest neighbour.

    Raises
    ------
    ValueError
        If there is no such map, no limit for numbers, or more patches than a file should hold.
    """
    if channel is not None and channel not in layer.channels:
        raise ValueError(f"there is no map {channel[:40]!r}; choose {', '.join(layer.channels)}")
    plane = layer.values[layer.channels.index(channel) if channel else 0]
    if layer.classes:
        codes, names = plane.astype(np.uint8), dict(enumerate(layer.classes, 1))
    elif least is None and most is None:
        raise ValueError("numbers have no patches; give a limit: least=.. or most=..")
    else:
        codes = within(plane, least, most).astype(np.uint8)
        limits = ((">=", least), ("<=", most))
        names = {1: " ".join(f"{sign} {edge:g}" for sign, edge in limits if edge is not None)}
    if smallest > 1:
        codes = rasterio.features.sieve(codes, smallest)
    found = _patches(cube, codes)
    settings = {"title": layer.title, "method": layer.method, "source_cube": layer.source,
                "settings": dict(layer.settings), "smallest_patch_pixels": smallest,
                "software": f"deepfeatures {__version__}"}  # fmt: skip
    return {
        "type": "FeatureCollection",
        "properties": settings,
        "features": [
            {
                "type": "Feature",
                "properties": {"code": code, "class": names.get(code, ""), "area_ha": hectares},
                "geometry": json.loads(shapely.to_geojson(geometry)),
            }
            for code, hectares, geometry in found
        ],
    }


def _patches(
    cube: reading.OpenCube, codes: NDArray[np.uint8]
) -> list[tuple[int, float, shapely.Geometry]]:
    """Give code, area [ha] and shape in degrees of each patch of equal codes above 0."""
    step = cube.grid.resolution
    project = Transformer.from_crs(cube.grid.crs, "EPSG:4326", always_xy=True).transform
    found: list[tuple[int, float, shapely.Geometry]] = []
    corners = 0
    shapes = rasterio.features.shapes(codes, mask=codes > 0, transform=cube.geobox.affine)
    for geometry, code in shapes:
        patch = shape(geometry)
        # half a pixel takes the corners that lie on a line, and no more: neighbours still meet
        plain = shapely.simplify(patch, step * 0.5)
        corners += int(shapely.get_num_coordinates(plain))
        if len(found) >= MAX_POLYGONS or corners > MAX_VERTICES:
            raise ValueError(
                f"there are more than {MAX_POLYGONS:,} patches; leave out small ones with "
                "smallest=.., or take the GeoTIFF"
            )
        lonlat = shapely.transform(plain, lambda xy: np.round(np.stack(project(*xy.T), 1), 7))
        found.append((int(code), round(patch.area / 1e4, 4), lonlat))
    return found
