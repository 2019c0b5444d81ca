"""What the GPP laboratory reads and asks; all of it is slow, so it goes in a thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.fields import Option
from deepfeatures import catalogue, jobs
from deepfeatures.gpp import card, live, shelf
from deepfeatures.gpp.card import Card
from deepfeatures.gpp.towers import Towers
from deepfeatures.settings import Workspace

MAP = "map"
"""Stands for the table of a place that is chosen on the map."""

MOST_MODELS = 6
"""Models that are asked at once."""

MOST_DAYS = 4000
"""Days that are shown at once."""

Groups = list[tuple[str, list[Option]]]


@dataclass(frozen=True)
class Place:
    """Whose GPP is looked at."""

    table: str = ""
    """Name of a table of towers, or `MAP`."""
    site: str = ""
    """Name of a tower, or ``pixel`` or ``area``."""
    cube: str = ""
    """Band cube of a place on the map."""
    point: tuple[float, float] | None = None
    """Longitude and latitude of the pixel [degrees]."""
    area: str = ""
    """GeoJSON of the area."""


@dataclass(frozen=True)
class Asked:
    """What is to be told."""

    place: Place
    year: str
    """``2018``, or empty for all years."""
    models: tuple[str, ...]
    change: live.Change = field(default_factory=live.Change)
    context: int | None = None
    """Days to look at, None for the most of each model."""

    @property
    def period(self) -> tuple[Place, str]:
        """What is looked at, whoever tells it."""
        return self.place, self.year


@dataclass(frozen=True, eq=False)
class Site:
    """A tower or a place, and what can be asked about it."""

    place: Place
    towers: Towers
    """The one tower."""
    years: tuple[str, ...]
    source: str
    simulated: bool
    cards: dict[str, Card]
    """Models that have all they need here, and what they say about themselves."""
    lacking: dict[str, str]
    """Model -> the drivers that it needs and the tower lacks."""
    extremes: dict[str, list[tuple[int, int]]]

    def first(self) -> list[str]:
        """Give the models that are asked at first: those that know the tower, one of each kind."""
        best: dict[str, str] = {}
        for name, told in self.cards.items():
            mine = self.place.site in told.training.get("towers", [])
            same = bool(told.training.get("simulated")) == self.simulated
            if mine or same:
                best.setdefault(told.kind, name)
        return list(best.values()) or list(self.cards)[:1]

    def alike(self, chosen: Sequence[str]) -> tuple[str, ...]:
        """Name the models that learned from the same towers as a chosen one, which compare."""
        towers = [self.cards[name].training.get("towers") for name in chosen if name in self.cards]
        return tuple(n for n, told in self.cards.items() if told.training.get("towers") in towers)


@dataclass(frozen=True, eq=False)
class Shown:
    """What models tell of a period of a site."""

    asked: Asked
    site: Site
    rows: NDArray[np.int64]
    answer: live.Answer
    season: NDArray[np.float64]
    """(row,) seasonal cycle of the other years; NaN without any."""
    trained: dict[str, str]
    """Model -> whether it learned from these days, see `live.seen`."""
    windows: dict[str, int]
    """Model -> most days that it looks at."""

    @property
    def days(self) -> NDArray[np.int64]:
        """(row,) days since 1970-01-01."""
        return self.site.towers.day[self.rows]

    @property
    def observed(self) -> NDArray[np.float32]:
        """(row,) observed GPP."""
        return self.site.towers.gpp[self.rows]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(row,) whether the observation counts as truth."""
        return self.site.towers.usable[self.rows]


def places(ws: Workspace) -> Groups:
    """Give the towers of the workspace: the value of an option is ``table/site``."""
    found: Groups = []
    for name, kind in shelf.tables(ws).items():
        try:
            sites = _sites(ws, name, shelf.version(ws, name))
        except (KeyError, ValueError, OSError):
            continue  # a table that can not be read is not offered
        hint = "simulated" if kind == "cube" else ""
        found.append(
            (name, [(f"{name}/{site}", site, biome, hint) for site, biome in sites.items()])
        )
    return found


@lru_cache(maxsize=64)
def _sites(ws: Workspace, name: str, version: str) -> dict[str, str]:
    return shelf.sites(ws, name)


@lru_cache(maxsize=4)
def _read(ws: Workspace, name: str, version: str) -> Any:
    return shelf.load(ws, name)


def site(ws: Workspace, place: Place) -> Site:
    """Open a tower, a pixel or an area.

    Raises
    ------
    KeyError, ValueError
        If it is not there, or has no drivers.
    """
    if place.table == MAP:
        version = "" if not place.cube else catalogue.url(ws, place.cube)
        names = ",".join(catalogue.names(ws))
    else:
        version, names = shelf.version(ws, place.table), ""
    found = _site(ws, place, f"{version} {names}")
    return replace(found, **_able(ws, found.towers))


@lru_cache(maxsize=16)
def _site(ws: Workspace, place: Place, version: str) -> Site:
    if place.table == MAP:
        area = json.loads(place.area) if place.area else None
        table = shelf.place(ws, place.cube, point=place.point, area=area)
    else:
        table = _read(ws, place.table, shelf.version(ws, place.table))
        table = table[table["site"] == place.site]
        if not len(table):
            raise KeyError(f"there is no tower {place.site[:40]!r} in {place.table}")
    towers = shelf.daily(table)
    days = towers.year[towers.usable] if towers.usable.any() else towers.year
    years, counts = np.unique(days, return_counts=True)
    enough = years[counts >= min(60, counts.max())]
    source = ", ".join(sorted({str(one) for one in table.get("source", [])})[:4])
    return Site(
        place, towers, tuple(str(year) for year in enough), source, source == "simulated", {}, {},
        live.extremes(towers),
    )  # fmt: skip


def _able(ws: Workspace, towers: Towers) -> dict[str, Any]:
    """Divide the models into those that can be asked about a tower and those that can not."""
    known, lacking = {}, {}
    for name in shelf.models(ws):
        try:
            told = shelf.model(ws, name).card
        except ValueError:
            continue  # a file that is no model is not offered
        absent = card.lacking(told, towers)
        if absent:
            lacking[name] = ", ".join(absent)
        else:
            known[name] = told
    return {"cards": known, "lacking": lacking}


def tell(ws: Workspace, asked: Asked, before: Shown | None = None) -> Shown:
    """Ask models about a period; what an earlier answer holds is not asked again.

    Raises
    ------
    KeyError, ValueError
        If the site or a model is not there, or a model can not be asked here.
    """
    kept = before if before is not None and before.asked.place == asked.place else None
    found = kept.site if kept else site(ws, asked.place)
    towers = found.towers
    rows = _rows(towers, asked.year)
    models = {name: shelf.model(ws, name) for name in asked.models[:MOST_MODELS]}
    same = kept if kept and kept.asked.period == asked.period else None
    usual = {n: one for n, one in same.answer.usual.items() if n in models} if same else {}
    answer = live.tell(models, towers, rows, asked.change, asked.context, usual)
    season = same.season if same else live.season(towers, rows)
    first, last = int(towers.day[rows[0]]), int(towers.day[rows[-1]])
    return Shown(
        asked, found, rows, answer, season,
        {name: live.seen(one, towers, first, last) for name, one in models.items()},
        {name: one.card.window for name, one in models.items()},
    )  # fmt: skip


def _rows(towers: Towers, year: str) -> NDArray[np.int64]:
    rows = np.arange(len(towers.day))
    if year:
        rows = rows[towers.year == int(year)]
    if not rows.size:
        raise ValueError(f"there is no day of {year or 'any year'} here; choose another year")
    return rows[-MOST_DAYS:]


def importance(ws: Workspace, asked: Asked) -> dict[str, list[dict[str, Any]]]:
    """Give what each model rests on at the site and in the period, with the drivers as they were.

    Raises
    ------
    KeyError, ValueError
        As `tell`.
    """
    towers = site(ws, asked.place).towers
    rows = _rows(towers, asked.year)
    return {
        name: live.importance(shelf.model(ws, name), towers, rows)
        for name in asked.models[:MOST_MODELS]
    }


def described(ws: Workspace, names: Sequence[str]) -> list[dict[str, Any]]:
    """Give skill on held-out days and costs of models."""
    return live.described({name: shelf.model(ws, name) for name in names})


def map_models(ws: Workspace, cube: str) -> list[str]:
    """Name the models that can be asked at each pixel of a feature cube."""
    if not cube:
        return []
    channels = {str(name) for name in catalogue.info(ws, cube)["channels"]}
    weather = {"SW_IN", "TA", "P", "WS", "VPD"}
    found = []
    for name in shelf.models(ws):
        told = shelf.model(ws, name).card
        if set(told.drivers) <= channels | weather and not told.place and not told.biomes:
            found.append(name)
    return found


def train(ws: Workspace, table: str, kind: str, owner: str, **more: int) -> str:
    """Ask for a model that learns from a table of towers; gives the id of the job."""
    settings = {"towers": table, "kind": kind, **more}
    return jobs.submit(
        ws, kind="gpp-train", settings=settings, owner=owner, title=f"{kind} from {table}"
    )


def paint(
    ws: Workspace, cube: str, model: str, day: str, area: dict[str, Any] | None, owner: str
) -> str:
    """Ask for a map of GPP of a day; gives the id of the job."""
    return jobs.submit(
        ws, kind="gpp-map", cube=cube, model=model, aoi=area, settings={"day": day}, owner=owner,
        title=f"GPP on {day} by {model}",
    )  # fmt: skip
