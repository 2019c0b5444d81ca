"""The mask: what the classes say, what shows in time, what a network adds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures import clouds
from deepfeatures.clouds import (
    SCENE_CLASSES,
    SCL_FLAGS,
    VALID,
    VALID_CLASSES,
    coarse,
    opinion,
    temporal,
)

BELGIUM = "be_31UDS_s2s1_2017-2018_10m.nc"
TANZANIA = "tza_37MBS_s2s1_2019-2021_20m.nc"

CLEAR = [
    "2017-08-27",
    "2017-09-26",
    "2017-11-02",
    "2017-11-22",
    "2017-12-17",
    "2018-01-16",
    "2018-01-19",
    "2018-01-26",
    "2018-02-08",
    "2018-02-10",
    "2018-02-18",
    "2018-02-25",
    "2018-02-28",
    "2018-03-25",
    "2018-04-19",
    "2018-04-26",
    "2018-05-04",
    "2018-05-06",
    "2018-05-09",
    "2018-05-11",
    "2018-05-26",
    "2018-06-23",
    "2018-06-28",
    "2018-06-30",
    "2018-07-05",
    "2018-07-08",
    "2018-07-15",
    "2018-07-23",
    "2018-08-02",
    "2018-08-07",
    "2018-08-17",
    "2018-09-01",
    "2018-09-21",
    "2018-09-26",
    "2018-10-06",
    "2018-10-08",
    "2018-10-13",
    "2018-10-21",
    "2018-10-28",
    "2018-11-17",
]
"""Dates of the Belgian cube with a cloud share of SCL under 2 % that look clear to the eye."""

HAZY = {
    "2017-08-24": 0.9,
    "2017-10-23": 0.9,
    "2018-06-10": 0.9,
    "2018-07-13": 0.7,
    "2018-11-22": 0.8,
    "2018-09-23": 0.9,
}
"""Dates that SCL calls at most 9 % cloudy and that are haze or cloud to the eye -> least share
that must be found. 2018-09-23 is thick cloud without a gap, which SCL takes for snow."""


def test_each_class_goes_where_the_table_says():
    codes = np.arange(256, dtype=np.uint8)
    assert [c.code for c in SCENE_CLASSES.values()] == list(range(12)) == SCL_FLAGS["flag_values"]
    assert len(SCL_FLAGS["flag_meanings"].split()) == 12
    found = clouds.from_scl(codes)
    assert tuple(np.flatnonzero(found == 1)) == VALID_CLASSES == (2, 4, 5, 6, 7, 11)
    assert found[[0, 1, 3, 8, 9, 10]].tolist() == [0, 4, 3, 2, 2, 2]
    assert (found[12:] == 0).all()
    assert len(clouds.VALID_FLAGS["flag_meanings"].split()) == len(VALID) == 10


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3), elements=st.integers(0, 255)))
def test_the_mask_is_of_the_same_shape_and_local(scl):
    valid = clouds.from_scl(scl)
    assert valid.shape == scl.shape
    assert valid.dtype == np.uint8
    assert set(np.unique(valid)) <= set(VALID)
    assert np.array_equal(clouds.from_scl(scl[::-1]), valid[::-1])


def test_a_signed_layer_is_refused_because_its_fill_could_become_a_class():
    with pytest.raises(ValueError, match="int16; give it as uint8"):
        clouds.from_scl(np.array([4, -32767], np.int16))


@pytest.mark.parametrize("name", [BELGIUM, TANZANIA])
def test_the_mask_is_the_complement_of_the_cloud_mask_of_the_real_cubes(shared_data, name):
    with xr.open_dataset(shared_data / "s2" / name, mask_and_scale=False) as raw:
        usable = clouds.from_scl(raw["SCL"].values) == clouds.USABLE
        assert np.array_equal(usable, 1 - raw["cloud_mask"].values)


def cube(path, names=None):
    """Reflectance, codes of SCL and days of a real cube."""
    with xr.open_dataset(path) as ds:
        names = names or [str(n) for n in ds if str(n).startswith("B")]
        bands = {name: ds[name].values.astype(np.float32) for name in names}
        days = ds["time"].values.astype("datetime64[D]")
    with xr.open_dataset(path, mask_and_scale=False) as raw:
        scl = raw["SCL"].values.astype(np.uint8)
    return bands, clouds.from_scl(scl), days


@pytest.fixture(scope="module")
def belgium(shared_data):
    return cube(shared_data / "s2" / BELGIUM)


@pytest.fixture(scope="module")
def found(belgium):
    """Codes of the Belgian cube with everything, and the day of each date."""
    bands, valid, days = belgium
    return clouds.refine(valid, bands, days, 10.0, "full"), days


def lost(codes) -> float:
    return float((codes != clouds.USABLE).mean())


def test_clear_dates_stay_clear(found, belgium):
    codes, days = found
    scl = belgium[1]
    for day in CLEAR:
        step = int(np.flatnonzero(days == np.datetime64(day))[0])
        assert lost(scl[step]) < 0.02, day
        assert lost(codes[step]) < 0.05, day


def test_haze_and_cloud_that_the_classes_miss_are_found(found, belgium):
    codes, days = found
    scl = belgium[1]
    for day, least in HAZY.items():
        step = int(np.flatnonzero(days == np.datetime64(day))[0])
        assert lost(scl[step]) < 0.09, day
        assert lost(codes[step]) >= least, day


def test_a_mask_only_loses_pixels_and_keeps_why(found, belgium):
    codes, _ = found
    scl = belgium[1]
    assert np.array_equal(codes[scl != clouds.USABLE], scl[scl != clouds.USABLE])
    assert set(np.unique(codes)) == {1, 2, 3, 5, 6, 7, 8, 9}


def test_the_network_sees_more_than_time_alone(found, belgium):
    bands, valid, days = belgium
    alone = clouds.refine(valid, bands, days, 10.0, "temporal")
    step = int(np.flatnonzero(days == np.datetime64("2017-10-23"))[0])
    assert lost(alone[step]) < lost(found[0][step]) - 0.2
    assert not np.isin(alone, (6, 7)).any()


def test_the_classes_alone_are_left_alone(belgium):
    bands, valid, days = belgium
    assert clouds.refine(valid, {}, days, 10.0, "scl") is valid
    with pytest.raises(ValueError, match="'fmask' is unknown; choose one of full, temporal, scl"):
        clouds.refine(valid, bands, days, 10.0, "fmask")


@settings(max_examples=8)
@given(
    st.integers(0, 20).map(lambda n: 2 * n),
    st.integers(0, 20).map(lambda n: 2 * n),
    st.integers(8, 24),
    st.integers(0, 3),
)
def test_a_window_with_its_halo_gives_what_the_whole_gives(belgium, y, x, edge, turn):
    bands, valid, days = belgium
    names = clouds.needs(list(bands), "temporal")
    first = slice(turn * 20, turn * 20 + 30)
    whole = {name: np.tile(bands[name][first], (1, 2, 2)) for name in names}
    mask = np.tile(valid[first], (1, 2, 2))
    expected = clouds.refine(mask, whole, days[first], 10.0, "temporal")
    halo = clouds.reach(10.0, "temporal")
    y, x = y + halo, x + halo
    rows, columns = slice(y - halo, y + edge + halo), slice(x - halo, x + edge + halo)
    part = {name: values[:, rows, columns] for name, values in whole.items()}
    here = clouds.refine(mask[:, rows, columns], part, days[first], 10.0, "temporal")
    inner = here[:, halo:-halo, halo:-halo]
    stop = min(y + edge, 128), min(x + edge, 128)
    wanted = expected[:, y : stop[0], x : stop[1]]
    assert np.array_equal(inner[:, : wanted.shape[1], : wanted.shape[2]], wanted)


def test_bands_of_red_edge_and_infrared_serve_where_there_are_no_others(shared_data):
    bands, valid, days = cube(shared_data / "s2" / TANZANIA)
    day, first = np.unique(days, return_index=True)
    codes = clouds.refine(
        valid[first], {name: v[first] for name, v in bands.items()}, day, 20.0, "full"
    )
    assert clouds.needs(list(bands), "full") == ["B05", "B8A", "B11"]
    assert "B02, B03, B04, B08 missing" in " ".join(clouds.steps("full", list(bands)))
    new = {str(d): lost(c) - lost(v) for d, c, v in zip(day, codes, valid[first], strict=True)}
    assert new["2019-11-10"] > 0.5, "haze over all of it"
    for clear in ("2019-10-16", "2019-11-15", "2020-07-07", "2020-09-20", "2021-01-18"):
        assert new[clear] < 0.05, clear


def test_an_ice_cloud_is_found_without_a_visible_band(shared_data):
    bands, valid, days = cube(shared_data / "s2" / TANZANIA)
    step = int(np.flatnonzero(days == np.datetime64("2020-12-09"))[0])
    _, first = np.unique(days, return_index=True)
    codes = clouds.refine(
        valid[first], {name: v[first] for name, v in bands.items()}, days[first], 20.0, "temporal"
    )
    assert lost(valid[step]) < 0.2, "the classes take it for snow"
    assert lost(codes[np.flatnonzero(first == step)[0]]) > 0.9


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_blocks_average_what_is_usable_else_what_is_there(size, height, width, seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (2, height, width)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    usable = rng.random(values.shape) < 0.5
    blocks = coarse.mean(values, usable, size)
    some, half = coarse.some(usable, size), coarse.half(usable, size)
    for y in range(blocks.shape[1]):
        for x in range(blocks.shape[2]):
            at = np.s_[0, y * size : (y + 1) * size, x * size : (x + 1) * size]
            there = np.isfinite(values[at])
            # pixels of 20 m or more stay as they are
            better = there & usable[at]
            chosen = better if better.any() and size > 1 else there
            assert np.isnan(blocks[0, y, x]) == (not there.any())
            if there.any():
                assert blocks[0, y, x] == pytest.approx(values[at][chosen].mean(), rel=1e-5)
            assert some[0, y, x] == usable[at].any()
            assert half[0, y, x] == (usable[at].mean() >= 0.5)
    whole = coarse.fine(some.astype(np.uint8), size, values.shape)
    assert whole.shape == values.shape
    assert (whole[usable] == 1).all()


def test_a_bright_roof_gets_no_buffer_but_a_cloud_does():
    bands, days = simulated()
    valid = usable_like(bands)
    valid[5, 10:12, 10:12] = 2
    valid[6, 10:20, 10:20] = 2
    codes = clouds.refine(valid, bands, days, 10.0, "temporal")
    assert np.array_equal(codes[5], valid[5])
    assert codes[6, 15, 25] == 5, "60 m beside it"
    assert codes[6, 15, 30] == 1, "110 m beside it"


@pytest.mark.parametrize("turn", [np.s_[:, ::-1], np.s_[:, :, ::-1]])
def test_a_mirrored_land_gives_a_mirrored_mask(belgium, turn):
    bands, valid, days = belgium
    names = clouds.needs(list(bands), "temporal")
    part = {name: bands[name][:40] for name in names}
    one = clouds.refine(valid[:40], part, days[:40], 10.0, "temporal")
    mirrored = {name: np.ascontiguousarray(values[turn]) for name, values in part.items()}
    other = clouds.refine(valid[:40][turn].copy(), mirrored, days[:40], 10.0, "temporal")
    # sums run in another order, so single blocks on a threshold may differ
    assert (one[turn] == other).mean() > 0.999


def simulated(dates: int = 24, edge: int = 40) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Textured fields that change slowly through the year, and days five apart."""
    rng = np.random.default_rng(3)
    texture = rng.normal(0, 0.006, (edge, edge)).astype(np.float32)
    season = np.sin(np.linspace(0, np.pi, dates))[:, None, None].astype(np.float32)
    mean = {"B02": 0.05, "B03": 0.08, "B04": 0.07, "B8A": 0.25, "B11": 0.22}
    swing = {"B02": -0.015, "B03": -0.01, "B04": -0.03, "B8A": 0.15, "B11": -0.06}
    bands = {
        name: (mean[name] + swing[name] * season + texture).astype(np.float32) for name in mean
    }
    return bands, np.datetime64("2021-01-01") + 5 * np.arange(dates)


def usable_like(bands) -> np.ndarray:
    return np.ones(bands["B02"].shape, np.uint8)


def test_a_land_without_clouds_loses_nothing_whatever_the_season():
    bands, days = simulated()
    assert (clouds.refine(usable_like(bands), bands, days, 10.0, "temporal") == 1).all()


@pytest.mark.parametrize("haze", [0.06, 0.2, 0.5])
def test_haze_over_everything_is_found_whatever_its_depth(haze):
    bands, days = simulated()
    for name in bands:
        bands[name][10] = bands[name][10] * (1 - haze) + haze * 0.8
    codes = clouds.refine(usable_like(bands), bands, days, 10.0, "temporal")
    assert (codes[10] == 8).all()
    assert (np.delete(codes, 10, axis=0) == 1).all()


def test_a_shadow_is_found_and_gets_a_buffer():
    bands, days = simulated()
    for name in bands:
        bands[name][12, 10:26, 10:26] *= 0.4
    codes = clouds.refine(usable_like(bands), bands, days, 10.0, "temporal")[12]
    assert (codes[16:20, 12:24] == 9).all()
    assert (codes[12:24, 12:24] != 1).all()
    assert codes[18, 29] == 5, "40 m beside it"
    assert codes[18, 36] == 1, "100 m beside it"


@pytest.mark.parametrize("dates", [[9, 10, 11], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]])
@pytest.mark.parametrize("cover", [1.0, 0.35])
def test_snow_of_a_simulated_winter_stays_valid(dates, cover):
    """Snow, simulated: spectrum of fresh snow (Warren 1982) over part of each pixel."""
    bands, days = simulated()
    snow = {"B02": 0.85, "B03": 0.86, "B04": 0.85, "B8A": 0.75, "B11": 0.08}
    for name in bands:
        bands[name][dates] = bands[name][dates] * (1 - cover) + cover * snow[name]
    codes = clouds.refine(usable_like(bands), bands, days, 10.0, "temporal")
    assert (codes == 1).mean() > 0.99


def test_one_snow_date_over_visible_land_stays_valid():
    bands, days = simulated()
    snow = {"B02": 0.7, "B03": 0.72, "B04": 0.7, "B8A": 0.65, "B11": 0.07}
    trees = np.random.default_rng(1).random((40, 40)) < 0.3
    for name in bands:
        bands[name][10] = np.where(trees, bands[name][10], snow[name])
    codes = clouds.refine(usable_like(bands), bands, days, 10.0, "temporal")
    assert (codes[10] == 1).mean() > 0.99


def test_ploughing_and_harvest_are_no_clouds():
    bands, days = simulated()
    soil = {"B02": 0.09, "B03": 0.13, "B04": 0.17, "B8A": 0.28, "B11": 0.33}
    for name in bands:
        bands[name][12:, :, 20:] = soil[name]
    codes = clouds.refine(usable_like(bands), bands, days, 10.0, "temporal")
    assert (codes == 1).all()


def test_one_date_and_missing_bands_leave_the_mask_as_it_was():
    bands, days = simulated()
    one = {name: values[:1] for name, values in bands.items()}
    assert (clouds.refine(usable_like(one), one, days[:1], 10.0, "temporal") == 1).all()
    few = {"B11": bands["B11"]}
    assert (clouds.refine(usable_like(bands), few, days, 10.0, "full") == 1).all()
    assert temporal.roles(("B11",)) is None
    assert "not looked for in time" in " ".join(clouds.steps("full", ["B11"]))


def test_gaps_in_the_swath_are_no_evidence():
    bands, days = simulated()
    for name in bands:
        bands[name][8:11, :, :17] = np.nan
    valid = usable_like(bands)
    valid[8:11, :, :17] = 0
    codes = clouds.refine(valid, bands, days, 10.0, "temporal")
    assert np.array_equal(codes, valid)


def test_a_missing_network_is_said_and_not_passed_over(monkeypatch):
    monkeypatch.setattr(opinion, "_installed", lambda: False)
    with pytest.raises(ValueError, match="not installed; install them, or look for clouds in time"):
        clouds.steps("full", opinion.BANDS)
    assert clouds.steps("temporal", opinion.BANDS)
