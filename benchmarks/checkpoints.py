"""Train the checkpoints that ship, and say what they are worth.

Run from the top of the repository: ``make checkpoints DATA=../shared/data``. They learn from the
western half of a Belgian cube and from varied simulated landscapes; they are scored on the eastern
half and on landscapes of other seeds. What was begun goes on; what is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from deepfeatures import embed, foreign, simulate
from deepfeatures.embed import Recipe, data
from deepfeatures.embed.recipe import LOSSES
from deepfeatures.predictor import SHIPPED, Predictor
from deepfeatures.tiles import Tile

CUBE = "be_31UDS_s2s1_2017-2018_10m.nc"
LANDSCAPES = range(100, 124)
"""Seeds of the simulated landscapes that are learned from."""
VALIDATION = range(800, 804)
"""Seeds of those on which the training is judged as it goes."""
UNSEEN = range(900, 903)
"""Seeds of those that the finished model is scored on."""
EDGE, SIZE, GAP = 64, 128, 4
"""Window of a landscape, the landscape, and the columns between two halves [px]."""
STEPS = 2400
"""Steps of the largest training."""
SHIPS = ("pca", "optical", "fused")
"""Models that come with the package."""
TRAINED = ("pca", "optical", "s2", "s1", "fused")
"""They and the encoders of the fusion, which are trained unless others are named."""


def landscape(seed: int) -> xr.Dataset:
    """Give a quarter of a varied simulated landscape."""
    rng = np.random.default_rng(seed)
    y, x = (EDGE * int(rng.integers(SIZE // EDGE)) for _ in range(2))
    tile = Tile(y, y + EDGE, x, x + EDGE, y, y + EDGE, x, x + EDGE)
    return simulate.render(simulate.plan(seed=seed, size=SIZE, years=2, varied=True), tile)


def landscapes(seeds: range) -> dict[str, xr.Dataset]:
    """Give several, by name."""
    return {f"simulated-{seed}": landscape(seed) for seed in tqdm(seeds, desc="landscapes")}


def halves(data: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """Give the western and the eastern half of the Belgian cube."""
    ds = foreign.read(data / "s2" / CUBE)
    middle = ds.sizes["x"] // 2
    return ds.isel(x=slice(0, middle)), ds.isel(x=slice(middle + GAP, None))


def recipes(runs: Path, seed: int, steps: int) -> dict[str, Recipe]:
    """Give name -> recipe: what ships, and several sensors with their encoders."""
    plain = Recipe(seed=seed, steps=steps, held_out=0.0)
    half = replace(plain, steps=steps // 2)
    return {
        "pca": replace(plain, kind="pca"),
        "optical": plain,
        "s2": replace(plain, features=9, series=_files(runs, "optical")[0]),
        "s1": replace(half, sensor="s1", features=2, preset="small"),
        "fused": replace(half, kind="fusion", features=7, encoders=_files(runs, "s2", "s1")),
    }


def trials(runs: Path, seed: int, steps: int) -> dict[str, Recipe]:
    """Give name -> recipe of what is trained to learn from: what each part is good for."""
    plain = Recipe(seed=seed, steps=steps, held_out=0.0)
    half = replace(plain, steps=steps // 2)
    coded = replace(plain, series=_files(runs, "optical")[0])
    return {
        # a third sensor: one more encoder and one more fusion, nothing else is trained again
        "lst": replace(half, sensor="lst", features=1, preset="small"),
        "thermal": replace(
            half, kind="fusion", features=8, encoders=_files(runs, "s2", "s1", "lst")
        ),
        # the bands that Landsat has too: for the reflectance around flux towers
        "landsat": replace(half, channels=("B02", "B03", "B04", "B8A", "B11", "B12")),
        "without_indices": replace(coded, losses=LOSSES | {"indices": 0.0}),
        "without_angle": replace(plain, losses=LOSSES | {"sam": 0.0}),
        "with_ssim": replace(plain, losses=LOSSES | {"ssim": 1.0}),
        "small": replace(plain, preset="small"),
        "large": replace(plain, preset="large"),
        **{f"k{k}": replace(coded, features=k) for k in (3, 4, 7, 16)},
    }


def _files(runs: Path, *names: str) -> tuple[str, ...]:
    return tuple(str(runs / f"{name}.safetensors") for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--runs", type=Path, default=Path("output/runs"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the models, or trials")
    parser.add_argument("--ship", action="store_true", help="put those that ship into the package")
    parser.add_argument("--without-real", action="store_true", help="learn from simulations only")
    args = parser.parse_args()
    known = recipes(args.runs, args.seed, args.steps) | trials(args.runs, args.seed, args.steps)
    wanted = args.only or TRAINED
    if unknown := set(wanted) - set(known):
        parser.error(f"no model is called {unknown.pop()!r}; choose from {', '.join(known)}")
    torch.set_num_threads(args.threads)
    west, east = halves(args.data)
    cubes = {} if args.without_real else {"be_31UDS west": west}
    cubes |= landscapes(LANDSCAPES)
    validation, test = landscapes(VALIDATION), {"be_31UDS east": east} | landscapes(UNSEEN)
    for name, recipe in ((name, known[name]) for name in wanted):
        out = args.runs / f"{name}.safetensors"
        some = {n: ds for n, ds in cubes.items() if data.has(ds, recipe.sensor)}
        seen = {n: ds for n, ds in test.items() if data.has(ds, recipe.sensor)}
        with tqdm(desc=name) as bar:

            def tell(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            predictor = embed.train(
                some, recipe, validation=validation, test=seen, out=out, run=args.runs / name,
                progress=tell,
            )  # fmt: skip
        print(json.dumps({name: predictor.card.training["scores"]}, indent=1))
        if args.ship and name in SHIPS:
            Predictor.load(out).save(SHIPPED / out.name)


if __name__ == "__main__":
    main()
