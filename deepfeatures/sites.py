"""Sites of minicubes: sampled by strata with a minimum distance, split into folds by blocks.

Arrays only. Distances are great circles on a sphere of the Earth's mean radius (within 0.6 % of
those on the ellipsoid), found with a tree over points in three dimensions, so that neither the
date line nor the poles are borders. The order of the sites never matters: they are sorted by
place before anything is drawn.

Why blocks: neighbours resemble each other, and a random split makes a model look better than it
is (Roberts et al. 2017, doi 10.1111/ecog.02881; Ploton et al. 2020,
doi 10.1038/s41467-020-18321-y).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

EARTH_KM = 6371.0088
"""Mean radius of the Earth [km] (IUGG)."""
FOLDS = ("train", "validation", "test")
"""Names of the folds 0, 1 and 2; -1 marks a site that is in none."""
DROPPED = -1
"""Label of a site that lies too near to another fold."""

_MOST_PAIRS = 20_000_000
"""With more pairs of neighbours all sites count as one cluster, which blocks then cut."""


def distance(
    lon_a: ArrayLike, lat_a: ArrayLike, lon_b: ArrayLike, lat_b: ArrayLike
) -> NDArray[np.float64]:
    """Give great-circle distances by the haversine formula.

    Parameters
    ----------
    lon_a, lat_a, lon_b, lat_b
        Degrees; arrays are broadcast against each other.

    Returns
    -------
    numpy.ndarray
        Kilometres.
    """
    lons, lats = np.radians([np.subtract(lon_b, lon_a), np.subtract(lat_b, lat_a)])
    across = np.cos(np.radians(lat_a)) * np.cos(np.radians(lat_b)) * np.sin(lons / 2) ** 2
    part = np.clip(np.sin(lats / 2) ** 2 + across, 0, 1)
    return np.asarray(2 * EARTH_KM * np.arcsin(np.sqrt(part)))


def strata(classes: ArrayLike, *climate: ArrayLike, bins: int = 4) -> NDArray[np.int64]:
    """Combine land cover and climate into strata.

    Parameters
    ----------
    classes
        Land-cover class of each site, numbers or words (n,).
    climate
        Each a climate variable of the sites (n,), such as annual mean temperature and annual
        precipitation; cut at its quantiles into `bins` classes.
    bins
        Classes of each climate variable.

    Returns
    -------
    numpy.ndarray
        Number of the stratum (n,), 0 .. strata - 1, in the sorted order of what they combine.

    Raises
    ------
    ValueError
        If the arrays differ in length or a climate value is missing.
    """
    _, parts = np.unique(np.asarray(classes), return_inverse=True)
    columns = [parts.ravel()]
    for number, variable in enumerate(climate, start=1):
        values = np.asarray(variable, float)
        if values.shape != columns[0].shape or not np.isfinite(values).all():
            raise ValueError(
                f"climate variable {number} has {np.isfinite(values).sum()} values for "
                f"{columns[0].size} sites; leave out the sites without climate"
            )
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]) if values.size else []
        columns.append(np.searchsorted(edges, values, side="right"))
    _, combined = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return combined.ravel()


def stratified(
    lon: ArrayLike,
    lat: ArrayLike,
    stratum: ArrayLike,
    *,
    count: int,
    min_distance_km: float,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw sites evenly from strata, none nearer to another than a minimum distance.

    The strata take turns, the rarest first, and each takes the next of its sites in random order
    that is far enough from all taken so far. So two strata differ by more than one site only if
    the smaller has nothing left that is far enough.

    Parameters
    ----------
    lon, lat
        Candidates (n,), degrees.
    stratum
        Number of each candidate's stratum (n,), as `strata` gives it.
    count
        Sites wanted.
    min_distance_km
        Smallest great-circle distance of two sites [km]; candidates at one place are one site.
    seed
        Seed of the order of the candidates.

    Returns
    -------
    numpy.ndarray
        Indices of the sites in the order in which they were taken, at most `count`; fewer where
        the distance does not allow more.

    Raises
    ------
    ValueError
        If a place, the count or the distance is not usable.
    """
    lons, lats = _places(lon, lat)
    labels = np.asarray(stratum)
    if labels.shape != lons.shape:
        raise ValueError(f"{labels.size} strata for {lons.size} sites; give one for each site")
    if count < 1 or not min_distance_km >= 0:
        raise ValueError(
            f"count {count} and distance {min_distance_km} km must be at least 1 and 0"
        )
    order = np.lexsort((labels, lats, lons))
    order = order[np.random.default_rng(seed).permutation(order.size)]
    tree = cKDTree(_points(lons, lats))
    # a hair less, so that sites at just the distance stay allowed
    reach = _chord(min_distance_km) * (1 - 1e-12)
    names, sizes = np.unique(labels, return_counts=True)
    queues = [iter(order[labels[order] == name]) for name in names[np.argsort(sizes)]]
    free = np.ones(lons.size, bool)
    taken: list[int] = []
    while queues and len(taken) < count:
        left = []
        for queue in queues:
            site = next((int(index) for index in queue if free[index]), None)
            if site is not None and len(taken) < count:
                taken.append(site)
                free[tree.query_ball_point(tree.data[site], reach)] = False
                left.append(queue)
        queues = left
    return np.array(taken, np.int64)


def folds(
    lon: ArrayLike,
    lat: ArrayLike,
    time: ArrayLike | None = None,
    *,
    block_km: float,
    buffer_km: float,
    buffer_days: float = 0.0,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> NDArray[np.int8]:
    """Split sites into training, validation and test so that neighbours are never on two sides.

    Blocks are bands of latitude, cut into cells of about `block_km` x `block_km`; each, in random
    order, goes to the fold that lacks most, so before dropping no fold exceeds its share by more
    than one block. Sites that hang together in steps of at most the buffer form clusters. A cluster
    that is no larger than the smallest share belongs as a whole to one block, so nothing is lost.
    A larger one is cut along the blocks, and what then lies within the buffer of another fold is
    dropped: training sites for the sake of validation and test, validation sites for the sake of
    test.

    With `time` the samples are split by calendar years in the same way, and a sample is kept only
    where both splits agree: then no test sample shares its neighbourhood *or* its season with a
    training sample. Shares of 70, 15 and 15 % keep about half of the samples so, of which 4 % are
    test: ask for more even shares then.

    Parameters
    ----------
    lon, lat
        Places of the samples (n,), degrees; a place may occur many times.
    time
        Dates of the samples, datetime64 (n,); None to split in space only.
    block_km
        Edge of a block [km].
    buffer_km
        Every two sites of different folds are farther apart than this [km].
    buffer_days
        Every two dates of different folds are farther apart than this [d].
    shares
        Wanted shares of training, validation and test; they are scaled to a sum of one.
    seed
        Seed of the order in which clusters and blocks are dealt out.

    Returns
    -------
    numpy.ndarray
        int8 (n,): 0 training, 1 validation, 2 test, -1 dropped (``(labels == -1).sum()`` is the
        loss).

    Raises
    ------
    ValueError
        If a place, a date, a length or the shares are not usable.
    """
    lons, lats = _places(lon, lat)
    wanted = _checked_shares(shares)
    if not (block_km > 0 and buffer_km >= 0 and buffer_days >= 0):
        raise ValueError(
            f"block {block_km} km must be above zero, buffers {buffer_km} km and {buffer_days} "
            "days not below"
        )
    rng = np.random.default_rng(seed)
    # a hair more, so that rounding never leaves a pair at just the buffer
    reach = _chord(buffer_km) * (1 + 1e-9) + 1e-9
    labels = _split(_points(lons, lats), _blocks(lons, lats, block_km), reach, wanted, rng)
    if time is None:
        return labels
    days, years = _days(time, lons.size)
    seasons = _split(days[:, None], years, buffer_days, wanted, rng)
    return np.where(labels == seasons, labels, DROPPED).astype(np.int8)


def _split(
    points: NDArray[np.float64],
    blocks: NDArray[np.int64],
    reach: float,
    shares: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Deal clusters and blocks out to folds, and drop what is within reach of another fold."""
    if not len(points):
        return np.zeros(0, np.int8)
    places, which, weight = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    block = np.empty(len(places), np.int64)
    block[which] = blocks
    cluster = _clusters(places, reach)
    mass = np.bincount(cluster, weight)
    large = mass[cluster] > shares[shares > 0].min() * len(points)
    _, first = np.unique(cluster, return_index=True)
    # a small cluster lies as a whole in the block of its first place
    _, unit = np.unique(np.where(large, block, block[first][cluster]), return_inverse=True)
    fold = _dealt(np.bincount(unit, weight), shares, rng)[unit]
    return _kept_apart(places, fold, reach)[which]


def _clusters(places: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Give each place the number of its cluster, in which steps of `reach` lead from one to all."""
    tree = cKDTree(places)
    if tree.count_neighbors(tree, reach) > _MOST_PAIRS:
        return np.zeros(len(places), np.int64)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    shape = len(places), len(places)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=shape)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _dealt(
    sizes: NDArray[np.generic], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int8]:
    """Give each unit, in random order, to the fold that lacks most."""
    lacking = shares * sizes.sum()
    fold = np.empty(sizes.size, np.int8)
    for unit in rng.permutation(sizes.size):
        fold[unit] = np.argmax(lacking)
        lacking[fold[unit]] -= sizes[unit]
    return fold


def _kept_apart(
    places: NDArray[np.float64], fold: NDArray[np.int8], reach: float
) -> NDArray[np.int8]:
    """Drop what lies within reach of a higher fold, the higher folds first."""
    fold = fold.copy()
    for lower in range(len(FOLDS) - 2, -1, -1):
        here, above = np.flatnonzero(fold == lower), fold > lower
        if here.size and above.any():
            nearest, _ = cKDTree(places[above]).query(places[here])
            fold[here[nearest <= reach]] = DROPPED
    return fold


def _blocks(
    lon: NDArray[np.float64], lat: NDArray[np.float64], block_km: float
) -> NDArray[np.int64]:
    """Give the number of a cell of about equal area: a piece of a band of latitude."""
    half = np.pi * EARTH_KM
    bands = max(1, round(half / block_km))
    band = np.minimum(((lat + 90) / 180 * bands).astype(np.int64), bands - 1)
    middle = np.radians((band + 0.5) / bands * 180 - 90)
    cells = np.maximum(1, np.round(2 * half * np.cos(middle) / block_km)).astype(np.int64)
    cell = ((lon % 360) / 360 * cells).astype(np.int64) % cells
    return band * (cells.max(initial=1) + 1) + cell


def _places(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lons, lats = np.asarray(lon, float), np.asarray(lat, float)
    if lons.ndim != 1 or lons.shape != lats.shape:
        raise ValueError(f"{lons.size} longitudes and {lats.size} latitudes; give one of each")
    wrong = ~((np.abs(lons) <= 360) & (np.abs(lats) <= 90))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"site {first} at lon {lons[first]}, lat {lats[first]} is no place; give degrees"
        )
    return lons, lats


def _points(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give places on the sphere in three dimensions [km] (n, 3)."""
    east, north = np.radians(lon), np.radians(lat)
    flat = np.cos(north)
    return EARTH_KM * np.stack([flat * np.cos(east), flat * np.sin(east), np.sin(north)], axis=1)


def _chord(km: float) -> float:
    """Give the straight distance through the sphere of a great-circle distance."""
    return 2 * EARTH_KM * float(np.sin(min(km / (2 * EARTH_KM), np.pi / 2)))


def _checked_shares(shares: Sequence[float]) -> NDArray[np.float64]:
    wanted = np.asarray(shares, float)
    if wanted.shape != (len(FOLDS),) or not ((wanted >= 0).all() and 0 < wanted.sum() < np.inf):
        raise ValueError(
            f"the shares {tuple(shares)} must be three numbers, for {', '.join(FOLDS)}, none "
            "below zero"
        )
    return wanted / wanted.sum()


def _days(time: ArrayLike, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give days since 1970 with fractions, and calendar years."""
    dates = np.asarray(time, "datetime64[s]")
    if dates.shape != (count,) or np.isnat(dates).any():
        raise ValueError(
            f"{(~np.isnat(dates)).sum()} dates for {count} sites; give one for each site"
        )
    years = dates.astype("datetime64[Y]").astype(np.int64)
    return dates.astype(np.int64) / 86400.0, years
