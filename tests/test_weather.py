"""Weather of a place: gridded stores by path and URL, tables of stations, what is derived."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from deepfeatures import extremes, meteo, rasters, weather
from deepfeatures.bands import VARIABLES
from deepfeatures.weather import grids, sources
from deepfeatures.weather.record import Series, accumulation

PLACE = {"lat": 50.82, "lon": 3.02}
PERIOD = {"start": "2020-06-02", "end": "2020-06-05"}
HOURS = np.datetime64("2020-06-01T00", "ns") + np.arange(24 * 7) * np.timedelta64(1, "h")


def truth() -> dict[str, np.ndarray]:
    """Hourly weather of one place in physical units; fluxes of the hour that ends."""
    rng = np.random.default_rng(3)
    hour = np.arange(HOURS.size) % 24
    sun = np.maximum(np.sin((hour - 5) / 16 * np.pi), 0) * np.where(
        (hour > 5) & (hour < 21), 700, 0
    )
    return {
        "t2m": 288 + 6 * np.sin((hour - 9) / 24 * 2 * np.pi) + rng.normal(0, 0.3, hour.size),
        "d2m": 281 + rng.normal(0, 0.3, hour.size),
        "tp": np.where(rng.random(hour.size) > 0.8, rng.gamma(1, 5e-4, hour.size), 0.0),
        "ssrd": sun * 3600.0,
        "u10": 3 * np.cos(hour / 24 * 2 * np.pi),
        "v10": 3 * np.sin(hour / 24 * 2 * np.pi),
        "sp": 101000 + rng.normal(0, 50, hour.size),
        "pev": -np.maximum(sun, 5) * 3600 / 2.45e9,
    }


UNITS = {
    "t2m": "K", "d2m": "K", "tp": "m", "ssrd": "J m**-2", "u10": "m s**-1", "v10": "m s**-1",
    "sp": "Pa", "pev": "m",
}  # fmt: skip


def era5(
    *,
    land: bool = False,
    west: bool = True,
    names: dict[str, str] | None = None,
    time: str = "time",
) -> xr.Dataset:
    """Build a small ERA5 as it comes: latitude falling, each value growing eastwards."""
    lat = np.array([51.25, 51.0, 50.75, 50.5])
    lon = np.arange(2.0, 4.1, 0.25) + (0 if west else 360)
    values = truth()
    if land:
        # stamps 00 UTC hold the whole day before
        for name in ("tp", "ssrd", "pev"):
            first, rest = values[name][:1], values[name][1:]
            sums = [np.cumsum(rest[i : i + 24]) for i in range(0, rest.size, 24)]
            values[name] = np.r_[first, np.concatenate(sums)]
    ramp = np.broadcast_to(1 + (np.arange(9) - 4) * 1e-3, (4, 9))
    return xr.Dataset(
        {
            (names or {}).get(name, name): (
                (time, "latitude", "longitude"),
                series[:, None, None] * ramp,
                {"units": UNITS[name]},
            )
            for name, series in values.items()
        },
        coords={time: HOURS, "latitude": lat, "longitude": lon},
    )


def expected() -> dict[str, np.ndarray]:
    """Daily drivers of 2 to 5 June, written out without the code under test."""
    t = {name: series * (1 - 4e-3 + (3.02 - 2) / 0.25 * 1e-3) for name, series in truth().items()}
    day = [slice(24 * d, 24 * d + 24) for d in range(1, 5)]
    ending = [slice(24 * d + 1, 24 * d + 25) for d in range(1, 5)]
    speed = np.hypot(t["u10"], t["v10"])
    return {
        "temperature_mean": np.array([t["t2m"][d].mean() - 273.15 for d in day]),
        "temperature_min": np.array([t["t2m"][d].min() - 273.15 for d in day]),
        "temperature_max": np.array([t["t2m"][d].max() - 273.15 for d in day]),
        "dewpoint": np.array([t["d2m"][d].mean() - 273.15 for d in day]),
        "precipitation": np.array([t["tp"][d].sum() * 1000 for d in ending]),
        "solar_radiation": np.array([t["ssrd"][d].sum() / 86400 for d in ending]),
        "potential_evaporation": np.array([-t["pev"][d].sum() * 1000 for d in ending]),
        "surface_pressure": np.array([t["sp"][d].mean() / 100 for d in day]),
        "wind_speed": np.array([speed[d].mean() for d in day]),
    }


def check(ds: xr.Dataset, rtol: float = 1e-5) -> None:
    for name, values in expected().items():
        np.testing.assert_allclose(ds[name], values, rtol=rtol, atol=1e-4, err_msg=name)


FAIL: list[str] = []
"""Paths that the server answers with an error, once each."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weather") / "era5.zarr"
    era5().chunk({"time": 48, "latitude": 2, "longitude": 3}).to_zarr(
        path, zarr_format=3, consolidated=False
    )
    return path


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder over HTTP, note what was asked for, and fail where ``FAIL`` lists it."""
    asked: list[str] = []
    FAIL.clear()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path in FAIL:
                FAIL.remove(self.path)
                self.send_error(503)
                return
            super().do_GET()

        def log_request(self, code="-", size="-"):
            asked.append(f"{self.command} {self.path} {int(code)}")

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()
        thread.join()


def test_hourly_era5_becomes_days_of_the_contract(store):
    ds = weather.read(str(store), **PLACE, **PERIOD, elevation=20.0)
    check(ds)
    assert [str(t)[:10] for t in ds["time_meteo"].values] == [
        "2020-06-02", "2020-06-03", "2020-06-04", "2020-06-05",
    ]  # fmt: skip
    for name, array in ds.data_vars.items():
        assert array.dims == ("time_meteo",)
        assert array.dtype == np.float32
        assert (array.attrs["units"], array.attrs["long_name"]) == VARIABLES[str(name)]
        assert array.attrs["comment"]
    assert "Copernicus Climate Change Service information 2020" in ds.attrs["attribution"]
    assert "bilinear between cells: latitude 51 and 50.75" in ds.attrs["source"]
    assert json.loads(ds.attrs["missing_days"]) == {}
    assert {"clear_sky_radiation", "reference_evapotranspiration", "vapour_pressure"} <= set(ds)
    assert "Penman-Monteith" in ds["reference_evapotranspiration"].attrs["comment"]


def test_humidity_of_hours_is_averaged_over_the_day(store):
    ds = weather.read(str(store), **PLACE, **PERIOD)
    t = {name: series * (1 - 4e-3 + (3.02 - 2) / 0.25 * 1e-3) for name, series in truth().items()}
    # the formula of the reference: 610.94 exp(17.625 T / (T + 243.04)) Pa
    saturation, actual = (
        6.1094 * np.exp(17.625 * (t[k] - 273.15) / (t[k] - 273.15 + 243.04)) for k in ("t2m", "d2m")
    )
    deficit = (saturation - actual).reshape(7, 24).mean(axis=1)[1:5]
    humidity = (100 * actual / saturation).reshape(7, 24).mean(axis=1)[1:5]
    np.testing.assert_allclose(ds["vapour_pressure_deficit"], deficit, rtol=1e-5)
    np.testing.assert_allclose(ds["relative_humidity"], humidity, rtol=1e-5)
    assert "clear_sky_radiation" not in ds
    assert "Hargreaves" in ds["reference_evapotranspiration"].attrs["comment"]


@pytest.mark.parametrize("land", [False, True])
@pytest.mark.parametrize("said", [None, True])
def test_amounts_of_era5_and_era5_land_give_the_same_days(tmp_path, land, said):
    path = tmp_path / "weather.nc"
    era5(land=land).to_netcdf(path)
    way = None if said is None else ("day" if land else "interval")
    ds = weather.read(str(path), **PLACE, **PERIOD, accumulated=way)
    check(ds, rtol=1e-4)
    assert ("taken apart" in ds["precipitation"].attrs["comment"]) is land


def test_the_wrong_word_about_amounts_gives_other_numbers(store):
    right = weather.read(str(store), **PLACE, **PERIOD)
    wrong = weather.read(str(store), **PLACE, **PERIOD, accumulated="day")
    assert not np.allclose(right["solar_radiation"], wrong["solar_radiation"])
    with pytest.raises(ValueError, match="say 'interval' or 'day'"):
        weather.read(str(store), **PLACE, **PERIOD, accumulated="hour")


def test_values_may_leave_open_what_amounts_are():
    def fluxes(value: float) -> list[Series]:
        return [Series("pev", sources.SOURCES["pev"], "m", np.full(48, value))]

    with pytest.raises(ValueError, match="say accumulated="):
        accumulation(HOURS[:48], fluxes(-1e-4))
    assert accumulation(HOURS[:48], fluxes(0.0)) == "interval"
    assert accumulation(HOURS[:48], []) == "interval"


def test_layouts_and_names_do_not_matter(tmp_path):
    long = {
        "t2m": "2m_temperature", "d2m": "2m_dewpoint_temperature", "tp": "total_precipitation",
        "ssrd": "surface_solar_radiation_downwards", "u10": "10m_u_component_of_wind",
        "v10": "10m_v_component_of_wind", "sp": "surface_pressure", "pev": "potential_evaporation",
    }  # fmt: skip
    made = {
        "v2": era5(names=long).sortby("latitude"),
        "east": era5(west=False, time="valid_time").assign_coords(number=0),
        "turned": era5()
        .transpose("longitude", "time", "latitude")
        .rename(latitude="lat", longitude="lon"),
    }
    made["v2"].to_zarr(tmp_path / "v2.zarr", zarr_format=2, consolidated=True)
    made["east"].to_zarr(tmp_path / "east.zarr", zarr_format=3, consolidated=False)
    made["turned"].to_netcdf(tmp_path / "turned.nc")
    for name in ("v2.zarr", "east.zarr", "turned.nc"):
        check(weather.read(str(tmp_path / name), **PLACE, **PERIOD))


def test_the_nearest_cell_and_cells_without_a_value(tmp_path, store):
    ds = weather.read(str(store), lat=50.82, lon=3.02, **PERIOD, nearest=True)
    plain = truth()["t2m"].reshape(7, 24).mean(axis=1)[1:5] - 273.15
    np.testing.assert_allclose(ds["temperature_mean"], plain, rtol=1e-5)
    assert "nearest cell: latitude 50.75, longitude 3" in ds.attrs["source"]
    sea = era5()
    sea["t2m"].loc[{"latitude": 50.75, "longitude": 3.0}] = np.nan
    sea.to_netcdf(tmp_path / "sea.nc")
    shore = weather.read(str(tmp_path / "sea.nc"), **PLACE, **PERIOD)
    assert np.isfinite(shore["temperature_mean"]).all()


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_url_gives_the_same_and_only_the_cells_are_fetched(tmp_path, server):
    url, asked = server
    # each cell and each four days in a chunk of its own
    coded = {name: {"chunks": (96, 1, 1)} for name in UNITS}
    era5().to_zarr(tmp_path / "era5.zarr", zarr_format=3, encoding=coded, consolidated=True)
    check(weather.read(f"{url}/era5.zarr", **PLACE, **PERIOD))
    found = [line.split()[1] for line in asked if "/t2m/c/" in line and line.endswith("200")]
    # two by two cells (rows 1, 2; columns 4, 5) of the 36
    assert {line.split("/c/")[1].partition("/")[2] for line in found} == {
        "1/4",
        "1/5",
        "2/4",
        "2/5",
    }


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_url_is_tried_again(tmp_path, server, monkeypatch):
    url, _ = server
    monkeypatch.setattr(rasters, "PAUSE", 0.01)
    era5().to_zarr(tmp_path / "era5.zarr", zarr_format=3, consolidated=True)
    FAIL.extend(["/era5.zarr/zarr.json", "/era5.zarr/t2m/c/0/0/0"])
    check(weather.read(f"{url}/era5.zarr", **PLACE, **PERIOD))
    assert FAIL == []
    FAIL.extend(["/era5.zarr/t2m/c/0/0/0"] * rasters.ATTEMPTS)
    with pytest.raises(OSError, match=r"era5.zarr cannot be read \(503"):
        weather.read(f"{url}/era5.zarr", **PLACE, **PERIOD)
    with pytest.raises(ValueError, match="check what it is"):
        weather.read(f"{url}/nothing.zarr", **PLACE, **PERIOD)


def test_a_netcdf_file_by_url(tmp_path, server, monkeypatch):
    url, _ = server
    era5().to_netcdf(tmp_path / "era5.nc")
    check(weather.read(f"{url}/era5.nc", **PLACE, **PERIOD))
    monkeypatch.setattr(grids, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match="fetched whole"):
        weather.read(f"{url}/era5.nc", **PLACE, **PERIOD)


def test_whole_maps_are_not_fetched_for_one_place(store, monkeypatch):
    monkeypatch.setattr(grids, "LARGEST_READ", 1000)
    with pytest.raises(ValueError, match="chunked along time"):
        weather.read(str(store), **PLACE, **PERIOD)


def test_the_local_day(store):
    ds = weather.read(str(store), **PLACE, **PERIOD, utc_offset=6)
    t = truth()["t2m"] * (1 - 4e-3 + (3.02 - 2) / 0.25 * 1e-3) - 273.15
    # the local day of 2 June starts at 18 UTC of 1 June
    assert float(ds["temperature_max"][0]) == pytest.approx(t[18:42].max(), abs=1e-3)
    rain = truth()["tp"] * (1 - 4e-3 + (3.02 - 2) / 0.25 * 1e-3) * 1000
    assert float(ds["precipitation"][0]) == pytest.approx(rain[19:43].sum(), abs=1e-4)
    assert np.isfinite(ds["precipitation"]).all()


def test_missing_days_are_counted(store, tmp_path):
    late = weather.read(str(store), **PLACE, start="2020-06-05", end="2020-06-10")
    missing = json.loads(late.attrs["missing_days"])
    assert missing["temperature_mean"] == 3
    # the last hour of 7 June ends on the 8th, which the source does not have
    assert missing["precipitation"] == 4
    assert np.isnan(late["temperature_mean"].values[-3:]).all()


def test_daily_products_are_told_by_name_or_method(tmp_path):
    days = HOURS[::24]
    grid = {"latitude": [51.0, 50.5], "longitude": [3.0, 3.5]}
    shape = (7, 2, 2)
    ds = xr.Dataset(
        {
            "Temperature_Air_2m_Max_24h": (("time", *grid), np.full(shape, 300.0), {"units": "K"}),
            "t2m": (("time", *grid), np.full(shape, 283.15),
                    {"units": "K", "cell_methods": "time: minimum (interval: 1 hour)"}),
            "Solar_Radiation_Flux": (("time", *grid), np.full(shape, 86400.0 * 200)),
            "total_precipitation_sum": (("time", *grid), np.full(shape, 0.004), {"units": "m"}),
            "Vapour-Pressure-Mean": (("time", *grid), np.full(shape, 11.0), {"units": "hPa"}),
        },
        coords={"time": days, **grid},
    )  # fmt: skip
    ds.to_netcdf(tmp_path / "days.nc")
    made = weather.read(str(tmp_path / "days.nc"), lat=50.7, lon=3.2, **PERIOD, elevation=0.0)
    wanted = {
        "temperature_max": 26.85, "temperature_min": 10.0, "solar_radiation": 200.0,
        "precipitation": 4.0, "vapour_pressure": 11.0,
    }  # fmt: skip
    for name, value in wanted.items():
        np.testing.assert_allclose(made[name], value, rtol=1e-5)
    saturation = (
        meteo.saturation_vapour_pressure(26.85) + meteo.saturation_vapour_pressure(10)
    ) / 2
    np.testing.assert_allclose(made["vapour_pressure_deficit"], saturation - 11.0, rtol=1e-5)
    # no wind, so no Penman-Monteith
    assert "Hargreaves" in made["reference_evapotranspiration"].attrs["comment"]


def test_the_belgian_cube_is_a_source(shared_data):
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    ds = weather.read(
        str(path), lat=50.816, lon=3.024, start="2017-08-01", end="2018-11-30", elevation=20.0
    )
    with xr.open_dataset(path) as raw:
        for source in [name for name in raw.data_vars if str(name).startswith("agera5_")]:
            driver = weather.SOURCES[str(source)]
            values = raw[source].values.astype(float) * driver.scale + driver.shift
            np.testing.assert_allclose(ds[driver.name], values, rtol=1e-5, atol=1e-3)
    assert json.loads(ds.attrs["missing_days"]) == {}
    # nearly cloudless days come close to the clear sky, and none is above it
    ratio = (ds["solar_radiation"] / ds["clear_sky_radiation"]).values
    assert 0.85 < np.quantile(ratio, 0.98) < ratio.max() < 1.05
    # July 2018 was dry and sunny; example 18 of FAO-56 has 3.9 mm d-1 for a July day near there
    july = ds["reference_evapotranspiration"].sel(time_meteo="2018-07")
    assert 3.5 < float(july.mean()) < 6.0
    # vapour pressure of the file against that of its dew point
    dew = meteo.saturation_vapour_pressure(ds["dewpoint"].values)
    assert np.corrcoef(dew, ds["vapour_pressure"].values)[0, 1] > 0.98
    found = extremes.indicators(
        ds["temperature_max"].values,
        ds["precipitation"].values,
        ds["reference_evapotranspiration"].values,
    )
    hot = extremes.detect(found) & extremes.HEAT
    assert int((hot > 0).sum()) == extremes.flagged(487) == 4


def test_our_own_weather_is_a_source(tmp_path, store):
    first = weather.read(str(store), **PLACE, **PERIOD, elevation=20.0)
    first.to_netcdf(tmp_path / "own.nc")
    again = weather.read(str(tmp_path / "own.nc"), **PLACE, **PERIOD, elevation=20.0)
    for name in first.data_vars:
        np.testing.assert_allclose(again[name], first[name], rtol=1e-5, err_msg=str(name))
    assert again.attrs["attribution"] == first.attrs["attribution"]


FLUXNET = """TIMESTAMP,TA_F,TA_F_QC,VPD_F,SW_IN_F,P_F,WS_F,PA_F,TA,GPP_NT_VUT_REF
20200601,15.5,1,5.1,250.0,0.0,2.1,97.1,99,8.0
20200602,16.5,1,-9999,260.0,3.5,2.2,97.2,99,8.1
20200604,17.5,0.9,6.2,270.0,-9999,2.3,97.3,99,8.2
"""


def test_a_fluxnet_table(tmp_path):
    path = tmp_path / "FLX_DE-Xxx_FLUXNET2015_SUBSET_DD.csv"
    path.write_text(FLUXNET)
    ds = weather.read(
        str(path), lat=51.0, lon=10.0, start="2020-06-01", end="2020-06-04", elevation=430.0
    )
    np.testing.assert_array_equal(ds["temperature_mean"], np.float32([15.5, 16.5, np.nan, 17.5]))
    np.testing.assert_array_equal(ds["precipitation"], np.float32([0.0, 3.5, np.nan, np.nan]))
    np.testing.assert_allclose(ds["surface_pressure"], [971, 972, np.nan, 973])
    np.testing.assert_allclose(ds["vapour_pressure_deficit"], [5.1, np.nan, np.nan, 6.2])
    vapour = meteo.saturation_vapour_pressure(15.5) - 5.1
    assert float(ds["vapour_pressure"][0]) == pytest.approx(vapour, rel=1e-5)
    missing = json.loads(ds.attrs["missing_days"])
    assert (missing["temperature_mean"], missing["precipitation"]) == (1, 2)
    assert "FLUXNET" in ds.attrs["licence"]
    assert ds["clear_sky_radiation"].notnull().all()


def test_units_stand_in_names_in_a_line_or_in_an_argument(tmp_path):
    inline = (
        "date;Tmax [°C];rain (mm);sun [MJ/m2/day]\n2020-06-02;20,5;1,5;20\n2020-06-03;21;0;25\n"
    )
    second = (
        "date,tmax,rain,sun\n"
        "-,K,mm d-1,J m-2\n"
        "2020-06-02,293.65,1.5,2e7\n"
        "2020-06-03,294.15,0,2.5e7\n"
    )
    argument = (
        "# a station\ndate\ttmax\train\tsun\n2020-06-02\t20.5\t1.5\t20\n2020-06-03\t21\t0\t25\n"
    )
    plain = {"tmax": "temperature_max", "rain": "precipitation", "sun": "solar_radiation"}
    columns = {
        "inline": {"Tmax": "temperature_max", "rain": "precipitation", "sun": "solar_radiation"},
        "second": plain,
        "argument": plain | {"sun": "solar_radiation [MJ/m2]"},
    }
    for name, text in (("inline", inline), ("second", second), ("argument", argument)):
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        ds = weather.read(
            str(path), **PLACE, start="2020-06-02", end="2020-06-03", columns=columns[name]
        )
        np.testing.assert_allclose(ds["temperature_max"], [20.5, 21.0], rtol=1e-5)
        np.testing.assert_allclose(ds["precipitation"], [1.5, 0.0])
        np.testing.assert_allclose(ds["solar_radiation"], [20 / 0.0864, 25 / 0.0864], rtol=1e-5)


def test_units_of_a_table_are_believed(tmp_path):
    path = tmp_path / "station.csv"
    path.write_text("date,TA [K],P [mm],PA\nday,,,\n2020-06-02,290.15,2,97\n")
    path.write_text("date,TA [K],P [mm],PA\n2020-06-02,290.15,2,97\n")
    ds = weather.read(str(path), **PLACE, start="2020-06-02", end="2020-06-02")
    assert float(ds["temperature_mean"][0]) == pytest.approx(17.0, abs=1e-4)
    assert float(ds["surface_pressure"][0]) == 970.0


def test_half_hours_of_a_tower():
    time = pd.date_range("2020-06-01", periods=96, freq="30min")
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "TIMESTAMP_START": time.strftime("%Y%m%d%H%M"),
            "TA_F": rng.normal(15, 4, 96),
            "P_F": rng.gamma(0.1, 1, 96),
            "SW_IN_F": rng.uniform(0, 800, 96),
        }
    )
    ds = weather.from_table(frame, lat=51.0, lon=10.0)
    by_day = {name: frame[name].to_numpy().reshape(2, 48) for name in ("TA_F", "P_F", "SW_IN_F")}
    np.testing.assert_allclose(ds["temperature_max"], by_day["TA_F"].max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(ds["temperature_mean"], by_day["TA_F"].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(ds["precipitation"], by_day["P_F"].sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(ds["solar_radiation"], by_day["SW_IN_F"].mean(axis=1), rtol=1e-5)


def test_a_table_of_several_towers_needs_one():
    frame = pd.DataFrame(
        {"date": ["2020-06-01", "2020-06-01"], "site": ["A", "B"], "TA": [1.0, 2.0]}
    )
    with pytest.raises(ValueError, match="do not rise"):
        weather.from_table(frame, lat=51.0, lon=10.0)
    one = weather.from_table(frame[frame["site"] == "B"], lat=51.0, lon=10.0)
    assert float(one["temperature_mean"][0]) == 2.0


@given(
    st.floats(-89, 89), st.floats(-180, 359.99), st.booleans(), st.booleans(), st.integers(4, 40)
)
def test_a_plane_is_kept_by_bilinear_weights_on_any_axis(lat, lon, falling, east, count):
    latitudes = np.linspace(-90, 90, count + 1)[:: -1 if falling else 1]
    index, weight = grids.neighbours(latitudes, lat)
    assert weight.sum() == pytest.approx(1)
    assert (weight * latitudes[index]).sum() == pytest.approx(lat, abs=1e-6)
    longitudes = np.arange(0, 360, 360 / count) - (0 if east else 180)
    index, weight = grids.neighbours(longitudes, lon, around=True)
    circle = np.exp(1j * np.radians(longitudes[index]))
    away = (np.degrees(np.angle(circle / np.exp(1j * np.radians(lon)))) * weight).sum()
    assert away == pytest.approx(0, abs=1e-6)
    assert np.all(np.diff(index) > 0)


def test_a_place_outside_of_a_regional_grid_has_no_cell():
    axis = np.arange(0.0, 10.1, 0.5)
    assert grids.neighbours(axis, 10.2)[0].tolist() == [20]
    assert grids.neighbours(axis, 10.3)[0].size == 0
    assert grids.neighbours(axis, 200.0, around=True)[0].size == 0
    assert grids.neighbours(axis, -0.2, around=True)[0].tolist() == [0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("m s**-1", "m s-1"), ("m/s", "m s-1"), ("W/m^2", "W m-2"), ("W m**-2", "W m-2"),
        ("J m-2 day-1", "J m-2 d-1"), ("MJ/m2/day", "MJ m-2 d-1"), ("kelvin", "K"), ("C", "degC"),
        ("mm/day", "mm d-1"), ("m of water equivalent", "m"), ("kg m**-2 s**-1", "kg m-2 s-1"),
        ("hPa", "hPa"), ("percent", "%"), ("(0 - 1)", "1"),
    ],
)  # fmt: skip
def test_spellings_of_units(written, meant):
    assert sources.canonical(written) == meant


def test_every_source_has_units_that_are_known():
    for name, driver in {**weather.SOURCES, **weather.STATION}.items():
        assert np.isfinite(driver.scale + driver.shift), name
    assert weather.SOURCES["pev"].scale == -1000
    assert weather.SOURCES["era5_t2m_max"].name == "temperature_max"
    assert weather.SOURCES["agera5_solar_radiation_flux"].scale == 1 / 86400


def test_wrong_units_are_loud(tmp_path):
    kelvin = era5()
    kelvin["t2m"].attrs["units"] = "degC"
    kelvin.to_netcdf(tmp_path / "kelvin.nc")
    with pytest.raises(ValueError, match="which the Earth does not have"):
        weather.read(str(tmp_path / "kelvin.nc"), **PLACE, **PERIOD)
    kelvin["t2m"].attrs["units"] = "furlong"
    kelvin.to_netcdf(tmp_path / "furlong.nc")
    with pytest.raises(ValueError, match="'furlong' are not known for 'temperature_mean'"):
        weather.read(str(tmp_path / "furlong.nc"), **PLACE, **PERIOD)
    told = {"t2m": "temperature_mean [K]"}
    check(weather.read(str(tmp_path / "furlong.nc"), **PLACE, **PERIOD, columns=told))


def test_errors_say_what_to_do(tmp_path, store):
    read = functools.partial(weather.read, **PLACE, **PERIOD)
    with pytest.raises(FileNotFoundError, match="check the path"):
        read(str(tmp_path / "none.zarr"))
    with pytest.raises(FileNotFoundError, match="no table"):
        read(str(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match="GRIB, which is not read"):
        read("era5.grib")
    with pytest.raises(ValueError, match="outside of"):
        weather.read(str(store), lat=10.0, lon=3.0, **PERIOD)
    with pytest.raises(ValueError, match="is no place"):
        weather.read(str(store), lat=95.0, lon=3.0, **PERIOD)
    with pytest.raises(ValueError, match="it holds 2020-06-01 to 2020-06-07"):
        weather.read(str(store), **PLACE, start="2021-01-01", end="2021-02-01")
    with pytest.raises(ValueError, match="swap the two"):
        weather.read(str(store), **PLACE, start="2021-01-01", end="2020-02-01")
    with pytest.raises(ValueError, match="write them as YYYY-MM-DD"):
        weather.read(str(store), **PLACE, start="yesterday", end="2020-02-01")
    with pytest.raises(ValueError, match="is no variable"):
        read(str(store), columns={"t2m": "valid [1]"})
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(ValueError, match="cannot be read as NetCDF"):
        read(str(tmp_path / "text.nc"))
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="cannot be read as NetCDF or Zarr"):
        read(str(tmp_path / "empty.zarr"))
    xr.Dataset({"sst": ("time", [1.0])}, coords={"time": HOURS[:1]}).to_netcdf(tmp_path / "sst.nc")
    with pytest.raises(ValueError, match="no known weather variable"):
        read(str(tmp_path / "sst.nc"))
    era5().isel(time=slice(0, None, 72)).to_netcdf(tmp_path / "sparse.nc")
    with pytest.raises(ValueError, match="every 3 days"):
        read(str(tmp_path / "sparse.nc"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("date,TA\n", "no rows"),
        ("when,TA\n2020-06-02,1\n", "no column with dates"),
        ("date,foo\n2020-06-02,1\n", "no known weather column"),
        ("date,TA\n2020-06-02,warm\n", "holds words"),
        ("date,TA\n02.06.2020,1\n", "write YYYY-MM-DD"),
        ("date,TA\n2020-06-02,290\n", "which the Earth does not have"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, sentence):
    path = tmp_path / "station.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        weather.read(str(path), **PLACE, **PERIOD)
