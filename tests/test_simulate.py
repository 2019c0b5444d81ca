"""The simulated landscape as a whole: contract, determinism, tiling, statistics, truth."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import contract, simulate
from deepfeatures.bands import BANDS
from deepfeatures.clouds import from_scl
from deepfeatures.simulate.land import (
    BARE,
    BEECH,
    CLASSES,
    EVENTS,
    MAIZE,
    MEADOW,
    MINE,
    PINE,
    SPRUCE,
    WATER,
    WHEAT,
)  # fmt: skip
from deepfeatures.simulate.setting import USUAL, draw
from deepfeatures.tiles import Tile

# Medians of clear vegetation (SCL 4) of the Belgian cube be_31UDS, Sen2Cor surface reflectance.
REAL = {
    "B02": 0.042, "B03": 0.071, "B04": 0.056, "B05": 0.116, "B06": 0.269, "B07": 0.322,
    "B08": 0.342, "B8A": 0.350, "B11": 0.204, "B12": 0.126,
}  # fmt: skip

# SHA-256 of the bytes of the landscapes below as they were before landscapes could be varied, see
# `digest`: what is not varied stays as it was.
GOLDEN = {
    "whole": {
        "reflectance": "6b1e5d7a053dacb2",
        "scl": "5fd0aa84c3ebdf69",
        "backscatter": "4fb450d21f939d16",
        "truth": "b959cb41a646b6ab",
        "": "c8ef3f973738dfee",
    },
    "small": {
        "reflectance": "f7ef8117a8b0c7bf",
        "scl": "baaa068d6f106304",
        "backscatter": "47b9b3da04aa7460",
        "truth": "7db001ef790f5e85",
        "": "52dc97866ffbbb9a",
    },
}
ADDED = ("truth_stress", "surface_temperature", "time_lst")
"""Variables that came later."""


def window(y0: int, y1: int, x0: int, x1: int) -> Tile:
    """Make a tile without halo."""
    return Tile(y0, y1, x0, x1, y0, y1, x0, x1)


def digest(ds: xr.Dataset, prefix: str) -> str:
    """Hash the variables whose names begin so, or all others where nothing is given."""
    names = sorted(str(name) for name in ds.variables if name not in ADDED)
    # PROJ makes degrees of metres, and its versions differ in the last digit.
    names = [name for name in names if name not in ("tower_lon", "tower_lat")]
    large = ("reflectance", "scl", "backscatter", "truth")
    kept = [
        name for name in names
        if (name.startswith(prefix) if prefix else not name.startswith(large))
    ]  # fmt: skip
    made = hashlib.sha256()
    for name in kept:
        values = ds[name].values
        words = values.dtype.kind in "UO"
        held = "|".join(map(str, values.ravel())).encode() if words else values.tobytes()
        made.update(name.encode() + held)
    return made.hexdigest()[:16]


@pytest.fixture(scope="module")
def landscape() -> simulate.Landscape:
    """Two years, 1.28 km; the second year has the drought."""
    return simulate.plan(size=128, years=2)


@pytest.fixture(scope="module")
def whole(landscape: simulate.Landscape) -> xr.Dataset:
    """The whole of it."""
    return simulate.render(landscape, window(0, 128, 0, 128))


@pytest.fixture(scope="module")
def small() -> simulate.Landscape:
    """One year of four unequal blocks."""
    return simulate.plan(seed=7, size=80, years=1, start=2019)


@pytest.fixture(scope="module")
def everything(small: simulate.Landscape) -> xr.Dataset:
    """The whole of the small one."""
    return simulate.render(small, window(0, 80, 0, 80))


@pytest.fixture(scope="module")
def varied() -> simulate.Landscape:
    """One year of four unequal blocks, everything of which is drawn."""
    return simulate.plan(seed=12, size=72, years=1, varied=True)


def ndvi(ds: xr.Dataset) -> np.ndarray:
    """NDVI (time, y, x), NaN where not valid."""
    near, red = (ds["reflectance"].sel(band=name).values for name in ("B08", "B04"))
    return np.where(ds["valid"].values == 1, (near - red) / (near + red), np.nan)


def test_whole_keeps_the_contract(whole: xr.Dataset) -> None:
    assert contract.check(whole) is whole
    assert contract.channels(whole) == list(BANDS)
    assert whole.attrs["simulated"] == "true"
    assert "Simulated" in whole.attrs["title"]
    assert all("Simulated" in array.attrs["long_name"] for array in whole.data_vars.values())
    assert contract.geobox(whole).crs.epsg == 32632


def test_template_tells_what_render_gives(landscape, whole: xr.Dataset) -> None:
    template = contract.check(simulate.template(landscape))
    assert list(template.variables) == list(whole.variables)
    assert template.attrs == whole.attrs
    for name, array in template.variables.items():
        assert array.dims == whole[name].dims, name
        assert array.shape == whole[name].shape, name
        assert array.dtype == whole[name].dtype, name
        assert array.attrs == whole[name].attrs, name
    assert template["reflectance"].chunks is not None
    for name in ("label_class", "sun_zenith", "tower_gpp", "precipitation"):
        assert template[name].chunks is None
        np.testing.assert_array_equal(template[name].values, whole[name].values)


def equal_on(tile: Tile, part: xr.Dataset, everything: xr.Dataset) -> None:
    """Assert that a window is cut out of the whole, byte for byte."""
    expected = everything.isel(y=slice(tile.y0, tile.y1), x=slice(tile.x0, tile.x1))
    assert contract.geobox(part) == contract.geobox(expected)
    # The transform that travels with the grid is that of the window.
    xr.testing.assert_identical(part.drop_vars("spatial_ref"), expected.drop_vars("spatial_ref"))


def test_any_window_equals_the_whole_bit_for_bit(small, everything: xr.Dataset) -> None:
    for tile in (window(0, 64, 0, 64), window(50, 79, 11, 70)):
        part = simulate.render(small, tile)
        assert set(ADDED) <= set(part.variables)
        equal_on(tile, part, everything)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_usual_landscape_stays_as_it_was(name: str, whole, everything) -> None:
    ds = {"whole": whole, "small": everything}[name]
    assert {prefix: digest(ds, prefix) for prefix in GOLDEN[name]} == GOLDEN[name]


def test_a_varied_landscape_is_a_function_of_its_seed(varied) -> None:
    again = simulate.plan(seed=12, size=72, years=1, varied=True)
    assert again.setting == varied.setting == draw(12)
    tile = window(40, 70, 50, 72)
    part = simulate.render(again, tile)
    equal_on(tile, part, simulate.render(varied, window(0, 72, 0, 72)))
    assert contract.check(part) is part
    assert "varied" in part.attrs["processing"]
    assert float(part["tower_lat"].mean()) == pytest.approx(varied.setting.latitude, abs=0.1)
    plain = simulate.plan(seed=12, size=72, years=1)
    assert plain.setting is USUAL
    assert plain.weather.temperature_mean.mean() != again.weather.temperature_mean.mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200), st.sampled_from([48, 64, 96]))
def test_every_seed_gives_a_varied_plan(seed: int, size: int) -> None:
    made = simulate.plan(seed=seed, size=size, years=1, varied=True)
    air = made.weather
    assert 3 < air.temperature_mean.mean() < 22
    assert 100 < air.precipitation.sum() < 2200
    assert 80 < air.solar_radiation.mean() < 230
    assert made.dates.time.size >= 12
    assert 12 <= made.thermal.time.size <= 46
    assert (np.diff(made.thermal.day) % 8 == 0).all()
    assert set(np.unique(made.land.label)) >= {BEECH, WHEAT, MAIZE, MEADOW, WATER}
    host = made.land.label[made.land.event == EVENTS.index("tree_mortality")]
    assert np.isin(host, (BEECH, SPRUCE, PINE)).all()


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.integers(0, 200))
def test_varied_landscapes_are_in_physical_bounds(seed: int) -> None:
    ds = simulate.render(
        simulate.plan(seed=seed, size=48, years=1, varied=True), window(0, 48, 0, 48)
    )
    assert contract.check(ds) is ds
    clear = ds["reflectance"].values.transpose(0, 2, 3, 1)[ds["valid"].values == 1]
    assert 0 < clear.min() < clear.max() < 1.3
    assert 0.05 < (ds["valid"].values == 1).mean() < 0.85
    for name, low, high in (
        ("truth_lai", 0, 9), ("truth_chlorophyll", 0, 70), ("truth_gpp", 0, 30),
        ("truth_stress", 0, 1),
    ):  # fmt: skip
        values = ds[name].values
        assert low <= values.min() < values.max() <= high, name
    warmth = ds["surface_temperature"].values
    assert 245 < np.nanmin(warmth) < np.nanmax(warmth) < 345
    assert 0.2 < np.isnan(warmth).mean() < 0.95


def test_varied_seeds_differ_in_the_reflectance_of_a_class() -> None:
    """More than noise does: medians of clear summer beech and of clear bare soil."""
    found = []
    for seed in (1, 3):
        made = simulate.plan(seed=seed, size=48, years=1, varied=True)
        ds = simulate.render(made, window(0, 48, 0, 48))
        summer = (np.abs(ds["time"].dt.dayofyear.values - 205) < 50)[:, None, None]
        good = summer & (ds["valid"].values == 1) & (ds["truth_event"].values == 0)
        values = ds["reflectance"].values.transpose(0, 2, 3, 1)
        label = ds["label_class"].values
        found.append([np.median(values[good & (label == kind)], axis=0) for kind in (BEECH, BARE)])
    apart = np.abs(np.subtract(*found))
    assert (apart > 0.01).sum(1).min() >= 5
    assert not np.array_equal(*[draw(seed).gain for seed in (1, 3)])


def test_seed_decides(small) -> None:
    again = simulate.plan(seed=7, size=80, years=1, start=2019)
    other = simulate.plan(seed=8, size=80, years=1, start=2019)
    corner = window(60, 76, 60, 76)
    first = simulate.render(small, corner)
    xr.testing.assert_identical(first, simulate.render(again, corner))
    assert not np.array_equal(small.land.label, other.land.label)
    assert not np.array_equal(small.weather.precipitation, other.weather.precipitation)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size": 47}, "size"),
        ({"size": 20}, "size"),
        ({"years": 0}, "years"),
        ({"seed": -1}, "seed"),
    ],
)
def test_plan_refuses_nonsense(arguments: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        simulate.plan(**arguments)


def test_medians_of_clear_vegetation_are_those_of_a_real_cube(whole: xr.Dataset) -> None:
    clear = whole["scl"].values == 4
    for name, real in REAL.items():
        median = float(np.nanmedian(whole["reflectance"].sel(band=name).values[clear]))
        assert abs(median / real - 1) < 0.30, f"{name}: {median:.3f}, real {real}"
    for name, low, high in (("B01", 0.015, 0.06), ("B09", 0.25, 0.45)):
        assert low < float(np.nanmedian(whole["reflectance"].sel(band=name).values[clear])) < high


def test_dates_and_clouds_are_like_an_archive(whole: xr.Dataset) -> None:
    days = whole["time"].values.astype("datetime64[D]").astype(int)
    gaps = np.diff(days)
    assert gaps.min() >= 2
    assert np.unique(gaps).size > 3
    assert gaps.max() <= 40
    assert 110 < days.size < 190
    assert 0.35 < (whole["valid"].values == 1).mean() < 0.65
    np.testing.assert_array_equal(whole["valid"].values, from_scl(whole["scl"].values))
    nothing = np.isnan(whole["reflectance"].values).all(1)
    np.testing.assert_array_equal(nothing, whole["scl"].values == 0)
    assert not set(whole["time_s1"].values) & set(whole["time"].values)


def test_scene_classes_find_clouds_with_mistakes(whole: xr.Dataset) -> None:
    cloud, scl = whole["truth_cloud"].values, whole["scl"].values
    found = np.isin(scl, (8, 9, 10))
    assert found[cloud > 0.9].mean() > 0.9
    assert 0 < found[(cloud > 0.05) & (cloud < 0.25)].mean() < 1
    assert found[np.abs(cloud) < 0.01].mean() < 0.02
    water = (whole["label_class"].values == WATER) & (np.abs(cloud) < 0.02) & (scl != 0)
    # Rivers of two pixels are lost in cells of 20 m.
    assert (scl[water] == 6).mean() > 0.5
    dry = (whole["label_class"].values != WATER) & (np.abs(cloud) < 0.02)
    assert (scl[dry] == 6).mean() < 0.02


def test_every_class_and_event_is_there(whole: xr.Dataset) -> None:
    label, event = whole["label_class"].values, whole["truth_event"].values
    assert set(np.unique(label)) == set(range(1, len(CLASSES)))
    assert set(np.unique(event)) == set(range(len(EVENTS)))
    assert whole["label_class"].attrs["flag_meanings"].split()[SPRUCE] == "spruce"


def test_mine_only_grows(whole: xr.Dataset) -> None:
    mined = whole["truth_event"].values == EVENTS.index("mining")
    day = whole["truth_event_day"].values
    assert (day[whole["label_class"].values == MINE] < 0).all()
    areas = [int((mined & (day <= k)).sum()) for k in range(0, 730, 60)]
    assert (np.diff(areas) >= 0).all()
    assert areas[-1] > 1.4 * areas[0] > 0
    taken = np.nonzero(mined & (day > 0) & (day < 730))
    dates = (whole["time"].values - np.datetime64("2021-01-01")) // np.timedelta64(1, "D")
    after = dates[:, None] >= day[taken]
    assert whole["truth_lai"].values[:, taken[0], taken[1]][after].max() == 0
    assert whole["truth_gpp"].values[:, taken[0], taken[1]][after].max() == 0


def test_drought_costs_gpp_and_greenness(whole: xr.Dataset) -> None:
    label, event = whole["label_class"].values, whole["truth_event"].values
    when = whole["time"].dt
    summer = ((when.dayofyear > 182) & (when.dayofyear < 245)).values
    first, second = (summer & (when.year == year).values for year in (2021, 2022))
    green, gpp = ndvi(whole), whole["truth_gpp"].values
    for kind, loss in ((BEECH, 0.02), (MEADOW, 0.08)):
        here = (label == kind) & (event == 0)
        assert gpp[second][:, here].mean() < 0.75 * gpp[first][:, here].mean()
        assert np.nanmean(green[second][:, here]) < np.nanmean(green[first][:, here]) - loss


def test_dying_trees_lose_their_green(whole: xr.Dataset) -> None:
    label, event = whole["label_class"].values, whole["truth_event"].values
    dead = event == EVENTS.index("tree_mortality")
    assert (label[dead] == SPRUCE).all()
    alive = (label == SPRUCE) & (event == 0)
    late = (whole["time"] > np.datetime64("2022-11-01")).values
    early = (whole["time"] < np.datetime64("2022-04-01")).values
    green = ndvi(whole)
    apart = {
        name: np.nanmean(green[at][:, alive]) - np.nanmean(green[at][:, dead])
        for name, at in (("early", early), ("late", late))
    }
    assert abs(apart["early"]) < 0.08
    assert apart["late"] > 0.25


def test_truth_is_in_physical_bounds(whole: xr.Dataset) -> None:
    bounds = {"truth_gpp": (0, 30), "truth_lai": (0, 8), "truth_chlorophyll": (0, 70)}
    for name, (low, high) in bounds.items():
        values = whole[name].values
        assert np.isfinite(values).all()
        assert low <= values.min() < values.max() <= high
    beech = (whole["label_class"].values == BEECH) & (whole["truth_event"].values == 0)
    days = whole["truth_greenup"].values[:, beech]
    assert days.shape[0] == 2
    assert days.min() > 80
    assert days.max() < 150


def test_towers_measure_their_footprint(whole: xr.Dataset) -> None:
    times = whole["time"].values.astype("datetime64[D]")
    for i in range(whole.sizes["tower"]):
        tower = whole.isel(tower=i)
        row = int(np.abs(whole["y"].values - float(tower["tower_y"])).argmin())
        column = int(np.abs(whole["x"].values - float(tower["tower_x"])).argmin())
        assert whole["label_class"].values[row, column] == int(tower["tower_class"])
        around = np.s_[:, row - 2 : row + 3, column - 2 : column + 3]
        expected = whole["truth_gpp"].values[around].mean((1, 2))
        daily = tower["tower_gpp_true"].sel(time_meteo=times).values
        np.testing.assert_allclose(daily, expected, rtol=1e-4, atol=1e-4)
        error = tower["tower_gpp"].values - tower["tower_gpp_true"].values
        assert 0.02 < np.isnan(error).mean() < 0.3
        assert abs(np.nanmean(error)) < 0.15
        assert 0.1 < np.nanstd(error) < 1.5


def test_stress_is_the_factor_that_drought_brings(whole: xr.Dataset) -> None:
    stress, meadow = whole["truth_stress"].values, whole["label_class"].values == MEADOW
    assert 0 <= stress.min() < 0.1
    assert stress.max() == 1
    when = whole["time"].dt
    july = (when.month == 7).values
    first, second = (stress[july & (when.year == y).values][:, meadow] for y in (2021, 2022))
    assert second.mean() < 0.5 < 0.8 < first.mean()
    # No water, no photosynthesis.
    none = (stress < 0.01) & meadow
    assert whole["truth_gpp"].values[none].max() < 0.2


def test_thermal_cells_are_hidden_or_one_value(whole: xr.Dataset) -> None:
    warmth = whole["surface_temperature"]
    assert warmth.dims == ("time_lst", "y", "x")
    assert warmth.attrs == {"units": "K", "long_name": "Simulated land surface temperature"}
    # 64 px are six cells of 10 px and one of 4: cells do not cross the border of a block.
    edges = np.r_[0:64:10, 64:128:10]
    cells = warmth.values[:, edges][:, :, edges]
    wide = np.diff(np.append(edges, 128))
    np.testing.assert_array_equal(cells.repeat(wide, 1).repeat(wide, 2), warmth.values)
    assert 0.35 < np.isnan(warmth.values).mean() < 0.80
    days = warmth["time_lst"].values.astype("datetime64[D]").astype(int)
    assert (np.diff(days) % 8 == 0).all()
    assert 60 < days.size <= 92
    air = whole["temperature_max"].sel(time_meteo=warmth["time_lst"].dt.floor("D")).values + 273.15
    seen = np.isfinite(warmth.values).any((1, 2))
    above = np.nanmean(warmth.values[seen], axis=(1, 2)) - air[seen]
    assert -12 < above.min() < above.max() < 20


def test_dry_fields_are_hotter_than_forest_in_summer(whole: xr.Dataset) -> None:
    forest = np.isin(whole["label_class"].values, (BEECH, SPRUCE, PINE))
    forest &= whole["truth_event"].values == 0
    open_land = np.isin(whole["label_class"].values, (WHEAT, BARE, MEADOW, MINE))
    when = whole["time_lst"].dt
    dry = ((when.year == 2022) & (when.month >= 6) & (when.month <= 8)).values
    warmth = whole["surface_temperature"].values[dry]
    apart = [
        np.nanmean(day[open_land]) - np.nanmean(day[forest])
        for day in warmth
        if np.isfinite(day).mean() > 0.5
    ]
    assert len(apart) >= 2
    assert min(apart) > 0.5
