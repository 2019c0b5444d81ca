"""Views of the latent space: planes, samples of pixel-dates, lasso selections, correlations.

Arrays only: rows are pixel-dates, columns are features.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

NEAREST = 4
"""Points that the place of another one follows from."""


@dataclass(frozen=True)
class PCA:
    """Principal components of a sample."""

    mean: np.ndarray
    """Mean of the sample (k,), in the units of the samples."""
    components: np.ndarray
    """Orthonormal directions (n, k), the one with the largest variance first; in each, the entry
    with the largest absolute value is positive."""
    explained: np.ndarray
    """Share of the variance that each component explains (n,), 0..1, falling."""
    deviation: np.ndarray
    """Standard deviation along each component (n,), in the units of the samples; scores divided
    by it are whitened."""

    @cached_property
    def key(self) -> str:
        """Digest of the plane."""
        return _digest(self.mean, self.components)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A plane that is known at some points only, such as one of UMAP."""

    points: np.ndarray
    """(m, k) float32, distinct."""
    scores: np.ndarray
    """(m, 2) float32, their places in the plane."""

    @cached_property
    def key(self) -> str:
        """Digest of the plane."""
        return _digest(self.points, self.scores)

    @cached_property
    def tree(self) -> cKDTree:
        """The points, to be searched."""
        return cKDTree(self.points)


Plane = PCA | Neighbours
"""What gives a place (x, y) to features."""


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()[:16]


def place(plane: Plane, values: np.ndarray) -> np.ndarray:
    """Give features their place in a plane.

    In the plane of principal components by projection. In a plane of neighbours by the `NEAREST`
    known points, weighted with the inverse square of the Euclidean distance (Shepard 1968, doi
    10.1145/800186.810616): a known point stays where it is.

    Parameters
    ----------
    plane
        The plane.
    values
        (..., k); a row with NaN gives NaN.

    Returns
    -------
    numpy.ndarray
        (..., 2) float32.

    Raises
    ------
    ValueError
        If the values have not as many features as the plane.
    """
    if isinstance(plane, PCA):
        scores = transform(plane, values)
        lacking = 2 - scores.shape[-1]  # a single feature has one component
        return np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(0, max(lacking, 0))])[..., :2]
    known = plane.points.shape[1]
    if values.shape[-1] != known:
        raise ValueError(f"{values.shape[-1]} features given; the plane has {known}")
    rows = np.asarray(values, np.float32).reshape(-1, known)
    there = np.isfinite(rows).all(axis=1)
    count = min(NEAREST, len(plane.points))
    distance, nearest = plane.tree.query(rows[there], k=np.arange(1, count + 1))
    weight = 1 / np.maximum(distance**2, 1e-12)
    weight[distance[:, 0] == 0, 1:] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    found = np.full((len(rows), 2), np.nan, np.float32)
    found[there] = np.einsum("nj,njc->nc", weight, plane.scores[nearest])
    return found.reshape(*values.shape[:-1], 2)


def correlations(features: np.ndarray, others: np.ndarray, *, ranks: bool = False) -> np.ndarray:
    """Correlate each feature with each other quantity over pixel-dates.

    Rows in which a feature is missing are left out; of the others each column is compared where
    it has a value.

    Parameters
    ----------
    features
        (n, k); what is not finite is missing.
    others
        (n, m); what is not finite is missing.
    ranks
        Whether ranks are correlated (Spearman, with mean ranks for ties) or values (Pearson).

    Returns
    -------
    numpy.ndarray
        (k, m) float64, -1..1; NaN where one of both does not vary or three rows are not there.

    Raises
    ------
    ValueError
        If the numbers of rows differ.
    """
    from scipy.stats import rankdata  # slow to import

    if features.ndim != 2 or others.ndim != 2 or len(features) != len(others):
        raise ValueError(
            f"tables of shape {features.shape} and {others.shape} do not fit; give as many rows"
        )
    whole = np.isfinite(features).all(axis=1)
    left, right = features[whole].astype(np.float64), others[whole].astype(np.float64)
    there = np.isfinite(right)
    found = np.full((features.shape[1], others.shape[1]), np.nan)
    patterns: dict[bytes, list[int]] = {}
    for column in range(right.shape[1]):
        patterns.setdefault(there[:, column].tobytes(), []).append(column)
    for columns in patterns.values():  # columns that are missing in the same rows go together
        rows = there[:, columns[0]]
        if np.count_nonzero(rows) >= 3:
            pair = left[rows], right[np.ix_(rows, columns)]
            one, other = (_standard(rankdata(part, axis=0) if ranks else part) for part in pair)
            found[:, columns] = (one.T @ other).clip(-1, 1)
    return found


def _standard(table: np.ndarray) -> np.ndarray:
    """Centre columns and make them as long as 1; NaN for a constant one."""
    largest = np.abs(table).max(axis=0)
    scaled = table / np.where(largest > 0, largest, 1)  # squares of large numbers stay finite
    centred = scaled - scaled.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    flat = length <= 1e-12 * np.sqrt(len(table))
    return np.where(flat, np.nan, centred / np.where(flat, 1, length))


def pca(samples: np.ndarray, n: int | None = None) -> PCA:
    """Find the principal components of a sample.

    Eigenvectors of the covariance matrix, in float64 (Jolliffe 2002, doi 10.1007/b98835). The
    sign, which the method leaves open, is fixed, so that a map keeps its colours.

    Parameters
    ----------
    samples
        (rows, k), finite, at least two rows.
    n
        Number of components to keep; all k by default.

    Raises
    ------
    ValueError
        If the sample is no table, has fewer than two rows, a value that is not finite, or fewer
        columns than components asked for.
    """
    rows = np.asarray(samples, np.float64)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise ValueError(f"a sample of shape {rows.shape} has no components; give at least 2 rows")
    if not np.isfinite(rows).all():
        raise ValueError("the sample has values that are not finite; drop those rows first")
    kept = rows.shape[1] if n is None else n
    if not 1 <= kept <= rows.shape[1]:
        raise ValueError(f"{kept} components of {rows.shape[1]} features; ask for 1 to that many")
    mean = rows.mean(axis=0)
    centred = rows - mean
    variance, vectors = np.linalg.eigh(centred.T @ centred / (rows.shape[0] - 1))
    variance, vectors = variance[::-1].clip(0), vectors[:, ::-1].T  # (k,), (k, k)
    largest = np.abs(vectors).argmax(axis=1)
    vectors = vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]
    total = variance.sum()
    explained = variance / total if total > 0 else np.zeros_like(variance)
    return PCA(mean, vectors[:kept], explained[:kept], np.sqrt(variance[:kept]))


def transform(model: PCA, values: np.ndarray) -> np.ndarray:
    """Project values on principal components.

    Parameters
    ----------
    model
        From `pca`, with n components of k features.
    values
        (..., k); a row with NaN gives NaN.

    Returns
    -------
    numpy.ndarray
        (..., n), float32.

    Raises
    ------
    ValueError
        If the values have not as many features as the model.
    """
    values = np.asarray(values)
    if values.shape[-1] != model.mean.size:
        raise ValueError(f"{values.shape[-1]} features given; the model has {model.mean.size}")
    weights = model.components.T.astype(np.float32)  # (k, n)
    return (values - model.mean.astype(np.float32)).astype(np.float32) @ weights


def sample(
    values: np.ndarray, valid: np.ndarray, n: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixel-dates uniformly, without replacement, among the valid ones.

    Parameters
    ----------
    values
        (time, k, y, x); anything that gives a ``(k, y, x)`` array for ``values[t]``. Only dates
        of which something is drawn are read.
    valid
        (time, y, x), nonzero = usable.
    n
        Number wanted; fewer are returned if fewer are valid.
    seed
        The same seed draws the same pixel-dates.

    Returns
    -------
    samples
        (m, k) float32, in the order of time, y, x; rows with NaN are left out.
    positions
        (m, 3) int64: time, y, x index of each row.

    Raises
    ------
    ValueError
        If the shapes do not fit or n is negative.
    """
    valid = np.asarray(valid) == 1
    times, features, height, width = values.shape
    if valid.shape != (times, height, width) or n < 0:
        raise ValueError(
            f"values {values.shape}, valid {valid.shape} and n = {n} do not fit; "
            "give (time, k, y, x), (time, y, x) and n >= 0"
        )
    ends = np.cumsum(np.count_nonzero(valid, axis=(1, 2)))
    total = int(ends[-1]) if times else 0
    ranks = np.random.default_rng(seed).choice(total, min(n, total), replace=False, shuffle=False)
    ranks.sort()
    cuts = np.searchsorted(ranks, ends)
    samples, positions = [np.empty((0, features), np.float32)], [np.empty((0, 3), np.int64)]
    for t, (first, last) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True)):
        if first == last:
            continue
        before = int(ends[t - 1]) if t else 0
        y, x = np.divmod(np.flatnonzero(valid[t])[ranks[first:last] - before], width)
        rows = np.asarray(values[t])[:, y, x].T.astype(np.float32)  # (m, k)
        finite = np.isfinite(rows).all(axis=1)
        samples.append(rows[finite])
        positions.append(np.stack([np.full_like(y, t), y, x], axis=1)[finite])
    return np.concatenate(samples), np.concatenate(positions)


def in_polygon(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Tell which points lie in a polygon, by the even-odd rule.

    The ring may cross itself, as a lasso drawn by hand does. Points are sorted once, so that an
    edge looks only at the points between its ends.

    Parameters
    ----------
    points
        (n, 2); a point with NaN lies outside.
    ring
        (m, 2) corners; closed or not.

    Returns
    -------
    numpy.ndarray
        (n,) bool.

    Raises
    ------
    ValueError
        If the ring has fewer than three corners or one that is not finite.
    """
    points, ring = np.asarray(points, np.float64), np.asarray(ring, np.float64)
    if ring.ndim != 2 or ring.shape[0] < 3 or ring.shape[1] != 2 or not np.isfinite(ring).all():
        raise ValueError(
            f"a ring of shape {ring.shape} is no polygon; give 3 or more finite (x, y)"
        )
    order = np.argsort(points[:, 1])  # NaN last, beyond every edge
    x, y = points[order, 0], points[order, 1]
    inside = np.zeros(len(points), bool)
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        low, high = (start, end) if start[1] <= end[1] else (end, start)
        first, last = np.searchsorted(y, [low[1], high[1]], side="left")
        if first == last:
            continue
        slope = (high[0] - low[0]) / (high[1] - low[1])
        inside[first:last] ^= x[first:last] < low[0] + (y[first:last] - low[1]) * slope
    result = np.empty_like(inside)
    result[order] = inside
    return result & np.isfinite(points).all(axis=1)
