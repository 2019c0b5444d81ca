"""Many browser-like sessions on a server of this computer, and what they leave.

``python benchmarks/soak.py [--sessions 4] [--minutes 0.5] [--pages 20] [--home DIR]`` starts the
server on loopback. Each session gets the page, opens its websocket as a browser does, pulls the
document, and then steps through the dates: a message to the page, twelve map tiles, a pixel series.
After that pages are opened and closed. It prints JSON: milliseconds of tiles, series, callbacks and
pages as median and 95th percentile, answers by status, the largest delay of the event loop, and
the memory of the server [MB] at its beginning and end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from deepfeatures import cube, render
from deepfeatures.settings import workspace

MOST_SESSIONS, MOST_MINUTES, MOST_PAGES = 200, 60.0, 5000
ZOOM = 14
THINK_SECONDS = 1.0
"""Pause of a user between two dates."""
QUIET_SECONDS = 45.0
"""Time in which the server forgets pages that were closed."""


class Watch:
    """What was asked, how long it took, and what came back."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = defaultdict(list)
        self.status: Counter[str] = Counter()

    @contextmanager
    def timed(self, what: str):
        """Measure what is done inside."""
        since = time.perf_counter()
        yield
        self.took[what].append((time.perf_counter() - since) * 1e3)

    async def get(self, what: str, url: str) -> bytes:
        """Get an address."""
        with self.timed(what):
            answer = await AsyncHTTPClient().fetch(url, raise_error=False, request_timeout=120)
        self.status[f"{answer.code}"] += 1
        return answer.body or b""


class Session:
    """One open page."""

    def __init__(self, address: str, watch: Watch) -> None:
        self.address, self.watch, self.number = address, watch, 0

    async def open(self) -> None:
        """Get the page, open its websocket, pull the document."""
        page = await self.watch.get("page", f"{self.address}/")
        token = re.search(rb'"token":"([^"]+)"', page)
        if token is None:
            raise RuntimeError(f"the page holds no token: {page[:200]!r}")
        request = HTTPRequest(self.address.replace("http", "ws") + "/ws")
        self.socket = await websocket_connect(
            request, subprotocols=["bokeh", token[1].decode()], max_message_size=2**28
        )
        await self._until("ACK")
        await self._send("PULL-DOC-REQ", {})
        document = await self._until("PULL-DOC-REPLY")
        self.keys = _keys(document)
        ready = {"type": "event", "name": "document_ready", "values": {"type": "map"}}
        event = {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": ready}
        await self._send("PATCH-DOC", {"events": [event]})  # now comes what follows the map
        await self._until("OK")

    async def step(self) -> None:
        """Press the right arrow key and wait for the first change of the page."""
        self.number += 1
        columns = [["x", [0]], ["y", [self.number]], ["key", ["next"]]]
        data = {"type": "map", "entries": columns}
        event = {"kind": "ModelChanged", "model": {"id": self.keys}, "attr": "data", "new": data}
        with self.watch.timed("callback"):
            await self._send("PATCH-DOC", {"events": [event]})
            await self._until("OK")

    async def close(self) -> None:
        """Close the page."""
        self.socket.close()
        while await self.socket.read_message() is not None:
            pass

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        header = {"msgid": f"{kind}-{self.number}", "msgtype": kind}
        for part in (header, {}, content):
            await self.socket.write_message(json.dumps(part))

    async def _until(self, kind: str) -> dict[str, Any]:
        """Read messages until one of a kind has come, and give its content."""
        while True:
            parts = []
            for _ in range(3):
                part = await asyncio.wait_for(self.socket.read_message(), 120)
                if part is None:
                    raise RuntimeError(f"the server closed the websocket before {kind}")
                parts.append(json.loads(part))
            for _ in range(2 * parts[0].get("num_buffers", 0)):
                await self.socket.read_message()
            if parts[0]["msgtype"] == kind:
                return parts[2]


def _keys(document: Any) -> str:
    """Find the source that arrow keys are told to."""
    if isinstance(document, dict):
        for key, value in document.get("args", {}).get("entries", []):
            if key == "keys":
                return str(value["id"])
        children = list(document.values())
    else:
        children = document if isinstance(document, list) else []
    return next((found for child in children if (found := _keys(child))), "")


def addresses(root: str, name: str) -> tuple[list[str], list[str], list[str]]:
    """Give the dates of a cube, its tiles without date, and pixel series."""
    with urllib.request.urlopen(f"{root}/api/cubes/{name}") as answer:
        info = json.load(answer)
    west, south, east, north = info["bounds"]
    x0, y0 = render_tile(west, north)
    x1, y1 = render_tile(east, south)
    places = itertools.product(range(x0, x1 + 1), range(y0, y1 + 1))
    tiles = [
        f"{root}/tiles/{name}/{ZOOM}/{x}/{y}.png?rgb=B04,B03,B02&version={info['version']}&time="
        for x, y in places
    ]
    lons = [west + (east - west) * part / 20 for part in range(1, 20)]
    series = [f"{root}/api/cubes/{name}/series?lon={lon}&lat={(south + north) / 2}" for lon in lons]
    return [day[:10] for day in info["times"]], tiles[:12], series


def render_tile(lon: float, lat: float) -> tuple[int, int]:
    """Give the map tile that holds a place."""
    x, y = render.transformer("EPSG:4326", "EPSG:3857").transform(lon, lat)
    span = 2 * render.HALF_WORLD / 2**ZOOM
    return int((x + render.HALF_WORLD) // span), int((render.HALF_WORLD - y) // span)


async def use(root: str, name: str, number: int, end: float, watch: Watch) -> None:
    """Look at date after date as a user would."""
    days, tiles, series = addresses(root, name)
    session = Session(root, watch)
    await asyncio.sleep(0.3 * number)  # nobody comes at the same moment
    await session.open()
    for turn in itertools.count(number):
        if time.monotonic() > end:
            break
        await session.step()
        day = days[turn % len(days)]
        await asyncio.gather(*(watch.get("tile", tile + day) for tile in tiles))
        await watch.get("series", series[turn % len(series)])
        await asyncio.sleep(THINK_SECONDS)
    await session.close()


async def soak(root: str, name: str, options: argparse.Namespace, process: psutil.Process) -> Any:
    """Run all sessions, then open and close pages."""
    watch: Watch = Watch()
    memory: dict[str, Any] = {}
    warm = Session(root, watch)
    await warm.open()
    await warm.close()
    await asyncio.sleep(2)
    numbers(root)
    memory["start_mb"] = _megabytes(process)
    end = time.monotonic() + 60 * options.minutes
    await asyncio.gather(*(use(root, name, n, end, watch) for n in range(options.sessions)))
    memory["after_sessions_mb"] = _megabytes(process)
    lag = numbers(root)
    memory["while_pages_mb"] = []
    for number in range(options.pages):
        page = Session(root, watch)
        await page.open()
        await page.close()
        if number % 10 == 9:
            memory["while_pages_mb"].append(_megabytes(process))
    memory["after_pages_mb"] = _megabytes(process)
    await asyncio.sleep(QUIET_SECONDS)
    memory["end_mb"] = _megabytes(process)
    bad = {status: count for status, count in watch.status.items() if status >= "500"}
    return {
        "milliseconds": {what: _summary(took) for what, took in watch.took.items()},
        "status": dict(watch.status),
        "answers_5xx": sum(bad.values()),
        "event_loop_lag_max_ms": round(1e3 * lag["deepfeatures_event_loop_lag_seconds_max"], 1),
        "sessions_at_end": numbers(root)["deepfeatures_sessions"],
        "memory": memory,
    }


def numbers(root: str) -> dict[str, float]:
    """Give what ``/metrics`` says, of numbers without labels."""
    with urllib.request.urlopen(f"{root}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    parts = (line.split(" ") for line in lines if line and line[0] != "#" and "{" not in line)
    return {key: float(value) for key, value, *_ in parts}


def _summary(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    return {
        "count": len(took),
        "p50": round(statistics.median(ordered), 1),
        "p95": round(p95, 1),
        "max": round(ordered[-1], 1),
    }


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 1e6, 1)


@contextmanager
def served(home: Path):
    """Run the server of a workspace; give its address and process."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port), "--home", str(home)]
    process = subprocess.Popen(command, env={**os.environ, "DEEPFEATURES_BASEMAP": "none"})
    root = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{root}/healthz", timeout=10).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("the server ended") from None
                time.sleep(0.5)
        yield root, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--home", type=Path, help="a workspace with the cube; else a small demo")
    parser.add_argument("--cube", default="demo")
    options = parser.parse_args()
    options.sessions = min(max(options.sessions, 1), MOST_SESSIONS)
    options.minutes = min(max(options.minutes, 0.0), MOST_MINUTES)
    options.pages = min(max(options.pages, 0), MOST_PAGES)
    AsyncHTTPClient.configure(None, max_clients=8 * options.sessions)
    with tempfile.TemporaryDirectory() as place:
        home = options.home or Path(place) / "home"
        if options.home is None:
            cube.demo(workspace(home), seed=0, size=128, years=1)
        with served(home) as (root, process):
            found = asyncio.run(soak(root, options.cube, options, process))
    asked = {key: getattr(options, key) for key in ("sessions", "minutes", "pages")}
    print(json.dumps(asked | found, indent=2))


if __name__ == "__main__":
    main()
