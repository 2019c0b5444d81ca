"""Samples of a cube, spread over dates and places, and what they say of its channels.

Only some stored blocks are read, a few of each period, so the work does not grow with the cube. The
blocks of a period are a systematic sample along a Z-order curve through those that have usable
pixels, which spreads them evenly over the plane (the idea of Stevens and Olsen 2004,
doi:10.1198/016214504000000250). Of the pixels wanted each date of each block gives the same number,
or all it has, so that neither clear dates nor large fields drown the others.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import collinearity, indices, reading
from deepfeatures.clouds import USABLE
from deepfeatures.collinearity import Collinearity, Dependence

SAMPLES = 100_000
"""Pixel-dates that are drawn unless it is said otherwise."""
MAX_VALUES = 50_000_000
"""Most values (channels x pixel-dates) of a sample."""
READS = 1_000
"""Stored chunks that are read at most, if a few blocks of each period can be had for it."""
LEAST = 4
"""Blocks of each period that are read at least."""

_OVERVIEW = 512  # edge of a raster of all pixels that is still a small image
_MEASURES = {"pearson": "values", "spearman": "ranks"}

Progress = Callable[[int, int], None] | None
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Sample:
    """Usable pixel-dates of a cube."""

    values: dict[str, NDArray[np.float32]]
    """Channel -> (n,) physical values; NaN where there is none."""
    steps: NDArray[np.int64]
    """(n,) index of the date."""
    rows: NDArray[np.int64]
    """(n,) row of the pixel."""
    columns: NDArray[np.int64]
    """(n,) column of the pixel."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What a sample of a cube says of the collinearity of its channels."""

    cube: str
    """Name of the cube."""
    version: str
    """Its version."""
    kind: str
    """``bands`` (of which the indices were analysed), ``index`` or ``features``."""
    dates: int
    """Dates that gave samples."""
    seed: int
    """Seed of the sample."""
    constants: dict[str, float]
    """Constants of indices that differ from the catalogue's."""
    found: Collinearity
    """The analysis."""


def survey(
    cube: reading.OpenCube,
    wanted: Sequence[str] | None = None,
    *,
    constants: Mapping[str, float] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    threshold: float = collinearity.THRESHOLD,
    keep: Sequence[str] = (),
    progress: Progress = None,
) -> Survey:
    """Analyse the collinearity of the channels of a cube, or of the indices of its bands.

    Parameters
    ----------
    cube
        The cube.
    wanted
        Of a band cube names of indices or expressions, by default all that its bands allow; else
        stored channels, by default all.
    constants
        Constants of indices that differ from the catalogue's.
    samples
        Pixel-dates that are drawn; fewer if there are not as many.
    seed
        Seed of the sample: the same seed draws the same.
    threshold, keep
        See `collinearity.analyse`.
    progress
        Called with blocks read and blocks in all.

    Raises
    ------
    KeyError
        If an index is unknown.
    ValueError
        If a channel or a band is missing, the sample would be too large, or says too little.
    """
    if cube.kind != "bands":
        names = reading.checked(cube, wanted)
        drawn = sample(cube, names, count=_fits(samples, len(names)), seed=seed, progress=progress)
        table = np.stack([drawn.values[name] for name in names])
    else:
        found = indices.chosen(
            list(dict.fromkeys(wanted or indices.available(cube.channels))), cube.channels
        )
        names = [index.name for index in found]
        bands = [band for band in cube.channels if any(band in index.bands for index in found)]
        drawn = sample(cube, bands, count=_fits(samples, len(names)), seed=seed, progress=progress)
        table = indices.compute(drawn.values, found, constants=constants)
    result = collinearity.analyse(table, names, threshold=threshold, keep=keep)
    dates = int(np.unique(drawn.steps).size)
    return Survey(cube.name, cube.version, cube.kind, dates, seed, dict(constants or {}), result)


def _fits(samples: int, channels: int) -> int:
    if samples * channels > MAX_VALUES:
        raise ValueError(
            f"{samples:,} samples of {channels} channels are too many; "
            f"ask for {MAX_VALUES // channels:,} at most"
        )
    return samples


def sample(
    cube: reading.OpenCube,
    channels: Sequence[str],
    *,
    count: int = SAMPLES,
    seed: int = 0,
    progress: Progress = None,
) -> Sample:
    """Draw usable pixel-dates of a cube, spread over dates and places.

    Parameters
    ----------
    cube
        The cube.
    channels
        Stored channels.
    count
        Pixel-dates; fewer if the blocks that are read do not have as many.
    seed
        Seed of everything random.
    progress
        Called with blocks read and blocks in all.

    Raises
    ------
    ValueError
        If no pixel is usable.
    """
    boxes = _boxes(cube, len(channels), np.random.default_rng([seed, 0]))
    usable = [reading.read(cube, "valid", box) == USABLE for box in boxes]
    counts = [np.count_nonzero(mask, axis=(1, 2)) for mask in usable]
    if not sum(int(number.sum()) for number in counts):
        raise ValueError(f"{cube.name!r} has no usable pixel where it was sampled; nothing is left")
    quotas = shared(np.concatenate(counts), count, np.random.default_rng([seed, 1]))
    ends = np.cumsum([number.size for number in counts])[:-1]
    parts = []
    for at, (box, mask, quota) in enumerate(
        zip(boxes, usable, np.split(quotas, ends), strict=True)
    ):
        if quota.any():
            places = _drawn(mask, quota, np.random.default_rng([seed, 2, at]))
            found = reading.values(cube, channels, *box)
            picked = np.stack([found[channel][places] for channel in channels])
            parts.append((picked, [p + side.start for p, side in zip(places, box, strict=True)]))
        if progress:
            progress(at + 1, len(boxes))
    values = np.concatenate([picked for picked, _ in parts], axis=1)
    steps, rows, columns = np.concatenate([places for _, places in parts], axis=1)
    return Sample(dict(zip(channels, values, strict=True)), steps, rows, columns)


def shared(counts: NDArray[np.int64], total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Share a number out among cells: the same to each, or all it has; what is over by lot.

    Parameters
    ----------
    counts
        (cells,) how many each cell has.
    total
        How many are wanted.
    rng
        Decides which cells give one more than others.

    Returns
    -------
    numpy.ndarray
        (cells,), at most `counts`; their sum is `total`, or all there are.
    """
    if counts.sum() <= total:
        return counts.copy()
    ordered = np.sort(counts)
    before = np.cumsum(ordered) - ordered
    open_cells = counts.size - np.arange(counts.size)
    # the first cell that is not exhausted when all get as much as it has
    first = int(np.argmax(before + ordered * open_cells > total))
    each = (total - before[first]) // open_cells[first]
    found = np.minimum(counts, each)
    more = np.flatnonzero(counts > each)
    found[rng.choice(more, total - int(found.sum()), replace=False)] += 1
    return found


def _drawn(
    mask: NDArray[np.bool_], quota: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """Draw so many of the true places of each date; (step, row, column) in the box."""
    parts = []
    for step, number in enumerate(quota.tolist()):
        flat = rng.choice(np.flatnonzero(mask[step]), number, replace=False) if number else []
        parts.append(np.ravel_multi_index((step, 0, 0), mask.shape) + np.sort(flat).astype(int))
    return np.unravel_index(np.concatenate(parts), mask.shape)


def _boxes(cube: reading.OpenCube, channels: int, rng: np.random.Generator) -> list[Box]:
    """Choose the stored blocks (dates, rows, columns) that are read."""
    length, _, height, width = cube.arrays[cube.variable, 1].chunks
    dates = len(cube.times)
    periods = [slice(at, min(at + length, dates)) for at in range(0, dates, length)]
    number = max(LEAST, READS // (channels * len(periods)))
    found = []
    for period in periods:
        places = _places(cube, period, height, width)
        chosen = min(number, len(places))
        for at in ((rng.random() + np.arange(chosen)) * len(places) / max(chosen, 1)).astype(int):
            top, left = places[at] * (height, width)
            rows = slice(int(top), min(int(top) + height, cube.grid.height))
            columns = slice(int(left), min(int(left) + width, cube.grid.width))
            found.append((period, rows, columns))
    return found


def _places(cube: reading.OpenCube, period: slice, height: int, width: int) -> NDArray[np.int64]:
    """Give the blocks (n, 2) that have usable pixels in a period, along a Z-order curve."""
    edge = max(cube.grid.height, cube.grid.width)
    level = next((level for level in cube.levels if edge / level <= _OVERVIEW), cube.levels[-1])
    _, rows, columns = cube.arrays["valid", level].shape
    box = (period, slice(0, rows), slice(0, columns))
    usable = (reading.read(cube, "valid", box, level=level) == USABLE).any(axis=0)
    pixels = np.argwhere(usable) * level
    places = np.unique(pixels // (height, width), axis=0)
    bits = np.arange(16)
    y, x = ((places[:, axis, None] >> bits) & 1 for axis in (0, 1))
    return places[np.argsort(((y << (2 * bits + 1)) | (x << (2 * bits))).sum(axis=1))]


def summary(report: Survey) -> dict[str, Any]:
    """Give a survey in plain values that JSON can carry, without the matrices.

    An infinite VIF is the word ``inf``, one that was not computed is None.
    """
    found = report.found
    head = {
        "cube": report.cube,
        "version": report.version,
        "kind": report.kind,
        "catalogue": indices.CATALOGUE,
        "constants": report.constants,
        "seed": report.seed,
        "dates": report.dates,
        "samples": found.samples,
        "used": found.used,
        "threshold": found.threshold,
        "channels": list(found.names),
        "constant": list(found.constant),
        "undefined": found.sparse,
        "ruled_by_extremes": found.ruled,
    }
    return head | {name: _told(found.names, getattr(found, name)) for name in _MEASURES}


def _told(names: Sequence[str], measure: Dependence) -> dict[str, Any]:
    return {
        "kept": list(measure.kept),
        "dropped": [{"name": name, "vif": _number(vif)} for name, vif in measure.dropped],
        "groups": [list(group) for group in measure.groups],
        "explained_by": {name: list(others) for name, others in measure.explained.items()},
        "vif": {name: _number(vif) for name, vif in zip(names, measure.vif, strict=True)},
    }


def _number(vif: float) -> float | str | None:
    return None if math.isnan(vif) else float(vif) if math.isfinite(vif) else "inf"


def save(report: Survey, folder: Path) -> list[Path]:
    """Write ``correlation.csv``, ``rank_correlation.csv``, ``vif.csv`` and ``report.json``.

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = report.found
    matrices = {"correlation": found.pearson, "rank_correlation": found.spearman}
    paths = []
    for name, measure in matrices.items():
        rows = zip(found.names, measure.correlation.tolist(), strict=True)
        table = [["", *found.names], *([channel, *row] for channel, row in rows)]
        paths.append(_csv(folder / f"{name}.csv", table))
    head = ["name", "vif", "kept", "vif_of_ranks", "kept_by_ranks", "group", "rank_group"]
    paths.append(_csv(folder / "vif.csv", [head, *_lines(found)]))
    paths.append(folder / "report.json")
    paths[-1].write_text(json.dumps(summary(report), indent=2), encoding="utf-8")
    return paths


def _lines(found: Collinearity) -> list[list[Any]]:
    """Give a line of each channel; groups are numbered from 1, the largest first."""
    measures = (found.pearson, found.spearman)
    numbers: list[dict[str, int]] = [
        {name: at for at, group in enumerate(measure.groups, 1) for name in group}
        for measure in measures
    ]
    lines: list[list[Any]] = []
    for at, name in enumerate(found.names):
        vifs = [
            cell
            for measure in measures
            for cell in (_number(measure.vif[at]), int(name in measure.kept))
        ]
        lines.append([name, *vifs, *(group.get(name) for group in numbers)])
    return lines


def _csv(path: Path, table: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    return path
