"""Similarity of every pixel to one, beside xarray with scikit-learn's cosine_similarity.

``python benchmarks/find.py [--home WORKSPACE] [--edge 1000] [--repeat 3]`` prints JSON:
milliseconds for one date of ``edge`` x ``edge`` pixels and six features, and for the feature cube
of a workspace (by default a small simulated one) with its whole time axis. Both sides read the
same store, mask what is not usable, and give the same numbers.
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
from sklearn.metrics.pairwise import cosine_similarity

from deepfeatures import catalogue, cube, mapping, reading, render, serve, store
from deepfeatures.bands import attributes
from deepfeatures.clouds import USABLE
from deepfeatures.settings import Workspace, workspace

FEATURES = 6


def milliseconds(work: Callable[[], object], repeat: int) -> float:
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return round(1000 * statistics.median(taken), 1)


def date(ws: Workspace, edge: int) -> str:
    """Store one date of random features and give its name."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.3, (1, FEATURES, edge, edge)).astype(np.float32)
    shown = (rng.random((1, edge, edge)) < 0.9).astype(np.uint8)
    packed = {"scale_factor": 0.01}
    ds = xr.Dataset(
        {
            "features": (("time", "feature", "y", "x"), values, attributes("features"), packed),
            "valid": (("time", "y", "x"), shown, attributes("valid")),
        },
        coords={
            "time": np.array(["2021-07-01"], "datetime64[ns]"),
            "feature": [f"F{n + 1:02d}" for n in range(FEATURES)],
            "y": 5_800_000.0 - 10 * np.arange(edge),
            "x": 600_000.0 + 10 * np.arange(edge),
        },
    ).odc.assign_crs("EPSG:32632")
    store.write(ds, catalogue.place(ws, "date"))
    catalogue.add(ws, "date")
    return "date"


def middle(one: reading.OpenCube) -> tuple[int, int, float, float]:
    """Give a pixel that is usable on some date: row, column, longitude, latitude."""
    valid = one.arrays["valid", 1][:] == USABLE
    row, column = (int(v[0]) for v in np.nonzero(valid[0] if valid[0].any() else valid.any(axis=0)))
    x = one.grid.west + (column + 0.5) * one.grid.resolution
    y = one.grid.north - (row + 0.5) * one.grid.resolution
    return row, column, *render.transformer(one.grid.crs, "EPSG:4326").transform(x, y)


def peer(one: reading.OpenCube, row: int, column: int) -> np.ndarray:
    """Do the same as a notebook does it."""
    ds = store.open(one.url)
    mean, deviation = mapping.spread(one)
    values = (ds["features"].values - mean[:, None, None]) / deviation[:, None, None]
    usable = (ds["valid"].values == USABLE) & np.isfinite(values).all(axis=1)
    kept = usable[:, row, column]
    values = np.where(usable[kept][:, None], values[kept], 0)
    # with gaps as zeros the length of the reference is that on the common dates of each pixel
    lengths = (values[:, :, row, column] ** 2).sum(axis=1)
    flat = values.reshape(-1, usable[0].size).T
    found = cosine_similarity(flat, values[:, :, row, column].reshape(1, -1))[:, 0]
    common = lengths @ usable[kept].reshape(kept.sum(), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (found * np.sqrt(lengths.sum() / common)).reshape(usable.shape[1:])


def compare(one: reading.OpenCube, repeat: int) -> dict[str, object]:
    """Measure one cube on both sides and check that they agree."""
    row, column, lon, lat = middle(one)
    mapping.spread(one)

    def ours() -> np.ndarray:
        return mapping.similar(one, (lon, lat)).values[0]

    def cold() -> None:
        reading.CHUNKS.clear()
        ours()

    first = milliseconds(cold, repeat)
    result, other = ours(), peer(one, row, column)
    there = np.isfinite(result) & np.isfinite(other)
    found = {
        "pixels": int(np.prod(one.geobox.shape)), "dates": len(one.times),
        "cold_ms": first, "warm_ms": milliseconds(ours, repeat),
        "xarray_sklearn_ms": milliseconds(lambda: peer(one, row, column), repeat),
        "largest_difference": float(np.abs(result - other)[there].max()),
    }  # fmt: skip
    return found | {"times_faster_warm": round(found["xarray_sklearn_ms"] / found["warm_ms"], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", help="workspace with a feature cube (default: a small demo)")
    parser.add_argument("--edge", type=int, default=1000, help="edge of the single date [px]")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = workspace(Path(folder) / "date")
        found = {"one_date": compare(serve.cube(made, date(made, args.edge)), args.repeat)}
        ws = workspace(args.home or Path(folder) / "demo")
        if not catalogue.names(ws):
            cube.demo(ws, seed=0, size=128, years=1)
        kinds = {name: catalogue.info(ws, name)["kind"] for name in catalogue.names(ws)}
        name = next(one for one, kind in kinds.items() if kind == "features")
        found["all_dates"] = compare(serve.cube(ws, name), args.repeat)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
