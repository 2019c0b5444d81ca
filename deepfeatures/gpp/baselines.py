"""What a network must beat: the seasonal cycle, boosted trees, and light-use efficiency.

They are fitted anew wherever they are needed and never stored.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.signal import lfilter
from sklearn.ensemble import HistGradientBoostingRegressor

from deepfeatures.gpp.cycle import cycles
from deepfeatures.gpp.splits import Split
from deepfeatures.gpp.towers import Towers

MEANS = (1, 3, 7, 15, 30)
"""Days over which trees see the mean of each driver, as far as the window goes."""

PAR = 0.45 * 86400e-6
"""MJ m-2 d-1 of photosynthetically active radiation in one W m-2 of short-wave radiation."""


def climatology(
    towers: Towers, split: Split, rows: NDArray[np.int64], *, seed: int = 0, window: int = 30
) -> NDArray[np.float32]:
    """Give the seasonal cycle of the training and validation years of each tower.

    A tower without any such year gets the mean of the cycles of towers of its vegetation, else of
    all of them.
    """
    cycle = cycles(towers, split.known)
    for number in np.flatnonzero(np.isnan(cycle).all(axis=1)):
        known = ~np.isnan(cycle).all(axis=1)
        alike = known & (np.array(towers.biomes) == towers.biomes[number])
        cycle[number] = cycle[alike if alike.any() else known].mean(axis=0)
    made: NDArray[np.float32] = cycle[towers.site[rows], towers.of_year[rows]].astype(np.float32)
    return made


def trees(
    towers: Towers, split: Split, rows: NDArray[np.int64], *, seed: int = 0, window: int = 30
) -> NDArray[np.float32]:
    """Give what gradient-boosted trees tell from drivers, their means over the last days, place.

    Trees are added until the validation days get no better.
    """
    inputs = table(towers, window)
    train = np.flatnonzero(split.train & towers.usable)
    inner = np.flatnonzero(split.validate & towers.usable)

    model = HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, max_leaf_nodes=31, min_samples_leaf=20,
        l2_regularization=1.0, max_features=0.5, early_stopping=False, random_state=seed,
    )  # fmt: skip
    model.fit(inputs[train], towers.gpp[train])
    best = len(model._predictors)
    if len(inner):
        errors = [
            np.mean((p - towers.gpp[inner]) ** 2) for p in model.staged_predict(inputs[inner])
        ]
        best = int(np.argmin(errors)) + 1
    *_, told = (p for p, _ in zip(model.staged_predict(inputs[rows]), range(best), strict=False))
    return np.asarray(told, np.float32)


def table(towers: Towers, window: int) -> NDArray[np.float32]:
    """Give ``(day, column)``: means of the drivers over the last days, place, vegetation."""
    first, columns = towers.first, []
    rows = np.arange(len(towers.day))
    known = np.isfinite(towers.values)
    total = np.cumsum(np.where(known, towers.values, 0.0), axis=0, dtype=np.float64)
    count = np.cumsum(known, axis=0)
    for days in [n for n in MEANS if n <= window]:
        before = np.maximum(rows - days, first - 1)
        edge = (before >= 0)[:, None]
        amount = total - np.where(edge, total[before], 0.0)
        number = count - np.where(edge, count[before], 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(amount / np.where(number > 0, number, np.nan))
    columns.append(towers.places[towers.site][:, 1:])
    kinds = sorted(set(towers.biomes))
    columns.append(np.array([[kinds.index(b)] for b in towers.biomes])[towers.site])
    made = np.concatenate(columns, axis=1).astype(np.float32)
    return made[:, np.isfinite(made).any(axis=0)]


def light_use(
    towers: Towers, split: Split, rows: NDArray[np.int64], *, seed: int = 0, window: int = 30
) -> NDArray[np.float32]:
    """Give GPP by light-use efficiency (Maekelae et al. 2008, 10.1111/j.1365-2486.2007.01463.x).

    ``beta fAPAR PAR / (1 + gamma PAR) * S * exp(kappa VPD)``, where S rises with the temperature
    to which the canopy is acclimated (time constant tau, threshold S0). One efficiency beta for
    each type of vegetation, the other parameters are shared; fAPAR counts as 1 where it is unknown.

    Raises
    ------
    ValueError
        If there is no radiation or no temperature.
    """
    light, warmth, dryness, cover = _drivers(towers)
    kinds = sorted(set(towers.biomes))
    kind = np.array([kinds.index(b) for b in towers.biomes])[towers.site]
    mine = np.flatnonzero(split.known & towers.usable)
    present = np.unique(kind[mine])

    def model(p: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
        beta = np.full(len(kinds), p[4:].mean())
        beta[present] = p[4:]
        gamma, kappa, tau, threshold = p[:4]
        state = np.clip((_acclimated(towers, warmth, tau) - threshold) / 18.0, 0, 1)
        made = light / (1 + gamma * light) * state * np.exp(-kappa * dryness) * cover
        return (beta[kind] * made)[at]

    start = np.r_[0.05, 0.03, 5.0, -3.0, np.full(len(present), 1.0)]
    low = np.r_[0.0, 0.0, 1.0, -15.0, np.full(len(present), 0.01)]
    high = np.r_[1.0, 0.5, 30.0, 15.0, np.full(len(present), 10.0)]
    found = least_squares(
        lambda p: model(p, mine) - towers.gpp[mine], start, bounds=(low, high), max_nfev=40
    )
    return model(found.x, rows).astype(np.float32)


def _drivers(towers: Towers) -> tuple[NDArray[np.float64], ...]:
    """Give PAR [MJ m-2 d-1], temperature [degC], VPD [hPa] and fAPAR, each ``(day,)``."""

    def column(names: tuple[str, ...]) -> NDArray[np.float64] | None:
        there = [name for name in names if name in towers.drivers]
        if not there:
            return None
        values = towers.values[:, towers.drivers.index(there[0])].astype(np.float64)
        return np.where(np.isfinite(values), values, np.nanmean(values))

    light = column(("SW_IN", "SWLAND", "RSO_FAO56", "SW_IN_POT"))
    warmth = column(("TA", "T2MEAN"))
    if light is None or warmth is None:
        raise ValueError(
            "light-use efficiency needs radiation (SW_IN, SWLAND, RSO_FAO56) and temperature "
            "(TA, T2MEAN)"
        )
    if np.nanmean(warmth) > 150:
        warmth = warmth - 273.15
    dryness = column(("VPD",))
    cover = column(("fAPAR", "NDVI"))
    none = np.zeros_like(light)
    return (
        light * PAR,
        warmth,
        none if dryness is None else dryness,
        none + 1 if cover is None else cover.clip(0, 1),
    )


def _acclimated(towers: Towers, warmth: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """Give the temperature that a canopy is used to: a first-order delay of `tau` days."""
    stays = 1 - 1 / tau
    made = np.empty_like(warmth)
    for number in range(len(towers.sites)):
        mine = towers.site == number
        series = warmth[mine]
        made[mine] = lfilter([1 - stays], [1, -stays], series, zi=[stays * series[0]])[0]
    return made


BASELINES: dict[str, Callable[..., NDArray[np.float32]]] = {
    "climatology": climatology,
    "trees": trees,
    "lue": light_use,
}
"""Name -> what gives the GPP ``(row,)`` of rows, from the known days of a split."""
