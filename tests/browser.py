"""A real server process and a real Chromium for the tests of the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from playwright.sync_api import Browser, Page, expect

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
PATIENCE = int(os.environ.get("DEEPFEATURES_PATIENCE", "90")) * 1000
"""Milliseconds until a test gives up waiting for the page."""

COMPLAINTS = (
    "_pending_writes", "isn't known", "Traceback", '"level": "error"',
)  # fmt: skip
"""What the log of a server must not say."""

FRAME = """(name) => {
  const figure = Bokeh.documents[0].get_model_by_name(name)
  const view = Bokeh.index.find_one(figure)
  const {x, y} = view.canvas_view.el.getBoundingClientRect()
  const {left, top, right, bottom} = view.frame.bbox
  const {x_range, y_range} = figure
  return {left: x + left, top: y + top, right: x + right, bottom: y + bottom,
          x0: x_range.start, x1: x_range.end, y0: y_range.start, y1: y_range.end}
}"""

DATA = """(name) => {
  const {data} = Bokeh.documents[0].get_model_by_name(name)
  const entries = data instanceof Map ? [...data] : Object.entries(data)
  return Object.fromEntries(entries.map(([key, column]) => [key, [...column]]))
}"""


@dataclass
class Watched:
    """A page, and what went wrong or was fetched in it."""

    page: Page
    address: str
    shots: Path
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    tiles: list[str] = field(default_factory=list)
    """Addresses of the map tiles that came, in the order of their coming."""

    def open(self, query: str = "") -> None:
        """Load the page and wait until everything is drawn, what comes after the map as well."""
        self.page.goto(f"{self.address}{query}")
        self.page.wait_for_function("window.Bokeh?.documents[0]?.is_idle", timeout=PATIENCE)
        expect(self.page.get_by_text("Loading …", exact=True)).to_have_count(0)
        self.page.wait_for_function("Bokeh.documents[0].is_idle", timeout=PATIENCE)

    def data(self, name: str) -> dict[str, list[Any]]:
        """Give the columns of a data source."""
        found: dict[str, list[Any]] = self.page.evaluate(DATA, name)
        return found

    def place(self, figure: str, x: float, y: float) -> tuple[float, float]:
        """Give the place on the screen of a point in the units of a figure."""
        at = self.page.evaluate(FRAME, figure)
        right = (x - at["x0"]) / (at["x1"] - at["x0"])
        up = (y - at["y0"]) / (at["y1"] - at["y0"])
        return (
            at["left"] + right * (at["right"] - at["left"]),
            at["bottom"] - up * (at["bottom"] - at["top"]),
        )

    def drag(self, corners: list[tuple[float, float]]) -> None:
        """Press at the first place, move through the others and let go."""
        mouse = self.page.mouse
        mouse.move(*corners[0])
        mouse.down()
        for corner in corners[1:]:
            mouse.move(*corner, steps=6)
        mouse.up()

    def body(self, url: str) -> bytes:
        """Fetch an address of the server again, as the page would."""
        answer = self.page.request.get(url)
        assert answer.ok, f"{answer.status} {url}"
        return answer.body()

    def shot(self, name: str) -> bytes:
        """Save a picture of the page."""
        return self.page.screenshot(path=self.shots / f"{name}.png")

    def map_shot(self) -> bytes:
        """Give a picture of the map alone, without the controls on it, once it stays the same."""
        at = self.page.evaluate(FRAME, "map")
        clip = {
            "x": at["left"] + 60, "y": at["top"] + 90,
            "width": at["right"] - at["left"] - 120, "height": at["bottom"] - at["top"] - 180,
        }  # fmt: skip
        last, shot = b"", self.page.screenshot(clip=clip)  # type: ignore[arg-type]
        for _ in range(20):  # what plays or loads may never stay
            if shot == last:
                break
            self.page.wait_for_timeout(100)
            last, shot = shot, self.page.screenshot(clip=clip)  # type: ignore[arg-type]
        return shot


def executable() -> str | None:
    """Find Chromium: ``CHROMIUM``, or a program of one of its names."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def free_port() -> int:
    """Give a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def served(home: Path, log: Path) -> Iterator[str]:
    """Run ``python -m app`` on a workspace and give its address."""
    port = free_port()
    command = [sys.executable, "-m", "app", "--port", str(port), "--home", str(home)]
    environment = {**os.environ, "DEEPFEATURES_BASEMAP": "none"}  # a map of somebody else's
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment)
    try:
        _wait(process, f"http://127.0.0.1:{port}/healthz", log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def complaints(log: Path, begin: int = 0) -> list[str]:
    """Give the lines of a log, from a byte on, that tell of a fault; a closed page is none."""
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return [
        line
        for line in lines
        if any(words in line for words in COMPLAINTS) and "WebSocketClosedError" not in line
    ]


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return
        time.sleep(0.5)
    pytest.fail(f"the server did not become healthy:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def watched(browser: Browser, address: str, shots: Path, **options: Any) -> Iterator[Watched]:
    """Open an empty page that remembers errors, tiles and requests to other servers."""
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    seen = Watched(page, address, shots)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))

    def asked(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:", address.replace("http", "ws"))):
            seen.foreign.append(request.url)

    def answered(response: Any) -> None:
        if "/tiles/" in response.url and response.status == 200:
            seen.tiles.append(response.url)

    page.on("request", asked)
    page.on("response", answered)
    try:
        yield seen
    except BaseException:
        _tell(seen)
        raise
    finally:
        context.close()


def _tell(seen: Watched) -> None:
    """Print what the page showed when a test failed: on a distant machine nobody sees it."""
    seen.shot("failed")
    log = seen.shots / "server.log"
    print("the page said:", " | ".join(seen.page.locator("body").inner_text().split("\n")))
    print("the console said:", *seen.errors, sep="\n")
    if log.exists():
        print("the server logged:", *log.read_text().splitlines()[-12:], sep="\n")
