"""Spectral indices: ours and spyndex in the same run, against the machine's write bandwidth.

``python benchmarks/indices.py [--size 1000] [--repeat 5]`` computes all indices of a square of
float32 reflectance in one call each, in turns, and prints medians as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import spyndex

from deepfeatures import indices
from deepfeatures.bands import BANDS


def parameters(bands: dict[str, np.ndarray]) -> dict[str, object]:
    """Bands, constants, wavelengths and kernels under the names of spyndex."""
    found: dict[str, object] = {BANDS[name].spyndex: values for name, values in bands.items()}
    found |= {name: value for name, value in indices.CONSTANTS.items() if value is not None}
    found |= {f"lambda{band.spyndex}": band.wavelength_nm for band in BANDS.values()}
    for a, b in (
        ("N", "N"),
        ("N", "R"),
        ("N", "B"),
        ("N", "L"),
        ("G", "G"),
        ("G", "R"),
        ("G", "B"),
    ):
        one, two = found[a], found[b]
        found[f"k{a}{b}"] = spyndex.computeKernel("RBF", a=one, b=two, sigma=0.5 * (one + two))
    return found


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Measure wall clock and processor time; on a busy machine only the second is comparable."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="edge of the square [px]")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (options.size, options.size)
    bands = {name: rng.uniform(0.01, 0.8, shape).astype(np.float32) for name in BANDS}
    names = list(indices.names())
    out = np.zeros((len(names), *shape), np.float32)
    given = parameters(bands)
    runs: dict[str, list[tuple[float, float]]] = {
        "ours": [],
        "ours_into_out": [],
        "spyndex": [],
        "fill": [],
    }
    with np.errstate(all="ignore"):
        for _ in range(options.repeat):
            runs["ours"].append(seconds(lambda: indices.compute(bands, names)))
            runs["ours_into_out"].append(seconds(lambda: indices.compute(bands, names, out=out)))
            runs["spyndex"].append(seconds(lambda: spyndex.computeIndex(names, given)))
            runs["fill"].append(seconds(lambda: out.fill(1.0)))
    medians = {name: statistics.median(wall for wall, _ in times) for name, times in runs.items()}
    processor = {name: statistics.median(cpu for _, cpu in times) for name, times in runs.items()}
    report = {
        "indices": len(names),
        "pixels": shape[0] * shape[1],
        "repeats": options.repeat,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "processor_seconds": {name: round(value, 4) for name, value in processor.items()},
        "million_values_per_second": {
            name: round(out.size / value / 1e6, 1) for name, value in medians.items()
        },
        "times_faster_than_spyndex": round(medians["spyndex"] / medians["ours"], 2),
        "share_of_write_bandwidth": round(medians["fill"] / medians["ours_into_out"], 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
