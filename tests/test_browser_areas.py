"""Areas, scenes and jobs on the page: one walk of one browser, and what another one sees of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
import stac_server
from browser import DATA, PATIENCE, Watched, served, watched
from conftest import SHARED
from playwright.sync_api import Browser, expect
from test_areas import written

from app import style
from deepfeatures import areas, catalogue, contract, jobs
from deepfeatures.aoi import AOI
from deepfeatures.serve import owners
from deepfeatures.settings import Workspace

STAC_ITEMS = SHARED / "cog" / "be_31UDS_stac" / "item_collection.json"
CORNERS_DRAWN = """() => { const map = Bokeh.documents[0].get_model_by_name("map")
  const dots = map.renderers.find((one) => one.data_source?.name == "area-corners")
  return Bokeh.index.find_one(map).views.find_one(dots)?.glyph?.sx?.length == 4 }"""
"""Before they are drawn they can not be dragged."""

PATCH = shapely.box(3.0225, 50.8150, 3.0239, 50.8160)


@pytest.fixture(scope="module")
def address(demo_copy: Path, shots: Path, shared_data: Path) -> Iterator[str]:
    """A server that may ask two catalogues: one on loopback, and one that never answers."""
    with (
        stac_server.serve(shared_data / "cog") as running,
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.MonkeyPatch.context() as patch,
    ):
        silence = f"http://127.0.0.1:{silent.getsockname()[1]}"
        patch.setenv("DEEPFEATURES_STAC", f"silent={silence} local={running.url}#be-31uds-s2")
        with served(demo_copy, shots / "server.log") as found:
            yield found


@pytest.mark.browser
def test_an_area_and_its_jobs(
    chromium: Browser, address: str, demo_copy: Path, shots: Path, tmp_path: Path
) -> None:
    ws = Workspace(demo_copy)
    with watched(chromium, address, shots, viewport={"width": 1440, "height": 900}) as seen:
        seen.open()
        uploads(seen, ws, tmp_path)
        key = keeps(seen, ws, edits(seen))
        queues(seen, ws)
        made = embeds(seen, ws)
        searches(seen, tmp_path)
        returns(seen, key, made)
        with watched(chromium, address, shots, viewport={"width": 1440, "height": 900}) as other:
            is_not_seen_by(other, key)
            assert other.errors == []
        assert seen.errors == []
        assert seen.foreign == []


def middle(ws: Workspace) -> shapely.Polygon:
    west, south, east, north = catalogue.info(ws, "demo")["bounds"]
    dx, dy = (east - west) / 4, (north - south) / 4
    return shapely.box(west + dx, south + dy, east - dx, north - dy)


def upload(seen: Watched, path: Path) -> None:
    seen.page.locator("input[type=file]").set_input_files(path)


def uploads(seen: Watched, ws: Workspace, folder: Path) -> None:
    page = seen.page
    (folder / "broken.gpkg").write_bytes(b"SQLite format 3\0 and nothing else")
    upload(seen, folder / "broken.gpkg")
    expect(page.get_by_role("alert").get_by_text("is no GeoPackage")).to_be_visible()
    two = [middle(ws), PATCH]
    written(folder / "two.gpkg", "GPKG", two, 32631)
    upload(seen, folder / "two.gpkg")
    page.get_by_role("combobox", name="Area of the file").click()
    page.get_by_role("menuitem", name="1: field 0").click()
    expect(page.get_by_text("dates: about")).to_be_visible()


def edits(seen: Watched) -> tuple[float, float]:
    page = seen.page
    before = page.get_by_text("dates: about").inner_text()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').toolbar.tools"
        ".some((tool) => tool.type == 'PointDrawTool' && tool.active)",
        timeout=PATIENCE,
    )
    page.wait_for_function(CORNERS_DRAWN, timeout=PATIENCE)
    found = seen.data("area-corners")
    x, y = found["x"][0], found["y"][0]
    seen.drag([seen.place("map", x, y), seen.place("map", x + 100, y + 80)])
    page.wait_for_function(f"(x) => ({DATA})('area-corners').x[0] != x", arg=x, timeout=PATIENCE)
    seen.shot("1-edit")
    page.get_by_role("button", name="Explore", exact=True).click()
    expect(page.get_by_text(before, exact=True)).to_have_count(0)
    expect(page.get_by_text("dates: about")).to_be_visible()
    return x + 100, y + 80


def keeps(seen: Watched, ws: Workspace, place: tuple[float, float]) -> str:
    page = seen.page
    page.get_by_label("Name of the area").fill("My field")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("combobox", name="Kept areas")).to_have_text("My field")
    (area,) = areas.listing(ws, owner(seen))
    corners = [style.to_mercator(*one) for one in area["geometry"]["coordinates"][0]]
    distances = [np.hypot(x - place[0], y - place[1]) for x, y in corners]
    assert min(distances) < 15  # metres; a pixel of the screen is about 3
    page.wait_for_function(f"location.search.includes('aoi={area['id']}')", timeout=PATIENCE)
    return str(area["id"])


def owner(seen: Watched) -> str:
    cookies = {one["name"]: one for one in seen.page.context.cookies()}
    cookie = cookies[owners.COOKIE]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    return owners.owner(None, cookie["value"])


def queues(seen: Watched, ws: Workspace) -> None:
    """A job that waits for a server that never answers is cancelled, read about and retried."""
    page = seen.page
    settings = {"catalog": "silent", "start": "2020-01-01", "end": "2020-02-01"}
    job = jobs.submit(
        ws, kind="build", aoi=AOI("stuck", PATCH), settings=settings, owner=owner(seen), out="stuck"
    )
    page.get_by_role("button", name="Jobs", exact=True).click()
    expect(page.get_by_text("Fetching scenes")).to_be_visible()
    expect(page.locator(".queue li", has_text="stuck").locator(".state")).to_contain_text("0%")
    page.get_by_role("button", name="Cancel: stuck").click()
    expect(page.locator(".queue .state", has_text="cancelled")).to_be_visible()
    assert jobs.get(ws, job)["state"] == "cancelled"
    page.get_by_role("button", name="Log: stuck").click()
    log = page.get_by_role("region", name="Log of stuck")
    expect(log).to_contain_text("does not stop by itself; the worker starts anew")
    seen.shot("2-log")
    page.get_by_role("button", name="Log: stuck").click()
    expect(log).to_have_count(0)
    page.get_by_role("button", name="Retry: stuck").click()
    expect(page.get_by_role("button", name="Cancel: stuck")).to_be_visible()
    page.get_by_role("button", name="Cancel: stuck").click()
    expect(page.locator(".queue .state", has_text="cancelled")).to_have_count(2)


def embeds(seen: Watched, ws: Workspace) -> str:
    page = seen.page
    page.get_by_role("button", name="Compute features").click()
    expect(page.get_by_text("is on the map.")).to_be_visible()
    job = jobs.listing(ws)[0]
    assert (job["state"], job["kind"], job["owner"]) == ("done", "embed", owner(seen))
    expect(page.locator(".queue li", has_text=job["out"]).locator(".state")).to_have_text("done")
    ds = contract.check(catalogue.open(ws, job["out"]))
    outline = shapely.geometry.shape(job["aoi"]["geometry"])
    assert ds.sizes["y"] * ds.sizes["x"] < 128 * 128
    assert not outline.equals(middle(ws)), "the corner that was moved counts"
    return str(job["out"])


def searches(seen: Watched, folder: Path) -> None:
    page = seen.page
    page.get_by_role("button", name="Scenes", exact=True).click()
    (folder / "patch.geojson").write_text(json.dumps(shapely.geometry.mapping(PATCH)))
    upload(seen, folder / "patch.geojson")
    expect(page.get_by_text("does not touch the cube")).to_be_visible()
    page.get_by_label("First day").fill("2017-08-20")
    page.get_by_label("Last day").fill("2017-12-20")
    page.get_by_label("Last day").press("Enter")
    page.get_by_role("button", name="Search scenes").click()
    expect(page.get_by_text("days have at most 30 % clouds")).to_be_visible()
    shown = seen.data("scenes")
    items = json.loads(STAC_ITEMS.read_text())["features"]
    stated = {
        one["properties"]["datetime"][:10]: one["properties"]["eo:cloud_cover"] for one in items
    }
    wanted = {day: cloud for day, cloud in stated.items() if "2017-08-20" <= day <= "2017-12-20"}
    assert dict(zip(shown["day"], shown["cloud"], strict=True)) == pytest.approx(wanted)
    lit = [d for d, c in zip(shown["day"], shown["color"], strict=True) if c == style.PRIMARY]
    assert lit == sorted(day for day, cloud in wanted.items() if cloud <= 30)
    expect(page.get_by_text(f"{len(lit)} of {len(wanted)} days have")).to_be_visible()
    expect(page.get_by_role("button", name="Fetch", exact=True)).to_be_enabled()
    seen.shot("3-scenes")


def returns(seen: Watched, key: str, made: str) -> None:
    page = seen.page
    seen.open(f"?aoi={key}")
    expect(page.get_by_role("combobox", name="Kept areas")).to_have_text("My field")
    expect(page.get_by_text("dates: about")).to_be_visible()
    page.get_by_role("button", name="Jobs", exact=True).click()
    expect(page.locator(".queue li")).to_have_count(3)
    expect(page.locator(".queue li", has_text=made)).to_be_visible()
    seen.shot("4-again")


def is_not_seen_by(other: Watched, key: str) -> None:
    page = other.page
    other.open()
    expect(page.get_by_text("Draw an area on the map, or upload one")).to_be_visible()
    expect(page.get_by_role("combobox", name="Kept areas")).to_have_count(0)
    page.get_by_role("button", name="Jobs", exact=True).click()
    expect(page.get_by_text("somebody's job")).to_have_count(3)
    expect(page.locator(".queue button:visible")).to_have_count(0)
    assert "stuck" not in page.content()
    assert page.request.get(f"{other.address}api/areas").json()["features"] == []
