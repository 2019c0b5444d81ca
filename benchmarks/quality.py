"""What features are worth: the quality table, on places that the shipped models never saw.

Run from the top of the repository: ``python benchmarks/quality.py --data ../shared/data --models
optical``, or with checkpoints of `checkpoints.py`, several seeds of a recipe among them. Principal
components and probes learn on the western half of the Belgian cube and on four landscapes; all is
measured on its eastern half and on the landscapes that are held out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from checkpoints import CUBE, LANDSCAPES, UNSEEN, landscapes
from tqdm import tqdm

from deepfeatures import foreign
from deepfeatures.embed import evaluate
from deepfeatures.predictor import Predictor

TEACHERS = LANDSCAPES[:4]
"""Seeds of the landscapes on which components and probes learn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--models", nargs="+", default=["optical"], help="names or files")
    parser.add_argument("--out", type=Path, default=Path("output/quality"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictors = [Predictor.load(model) for model in args.models]
    both = {"Belgium": foreign.read(args.data / "s2" / CUBE)}
    train, test = both | landscapes(TEACHERS), both | landscapes(UNSEEN)
    with tqdm(desc="evaluate") as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        table = evaluate.judge(predictors, train=train, test=test, progress=tell)
    print(evaluate.render(table))
    subjects = [one.name for one in predictors if one.name in set(table["representation"])]
    for name in dict.fromkeys(subjects):
        for claim in evaluate.claims(table, name):
            mark = "kept" if claim.kept else "missed"
            ratio = f"{claim.value:.3f} (goal {claim.goal:g})"
            print(f"{mark} {name} {claim.region}: {claim.task} against {claim.against}: {ratio}")
    args.out.mkdir(parents=True, exist_ok=True)
    evaluate.write(table, args.out / "quality.csv")
    evaluate.draw(table, args.out / "quality.png", subjects=subjects)


if __name__ == "__main__":
    main()
