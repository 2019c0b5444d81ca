"""Carbon uptake at real flux towers read linearly from features, beside bands and indices.

Run from the top of the repository: ``python benchmarks/towers.py --data ../shared/data --models
output/runs/landsat.safetensors``, checkpoints of `checkpoints.py` that take the six bands which
Landsat has too. A row of the table is the mean reflectance around a tower at one date; a site is
told by a probe that was taught at all other sites. Dates of snow or thick cloud are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfeatures.embed import evaluate
from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate import probes
from deepfeatures.predictor import Predictor

TABLE = "gpp/hls_merra2_gpp_28sites.csv"
BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B8A", "swir1": "B11", "swir2": "B12"}
"""Columns of the table, and the bands of Sentinel-2 that they stand for."""
SIX = ["NDVI", "EVI", "NDWI", "NIRv", "kNDVI", "GCI"]
"""Indices in the table (its NDWI is of canopy water)."""
BRIGHT = 0.2
"""Blue reflectance of snow and thick cloud."""
DRAWS = 2000
"""Draws of sites of which the spread is told."""

Floats = NDArray[np.floating]


def sites(path: Path) -> dict[str, pd.DataFrame]:
    """Read the rows of each site, one a day, in order."""
    table = pd.read_csv(path, keep_default_na=False, parse_dates=["date"])
    table = table[table["blue"] < BRIGHT].drop_duplicates(["site", "date"])
    return {str(name): rows for name, rows in table.sort_values("date").groupby("site")}


def block(rows: pd.DataFrame) -> Block:
    """Give the rows of a site as a cube of one pixel."""
    values = rows[list(BANDS)].to_numpy(np.float32)[:, :, None, None]
    days = rows["date"].to_numpy("datetime64[D]").astype(float)
    return Block(values, np.isfinite(values).all(1), days)


def told(found: list[Floats], true: list[Floats]) -> list[Floats]:
    """Tell each site by a probe of the others."""
    result = []
    for k in range(len(found)):
        rest = [i for i in range(len(found)) if i != k]
        groups = np.concatenate([np.full(len(true[i]), i) for i in rest])
        x, y = (np.concatenate([part[i] for i in rest]) for part in (found, true))
        result.append(probes.ridge(x, y, groups, found[k]))
    return result


def spread(score: Callable[[NDArray[np.integer]], float], count: int) -> tuple[float, float]:
    """Give the middle 90 % of a score over draws of sites."""
    rng = np.random.default_rng(0)
    low, high = np.quantile(
        [score(rng.integers(count, size=count)) for _ in range(DRAWS)], (0.05, 0.95)
    )
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--models", nargs="+", required=True, help="files of checkpoints")
    args = parser.parse_args()
    rows = list(sites(args.data / TABLE).values())
    blocks, true = [block(one) for one in rows], [one["GPP"].to_numpy() for one in rows]
    bands = list(BANDS.values())
    ways = [evaluate.of_predictor(Predictor.load(model), bands) for model in args.models]
    ways += [evaluate.bands(bands), evaluate.all_indices(bands)]
    features = {
        way.name: [way.features(b)[:, :, 0, 0].astype(float) for b in blocks] for way in ways
    }
    features["six indices"] = [one[SIX].to_numpy() for one in rows]
    features["PCA 3"] = _components(features["6 bands"], 3)
    print(json.dumps({"sites": len(rows), "dates": int(sum(map(len, true)))}))
    for name, found in features.items():
        guess = told(found, true)

        def score(chosen: NDArray[np.integer], guess: list[Floats] = guess) -> float:
            return probes.r2(*(np.concatenate([part[i] for i in chosen]) for part in (true, guess)))

        low, high = spread(score, len(rows))
        whole = score(np.arange(len(rows)))
        error = np.sqrt(np.mean((np.concatenate(true) - np.concatenate(guess)) ** 2))
        size = found[0].shape[1]
        print(json.dumps({
            "representation": name, "numbers": size, "r2": round(whole, 3),
            "90%": [round(low, 3), round(high, 3)], "rmse": round(float(error), 2),
        }))  # fmt: skip


def _components(found: list[Floats], count: int) -> list[Floats]:
    """Give the first principal components of rows of variance 1."""
    every = np.concatenate(found)
    scaled = (every - every.mean(0)) / every.std(0)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:count]
    return np.split(scaled @ axes.T, np.cumsum([len(one) for one in found])[:-1])


if __name__ == "__main__":
    main()
