"""A pixel through time: from our layout, beside the original one and plain xarray.

``python benchmarks/series.py [--dates 500] [--features 6] [--edge 384] [--pixels 15]`` writes a
feature cube twice into a temporary folder: as our store, and as a Zarr of one date per chunk with
all features and pixels together in float32, the layout in which such cubes were kept before. Our
store is read with `reading` and through xarray. Each read is of another pixel, and no chunk of it
is in the memory of this process. It prints JSON: medians in milliseconds, the ratio, and whether
the goals are met (20 ms, 50 times). The original cubes had 1000 x 1000 px, so that the ratio at a
smaller edge is too low; and the files are in the memory of the system, a disk would widen the gap.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import xarray as xr

from deepfeatures import reading, store
from deepfeatures.bands import attributes

GOAL_MS, GOAL_RATIO = 20.0, 50.0


def made(dates: int, features: int, edge: int) -> xr.Dataset:
    """Make a smooth field with noise and clouds."""
    rng = np.random.default_rng(0)
    season = np.sin(np.arange(dates) / 73 * 2 * np.pi).astype(np.float32)
    values = np.empty((dates, features, edge, edge), np.float32)
    for at in range(dates):
        values[at] = season[at] + 0.1 * rng.standard_normal((features, edge, edge), np.float32)
    valid = (rng.random((dates, edge // 16, edge // 16)) > 0.4).astype(np.uint8)
    ds = xr.Dataset(
        {
            "features": (("time", "feature", "y", "x"), values, attributes("features")),
            "valid": (
                ("time", "y", "x"),
                valid.repeat(16, 1).repeat(16, 2),
                attributes("valid"),
            ),
        },
        coords={
            "time": np.datetime64("2018-01-01", "ns") + np.arange(dates) * np.timedelta64(5, "D"),
            "feature": [f"F{number + 1:02d}" for number in range(features)],
            "y": 5700000.0 - 5 - 10 * np.arange(edge),
            "x": 600000.0 + 5 + 10 * np.arange(edge),
        },
        attrs={"title": "Benchmark", "simulated": "true"},
    ).odc.assign_crs("EPSG:32632")
    ds["features"].encoding = {"scale_factor": 0.015}
    return ds


def written(folder: Path, ds: xr.Dataset) -> tuple[str, str]:
    """Write our store and the original layout."""
    ours, original = str(folder / "ours.zarr"), str(folder / "original.zarr")
    store.write(ds, ours)
    plain = ds[["features"]].drop_vars("spatial_ref")
    plain["features"].encoding = {"chunks": (1, *plain["features"].shape[1:])}
    plain.to_zarr(original, zarr_format=3, consolidated=False)
    return ours, original


def took(read: Callable[[int, int], object], places: np.ndarray) -> list[float]:
    """Give the milliseconds of each of some reads; the first one warms up and does not count."""
    found = []
    for place in places:
        reading.CHUNKS.clear()
        start = time.perf_counter()
        read(*place.tolist())
        found.append((time.perf_counter() - start) * 1e3)
    return found[1:]


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Time all readers at the same pixels."""
    places = np.random.default_rng(1).integers(0, options.edge, (options.pixels + 1, 2))
    with tempfile.TemporaryDirectory() as folder:
        ds = made(options.dates, options.features, options.edge)
        ours, original = written(Path(folder), ds)
        cube = reading.open(ours)
        near = options.dates // 2
        old = xr.open_zarr(original, consolidated=False, chunks=None)["features"]
        plain = store.open(ours)["features"]
        readers: dict[str, Callable[[int, int], object]] = {
            "ours": lambda row, column: reading.series(cube, row, column),
            "ours_first_part": lambda row, column: reading.series(
                cube, row, column, times=reading.parts(cube, near)[0]
            ),
            "ours_through_xarray": lambda row, column: plain[:, :, row, column].values,
            "original_layout": lambda row, column: old[:, :, row, column].values,
        }
        row, column = (int(number) for number in places[0])
        error = np.abs(
            np.stack(list(reading.series(cube, row, column, masked=False).values.values()), 1)
            - old[:, :, row, column].values
        ).max()
        assert error < 0.016, f"the readers disagree by {error}"
        medians = {
            name: round(
                statistics.median(took(read, places[:5] if name.startswith("orig") else places)), 2
            )
            for name, read in readers.items()
        }
    ratio = round(medians["original_layout"] / medians["ours"], 1)
    return {
        "dates": options.dates, "features": options.features, "edge_px": options.edge,
        "median_ms": medians, "times_faster_than_original": ratio,
        "goal_ms": GOAL_MS, "goal_times_faster": GOAL_RATIO,
        "met": medians["ours"] < GOAL_MS and ratio >= GOAL_RATIO,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (("dates", 500), ("features", 6), ("edge", 384), ("pixels", 15)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
