"""The page for people who do not see it, use no mouse, or hold a phone: axe-core in Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import PATIENCE, Watched, watched
from playwright.sync_api import Browser

from app import style

pytestmark = pytest.mark.browser

PHONE = "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/130.0 Mobile Safari/537.36"
SECTIONS = (
    "Histogram", "Compare", "Places", "Find", "GPP laboratory", "Scenes", "Jobs", "Export", "Share",
)  # fmt: skip
"""Parts at the side that are folded at first."""

DARK = """(paper) => Bokeh.documents[0].get_model_by_name("map").background_fill_color === paper
  && getComputedStyle(document.documentElement).getPropertyValue("--paper").trim() === paper"""
"""Whether sheets and figures have this paper."""


def test_a_large_screen(chromium: Browser, address: str, shots: Path) -> None:
    with watched(chromium, address, shots, viewport={"width": 1440, "height": 900}) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        found = findings(seen)
        for name in SECTIONS:
            seen.page.get_by_role("button", name=name, exact=True).first.click()
        for name in ("Along a line", "Meaning"):
            seen.page.get_by_role("button", name=name, exact=True).click()
        seen.page.wait_for_function("Bokeh.documents[0].is_idle")
        seen.page.wait_for_timeout(1500)  # headings unfold
        found |= findings(seen)
        seen.shot("1-large")
        seen.page.get_by_role("button", name="Toggle theme").click()
        seen.page.wait_for_function(DARK, arg=style.DARK["paper"])
        seen.page.wait_for_timeout(500)  # colours of buttons fade
        seen.shot("3-dark")
        found |= findings(seen)
        assert found == set()
        assert seen.errors == []


def test_a_phone(chromium: Browser, address: str, shots: Path) -> None:
    size = {"width": 390, "height": 844}
    phone = {"viewport": size, "has_touch": True, "is_mobile": True, "user_agent": PHONE}
    phone |= {"color_scheme": "dark"}  # as the system of the phone is
    with watched(chromium, address, shots, **phone) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open()
        seen.shot("2-phone")
        found = findings(seen)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        seen.page.wait_for_function(DARK, arg=style.DARK["paper"])
        seen.page.get_by_role("button", name="Toggle theme").click()
        seen.page.wait_for_function(DARK, arg=style.LIGHT["paper"])
        seen.page.reload(wait_until="commit")
        seen.page.wait_for_function("document.documentElement?.dataset.theme === 'light'")
        assert found == set()
        assert seen.errors == []


def findings(seen: Watched) -> set[tuple[str, str]]:
    """Give the serious and critical findings: rule, and the place and reason of the first one."""
    answer: dict[str, Any] = Axe().run(seen.page).response
    return {
        (one["id"], f"{node['html'][:160]} {node['failureSummary'][:240]}")
        for one in answer["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:6]
    }
