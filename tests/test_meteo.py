"""Meteorology: golden numbers of FAO-56, parity with a real table, laws of days and steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures import meteo

MEGAJOULES = meteo.MEGAJOULES
START = np.datetime64("2020-02-27")

temperatures = st.floats(-40, 50)


def days(count: int) -> np.ndarray:
    return START + np.arange(count)


def hours(count: int, first: str = "2020-02-27T00") -> np.ndarray:
    return np.datetime64(first, "s") + np.arange(count) * np.timedelta64(3600, "s")


def test_saturation_follows_the_published_constants_and_other_formulas():
    assert meteo.saturation_vapour_pressure(0.0) == pytest.approx(6.1094)
    # Goff and Gratch 1946, as in the Smithsonian tables; over water
    measured = {-20.0: 1.2540, 10.0: 12.272, 20.0: 23.373, 30.0: 42.430}
    for temperature, pressure in measured.items():
        assert meteo.saturation_vapour_pressure(temperature) == pytest.approx(pressure, rel=4e-3)
        assert meteo.fao_saturation(temperature) == pytest.approx(pressure, rel=8e-3)


@given(temperatures, temperatures)
def test_dew_point_is_the_inverse_and_humidity_keeps_its_range(temperature, other):
    assert meteo.dewpoint(meteo.saturation_vapour_pressure(temperature)) == pytest.approx(
        temperature, abs=1e-9
    )
    low, high = sorted([temperature, other])
    humidity = meteo.relative_humidity(high, low)
    assert 0 < humidity <= 100
    assert meteo.relative_humidity(low, high) == 100
    assert meteo.vapour_pressure_deficit(low, high) == 0
    deficit = meteo.vapour_pressure_deficit(high, low)
    left = meteo.saturation_vapour_pressure(high) * (1 - humidity / 100)
    assert deficit == pytest.approx(left, abs=1e-9)


def test_radiation_of_fao_56():
    # example 8: 20 degrees south on 3 September
    assert meteo.extraterrestrial_radiation(246, -20.0) * MEGAJOULES == pytest.approx(
        32.2, abs=0.05
    )
    # example 18: Brussels on 6 July
    radiation = meteo.extraterrestrial_radiation(187, 50.8) * MEGAJOULES
    assert radiation == pytest.approx(41.09, abs=0.03)
    clear = meteo.clear_sky_radiation(187, 50.8, 100.0) * MEGAJOULES
    assert clear == pytest.approx(30.90, abs=0.03)


def test_polar_night_is_dark_and_the_polar_day_bright():
    assert meteo.extraterrestrial_radiation(355, 80.0) == pytest.approx(0.0, abs=1e-9)
    assert meteo.extraterrestrial_radiation(172, 80.0) > 480
    both = meteo.extraterrestrial_radiation([172, 355], [[80.0], [-80.0]])
    assert both.shape == (2, 2)


@pytest.mark.parametrize(
    ("latitude", "elevation", "day", "expected"),
    [
        (51.0792, 430.0, "2000-01-01", 62.432),
        (51.0792, 430.0, "2000-06-21", 366.477),
        (51.0792, 430.0, "2000-12-20", 59.867),
        (41.8494, 1560.0, "1996-06-21", 378.961),
        (56.0976, 115.0, "2015-01-01", 37.435),
        (39.3232, 275.0, "1999-06-22", 366.003),
    ],
)
def test_clear_sky_equals_the_column_of_a_tower_table(latitude, elevation, day, expected):
    # forest_daily_4sites.parquet, RSO_FAO56, which has three decimals
    number = meteo.day_of_year(np.array([day], "datetime64[D]"))
    assert meteo.clear_sky_radiation(number, latitude, elevation) == pytest.approx(
        expected, abs=6e-4
    )


def test_clear_sky_equals_the_whole_tower_table(shared_data):
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    import pandas as pd

    table = pd.read_parquet(shared_data / "gpp" / "forest_daily_4sites.parquet")
    number = meteo.day_of_year(table["date"].to_numpy().astype("datetime64[D]"))
    made = meteo.clear_sky_radiation(number, table["lat"].to_numpy(), table["elev"].to_numpy())
    np.testing.assert_allclose(made, table["RSO_FAO56"], atol=6e-4)


def test_reference_evapotranspiration_of_brussels():
    # FAO-56, example 18: 6 July, 100 m, 12.3..21.5 degC, 63..84 %, 2.078 m/s, 22.07 MJ m-2 d-1
    vapour = (meteo.fao_saturation(12.3) * 0.84 + meteo.fao_saturation(21.5) * 0.63) / 2
    assert vapour / 10 == pytest.approx(1.409, abs=1e-3)
    made = meteo.penman_monteith(
        temperature_min=12.3,
        temperature_max=21.5,
        vapour_pressure=vapour,
        solar_radiation=22.07 / MEGAJOULES,
        wind_2m=meteo.wind_at_2m(10 / 3.6),
        number=187,
        latitude=50.8,
        elevation=100.0,
    )
    assert made == pytest.approx(3.88, abs=0.01)


def test_the_small_formulas_of_fao_56():
    assert meteo.wind_at_2m(3.2) == pytest.approx(2.4, abs=0.05)  # example 14
    assert meteo.pressure(1800.0) / 10 == pytest.approx(81.8, abs=0.05)  # example 2
    # example 20: Lyon in July; Hargreaves gives 5.0 mm d-1
    assert meteo.hargreaves(14.8, 26.6, 196, 45.72) == pytest.approx(5.03, abs=0.03)


@given(temperatures, st.floats(0, 25), st.floats(0, 400), st.floats(0, 15), st.floats(0.1, 1))
def test_evapotranspiration_is_never_negative_and_grows_with_the_sun(
    low, spread, solar, wind, moist
):
    def made(radiation: float) -> float:
        return float(
            meteo.penman_monteith(
                temperature_min=low,
                temperature_max=low + spread,
                vapour_pressure=meteo.fao_saturation(low) * moist,
                solar_radiation=radiation,
                wind_2m=wind,
                number=172,
                latitude=50.0,
                elevation=200.0,
                surface_pressure=990.0,
            )
        )

    assert 0 <= made(solar) <= made(500.0) + 1e-9


def test_missing_values_stay_missing():
    made = meteo.penman_monteith(
        temperature_min=[10.0, 10.0], temperature_max=[20.0, 20.0], vapour_pressure=[12.0, 12.0],
        solar_radiation=[np.nan, 200.0], wind_2m=2.0, number=180, latitude=50.0, elevation=0.0,
    )  # fmt: skip
    assert np.isnan(made[0])
    assert made[1] > 0


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(24)), elements=temperatures))
def test_days_of_hours(values):
    series = values.ravel()
    time = hours(series.size)
    for statistic in meteo.STATISTICS:
        made_days, made = meteo.daily(series, time, statistic)
        expected = getattr(values, statistic)(axis=1)
        np.testing.assert_allclose(made, expected, atol=1e-9)
        assert np.array_equal(made_days, days(values.shape[0]))


def test_a_flux_of_midnight_belongs_to_the_day_before():
    # a flux of 1 in the hour that ends at 00 UTC of the second day
    time = hours(49, "2020-02-27T00")
    values = np.zeros(49)
    values[24] = 1.0
    made_days, made = meteo.daily(values, time, "sum", ends=True)
    assert made[made_days == np.datetime64("2020-02-27")] == 1.0
    assert made[made_days == np.datetime64("2020-02-28")] == 0.0
    assert np.isnan(made[0]), "the hour before the first midnight is a day without its hours"
    made_days, made = meteo.daily(values, time, "sum")
    assert made[made_days == np.datetime64("2020-02-28")] == 1.0


def test_the_local_day_is_ahead_of_the_utc_day():
    time = hours(72)
    values = np.arange(72.0)
    made_days, made = meteo.daily(values, time, "min", utc_offset=10)
    # local midnight of 28 February is 14 UTC of 27 February
    assert made[made_days == np.datetime64("2020-02-28")] == 14.0
    assert np.isnan(made[0])
    assert np.isnan(made[-1])


def test_a_day_with_a_missing_hour_has_no_value():
    values = np.ones((48, 2))
    values[30, 0] = np.nan
    made = meteo.daily(values, hours(48), "mean")[1]
    assert np.array_equal(np.isnan(made), [[False, False], [True, False]])
    kept = np.r_[0:10, 11:48]
    assert np.isnan(meteo.daily(values[kept], hours(48)[kept], "sum")[1][0]).all()


@given(hnp.arrays(np.float64, 72, elements=st.floats(0, 9).map(lambda v: round(v, 3))))
def test_sums_since_midnight_come_apart(amounts):
    # stamps 01 UTC of the first day to 00 UTC of the fourth
    time = hours(72, "2020-02-27T01")
    sums = np.cumsum(amounts.reshape(3, 24), axis=1).ravel()
    np.testing.assert_allclose(meteo.deaccumulate(sums, time), amounts, atol=1e-9)
    total = meteo.daily(meteo.deaccumulate(sums, time), time, "sum", ends=True)[1]
    np.testing.assert_allclose(total, sums[23::24], atol=1e-9)


def test_sums_without_their_predecessor_are_unknown():
    time = hours(6, "2020-02-27T05")
    made = meteo.deaccumulate(np.arange(6.0), time)
    assert np.isnan(made[0])
    assert np.array_equal(made[1:], np.ones(5))
    broken = meteo.deaccumulate(np.arange(5.0), time[[0, 1, 2, 4, 5]])
    assert np.array_equal(np.isnan(broken), [True, False, False, True, False])


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 2)), elements=temperatures),
    st.integers(1, 7),
)
def test_steps_partition_a_record(values, length):
    starts = days(values.shape[0])[::length]
    made = meteo.steps(values, days(values.shape[0]), starts, length)
    whole = made["count"] == length
    total = np.where(whole, made["sum"], made["mean"] * made["count"])
    np.testing.assert_allclose(total.sum(axis=0), values.sum(axis=0), atol=1e-8)
    assert made["count"].sum() == values.size
    assert np.all(made["min"] <= made["mean"] + 1e-9)
    assert np.all(made["mean"] <= made["max"] + 1e-9)
    assert made["max"].max() == values.max()
    assert np.array_equal(np.isnan(made["sum"]), ~whole)


def test_steps_by_hand():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0, np.nan])
    starts = np.array(["2020-02-27", "2020-03-03", "2020-04-01"], "datetime64[D]")
    made = meteo.steps(values, days(7), starts, length=5)
    np.testing.assert_array_equal(made["mean"], [3.0, 6.0, np.nan])
    np.testing.assert_array_equal(made["min"], [1.0, 6.0, np.nan])
    np.testing.assert_array_equal(made["max"], [5.0, 6.0, np.nan])
    np.testing.assert_array_equal(made["sum"], [np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(made["count"], [4, 1, 0])
    assert meteo.steps(values[3:6], days(3), starts[:1], length=3)["sum"] == 15.0


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="choose from mean, min, max, sum"):
        meteo.daily(np.zeros(2), hours(2), "median")
    with pytest.raises(ValueError, match="do not rise"):
        meteo.steps(np.zeros(2), np.array([START, START]), days(1))
