"""What the command line calls: each command gives data for machines and text for people.

Everything heavy is imported inside the command that needs it, so that the help is quick.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfeatures import progress
from deepfeatures.settings import Workspace, port

if TYPE_CHECKING:
    from deepfeatures.aoi import AOI

Answer = tuple[Any, str]


def demo(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Build the simulated landscape."""
    from deepfeatures import cube

    with progress.shown("demo") as report:
        names = cube.demo(ws, seed=args.seed, size=args.size, years=args.years, progress=report)
    return {"cubes": names}, f"made {', '.join(names)} in {ws.home}"


def build(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Build a band cube from a STAC catalogue."""
    from deepfeatures import cube

    if args.bbox is not None and args.aoi is not None:
        raise ValueError("give a box or a polygon, not both")
    with progress.shown("build") as report, workers(args) as executor:
        name = cube.build(
            ws,
            args.name,
            area=args.bbox or _area(args.aoi),
            lat=args.lat,
            lon=args.lon,
            edge_size=args.edge_size,
            units=args.units,
            start=args.start,
            end=args.end,
            catalog=args.stac,
            collection=args.collection,
            resolution=args.resolution,
            bands=args.bands,
            query=_query(args.query),
            resampling=args.resampling,
            nbar=args.nbar,
            clouds=args.clouds,
            radar=args.stac if args.radar == "" else args.radar,
            radar_collection=args.radar_collection,
            despeckle=args.despeckle,
            ground=args.stac if args.ground == "" else args.ground,
            weather=args.weather,
            executor=executor,
            root=args.root,
            progress=report,
        )
    return made(ws, name)


def workers(args: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """Give the workers that the options ask for."""
    from deepfeatures import work

    return work.workers(args.workers, processes=args.processes, scheduler=args.scheduler)


def _query(conditions: Sequence[Sequence[str]] | None) -> dict[str, dict[str, Any]]:
    """Give the conditions of the command line as a query; numbers are compared as numbers."""
    found: dict[str, dict[str, Any]] = {}
    for name, operator, text in conditions or ():
        value: Any = text
        with suppress(ValueError):
            value = float(text)
        found.setdefault(name, {})[operator] = value
    return found


def import_file(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Read somebody else's cube, and say what was changed at the door."""
    from deepfeatures import cube, foreign

    with progress.shown("import") as report:
        day = str(args.date) if args.date else None
        name = cube.import_file(
            ws,
            args.name,
            args.path,
            date=day,
            offset=args.offset,
            mapping=foreign.parse(args.map) if args.map else None,
            clouds=args.clouds,
            progress=report,
        )
    found, said = made(ws, name)
    changes = found["attrs"].get("processing", [])
    return found, "\n".join([said, *(f"- {change}" for change in changes)])


def listing(args: argparse.Namespace, ws: Workspace) -> Answer:
    """List the cubes."""
    from deepfeatures import catalogue

    found = [catalogue.info(ws, name) for name in catalogue.names(ws)]
    rows = [
        (
            cube["name"],
            cube["kind"],
            f"{len(cube['times'])} dates",
            f"{cube['times'][0][:10]} to {cube['times'][-1][:10]}",
            f"{len(cube['channels'])} x {cube['dims']['y']} x {cube['dims']['x']}",
            f"{cube['resolution']:g} m",
            "simulated" if cube["simulated"] else "",
        )
        for cube in found
    ]
    return found, table(rows) or "there is no cube yet; start with `deepfeatures demo`"


def info(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Describe a cube."""
    from deepfeatures import catalogue

    found = catalogue.info(ws, args.name)
    short = found | {"times": f"{len(found['times'])}, {found['times'][0]} to {found['times'][-1]}"}
    return found, fields(short)


def remove(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Remove a cube."""
    from deepfeatures import cube

    cube.remove(ws, args.name)
    return {"removed": args.name}, f"removed {args.name}"


def embed(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Make the feature cube of a band cube."""
    area = _area(args.aoi)
    from deepfeatures import cards, cube

    spread = args.workers or args.processes or args.scheduler
    with (
        progress.shown("embed") as report,
        workers(args) if spread else nullcontext() as executor,
    ):
        name = cube.embed(
            ws,
            args.name,
            model=args.model or cards.DEFAULT,
            aoi=area,
            out=args.out,
            device=args.device,
            error=args.error,
            executor=executor,
            root=args.root,
            progress=report,
        )
    return made(ws, name)


def export(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Write a selection of a cube to a file."""
    if args.bbox is not None and args.aoi is not None:
        raise ValueError("give --bbox or --aoi, not both")
    area = _area(args.aoi)
    from deepfeatures import export as engine

    order = engine.Order(
        args.name,
        args.format,
        bbox=tuple(args.bbox) if args.bbox else None,
        geometry=area.geometry if area else None,
        start=str(args.start or (area.start if area else None) or ""),
        end=str(args.end or (area.end if area else None) or ""),
        channels=tuple(args.channels or ()),
    )
    selection = engine.ordered(ws, order)
    path = engine.write(selection, args.out, args.format)
    size = path.stat().st_size
    found = {"path": str(path), "bytes": size, "dims": dict(selection.sizes)}
    return found, f"wrote {path} ({size / 1e6:.2f} MB)"


def nbar(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Correct a product or a cube to a view from nadir, or write the c-factor of a granule."""
    from deepfeatures import catalogue, cube, granule, safe

    source = Path(args.path)
    if not source.exists() and args.path in catalogue.names(ws):
        with progress.shown("nbar") as report:
            return made(ws, cube.correct(ws, args.path, out=args.out, progress=report))
    if not source.is_dir():
        path = granule.write(args.path, Path(args.out))
        return {"path": str(path)}, f"wrote {path}"
    with progress.shown("nbar") as report:
        done = safe.correct(source, Path(args.out), progress=report)
    found = {
        "written": [str(path) for path in done.written],
        "kept": [str(path) for path in done.kept],
        "uncorrected_bands": list(done.uncorrected),
    }
    text = f"wrote {len(done.written)} files to {args.out}"
    text += f", {len(done.kept)} were complete" if done.kept else ""
    left = ", ".join(done.uncorrected)
    return found, text + (f"; {left} have no coefficients and are left out" if left else "")


def serve(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Serve the page and its HTTP routes until interrupted."""
    logging.getLogger("deepfeatures").setLevel(logging.INFO)
    # by name, because the package itself does not know the page
    importlib.import_module("app").serve(ws, host=args.host, port=args.port or port())
    return None, ""


def jobs_list(args: argparse.Namespace, ws: Workspace) -> Answer:
    """List the jobs."""
    from deepfeatures import jobs

    found = jobs.listing(ws)
    rows = [
        (
            job["id"],
            job["state"],
            f"{100 * job['fraction']:.0f} %",
            f"{datetime.fromtimestamp(job['created'], UTC):%Y-%m-%d %H:%M} UTC",
            f"{job['cube']} -> {job['out']}",
            job["error"] or "",
        )
        for job in found
    ]
    return found, table(rows) or "there is no job"


def jobs_cancel(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Cancel a job."""
    from deepfeatures import jobs

    found = jobs.cancel(ws, args.id)
    return found, f"{found['id']} is {found['state']}"


def jobs_log(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Give the log of a job."""
    from deepfeatures import jobs

    found = jobs.get(ws, args.id)
    text = jobs.log_text(ws, args.id)
    return found | {"log": text.splitlines()}, text.rstrip() or "nothing was logged"


def jobs_retry(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Ask once more for a job that failed or was cancelled."""
    from deepfeatures import jobs

    found = jobs.get(ws, jobs.retry(ws, args.id))
    return found, f"{found['id']} is {found['state']}"


def jobs_work(args: argparse.Namespace, ws: Workspace) -> Answer:
    """Be the worker of the workspace."""
    from deepfeatures import worker

    taken = worker.main(ws, parent=args.parent, once=args.once)
    return {"taken": taken}, f"{taken} jobs taken"


def made(ws: Workspace, name: str) -> Answer:
    """Answer with the cube that was made."""
    from deepfeatures import catalogue

    found = catalogue.info(ws, name)
    size = " x ".join(str(found["dims"][dim]) for dim in ("time", "y", "x"))
    made = f"made {name}: {len(found['channels'])} channels, {size} (dates, rows, columns)"
    lost = found["attrs"].get("lost_assets", [])
    lines = [f"  {one['date']} {one['item']} {one['asset']}: {one['reason']}" for one in lost]
    if lines:
        count = found["attrs"]["lost_assets_count"]
        made += f"\n{count} files could not be read; their dates are empty there:"
    return found, "\n".join([made, *lines])


def _area(path: str | None) -> AOI | None:
    """Read the file of an area; its name becomes the name of the area."""
    if path is None:
        return None
    from deepfeatures import vectors
    from deepfeatures.aoi import MAX_BYTES, from_geojson

    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {path!r}; give the area as a GeoJSON file")
    with source.open("rb") as file:
        content = file.read(max(MAX_BYTES, vectors.MAX_BYTES) + 1)
    if source.suffix.lower() in (".kml", ".kmz", ".zip", ".gpkg"):
        found = vectors.read(content, source.name)
        return from_geojson({"type": "FeatureCollection", "features": found}, name=source.stem)
    return from_geojson(content, name=source.stem)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as columns of text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def fields(found: dict[str, Any]) -> str:
    """Write names and values, one a line."""
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            lines += [f"  {key}: {_short(item)}" for key, item in value.items()]
        else:
            lines.append(f"{name}: {_short(value)}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(str(item) for item in value[:20])
        return shown + (f", ... ({len(value)})" if len(value) > 20 else "")
    return str(value)
