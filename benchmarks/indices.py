"""Spectral indices: ours and spyndex in the same run on the same arrays, beside physical floors.

``python benchmarks/indices.py [--data FOLDER] [--parts memory store tiles] [--repeat 5]``

``memory``: all indices of 12 x 1024 x 1024 float32 reflectance in one call each, in turns;
``store``: from a band store to a store of the research set, beside spyndex with xarray and dask;
``tiles``: a map tile of an index computed from bands beside the same tile of a stored SI cube.
With ``--data`` the reflectance is that of a real cube (West Flanders), else random. Prints JSON:
medians, and what the machine could do at best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import spyndex
import xarray as xr
from odc.geo.xr import xr_coords

from deepfeatures import catalogue, cube, grid, indices, reading, render, store, work
from deepfeatures.bands import BANDS, attributes
from deepfeatures.indices.engine import blank
from deepfeatures.indices.native import cores
from deepfeatures.indices.ranges import SETS
from deepfeatures.serve.tiles import Style, picture
from deepfeatures.settings import workspace

REAL = "s2/be_31UDS_s2s1_2017-2018_10m.nc"
SIZE = 1024
EDGE, DATES = 256, 64
KERNELS = ("NN", "NR", "NB", "NL", "GG", "GR", "GB")


def parameters(bands: Mapping[str, Any]) -> dict[str, Any]:
    """Bands, constants, wavelengths and kernels under the names of spyndex."""
    found: dict[str, Any] = {BANDS[name].spyndex: values for name, values in bands.items()}
    found |= {name: value for name, value in indices.CONSTANTS.items() if value is not None}
    found |= {f"lambda{band.spyndex}": band.wavelength_nm for band in BANDS.values()}
    for a, b in KERNELS:
        one, two = found[a], found[b]
        found[f"k{a}{b}"] = spyndex.computeKernel("RBF", a=one, b=two, sigma=0.5 * (one + two))
    return found


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(work: Callable[[], Any]) -> int:
    """Measure by how many bytes the resident memory grows at most."""
    process, most, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    held = work()
    most = max(most, process.memory_info().rss - before)
    done.set()
    watcher.join()
    del held
    return most


def reflectance(data: Path | None) -> dict[str, np.ndarray]:
    """Give 12 bands of (64, 256, 256) float32, real pixels repeated, or random ones."""
    shape = (DATES, EDGE, EDGE)
    rng = np.random.default_rng(0)
    if data is None:
        return {name: rng.uniform(0.01, 0.8, shape).astype(np.float32) for name in BANDS}
    with xr.open_dataset(data / REAL) as ds:
        part = ds.isel(time=slice(0, DATES))
        found = {n: np.nan_to_num(part[n].values.astype("f4"), nan=0.1) for n in BANDS if n in ds}
    found |= {"B01": found["B02"] * 0.9, "B09": found["B8A"] * 1.02}
    times = EDGE // found["B02"].shape[-1]
    # A little noise, or compression would find that the pixels repeat.
    return {
        name: np.tile(found[name], (1, times, times)) + rng.normal(0, 5e-4, shape).astype("f4")
        for name in BANDS
    }


def in_memory(bands: dict[str, np.ndarray], repeat: int) -> dict[str, Any]:
    """All indices in one call."""
    flat = {name: np.resize(values, (SIZE, SIZE)) for name, values in bands.items()}
    names = list(indices.names())
    out = blank((len(names), SIZE, SIZE))
    out.fill(0)
    given = parameters(flat)
    halves = np.array_split(out.reshape(-1), cores())
    pool = ThreadPoolExecutor(cores())
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: indices.compute(flat, names),
        "ours_into_out": lambda: indices.compute(flat, names, out=out),
        "ours_one_core_into_out": lambda: indices.compute(flat, names, out=out, threads=1),
        "spyndex": lambda: spyndex.computeIndex(names, given),
        "fill_one_core": lambda: out.fill(1.0),
        "fill_all_cores": lambda: list(pool.map(lambda part: part.fill(1.0), halves)),
    }
    first = timed(ways["ours"])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with np.errstate(all="ignore"):
        for _ in range(repeat):
            for name, way in ways.items():
                taken[name].append(timed(way))
        grown = {name: peak(ways[name]) / out.nbytes for name in ("ours", "spyndex")}
    medians = {name: statistics.median(times) for name, times in taken.items()}
    fill = min(medians["fill_one_core"], medians["fill_all_cores"])
    return {
        "indices": len(names),
        "pixels": SIZE * SIZE,
        "cores": cores(),
        "seconds": rounded(medians),
        "first_call_with_compilation_s": round(first, 3),
        "million_values_per_second": rounded({n: out.size / t / 1e6 for n, t in medians.items()}),
        "peak_memory_over_result": rounded(grown),
        "times_spyndex": rounded(
            {n: medians["spyndex"] / medians[n] for n in ("ours", "ours_into_out")}
        ),
        "write_bandwidth_GB_per_s": round(out.nbytes / fill / 1e9, 2),
        "share_of_write_bandwidth": rounded(
            {n: fill / medians[n] for n in ("ours", "ours_into_out")}
        ),
        "goals": {"times_spyndex": 5, "share_of_write_bandwidth": 0.6},
    }


def band_cube(bands: dict[str, np.ndarray]) -> xr.Dataset:
    """Give the reflectance as a cube under the contract."""
    where = grid.square(50.8, 3.0, EDGE, 10.0)
    values = np.stack([bands[name] for name in BANDS], axis=1)
    times = np.datetime64("2020-01-01", "ns") + np.arange(DATES) * np.timedelta64(5, "D")
    ds = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), values, attributes("reflectance")),
            "valid": (("time", "y", "x"), np.ones(values[:, 0].shape, "u1"), attributes("valid")),
        },
        coords={"time": times, "band": list(BANDS)},
        attrs={"title": "benchmark"},
    )
    return ds.assign_coords(xr_coords(where))


PEER = """
import sys, dask, numpy as np, spyndex, xarray as xr
sys.path.insert(0, {here!r})
from indices import parameters
names = {names!r}
with dask.config.set(scheduler="threads", num_workers={cores}), np.errstate(all="ignore"):
    ds = xr.open_zarr({url!r}, consolidated=False).chunk(time=16, y=128, x=128)
    refl = ds["reflectance"].astype("float32")
    bands = {{str(b): refl.sel(band=b, drop=True) for b in refl["band"].values}}
    found = spyndex.computeIndex(names, parameters(bands))
    keep = found.drop_vars([c for c in found.coords if c != "index"]).to_dataset(name="si")
    keep.to_zarr({out!r}, mode="w", consolidated=False)
"""


def from_store_to_store(bands: dict[str, np.ndarray], repeat: int) -> dict[str, Any]:
    """Go from a store of bands to a store of the research set, each in its usual way."""
    names = list(SETS["research"])
    with tempfile.TemporaryDirectory() as folder:
        ws = workspace(folder)
        url = catalogue.place(ws, "bands")
        store.write(band_cube(bands), url)
        catalogue.add(ws, "bands")
        script = PEER.format(
            here=str(Path(__file__).parent), names=names, cores=cores(), url=url,
            out=f"{folder}/peer.zarr",
        )  # fmt: skip
        imports = "import dask, spyndex, xarray"
        start = timed(partial(subprocess.run, [sys.executable, "-c", imports], check=True))
        peer = [sys.executable, "-W", "ignore", "-c", script]
        taken: dict[str, list[float]] = {"ours": [], "spyndex_dask": []}
        for number in range(repeat):
            with work.workers(cores()) as pool:
                make = partial(cube.materialise, ws, "bands", names, executor=pool)
                taken["ours"].append(timed(partial(make, out=f"si-{number}")))
            taken["spyndex_dask"].append(timed(partial(subprocess.run, peer, check=True)) - start)
        sizes = {
            "bands": weight(Path(url)),
            "ours": weight(Path(catalogue.url(ws, "si-0"))),
            "spyndex_dask": weight(Path(folder) / "peer.zarr"),
        }
        with xr.open_zarr(f"{folder}/peer.zarr", consolidated=False) as written:
            mine = catalogue.open(ws, "si-0")["si"].isel(time=3).values
            theirs = written["si"].transpose("time", "index", "y", "x").isel(time=3).values
        off = np.nanmax(np.abs(mine - theirs)[names.index("NDVI")])
    count = len(names) * DATES * EDGE * EDGE
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "indices": len(names),
        "values": count,
        "seconds": rounded(medians),
        "million_values_per_second": rounded({n: count / t / 1e6 for n, t in medians.items()}),
        "times_spyndex_dask": round(medians["spyndex_dask"] / medians["ours"], 2),
        "megabytes": rounded({name: size / 1e6 for name, size in sizes.items()}),
        "greatest_difference_of_NDVI": float(f"{off:.2g}"),
        "goals": {"times_spyndex_dask": 5},
    }


def weight(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def tiles(bands: dict[str, np.ndarray], _: int) -> dict[str, Any]:
    """Map tiles of NDVI, EVI and MCARI2: computed from bands, and read from a stored SI cube."""
    with tempfile.TemporaryDirectory() as folder:
        ws = workspace(folder)
        store.write(band_cube(bands), catalogue.place(ws, "bands"))
        catalogue.add(ws, "bands")
        names = ("NDVI", "EVI", "MCARI2")
        cube.materialise(ws, "bands", names, out="si")
        found: dict[str, Any] = {}
        for name, label in (("bands", "virtual"), ("si", "stored")):
            opened = reading.open(catalogue.url(ws, name), name)
            for channel in names:
                found[f"{channel}_{label}_ms"] = tile_times(opened, channel)
    return found


def tile_times(opened: reading.OpenCube, channel: str) -> dict[str, float]:
    """Measure the tile in the middle: first with nothing in memory, then date after date."""
    place = middle(opened)
    styles = [Style(time=str(t), channels=(channel,), vmin=-1.0, vmax=1.0) for t in range(0, DATES)]
    cold, warm = [], []
    for style in styles[::8]:
        reading.CHUNKS.clear()
        cold.append(timed(partial(picture, opened, style, *place)))
    for style in styles:
        picture(opened, style, *place)
        warm.append(timed(partial(picture, opened, style, *place)))
    return {
        name: round(1e3 * statistics.median(times), 2)
        for name, times in (("cold", cold), ("warm", warm))
    }


def middle(opened: reading.OpenCube) -> tuple[int, int, int]:
    """Give the map tile of zoom 14 in the middle of a cube."""
    west, south, east, north = render.bounds(opened.grid, "EPSG:4326")
    lon, lat = np.radians((west + east) / 2), np.radians((south + north) / 2)
    x = int((lon + np.pi) / (2 * np.pi) * 2**14)
    y = int((1 - np.arcsinh(np.tan(lat)) / np.pi) / 2 * 2**14)
    return 14, x, y


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}


PARTS = {"memory": in_memory, "store": from_store_to_store, "tiles": tiles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the real data")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    bands = reflectance(options.data)
    source = "random" if options.data is None else REAL
    report = {name: PARTS[name](bands, options.repeat) for name in options.parts}
    print(json.dumps({"reflectance": source} | report, indent=1))


if __name__ == "__main__":
    main()
