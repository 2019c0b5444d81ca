"""Compound heat and drought: a worked example, the reference's own recipe, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures import extremes
from deepfeatures.simulate.weather import generate

records = hnp.arrays(np.float64, st.integers(1, 120), elements=st.integers(-8, 8).map(float))
flags = hnp.arrays(bool, st.integers(1, 40))
grids = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))


def by_recipe(columns: list[np.ndarray], share: float, middle: float) -> np.ndarray:
    """Rank and flag day by day as DeepExtremes/ExtremeEvents does (src/detection.jl)."""
    ranked = []
    for at, column in enumerate(columns):
        scaled = -column if at == 0 else column
        order = sorted(range(len(scaled)), key=lambda i: scaled[i])  # noqa: B023 (used at once)
        rank = [0.0] * len(scaled)
        for position, day in enumerate(order, start=1):
            rank[day] = position / len(scaled)
        ranked.append(rank)
    bits = []
    for day in range(len(columns[0])):
        found = 0
        for at, rank in enumerate(ranked):
            found |= 2**at if rank[day] < share else 0
        if all(middle < rank[day] < 1 - middle for rank in ranked):
            found |= 2 ** len(ranked)
        bits.append(found)
    return np.array(bits, np.uint8)


def test_a_worked_example():
    # Ten days, a fifth of which is extreme: strictly fewer than 2 of 10 ranks lie below 0.2, so
    # the hottest day and the driest of each index are flagged.
    #            day: 0   1   2   3   4   5   6   7   8   9
    heat = np.array([20, 22, 31, 30, 25, 21, 19, 18, 24, 23], float)
    pei30 = np.array([1, 0, -5, -4, -3, 1, 2, 3, 0.5, 0.7])
    pei90 = np.array([2, 1, -1, -2, -3, -4, 1.5, 3, 2.5, 0.5])
    pei180 = np.array([4, 3, 2, 1, 0, -1, -2, -3, 5, 6], float)
    found = {"heat": heat, "pei_30": pei30, "pei_90": pei90, "pei_180": pei180}
    # Ranks of -heat:   8   6   1   2   3   7   9  10   4   5    (tenths)
    # Ranks of pei30:   7   4   1   2   3   8   9  10   5   6
    # Ranks of pei90:   8   6   4   3   2   1   7  10   9   5
    # Ranks of pei180:  8   7   6   5   4   3   2   1   9  10
    # Below 0.2 (rank 1): heat day 2, pei30 day 2, pei90 day 5, pei180 day 7.
    # All four strictly within 0.2..0.8 (ranks 3 to 7): day 1 only.
    made = extremes.detect(found, share=0.2, middle=0.2)
    #                          0   1   2  3  4  5  6  7  8  9
    assert made.tolist() == [0, 16, 3, 0, 0, 4, 0, 8, 0, 0]
    assert np.flatnonzero(extremes.compound(made)).tolist() == [2]
    # A third is extreme: ranks 1, 2 and 3 of ten are flagged.
    made = extremes.detect(found, share=0.34, middle=0.4)
    #   heat 2 3 4, pei30 2 3 4, pei90 3 4 5, pei180 5 6 7
    assert made.tolist() == [0, 0, 3, 7, 7, 12, 8, 8, 0, 0]
    assert extremes.compound(made).astype(int).tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    labels = extremes.label(extremes.compound(made))
    assert labels.tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    days = np.datetime64("2018-07-01") + np.arange(10)
    (event,) = extremes.table(labels, made, found, days)
    assert (str(event.start), str(event.end), event.days) == ("2018-07-03", "2018-07-05", 3)
    assert event.bits == 7
    assert event.peaks == {"heat": 31.0, "pei_30": -5.0, "pei_90": -3.0, "pei_180": 0.0}


def test_the_water_balance_by_hand():
    rain = np.array([3.0, 0.0, 0.0, 6.0, 0.0, np.nan, 0.0, 0.0, 0.0])
    lost = np.array([1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0])
    made = extremes.water_balance(rain, lost, 3)
    # 2 -2 -3 5 -1 . -1 -2 -3
    expected = [np.nan, np.nan, -1.0, 0.0, 1 / 3, np.nan, np.nan, np.nan, -2.0]
    np.testing.assert_allclose(made, expected, atol=1e-12)
    assert np.isnan(extremes.water_balance(rain[:2], lost[:2], 3)).all()


@given(hnp.arrays(np.float64, (60, 2), elements=st.floats(-20, 20)), st.integers(1, 60))
def test_the_water_balance_is_a_moving_mean(balance, window):
    made = extremes.water_balance(balance, np.zeros_like(balance), window)
    for end in range(window, 61):
        expected = balance[end - window : end].mean(axis=0)
        np.testing.assert_allclose(made[end - 1], expected, atol=1e-9)
    assert np.isnan(made[: window - 1]).all()


@given(records, st.sampled_from([0.01, 0.1, 0.25]), st.randoms(use_true_random=False))
def test_bits_are_those_of_the_reference(heat, share, random):
    columns = [heat, *(np.array(random.sample(list(heat), heat.size)) for _ in range(3))]
    found = dict(zip(("heat", "pei_30", "pei_90", "pei_180"), columns, strict=True))
    made = extremes.detect(found, share=share, middle=0.1)
    assert np.array_equal(made, by_recipe(columns, share, 0.1))
    assert made.dtype == np.uint8


@given(records, st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_the_flagged_share_follows_from_the_percentile(values, share):
    ranked = extremes.ranks(values)
    assert np.array_equal(np.sort(ranked), np.arange(1, values.size + 1) / values.size)
    count = int((ranked < share).sum())
    # strictly fewer than share * n days, and with one more it would not be
    assert count < share * values.size or count == 0
    assert (count + 1) / values.size >= share
    assert count == extremes.flagged(values.size, share)


@pytest.mark.parametrize(("days", "expected"), [(99, 0), (100, 0), (101, 1), (10957, 109)])
def test_the_number_of_flagged_days(days, expected):
    assert extremes.flagged(days) == expected


@given(records)
def test_ranks_do_not_change_under_a_rising_transform(values):
    assert np.array_equal(extremes.ranks(values), extremes.ranks(np.exp(values / 4) * 3 - 7))


@given(hnp.arrays(np.float64, (30, 2, 3), elements=st.floats(-5, 5)))
def test_each_place_has_its_own_record(values):
    values[3, 0, 0] = np.nan
    made = extremes.ranks(values)
    for y in range(2):
        for x in range(3):
            np.testing.assert_array_equal(made[:, y, x], extremes.ranks(values[:, y, x]))


@given(hnp.arrays(np.float64, 50, elements=st.floats(-5, 5)), hnp.arrays(bool, 50))
def test_missing_days_do_not_count(values, gone):
    made = extremes.ranks(np.where(gone, np.nan, values))
    assert np.array_equal(np.isnan(made), gone)
    np.testing.assert_array_equal(made[~gone], extremes.ranks(values[~gone]))


@given(hnp.arrays(np.float64, (40, 2), elements=st.floats(-5, 5), unique=True), st.integers(1, 40))
def test_a_reference_period_ranks_the_others_against_it(values, cut):
    inside = np.arange(40) < cut
    made = extremes.ranks(values, inside)
    assert np.array_equal(made[inside], extremes.ranks(values[inside]))
    for day in np.flatnonzero(~inside):
        for place in range(2):
            share = (values[inside, place] <= values[day, place]).mean()
            assert made[day, place] == pytest.approx(share)
    if cut == 40:
        assert np.array_equal(made, extremes.ranks(values))


def test_a_missing_indicator_is_neither_extreme_nor_normal():
    found = dict.fromkeys(extremes.BITS, np.arange(10.0))
    found.pop("normal")
    found["pei_30"] = np.where(np.arange(10) == 5, np.nan, np.arange(10.0))
    made = extremes.detect(found, share=0.2, middle=0.2)
    assert made[5] == 0
    assert made[4] == extremes.NORMAL


def test_events_by_hand():
    #                  0  1  2  3  4  5  6  7  8  9 10 11 12
    flag = np.array([0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1], bool)
    assert extremes.label(flag).tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    made = extremes.label(flag, gap=1)
    assert made.tolist() == [0, 1, 1, 1, 0, 1, 0, 0, 2, 2, 0, 2, 2]
    assert extremes.label(flag, gap=2).max() == 1
    assert extremes.label(flag, shortest=1).tolist() == [0, 1, 1, 1, 0, 2, 0, 0, 3, 3, 0, 4, 4]
    assert extremes.label(np.zeros(5, bool)).tolist() == [0] * 5
    assert made.dtype == np.uint16


@given(flags, st.integers(0, 3), st.integers(1, 4))
def test_events_are_runs_in_the_order_of_time(flag, gap, shortest):
    made = extremes.label(flag, gap=gap, shortest=shortest)
    assert not made[~flag].any()
    runs: list[list[int]] = []
    for day in np.flatnonzero(flag):
        if runs and day - runs[-1][-1] <= gap + 1:
            runs[-1].append(int(day))
        else:
            runs.append([int(day)])
    expected = np.zeros(flag.size, int)
    for number, run in enumerate([run for run in runs if len(run) >= shortest], start=1):
        expected[run] = number
    assert np.array_equal(made, expected)


@given(flags, flags, st.integers(0, 2))
def test_a_record_may_be_cut_where_nothing_happens(first, second, gap):
    between = np.zeros(gap + 1, bool)
    whole = extremes.label(np.r_[first, between, second], gap=gap, shortest=1)
    left = extremes.label(first, gap=gap, shortest=1)
    right = extremes.label(second, gap=gap, shortest=1).astype(int)
    right[right > 0] += left.max()
    assert np.array_equal(whole, np.r_[left, between, right])


@given(grids, st.integers(0, 1))
def test_events_on_a_grid_join_in_space_and_time(flag, gap):
    made = extremes.label(flag, gap=gap, shortest=1)
    assert np.array_equal(made > 0, flag)
    where = np.argwhere(flag)
    for one in where:
        near = where[(np.abs(where - one).max(axis=1) <= 1)]
        assert len({int(made[tuple(other)]) for other in near}) == 1
    starts = [np.argwhere(made == n)[0][0] for n in range(1, made.max(initial=0) + 1)]
    assert starts == sorted(starts)
    places = flag[:, :1, :1]
    alone = extremes.label(places, gap=gap, shortest=1)
    assert np.array_equal(alone[:, 0, 0], extremes.label(places[:, 0, 0], gap=gap, shortest=1))


def test_an_event_on_a_grid_lasts_as_many_days_as_it_has():
    flag = np.zeros((5, 3, 3), bool)
    flag[1, 0, 0] = flag[2, 1, 1] = flag[3, 2, 2] = True
    flag[0, 2, :] = True
    made = extremes.label(flag, shortest=3)
    # the three pixels of the first day touch nothing of the second but the middle of the third
    assert np.array_equal(np.unique(made), [0, 1])
    assert made[1, 0, 0] == made[3, 2, 2] == 1
    assert not made[0].any()
    found = {"heat": np.where(flag, 35.0, 20.0)}
    days = np.datetime64("2018-07-01") + np.arange(5)
    (event,) = extremes.table(made, flag.astype(np.uint8), found, days)
    assert (event.days, event.places, event.bits) == (3, 3, 1)


def test_more_events_than_numbers_are_refused():
    with pytest.raises(ValueError, match="65536 events"):
        extremes.label(np.tile([True, False], 65536), shortest=1)


def test_thirty_simulated_years():
    weather = generate(7, 1991, 30)
    found = extremes.indicators(weather.temperature_max, weather.precipitation, weather.evaporation)
    made = extremes.detect(found)
    for name, values in found.items():
        count = int(np.isfinite(values).sum())
        bit = int(((made & extremes.BITS[name]) > 0).sum())
        assert bit == extremes.flagged(count), name
        assert np.isfinite(values).sum() == values.size - (
            int(name[4:]) - 1 if name != "heat" else 0
        )
    labels = extremes.label(extremes.compound(made))
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert not labels[~extremes.compound(made)].any()
    assert not np.any((made & extremes.NORMAL > 0) & (made & ~np.uint8(extremes.NORMAL) > 0))
    # heat comes in summer
    month = weather.date[(made & extremes.HEAT) > 0].astype("datetime64[M]").astype(int) % 12 + 1
    assert set(month) <= {5, 6, 7, 8, 9}
