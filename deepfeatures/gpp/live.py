"""What the GPP laboratory asks while somebody moves a slider: other drivers, scores, ranks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures.gpp import card as cards
from deepfeatures.gpp import cycle, metrics, readers
from deepfeatures.gpp.card import Told
from deepfeatures.gpp.light import Light
from deepfeatures.gpp.towers import Towers
from deepfeatures.gpp.windows import Windows

SHADED = 4
"""Days up to which two extreme days belong to the same time that is shaded."""

ASKED = 240
"""Days that are asked for importance, evenly spaced."""


@dataclass(frozen=True)
class Change:
    """What if the weather were another one; each driver alone, nothing follows from it."""

    light: float = 0.0
    """Radiation (but not that of a clear sky) [%]."""
    warmth: float = 0.0
    """Temperatures [K]."""
    dryness: float = 1.0
    """Factor of the vapour pressure deficit."""
    rain: float = 0.0
    """Precipitation [%]."""

    def __post_init__(self) -> None:
        limits = {
            "light": (-100, 100),
            "warmth": (-20, 20),
            "dryness": (0, 10),
            "rain": (-100, 400),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}; choose a value from {low} to {high}"
                )

    @property
    def none(self) -> bool:
        """Whether nothing is changed."""
        return self == Change()


LIMITS = {"light": (-100, 100), "warmth": (-20, 20), "dryness": (0, 10), "rain": (-100, 400)}
"""Least and most of each change."""

LIGHT = ("SW_IN", "PPFD_IN", "NETRAD", "SWLAND", "PARDFLAND")
WARMTH = ("TA", "TS", "LST", "T2MIN", "T2MAX", "T2MEAN")
RAIN = ("P", "PRECTOTLAND")
"""Drivers that a change moves; what a satellite saw stays as it was."""


def changed(towers: Towers, change: Change) -> Towers:
    """Give towers whose drivers are changed on all days; GPP stays what was observed."""
    if change.none:
        return towers
    values = towers.values.copy()
    for at, name in enumerate(towers.drivers):
        if name in LIGHT:
            values[:, at] *= np.float32(1 + change.light / 100)
        elif name in WARMTH:
            values[:, at] += np.float32(change.warmth)
        elif name == "VPD":
            values[:, at] *= np.float32(change.dryness)
        elif name in RAIN:
            values[:, at] *= np.float32(1 + change.rain / 100)
    return replace(towers, values=values)


@dataclass(frozen=True, eq=False)
class Answer:
    """What models tell of the days of a period of one tower."""

    told: dict[str, Told]
    """Model -> what it tells of each day."""
    usual: dict[str, Told]
    """The same with the drivers as they were, and the whole context."""
    distance: dict[str, NDArray[np.float32]]
    """Model -> distance to its training days, above 1 out of domain."""
    seconds: dict[str, float]
    """Model -> time that telling took [s]."""


def tell(
    models: Mapping[str, Light],
    towers: Towers,
    rows: NDArray[np.int64],
    change: Change,
    context: int | None = None,
    usual: Mapping[str, Told] | None = None,
) -> Answer:
    """Ask models about days, with changed drivers and a shorter context.

    Parameters
    ----------
    models
        Models by name; all of them know the drivers.
    towers
        One tower.
    rows
        Days that are told, one after the other.
    change, context
        What if; None for the longest context of each model.
    usual
        What was told before of these days without a change, where it is known.
    """
    other = changed(towers, change)
    plain = change.none and context is None
    answer = Answer({}, dict(usual or {}), {}, {})
    for name, model in models.items():
        if name not in answer.usual:
            answer.usual[name] = model(towers, rows)
        start = time.perf_counter()
        answer.told[name] = answer.usual[name] if plain else model(other, rows, context)
        answer.seconds[name] = time.perf_counter() - start
        prepared = cards.prepare(model.card, other)[rows]
        answer.distance[name] = cards.distance(model.card, model.inverse, prepared)
    return answer


def scores(
    towers: Towers, rows: NDArray[np.int64], told: NDArray[np.float32], window: tuple[float, float]
) -> metrics.Sums:
    """Give the scores of the usable days within a window of time (days since 1970-01-01)."""
    day = towers.day[rows]
    mine = towers.usable[rows] & (day >= window[0]) & (day <= window[1])
    return metrics.sums(towers.gpp[rows][mine], told[mine])


def extremes(towers: Towers) -> dict[str, list[tuple[int, int]]]:
    """Give times of extremes as first and last day, against the tower's own seasonal cycle.

    ``lower`` and ``upper`` are the 5 % of its usable days with the smallest and the largest
    anomaly of GPP; days that are at most `SHADED` apart belong to one time.
    """
    every = np.ones_like(towers.usable)
    if not towers.usable.any():
        return {"lower": [], "upper": []}
    found = cycle.subsets(towers, towers.usable, every)
    return {name: _times(towers.day[found[name]]) for name in ("lower", "upper")}


def _times(days: NDArray[np.int64]) -> list[tuple[int, int]]:
    parts = np.split(days, np.flatnonzero(np.diff(days) > SHADED) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts if part.size]


def season(towers: Towers, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the seasonal cycle ``(row,)`` of the other years of a tower; NaN without any.

    The years of `rows` do not go in, so that it can be scored on them.
    """
    known = ~np.isin(towers.year, np.unique(towers.year[rows]))
    return cycle.cycles(towers, known)[0][towers.of_year[rows]]


def disagreement(told: Mapping[str, Told]) -> NDArray[np.float32]:
    """Give how far the models are apart on each day: largest minus smallest [gC m-2 d-1]."""
    means = np.stack([one.mean for one in told.values()])
    return np.ptp(means, axis=0).astype(np.float32)


def importance(model: Light, towers: Towers, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Give how much the RMSE rises where a group of drivers comes from other days.

    The drivers of a group move together, with their whole window, among at most `ASKED` usable
    days of `rows`; the same order of days for each group.

    Returns
    -------
    list of dict
        ``group, rise`` [gC m-2 d-1], the largest first; empty if there are too few usable days.
    """
    mine = rows[towers.usable[rows]]
    mine = mine[:: max(1, len(mine) // ASKED)][:ASKED]
    if len(mine) < 10:
        return []
    prepared = cards.prepare(model.card, towers)
    length = model.card.window
    at, days = Windows(towers, mine, length).rows(np.arange(len(mine)))
    values = prepared[at]
    order = np.random.default_rng(0).permutation(len(mine))
    flat = np.arange(values.shape[0] * length).reshape(-1, length)

    def rmse(some: NDArray[np.float32]) -> float:
        told = model.windows(some.reshape(-1, some.shape[-1]), flat, days)
        return metrics.sums(towers.gpp[mine], told.mean).rmse

    before = rmse(values)
    found = []
    for group, columns in readers.groups(model.card.drivers).items():
        other = values.copy()
        other[:, :, columns] = values[order][:, :, columns]
        found.append({"group": group, "rise": rmse(other) - before})
    return sorted(found, key=lambda one: -one["rise"])


def described(models: Mapping[str, Light]) -> list[dict[str, Any]]:
    """Give a row for each model: the skill on the days that it was tested on, and what it costs.

    Returns
    -------
    list of dict
        ``model, kind, r2, rmse`` (held-out days; NaN if unknown), ``parameters, bytes,
        multiply_adds`` (of one day told), ``milliseconds`` (of a year, on this machine).
    """
    made = []
    for name, model in models.items():
        test = model.card.training.get("test", {})
        made.append(
            {"model": name, "kind": model.card.kind, "r2": float(test.get("r2", np.nan)),
             "rmse": float(test.get("rmse", np.nan)), "parameters": model.parameters,
             "bytes": model.size, "multiply_adds": model.multiply_adds(model.card.window),
             "milliseconds": _latency(model)}
        )  # fmt: skip
    return made


def _latency(model: Light) -> float:
    """Measure what telling a year takes [ms], the better of two."""
    length, year = model.card.window, 365
    values = np.zeros((year + length, model.card.channels), np.float32)
    rows = np.arange(year)[:, None] + np.arange(length)
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        model.windows(values, rows, np.full(year, length))
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)


COSTS = ("parameters", "bytes", "multiply_adds", "milliseconds")
"""What compactness is made of."""


def ranked(rows: Sequence[Mapping[str, Any]], skill: float) -> list[dict[str, Any]]:
    """Order models by skill and compactness, the best first.

    The R2 of each model is put between the smallest (0) and the largest (1) of all, the logarithm
    of each cost likewise between the largest (0) and the smallest (1); compactness is the mean
    over the costs, and the score is ``skill x R2 + (1 - skill) x compactness``.

    Parameters
    ----------
    rows
        What `described` gives.
    skill
        Weight of the skill, 0..1.
    """
    if not rows:
        return []
    able = _scaled(np.array([row["r2"] for row in rows], float))
    logs = [np.log([max(row[name], 1e-9) for row in rows]) for name in COSTS]
    compact = np.mean([1 - _scaled(values) for values in logs], axis=0)
    total = skill * able + (1 - skill) * compact
    order = np.argsort(-total, kind="stable")
    return [
        dict(rows[n]) | {"skill": float(able[n]), "compact": float(compact[n]),
                         "score": float(total[n])}
        for n in order
    ]  # fmt: skip


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put values between 0 and 1; all 1 if they are equal, 0 for those that are unknown."""
    there = values[np.isfinite(values)]
    if not there.size:
        return np.zeros_like(values)
    wide = float(np.ptp(there))
    scaled = (values - there.min()) / wide if wide > 1e-12 else np.ones_like(values)
    return np.nan_to_num(scaled, nan=0.0)


SAME = 0.01
"""Share by which yearly means of GPP may differ if two tables hold the same observations."""


def seen(model: Light, towers: Towers, first: int, last: int) -> str:
    """Say whether a model may have learned from these days of a tower.

    Parameters
    ----------
    model
        The model; its card tells the towers, days and yearly means of its training.
    towers
        One tower.
    first, last
        Days since 1970-01-01.

    Returns
    -------
    str
        ``held out``, ``learned``, ``partly learned``, ``other tower``, or ``other data`` where it
        learned from a tower of this name whose observations were others.
    """
    training, site = model.card.training, towers.sites[0]
    if site not in training.get("towers", []):
        return "other tower"
    known, here = training.get("means", {}).get(site, {}), towers.means(0)
    if any(
        abs(here[year] - known[year]) > SAME * abs(known[year]) for year in here if year in known
    ):
        return "other data"
    tested = training.get("tested", {}).get(site)
    if tested is None or last < tested[0]:
        return "learned"
    return "held out" if tested[0] <= first else "partly learned"
