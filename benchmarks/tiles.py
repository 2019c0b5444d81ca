"""Map tiles over HTTP beside titiler.xarray and xpublish-tiles: the same cube, the same run.

``python benchmarks/tiles.py --peers PYTHON`` writes a band cube on a UTM grid (1024 x 1024 px of
10 m, 24 dates, the simulated landscape mirrored at its edges), once as this package stores it and
once as the peers like it best (uint16, one date x 256 x 256 px a chunk, a variable for each band),
starts the three servers one after the other and asks each for the same tiles: zooms 11, 13, 14, 15,
one channel in colours, some dates. PYTHON is an interpreter with the packages of
``peers-tiles.txt``. Server and clients share the cores. It prints JSON: milliseconds as median and
95th percentile with one client, tiles per second with eight, bytes per tile, and ratios to ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from itertools import product
from pathlib import Path

EDGE, DATES = 1024, 24
ZOOMS = (11, 13, 14, 15)
BANDS = ("B02", "B03", "B04", "B08")
PEERS = ("titiler.xarray", "xpublish-tiles")


def write(home: Path) -> list[str]:
    """Write both stores; give the dates."""
    import numpy as np

    from deepfeatures import catalogue, contract, cube, store
    from deepfeatures.settings import workspace

    ws = workspace(home)
    cube.demo(workspace(home / "small"), seed=0, size=256, years=1)
    small = catalogue.open(workspace(home / "small"), "demo").isel(time=slice(0, DATES))
    small = small[["reflectance", "valid"]].sel(band=list(BANDS)).load()
    pad = EDGE - small.sizes["y"]
    big = small.pad(y=(0, pad), x=(0, pad), mode="reflect").assign_coords(
        y=small["y"].values[0] - 10.0 * np.arange(EDGE),
        x=small["x"].values[0] + 10.0 * np.arange(EDGE),
    )
    big = big.odc.assign_crs(str(contract.crs(small)))
    big["valid"] = big["valid"].astype("uint8").assign_attrs(small["valid"].attrs)
    for name in big.variables:
        big[name].encoding = {}
    store.write(contract.check(big), catalogue.place(ws, "tiles"))
    catalogue.add(ws, "tiles")
    plain = big["reflectance"].to_dataset("band").drop_vars("valid", errors="ignore")
    coding = {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 65535}
    for band in BANDS:
        plain[band].attrs |= {"grid_mapping": "spatial_ref"}
    plain.attrs = {}
    plain.to_zarr(
        home / "plain.zarr",
        zarr_format=3,
        consolidated=True,
        encoding={band: coding | {"chunks": (1, 256, 256)} for band in BANDS},
    )
    return [str(time)[:19] for time in big["time"].values]


def serve(who: str, home: Path, port: int) -> None:
    """Serve until the end of the process."""
    if who == "deepfeatures":
        import asyncio

        import tornado.web

        from deepfeatures import serve as routes
        from deepfeatures.settings import workspace

        async def main() -> None:
            app = tornado.web.Application(routes.routes(workspace(home)), log_function=print_not)
            app.listen(port, "127.0.0.1")
            await asyncio.Event().wait()

        asyncio.run(main())
        return
    import uvicorn

    if who == "titiler.xarray":
        from fastapi import FastAPI
        from titiler.xarray.extensions import VariablesExtension
        from titiler.xarray.factory import TilerFactory

        app = FastAPI()
        app.include_router(TilerFactory(extensions=[VariablesExtension()]).router)
    else:
        import xarray as xr
        import xpublish
        from xpublish_tiles.xpublish.tiles import TilesPlugin

        ds = xr.open_zarr(home / "plain.zarr", decode_coords="all")
        ds.attrs["_xpublish_id"] = "tiles"
        app = xpublish.SingleDatasetRest(ds, plugins={"tiles": TilesPlugin()}).app
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def print_not(*_: object) -> None:
    """Log nothing."""


def address(who: str, home: Path, tile: tuple[int, int, int], date: str) -> str:
    """Write the path and query of a tile for one of the servers."""
    z, x, y = tile
    if who == "deepfeatures":
        return f"/tiles/tiles/{z}/{x}/{y}.png?time={date[:10]}&channel=B08&vmin=0&vmax=0.5"
    if who == "titiler.xarray":
        return (
            f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?url={home / 'plain.zarr'}&variable=B08"
            f"&sel=time={date}&rescale=0,0.5&colormap_name=viridis"
        )
    return (
        f"/tiles/WebMercatorQuad/{z}/{y}/{x}?variables=B08&time={date}&width=256&height=256"
        "&style=raster/viridis&colorscalerange=0,0.5&f=image/png"
    )


def chosen(home: Path, zoom: int, most: int) -> list[tuple[int, int, int]]:
    """Give tiles of a zoom that lie in the cube, the middle ones first."""
    from deepfeatures import reading, render

    grid = reading.open(str(home / "cubes" / "tiles.zarr"), "tiles").grid
    west, south, east, north = render.bounds(grid)
    span = 2 * render.HALF_WORLD / 2**zoom
    xs = range(int((west + render.HALF_WORLD) / span), int((east + render.HALF_WORLD) / span) + 1)
    ys = range(int((render.HALF_WORLD - north) / span), int((render.HALF_WORLD - south) / span) + 1)
    found = [(zoom, x, y) for x, y in product(xs, ys) if render.plan(grid, zoom, x, y)]
    middle = len(found) // 2
    return sorted(found, key=lambda tile: abs(found.index(tile) - middle))[:most]


def measured(who: str, port: int, urls: dict[int, list[str]], budget: int) -> dict[str, object]:
    """Ask one server for its tiles: warm medians with one client, throughput with eight."""
    sys.path.insert(0, str(Path(__file__).parent))
    from serve import timed

    found: dict[str, object] = {}
    for zoom, paths in urls.items():
        sizes = [size(port, path) for path in paths]  # warms the server as well
        found[f"zoom_{zoom}"] = timed(port, paths, budget) | {
            "bytes": round(statistics.mean(sizes))
        }
    mixed = [path for paths in urls.values() for path in paths]
    found["8_clients"] = timed(port, mixed, 4 * budget, 8)
    return found


def size(port: int, path: str) -> int:
    """Give the bytes of a tile."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        return len(answer.read())


def started(who: str, python: str, home: Path, port: int, probe: str) -> subprocess.Popen[bytes]:
    """Start a server and wait until it gives its first tile."""
    command = [python, __file__, "--serve", who, "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    import time

    problem: object = ""
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            size(port, probe)
        except urllib.error.HTTPError as error:
            problem = f"{error} {error.read()[:300]!r}"
            break
        except OSError as error:
            problem = error
            time.sleep(0.5)
        else:
            return process
    process.terminate()
    raise RuntimeError(f"{who} gives no tile: {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="interpreter with the packages of peers-tiles.txt")
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--serve", help="serve as one of the three instead of measuring")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.home, options.port)
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dates = write(home)[::4]
        tiles = {zoom: chosen(home, zoom, 8) for zoom in ZOOMS}
        found: dict[str, dict] = {}
        for number, who in enumerate(("deepfeatures", *(PEERS if options.peers else ()))):
            urls = {
                zoom: [address(who, home, tile, date) for tile in places for date in dates[:4]]
                for zoom, places in tiles.items()
            }
            python = sys.executable if who == "deepfeatures" else options.peers
            port = options.port + number
            process = started(who, python, home, port, urls[ZOOMS[0]][0])
            try:
                budget = options.requests if who == "deepfeatures" else options.requests // 6
                found[who] = measured(who, port, urls, budget)
            finally:
                process.terminate()
                process.wait(20)
    ours = found["deepfeatures"]
    ratios = {
        who: {
            zoom: round(found[who][zoom]["p50_ms"] / ours[zoom]["p50_ms"], 1)
            for zoom in ours
            if zoom.startswith("zoom")
        }
        | {"throughput": round(ours["8_clients"]["per_second"] / one["8_clients"]["per_second"], 1)}
        for who, one in found.items()
        if who != "deepfeatures"
    }
    print(json.dumps({"measured": found, "times_as_fast": ratios}, indent=2))


if __name__ == "__main__":
    main()
