"""A static STAC catalogue of any size, made of real patches that are mirrored.

Reflectance and classes are those of ``be_31UDS``, repeated by mirroring; B01 and B09, which the
patches lack, are B02 and B8A. Each item has granule metadata: a real file moved to this place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

NATIVE = {"B01": 60, "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B09": 60, "B11": 20, "B12": 20}
STAND_INS = {"B01": "B02", "B09": "B8A"}
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CORNER = 501_000, 5_630_000
CREATE = {"driver": "COG", "compress": "deflate", "level": "1", "overviews": "none"}


def make(data: Path, folder: Path, edge: int, dates: int) -> None:
    """Write the catalogue: `dates` dates of a square of `edge` pixels of 10 m."""
    source = data / "cog" / "be_31UDS_stac"
    items = json.loads((source / "item_collection.json").read_text())["features"]
    xml = granule(data / "granule_metadata")
    chosen = items[:dates]
    features = []
    for number, item in enumerate(chosen):
        day = str(np.datetime64("2018-01-01") + number * 365 // dates)
        name = f"S2A_MSIL2A_{day.replace('-', '')}T105000_N0206_R051_T31UDS_made"
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "MTD_TL.xml").write_text(xml)
        assets = {"granule_metadata": {"href": f"{name}/MTD_TL.xml", "roles": ["metadata"]}}
        for band in (*BANDS, "SCL"):
            href = item["assets"][STAND_INS.get(band, band)]["href"]
            path = folder / name / f"{band}.tif"
            grow(source / href, path, 20 if band == "SCL" else NATIVE.get(band, 10), edge)
            assets[band] = {"href": f"{name}/{band}.tif", "roles": ["data"]}
        item |= {"id": name, "assets": assets, "collection": "be-mirrored", "links": []}
        item["properties"]["datetime"] = f"{day}T10:50:00Z"
        with rasterio.open(path) as file:
            west, south, east, north = rasterio.warp.transform_bounds(file.crs, 4326, *file.bounds)
        item["bbox"] = [west, south, east, north]
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        features.append(item)
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "item_collection.json").write_text(text)


def grow(source: Path, target: Path, metres: int, edge: int) -> None:
    """Mirror a patch until it fills the square."""
    with rasterio.open(source) as file:
        values = file.read(1)
        step = file.transform.a
    if metres > step:
        values = values[:: int(metres // step), :: int(metres // step)]
    count = -(-edge * 10 // metres)
    pad = max(count - values.shape[0], 0), max(count - values.shape[1], 0)
    values = np.pad(values, ((0, pad[0]), (0, pad[1])), mode="symmetric")[:count, :count]
    with rasterio.open(
        target, "w", **CREATE, count=1, dtype=values.dtype, nodata=0, crs=file.crs,
        width=count, height=count, transform=from_origin(*CORNER, metres, metres),
    ) as out:  # fmt: skip
        out.write(values, 1)


def granule(folder: Path) -> str:
    """Give real granule metadata, moved to the place of the patch."""
    (path,) = folder.glob("*T35UPU*/*.xml")
    text = path.read_text()
    for name, value in (("ULX", CORNER[0] - 50_000), ("ULY", CORNER[1] + 50_000)):
        text = re.sub(rf"<{name}>\d+</{name}>", f"<{name}>{value}</{name}>", text)
    return text.replace("EPSG:32635", "EPSG:32631")


def centre(folder: Path) -> tuple[float, float]:
    """Give longitude and latitude of the middle of a catalogue."""
    (path, *_) = sorted(folder.glob("*/B02.tif"))
    with rasterio.open(path) as file:
        x, y = file.transform * (file.width / 2, file.height / 2)
        (lon,), (lat,) = rasterio.warp.transform(file.crs, 4326, [x], [y])
    return lon, lat


def beside(folder: Path) -> Path:
    """Write a catalogue of radar (RTC), elevation and land cover for a catalogue of `make`.

    Backscatter is -8 dB (VV) and -14 dB (VH), one more with each pass; heights rise by one metre
    per kilometre to the east; the land is forest (10) in the west and crops (40) in the east.
    """
    folder.mkdir(parents=True)
    features = []
    west, north = CORNER
    for number, (day, way) in enumerate((("01-03", "ascending"), ("06-01", "descending"))):
        assets = {}
        for name, decibel in (("vv", -8), ("vh", -14)):
            power = np.full((300, 300), 10 ** ((decibel + number) / 10), np.float32)
            path = folder / f"rtc-{number}-{name}.tif"
            bbox = _raster(path, power, west - 500, north + 500)
            assets[name] = {"href": path.name, "roles": ["data"]}
        properties = {"sat:orbit_state": way, "sat:relative_orbit": 37, "platform": "sentinel-1a"}
        features.append(
            _feature(f"S1A_{number}_rtc", "sentinel-1-rtc", bbox, assets, f"2018-{day}", properties)
        )
    x = np.arange(300) * 10 - 500
    heights = np.tile(np.float32(x / 1000 + 100), (300, 1))
    cover = np.tile(np.where(x < 480, 10, 40).astype(np.uint8), (300, 1))
    for name, collection, asset, values in (
        ("Copernicus_DSM_COG_10_N50_00_E003_00_DEM", "cop-dem-glo-30", "data", heights),
        ("ESA_WorldCover_10m_2021_v200_N48E003", "esa-worldcover", "map", cover),
    ):
        bbox = _raster(folder / f"{name}.tif", values, west - 500, north + 500)
        assets = {asset: {"href": f"{name}.tif", "roles": ["data"]}}
        version = {"esa_worldcover:product_version": "2.0.0"} if asset == "map" else {}
        features.append(_feature(name, collection, bbox, assets, "2021-01-01", version))
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "item_collection.json").write_text(text)
    return folder


def _raster(path: Path, values: np.ndarray, west: float, north: float) -> list[float]:
    with rasterio.open(
        path, "w", **CREATE, count=1, dtype=values.dtype, crs="EPSG:32631",
        width=values.shape[1], height=values.shape[0], transform=from_origin(west, north, 10, 10),
    ) as file:  # fmt: skip
        file.write(values, 1)
        return list(rasterio.warp.transform_bounds(file.crs, 4326, *file.bounds))


def _feature(name, collection, bbox, assets, day, properties) -> dict:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": bbox,
        "properties": {"datetime": f"{day}T17:30:00Z", "proj:epsg": 32631, **properties},
        "links": [],
        "assets": assets,
    }
