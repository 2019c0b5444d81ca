"""Tiles of band cubes: from STAC catalogues, and of cubes that somebody else made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import aoi, clouds, contract, grid, radar, stac
from deepfeatures import weather as meteo
from deepfeatures.aoi import AOI
from deepfeatures.stac.ground import (
    GroundSource,
    elevation_attributes,
    find_ground,
    landcover_attributes,
    read_ground,
)
from deepfeatures.stac.radar import RadarSource, find_radar, read_radar
from deepfeatures.stac.source import decoded
from deepfeatures.tiles import Tile

MOST_LOST = 200
"""Files that could not be read and are named in the attributes; of more only the number is."""


def area(
    shape: AOI | GeoBox | Sequence[float] | None = None,
    *,
    lat: float | None = None,
    lon: float | None = None,
    edge_size: float | None = None,
    units: str = "px",
    resolution: float = 10.0,
) -> AOI | GeoBox | Sequence[float]:
    """Give the area of a cube: a polygon, grid or box as it is, or the grid around a centre.

    Raises
    ------
    ValueError
        If none or both are given, or the centre is incomplete.
    """
    centre = any(part is not None for part in (lat, lon, edge_size))
    if centre == (shape is not None):
        raise ValueError(
            "say where the cube lies in one way: centre (lat, lon, edge size), box, or polygon"
        )
    if shape is not None:
        return shape
    if lat is None or lon is None or edge_size is None:
        raise ValueError("a centre needs all of latitude, longitude and edge size")
    return grid.square(lat, lon, edge_size, resolution, units=units)


@dataclass(frozen=True)
class Bands:
    """Makes tiles of a band cube from STAC catalogues."""

    optical: stac.Source
    """Reflectance and scene classes."""
    clouds: str = "full"
    """How clouds are looked for, one of `clouds.METHODS`."""
    clip: AOI | None = None
    """Polygon outside of which there is no value."""
    radar: RadarSource | None = None
    """Backscatter of Sentinel-1."""
    despeckle: bool = False
    """Whether its speckle is filtered."""
    ground: GroundSource | None = None
    """Elevation and land cover."""
    weather: xr.Dataset | None = None
    """Daily drivers ``(time_meteo,)``."""

    def template(self) -> xr.Dataset:
        """Give the cube with all coordinates and attributes, its pixels empty."""
        ds = stac.template(self.optical)
        steps = json.loads(ds.attrs["processing"])[:-1]
        steps += clouds.steps(self.clouds, self.optical.bands)
        items = json.loads(ds.attrs["source_items"])
        thanks = [ds.attrs["attribution"]]
        if self.clip is not None:
            steps.append(f"no values outside the polygon {self.clip.name}")
        if self.radar is not None:
            ds = _with_radar(ds, self.radar)
            steps.append(self.radar.step())
            steps += ["speckle filtered by non-local means"] if self.despeckle else []
            items += self.radar.items()
            thanks.append(self.radar.attribution())
        if self.ground is not None:
            ds = _with_ground(ds, self.ground)
            steps += self.ground.steps()
            items += self.ground.items()
            thanks += self.ground.attribution()
        if self.weather is not None:
            ds = ds.merge(self.weather, combine_attrs="override")
            steps.append(f"weather from {self.weather.attrs.get('source', 'a file')}")
            thanks.append(str(self.weather.attrs.get("attribution", "")))
        return contract.check(
            ds.assign_attrs(
                processing=json.dumps(steps),
                source_items=json.dumps(items),
                attribution="; ".join(dict.fromkeys(line for line in thanks if line)),
            )
        )

    def plan(self) -> str:
        """Give the words that tell this content from any other."""
        source = self.optical
        weather = None if self.weather is None else self.weather.to_dict()
        clip = None if self.clip is None else self.clip.geometry.wkt
        parts = (
            source.dates, source.bands, sorted(source.resampling.items()), source.nbar,
            self.clouds, clip, self.radar, self.despeckle, self.ground, weather,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str]:
        """Make a tile in memory, and the JSON list of what could not be read."""
        block, lost = self._optical(tile)
        if self.radar is not None:
            backscatter, missed = self._backscatter(self.radar, tile)
            block["backscatter"] = (("time_s1", "polarisation", "y", "x"), backscatter)
            lost += missed
        if self.ground is not None:
            window = read_ground(self.ground, self.optical.geobox[tile.core])
            block = block.assign(window.variables(self.ground))
            lost += [{"date": "", **one} for one in window.lost]
        return block, json.dumps(lost) if lost else ""

    def _optical(self, tile: Tile) -> tuple[xr.Dataset, list[dict[str, str]]]:
        source = self.optical
        around = _around(tile, source.geobox, self.clouds)
        window = stac.read(source, source.geobox[around.read])
        valid = clouds.from_scl(window.scl)
        valid[~window.reflectance.any(axis=1)] = clouds.NO_DATA
        bands = _Decoded(source, window.reflectance, clouds.needs(source.bands, self.clouds))
        times = np.array([date.time for date in source.dates])
        valid = _refined(valid, bands, times, source.geobox, self.clouds, around)
        rows, columns = around.inner
        reflectance, scl = window.reflectance[..., rows, columns], window.scl[:, rows, columns]
        if self.clip is not None:
            outside = _outside(self.clip, source.geobox, tile)
            reflectance[..., outside], scl[:, outside] = 0, 0
            valid[:, outside] = clouds.NO_DATA
        block = xr.Dataset(
            {
                "reflectance": (("time", "band", "y", "x"), reflectance),
                "scl": (("time", "y", "x"), scl),
                "valid": (("time", "y", "x"), valid),
            }
        )
        return block, list(window.lost)

    def _backscatter(
        self, source: RadarSource, tile: Tile
    ) -> tuple[NDArray[np.float32], list[dict[str, str]]]:
        geobox = self.optical.geobox
        halo = radar.REACH if self.despeckle else 0
        around = tile.grown(halo, (geobox.shape.y, geobox.shape.x))
        window = read_radar(source, geobox[around.read])
        values = radar.despeckle(window.backscatter) if self.despeckle else window.backscatter
        rows, columns = around.inner
        return values[..., rows, columns], list(window.lost)


def completed(
    maker: Bands,
    *,
    period: tuple[str, str],
    radar: tuple[str, str | None] | None = None,
    despeckle: bool = False,
    ground: str | None = None,
    weather: str | None = None,
) -> Bands:
    """Give a maker of reflectance what else it shall make; only metadata and weather are read.

    Parameters
    ----------
    maker
        Makes reflectance.
    period
        First and last day.
    radar
        Catalogue and collection of Sentinel-1.
    despeckle
        Whether the speckle of radar is filtered.
    ground
        Catalogue of elevation and land cover.
    weather
        File or store of daily drivers.
    """
    geobox = maker.optical.geobox
    start, end = period
    if radar is not None:
        catalog, collection = radar
        found = find_radar(catalog, geobox, start=start, end=end, collection=collection)
        maker = replace(maker, radar=found, despeckle=despeckle)
    if ground is not None:
        bbox = geobox.geographic_extent.boundingbox.bbox
        maker = replace(maker, ground=find_ground(ground, bbox))
    if weather is not None:
        lon, lat = geobox.geographic_extent.centroid.coords[0]
        height = None
        if maker.ground is not None and maker.ground.elevation:
            middle = geobox.shape.y // 2, geobox.shape.x // 2
            spot = geobox[middle[0] : middle[0] + 1, middle[1] : middle[1] + 1]
            values = read_ground(maker.ground, spot).elevation
            height = None if values is None or np.isnan(values[0, 0]) else float(values[0, 0])
        drivers = meteo.read(weather, lat=lat, lon=lon, start=start, end=end, elevation=height)
        maker = replace(maker, weather=drivers)
    return maker


@dataclass(frozen=True)
class Imported:
    """Makes tiles of a cube that somebody else made."""

    ds: xr.Dataset
    """The cube under the contract, lazy."""
    clouds: str = "full"
    """How clouds are looked for that its own mask misses."""

    @property
    def method(self) -> str:
        """How clouds are looked for; not again in a cube that this package made."""
        ours = clouds.OURS in self.ds.attrs.get("processing", "")
        return "scl" if ours or contract.kind(self.ds) != "bands" else self.clouds

    def template(self) -> xr.Dataset:
        """Give the cube with the attributes that it is stored with."""
        if self.method == "scl":
            return self.ds
        steps = json.loads(self.ds.attrs.get("processing", "[]"))
        # the first step is about SCL; the mask of this cube may come from elsewhere
        steps += clouds.steps(self.method, contract.channels(self.ds))[1:]
        flags = self.ds["valid"].assign_attrs(clouds.VALID_FLAGS)
        return self.ds.assign(valid=flags).assign_attrs(processing=json.dumps(steps))

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str]:
        """Make a tile in memory."""
        rows, columns = tile.core
        part = self.ds.isel(y=rows, x=columns)
        if self.method == "scl":
            return part, ""
        geobox = contract.geobox(self.ds)
        around = _around(tile, geobox, self.method)
        wide = self.ds[["reflectance", "valid"]].isel(y=around.read[0], x=around.read[1]).load()
        bands = {
            name: wide["reflectance"].sel(band=name).values.astype(np.float32)
            for name in clouds.needs(contract.channels(self.ds), self.method)
        }
        times = self.ds["time"].values
        valid = _refined(wide["valid"].values, bands, times, geobox, self.method, around)
        inner = dict(zip(("y", "x"), around.inner, strict=True))
        loaded = wide["reflectance"].isel(inner)
        return part.assign(reflectance=loaded, valid=(loaded.isel(band=0).dims, valid)), ""


def lost(reports: Sequence[str]) -> dict[str, str]:
    """Give the attributes that name what could not be read, from the reports of the tiles."""
    seen: dict[str, dict[str, str]] = {}
    for report in reports:
        for entry in json.loads(report):
            seen.setdefault(json.dumps([entry["date"], entry["item"], entry["asset"]]), entry)
    if not seen:
        return {}
    entries = [seen[key] for key in sorted(seen)]
    return {"lost_assets": json.dumps(entries[:MOST_LOST]), "lost_assets_count": str(len(entries))}


def _with_radar(ds: xr.Dataset, source: RadarSource) -> xr.Dataset:
    """Give the template with radar."""
    ds = ds.merge(source.template())
    dims = ("time_s1", "polarisation", "y", "x")
    empty = dask.array.full([ds.sizes[name] for name in dims], np.nan, dtype=np.float32)
    ds["backscatter"] = (dims, empty, source.attributes())
    return ds


def _with_ground(ds: xr.Dataset, source: GroundSource) -> xr.Dataset:
    """Give the template with elevation and land cover."""
    shape = ds.sizes["y"], ds.sizes["x"]
    if source.elevation:
        empty = dask.array.full(shape, np.nan, dtype=np.float32)
        ds["elevation"] = (("y", "x"), empty, elevation_attributes())
    if source.landcover:
        attrs = landcover_attributes(source.version)
        ds["label_WORLDCOVER"] = (("y", "x"), dask.array.zeros(shape, dtype=np.uint8), attrs)
    return ds


def _around(tile: Tile, geobox: GeoBox, method: str) -> Tile:
    """Give the tile with the pixels around that the test for clouds looks at."""
    reach = clouds.reach(abs(float(geobox.resolution.x)), method)
    return tile.grown(reach, (geobox.shape.y, geobox.shape.x))


def _refined(
    valid: NDArray[np.uint8],
    bands: Mapping[str, NDArray[np.float32]],
    times: NDArray[np.datetime64],
    geobox: GeoBox,
    method: str,
    around: Tile,
) -> NDArray[np.uint8]:
    """Look for the clouds that a mask misses; gives the codes of the tile's core."""
    resolution = abs(float(geobox.resolution.x))
    found = clouds.refine(valid, bands, times.astype("datetime64[D]"), resolution, method)
    rows, columns = around.inner
    return found[:, rows, columns]


class _Decoded(Mapping[str, NDArray[np.float32]]):
    """Reflectance of bands, decoded one at a time when it is looked at."""

    def __init__(
        self, source: stac.Source, codes: NDArray[np.uint16], names: Sequence[str]
    ) -> None:
        self._numbers = {name: source.bands.index(name) for name in names}
        self._codes = codes

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return decoded(self._codes[:, self._numbers[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def _outside(clip: AOI, geobox: GeoBox, tile: Tile) -> NDArray[np.bool_]:
    """Tell which pixels of a tile lie outside a polygon."""
    (y0, y1, x0, x1), inside = aoi.window(clip, geobox)
    whole = np.ones((geobox.shape.y, geobox.shape.x), bool)
    whole[y0:y1, x0:x1] = ~inside
    return whole[tile.core]
