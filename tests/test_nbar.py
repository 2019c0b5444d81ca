"""Laws of the c-factor and of what brings it to the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import RegularGridInterpolator

from deepfeatures import nbar
from deepfeatures.bands import BANDS

SUN = st.floats(0, 89)
VIEW = st.floats(0, 13)
AZIMUTH = st.floats(-720, 720)
CORRECTED = tuple(nbar.COEFFICIENTS)


def test_each_band_of_a_cube_is_corrected_or_named() -> None:
    assert sorted([*nbar.COEFFICIENTS, *nbar.UNCORRECTED]) == sorted(BANDS)


@given(SUN, AZIMUTH)
def test_seen_from_nadir_nothing_changes(sun: float, azimuth: float) -> None:
    np.testing.assert_array_equal(nbar.c_factor(sun, 0, azimuth, CORRECTED), np.ones(9))


@given(SUN, VIEW, AZIMUTH)
def test_the_factor_stays_near_one(sun: float, view: float, azimuth: float) -> None:
    factor = nbar.c_factor(sun, view, azimuth, tuple(BANDS))
    assert ((factor > 0.8) & (factor < 1.25)).all()
    np.testing.assert_array_equal(factor[[band in nbar.UNCORRECTED for band in BANDS]], 1)


@given(st.floats(0, 75), st.floats(0, 75), AZIMUTH)
def test_kernels_are_reciprocal(one: float, other: float, azimuth: float) -> None:
    for kernel in (nbar.kvol, nbar.kgeo):
        there, back = kernel(one, other, azimuth), kernel(other, one, azimuth)
        np.testing.assert_allclose(there, back, rtol=1e-9, atol=1e-9)


@given(st.floats(0, 75), VIEW, st.floats(0, 180), st.integers(-2, 2))
def test_only_the_angle_between_azimuths_counts(
    sun: float, view: float, azimuth: float, turns: int
) -> None:
    expected = nbar.c_factor(sun, view, azimuth, CORRECTED)
    for same in (-azimuth, azimuth + 360 * turns):
        np.testing.assert_allclose(nbar.c_factor(sun, view, same, CORRECTED), expected, rtol=1e-7)


def test_kernels_vanish_at_nadir_and_peak_at_the_hot_spot() -> None:
    azimuth = np.arange(0.0, 360, 5)
    for kernel in (nbar.kvol, nbar.kgeo):
        assert abs(float(kernel(0, 0, 0))) < 1e-12
        values = kernel(40, 40, azimuth)
        assert np.isfinite(values).all()
        assert values.argmax() == 0  # sun behind the sensor


def test_the_kernels_by_hand() -> None:
    # sun 60, view nadir: the phase angle is 60 degrees, the shadows overlap not at all
    volumetric = ((np.pi / 2 - np.pi / 3) / 2 + np.sqrt(3) / 2) / 1.5 - np.pi / 4
    assert float(nbar.kvol(60, 0, 0)) == pytest.approx(volumetric, rel=1e-12)
    # tan 60 x 2 / (2 + 1) is above one, so O = 0 and kgeo = -2 - 1 + 0.5 (1 + 0.5) 2
    assert float(nbar.kgeo(60, 0, 0)) == pytest.approx(-1.5, rel=1e-12)


def test_shapes_and_what_is_refused() -> None:
    sun, view = np.full((4, 5), 30.0), np.full((9, 4, 5), 5.0)
    assert nbar.c_factor(sun, view, 100, CORRECTED).shape == (9, 4, 5)
    dates = nbar.c_factor(sun[:1], 5, 100, ("B02", "B8A"))
    assert dates.shape == (2, 5)
    np.testing.assert_allclose(dates[0], nbar.c_factor(30, 5, 100, ["B02"])[0])
    with pytest.raises(ValueError, match="4 layers for 9 bands"):
        nbar.c_factor(sun, 5, 100, CORRECTED)
    with pytest.raises(ValueError, match="'B10' has no c-factor"):
        nbar.c_factor(30, 5, 100, ["B10"])


def test_without_angles_there_is_no_factor_where_one_is_needed() -> None:
    factor = nbar.c_factor([30, np.nan], 5, 100, ("B02", "B02"))
    assert np.isfinite(factor).tolist() == [True, False]
    assert nbar.c_factor(np.nan, 5, 100, ("B8A",)).tolist() == [1.0]


@given(st.data())
def test_gaps_take_the_nearest_node(data: st.DataObject) -> None:
    there = data.draw(arrays(bool, (2, 7, 6)))
    values = np.where(there, np.arange(84.0).reshape(2, 7, 6), np.nan)
    filled = nbar.fill(values)
    np.testing.assert_array_equal(filled[there], values[there])
    for before, after in zip(values, filled, strict=True):
        nodes = np.argwhere(np.isfinite(before))
        if not len(nodes):
            assert np.isnan(after).all()
            continue
        for place in np.argwhere(np.isnan(before)):
            far = np.hypot(*(nodes - place).T)
            near = {before[tuple(node)] for node in nodes[far <= far.min() + 1e-9]}
            assert after[tuple(place)] in near


PLACES = arrays(np.float64, st.integers(1, 40), elements=st.floats(-2, 9))


@given(PLACES, PLACES, st.integers(0, 2**32 - 1))
def test_linear_between_nodes_and_flat_beyond(
    rows: np.ndarray, columns: np.ndarray, seed: int
) -> None:
    values = np.random.default_rng(seed).uniform(0.9, 1.1, (2, 8, 7))
    nodes = np.arange(8), np.arange(7)
    inside = np.meshgrid(np.clip(rows, 0, 7), np.clip(columns, 0, 6), indexing="ij")
    expected = [RegularGridInterpolator(nodes, layer)(tuple(inside)) for layer in values]
    on_lines = nbar.on_lines(values, rows, columns)
    assert on_lines.dtype == np.float32
    np.testing.assert_allclose(on_lines, expected, rtol=1e-6)
    np.testing.assert_allclose(
        nbar.at_points(values, *np.meshgrid(rows, columns, indexing="ij")), expected, rtol=1e-6
    )


@given(st.integers(0, 150), st.integers(1, 60), st.integers(0, 150), st.integers(1, 60))
def test_a_part_equals_the_whole(row: int, height: int, column: int, width: int) -> None:
    values = np.random.default_rng(0).uniform(0.9, 1.1, (2, 8, 7))
    rows, columns = np.linspace(-0.5, 7.5, 200), np.linspace(6.5, -0.5, 200)
    part = slice(row, row + height), slice(column, column + width)
    whole = nbar.on_lines(values, rows, columns)[:, part[0], part[1]]
    np.testing.assert_array_equal(nbar.on_lines(values, rows[part[0]], columns[part[1]]), whole)
