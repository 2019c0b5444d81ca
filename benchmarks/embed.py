"""Seconds and peak memory of the shipped predictors per megapixel-date, store to store.

Run from the top of the repository: ``python benchmarks/embed.py [--edge 256] [--dates 64]``.
Each predictor runs in a fresh process, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from typing import Any

import numpy as np
import torch
import xarray as xr
from odc.geo.xr import assign_crs
from torch.utils.flop_counter import FlopCounterMode

from deepfeatures import infer, store
from deepfeatures.bands import attributes
from deepfeatures.embed.training import CHANNELS
from deepfeatures.predictor import Predictor, shipped


def cube(edge: int, dates: int) -> xr.Dataset:
    """Make a seeded band cube with half of its pixel-dates usable."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.02, 0.4, (dates, len(CHANNELS), edge, edge)).astype(np.float32)
    valid = (rng.random((dates, edge, edge)) > 0.5).astype(np.uint8)
    start = np.datetime64("2021-01-01", "ns")
    ds = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), values, attributes("reflectance")),
            "valid": (("time", "y", "x"), valid, attributes("valid")),
        },
        coords={
            "time": start + 5 * np.arange(dates).astype("timedelta64[D]"),
            "band": list(CHANNELS),
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
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    with infer.workers(predictor) as executor:
        infer.run(predictor, ds, f"{folder}/{name}", executor=executor)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "model": name,
        "megapixel_dates": round(megapixel_dates, 2),
        "seconds_per_megapixel_date": round(seconds / megapixel_dates, 2),
        "cpu_seconds_per_megapixel_date": round(cpu / megapixel_dates, 2),
        "peak_mb": round(after.ru_maxrss / 1024),
        "peak_mb_before": round(before.ru_maxrss / 1024),
        "multiply_adds_per_pixel_date": round(operations(predictor)),
    }


def operations(predictor: Predictor) -> float:
    """Count the multiply-adds per pixel-date with torch's counter."""
    time_, edge = 64, 32
    values = torch.zeros(1, time_, len(CHANNELS), edge, edge)
    seen, days = torch.ones(1, time_, edge, edge), 5.0 * torch.arange(time_)[None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        predictor.module(values, seen, days)
    return counter.get_total_flops() / 2 / seen.numel()


def prepare(folder: str, edge: int, dates: int) -> None:
    """Write the cube; in a process of its own, whose memory nobody inherits."""
    store.write(cube(edge, dates), f"{folder}/bands")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=256)
    parser.add_argument("--dates", type=int, default=64)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with context.Pool(1) as pool:
            pool.apply(prepare, (folder, args.edge, args.dates))
        for name in shipped():
            with context.Pool(1) as pool:
                print(json.dumps(pool.apply(measure, (name, folder))))


if __name__ == "__main__":
    main()
