"""Operations, seconds and peak memory of the shipped predictors, store to store.

Run from the top of the repository: ``python benchmarks/embed.py [--edge 192] [--dates 96]``.
``--year`` embeds 10 km x 10 km at 10 m and 73 dates, for the peak memory; it takes minutes.
Each predictor runs in a fresh process, so that its peak memory is its own. A megapixel-date is one
date of 1000 x 1000 px. The floor is the larger of two: multiply-adds over the rate of a large
matrix product, and bytes read and written once over the rate of a copy, both measured on all cores
just before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import torch
import xarray as xr
from odc.geo.xr import assign_crs
from torch.utils.flop_counter import FlopCounterMode

from deepfeatures import infer, store
from deepfeatures.bands import attributes
from deepfeatures.embed.sensors import SENSORS
from deepfeatures.predictor import Predictor, shipped

BANDS = SENSORS["s2"].channels
REFERENCE = 3.3e9
"""Multiply-adds per pixel-date of the research encoder, one window of 11 x 15 x 15 per pixel."""
YEAR = {"edge": 1000, "dates": 73}


def cube(edge: int, dates: int) -> xr.Dataset:
    """Make a seeded lazy band cube with half of its pixel-dates usable."""
    rng = dask.array.random.default_rng(0)
    chunk = min(edge, 256)
    values = rng.uniform(0.02, 0.4, (dates, len(BANDS), edge, edge),
                         chunks=(dates, 1, chunk, chunk)).astype(np.float32)  # fmt: skip
    valid = rng.random((dates, edge, edge), chunks=(dates, chunk, chunk)) > 0.5
    start = np.datetime64("2021-01-01", "ns")
    ds = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), values, attributes("reflectance")),
            "valid": (("time", "y", "x"), valid.astype(np.uint8), attributes("valid")),
        },
        coords={
            "time": start + 5 * np.arange(dates).astype("timedelta64[D]"),
            "band": list(BANDS),
            "y": 5_800_000.0 - 10 * np.arange(edge),
            "x": 500_000.0 + 10 * np.arange(edge),
        },
        attrs={"title": "Benchmark"},
    )
    return assign_crs(ds, "EPSG:32632")


def measure(name: str, folder: str) -> dict[str, Any]:
    """Embed the cube on all cores and give the figures."""
    predictor = Predictor.load(name)
    ds = store.open(f"{folder}/bands")
    megapixel_dates = ds["valid"].size / 1e6
    count = operations(predictor)
    with infer.workers(predictor) as executor:
        floor = least(predictor, count, getattr(executor, "_max_workers", 1))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        held, before = memory("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        infer.run(predictor, ds, f"{folder}/{name}", executor=executor)
        seconds = time.perf_counter() - began
    peak, after = memory("VmHWM"), resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "model": name,
        "megapixel_dates": round(megapixel_dates, 2),
        "multiply_adds_per_pixel_date": round(count),
        "fewer_than_the_reference": round(REFERENCE / max(count, 1)),
        "seconds_per_megapixel_date": round(seconds / megapixel_dates, 2),
        "cpu_seconds_per_megapixel_date": round(cpu / megapixel_dates, 2),
        "floor_seconds_per_megapixel_date": round(floor, 3),
        "peak_mb": round(peak),
        "mb_before": round(held),
    }


def memory(what: str) -> float:
    """Give what this process holds (``VmRSS``) or held at most (``VmHWM``) [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def operations(predictor: Predictor) -> float:
    """Count the multiply-adds per pixel-date with torch's counter."""
    rng = np.random.default_rng(0)
    values = rng.random((64, len(predictor.inputs), 32, 32), np.float32)
    seen, days = np.ones((64, 32, 32), bool), 18_500 + 5.0 * np.arange(64)
    with FlopCounterMode(display=False) as counter:
        predictor(values, seen, days)
    return counter.get_total_flops() / 2 / seen.size


def least(predictor: Predictor, count: float, workers: int) -> float:
    """Give the floor [s per megapixel-date]."""
    one = torch.rand(512, 512)
    big = np.zeros(2**24, np.float32)
    # once in as float32 and once out as integers, with the mask on both sides
    moved = 4 * len(predictor.inputs) + len(predictor.features) + 2
    products = rate(lambda: torch.mm(one, one), 512**3, workers)
    copied = rate(lambda: big.copy(), big.nbytes, workers)
    return 1e6 * max(count / products, moved / copied)


def rate(work: Callable[[], object], amount: float, workers: int, rounds: int = 8) -> float:
    """Give what all workers together do of something per second."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: work(), range(workers)))
        began = time.perf_counter()
        list(pool.map(lambda _: work(), range(workers * rounds)))
        return workers * rounds * amount / (time.perf_counter() - began)


def prepare(folder: str, edge: int, dates: int) -> None:
    """Write the cube; in a process of its own, whose memory nobody inherits."""
    store.write(cube(edge, dates), f"{folder}/bands")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=192)
    parser.add_argument("--dates", type=int, default=96)
    parser.add_argument("--year", action="store_true", help="10 km and a year instead")
    parser.add_argument("--model", help="one predictor instead of all that ship")
    args = parser.parse_args()
    edge, dates = (YEAR["edge"], YEAR["dates"]) if args.year else (args.edge, args.dates)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with context.Pool(1) as pool:
            pool.apply(prepare, (folder, edge, dates))
        for name in [args.model] if args.model else shipped():
            with context.Pool(1) as pool:
                print(json.dumps(pool.apply(measure, (name, folder))), flush=True)


if __name__ == "__main__":
    main()
