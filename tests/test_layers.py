"""Results of a real cube as layers: equal to the store, stored, drawn, exported, as polygons."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image
from shapely.geometry import shape

from deepfeatures import aoi, catalogue, export, layers, mapping, reading, render, serve, store
from deepfeatures.clouds import USABLE
from deepfeatures.find import labels
from deepfeatures.serve.tiles import Style, picture
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace


@pytest.fixture(scope="module")
def ws(demo_home, tmp_path_factory) -> Workspace:
    home = tmp_path_factory.mktemp("layers") / "home"
    shutil.copytree(demo_home, home)
    return make_workspace(home)


@pytest.fixture(scope="module")
def cube(ws) -> reading.OpenCube:
    name = next(n for n in catalogue.names(ws) if catalogue.info(ws, n)["kind"] == "features")
    return serve.cube(ws, name)


def place(cube, row, column):
    """Longitude and latitude of a pixel's centre."""
    x = cube.grid.west + (column + 0.5) * cube.grid.resolution
    y = cube.grid.north - (row + 0.5) * cube.grid.resolution
    return render.transformer(cube.grid.crs, "EPSG:4326").transform(x, y)


def test_similarity_equals_that_of_the_store(cube):
    row, column = 40, 70
    found = mapping.similar(cube, place(cube, row, column)).values[0]
    assert found.shape == cube.geobox.shape
    assert found[row, column] == pytest.approx(1, abs=1e-5)
    ds = store.open(cube.url)
    mean, deviation = mapping.spread(cube)
    near = ds.isel(y=slice(row, row + 3), x=slice(column, column + 2))
    values = (near["features"].values - mean[:, None, None]) / deviation[:, None, None]
    usable = (near["valid"].values == USABLE) & np.isfinite(values).all(axis=1)
    for y in range(3):
        for x in range(2):
            both = usable[:, y, x] & usable[:, 0, 0]
            a, b = values[both, :, y, x].ravel(), values[both, :, 0, 0].ravel()
            want = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert found[row + y, column + x] == pytest.approx(want, abs=1e-4)


def test_an_area_of_one_pixel_is_that_pixel(cube):
    west, north = place(cube, 39.7, 69.7)
    east, south = place(cube, 40.3, 70.3)  # around the centre of one pixel
    ring = [[west, north], [east, north], [east, south], [west, south], [west, north]]
    area = aoi.from_geojson({"type": "Polygon", "coordinates": [ring]})
    day = str(cube.times[int(np.argmax(reading.shares(cube)))])[:10]
    for when in ("", day):
        one = mapping.similar(cube, place(cube, 40, 70), when=when, method="euclid")
        other = mapping.similar(cube, area, when=when, method="euclid")
        np.testing.assert_allclose(other.values, one.values, atol=1e-4)


def test_groups_are_a_layer_that_survives_store_tiles_and_geotiff(ws, cube, tmp_path):
    layer = mapping.groups(cube, 4)
    name = layers.save(ws, layer)
    assert layers.save(ws, layer).startswith(name)
    info = catalogue.info(ws, name)
    assert (info["kind"], info["channels"]) == ("layer", ["group"])
    assert info["attrs"]["settings"]["k"] == 4
    assert info["attrs"]["source_cube"] == cube.name
    saved = serve.cube(ws, name)
    assert saved.classes == ("Group 1", "Group 2", "Group 3", "Group 4")
    back = layers.opened(saved)
    np.testing.assert_array_equal(back.values, layer.values)
    counts = [(layer.values == code).sum() for code in range(5)]
    assert counts[1] >= counts[2] >= counts[3] >= counts[4] > 0
    hectares = layers.areas(layer, layers.pixel_ha(cube))
    assert sum(hectares.values()) == pytest.approx(layer.values.size / 100)

    file = tmp_path / "groups.tif"
    export.write(export.select(store.open(saved.url)), file, "geotiff")
    with rasterio.open(file) as tiff:
        codes = np.nan_to_num(tiff.read(1)).astype(np.uint8)
        assert tiff.tags()["method"] == "groups"
        assert tiff.crs.to_epsg() == int(str(saved.geobox.crs).split(":")[1])
    np.testing.assert_array_equal(codes, layer.values[0])


def test_class_tiles_have_the_colours_of_their_codes(ws, cube):
    name = layers.save(ws, mapping.groups(cube, 12), "twelve")
    saved = serve.cube(ws, name)
    lon, lat = place(saved, 64, 64)
    zoom = 15
    x = int((lon + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom)
    image = picture(saved, Style(cmap="magma", vmin=3, vmax=4), zoom, x, y)
    with Image.open(io.BytesIO(image)) as tile:
        seen = set(np.unique(np.asarray(tile)).tolist())
        palette = bytes(tile.getpalette())
    assert seen <= set(range(13))
    assert len(seen) > 4
    for code in range(1, 13):
        assert palette[3 * code : 3 * code + 3] == bytes.fromhex(render.class_colour(code)[1:])


def test_overviews_of_classes_are_classes(tmp_path, workspace):
    from conftest import bands_cube

    ds = bands_cube(times=6, height=300, width=280, bands=("B02", "B03"))
    store.write(ds, catalogue.place(workspace, "wide"))
    catalogue.add(workspace, "wide")
    cube = serve.cube(workspace, "wide")
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([0, 1, 5], np.uint8), (1, 300, 280))
    layer = mapping._layer(cube, "groups", "t", {}, ("group",), codes, slice(0, 6), tuple("abcde"))
    saved = serve.cube(workspace, layers.save(workspace, layer))
    assert saved.levels == (1, 2)
    coarse = saved.arrays["layer", 2][0, 0]
    np.testing.assert_array_equal(coarse, codes[0, 1::2, 1::2])


def test_polygons_cover_their_classes(ws, cube):
    layer = mapping.groups(cube, 3)
    found = layers.polygons(cube, layer, smallest=1)
    hectares = {}
    for feature in found["features"]:
        name = feature["properties"]["class"]
        hectares[name] = hectares.get(name, 0) + feature["properties"]["area_ha"]
        assert shape(feature["geometry"]).is_valid
    want = layers.areas(layer, layers.pixel_ha(cube))
    want.pop("no value", None)
    assert hectares == pytest.approx(want)
    west, south, east, north = cube.geobox.geographic_extent.boundingbox
    corners = np.array(found["features"][0]["geometry"]["coordinates"][0])
    assert (corners >= (west - 1e-4, south - 1e-4)).all()
    assert (corners <= (east + 1e-4, north + 1e-4)).all()


def test_a_threshold_makes_patches_of_numbers(cube, monkeypatch):
    layer = mapping.similar(cube, place(cube, 40, 70))
    with pytest.raises(ValueError, match="give a limit"):
        layers.polygons(cube, layer)
    found = layers.polygons(cube, layer, least=0.8, smallest=1)
    inside = layers.within(layer.values[0], 0.8, None)
    total = sum(feature["properties"]["area_ha"] for feature in found["features"])
    assert total == pytest.approx(inside.sum() / 100)
    assert found["features"][0]["properties"]["class"] == ">= 0.8"
    monkeypatch.setattr(layers, "MAX_POLYGONS", 1)
    with pytest.raises(ValueError, match="GeoTIFF"):
        layers.polygons(cube, layer, least=0.8, smallest=1)
    with pytest.raises(ValueError, match="choose cosine"):
        layers.polygons(cube, layer, channel="other", least=0.8)


def test_labels_of_the_truth_are_learned(ws, cube):
    groups = mapping.groups(cube, 2).values[0]
    rng = np.random.default_rng(0)
    marked = []
    for code, name in ((1, "large"), (2, "small")):
        rows, columns = np.nonzero(groups == code)
        for at in rng.choice(rows.size, 15, replace=False):
            marked.append(labels.Label(*place(cube, int(rows[at]), int(columns[at])), name))
    found = mapping.classify(cube, marked)
    assert found.used == 30
    # k-means splits by a plane, so a linear classifier can learn it
    names = [found.layer.classes.index(name) for name in ("large", "small")]
    there = groups > 0
    same = found.layer.values[0][there] == np.array([0, *[n + 1 for n in names]])[groups[there]]
    assert same.mean() > 0.85
    assert found.validation.accuracy > 0.7
    chance = found.chances.values
    np.testing.assert_allclose(chance[:, there].sum(axis=0), 1, rtol=1e-4)
    again = labels.from_geojson(found.layer.settings["labels"])
    assert again == marked
    name = layers.save(ws, found.chances)
    back = layers.opened(serve.cube(ws, name))
    np.testing.assert_array_equal(back.values, chance)
    outside = labels.Label(0.0, 0.0, "far")
    with pytest.raises(ValueError, match="outside"):
        mapping.classify(cube, [*marked, outside])


def test_change_between_two_dates(cube):
    shares = reading.shares(cube)
    first, second = sorted(np.argsort(shares)[-2:].tolist())
    days = [str(cube.times[at])[:10] for at in (first, second)]
    same = mapping.change(cube, days[0], days[0])
    assert np.nanmax(same.layer.values) == 0
    found = mapping.change(cube, *days)
    total = found.areas.sum() + found.missing
    assert total == pytest.approx(found.layer.values.size / 100)
    row, column = (int(v[0]) for v in np.nonzero(np.isfinite(found.layer.values[0])))
    mean, deviation = mapping.spread(cube)
    ds = store.open(cube.url)["features"].isel(y=row, x=column)
    a, b = (((ds[at].values - mean) / deviation) for at in (first, second))
    assert found.layer.values[0, row, column] == pytest.approx(np.linalg.norm(a - b), rel=1e-4)
    year = mapping.years(cube)[0]
    np.testing.assert_allclose(np.nanmax(mapping.change(cube, year, year).layer.values), 0)
    with pytest.raises(ValueError, match="two dates or years"):
        mapping.change(cube, year, days[0])
    with pytest.raises(ValueError, match="no date in '1999'"):
        mapping.change(cube, year, "1999")


def test_what_can_not_be_mapped_says_so(ws, cube, monkeypatch):
    with pytest.raises(InterruptedError):
        mapping.groups(cube, 3, cancelled=lambda: True)
    with pytest.raises(ValueError, match="outside"):
        mapping.similar(cube, (0.0, 0.0))
    saved = serve.cube(ws, layers.save(ws, mapping.groups(cube, 2), "layered"))
    with pytest.raises(ValueError, match="is a layer"):
        mapping.similar(saved, place(cube, 4, 4))
    with pytest.raises(ValueError, match="holds features"):
        layers.opened(cube)
    with pytest.raises(ValueError, match="taken"):
        layers.save(ws, mapping.groups(cube, 2), "layered")
    monkeypatch.setattr(mapping, "MAX_PIXELS", 100)
    with pytest.raises(ValueError, match="too large for one map"):
        mapping.groups(cube, 3)
