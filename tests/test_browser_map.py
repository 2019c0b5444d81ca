"""The map in a real browser: value under the pointer, swipe, opacity, play, range, keys, places."""

from __future__ import annotations

import io
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browser import PATIENCE, Watched, watched
from PIL import Image
from playwright.sync_api import Browser, Route, expect
from pyproj import Transformer
from test_browser import TILES_DRAWN, date, middle, until, wait_for_date

from app import style
from deepfeatures import catalogue, contract, places
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

SCALES = """() => { const f = Bokeh.documents[0].get_model_by_name("map")
  const {width, height} = Bokeh.index.find_one(f).frame.bbox
  const {x_range: x, y_range: y} = f
  return [(x.end - x.start) / width, (y.end - y.start) / height] }"""

CUTS = """() => Object.fromEntries(Bokeh.documents[0].get_model_by_name("map").renderers
  .filter((one) => one.type == "TileRenderer" && one.name != null)
  .map((one) => [one.name, one._cut ?? null]))"""


ALL_FAILED = """() => {
  const {tiles} = Bokeh.documents[0].get_model_by_name("front").tile_source
  return tiles.size > 0 && [...tiles.values()].every((t) => t.finished && !t.loaded) }"""


def test_the_map(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    size = {"width": 1440, "height": 900}
    with watched(chromium, address, shots, viewport=size) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open("?show=NDVI")
        seen.page.wait_for_function(f"({TILES_DRAWN})()")
        scale(seen)
        hovers(seen, ws)
        ranges(seen)
        keys(seen)
        swipes(seen)
        fades(seen)
        plays(seen)
        keeps(seen, ws)
        assert seen.errors == []
        asks_again(seen)
        assert all("503" in error for error in seen.errors)


def scale(seen: Watched) -> None:
    across, up = seen.page.evaluate(SCALES)
    assert across == pytest.approx(up, rel=1e-3)
    seen.page.set_viewport_size({"width": 1300, "height": 760})
    until(seen, lambda: bool(np.ptp(seen.page.evaluate(SCALES)) < 1e-3 * across))
    seen.page.set_viewport_size({"width": 1440, "height": 900})
    until(seen, lambda: bool(np.ptp(seen.page.evaluate(SCALES)) < 1e-3 * across))
    bar = seen.page.locator(".scale")
    words = bar.get_attribute("aria-label") or ""
    metres = float(words.split()[4]) * (1000 if " km " in words else 1)
    width = bar.locator("i").bounding_box()["width"]  # type: ignore[index]
    _, lat = style.to_lonlat(*middle(seen))
    ground = seen.page.evaluate(SCALES)[0] * np.cos(np.radians(lat))
    assert width * ground == pytest.approx(metres, rel=0.03)


def hovers(seen: Watched, ws: Workspace) -> None:
    x, y = middle(seen)
    x, y = x + 33, y + 47
    with seen.page.expect_response(lambda response: "/value?" in response.url):
        seen.page.mouse.move(*seen.place("map", x, y))
    line = seen.page.locator(".reading")
    expect(line).to_contain_text("NDVI")
    cube = catalogue.open(ws, "demo").sel(time=date(seen)).squeeze("time")
    turn = Transformer.from_crs(3857, str(contract.crs(cube)), always_xy=True)
    east, north = turn.transform(x, y)
    pixel = cube["reflectance"].sel(x=east, y=north, method="nearest")
    red, infrared = (float(pixel.sel(band=band)) for band in ("B04", "B08"))
    shown = float(line.inner_text().split()[1])
    assert shown == pytest.approx((infrared - red) / (infrared + red), abs=2e-3)


def ranges(seen: Watched) -> None:
    page = seen.page
    page.get_by_role("button", name="Histogram").click()
    expect(page.get_by_text("of the view usable")).to_be_visible()
    before = {lowest(url) for url in seen.tiles}  # tiles asked for earlier may still be coming
    with page.expect_response(
        lambda one: one.ok and "channel=NDVI" in one.url and lowest(one.url) not in before
    ):
        page.get_by_role("button", name="2-98 % of the view").click()
    page.wait_for_function(f"({TILES_DRAWN})()")
    seen.shot("1-range")
    page.get_by_role("button", name="Histogram").click()


def lowest(url: str) -> str | None:
    """Give the lower end of the colours of a tile."""
    return parse_qs(urlsplit(url).query).get("vmin", [None])[0]


def keys(seen: Watched) -> None:
    body, day = seen.page.locator("body"), date(seen)
    seen.page.get_by_role("button", name="Previous date").focus()
    seen.page.keyboard.press("ArrowRight")
    wait_for_date(seen, day)
    assert date(seen) > day
    body.press("]")
    seen.page.wait_for_function("!location.search.includes('show=NDVI')")
    body.press("[")
    seen.page.wait_for_function("location.search.includes('show=NDVI')")
    body.press("?")
    expect(seen.page.get_by_text("Left and right: dates.")).to_be_visible()
    body.press("?")
    expect(seen.page.get_by_text("Left and right: dates.")).not_to_be_visible()
    seen.page.wait_for_function(f"({TILES_DRAWN})()")


def swipes(seen: Watched) -> None:
    page = seen.page
    before = seen.map_shot()
    with page.expect_response(lambda response: "/tiles/demo-features/" in response.url):
        page.locator("body").press("c")
    bar = page.get_by_role("slider", name="Line between two pictures")
    expect(bar).to_be_visible()
    page.wait_for_function(f"({TILES_DRAWN})()")
    until(seen, lambda: seen.map_shot() != before)
    expect(page.locator(".side.right")).to_contain_text("demo-features")
    bar.focus()
    page.keyboard.press("ArrowRight")
    expect(bar).to_have_attribute("aria-valuenow", "52")
    at = bar.bounding_box()
    assert at is not None
    place = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
    seen.drag([place, (place[0] - 120, place[1])])
    cuts = page.evaluate(CUTS)
    assert cuts["front"][1] == cuts["other"][0] < 0.5
    seen.shot("2-swipe")
    page.locator("body").press("c")
    expect(bar).not_to_be_visible()
    until(seen, lambda: page.evaluate(CUTS)["front"] is None)
    until(seen, lambda: seen.map_shot() == before)


def fades(seen: Watched) -> None:
    before = seen.map_shot()
    slider = seen.page.get_by_role("slider", name="Opacity")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    until(seen, lambda: seen.map_shot() != before)
    alpha = "Bokeh.documents[0].get_model_by_name('front').alpha"
    seen.page.wait_for_function(f"Math.abs({alpha} - 0.5) < 1e-6")
    slider.press("End")
    seen.page.wait_for_function(f"{alpha} == 1")
    until(seen, lambda: seen.map_shot() == before)


def asks_again(seen: Watched) -> None:
    """Tiles that a busy server refuses come later, some times; the old picture stays so long."""
    page = seen.page
    asked: dict[str, list[tuple[str, float]]] = {}
    waits = {date(seen): ""}
    coming = ["2", "30", "0"]  # seconds that the server wants for the dates as they come

    def answer(route: Route) -> None:
        day = parse_qs(urlsplit(route.request.url).query)["time"][0]
        asked.setdefault(day, []).append((route.request.url, time.monotonic()))
        if day not in waits:
            waits[day] = coming.pop(0)
        if waits[day]:
            route.fulfill(status=503, headers={"Retry-After": waits[day]})
        else:
            route.continue_()

    def follow() -> str:
        before = date(seen)
        following.click()
        page.wait_for_function(f"!location.search.includes({before!r})")
        until(seen, lambda: date(seen) in asked)
        return date(seen)

    page.route("**/tiles/demo/**", answer)
    following = page.get_by_role("button", name="Next date")
    following.hover()
    before = seen.map_shot()
    day = follow()
    assert changed(before, seen.map_shot()) < 0.1, "the last picture stays"
    waits[day] = ""
    page.wait_for_function(f"({TILES_DRAWN})()")
    until(seen, lambda: seen.map_shot() != before)
    first = asked[day][0][0]
    times = [at for url, at in asked[day] if url == first]
    assert times[1] - times[0] > 1.9
    left, tried = follow(), follow()
    page.wait_for_function(ALL_FAILED)
    assert {*Counter(url for url, _ in asked[tried]).values()} == {5}
    assert {*Counter(url for url, _ in asked[left]).values()} == {1}, "nobody waits for it"
    page.unroute("**/tiles/demo/**")


def changed(before: bytes, after: bytes) -> float:
    """Give the share of the pixels of two pictures that differ clearly."""
    one, other = (np.asarray(Image.open(io.BytesIO(data)), np.int16) for data in (before, after))
    return float((np.abs(one - other).max(axis=-1) > 24).mean())


def plays(seen: Watched) -> None:
    page, day = seen.page, date(seen)
    page.get_by_role("button", name="Play (space)").click()
    wait_for_date(seen, day)
    page.get_by_role("button", name="Pause (space)").click()
    seen.shot("3-play")


def keeps(seen: Watched, ws: Workspace) -> None:
    page = seen.page
    kept = page.evaluate(SCALES)[0]
    page.get_by_role("button", name="Places", exact=True).click()
    expect(page.get_by_text("No place is kept yet.")).to_be_visible()
    page.get_by_label("Name of this view").fill("Whole cube")
    page.get_by_role("button", name="Save this view").click()
    expect(page.get_by_role("button", name="Go there")).to_be_visible()
    (place,) = places.listing(ws)
    assert (place.name, place.date) == ("Whole cube", date(seen))
    page.mouse.move(*seen.place("map", *middle(seen)))
    page.mouse.wheel(0, -600)
    until(seen, lambda: page.evaluate(SCALES)[0] < 0.8 * kept)
    page.get_by_role("button", name="Go there").click()
    until(seen, lambda: abs(page.evaluate(SCALES)[0] / kept - 1) < 0.01)
    seen.shot("4-places")
