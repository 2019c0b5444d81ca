"""Indices in a real browser: find one by words, read about it, write one's own, get it wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from browser import PATIENCE, Watched, served, watched
from conftest import bands_cube
from playwright.sync_api import Browser, expect

from deepfeatures import catalogue, indices, store
from deepfeatures.settings import workspace

pytestmark = pytest.mark.browser

OWN = "(B08 - B05) / (B08 + B05)"


@pytest.fixture(scope="module")
def address(shots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a workspace with one small band cube."""
    ws = workspace(tmp_path_factory.mktemp("field") / "home")
    store.write(bands_cube(height=64, width=64), catalogue.place(ws, "field"))
    catalogue.add(ws, "field")
    with served(ws.home, shots / "server.log") as found:
        yield found


def test_indices(chromium: Browser, address: str, shots: Path) -> None:
    with watched(chromium, address, shots, viewport={"width": 1400, "height": 900}) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        finds(seen)
        writes(seen)
        errs(seen)
        adds(seen)
        fits_a_phone(seen)
        assert seen.errors == []
        assert seen.foreign == []


def finds(seen: Watched) -> None:
    """Find an index by words of its long name and a band, with the keyboard alone."""
    page = seen.page
    field = page.get_by_role("combobox", name="Show")
    expect(field).to_have_value("True colour")
    field.focus()
    field.press("ArrowDown")
    name = "NDVI Normalized Difference Vegetation Index B04 B08"
    expect(page.get_by_role("option", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("group", name="Vegetation")).to_be_attached()
    field.fill("chlorophyll b05")
    expect(page.get_by_text("8 found", exact=True)).to_be_attached()
    for name in ("CIRE", "MTCI"):
        expect(page.get_by_role("option", name=re.compile(f"^{name} "))).to_be_attached()
    field.fill("red edge chlorophyll inverted")
    with page.expect_response(lambda one: "channel=IRECI" in one.url):
        field.press("Enter")
    expect(field).to_have_value("IRECI")
    expect(page.get_by_role("listbox")).to_be_hidden()
    known, about = indices.INDICES["IRECI"], page.locator(".index")
    expect(about).to_contain_text(known.long_name)
    expect(about).to_contain_text(known.formula)
    expect(about.locator("abbr").first).to_have_attribute("title", "B07, rededge078, 783 nm")
    link = about.get_by_role("link")
    expect(link).to_have_attribute("href", known.reference)
    expect(link).to_have_attribute("target", "_blank")
    expect(link).to_have_attribute("rel", "noopener")


def writes(seen: Watched) -> None:
    """Write an own index: the tiles of the map and the address of the page name it."""
    page = seen.page
    field = page.get_by_role("textbox", name="Own index")
    field.fill(OWN)
    with page.expect_response(lambda one: channel(one.url) == OWN) as tile:
        field.press("Enter")
    assert tile.value.status == 200
    expect(page.get_by_role("combobox", name="Show")).to_have_value(OWN)
    expect(page.locator(".legend b")).to_have_text(OWN)
    page.wait_for_function("location.search.includes('own=') && location.search.includes('B05')")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["show"] == [OWN]
    assert OWN in asked["own"][0]


def errs(seen: Watched) -> None:
    """Write a wrong one: a mark stands under the mistake, and the map stays as it was."""
    page = seen.page
    field = page.get_by_role("textbox", name="Own index")
    field.fill("B08 - NDVX + 1")
    page.get_by_role("button", name="Show", exact=True).click()
    alert = page.get_by_role("alert")
    expect(alert.locator("pre")).to_have_text("B08 - NDVX + 1\n      ^")
    expect(alert).to_contain_text("Character 7: 'NDVX' is unknown; did you mean")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert field.evaluate("(one) => one.selectionStart") == 6, "the cursor stands there as well"
    expect(page.get_by_role("combobox", name="Show")).to_have_value(OWN)
    assert parse_qs(urlsplit(page.url).query)["show"] == [OWN]
    field.press("End")
    field.press("Backspace")
    expect(alert.locator("pre")).to_be_hidden()
    page.get_by_role("button", name="Edit formula").click()
    expect(field).to_have_value(OWN)


def adds(seen: Watched) -> None:
    """Put the index of the map, and one that is searched for, into the series plot."""
    page = seen.page
    page.get_by_role("button", name="Add to the series").click()
    until_drawn(seen, OWN)
    expect(page.get_by_role("button", name=f"Remove {OWN}")).to_be_visible()
    field = page.get_by_role("combobox", name="Indices and bands")
    field.fill("burn ratio b12")
    field.press("Enter")
    until_drawn(seen, "NBR")
    page.get_by_role("button", name="Remove NDVI").click()
    page.wait_for_function(f"!({DRAWN}).includes('NDVI')")
    expect(page.get_by_text("dates usable")).to_be_visible()  # all of it was read again
    asked = {key: one[0] for key, one in parse_qs(urlsplit(page.url).query).items()}
    query = urlencode({"lon": asked["lon"], "lat": asked["lat"], "channels": OWN, "masked": 0})
    address = f"{seen.address}api/cubes/{asked['cube']}/series?{query}"
    values = np.array(page.request.get(address).json()["channels"][OWN], float)
    dots = seen.data("series-indices-dots")
    shown = [v for v, name in zip(dots["value"], dots["channel"], strict=True) if name == OWN]
    np.testing.assert_allclose(shown, values[np.isfinite(values)], rtol=1e-6)
    seen.shot("indices")


def fits_a_phone(seen: Watched) -> None:
    """In a narrow window, where the menu lies over the map, the list stays within."""
    page = seen.page
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    field = page.get_by_role("combobox", name="Show")
    field.click()
    box = page.get_by_role("listbox").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    field.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()


DRAWN = """[...(({data}) => data instanceof Map ? data.get("channel") : data.channel)(
  Bokeh.documents[0].get_model_by_name("series-indices-dots"))]"""


def until_drawn(seen: Watched, name: str) -> None:
    seen.page.wait_for_function(f"(name) => ({DRAWN}).includes(name)", arg=name)


def channel(url: str) -> str:
    """Give the channel of a tile's address."""
    return parse_qs(urlsplit(url).query).get("channel", [""])[0]
