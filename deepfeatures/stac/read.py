"""From a catalogue to a band cube: what is searched, on which grid, and the lazy cube."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, box
from odc.geo.xr import xr_coords

from deepfeatures import __version__, contract, grid
from deepfeatures.aoi import AOI
from deepfeatures.bands import BANDS, attributes
from deepfeatures.clouds import SCL_FLAGS, VALID_CLASSES, VALID_FLAGS, from_scl
from deepfeatures.stac import angles, plan, search
from deepfeatures.stac.providers import SCL, provider
from deepfeatures.stac.source import NBAR_FLAGS, Source, decoded, plane

log = logging.getLogger(__name__)

CHUNK = 512
"""Usual edge of a dask chunk [px]."""
RESAMPLING = ("nearest", "bilinear", "cubic")
"""How bands that are coarser than the grid may be brought onto it."""
_ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
_AXES = {"x": "projection_x_coordinate", "y": "projection_y_coordinate"}


def load(area: AOI | GeoBox | Sequence[float], *, chunk: int = CHUNK, **request: Any) -> xr.Dataset:
    """Load Sentinel-2 Level-2A of a place and period as a lazy band cube.

    Nothing but metadata is read before the result is computed, and then chunk by chunk (one band,
    one date, `chunk` x `chunk` px), so that any window needs little memory. `valid` is what the
    scene classification says; `deepfeatures.cube.build` looks for the clouds that it misses.

    Parameters
    ----------
    area, request
        See `sources`.
    chunk
        Edge of a dask chunk [px].

    Returns
    -------
    xarray.Dataset
        A checked band cube with `reflectance`, `valid`, `scl` and the scene angles that the items
        state.

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        One sentence that says what is wrong and the remedy.
    """
    source = sources(area, **request)
    return lazy(source, chunk)


def sources(
    area: AOI | GeoBox | Sequence[float],
    *,
    catalog: str | Path,
    collection: str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    resolution: float | None = None,
    bands: Sequence[str] | None = None,
    crs: str | None = None,
    offset: float | None = None,
    query: Mapping[str, Mapping[str, Any]] | None = None,
    resampling: str = "nearest",
    nbar: str = "off",
    angles_folder: str | Path | None = None,
) -> Source:
    """Plan what a band cube is read from; only metadata are read.

    Steps are solar days; granules of a day are mosaicked, the first value wins. Items of the same
    granule processed several times are used once, the newest. Bands of 20 and 60 m are brought to
    a finer grid by `resampling`, bands finer than the grid are averaged, classes are nearest
    neighbour.

    Parameters
    ----------
    area
        An area of interest, a grid (`grid.square`, or any `GeoBox`, taken as it is), or west,
        south, east, north in degrees.
    catalog
        Preset name (`providers.PROVIDERS`), address of a STAC API or static catalogue, or path.
    collection
        Id of the collection; may be left out where there is a preset or only one.
    start, end
        First and last day (included); None takes those of an `AOI`, else is open.
    resolution
        Pixel size [m]; None takes that of the `AOI`, else 10.
    bands
        Names out of `bands.BANDS`; None for all that the first item has.
    crs
        Of the grid: None for the UTM zone of the area's centre, ``items`` for the CRS that most
        items have, or a name such as ``EPSG:32631``. A `GeoBox` has its own.
    offset
        Overrides the offset of reflectance that the metadata state.
    query
        Conditions on properties of the items, as in the STAC API extension of that name:
        ``{"eo:cloud_cover": {"lt": 30}}``.
    resampling
        ``nearest``, ``bilinear`` or ``cubic``.
    nbar
        ``grid`` corrects reflectance to a view from nadir where the items point to granule
        metadata, ``scene`` also where they state only the mean angles of a scene, ``off`` never.
    angles_folder
        Where the angles of granules are kept between runs.

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        One sentence that says what is wrong and the remedy.
    """
    if isinstance(area, AOI):
        start, end = start or area.start, end or area.end
    if resampling not in RESAMPLING:
        raise ValueError(
            f"the resampling {resampling!r} is unknown; choose one of {', '.join(RESAMPLING)}"
        )
    shape, bbox = _footprint(area)
    items = search.find(catalog, bbox, start=start, end=end, collection=collection, query=query)
    target = _target(area, shape, items, resolution, crs)
    size = abs(float(target.resolution.x))
    names = _bands(items, bands, size)
    longitude = (bbox[0] + bbox[2]) / 2
    preset = provider(str(catalog))
    found = Source(
        geobox=target,
        bands=tuple(names),
        dates=tuple(plan.dates(items, names, longitude, resolution=size, offset_given=offset)),
        resampling=_resampling(items, names, size, resampling),
        catalog=str(catalog),
        collection=str(items[0].collection_id or collection or ""),
        settings=dict(preset.gdal) if preset else {},
    )
    return angles.corrected(found, nbar, angles_folder)


def lazy(source: Source, chunk: int = CHUNK) -> xr.Dataset:
    """Give the cube of a source as dask arrays."""
    layers = [_stack(source, band, chunk) for band in source.bands]
    scl = _stack(source, SCL, chunk)
    ds = template(source)
    ds["reflectance"] = (ds["reflectance"].dims, dask.array.stack(layers, axis=1))
    ds["scl"] = (ds["scl"].dims, scl)
    ds["valid"] = (ds["valid"].dims, dask.array.map_blocks(from_scl, scl, dtype=np.uint8))
    return contract.check(_described(ds, source))


def template(source: Source) -> xr.Dataset:
    """Give the cube of a source with all coordinates and attributes, its pixels empty."""
    rows, columns = source.geobox.shape.y, source.geobox.shape.x
    plain = (len(source.dates), rows, columns)
    chunks = (1, CHUNK, CHUNK)
    ds = xr.Dataset(
        {
            "reflectance": (
                ("time", "band", "y", "x"),
                dask.array.full(
                    (plain[0], len(source.bands), *plain[1:]),
                    np.nan,
                    dtype=np.float32,
                    chunks=(1, 1, CHUNK, CHUNK),
                ),
            ),
            "scl": (("time", "y", "x"), dask.array.zeros(plain, dtype=np.uint8, chunks=chunks)),
            "valid": (("time", "y", "x"), dask.array.zeros(plain, dtype=np.uint8, chunks=chunks)),
        },
        coords={
            "time": np.array([date.time for date in source.dates]),
            "band": list(source.bands),
            **xr_coords(source.geobox),
        },
    )
    return _described(ds, source)


class _Layer:
    """One band of all dates as something that dask can slice."""

    def __init__(self, source: Source, band: str) -> None:
        self.source, self.band = source, band
        self.shape = (len(source.dates), source.geobox.shape.y, source.geobox.shape.x)
        self.dtype = np.dtype(np.uint8 if band == SCL else np.float32)
        self.ndim = 3

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        steps, rows, columns = key
        window = self.source.geobox[rows, columns]
        read = [
            plane(self.source, index, self.band, window)
            for index in range(*steps.indices(self.shape[0]))
        ]
        stacked = np.stack(read)
        return stacked if self.band == SCL else decoded(stacked)


def _stack(source: Source, band: str, chunk: int) -> dask.array.Array:
    layer = _Layer(source, band)
    return dask.array.from_array(
        layer, chunks=(1, chunk, chunk), asarray=False, meta=np.zeros((0, 0, 0), layer.dtype),
        name=False,
    )  # fmt: skip


def _footprint(area: AOI | GeoBox | Sequence[float]) -> tuple[Geometry, tuple[float, ...]]:
    """Give the area as a geometry, and its box in degrees."""
    if isinstance(area, GeoBox):
        shape = area.extent
    elif isinstance(area, AOI):
        shape = Geometry(area.geometry, "EPSG:4326")
    else:
        shape = box(*search.checked_bbox(area), "EPSG:4326")
    return shape, shape.to_crs("EPSG:4326").boundingbox.bbox


def _target(
    area: Any, shape: Geometry, items: list[pystac.Item], resolution: float | None, crs: str | None
) -> GeoBox:
    if isinstance(area, GeoBox):
        if resolution is not None and not np.isclose(abs(area.resolution.x), resolution):
            raise ValueError(
                f"the grid has pixels of {abs(area.resolution.x):g} m but resolution={resolution}; "
                "leave resolution out, or give an area instead of a grid"
            )
        return area
    if resolution is None:
        resolution = area.resolution if isinstance(area, AOI) else 10.0
    if crs == "items":
        crs = plan.common_crs(items)
    return grid.cover(shape, resolution=resolution, crs=crs)


def _bands(items: list[pystac.Item], bands: Sequence[str] | None, size: float) -> list[str]:
    """Give the bands to read, in order; refuse items that are not Level-2A."""
    first = items[0]
    there = plan.asset_names(first, size)
    have = [name for name in there if name != SCL]
    if SCL not in there or not have:
        lacks = "bands (B02, red, B02_10m)" if SCL in there else "scene classification (SCL)"
        raise ValueError(
            f"item {first.id!r} has no {lacks} among its assets "
            f"{', '.join(list(first.assets)[:12])}; choose a collection of Sentinel-2 Level-2A"
        )
    wrong = [name for name in bands or () if name not in have]
    if wrong:
        raise ValueError(f"band {wrong[0]!r} is not among {', '.join(have)}; choose from these")
    return [name for name in BANDS if name in (bands or have)]


def _resampling(
    items: list[pystac.Item], names: list[str], size: float, coarser: str
) -> dict[str, str]:
    """Choose per band: the mean to merge pixels, what is asked for to make more of them."""
    first = items[0]
    there = plan.asset_names(first, size)
    chosen = {}
    for name in names:
        metres = plan.native(first, first.assets[there[name]], name)
        same = abs(metres - size) <= size * 1e-3
        chosen[name] = "nearest" if same else "average" if metres < size else coarser
    return chosen | {SCL: "nearest"}


def _described(ds: xr.Dataset, source: Source) -> xr.Dataset:
    """Set angles and attributes."""
    stated = [date.scenes[0].angles for date in source.dates]
    for name in _ANGLES:
        values = np.array([scene.get(name, np.nan) for scene in stated], np.float32)
        if np.isfinite(values).any():
            ds[name] = ("time", values, attributes(name))
    if any(source.nbar):
        ds["nbar"] = ("time", np.array(source.nbar, np.uint8), attributes("nbar") | NBAR_FLAGS)
    ds["reflectance"].attrs = attributes("reflectance") | {"grid_mapping": "spatial_ref"}
    ds["reflectance"].attrs["resampling"] = _words(source.resampling)
    ds["scl"].attrs = attributes("scl") | SCL_FLAGS | {"grid_mapping": "spatial_ref"}
    ds["valid"].attrs = attributes("valid") | VALID_FLAGS | {"grid_mapping": "spatial_ref"}
    for axis, name in _AXES.items():
        ds[axis].attrs = {"units": "m", "standard_name": name, "long_name": f"{axis}, pixel centre"}
    items = [scene.item for date in source.dates for scene in date.scenes]
    days = ds["time"].values.astype("datetime64[D]")
    years = sorted({str(days[0])[:4], str(days[-1])[:4]})
    return ds.assign_attrs(
        title=f"Sentinel-2 Level-2A, {source.collection or 'items'}",
        source=f"STAC {source.catalog}, collection {source.collection}",
        source_items=json.dumps(items),
        processing=json.dumps(_steps(source)),
        licence="Copernicus Sentinel data legal notice",
        attribution=f"Contains modified Copernicus Sentinel data {'-'.join(years)}",
        **_place(source),
        time_coverage_start=str(days[0]),
        time_coverage_end=str(days[-1]),
    )


def _place(source: Source) -> dict[str, Any]:
    """Give the attributes that the package cubo writes, for cubes of any shape."""
    geobox = source.geobox
    left, bottom, right, top = geobox.boundingbox.bbox
    centre = geobox.extent.centroid.to_crs("EPSG:4326").coords[0]
    found: dict[str, Any] = {
        "collection": source.collection,
        "stac": source.catalog,
        "epsg": int(geobox.crs.epsg) if geobox.crs and geobox.crs.epsg else 0,
        "resolution": abs(float(geobox.resolution.x)),
        "central_lat": round(float(centre[1]), 9),
        "central_lon": round(float(centre[0]), 9),
        "central_y": (bottom + top) / 2,
        "central_x": (left + right) / 2,
    }
    if geobox.shape.x == geobox.shape.y:
        found |= {"edge_size": geobox.shape.x, "edge_size_m": right - left}
    return found


def _words(resampling: Mapping[str, str]) -> str:
    return ", ".join(f"{band} {how}" for band, how in resampling.items())


def _steps(source: Source) -> list[str]:
    """Say what was done, for the attribute ``processing``."""
    scenes = [scene for date in source.dates for scene in date.scenes]
    offsets = sorted(
        {a.offset for scene in scenes for band, a in scene.assets.items() if band != SCL}
    )
    merged = len(scenes) - len(source.dates)
    return [
        f"stac (deepfeatures {__version__}, rasterio {rasterio.__version__})",
        f"reflectance = digital number x 1e-4 + offset, offset {offsets} from the metadata; "
        "negative reflectance is kept down to -0.0999",
        f"one step per solar day, {merged} granules mosaicked into another, first value",
        "resampling: " + _words(source.resampling),
        angles.step(source),
        f"valid = SCL in {', '.join(map(str, VALID_CLASSES))}",
    ]
