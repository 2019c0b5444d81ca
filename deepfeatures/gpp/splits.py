"""Splits of towers and years into training, validation and test: never days at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfeatures import sites as geography
from deepfeatures.gpp.towers import Towers

TESTED = 0.3
"""Share of a tower's years, the last ones, that the split by year tests on."""

NEAR = 25.0
"""Towers within this distance [km] are on the same side of a split by site."""


@dataclass(frozen=True)
class Split:
    """One division of the days ``(day,)``; no day is on two sides."""

    name: str
    """What is held out."""
    train: NDArray[np.bool_]
    validate: NDArray[np.bool_]
    """The training stops when it gets no better here."""
    test: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Days that a model may know of."""
        return self.train | self.validate


def by_year(towers: Towers) -> list[Split]:
    """Test on the last 30 % of the years of each tower, validate on the one before them.

    A tower with one year is only trained on; one with two has no year to validate on.
    """
    train, validate, test = np.zeros((3, len(towers.day)), bool)
    for number in range(len(towers.sites)):
        mine = towers.site == number
        years = np.unique(towers.year[mine & towers.usable])
        count = max(1, round(TESTED * len(years))) if len(years) > 1 else 0
        last, before = years[len(years) - count :], years[: len(years) - count]
        test |= mine & np.isin(towers.year, last)
        inner = before[-1:] if len(before) > 1 else before[:0]
        validate |= mine & np.isin(towers.year, inner)
        train |= mine & np.isin(towers.year, before) & ~np.isin(towers.year, inner)
    return [_checked(Split("last years", train, validate, test), towers)]


def by_site(towers: Towers) -> list[Split]:
    """Leave each tower out in turn, with its neighbours; validate on another one.

    The tower to validate on is one of the same vegetation where there are two, else the next in
    the alphabet: so neither stopping nor training ever sees the tower that is tested.
    """
    near = _neighbours(towers)
    return _by_group(towers, near, [towers.sites[i] for i in range(len(towers.sites))])


def by_biome(towers: Towers) -> list[Split]:
    """Leave each type of vegetation out in turn; validate on another type."""
    kinds = sorted(set(towers.biomes))
    group = np.array([kinds.index(kind) for kind in towers.biomes])
    if len(kinds) < 3:
        raise ValueError(
            f"a split by biome needs three types of vegetation; there are {', '.join(kinds)}"
        )
    made = []
    for number, kind in enumerate(kinds):
        other = (number + 1) % len(kinds)
        made.append(_divided(towers, kind, group == number, group == other))
    return made


def _by_group(towers: Towers, near: NDArray[np.bool_], names: list[str]) -> list[Split]:
    if len(names) < 3:
        raise ValueError(
            f"a split by site needs three towers; there are {', '.join(names)}: choose --split year"
        )
    made = []
    for number, name in enumerate(names):
        left = near[number]
        if not (towers.usable & (towers.site == number)).any():
            continue
        others = np.roll(np.arange(len(names)), -number - 1)
        free = [int(i) for i in others if not left[i]]
        alike = [i for i in free if towers.biomes[i] == towers.biomes[number]]
        if len(free) < 2:
            continue
        chosen = (alike if len(alike) > 1 else free)[0]
        inner = near[chosen] & ~left
        made.append(_divided(towers, name, left, inner, tested=number))
    return made


def _divided(
    towers: Towers,
    name: str,
    left: NDArray[np.bool_],
    inner: NDArray[np.bool_],
    tested: int | None = None,
) -> Split:
    test = left[towers.site] if tested is None else towers.site == tested
    split = Split(name, ~(left | inner)[towers.site], inner[towers.site], test)
    return _checked(split, towers)


def _neighbours(towers: Towers) -> NDArray[np.bool_]:
    """Tell which towers ``(site, site)`` are near each other."""
    lon, lat = towers.places[:, 0], towers.places[:, 1]
    with np.errstate(invalid="ignore"):
        apart = geography.distance(lon[:, None], lat[:, None], lon, lat)
        return np.asarray((apart < NEAR) | np.eye(len(lon), dtype=bool))


def _checked(split: Split, towers: Towers) -> Split:
    for part in ("train", "test"):
        if not (getattr(split, part) & towers.usable).any():
            raise ValueError(f"{split.name}: there is no day to {part} on; give more towers")
    return split


SPLITS: dict[str, Callable[[Towers], list[Split]]] = {
    "year": by_year,
    "site": by_site,
    "biome": by_biome,
}
"""Name -> what makes the divisions of it, one after the other."""
