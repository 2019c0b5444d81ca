"""Collinearity of channels: correlation, variance inflation, independent subsets, duplicates.

Arrays are (channels, samples), the samples being pixel-dates. Two measures of dependence stand side
by side: Pearson's correlation of the values and Spearman's of their ranks (1904,
doi:10.2307/1412159), which sees that two indices are monotone functions of each other and is not
moved by extremes. From either follows

* the variance inflation factor, ``VIF = 1 / (1 - R^2)`` of a channel regressed on all others, which
  is the diagonal of the inverse correlation matrix (Marquardt 1970,
  doi:10.1080/00401706.1970.10488699; of ranks: Iman and Conover 1979,
  doi:10.1080/00401706.1979.10489820). Many indices are exact linear functions of others, so the
  matrix is singular by construction: such channels are found first and their VIF is infinite;
* an independent subset, by dropping the channel with the largest VIF until all are below a
  threshold. Ten is usual; whether it suits a question is another matter (O'Brien 2007,
  doi:10.1007/s11135-006-9018-6; Dormann et al. 2013, doi:10.1111/j.1600-0587.2012.07348.x);
* groups of channels that are as good as equal.

All of it rests on the samples in which every channel has a value. Correlation by pairs of channels
would use more, but its matrix need not be one of any data (it can have negative eigenvalues), and
no VIF follows from it. So that an index that is often undefined does not use up the samples, the
channels with the fewest values are left out, by name, until `COMPLETE` of the samples are complete.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.linalg import solve_triangular
from scipy.spatial.distance import squareform

Floats = NDArray[np.float64]

THRESHOLD = 10.0
"""Variance inflation from which on a channel counts as explained by the others."""
NEAR_EQUAL = 0.999
"""Absolute correlation from which on two channels count as the same."""
TOLERANCE = 1e-8
"""Unexplained share of variance up to which a channel is a linear function of others. That is 1e-4
of its standard deviation; the rounding of float32, magnified by channels that are nearly the same,
comes up to a tenth of it."""
COMPLETE = 0.9
"""Share of the samples in which all channels together must have a value."""
FEW = 1e-3
"""Share of the samples that can not speak for all: see `Collinearity.ruled`."""

_BLOCK = 8192
_ROUNDING = 8  # units in the last place within which a channel is constant


@dataclass(frozen=True, eq=False)
class Dependence:
    """What one measure of correlation says of k channels."""

    correlation: Floats
    """(k, k), symmetric, -1..1, with ones on the diagonal."""
    vif: Floats
    """(k,) variance inflation, 1 to infinity; NaN for channels that took no part, see
    `Collinearity.ruled`."""
    explained: dict[str, tuple[str, ...]]
    """Channel of infinite VIF -> the channels of which it is a linear function."""
    dropped: tuple[tuple[str, float], ...]
    """Channels in the order in which they were dropped, with their VIF at that time."""
    kept: tuple[str, ...]
    """The channels that are left: the VIF of each among them is below the threshold."""
    groups: tuple[tuple[str, ...], ...]
    """Groups of channels of which any two correlate to `NEAR_EQUAL` or more, the largest first."""


@dataclass(frozen=True, eq=False)
class Collinearity:
    """Collinearity of the channels of a sample."""

    names: tuple[str, ...]
    """The channels of both measures, in the order given."""
    samples: int
    """Samples given."""
    used: int
    """Samples among them in which all of `names` have a value: these were used."""
    constant: tuple[str, ...]
    """Channels left out because they do not vary."""
    sparse: dict[str, float]
    """Channels left out because they are undefined too often -> in which share of the samples."""
    ruled: dict[str, float]
    """Channels of which `FEW` of the samples carry more than half of the variance -> that share.
    Such are ratios with a denominator near zero. Their Pearson correlation describes those few
    samples, so they take no part in the VIF of values; in that of ranks they do."""
    threshold: float
    """VIF below which a channel is kept."""
    pearson: Dependence
    """Of the values."""
    spearman: Dependence
    """Of the ranks."""


def analyse(
    values: NDArray[np.floating],
    names: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    keep: Sequence[str] = (),
) -> Collinearity:
    """Analyse how far channels repeat each other.

    Parameters
    ----------
    values
        (channels, samples), float32 or float64; NaN where a channel is undefined.
    names
        Name of each channel. Of several that determine each other exactly the first are kept.
    threshold
        VIF below which channels are kept, above 1.
    keep
        Channels that are kept whatever their VIF, unless they determine each other exactly.

    Raises
    ------
    ValueError
        If shapes and names do not fit, a value is infinite, the threshold is not above 1, a channel
        to be kept takes no part, or too few samples or channels are left.
    """
    table = _checked(values, names)
    if not threshold > 1:
        raise ValueError(f"{threshold:g} is no threshold for a VIF; give a number above 1")
    undefined = np.isnan(table)
    varied = [at for at, row in enumerate(table) if not _constant(row[~undefined[at]])]
    left, complete = _complete(undefined, varied)
    # a channel can vary in all samples and not in those that are complete
    taken = [at for at in left if not _constant(table[at, complete])]
    used = table[taken][:, complete]
    chosen = tuple(str(names[at]) for at in taken)
    lost = [name for name in keep if name not in chosen]
    if lost:
        raise ValueError(f"{lost[0]!r} can not be kept: it is undefined, constant or not asked for")
    if len(chosen) < 2 or used.shape[1] <= len(chosen):
        raise ValueError(
            f"{used.shape[1]} complete samples of {len(chosen)} channels that vary say nothing of "
            "their collinearity; draw more samples, or ask for other channels"
        )
    shares = zip(chosen, map(_outermost, used), strict=True)
    ruled = {name: share for name, share in shares if share > 0.5}
    still = [at for at in range(len(names)) if at not in varied or at in set(left) - set(taken)]
    return Collinearity(
        names=chosen,
        samples=table.shape[1],
        used=used.shape[1],
        constant=tuple(str(names[at]) for at in still),
        sparse={str(names[at]): float(undefined[at].mean()) for at in varied if at not in left},
        ruled=ruled,
        threshold=threshold,
        pearson=depend(pearson(used), chosen, threshold=threshold, keep=keep, without=ruled),
        spearman=depend(spearman(used), chosen, threshold=threshold, keep=keep),
    )


def pearson(values: NDArray[np.floating]) -> Floats:
    """Give the correlation matrix (k, k) of channels (k, samples) without NaN, in float64.

    Raises
    ------
    ValueError
        If a channel is constant.
    """
    mean = values.mean(axis=1, dtype=np.float64, keepdims=True)
    product = np.zeros((len(values), len(values)))
    for start in range(0, values.shape[1], _BLOCK):  # so that no float64 copy of all is made
        centred = values[:, start : start + _BLOCK] - mean
        product += centred @ centred.T
    deviation = np.sqrt(np.diag(product))
    if not deviation.all():
        raise ValueError(f"channel number {int(deviation.argmin())} is constant; leave it out")
    found = (product / deviation / deviation[:, None]).clip(-1, 1)
    np.fill_diagonal(found, 1.0)
    return (found + found.T) / 2


def spearman(values: NDArray[np.floating]) -> Floats:
    """Give the rank correlation matrix (k, k) of channels (k, samples) without NaN."""
    ranks = np.empty(values.shape, np.float32 if values.shape[1] < 2**23 else np.float64)

    def fill(at: int) -> None:
        ranks[at] = rank(values[at])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # sorting lets other threads run
        list(pool.map(fill, range(len(values))))
    return pearson(ranks)


def rank(values: NDArray[np.floating]) -> Floats:
    """Give the ranks (n,) of values (n,), from 1; equal values share the mean of their ranks.

    The same as ``scipy.stats.rankdata``, which sorts in a stable way and takes thrice as long.
    Ranks are multiples of 1/2, which float32 holds exactly below 2^23.
    """
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    counts = np.diff(np.append(first, values.size))
    found = np.empty(values.size)
    found[order] = np.repeat(first + (counts + 1) / 2, counts)
    return found


def depend(
    correlation: Floats,
    names: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    keep: Sequence[str] = (),
    without: Iterable[str] = (),
) -> Dependence:
    """Say what a correlation matrix (k, k) says of its k channels.

    Parameters
    ----------
    correlation
        The matrix.
    names
        Name of each channel.
    threshold, keep
        See `analyse`.
    without
        Channels that take no part in the VIF.
    """
    apart = set(without)
    part = [at for at, name in enumerate(names) if name not in apart]
    inner = correlation[np.ix_(part, part)]
    firm = [at for at, old in enumerate(part) if names[old] in keep]
    order = [*firm, *(at for at in range(len(part)) if at not in firm)]
    circuits = explanations(inner)
    left, gone = eliminate(inner, threshold=threshold, order=order, firm=len(firm))
    vif = np.full(len(names), np.nan)
    vif[part] = inflation(inner)

    def called(at: int) -> str:
        return names[part[at]]

    return Dependence(
        correlation=correlation,
        vif=vif,
        explained={called(at): tuple(map(called, others)) for at, others in circuits.items()},
        dropped=tuple((called(at), factor) for at, factor in gone),
        kept=tuple(map(called, left)),
        groups=tuple(tuple(names[at] for at in group) for group in groups(correlation)),
    )


def inflation(correlation: Floats) -> Floats:
    """Give the variance inflation factor (k,) of each channel, infinite where others determine it.

    With ``R`` of an independent subset that spans all channels, a channel outside of every linear
    relation has the same VIF in that subset as in all: the diagonal of the inverse of ``R``.
    """
    left = basis(correlation, range(len(correlation)))
    found = np.full(len(correlation), np.inf)
    found[left] = _factors(correlation, left)
    found[list(explanations(correlation))] = np.inf
    return found


def basis(correlation: Floats, order: Sequence[int]) -> list[int]:
    """Give an independent subset that spans all channels: those that earlier ones do not determine.

    A Cholesky factorisation in the given order that skips each channel whose pivot, the share of
    its variance that the kept ones leave unexplained, is not above `TOLERANCE`.
    """
    factor = np.zeros_like(correlation)
    kept: list[int] = []
    for at in order:
        n = len(kept)
        row = solve_triangular(factor[:n, :n], correlation[kept, at], lower=True)
        pivot = correlation[at, at] - row @ row
        if pivot > TOLERANCE:
            factor[n, :n], factor[n, n] = row, np.sqrt(pivot)
            kept.append(at)
    return kept


def explanations(correlation: Floats) -> dict[int, list[int]]:
    """Give each channel that others determine, with as few of them as its coefficients allow.

    A channel outside of `basis` is a linear function of it in one way only; of that, the terms with
    the largest coefficients (in standard deviations) that suffice are taken. A channel of the basis
    takes the smallest relation of which it is a part.
    """
    kept = basis(correlation, range(len(correlation)))
    others = sorted(set(range(len(correlation))) - set(kept))
    weights = np.linalg.solve(correlation[np.ix_(kept, kept)], correlation[np.ix_(kept, others)])
    circuits: list[list[int]] = []
    for at, column in zip(others, weights.T, strict=True):
        ranked = [kept[place] for place in np.argsort(-np.abs(column), kind="stable")]
        circuits.append([at, *ranked[: _enough(correlation, ranked, at)]])
    found: dict[int, list[int]] = {}
    for circuit in sorted(circuits, key=len):
        for at in circuit:
            found.setdefault(at, [other for other in circuit if other != at])
    return dict(sorted(found.items()))


def _factors(correlation: Floats, channels: list[int]) -> Floats:
    factors = np.diag(np.linalg.inv(correlation[np.ix_(channels, channels)])).clip(1)
    return np.where(factors * TOLERANCE < 1, factors, np.inf)


def _enough(correlation: Floats, ranked: list[int], at: int) -> int:
    """Give how many of the first channels explain another one, at most all of them."""

    def explains(count: int) -> bool:
        part = ranked[:count]
        link = correlation[part, at]
        share = link @ np.linalg.solve(correlation[np.ix_(part, part)], link)
        return bool(1 - share <= TOLERANCE)

    # more of them never explain less
    return 1 + bisect.bisect_left(range(1, len(ranked)), True, key=explains)


def eliminate(
    correlation: Floats,
    *,
    threshold: float = THRESHOLD,
    order: Sequence[int] | None = None,
    firm: int = 0,
) -> tuple[list[int], list[tuple[int, float]]]:
    """Drop the channel with the largest VIF until all are below a threshold.

    Parameters
    ----------
    correlation
        (k, k).
    threshold
        VIF below which all shall be, above 1.
    order
        The channels by priority: of several of infinite VIF the last is dropped first.
    firm
        So many of the first in `order` are only dropped if others of them determine them.

    Returns
    -------
    kept, dropped
        Channels that are left, in the order of the matrix; channels dropped, with their VIF then.
    """
    ranked = list(range(len(correlation))) if order is None else list(order)
    # Dropping the last of the dependent ones again and again ends at the first independent ones.
    left = basis(correlation, ranked)
    dropped = [(at, np.inf) for at in reversed(ranked) if at not in left]
    while len(left) > max(firm, 1):
        # made anew each time: an update of the inverse would lose the digits of a large VIF
        factors = _factors(correlation, left)
        loose = [at for at in range(len(left)) if left[at] not in ranked[:firm]]
        if not loose:
            break
        worst = max(loose, key=lambda at: (factors[at], at))
        if factors[worst] < threshold:
            break
        dropped.append((left.pop(worst), float(factors[worst])))
    return sorted(left), dropped


def groups(correlation: Floats, *, at_least: float = NEAR_EQUAL) -> list[list[int]]:
    """Give the groups of channels any two of which correlate so much, in size; the largest first.

    Complete linkage of ``1 - |r|``, cut at ``1 - at_least``.
    """
    distance = squareform((1 - np.abs(correlation)).clip(0), checks=False)
    labels = hierarchy.fcluster(
        hierarchy.linkage(distance, "complete"), 1 - at_least, criterion="distance"
    )
    found = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    return sorted((group for group in found if len(group) > 1), key=lambda g: (-len(g), g))


def tree(correlation: Floats) -> Floats:
    """Give the dendrogram of channels: average linkage of ``1 - |r|``, leaves in the best order.

    Neighbours are as alike as the tree allows (Bar-Joseph et al. 2001,
    doi:10.1093/bioinformatics/17.suppl_1.S22).

    Returns
    -------
    numpy.ndarray
        (k - 1, 4) as of ``scipy.cluster.hierarchy.linkage``.
    """
    distance = squareform((1 - np.abs(correlation)).clip(0), checks=False)
    return hierarchy.linkage(distance, "average", optimal_ordering=True)


def _checked(values: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.floating]:
    table = np.asarray(values)
    if table.ndim != 2 or len(table) != len(names) or table.dtype.kind != "f":
        raise ValueError(
            f"{len(names)} names do not fit {table.dtype} values of shape {table.shape}; "
            "give floats (channels, samples) and a name for each channel"
        )
    twice = [name for at, name in enumerate(names) if name in names[:at]]
    if twice:
        raise ValueError(f"the channel {twice[0]!r} is there twice; name each once")
    if not table.size:
        raise ValueError("there are no samples; give some")
    if np.isinf(table).any():
        raise ValueError("a value is infinite; give NaN where a channel is undefined")
    return table


def _constant(values: NDArray[np.floating]) -> bool:
    """Tell whether values are equal within the rounding of their type."""
    if not values.size:
        return False
    low, high = float(values.min()), float(values.max())
    return bool(high - low <= _ROUNDING * np.finfo(values.dtype).eps * max(abs(low), abs(high)))


def _complete(
    undefined: NDArray[np.bool_], channels: list[int]
) -> tuple[list[int], NDArray[np.bool_]]:
    """Leave out the channels with the fewest values until enough samples are complete."""
    counts = undefined.sum(axis=1)
    left = sorted(channels, key=lambda at: (counts[at], at))
    complete = np.ones(undefined.shape[1], bool)
    for number, at in enumerate(left):
        fewer = complete & ~undefined[at]
        if fewer.mean() < COMPLETE:
            return sorted(left[:number]), complete
        complete = fewer
    return sorted(left), complete


def _outermost(values: NDArray[np.floating]) -> float:
    """Give the share of the variance that the `FEW` samples farthest from the mean carry."""
    count = int(FEW * values.size)
    if not count:
        return 0.0
    square = (values - values.mean(dtype=np.float64)) ** 2
    return float(np.partition(square, -count)[-count:].sum() / square.sum())
