"""Time in a real browser: kept pixels, area, usual year, cursor, calendar, table, line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import xarray as xr
from browser import PATIENCE, Watched, watched
from playwright.sync_api import Browser, expect
from pyproj import Transformer
from test_browser import date, middle, pixel, query, until

from app import style
from deepfeatures import catalogue, contract, reading, seasons
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser


def test_through_time(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    with watched(chromium, address, shots, viewport={"width": 1440, "height": 900}) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        kept = pins(seen, ws)
        own_axes(seen, kept)
        area(seen, ws)
        usual(seen, kept["Pixel"])
        cursor(seen)
        calendar(seen)
        table(seen, ws, kept)
        line(seen, ws)
        assert seen.errors == []


def press(seen: Watched, name: str) -> None:
    seen.page.get_by_role("button", name=name, exact=True).click()


def rows(found: dict[str, list[Any]], **wanted: str) -> list[int]:
    """Give the rows of a source that say something."""
    every = range(len(found["channel"]))
    return [i for i in every if all(found[key][i] == value for key, value in wanted.items())]


def ndvi(cube: xr.Dataset) -> np.ndarray:
    red, infrared = (cube["reflectance"].sel(band=band).values for band in ("B04", "B08"))
    return np.asarray((infrared - red) / (infrared + red))


def milliseconds(times: Any) -> list[float]:
    return list(np.asarray(times).astype("M8[s]").astype("M8[ms]").astype(float))


def pins(seen: Watched, ws: Workspace) -> dict[str, dict[str, xr.Dataset]]:
    """Keep two pixels, look at a third one, and compare all of them with the store."""
    page, kept = seen.page, {}
    x, y = middle(seen)
    for place, (dx, dy) in {"A": (210, 130), "B": (-150, 240), "Pixel": (60, -200)}.items():
        before = page.url
        page.mouse.click(*seen.place("map", x + dx, y + dy))
        page.wait_for_function("(before) => location.href != before", arg=before)
        kept[place] = {name: pixel(seen, ws, name) for name in ("demo", "demo-features")}
        if place != "Pixel":
            press(seen, "Pin")
            expect(page.get_by_role("button", name=f"Remove pixel {place}")).to_be_visible()
    until(seen, lambda: {*seen.data("series-indices-dots")["place"]} == {*kept})
    expect(page.get_by_text("dates usable")).to_be_visible()
    indices, features = (seen.data(f"series-{name}-dots") for name in ("indices", "features"))
    for place, cubes in kept.items():
        cube = cubes["demo"]
        values = ndvi(cube)
        at = rows(indices, place=place, channel="NDVI")
        there = np.isfinite(values)
        assert [indices["time"][i] for i in at] == milliseconds(cube["time"].values[there])
        np.testing.assert_allclose([indices["value"][i] for i in at], values[there], atol=1e-5)
        cube = cubes["demo-features"]
        values = cube["features"].sel(feature="F02").values
        found = [features["value"][i] for i in rows(features, place=place, channel="F02")]
        np.testing.assert_allclose(found, values[np.isfinite(values)], rtol=1e-5, atol=1e-6)
    assert seen.data("pins")["id"] == ["A", "B"]
    seen.shot("1-pins")
    return kept


RANGES = """() => { const figure = Bokeh.documents[0].get_model_by_name("series-indices")
  const ends = (range) => [range.start, range.end]
  const shown = figure.right.filter((one) => one.type == "LinearAxis" && one.visible)
  return {first: ends(figure.y_range), second: shown.map((one) => one.y_range_name)
    .map((name) => figure.extra_y_ranges[name] ?? figure.extra_y_ranges.get(name)).map(ends),
    labels: shown.map((one) => one.axis_label)} }"""


def own_axes(seen: Watched, kept: dict[str, dict[str, xr.Dataset]]) -> None:
    """A channel of another range gets a second axis with its own range, and gives it back."""
    page = seen.page
    field = page.get_by_role("combobox", name="Indices and bands")
    field.fill("CIRE")
    field.press("Enter")
    until(seen, lambda: {*seen.data("series-indices-dots")["place"]} == {*kept}
          and "CIRE" in seen.data("series-indices-dots")["channel"])  # fmt: skip
    together = page.evaluate(RANGES)
    assert together["second"] == []
    press(seen, "Own axes")
    until(seen, lambda: page.evaluate(RANGES)["labels"] == ["CIRE"])
    dots = {end: seen.data(f"series-indices-dots{end}") for end in ("", "-1")}
    for place, cubes in kept.items():
        at = rows(dots["-1"], place=place, channel="CIRE")
        infrared, edge = (cubes["demo"]["reflectance"].sel(band=b).values for b in ("B08", "B05"))
        values = infrared / edge - 1
        found = [dots["-1"]["value"][i] for i in at]
        np.testing.assert_allclose(found, values[np.isfinite(values)], rtol=1e-4, atol=1e-5)
    assert {*dots["-1"]["channel"]} == {"CIRE"}
    assert "CIRE" not in dots[""]["channel"]
    apart = page.evaluate(RANGES)
    for ends, one in ((apart["first"], dots[""]), (apart["second"][0], dots["-1"])):
        limits = []
        for channel in {*one["channel"]}:
            clear = [one["value"][i] for i in rows(one, channel=channel, state="usable")]
            air = 0.08 * (max(clear) - min(clear))
            limits.append((min(clear) - air, max(clear) + air))
        low, high = zip(*limits, strict=True)
        assert ends == pytest.approx([min(low), max(high)], rel=1e-5)
    assert apart["first"][1] < together["first"][1], "the first axis gains room"
    seen.shot("1-own-axes")
    press(seen, "Own axes")
    until(seen, lambda: page.evaluate(RANGES) == together)
    page.get_by_role("button", name="Remove CIRE").click()
    until(seen, lambda: "CIRE" not in seen.data("series-indices-dots")["channel"])
    label = page.locator(".bk-item .bk-label", has_text="F01")
    expect(label).to_have_css("font-size", "11px")


def area(seen: Watched, ws: Workspace) -> None:
    """Draw a box, and compare its mean and its band with the store."""
    page = seen.page
    page.get_by_role("button", name="Box", exact=True).first.click()  # on the map
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').toolbar.tools"
        ".some((tool) => tool.type == 'BoxSelectTool' && tool.active)"
    )
    x, y = middle(seen)
    seen.drag([seen.place("map", x - 300, y - 250), seen.place("map", x + 200, y + 150)])
    press(seen, "Area")
    until(seen, lambda: "area" in seen.data("series-indices-bands")["kind"])
    expect(page.get_by_text("dates usable")).to_be_visible()
    drawn = seen.data("map-area")
    ring = [style.to_lonlat(*place) for place in zip(drawn["xs"][0], drawn["ys"][0], strict=True)]
    cube = catalogue.open(ws, "demo").compute()
    xs, ys = np.meshgrid(cube["x"], cube["y"])
    lon, lat = Transformer.from_crs(contract.crs(cube), 4326, always_xy=True).transform(xs, ys)
    inside = shapely.contains_xy(shapely.Polygon(ring), lon, lat)
    usable = (cube["valid"].values[:, inside] == 1) & np.isfinite(ndvi(cube)[:, inside])
    values = np.where(usable, ndvi(cube)[:, inside], np.nan)
    some = usable.any(axis=1)
    dots = seen.data("series-indices-dots")
    found = [dots["value"][i] for i in rows(dots, place="Area", channel="NDVI")]
    np.testing.assert_allclose(found, np.nanmean(values[some], axis=1), atol=1e-5)
    clear = 2 * usable.sum(axis=1) >= inside.sum()
    bands = seen.data("series-indices-bands")
    (at,) = rows(bands, kind="area", channel="NDVI")
    low, high = np.split(np.asarray(list(bands["ys"][at])), 2)
    wanted = np.nanpercentile(values[clear], (5, 95), axis=1)
    np.testing.assert_allclose(low, wanted[0], atol=1e-5)
    np.testing.assert_allclose(high[::-1], wanted[1], atol=1e-5)
    seen.shot("2-area")


def usual(seen: Watched, kept: dict[str, xr.Dataset]) -> None:
    press(seen, "Usual year")
    until(seen, lambda: "usual" in seen.data("series-indices-bands")["kind"])
    bands = seen.data("series-indices-bands")
    cube = kept["demo"]
    year = seasons.usual_year(cube["time"].values, ndvi(cube), cube["valid"].values == 1)
    at = rows(bands, kind="usual", channel="NDVI")
    xs = np.concatenate([np.split(np.asarray(list(bands["xs"][i])), 2)[0] for i in at])
    ys = np.concatenate([np.split(np.asarray(list(bands["ys"][i])), 2)[0] for i in at])
    days = np.floor(seasons.day_of_year(xs.astype("M8[ms]"))).astype(int)
    np.testing.assert_allclose(ys, year.low[days], atol=1e-4)
    assert days.size > 200
    seen.shot("3-usual-year")


NOW = "Bokeh.documents[0].get_model_by_name('series-indices-now').location"


def cursor(seen: Watched) -> None:
    """Drag the line of the shown date, then step with an arrow key: chart and map agree."""
    page, before = seen.page, date(seen)
    days = sorted(set(seen.data("series-indices-dots")["time"]))
    start, goal = page.evaluate(NOW), days[len(days) // 5]
    low, high = (seen.page.evaluate(
        "() => { const r = Bokeh.documents[0].get_model_by_name('series-indices').y_range;"
        " return [r.start, r.end] }"
    ))  # fmt: skip
    middle_of = (low + high) / 2
    seen.drag(
        [
            seen.place("series-indices", start, middle_of),
            seen.place("series-indices", goal, middle_of),
        ]
    )
    page.wait_for_function(f"!location.search.includes({before!r})")
    day = str(np.datetime64(int(goal), "ms").astype("M8[D]"))
    until(seen, lambda: query(seen)["date"] == day)
    until(seen, lambda: any(f"time={day}" in url for url in seen.tiles))
    page.locator("body").press("ArrowRight")
    until(seen, lambda: query(seen)["date"] > day)
    shown = np.datetime64(query(seen)["date"], "ms").astype(float)
    page.wait_for_function(f"{NOW} == {shown}")


def calendar(seen: Watched) -> None:
    press(seen, "Calendar")
    seen.page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('calendar')?.get_column('date').length > 0"
    )
    found = seen.data("calendar")
    at = len(found["date"]) // 3
    seen.page.wait_for_timeout(500)  # until it is laid out
    x = (found["left"][at] + found["right"][at]) / 2
    seen.page.mouse.move(*seen.place("calendar-plot", x, found["year"][at]))
    box = seen.page.locator(".bk-tooltip-row-value:visible")
    expect(box).to_have_count(2)
    day, share = box.all_inner_texts()
    assert day == found["date"][at]
    assert abs(int(share.removesuffix(" %")) - 100 * found["share"][at]) <= 0.5 + 1e-6
    seen.shot("4-calendar-box")
    seen.page.mouse.click(*seen.place("calendar-plot", x, found["year"][at]))
    until(seen, lambda: query(seen)["date"] == found["date"][at])
    assert all(0 <= share <= 1 for share in found["share"])
    seen.shot("4-calendar")
    press(seen, "Calendar")


def table(seen: Watched, ws: Workspace, kept: dict[str, dict[str, xr.Dataset]]) -> None:
    with seen.page.expect_download() as download:
        press(seen, "CSV")
    found = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["place"] for row in found} == {"A", "B", "Pixel", "area"}
    cube = kept["B"]["demo"]
    values = [row["value"] for row in found if row["place"] == "B" and row["channel"] == "NDVI"]
    numbers = np.array([float(value or "nan") for value in values])
    np.testing.assert_allclose(numbers, ndvi(cube), atol=1e-5)
    (point,) = {row["geometry"] for row in found if row["place"] == "B"}
    pin = [column[1] for column in (seen.data("pins")[key] for key in ("x", "y"))]
    at = shapely.from_wkt(point)
    np.testing.assert_allclose(style.to_mercator(at.x, at.y), pin, atol=0.1)
    assert "NDVI_p95" in {row["channel"] for row in found if row["place"] == "area"}


def line(seen: Watched, ws: Workspace) -> None:
    """Draw a line and compare what is shown along it with the store."""
    page = seen.page
    press(seen, "Along a line")
    press(seen, "Draw a line")
    page.wait_for_timeout(300)
    x, y = middle(seen)
    for dx, dy in ((-350, 300), (100, -100), (300, 250)):
        page.mouse.click(*seen.place("map", x + dx, y + dy))
        page.wait_for_timeout(400)  # two clicks in a row are one double click
    press(seen, "Finish")
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('transect')?.get_column('x').length > 0"
    )
    drawn = seen.data("line")
    corners = [style.to_lonlat(*place) for place in zip(drawn["x"], drawn["y"], strict=True)]
    cube = reading.open(catalogue.url(ws, "demo"))
    wanted = reading.transect(cube, corners, "NDVI")
    some = np.isfinite(wanted.values).any(axis=1)
    found = seen.data("transect")
    assert found["time"] == milliseconds(wanted.times[some])
    shown = page.evaluate(
        "() => Bokeh.documents[0].get_model_by_name('transect').get_column('image')"
        ".map((one) => [...one].map((v) => isNaN(v) ? null : v))"
    )
    values = np.array(shown, float)
    np.testing.assert_allclose(values, wanted.values[some], atol=1e-5)
    page.wait_for_timeout(500)
    seen.shot("5-line")
    before, goal = date(seen), found["time"][len(found["time"]) // 4]
    page.mouse.click(*seen.place("transect-plot", goal, 400))
    until(seen, lambda: query(seen)["date"] != before)
    assert query(seen)["date"] == str(np.datetime64(int(goal), "ms").astype("M8[D]"))
