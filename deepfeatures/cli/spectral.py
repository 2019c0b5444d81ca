"""The commands of spectral indices: store, list, describe, and report which repeat others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepfeatures import progress
from deepfeatures.cli import arguments
from deepfeatures.cli.commands import Answer, fields, made, table, workers
from deepfeatures.settings import Workspace

if TYPE_CHECKING:
    from deepfeatures.collinearity import Dependence
    from deepfeatures.survey import Survey

LOST = 1e-3
"""Share of values undefined or clipped from which on an index is named after it was stored."""
SHOWN = 8
"""Groups of near-equal channels that are shown; the files have all."""


def add(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add the commands ``indices`` and ``index``."""
    store = sub.add_parser("indices", parents=[common], help="store spectral indices as a cube")
    store.add_argument("name", type=arguments.name)
    _which(store, required=True)
    store.add_argument("--out", type=arguments.name, help="name of the new cube")
    arguments.spread(store)
    store.set_defaults(run=indices)

    top = sub.add_parser("index", help="list, describe or compare spectral indices")
    tasks = top.add_subparsers(dest="what", metavar="WHAT", required=True)
    found = tasks.add_parser("list", parents=[common], help="list spectral indices")
    found.add_argument("words", nargs="*", metavar="WORD", help="words of the short or long name")
    found.add_argument("--domain", help="use: vegetation, water, soil, ...")
    found.add_argument(
        "--bands", type=arguments.listed, metavar="A,B", help="those that these bands allow"
    )
    found.add_argument("--set", metavar="SET", help="those of a set: research, vegetation, ...")
    found.set_defaults(run=listing)
    card = tasks.add_parser("info", parents=[common], help="describe a spectral index")
    card.add_argument("index", metavar="INDEX", help='a name, or an expression "(B08-B05)/B04"')
    card.set_defaults(run=info)
    _compare(tasks.add_parser("report", parents=[common], help="find indices that repeat others"))


def _which(command: argparse.ArgumentParser, *, required: bool) -> None:
    which = command.add_mutually_exclusive_group(required=required)
    which.add_argument(
        "--index", nargs="+", action="extend", metavar="INDEX",
        help='names or expressions: NDVI "(B08-B05)/(B08+B05)" ...',
    )  # fmt: skip
    which.add_argument("--set", metavar="SET", help="a set: research, vegetation, water, soil, ...")
    which.add_argument("--all", action="store_true", help="all that the bands of the cube allow")
    command.add_argument(
        "--constant", nargs="+", action="extend", type=arguments.assigned, default=[],
        metavar="NAME=VALUE", help="constants that differ from the catalogue's: L=0.5 ...",
    )  # fmt: skip


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", type=arguments.name, help="a cube of bands, indices or features")
    _which(command, required=False)
    command.add_argument(
        "--keep", type=arguments.listed, default=[], metavar="A,B", help="channels never dropped"
    )
    command.add_argument(
        "--threshold", type=float, default=10.0, metavar="VIF",
        help="drop channels until the variance inflation of all is below (10)",
    )  # fmt: skip
    command.add_argument(
        "--samples", type=arguments.positive, default=100_000, help="pixel-dates (100000)"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", metavar="FOLDER", help="write tables and a picture")
    command.set_defaults(run=report)


def indices(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Store spectral indices as a cube, and say which lost values."""
    from deepfeatures import catalogue, contract, cube
    from deepfeatures import indices as engine

    bands = contract.channels(catalogue.open(ws, args.name))
    wanted, absent = _wanted(args, engine.available(bands))
    with progress.shown("indices") as report, workers(args) as executor:
        name = cube.materialise(
            ws, args.name, wanted, constants=dict(args.constant),
            out=args.out, executor=executor, root=args.root, progress=report,
        )  # fmt: skip
    found, said = made(ws, name)
    return found, "\n".join([said, *_absence(args, absent), *_lost(found["attrs"]["index_report"])])


def _wanted(args: argparse.Namespace, possible: Sequence[str]) -> tuple[list[str], list[str]]:
    """Give the indices that are asked for, and those of a set that are not possible."""
    if args.index:
        return list(args.index), []
    if not args.set:
        return list(possible), []
    members = _members(args.set)
    wanted = [name for name in members if name in possible]
    if not wanted:
        raise ValueError(
            f"{args.name!r} allows no index of the set {args.set!r}; choose another set, or name "
            "indices with --index"
        )
    return wanted, [name for name in members if name not in possible]


def _members(name: str) -> tuple[str, ...]:
    from deepfeatures.indices.ranges import SETS

    if name not in SETS:
        raise ValueError(f"{name!r} is no set of indices; choose one of {', '.join(SETS)}")
    return SETS[name]


def _absence(args: argparse.Namespace, absent: list[str]) -> list[str]:
    if not absent:
        return []
    return [f"not possible with {args.name}, of the set {args.set!r}: {_short(absent)}"]


def _lost(report: dict[str, dict[str, int]]) -> list[str]:
    """Give a table of the indices that lost more than `LOST` of their values."""
    rows = []
    for name, counts in report.items():
        parts = [counts[key] / max(counts["values"], 1) for key in ("undefined", "below", "above")]
        if max(parts) > LOST:
            rows.append((name, *(f"{100 * part:.2f} %" for part in parts)))
    if not rows:
        return []
    head = ("index", "undefined", "clipped below", "clipped above")
    return [f"more than {100 * LOST:g} % of the values were lost in:", table([head, *rows])]


def listing(args: argparse.Namespace, ws: Workspace) -> Answer:
    """List spectral indices."""
    from deepfeatures.indices.search import described, search
    from deepfeatures.indices.table import hint

    words = " ".join(args.words)
    names = None if args.set is None else _members(args.set)
    found = search(words, domain=args.domain, bands=args.bands, names=names)
    rows = [(index.name, index.domain, " ".join(index.bands), index.long_name) for index in found]
    nothing = hint(words) or "; ask for fewer words, or more bands"
    text = table(rows) if rows else f"no spectral index fits{nothing}"
    return [described(index) for index in found], text


def info(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Describe a spectral index."""
    from deepfeatures.bands import BANDS
    from deepfeatures.indices.search import described
    from deepfeatures.indices.table import find

    found = described(find(args.index))
    bands = [BANDS[name] for name in found["bands"]]
    constants = found["constants"].items()
    shown = found | {
        "bands": [f"{b.name} ({b.common_name}, {b.wavelength_nm:g} nm)" for b in bands],
        "constants": [
            f"{name} = {'must be given' if value is None else f'{value:g}'}"
            for name, value in constants
        ],
        "range": " to ".join(f"{edge:g}" for edge in found.get("range", ())),
        "kernel": "k(a, b) = exp(-2 ((a - b) / (a + b))^2)" if "k(" in found["of_bands"] else "",
    }
    return found, fields({name.replace("_", " "): value for name, value in shown.items() if value})


def report(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Say which channels of a cube repeat each other."""
    from deepfeatures import catalogue, reading, survey
    from deepfeatures import indices as engine

    cube = reading.open(catalogue.url(ws, args.name), args.name)
    possible = engine.available(cube.channels) if cube.kind == "bands" else cube.channels
    wanted, absent = _wanted(args, possible)
    with progress.shown("report", unit="block") as shown:
        found = survey.survey(
            cube, wanted, constants=dict(args.constant), samples=args.samples, seed=args.seed,
            threshold=args.threshold, keep=args.keep, progress=shown,
        )  # fmt: skip
    files = _written(found, Path(args.out)) if args.out else []
    data = survey.summary(found) | {"absent": absent, "files": [str(path) for path in files]}
    lines = [*_said(found), *_absence(args, absent)]
    return data, "\n".join([*lines, f"wrote {args.out}"] if files else lines)


def _written(found: Survey, folder: Path) -> list[Path]:
    from deepfeatures import pictures, survey

    files = survey.save(found, folder)
    result = found.found
    picture = folder / "correlation.png"
    pictures.collinearity(
        result, picture,
        title=f"{len(result.names)} {_noun(found)} of {found.cube}: "
        f"{len(result.pearson.kept)} are independent",
        note=f"{result.used:,} pixel-dates of {_dates(found)}; bold: kept at a variance "
        f"inflation below {result.threshold:g}\nbelow the diagonal: values (Pearson); above: "
        "ranks (Spearman); frames: all |r| \u2265 0.999 in ranks",
    )  # fmt: skip
    return [*files, picture]


def _noun(found: Survey) -> str:
    return "features" if found.kind == "features" else "spectral indices"


def _dates(found: Survey) -> str:
    return f"{found.dates} date{'s' if found.dates > 1 else ''}"


def _said(found: Survey) -> list[str]:
    """Say a survey in a few lines."""
    result = found.found
    values = len(result.names) - len(result.ruled)
    lines = [
        f"{found.cube}: {len(result.names)} {_noun(found)}, {result.used:,} pixel-dates of "
        f"{_dates(found)} ({result.samples:,} drawn)",
        f"independent at a variance inflation below {result.threshold:g}:",
        f"  of values  {len(result.pearson.kept)} of {values}: {_short(result.pearson.kept)}",
        f"  of ranks   {len(result.spearman.kept)} of {len(result.names)}: "
        f"{_short(result.spearman.kept)}",
        f"exact linear functions of others: {len(result.pearson.explained)} of {values} "
        f"(ranks: {len(result.spearman.explained)} of {len(result.names)})",
        *_groups("values", result.pearson),
        *_groups("ranks", result.spearman),
    ]
    if result.ruled:
        named = [f"{name} ({100 * share:.0f} %)" for name, share in result.ruled.items()]
        lines.append(
            "compared by ranks only, as a thousandth of the pixel-dates carries so much of the "
            f"variance: {_short(named)}"
        )
    if result.sparse:
        named = [f"{name} ({100 * share:.0f} %)" for name, share in result.sparse.items()]
        lines.append(f"left out, as they are too often undefined: {_short(named)}")
    if result.constant:
        lines.append(f"left out, as they are constant: {_short(result.constant)}")
    return lines


def _groups(word: str, measure: Dependence) -> list[str]:
    if not measure.groups:
        return []
    count = sum(map(len, measure.groups))
    shown = [f"  {', '.join(group)}" for group in measure.groups[:SHOWN]]
    more = len(measure.groups) - len(shown)
    return [
        f"{count} in {len(measure.groups)} groups of equal {word} (all |r| at least 0.999):",
        *shown,
        *([f"  and {more} more"] if more else []),
    ]


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:40]) + (f", ... ({len(names)})" if len(names) > 40 else "")
