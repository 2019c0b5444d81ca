"""From STAC items to a plan of what to read: pure functions, nothing is opened.

The offset of processing baseline 04.00 and later is taken from metadata, never from the date:
scenes of any year were reprocessed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pystac

from deepfeatures.bands import BANDS
from deepfeatures.days import solar_day
from deepfeatures.stac.providers import METADATA, NAMINGS, SCL

BOA_OFFSET = -0.1
"""Offset of reflectance since baseline 04.00: BOA_ADD_OFFSET -1000 over quantification 10000."""
SCALE = 1e-4
"""Reflectance of one digital number, unless the asset says otherwise."""

_BASELINE_KEYS = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_PRODUCT_KEYS = ("s2:product_uri", "sentinel:product_id", "s2:datatake_id", "eopf:datatake_id")
_APPLIED_KEYS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_ANGLES = {
    "sun_azimuth": ("view:sun_azimuth", "s2:mean_solar_azimuth"),
    "view_zenith": ("view:incidence_angle", "view:off_nadir"),
    "view_azimuth": ("view:azimuth",),
}


@dataclass(frozen=True)
class Asset:
    """A file of one band of an item, and how its digital numbers are decoded."""

    href: str
    """Path or URL."""
    scale: float = SCALE
    """Reflectance of one digital number."""
    offset: float = 0.0
    """Added to the scaled number."""


@dataclass(frozen=True)
class Scene:
    """What reading needs of one item (a granule of one acquisition)."""

    item: str
    """Id of the item."""
    assets: Mapping[str, Asset]
    """Band (and SCL) -> file."""
    metadata: str | None
    """Where the granule metadata with the grids of angles are."""
    angles: Mapping[str, float]
    """Sun and view angles of the whole scene [degree], as far as the item states them."""


@dataclass(frozen=True)
class Date:
    """The scenes that are mosaicked into one step of a cube."""

    time: np.datetime64
    """Time of the first scene, UTC."""
    scenes: tuple[Scene, ...]
    """In the order in which the first value wins."""


def baseline(item: pystac.Item) -> str | None:
    """Give the processing baseline, ``NN.NN``, from the properties or the product name."""
    for key in _BASELINE_KEYS:
        value = str(item.properties.get(key, ""))
        if re.fullmatch(r"\d\d\.\d\d", value):
            return value
    for value in (*(str(item.properties.get(key, "")) for key in _PRODUCT_KEYS), item.id):
        found = re.search(r"_N(\d\d)\.?(\d\d)(?=_|$)", value)
        if found:
            return f"{found[1]}.{found[2]}"
    return None


def offset(item: pystac.Item, asset: pystac.Asset) -> float:
    """Give what must be added to the scaled digital numbers of an asset.

    In this order: 0 if the catalogue says that its pixels have the offset already, the offset of
    the raster extension (1 and 2), the processing baseline.

    Raises
    ------
    ValueError
        If none of these is there.
    """
    if any(item.properties.get(key) is True for key in _APPLIED_KEYS):
        return 0.0
    stated = _raster(asset, "offset")
    if stated is not None:
        return float(stated)
    number = baseline(item)
    if number is None:
        raise ValueError(
            f"item {item.id!r} states neither an offset nor a processing baseline; say the offset "
            "of its reflectance with offset=0 (baseline before 04.00) or offset=-0.1"
        )
    return BOA_OFFSET if number >= "04.00" else 0.0


def scale(asset: pystac.Asset) -> float:
    """Give the reflectance of one digital number of an asset."""
    stated = _raster(asset, "scale")
    return SCALE if stated is None else float(stated)


def asset_names(item: pystac.Item, resolution: float = 10.0) -> dict[str, str]:
    """Find which asset of an item holds which band.

    Parameters
    ----------
    item
        With assets named like one of `providers.NAMINGS`, or with a band name in ``bands`` or
        ``eo:bands``.
    resolution
        Wanted pixel size [m]: where an item has a band at several, the coarsest that is not
        coarser is taken.

    Returns
    -------
    dict
        Band (``B02``.., ``SCL``) -> asset name, in the order of the bands.
    """
    found = {}
    for band in (*BANDS, SCL):
        names = [name for naming in NAMINGS for name in naming[band] if name in item.assets]
        if not names:
            names = [key for key, asset in item.assets.items() if _labels(asset) == [band]]
        fits = [name for name in names if _suffix(name) <= resolution]
        if names:
            found[band] = fits[-1] if _suffix(names[0]) and fits else names[0]
    return found


def native(item: pystac.Item, asset: pystac.Asset, band: str) -> float:
    """Give the pixel size of an asset [m], from its transform or else from the band."""
    transform = asset.extra_fields.get("proj:transform")
    if transform:
        return abs(float(transform[0]))
    return _suffix(asset.href) or float(BANDS[band].resolution_m if band in BANDS else 20)


def epsg(item: pystac.Item, asset: pystac.Asset | None = None) -> str | None:
    """Give the CRS of an item or asset, ``EPSG:n``, None if it says none."""
    for fields in ([asset.extra_fields] if asset else []) + [item.properties]:
        if fields.get("proj:code"):
            return str(fields["proj:code"])
        if fields.get("proj:epsg"):
            return f"EPSG:{fields['proj:epsg']}"
    return None


def common_crs(items: Iterable[pystac.Item]) -> str | None:
    """Give the CRS that most items have."""
    codes = Counter(_item_crs(item) for item in items)
    codes.pop(None, None)
    return codes.most_common(1)[0][0] if codes else None


def angles(item: pystac.Item) -> dict[str, float]:
    """Give the scene's sun and view angles [degree] that the item states."""
    found = {}
    properties = item.properties
    if properties.get("view:sun_elevation") is not None:
        found["sun_zenith"] = 90.0 - float(properties["view:sun_elevation"])
    elif properties.get("s2:mean_solar_zenith") is not None:
        found["sun_zenith"] = float(properties["s2:mean_solar_zenith"])
    for name, keys in _ANGLES.items():
        value = next((properties[key] for key in keys if properties.get(key) is not None), None)
        if value is not None:
            found[name] = float(value)
    return found


def newest(items: Sequence[pystac.Item], longitude: float) -> list[pystac.Item]:
    """Drop the items of which another processing with a newer baseline is there.

    Items are the same granule if platform, tile, orbit and solar day agree. Two of the same
    baseline both stay: a datastrip may end inside a tile.
    """
    best: dict[tuple[str, ...], str] = defaultdict(str)
    keys = [_granule(item, longitude) for item in items]
    for key, item in zip(keys, items, strict=True):
        best[key] = max(best[key], baseline(item) or "")
    return [
        item
        for key, item in zip(keys, items, strict=True)
        if not key[1] or (baseline(item) or "") == best[key]
    ]


def dates(
    items: Sequence[pystac.Item],
    bands: Sequence[str],
    longitude: float,
    *,
    resolution: float = 10.0,
    offset_given: float | None = None,
) -> list[Date]:
    """Sort items into the steps of a cube.

    Parameters
    ----------
    items
        Any order, duplicates allowed.
    bands
        Bands to read.
    longitude
        Of the area's centre, degrees, for the solar day.
    resolution
        Wanted pixel size [m], for `asset_names`.
    offset_given
        Overrides the offset of all items.

    Returns
    -------
    list of Date
        Sorted by time, one step per solar day and per UTC day.
    """
    groups: list[tuple[np.datetime64, list[Scene]]] = []
    solar_before: np.datetime64 | None = None
    for item in sorted(newest(items, longitude), key=_order):
        time = moment(item)
        solar = solar_day(np.array([time]), longitude)[0]
        # near 157 E two solar days can begin on one UTC day, and a cube has one step per UTC day
        same_utc = groups and groups[-1][0].astype("datetime64[D]") == time.astype("datetime64[D]")
        if solar != solar_before and not same_utc:
            groups.append((time, []))
            solar_before = solar
        groups[-1][1].append(_scene(item, bands, resolution, offset_given))
    return [Date(time, tuple(scenes)) for time, scenes in groups]


def _scene(
    item: pystac.Item, bands: Sequence[str], resolution: float, given: float | None
) -> Scene:
    names = asset_names(item, resolution)
    assets = {}
    for band in (band for band in (*bands, SCL) if band in names):
        asset = item.assets[names[band]]
        if band == SCL:
            assets[band] = Asset(asset.href)
            continue
        shift = offset(item, asset) if given is None else given
        assets[band] = Asset(asset.href, scale(asset), shift)
    metadata = next((item.assets[name].href for name in METADATA if name in item.assets), None)
    return Scene(item.id, assets, metadata, angles(item))


def _raster(asset: pystac.Asset, name: str) -> Any:
    """Look a field of the raster extension up, in all places where versions put it."""
    fields = asset.extra_fields
    for holder in (fields, *fields.get("raster:bands", [])[:1], *fields.get("bands", [])[:1]):
        for key in (f"raster:{name}", name):
            if holder.get(key) is not None:
                return holder[key]
    return None


def _labels(asset: pystac.Asset) -> list[str]:
    fields = asset.extra_fields
    return [str(band.get("name")) for band in fields.get("eo:bands") or fields.get("bands") or []]


def _suffix(name: str) -> float:
    found = re.search(r"_(\d\d)m(?=\.|$)", name)
    return float(found[1]) if found else 0.0


def _item_crs(item: pystac.Item) -> str | None:
    assets = (epsg(item, asset) for asset in item.assets.values())
    return epsg(item) or next((code for code in assets if code), None)


def _granule(item: pystac.Item, longitude: float) -> tuple[str, ...]:
    properties = item.properties
    words = " ".join([item.id, *(str(properties.get(key, "")) for key in _PRODUCT_KEYS)])
    orbit = re.search(r"_R(\d{3})_", words)
    return (
        str(properties.get("platform", "")).lower(),
        _tile(item),
        str(properties.get("sat:relative_orbit") or (int(orbit[1]) if orbit else "")),
        str(solar_day(np.array([moment(item)]), longitude)[0]),
    )


def _tile(item: pystac.Item) -> str:
    """Give the MGRS tile, e.g. ``31UDS``; empty if nothing names it."""
    properties = item.properties
    for value in (properties.get("grid:code"), properties.get("s2:mgrs_tile"), item.id):
        found = re.search(r"(?<![A-Z0-9])T?(\d{1,2}[C-X][A-Z]{2})(?![A-Z0-9])", str(value or ""))
        if not found:
            found = re.search(r"_T?(\d{1,2}[C-X][A-Z]{2})(?=_)", str(value or ""))
        if found:
            return found[1].rjust(5, "0")
    return ""


def _order(item: pystac.Item) -> tuple[np.datetime64, int, str]:
    # the newest processing first: its value wins where granules overlap
    return moment(item), -int((baseline(item) or "00.00").replace(".", "")), item.id


def moment(item: pystac.Item) -> np.datetime64:
    """Give the time of an item, UTC; raises `ValueError` if it has none."""
    stated = item.datetime or item.common_metadata.start_datetime
    if stated is None:
        raise ValueError(f"item {item.id!r} has no date; leave it out of the catalogue")
    return np.datetime64(stated.replace(tzinfo=None), "ns")
