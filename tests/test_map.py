"""What stands behind the map: composites of components, histograms, values, loading ahead."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import httpx
import hypothesis
import numpy as np
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_reading import features_cube
from test_render import tile_at
from test_serve import Server, place_of, tile

from app import main, reads
from app.state import State
from app.views import compare, dates, histogram
from app.views import map as chart
from deepfeatures import catalogue, latent, places, reading, render, serve, store
from deepfeatures.serve import tiles
from deepfeatures.serve.ahead import Ahead
from deepfeatures.serve.base import Pool
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the cubes ``field`` and ``learned``."""
    found = make_workspace(tmp_path_factory.mktemp("map") / "home")
    ds = bands_cube(times=40, height=90, width=70, bands=("B02", "B03", "B04", "B08"))
    for name, cube in (("field", ds), ("learned", features_cube(ds))):
        store.write(cube, catalogue.place(found, name))
        catalogue.add(found, name)
    return found


@pytest.fixture(scope="module")
def web(ws: Workspace) -> Iterator[httpx.Client]:
    server = Server(serve.routes(ws))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.close()


@pytest.fixture(scope="module")
def learned(ws: Workspace) -> xr.Dataset:
    return catalogue.open(ws, "learned").load()


def image(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def test_a_composite_is_the_same_picture_as_webp(web, ws):
    place = tile_at(serve.cube(ws, "field").grid, 15)
    url = tile("field", place, rgb="B04,B03,B02", time="3", version="x")
    plain = web.get(url, headers={"Accept": "*/*"})
    webp = web.get(url, headers={"Accept": "image/avif,image/webp,*/*"})
    assert plain.headers["content-type"] == "image/png"
    assert webp.headers["content-type"] == "image/webp"
    assert webp.headers["vary"] == "Accept"
    assert webp.headers["etag"] != plain.headers["etag"]
    one, other = image(plain), image(webp)
    assert np.array_equal(one[..., 3], other[..., 3])
    seen = one[..., 3] > 0
    assert seen.any()
    assert np.array_equal(one[seen], other[seen])
    single = tile("field", place, channel="B08", time="3")
    answer = web.get(single, headers={"Accept": "image/webp"})
    assert answer.headers["content-type"] == "image/png"


def test_components_are_those_of_the_whole_period(web, ws, learned):
    cube = serve.cube(ws, "learned")
    model = reading.principal(cube)
    values = learned["features"].transpose("time", "y", "x", "feature").values
    there = np.isfinite(values).all(axis=-1)
    usable = there & (learned["valid"].values == 1)
    exact = latent.pca(values[usable], model.components.shape[0])
    cosine = np.abs(np.sum(model.components[0] * exact.components[0]))
    assert cosine > 0.98
    box = slice(4, 5), slice(0, 90), slice(0, 70)
    found = reading.values(cube, ["PC1"], *box)["PC1"][0]
    expected = latent.transform(model, values[4])[..., 0]
    np.testing.assert_allclose(found[there[4]], expected[there[4]], rtol=1e-4, atol=1e-4)
    low, high = reading.limits(cube, "PC1")
    assert low < np.median(found[there[4]]) < high


def test_a_composite_has_one_stretch_for_all_dates(web, ws, learned):
    cube = serve.cube(ws, "learned")
    place = tile_at(cube.grid, 15)
    names = cube.channels[:1] * 3
    low, high = reading.limits(cube, names[0])
    window = render.plan(cube.grid, *place, cube.levels)
    for t in (0, 17, 39):
        shown = image(web.get(tile("learned", place, rgb=",".join(names), time=t)))
        layer = learned["features"].isel(time=t).sel(feature=names[0]).values
        codes = render.codes(layer[window.rows, window.columns], low, high)
        np.testing.assert_array_equal(shown[..., 0], render.gather(window, codes))


def test_components_need_features(web):
    answer = web.get("/tiles/field/15/0/0.png", params={"rgb": "PC1,PC2,PC3"})
    assert answer.status_code == 400
    assert "no channel 'PC1'" in answer.json()["error"]


def test_the_histogram_of_a_view_counts_its_usable_pixels(web, ws):
    field = catalogue.open(ws, "field").isel(time=5).load()
    cube = serve.cube(ws, "field")
    rows, columns = slice(20, 61), slice(10, 52)
    one, other = place_of(cube, 60, 10), place_of(cube, 20, 51)
    box = ",".join(repr(v) for v in (one["lon"], one["lat"], other["lon"], other["lat"]))
    asked = {"channel": "B08", "time": "5", "bbox": box}
    found = web.get("/api/cubes/field/histogram", params=asked).json()
    part = field.sel(band="B08").isel(y=rows, x=columns)
    values = part["reflectance"].values[part["valid"].values == 1]
    values = values[np.isfinite(values)]
    assert found["level"] == 1
    assert abs(sum(found["counts"]) - values.size) <= 0.06 * values.size, "edges of a turned box"
    assert found["p2"] == pytest.approx(np.percentile(values, 2), abs=0.003)
    assert found["p98"] == pytest.approx(np.percentile(values, 98), abs=0.003)
    assert len(found["edges"]) == len(found["counts"]) + 1
    assert 0 < found["usable"] < 1
    whole = web.get("/api/cubes/field/histogram", params={"channel": "NDVI", "time": "5"}).json()
    assert whole["min"] <= whole["p2"] < whole["p98"] <= whole["max"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"bbox": "1,2,3"}, "west,south,east,north"),
        ({"bbox": "10,50,11,51"}, "shows nothing"),
        ({"channel": "B99"}, "no channel"),
    ],
)
def test_bad_views_are_a_sentence(web, query, words):
    answer = web.get("/api/cubes/field/histogram", params=query)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_the_value_under_the_pointer_is_that_of_the_store(web, ws):
    cube = serve.cube(ws, "field")
    field = catalogue.open(ws, "field").isel(time=7, y=33, x=12).load()
    asked = {**place_of(cube, 33, 12), "time": "7", "channels": "B08,NDVI"}
    found = web.get("/api/cubes/field/value", params=asked).json()
    red, infrared = (float(field["reflectance"].sel(band=band)) for band in ("B04", "B08"))
    assert found["values"]["B08"] == pytest.approx(infrared, abs=1e-5)
    ndvi = (infrared - red) / (infrared + red)
    assert found["values"]["NDVI"] == pytest.approx(ndvi, abs=1e-3)
    assert found["usable"] == (int(field["valid"]) == 1)
    far = web.get("/api/cubes/field/value", params={"lon": 9, "lat": 50})
    assert far.status_code == 204
    assert far.content == b""


def test_the_next_dates_are_loaded_ahead(ws, monkeypatch):
    cube = serve.cube(ws, "field")
    edge = cube.arrays[cube.variable, 1].chunks[0]
    assert tiles.neighbours(cube, str(edge - 1)) == [edge - 1 + tiles.NEXT]
    assert tiles.neighbours(cube, str(edge)) == [edge - tiles.NEXT]
    reading.CHUNKS.clear()
    place, style = tile_at(cube.grid, 15), tiles.Style(channels=("NDVI",), masked=True)
    tiles.load(cube, style, 30, *place)
    held = reading.CHUNKS.size
    assert held > 0
    tiles.picture(cube, tiles.Style(time="30", channels=("NDVI",), masked=True), *place)
    assert reading.CHUNKS.size == held, "what the tile needs was there"


def test_ahead_gives_way_and_forgets_the_oldest():
    pool, ahead, done = Pool(1, 4), Ahead(limit=2), []
    finished = threading.Event()
    pool._count = 1  # somebody waits for an answer
    for number in range(3):
        ahead.ask(pool, number, lambda number=number: done.append(number))
    assert done == []
    pool._count = 0
    ahead.ask(pool, 1, lambda: (done.append("again"), 1 / 0))
    pool.start(finished.set)
    assert finished.wait(10)
    assert done == ["again", 2]


@given(st.integers(0, 9), st.booleans(), st.integers(0, 9), st.integers(0, 9))
@hypothesis.settings(max_examples=50)
def test_playing_stays_in_its_period_and_ends_or_begins_again(index, loop, one, other):
    days = [f"2021-01-{day:02d}" for day in range(10, 20)]
    first, last = sorted((one, other))
    seen = [index]
    for _ in range(25):
        place = dates.following(
            days, seen[-1], [1.0] * 10, clear=True, period=(days[first], days[last]), loop=loop
        )
        if place is None:
            break
        seen.append(place)
    assert all(first <= place <= last for place in seen[1:])
    assert set(range(max(first, index if first <= index <= last else first), last + 1)) <= set(seen)
    assert (place is not None) == (loop and first < last)


def test_playing_leaves_out_cloudy_dates_and_stops_where_none_is_clear():
    days, period = list("abcde"), ("", "")
    shares = [0.9, 0.1, 0.2, 0.8, 0.1]
    assert dates.following(days, 0, shares, clear=True, period=period, loop=True) == 3
    assert dates.following(days, 3, shares, clear=True, period=period, loop=True) == 0
    assert dates.following(days, 3, shares, clear=True, period=period, loop=False) is None
    cloudy = [0.0] * 5
    assert dates.following(days, 2, cloudy, clear=True, period=period, loop=True) is None


def somewhere(name: str, **other: object) -> places.Place:
    found = {"lon": 3.1, "lat": 50.2, "bounds": (3.0, 50.1, 3.2, 50.3), "date": "2021-03-04"}
    return places.Place(name, **(found | other))


def test_places_are_kept_replaced_and_deleted(workspace):
    places.keep(workspace, somewhere("  wet\tmeadow "))
    places.keep(workspace, somewhere("Pit", note="grows"))
    places.keep(workspace, somewhere("wet meadow", date=""))
    assert [one.name for one in places.listing(workspace)] == ["Pit", "wet meadow"]
    assert places.listing(workspace) == [
        somewhere("Pit", note="grows"),
        somewhere("wet meadow", date=""),
    ]
    places.remove(workspace, "Pit")
    assert [one.name for one in places.listing(workspace)] == ["wet meadow"]
    with pytest.raises(KeyError, match="no place 'Pit'"):
        places.remove(workspace, "Pit")
    assert not list(workspace.home.glob("*.tmp"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (somewhere(" "), "name"),
        (somewhere("a\u202eb"), "name"),
        (somewhere("a", bounds=(3.2, 50.1, 3.0, 50.3)), "view"),
        (somewhere("a", lat=float("nan")), "view"),
        (somewhere("a", date="soon"), "isoformat"),
    ],
)
def test_what_is_no_place_is_refused(workspace, place, words):
    with pytest.raises(ValueError, match=words):
        places.keep(workspace, place)
    assert places.listing(workspace) == []


def test_places_are_limited_and_spoilt_ones_left_out(workspace, monkeypatch):
    monkeypatch.setattr(places, "MAX_PLACES", 2)
    for name in "ab":
        places.keep(workspace, somewhere(name))
    with pytest.raises(ValueError, match="2 places already"):
        places.keep(workspace, somewhere("c"))
    path = workspace.home / "places.geojson"
    content = json.loads(path.read_text())
    content["features"][0]["bbox"] = "<script>"
    path.write_text(json.dumps(content))
    assert [one.name for one in places.listing(workspace)] == ["b"]


def state_of(ws: Workspace) -> State:
    found = State(ws=ws, cubes=reads.cubes.described(ws))
    found.settle()
    main.start(found)
    compare.follow(found)
    return found


def test_the_other_picture_is_one_that_there_is(ws):
    state = state_of(ws)
    view = chart.MapView(state=state)
    assert view.other is None, "no layer before it is asked for"
    state.split = True
    choice = compare.CompareView(state=state)
    assert (state.other_cube, state.other_show) == (state.cube, state.show)
    choice.cube.value = "learned"
    assert state.other_show in state.layers() or "," in state.other_show
    assert "/tiles/learned/" in view.other.tile_source.url
    choice.date.value = state.days[3]
    assert f"time={state.days[3]}" in view.other.tile_source.url
    state.split = False
    assert view.other.tile_source.url == chart.EMPTY


def test_keys_go_through_dates_and_layers(ws):
    state = state_of(ws)
    view = dates.DatesView(state=state, read=lambda name: reads.cubes.shares(ws, name))
    view.clear.value = False
    view.go(2)
    view._pressed(["next"])
    assert state.index == 3
    layers = state.layers()
    view._pressed(["layer after"])
    assert state.show == layers[(layers.index("B04,B03,B02") + 1) % len(layers)]
    view._pressed(["layer before", "compare", "play"])
    assert (state.show, state.split, view.player.playing) == ("B04,B03,B02", True, True)
    view._play()
    assert state.index == 4
    state.cube = "learned"
    assert "PC1,PC2,PC3" in state.layers()


def test_the_range_of_the_view_becomes_that_of_the_colours(ws):
    state = state_of(ws)
    state.show = "B08"
    box = state.info["bounds"]
    view = histogram.HistogramView(
        state=state, count=lambda *asked: reads.cubes.histogram(ws, *asked), bounds=lambda: box
    )
    low, high = view.found.percentiles
    view._fit(None)
    assert state.limits == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert (view.range.left, view.range.right) == state.limits
    view.range.right = high * 2
    assert state.limits[1] == pytest.approx(high * 2, rel=1e-3)
    state.show = "B04,B03,B02"
    assert not view.figure.visible
    assert "single channel" in view.note.object
