"""Reading the planned items as one lazy band cube."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import odc.stac
import pystac
import requests
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, box
from rasterio.errors import NotGeoreferencedWarning

from deepfeatures import __version__, contract, grid
from deepfeatures.aoi import AOI
from deepfeatures.bands import BANDS, attributes
from deepfeatures.clouds import SCL_FLAGS, VALID_CLASSES, VALID_FLAGS, valid_from_scl
from deepfeatures.days import mosaic
from deepfeatures.stac import plan, search
from deepfeatures.stac.providers import GDAL_HTTP, SCL, provider

log = logging.getLogger(__name__)

CHUNK = 512
"""Usual edge of a dask chunk [px]."""
_ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
_AXES = {"x": "projection_x_coordinate", "y": "projection_y_coordinate"}


def load(
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
    chunk: int = CHUNK,
) -> xr.Dataset:
    """Load Sentinel-2 Level-2A of a place and period as a lazy band cube.

    Steps are solar days; granules of a day are mosaicked, the first value wins. Bands of 20 and
    60 m are up-sampled by nearest neighbour, bands finer than the grid are averaged, classes are
    nearest neighbour. Nothing but metadata is read before the result is computed, and then chunk
    by chunk (one band, one date, `chunk` x `chunk` px), so that any window needs little memory.

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
    chunk
        Edge of a dask chunk [px]. Whoever works tile by tile gives the edge of the tiles, so that
        nothing is read twice.

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
    if isinstance(area, AOI):
        start, end = start or area.start, end or area.end
    shape, bbox = _footprint(area)
    items = search.find(catalog, bbox, start=start, end=end, collection=collection)
    target = _target(area, shape, items, resolution, crs)
    size = abs(float(target.resolution.x))
    names = _bands(items, bands, size)
    planes = plan.planes(
        items, names, (bbox[0] + bbox[2]) / 2, resolution=size, offset_given=offset
    )
    resampling = _resampling(items, names, size)
    stored = _read(planes, names, target, resampling, str(catalog), chunk)
    ds = _cube(stored, planes, names)
    return contract.check(_described(ds, planes, resampling, str(catalog)))


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


def _resampling(items: list[pystac.Item], names: list[str], size: float) -> dict[str, str]:
    """Choose per band: nearest neighbour to repeat pixels, the mean to merge them."""
    first = items[0]
    there = plan.asset_names(first, size)
    chosen = {}
    for name in names:
        finer = plan.native(first, first.assets[there[name]], name) < size * 0.999
        chosen[name] = "average" if finer else "nearest"
    return chosen | {SCL: "nearest"}


def _read(
    planes: list[plan.Plane],
    names: list[str],
    target: GeoBox,
    resampling: dict[str, str],
    catalog: str,
    chunk: int,
) -> xr.Dataset:
    """Read digital numbers and classes, one step per plane."""
    # rasterio silences this warning itself, but not reliably in threads
    warnings.filterwarnings("ignore", "Dataset has no geotransform", NotGeoreferencedWarning)
    preset = provider(catalog)
    options: dict[str, Any] = {**GDAL_HTTP, **(preset.gdal if preset else {})}
    odc.stac.configure_rio(cloud_defaults=True, **options)
    size = abs(float(target.resolution.x))
    slim = [
        _slim(item, index, [*names, SCL], size)
        for index, plane in enumerate(planes)
        for item in plane.items
    ]
    return odc.stac.load(
        slim,
        bands=[*names, SCL],
        geobox=target,
        groupby=lambda item, parsed, index: item.properties["plane"],
        preserve_original_order=True,
        chunks={"time": 1, "y": chunk, "x": chunk},
        resampling=resampling,
        stac_cfg={"assets": _TYPES},
        patch_url=_signer() if preset and preset.signed else None,
    )


def _slim(item: pystac.Item, plane: int, names: list[str], size: float) -> pystac.Item:
    """Reduce an item to what the reader needs, with one spelling of names and projection."""
    there = plan.asset_names(item, size)
    sources = {name: item.assets[there[name]] for name in names if name in there}
    moment = plan.moment(item).astype("datetime64[ms]").item()
    slim = pystac.Item(item.id, item.geometry, item.bbox, moment, {"plane": plane})
    # the grid of each file saves opening it, but the reader wants it of all assets or of none
    gridded = all(set(_GRID) <= set(asset.extra_fields) for asset in sources.values())
    slim.stac_extensions = [_PROJECTION] if gridded else []
    for name, asset in sources.items():
        fields = {key: asset.extra_fields[key] for key in _GRID} if gridded else {}
        if gridded:
            fields["proj:code"] = plan.epsg(item, asset)
        slim.add_asset(
            name,
            pystac.Asset(
                asset.href, media_type=asset.media_type, roles=["data"], extra_fields=fields
            ),
        )
    return slim


_GRID = ("proj:shape", "proj:transform")
_TYPES = {
    "*": {"data_type": "uint16", "nodata": 0},
    SCL: {"data_type": "uint8", "nodata": 0},
}
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"


def _signer() -> Callable[[str], str]:
    import planetary_computer  # only this provider needs it

    def sign(href: str) -> str:
        try:
            return planetary_computer.sign_url(href)
        except requests.RequestException:
            raise ConnectionError(
                "the Planetary Computer does not sign the links; check the network"
            ) from None

    return sign


def _cube(stored: xr.Dataset, planes: list[plan.Plane], names: list[str]) -> xr.Dataset:
    """Decode digital numbers, merge planes of a day, mark what is usable."""
    time = np.array([plane.time for plane in planes])
    day = np.array([plane.day for plane in planes])
    stored = stored.assign_coords(time=time)
    layers = []
    for index, name in enumerate(names):
        scale = np.array([plane.scale[index] for plane in planes])
        offset = np.array([plane.offset[index] for plane in planes])
        layers.append(mosaic(_decoded(stored[name], scale, offset), day))
    ds = xr.Dataset(
        {
            "reflectance": xr.concat(layers, xr.Variable("band", names)).transpose(
                "time", "band", "y", "x"
            ),
            "scl": mosaic(stored[SCL], day, missing=0),
        }
    )
    ds["valid"] = ds["scl"].copy(data=ds["scl"].data.map_blocks(valid_from_scl, dtype=np.uint8))
    return ds


def _decoded(array: xr.DataArray, scale: np.ndarray, offset: np.ndarray) -> xr.DataArray:
    """Turn digital numbers (time, y, x) into reflectance, NaN for 0."""

    def decode(block: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
        values = (block * scale + offset).astype(np.float32)
        values[block == 0] = np.nan
        return values

    factors = [
        dask.array.from_array(values[:, None, None], chunks=(1, 1, 1)) for values in (scale, offset)
    ]
    data = dask.array.map_blocks(decode, array.data, *factors, dtype=np.float32)
    return array.copy(data=data).drop_attrs(deep=False)


def _described(
    ds: xr.Dataset, planes: list[plan.Plane], resampling: dict[str, str], catalog: str
) -> xr.Dataset:
    """Set angles and attributes."""
    first: dict[np.datetime64, pystac.Item] = {}
    for plane in planes:
        first.setdefault(plane.day, plane.items[0])
    stated = [plan.angles(item) for item in first.values()]
    for name in _ANGLES:
        values = np.array([scene.get(name, np.nan) for scene in stated], np.float32)
        if np.isfinite(values).any():
            ds[name] = ("time", values, attributes(name))
    ds["reflectance"].attrs = attributes("reflectance") | {"grid_mapping": "spatial_ref"}
    ds["reflectance"].attrs["resampling"] = ", ".join(f"{k} {v}" for k, v in resampling.items())
    ds["scl"].attrs = attributes("scl") | SCL_FLAGS | {"grid_mapping": "spatial_ref"}
    ds["valid"].attrs = attributes("valid") | VALID_FLAGS | {"grid_mapping": "spatial_ref"}
    for axis, name in _AXES.items():
        ds[axis].attrs = {"units": "m", "standard_name": name, "long_name": f"{axis}, pixel centre"}
    items = [item for plane in planes for item in plane.items]
    days = ds["time"].values.astype("datetime64[D]")
    years = sorted({str(days[0])[:4], str(days[-1])[:4]})
    return ds.assign_attrs(
        title=f"Sentinel-2 Level-2A, {items[0].collection_id or 'items'}",
        source=f"STAC {catalog}, collection {items[0].collection_id}",
        source_items=json.dumps([item.id for item in items]),
        processing=json.dumps(_steps(planes, resampling)),
        licence="Copernicus Sentinel data legal notice",
        attribution=f"Contains modified Copernicus Sentinel data {'-'.join(years)}",
        time_coverage_start=str(days[0]),
        time_coverage_end=str(days[-1]),
    )


def _steps(planes: list[plan.Plane], resampling: dict[str, str]) -> list[str]:
    """Say what was done, for the attribute ``processing``."""
    offsets = sorted({value for plane in planes for value in plane.offset})
    merged = sum(len(plane.items) for plane in planes) - len({plane.day for plane in planes})
    return [
        f"stac.load (deepfeatures {__version__}, odc-stac {version('odc-stac')})",
        f"reflectance = digital number x 1e-4 + offset, offset {offsets} from the metadata",
        f"one step per solar day, {merged} granules mosaicked into another, first value",
        "resampling: " + ", ".join(f"{band} {how}" for band, how in resampling.items()),
        f"valid = SCL in {', '.join(map(str, VALID_CLASSES))}",
    ]
