"""The GPP laboratory in a real browser: sliders, scores of what is seen, own tower, map."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import PATIENCE, Watched, watched
from playwright.sync_api import Browser, expect
from test_browser import until
from test_browser_access import PHONE, findings
from test_gpp import made

from deepfeatures import catalogue
from deepfeatures.gpp import live, shelf
from deepfeatures.gpp.towers import Towers
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

WATCH = """() => {
  window.took = null
  const now = () => { window.pressed = performance.now() }
  addEventListener("keydown", now, { capture: true, once: true })
  const source = Bokeh.documents[0].get_model_by_name("gpp-told")
  source.properties.data.change.connect(() => requestAnimationFrame(() => {
    if (window.took === null) { window.took = performance.now() - window.pressed }
  }))
}"""
"""Measures from a key that is pressed to the frame after the new series is there."""

MODELS = [f"landscape-{kind}" for kind in ("gpt", "gru", "lstm", "rnn")]


def test_the_laboratory(chromium: Browser, address: str, demo_copy: Path, shots: Path) -> None:
    ws = workspace(demo_copy)
    with watched(chromium, address, shots, viewport={"width": 1440, "height": 900}) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        seen.page.get_by_role("button", name="GPP laboratory").click()
        seen.page.get_by_role("button", name="Open the laboratory").click()
        towers = first(seen, ws)
        slid(seen, ws, towers)
        shorter(seen, ws, towers)
        zoomed(seen, ws, towers)
        closer(seen, ws, towers)
        assert findings(seen) == set()
        own(seen, ws)
        mapped(seen, ws)
        assert seen.errors == []


def test_on_a_phone(chromium: Browser, address: str, shots: Path) -> None:
    phone: dict[str, Any] = {
        "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True,
        "user_agent": PHONE,
    }  # fmt: skip
    with watched(chromium, address, shots, **phone) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open("?lab=1")
        until(seen, lambda: len(told(seen)) == 4)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
        chart = seen.page.get_by_role("slider", name="Radiation [%]").bounding_box()
        closer = seen.page.get_by_role("button", name="Residuals", exact=True).bounding_box()
        assert chart is not None
        assert closer is not None
        assert chart["y"] < closer["y"]  # what one plays with comes first
        assert seen.errors == []


def told(seen: Watched) -> dict[str, np.ndarray]:
    """Give what the chart shows of each model."""
    found = seen.page.evaluate(
        "() => { const {data} = Bokeh.documents[0].get_model_by_name('gpp-told') ?? {data: {}};"
        " const at = (key) => [...((data instanceof Map ? data.get(key) : data[key]) ?? [])];"
        " return [at('model'), at('ys').map((line) => [...line])] }"
    )
    return {name: np.array(line) for name, line in zip(*found, strict=True)}


def rows_of(towers: Towers) -> np.ndarray:
    return np.flatnonzero(towers.year == int(towers.year[towers.usable].max()))


def expected(
    ws: Workspace, towers: Towers, change: live.Change, context: int | None = None
) -> dict[str, np.ndarray]:
    models = {name: shelf.model(ws, name) for name in MODELS}
    answer = live.tell(models, towers, rows_of(towers), change, context)
    return {name: one.mean for name, one in answer.told.items()}


def agrees(seen: Watched, wanted: dict[str, np.ndarray]) -> bool:
    found = told(seen)
    return found.keys() == wanted.keys() and all(
        len(found[name]) == len(wanted[name]) and np.allclose(found[name], wanted[name], atol=1e-4)
        for name in wanted
    )


def scores(seen: Watched) -> dict[str, list[float]]:
    """Give R2, RMSE, NRMSE, KGE and bias of each row of the table."""
    rows = seen.page.get_by_role("region", name="Scores of the days in view").get_by_role("row")
    found = {}
    for text in rows.all_inner_texts()[1:]:
        name, *cells = text.split("\t")
        numbers = [cell.replace("−", "-") for cell in cells[:5]]
        if "–" not in numbers:
            found[name.split()[0]] = [float(number) for number in numbers]
    return found


def scored(
    towers: Towers, wanted: dict[str, np.ndarray], window: tuple[float, float]
) -> dict[str, list[float]]:
    found = {}
    for name, line in wanted.items():
        sums = live.scores(towers, rows_of(towers), line, window)
        found[name] = [sums.r2, sums.rmse, sums.nrmse, sums.kge, sums.bias]
    return found


def close(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    return all(name in one and np.allclose(one[name], other[name], atol=0.0061) for name in other)


EVER = (-np.inf, np.inf)


def first(seen: Watched, ws: Workspace) -> Towers:
    """Look at the first tower: what is drawn is what the package tells."""
    table = shelf.load(ws, "demo")
    site = next(iter(shelf.sites(ws, "demo")))
    towers = shelf.daily(table[table["site"] == site])
    wanted = expected(ws, towers, live.Change())
    until(seen, lambda: agrees(seen, wanted))
    until(seen, lambda: close(scores(seen), scored(towers, wanted, EVER)))
    drawn = seen.data("gpp-seen")
    rows = rows_of(towers)
    there = np.isfinite(towers.gpp[rows])
    np.testing.assert_allclose(drawn["y"], towers.gpp[rows][there], rtol=1e-6)
    shades = seen.data("gpp-extremes")
    assert len(shades["x0"]) == sum(len(times) for times in live.extremes(towers).values())
    main = seen.page.get_by_role("main")
    expect(main.get_by_text("Simulated", exact=True)).to_be_visible()
    seen.shot("1-laboratory")
    return towers


def slid(seen: Watched, ws: Workspace, towers: Towers) -> None:
    """Move the radiation: series and scores follow; say how long it takes."""
    before = scores(seen)
    slider = seen.page.get_by_role("slider", name="Radiation [%]")
    slider.focus()
    taken = []
    for step in range(1, 6):
        seen.page.evaluate(WATCH)
        seen.page.keyboard.press("ArrowLeft")
        seen.page.wait_for_function("window.took !== null")
        taken.append(seen.page.evaluate("window.took"))
        wanted = expected(ws, towers, live.Change(light=-step))
        until(seen, lambda wanted=wanted: agrees(seen, wanted))  # type: ignore[misc]
    print(f"slider to series: {', '.join(f'{ms:.0f}' for ms in taken)} ms")
    until(seen, lambda: close(scores(seen), scored(towers, wanted, EVER)))
    assert scores(seen) != before
    seen.shot("2-slider")


def shorter(seen: Watched, ws: Workspace, towers: Towers) -> None:
    """Let the models look at one day only, then set all sliders back."""
    seen.page.get_by_role("slider", name="Days looked at").focus()
    seen.page.keyboard.press("Home")
    until(seen, lambda: agrees(seen, expected(ws, towers, live.Change(light=-5), 1)))
    seen.page.get_by_role("button", name="As measured").click()
    until(seen, lambda: agrees(seen, expected(ws, towers, live.Change())))


def zoomed(seen: Watched, ws: Workspace, towers: Towers) -> None:
    """Turn the wheel over the chart: the scores are those of the days in view."""
    place = seen.page.get_by_role("region", name="Scores of the days in view")
    place.scroll_into_view_if_needed()
    before = scores(seen)
    at = seen.page.evaluate("() => Bokeh.documents[0].get_model_by_name('gpp').x_range.start")
    x, y = seen.place("gpp", at + 200 * 86_400_000, 5.0)
    seen.page.mouse.move(x, y)
    seen.page.mouse.wheel(0, -300)
    until(seen, lambda: scores(seen) != before)
    span = "() => { const {start, end} = Bokeh.documents[0].get_model_by_name('gpp').x_range;" \
           " return [start, end] }"  # fmt: skip
    wanted = expected(ws, towers, live.Change())

    def agree() -> bool:
        start, end = seen.page.evaluate(span)
        window = (start / 86_400_000, end / 86_400_000)
        return close(scores(seen), scored(towers, wanted, window))

    until(seen, agree)


def closer(seen: Watched, ws: Workspace, towers: Towers) -> None:
    """Open what looks closer, and compare it with the package."""
    page, rows = seen.page, rows_of(towers)

    def look(name: str) -> None:
        page.get_by_role("button", name=name, exact=True).click()

    look("Importance")
    until(seen, lambda: has(seen, "gpp-importance", "at"))
    drawn = seen.data("gpp-importance")
    for name in MODELS[:2]:
        for row in live.importance(shelf.model(ws, name), towers, rows):
            at = [list(pair) for pair in drawn["at"]].index([row["group"], name])
            assert drawn["rise"][at] == pytest.approx(row["rise"], abs=1e-4)
    look("Leaderboard")
    board = page.get_by_role("region", name="Leaderboard")
    expect(board).to_be_visible()

    def best() -> str:
        return board.get_by_role("row").all_inner_texts()[1].split("\t")[0].strip()

    skilled = max(MODELS, key=lambda name: shelf.model(ws, name).card.training["test"]["r2"])
    weight = page.get_by_role("slider", name="Weight of skill against compactness")
    weight.focus()
    page.keyboard.press("End")
    until(seen, lambda: best() == skilled)
    page.keyboard.press("Home")
    until(seen, lambda: best() == "landscape-rnn")
    look("Disagreement")
    until(seen, lambda: has(seen, "gpp-apart-lines", "ys"))
    (line,) = seen.data("gpp-apart-lines")["ys"]
    lines = np.stack(list(expected(ws, towers, live.Change()).values()))
    np.testing.assert_allclose(list(line), np.ptp(lines, axis=0), atol=1e-4)
    look("Scatter")
    until(seen, lambda: has(seen, "gpp-pairs", "x"))
    seen.shot("3-scatter")


def has(seen: Watched, name: str, key: str) -> bool:
    return bool(
        seen.page.evaluate(
            "([name, key]) => { const {data} = Bokeh.documents[0].get_model_by_name(name)"
            " ?? {data: {}}; return [...((data instanceof Map ? data.get(key) : data[key]) ?? [])]"
            ".length > 0 }",
            [name, key],
        )
    )


def own(seen: Watched, ws: Workspace) -> None:
    """Bring a table: its first tower is shown, asked, and found to be far from the training."""
    page = seen.page
    page.get_by_role("button", name="Own tower").click()
    table = made(sites=2, years=2).assign(VPD=45.0, P=2.0)
    page.locator("input[type=file][accept='.csv,.parquet']").set_input_files(
        {"name": "mine.csv", "mimeType": "text/csv", "buffer": table.to_csv(index=False).encode()}
    )
    expect(page.get_by_text("The towers are kept as mine.")).to_be_visible()
    expect(page.get_by_role("heading", name="XX-000")).to_be_visible()
    towers = shelf.daily(shelf.load(ws, "mine")).alone("XX-000")
    model = shelf.model(ws, "forest-gru")

    def shown() -> bool:
        name = next(iter(told(seen)), "")
        if not name.startswith("forest"):
            return False
        wanted = shelf.model(ws, name)(towers, rows_of(towers)).mean
        return bool(np.allclose(told(seen)[name], wanted, atol=1e-3))

    until(seen, shown)
    assert model.distance(towers)[rows_of(towers)].max() > 1
    expect(page.get_by_text("Out of domain", exact=True)).to_be_visible()
    seen.shot("4-own-tower")


def mapped(seen: Watched, ws: Workspace) -> None:
    """Have a map made; it is shown on the map with its uncertainty, and holds what is told."""
    page = seen.page
    page.get_by_role("button", name="Map of GPP").click()
    page.get_by_role("button", name="Map this date").click()
    expect(page.get_by_role("button", name="Explore", exact=True)).to_be_visible()
    name = "demo-features-gpp"
    until(seen, lambda: any(re.search(f"/tiles/{name}/", url) for url in seen.tiles))
    layer = catalogue.open(ws, name)
    assert list(layer["map"].values) == ["gpp", "range", "distance"]
    assert float(layer["layer"].sel(map="range").max()) > 0
    seen.shot("5-map")
