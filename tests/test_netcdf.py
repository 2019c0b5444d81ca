"""NetCDF cubes of others under the contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from deepfeatures import contract, netcdf
from deepfeatures.bands import VARIABLES

BELGIUM = "be_31UDS_s2s1_2017-2018_10m.nc"
TANZANIA = "tza_37MBS_s2s1_2019-2021_20m.nc"
SWEDEN = "minicube_34VCL_sweden_forest.nc"
CHILE = "terramesh_433D_629L_3_1_s2l2a_s1rtc_lulc.nc"


def _raw(path: Path) -> xr.Dataset:
    with xr.open_dataset(path, mask_and_scale=False) as raw:
        return raw.load()


def _numbers(reflectance: xr.DataArray) -> np.ndarray:
    """Turn reflectance back into digital numbers, NaN into 0."""
    return np.nan_to_num(np.round(reflectance.values.astype(float) * 1e4)).astype(int)


@pytest.fixture(scope="module")
def belgium(shared_data):
    return netcdf.read(shared_data / "s2" / BELGIUM), _raw(shared_data / "s2" / BELGIUM)


@pytest.fixture(scope="module")
def tanzania(shared_data):
    return netcdf.read(shared_data / "s2" / TANZANIA), _raw(shared_data / "s2" / TANZANIA)


def test_the_belgian_cube_keeps_every_digital_number(belgium):
    ds, raw = belgium
    assert contract.check(ds) is ds
    assert ds["reflectance"].shape == (118, 10, 64, 64)
    assert ds["reflectance"].chunks, "the cube must be lazy"
    for band in contract.channels(ds):
        assert np.array_equal(_numbers(ds["reflectance"].sel(band=band)), raw[band].values), band
    assert np.array_equal(np.isnan(ds["reflectance"].sel(band="B02")), raw["B02"] == 0)
    assert np.array_equal(ds["scl"], raw["SCL"])
    assert np.array_equal(ds["valid"], 1 - raw["cloud_mask"])
    assert np.array_equal(ds["time"], raw["time"])
    assert str(contract.crs(ds)) == "EPSG:32631"


def test_weather_has_the_units_of_the_contract(belgium):
    ds, raw = belgium
    kelvin = raw["agera5_temperature_mean"].values.astype(float)
    np.testing.assert_allclose(ds["temperature_mean"], kelvin - 273.15, atol=1e-4)
    watts = raw["agera5_solar_radiation_flux"].values.astype(float) / 86400
    np.testing.assert_allclose(ds["solar_radiation"], watts, rtol=1e-6)
    for source, (name, _, _) in netcdf.WEATHER.items():
        assert ds[name].dims == ("time_meteo",), source
        assert (ds[name].attrs["units"], ds[name].attrs["long_name"]) == VARIABLES[name]
    # July 2018 in Flanders: about 21 degC and 260 W m-2
    july = ds.sel(time_meteo="2018-07")
    assert 18 < float(july["temperature_mean"].mean()) < 24
    assert 200 < float(july["solar_radiation"].mean()) < 320


def test_radar_angles_ground_and_labels_come_along(belgium):
    ds, raw = belgium
    assert ds["backscatter"].dims == ("time_s1", "polarisation", "y", "x")
    for name in ("VV", "VH"):
        missing = raw[name].values == 0
        expected = np.where(missing, np.nan, raw[name].values * 1e-4)
        np.testing.assert_allclose(ds["backscatter"].sel(polarisation=name), expected, atol=1e-5)
    assert set(ds["orbit"].values) == {1}
    assert ds["orbit"].attrs["flag_meanings"].split()[1] == "ascending"
    assert np.array_equal(ds["elevation"], raw["dem"])
    for name in ("label_LC", "label_CT", "label_IRR"):
        assert np.array_equal(ds[name], raw[name])
    for name in netcdf.ANGLES:
        assert np.array_equal(ds[name], raw[name])


def test_provenance_names_source_licence_and_years(belgium):
    attrs = belgium[0].attrs
    assert "Copernicus Sentinel data 2017-2018" in attrs["attribution"]
    assert "(c) 2023 ESA WorldCereal" in attrs["attribution"]
    assert "Copernicus Climate Change Service" in attrs["attribution"]
    assert attrs["licence"].startswith("MIT")
    assert "WorldCereal/worldcereal-classification" in attrs["source"]
    assert any("netcdf.read" in step for step in json.loads(attrs["processing"]))
    assert attrs["time_coverage_start"] == "2017-08-04"


def test_the_two_double_days_of_tanzania_are_mosaicked(tanzania):
    ds, raw = tanzania
    days = raw["time"].values.astype("datetime64[D]")
    assert ds.sizes["time"] == 134 == np.unique(days).size
    assert str(contract.crs(ds)) == "EPSG:32737"
    first = np.searchsorted(days, ds["time"].values.astype("datetime64[D]"))
    for band in contract.channels(ds):
        expected = raw[band].values[first]
        for later in np.setdiff1d(np.arange(days.size), first):
            step = np.searchsorted(first, later) - 1
            gaps = expected[step] == 0
            expected[step][gaps] = raw[band].values[later][gaps]
        assert np.array_equal(_numbers(ds["reflectance"].sel(band=band)), expected), band
    assert any("2 acquisitions mosaicked" in step for step in json.loads(ds.attrs["processing"]))


def test_a_minicube_in_degrees_is_put_on_a_utm_grid_by_nearest_neighbour(shared_data):
    ds, raw = netcdf.read(shared_data / "s2" / SWEDEN), _raw(shared_data / "s2" / SWEDEN)
    assert ds.sizes["time"] == int((raw["s2_avail"] == 1).sum()) == 27
    assert contract.channels(ds) == ["B02", "B03", "B04", "B8A"]
    assert contract.geobox(ds).resolution.x == 20
    there = np.flatnonzero(raw["s2_avail"].values == 1)
    fields = raw["s2_B04"].attrs
    source = raw["s2_B04"].values[there].astype(float)
    source = source * fields["scale_factor"] + fields["add_offset"]
    found = ds["reflectance"].sel(band="B04").values
    # nearest neighbour makes no new value, and the middle is covered
    assert np.isin(np.unique(found[np.isfinite(found)]), np.unique(source.astype("f4"))).all()
    assert np.isfinite(found[:, 50:90, 50:90]).mean() > 0.5
    assert set(np.unique(ds["label_GEOMORPHON"])) <= set(range(11))
    assert any("nearest" in step for step in json.loads(ds.attrs["processing"]))


def test_a_single_date_needs_its_day_and_may_need_an_offset(shared_data):
    path = shared_data / "s2" / CHILE
    with pytest.raises(ValueError, match=r"no time axis; say its day with date="):
        netcdf.read(path)
    with pytest.raises(ValueError, match="write it as YYYY-MM-DD"):
        netcdf.read(path, date="last May")
    plain = netcdf.read(path, date="2022-11-05")
    shifted = netcdf.read(path, date="2022-11-05", offset=-0.1)
    np.testing.assert_allclose(shifted["reflectance"], plain["reflectance"].values - 0.1, atol=1e-6)
    assert 0 < float(shifted["reflectance"].sel(band="B02").min()) < 0.03
    assert len(contract.channels(plain)) == 12
    assert "CC-BY-SA-4.0" in plain.attrs["licence"]
    assert any("-0.1" in step for step in json.loads(shifted.attrs["processing"]))
    assert any("no cloud mask" in step for step in json.loads(plain.attrs["processing"]))


def test_what_already_keeps_the_contract_comes_back_equal(tiny_bands, tmp_path):
    path = tmp_path / "cube.nc"
    tiny_bands.to_netcdf(path)
    again = netcdf.read(path)
    xr.testing.assert_equal(again.load(), tiny_bands)
    assert again.attrs == tiny_bands.attrs


def test_wrong_files_get_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        netcdf.read(tmp_path / "nothing.nc")
    text = tmp_path / "notes.nc"
    text.write_text("not a cube")
    with pytest.raises(ValueError, match="cannot be read as NetCDF"):
        netcdf.read(text)
    ocean = tmp_path / "ocean.nc"
    xr.Dataset({"sst": (("y", "x"), np.zeros((2, 2)))}).to_netcdf(ocean)
    with pytest.raises(ValueError, match="'x' and 'y'"):
        netcdf.read(ocean)
    coords = {"y": [30.0, 10.0], "x": [5e5, 5e5 + 20]}
    xr.Dataset({"B04": (("y", "x"), np.zeros((2, 2)))}, coords).to_netcdf(tmp_path / "crs.nc")
    with pytest.raises(ValueError, match="names no CRS"):
        netcdf.read(tmp_path / "crs.nc")
    degrees = {"lat": [50.02, 50.0], "lon": [3.0, 3.02], "time": np.array(["2020-01-01"], "M8[ns]")}
    sst = xr.Dataset({"sst": (("time", "lat", "lon"), np.zeros((1, 2, 2)))}, degrees)
    sst.to_netcdf(tmp_path / "sst.nc")
    with pytest.raises(ValueError, match="holds no Sentinel-2 band .* it has sst"):
        netcdf.read(tmp_path / "sst.nc")
