"""Results of a real cube as layers: equal to the store, stored, drawn, exported, as polygons."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import rasterio
from PIL import Image
from shapely.geometry import shape
from test_render import tile_at
from test_serve import Server

from deepfeatures import (
    aoi,
    catalogue,
    export,
    finding,
    jobs,
    kinds,
    layers,
    mapping,
    reading,
    render,
    serve,
    store,
)
from deepfeatures.__main__ import main
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


@pytest.fixture(scope="module")
def web(ws) -> Iterator[httpx.Client]:
    server = Server(serve.routes(ws))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.close()


def test_a_map_over_http_is_kept_drawn_and_saved(web, ws, cube, monkeypatch):
    lon, lat = place(cube, 40, 70)
    asked = {"lon": lon, "lat": lat, "measure": "cosine"}
    found = web.post(f"/api/cubes/{cube.name}/similar", json=asked).json()
    layer = mapping.similar(cube, (lon, lat))
    low, high = found["summary"]["range"]
    inside = layer.values[np.isfinite(layer.values)]
    assert (low, high) == pytest.approx(np.percentile(inside, (1, 99)))

    def computed(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(finding, "find", computed)
    again = web.post(f"/api/cubes/{cube.name}/similar", json=asked | {"save": "alike"}).json()
    assert again["id"] == found["id"]
    assert again["saved"] == ["alike"]
    np.testing.assert_allclose(layers.opened(serve.cube(ws, "alike")).values, layer.values)

    zoom, x, y = tile_at(cube.grid, 15)
    url = found["tiles"].format(z=zoom, x=x, y=y)
    window = render.plan(cube.grid, zoom, x, y)
    plane = layer.values[0][window.rows, window.columns]
    for least in (0.0, 0.9):
        query = {"vmin": "-1", "vmax": "1", "least": str(least)}
        answer = web.get(url, params=query)
        assert "immutable" in answer.headers["Cache-Control"]
        with Image.open(io.BytesIO(answer.content)) as tile:
            seen = np.asarray(tile)
        want = render.gather(window, render.codes(plane, -1, 1) * (plane >= least))
        np.testing.assert_array_equal(seen, want)
    saved = web.get("/api/cubes/alike/polygons", params={"least": 0.9, "smallest": 1}).json()
    total = sum(feature["properties"]["area_ha"] for feature in saved["features"])
    assert total == pytest.approx((layer.values >= np.float32(0.9)).sum() / 100)


@pytest.mark.parametrize(
    ("method", "body", "status", "words"),
    [
        ("similar", {}, 400, "'lon' must be a number"),
        ("similar", {"lon": 0, "lat": 0}, 400, "outside"),
        ("similar", {"lon": True, "lat": 0}, 400, "'lon' must be a number"),
        ("similar", {"aoi": 3}, 400, "GeoJSON polygon"),
        ("groups", {"k": 99}, 400, "2 to 12"),
        ("groups", {"k": 2.5}, 400, "whole number"),
        ("groups", {"k": 3, "when": "1999"}, 400, "no date"),
        ("groups", {"k": 3, "pixels": 9}, 400, "no setting 'pixels'"),
        ("groups", {"k": 3, "save": 1}, 400, '"save" must be'),
        ("groups", {"k": 3, "save": "../up"}, 400, "can not be used"),
        ("classify", {"labels": []}, 400, "GeoJSON points"),
        ("classify", {"labels": {"features": []}}, 400, "0 classes"),
        ("change", {"before": "2021", "after": ""}, 400, "no date|two dates"),
        ("change", {"before": "x" * 99, "after": ""}, 400, "short text"),
    ],
)
def test_wrong_settings_get_a_sentence(web, cube, method, body, status, words):
    answer = web.post(f"/api/cubes/{cube.name}/{method}", json=body)
    assert answer.status_code == status
    assert re.search(words, answer.json()["error"]), answer.json()


def test_unknown_maps_and_cubes_are_not_found(web, cube, monkeypatch):
    assert web.post("/api/cubes/none/groups", json={"k": 3}).status_code == 404
    assert web.get(f"/tiles/{cube.name}/found/abc/3/1/1.png").status_code == 404
    assert web.get(f"/api/cubes/{cube.name}/polygons").status_code == 400
    monkeypatch.setattr(finding, "MAX_NOW", 10)
    answer = web.post(f"/api/cubes/{cube.name}/groups", json={"k": 7})
    assert "ask for a job" in answer.json()["error"]


def test_a_job_makes_the_same_map(ws, cube):
    key = jobs.submit(ws, kind="find", cube=cube.name, settings={"method": "groups", "k": 3})
    job = jobs.get(ws, key)
    steps = []
    kinds.KINDS["find"].run(ws, job, lambda *step: steps.append(step), lambda: False)
    assert steps[-1][0] == steps[-1][1]
    back = layers.opened(serve.cube(ws, job["out"]))
    np.testing.assert_array_equal(back.values, mapping.groups(cube, 3).values)
    for settings in ({}, {"method": "magic"}, {"method": "groups", "when": "1999"}):
        with pytest.raises(ValueError, match="method|no date"):
            jobs.submit(ws, kind="find", cube=cube.name, settings=settings)


def test_the_command_line_gives_the_same(ws, cube, tmp_path, capsys):
    def run(*words: str) -> dict:
        assert main(["find", *words, "--home", str(ws.home), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    found = run("groups", cube.name, "--k", "3", "--out", "three")
    layer = mapping.groups(cube, 3)
    assert found["areas_ha"] == pytest.approx(layers.areas(layer, 0.01))
    np.testing.assert_array_equal(layers.opened(serve.cube(ws, "three")).values, layer.values)
    file = tmp_path / "three.geojson"
    assert run("polygons", "three", "--out", str(file))["polygons"] == len(
        json.loads(file.read_text())["features"]
    )
    lon, lat = place(cube, 10, 10)
    assert run("similar", cube.name, "--lon", str(lon), "--lat", str(lat))["saved"]
    marks = tmp_path / "labels.geojson"
    spots = [labels.Label(*place(cube, 10 * n, 12 * n), "ab"[n % 2]) for n in range(8)]
    marks.write_text(json.dumps(labels.to_geojson(spots)))
    told = run("classify", cube.name, "--labels", str(marks), "--out", "told")
    assert told["saved"] == ["told", "told-probability"]
    days = [str(cube.times[at])[:10] for at in (0, -1)]
    moved = run("change", cube.name, *days)
    assert sum(moved["areas_ha"]) + moved["not_comparable_ha"] == pytest.approx(128 * 128 / 100)
    assert main(["find", "similar", cube.name, "--home", str(ws.home)]) == 1
    assert "--lon and --lat" in capsys.readouterr().err
