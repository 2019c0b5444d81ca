"""Elevation and land cover from STAC: tiles in degrees that come onto the grid of a cube."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from pathlib import Path

import file_server
import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import from_origin
from scipy.ndimage import map_coordinates

from deepfeatures import rasters
from deepfeatures.stac import ground

UTM = "EPSG:32634"
_STEP = 1 / 3600
"""Edge of a cell of the test tiles [degree]."""


def _item(name: str, collection: str, bbox, assets: dict[str, str], **properties) -> dict:
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(bbox),
        "properties": {"datetime": "2021-04-22T00:00:00Z", "proj:epsg": 4326, **properties},
        "links": [],
        "assets": {key: {"href": href, "roles": ["data"]} for key, href in assets.items()},
    }


def _cog(path: Path, values: np.ndarray, west: float, north: float, nodata=None) -> list[float]:
    with rasterio.open(
        path, "w", driver="COG", height=values.shape[0], width=values.shape[1], count=1,
        dtype=values.dtype, crs="EPSG:4326", transform=from_origin(west, north, _STEP, _STEP),
        nodata=nodata, blocksize=128,
    ) as file:  # fmt: skip
        file.write(values, 1)
    rows, columns = values.shape
    return [west, north - rows * _STEP, west + columns * _STEP, north]


@pytest.fixture(scope="module")
def sweden(shared_data):
    """The real minicube: heights and classes on a raster of 1/5333 degree."""
    raw = xr.open_dataset(shared_data / "s2" / "minicube_34VCL_sweden_forest.nc")
    return raw[["cop_dem", "esawc_lc"]].load()


@pytest.fixture(scope="module")
def layers(sweden):
    """Heights and classes of the minicube on cells of 1/3600 degree; west, north of them."""
    lat = 59.0515 - _STEP * np.arange(82)
    lon = 17.9373 + _STEP * np.arange(162)
    near = sweden.interp(lat=lat, lon=lon, method="nearest", assume_sorted=False)
    heights = sweden.sortby("lat")["cop_dem"].interp(lat=lat, lon=lon)
    codes = np.array([code for code, _, _ in ground.CLASSES])
    # the minicube has means of two classes too: take the next class
    classes = codes[np.abs(near["esawc_lc"].values[..., None] - codes).argmin(-1)]
    place = float(lon[0]) - _STEP / 2, float(lat[0]) + _STEP / 2
    return heights.values.astype(np.float32), classes.astype(np.uint8), place


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory, layers):
    """A static catalogue as the Planetary Computer has it: DEM in two tiles, two WorldCovers."""
    folder = tmp_path_factory.mktemp("ground")
    heights, classes, (west, north) = layers
    features = []
    for name, columns in (("E017", slice(0, 90)), ("E018", slice(90, None))):
        path = folder / f"Copernicus_DSM_COG_10_N59_00_{name}_00_DEM.tif"
        bbox = _cog(path, heights[:, columns], west + columns.start * _STEP, north)
        features.append(_item(path.stem, ground.DEM, bbox, {"data": f"./{path.name}"}))
    for version, values in (("2020_v100", np.full_like(classes, 40)), ("2021_v200", classes)):
        path = folder / f"ESA_WorldCover_10m_{version}_N57E015_Map.tif"
        bbox = _cog(path, values, west, north, nodata=0)
        links = {"map": f"./{path.name}", "input_quality": "./none.tif"}
        year = version[:4]
        properties = {
            "datetime": None,
            "start_datetime": f"{year}-01-01T00:00:00Z",
            "end_datetime": f"{year}-12-31T23:59:59Z",
        }
        features.append(_item(path.stem[:-4], ground.WORLDCOVER, bbox, links, **properties))
    page = {"type": "FeatureCollection", "features": features}
    (folder / "item_collection.json").write_text(json.dumps(page))
    return folder


@pytest.fixture(scope="module")
def grid():
    """A grid of 10 m over the seam of the two tiles."""
    x, y = Transformer.from_crs(4326, UTM, always_xy=True).transform(17.962, 59.040)
    x, y = round(x, -1), round(y, -1)
    return GeoBox.from_bbox((x - 400, y - 300, x + 400, y + 300), crs=UTM, shape=(60, 80))


@pytest.fixture(scope="module")
def source(catalogue, grid):
    return ground.find_ground(catalogue, grid.extent.to_crs("EPSG:4326").boundingbox.bbox)


def _cells(grid: GeoBox, place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the test tiles, from the centre of the first cell, of a grid's pixels."""
    x = grid.transform.c + grid.transform.a * (np.arange(grid.shape.x) + 0.5)
    y = grid.transform.f + grid.transform.e * (np.arange(grid.shape.y) + 0.5)
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(*np.meshgrid(x, y))
    return (place[1] - lat) / _STEP - 0.5, (lon - place[0]) / _STEP - 0.5


def test_the_newest_land_cover_is_taken_alone(source):
    assert source.collections() == (ground.DEM, ground.WORLDCOVER)
    assert len(source.elevation) == 2
    assert list(source.landcover) == ["ESA_WorldCover_10m_2021_v200_N57E015"]
    assert source.version == "2021 v200"
    assert source.steps()[1] == "land cover: esa-worldcover 2021 v200, nearest neighbour"
    assert pickle.loads(pickle.dumps(source)) == source


def test_heights_are_bilinear_and_classes_those_of_the_cell(source, grid, layers):
    heights, classes, place = layers
    window = ground.read_ground(source, grid)
    assert window.lost == ()
    row, column = _cells(grid, place)
    expected = map_coordinates(heights, (row, column), order=1)
    # where the tiles meet, half a cell on each side knows one tile only
    seam = np.abs(column - 89.5) < 0.51
    assert 0 < seam.mean() < 0.05
    assert np.abs(window.elevation - expected)[~seam].max() < 0.01
    assert np.abs(window.elevation - expected)[seam].max() < np.abs(np.diff(heights)).max()
    assert window.elevation.dtype == np.float32
    exact = classes[np.round(row).astype(int), np.round(column).astype(int)]
    # a pixel within an eighth of a cell of an edge may fall on the other side
    inner = (np.abs(row % 1 - 0.5) > 0.13) & (np.abs(column % 1 - 0.5) > 0.13)
    assert np.array_equal(window.landcover[inner], exact[inner])
    assert window.landcover.dtype == np.uint8
    assert np.unique(window.landcover).size > 2


@settings(max_examples=12)
@given(
    top=st.integers(0, 36), left=st.integers(0, 56), height=st.integers(12, 24),
    width=st.integers(12, 24),
)  # fmt: skip
def test_a_window_is_a_part_of_the_whole(source, grid, top, left, height, width):
    whole = ground.read_ground(source, grid)
    part = ground.read_ground(source, grid[top : top + height, left : left + width])
    cut = np.s_[top : top + height, left : left + width]
    assert np.allclose(part.elevation, whole.elevation[cut], rtol=0, atol=0.01)
    assert np.array_equal(part.landcover, whole.landcover[cut])


def test_layers_are_variables_with_their_legend_and_lines(source, grid):
    found = ground.read_ground(source, grid[:12, :12]).variables(source)
    assert list(found) == ["elevation", "label_WORLDCOVER"]
    assert found["elevation"].attrs["units"] == "m"
    attrs = found["label_WORLDCOVER"].attrs
    assert len(attrs["flag_values"]) == len(attrs["flag_meanings"].split()) == 11
    assert len(attrs["flag_colors"].split()) == 11
    legend = dict(zip(attrs["flag_values"], attrs["flag_meanings"].split(), strict=True))
    assert (legend[10], legend[80], legend[95]) == (
        "tree_cover",
        "permanent_water_bodies",
        "mangroves",
    )
    assert "2021 v200" in attrs["comment"]
    assert attrs["licence"] == "CC-BY-4.0"
    lines = " ".join(source.attribution())
    assert "(c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH 2014-2018" in lines
    assert "(c) ESA WorldCover project / Contains modified Copernicus Sentinel data" in lines


def test_no_tile_is_no_value_and_not_sea_level(catalogue, grid):
    beyond = grid.translate_pix(110, 0)
    source = ground.find_ground(catalogue, grid.extent.to_crs("EPSG:4326").boundingbox.bbox)
    window = ground.read_ground(source, beyond)
    missing = np.isnan(window.elevation)
    assert 0 < missing.mean() < 1
    assert np.array_equal(missing, window.landcover == 0)
    assert window.elevation[~missing].min() > 1


def test_a_broken_tile_costs_its_part_and_is_named(catalogue, grid, tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "PAUSE", 0.001)
    folder = tmp_path / "damaged"
    shutil.copytree(catalogue, folder)
    west = next(folder.glob("*E017*"))
    west.write_bytes(west.read_bytes()[:5000])
    next(folder.glob("*2021_v200*")).unlink()
    bbox = grid.extent.to_crs("EPSG:4326").boundingbox.bbox
    with file_server.serve(folder) as url:
        source = ground.find_ground(f"{url}/item_collection.json", bbox)
        window = ground.read_ground(source, grid)
    assert [(loss["item"][:10], loss["asset"]) for loss in window.lost] == [
        ("Copernicus", "data"),
        ("ESA_WorldC", "map"),
    ]
    assert all(loss["reason"] for loss in window.lost)
    assert np.isnan(window.elevation[:, :20]).all()
    assert np.isfinite(window.elevation[:, -20:]).all()
    assert not window.landcover.any()


def test_a_catalogue_without_land_cover_gives_elevation(catalogue, grid, tmp_path, caplog):
    page = json.loads((catalogue / "item_collection.json").read_text())
    page["features"] = [f for f in page["features"] if f["collection"] == ground.DEM]
    for feature in page["features"]:
        href = feature["assets"]["data"]["href"]
        feature["assets"]["data"]["href"] = str(catalogue / href)
    path = tmp_path / "items.json"
    path.write_text(json.dumps(page))
    bbox = grid.extent.to_crs("EPSG:4326").boundingbox.bbox
    with caplog.at_level(logging.WARNING):
        source = ground.find_ground(path, bbox)
    assert "without esa-worldcover" in caplog.text
    assert source.collections() == (ground.DEM,)
    window = ground.read_ground(source, grid[:12, :12])
    assert window.landcover is None
    assert list(window.variables(source)) == ["elevation"]
    with pytest.raises(ValueError, match="no items in collection 'cop-dem-glo-30'"):
        ground.find_ground(path, (3.0, 50.0, 3.1, 50.1))


def test_items_that_are_something_else_are_refused():
    box = (17.0, 59.0, 18.0, 60.0)

    def items(*features: dict) -> list[pystac.Item]:
        return [pystac.Item.from_dict(feature, migrate=False) for feature in features]

    with pytest.raises(ValueError, match="is of collection 'alos-dem'; give items of"):
        ground.plan_ground(items(_item("a", "alos-dem", box, {"data": "./a.tif"})))
    with pytest.raises(ValueError, match="has no asset 'map' but quality; leave it out"):
        ground.plan_ground(items(_item("b", ground.WORLDCOVER, box, {"quality": "./b.tif"})))
    # without the year in its name, the start says it
    named = _item("c", ground.WORLDCOVER, box, {"map": "./c.tif"}, start_datetime="2020-01-01")
    assert ground.plan_ground(items(named)).version == "2020"
