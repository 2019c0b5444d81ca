"""The commands of GPP: judge models on towers, train one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfeatures import progress
from deepfeatures.cli import arguments
from deepfeatures.cli.commands import Answer
from deepfeatures.settings import Workspace

if TYPE_CHECKING:
    from deepfeatures.gpp.towers import Towers
    from deepfeatures.gpp.training import Recipe

NETWORKS = ("rnn", "gru", "lstm", "gpt")
MODELS = (*NETWORKS, "climatology", "trees", "lue")
SPLITS = ("year", "site", "biome")
WINDOW, STEPS, GOOD = 30, 800, 0.7


def add(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add the command ``gpp``."""
    top = sub.add_parser("gpp", help="models of gross primary production and flux towers")
    tasks = top.add_subparsers(dest="what", metavar="WHAT", required=True)
    judge = tasks.add_parser("evaluate", parents=[common], help="judge models on towers")
    _towers(judge)
    _judged(judge)
    judge.add_argument(
        "--only", type=arguments.listed, metavar="A,B", help="towers to hold out (all)"
    )
    judge.add_argument("--out", metavar="FOLDER", help="write tables (CSV) and figures")
    judge.set_defaults(run=evaluate)


def add_training(kinds: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add ``train gpp``."""
    learn = kinds.add_parser("gpp", parents=[common], help="train a model of GPP on towers")
    _towers(learn)
    learn.add_argument("--kind", choices=NETWORKS, default="gru")
    learn.add_argument("--seed", type=int, default=0)
    _network(learn)
    learn.add_argument("--out", type=arguments.name, help="name of the model (default: gpp-KIND)")
    learn.set_defaults(run=train)


def _towers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--towers", required=True, metavar="FILE",
        help="a table (Parquet or CSV) with date, site, GPP and drivers, or a file of FLUXNET2015, "
        "ICOS or AmeriFlux",
    )  # fmt: skip
    command.add_argument(
        "--drivers", type=arguments.listed, metavar="A,B",
        help="columns that go in (default: all known ones that every tower has)",
    )  # fmt: skip
    command.add_argument(
        "--quality", type=float, default=GOOD, metavar="SHARE",
        help="share of a day that must be measured for its GPP to count as truth (0.7)",
    )  # fmt: skip
    command.add_argument(
        "--fill", choices=("hold", "linear"), default="hold",
        help="missing days of drivers: hold the last value, or interpolate, which looks ahead",
    )  # fmt: skip


def _judged(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--split", choices=SPLITS, default="year", help="what is held out (year: the last 30 %%)"
    )
    command.add_argument(
        "--models", type=arguments.listed, metavar="A,B", default=list(MODELS),
        help=f"models ({','.join(MODELS)})",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=arguments.positive, default=1, metavar="N", help="trainings of each (1)"
    )
    _network(command)


def _network(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--window", type=arguments.positive, default=WINDOW, metavar="DAYS",
        help=f"days that a model looks at ({WINDOW})",
    )  # fmt: skip
    command.add_argument(
        "--steps", type=arguments.positive, default=STEPS, help=f"steps of a training ({STEPS})"
    )


def opened(args: argparse.Namespace) -> Towers:
    """Read the towers that are asked for."""
    from deepfeatures.gpp import readers
    from deepfeatures.gpp.towers import towers

    return towers(readers.read(args.towers), args.drivers, good=args.quality, fill=args.fill)


def recipe(args: argparse.Namespace) -> Recipe:
    """Make the recipe that is asked for."""
    from deepfeatures.gpp.training import Recipe

    return Recipe(window=args.window, steps=args.steps)


def evaluate(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Judge models on the towers of a file."""
    from deepfeatures.gpp import evaluation

    found = opened(args)
    with progress.shown("evaluate", unit="fit") as report:
        told = evaluation.predict(
            found, args.split, args.models, seeds=args.seeds, recipe=recipe(args), only=args.only,
            progress=report,
        )  # fmt: skip
    rows = evaluation.rows(told)
    if not rows:
        raise ValueError("; ".join(told.skipped.values()) or "no day was tested")
    lines = [_said(evaluation.summary(rows))]
    lines += [f"{name} was left out: {why}" for name, why in told.skipped.items()]
    if args.out:
        lines.append(_written(rows, Path(args.out)))
    return rows, "\n".join(lines)


def _said(table: Any) -> str:
    return str(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def _written(rows: list[dict[str, Any]], folder: Path) -> str:
    import pandas as pd

    from deepfeatures.gpp import evaluation

    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    evaluation.summary(rows).to_csv(folder / "summary.csv", index=False)
    return f"wrote scores.csv and summary.csv into {folder}"


def train(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Train a model on all towers but their last years, and keep it in the workspace."""
    from dataclasses import asdict, replace

    import numpy as np

    from deepfeatures.gpp import metrics, splits, training

    found = opened(args)
    split = splits.by_year(found)[0]
    name = args.out or f"gpp-{args.kind}"
    plan = replace(recipe(args), kind=args.kind, seed=args.seed)
    with progress.shown("train", unit="step") as report:
        model = training.train(found, split, plan, name=name, progress=report)
    days = np.flatnonzero(split.test & found.usable)
    scores = metrics.sums(found.gpp[days], model(found, days).mean).scores()
    model.card.training["test"] = scores
    path = ws.models / "gpp" / f"{name}.safetensors"
    model.save(path)
    text = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
    return (
        asdict(model.card) | {"path": str(path)},
        f"made the model {name} ({path}); on the last years: {text}",
    )
