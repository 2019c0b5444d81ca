"""Arguments that several commands take: their types, and who works."""

from __future__ import annotations

import argparse
import math

from deepfeatures.settings import checked_name


def name(text: str) -> str:
    """Take the name of a cube or a model."""
    try:
        return checked_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def listed(text: str) -> list[str]:
    """Take names with commas between them."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("give names with commas between them")
    return parts


def names(text: str) -> list[str]:
    """Take names of cubes or models with commas between them."""
    return [name(part) for part in listed(text)]


def positive(text: str) -> int:
    """Take a whole number above zero."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def assigned(text: str) -> tuple[str, float]:
    """Take a name and its number, NAME=NUMBER."""
    left, _, right = text.partition("=")
    try:
        number = float(right)
    except ValueError:
        number = math.nan
    if not left.strip() or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER, such as x=0.5")
    return left.strip(), number


def spread(command: argparse.ArgumentParser) -> None:
    """Add who works, and where the store is written."""
    work = command.add_argument_group("who works")
    work.add_argument("--workers", type=positive, help="threads (default: one per core, 4 at most)")
    work.add_argument("--processes", action="store_true", help="processes instead of threads")
    work.add_argument("--scheduler", metavar="tcp://...", help="a Dask cluster")
    work.add_argument(
        "--root", metavar="URL", help="where the store is written (default: the workspace)"
    )
