"""The commands of maps: what is similar, groups, classes, change, and a layer as polygons."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from deepfeatures import progress
from deepfeatures.cli import arguments
from deepfeatures.cli.commands import Answer, table
from deepfeatures.settings import Workspace


def add(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add the command ``find`` with its methods."""
    top = sub.add_parser("find", help="map what is similar, groups, classes or change")
    tasks = top.add_subparsers(dest="what", metavar="WHAT", required=True)
    like = tasks.add_parser("similar", parents=[common], help="map how alike pixels are to one")
    like.add_argument("name", type=arguments.name, help="a cube, best of features")
    like.add_argument("--lon", type=float, help="longitude of the pixel [degrees]")
    like.add_argument("--lat", type=float, help="latitude of the pixel [degrees]")
    like.add_argument("--aoi", metavar="FILE", help="area instead of a pixel, GeoJSON")
    like.add_argument("--measure", choices=("cosine", "euclid"), default="cosine")
    group = tasks.add_parser("groups", parents=[common], help="divide pixels into groups (k-means)")
    group.add_argument("name", type=arguments.name, help="a cube, best of features")
    group.add_argument("--k", type=arguments.positive, default=5, help="groups, 2 to 12 (5)")
    group.add_argument("--seed", type=int, default=0)
    learn = tasks.add_parser(
        "classify", parents=[common], help="map the classes of labelled pixels"
    )
    learn.add_argument("name", type=arguments.name, help="a cube, best of features")
    learn.add_argument(
        "--labels", required=True, metavar="FILE", help="GeoJSON points with the property 'class'"
    )
    learn.add_argument(
        "--classifier", choices=("logistic", "neighbours", "forest"), default="logistic"
    )
    learn.add_argument(
        "--gap", type=float, default=100.0, metavar="M",
        help="labels not farther apart are never on both sides of the validation (100)",
    )  # fmt: skip
    differ = tasks.add_parser("change", parents=[common], help="map change between dates or years")
    differ.add_argument("name", type=arguments.name, help="a cube, best of features")
    differ.add_argument("before", help="a date (2021-07-03) or a year (2021)")
    differ.add_argument("after", help="another date, or another year")
    for one in (like, group, learn):
        one.add_argument("--when", default="", help="a date, or a year (default: all dates)")
    for one in (like, group, learn, differ):
        one.add_argument("--out", type=arguments.name, help="name of the new layer")
        one.set_defaults(run=find)
    shapes = tasks.add_parser("polygons", parents=[common], help="write a layer as GeoJSON")
    shapes.add_argument("name", type=arguments.name, help="a layer")
    shapes.add_argument("--channel", help="which of its maps (the first)")
    shapes.add_argument("--least", type=float, help="numbers from here")
    shapes.add_argument("--most", type=float, help="numbers up to here")
    shapes.add_argument(
        "--smallest", type=arguments.positive, default=4, metavar="PIXELS",
        help="smaller patches join their neighbour (4)",
    )  # fmt: skip
    shapes.add_argument("--out", required=True, metavar="PATH")
    shapes.set_defaults(run=polygons)


def find(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Make a map and store it as a layer."""
    from deepfeatures import catalogue, finding, reading

    cube = reading.open(catalogue.url(ws, args.name), args.name)
    with progress.shown(args.what, unit="window") as report:
        found = finding.find(cube, args.what, _settings(args), progress=report)
    saved = finding.save(ws, found, args.out)
    return {"saved": saved} | found.summary, _said(saved, found.summary)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Give what was asked for in the words of `finding`."""
    from deepfeatures import finding

    given = vars(args)
    known = finding.METHODS[args.what][1]
    settings = {key: given[key] for key in known if given.get(key) is not None}
    for key in ("labels", "aoi"):
        if key in settings:
            settings[key] = _json(settings[key])
    if args.what == "similar" and "aoi" not in settings and not {"lon", "lat"} <= set(settings):
        raise ValueError("give the place: --lon and --lat in degrees, or --aoi FILE")
    return settings


def _json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text())
    except (ValueError, RecursionError):
        raise ValueError(f"{path!r} is no JSON; give a GeoJSON file") from None


def _said(saved: list[str], summary: dict[str, Any]) -> str:
    lines = [f"made {', '.join(saved)}"]
    areas = summary.get("areas_ha")
    if isinstance(areas, dict):
        lines.append(table([(name, f"{hectares:.2f} ha") for name, hectares in areas.items()]))
    if "edges" in summary:
        spans = zip(summary["edges"], summary["edges"][1:], summary["areas_ha"], strict=False)
        lines.append(table([(f"{low:.2f} to {up:.2f}", f"{ha:.2f} ha") for low, up, ha in spans]))
    if summary.get("accuracy") is not None:
        lines.append(f"accuracy {summary['accuracy']:.1%}")
    return "\n".join([*lines, *([summary["note"]] if "note" in summary else [])])


def polygons(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Write a layer as GeoJSON polygons."""
    from deepfeatures import catalogue, layers, reading

    cube = reading.open(catalogue.url(ws, args.name), args.name)
    found = layers.polygons(
        cube, layers.opened(cube), channel=args.channel, least=args.least, most=args.most,
        smallest=args.smallest,
    )  # fmt: skip
    path = Path(args.out)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(found, allow_nan=False))
    draft.replace(path)
    count = len(found["features"])
    return {"path": str(path), "polygons": count}, f"wrote {count} polygons to {path}"
