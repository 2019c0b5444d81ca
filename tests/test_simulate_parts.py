"""The parts of the simulated landscape: weather, sky, canopies, growth, radar, cells."""

from __future__ import annotations

import numpy as np
import prosail
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures.bands import BANDS
from deepfeatures.simulate import canopy, growth, land, noise, radar, scene, sky, weather


@pytest.fixture(scope="module")
def air() -> weather.Weather:
    return weather.generate(3, 2021, 3)


@pytest.fixture(scope="module")
def maps() -> land.Land:
    return land.layout(3, 96, days=1095, mortality_day=550, logging_day=780)


@pytest.fixture(scope="module")
def pixels(maps: land.Land) -> land.Land:
    """Every seventh pixel, flattened."""
    return land.Land(**{name: values.ravel()[::7] for name, values in vars(maps).items()})


@pytest.fixture(scope="module")
def grown(air: weather.Weather, pixels: land.Land) -> growth.Growth:
    return growth.grow(air, pixels)


def test_weather_is_that_of_central_europe(air: weather.Weather) -> None:
    year = air.date.astype("datetime64[Y]").astype(int) + 1970
    rain = np.array([air.precipitation[year == y].sum() for y in (2021, 2022, 2023)])
    assert (rain > 350).all()
    assert (rain < 1200).all()
    assert 8 < air.temperature_mean.mean() < 12
    assert 105 < air.solar_radiation.mean() < 150
    assert 500 < air.evaporation.sum() / 3 < 850
    assert (air.temperature_min <= air.temperature_mean).all()
    assert (air.temperature_mean <= air.temperature_max).all()
    assert (air.dewpoint <= air.temperature_mean).all()
    assert (air.vapour_deficit >= 0).all()
    assert air.wind_speed.min() >= 0


def test_drought_is_dry_and_sunny(air: weather.Weather) -> None:
    month = air.date.astype("datetime64[M]").astype(int)
    season = np.isin(month % 12 + 1, weather.DROUGHT_MONTHS)
    year = month // 12 + 1970
    dry, usual = season & (year == 2022), season & (year != 2022)
    assert air.precipitation[dry].sum() < 0.7 * air.precipitation[usual].sum() / 2
    assert air.solar_radiation[dry].mean() > air.solar_radiation[usual].mean()
    assert weather.drought_year(2021, 3) == 2022
    assert weather.drought_year(2021, 1) == 2021


def test_snow_pack_loses_no_water(air: weather.Weather) -> None:
    assert air.snow.min() >= 0
    gained = air.precipitation.sum() - air.water_input.sum()
    assert gained == pytest.approx(air.snow[-1], abs=1e-6)


def test_extraterrestrial_radiation_of_fao56() -> None:
    # FAO-56, example 8: 3 September at 20 degrees south, 32.2 MJ m-2 d-1.
    found = weather.extraterrestrial(np.array([246.0]), -20.0)[0] * 0.0864
    assert found == pytest.approx(32.2, abs=0.1)


def test_saturation_vapour_pressure_of_fao56() -> None:
    # FAO-56, annex 2, table 2.3: 1.228 kPa at 10 degC, 4.243 kPa at 30 degC.
    found = weather.saturation(np.array([10.0, 30.0]))
    np.testing.assert_allclose(found, [12.28, 42.43], atol=0.02)


def test_soil_water_balance_closes(air, pixels, grown) -> None:
    """Water that came in is in the soil, or was lost; the start is 85 % of the capacity."""
    table = np.array([growth.HABITS[k].capacity for k in sorted(growth.HABITS)])
    capacity = table[pixels.label - 1] * pixels.capacity
    kept = grown.water[-1] - 0.85 * capacity
    np.testing.assert_allclose(kept + grown.drained, air.water_input.sum(), rtol=2e-3)
    assert (grown.water >= 0).all()
    assert (grown.water <= capacity * 1.0001).all()


def test_gpp_of_canopies(air, pixels, grown) -> None:
    assert grown.gpp.min() >= 0
    assert grown.gpp.max() < 30
    first = slice(0, 365)
    for label, low, high in (
        (land.BEECH, 1000, 2000), (land.SPRUCE, 1000, 2300), (land.MEADOW, 700, 1900),
        (land.WHEAT, 600, 1700), (land.MAIZE, 800, 2200),
    ):  # fmt: skip
        here = (pixels.label == label) & (pixels.event == 0)
        assert low < grown.gpp[first][:, here].sum(0).mean() < high, land.CLASSES[label]
    assert grown.gpp[:, pixels.label == land.WATER].max() == 0


def test_green_up_follows_warmth(air, pixels, grown) -> None:
    found = growth.green_up(air, grown.leaf_area)
    here = (pixels.label == land.BEECH) & (pixels.event == 0)
    first = air.date.astype("datetime64[Y]").astype(int)
    warm = [np.flatnonzero(air.warmth[first == y] > 175)[0] for y in np.unique(first)]
    median = np.median(found[:, here], axis=1)
    np.testing.assert_allclose(median, np.maximum(warm, 103), atol=6)
    assert (found[:, pixels.label == land.WATER] == 0).all()


def test_look_up_table_is_prosail() -> None:
    """At its nodes the table is the reference library, band by band."""
    tables = canopy.table()
    name, view, sun, area, chlorophyll = "winter_wheat", 1, 2, 6, 4
    kind = canopy.CANOPIES[name]
    layers, water, matter = kind.leaf
    green = canopy.CHLOROPHYLL[chlorophyll]
    zenith, azimuth = canopy.VIEWS[view]
    spectrum = prosail.run_prosail(
        layers, green, 1.5 + 0.21 * green, 0.0, water, matter,
        canopy.LEAF_AREA[area] * kind.clumping, kind.angle, kind.hotspot,
        canopy.SUN_ZENITH[sun], zenith, azimuth - 162.0, prospect_version="D",
        rsoil0=kind.litter * 0.95 * prosail.spectral_lib.soil.rsoil1,
    )  # fmt: skip
    shade = 1 - 0.75 * kind.crowns * (1 - np.exp(-1.1 * np.tan(np.radians(63.0)))) * (
        1 - np.exp(-1.5 * canopy.LEAF_AREA[area])
    )
    found = tables[list(canopy.CANOPIES).index(name), view, sun, area, chlorophyll, 0, 1]
    for k, band in enumerate(BANDS.values()):
        wave = np.arange(400, 2501)
        response = np.exp(-4 * np.log(2) * ((wave - band.wavelength_nm) / band.bandwidth_nm) ** 2)
        expected = float((spectrum * response).sum() / response.sum()) * shade
        # Seven samples stand for the whole response: the red edge is steep.
        assert found[k] == pytest.approx(expected, rel=0.06, abs=0.001), band.name


def test_look_up_gives_nodes_and_stays_between_them() -> None:
    dated = canopy.at_sun(canopy.table(), 0, 40.0)
    np.testing.assert_array_equal(dated, canopy.table()[:, 0, 1])
    rng = np.random.default_rng(0)
    kind = np.arange(6).repeat(50)
    picks = [rng.integers(0, n.size, 300) for n in
             (canopy.LEAF_AREA, canopy.CHLOROPHYLL, canopy.BROWN, canopy.SOIL)]  # fmt: skip
    axes = (canopy.LEAF_AREA, canopy.CHLOROPHYLL, canopy.BROWN, canopy.SOIL)
    values = [nodes[pick] for nodes, pick in zip(axes, picks, strict=True)]
    found = canopy.look_up(dated, kind, *values)
    np.testing.assert_allclose(found, dated[kind, *picks], rtol=1e-5)
    beyond = canopy.look_up(dated, kind, values[0] + 100, *values[1:])
    top = canopy.look_up(dated, kind, np.full(300, 7.0), *values[1:])
    np.testing.assert_array_equal(beyond, top)


def test_sun_of_known_moments() -> None:
    # Equinox and solstice at true noon: zenith = latitude - declination; azimuth is south.
    time = np.array(["2021-03-20T12:07", "2021-06-21T12:02", "2021-12-21T11:58"], "datetime64[ns]")
    zenith, azimuth = sky.sun(time, 50.0, 0.0)
    np.testing.assert_allclose(zenith, [49.96, 26.56, 73.44], atol=0.05)
    np.testing.assert_allclose(azimuth, 180.0, atol=1.5)


@settings(deadline=None)
@given(st.floats(500, 9000), st.floats(20, 75), st.floats(100, 260))
def test_shadow_lies_away_from_the_sun(height: float, zenith: float, azimuth: float) -> None:
    rows, columns = sky.shadow_offset(height, zenith, azimuth)
    east, north = columns * sky.PIXEL, -rows * sky.PIXEL
    length = height * np.tan(np.radians(zenith))
    assert np.hypot(east, north) == pytest.approx(length, abs=sky.PIXEL)
    towards_sun = east * np.sin(np.radians(azimuth)) + north * np.cos(np.radians(azimuth))
    assert towards_sun == pytest.approx(-length, abs=sky.PIXEL)


def test_shadows_in_the_images_are_displaced_clouds(air: weather.Weather) -> None:
    dates = sky.calendar(3, air)
    painted = sky.paint(3, 96, dates)
    checked = 0
    for i in np.flatnonzero((dates.kind == sky.CUMULUS) & (dates.height < 1500)):
        rows, columns = sky.shadow_offset(
            dates.height[i], dates.sun_zenith[i], dates.sun_azimuth[i]
        )
        if max(abs(rows), abs(columns)) >= 80:
            continue
        assert rows <= 0, "the sun is in the south, so shadows fall to the north"
        cloud, shadow = painted.cloud[i], painted.shadow[i]
        moved = np.roll(cloud, (rows, columns), (0, 1))
        inside = np.s_[: 96 + rows, max(columns, 0) : 96 + min(columns, 0)]
        np.testing.assert_array_equal(moved[inside], shadow[inside])
        checked += 1
    assert checked > 10


def test_mine_advances_through_the_whole_period(maps: land.Land) -> None:
    day = maps.event_day[maps.event == land.EVENTS.index("mining")]
    counts = np.histogram(day[(day >= 0) & (day < 1095)], bins=3, range=(0, 1095))[0]
    assert counts.min() > 20
    assert ((maps.label == land.MINE) == (maps.event_day < 0)).all()


def test_water_cloud_model(air, pixels, grown) -> None:
    passes = radar.passes(3, air)
    assert set(passes.orbit) == {radar.ASCENDING, radar.DESCENDING}
    rng = noise.stream(3, "radar", 0, 0)
    shape = (1, pixels.label.size)
    found = radar.backscatter(air, passes, pixels, grown, rng, shape)[:, :, 0]
    power = 10 ** (found / 10)
    mean = {
        name: 10 * np.log10(power[:, :, pixels.label == label].mean((0, 2)))
        for name, label in (("water", land.WATER), ("spruce", land.SPRUCE), ("town", land.TOWN))
    }
    assert mean["water"][0] < -18 < -12 < mean["spruce"][0] < -8 < mean["town"][0]
    assert (found[:, 0].mean() - found[:, 1].mean()) > 4, "VH is weaker than VV"
    still = power[:, 0][:, (pixels.label == land.SPRUCE) & (pixels.event == 0)]
    looks = 1 / (still.std(0) / still.mean(0)) ** 2
    assert 2.5 < np.median(looks) < 6


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.sampled_from([2, 6]), st.integers(0, 9))
def test_cells_keep_the_mean(rows: int, columns: int, step: int, seed: int) -> None:
    values = np.random.default_rng(seed).random((2, rows, columns))
    found = scene.cells(values, step)
    assert found.shape == values.shape
    np.testing.assert_allclose(found.mean((1, 2)), values.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found[:, :step, :step], found[:, :1, :1].repeat(
        min(step, rows), 1).repeat(min(step, columns), 2))  # fmt: skip


@given(st.integers(0, 50), st.sampled_from([16, 33]))
@settings(max_examples=20, deadline=None)
def test_fractal_fields_are_standardised(seed: int, size: int) -> None:
    field = noise.fractal(noise.stream(seed, "fields"), size, largest=size, smallest=4)
    assert field.dtype == np.float32
    assert abs(float(field.mean())) < 1e-4
    assert float(field.std()) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(
        field, noise.fractal(noise.stream(seed, "fields"), size, largest=size, smallest=4)
    )
