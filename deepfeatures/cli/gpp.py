"""The commands of GPP: judge models on towers, train one, draw figures, make one smaller."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfeatures import progress
from deepfeatures.cli import arguments
from deepfeatures.cli.commands import Answer
from deepfeatures.settings import Workspace

if TYPE_CHECKING:
    from deepfeatures.gpp.evaluation import Predictions
    from deepfeatures.gpp.towers import Towers
    from deepfeatures.gpp.training import Recipe

NETWORKS = ("rnn", "gru", "lstm", "gpt")
MODELS = (*NETWORKS, "climatology", "trees", "lue")
SPLITS = ("year", "site", "biome")
WINDOW, GOOD = 30, 0.7


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
    judge.add_argument("--out", metavar="FOLDER", help="write tables (CSV) and a figure")
    judge.set_defaults(run=evaluate)

    gather = tasks.add_parser(
        "towers", parents=[common], help="make a table of towers with what cubes hold around them"
    )
    gather.add_argument("name", type=arguments.name, help="cube with weather (and towers)")
    gather.add_argument(
        "--around", type=arguments.name, metavar="CUBE",
        help="cube of features or bands whose pixels around each tower go in",
    )  # fmt: skip
    gather.add_argument(
        "--index", type=arguments.listed, metavar="A,B",
        help="spectral indices of the pixels instead, of a cube of bands",
    )  # fmt: skip
    gather.add_argument("--towers", metavar="FILE", help="table of towers (those of the cube)")
    gather.add_argument(
        "--radius", type=float, default=25.0, metavar="METRES", help="around a tower (25)"
    )
    gather.add_argument("--out", required=True, metavar="FILE", help="CSV or Parquet")
    gather.set_defaults(run=gathered)

    paint = tasks.add_parser("map", parents=[common], help="tell the GPP of every pixel of a cube")
    paint.add_argument("name", type=arguments.name, help="cube of features or bands")
    paint.add_argument("--model", type=arguments.name, required=True, help="GPP model")
    paint.add_argument("--weather", type=arguments.name, metavar="CUBE", help="cube with weather")
    paint.add_argument(
        "--days", type=arguments.listed, required=True, metavar="YYYY-MM-DD,..", help="days"
    )
    paint.add_argument("--out", required=True, metavar="FILE.nc", help="NetCDF file")
    paint.set_defaults(run=painted)

    ask = tasks.add_parser("compare", parents=[common], help="draw a figure about models")
    _towers(ask)
    _judged(ask)
    ask.add_argument(
        "--figure", choices=tuple(FIGURES), default="scores",
        help="scores on all subsets; course of a year of a tower (--site, --year); context: skill "
        "against days looked at (--windows); importance of groups of drivers",
    )  # fmt: skip
    ask.add_argument("--site", help="tower whose year is drawn")
    ask.add_argument("--year", type=int, help="year that is drawn")
    ask.add_argument(
        "--windows", type=arguments.listed, default=["1", "7", "30", "90"], metavar="A,B",
        help="days looked at (1,7,30,90)",
    )  # fmt: skip
    ask.add_argument("--out", required=True, metavar="FOLDER", help="folder of table and figure")
    ask.set_defaults(run=compare)


def add_training(kinds: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add ``train gpp``."""
    learn = kinds.add_parser("gpp", parents=[common], help="train a model of GPP on towers")
    _towers(learn)
    learn.add_argument("--kind", choices=NETWORKS, default="gru")
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument(
        "--no-statics", action="store_true",
        help="without latitude, elevation and vegetation, as maps need it",
    )  # fmt: skip
    _network(learn)
    learn.add_argument("--out", type=arguments.name, help="name of the model (default: gpp-KIND)")
    learn.set_defaults(run=train)


def add_compression(tasks: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add ``model compress``."""
    less = tasks.add_parser(
        "compress", parents=[common], help="make a GPP model smaller with matrix-product operators"
    )
    less.add_argument("name", type=arguments.name, help="a GPP model of the workspace, a gpt")
    less.add_argument(
        "--towers", required=True, metavar="FILE", help="the towers that it was trained on"
    )
    less.add_argument(
        "--share", type=arguments.listed, default=["0.3"], metavar="A,B",
        help="shares of its numbers to keep, a model for each (0.3)",
    )  # fmt: skip
    less.add_argument("--heal", type=int, default=300, help="steps of training after it (300)")
    less.add_argument("--out", metavar="FOLDER", help="write the curve of skill against size")
    less.set_defaults(run=compress)


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
    command.add_argument(
        "--workers", type=arguments.positive, default=min(os.cpu_count() or 1, 4), metavar="N",
        help="trainings at a time, each a process of its own (one per core, 4 at most)",
    )  # fmt: skip
    _network(command)


def _network(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--window", type=arguments.positive, default=WINDOW, metavar="DAYS",
        help=f"days that a model looks at ({WINDOW})",
    )  # fmt: skip
    command.add_argument(
        "--steps", type=arguments.positive, help="steps of a training (800; rnn: 1600)"
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
    import pandas as pd

    from deepfeatures.gpp import evaluation

    told = _predicted(args)
    rows = evaluation.rows(told)
    if not rows:
        raise ValueError("; ".join(told.skipped.values()) or "no day was tested")
    lines = [_said(evaluation.summary(rows))]
    tests = evaluation.beside_best(told)
    if tests:
        lines += ["RMSE of each tower and year beside the best model (Wilcoxon, Holm):"]
        lines += [_said(pd.DataFrame(tests))]
    lines += [f"{name} was left out: {why}" for name, why in told.skipped.items()]
    if args.out:
        lines.append(_written(rows, Path(args.out)))
        _kept(tests, Path(args.out) / "paired.csv")
    return rows, "\n".join(lines)


def _predicted(args: argparse.Namespace) -> Predictions:
    from deepfeatures.gpp import evaluation

    with progress.shown("evaluate", unit="fit") as report, _side_by_side(args) as executor:
        return evaluation.predict(
            opened(args), args.split, args.models, seeds=args.seeds, recipe=recipe(args),
            only=getattr(args, "only", None), executor=executor, progress=report,
        )  # fmt: skip


def _side_by_side(args: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """Give processes for trainings; none where at most one network is trained."""
    from deepfeatures import work

    kinds = sum(name in NETWORKS for name in args.models)
    several = kinds > 1 or (kinds and (args.seeds > 1 or args.split != "year"))
    longer = kinds and getattr(args, "figure", "") == "context"
    if args.workers > 1 and (several or longer):
        return work.workers(args.workers, processes=True)
    return nullcontext()


def _said(table: Any) -> str:
    return str(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def _written(rows: list[dict[str, Any]], folder: Path) -> str:
    from deepfeatures.gpp import evaluation, figures

    folder.mkdir(parents=True, exist_ok=True)
    _kept(rows, folder / "scores.csv")
    evaluation.summary(rows).to_csv(folder / "summary.csv", index=False)
    figures.scores(rows, folder / "scores")
    return f"wrote scores.csv, summary.csv, paired.csv, scores.png and scores.svg into {folder}"


def gathered(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Write a table of towers with the drivers that cubes hold."""
    from deepfeatures import catalogue
    from deepfeatures.gpp import drivers, readers

    known = readers.read(args.towers) if args.towers else None
    if args.index and not args.around:
        raise ValueError("indices of which cube? give its name with --around")
    channels = (
        catalogue.open(ws, args.around, "si" if args.index else None) if args.around else None
    )
    if channels is not None and args.index:
        unknown = set(args.index) - {str(name) for name in channels["index"].to_numpy()}
        if unknown:
            raise ValueError(f"{args.around} has no index {', '.join(sorted(unknown))}")
        channels = channels.sel(index=args.index)
    cube = catalogue.open(ws, args.name)
    table = drivers.from_cube(cube, channels, known, radius=args.radius)
    path = Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    found = {"path": str(path), "days": len(table), "columns": list(table.columns)}
    return found, f"wrote {len(table)} days of {table['site'].nunique()} towers to {path}"


def painted(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Write maps of GPP; where the cube knows the truth (simulated), say how near they come."""
    import numpy as np

    from deepfeatures import catalogue
    from deepfeatures.gpp import metrics, tasks

    try:
        days = [np.datetime64(text, "D") for text in args.days]
    except ValueError as error:
        raise ValueError(f"a day of --days is none; write YYYY-MM-DD: {error}") from error
    with progress.shown("map", unit="part") as report:
        made = tasks.paint(
            ws, args.name, args.model, days, weather=args.weather or "", progress=report
        )
    channels = catalogue.open(ws, args.name)
    cube = catalogue.open(ws, args.weather or channels.attrs.get("source_cube") or args.name)
    path = Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.to_netcdf(path)
    found: dict[str, Any] = {"path": str(path), "days": args.days}
    text = f"wrote the GPP of {len(days)} days to {path}"
    if "truth_gpp" in cube:
        stamps = cube["time"].to_numpy().astype("datetime64[D]")
        both = [day for day in days if day in stamps]
        if not both:
            return found, f"{text}; the simulated truth is known on dates of {args.name} only"
        truth = cube["truth_gpp"].isel(time=[int(np.argmax(stamps == day)) for day in both])
        told = made["gpp"].sel(time=both).to_numpy()
        found["truth"] = metrics.sums(truth.to_numpy().ravel(), told.ravel()).scores()
        text += f"; against the simulated truth: {found['truth']}"
    return found, text


def compare(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Draw a figure about models, with its table."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = FIGURES[args.figure](args, folder)
    text = f"wrote {args.figure}.csv, {args.figure}.png and {args.figure}.svg into {folder}"
    return rows, text


def _scores(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from deepfeatures.gpp import evaluation, figures

    rows = evaluation.rows(_predicted(args))
    figures.scores(rows, folder / "scores")
    return _kept(rows, folder / "scores.csv")


def _course(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from deepfeatures.gpp import evaluation, figures

    if not args.site or not args.year:
        raise ValueError("say which year of which tower: --site NAME --year YEAR")
    found = _predicted(args)
    figures.course(found, folder / "course", site=args.site, year=args.year)
    rows = [row for row in evaluation.rows(found) if row["site"] == args.site]
    return _kept(rows, folder / "course.csv")


def _context(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from deepfeatures.gpp import figures, importance

    windows = [arguments.positive(text) for text in args.windows]
    kinds = [name for name in args.models if name in NETWORKS]
    if not kinds:
        raise ValueError(f"only networks look at days; choose --models from {', '.join(NETWORKS)}")
    with progress.shown("context", unit="training") as report, _side_by_side(args) as executor:
        rows = importance.context(
            opened(args), kinds, windows, recipe(args), seeds=args.seeds, executor=executor,
            progress=report,
        )  # fmt: skip
    figures.context(rows, folder / "context")
    return _kept(rows, folder / "context.csv")


def _importance(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from deepfeatures.gpp import figures, importance

    kinds = [name for name in args.models if name in NETWORKS]
    if not kinds:
        raise ValueError(f"only networks are asked; choose --models from {', '.join(NETWORKS)}")
    with progress.shown("importance", unit="training") as report, _side_by_side(args) as executor:
        rows = importance.compare(
            opened(args), kinds, recipe(args), seeds=args.seeds, executor=executor, progress=report
        )
    figures.importance(rows, folder / "importance")
    return _kept(rows, folder / "importance.csv")


FIGURES = {
    "scores": _scores, "course": _course, "context": _context, "importance": _importance,
}  # fmt: skip
"""Name of a figure -> what draws it and gives its table."""


def _kept(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    pd.DataFrame(rows).to_csv(path, index=False)
    return rows


def compress(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Make a model of the workspace smaller, for each share that is asked for."""
    from deepfeatures.gpp import figures, readers, shelf, splits, training
    from deepfeatures.gpp.predictor import Predictor
    from deepfeatures.gpp.towers import towers

    shares = [arguments.assigned(f"share={text}")[1] for text in args.share]
    model = Predictor.load(shelf.model_path(ws, args.name))
    found = towers(readers.read(args.towers), model.card.drivers)
    split = splits.by_year(found)[0]
    rows: list[dict[str, Any]] = []
    with progress.shown("compress", unit="model") as report:
        for share in shares:
            name = f"{args.name}-{round(100 * share)}"
            made, told = training.smaller(model, found, split, share, heal=args.heal, name=name)
            path = ws.models / "gpp" / f"{name}.safetensors"
            made.save(path)
            rows.append({"model": name, "parameters": made.parameters} | told
                        | {"bytes": path.stat().st_size, "path": str(path)})  # fmt: skip
            report(len(rows), len(shares))
    lines = [_said(_table(rows, ("path",)))]
    profile = training.profile(model, found, split, shares[0])
    lines += ["rise of RMSE on validation days with one layer compressed at a time:"]
    lines += [f"  {name:28} {rise:+.4f}" for name, rise in profile.items()]
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        _kept(rows, folder / "size.csv")
        figures.size(rows, folder / "size")
        lines.append(f"wrote size.csv, size.png and size.svg into {folder}")
    return {"models": rows, "sensitivity": profile}, "\n".join(lines)


def _table(rows: list[dict[str, Any]], without: tuple[str, ...]) -> Any:
    """Give rows as a table, without some columns."""
    import pandas as pd

    return pd.DataFrame(rows).drop(columns=list(without))


def train(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Train a model on all towers but their last years, and keep it in the workspace."""
    from dataclasses import asdict, replace

    from deepfeatures.gpp import readers, tasks
    from deepfeatures.gpp.towers import towers

    table = readers.read(args.towers)
    found = towers(table, args.drivers, good=args.quality, fill=args.fill)
    name = args.out or f"gpp-{args.kind}"
    plan = replace(recipe(args), kind=args.kind, seed=args.seed, statics=not args.no_statics)
    with progress.shown("train", unit="step") as report:
        model = tasks.train(found, plan, name, about=tasks.about(table), progress=report)
    scores = model.card.training["test"]
    path = ws.models / "gpp" / f"{name}.safetensors"
    model.save(path)
    text = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
    return (
        asdict(model.card) | {"path": str(path)},
        f"made the model {name} ({path}); on the last years: {text}",
    )
