"""What can be asked on the command line."""

from __future__ import annotations

import argparse
from datetime import date

from deepfeatures import __version__
from deepfeatures.cli import commands
from deepfeatures.settings import checked_name

FORMATS = ("zarr", "netcdf", "geotiff", "csv")
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
    for add in (_make, _look, _models, _use, _jobs):
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
    build.add_argument("--lat", type=_latitude, required=True, help="latitude of the centre")
    build.add_argument("--lon", type=_longitude, required=True, help="longitude of the centre")
    build.add_argument("--edge-size", type=_positive, required=True, help="edge in pixels")
    build.add_argument("--start", type=_day, required=True, help="first day, YYYY-MM-DD")
    build.add_argument("--end", type=_day, required=True, help="last day, YYYY-MM-DD")
    build.add_argument(
        "--stac", default="earth-search", metavar="URL|PATH|PRESET",
        help="a STAC API, a static catalogue, or a preset (earth-search)",
    )  # fmt: skip
    build.add_argument("--collection", help="collection (default: that of the preset)")
    build.add_argument("--resolution", type=_metres, default=10.0, help="pixel size in metres (10)")
    build.set_defaults(run=commands.build)

    read = sub.add_parser("import", parents=[common], help="read a NetCDF cube into the workspace")
    read.add_argument("name", type=_name)
    read.add_argument("path")
    read.add_argument("--date", type=_day, help="day of an image whose file does not say it")
    read.add_argument(
        "--offset", type=float, default=0.0,
        help="added to the reflectance: -0.1 for files that kept the shift of baseline 04.00",
    )  # fmt: skip
    read.set_defaults(run=commands.import_file)


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


def _models(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    train = sub.add_parser("train", help="train a model")
    kinds = train.add_subparsers(dest="what", metavar="WHAT", required=True)
    embedding = kinds.add_parser("embedding", parents=[common], help="train a model of features")
    embedding.add_argument(
        "--cubes", type=_names, metavar="A,B", help="band cubes to train on (default: all)"
    )
    embedding.add_argument("--kind", default="convtemporal", help="network (convtemporal), or pca")
    embedding.add_argument("--seed", type=int, default=0)
    embedding.add_argument("--steps", type=_positive, help="training steps")
    embedding.add_argument("--out", type=_name, help="name of the model (default: its kind)")
    embedding.set_defaults(run=commands.train)

    model = sub.add_parser("model", help="list or describe models")
    tasks = model.add_subparsers(dest="what", metavar="WHAT", required=True)
    tasks.add_parser("list", parents=[common], help="list the models").set_defaults(
        run=commands.models
    )
    card = tasks.add_parser("info", parents=[common], help="describe a model")
    card.add_argument("name", type=_name)
    card.set_defaults(run=commands.model)


def _use(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    indices = sub.add_parser("indices", parents=[common], help="store spectral indices as a cube")
    indices.add_argument("name", type=_name)
    which = indices.add_mutually_exclusive_group(required=True)
    which.add_argument("--index", nargs="+", action="extend", metavar="INDEX", help="NDVI EVI ...")
    which.add_argument("--set", metavar="SET", help="a group: vegetation, water, soil, ...")
    which.add_argument("--all", action="store_true", help="all that the bands of the cube allow")
    indices.add_argument("--out", type=_name, help="name of the new cube")
    indices.set_defaults(run=commands.indices)

    embed = sub.add_parser("embed", parents=[common], help="make the feature cube of a band cube")
    embed.add_argument("name", type=_name)
    embed.add_argument("--model", type=_name, help="model (default: the shipped network)")
    embed.add_argument("--aoi", metavar="FILE", help="area, GeoJSON in longitude/latitude")
    embed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    embed.add_argument("--out", type=_name, help="name of the new cube")
    embed.set_defaults(run=commands.embed)

    export = sub.add_parser("export", parents=[common], help="write a selection to a file")
    export.add_argument("name", type=_name)
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--out", required=True, metavar="PATH")
    export.add_argument("--aoi", metavar="FILE", help="area, GeoJSON in longitude/latitude")
    export.add_argument("--start", type=_day, help="first day, YYYY-MM-DD")
    export.add_argument("--end", type=_day, help="last day, YYYY-MM-DD")
    export.add_argument("--channels", type=_list, metavar="A,B", help="bands, indices or features")
    export.set_defaults(run=commands.export)

    serve = sub.add_parser("serve", parents=[common], help="serve the page and its HTTP routes")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port (default: PORT, else 5006)")
    serve.set_defaults(run=commands.serve)


def _jobs(sub: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    jobs = sub.add_parser("jobs", help="list or cancel jobs")
    tasks = jobs.add_subparsers(dest="what", metavar="{list,cancel}", required=True)
    tasks.add_parser("list", parents=[common], help="list the jobs").set_defaults(
        run=commands.jobs_list
    )
    cancel = tasks.add_parser("cancel", parents=[common], help="cancel a job")
    cancel.add_argument("id")
    cancel.set_defaults(run=commands.jobs_cancel)
    # started by the server, so not in the help
    work = tasks.add_parser("work", parents=[common])
    work.add_argument("--parent", type=int)
    work.add_argument("--once", action="store_true")
    work.set_defaults(run=commands.jobs_work)


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> list[str]:
    return [_name(part) for part in _list(text)]


def _list(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("give names with commas between them")
    return parts


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


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _port(text: str) -> int:
    return int(_number(text, 1, 65535, "a port (1 to 65535)"))
