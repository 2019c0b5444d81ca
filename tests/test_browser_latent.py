"""The latent space in a real browser: colours, lasso, area, years, and what features mean."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import shapely
from browser import FRAME, PATIENCE, Watched, watched
from PIL import Image
from playwright.sync_api import Browser, expect

from deepfeatures import aoi, catalogue, latent, reading, render, space
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

PICTURE = """() => { const {data} = Bokeh.documents[0].get_model_by_name('latent-image')
  const image = (data instanceof Map ? data.get('image') : data.image)[0]
  return image ? [...new Uint32Array(image.buffer ?? image)].reduce((a, b) => (a * 31 + b) >>> 0, 7)
               : 0 }"""


def test_the_latent_space(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    size = {"width": 1440, "height": 900}
    with watched(chromium, address, shots, viewport=size) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        seen.page.wait_for_function(f"({PICTURE})() != 0")
        colours(seen)
        lassoes(seen, ws)
        areas(seen, ws)
        years(seen)
        meanings(seen, ws)
        assert seen.errors == []


def colours(seen: Watched) -> None:
    page = seen.page
    seen.shot("1-density")
    page.get_by_role("button", name="Options", exact=True).click()
    for number, (choice, legend) in enumerate(
        {"Month": "Jul", "Place": "lighter to the south", "NDVI": "Mean NDVI"}.items()
    ):
        before = page.evaluate(PICTURE)
        field = page.get_by_role("combobox", name="Colour by")
        field.fill(choice)
        field.press("Enter")
        page.wait_for_function(f"({PICTURE})() != {before}")
        expect(page.get_by_text(legend).first).to_be_visible()
        seen.shot(f"2-colours-{number}")


def lassoes(seen: Watched, ws: Workspace) -> None:
    page = seen.page
    x0, x1, y0, y1 = page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('latent');"
        " return [f.x_range.start, f.x_range.end, f.y_range.start, f.y_range.end] }"
    )
    ring = [(0.2, 0.2), (0.6, 0.2), (0.6, 0.8), (0.2, 0.8), (0.2, 0.25)]
    corners = [(x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in ring]
    with page.expect_response(
        lambda answer: "selection=" in answer.url and answer.status == 200
    ) as waited:
        seen.drag([seen.place("latent", *corner) for corner in corners])
    url = waited.value.url
    marked = np.array(Image.open(io.BytesIO(seen.body(url))).convert("RGBA"))[..., 3] > 0
    cube = reading.open(catalogue.url(ws, "demo-features"), "demo-features")
    z, x, y = (int(part) for part in urlsplit(url).path.removesuffix(".png").split("/")[-3:])
    window = render.plan(cube.grid, z, x, y, cube.levels)
    t = reading.step(cube, parse_qs(urlsplit(url).query)["time"][0])
    found = reading.values(
        cube, cube.channels, slice(t, t + 1), window.rows, window.columns, level=window.level
    )
    plane = space.plane(ws, "demo-features")
    scores = latent.place(plane.axes, np.stack([one[0] for one in found.values()], axis=-1))
    lasso = shapely.Polygon(corners)
    known = shapely.contains_xy(lasso, *np.moveaxis(scores, -1, 0))
    wanted = render.gather(window, known.astype(np.uint8)) > 0
    assert wanted.any()
    # the mouse stands on whole pixels of the screen, so the edge of the lasso may differ a little
    assert (wanted != marked).mean() < 0.02
    seen.shot("3-lasso")
    page.get_by_role("button", name="Clear", exact=True).click()


def areas(seen: Watched, ws: Workspace) -> None:
    page = seen.page
    page.get_by_role("button", name="Draw a box").click()
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').toolbar.tools"
        ".some((tool) => tool.type == 'BoxSelectTool' && tool.active)"
    )
    x0, x1, y0, y1 = page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        " return [f.x_range.start, f.x_range.end, f.y_range.start, f.y_range.end] }"
    )
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    seen.drag([seen.place("map", x - 120, y - 90), seen.place("map", x - 40, y - 20)])
    page.wait_for_function(
        "() => { const {data} = Bokeh.documents[0].get_model_by_name('latent-area');"
        " return (data instanceof Map ? data.get('x') : data.x).length > 0 }"
    )
    found = seen.data("latent-area")
    day = parse_qs(urlsplit(page.url).query)["date"][0].strip('"')
    drawn = page.evaluate(
        "() => { const {data} = Bokeh.documents[0].get_model_by_name('map-area');"
        " const column = (key) => [...(data instanceof Map ? data.get(key) : data[key])];"
        " return JSON.stringify([column('xs'), column('ys')]) }"
    )
    plane = space.plane(ws, "demo-features")
    cube = reading.open(catalogue.url(ws, "demo-features"), "demo-features")
    points = space.inside(cube, area_of(json.loads(drawn)), year=day[:4])
    scores = latent.place(plane.axes, space.vectors(cube, points.codes))
    np.testing.assert_allclose(found["x"], scores[:, 0], atol=1e-5)
    np.testing.assert_allclose(found["y"], scores[:, 1], atol=1e-5)
    assert len(set(found["day"])) > 5
    seen.shot("4-area")


def area_of(columns: list) -> aoi.AOI:
    """Make an area of the corners that the map shows [m of web mercator]."""
    from app import style

    xs, ys = (np.ravel(column).tolist() for column in columns)
    corners = [style.to_lonlat(*corner) for corner in zip(xs, ys, strict=True)]
    return aoi.from_geojson(shapely.geometry.mapping(shapely.Polygon(corners)))


def years(seen: Watched) -> None:
    page = seen.page
    one = seen.data("latent-path")
    page.get_by_label("All years").check()
    page.wait_for_function(
        "(count) => { const {data} = Bokeh.documents[0].get_model_by_name('latent-path');"
        " const colors = [...(data instanceof Map ? data.get('color') : data.color)];"
        " return new Set(colors).size != count }",
        arg=len(set(one["color"])),
    )
    found = seen.data("latent-path")
    assert {day[:4] for day in one["day"]} <= {day[:4] for day in found["day"]}
    assert len(set(found["color"])) == len({day[:4] for day in found["day"]})
    seen.shot("5-years")
    page.locator("button[value='Area']").click()
    page.wait_for_function(
        "(before) => { const {data} = Bokeh.documents[0].get_model_by_name('latent-path');"
        " const now = [...(data instanceof Map ? data.get('x') : data.x)];"
        " return now.length > 0 && now[0] != before }",
        arg=found["x"][0],
    )
    expect(page.get_by_text("the mean of the area")).to_be_visible()
    seen.shot("6-mean")


def meanings(seen: Watched, ws: Workspace) -> None:
    page = seen.page
    page.get_by_role("button", name="Meaning", exact=True).click()
    expect(page.get_by_text("Click a bar")).to_be_visible()
    bars = seen.data("meaning-bars")
    features, bands = (
        reading.open(catalogue.url(ws, name), name) for name in ("demo-features", "demo")
    )
    known = space.meaning(features, bands)
    values = dict(zip(known.names, known.pearson[0], strict=True))
    assert len(bars["name"]) == 20
    np.testing.assert_allclose(bars["value"], [values[name] for name in bars["name"]], atol=1e-6)
    weakest = min(abs(value) for value in bars["value"])
    assert all(abs(values[name]) <= weakest + 1e-6 for name in set(values) - set(bars["name"]))
    seen.shot("7-meaning")
    channel = bars["name"][3]
    y = 20 - 3 - 0.5  # bars stand on the numbers from 0.5 upwards, the strongest at the top
    with page.expect_response(lambda one: f"channel={channel}&" in one.url + "&"):
        page.mouse.click(*factor_place(seen, bars["value"][3] / 2, y))
    expect(page.get_by_role("combobox", name="Show")).to_have_value(channel)
    seen.shot("8-on-the-map")


def factor_place(seen: Watched, x: float, y: float) -> tuple[float, float]:
    """Give the place on the screen of a point between the bars of the figure of the meaning."""
    at = seen.page.evaluate(FRAME, "meaning")
    right = (x - at["x0"]) / (at["x1"] - at["x0"])
    return (
        at["left"] + right * (at["right"] - at["left"]),
        at["bottom"] - y / 20 * (at["bottom"] - at["top"]),
    )
