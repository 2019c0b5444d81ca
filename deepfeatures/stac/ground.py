"""Elevation and land cover from STAC catalogues: what does not change with the date.

Elevation is the Copernicus DEM GLO-30, a surface model (with trees and houses) in metres above the
EGM2008 geoid; land cover is ESA WorldCover at 10 m. Both are files in longitude and latitude.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import rasters
from deepfeatures.bands import attributes
from deepfeatures.stac import search
from deepfeatures.stac.providers import provider
from deepfeatures.stac.signing import signer

log = logging.getLogger(__name__)

DEM, WORLDCOVER = "cop-dem-glo-30", "esa-worldcover"
"""Collections, by the same name in all catalogues that have them."""

CLASSES: tuple[tuple[int, str, str], ...] = (
    (10, "tree_cover", "#006400"),
    (20, "shrubland", "#ffbb22"),
    (30, "grassland", "#ffff4c"),
    (40, "cropland", "#f096ff"),
    (50, "built_up", "#fa0000"),
    (60, "bare_or_sparse_vegetation", "#b4b4b4"),
    (70, "snow_and_ice", "#f0f0f0"),
    (80, "permanent_water_bodies", "#0064c8"),
    (90, "herbaceous_wetland", "#0096a0"),
    (95, "mangroves", "#00cf75"),
    (100, "moss_and_lichen", "#fae6a0"),
)
"""Legend of WorldCover: code, meaning, colour (Product User Manual 2.0, section 2); 0 = no data."""

ATTRIBUTION: Mapping[str, str] = {
    DEM: "Copernicus DEM GLO-30: (c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH "
    "2014-2018 provided under COPERNICUS by the European Union and ESA; all rights reserved",
    WORLDCOVER: "(c) ESA WorldCover project / Contains modified Copernicus Sentinel data processed "
    "by ESA WorldCover consortium",
}
"""Collection -> the line that must be kept."""

LICENCE: Mapping[str, str] = {
    DEM: "Copernicus DEM licence (free of charge, with the line of attribution)",
    WORLDCOVER: "CC-BY-4.0",
}
"""Collection -> its terms."""

Lost = dict[str, str]
"""What could not be read: ``item``, ``asset`` and ``reason``."""


@dataclass(frozen=True)
class GroundSource:
    """Where elevation and land cover come from; plain values, so that it travels to workers."""

    elevation: Mapping[str, str] = field(default_factory=dict)
    """Item -> link of its heights."""
    landcover: Mapping[str, str] = field(default_factory=dict)
    """Item -> link of its classes, all of one version."""
    version: str = ""
    """Year and version of the land cover, ``2021 v200``."""
    catalog: str = ""
    """Preset name, address or path of the catalogue."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of GDAL for the provider."""

    def attribution(self) -> tuple[str, ...]:
        """Give the lines that must be kept."""
        return tuple(ATTRIBUTION[name] for name in self.collections())

    def collections(self) -> tuple[str, ...]:
        """Give the collections that are used."""
        both = ((DEM, self.elevation), (WORLDCOVER, self.landcover))
        return tuple(name for name, links in both if links)

    def items(self) -> tuple[str, ...]:
        """Give the ids of the items, for the attribute ``source_items``."""
        return (*self.elevation, *self.landcover)

    def steps(self) -> tuple[str, ...]:
        """Say what was done, for the attribute ``processing``."""
        words = {
            DEM: f"elevation: {DEM}, {len(self.elevation)} tiles, bilinear",
            WORLDCOVER: f"land cover: {WORLDCOVER} {self.version}, nearest neighbour",
        }
        return tuple(words[name] for name in self.collections())


@dataclass(frozen=True)
class GroundWindow:
    """Layers of the ground in memory."""

    elevation: NDArray[np.float32] | None
    """Metres ``(y, x)``, NaN = no value; None if the source has none."""
    landcover: NDArray[np.uint8] | None
    """Codes of `CLASSES` ``(y, x)``, 0 = no value; None if the source has none."""
    lost: tuple[Lost, ...]
    """Files that could not be read; what they would have covered has no value."""

    def variables(self, source: GroundSource) -> dict[str, xr.Variable]:
        """Give the layers as variables `elevation` and `label_WORLDCOVER` with attributes."""
        found = {}
        if self.elevation is not None:
            found["elevation"] = xr.Variable(("y", "x"), self.elevation, elevation_attributes())
        if self.landcover is not None:
            attrs = landcover_attributes(source.version)
            found["label_WORLDCOVER"] = xr.Variable(("y", "x"), self.landcover, attrs)
        return found


def elevation_attributes() -> dict[str, str]:
    """Give the attributes of `elevation`."""
    return attributes("elevation") | {
        "comment": "Copernicus DEM GLO-30, surface model above the EGM2008 geoid, bilinear; NaN "
        "where no tile is (open sea, areas that are not released)",
        "licence": LICENCE[DEM],
        "attribution": ATTRIBUTION[DEM],
        "grid_mapping": "spatial_ref",
    }


def landcover_attributes(version: str) -> dict[str, Any]:
    """Give the attributes of `label_WORLDCOVER`, with codes, meanings and colours."""
    codes, meanings, colours = zip(*CLASSES, strict=True)
    return {
        **attributes("label_WORLDCOVER"),
        "flag_values": list(codes),
        "flag_meanings": " ".join(meanings),
        "flag_colors": " ".join(colours),
        "comment": f"ESA WorldCover {version}, 10 m, nearest neighbour; 0 = no data",
        "licence": LICENCE[WORLDCOVER],
        "attribution": ATTRIBUTION[WORLDCOVER],
        "grid_mapping": "spatial_ref",
    }


def find_ground(catalog: str | Path, bbox: Sequence[float]) -> GroundSource:
    """Find elevation and land cover of a place.

    A layer that the catalogue does not have there is left out with a warning.

    Parameters
    ----------
    catalog
        As `search.find` takes it; the Planetary Computer has both layers, Earth Search elevation.
    bbox
        West, south, east, north in degrees (WGS84).

    Raises
    ------
    ConnectionError, FileNotFoundError
        As `search.find`.
    ValueError
        If it has neither layer there.
    """
    items: list[pystac.Item] = []
    reasons = []
    for name in (DEM, WORLDCOVER):
        try:
            items += search.find(catalog, bbox, collection=name)
        except ValueError as error:
            log.warning("without %s: %s", name, error)
            reasons.append(str(error))
    if not items:
        raise ValueError(reasons[0])
    return plan_ground(items, catalog=str(catalog))


def plan_ground(items: Sequence[pystac.Item], *, catalog: str = "") -> GroundSource:
    """Sort items into elevation and land cover; nothing is opened.

    Parameters
    ----------
    items
        Items of ``cop-dem-glo-30`` and ``esa-worldcover``. Of land cover the newest year is used
        alone: its versions were made in different ways and must not be mixed.
    catalog
        Where they come from, for signing and settings.

    Raises
    ------
    ValueError
        If an item is of neither collection or lacks its asset.
    """
    heights, classes = {}, []
    for item in sorted(items, key=lambda item: item.id):
        if item.collection_id == DEM:
            heights[item.id] = _link(item, "data")
        elif item.collection_id == WORLDCOVER:
            classes.append((_version(item), item.id, _link(item, "map")))
        else:
            raise ValueError(
                f"item {item.id!r} is of collection {item.collection_id!r}; give items of "
                f"{DEM} and {WORLDCOVER}"
            )
    newest = max((version for version, _, _ in classes), default="")
    preset = provider(catalog)
    return GroundSource(
        elevation=heights,
        landcover={name: link for version, name, link in classes if version == newest},
        version=newest,
        catalog=catalog,
        settings=dict(preset.gdal) if preset else {},
    )


def read_ground(
    source: GroundSource, geobox: GeoBox, *, sign: Callable[[str], str] | None = None
) -> GroundWindow:
    """Read a window of the layers of a source.

    Parameters
    ----------
    source
        The plan.
    geobox
        A window of the cube's grid, or any other grid.
    sign
        Makes links readable; None for the way of the source's catalogue.

    Returns
    -------
    GroundWindow
        Tiles are mosaicked, the first value wins. No tile gives no value: at sea there is none,
        but neither is there where a country does not release it, and zero would be a cliff.
    """
    shape = geobox.shape.y, geobox.shape.x
    lost: list[Lost] = []
    elevation = landcover = None
    if source.elevation:
        elevation = np.full(shape, np.nan, np.float32)
        for tile in _tiles(source, source.elevation, geobox, "bilinear", np.nan, sign, lost):
            np.copyto(elevation, tile, where=np.isnan(elevation))
    if source.landcover:
        landcover = np.zeros(shape, np.uint8)
        for tile in _tiles(source, source.landcover, geobox, "nearest", 0, sign, lost):
            np.copyto(landcover, tile, where=landcover == 0)
    return GroundWindow(elevation, landcover, tuple(lost))


def _tiles(
    source: GroundSource,
    links: Mapping[str, str],
    geobox: GeoBox,
    resampling: str,
    nodata: float,
    sign: Callable[[str], str] | None,
    lost: list[Lost],
) -> Iterator[NDArray[Any]]:
    """Read each tile on a grid; name those that cannot be read in `lost`."""
    sign = sign or signer(source.catalog)
    for item, href in links.items():
        try:
            yield rasters.read(
                sign(href), geobox, resampling=resampling, nodata=nodata, settings=source.settings
            )
        except rasters.Unreadable as error:
            asset = "data" if links is source.elevation else "map"
            # what follows the link may be a signature
            reason = error.reason.replace(error.href, href)
            lost.append({"item": item, "asset": asset, "reason": reason})


def _link(item: pystac.Item, name: str) -> str:
    if name not in item.assets:
        raise ValueError(
            f"item {item.id!r} has no asset {name!r} but {', '.join(list(item.assets)[:8])}; "
            "leave it out"
        )
    return item.assets[name].href


def _version(item: pystac.Item) -> str:
    """Give year and version of a land cover item, ``2021 v200``; newer ones sort later."""
    found = re.search(r"_(20\d\d)_v(\d+)", item.id)
    if found:
        return f"{found[1]} v{found[2]}"
    start = item.common_metadata.start_datetime or item.datetime
    return f"{start:%Y}" if start else ""
