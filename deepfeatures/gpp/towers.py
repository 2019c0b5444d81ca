"""Towers as daily arrays without gaps in the calendar: what windows are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfeatures import meteo
from deepfeatures.gpp import readers

GOOD = 0.7
"""Share of a day that must be measured or well gap-filled for its GPP to count as truth."""

HELD = 30
"""Days for which the last value of a driver stands in for a missing one."""

LONGEST = 200
"""Years of the longest calendar of a tower."""

FILLS = ("hold", "linear")
"""Rules for missing days: hold the last value (no look-ahead), or interpolate (looks ahead)."""


@dataclass(frozen=True)
class Towers:
    """Daily series of towers, one tower after the other."""

    sites: tuple[str, ...]
    """Names of the towers."""
    biomes: tuple[str, ...]
    """Type of vegetation of each tower; empty if unknown."""
    places: NDArray[np.float64]
    """``(site, 3)`` longitude, latitude [degrees], elevation [m]; NaN if unknown."""
    drivers: tuple[str, ...]
    """Names of the drivers."""
    site: NDArray[np.int16]
    """``(day,)`` number of the tower."""
    day: NDArray[np.int64]
    """``(day,)`` days since 1970-01-01, without gaps in each tower."""
    values: NDArray[np.float32]
    """``(day, driver)`` in the units of the table; NaN = nothing known."""
    gpp: NDArray[np.float32]
    """``(day,)`` observed GPP [gC m-2 d-1]."""
    usable: NDArray[np.bool_]
    """``(day,)`` whether the GPP counts as truth."""
    drought: NDArray[np.bool_]
    """``(day,)`` whether the table says drought."""

    @property
    def first(self) -> NDArray[np.int64]:
        """``(day,)`` row of the first day of the tower that the row belongs to."""
        starts = np.searchsorted(self.site, np.arange(len(self.sites)))
        return starts[self.site]

    @property
    def year(self) -> NDArray[np.int64]:
        """``(day,)`` calendar year."""
        return self.day.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970

    @property
    def of_year(self) -> NDArray[np.int64]:
        """``(day,)`` day of the year, 0 on the first of January."""
        return (meteo.day_of_year(self.day.astype("datetime64[D]")) - 1).astype(np.int64)

    def means(self, number: int, days: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """Give the mean observed GPP of each year of a tower, of its usable days or some of them.

        It tells whether two tables hold the same observations.
        """
        mine = self.usable & (self.site == number)
        if days is not None:
            mine &= days
        year, gpp = self.year[mine], self.gpp[mine].astype(np.float64)
        return {str(y): round(float(gpp[year == y].mean()), 4) for y in np.unique(year)}

    def alone(self, site: str) -> Towers:
        """Give one of the towers.

        Raises
        ------
        ValueError
            If there is no such tower.
        """
        if site not in self.sites:
            raise ValueError(f"there is no tower {site[:40]!r}; there are {', '.join(self.sites)}")
        number = self.sites.index(site)
        mine = self.site == number
        return Towers(
            (site,), (self.biomes[number],), self.places[[number]], self.drivers,
            np.zeros(int(mine.sum()), np.int16), self.day[mine], self.values[mine],
            self.gpp[mine], self.usable[mine], self.drought[mine],
        )  # fmt: skip


def towers(
    table: pd.DataFrame,
    drivers: Sequence[str] | None = None,
    *,
    good: float = GOOD,
    fill: str = "hold",
    observed: bool = True,
) -> Towers:
    """Lay the days of a table out as daily arrays.

    Parameters
    ----------
    table
        What `readers.read` gives.
    drivers
        Columns that go in; by default all known drivers that every tower has on at least half of
        its days, and the radiation of a clear sky where the places are known.
    good
        Quality from which on a day's GPP counts as truth; gap-filled days never do.
    fill
        ``hold``: the last value stands in for at most 30 missing days, nothing looks ahead;
        ``linear``: interpolated, as a retrospective study may.
    observed
        Whether there must be a day with a usable GPP.

    Raises
    ------
    ValueError
        If a driver is missing, no day has a usable GPP, or the fill is unknown.
    """
    if fill not in FILLS:
        raise ValueError(f"the fill {fill!r} is unknown; choose from {', '.join(FILLS)}")
    table = table.dropna(subset=["date"]).drop_duplicates(["site", "date"])
    table = _with_clear_sky(table)
    names = tuple(drivers) if drivers else common(table)
    lacking = [name for name in names if name not in table]
    if lacking or not names:
        there = ", ".join(str(c) for c in table if readers.driver(str(c))) or "none"
        raise ValueError(
            f"the table has no driver {', '.join(lacking) or 'that all towers share'}; "
            f"it has: {there}"
        )
    groups = {str(name): group for name, group in table.groupby("site")}
    parts = [_one(name, group, names, good, fill) for name, group in groups.items()]
    made = Towers(
        tuple(groups),
        tuple(str(group["igbp"].iloc[0]) for group in groups.values()),
        np.array([_place(group) for group in groups.values()]),
        names,
        np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]).astype(np.int16),
        *(np.concatenate([part[n] for part in parts]) for n in range(5)),
    )
    if observed and not made.usable.any():
        raise ValueError(f"no day has a GPP of quality {good:g} or better")
    return made


def common(table: pd.DataFrame) -> tuple[str, ...]:
    """Give the drivers that every tower has on at least half of its days, gaps held."""
    known = [str(c) for c in table if readers.driver(str(c))]
    ordered = table.sort_values(["site", "date"])
    held = ordered.groupby("site")[known].ffill(limit=HELD)
    shares = held.notna().groupby(ordered["site"]).mean()
    return tuple(name for name in known if (shares[name] >= 0.5).all())


def _with_clear_sky(table: pd.DataFrame) -> pd.DataFrame:
    if "RSO_FAO56" in table or "lat" not in table or table["lat"].isna().any():
        return table
    elevation = table["elev"].fillna(0) if "elev" in table else 0.0
    number = meteo.day_of_year(table["date"].to_numpy())
    clear = meteo.clear_sky_radiation(number, table["lat"].to_numpy(), elevation)
    return table.assign(RSO_FAO56=clear)


def _place(group: pd.DataFrame) -> list[float]:
    return [
        float(group[name].iloc[0]) if name in group else np.nan for name in ("lon", "lat", "elev")
    ]


def _one(
    name: str, group: pd.DataFrame, names: Sequence[str], good: float, fill: str
) -> tuple[NDArray, ...]:
    """Give days, values, GPP, usable and drought of one tower, on each day of its calendar."""
    days = group["date"].to_numpy().astype("datetime64[D]").astype(np.int64)
    if days.max() - days.min() > LONGEST * 366:
        raise ValueError(f"the dates of {name} span more than {LONGEST} years; correct them")
    day = np.arange(days.min(), days.max() + 1)
    at = days - day[0]
    values = np.full((len(day), len(names)), np.nan, np.float32)
    values[at] = group[list(names)].to_numpy(np.float32)
    values = filled(values, fill)
    gpp = np.full(len(day), np.nan, np.float32)
    gpp[at] = group["GPP"].to_numpy(np.float32)
    truth = np.isfinite(group["GPP"]) & (group["GPP_QC"] >= good)
    if "GPP_plausible" in group:
        truth &= group["GPP_plausible"].astype(bool)
    usable, drought = np.zeros((2, len(day)), bool)
    usable[at] = truth
    if "drought" in group:
        drought[at] = group["drought"].fillna(0).astype(bool)
    return day, values, gpp, usable, drought


def filled(values: NDArray[np.float32], fill: str = "hold") -> NDArray[np.float32]:
    """Fill missing days of series ``(day, driver)``; see `towers`."""
    rows = np.arange(len(values))[:, None]
    there = np.isfinite(values)
    last = np.maximum.accumulate(np.where(there, rows, -1), axis=0)
    if fill == "linear":
        made = values.copy()
        for column in np.flatnonzero(there.any(axis=0) & ~there.all(axis=0)):
            known = np.flatnonzero(there[:, column])
            made[:, column] = np.interp(rows[:, 0], known, values[known, column])
        return made
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where((last >= 0) & (rows - last <= HELD), held, np.float32(np.nan))
