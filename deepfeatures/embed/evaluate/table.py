"""The quality table: each task, on each place, for features and for the simple things."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate import change, reading, veil, withheld
from deepfeatures.embed.evaluate import representation as kinds
from deepfeatures.embed.evaluate.place import Place
from deepfeatures.embed.evaluate.representation import Representation
from deepfeatures.predictor import usable

Floats = NDArray[np.floating]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is measured."""

    group: str
    """Tasks of a group stand side by side."""
    metric: str
    """What the number is, with its unit."""
    higher: bool
    """Whether more is better."""


_ERROR = "mean absolute error of reflectance"
_MOVED = "distance moved / spread of features"
_KEPT = "bands told move / bands moved"
TASKS: dict[str, Task] = {
    "seen": Task("bands", _ERROR, False),
    "seen, clear targets": Task("bands", _ERROR, False),
    "withheld": Task("bands", _ERROR, False),
    "withheld, clear targets": Task("bands", _ERROR, False),
    "withheld, strict mask": Task("bands", _ERROR, False),
    "haze": Task("veil", _MOVED, False),
    "shadow": Task("veil", _MOVED, False),
    "noise": Task("veil", _MOVED, False),
    "haze kept": Task("kept", _KEPT, False),
    "shadow kept": Task("kept", _KEPT, False),
    "noise kept": Task("kept", _KEPT, False),
    "leaf area": Task("probes", "R2", True),
    "chlorophyll": Task("probes", "R2", True),
    "stress": Task("probes", "R2", True),
    "GPP": Task("probes", "R2", True),
    "tower GPP": Task("probes", "R2", True),
    "radar VV": Task("probes", "R2", True),
    "radar VH": Task("probes", "R2", True),
    "classes": Task("probes", "macro F1", True),
    "step": Task("time", "step to the next usable date / spread of features", False),
    "event": Task("time", "median error of the date of an event [d]", False),
    "event near": Task("time", "share of events dated within 15 d", True),
}
"""Task -> what it measures. ``seen`` and ``withheld``: judged with the mask as delivered; ``clear
targets``: the same, judged only where a test in time finds no haze or shadow; ``strict mask``:
nobody sees, and nobody is judged on, what that test finds."""


BEST = "best possible"
"""Row of who knows between which usable dates an event lies."""


@dataclass(frozen=True)
class Row:
    """One number of the table."""

    task: str
    """Key of `TASKS`."""
    region: str
    """Region of the place."""
    place: str
    """Where."""
    representation: str
    """Of what."""
    size: int
    """Its numbers per pixel-date, 0 for what has no features."""
    value: float
    """How much."""
    seed: int
    """Seed of all that is drawn."""


def evaluate(
    subjects: Sequence[Representation],
    *,
    train: Sequence[Place],
    test: Sequence[Place],
    beside: Sequence[Representation] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure features beside the simple things of equal size.

    Principal components are fitted, and probes learn, on the training places; everything is
    measured on the test places. Subjects with a quantisation appear once more as ``NAME int8``.

    Parameters
    ----------
    subjects
        Representations of the channels of the places.
    train, test
        Places of which none is in both.
    beside
        The simple things; by default `baselines` of each size of the subjects.
    seed
        Seed of samples and veils.
    progress
        Called with what is done and what there is to do.

    Returns
    -------
    pandas.DataFrame
        A row for each number, columns as `Row`.

    Raises
    ------
    ValueError
        If a place is on both sides, there is none on one, or their channels differ.
    """
    _check(train, test)
    channels = train[0].channels
    sizes = sorted({s.size for s in subjects})
    if beside is None:
        beside = baselines([p.block for p in train], channels, sizes, seed=seed)
    taken = {r.name for r in beside}
    twice = [s.name for s in subjects if s.name in taken]
    if twice:
        raise ValueError(f"a subject is called {twice[0]!r} as a baseline is; rename it")
    everything = [*subjects, *beside]
    result: list[Row] = []
    for done, each in enumerate(everything, 1):
        result += _judged(each, train, test, seed, whole=each in subjects)
        log.info("judged %s (%d of %d)", each.name, done, len(everything))
        if progress is not None:
            progress(done, len(everything))
    for place in test:
        result += _simple(place, seed)
    return pd.DataFrame([asdict(row) for row in result if np.isfinite(row.value)])


def baselines(
    blocks: Sequence[Block], channels: Sequence[str], sizes: Sequence[int], *, seed: int = 0
) -> list[Representation]:
    """Make the simple things to stand beside features.

    Principal components of each size, of one date and of eleven; bands, all indices, six indices.
    """
    found = []
    for size in sizes:
        found.append(kinds.pca(blocks, size, seed=seed))
        for fill in kinds.FILLS:
            found.append(kinds.neighbourhood_pca(blocks, size, fill=fill, seed=seed))
    makers = (kinds.bands, kinds.all_indices, kinds.six_indices)
    return [*found, *(make(channels) for make in makers)]


def _check(train: Sequence[Place], test: Sequence[Place]) -> None:
    if not train or not test:
        raise ValueError("there are no training or no test places; give at least one of each")
    both = {p.name for p in train} & {p.name for p in test}
    if both:
        raise ValueError(f"{sorted(both)[0]!r} is a training and a test place; choose one")
    for other in (*train, *test):
        if other.channels != train[0].channels:
            raise ValueError(
                f"{other.name!r} has the channels {', '.join(other.channels)}, {train[0].name!r} "
                f"has {', '.join(train[0].channels)}; read all places with the same"
            )


def _judged(
    each: Representation, train: Sequence[Place], test: Sequence[Place], seed: int, *, whole: bool
) -> Iterator[Row]:
    """Measure one representation; with `whole` once more as int8."""
    regions = {p.region for p in test}
    teachers: dict[str, list[reading.Rows]] = {}
    for place in (p for p in train if p.region in regions):
        for name, features in _forms(each, place, whole):
            teachers.setdefault(name, []).append(reading.rows(place, features, seed=seed))
    for place in test:
        for name, features in _forms(each, place, whole):
            rows = reading.rows(place, features, seed=seed)
            values = reading.quantities(teachers.get(name, []), rows)
            values["classes"] = reading.classes(teachers.get(name, []), rows)
            values |= _in_time(features, place)
            if name == each.name:
                values |= _veiled(each, place, features, seed)
            yield from (
                Row(t, place.region, place.name, name, each.size, v, seed)
                for t, v in values.items()
            )
        if each.decode is not None:
            yield from _seen(each, place, seed, whole)
            if not each.alone:  # what comes from one date tells nothing of a hidden one
                yield from _told(place, {each.name: withheld.told_by(each)}, each.size, seed)


def _veiled(each: Representation, place: Place, plain: Floats, seed: int) -> dict[str, float]:
    """Measure what haze, shadow and noise do."""
    found: dict[str, float] = {}
    for kind in veil.VEILS:
        one = veil.answer(each, place.block, place.channels, kind, seed=seed, plain=plain)
        found |= {kind: one.moved, f"{kind} kept": one.kept}
    return found


def _simple(place: Place, seed: int) -> Iterator[Row]:
    """Measure what needs no features: interpolations, and how well events can be dated at all."""
    yield from _told(place, withheld.TELLERS, 0, seed)
    if place.events is not None:
        gaps = change.least_errors(place.block, place.events)
        for task, value in _event_scores(gaps).items():
            yield Row(task, place.region, place.name, BEST, 0, value, seed)


def _forms(each: Representation, place: Place, whole: bool) -> Iterator[tuple[str, Floats]]:
    features = each.features(place.block)
    yield each.name, features
    if whole and each.step is not None:
        yield f"{each.name} int8", each.rounded(features)


def _in_time(features: Floats, place: Place) -> dict[str, float]:
    if place.events is None:
        return {}
    found = {"step": change.roughness(features, place.block, place.events)}
    return found | _event_scores(change.event_errors(features, place.block, place.events))


def _event_scores(gaps: Floats) -> dict[str, float]:
    if not len(gaps):
        return {}
    near = float((gaps <= change.WITHIN).mean())
    return {"event": float(np.median(gaps)), "event near": near}


def _seen(each: Representation, place: Place, seed: int, whole: bool) -> Iterator[Row]:
    forms = {each.name: False} | ({f"{each.name} int8": True} if whole and each.step else {})
    delivered = usable(place.block.values, place.block.valid)
    targets = {"seen": delivered, "seen, clear targets": place.strict}
    for name, int8 in forms.items():
        for task, gaps in withheld.seen_errors(place.block, each, targets, int8=int8).items():
            yield Row(task, place.region, place.name, name, each.size, _mean(gaps), seed)


def _told(place: Place, tellers: dict[str, withheld.Teller], size: int, seed: int) -> Iterator[Row]:
    """Measure what is told of hidden dates; a teller that tells nothing gives NaN."""
    delivered = usable(place.block.values, place.block.valid)
    targets = {"withheld": delivered, "withheld, clear targets": place.strict}
    for name, teller in tellers.items():
        values = withheld.hidden_errors(place.block, teller, targets)
        values["withheld, strict mask"] = withheld.hidden_errors(place.refined, teller)["all"]
        for task, gaps in values.items():
            yield Row(task, place.region, place.name, name, size, _mean(gaps), seed)


def _mean(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Give mean and standard deviation of each number, and over how many it is taken.

    Over the seeds, of the means over places, where there are several seeds; else over the places.
    """
    keys = ["task", "region", "representation"]
    seeds = table.groupby([*keys, "seed"], sort=False)["value"].mean().reset_index()
    several = seeds.groupby(keys, sort=False)["value"].transform("size") > 1
    names = pd.MultiIndex.from_frame(seeds.loc[several, keys])
    single = table[~pd.MultiIndex.from_frame(table[keys]).isin(names)]
    both = pd.concat([single, seeds[several]], ignore_index=True)
    found = both.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    order = pd.MultiIndex.from_frame(table[keys].drop_duplicates())
    return found.reindex(order).reset_index()


def render(table: pd.DataFrame) -> str:
    """Write the table as text: per region and group of tasks, mean and spread."""
    short = summary(table)
    lines: list[str] = []
    groups = list(dict.fromkeys(task.group for task in TASKS.values()))
    for region in dict.fromkeys(short["region"]):
        for group in groups:
            part = short[short["region"] == region]
            tasks = [t for t in TASKS if TASKS[t].group == group and t in set(part["task"])]
            if tasks:
                lines += _grid(part, region, tasks)
    return "\n".join(lines)


def _grid(part: pd.DataFrame, region: str, tasks: Sequence[str]) -> list[str]:
    part = part[part["task"].isin(tasks)]
    names = list(dict.fromkeys(part["representation"]))
    keys = zip(part["task"], part["representation"], strict=True)
    values = zip(part["mean"].astype(float), part["std"].astype(float), strict=True)
    cells = {key: _cell(*value) for key, value in zip(keys, values, strict=True)}
    first = max(len(name) for name in names)
    widths = [max(len(t), *(len(cells.get((t, n), "")) for n in names)) for t in tasks]
    metrics = dict.fromkeys(TASKS[t].metric for t in tasks)
    lines = [f"{region}: {'; '.join(metrics)}"]
    heads = (t.rjust(w) for t, w in zip(tasks, widths, strict=True))
    lines.append("  ".join([" " * first, *heads]))
    for name in names:
        found = (cells.get((t, name), "-").rjust(w) for t, w in zip(tasks, widths, strict=True))
        lines.append("  ".join([name.ljust(first), *found]))
    return [*lines, ""]


def _cell(mean: float, deviation: float) -> str:
    digits = 4 if abs(mean) < 0.1 else 3 if abs(mean) < 10 else 1
    text = f"{mean:.{digits}f}"
    return text if not np.isfinite(deviation) else f"{text} ±{deviation:.{digits}f}"


def write(table: pd.DataFrame, path: str | PathLike[str]) -> Path:
    """Write the table as CSV or JSON, by the suffix.

    Raises
    ------
    ValueError
        If the suffix is another one.
    """
    target = Path(path)
    if target.suffix == ".csv":
        table.to_csv(target, index=False)
    elif target.suffix == ".json":
        metrics = {name: asdict(task) for name, task in TASKS.items()}
        rows = table.to_dict(orient="records")
        target.write_text(json.dumps({"tasks": metrics, "rows": rows}, indent=1) + "\n")
    else:
        raise ValueError(f"a table can not be written as {target.name!r}; take .csv or .json")
    return target
