"""Laws of quick reads: they equal what xarray reads from the same store, in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures import indices, latent, reading, render, store
from deepfeatures.aoi import AOI
from deepfeatures.bands import attributes

BANDS = ("B02", "B03", "B04", "B08")


def features_cube(ds: xr.Dataset, features: int = 5) -> xr.Dataset:
    """Make a feature cube on the grid of a band cube: seeded mixtures of its bands."""
    rng = np.random.default_rng(3)
    mixed = np.einsum("fc,tcyx->tfyx", rng.normal(0, 3, (features, 4)), ds["reflectance"].values)
    mixed = np.where(ds["valid"].values[:, None] == 1, mixed, np.nan).astype(np.float32)
    made = ds.drop_vars(["reflectance", "scl", "band"]).assign(
        features=(("time", "feature", "y", "x"), mixed, attributes("features"))
    )
    made["features"].encoding = {"scale_factor": 0.03}
    return made.assign_coords(feature=[f"F{n + 1:02d}" for n in range(features)])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A band cube and a feature cube of several chunks and shards each way, with an overview."""
    folder = tmp_path_factory.mktemp("stores")
    ds = bands_cube(times=37, height=270, width=150, bands=BANDS)
    found = {"bands": str(folder / "bands.zarr"), "features": str(folder / "features.zarr")}
    store.write(ds, found["bands"])
    store.write(features_cube(ds), found["features"])
    return found


@pytest.fixture(scope="module", params=["bands", "features"])
def pair(stores: dict[str, str], request: pytest.FixtureRequest):
    """An open cube and the same through xarray, in memory."""
    url = stores[request.param]
    return reading.open(url, request.param), store.open(url).load()


def lonlat(cube: reading.OpenCube, row: float, column: float) -> tuple[float, float]:
    grid = cube.grid
    x = grid.west + (column + 0.5) * grid.resolution
    y = grid.north - (row + 0.5) * grid.resolution
    return render.transformer(grid.crs, "EPSG:4326").transform(x, y)


def test_an_open_cube_knows_its_store(pair):
    cube, ds = pair
    assert cube.levels == (1, 2)
    assert (cube.grid.height, cube.grid.width, cube.grid.resolution) == (270, 150, 10.0)
    assert cube.grid.west == ds["x"].values[0] - 5
    assert cube.grid.north == ds["y"].values[0] + 5
    assert np.array_equal(cube.times, ds["time"].values.astype("M8[s]"))
    assert set(cube.channels) <= set(cube.available)
    assert ("NDVI" in cube.available) == (cube.kind == "bands")


def slices(size: int):
    return st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(
        lambda pair: slice(pair[0], min(pair[0] + pair[1], size))
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_equals_what_xarray_reads(pair, data):
    cube, ds = pair
    times, rows, columns = (data.draw(slices(n)) for n in (37, 270, 150))
    channels = data.draw(st.permutations(cube.channels))[: data.draw(st.integers(1, 4))]
    found = reading.values(cube, channels, times, rows, columns)
    assert list(found) == list(channels)
    main = ds[cube.variable]
    for channel, values in found.items():
        wanted = main.sel({main.dims[1]: channel})[times, rows, columns].values
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wanted, rtol=0, atol=2e-7)
    valid = reading.read(cube, "valid", (times, rows, columns))
    assert np.array_equal(valid, ds["valid"][times, rows, columns].values)


def test_the_overview_is_read_as_stored(pair):
    cube, _ = pair
    raw = store.arrays(cube.url)[f"overviews/2/{cube.variable}"][:]
    assert raw.shape[-2:] == (135, 75)
    for t, channel in ((0, 0), (36, len(cube.channels) - 1)):
        rows, columns = slice(60, 135), slice(0, 75)
        found = reading.stored(cube, t, cube.channels[channel], rows, columns, level=2)
        assert np.array_equal(found, raw[t, channel, rows, columns])


@pytest.mark.parametrize("pixel", [(0, 0), (269, 149), (63, 64), (200, 10)])
def test_a_pixel_series_equals_the_selection_of_xarray(pair, pixel):
    cube, ds = pair
    main = ds[cube.variable][:, :, pixel[0], pixel[1]].values
    valid = ds["valid"][:, pixel[0], pixel[1]].values == 1
    plain = reading.series(cube, *pixel, masked=False)
    masked = reading.series(cube, *pixel)
    assert np.array_equal(plain.valid, valid)
    assert list(plain.values) == list(cube.channels)
    for at, channel in enumerate(cube.channels):
        np.testing.assert_allclose(plain.values[channel], main[:, at], rtol=0, atol=2e-7)
        wanted = np.where(valid, main[:, at], np.nan)
        np.testing.assert_allclose(masked.values[channel], wanted, rtol=0, atol=2e-7)
    assert np.isnan(masked.values[cube.channels[0]]).any()


def test_an_index_is_computed_from_its_bands(stores):
    cube, ds = reading.open(stores["bands"]), store.open(stores["bands"]).load()
    found = reading.series(cube, 40, 41, channels=["EVI", "B04", "NDVI"], masked=False)
    bands = {band: ds["reflectance"].sel(band=band)[:, 40, 41].values for band in BANDS}
    wanted = indices.compute(bands, ["EVI", "NDVI"])
    assert list(found.values) == ["EVI", "B04", "NDVI"]
    np.testing.assert_allclose(found.values["EVI"], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found.values["NDVI"], wanted[1], rtol=1e-5)
    ndvi = (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])
    np.testing.assert_allclose(found.values["NDVI"], ndvi, rtol=1e-5)


def triangle(cube: reading.OpenCube, **period: date) -> AOI:
    corners = [lonlat(cube, *place) for place in ((20.3, 10.2), (180.1, 30.7), (90.4, 130.1))]
    return AOI("triangle", shapely.Polygon(corners), **period)


@pytest.mark.parametrize("masked", [True, False])
def test_an_area_series_equals_brute_force(pair, masked):
    cube, ds = pair
    area = triangle(cube, start=date(2021, 4, 1), end=date(2021, 7, 1))
    found = reading.area_series(cube, area, channels=cube.channels[1:3], masked=masked)
    rows, columns = np.mgrid[:270, :150]
    inside = shapely.contains_xy(area.geometry, *lonlat(cube, rows, columns))
    part = ds.sel(time=slice("2021-04-01", "2021-07-01"))
    assert 10 < part.sizes["time"] < 37
    assert np.array_equal(found.times, part["time"].values.astype("M8[s]"))
    assert found.pixels == inside.sum() > 1000
    for at, channel in enumerate(found.statistics, 1):
        values = part[cube.variable][:, at].values.astype(float)
        if masked:
            values = np.where(part["valid"].values == 1, values, np.nan)
        values = values[:, inside]
        assert np.array_equal(found.count[channel], np.isfinite(values).sum(axis=1))
        got = found.statistics[channel]
        np.testing.assert_allclose(got["mean"], np.nanmean(values, axis=1), rtol=1e-5)
        for q in (5, 25, 50, 75, 95):
            wanted = np.nanpercentile(values, q, axis=1)
            np.testing.assert_allclose(got[f"p{q:02d}"], wanted, rtol=1e-5, atol=1e-6)


def test_the_area_series_of_an_index(stores):
    cube, ds = reading.open(stores["bands"]), store.open(stores["bands"]).load()
    found = reading.area_series(cube, triangle(cube), channels=["NDVI"])
    rows, columns = np.mgrid[:270, :150]
    inside = shapely.contains_xy(triangle(cube).geometry, *lonlat(cube, rows, columns))
    red, nir = (ds["reflectance"].sel(band=band).values[:, inside] for band in ("B04", "B08"))
    ndvi = np.where(ds["valid"].values[:, inside] == 1, (nir - red) / (nir + red), np.nan)
    np.testing.assert_allclose(
        found.statistics["NDVI"]["p50"], np.nanmedian(ndvi, axis=1), rtol=1e-4
    )


def test_a_date_without_valid_pixels_is_a_gap(tmp_path):
    ds = bands_cube(times=3, height=9, width=11, bands=BANDS)
    ds["valid"][1] = 0
    store.write(ds, str(tmp_path / "gap.zarr"))
    cube = reading.open(str(tmp_path / "gap.zarr"))
    whole = AOI("all", shapely.box(*render.bounds(cube.grid, "EPSG:4326")))
    found = reading.area_series(cube, whole, channels=["B04"])
    assert found.count["B04"].tolist()[1] == 0
    assert np.isnan(found.statistics["B04"]["mean"]).tolist() == [False, True, False]
    assert reading.shares(cube)[1] == 0
    assert reading.shares(cube)[0] == pytest.approx(float(ds["valid"][0].mean()))


def test_too_large_an_area_is_refused(stores, monkeypatch):
    from deepfeatures.reading import pixels

    cube = reading.open(stores["bands"])
    monkeypatch.setattr(pixels, "MAX_AREA_VALUES", 1000)
    with pytest.raises(ValueError, match="too much for one series; draw a smaller one"):
        reading.area_series(cube, triangle(cube))


@given(st.integers(0, 269), st.integers(0, 149), st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
@settings(max_examples=50, deadline=None)
def test_a_place_lies_in_the_pixel_around_it(stores, row, column, down, across):
    cube = reading.open(stores["bands"])
    assert reading.locate(cube, *lonlat(cube, row + down, column + across)) == (row, column)


@pytest.mark.parametrize(
    ("lon", "lat", "words"),
    [(np.nan, 50, "is no place"), (3, np.inf, "is no place"), (3, 91, "is no place"),
     (50.8, 3.0, "lies outside 'x', which covers"), (-179.9, 0, "lies outside")],
)  # fmt: skip
def test_places_that_are_none(stores, lon, lat, words):
    with pytest.raises(ValueError, match=words):
        reading.locate(reading.open(stores["bands"], "x"), lon, lat)


def test_dates_by_index_and_by_day(pair):
    cube, ds = pair
    days = ds["time"].values.astype("M8[D]")
    for at, day in enumerate(days):
        assert reading.step(cube, str(day)) == reading.step(cube, f"{day}T23:59:59Z") == at
        assert reading.step(cube, str(at)) == reading.step(cube, at) == at
    assert reading.step(cube, None) == reading.step(cube, "") == 36
    gap = days[:-1][np.diff(days) > np.timedelta64(1, "D")][0] + 1
    with pytest.raises(ValueError, match=f"no acquisition on {gap}; the nearest is {gap - 1}"):
        reading.step(cube, str(gap))
    with pytest.raises(ValueError, match=f"is outside; .* has 37 dates from {days[0]}"):
        reading.step(cube, "1999-12-31")
    with pytest.raises(ValueError, match="no date number 37; .* numbered 0 to 36"):
        reading.step(cube, "37")
    for text in ("soon", "NaT", "2021-13-01", "-1", "1e3"):
        with pytest.raises(ValueError, match="is no date|is outside"):
            reading.step(cube, text)


def test_unknown_channels_are_named(pair):
    cube, _ = pair
    with pytest.raises(ValueError, match=f"no channel 'B99'; choose from {cube.channels[0]}, "):
        reading.checked(cube, ["B99"])
    if cube.kind == "features":
        with pytest.raises(ValueError, match="no channel 'NDVI'"):
            reading.checked(cube, ["NDVI"])


def test_the_cache_keeps_to_its_limit_and_the_last_used():
    cache = reading.Cache(1000)
    for key in range(20):
        cache.put(key, np.zeros(100, np.uint8))
        assert cache.get(0) is not None
        assert cache.size <= 1000
    assert cache.get(19) is not None
    assert cache.get(5) is None
    cache.put(0, np.zeros(300, np.uint8))
    cache.put("large", np.zeros(2000, np.uint8))
    assert cache.size == 0


def test_many_threads_read_the_same_as_one(stores, monkeypatch):
    from deepfeatures.reading import chunks

    monkeypatch.setattr(chunks, "CHUNKS", reading.Cache(600_000))  # a handful of chunks
    cube, ds = reading.open(stores["bands"]), store.open(stores["bands"]).load()
    raw = store.arrays(stores["bands"])["reflectance"][:]

    def check(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        t, c, y, x = rng.integers(0, (37, 4, 200, 100))
        rows, columns = slice(y, y + 70), slice(x, x + 50)
        found = reading.stored(cube, int(t), BANDS[c], rows, columns)
        return bool(np.array_equal(found, raw[t, c, rows, columns]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(200)))
    assert chunks.CHUNKS.size <= 600_000
    assert ds.sizes["time"] == 37


def test_a_cube_that_is_made_anew_is_read_anew(tmp_path):
    url = str(tmp_path / "cube.zarr")
    first = bands_cube(times=3, seed=1)
    store.write(first, url)
    before = reading.open(url)
    assert reading.open(url) is before
    was = reading.series(before, 2, 3, masked=False).values["B04"]
    store.remove(url)
    with pytest.raises(FileNotFoundError):
        reading.open(url)
    store.write(bands_cube(times=4, seed=2), url)
    after = reading.open(url)
    assert after.version != before.version
    now = reading.series(after, 2, 3, masked=False).values["B04"]
    assert (len(was), len(now)) == (3, 4)


def test_a_half_written_cube_is_not_opened(tmp_path, tiny_bands):
    url = str(tmp_path / "half.zarr")
    store.Writer.create(url, tiny_bands)
    with pytest.raises(FileNotFoundError, match="never completed"):
        reading.open(url)


def test_the_range_of_a_channel_covers_most_values(pair):
    cube, ds = pair
    low, high = reading.limits(cube, cube.channels[0])
    values = ds[cube.variable][:, 0].values[ds["valid"].values == 1]
    assert 0.9 < np.nanmean((values >= low) & (values <= high)) <= 1
    assert low < high


@given(hnp.arrays(np.float64, (3, 2), elements=st.floats(-5, 5)), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_points_in_a_triangle(corners, seed):
    a, b, c = corners
    size = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if abs(size) < 1e-3:
        return
    points = np.random.default_rng(seed).uniform(-5, 5, (2, 300))
    points[:, 0] = np.nan
    sides = []
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        sides.append(edge[0] * (points[1] - start[1]) - edge[1] * (points[0] - start[0]))
    wanted = np.all(np.array(sides) * np.sign(size) > 0, axis=0)
    assert np.array_equal(reading.contained(corners, points), wanted)


def test_an_outline_that_crosses_itself_selects_both_lobes():
    bow = np.array([[0, 0], [2, 2], [2, 0], [0, 2.0]])
    points = np.array([[0.3, 1.7, 1.0, 1.0], [1.0, 1.0, 0.2, 1.8]])
    assert reading.contained(bow, points).tolist() == [True, True, False, False]


@pytest.mark.parametrize("ring", [np.zeros((2, 2)), np.full((4, 2), np.nan), np.zeros((6000, 2))])
def test_outlines_that_are_none(ring):
    with pytest.raises(ValueError, match="a selection needs 3 to"):
        reading.contained(ring, np.zeros((2, 5)))


def test_members_are_the_pixels_whose_scores_lie_inside(stores):
    cube, ds = reading.open(stores["features"]), store.open(stores["features"]).load()
    rng = np.random.default_rng(0)
    components = np.linalg.qr(rng.normal(size=(5, 2)))[0].T
    sample = ds["features"].values.transpose(0, 2, 3, 1)[ds["valid"].values == 1]
    mean = np.nanmean(sample, axis=0)
    vectors = ds["features"][7, :, 10:200, 3:140].values
    scores = np.einsum("kc,cyx->kyx", components, vectors - mean[:, None, None])
    left, bottom, right, top = np.nanpercentile(scores, (20, 75), axis=(1, 2)).ravel()
    box = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    plane = latent.PCA(mean, components, np.ones(2) / 2, np.ones(2))
    selection = reading.Selection("f", None, plane, box)
    found = reading.members(cube, selection, 7, slice(10, 200), slice(3, 140))
    low, high = box.min(axis=0)[:, None, None], box.max(axis=0)[:, None, None]
    wanted = ((scores > low) & (scores < high)).all(axis=0)
    assert 0.02 < wanted.mean() < 0.98
    edges = np.stack([low, high])  # a score on an edge may fall to either side
    sure = ~(np.abs(scores - edges) < 1e-5).any(axis=(0, 1))
    assert sure.mean() > 0.98
    assert np.array_equal(found[sure], wanted[sure])
    other = latent.PCA(mean[:4], components[:, :4], np.ones(2) / 2, np.ones(2))
    wrong = reading.Selection("f", None, other, box)
    with pytest.raises(ValueError, match="the selection has 4 channels"):
        reading.members(cube, wrong, 7, slice(0, 5), slice(0, 5))


def test_a_missing_store(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no cube at"):
        reading.open(str(tmp_path / "none.zarr"))
