"""The parts of the simulated landscape: weather, sky, canopies, growth, radar, cells."""

from __future__ import annotations

import numpy as np
import prosail
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures.bands import BANDS
from deepfeatures.simulate import (
    canopy,
    growth,
    land,
    noise,
    radar,
    scene,
    setting,
    sky,
    thermal,
    weather,
)  # fmt: skip


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


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_drawn_settings_stay_in_the_measured_ranges(seed: int) -> None:
    drawn = setting.draw(seed)
    assert drawn == setting.draw(seed) != setting.draw(seed + 1)
    assert len(drawn.canopies) == len(canopy.CANOPIES)
    for kind in drawn.canopies:
        layers, water, matter = kind.leaf
        # Extremes of LOPEX and ANGERS, Feret et al. 2008, doi:10.1016/j.rse.2008.02.012.
        assert 1.0 < layers < 3.7
        assert 0.0043 < water < 0.0525
        assert 0.0017 < matter < 0.033
        assert 20 < kind.angle < 75
        assert 0 <= kind.crowns <= 0.5
    assert np.abs(np.array(drawn.gain) - 1).max() <= 0.03
    assert np.abs(drawn.offset).max() <= 0.003
    assert 0 <= drawn.lost <= 0.8
    assert 0 < drawn.missed[1] < drawn.missed[2] <= 1


def test_soils_have_their_colour() -> None:
    """Tables of other soils: red clay rises with the wavelength, chalk is bright and flat."""
    usual, red, chalk = (
        canopy.table((canopy.CANOPIES["winter_wheat"],), soil)[0, 0, 1, 0, 0, 0, 1]
        for soil in (canopy.LOAM, canopy.Soil(0.8, 0.9, 0.0), canopy.Soil(1.5, -0.4, -0.2))
    )
    blue, scarlet = list(BANDS).index("B02"), list(BANDS).index("B04")
    assert red[scarlet] / red[blue] > 1.2 * usual[scarlet] / usual[blue]
    assert chalk[scarlet] / chalk[blue] < 0.95 * usual[scarlet] / usual[blue]
    assert (chalk > usual).all()
    assert chalk.max() < 0.9


def test_outbreak_without_spruce_takes_another_forest() -> None:
    steps = (np.arange(60, dtype=np.float32) + 0.5) / 60
    frame = land._Frame(60, *np.meshgrid(steps, steps), 5)
    label = np.full((60, 60), land.MEADOW, np.uint8)
    dead, _ = land._outbreak(frame, label, 100)
    assert not dead.any()
    label[10:30, 10:30] = land.BEECH
    dead, when = land._outbreak(frame, label, 100)
    assert dead.any()
    assert (label[dead] == land.BEECH).all()
    assert when[dead].min() >= 100
    label[40:55, 40:55] = land.PINE
    dead, _ = land._outbreak(frame, label, 100)
    assert (label[dead] == land.PINE).all()


def test_day_length_of_fao56() -> None:
    # FAO-56, example 9: 3 September at 20 degrees south, 11.7 hours.
    assert thermal.day_length(246.0, -20.0) == pytest.approx(11.7, abs=0.05)


def test_air_is_coldest_at_sunrise_and_warmest_after_noon() -> None:
    hours = np.linspace(5, 19, 141)
    found = [thermal.air_temperature(8.0, 20.0, hour, 14.0) for hour in hours]
    assert found[0] == 8.0
    assert max(found) == pytest.approx(20.0, abs=0.01)
    assert hours[int(np.argmax(found))] == pytest.approx(13.86, abs=0.06)


@given(
    st.floats(-10, 35), st.floats(0, 1), st.floats(0, 900), st.floats(1.5, 12),
    st.floats(0.05, 0.4), st.floats(0, 0.4), st.floats(30, 250), st.floats(0, 1e5),
)  # fmt: skip
def test_energy_balance_closes(warm, dryness, light, wind, albedo, stored, coupling, surface):
    """What the surface takes up goes into ground, air and vapour, at the temperature given."""
    pressure = float(weather.saturation(np.float64(warm)))
    air = thermal.Air(warm, dryness * pressure, light, 70.0, wind)
    above = float(air.excess(albedo, stored, coupling, surface))
    kelvin = warm + 273.15
    net = ((1 - albedo) * light - 70.0) * (1 - stored)
    emitted = 4 * 5.67e-8 * kelvin**3 * above
    heat = 1200 * above / (coupling / wind)
    slope = 4098 * pressure / (warm + 237.3) ** 2
    vapour = 1200 / 0.66 * (dryness * pressure + slope * above) / (coupling / wind + surface)
    assert heat + vapour + emitted == pytest.approx(net, rel=1e-6, abs=1e-6)


def test_bare_dry_soil_is_hotter_than_leaves_at_midday_in_summer(air, pixels, grown) -> None:
    latitude = setting.USUAL.latitude
    dates = thermal.calendar(3, air, latitude)
    empty = np.zeros((dates.time.size, 1, pixels.label.size), np.float16)
    clear = sky.Sky(empty, empty, empty, empty)
    rng = noise.stream(3, "radiometer", 0, 0)
    # Pixels of one class side by side, so that a cell holds one class only.
    order = np.argsort(pixels.label, kind="stable")
    sorted_land = land.Land(**{name: values[order] for name, values in vars(pixels).items()})
    held = {name: values[..., order] for name, values in vars(grown).items()}
    found = thermal.surface_temperature(
        air, dates, latitude, sorted_land, growth.Growth(**held), clear, rng, (1, order.size)
    )[:, 0]
    assert np.isfinite(found).all()
    of = {kind: found[:, sorted_land.label == kind].mean(1) for kind in
          (land.BEECH, land.SPRUCE, land.BARE, land.WATER)}  # fmt: skip
    summer = np.isin(air.day_of_year[dates.day], np.arange(152, 244))
    dry = summer & (air.wetness[dates.day] < 0.3)
    assert dry.sum() > 5
    ambient = air.temperature_max[dates.day] + 273.15
    assert (of[land.BARE] - of[land.BEECH])[dry].min() > 2
    assert (of[land.BARE] - of[land.BEECH])[dry].mean() > 6
    assert 5 < (of[land.BARE] - ambient)[dry].mean() < 20
    assert np.abs(of[land.SPRUCE] - ambient)[summer].mean() < 5
    assert (of[land.WATER] < of[land.BARE])[summer].all()


def test_lake_never_freezes_through_and_lags_the_air(air: weather.Weather) -> None:
    lake = thermal._lake(air.temperature_mean)
    assert lake.min() >= 0.5
    assert lake.std() < air.temperature_mean.std()
    lags = [np.corrcoef(lake[60:], air.temperature_mean[60 - k : -k or None])[0, 1]
            for k in range(30)]  # fmt: skip
    assert 5 < int(np.argmax(lags)) < 29
