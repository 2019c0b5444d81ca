"""What must be added to the reflectance of each acquisition of a foreign stack.

Since processing baseline 04.00 (2022-01-25, and older scenes that were reprocessed) the digital
numbers of level 2A are 1000 higher: BOA_ADD_OFFSET of the Sentinel-2 Products Specification
Document, S2-PDGS-TAS-DI-PSD, issue 14.9. The baseline of each step decides, not its date; only
where a file kept neither baseline nor product name, the date stands in for it, and that is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import xarray as xr

OFFSET = -0.1
"""-1000 digital numbers."""
SINCE = np.datetime64("2022-01-25", "ns")
"""All acquisitions from this day on were made with baseline 04.00 or later."""

_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_PRODUCTS = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "id")
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_IN_NAME = re.compile(r"_N(\d{2})(\d{2})_")


@dataclass(frozen=True)
class Steps:
    """Shift and baseline of each step of a stack."""

    offset: np.ndarray
    """What is to be added to the reflectance (time,)."""
    baseline: np.ndarray
    """Processing baseline (time,); 0 where it is not known."""
    changes: tuple[str, ...]


def of(stack: xr.DataArray, *, numbers: bool, dark: bool) -> Steps:
    """Decide the shift of each step.

    Parameters
    ----------
    stack
        With the coordinates that STAC items left on ``time``.
    numbers
        The values are digital numbers; else they are reflectance, so that whoever made the stack
        applied scale and offset of the catalogue.
    dark
        The values are too dark to be reflectance (see `stacks`).
    """
    count = stack.sizes["time"]
    baseline = _baselines(stack)
    applied = _flags(stack, _APPLIED)
    if not numbers:
        twice = applied & (baseline >= 4) if dark else np.zeros(count, bool)
        said = (
            f"{int(twice.sum())} of {count} steps had the offset of baseline 04.00 taken off "
            f"twice (the catalogue says it was applied before): {-OFFSET:g} added",
        )
        return Steps(np.where(twice, -OFFSET, 0.0), baseline, said if twice.any() else ())
    known = baseline > 0
    recent = stack["time"].values >= SINCE
    harmonised = "HARMONIZED" in str(stack.attrs.get("collection", stack.name)).upper()
    due = np.where(known, baseline >= 4, recent) & ~applied & (not harmonised)
    words = []
    if due.any():
        words.append(
            f"offset {OFFSET:g} added to {int(due.sum())} of {count} steps (baseline >= 04.00)"
        )
    if not (known | applied).all() and not harmonised:
        words.append(
            f"baseline of {int((~known & ~applied).sum())} of {count} steps not stated: taken as "
            "04.00 from 2022-01-25 on and as older before; say otherwise with --offset"
        )
    return Steps(np.where(due, OFFSET, 0.0), baseline, tuple(words))


def _baselines(stack: xr.DataArray) -> np.ndarray:
    found = np.zeros(stack.sizes["time"])
    for name in _BASELINES:
        words = _words(stack, name)
        found = np.where(found > 0, found, [_number(word) for word in words])
    for name in _PRODUCTS:
        matches = [_IN_NAME.search(word) for word in _words(stack, name)]
        values = [float(f"{m[1]}.{m[2]}") if m else 0.0 for m in matches]
        found = np.where(found > 0, found, values)
    return found


def _flags(stack: xr.DataArray, names: tuple[str, ...]) -> np.ndarray:
    found = np.zeros(stack.sizes["time"], bool)
    for name in names:
        found |= np.array([word.lower() in ("true", "1", "1.0") for word in _words(stack, name)])
    return found


def _words(stack: xr.DataArray, name: str) -> list[str]:
    """Give a coordinate as one word for each step; equal items leave a single value."""
    count = stack.sizes["time"]
    if name not in stack.coords or stack[name].dims not in ((), ("time",)):
        return [""] * count
    values = np.atleast_1d(stack[name].values)
    return [str(value) for value in np.broadcast_to(values, count)]


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        return 0.0
    return value if np.isfinite(value) and 0 < value < 100 else 0.0
