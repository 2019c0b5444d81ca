"""Find in a real browser: similar pixels, groups, classes and change, checked against the store."""

from __future__ import annotations

import io
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browser import PATIENCE, Watched, watched
from PIL import Image
from playwright.sync_api import Browser, expect

from app import style
from deepfeatures import finding, layers, mapping, reading, render, serve
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

FEATURES = "demo-features"


def test_find(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    cube = serve.cube(ws, FEATURES)
    size = {"width": 1440, "height": 900}
    with watched(chromium, address, shots, viewport=size) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        seen.page.get_by_role("button", name="Find", exact=True).click()
        similar(seen, cube)
        groups(seen, ws, cube)
        classes(seen, cube)
        change(seen, cube)
        assert seen.errors == []
        assert seen.foreign == []


def choose_way(seen: Watched, name: str) -> None:
    """Choose one of the four ways to find."""
    button = seen.page.get_by_role("button", name=name, exact=True)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")


def press(seen: Watched, name: str) -> str:
    """Press a button that asks, and give the address of the first map tile of its answer."""
    known = {found(url) for url in seen.tiles}  # tiles asked for earlier may still be coming
    with seen.page.expect_response(
        lambda one: one.ok and found(one.url) is not None and found(one.url) not in known
    ) as answer:
        seen.page.get_by_role("button", name=name, exact=True).click()
    return str(answer.value.url)


def found(url: str) -> str | None:
    """Give the key of what was found, when a tile shows that."""
    key = re.search("/found/([^/]+)/", url)
    return key[1] if key else None


def least(url: str) -> float:
    """Give from which likeness on a tile shows what is similar."""
    return float(parse_qs(urlsplit(url).query)["least"][0])


def codes(seen: Watched, url: str) -> np.ndarray:
    """Fetch a tile as the colour codes of its palette."""
    return np.asarray(Image.open(io.BytesIO(seen.body(url))))


def expected(cube: reading.OpenCube, layer: layers.Layer, url: str) -> np.ndarray:
    """Give the codes that a tile must have."""
    query = {key: one[0] for key, one in parse_qs(urlsplit(url).query).items()}
    z, x, y = (int(n) for n in re.findall(r"/(\d+)/(\d+)/(\d+)\.png", url)[0])
    window = render.plan(cube.grid, z, x, y)
    assert window is not None
    plane = layer.values[0][window.rows, window.columns]
    if not layer.classes:
        inside = layers.within(plane, float(query.get("least", "-inf")), None)
        plane = render.codes(plane, float(query["vmin"]), float(query["vmax"])) * inside
    return render.gather(window, plane)


def point(seen: Watched) -> tuple[float, float]:
    """Give the pixel that the address of the page names."""
    query = parse_qs(urlsplit(seen.page.url).query)
    return float(query["lon"][0]), float(query["lat"][0])


def similar(seen: Watched, cube: reading.OpenCube) -> None:
    """The map shows what is similar to the clicked pixel; the threshold only filters."""
    page = seen.page
    url = press(seen, "Find similar pixels")
    layer = mapping.similar(cube, point(seen))
    np.testing.assert_array_equal(codes(seen, url), expected(cube, layer, url))
    slider = page.get_by_role("slider", name="At least")
    slider.scroll_into_view_if_needed()
    before = least(url)
    with page.expect_response(
        lambda one: one.ok and found(one.url) is not None and least(one.url) != before
    ) as answer:
        slider.press("ArrowLeft")
    lower = str(answer.value.url)
    assert found(lower) == found(url), "computed again"
    assert least(lower) < before
    np.testing.assert_array_equal(codes(seen, lower), expected(cube, layer, lower))
    hectares = float((layer.values >= np.float32(least(lower))).sum()) / 100
    expect(page.get_by_text(style.area(hectares * 1e4)).first).to_be_visible()
    seen.shot("similar")
    # the map follows the next click
    with page.expect_response(lambda one: one.ok and found(one.url) not in (None, found(url))):
        page.mouse.click(*away(seen, 0.3, 0.4))


def away(seen: Watched, right: float, up: float) -> tuple[float, float]:
    """Give a place on the screen within the map's frame."""
    x0, x1, y0, y1 = seen.page.evaluate(
        """() => { const {x_range, y_range} = Bokeh.documents[0].get_model_by_name("map")
        return [x_range.start, x_range.end, y_range.start, y_range.end] }"""
    )
    return seen.place("map", x0 + right * (x1 - x0), y0 + up * (y1 - y0))


def groups(seen: Watched, ws: Workspace, cube: reading.OpenCube) -> None:
    """Groups have areas; saved, they are a cube that the map shows."""
    page = seen.page
    choose_way(seen, "Groups")
    url = press(seen, "Make groups")
    layer = mapping.groups(cube, 5)
    np.testing.assert_array_equal(codes(seen, url), expected(cube, layer, url))
    for name, hectares in layers.areas(layer, layers.pixel_ha(cube)).items():
        if name != "no value":
            row = page.get_by_role("listitem").filter(has_text=name)
            expect(row).to_contain_text(style.area(hectares * 1e4))
    seen.shot("groups")
    page.get_by_label("Name of the layer").fill("page-groups")
    page.get_by_label("Name of the layer").press("Tab")
    page.get_by_role("button", name="Save as a layer").click()
    expect(page.get_by_role("link", name="GeoTIFF").first).to_have_attribute(
        "href", "/api/cubes/page-groups/export?format=geotiff"
    )
    saved = layers.opened(serve.cube(ws, "page-groups"))
    np.testing.assert_array_equal(saved.values, layer.values)


def classes(seen: Watched, cube: reading.OpenCube) -> None:
    """Two classes are named, labelled with a few clicks, learned and mapped."""
    page = seen.page
    choose_way(seen, "Classes")
    count = 0
    for name, up in (("north", 0.75), ("south", 0.25)):
        page.get_by_label("New class").fill(name)
        page.get_by_label("New class").press("Tab")
        page.get_by_role("button", name="Add the class").click()
        expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("0")
        for step in range(4):
            page.mouse.click(*away(seen, 0.25 + 0.12 * step, up))
            count += 1
            expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text(
                str(step + 1)
            )
            page.wait_for_timeout(350)  # two quick clicks would be one double click
    assert len(seen.data("labels")["x"]) == count
    url = press(seen, "Train and map")
    marked = [
        {
            "type": "Feature", "properties": {"class": "north" if at < 4 else "south"},
            "geometry": {"type": "Point", "coordinates": list(style.to_lonlat(x, y))},
        }
        for at, (x, y) in enumerate(
            zip(*(seen.data("labels")[axis] for axis in "xy"), strict=True)
        )
    ]  # fmt: skip
    collection = {"type": "FeatureCollection", "features": marked}
    found = finding.find(cube, "classify", {"labels": collection})
    np.testing.assert_array_equal(codes(seen, url), expected(cube, found.layers[0], url))
    accuracy = found.summary["accuracy"]
    expect(page.get_by_text(f"Accuracy {accuracy:.0%}.")).to_be_visible()
    expect(page.get_by_role("table")).to_contain_text("north")
    seen.shot("classes")


def change(seen: Watched, cube: reading.OpenCube) -> None:
    """Change between two dates: bins and what is missing sum to the area."""
    page = seen.page
    choose_way(seen, "Change")
    expect(page.get_by_label("From (usable share)")).to_contain_text("%")
    url = press(seen, "Map the change")
    days = re.findall(
        r"\d{4}-\d\d-\d\d",
        " ".join(
            page.get_by_label(name).inner_text()
            for name in ("From (usable share)", "To (usable share)")
        ),
    )
    found = mapping.change(cube, *days)
    assert found.areas.sum() + found.missing == pytest.approx(128**2 / 100)
    page.wait_for_function('() => Bokeh.documents[0].get_model_by_name("change-bins")')
    bins = seen.data("change-bins")["hectares"]
    assert bins == pytest.approx(found.areas.tolist())
    np.testing.assert_array_equal(codes(seen, url), expected(cube, found.layer, url))
    seen.shot("change")
