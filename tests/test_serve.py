"""The routes over real HTTP: a tornado server on loopback, a real store, a real client."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
import shapely
import tornado.web
import xarray as xr
from conftest import bands_cube
from PIL import Image
from test_reading import features_cube
from test_render import exact, tile_at

from deepfeatures import catalogue, jobs, latent, reading, render, serve, store
from deepfeatures.aoi import AOI, to_geojson
from deepfeatures.predictor import Card, Predictor
from deepfeatures.serve.base import Pool, Refusal
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

BANDS = ("B02", "B03", "B04", "B08")


class Server:
    """A tornado server in a thread of its own."""

    def __init__(self, routes: list, **settings: object) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(routes, settings))
        self._thread.start()
        assert self._started.wait(30)

    def _run(self, routes: list, settings: dict) -> None:
        async def main() -> None:
            app = tornado.web.Application(routes)
            for name, value in settings.items():
                setattr(app, name, value)
            server = app.listen(0, "127.0.0.1")
            sockets = list(server._sockets.values())
            self.address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._started.set()
            await self._stop.wait()
            server.stop()
            await server.close_all_connections()

        asyncio.run(main())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the cubes ``field`` and ``learned`` and the model ``linear``."""
    found = make_workspace(tmp_path_factory.mktemp("serve") / "home")
    ds = bands_cube(times=20, height=270, width=150, bands=BANDS)
    for name, cube in (("field", ds), ("learned", features_cube(ds))):
        store.write(cube, catalogue.place(found, name))
        catalogue.add(found, name)
    card = Card(
        "linear", "pca", BANDS, ("F01", "F02"), (0.1,) * 4, (0.1,) * 4, (-0.1,) * 4, (1.5,) * 4,
        0.05,
    )  # fmt: skip
    Predictor(card).save(found.models / "linear.safetensors")
    return found


@pytest.fixture(scope="module")
def web(ws: Workspace) -> Iterator[httpx.Client]:
    """A client of a server of the workspace."""
    server = Server(serve.routes(ws))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.close()


@pytest.fixture(scope="module")
def field(ws: Workspace) -> xr.Dataset:
    """The band cube through xarray."""
    return catalogue.open(ws, "field").load()


@pytest.fixture(scope="module")
def cube(ws: Workspace) -> reading.OpenCube:
    """The band cube as the server opens it."""
    return serve.cube(ws, "field")


def tile(name: str, place: tuple[int, int, int], **query: object) -> str:
    z, x, y = place
    return f"/tiles/{name}/{z}/{x}/{y}.png?{urlencode(query)}"


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def sampled(values: np.ndarray, grid: render.Grid, place: tuple[int, int, int]):
    """Values (y, x) at each pixel centre of a tile, NaN outside, and where this is beyond doubt."""
    rows, columns = exact(grid, *place)
    inside = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
    near = (np.abs(rows - np.round(rows)) < 0.02) | (np.abs(columns - np.round(columns)) < 0.02)
    found = np.full(rows.shape, np.nan, np.float32)
    found[inside] = values[rows[inside].astype(int), columns[inside].astype(int)]
    return found, ~near


def coloured(values: np.ndarray, cmap: str, low: float, high: float) -> np.ndarray:
    codes = render.codes(values, low, high)
    return np.dstack([render.colours(cmap)[codes], np.where(codes == 0, 0, 255)]).astype(np.uint8)


@pytest.mark.parametrize("zoom", [14, 16, 18])
@pytest.mark.parametrize("masked", [False, True])
def test_a_tile_shows_the_values_of_the_store(web, field, cube, zoom, masked):
    place = tile_at(cube.grid, zoom, 0.3, 0.6)
    answer = web.get(
        tile("field", place, time=7, channel="B04", vmin=0, vmax=0.2, cmap="magma", masked=+masked)
    )
    values = field["reflectance"][7].sel(band="B04").values
    if masked:
        values = np.where(field["valid"][7].values == 1, values, np.nan)
    wanted, sure = sampled(values, cube.grid, place)
    assert np.isfinite(wanted).sum() > 5000
    assert np.array_equal(pixels(answer)[sure], coloured(wanted, "magma", 0, 0.2)[sure])


def test_a_tile_of_a_feature_and_of_an_index(web, ws, field, cube):
    place = tile_at(cube.grid, 15)
    learned = catalogue.open(ws, "learned").load()
    day = str(field["time"].values[3].astype("M8[D]"))
    answer = web.get(tile("learned", place, time=day, channel="F02", vmin=-2, vmax=2, cmap="PuOr"))
    wanted, sure = sampled(learned["features"][3, 1].values, cube.grid, place)
    assert np.array_equal(pixels(answer)[sure], coloured(wanted, "PuOr", -2, 2)[sure])
    answer = web.get(tile("field", place, time=day, channel="NDVI", vmin=-1, vmax=1, cmap="YlGn"))
    red, nir = (field["reflectance"][3].sel(band=band).values for band in ("B04", "B08"))
    wanted, sure = sampled((nir - red) / (nir + red), cube.grid, place)
    got, expected = pixels(answer)[sure].astype(int), coloured(wanted, "YlGn", -1, 1)[sure]
    # Rounding of the division may move a value to the next of 255 colours.
    assert (np.abs(got - expected).max(axis=1) > 0).mean() < 1e-3
    assert np.abs(got - expected).max() <= 6


def test_a_composite(web, field, cube):
    place = tile_at(cube.grid, 15)
    got = pixels(web.get(tile("field", place, time=2, rgb="B08,B04,B03", vmin=0, vmax=0.4)))
    codes = []
    for band in ("B08", "B04", "B03"):
        wanted, sure = sampled(field["reflectance"][2].sel(band=band).values, cube.grid, place)
        codes.append(render.codes(wanted, 0, 0.4))
    there = np.all(np.array(codes) > 0, axis=0)
    assert np.array_equal(got[..., 3][sure] > 0, there[sure])
    assert np.array_equal(got[sure & there][:, :3], np.dstack(codes)[sure & there])


def test_a_tile_from_afar_is_an_overview(web, ws, cube):
    place = tile_at(cube.grid, 11)
    got = pixels(web.get(tile("field", place, time=0, channel="B02", vmin=0, vmax=0.2)))
    raw = store.arrays(cube.url)["overviews/2/reflectance"][0, 0]
    half = render.Grid(cube.grid.crs, cube.grid.west, cube.grid.north, 20.0, 135, 75)
    wanted, sure = sampled(
        np.where(raw == 0, np.nan, raw.astype(np.float32) * np.float32(1e-4) + np.float32(-0.1)),
        half,
        place,
    )
    expected = coloured(wanted, "viridis", 0, 0.2)
    assert (got[..., 3] > 0).sum() > 100
    assert np.array_equal(got[sure], expected[sure])


def test_outside_is_204(web, cube):
    z, x, y = tile_at(cube.grid, 12)
    answer = web.get(tile("field", (z, x + 5, y), channel="B04"))
    assert (answer.status_code, answer.content) == (204, b"")


def test_tiles_are_cached_for_good_when_the_version_is_in_the_url(web, cube):
    place = tile_at(cube.grid, 14)
    url = tile("field", place, time=1, channel="B04", version=cube.version)
    first = web.get(url)
    assert "immutable" in first.headers["cache-control"]
    again = web.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "no-cache" in web.get(tile("field", place, channel="B04")).headers["cache-control"]
    old = web.get(tile("field", place, channel="B04", version="old"))
    assert "no-cache" in old.headers["cache-control"]
    tags = {
        web.get(tile("field", place, **query)).headers["etag"]
        for query in ({"time": 1}, {"time": 2}, {"time": 1, "cmap": "magma"}, {"channel": "B03"})
    }
    assert len(tags) == 4


def test_head_gives_the_headers_only(web, cube):
    url = tile("field", tile_at(cube.grid, 14), time=1, channel="B04")
    got, head = web.get(url), web.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_a_new_version_is_served_at_once(tmp_path):
    ws = make_workspace(tmp_path / "home")
    server = Server(serve.routes(ws))
    try:
        with httpx.Client(base_url=server.address) as client:
            assert client.get("/api/cubes").json() == {"cubes": []}
            versions = []
            for seed in (1, 2):
                if seed == 2:
                    store.remove(catalogue.url(ws, "a"))
                store.write(
                    bands_cube(times=2 + seed, bands=BANDS, seed=seed), catalogue.place(ws, "a")
                )
                catalogue.add(ws, "a")
                found = client.get("/api/cubes/a").json()
                assert found["dims"]["time"] == 2 + seed
                assert len(client.get("/api/cubes").json()["cubes"]) == 1
                versions.append(found["version"])
            assert versions[0] != versions[1]
            shutil.rmtree(catalogue.place(ws, "a"))
            gone = client.get("/api/cubes/a")
            assert gone.status_code == 404
            assert "'a' is being written or gone" in gone.json()["error"]
            assert str(tmp_path) not in gone.text
            assert client.get("/api/cubes").json() == {"cubes": []}
    finally:
        server.close()


def test_the_catalogue(web, ws, field):
    found = web.get("/api/cubes").json()["cubes"]
    assert [line["name"] for line in found] == ["field", "learned"]
    assert [line["kind"] for line in found] == ["bands", "features"]
    one = web.get("/api/cubes/field").json()
    info = catalogue.info(ws, "field")
    assert {key: one[key] for key in info} == json.loads(json.dumps(info))
    assert "NDVI" in one["indices"]
    assert one["valid_share"] == pytest.approx(field["valid"].mean(("y", "x")).values, abs=1e-6)
    assert web.get("/api/cubes/learned").json()["indices"] == []


def test_the_legend(web):
    found = web.get("/api/cubes/field/legend?channel=NDVI&vmin=-1&vmax=1&cmap=BrBG").json()
    assert [found["stops"][at]["value"] for at in (0, 5, 10)] == [-1, 0, 1]
    free = web.get("/api/cubes/learned/legend").json()
    assert free["channel"] == "F01"
    assert free["vmin"] < free["vmax"]


def place_of(cube: reading.OpenCube, row: int, column: int) -> dict[str, float]:
    x = cube.grid.west + (column + 0.4) * cube.grid.resolution
    y = cube.grid.north - (row + 0.6) * cube.grid.resolution
    lon, lat = render.transformer(cube.grid.crs, "EPSG:4326").transform(x, y)
    return {"lon": lon, "lat": lat}


def test_a_pixel_series_equals_the_store(web, field, cube):
    place = place_of(cube, 130, 77)
    query = place | {"channels": "B04,NDVI,B08"}
    found = web.get("/api/cubes/field/series", params=query).json()
    assert (found["row"], found["column"]) == (130, 77)
    assert list(found["channels"]) == ["B04", "NDVI", "B08"]
    here = field.isel(y=130, x=77)
    assert found["times"] == [str(t) for t in np.datetime_as_string(here["time"].values, unit="s")]
    assert found["valid"] == here["valid"].values.tolist()
    red, nir = (here["reflectance"].sel(band=band).values for band in ("B04", "B08"))
    usable = (here["valid"].values == 1) & np.isfinite(red)
    assert 0 < usable.sum() < 20
    for name, wanted in (("B04", red), ("B08", nir), ("NDVI", (nir - red) / (nir + red))):
        got = np.array([np.nan if v is None else v for v in found["channels"][name]])
        assert np.array_equal(np.isfinite(got), usable)
        np.testing.assert_allclose(got[usable], wanted[usable], rtol=1e-5)
    everything = web.get("/api/cubes/field/series", params=place | {"masked": 0}).json()
    assert list(everything["channels"]) == list(BANDS)
    assert None not in np.array(everything["channels"]["B04"])[np.isfinite(red)]


def test_the_csv_holds_the_numbers_of_the_json(web, cube):
    query = place_of(cube, 3, 140) | {"channels": "B04,EVI"}
    found = web.get("/api/cubes/field/series", params=query).json()
    for answer in (
        web.get("/api/cubes/field/series", params=query | {"format": "csv"}),
        web.get("/api/cubes/field/series", params=query, headers={"Accept": "text/csv"}),
    ):
        assert answer.headers["content-type"].startswith("text/csv")
        assert 'filename="field-pixel.csv"' in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["time"] for row in rows] == found["times"]
        assert {(float(row["lon"]), float(row["lat"])) for row in rows} == {
            (query["lon"], query["lat"])
        }
        assert {row["place"] for row in rows} == {"pixel"}
        point = shapely.from_wkt(rows[-1]["geometry"])
        assert (point.x, point.y) == pytest.approx((query["lon"], query["lat"]), abs=1e-7)
        for name in ("B04", "EVI"):
            got = [float(row[name]) if row[name] else None for row in rows]
            assert got == found["channels"][name]


def area(cube: reading.OpenCube, **period: object) -> AOI:
    corners = [tuple(place_of(cube, *at).values()) for at in ((20, 10), (180, 30), (90, 130))]
    return AOI("corner", shapely.Polygon(corners), **period)


def test_an_area_series(web, cube):
    body = to_geojson(area(cube))
    answer = web.post("/api/cubes/field/series?channels=B04,NDVI", json=body)
    found = answer.json()
    wanted = reading.area_series(cube, area(cube), channels=["B04", "NDVI"])
    assert found["pixels"] == wanted.pixels
    for channel, statistics in wanted.statistics.items():
        assert found["channels"][channel]["count"] == wanted.count[channel].tolist()
        for key, values in statistics.items():
            np.testing.assert_allclose(found["channels"][channel][key], values, rtol=1e-6)
    table = web.post(
        "/api/cubes/field/series?channels=B04&format=csv",
        content=json.dumps(body),
        headers={"Content-Type": "application/geo+json"},
    )
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [float(row["B04_p50"]) for row in rows] == found["channels"]["B04"]["p50"]
    assert {row["pixels"] for row in rows} == {str(wanted.pixels)}
    drawn = area(cube).geometry
    assert shapely.from_wkt(rows[0]["geometry"]).equals_exact(drawn, tolerance=1e-6)


def test_a_part_of_a_series_is_asked_for_by_its_days(web, field, cube):
    query = place_of(cube, 130, 77) | {"channels": "NDVI"}
    whole = web.get("/api/cubes/field/series", params=query).json()
    first, last = whole["times"][2][:10], whole["times"][6][:10]
    part = web.get("/api/cubes/field/series", params=query | {"start": first, "end": last}).json()
    assert part["times"] == whole["times"][2:7]
    assert part["channels"]["NDVI"] == whole["channels"]["NDVI"][2:7]
    body = to_geojson(area(cube))
    path = "/api/cubes/field/series?channels=B04"
    whole = web.post(path, json=body).json()
    part = web.post(f"{path}&start={first}&end={last}", json=body).json()
    assert part["channels"]["B04"]["p95"] == whole["channels"]["B04"]["p95"][2:7]


def test_a_transect(web, cube):
    ends = [tuple(place_of(cube, *at).values()) for at in ((20, 10), (90, 130))]
    wanted = reading.transect(cube, ends, "NDVI")
    line = ";".join(f"{lon},{lat}" for lon, lat in ends)
    path = "/api/cubes/field/transect?channel=NDVI"
    found = web.get(f"{path}&line={line}").json()
    shape = {"type": "LineString", "coordinates": ends}
    sent = {"type": "Feature", "properties": {}, "geometry": shape}
    assert web.post(path, json=sent).json() == found
    values = np.array([[np.nan if v is None else v for v in row] for row in found["values"]])
    np.testing.assert_allclose(values, wanted.values, rtol=1e-6)
    assert found["distance"] == wanted.path.distance.tolist()
    table = web.get(f"{path}&line={line}&format=csv&start={found['times'][4][:10]}").text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == values[4:].size
    got = [float(row["NDVI"] or "nan") for row in rows]
    np.testing.assert_allclose(got, values[4:].ravel(), rtol=1e-6)


def test_an_export_opens_with_the_same_values(web, field, cube, tmp_path):
    body = to_geojson(area(cube, start=field["time"].values[3].astype("M8[D]").item()))
    answer = web.post("/api/cubes/field/export?format=netcdf&channels=B04,B08", json=body)
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    path = tmp_path / "field.nc"
    path.write_bytes(answer.content)
    with xr.open_dataset(path) as got:
        assert got.sizes["time"] == 17
        wanted = field["reflectance"].sel(band=["B04", "B08"], y=got["y"], x=got["x"])[3:]
        inside = np.isfinite(got["reflectance"].values)
        assert inside.sum() > 10_000
        np.testing.assert_allclose(
            got["reflectance"].values[inside], wanted.values[inside], atol=1e-6
        )
        assert got.attrs["title"] == field.attrs["title"]


def test_an_export_by_bounds_is_streamed(web, cube, field):
    west, south, east, north = render.bounds(cube.grid, "EPSG:4326")
    box = f"{west},{south},{(west + east) / 2},{north}"
    day = str(field["time"].values[5].astype("M8[D]"))
    url = f"/api/cubes/field/export?format=zarr&bbox={box}&start={day}&end={day}"
    with web.stream("GET", url) as answer:
        assert answer.status_code == 200
        data = b"".join(answer.iter_bytes())
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    head = web.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]


def test_a_latent_selection_is_marked_on_the_map(web, ws, field):
    learned = serve.cube(ws, "learned")
    box = np.array([[-9.0, -9.0], [0.0, -9.0], [0.0, 9.0], [-9.0, 9.0]])
    mean = np.array([-0.2, 0, 0, 0, 0])
    plane = latent.PCA(mean, np.eye(2, 5), np.ones(2) / 2, np.ones(2))
    selection = reading.Selection("learned", None, plane, box)
    name = serve.SELECTIONS.put(selection)
    assert serve.SELECTIONS.put(selection) == name
    place = tile_at(learned.grid, 15)
    got = pixels(web.get(tile("learned", place, time=4, selection=name)))
    first = catalogue.open(ws, "learned")["features"][4, 0].values
    wanted, sure = sampled(first, learned.grid, place)
    marked = (wanted + 0.2 < 0) & (wanted + 0.2 > -9)
    assert 0.02 < marked.mean() < 0.9
    assert np.array_equal(got[..., 3][sure] > 0, marked[sure])
    wrong = web.get(tile("field", place, selection=name))
    assert (wrong.status_code, wrong.json()["error"][:31]) == (
        400,
        "the selection was made in 'lear",
    )


def test_a_job_is_asked_for_watched_and_cancelled(web, ws, cube):
    body = {"cube": "field", "model": "linear", "aoi": to_geojson(area(cube))}
    answer = web.post("/api/jobs", json=body)
    assert answer.status_code == 202, answer.text
    name = answer.json()["id"]
    assert answer.headers["location"] == f"/api/jobs/{name}"
    found = web.get(f"/api/jobs/{name}").json()
    assert (found["state"], found["cube"], found["fraction"]) == ("queued", "field", 0.0)
    assert found["aoi"]["properties"]["name"] == "corner"
    assert name in [job["id"] for job in web.get("/api/jobs").json()["jobs"]]
    assert web.delete(f"/api/jobs/{name}").status_code == 202
    assert jobs.get(ws, name)["state"] == "cancelled"


ME = {"Cookie": f"deepfeatures_user={'m' * 24}"}
YOU = {"Cookie": f"deepfeatures_user={'y' * 24}"}


def test_a_job_belongs_to_the_browser_that_asked_for_it(web, ws, cube):
    body = {"cube": "field", "model": "linear", "aoi": to_geojson(area(cube))}
    name = web.post("/api/jobs", json=body, headers=ME).json()["id"]
    assert jobs.get(ws, name)["owner"].startswith("browser-")
    assert "m" * 24 not in json.dumps(jobs.get(ws, name))  # the cookie itself is kept nowhere
    assert web.get(f"/api/jobs/{name}", headers=ME).json()["out"] == "field-corner-linear"
    for headers in (YOU, {}):
        seen = web.get(f"/api/jobs/{name}", headers=headers).json()
        assert (seen["title"], seen["state"]) == ("somebody's job", "queued")
        listed = web.get("/api/jobs", headers=headers).json()["jobs"]
        assert "corner" not in json.dumps([job for job in listed if job["id"] == name])
        assert web.get(f"/api/jobs/{name}/log", headers=headers).status_code == 403
        assert web.delete(f"/api/jobs/{name}", headers=headers).status_code == 403
        assert web.post(f"/api/jobs/{name}/retry", json={}, headers=headers).status_code == 403
    assert "asked for: embed of field" in web.get(f"/api/jobs/{name}/log", headers=ME).text
    assert web.post(f"/api/jobs/{name}/retry", json={}, headers=ME).status_code == 409
    assert web.delete(f"/api/jobs/{name}", headers=ME).status_code == 202
    again = web.post(f"/api/jobs/{name}/retry", json={}, headers=ME)
    assert (again.status_code, again.json()["id"] != name) == (202, True)
    jobs.cancel(ws, again.json()["id"])


def test_an_area_is_kept_found_renamed_and_deleted(web, cube):
    feature = to_geojson(area(cube))
    feature["properties"]["title"] = "My corner"
    made = web.post("/api/areas", json=feature, headers=ME)
    assert made.status_code == 201, made.text
    where = made.headers["location"]
    listed = web.get("/api/areas", headers=ME).json()["features"]
    assert [one["properties"]["title"] for one in listed] == ["My corner"]
    assert web.get("/api/areas", headers=YOU).json()["features"] == []
    found = web.get(where, headers=YOU).json()  # who was told the id
    assert found["geometry"] == feature["geometry"]
    assert web.post(where, json={"title": "x"}, headers=YOU).status_code == 404
    assert web.delete(where, headers=YOU).status_code == 404
    assert web.post(where, json={"title": "Yours"}, headers=ME).status_code == 200
    assert web.post(where, json={"title": 1}, headers=ME).status_code == 400
    assert web.delete(where, headers=ME).status_code == 200
    assert web.get(where, headers=ME).status_code == 404
    assert web.post("/api/areas", json=CROSSED, headers=ME).status_code == 400


JSON = {"Content-Type": "application/json"}
CROSSED = {"type": "Polygon", "coordinates": [[[3, 50], [4, 51], [4, 50], [3, 51], [3, 50]]]}
AWAY = {"type": "Polygon", "coordinates": [[[13, 50], [13.1, 50], [13.1, 50.1], [13, 50]]]}
HUGE = {"type": "Polygon", "coordinates": [[[-40, 0], [40, 0], [40, 60], [-40, 0]]]}
MANY = {"type": "Polygon", "coordinates": [[[3, 50 + n / 1e5] for n in range(10_002)]]}
POSTS = [
    ("/api/cubes/field/series", CROSSED, 400, "crosses itself"),
    ("/api/cubes/field/series", AWAY, 400, "does not touch the cube"),
    ("/api/cubes/field/series", HUGE, 400, "above the limit of"),
    ("/api/cubes/field/series", MANY, 400, "more than 10,000 vertices"),
    ("/api/cubes/field/series", {"type": "Point", "coordinates": [3, 50]}, 400, "not an area"),
    ("/api/cubes/field/transect?channel=B04", AWAY, 400, "send a LineString"),
    ("/api/cubes/field/transect", {"type": "LineString", "coordinates": [3]}, 400, "a point of"),
    ("/api/cubes/field/series", [1], 400, "the body is a JSON list; send an object"),
    ("/api/cubes/none/series", AWAY, 404, "there is no cube 'none'; there are: field, learned"),
    ("/api/cubes/field/export", CROSSED, 400, "crosses itself"),
    ("/api/cubes/field/export?format=csv", AWAY, 400, "outside the cube"),
    ("/api/cubes/field", AWAY, 405, "Method Not Allowed"),
    ("/api/nothing", AWAY, 404, "there is no '/api/nothing'"),
    ("/api/jobs", {}, 400, 'the body needs "cube"'),
    ("/api/jobs", {"cube": "../x", "model": "linear"}, 400, 'the body needs "cube"'),
    ("/api/jobs", {"cube": "field", "model": "/etc/passwd"}, 400, 'the body needs "model"'),
    ("/api/jobs", {"cube": "field", "model": "linear"}, 400, 'the body needs "aoi"'),
    ("/api/jobs", {"cube": "field", "model": "linear", "aoi": AWAY}, 400, "does not touch"),
    ("/api/jobs", {"cube": "field", "model": "none", "aoi": AWAY}, 404, "there is no model 'none'"),
    ("/api/jobs", {"cube": "learned", "model": "linear", "aoi": AWAY}, 400, "cube of bands"),
    ("/api/jobs", {"cube": "none", "model": "linear", "aoi": AWAY}, 404, "no cube 'none'"),
]


@pytest.mark.parametrize(("url", "body", "status", "words"), POSTS)
def test_bad_bodies_give_one_sentence(web, url, body, status, words):
    answer = web.post(url, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert list(answer.json()) == ["error"]


T = "/tiles/field/{}/{}/{}.png".format(
    *tile_at(render.Grid("EPSG:32631", 501000.0, 5629000.0, 10.0, 270, 150), 14)
)
GETS = [
    ("/tiles/none/1/0/0.png", 404, "there is no cube 'none'; there are: field, learned"),
    ("/tiles/..%2F..%2Fcatalog/1/0/0.png", 404, "there is no cube '../../catalog'"),
    ("/tiles/field/a/0/0.png", 400, "'a' is no tile number"),
    ("/tiles/field/-1/0/0.png", 400, "'-1' is no tile number"),
    ("/tiles/field/99/0/0.png", 400, "zoom 99 is not from 0 to 24"),
    ("/tiles/field/3/8/0.png", 400, "there is no tile 8/0 at zoom 3"),
    (f"{T}?channel=B99", 400, "no channel 'B99'; choose from B02, B03, B04, B08"),
    ("/tiles/learned/14/1/1.png?channel=NDVI", 400, "no channel 'NDVI'; choose from F01"),
    (f"{T}?time=1999-01-01", 400, "the date 1999-01-01 is outside; 'field' has 20 dates from "),
    (f"{T}?time=soon", 400, "'soon' is no date"),
    (f"{T}?time=20", 400, "numbered 0 to 19"),
    (f"{T}?vmin=1&vmax=0", 400, "vmin=1 must be below vmax=0"),
    (f"{T}?vmin=99", 400, "must be below"),
    (f"{T}?vmin=nan", 400, "vmin='nan' is no finite number"),
    (f"{T}?vmax=high", 400, "vmax='high' is no finite number"),
    (f"{T}?cmap=jet", 400, "unknown colour map 'jet'"),
    (f"{T}?rgb=B04,B03", 400, "rgb=B04,B03,B02"),
    (f"{T}?rgb=B04,B03,B02&channel=B04", 400, "give either"),
    (f"{T}?selection=gone", 404, "there is no selection 'gone' any more"),
    (f"{T}?time=%ff", 400, "Bad Request"),
    ("/api/cubes/none", 404, "there is no cube 'none'"),
    ("/api/cubes/field/legend?cmap=jet", 400, "unknown colour map"),
    ("/api/cubes/field/series", 400, "give the place: lon=..&lat=.."),
    ("/api/cubes/field/series?lon=nan&lat=50", 400, "lon='nan' is no finite number"),
    ("/api/cubes/field/series?lon=3&lat=inf", 400, "lat='inf' is no finite number"),
    ("/api/cubes/field/series?lon=50.8&lat=3", 400, "lies outside 'field', which covers"),
    ("/api/cubes/field/series?lon=3.02&lat=50.8&channels=B99", 400, "no channel 'B99'"),
    ("/api/cubes/field/series?lon=3.02&lat=50.8&format=xls", 400, "choose json or csv"),
    ("/api/cubes/field/series?lon=3.02&lat=50.8&start=soon", 400, "start='soon' is no date"),
    ("/api/cubes/field/series?lon=3.02&lat=50.8&start=2022-01-02&end=2022-01-01", 400, "swap the"),
    ("/api/cubes/field/transect?channel=B04", 400, "write lon,lat;lon,lat"),
    ("/api/cubes/field/transect?line=3,50;3,51", 400, "say what to read"),
    ("/api/cubes/field/transect?channel=B04&line=3,50;3,51", 400, "draw one of 10 to 19,990 m"),
    ("/api/cubes/field/export?bbox=1,2,3", 400, "bbox='1,2,3' is no box"),
    ("/api/cubes/field/export?bbox=1,2,3,nan", 400, "is empty; give west,south,east,north"),
    ("/api/cubes/field/export?bbox=10,20,11,21", 400, "outside the cube"),
    ("/api/cubes/field/export?format=xls", 400, "format 'xls' is unknown"),
    ("/api/cubes/field/export?start=2030-01-01", 400, "there is no date from 2030-01-01"),
    ("/api/cubes/field/export?channels=B99", 400, "the channel 'B99' is unknown"),
    ("/api/cubes/none/export", 404, "there is no cube 'none'"),
    ("/api/jobs/none", 404, "there is no job 'none'"),
    ("/api/elsewhere", 404, "there is no '/api/elsewhere'"),
    ("/tiles/field/1/2", 404, "there is no '/tiles/field/1/2'"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "status", "words"), GETS, ids=[get[0][:60] for get in GETS])
def test_bad_questions_give_one_sentence(web, url, status, words):
    answer = web.get(url)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_finished_job_is_not_cancelled(web, ws):
    name = jobs.submit(ws, cube="field", model="linear")
    jobs.claim(ws, 1)
    jobs.finish(ws, name)
    answer = web.delete(f"/api/jobs/{name}")
    assert answer.status_code == 409
    assert "done already" in answer.json()["error"]


def test_what_is_too_large_is_refused_and_not_held(web):
    answer = web.post("/api/cubes/field/series", content=b" " * 20_000_000, headers=JSON)
    assert answer.status_code == 413
    assert "20.0 MB is too large (limit 5 MB)" in answer.json()["error"]
    nested = b'{"a":' + b"[" * 200_000
    assert web.post("/api/jobs", content=nested, headers=JSON).status_code == 400


def test_pages_of_other_sites_can_not_ask_for_work(web):
    body = json.dumps({"cube": "field", "model": "linear"})
    form = web.post("/api/jobs", content=body, headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert web.post("/api/jobs", content=body, headers=JSON | elsewhere).status_code == 403
    assert web.delete("/api/jobs/none", headers=elsewhere).status_code == 403


def test_headers_forbid_guessing_and_framing(web):
    for url in ("/healthz", "/api/cubes", "/api/none", T):
        headers = web.get(url).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "tornado" not in headers["server"].lower()


def test_methods_that_a_route_does_not_know(web):
    answer = web.put("/api/jobs", headers=JSON)
    assert answer.status_code == 405
    assert "PUT /api/jobs" in answer.json()["error"]


def test_health(ws, web):
    assert web.get("/healthz").json() == {"status": "ok", "cubes": 2}

    def broken() -> dict:
        raise RuntimeError("no page")

    server = Server(serve.routes(ws, ready=broken))
    try:
        answer = httpx.get(f"{server.address}/healthz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "failing", "error": "RuntimeError: no page"}
    finally:
        server.close()


def test_slow_work_never_holds_up_a_tile(ws, cube):
    release = threading.Event()
    server = Server(serve.routes(ws, ready=lambda: {"waited": release.wait(60)}))
    found: list[httpx.Response] = []
    asks = [
        threading.Thread(
            target=lambda: found.append(httpx.get(f"{server.address}/healthz", timeout=60))
        )
        for _ in range(4)
    ]
    try:
        for ask in asks:
            ask.start()
        url = server.address + tile("field", tile_at(cube.grid, 14), channel="B04")
        assert httpx.get(url, timeout=60).status_code == 200
        assert found == []
    finally:
        release.set()
        for ask in asks:
            ask.join(60)
        server.close()
    assert [answer.json() for answer in found] == [{"status": "ok", "waited": True}] * 4


def test_a_full_queue_says_try_again():
    async def main() -> None:
        pool, release = Pool(1, 2), threading.Event()
        waiting = [asyncio.ensure_future(pool.run(release.wait, 30)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="busy; try again") as refused:
            await pool.run(release.set)
        assert refused.value.status == 503
        release.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await pool.run(int, "7") == 7

    # In a thread of its own: a browser test before this one leaves its loop in the main thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result(60)


def test_who_is_not_signed_in_sees_nothing_but_health(ws):
    class Provider:
        get_user_async = None

        @staticmethod
        def get_user(handler: tornado.web.RequestHandler) -> str | None:
            return handler.request.headers.get("X-User")

    server = Server(serve.routes(ws), auth_provider=Provider())
    try:
        with httpx.Client(base_url=server.address) as client:
            for url in ("/api/cubes", T, "/api/jobs", "/api/cubes/field/export"):
                assert client.get(url).status_code == 401
            assert client.get("/healthz").status_code == 200
            assert client.get("/api/cubes", headers={"X-User": "me"}).status_code == 200
    finally:
        server.close()


def test_a_failure_of_ours_tells_no_secrets(ws, cube, monkeypatch, caplog):
    from deepfeatures.serve import tiles

    def broken(*_: object, **_options: object) -> bytes:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(tiles, "picture", broken)
    server = Server(serve.routes(ws))
    try:
        answer = httpx.get(server.address + T)
    finally:
        server.close()
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log says why"}
    assert "/secret/path" in caplog.text


def test_selections_are_bounded():
    held = serve.tiles.Selections(3)
    ring = np.array([[0, 0], [1, 0], [1, 1.0]])
    plane = latent.PCA(np.zeros(2), np.eye(2), np.ones(2) / 2, np.ones(2))
    names = [held.put(reading.Selection("c", str(n), plane, ring)) for n in range(5)]
    assert len(set(names)) == 5
    assert held.get(names[4]).time == "4"
    with pytest.raises(Refusal, match="select again"):
        held.get(names[0])


def test_serving_changes_nothing_in_the_store(web, ws, cube):
    def state(path: Path) -> str:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    before = state(ws.cubes)
    for zoom in (10, 13, 16):
        web.get(tile("field", tile_at(cube.grid, zoom), rgb="B04,B03,B02"))
    web.get("/api/cubes/field/series", params=place_of(cube, 1, 1))
    assert state(ws.cubes) == before
