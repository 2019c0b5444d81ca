"""The page without a browser: its state, its pure functions, each view on its own."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import numpy as np
import panel as pn
import pytest
from bokeh.events import SelectionGeometry, Tap
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from app import main, reads, sections, style, work
from app.server import BROKEN, Health
from app.state import State, nearest
from app.views import cloud, dates, export, jobs, latent, layer, plot, timeseries
from app.views import map as chart
from deepfeatures import aoi, catalogue, contract, store
from deepfeatures.cli.parser import parser
from deepfeatures.settings import Workspace


@pytest.fixture(autouse=True)
def _no_background_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "BASEMAP", "none")


@pytest.fixture
def home(workspace: Workspace, tiny_bands: Any) -> Workspace:
    """A workspace with one small band cube."""
    store.write(tiny_bands, catalogue.place(workspace, "tiny"))
    catalogue.add(workspace, "tiny")
    return workspace


@pytest.fixture
def state(home: Workspace) -> State:
    """The state of a new page on it."""
    found = State(ws=home, cubes=reads.cubes.described(home))
    found.settle()
    main.start(found)
    return found


def watch(view: Any, name: str) -> list[Any]:
    """Count the changes of a Bokeh property."""
    seen: list[Any] = []
    view.on_change(name, lambda _attr, _old, new: seen.append(new))
    return seen


def series_view(state: State) -> timeseries.SeriesView:
    return timeseries.SeriesView(state=state)


def test_two_pages_share_nothing(home: Workspace) -> None:
    one, other = (main.build(home) for _ in range(2))
    ids = [{id(part) for part in page.select(pn.viewable.Viewable)} for page in (one, other)]
    assert not ids[0] & ids[1]
    models = [set(page.get_root().references()) for page in (one, other)]
    assert not models[0] & models[1]


def test_an_empty_workspace_says_what_to_do(workspace: Workspace) -> None:
    page = main.build(workspace)
    (words,) = page.main
    lines = re.findall(r"<pre>deepfeatures (.+?)</pre>", words.object, re.S)
    assert [parser().parse_args(shlex.split(numbered(line))).command for line in lines] == [
        "demo", "build", "import",
    ]  # fmt: skip


def numbered(line: str) -> str:
    """Fill in what a command leaves to the user."""
    places = {"WEST SOUTH EAST NORTH": "10 51 11 52", "NAME": "field", "\\\n": ""}
    for word, value in places.items():
        line = line.replace(word, value)
    return line


def test_a_new_page_shows_a_picture_and_a_point(state: State) -> None:
    assert state.cube == "tiny"
    assert state.show == "B04,B03,B02"
    assert state.date in state.days
    west, south, east, north = state.info["bounds"]
    lon, lat = state.point or (0, 0)
    assert west < lon < east
    assert south < lat < north


def test_choices_from_an_address_that_do_not_exist_are_replaced(home: Workspace) -> None:
    state = State(ws=home, cube="gone", show="B01,B09,B02", date="1999-01-01")
    state.cubes = reads.cubes.described(home)
    assert state.cube == "tiny"
    assert state.show == "B04,B03,B02"
    assert state.date == state.days[0]
    state.param.update(show="NoIndex", date="2030-01-01")
    assert state.show == "B04,B03,B02"
    assert state.date == state.days[-1]


@given(st.lists(st.dates(), min_size=1, unique=True), st.dates())
def test_the_nearest_date_is_one_of_the_cube(found: list[Any], day: Any) -> None:
    days = sorted(str(one) for one in found)
    later = [one for one in days if one >= str(day)]
    assert nearest(days, str(day)) == (later[0] if later else days[-1])


def test_the_map_changes_its_tiles_once_for_one_choice(state: State) -> None:
    view = chart.MapView(state=state)
    urls = watch(view.front.tile_source, "url")
    state.date = state.days[2]
    assert len(urls) == 1
    assert f"time={state.days[2]}" in urls[0]
    state.param.update(show="NDVI", limits=(0.0, 0.8), cmap="magma")
    assert "channel=NDVI" in urls[-1]
    assert "vmin=0&vmax=0.8" in urls[-1]
    assert len(urls) == 2


def test_a_click_moves_the_point_and_a_drawing_does_not(state: State) -> None:
    view = chart.MapView(state=state)
    x, y = style.to_mercator(*state.point or (0, 0))
    view._tapped(Tap(None, x=x + 10, y=y))
    moved = state.point
    assert view.point.data["x"] == [pytest.approx(x + 10, abs=0.2)]
    state.mode = "Polygon"
    view._tapped(Tap(None, x=x + 60, y=y))
    assert state.point == moved


def test_a_drawn_box_is_an_area_that_the_package_reads(state: State) -> None:
    view = chart.MapView(state=state)
    state.mode = "Box"
    corners = {"type": "rect", "x0": 334000.0, "x1": 334600.0, "y0": 6587000.0, "y1": 6587900.0}
    view._drawn(SelectionGeometry(None, geometry=corners, final=True))
    found = aoi.from_geojson(state.area)
    (xs,), (ys,) = view.area.data["xs"], view.area.data["ys"]
    assert (min(xs), max(ys)) == pytest.approx((334000, 6587900), abs=0.1)
    assert export.is_box(aoi.to_geojson(found)["geometry"])
    assert state.mode == "Explore"


def test_a_polygon_is_drawn_corner_by_corner(state: State) -> None:
    view = chart.MapView(state=state)
    state.mode = "Polygon"
    places = [(0.0, 0.0), (900.0, 0.0), (400.0, 800.0), (400.0, 800.0)]
    for number, (x, y) in enumerate(places):
        assert view.done.visible == (number > 2)
        view._tapped(Tap(None, x=x, y=y))
    view._finished(None)
    assert len(state.area["geometry"]["coordinates"][0]) == 4
    assert not export.is_box(state.area["geometry"])
    assert view.sketch.data == {"x": [], "y": []}


@given(st.floats(-179, 179), st.floats(-84, 84))
def test_mercator_and_back(lon: float, lat: float) -> None:
    assert style.to_lonlat(*style.to_mercator(lon, lat)) == pytest.approx((lon, lat), abs=1e-9)


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), max_size=30))
def test_lines_break_at_gaps(points: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in points])
    clear = np.array([usable for _, usable in points], bool)
    times = np.arange(values.size)
    trace = plot.Trace("NDVI", "Pixel", times, values, clear, style.SERIES[0])
    bridges, lines, _ = plot.columns([trace])
    assert bridges["xs"][0].tolist() == np.flatnonzero(clear).tolist()
    assert lines["xs"][0].tolist() == list(range(values.size)), "a gap is a step of its own"
    assert np.array_equal(lines["ys"][0], np.where(clear, values, np.nan), equal_nan=True)


def test_the_series_of_a_pixel_are_those_of_the_store(state: State, tiny_bands: Any) -> None:
    cube = tiny_bands.isel(y=13, x=4)
    back = Transformer.from_crs(str(contract.crs(tiny_bands)), 4326, always_xy=True)
    lon, lat = back.transform(float(cube["x"]), float(cube["y"]))
    state.param.update(chosen=["B08", "NDVI"], lon=lon, lat=lat)
    view = series_view(state)
    dots = view.top.dots.data
    red, infrared = (cube["reflectance"].sel(band=band).values for band in ("B04", "B08"))
    for channel, values in (("B08", infrared), ("NDVI", (infrared - red) / (infrared + red))):
        pairs = zip(dots["value"], dots["channel"], strict=True)
        found = [value for value, name in pairs if name == channel]
        np.testing.assert_allclose(found, values[np.isfinite(values)], rtol=2e-3, atol=2e-4)
    assert "no features at this pixel" in view.note.object


def test_without_a_point_there_is_a_sentence(state: State) -> None:
    state.param.update(lon=None, lat=None)
    view = series_view(state)
    assert "Click a pixel" in view.note.object
    assert view.top.dots.data["value"] == []


def test_a_point_outside_is_a_sentence(state: State) -> None:
    view = series_view(state)
    state.param.update(lon=0.0, lat=0.0)
    assert "lies outside" in view.note.object
    assert view.top.dots.data["value"] == []


def test_steps_skip_cloudy_dates() -> None:
    days, shares = list("abcde"), [1.0, 0.2, 0.1, 0.9, 0.3]
    assert dates.step(days, 0, 1, shares, clear=False) == 1
    assert dates.step(days, 0, 1, shares, clear=True) == 3
    assert dates.step(days, 3, 1, shares, clear=True) == 3
    assert dates.step(days, 3, -1, shares, clear=True) == 0
    assert dates.step(days, 4, 1, shares, clear=False) == 4


def test_the_time_axis_follows_and_leads(state: State) -> None:
    view = dates.DatesView(state=state, read=lambda name: reads.cubes.shares(state.ws, name))
    view.clear.value = False
    view.go(0)
    assert state.date == state.days[0]
    view.move(1)
    assert (state.date, view.slider.value) == (state.days[1], state.days[1])
    assert view.now.data["index"] == [1]
    assert len(view.bars.data["share"]) == len(state.days)
    view.slider.value = state.days[4]
    assert state.date == state.days[4]


def test_a_single_channel_gets_a_range_and_a_legend(state: State) -> None:
    view = layer.LayerView(
        state=state,
        suggest=lambda *asked: reads.cubes.limits(state.ws, *asked),
        reachable=lambda: False,
    )
    assert not view.background.visible
    assert view.ramp.object == ""
    view.show.value = "NDVI"
    low, high = state.limits
    assert low < high
    assert "NDVI" in view.ramp.object
    assert "linear-gradient" in view.ramp.object
    view.low.value = high + 1
    assert state.limits == (low, high), "a range that is empty is not taken"
    view.show.value = "B04,B03,B02"
    assert view.ramp.object == ""


def test_without_features_the_latent_view_says_so(state: State) -> None:
    view = latent.LatentView(state=state)
    assert "No features yet" in view.note.object
    assert view.image.data["image"] == []


def test_the_cloud_is_drawn_where_its_points_are() -> None:
    image = cloud.cloud(np.array([[0.5, -0.5]] * 3), ((-1.0, 1.0), (-1.0, 1.0)))
    rows, columns = np.nonzero(image)
    height, width = image.shape
    assert abs(rows.mean() / height - 0.25) < 0.02
    assert abs(columns.mean() / width - 0.75) < 0.02


def test_a_year_of_a_pixel_leaves_out_gaps_and_other_years() -> None:
    times = np.array(["2020-12-31", "2021-01-05", "2021-07-01", "2021-08-01"], "datetime64[s]")
    scores = np.array([[0, 0], [1, 1], [np.nan, 2], [3, 3]], float)
    found = cloud.path(times, scores, "2021")
    assert found["day"] == ["2021-01-05", "2021-08-01"]
    assert found["color"] == [style.MONTHS[0], style.MONTHS[7]]


def test_years_lie_over_one_another_in_a_colour_each() -> None:
    times = np.array(["2020-05-01", "2020-08-01", "2021-05-01", "2021-06-01"], "datetime64[s]")
    scores = np.array([[0, 0], [1, 1], [2, 2], [np.nan, 3]], float)
    dots, colors = cloud.paths(times, scores)
    assert dots["day"] == ["2020-05-01", "2020-08-01", "2021-05-01"]
    assert dots["color"] == [style.SERIES[0], style.SERIES[0], style.SERIES[1]]
    assert colors == {"2020": style.SERIES[0], "2021": style.SERIES[1]}
    lines = cloud.lines(dots)
    assert lines["xs"] == [[0, 1], [2]]
    assert lines["color"] == list(colors.values())
    assert cloud.years(colors).count("<span>") == 2


@pytest.mark.parametrize("name", ["month", "place", "F01"])
def test_points_take_the_colour_of_what_they_are(name: str) -> None:
    """Two points far apart, of other classes or values, have colours of their own in between."""
    scores = np.array([[-0.5, 0.0]] * 3 + [[0.5, 0.0]] * 3)
    shown = ((-1.0, 1.0), (-1.0, 1.0))
    low_high = np.array([0, 0, 0, 1, 1, 1])
    shades = {
        "month": cloud.Shade("month", low_high * 6, style.MONTH_NAMES),
        "place": cloud.Shade("place", np.stack([low_high, low_high], axis=1)),
        "F01": cloud.Shade("F01", low_high.astype(float)),
    }
    image = cloud.cloud(scores, shown, shades[name])
    left, right = (half[half != 0] for half in np.split(image, 2, axis=1))
    assert len(set(left.tolist())) == len(set(right.tolist())) == 1
    assert left[0] != right[0]
    assert cloud.legend(shades[name])
    if name == "month":
        colour = "#" + bytes(left[:1].view(np.uint8)[:3]).hex()
        assert colour == style.MONTHS[0]


def test_the_area_asks_before_it_costs(state: State) -> None:
    view = jobs.JobsView(state=state, read=lambda: reads.cubes.described(state.ws))
    assert view.model.value == "optical"
    assert "Draw an area" in view.note.object
    assert view.start.disabled
    west, south, east, north = state.info["bounds"]
    view.area.uploaded(json.dumps(square(west, south, east, north)).encode(), "a.geojson")
    assert "7 dates" in view.note.object
    assert not view.start.disabled
    view.area.uploaded(b"{", "a.geojson")
    assert 'role="alert"' in view.note.object


def test_an_area_outside_is_a_sentence(state: State) -> None:
    view = jobs.JobsView(state=state, read=lambda: reads.cubes.described(state.ws))
    state.area = square(40.0, 10.0, 40.1, 10.1)
    assert "does not touch the cube" in view.note.object
    assert view.start.disabled


def test_a_job_can_be_cancelled_and_the_page_says_so(state: State) -> None:
    view = jobs.JobsView(state=state, read=lambda: reads.cubes.described(state.ws))
    state.area = square(*state.info["bounds"])
    view._submit(None)
    key = state.job
    assert key
    assert view.cancel.visible
    again = jobs.JobsView(state=state, read=lambda: reads.cubes.described(state.ws))
    assert again.cancel.visible, "a page that is loaded again finds its job"
    view._cancel(None)
    assert "Cancelled" in view.progress.object
    assert state.job == ""
    assert not view.cancel.visible


def test_the_export_asks_for_what_is_chosen(state: State) -> None:
    view = export.ExportView(
        state=state,
        size=lambda *asked, **wanted: reads.cubes.export_size(state.ws, *asked, **wanted),
    )
    assert "before compression" in view.note.object
    view.channels.value = ["B04", "B08"]
    assert "channels=B04,B08" in view.link.href
    state.area = square(*state.info["bounds"])
    assert "bbox=" in view.link.href
    assert view.link.visible
    state.area = square(40.0, 10.0, 40.1, 10.1)
    assert 'role="alert"' in view.note.object
    assert view.link.disabled


def test_without_a_network_there_is_no_background_map() -> None:
    assert not reads.cubes.reachable("none")
    assert not reads.cubes.reachable("http://127.0.0.1:9/{Z}/{X}/{Y}.png")


def test_slow_work_ends_in_one_of_two_ways() -> None:
    done: list[Any] = []
    work.run(lambda: 7, then=done.append, failed=done.append)

    def fail() -> None:
        raise KeyError("there is no such cube")

    work.run(fail, then=done.append, failed=done.append)
    assert done == [7, "there is no such cube"]


def test_health_tells_why_the_page_is_not_ready(workspace: Workspace) -> None:
    health = Health(workspace)
    with pytest.raises(RuntimeError, match="first time"):
        health()
    health.problem = BROKEN
    with pytest.raises(RuntimeError, match="can not be built"):
        health()
    health.problem = ""
    assert health() == {"cubes": 0}


@pytest.mark.parametrize(
    ("size", "words"), [(870, "1 kB"), (8.7e5, "870 kB"), (1.24e7, "12 MB"), (1.44e9, "1.4 GB")]
)
def test_sizes_are_written_for_people(size: float, words: str) -> None:
    assert style.megabytes(size) == words


def square(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"name": "field"}, "geometry": geometry}


def test_a_part_is_made_when_it_is_first_unfolded():
    made: list[str] = []

    def part(name: str) -> Any:
        return lambda: made.append(name) or pn.pane.HTML(name)

    stack = sections.folded({"One": part("one"), "Two": part("two")}, ["One"])
    assert made == ["one"]
    stack.active = [0, 1]
    stack.active = []
    stack.active = [1]
    assert made == ["one", "two"]
    assert [[pane.object for pane in holder] for holder in stack] == [["one"], ["two"]]


def test_of_two_parts_the_one_that_is_chosen_is_shown():
    made: list[str] = []

    def part(name: str) -> Any:
        return lambda: made.append(name) or pn.pane.HTML(name)

    card = sections.either({"One": part("one"), "Two": part("two")}, label="What is shown")
    choice, place = card
    assert made == ["one"]
    choice.value = "Two"
    choice.value = "One"
    assert made == ["one", "two"]
    assert [pane.object for pane in place[0]] == ["one"]


def test_every_colour_of_the_sheets_is_named() -> None:
    assets = [one for one in style.ASSETS.iterdir() if one.suffix in (".css", ".js")]
    texts = {one.name: one.read_text() for one in assets if one.name != "theme.css"}
    hard = r"(?<!\w)#[0-9a-fA-F]{3,8}\b|(?:rgb|hsl)a?\(|: ?(?:white|black|gr[ae]y)\b"
    found = {name: re.findall(hard, text) for name, text in texts.items()}
    assert {name: colours for name, colours in found.items() if colours} == {}
    used = {name for text in texts.values() for name in re.findall(r"var\(--([a-z]+)\)", text)}
    assert set(style.LIGHT) == set(style.DARK) == used


@pytest.mark.parametrize("colours", [style.LIGHT, style.DARK])
def test_words_and_marks_are_seen_by_day_and_in_the_dark(colours: dict[str, str]) -> None:
    for paper in ("paper", "page", "well", "chip"):
        for word in ("ink", "soft", "faint", "primary", "warn"):
            assert contrast(colours[word], colours[paper]) >= 4.5, (word, paper)
    for word, paper in (("over", "primary"), ("title", "header"), ("primary", "tint")):
        assert contrast(colours[word], colours[paper]) >= 4.5, (word, paper)
    for mark in (style.PRIMARY, style.ACCENT, style.LINE):
        assert contrast(mark, colours["paper"]) >= 3
    for mark in (*style.SERIES, style.GAP):
        assert contrast(mark, colours["paper"]) >= 2.3


def contrast(one: str, other: str) -> float:
    """Give the ratio of contrast of two colours after WCAG 2.2."""
    bright = []
    for color in (one, other):
        rgb = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        bright.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(bright) / min(bright)
