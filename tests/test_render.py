"""Laws of map tiles: the right pixel in the right place, the right colour, a file others read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from deepfeatures import render

LEVELS = (1, 2, 4, 8)
FIELD = render.Grid("EPSG:32632", 600000.0, 5700000.0, 10.0, 200, 140)


def tile_at(grid: render.Grid, zoom: int, across: float = 0.5, down: float = 0.5):
    """Numbers of the tile that holds a point of the grid, given as shares of its edges."""
    west, south, east, north = render.bounds(grid)
    span = 2 * render.HALF_WORLD / 2**zoom
    x = (west + across * (east - west) + render.HALF_WORLD) / span
    y = (render.HALF_WORLD - (north - down * (north - south))) / span
    return zoom, int(x), int(y)


def exact(grid: render.Grid, z: int, x: int, y: int):
    """Fractional rows and columns of the grid at each pixel centre, every one projected."""
    west, south, east, north = render.tile_bounds(z, x, y)
    centres = (np.arange(256) + 0.5) / 256
    mercator = np.meshgrid(west + centres * (east - west), north - centres * (north - south))
    xs, ys = render.transformer("EPSG:3857", grid.crs).transform(*mercator)
    return (grid.north - ys) / grid.resolution, (xs - grid.west) / grid.resolution


def shown(grid: render.Grid, window: render.Window):
    """Rows and columns of the window's level that each pixel of a tile shows, -1 outside."""
    height = window.rows.stop - window.rows.start
    width = window.columns.stop - window.columns.start
    inside = window.index < height * width
    rows = np.where(inside, window.index // width + window.rows.start, -1)
    columns = np.where(inside, window.index % width + window.columns.start, -1)
    return rows, columns


@st.composite
def grids(draw):
    south = draw(st.booleans())
    zone = draw(st.integers(1, 60))
    return render.Grid(
        crs=f"EPSG:{327 if south else 326}{zone:02d}",
        west=draw(st.integers(250_000, 700_000)) // 10 * 10.0,
        north=draw(st.integers(1_800_000, 8_000_000)) // 10 * 10.0,
        resolution=draw(st.sampled_from([10.0, 20.0, 60.0])),
        height=draw(st.integers(1, 1500)),
        width=draw(st.integers(1, 1500)),
    )


@settings(max_examples=30, deadline=None)
@given(grids(), st.integers(7, 19), st.floats(0, 0.999), st.floats(0, 0.999))
def test_each_tile_pixel_shows_the_pixel_under_its_centre(grid, zoom, across, down):
    tile = tile_at(grid, zoom, across, down)
    assume(0 <= tile[2] < 2**zoom)
    window = render.plan(grid, *tile, LEVELS)
    rows, columns = exact(grid, *tile)
    inside = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
    if window is None:
        assert inside.mean() < 1e-4  # a corner that the bilinear grid just misses
        return
    got_rows, got_columns = shown(grid, window)
    # A pixel centre nearer than 2 % of a pixel to an edge may fall to either side.
    near = np.zeros(inside.shape, bool)
    for place in (rows, columns):
        for size in (1, window.level):
            near |= np.abs(place / size - np.round(place / size)) * size < 0.02
    assert np.array_equal((got_rows >= 0)[~near], inside[~near])
    sure = inside & ~near
    assert np.array_equal(got_rows[sure], (rows[sure] // window.level).astype(int))
    assert np.array_equal(got_columns[sure], (columns[sure] // window.level).astype(int))


@pytest.mark.parametrize("zoom", range(6, 20))
def test_the_level_is_the_coarsest_that_is_not_coarser_than_the_tile(zoom):
    grid = render.Grid("EPSG:32632", 600000.0, 5700000.0, 10.0, 5000, 5000)
    window = render.plan(grid, *tile_at(grid, zoom), LEVELS)
    ground = 40075016.686 / 2**zoom / 256 * np.cos(np.radians(51.3)) / grid.resolution
    assert window.level <= max(1.0, ground * 1.02)
    assert window.level == 8 or window.level * 2 > ground * 0.98


def test_north_is_up_and_east_is_right():
    window = render.plan(FIELD, *tile_at(FIELD, 15), (1,))
    rows, columns = shown(FIELD, window)
    middle = rows[128][rows[128] >= 0], columns[:, 128][columns[:, 128] >= 0]
    assert np.all(np.diff(rows[:, 128][rows[:, 128] >= 0]) >= 0)
    assert np.all(np.diff(columns[128][columns[128] >= 0]) >= 0)
    assert all(len(part) > 100 for part in middle)


def test_tiles_side_by_side_leave_no_pixel_out_and_repeat_no_row():
    z, x, y = tile_at(FIELD, 16, 0.01, 0.01)
    row_strips = []
    for j in range(y - 1, y + 8):
        parts = []
        for i in range(x - 1, x + 8):
            window = render.plan(FIELD, z, i, j, (1,))
            blank = np.full((256, 256), -1)
            parts.append(shown(FIELD, window) if window else (blank, blank))
        row_strips.append([np.hstack([part[k] for part in parts]) for k in (0, 1)])
    rows, columns = (np.vstack([strip[k] for strip in row_strips]) for k in (0, 1))
    inside = rows >= 0
    seen = set(zip(rows[inside].tolist(), columns[inside].tolist(), strict=True))
    assert len(seen) == FIELD.height * FIELD.width
    for image, axis in ((rows, 0), (columns, 1)):
        step = np.diff(image, axis=axis)
        both = inside[1:] & inside[:-1] if axis == 0 else inside[:, 1:] & inside[:, :-1]
        assert set(np.unique(step[both])) <= {0, 1}  # across the seams as well


def test_outside_is_none():
    z, x, y = tile_at(FIELD, 14)
    assert render.plan(FIELD, z, x + 3, y, (1,)) is None
    assert render.plan(FIELD, z, 2**z - 1 - x, 2**z - 1 - y, (1,)) is None


@given(st.integers(0, 20), st.data())
@settings(max_examples=30, deadline=None)
def test_four_tiles_make_the_one_above(z, data):
    x, y = (data.draw(st.integers(0, 2**z - 1)) for _ in "xy")
    west, south, east, north = render.tile_bounds(z, x, y)
    upper, lower = (render.tile_bounds(z + 1, 2 * x + k, 2 * y + k) for k in (0, 1))
    np.testing.assert_allclose([west, north], [upper[0], upper[3]], atol=1e-6)
    np.testing.assert_allclose([east, south], [lower[2], lower[1]], atol=1e-6)


def test_the_world_is_one_tile():
    np.testing.assert_allclose(
        render.tile_bounds(0, 0, 0), 20037508.342789244 * np.array([-1, -1, 1, 1])
    )


@pytest.mark.parametrize("tile", [(-1, 0, 0), (25, 0, 0), (3, 8, 0), (3, 0, -1)])
def test_tiles_that_do_not_exist(tile):
    with pytest.raises(ValueError, match="zoom|there is no tile"):
        render.tile_bounds(*tile)


@given(
    hnp.arrays(np.float32, 50, elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(-100, 100),
    st.floats(0.01, 100),
)
@settings(deadline=None)
def test_codes_rise_with_values(values, low, width):
    found = render.codes(values, low, low + width)
    assert found.min() >= 1
    order = np.argsort(values)
    assert np.all(np.diff(found[order].astype(int)) >= 0)
    assert np.all(found[values <= low] == 1)
    assert np.all(found[values >= low + width] == 255)
    inside = (values > low) & (values < low + width)
    back = low + (found[inside] - 1.0) / 254 * width
    assert np.all(np.abs(back - values[inside]) <= width / 254 * 0.5 + 1e-4 * abs(low) + 1e-5)


def test_nothing_has_the_code_zero():
    assert render.codes(np.array([np.nan, 0.5, np.inf, -np.inf]), 0, 1).tolist() == [0, 128, 255, 1]


@pytest.mark.parametrize(
    ("dtype", "scale", "offset", "fill", "low", "high"),
    [("uint16", 1e-4, -0.1, 0, 0.0, 0.4), ("int8", 0.031, 0.0, -128, -1.5, 2.0),
     ("int16", 2e-3, 0.0, -32768, -25.0, 0.0), ("uint8", 1.0, 0.0, None, 0.0, 11.0)],
)  # fmt: skip
def test_the_table_gives_what_decoding_gives(dtype, scale, offset, fill, low, high):
    kind = np.iinfo(dtype)
    stored = np.arange(kind.min, kind.max + 1).astype(dtype).reshape(16, -1)
    values = stored.astype(np.float32) * np.float32(scale) + np.float32(offset)
    if fill is not None:
        values[stored == fill] = np.nan
    table = render.lookup(dtype, scale, offset, fill, low, high)
    assert np.array_equal(render.look(stored, table), render.codes(values, low, high))


@given(hnp.arrays(np.uint8, (256, 256)))
@settings(max_examples=10, deadline=None)
def test_the_palette_image_is_read_back_by_pillow(codes):
    table = render.colours("viridis")
    image = Image.open(io.BytesIO(render.palette_png(codes, table)))
    assert (image.mode, image.size, image.format) == ("P", (256, 256), "PNG")
    assert np.array_equal(np.asarray(image), codes)
    pixels = np.asarray(image.convert("RGBA"))
    assert np.array_equal(pixels[..., 3], np.where(codes == 0, 0, 255))
    assert np.array_equal(pixels[codes > 0][:, :3], table[codes[codes > 0]])


@given(hnp.arrays(np.uint8, (3, 31, 17), elements=st.sampled_from([0, 1, 7, 130, 255])))
@settings(max_examples=20, deadline=None)
def test_the_composite_is_read_back_by_pillow(bands):
    data = render.rgb_png(render.composite(*bands))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    gone = (bands == 0).any(axis=0)
    assert np.array_equal(pixels[..., 3], np.where(gone, 0, 255))
    assert np.array_equal(pixels[~gone][:, :3], np.moveaxis(bands, 0, -1)[~gone])


@pytest.mark.parametrize("name", render.COLOURS)
def test_colour_maps_tell_values_apart(name):
    table = render.colours(name)
    assert table.shape == (256, 3)
    assert len({tuple(colour) for colour in table[1:]}) > 120
    stops = render.legend(name, -1.0, 3.0, stops=5)
    assert [stop["value"] for stop in stops] == [-1.0, 0.0, 1.0, 2.0, 3.0]
    assert stops[0]["colour"] == "#" + bytes(table[1]).hex()
    assert stops[-1]["colour"] == "#" + bytes(table[255]).hex()


def test_sequential_maps_become_steadily_lighter_or_darker():
    weights = np.array([0.2126, 0.7152, 0.0722])
    for name, use in render.COLOURS.items():
        light = (render.colours(name)[1:] / 255.0) ** 2.2 @ weights
        if use == "sequential":
            assert np.all(np.diff(light) >= -0.004) or np.all(np.diff(light) <= 0.004), name


def test_an_unknown_colour_map():
    with pytest.raises(ValueError, match="'jet'; choose from viridis"):
        render.colours("jet")


def test_golden_tile():
    """The upper right corner of a field of 6 x 4 pixels, numbered from 1, every 32nd tile pixel."""
    grid = render.Grid("EPSG:32632", 600000.0, 5700000.0, 10.0, 6, 4)
    window = render.plan(grid, *tile_at(grid, 19), (1,))
    field = np.arange(1, 25, dtype=np.uint8).reshape(6, 4)
    codes = render.gather(window, field[window.rows, window.columns])
    assert codes[16::32, 16::32].tolist() == GOLDEN


GOLDEN = [
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [2, 3, 3, 4, 0, 0, 0, 0],
    [2, 3, 3, 4, 0, 0, 0, 0],
    [6, 7, 7, 8, 0, 0, 0, 0],
    [10, 11, 11, 12, 0, 0, 0, 0],
    [10, 11, 11, 12, 0, 0, 0, 0],
    [14, 15, 15, 16, 0, 0, 0, 0],
]
