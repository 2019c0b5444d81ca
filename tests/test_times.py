"""Laws of series through time: parts, the usual year, lines, tables."""

from __future__ import annotations

import csv
import io
from datetime import date

import numpy as np
import pytest
import shapely
from bokeh.models import Range1d
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reading import lonlat, pair, stores  # noqa: F401 (fixtures)

from app import reads
from app.views import plot, transect
from deepfeatures import reading, seasons
from deepfeatures.reading import lines, pixels, tables
from deepfeatures.settings import workspace as make_workspace


def daily(years: int) -> np.ndarray:
    first = np.datetime64("2019-01-01")
    return np.arange(first, first + np.timedelta64(365 * years, "D"))


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 2**31), st.floats(3, 40))
def test_the_usual_year_equals_brute_force(years: int, seed: int, half_width: float) -> None:
    rng = np.random.default_rng(seed)
    days = daily(years)
    times = np.sort(rng.choice(days, 12 * years, replace=False))
    values = rng.normal(0, 1, times.size).astype(np.float32)
    usable = rng.random(times.size) > 0.3
    found = seasons.usual_year(times, values, usable, half_width=half_width)
    place = seasons.day_of_year(times)
    for day in (0, 14, 181, 364):
        apart = np.abs(day - place)
        near = usable & (np.minimum(apart, 365 - apart) <= half_width)
        assert found.count[day] == near.sum()
        wanted = np.full(3, np.nan)
        if near.sum() >= seasons.FEWEST:
            wanted = [values[near].mean(dtype=float), *np.percentile(values[near], (10, 90))]
        got = found.mean[day], found.low[day], found.high[day]
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


def test_a_repeated_season_is_its_own_usual_year_whatever_the_clouds_say() -> None:
    times = daily(4)
    season = np.sin(2 * np.pi * seasons.day_of_year(times) / 365)
    cloudy = np.arange(times.size) % 3 == 0
    values = np.where(cloudy, 99.0, season)
    found = seasons.usual_year(times, values, ~cloudy)
    width = 2 * np.pi * seasons.HALF_WIDTH / 365
    wanted = np.sin(2 * np.pi * np.arange(365) / 365) * np.sin(width) / width
    np.testing.assert_allclose(found.mean, wanted, atol=0.02)
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert found.years == 4
    with pytest.raises(ValueError, match="half width of 200 days"):
        seasons.usual_year(times, values, half_width=200)


def test_parts_are_all_dates_once_the_nearest_first(pair):  # noqa: F811
    cube, _ = pair
    edge = cube.arrays[cube.variable, 1].chunks[0]
    near = len(cube.times) - 1
    found = reading.parts(cube, near)
    assert found[0].start <= near < found[0].stop
    assert sorted(t for part in found for t in range(part.start, part.stop)) == list(range(37))
    assert all(part.start % edge == 0 for part in found)


def test_a_series_in_parts_is_the_series(pair, monkeypatch):  # noqa: F811
    cube, _ = pair
    monkeypatch.setattr(pixels, "PART", 1)
    parts = reading.parts(cube, 20)
    assert len(parts) > 2
    whole = reading.series(cube, 130, 77)
    found = {part.start: reading.series(cube, 130, 77, times=part) for part in parts}
    joined = [found[start] for start in sorted(found)]
    np.testing.assert_array_equal(np.concatenate([one.times for one in joined]), whole.times)
    np.testing.assert_array_equal(np.concatenate([one.valid for one in joined]), whole.valid)
    for channel, values in whole.values.items():
        got = np.concatenate([one.values[channel] for one in joined])
        np.testing.assert_array_equal(got, values)


def test_a_period_counts_both_of_its_days(pair):  # noqa: F811
    cube, _ = pair
    days = cube.times.astype("M8[D]")
    found = reading.period(cube, days[3].item(), days[9].item())
    assert (found.start, found.stop) == (3, 10)
    assert reading.period(cube) == slice(0, 37)
    with pytest.raises(ValueError, match="choose a period within"):
        reading.period(cube, date(1999, 1, 1), date(1999, 2, 1))


LINE = ((10.2, 5.6), (120.7, 140.1), (260.0, 60.0))


@pytest.mark.parametrize("masked", [True, False])
def test_a_transect_takes_the_pixels_under_the_line(pair, masked):  # noqa: F811
    cube, ds = pair
    corners = [lonlat(cube, *place) for place in LINE]
    channel = cube.channels[1]
    found = reading.transect(cube, corners, channel, times=slice(5, 30), masked=masked)
    legs = np.hypot(*np.diff(np.array(LINE), axis=0).T) * 10
    path = found.path
    assert path.distance.size == int(legs.sum() // 10) + 1
    np.testing.assert_allclose(np.diff(path.distance), 10.0)
    on = np.flatnonzero(path.distance < legs[0])
    share = path.distance[on] / legs[0]
    rows, columns = (
        np.floor(LINE[0][n] + 0.5 + share * (LINE[1][n] - LINE[0][n])).astype(int) for n in (0, 1)
    )
    assert (np.abs(path.rows[on] - rows) + np.abs(path.columns[on] - columns)).sum() <= 2
    wanted = ds[cube.variable].values[5:30, 1, path.rows, path.columns]
    if masked:
        usable = ds["valid"].values[5:30, path.rows, path.columns] == 1
        wanted = np.where(usable, wanted, np.nan)
    np.testing.assert_allclose(found.values, wanted, atol=2e-7)
    at = [
        reading.locate(cube, *place) for place in zip(path.lon[::40], path.lat[::40], strict=True)
    ]
    assert at == list(zip(path.rows[::40], path.columns[::40], strict=True))


def test_a_line_beyond_the_edge_is_a_gap(pair):  # noqa: F811
    cube, _ = pair
    corners = [lonlat(cube, 100, 140), lonlat(cube, 100, 170)]
    found = reading.transect(cube, corners, cube.channels[0], masked=False)
    assert (found.path.columns == -1).tolist() == [False] * 10 + [True] * (len(found.path.lon) - 10)
    assert np.isnan(found.values[:, 10:]).all()
    assert np.isfinite(found.values[:, :10]).any()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([(3.0, 50.8)], "2 to 200 points, this has 1"),
        ([(3.0, 50.8)] * 2, "the line is 0 m long"),
        ([(3.0, 50.8), (9.0, 50.8)], "draw one of 10 to 19,990 m"),
        ([(40.0, 10.0), (40.01, 10.0)], "the line lies outside"),
        ([(3.0, 91.0), (3.0, float("nan"))], "longitude and latitude in degrees"),
        ([(3.0, 50.0)] * 201, "this has 201"),
    ],
)
def test_no_line_is_a_sentence(pair, line, sentence):  # noqa: F811
    with pytest.raises(ValueError, match=sentence):
        reading.along(pair[0], line)


def test_too_much_at_once_is_a_sentence(pair, monkeypatch):  # noqa: F811
    cube, _ = pair
    monkeypatch.setattr(lines, "MAX_VALUES", 100)
    with pytest.raises(ValueError, match="too much for one transect"):
        reading.transect(cube, [lonlat(cube, 5, 5), lonlat(cube, 9, 9)], cube.channels[0])


def test_a_tidy_table_gives_places_coordinates_and_values_back():
    times = np.array(["2021-03-01T10:30:00", "2021-03-06T10:30:00"], "M8[s]")
    values = np.array([0.1, np.nan], np.float32)
    area = shapely.box(3, 50, 3.5, 51)
    text = tables.tidy(
        [
            tables.Entry("c", "A", shapely.Point(3.25, 50.5), times, {"NDVI": values}, values > 0),
            tables.Entry(
                "c", "field", area, times, {"NDVI_mean": values, "F01": values}, np.array([4, 0])
            ),
        ]
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 6
    assert [row["value"] for row in rows[:2]] == ["0.1", ""]
    assert [row["usable"] for row in rows] == ["1", "0", "4", "0", "4", "0"]
    assert {row["place"] for row in rows} == {"A", "field"}
    assert shapely.from_wkt(rows[0]["geometry"]) == shapely.Point(3.25, 50.5)
    assert shapely.from_wkt(rows[2]["geometry"]).equals(area)
    assert [float(rows[3][key]) for key in ("lon", "lat")] == [3.25, 50.5]
    ring = shapely.Point(3, 50).buffer(1, quad_segs=200)
    assert [bool(text) for text in tables.wkt(ring, 3)] == [True, False, False]


RANGES = st.tuples(st.floats(-5, 5), st.floats(0.01, 5)).map(lambda ends: (ends[0], sum(ends)))


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from("abcdefgh"), RANGES, min_size=1, max_size=8))
def test_at_most_three_axes_and_alike_channels_share_one(ranges):
    found = plot.axes(ranges)
    assert list(found) == list(ranges)
    numbers = set(found.values())
    assert numbers == set(range(len(numbers)))
    assert len(numbers) <= plot.MOST_AXES
    if len(numbers) < plot.MOST_AXES:
        for number in numbers:
            here = [ranges[name] for name, axis in found.items() if axis == number]
            whole = max(high for _, high in here) - min(low for low, _ in here)
            assert all(high - low >= plot.ALIKE * whole - 1e-9 for low, high in here)


def test_channels_of_another_range_get_an_axis_and_lose_it_again():
    times = daily(1)[:20]
    clear = np.arange(20) != 3
    small = plot.Trace("NDVI", "Pixel", times, np.linspace(0, 1, 20), clear, "#000000")
    large = plot.Trace("LAI", "Pixel", times, np.linspace(0, 60, 20), clear, "#111111")
    one = plot.Plot("Index", x_range=Range1d(0, 1), name="series")
    one.show([small, large], own=True)
    assert [scale.side.axis_label for scale in one.scales] == ["NDVI", "LAI"]
    assert one.scales[1].range.end > 60 > 2 > one.scales[0].range.end
    assert set(one.scales[1].dots.data["channel"]) == {"LAI"}
    one.show([small, large])
    assert [scale.side.visible for scale in one.scales] == [True, False]
    assert one.scales[0].range.end > 60
    assert set(one.dots.data["channel"]) == {"NDVI", "LAI"}


def test_a_band_breaks_at_gaps():
    low = np.array([0.0, 1, np.nan, 3, 4, np.nan, 6])
    band = plot.Band("NDVI", "area", daily(1)[:7], low, low + 1, "#000000")
    found = plot.outlines([band])
    assert [ys.tolist() for ys in found["ys"]] == [[0, 1, 2, 1], [3, 4, 5, 4]]


def test_a_stripe_reaches_halfway_to_its_neighbours_but_not_far():
    days = np.array(["2021-01-01", "2021-01-05", "2021-01-06", "2021-03-01"], "M8[s]")
    values = np.ones((4, 3), np.float32)
    values[2] = np.nan
    path = lines.Path(*(np.arange(3.0),) * 3, *(np.arange(3),) * 2)
    found = transect.stripes(reading.Transect(path, days, values))
    start = np.array(found["x"]) / transect.DAY
    width = np.array(found["dw"]) / transect.DAY
    first = np.array(found["time"]) / transect.DAY
    np.testing.assert_allclose(first - start, [10, 2, 10])
    np.testing.assert_allclose(start + width - first, [2, 10, 10])
    assert len(found["image"]) == 3


def test_pins_are_read_with_the_clicked_pixel_in_steps(demo_home, monkeypatch):
    ws = make_workspace(demo_home)
    west, south, east, north = reads.cubes.described(ws)["demo"]["bounds"]
    middle = (west + east) / 2, (south + north) / 2
    places = ("A", west - 1, south), ("B", west * 0.4 + east * 0.6, middle[1]), ("Pixel", *middle)
    asked = reads.times.Asked("demo", "demo-features", ("NDVI",), "2021-07-26")
    monkeypatch.setattr(pixels, "PART", 16)
    chunks: dict = {}
    for step in range(9):
        found = reads.times.pixels(ws, asked, places, step)
        for key, one in found.chunks.items():
            chunks[key] = reads.times.joined([*([chunks[key]] if key in chunks else []), one])
        if step == 0:
            assert one.times.size == 16
            assert np.datetime64("2021-07-26") in one.times.astype("M8[D]")
        if not found.more:
            break
    assert step == 2
    assert {place for _, place in chunks} == {"B", "Pixel"}, "what lies outside is left out"
    cube = reads.cubes.opened(ws, "demo")
    wanted = reading.series(cube, *reading.locate(cube, *middle), channels=["NDVI"], masked=False)
    np.testing.assert_array_equal(chunks["bands", "Pixel"].times, wanted.times)
    np.testing.assert_array_equal(chunks["bands", "Pixel"].values["NDVI"], wanted.values["NDVI"])
    usual = reads.times.usual(chunks)["features", "B"]
    assert usual["F01"].years == 1
    text = reads.times.table(chunks, places, None)
    table = list(csv.DictReader(io.StringIO(text)))
    rows = [row for row in table if (row["place"], row["channel"]) == ("Pixel", "NDVI")]
    got = [float(row["value"] or "nan") for row in rows]
    np.testing.assert_array_equal(np.float32(got), wanted.values["NDVI"])
    assert {row["cube"] for row in table} == {"demo", "demo-features"}
