"""The whole way in a real browser: see, step, click, lasso, draw, embed, export."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import xarray as xr
from browser import PATIENCE, Watched, watched
from conftest import ROOT
from playwright.sync_api import Browser, expect
from pyproj import Transformer

from app import style
from deepfeatures import catalogue, contract, jobs
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

PHONE = "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/130.0 Mobile Safari/537.36"
SHOTS = os.environ.get("DEEPFEATURES_SCREENSHOTS", "")


def test_the_whole_way(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    size = {"width": 1400, "height": 900}
    with watched(chromium, address, shots, viewport=size) as seen:
        seen.page.set_default_timeout(PATIENCE)
        opens(seen)
        steps(seen)
        clicks(seen, ws)
        lassoes(seen)
        made = embeds(seen, ws)
        exports(seen, ws, made)
        assert seen.errors == []
        assert seen.foreign == []


def test_phone(chromium: Browser, address: str, shots: Path) -> None:
    size = {"width": 390, "height": 844}
    phone = {"viewport": size, "has_touch": True, "is_mobile": True, "user_agent": PHONE}
    with watched(chromium, address, shots, **phone) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        wide = seen.page.evaluate("document.documentElement.scrollWidth")
        at = seen.place("map", *middle(seen))
        before = seen.data("series-indices-dots")["value"]
        seen.page.touchscreen.tap(at[0] + 60, at[1] + 60)
        wait_for_change(seen, "series-indices-dots", before)
        seen.shot("phone")
        assert wide <= size["width"]
        assert at[0] < size["width"]
        assert at[1] < size["height"]
        assert seen.errors == []


def opens(seen: Watched) -> None:
    seen.open()
    seen.page.wait_for_function(f"({TILES_DRAWN})()")
    expect(seen.page.get_by_text("Simulated", exact=True)).to_be_visible()
    assert len(seen.tiles) >= 1
    assert seen.body(seen.tiles[0]).startswith(b"\x89PNG")
    seen.shot("1-open")
    if SHOTS:
        seen.page.screenshot(path=ROOT / "docs" / "images" / "page.png")


def steps(seen: Watched) -> None:
    day, picture, tiles = date(seen), seen.map_shot(), list(seen.tiles)
    seen.page.get_by_role("button", name="Next date").click()
    wait_for_date(seen, day)
    after = date(seen)
    assert after > day
    until(seen, lambda: seen.map_shot() != picture)
    pairs = [
        (url, url.replace(after, day))
        for url in seen.tiles
        if f"time={after}" in url and url.replace(after, day) in tiles
    ]
    assert pairs
    assert seen.body(pairs[0][0]) != seen.body(pairs[0][1])
    seen.page.locator("body").press("ArrowLeft")
    wait_for_date(seen, after)
    assert date(seen) == day
    until(seen, lambda: seen.map_shot() == picture)
    seen.shot("2-steps")


def clicks(seen: Watched, ws: Workspace) -> None:
    before = seen.data("series-indices-dots")["value"]
    x, y = middle(seen)
    seen.page.mouse.click(*seen.place("map", x + 210, y + 130))
    wait_for_change(seen, "series-indices-dots", before)
    expect(seen.page.get_by_text("dates usable")).to_be_visible()
    bands, features = pixel(seen, ws, "demo"), pixel(seen, ws, "demo-features")
    red, infrared = (bands["reflectance"].sel(band=band) for band in ("B04", "B08"))
    ndvi = ((infrared - red) / (infrared + red)).values
    same(seen.data("series-indices-dots"), "NDVI", ndvi, bands)
    for name in features["feature"].values:
        values = features["features"].sel(feature=name).values
        same(seen.data("series-features-dots"), str(name), values, features)
    seen.shot("3-click")


def same(dots: dict[str, list], channel: str, values: np.ndarray, cube: xr.Dataset) -> None:
    """Compare a channel on the page with the store: dates, values, and what is usable."""
    rows = [i for i, name in enumerate(dots["channel"]) if name == channel]
    there = np.isfinite(values)
    times = cube["time"].values.astype("datetime64[s]").astype("datetime64[ms]").astype(float)
    np.testing.assert_array_equal([dots["time"][i] for i in rows], times[there])
    found = [dots["value"][i] for i in rows]
    np.testing.assert_allclose(found, values[there], rtol=1e-5, atol=1e-6)
    usable = np.where(cube["valid"].values[there] == 1, "usable", "not usable")
    assert [dots["state"][i] for i in rows] == usable.tolist()


def lassoes(seen: Watched) -> None:
    picture = seen.map_shot()
    at = seen.page.evaluate(
        "(name) => { const f = Bokeh.documents[0].get_model_by_name(name);"
        " return [f.x_range.start, f.x_range.end, f.y_range.start, f.y_range.end] }",
        "latent",
    )
    x0, x1, y0, y1 = at
    ring = [(0.08, 0.1), (0.5, 0.1), (0.5, 0.92), (0.08, 0.92), (0.08, 0.2)]
    corners = [seen.place("latent", x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in ring]
    with seen.page.expect_response(lambda response: "selection=" in response.url):
        seen.drag(corners)
    seen.page.wait_for_function(f"({TILES_DRAWN})()")
    expect(seen.page.get_by_text("the map shows them in pink")).to_be_visible()
    until(seen, lambda: seen.map_shot() != picture)
    seen.shot("4-lasso")
    seen.page.get_by_role("button", name="Clear", exact=True).click()
    until(seen, lambda: seen.map_shot() == picture)


def embeds(seen: Watched, ws: Workspace) -> str:
    page = seen.page
    known = set(catalogue.names(ws))
    page.get_by_role("button", name="Draw a box").click()
    expect(page.get_by_text("Drag a box on the map.")).to_be_visible()
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').toolbar.tools"
        ".some((tool) => tool.type == 'BoxSelectTool' && tool.active)"
    )
    x, y = middle(seen)
    seen.drag([seen.place("map", x - 420, y - 390), seen.place("map", x + 320, y + 450)])
    expect(page.get_by_text("dates: about")).to_be_visible()
    seen.shot("5-area")
    before = seen.data("series-indices-dots")["value"]
    page.get_by_role("button", name="Compute features").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.mouse.click(*seen.place("map", x - 150, y + 240))
    wait_for_change(seen, "series-indices-dots", before)
    (job,) = jobs.listing(ws)
    assert job["state"] in ("queued", "running"), "the page must answer while the job runs"
    seen.shot("6-job")
    with page.expect_response(lambda response: f"/tiles/{job['out']}/" in response.url):
        expect(page.get_by_text(f"{job['out']} is on the map")).to_be_visible()
    assert jobs.get(ws, job["id"])["state"] == "done"
    assert set(catalogue.names(ws)) - known == {job["out"]}
    page.wait_for_function(f"({TILES_DRAWN})()")
    page.wait_for_timeout(1500)
    seen.shot("7-layer")
    return str(job["out"])


def exports(seen: Watched, ws: Workspace, made: str) -> None:
    page = seen.page
    page.get_by_role("button", name="Export", exact=True).click()
    choose(seen, "Cube to export", made)
    link = page.locator(f"a[href*='/api/cubes/{made}/export']")
    expect(page.get_by_text("before compression.")).to_be_visible()
    expect(link).not_to_have_attribute("aria-disabled", "true")
    link.scroll_into_view_if_needed()
    seen.shot("8-export")
    with page.expect_download() as download:
        link.click()
    path = seen.shots / "export.nc"
    download.value.save_as(path)
    with xr.open_dataset(path) as found:
        kept = catalogue.open(ws, made).sel(x=found["x"], y=found["y"], time=found["time"])
        assert found.sizes == kept.sizes
        assert found["features"].attrs["units"] == "1"
        np.testing.assert_array_equal(found["features"].values, kept["features"].values)
        np.testing.assert_array_equal(found["valid"].values, kept["valid"].values)
        assert np.isfinite(found["features"].values).any()


def choose(seen: Watched, label: str, option: str) -> None:
    seen.page.get_by_role("combobox", name=label).click()
    seen.page.get_by_role("menuitem", name=option, exact=True).click()


TILES_DRAWN = """() => Bokeh.documents[0].get_model_by_name("map").renderers
  .filter((one) => one.type == "TileRenderer")
  .every(({name, tile_source}) => (name != "front" || tile_source.tiles.size > 0) &&
    [...tile_source.tiles.values()].every((t) => t.loaded || t.finished))"""


def middle(seen: Watched) -> tuple[float, float]:
    at = seen.page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        " return [f.x_range.start, f.x_range.end, f.y_range.start, f.y_range.end] }"
    )
    return (at[0] + at[1]) / 2, (at[2] + at[3]) / 2


def query(seen: Watched) -> dict[str, str]:
    """Give what the address of the page says."""
    return {key: one[0].strip('"') for key, one in parse_qs(urlsplit(seen.page.url).query).items()}


def date(seen: Watched) -> str:
    seen.page.wait_for_function("location.search.includes('date=')")  # written once it is loaded
    return query(seen)["date"]


def wait_for_date(seen: Watched, before: str) -> None:
    seen.page.wait_for_function(f"!location.search.includes({before!r})")
    seen.page.wait_for_timeout(200)
    seen.page.wait_for_function(f"({TILES_DRAWN})()")


def until(seen: Watched, holds: Callable[[], bool]) -> None:
    """Look again until something holds."""
    for _ in range(PATIENCE // 300):
        if holds():
            return
        seen.page.wait_for_timeout(200)
    pytest.fail("what was waited for did not happen")


def wait_for_change(seen: Watched, name: str, before: list[float]) -> None:
    seen.page.wait_for_function(
        "([name, before]) => { const {data} = Bokeh.documents[0].get_model_by_name(name);"
        " const found = [...(data instanceof Map ? data.get('value') : data.value)];"
        " return found.length > 0 && JSON.stringify(found) != JSON.stringify(before) }",
        arg=[name, before],
    )


def pixel(seen: Watched, ws: Workspace, name: str) -> xr.Dataset:
    """Give the clicked pixel of a cube through xarray."""
    cube = catalogue.open(ws, name)
    lon, lat = (float(query(seen)[key]) for key in ("lon", "lat"))
    x, y = Transformer.from_crs(4326, str(contract.crs(cube)), always_xy=True).transform(lon, lat)
    assert style.to_lonlat(*style.to_mercator(lon, lat)) == pytest.approx((lon, lat))
    return cube.sel(x=x, y=y, method="nearest").compute()
