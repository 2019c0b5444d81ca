"""Radar arrays: laws of decibel, speckle and pairing, and figures on a real series."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from deepfeatures import radar

DAY = np.timedelta64(1, "D")
EPOCH = np.datetime64("2020-01-01T05:30", "ns")


def _looks(power: np.ndarray) -> float:
    """Equivalent number of looks of pixels on the last axis, median over the images."""
    return float(np.median(power.mean(-1) ** 2 / power.var(-1)))


# ---------------------------------------------------------------- decibel


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-60, 40, width=32)))
def test_decibel_and_back(db):
    assert np.allclose(radar.to_db(radar.to_power(db)), db, rtol=0, atol=1e-5)
    assert radar.to_power(db).dtype == radar.to_db(db).dtype == np.float32


def test_what_has_no_logarithm_is_no_value():
    db = radar.to_db(np.array([0.0, -0.0, -1e-3, np.nan, 1.0, 0.1, 100.0]))
    assert np.isnan(db[:4]).all()
    assert db[4:].tolist() == [0.0, -10.0, 20.0]
    assert np.isnan(radar.to_power(np.array([np.nan]))).all()


# ---------------------------------------------------------------- speckle


def _speckled(seed: int = 0, shape: tuple[int, int] = (96, 88)) -> np.ndarray:
    """Two fields 6 dB apart under speckle of 4.4 looks, with a gap."""
    rng = np.random.default_rng(seed)
    power = rng.gamma(radar.LOOKS, 1 / radar.LOOKS, shape)
    db = radar.to_db(power) - np.float32(14)
    db[:, shape[1] // 2 :] += 6
    db[20:27, 30:60] = np.nan
    return db


@settings(max_examples=12)
@given(
    top=st.integers(radar.REACH, 60),
    left=st.integers(radar.REACH, 50),
    height=st.integers(1, 96 - 60 - radar.REACH),
    width=st.integers(1, 88 - 50 - radar.REACH),
)
def test_a_tile_with_its_halo_is_smoothed_as_the_whole(top, left, height, width):
    db, halo = _speckled(), radar.REACH
    whole = radar.despeckle(db)[top : top + height, left : left + width]
    part = db[top - halo : top + height + halo, left - halo : left + width + halo]
    tile = radar.despeckle(part)[halo : halo + height, halo : halo + width]
    assert np.allclose(tile, whole, rtol=0, atol=1e-3, equal_nan=True)


def test_gaps_stay_and_do_not_spread():
    db = _speckled()
    smooth = radar.despeckle(np.stack([db, np.full_like(db, np.nan)]))
    assert smooth.dtype == np.float32
    assert np.array_equal(np.isnan(smooth[0]), np.isnan(db))
    assert np.isnan(smooth[1]).all()
    # pixels around the gap keep the level of their field
    rim = ndimage.binary_dilation(np.isnan(db), iterations=2) & ~np.isnan(db)
    rim[:, 44:] = False
    assert abs(10 * np.log10(radar.to_power(smooth[0])[rim].mean()) + 14) < 0.5


def test_speckle_goes_level_and_edge_stay():
    power = radar.to_power(radar.despeckle(_speckled()))
    dark, bright = power[30:90, 5:38].ravel(), power[30:90, 50:83].ravel()
    assert _looks(dark) > 5 * radar.LOOKS
    assert abs(10 * np.log10(dark.mean()) + 14) < 0.25
    assert abs(10 * np.log10(bright.mean()) + 8) < 0.25
    # at most 1 dB of the step of 6 dB leaks into the next pixels
    step = 10 * np.log10(power[30:90, 44].mean() / power[30:90, 43].mean())
    assert step > 4


def test_real_fields_gain_looks_and_keep_edges(shared_data):
    raw = xr.open_dataset(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    db = raw["VV"].values[::4, ::2, ::2].astype(np.float32)
    field = ndimage.binary_erosion(raw["label_CT"].values[::2, ::2] == 1200)
    smooth = radar.despeckle(db)
    before, after = (_looks(radar.to_power(a)[:, field]) for a in (db, smooth))
    # all 159 dates, VV and VH of two fields: 5.8 and 5.3 times
    assert after / before > 3
    mean = raw["VV"].values[:, ::2, ::2].mean(axis=0)
    steps, kept = np.diff(mean), np.diff(smooth.mean(axis=0))
    strong = np.abs(steps) > 4
    assert 0.55 < (kept[strong] * steps[strong]).sum() / (steps[strong] ** 2).sum() < 0.8
    change = 10 * np.log10(radar.to_power(smooth).mean() / radar.to_power(db).mean())
    assert abs(change) < 0.2


def test_impossible_looks_are_refused():
    with pytest.raises(ValueError, match="0 looks are impossible; give"):
        radar.despeckle(_speckled(), looks=0)


# ---------------------------------------------------------------- pairing

_days = st.lists(st.integers(0, 400), max_size=25)


@given(s1=st.sets(st.integers(0, 400), max_size=25), s2=_days, longest=st.integers(0, 30))
def test_pairing_finds_what_trying_all_finds(s1, s2, longest):
    stamps = EPOCH + np.array(sorted(s1), dtype=int) * np.timedelta64(12, "h")
    times = EPOCH + np.array(s2, dtype=int) * np.timedelta64(12, "h")
    orbit = np.arange(stamps.size) % 2 + 1
    for direction in (None, radar.DESCENDING):
        index, days = radar.pair(stamps, times, longest=longest, orbit=orbit, direction=direction)
        for time, found, distance in zip(times, index, days, strict=True):
            allowed = [i for i in range(stamps.size) if direction in (None, orbit[i])]
            best = min(allowed, key=lambda i: (abs(stamps[i] - time), i), default=-1)
            if best < 0 or abs(stamps[best] - time) > longest * DAY:
                assert found == -1
                assert np.isnan(distance)
            else:
                assert found == best
                assert distance == (stamps[best] - time) / DAY


def test_the_distance_is_above_zero_where_radar_came_later():
    s1 = np.array(["2020-01-01", "2020-01-07"], "datetime64[ns]")
    s2 = np.array(["2020-01-06", "2020-01-04", "2020-01-02"], "datetime64[ns]")
    index, days = radar.pair(s1, s2, longest=6)
    assert index.tolist() == [1, 0, 0]
    assert days.tolist() == [1.0, -3.0, -1.0]


def test_real_dates_are_paired_within_three_days(shared_data):
    raw = xr.open_dataset(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    index, days = radar.pair(raw["time_s1"].values, raw["time"].values, longest=6)
    assert (index >= 0).all()
    assert np.abs(days).max() < 3


def test_what_cannot_be_paired_is_refused():
    s1, s2 = EPOCH + np.array([0, 1, 1]) * DAY, EPOCH + np.arange(2) * DAY
    with pytest.raises(ValueError, match="do not rise; sort them"):
        radar.pair(s1, s2, longest=1)
    with pytest.raises(ValueError, match="direction needs orbit"):
        radar.pair(s1[:2], s2, longest=1, direction=radar.ASCENDING)
    with pytest.raises(ValueError, match="no distance; give days"):
        radar.pair(s1[:2], s2, longest=-1)
