"""The simulated landscape as a whole: contract, determinism, tiling, statistics, truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from deepfeatures import contract, simulate
from deepfeatures.bands import BANDS
from deepfeatures.clouds import from_scl
from deepfeatures.simulate.land import BEECH, CLASSES, EVENTS, MEADOW, MINE, SPRUCE, WATER
from deepfeatures.tiles import Tile

# Medians of clear vegetation (SCL 4) of the Belgian cube be_31UDS, Sen2Cor surface reflectance.
REAL = {
    "B02": 0.042, "B03": 0.071, "B04": 0.056, "B05": 0.116, "B06": 0.269, "B07": 0.322,
    "B08": 0.342, "B8A": 0.350, "B11": 0.204, "B12": 0.126,
}  # fmt: skip


def window(y0: int, y1: int, x0: int, x1: int) -> Tile:
    """Make a tile without halo."""
    return Tile(y0, y1, x0, x1, y0, y1, x0, x1)


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


def test_any_window_equals_the_whole_bit_for_bit(small) -> None:
    everything = simulate.render(small, window(0, 80, 0, 80))
    for tile in (window(0, 64, 0, 64), window(50, 79, 11, 70)):
        part = simulate.render(small, tile)
        expected = everything.isel(y=slice(tile.y0, tile.y1), x=slice(tile.x0, tile.x1))
        assert contract.geobox(part) == contract.geobox(expected)
        # The transform that travels with the grid is that of the window.
        xr.testing.assert_identical(
            part.drop_vars("spatial_ref"), expected.drop_vars("spatial_ref")
        )


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
