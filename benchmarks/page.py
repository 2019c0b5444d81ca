"""The page loaded, and an area drawn on it until its features are on the map, in a real browser.

Run from the top of the repository: ``python benchmarks/page.py [--repeats 5]``. The page of one
year of a simulated landscape is loaded with an empty cache in headless Chromium, on the same cores
as the server and its worker; then a box of 1 km2 is drawn on it. It prints JSON: median seconds
from the address to the map that answers the mouse (`map_s`), to the last of its tiles (`tiles_s`)
and to the last part of the page (`all_s`); and seconds from the click on "Compute features" to the
layer on the map, the first time, when the worker starts and the model is loaded, and the median of
the others.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import ViewportSize, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # how a page is driven

from browser import FLAGS, PATIENCE, Watched, executable, served, watched  # noqa: E402

from deepfeatures import catalogue, contract, jobs, simulate, store  # noqa: E402
from deepfeatures.settings import Workspace, workspace  # noqa: E402
from deepfeatures.tiles import Tile  # noqa: E402

EDGE = 1000.0
"""Edge of the box [m]."""
SIZE = 192
"""Edge of the landscape [px]."""

SCREEN: ViewportSize = {"width": 1440, "height": 900}


def write(ws: Workspace) -> float:
    """Write one year of a landscape; give its latitude."""
    landscape = simulate.plan(seed=7, size=SIZE, years=1)
    whole = Tile(0, SIZE, 0, SIZE, 0, SIZE, 0, SIZE)
    store.write(simulate.render(landscape, whole), catalogue.place(ws, "year"))
    catalogue.add(ws, "year")
    return float(
        contract.geobox(catalogue.open(ws, "year")).extent.to_crs("EPSG:4326").centroid.coords[0][1]
    )


STAGES = """() => {
  const told = () => {
    const chart = window.Bokeh?.documents[0]?.get_model_by_name("map")
    const view = chart && Bokeh.index.find_one(chart)
    if (view?.frame?.bbox.width > 0) window.map_ready = performance.now()
    else requestAnimationFrame(told)
  }
  told()
}"""


def loaded(seen: Watched) -> tuple[float, float, float]:
    """Load the page, and give the seconds until the map, its tiles and everything is there."""
    seen.page.add_init_script(f"({STAGES})()")
    began = time.perf_counter()
    seen.open("?cube=year")
    everything = time.perf_counter() - began
    chart, tiles = seen.page.evaluate(
        """() => [window.map_ready, Math.max(...performance.getEntriesByType("resource")
        .filter((one) => one.name.includes("/tiles/")).map((one) => one.responseEnd))]"""
    )
    return chart / 1e3, tiles / 1e3, everything


def drawn(seen: Watched, half: float) -> float:
    """Draw the box, ask for its features, and give the seconds until they are on the map."""
    page = seen.page
    seen.open("?cube=year")
    page.get_by_role("button", name="Draw a box").click()
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').toolbar.tools"
        ".some((tool) => tool.type == 'BoxSelectTool' && tool.active)"
    )
    x, y = page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        " return [f.x_range, f.y_range].map((r) => (r.start + r.end) / 2) }"
    )
    seen.drag([seen.place("map", x - half, y - half), seen.place("map", x + half, y + half)])
    expect(page.get_by_text("dates: about")).to_be_visible()
    began = time.perf_counter()
    with page.expect_response(lambda response: "/tiles/year-" in response.url):
        page.get_by_role("button", name="Compute features").click()
        expect(page.get_by_text("is on the map")).to_be_visible()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    expect.set_options(timeout=PATIENCE)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        half = EDGE / 2 / math.cos(math.radians(write(workspace(home))))
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        loads, took = [], []
        with served(home, Path(folder) / "log") as address:
            for _ in range(args.repeats + 1):
                with watched(browser, address, Path(folder), viewport=SCREEN) as seen:
                    loads.append(loaded(seen))
            for _ in range(args.repeats):
                with watched(browser, address, Path(folder), viewport=SCREEN) as seen:
                    seen.page.set_default_timeout(PATIENCE)
                    took.append(drawn(seen, half))
        made = [jobs.get(workspace(home), job["id"]) for job in jobs.listing(workspace(home))]
        sizes = [dict(catalogue.open(workspace(home), job["out"]).sizes) for job in made]
    # the first load compiles what the server needs
    stages = [round(statistics.median(one), 2) for one in zip(*loads[1:], strict=True)]
    print(json.dumps({
        "map_s": stages[0], "tiles_s": stages[1], "all_s": stages[2],
        "sizes": sizes[0], "first_s": round(took[0], 1),
        "later_s": round(statistics.median(took[1:]), 1) if len(took) > 1 else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
