"""The command ``deepfeatures latent``: make a plane of the latent space, or say what there is."""

from __future__ import annotations

import argparse
from typing import Any

from deepfeatures import progress
from deepfeatures.cli.arguments import name as _name
from deepfeatures.settings import Workspace

Answer = tuple[Any, str]


def add(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    one = sub.add_parser(
        "latent", parents=[common], help="make a plane of the latent space of a feature cube"
    )
    one.add_argument("name", type=_name)
    one.add_argument("--method", choices=("pca", "umap"), default="pca")
    one.add_argument("--points", type=int, help="pixel-dates that a UMAP is fitted to (30,000)")
    one.add_argument("--neighbours", type=int, help="neighbours of a point in a UMAP (15)")
    one.set_defaults(run=run)


def run(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Make the plane unless it is there."""
    from deepfeatures import latent, space

    asked = {key: getattr(args, key) for key in ("points", "neighbours")}
    settings = {key: value for key, value in asked.items() if value is not None}
    if settings and args.method != "umap":
        raise ValueError("--points and --neighbours belong to --method umap")
    plane = None if settings else space.plane(ws, args.name, args.method)
    if plane is None:
        with progress.shown("umap") as report:
            plane = space.fit_umap(ws, args.name, settings, report)
    count = len(plane.scores)
    found: dict[str, Any] = {"cube": args.name, "method": plane.method, "pixel_dates": count}
    text = f"{plane.method} of {args.name}: {count:,} pixel-dates"
    if isinstance(plane.axes, latent.PCA):
        found["explained"] = [round(float(share), 4) for share in plane.axes.explained]
        text += f", {sum(plane.axes.explained):.0%} of the variance"
    else:
        found["fitted"] = len(plane.axes.points)
        text += f", fitted to {found['fitted']:,} different ones"
    return found, text
