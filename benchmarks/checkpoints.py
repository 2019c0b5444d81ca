"""Train the two checkpoints that ship, and say what they are worth.

Run from the top of the repository: ``python benchmarks/checkpoints.py --data ../shared/data``.
They learn from the western half of the Belgian cube and from simulated landscapes; they are
judged on the eastern half and on a landscape of another seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import xarray as xr
from tqdm import tqdm

from deepfeatures import embed, foreign, simulate
from deepfeatures.embed import data, scores
from deepfeatures.predictor import SHIPPED, Predictor
from deepfeatures.tiles import Tile

HELD_OUT = 0.5
SEEDS = (1, 2, 3)
UNSEEN = 9
EDGE = 96


def landscape(seed: int) -> xr.Dataset:
    tile = Tile(0, EDGE, 0, EDGE, 0, EDGE, 0, EDGE)
    return simulate.render(simulate.plan(seed=seed, size=EDGE, years=2), tile)


def judge(predictor: Predictor, ds: xr.Dataset) -> dict[str, float]:
    corner = slice(0, 32)
    return scores.judged(predictor, data.read(ds, predictor.channels, rows=corner, columns=corner))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cubes = {"be_31UDS": foreign.read(args.data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")}
    cubes |= {f"simulated-{seed}": landscape(seed) for seed in SEEDS}
    unseen = landscape(UNSEEN)
    for kind in ("pca", "convtemporal"):
        out = args.out / f"{kind}.safetensors"
        with tqdm(desc=kind) as bar:

            def tell(done: int, total: int, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            predictor = embed.train(
                cubes, kind=kind, out=out, seed=args.seed, steps=args.steps,
                held_out=HELD_OUT, progress=tell,
            )  # fmt: skip
        found = predictor.card.training["scores"] | {"unseen landscape": judge(predictor, unseen)}
        print(json.dumps({kind: found}, indent=1))


if __name__ == "__main__":
    main()
