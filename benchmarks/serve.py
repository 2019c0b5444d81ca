"""Map tiles and pixel series over HTTP, beside their goals.

``python benchmarks/serve.py [--requests 400] [--clients 4]`` writes a band cube (256 x 256 px,
200 dates, 12 bands) and a feature cube (500 dates, 6 features) into a temporary workspace, starts
the routes in a process of their own and asks them from this one, so that server and clients share
the cores. It prints JSON: milliseconds as median and 95th percentile, and tiles per second.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice, product

import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import tornado.web
import xarray as xr

from deepfeatures import catalogue, render, serve, store
from deepfeatures.bands import BANDS, attributes
from deepfeatures.settings import Workspace, workspace

GOALS = {
    "tile_p50_ms": 4.0,
    "tiles_per_second": 300.0,
    "pixel_series_six_features_500_dates_ms": 20.0,
}
EDGE = 256


def cube(variable: str, dim: str, labels: list[str], dates: int) -> xr.Dataset:
    """Make a smooth field with a season, noise and clouds."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(EDGE // 8, EDGE // 8)).repeat(8, 0).repeat(8, 1)
    season = np.sin(np.arange(dates) / 73 * 2 * np.pi)[:, None, None]
    values = np.empty((dates, len(labels), EDGE, EDGE), np.float32)
    for number in range(len(labels)):
        noise = rng.standard_normal((dates, EDGE, EDGE), dtype=np.float32)
        values[:, number] = 0.1 + 0.02 * number + 0.05 * coarse * season + 0.01 * noise
    clear = rng.random((dates, EDGE // 16, EDGE // 16)) > 0.4
    valid = clear.astype(np.uint8).repeat(16, 1).repeat(16, 2)
    ds = xr.Dataset(
        {
            variable: (("time", dim, "y", "x"), values, attributes(variable)),
            "valid": (("time", "y", "x"), valid, attributes("valid")),
        },
        coords={
            "time": np.datetime64("2018-01-01", "ns") + np.arange(dates) * np.timedelta64(5, "D"),
            dim: labels,
            "y": 5700000.0 - 5 - 10 * np.arange(EDGE),
            "x": 600000.0 + 5 + 10 * np.arange(EDGE),
        },
        attrs={"title": "Benchmark", "simulated": "true"},
    ).odc.assign_crs("EPSG:32632")
    if variable == "features":
        ds["features"].encoding = {"scale_factor": 0.01}
    return ds


def write(ws: Workspace) -> None:
    """Write both cubes."""
    features = [f"F{number:02d}" for number in range(1, 7)]
    for name, made in (
        ("bands", cube("reflectance", "band", list(BANDS), 200)),
        ("features", cube("features", "feature", features, 500)),
    ):
        store.write(made, catalogue.place(ws, name))
        catalogue.add(ws, name)


def run(home: str) -> None:
    """Serve a workspace and print the port."""

    async def main() -> None:
        app = tornado.web.Application(serve.routes(workspace(home)), log_function=lambda _: None)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        tornado.httpserver.HTTPServer(app).add_sockets(sockets)
        print(sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


def ask(port: int, urls: Iterator[str], took: list[float]) -> None:
    """Get URLs one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for url in urls:
        start = time.perf_counter()
        connection.request("GET", url)
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - start) * 1e3)
        if answer.status != 200:
            raise RuntimeError(f"{url}: {answer.status} {body[:200]!r}")
    connection.close()


def summary(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return {"p50_ms": round(statistics.median(ordered), 2), "p95_ms": round(p95, 2)}


def timed(port: int, urls: list[str], count: int, clients: int = 1) -> dict[str, float]:
    """Ask for URLs in turns from some clients at once."""
    took: list[float] = []
    parts = [islice(cycle(urls[n:] + urls[:n]), count // clients) for n in range(clients)]
    threads = [threading.Thread(target=ask, args=(port, part, took)) for part in parts]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(took) / (time.perf_counter() - start)
    return summary(took) | {"per_second": round(rate, 1)}


def tiles(name: str, style: str, dates: range, zoom: int = 14) -> list[str]:
    """Give the URLs of all tiles of a cube at some dates."""
    grid = render.Grid("EPSG:32632", 600000.0, 5700000.0, 10.0, EDGE, EDGE)
    west, south, east, north = render.bounds(grid)
    span = 2 * render.HALF_WORLD / 2**zoom
    xs = range(int((west + render.HALF_WORLD) / span), int((east + render.HALF_WORLD) / span) + 1)
    ys = range(int((render.HALF_WORLD - north) / span), int((render.HALF_WORLD - south) / span) + 1)
    return [
        f"/tiles/{name}/{zoom}/{x}/{y}.png?time={t}&{style}"
        for t, x, y in product(dates, xs, ys)
        if render.plan(grid, zoom, x, y, (1, 2)) is not None
    ]


STYLES = {
    "band": ("bands", "channel=B08&vmin=0&vmax=0.5"),
    "feature": ("features", "channel=F01&vmin=-0.2&vmax=0.4"),
    "index": ("bands", "channel=NDVI&vmin=0&vmax=0.5&cmap=YlGn"),
    "rgb": ("bands", "rgb=B04,B03,B02&vmin=0&vmax=0.4"),
}


def measure(port: int, requests: int, clients: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for style, (name, query) in STYLES.items():
        urls = tiles(name, query, range(100, 108))
        cold = timed(port, urls[:1], 1)
        timed(port, urls, len(urls))
        found[f"tile_{style}"] = {
            "first_ms": cold["p50_ms"],
            "one_client": timed(port, urls, requests),
            f"{clients}_clients": timed(port, urls, requests * 2, clients),
        }
    rng = np.random.default_rng(1)
    for name in ("features", "bands"):
        grid = render.Grid("EPSG:32632", 600000.0, 5700000.0, 10.0, EDGE, EDGE)
        centres = [600000.0 + 320 + 640 * n for n in range(4)]
        places = [(x, 5700000.0 + 600000.0 - y) for x, y in product(centres, centres)]
        cold = [_series(grid, name, *place) for place in places]
        first = timed(port, cold, len(cold))
        spread = [(x + dx, y + dy) for x, y in places for dx, dy in rng.integers(-300, 300, (9, 2))]
        found[f"series_{name}"] = {
            "chunks_not_in_memory": first,
            "in_memory": timed(port, [_series(grid, name, *place) for place in spread], 144),
        }
    return found


def _series(grid: render.Grid, name: str, x: float, y: float) -> str:
    lon, lat = render.transformer(grid.crs, "EPSG:4326").transform(x, y)
    return f"/api/cubes/{name}/series?lon={lon}&lat={lat}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--serve", help="serve a workspace instead of measuring")
    options = parser.parse_args()
    if options.serve:
        run(options.serve)
        return
    with tempfile.TemporaryDirectory() as home:
        write(workspace(home))
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", home], stdout=subprocess.PIPE, text=True
        )
        try:
            port = int(server.stdout.readline())
            found = measure(port, options.requests, options.clients)
        finally:
            server.terminate()
            server.wait()
    print(json.dumps({"goals": GOALS, "measured": found}, indent=2))


if __name__ == "__main__":
    main()
