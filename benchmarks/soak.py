"""Many browser-like sessions on a server of this computer, and what they leave.

``python benchmarks/soak.py [--sessions 4] [--minutes 0.5] [--pages 20] [--home DIR]`` starts the
server on loopback and opens ten pages, so that all is warm before the memory is looked at. Then
each session gets the page, opens its websocket as a browser does, pulls the document, and steps
through the dates: a message to the page, twelve map tiles, a pixel series. After that pages are
opened and closed, and when the server has forgotten them all, its memory is looked at again. It
prints JSON and a short table, and ends with 1 if an answer was of status 500 or above.

``python benchmarks/soak.py --probe`` measures how late the event loop of the server is: while
nothing happens beside an open page; while an area is embedded, a UMAP is fitted and exports are
downloaded; and while pages are built.

Times of tiles and callbacks are those of the client. How late the event loop was is measured
inside it, each 5 ms: the percentiles are upper edges of buckets, the largest value is exact.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from deepfeatures import catalogue, cube, jobs, render
from deepfeatures.settings import Workspace, workspace

MOST_SESSIONS, MOST_MINUTES, MOST_PAGES = 200, 60.0, 5000
ZOOM = 14
MODEL = "optical"
WARM_PAGES = 10
"""Pages that are opened and closed before the memory at the start is looked at."""
THINK_SECONDS = 1.0
"""Pause of a user between two dates."""
EXPORTED_DATES = 10
"""Dates between the first and the last one of an export."""
QUIET_SECONDS, HELD_SECONDS = 2, 0.1
"""A page is complete when the event loop was never held so long in so many looks of a second."""
FORGET_SECONDS = 180.0
"""Longest wait until the server has forgotten pages that were closed."""
LAG = "deepfeatures_event_loop_lag_seconds"
OVER = ("done", "failed", "cancelled")


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
    watch, memory, lags = Watch(), {}, {}
    await visits(root, WARM_PAGES, Watch())
    memory["sessions_at_start"] = await forgotten(root)
    memory["start_mb"] = _megabytes(process)
    with lateness(root, lags, "sessions"):
        end = time.monotonic() + 60 * options.minutes
        await asyncio.gather(*(use(root, name, n, end, watch) for n in range(options.sessions)))
    memory["after_sessions_mb"] = _megabytes(process)
    memory["while_pages_mb"] = []
    with lateness(root, lags, "pages"):
        for _ in range(options.pages // 10):
            await visits(root, 10, watch)
            memory["while_pages_mb"].append(_megabytes(process))
    memory["sessions_at_end"] = await forgotten(root)
    memory["end_mb"] = _megabytes(process)
    memory["end_over_start"] = round(memory["end_mb"] / memory["start_mb"], 3)
    return {
        "milliseconds": {what: _summary(took) for what, took in watch.took.items()},
        "event_loop_lag_ms": lags,
        "status": dict(watch.status),
        "answers_5xx": sum(count for status, count in watch.status.items() if status >= "500"),
        "memory": memory,
    }


async def visits(root: str, count: int, watch: Watch) -> None:
    """Open and close pages, one after the other."""
    for _ in range(count):
        page = Session(root, watch)
        await page.open()
        await page.close()


async def forgotten(root: str, *, open_pages: int = 0) -> int:
    """Wait until the server has forgotten pages that were closed; give how many it still holds."""
    end = time.monotonic() + FORGET_SECONDS
    while True:
        held = int(numbers(root)["deepfeatures_sessions"]) - open_pages
        if held <= 0 or time.monotonic() > end:
            break
        await asyncio.sleep(1)
    return held


async def quiet(root: str) -> None:
    """Wait until pages that were opened are complete: nothing holds the event loop any more."""
    still, end = 0, time.monotonic() + 10 * QUIET_SECONDS
    numbers(root)
    while still < QUIET_SECONDS and time.monotonic() < end:
        await asyncio.sleep(1)
        still = still + 1 if numbers(root)[f"{LAG}_max"] < HELD_SECONDS else 0


async def probe(root: str, name: str, ws: Workspace) -> Any:
    """Measure the event loop while nothing, much work, and building of pages goes on."""
    lags: dict[str, Any] = {}
    await visits(root, 3, Watch())
    page = Session(root, Watch())
    await page.open()
    await quiet(root)
    await forgotten(root, open_pages=1)
    await quiet(root)
    with lateness(root, lags, "idle"):
        await asyncio.sleep(20)
    with lateness(root, lags, "embedding, UMAP, export"):
        done = await work(root, name, ws, 300.0)
    with lateness(root, lags, "pages"):
        await visits(root, 10, Watch())
    await page.close()
    return {"event_loop_lag_ms": lags, "work": done}


async def work(root: str, name: str, ws: Workspace, seconds: float) -> dict[str, Any]:
    """Embed a cube, fit a UMAP and download exports at the same time; say how that ended.

    The worker process does the two jobs one after the other. A UMAP that is not done after so
    many seconds is cancelled: it was beside the rest for long enough.
    """

    async def get(path: str, **options: Any) -> bytes:
        answer = await AsyncHTTPClient().fetch(f"{root}{path}", request_timeout=120, **options)
        return bytes(answer.body)

    info = json.loads(await get(f"/api/cubes/{name}"))
    west, south, east, north = info["bounds"]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    area = {"type": "Polygon", "coordinates": [ring]}
    asked = json.dumps({"cube": name, "model": MODEL, "aoi": area})
    kind = {"Content-Type": "application/json"}
    embedding = json.loads(await get("/api/jobs", method="POST", headers=kind, body=asked))["id"]
    features = next(one for one in catalogue.names(ws) if one.startswith(f"{name}-"))
    fit = {"points": 500, "epochs": 20}
    umap = jobs.submit(ws, kind="umap", cube=features, settings=fit)
    days = [time[:10] for time in info["times"]]
    end, exported, states = math.inf, 0, [""]
    periods = zip(days, days[EXPORTED_DATES:], strict=False)
    orders = itertools.cycle(itertools.product(periods, ("netcdf", "geotiff", "csv", "zarr")))
    while not (exported and set(states) <= set(OVER)):
        (first, last), form = next(orders)  # each another one: those that were made are kept
        asked = f"format={form}&start={first}&end={last}&channels=B04,B08"
        exported += len(await get(f"/api/cubes/{name}/export?{asked}"))
        found = [json.loads(await get(f"/api/jobs/{job}")) for job in (embedding, umap)]
        states = [job["state"] for job in found]
        if states[1] == "running":
            end = min(end, time.monotonic() + seconds)
        if time.monotonic() > end and states[1] not in OVER:
            jobs.cancel(ws, umap)
    return {"embedding": states[0], "umap": states[1], "exported_mb": round(exported / 1e6, 1)}


def numbers(root: str) -> dict[str, float]:
    """Give what ``/metrics`` says, by name and labels; the largest delay starts anew with it."""
    with urllib.request.urlopen(f"{root}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        key: float(value)
        for key, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
    }


@contextmanager
def lateness(root: str, lags: dict[str, Any], phase: str) -> Iterator[None]:
    """Note how late the event loop was while what is inside went on [ms]."""
    before = numbers(root)
    yield
    after = numbers(root)
    looks = after[f"{LAG}_count"] - before[f"{LAG}_count"]
    edges = {
        float(key.split('"')[1]): after[key] - before[key]
        for key in after
        if key.startswith(f"{LAG}_bucket")
    }
    worst = after[f"{LAG}_max"]
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
    found = {
        key: min(edge for edge, count in edges.items() if count >= share * looks)
        for key, share in shares.items()
    }
    lags[phase] = {key: round(1e3 * min(edge, worst), 1) for key, edge in found.items()} | {
        "max": round(1e3 * worst, 1),
        "count": int(looks),
    }


def _summary(took: list[float]) -> dict[str, float]:
    """Give exact percentiles: the smallest value that so many are not above."""
    ordered = sorted(took)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        key: round(ordered[math.ceil(share * len(ordered)) - 1], 1) for key, share in shares.items()
    } | {"count": len(ordered)}


def table(found: dict[str, Any]) -> str:
    """Write what was found as lines for a reader."""
    lags = {f"event loop: {phase}": row for phase, row in found["event_loop_lag_ms"].items()}
    rows = found.get("milliseconds", {}) | lags
    columns = ("count", "p50", "p95", "p99", "p99.9", "max")
    lines = [f"{'milliseconds':36}" + "".join(f"{column:>9}" for column in columns)]
    for what, row in rows.items():
        lines.append(f"{what:36}" + "".join(f"{row.get(column, ''):>9}" for column in columns))
    if memory := found.get("memory"):
        lines.append(
            f"memory {memory['start_mb']:.0f} MB at start, {memory['end_mb']:.0f} MB at end "
            f"(x {memory['end_over_start']}), {memory['sessions_at_end']} pages held, "
            f"{found['answers_5xx']} answers 5xx"
        )
    return "\n".join(lines)


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--home", type=Path, help="a workspace with the cube; else a small demo")
    parser.add_argument("--cube", default="demo")
    parser.add_argument("--probe", action="store_true", help="measure the event loop only")
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
            if options.probe:
                found = asyncio.run(probe(root, options.cube, workspace(home)))
            else:
                asked = {key: getattr(options, key) for key in ("sessions", "minutes", "pages")}
                found = asked | asyncio.run(soak(root, options.cube, options, process))
    sys.stdout.write(f"{json.dumps(found, indent=2)}\n\n{table(found)}\n")
    return 1 if found.get("answers_5xx") else 0


if __name__ == "__main__":
    sys.exit(main())
