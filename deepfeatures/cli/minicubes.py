"""The commands of ``deepfeatures minicube``: make, update, sites, folds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepfeatures import progress
from deepfeatures.settings import Workspace

Answer = tuple[Any, str]


def make(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Make a minicube."""
    from deepfeatures import minicube

    with progress.shown("minicube", unit="band") as report:
        path = minicube.make(
            ws, args.name, Path(args.out), lat=args.lat, lon=args.lon,
            start=args.start and str(args.start), end=args.end and str(args.end),
            weather=args.weather, record=args.events_from, progress=report,
        )  # fmt: skip
    with minicube.open(path) as ds:
        steps, dates = ds.sizes["time"], int(ds["acquisition_time"].notnull().sum())
        names = [str(name) for name in ds.data_vars]
    found = {"path": str(path), "steps": steps, "dates": dates, "variables": names}
    return found, f"made {path}: {steps} steps, {dates} with an image"


def update(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Replace components of a minicube."""
    from deepfeatures import minicube

    with progress.shown("minicube", unit="band") as report:
        versions = minicube.refresh(
            ws, Path(args.path), args.name, args.component,
            weather=args.weather, record=args.events_from, progress=report,
        )  # fmt: skip
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"path": args.path, "versions": versions}, f"updated {args.path}: {words}"


def sites(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Draw sites."""
    import numpy as np

    from deepfeatures.minicube import sampling

    table = sampling.sample(
        args.landcover, args.out, count=args.count, min_distance_km=args.min_distance,
        climate=args.climate, bins=args.bins, seed=args.seed,
    )  # fmt: skip
    strata, counts = np.unique(table["stratum"], return_counts=True)
    sizes = dict(zip(strata.tolist(), counts.tolist(), strict=True))
    found = {"path": args.out, "sites": len(table), "wanted": args.count, "strata": sizes}
    note = "" if len(table) == args.count else f" (the distance allows no more, not {args.count})"
    return found, f"wrote {args.out}: {len(table)} sites{note} of {len(sizes)} strata"


def folds(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Split sites into folds."""
    from deepfeatures.minicube import sampling

    table = sampling.split(
        args.sites, args.out, block_km=args.block, buffer_km=args.buffer,
        buffer_days=args.buffer_days, shares=args.shares, seed=args.seed,
    )  # fmt: skip
    sizes = {str(name): int(size) for name, size in table["fold"].value_counts().items()}
    counts = {name: sizes.get(name, 0) for name in ("train", "validation", "test", "dropped")}
    words = ", ".join(f"{size} {name}" for name, size in counts.items())
    return {"path": args.out} | counts, f"wrote {args.out}: {words}"
