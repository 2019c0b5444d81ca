"""The commands of models: train one, list them, describe one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfeatures import progress
from deepfeatures.cli import arguments, gpp
from deepfeatures.cli.commands import Answer, fields, table
from deepfeatures.embed.recipe import KINDS, LOSSES, PRESETS, Recipe
from deepfeatures.embed.sensors import MAIN, SENSORS
from deepfeatures.settings import Workspace

if TYPE_CHECKING:
    import xarray as xr

    from deepfeatures.embed.evaluate import Claim


def add(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add the commands ``train``, ``evaluate`` and ``model``."""
    learn = sub.add_parser("train", help="train a model")
    kinds = learn.add_subparsers(dest="what", metavar="WHAT", required=True)
    _embedding(kinds.add_parser("embedding", parents=[common], help="train a model of features"))
    gpp.add_training(kinds, common)

    judge = sub.add_parser("evaluate", help="judge models beside simple things")
    what = judge.add_subparsers(dest="what", metavar="WHAT", required=True)
    _evaluation(what.add_parser("embedding", parents=[common], help="judge models of features"))

    model = sub.add_parser("model", help="list or describe models")
    tasks = model.add_subparsers(dest="what", metavar="WHAT", required=True)
    tasks.add_parser("list", parents=[common], help="list the models").set_defaults(run=listing)
    card = tasks.add_parser("info", parents=[common], help="describe a model")
    card.add_argument("name", type=arguments.name)
    card.set_defaults(run=info)
    gpp.add_compression(tasks, common)


def _embedding(command: argparse.ArgumentParser) -> None:
    plain = Recipe()
    command.add_argument(
        "--cubes", type=arguments.names, metavar="A,B",
        help="cubes to train on (default: all band cubes that hold the sensor)",
    )  # fmt: skip
    command.add_argument(
        "--validate", type=arguments.names, metavar="A,B", default=[],
        help="cubes of other places; the training stops when it gets no better there",
    )  # fmt: skip
    command.add_argument("--kind", choices=KINDS, default=plain.kind)
    command.add_argument(
        "--sensor", choices=tuple(SENSORS), default=MAIN, help="sensor of a one-sensor model (s2)"
    )
    command.add_argument(
        "--channels", type=arguments.listed, metavar="A,B",
        help="bands, indices or expressions that go in (default: those of the sensor)",
    )  # fmt: skip
    command.add_argument(
        "--indices", metavar="SET", help="a set of indices that goes in beside the channels"
    )
    command.add_argument(
        "--features", type=arguments.positive, help="numbers per pixel and date (6; a fusion: 7)"
    )
    command.add_argument("--preset", choices=tuple(PRESETS), default=plain.preset, help="size")
    command.add_argument(
        "--encoders", type=arguments.names, metavar="A,B",
        help="models that a fusion joins, the optical one first",
    )  # fmt: skip
    command.add_argument(
        "--series", type=arguments.name, metavar="MODEL",
        help="model whose clean series are taken: only another code of them is learned",
    )  # fmt: skip
    command.add_argument(
        "--loss", nargs="+", action="extend", type=arguments.assigned, default=[],
        metavar="NAME=WEIGHT",
        help=f"weights of the loss: {', '.join(f'{k}={v:g}' for k, v in LOSSES.items())}",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=plain.seed)
    command.add_argument(
        "--steps", type=arguments.positive, default=plain.steps, help=f"steps ({plain.steps})"
    )
    command.add_argument(
        "--held-out", type=float, default=plain.held_out, metavar="SHARE",
        help="eastern share of each cube that is not learned from (0.25)",
    )  # fmt: skip
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    command.add_argument("--out", type=arguments.name, help="name of the model (default: its kind)")
    command.set_defaults(run=embedding)


def _evaluation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--models", type=arguments.names, metavar="A,B", default=["optical"],
        help="models (default: optical); seeds of one recipe are taken together",
    )  # fmt: skip
    command.add_argument(
        "--train", type=arguments.names, metavar="A,B",
        help="cubes that principal components and probes learn from (default: all band cubes)",
    )  # fmt: skip
    command.add_argument(
        "--test", type=arguments.names, metavar="A,B",
        help="cubes to judge on (default: all); one on both sides is cut into west and east",
    )  # fmt: skip
    command.add_argument("--out", metavar="FOLDER", help="write the table and a picture")
    command.set_defaults(run=evaluation)


def embedding(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Train a model of features on cubes; a training that was stopped goes on."""
    from deepfeatures import cards, embed

    recipe = _recipe(args, ws)
    sensors = [MAIN] if recipe.kind == "fusion" else [recipe.sensor]
    name = args.out or args.kind
    path = ws.models / f"{name}.safetensors"
    run = ws.models / "runs" / name
    cubes = _cubes(ws, args.cubes, sensors)
    validation = _cubes(ws, args.validate, sensors) if args.validate else {}
    cubes = {title: ds for title, ds in cubes.items() if title not in validation}
    with progress.shown("train", unit="step") as report:
        embed.train(
            cubes, recipe, validation=validation, out=path, run=run, device=args.device,
            progress=report,
        )  # fmt: skip
    found = cards.read(ws, name) | {"path": str(path), "run": str(run)}
    return found, f"made the model {name} ({path}); its curve is {run / 'curve.png'}"


def evaluation(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Judge models of features on cubes, beside principal components, bands and indices."""
    from deepfeatures import cards
    from deepfeatures.embed import evaluate
    from deepfeatures.predictor import Predictor

    predictors = [Predictor.load(cards.locate(ws, name)) for name in args.models]
    train, test = (_cubes(ws, names, [MAIN]) for names in (args.train, args.test))
    with progress.shown("evaluate", unit="model") as report:
        table = evaluate.judge(predictors, train=train, test=test, progress=report)
    names = list(dict.fromkeys(table["representation"]))
    subjects = [name for name in args.models if name in names]
    found = [claim for name in subjects for claim in evaluate.claims(table, name)]
    lines = [evaluate.render(table), *(_said(claim) for claim in found)]
    answer = {
        "rows": table.to_dict(orient="records"),
        "claims": [vars(claim) | {"kept": claim.kept} for claim in found],
    }
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("csv", "json"):
            evaluate.write(table, folder / f"quality.{suffix}")
        evaluate.draw(table, folder / "quality.png", subjects=subjects)
        lines.append(f"wrote quality.csv, quality.json and quality.png into {folder}")
    return answer, "\n".join(lines)


def _said(claim: Claim) -> str:
    mark = "kept  " if claim.kept else "missed"
    return (
        f"{mark} {claim.region}: {claim.task} against {claim.against}: {claim.value:.3f} "
        f"(goal {claim.goal:g})"
    )


def _recipe(args: argparse.Namespace, ws: Workspace) -> Recipe:
    """Make the recipe that is asked for."""
    from deepfeatures import cards

    channels = tuple(args.channels or ())
    if args.indices:
        from deepfeatures.indices.ranges import SETS

        if args.indices not in SETS:
            raise ValueError(
                f"no set of indices is called {args.indices!r}; choose from {', '.join(SETS)}"
            )
        channels = (channels or SENSORS[args.sensor].channels) + SETS[args.indices]
    usual = 7 if args.kind == "fusion" else Recipe().features
    return Recipe(
        kind=args.kind, sensor=args.sensor, channels=channels, preset=args.preset, seed=args.seed,
        features=args.features or usual, steps=args.steps, held_out=args.held_out,
        losses=LOSSES | dict(args.loss),
        encoders=tuple(str(cards.locate(ws, name)) for name in args.encoders or []),
        series=str(cards.locate(ws, args.series)) if args.series else "",
    )  # fmt: skip


def _cubes(
    ws: Workspace, wanted: Sequence[str] | None, sensors: Sequence[str]
) -> dict[str, xr.Dataset]:
    """Open the band cubes that are asked for, or all that hold the sensors."""
    from deepfeatures import catalogue, contract
    from deepfeatures.embed import data

    opened = {name: catalogue.open(ws, name) for name in wanted or catalogue.names(ws)}
    bands = {
        name: ds
        for name, ds in opened.items()
        if contract.kind(ds) == "bands" and all(data.has(ds, sensor) for sensor in sensors)
    }
    wrong = [name for name in wanted or [] if name not in bands]
    titles = ", ".join(SENSORS[sensor].title for sensor in sensors)
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is no cube of bands with {titles}; choose others with --cubes"
        )
    if not bands:
        raise ValueError(
            f"there is no cube of bands with {titles}; make one with `demo`, `import` or `build`"
        )
    return bands


def listing(args: argparse.Namespace, ws: Workspace) -> Answer:
    """List the models."""
    from deepfeatures import cards

    found = [cards.read(ws, name) | {"name": name} for name in cards.names(ws)]
    rows = [
        (card["name"], card["kind"], f"{len(card['features'])} features", card["description"])
        for card in found
    ]
    return found, table(rows) or "there is no model; make one with `train embedding`"


def info(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Describe a model."""
    from deepfeatures import cards

    found = cards.read(ws, args.name) | {"path": str(cards.locate(ws, args.name))}
    return found, fields(_short(found))


def _short(card: dict[str, Any]) -> dict[str, Any]:
    """Leave out what people do not read: every step of a training."""
    training = {k: v for k, v in card.get("training", {}).items() if k != "history"}
    encoders = {
        sensor: {k: one[k] for k in ("name", "channels", "features", "description")}
        for sensor, one in card.get("encoders", {}).items()
    }
    return {**card, "training": training, "encoders": encoders}
