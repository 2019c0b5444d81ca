"""Sentinel-1 from STAC catalogues: which passes there are, and the backscatter of one window.

Two kinds are read. *RTC* (collections such as ``sentinel-1-rtc``) is gamma0 on a map grid with the
brightness of slopes taken out. *GRD* is the amplitude in radar geometry; `grd` calibrates it and
puts it on the grid, without any terrain correction. Traps that are covered here:

* items of GRD state ``proj:epsg`` 4326 with a transform that has nothing to do with the file;
* Planetary Computer calls the product type of its RTC items ``GRD``, too;
* a pass is cut into slices of 25 s, and tiled RTC has one item per tile: steps of the cube are
  passes, not items;
* the relative orbit changes within a pass, at the ascending node.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pystac
import shapely
import shapely.geometry
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import grd, radar, rasters
from deepfeatures.bands import attributes
from deepfeatures.stac import search
from deepfeatures.stac.providers import PROVIDERS, provider
from deepfeatures.stac.signing import signer

RTC, GRD = "rtc", "grd"
"""Kinds of products."""

COLLECTIONS: Mapping[str, str] = {
    "planetary-computer": "sentinel-1-rtc",
    "earth-search": "sentinel-1-grd",
    "cdse": "sentinel-1-grd",
}
"""Preset name -> its collection of Sentinel-1: RTC where there is one."""

QUANTITY: Mapping[str, str] = {
    RTC: "gamma0, radiometrically terrain corrected",
    GRD: "sigma0 on the ellipsoid, not terrain corrected",
}
"""What the backscatter of a kind is."""

Lost = dict[str, str]
"""What could not be read: ``date``, ``item``, ``asset`` and ``reason``."""

_CHANNELS = (("VV", "VH"), ("HH", "HV"))
_WAYS = {"ascending": radar.ASCENDING, "descending": radar.DESCENDING}
# slices of a pass are 25 s apart, and the satellite is back after 98 minutes at the earliest
_SAME_PASS = np.timedelta64(15, "m")
# 30 dB below the noise of the instrument: what resampling leaves of zeros, no measurement
_LEAST = 1e-6
_PRODUCT = re.compile(r"S1[A-D]_\w\w_GRD\w_1S\w\w_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}")
_PROCESSED = ("s1:processing_datetime", "processing:datetime", "updated", "created")


@dataclass(frozen=True)
class Slice:
    """The files of one item."""

    item: str
    """Id of the item."""
    measurement: Mapping[str, str]
    """Polarisation -> link of the image."""
    calibration: Mapping[str, str] = field(default_factory=dict)
    """Polarisation -> link of the calibration annotation (GRD)."""
    noise: Mapping[str, str] = field(default_factory=dict)
    """Polarisation -> link of the noise annotation (GRD), where there is one."""


@dataclass(frozen=True)
class Pass:
    """One step of the radar axis: what one satellite saw in one pass."""

    time: np.datetime64
    """Start of the first slice, UTC."""
    orbit: int
    """`radar.UNKNOWN`, `radar.ASCENDING` or `radar.DESCENDING`."""
    relative_orbit: int
    """1..175, that of the first slice; 0 = unknown."""
    slices: tuple[Slice, ...]
    """In the order in which the first value wins."""


@dataclass(frozen=True)
class RadarSource:
    """Where the backscatter of a cube comes from; plain values, so that it travels to workers."""

    passes: tuple[Pass, ...]
    """Steps, in time."""
    polarisations: tuple[str, ...]
    """``VV``, ``VH`` (or ``HH``, ``HV``)."""
    kind: str
    """`RTC` or `GRD`."""
    catalog: str
    """Preset name, address or path of the catalogue."""
    collection: str
    """Id of the collection."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of GDAL for the provider."""

    def template(self) -> xr.Dataset:
        """Give coordinates and the small variables.

        Returns
        -------
        xarray.Dataset
            `orbit` and `relative_orbit` ``(time_s1,)`` uint8 with their attributes, and the
            coordinates ``time_s1`` and ``polarisation``.
        """
        orbit = np.array([step.orbit for step in self.passes], np.uint8)
        relative = np.array([step.relative_orbit for step in self.passes], np.uint8)
        return xr.Dataset(
            {
                "orbit": ("time_s1", orbit, attributes("orbit") | radar.ORBIT_FLAGS),
                "relative_orbit": (
                    "time_s1",
                    relative,
                    attributes("relative_orbit") | {"comment": "1..175; 0 = unknown"},
                ),
            },
            coords={
                "time_s1": np.array([step.time for step in self.passes], "datetime64[ns]"),
                "polarisation": list(self.polarisations),
            },
        )

    def attributes(self) -> dict[str, str]:
        """Give the attributes of the variable `backscatter`."""
        return attributes("backscatter") | {
            "quantity": QUANTITY[self.kind],
            "comment": self.step(),
            "grid_mapping": "spatial_ref",
        }

    def step(self) -> str:
        """Say what was done, for the attribute ``processing``."""
        resampled = "put on the grid bilinearly in linear power, then 10 log10"
        place = f"Sentinel-1 {self.kind.upper()} ({self.collection}): {QUANTITY[self.kind]}"
        if self.kind == RTC:
            return f"{place}; {resampled}"
        quiet = all(set(part.noise) >= set(part.measurement) for part in self._slices())
        noise = "less thermal noise" if quiet else "thermal noise left in where not annotated"
        return (
            f"{place}; digital numbers calibrated with sigmaNought, {noise}, placed with the "
            f"ground control points, {resampled}"
        )

    def items(self) -> tuple[str, ...]:
        """Give the ids of the items, for the attribute ``source_items``."""
        return tuple(part.item for part in self._slices())

    def attribution(self) -> str:
        """Give the line that must be kept."""
        years = sorted({str(step.time)[:4] for step in self.passes})
        return "Contains modified Copernicus Sentinel data " + "-".join(
            dict.fromkeys((years[0], years[-1]))
        )

    def _slices(self) -> Iterator[Slice]:
        return (part for step in self.passes for part in step.slices)


@dataclass(frozen=True)
class RadarWindow:
    """Backscatter of all passes in memory."""

    backscatter: NDArray[np.float32]
    """``(time_s1, polarisation, y, x)`` [dB], NaN = no value."""
    lost: tuple[Lost, ...]
    """Files that could not be read; what they would have covered is NaN."""


def find_radar(
    catalog: str | Path,
    geobox: GeoBox,
    *,
    start: date | str | None = None,
    end: date | str | None = None,
    collection: str | None = None,
    direction: str | None = None,
) -> RadarSource:
    """Find the passes over a grid in a period.

    Parameters
    ----------
    catalog
        As `search.find` takes it.
    geobox
        Grid of the cube.
    start, end
        First and last day (included); None is open.
    collection
        Id of the collection; None for that of the preset (`COLLECTIONS`), or the only one.
    direction
        ``ascending`` or ``descending``; None for both.

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        As `search.find` and `plan_radar`.
    """
    if collection is None:
        preset = provider(str(catalog))
        names = (name for name, known in PROVIDERS.items() if known is preset)
        collection = COLLECTIONS.get(next(names, ""))
    bbox = geobox.extent.to_crs("EPSG:4326").boundingbox.bbox
    items = search.find(catalog, bbox, start=start, end=end, collection=collection)
    return plan_radar(items, geobox, catalog=str(catalog), direction=direction)


def plan_radar(
    items: Sequence[pystac.Item],
    geobox: GeoBox,
    *,
    catalog: str = "",
    direction: str | None = None,
) -> RadarSource:
    """Sort items into passes; nothing is opened.

    Parameters
    ----------
    items
        Items of one kind, any order; a product that is listed twice is used once (the newest
        processing).
    geobox
        Grid of the cube; items whose footprint lies beside it are left out.
    catalog
        Where they come from, for signing and settings.
    direction
        ``ascending`` or ``descending``; None for both.

    Raises
    ------
    ValueError
        If items are of no or of several kinds, or none is left.
    """
    if direction not in (None, *_WAYS):
        raise ValueError(f"direction {direction!r} is unknown; choose ascending or descending")
    kinds = {item.id: kind(item) for item in items}
    if len(set(kinds.values())) > 1:
        raise ValueError("the items are RTC and GRD; choose one collection of Sentinel-1")
    here = [item for item in _newest(items) if _meets(item, geobox)]
    here = [item for item in here if direction is None or _orbit(item) == _WAYS[direction]]
    names = _polarisations(here)
    chosen = [item for item in here if any(_asset(item, name) for name in names)]
    if not chosen:
        words = f"{direction} " if direction else ""
        raise ValueError(
            f"none of {len(items)} items is a {words}measurement of Sentinel-1 over the grid; "
            "check the collection, the place and the direction"
        )
    preset = provider(catalog)
    settings = dict(preset.gdal) if preset else {}
    if any(item.properties.get("storage:requester_pays") is True for item in chosen):
        settings["AWS_REQUEST_PAYER"] = "requester"
    return RadarSource(
        passes=tuple(_pass(members, names) for members in _grouped(chosen)),
        polarisations=names,
        kind=kinds[chosen[0].id],
        catalog=catalog,
        collection=str(chosen[0].collection_id or ""),
        settings=settings,
    )


def read_radar(
    source: RadarSource, geobox: GeoBox, *, sign: Callable[[str], str] | None = None
) -> RadarWindow:
    """Read all passes of a window.

    Slices of a pass are mosaicked, the first value wins.

    Parameters
    ----------
    source
        The plan.
    geobox
        A window of the cube's grid, or any grid in metres.
    sign
        Makes links readable; None for the way of the source's catalogue.

    Returns
    -------
    RadarWindow
        A file that is missing or broken costs what it would have given in this window, and is
        named; other slices and the other polarisation of the pass stay.
    """
    sign = sign or signer(source.catalog)
    shape = len(source.passes), len(source.polarisations), geobox.shape.y, geobox.shape.x
    backscatter = np.empty(shape, np.float32)
    lost: list[Lost] = []
    for index, step in enumerate(source.passes):
        for channel, name in enumerate(source.polarisations):
            power = np.full(shape[2:], np.nan, np.float32)
            for part in step.slices:
                if name not in part.measurement or np.isfinite(power).all():
                    continue
                try:
                    values = _power(source, part, name, geobox, sign)
                except rasters.Unreadable as error:
                    lost.append(_loss(step, part, name, error))
                else:
                    np.copyto(power, values, where=np.isnan(power))
            backscatter[index, channel] = radar.to_db(np.where(power < _LEAST, np.nan, power))
    return RadarWindow(backscatter, tuple(lost))


def kind(item: pystac.Item) -> str:
    """Tell whether an item is `RTC` or `GRD`.

    Raises
    ------
    ValueError
        If it is neither.
    """
    words = f"{item.id} {item.collection_id or ''}".lower()
    product = str(item.properties.get("sar:product_type", "")).upper()
    # the names first: the product type of RTC items is often that of what they were made of
    if "rtc" in words or product == "RTC" or any("gamma0" in name.lower() for name in item.assets):
        return RTC
    if "grd" in words or product == "GRD":
        return GRD
    raise ValueError(
        f"item {item.id!r} is neither RTC nor GRD; choose a collection of Sentinel-1, for instance "
        "sentinel-1-rtc"
    )


def _power(
    source: RadarSource, part: Slice, name: str, geobox: GeoBox, sign: Callable[[str], str]
) -> NDArray[np.float32]:
    """Read linear power of one file on a grid, NaN = no value."""
    href = sign(part.measurement[name])
    if source.kind == RTC:
        # 0 is never a measurement, and some files say no other value for none
        power = rasters.read(
            href,
            geobox,
            resampling="bilinear",
            nodata=0,
            dtype="float32",
            settings=source.settings,
        )
        return np.where(power == 0, np.nan, power)
    if name not in part.calibration:
        raise rasters.Unreadable(href, "the item has no calibration annotation for it")
    noise = part.noise.get(name)
    return grd.read(
        href,
        geobox,
        calibration_href=sign(part.calibration[name]),
        noise_href=sign(noise) if noise else None,
        settings=source.settings,
    )


def _loss(step: Pass, part: Slice, name: str, error: rasters.Unreadable) -> Lost:
    bare = error.href.partition("?")[0]  # what follows may be a signature
    return {
        "date": str(step.time.astype("datetime64[s]")),
        "item": part.item,
        "asset": name,
        "reason": f"{bare.rpartition('/')[2]}: {error.reason.replace(error.href, bare)}",
    }


def _newest(items: Sequence[pystac.Item]) -> list[pystac.Item]:
    """Use a product once that is listed in several processings, and sort by time."""
    best: dict[str, pystac.Item] = {}
    for item in sorted(items, key=lambda item: (_processed(item), item.id)):
        found = _PRODUCT.search(item.id)
        best[found[0] if found else item.id] = item
    return sorted(best.values(), key=lambda item: (_start(item), item.id))


def _processed(item: pystac.Item) -> str:
    return next((str(item.properties[key]) for key in _PROCESSED if item.properties.get(key)), "")


def _meets(item: pystac.Item, geobox: GeoBox) -> bool:
    if item.geometry is None:
        return True
    area = geobox.extent.to_crs("EPSG:4326").geom
    footprint = shapely.make_valid(shapely.geometry.shape(item.geometry))
    return bool(footprint.intersects(area))


def _polarisations(items: Sequence[pystac.Item]) -> tuple[str, ...]:
    """Give the polarisations that most items have: those of land, or those of ice."""
    counts = Counter(
        name for item in items for pair in _CHANNELS for name in pair if _asset(item, name)
    )
    first = max(_CHANNELS, key=lambda names: max(counts[name] for name in names))
    return tuple(name for name in first if counts[name])


def _asset(item: pystac.Item, name: str, word: str = "") -> str | None:
    """Give the link of a polarisation: its image, or with `word` an annotation of it."""
    low = name.lower()
    wanted = {f"schema-{word}-{low}", f"{word}-{low}"} if word else {low, f"gamma0-{low}"}
    for key, asset in item.assets.items():
        if key.lower().replace("_", "-") in wanted:
            return asset.href
    return None


def _orbit(item: pystac.Item) -> int:
    return _WAYS.get(str(item.properties.get("sat:orbit_state", "")).lower(), radar.UNKNOWN)


def _start(item: pystac.Item) -> np.datetime64:
    """Give the start of the acquisition, UTC."""
    stated = item.common_metadata.start_datetime or item.datetime
    if stated is None:
        raise ValueError(f"item {item.id!r} has no date; leave it out of the catalogue")
    return np.datetime64(stated.replace(tzinfo=None), "ns")


def _grouped(items: Iterable[pystac.Item]) -> list[list[pystac.Item]]:
    """Group items, sorted by time, into passes."""
    groups: list[list[pystac.Item]] = []
    open_: dict[str, list[pystac.Item]] = {}
    for item in items:
        platform = str(item.properties.get("platform", "")).lower()
        members = open_.get(platform)
        if members is None or _start(item) - _start(members[-1]) > _SAME_PASS:
            members = open_[platform] = []
            groups.append(members)
        members.append(item)
    return groups


def _pass(items: Sequence[pystac.Item], names: Sequence[str]) -> Pass:
    first = items[0]
    relative = first.properties.get("sat:relative_orbit")
    return Pass(
        time=_start(first),
        orbit=_orbit(first),
        relative_orbit=int(relative) if relative and 1 <= int(relative) <= 175 else 0,
        slices=tuple(_slice(item, names) for item in items),
    )


def _slice(item: pystac.Item, names: Sequence[str]) -> Slice:
    def links(word: str = "") -> dict[str, str]:
        found = {name: _asset(item, name, word) for name in names}
        return {name: href for name, href in found.items() if href}

    if kind(item) == RTC:
        return Slice(item.id, links())
    return Slice(item.id, links(), links("calibration"), links("noise"))
