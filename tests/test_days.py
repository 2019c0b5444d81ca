"""Days of acquisition and their mosaics."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from deepfeatures.days import mosaic, solar_day


def test_a_pass_around_utc_midnight_is_one_solar_day():
    times = np.array(["2021-05-03T23:58", "2021-05-04T00:01"], "datetime64[m]")
    assert len(set(solar_day(times, 157.5))) == 1
    assert len(set(solar_day(times, 0.0))) == 2
    assert str(solar_day(times, 157.5)[0]) == "2021-05-04"


@given(st.integers(0, 10**9), st.floats(-180, 180))
def test_the_solar_day_is_at_most_a_day_from_the_utc_day(second, longitude):
    time = np.array([np.datetime64(second, "s")])
    apart = solar_day(time, longitude) - time.astype("datetime64[D]")
    assert abs(int(apart[0].astype(int))) <= 1


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_the_first_value_of_a_day_that_is_there_wins(counts, seed, lazy):
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(len(counts)), counts)
    values = rng.integers(0, 3, (day.size, 2, 3))
    array = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": np.arange(day.size)})
    merged = mosaic(array.chunk(time=1) if lazy else array, day, missing=0)
    for index in range(len(counts)):
        steps = values[day == index]
        expected = np.zeros((2, 3), int)
        for step in steps[::-1]:
            expected = np.where(step != 0, step, expected)
        assert np.array_equal(merged.values[index], expected)
    firsts = np.r_[0, np.cumsum(counts)[:-1]]
    assert np.array_equal(merged["time"].values, firsts)


def test_nan_can_mean_missing_and_type_and_attributes_stay():
    array = xr.DataArray(
        np.array([[1, np.nan], [3, 4]], np.float32), dims=("time", "x"), attrs={"units": "1"}
    )
    merged = mosaic(array, np.array([7, 7]))
    assert merged.values.tolist() == [[1, 4]]
    assert merged.dtype == np.float32
    assert merged.attrs == {"units": "1"}
