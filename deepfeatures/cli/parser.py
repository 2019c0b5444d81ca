"""What can be asked on the command line."""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

from deepfeatures import __version__
from deepfeatures.cli import commands, find, gpp, minicubes, models, planes, spectral
from deepfeatures.cli.arguments import listed as _list
from deepfeatures.cli.arguments import name as _name
from deepfeatures.cli.arguments import positive as _positive
from deepfeatures.cli.arguments import spread as _spread

FORMATS = ("zarr", "netcdf", "geotiff", "geotiff-dates", "csv", "parquet", "research")
"""Formats of an export."""


def parser() -> argparse.ArgumentParser:
    """Make the parser; each command sets ``run``, a function of `commands`."""
    top = argparse.ArgumentParser(
        prog="deepfeatures",
        description="Feature data cubes: Sentinel-2 bands, spectral indices and learned features "
        "per pixel and date.",
    )
    top.add_argument("--version", action="version", version=f"deepfeatures {__version__}")
    _shared(top)
    common = argparse.ArgumentParser(add_help=False)
    _shared(common)
    sub = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _make,
        _look,
        models.add,
        spectral.add,
        planes.add,
        find.add,
        gpp.add,
        _use,
        _minicubes,
        _jobs,
    ):
        add(sub, common)
    return top


def _shared(target: argparse.ArgumentParser) -> None:
    # without a default, so that an option before the command is not lost to one after it
    target.add_argument(
        "--home", default=argparse.SUPPRESS, metavar="FOLDER",
        help="the workspace (default: DEEPFEATURES_HOME, else ./workspace)",
    )  # fmt: skip
    target.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS,
        help="print results for machines",
    )  # fmt: skip


def _make(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    demo = sub.add_parser("demo", parents=[common], help="build the simulated landscape")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--size", type=_positive, default=256, help="edge in pixels of 10 m (256)")
    demo.add_argument("--years", type=_positive, default=3, help="years of dates (3)")
    demo.set_defaults(run=commands.demo)

    build = sub.add_parser(
        "build", parents=[common], help="build a band cube from a STAC catalogue"
    )
    build.add_argument("name", type=_name)
    _place(build)
    _source(build)
    _clouds(build)
    _beside(build)
    _spread(build)
    build.set_defaults(run=commands.build)

    read = sub.add_parser(
        "import", parents=[common], help="read somebody else's cube into the workspace"
    )
    read.add_argument("name", type=_name)
    read.add_argument("path")
    read.add_argument("--date", type=_day, help="day of an image whose file does not say it")
    read.add_argument(
        "--offset", type=float,
        help="added to the reflectance: -0.1 for files that kept the shift of baseline 04.00 "
        "(default: what the file says of each date)",
    )  # fmt: skip
    read.add_argument(
        "--map", nargs="+", action="extend", metavar="FILE.json|KEY=VALUE",
        help="what the variables of a file are: B04=red scale=1e-4 crs=EPSG:32631 ...",
    )  # fmt: skip
    _clouds(read)
    read.set_defaults(run=commands.import_file)


def _place(build: argparse.ArgumentParser) -> None:
    where = build.add_argument_group("place: a centre, a box or a polygon")
    where.add_argument("--lat", type=_latitude, help="latitude of the centre")
    where.add_argument("--lon", type=_longitude, help="longitude of the centre")
    where.add_argument("--edge-size", type=_above_zero, help="edge of the square")
    where.add_argument("--units", choices=("px", "m"), default="px", help="of the edge size (px)")
    where.add_argument(
        "--bbox", type=float, nargs=4, metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="box in degrees",
    )  # fmt: skip
    where.add_argument("--aoi", metavar="FILE", help="polygon, GeoJSON in longitude/latitude")
    where.add_argument("--resolution", type=_metres, default=10.0, help="pixel size in metres (10)")


def _source(build: argparse.ArgumentParser) -> None:
    build.add_argument("--start", type=_day, required=True, help="first day, YYYY-MM-DD")
    build.add_argument("--end", type=_day, required=True, help="last day, YYYY-MM-DD")
    build.add_argument(
        "--stac", default="earth-search", metavar="URL|PATH|PRESET",
        help="a STAC API, a static catalogue, or a preset (earth-search)",
    )  # fmt: skip
    build.add_argument("--collection", help="collection (default: that of the preset)")
    build.add_argument("--bands", type=_list, metavar="A,B", help="bands (default: all)")
    build.add_argument(
        "--query", nargs=3, action="append", metavar=("PROPERTY", "OPERATOR", "VALUE"),
        help="a condition on the items, such as: eo:cloud_cover lt 30 (operators: eq neq lt lte "
        "gt gte); may be given several times",
    )  # fmt: skip
    build.add_argument(
        "--resampling", choices=("nearest", "bilinear", "cubic"), default="nearest",
        help="how bands coarser than the grid are brought onto it (nearest)",
    )  # fmt: skip
    build.add_argument(
        "--nbar", choices=("grid", "scene", "off"), default="grid",
        help="correct to a view from nadir with the angles of the granule metadata (grid), also "
        "with the mean angles of a scene where there are no others (scene), or not (off)",
    )  # fmt: skip


def _clouds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--clouds", choices=("full", "temporal", "scl"), default="full",
        help="look for clouds with the scene classification, in time and with a network (full), "
        "without the network (temporal), or with the scene classification alone (scl)",
    )  # fmt: skip


def _beside(build: argparse.ArgumentParser) -> None:
    beside = build.add_argument_group("beside reflectance")
    same: dict[str, Any] = {"nargs": "?", "const": "", "metavar": "URL|PATH|PRESET"}
    beside.add_argument("--radar", help="add Sentinel-1 of a catalogue (that of --stac)", **same)
    beside.add_argument("--radar-collection", help="its collection (RTC where there is one)")
    beside.add_argument("--despeckle", action="store_true", help="filter the speckle of radar")
    beside.add_argument("--ground", help="add elevation and land cover of a catalogue", **same)
    beside.add_argument(
        "--weather", metavar="URL|PATH", help="add daily weather from NetCDF, Zarr or a table"
    )


def _look(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    listing = sub.add_parser("list", parents=[common], help="list the cubes")
    listing.set_defaults(run=commands.listing)

    info = sub.add_parser("info", parents=[common], help="describe a cube")
    info.add_argument("name", type=_name)
    info.set_defaults(run=commands.info)

    remove = sub.add_parser("remove", parents=[common], help="remove a cube for good")
    remove.add_argument("name", type=_name)
    remove.add_argument("--yes", action="store_true", required=True, help="say that you mean it")
    remove.set_defaults(run=commands.remove)


def _use(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    embed = sub.add_parser("embed", parents=[common], help="make the feature cube of a band cube")
    embed.add_argument("name", type=_name)
    embed.add_argument("--model", type=_name, help="model (default: the shipped network)")
    embed.add_argument("--aoi", metavar="FILE", help="area, GeoJSON in longitude/latitude")
    embed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    embed.add_argument("--error", action="store_true", help="keep the reconstruction error too")
    embed.add_argument("--out", type=_name, help="name of the new cube")
    _spread(embed)
    embed.set_defaults(run=commands.embed)

    export = sub.add_parser("export", parents=[common], help="write a selection to a file")
    export.add_argument("name", type=_name)
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--out", required=True, metavar="PATH")
    export.add_argument("--aoi", metavar="FILE", help="area, GeoJSON in longitude/latitude")
    export.add_argument(
        "--bbox", type=float, nargs=4, metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="box in degrees instead",
    )  # fmt: skip
    export.add_argument("--start", type=_day, help="first day, YYYY-MM-DD")
    export.add_argument("--end", type=_day, help="last day, YYYY-MM-DD")
    export.add_argument("--channels", type=_list, metavar="A,B", help="bands, indices or features")
    export.set_defaults(run=commands.export)

    nbar = sub.add_parser("nbar", parents=[common], help="correct a product to a view from nadir")
    nbar.add_argument(
        "path",
        help="a .SAFE folder of level 2A, the metadata of a granule (MTD_TL.xml), or a cube of the "
        "workspace that has the mean angles of its scenes",
    )
    nbar.add_argument(
        "--out", required=True, metavar="PATH",
        help="folder for the bands as COG, NetCDF file for the c-factor, or name of the new cube",
    )  # fmt: skip
    nbar.set_defaults(run=commands.nbar)

    serve = sub.add_parser("serve", parents=[common], help="serve the page and its HTTP routes")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port (default: PORT, else 5006)")
    serve.set_defaults(run=commands.serve)


def _minicubes(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    top = sub.add_parser("minicube", help="make minicubes in the form of DeepExtremeCubes")
    tasks = top.add_subparsers(dest="what", metavar="WHAT", required=True)
    make = tasks.add_parser("make", parents=[common], help="make a minicube of a band cube")
    make.add_argument("name", type=_name, help="the band cube")
    make.add_argument("--lat", type=_latitude, help="latitude of the middle (that of the cube)")
    make.add_argument("--lon", type=_longitude, help="longitude of the middle (that of the cube)")
    make.add_argument("--start", type=_day, help="first day (that of the cube)")
    make.add_argument("--end", type=_day, help="last day (that of the cube)")
    make.add_argument("--out", required=True, metavar="FOLDER", help="folder of the minicubes")
    make.set_defaults(run=minicubes.make)
    update = tasks.add_parser("update", parents=[common], help="replace components of a minicube")
    update.add_argument("path", metavar="PATH", help="the minicube")
    update.add_argument("--from", dest="name", type=_name, required=True, metavar="CUBE")
    update.add_argument(
        "--component", nargs="+", action="extend", required=True, metavar="NAME",
        help="s2 mask dem landcover era5 events",
    )  # fmt: skip
    update.set_defaults(run=minicubes.update)
    for one in (make, update):
        one.add_argument("--weather", metavar="PATH|URL", help="daily weather (that of the cube)")
        one.add_argument(
            "--events-from", metavar="PATH|URL", help="long record of weather that shows extremes"
        )
    _sites(tasks, common)


def _sites(tasks: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    sites = tasks.add_parser("sites", parents=[common], help="draw sites from candidates")
    sites.add_argument(
        "--landcover", required=True, metavar="FILE",
        help="raster of classes, or CSV with lon, lat, class and climate",
    )  # fmt: skip
    sites.add_argument("--count", type=_positive, required=True, help="sites wanted")
    sites.add_argument("--min-distance", type=float, required=True, metavar="KM")
    sites.add_argument("--climate", nargs="*", metavar="COLUMN", help="(temperature precipitation)")
    sites.add_argument("--bins", type=_positive, default=4, help="classes of each climate (4)")
    sites.set_defaults(run=minicubes.sites)
    folds = tasks.add_parser("folds", parents=[common], help="split sites into folds by blocks")
    folds.add_argument("sites", metavar="CSV", help="lon, lat, and time to split years as well")
    folds.add_argument("--block", type=float, default=100.0, metavar="KM", help="edge (100)")
    folds.add_argument(
        "--buffer", type=float, required=True, metavar="KM",
        help="sites of different folds are farther apart",
    )  # fmt: skip
    folds.add_argument("--buffer-days", type=float, default=0.0, metavar="DAYS")
    folds.add_argument(
        "--shares", type=float, nargs=3, default=(0.7, 0.15, 0.15), metavar="SHARE",
        help="train, validation, test (0.7 0.15 0.15)",
    )  # fmt: skip
    folds.set_defaults(run=minicubes.folds)
    for one in (sites, folds):
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--out", required=True, metavar="CSV")


def _jobs(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    jobs = sub.add_parser("jobs", help="list, watch, cancel or retry jobs")
    tasks = jobs.add_subparsers(dest="what", metavar="{list,log,cancel,retry}", required=True)
    tasks.add_parser("list", parents=[common], help="list the jobs").set_defaults(
        run=commands.jobs_list
    )
    for name, run, words in (
        ("log", commands.jobs_log, "show what a job has logged"),
        ("cancel", commands.jobs_cancel, "cancel a job"),
        ("retry", commands.jobs_retry, "ask again for a job that failed or was cancelled"),
    ):
        task = tasks.add_parser(name, parents=[common], help=words)
        task.add_argument("id")
        task.set_defaults(run=run)
    # started by the server, so not in the help
    work = tasks.add_parser("work", parents=[common])
    work.add_argument("--parent", type=int)
    work.add_argument("--once", action="store_true")
    work.set_defaults(run=commands.jobs_work)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; write YYYY-MM-DD") from None


def _number(text: str, low: float, high: float, meaning: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
    return value


def _latitude(text: str) -> float:
    return _number(text, -90, 90, "a latitude in degrees (-90 to 90)")


def _longitude(text: str) -> float:
    return _number(text, -180, 180, "a longitude in degrees (-180 to 180)")


def _metres(text: str) -> float:
    return _number(text, 1, 10_000, "a pixel size in metres (1 to 10000)")


def _above_zero(text: str) -> float:
    return _number(text, 1e-3, 1e9, "a length above zero")


def _port(text: str) -> int:
    return int(_number(text, 1, 65535, "a port (1 to 65535)"))
