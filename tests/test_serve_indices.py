"""The catalogue of indices and own expressions over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_reading import features_cube
from test_render import tile_at
from test_serve import Server, coloured, pixels, sampled, tile

from deepfeatures import catalogue, indices, reading, serve, store
from deepfeatures.bands import BANDS
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

HELD = ("B02", "B03", "B04", "B08")
NDVI = "(B08-B04)/(B08+B04)"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the band cube ``field`` and the feature cube ``learned``."""
    found = make_workspace(tmp_path_factory.mktemp("spectral") / "home")
    ds = bands_cube(times=6, height=60, width=50, bands=HELD)
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
def field(ws: Workspace) -> xr.Dataset:
    return catalogue.open(ws, "field").load()


@pytest.fixture(scope="module")
def cube(ws: Workspace) -> reading.OpenCube:
    return serve.cube(ws, "field")


@pytest.fixture(scope="module")
def place(cube: reading.OpenCube) -> tuple[int, int, int]:
    return tile_at(cube.grid, 15)


def searched(web: httpx.Client, **query: str) -> list[str]:
    answer = web.get("/api/indices", params=query)
    assert answer.status_code == 200, answer.text
    return [index["name"] for index in answer.json()["indices"]]


def checked(web: httpx.Client, expression: str, **query: str) -> httpx.Response:
    return web.get("/api/indices/check", params={"expression": expression, **query})


def bands(ds: xr.Dataset, *names: str) -> list[np.ndarray]:
    return [ds["reflectance"].sel(band=name).values.astype(np.float64) for name in names]


# --- the catalogue


def test_the_whole_catalogue_comes_with_all_that_is_known(web):
    found = {index["name"]: index for index in web.get("/api/indices").json()["indices"]}
    assert found.keys() == indices.INDICES.keys()
    for name, index in indices.INDICES.items():
        one = found[name]
        assert (one["long_name"], one["formula"]) == (index.long_name, index.formula)
        assert (one["domain"], one["reference"]) == (index.domain, index.reference)
        assert tuple(one["bands"]) == index.bands
        assert one["constants"] == index.constants
        assert one["range"] is None or one["range"][0] < one["range"][1]
    assert found["NIRvP"]["range"] is None, "it needs more than bands"


def test_words_find_names_and_long_names(web):
    assert searched(web, q="ndvi")[0] == "NDVI"
    assert set(searched(web, q="chlorophyll red")) >= {"CIRE", "IRECI"}
    assert searched(web, q="no such words") == []


@pytest.mark.parametrize("domain", ["water", "snow", "kernel"])
def test_a_domain_leaves_its_own(web, domain):
    wanted = {name for name, index in indices.INDICES.items() if index.domain == domain}
    assert set(searched(web, domain=domain)) == wanted


def test_bands_and_a_cube_leave_what_they_allow(web):
    allowed = set(indices.available(HELD))
    assert set(searched(web, bands=",".join(HELD))) == allowed
    assert set(searched(web, cube="field")) == allowed
    assert set(searched(web, cube="field", bands="B04,B08")) == set(indices.available(HELD[2:]))
    assert searched(web, cube="learned") == [], "features are no bands"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"domain": "moon"}, 400, "'moon' is no domain"),
        ({"bands": "B04,B99"}, 400, "'B99' is no band"),
        ({"cube": "none"}, 404, "none"),
    ],
)
def test_wrong_searches_get_a_sentence(web, query, status, words):
    answer = web.get("/api/indices", params=query)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_the_catalogue_is_asked_for_once(web):
    first = web.get("/api/indices")
    again = web.get("/api/indices", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


# --- checking an expression


def test_an_expression_tells_what_it_needs(web):
    answer = checked(web, "NDVI - L * (B03 - B8A)", cube="")
    assert answer.status_code == 200
    assert answer.json() == {
        "expression": "NDVI - L * (B03 - B8A)",
        "bands": ["B03", "B04", "B08", "B8A"],
        "constants": {"L": 1.0},
    }


@pytest.mark.parametrize(
    ("expression", "position"),
    [("B08 - B05)", 9), ("B08 - NDVX", 6), ("  B08 -* 2", 7), ("B08 ^ 2", 4), ("", 0)],
)
def test_a_mistake_has_a_place_and_a_remedy(web, expression, position):
    answer = checked(web, expression)
    assert answer.status_code == 400
    assert answer.json()["position"] == position
    assert answer.json()["error"]
    assert answer.headers["cache-control"] == "no-store"


def test_what_a_cube_lacks_is_named(web):
    assert checked(web, "B08 - B12").status_code == 200
    answer = checked(web, "B08 - B12", cube="field")
    assert answer.status_code == 400
    assert "B12" in answer.json()["error"]
    assert "position" not in answer.json(), "nothing is written wrong"
    assert checked(web, "B08", cube="none").status_code == 404
    answer = checked(web, "NDVX")
    assert answer.status_code == 400
    assert "did you mean" in answer.json()["error"]
    assert "PAR" in checked(web, "NIRvP - 1").json()["error"]


# --- expressions in place of channels


@pytest.mark.parametrize("cmap", ["viridis", "magma"])
def test_an_expression_gives_the_very_tile_of_the_index(web, place, cmap):
    style = {"time": 3, "vmin": -0.2, "vmax": 0.9, "cmap": cmap}
    index, own = (web.get(tile("field", place, channel=c, **style)) for c in ("NDVI", NDVI))
    assert index.status_code == own.status_code == 200
    assert own.content == index.content
    assert own.headers["etag"] != index.headers["etag"]


def test_the_range_of_an_expression_is_that_of_the_data(web, place):
    legends = [
        web.get("/api/cubes/field/legend", params={"channel": c}).json() for c in ("B08-B04", "DVI")
    ]
    assert indices.INDICES["DVI"].formula == "N - R"
    assert legends[0]["channel"] == "B08-B04"
    assert legends[0]["vmin"] < legends[0]["vmax"]
    assert len(web.get(tile("field", place, channel="B08-B04")).content) > 1000


def test_a_tile_of_an_expression_shows_what_numpy_gives(web, field, cube, place):
    answer = web.get(
        tile("field", place, time=2, channel="B08 ** 2 - B04 / (B02 + 0.5)", vmin=-0.5, vmax=0.5)
    )
    nir, red, blue = (band[2] for band in bands(field, "B08", "B04", "B02"))
    wanted, sure = sampled((nir**2 - red / (blue + 0.5)).astype(np.float32), cube.grid, place)
    got = pixels(answer)[sure].astype(int)
    expected = coloured(wanted, "viridis", -0.5, 0.5)[sure]
    assert (got[:, 3] > 0).sum() > 500
    # Rounding may move a value to the next of 255 colours.
    assert (np.abs(got - expected).max(axis=1) > 0).mean() < 1e-3


def test_a_composite_of_expressions(web, place):
    style = {"time": 1, "vmin": 0, "vmax": 1}
    own = web.get(tile("field", place, rgb=f"{NDVI},B03/B08,B04*2", **style))
    index = web.get(tile("field", place, rgb="NDVI,B03/B08,2*B04", **style))
    assert np.array_equal(pixels(own), pixels(index))


@pytest.mark.parametrize("masked", [0, 1])
def test_the_series_of_an_expression(web, field, cube, masked):
    row, column = 17, 31
    west, south, east, north = catalogue_bounds(web)
    lon = west + (east - west) * (column + 0.5) / 50
    lat = north - (north - south) * (row + 0.5) / 60
    row, column = reading.locate(cube, lon, lat)
    wanted = {"NDVI - B03": None, NDVI: None, "NDVI": None}
    query = {"lon": lon, "lat": lat, "channels": ",".join(wanted), "masked": masked}
    found = web.get("/api/cubes/field/series", params=query).json()
    assert list(found["channels"]) == list(wanted)
    nir, red, green = (band[:, row, column] for band in bands(field, "B08", "B04", "B03"))
    ndvi = (nir - red) / (nir + red)
    gone = (field["valid"].values[:, row, column] != 1) & bool(masked)
    for name, values in (("NDVI - B03", ndvi - green), (NDVI, ndvi), ("NDVI", ndvi)):
        got = np.array(found["channels"][name], float)
        np.testing.assert_allclose(got, np.where(gone, np.nan, values), rtol=1e-5, atol=1e-6)
    table = web.get("/api/cubes/field/series", params={**query, "format": "csv"}).text
    assert table.splitlines()[0].endswith(f"NDVI - B03,{NDVI},NDVI")


def catalogue_bounds(web: httpx.Client) -> list[float]:
    return web.get("/api/cubes/field").json()["bounds"]


def test_the_mean_of_an_expression_over_an_area(web, field):
    west, south, east, north = catalogue_bounds(web)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    area = {"type": "Polygon", "coordinates": [ring]}
    body = {"type": "Feature", "properties": {}, "geometry": area}
    answers = [
        web.post(
            "/api/cubes/field/series",
            params={"channels": name, "masked": 0},
            content=json.dumps(body),
            headers=JSON,
        ).json()["channels"][name]
        for name in ("NDVI", NDVI)
    ]
    assert answers[0] == answers[1]
    assert np.isfinite(np.array(answers[0]["mean"], float)).all()


# --- what nobody should send

NASTY = (
    "__import__('os').system('true')", "().__class__.__bases__[0]", "B08.__class__", "lambda: 1",
    "[B08 for B08 in B04]", "B08 if B04 else B03", "B08 == B04", "B08; B04", "B08\nB04", "B08 B04",
    "(" * 200 + "B08" + ")" * 200, "(" * 400, "B08" + "+B08" * 200, "9**9**9**9", "B08**99999",
    "1e999*B08", "B08/0", "B08**B04", "exp(B08)", "B08 \u2212 B04", "\uff2208", "B08\u200b", "NaN",
    "inf*B08", "0x10*B08", "1_000*B08", "B08 # no", "'B08'", "%s", "{B08}", "B08,B04", "1", "1+1",
    "..", "*", "<script>alert(1)</script>", "B08" * 200, "\u202e", "\U0001f600", "--" * 100 + "B08",
)  # fmt: skip
"""Texts that are no expression of bands, or not one of a size that anybody needs."""


@pytest.mark.parametrize("expression", NASTY, ids=range(len(NASTY)))
def test_nasty_expressions_get_a_sentence_everywhere(web, place, expression):
    lon, lat = np.reshape(catalogue_bounds(web), (2, 2)).mean(axis=0)
    answers = [
        checked(web, expression),
        web.get(tile("field", place, channel=expression)),
        web.get("/api/cubes/field/legend", params={"channel": expression}),
    ]
    if "," not in expression:  # there it separates channels
        query = {"lon": lon, "lat": lat, "channels": expression}
        answers.append(web.get("/api/cubes/field/series", params=query))
    for answer in answers:
        assert answer.status_code == 400, f"{answer.url}: {answer.text}"
        assert answer.headers["content-type"].startswith("application/json")
        assert 10 < len(answer.json()["error"]) < 500
        assert "Traceback" not in answer.text


WORDS = st.sampled_from([*BANDS, "NDVI", "N", "L", "(", ")", "+", "-", "*", "/", "**", "2", "0.5"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=40)))
def test_any_text_is_an_expression_or_a_sentence(web, text):
    answer = checked(web, text)
    found = answer.json()
    if answer.status_code == 200:
        assert set(found["bands"]) == set(indices.find(found["expression"]).bands)
    else:
        assert answer.status_code == 400
        assert found["error"]
        if "position" in found:
            assert 0 <= found["position"] <= len(text)


def test_methods(web):
    for url in ("/api/indices", "/api/indices/check?expression=B08"):
        head, got = web.head(url), web.get(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == got.headers["etag"]
        assert web.post(url, content="{}", headers=JSON).status_code == 405
