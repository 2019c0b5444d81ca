"""Laws of the principal components, the sample and the lasso."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.path import Path as MplPath
from scipy.stats import spearmanr
from sklearn.decomposition import PCA as SklearnPCA

from deepfeatures import latent

SEEDS = st.integers(0, 10_000)


def cloud(seed: int, rows: int = 200, features: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(features, features)) * np.linspace(3, 0.2, features)[:, None]
    return rng.normal(size=(rows, features)) @ mixing + rng.normal(size=features)


@given(SEEDS)
def test_components_are_orthonormal_and_ordered(seed: int) -> None:
    rows = cloud(seed)
    model = latent.pca(rows)
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(6), atol=1e-12)
    assert np.all(np.diff(model.explained) <= 0)
    assert model.explained.sum() == pytest.approx(1)
    scores = latent.transform(model, rows) / model.deviation
    np.testing.assert_allclose(np.cov(scores.T), np.eye(6), atol=1e-3)


@given(SEEDS)
def test_sign_is_fixed_and_the_order_of_rows_does_not_matter(seed: int) -> None:
    rows = cloud(seed)
    model = latent.pca(rows)
    other = latent.pca(np.random.default_rng(seed).permutation(rows))
    mirrored = latent.pca(2 * model.mean - rows)  # the same axes, all values on the other side
    for axis in model.components:
        assert axis[np.abs(axis).argmax()] > 0
    np.testing.assert_allclose(other.components, model.components, atol=1e-8)
    np.testing.assert_allclose(mirrored.components, model.components, atol=1e-8)


def test_agrees_with_scikit_learn() -> None:
    rows = cloud(1, rows=500)
    model = latent.pca(rows, 3)
    theirs = SklearnPCA(3).fit(rows)
    np.testing.assert_allclose(model.explained, theirs.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(model.deviation**2, theirs.explained_variance_, rtol=1e-9)
    projected = latent.transform(model, rows)
    np.testing.assert_allclose(np.abs(projected), np.abs(theirs.transform(rows)), atol=1e-4)
    assert projected.shape == (500, 3)
    assert projected.dtype == np.float32


def test_transform_keeps_distances_shapes_and_gaps() -> None:
    rows = cloud(2, rows=60).astype(np.float32)
    model = latent.pca(rows)
    values = rows.reshape(4, 15, 6).copy()
    values[1, 2, 3] = np.nan
    moved = latent.transform(model, values)
    assert moved.shape == (4, 15, 6)
    assert np.isnan(moved[1, 2]).all()
    assert np.isnan(moved).sum() == 6
    before = np.linalg.norm(values[0, 0] - values[3, 3])
    assert np.linalg.norm(moved[0, 0] - moved[3, 3]) == pytest.approx(before, rel=1e-5)


def test_constant_sample_explains_nothing() -> None:
    model = latent.pca(np.ones((5, 3)))
    np.testing.assert_array_equal(model.explained, np.zeros(3))


@pytest.mark.parametrize(
    "rows", [np.zeros((1, 3)), np.zeros(4), np.zeros((4, 0)), np.array([[1.0, np.nan], [1, 2]])]
)
def test_what_is_no_sample_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rows"):
        latent.pca(rows)


def test_wrong_numbers_of_features_are_refused() -> None:
    with pytest.raises(ValueError, match="components"):
        latent.pca(cloud(0), 7)
    with pytest.raises(ValueError, match="the model has 6"):
        latent.transform(latent.pca(cloud(0)), np.zeros((3, 5)))


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 6), st.integers(0, 250), SEEDS)
def test_sample_is_valid_distinct_and_true(t: int, y: int, x: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(t, 2, y, x)).astype(np.float32)
    valid = (rng.random((t, y, x)) < 0.6).astype(np.uint8)
    samples, positions = latent.sample(values, valid, n, seed=seed)
    assert len(samples) == len(positions) == min(n, valid.sum())
    assert len(np.unique(positions, axis=0)) == len(positions)
    at = tuple(positions.T)
    assert valid[at].all()
    np.testing.assert_array_equal(samples, values[at[0], :, at[1], at[2]])
    again, _ = latent.sample(values, valid, n, seed=seed)
    np.testing.assert_array_equal(samples, again)


def test_sample_is_uniform() -> None:
    valid = np.ones((3, 4, 5), np.uint8)
    valid[0, 0] = 0
    values = np.zeros((3, 1, 4, 5), np.float32)
    counts = np.zeros(valid.shape)
    for seed in range(2000):
        _, positions = latent.sample(values, valid, 11, seed=seed)
        np.add.at(counts, tuple(positions.T), 1)
    expected = 2000 * 11 / 55
    assert counts[valid == 0].sum() == 0
    # hypergeometric: the standard deviation of one count is sqrt(2000 x 0.2 x 0.8) = 17.9
    assert np.abs(counts[valid == 1] - expected).max() < 5 * 17.9


def test_sample_leaves_rows_with_gaps_out() -> None:
    values = np.zeros((2, 3, 4, 4), np.float32)
    values[0, 1] = np.nan
    samples, positions = latent.sample(values, np.ones((2, 4, 4)), 100)
    assert len(samples) == 16
    assert (positions[:, 0] == 1).all()
    with pytest.raises(ValueError, match="do not fit"):
        latent.sample(values, np.ones((2, 4, 5)), 10)


@given(SEEDS, st.integers(3, 12))
def test_lasso_agrees_with_shapely_on_simple_polygons(seed: int, corners: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    ring = rng.uniform(0.3, 1, corners)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    polygon = shapely.Polygon(ring)
    assume(polygon.is_valid and polygon.area > 1e-6)
    points = rng.uniform(-1.1, 1.1, (300, 2))
    wanted = shapely.contains_xy(polygon, points)
    np.testing.assert_array_equal(latent.in_polygon(points, ring), wanted)
    closed = np.concatenate([ring, ring[:1]])
    np.testing.assert_array_equal(latent.in_polygon(points, closed[::-1]), wanted)


def test_lasso_may_cross_itself() -> None:
    bow = np.array([[0, 0], [2, 2], [2, 0], [0, 2]], float)
    points = np.array([[0.2, 1], [1.8, 1], [1, 0.2], [1, 1.8], [3, 1], [np.nan, 1], [1, np.nan]])
    np.testing.assert_array_equal(
        latent.in_polygon(points, bow), [True, True, False, False, False, False, False]
    )
    rng = np.random.default_rng(0)
    many = rng.uniform(0, 2, (1000, 2))
    np.testing.assert_array_equal(latent.in_polygon(many, bow), MplPath(bow).contains_points(many))


def test_neighbours_share_no_point() -> None:
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    left = latent.in_polygon(points, np.array([[0, 0], [2, 0], [2, 4], [0, 4]]))
    right = latent.in_polygon(points, np.array([[2, 0], [4, 0], [4, 4], [2, 4]]))
    assert not (left & right).any()
    assert (left | right).sum() == 16


def test_a_line_is_no_lasso() -> None:
    for ring in (np.zeros((2, 2)), np.array([[0, 0], [1, np.nan], [1, 1]]), np.zeros((4, 3))):
        with pytest.raises(ValueError, match="polygon"):
            latent.in_polygon(np.zeros((1, 2)), ring)


@given(st.integers(1, 4), st.integers(1, 5), SEEDS)
def test_correlations_are_those_of_numpy_and_scipy(k: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(40, k)).round(1)  # with ties
    right = (rng.normal(size=(40, m)) + left[:, :1]) * 10.0 ** rng.integers(-6, 6, m)
    found = latent.correlations(left, right), latent.correlations(left, right, ranks=True)
    for i in range(k):
        for j in range(m):
            pair = left[:, i], right[:, j]
            assert found[0][i, j] == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-9)
            assert found[1][i, j] == pytest.approx(spearmanr(*pair).statistic, abs=1e-9)


def test_correlations_leave_out_what_is_missing_and_what_does_not_vary() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(30, 2)), rng.normal(size=(30, 4))
    left[3, 1] = np.nan
    right[5:9, 0], right[:, 2], right[2:, 3] = np.inf, 7.0, np.nan
    rows = np.delete(np.arange(30), [3, 5, 6, 7, 8])
    found = latent.correlations(left, right)
    assert found[1, 0] == pytest.approx(np.corrcoef(left[rows, 1], right[rows, 0])[0, 1])
    assert np.isnan(found[:, 2:]).all()
    assert np.isfinite(found[:, :2]).all()
    with pytest.raises(ValueError, match="as many rows"):
        latent.correlations(left, right[1:])


@given(st.integers(1, 30), SEEDS)
def test_a_place_lies_among_those_of_its_neighbours(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plane = latent.Neighbours(
        rng.normal(size=(count, 3)).astype("f4"), rng.normal(size=(count, 2)).astype("f4")
    )
    np.testing.assert_array_equal(latent.place(plane, plane.points), plane.scores)
    values = rng.normal(size=(4, 5, 3)).astype("f4")
    values[1, 2, 0] = np.nan
    found = latent.place(plane, values)
    assert np.isnan(found[1, 2]).all()
    assert np.isnan(found).sum() == 2
    low, high = plane.scores.min(axis=0) - 1e-5, plane.scores.max(axis=0) + 1e-5
    rest = found[np.isfinite(found).all(axis=-1)]
    assert ((rest >= low) & (rest <= high)).all()
    with pytest.raises(ValueError, match="the plane has 3"):
        latent.place(plane, np.zeros((2, 4)))
