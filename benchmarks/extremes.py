"""Extremes of simulated weather: share of flagged days per bit, events, seconds per record.

``python benchmarks/extremes.py [--years 30] [--seeds 5] [--grid 16] [--repeat 5]`` prints JSON.
The weather is that of the simulated landscape, not measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from deepfeatures import extremes
from deepfeatures.simulate.weather import generate


def seconds(work: Callable[[], object], repeat: int) -> float:
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def figures(seed: int, years: int) -> dict[str, object]:
    """Count flagged days and events of one record."""
    weather = generate(seed, 1991, years)
    found = extremes.indicators(weather.temperature_max, weather.precipitation, weather.evaporation)
    events = extremes.detect(found)
    both = extremes.compound(events)
    labels = extremes.label(both)
    shares, expected = {}, {}
    for name, values in found.items():
        count = int(np.isfinite(values).sum())
        shares[name] = round(float((events & extremes.BITS[name] > 0).sum()) / count, 6)
        expected[name] = round(extremes.flagged(count) / count, 6)
    listed = extremes.table(labels, events, found, weather.date)
    return {
        "seed": seed,
        "days": int(weather.date.size),
        "flagged_share": shares,
        "expected_share": expected,
        "normal_share": round(float((events & extremes.NORMAL > 0).mean()), 4),
        "compound_days": int(both.sum()),
        "events_of_3_days": len(listed),
        "longest": max((event.days for event in listed), default=0),
        "years_with_events": sorted({str(event.start)[:4] for event in listed}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--grid", type=int, default=16, help="edge of a grid of records")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    weather = generate(0, 1991, options.years)
    series = weather.temperature_max, weather.precipitation, weather.evaporation
    noise = np.random.default_rng(0).normal(0, 0.1, (weather.date.size, options.grid, options.grid))
    cubes = tuple(values[:, None, None] + noise for values in series)

    def run(inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        events = extremes.detect(extremes.indicators(*inputs))
        return extremes.label(extremes.compound(events))

    report = {
        "simulated": True,
        "years": options.years,
        "records": [figures(seed, options.years) for seed in range(options.seeds)],
        "seconds_per_record": round(seconds(lambda: run(series), options.repeat), 5),
        "seconds_per_record_on_a_grid": round(seconds(lambda: run(cubes), 1) / options.grid**2, 5),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
