"""Cubes of others under the contract: whatever form the pixels come in, the cube is the same."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import foreign_samples as samples
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from deepfeatures import catalogue, contract, cube, foreign
from deepfeatures.bands import BANDS, VARIABLES
from deepfeatures.foreign.legend import KEYS, legend
from deepfeatures.foreign.opening import _check_codecs, open_raw
from deepfeatures.foreign.places import steady
from deepfeatures.foreign.plain import band_name
from deepfeatures.weather import SOURCES

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
    return foreign.read(shared_data / "s2" / BELGIUM), _raw(shared_data / "s2" / BELGIUM)


@pytest.fixture(scope="module")
def tanzania(shared_data):
    return foreign.read(shared_data / "s2" / TANZANIA), _raw(shared_data / "s2" / TANZANIA)


def test_the_belgian_cube_keeps_every_digital_number(belgium):
    ds, raw = belgium
    assert contract.check(ds) is ds
    assert ds["reflectance"].shape == (118, 10, 64, 64)
    assert ds["reflectance"].chunks, "the cube must be lazy"
    for band in contract.channels(ds):
        assert np.array_equal(_numbers(ds["reflectance"].sel(band=band)), raw[band].values), band
    assert np.array_equal(np.isnan(ds["reflectance"].sel(band="B02")), raw["B02"] == 0)
    assert np.array_equal(ds["scl"], raw["SCL"])
    assert np.array_equal(ds["valid"] == 1, raw["cloud_mask"] == 0)
    assert np.array_equal(ds["time"], raw["time"])
    assert str(contract.crs(ds)) == "EPSG:32631"


def test_weather_has_the_units_of_the_contract(belgium):
    ds, raw = belgium
    kelvin = raw["agera5_temperature_mean"].values.astype(float)
    np.testing.assert_allclose(ds["temperature_mean"], kelvin - 273.15, atol=1e-4)
    watts = raw["agera5_solar_radiation_flux"].values.astype(float) / 86400
    np.testing.assert_allclose(ds["solar_radiation"], watts, rtol=1e-6)
    for source, name in ((n, SOURCES[n].name) for n in raw if n.startswith("agera5_")):
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
    for name in foreign.ANGLES:
        assert np.array_equal(ds[name], raw[name])


def test_provenance_names_source_licence_and_years(belgium):
    attrs = belgium[0].attrs
    assert "Copernicus Sentinel data 2017-2018" in attrs["attribution"]
    assert "(c) 2023 ESA WorldCereal" in attrs["attribution"]
    assert "Copernicus Climate Change Service" in attrs["attribution"]
    assert attrs["licence"].startswith("MIT")
    assert "WorldCereal/worldcereal-classification" in attrs["source"]
    assert any("foreign.read" in step for step in json.loads(attrs["processing"]))
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
    ds, raw = foreign.read(shared_data / "s2" / SWEDEN), _raw(shared_data / "s2" / SWEDEN)
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
        foreign.read(path)
    with pytest.raises(ValueError, match="write it as YYYY-MM-DD"):
        foreign.read(path, date="last May")
    plain = foreign.read(path, date="2022-11-05")
    shifted = foreign.read(path, date="2022-11-05", offset=-0.1)
    np.testing.assert_allclose(shifted["reflectance"], plain["reflectance"].values - 0.1, atol=1e-6)
    assert 0 < float(shifted["reflectance"].sel(band="B02").min()) < 0.03
    assert len(contract.channels(plain)) == 12
    assert "CC-BY-SA-4.0" in plain.attrs["licence"]
    assert any("-0.1" in step for step in json.loads(shifted.attrs["processing"]))
    assert any("no cloud mask" in step for step in json.loads(plain.attrs["processing"]))


def test_what_already_keeps_the_contract_comes_back_equal(tiny_bands, tmp_path):
    path = tmp_path / "cube.nc"
    tiny_bands.to_netcdf(path)
    again = foreign.read(path)
    xr.testing.assert_equal(again.load(), tiny_bands)
    assert again.attrs == tiny_bands.attrs


def test_wrong_files_get_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        foreign.read(tmp_path / "nothing.nc")
    text = tmp_path / "notes.nc"
    text.write_text("not a cube")
    with pytest.raises(ValueError, match="cannot be read as NetCDF"):
        foreign.read(text)
    ocean = tmp_path / "ocean.nc"
    xr.Dataset({"sst": (("y", "x"), np.zeros((2, 2)))}).to_netcdf(ocean)
    with pytest.raises(ValueError, match=r"no known form .* it has sst \(y, x\); .*--map B04=NAME"):
        foreign.read(ocean)
    xr.Dataset({"B04": (("row", "column"), np.zeros((2, 2)))}).to_netcdf(tmp_path / "axes.nc")
    with pytest.raises(ValueError, match="'x' and 'y'"):
        foreign.read(tmp_path / "axes.nc")
    coords = {"y": [30.0, 10.0], "x": [5e5, 5e5 + 20]}
    xr.Dataset({"B04": (("y", "x"), np.zeros((2, 2)))}, coords).to_netcdf(tmp_path / "crs.nc")
    with pytest.raises(ValueError, match="names no CRS"):
        foreign.read(tmp_path / "crs.nc")
    degrees = {"lat": [50.02, 50.0], "lon": [3.0, 3.02], "time": np.array(["2020-01-01"], "M8[ns]")}
    sst = xr.Dataset({"sst": (("time", "lat", "lon"), np.zeros((1, 2, 2)))}, degrees)
    sst.to_netcdf(tmp_path / "sst.nc")
    with pytest.raises(ValueError, match="holds no Sentinel-2 band .* it has sst"):
        foreign.read(tmp_path / "sst.nc")


# the forms of other packages, filled with the same pixels


@pytest.fixture(scope="module")
def pixels(shared_data):
    return samples.pixels(_raw(shared_data / "s2" / BELGIUM))


@pytest.fixture(scope="module")
def expected(pixels, tmp_path_factory):
    path = samples.plain(pixels, tmp_path_factory.mktemp("plain") / "plain.nc")
    return foreign.read(path).load()


def _baselines(pixels):
    """Baselines that change to and fro, as after partial reprocessing."""
    return np.where(np.arange(pixels.time.size) % 5 < 2, 5.0, 2.12)


def _same(ds: xr.Dataset, expected: xr.Dataset, *, atol: float = 0.0) -> None:
    """Hold a cube to the law: the same reflectance, usable pixels, times and grid."""
    assert contract.check(ds) is ds
    assert contract.geobox(ds) == contract.geobox(expected)
    for axis in ("x", "y"):
        assert np.array_equal(ds[axis], expected[axis])
    days = (d["time"].values.astype("datetime64[s]") for d in (ds, expected))
    assert np.array_equal(*days)
    bands = contract.channels(ds)
    theirs = expected["reflectance"].sel(band=bands).values
    np.testing.assert_allclose(ds["reflectance"].values, theirs, rtol=0, atol=atol)
    assert np.array_equal(ds["valid"] == 1, expected["valid"] == 1)


def test_the_reference_of_the_law_is_the_pixels_themselves(pixels, expected):
    assert np.array_equal(_numbers(expected["reflectance"]), pixels.numbers)
    assert np.array_equal(expected["valid"] == 1, pixels.codes == 1)
    assert np.array_equal(expected["scl"], pixels.scl)
    assert 0.01 < (pixels.numbers == 0).mean() < 0.2, "the sample has pixels without data"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("colours", [False, True], ids=["B04", "red"])
def test_cubo_with_mixed_baselines_and_two_items_a_day(pixels, expected, tmp_path, suffix, colours):
    path = tmp_path / f"cubo{suffix}"
    samples.cubo(pixels, path, baseline=_baselines(pixels), colours=colours)
    ds = foreign.read(path)
    assert ds["reflectance"].chunks, "the cube must be lazy"
    _same(ds, expected, atol=1e-7)
    assert np.array_equal(ds["scl"], expected["scl"])
    said = " | ".join(foreign.changes(ds))
    for words in ("cubo", "digital numbers x 0.0001", "moved to pixel centres: x +5 m, y -5 m",
                  "8 acquisitions mosaicked", "offset -0.1 added to 14 of 32 steps"):  # fmt: skip
        assert words in said, said
    assert ("red = B04" in said) == colours
    assert len(json.loads(ds.attrs["source_items"])) == 32
    assert "planetarycomputer" in ds.attrs["source"]


def test_cubo_with_pixel_centres_is_not_moved(pixels, expected, tmp_path):
    path = samples.cubo(pixels, tmp_path / "c.nc", baseline=_baselines(pixels), centre=True)
    ds = foreign.read(path)
    _same(ds, expected, atol=1e-7)
    assert "centres" not in " ".join(foreign.changes(ds))


@pytest.mark.parametrize(("applied", "rescaled"), [(True, False), (True, True), (False, True)])
def test_cubo_from_a_catalogue_that_states_scale_or_says_the_offset_is_off(
    pixels, expected, tmp_path, applied, rescaled
):
    path = samples.cubo(
        pixels, tmp_path / "c.nc", baseline=_baselines(pixels), colours=True,
        catalogue="https://earth-search.aws.element84.com/v1", applied=applied, rescaled=rescaled,
    )  # fmt: skip
    ds = foreign.read(path)
    _same(ds, expected, atol=2e-7)
    assert ("taken off twice" in " ".join(foreign.changes(ds))) == (applied and rescaled)


def test_the_newest_baseline_of_a_day_wins_and_an_unknown_one_is_said(pixels, tmp_path):
    path = samples.cubo(pixels, tmp_path / "c.nc", baseline=_baselines(pixels), split=False)
    old = _raw(path)
    array = old["sentinel-2-l2a"]
    newer = array.assign_coords({"s2:processing_baseline": ("time", ["05.10"] * 24)}) + 1000 + 7
    newer = newer.assign_coords(time=array["time"].values + np.timedelta64(9, "s"))
    both = xr.concat([array, newer], "time", coords="all", join="outer", compat="override")
    both.attrs = array.attrs
    both.to_dataset(name="sentinel-2-l2a").to_netcdf(tmp_path / "both.nc")
    ds = foreign.read(tmp_path / "both.nc")
    shift = np.where(_baselines(pixels) >= 4, 1000, 0)[:, None, None, None]
    wanted = np.where(pixels.numbers > 0, pixels.numbers + shift + 7, 0)
    assert np.array_equal(_numbers(ds["reflectance"]), wanted)
    silent = old.drop_vars(["s2:processing_baseline", "id"])
    silent.to_netcdf(tmp_path / "silent.nc")
    assert "baseline of 24 of 24 steps not stated" in " ".join(
        foreign.changes(foreign.read(tmp_path / "silent.nc"))
    )
    told = foreign.read(tmp_path / "silent.nc", offset=-0.1)
    assert np.array_equal(
        _numbers(told["reflectance"]),
        np.where(pixels.numbers > 0, pixels.numbers + shift - 1000, 0),
    )


@pytest.mark.parametrize("mode", ["top-left", "center", None])
def test_sentle_optical(pixels, expected, tmp_path, mode):
    uint16 = mode == "center"
    path = samples.sentle(pixels, tmp_path / "s.zarr", uint16=uint16, radar=False, mode=mode)
    if uint16:
        # clear and "no class" are both 0 in these stores: only the optical bands can be kept
        root = zarr.open_group(path)
        root["band"][10] = "S2_snow_mask"
    ds = foreign.read(path)
    assert ds["time"].values[0] < ds["time"].values[-1]
    if uint16:
        there = (pixels.numbers > 0).any(axis=1)
        assert np.array_equal(ds["valid"] == 1, there)
        _same(ds.assign(valid=expected["valid"]), expected)
    else:
        _same(ds, expected)
        assert np.array_equal(ds["valid"], pixels.codes)
    said = " ".join(foreign.changes(ds))
    assert "time turned: oldest first" in said
    assert ("not stated" in said, "pixel centres" in said) == (mode is None, mode != "center")


def test_sentle_with_radar_has_two_time_axes(pixels, expected, tmp_path):
    ds = foreign.read(samples.sentle(pixels, tmp_path / "s.zarr"))
    _same(ds, expected)
    assert np.array_equal(ds["valid"], pixels.codes)
    assert np.array_equal(
        ds["time_s1"].values.astype("datetime64[s]"), pixels.time_s1.astype("datetime64[s]")
    )
    for i, name in enumerate(("VV", "VH")):
        power = 10 ** (ds["backscatter"].sel(polarisation=name).values / 10)
        np.testing.assert_allclose(power, pixels.radar[:, i], rtol=1e-5)
    assert set(ds["orbit"].values) == {1}
    assert "6 radar steps" in " ".join(foreign.changes(ds))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_research_cubes(pixels, expected, tmp_path, zarr_format):
    ds = foreign.read(samples.research(pixels, tmp_path / "061.zarr", zarr_format=zarr_format))
    _same(ds, expected)
    assert np.array_equal(ds["valid"], pixels.codes)
    assert np.array_equal(ds["scl"], pixels.scl)
    assert np.all(ds["elevation"] == 23.5)
    assert np.all(ds["label_WORLDCOVER"] == 40)
    assert np.all(ds["label_LCCS"] == 10)
    np.testing.assert_allclose(ds["temperature_mean"], 7.0, atol=1e-4)
    np.testing.assert_allclose(ds["precipitation"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(ds["solar_radiation"], 100.0, rtol=1e-6)
    np.testing.assert_allclose(ds["sun_zenith"], 50.0)
    # 10, 350 and 0 degrees are all north
    assert np.all(np.abs((ds["view_azimuth"] + 180) % 360 - 180) < 0.01)
    assert set(ds["nbar"].values) == {1}
    said = " ".join(foreign.changes(ds))
    assert "B01, B8A and B09 are not corrected" in said
    assert "left out: era5_swvl1_mean" in said


def test_feature_cubes_get_labels_a_mask_and_a_stated_step(pixels, tmp_path):
    path, values = samples.features(pixels, tmp_path / "f.zarr")
    with pytest.raises(ValueError, match=r"names no CRS.*--map crs="):
        foreign.read(path)
    ds = foreign.read(path, mapping={"crs": "EPSG:32631"})
    assert contract.kind(ds) == "features"
    assert contract.channels(ds) == ["F01", "F02", "F03", "F04", "F05", "F06"]
    np.testing.assert_array_equal(ds["features"].values, values.transpose(1, 0, 2, 3))
    assert np.array_equal(ds["valid"], np.isfinite(values).all(axis=0))
    step = ds["features"].encoding["scale_factor"]
    assert step == json.loads(ds.attrs["quantisation"])["scale"]
    assert np.nanmax(np.abs(values)) / step == pytest.approx(127)


def test_feature_cubes_keep_their_values_to_half_a_step_in_a_workspace(pixels, tmp_path, workspace):
    path, values = samples.features(pixels, tmp_path / "f.zarr")
    cube.import_file(workspace, "f", path, mapping={"crs": "EPSG:32631"})
    again = catalogue.open(workspace, "f")
    step = np.nanmax(values) / 127
    np.testing.assert_allclose(
        again["features"], values.transpose(1, 0, 2, 3), rtol=0, atol=step * 0.501
    )


def test_deepextremes_minicubes(pixels, expected, tmp_path):
    ds = foreign.read(samples.deepextremes(pixels, tmp_path / "mc.zarr"))
    _same(ds, expected)
    assert np.array_equal(ds["valid"], pixels.codes)
    assert contract.channels(ds) == ["B02", "B03", "B04", "B05", "B06", "B07", "B8A"]
    assert np.all(ds["elevation"] == 31)
    assert np.all(ds["label_LCCS"] == 60)
    said = " ".join(foreign.changes(ds))
    assert "4 of 28 five-day steps" in said
    assert "t2m_min" in said.split("left out: ")[1]
    assert "mc_3.02" in ds.attrs["title"]


def test_the_mask_of_the_real_minicube_decides(shared_data):
    ds, raw = foreign.read(shared_data / "s2" / SWEDEN), _raw(shared_data / "s2" / SWEDEN)
    blue = ds["reflectance"].sel(band="B02").values
    code = ds["valid"].values
    medians = {c: float(np.nanmedian(blue[code == c])) for c in (1, 2, 3)}
    # thick cloud is white; what the attributes call snow (3) is as dark as the clear forest
    assert medians[3] < 0.05
    assert medians[2] > 5 * medians[1]
    there = np.flatnonzero(raw["s2_avail"].values == 1)
    clear = raw["s2_dlmask"].values[there] == 0
    assert abs(np.mean(code[np.isfinite(blue)] == 1) - clear.mean()) < 0.03
    assert not np.any((code != 0) & np.isnan(blue) & (ds["scl"] == 0).values)


def test_daily_weather_of_a_minicube_keeps_all_its_days(shared_data, tmp_path):
    raw = _raw(shared_data / "s2" / SWEDEN)[["s2_B04", "s2_dlmask", "s2_avail"]]
    raw["eobs_tg"] = ("time", np.linspace(-3, 20, 150).astype(np.float32))
    raw.to_netcdf(tmp_path / "mini.nc")
    ds = foreign.read(tmp_path / "mini.nc")
    assert (ds.sizes["time"], ds.sizes["time_meteo"]) == (27, 150)
    np.testing.assert_allclose(ds["temperature_mean"], np.linspace(-3, 20, 150), atol=1e-5)
    assert "E-OBS" in ds.attrs["attribution"]


def test_a_plain_file_with_a_mapping(pixels, expected, tmp_path):
    values = np.where(pixels.numbers > 0, pixels.numbers, 65535).astype(np.uint16)
    quality = np.select([pixels.codes == c for c in (1, 2, 3)], [7, 9, 4], 255)
    ds = xr.Dataset(
        {
            "stack": (("t", "channel", "north", "east"), values[:, :3]),
            "nir": (("t", "north", "east"), values[:, 6]),
            "qa": (("t", "north", "east"), quality.astype(np.int16)),
        },
        coords={"t": pixels.time[::-1], "north": pixels.y, "east": pixels.x},
    )
    ds = ds.isel(north=slice(None, None, -1)).assign_coords(t=pixels.time)
    ds.to_netcdf(tmp_path / "plain.nc")
    words = (
        "dims.time=t", "dims.x=east", "dims.y=north", 'B02={"variable": "stack", "index": 0}',
        'bands.B04={"variable": "stack", "index": 2}', "B08=nir", "scale=1e-4", "nodata=65535",
        "crs=EPSG:32631", "valid.variable=qa", "valid.clear=[7]", "valid.cloud=[9]",
        "valid.shadow=[4]",
    )  # fmt: skip
    mapping = foreign.parse(words)
    found = foreign.read(tmp_path / "plain.nc", mapping=mapping)
    _same(found, expected)
    assert np.array_equal(found["valid"], pixels.codes)
    assert contract.channels(found) == ["B02", "B04", "B08"]
    said = " ".join(foreign.changes(found))
    assert "B04 = stack[2]" in said
    assert "turned along y" in said
    (tmp_path / "key.json").write_text(json.dumps(mapping))
    assert foreign.parse([str(tmp_path / "key.json")]) == mapping


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"band": {}}, "does not know 'band'; the keys are dims"),
        ({"bands": {"B10": "a"}}, "'B10' is no band"),
        ({"bands": ["B04"]}, "must name a variable for each band"),
        ({"bands": {"B04": {"variable": "a", "index": 1.5}}}, "B04 must be the name"),
        ({"bands": {"B04": "nothing"}}, "no variable 'nothing' for B04; it has B02, B03"),
        ({"scale": 0}, "scale 0 must be a number above zero"),
        ({"nodata": "x"}, "nodata 'x' must be a number"),
        ({"crs": "EPSG:1"}, "crs 'EPSG:1' is unknown"),
        ({"crs": [1]}, "is unknown"),
        ({"dims": {"x": "east"}}, "no dimension 'east'"),
        ({"dims": {"z": "x"}}, "dims does not know 'z'"),
        ({"valid": {"variable": "SCL"}}, "valid must be"),
        ({"valid": {"variable": "SCL", "clear": [300]}}, "classes 0..255"),
        ({"valid": {"variable": "SCL", "clear": [1], "dark": []}}, "does not know 'dark'"),
    ],
)
def test_a_wrong_mapping_gets_one_clear_sentence(pixels, tmp_path_factory, mapping, sentence):
    path = tmp_path_factory.mktemp("wrong") / "plain.nc"
    samples.plain(pixels, path)
    with pytest.raises(ValueError, match=sentence):
        foreign.read(path, mapping=mapping)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*KEYS, *BANDS, "variable", "clear"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_as_a_mapping_is_read_or_refused_with_a_sentence(value):
    try:
        found = legend(value if isinstance(value, dict) else {"bands": value})
    except ValueError:
        return
    assert set(found.bands) <= set(BANDS)
    assert found.scale is None or found.scale > 0


def test_map_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="give --map a JSON file or KEY=VALUE"):
        foreign.parse(["nothing.json"])
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="no JSON object"):
        foreign.parse([str(tmp_path / "list.json")])
    (tmp_path / "large.json").write_text(" " * 70_000)
    with pytest.raises(ValueError, match="larger than 64 KiB"):
        foreign.parse([str(tmp_path / "large.json")])
    with pytest.raises(ValueError, match="has both 'crs'"):
        foreign.parse(["crs=EPSG:4326", "crs.x=1"])


# where the pixels are


def _northern(raw: xr.Dataset) -> xr.Dataset:
    """Rewrite a southern cube to the northern zone: negative northing, y rising."""
    code = int(raw.attrs["epsg"]) - 100
    moved = raw.drop_vars("spatial_ref").assign_coords(y=raw["y"] - 10_000_000)
    for name in moved.data_vars:
        moved[name].attrs.pop("grid_mapping", None)
    moved = moved.isel(y=slice(None, None, -1))
    return moved.odc.assign_crs(f"EPSG:{code}")


@pytest.mark.parametrize("name", [CHILE, TANZANIA])
def test_the_southern_hemisphere_is_north_up_with_the_northing_right(shared_data, tmp_path, name):
    date = "2022-11-05" if name == CHILE else None
    truth = foreign.read(shared_data / "s2" / name, date=date)
    assert str(contract.crs(truth)) in ("EPSG:32718", "EPSG:32737")
    assert np.all(np.diff(truth["y"]) < 0)
    assert truth["y"].values.min() > 5_000_000
    _northern(_raw(shared_data / "s2" / name)).to_netcdf(tmp_path / "north.nc")
    ds = foreign.read(tmp_path / "north.nc", date=date)
    assert contract.geobox(ds) == contract.geobox(truth)
    assert np.array_equal(ds["y"], truth["y"])
    for variable in ("reflectance", "valid", "elevation", "backscatter"):
        np.testing.assert_array_equal(ds[variable], truth[variable])
    said = " ".join(foreign.changes(ds))
    assert "northing below zero" in said
    assert "north first" in said
    middle = contract.geobox(ds).geographic_extent.centroid.coords[0]
    np.testing.assert_allclose(middle, (-72.48, -38.83) if date else (36.85, -3.657), atol=0.02)


def test_axes_and_times_in_any_order_give_the_same_cube(pixels, expected, tmp_path):
    raw = _raw(samples.plain(pixels, tmp_path / "plain.nc"))
    mixed = raw.isel(
        x=slice(None, None, -1), y=slice(None, None, -1),
        time=np.random.default_rng(1).permutation(raw.sizes["time"]),
    ).transpose("x", "time", "y", ...)  # fmt: skip
    mixed.to_netcdf(tmp_path / "mixed.nc")
    ds = foreign.read(tmp_path / "mixed.nc")
    _same(ds, expected)
    said = " ".join(foreign.changes(ds))
    assert all(words in said for words in ("west first", "north first", "time sorted"))


def test_a_single_pixel_needs_its_size(pixels, tmp_path):
    raw = _raw(samples.plain(pixels, tmp_path / "plain.nc")).isel(y=[3], x=[5])
    raw.assign_attrs(pixel_size_m="10").to_netcdf(tmp_path / "pixel.nc")
    silent = raw.drop_vars("spatial_ref")
    for name in silent.data_vars:
        silent[name].attrs.pop("grid_mapping", None)
    silent.to_netcdf(tmp_path / "silent.nc")
    assert contract.geobox(foreign.read(tmp_path / "pixel.nc")).resolution.x == 10
    with pytest.raises(ValueError, match=r"single pixel .*--map resolution=10"):
        foreign.read(tmp_path / "silent.nc", mapping={"crs": "EPSG:32631"})
    told = {"crs": "EPSG:32631", "resolution": 20}
    box = contract.geobox(foreign.read(tmp_path / "silent.nc", mapping=told))
    assert box.boundingbox.left == pixels.x[5] - 10


@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (9, 1)])
def test_a_single_row_or_column_is_a_cube(pixels, expected, tmp_path, rows, columns):
    raw = _raw(samples.plain(pixels, tmp_path / "plain.nc"))
    raw.isel(y=slice(rows), x=slice(columns)).to_netcdf(tmp_path / "line.nc")
    _same(foreign.read(tmp_path / "line.nc"), expected.isel(y=slice(rows), x=slice(columns)))


def test_uneven_axes_and_times_that_are_no_dates_are_refused(pixels, tmp_path):
    raw = _raw(samples.plain(pixels, tmp_path / "plain.nc"))
    order = np.r_[0, 2, 1, 3 : raw.sizes["x"]]
    raw.isel(x=order).to_netcdf(tmp_path / "mixed.nc")
    with pytest.raises(ValueError, match="neither rises nor falls"):
        foreign.read(tmp_path / "mixed.nc")
    raw.isel(x=[0, 1, 3, 4]).to_netcdf(tmp_path / "gap.nc")
    with pytest.raises(ValueError, match="equal steps"):
        foreign.read(tmp_path / "gap.nc")
    raw.assign_coords(time=np.arange(raw.sizes["time"])).to_netcdf(tmp_path / "numbers.nc")
    with pytest.raises(ValueError, match="times of the file are no dates"):
        foreign.read(tmp_path / "numbers.nc")


@given(
    st.integers(-40_000, 1_000_000), st.sampled_from([10, 20, 60, 100, 250]), st.integers(2, 400)
)
def test_coordinates_in_single_precision_become_exact(first, step, count):
    exact = first * 10.0 + step * np.arange(count)
    assert np.array_equal(steady(exact.astype(np.float32)), np.float32(exact[0]) + exact - exact[0])


@given(st.sampled_from(sorted(BANDS)), st.sampled_from(["{}", "{}_10m", "{}_20m", "colour", "gee"]))
def test_every_spelling_of_a_band_is_known(name, spelling):
    number = name[1:].lstrip("0")
    words = {"colour": BANDS[name].common_name, "gee": f"B{number}"}
    assert band_name(words.get(spelling, spelling.format(name))) == name


# strangers


def test_codecs_that_run_code_are_refused_before_a_value_is_read(tmp_path):
    path = tmp_path / "evil.zarr"
    xr.Dataset({"s2l2a": ("time", np.zeros(3))}).to_zarr(path, zarr_format=2, consolidated=True)
    for file in (path / "s2l2a" / ".zarray", path / ".zmetadata"):
        spoiled = json.loads(file.read_text())
        inner = spoiled.get("metadata", {}).get("s2l2a/.zarray", spoiled)
        inner["filters"] = [{"id": "pickle", "protocol": 5}]
        file.write_text(json.dumps(spoiled))
    with pytest.raises(ValueError, match="pickle"):
        foreign.read(path)
    _check_codecs("a", {"codecs": ({"name": "bytes"}, {"name": "zstd"})})
    inner = {"codecs": [{"name": "numcodecs.pickle"}]}
    shards = {"codecs": ({"name": "sharding_indexed", "configuration": inner},)}
    with pytest.raises(ValueError, match="codec 'numcodecs.pickle', which is not taken"):
        _check_codecs("a", shards)


def test_sizes_have_limits(tmp_path):
    for shape, chunks, sentence in (
        ((10**6, 2), (10, 2), "1,000,000 steps along 'time'"),
        ((2, 10**5), (2, 10), "100,000 steps along 'x'"),
        ((10**5, 10**4), (10**5, 10**4), "one chunk of 'a' takes"),
    ):
        path = tmp_path / "large.zarr"
        shutil.rmtree(path, ignore_errors=True)
        root = zarr.group(store=zarr.storage.LocalStore(path))
        root.create_array(
            "a", shape=shape, chunks=chunks, dtype="f8", dimension_names=["time", "x"]
        )
        with pytest.raises(ValueError, match=sentence):
            foreign.read(path)


def _spoil(path: Path, change: str) -> None:
    """Damage a store: metadata that are no JSON, another shape, a coordinate cut short."""
    array = path / "features" / ".zarray"
    if change == "json":
        array.write_text("{")
    elif change == "shape":
        told = json.loads(array.read_text())
        array.write_text(json.dumps(told | {"shape": [6, 150_000, 10_000, 10_000]}))
    else:
        chunk = path / "time" / "0"
        chunk.write_bytes(chunk.read_bytes()[:7])


@pytest.mark.parametrize("change", ["json", "shape", "cut"])
def test_damaged_stores_end_in_a_sentence(pixels, tmp_path, change):
    path, _ = samples.features(_small(pixels), tmp_path / "f.zarr")
    _spoil(path, change)
    # what is consolidated would hide the damage
    (path / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"no Zarr group|has [\d,]+ chunks|cannot be opened"):
        foreign.read(path, mapping={"crs": "EPSG:32631"})


def _small(pixels):
    return dataclasses.replace(
        pixels, numbers=pixels.numbers[:3, :, :8, :8], scl=pixels.scl[:3, :8, :8],
        time=pixels.time[:3], x=pixels.x[:8], y=pixels.y[:8],
    )  # fmt: skip


def test_places_that_are_not_taken(tmp_path):
    with pytest.raises(ValueError, match="give a local path or a URL"):
        foreign.read("file:///etc/passwd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no Zarr group"):
        foreign.read(tmp_path / "empty")


def test_a_store_behind_a_url_is_read(pixels, expected, tmp_path):
    samples.research(pixels, tmp_path / "061.zarr")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            _same(foreign.read(f"http://127.0.0.1:{server.server_port}/061.zarr").load(), expected)
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_chunks_are_joined_up_to_a_size_and_bands_of_netcdf_stay_apart(pixels, tmp_path):
    raw = open_raw(samples.sentle(pixels, tmp_path / "s.zarr", radar=False))
    assert raw["sentle"].chunksizes["time"][0] == 20, "two stored chunks of ten"
    stack = open_raw(samples.cubo(pixels, tmp_path / "c.nc", baseline=_baselines(pixels)))
    assert stack["sentinel-2-l2a"].chunksizes["band"] == (1,) * 11


def test_values_in_unknown_units_are_refused(pixels, tmp_path):
    path = samples.cubo(pixels, tmp_path / "c.nc", baseline=_baselines(pixels), split=False)
    raw = _raw(path)
    (raw / 100).assign_attrs(raw.attrs).to_netcdf(tmp_path / "percent.nc")
    with pytest.raises(ValueError, match=r"neither reflectance .* nor digital numbers.*scale="):
        foreign.read(tmp_path / "percent.nc")
    raw.where(False).to_netcdf(tmp_path / "empty.nc")
    with pytest.raises(ValueError, match="no value at all"):
        foreign.read(tmp_path / "empty.nc")


def test_a_cubo_array_in_a_workspace_is_the_same_to_a_quantum(
    pixels, expected, tmp_path, workspace
):
    path = samples.cubo(pixels, tmp_path / "c.nc", baseline=_baselines(pixels))
    cube.import_file(workspace, "c", path, clouds="scl")
    ds = catalogue.open(workspace, "c")
    _same(ds, expected, atol=5e-5)
    assert any("mosaicked" in step for step in foreign.changes(ds))
