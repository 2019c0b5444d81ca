"""Laws of the store: round trips, resuming, overviews, and nothing half-written to be seen."""

from __future__ import annotations

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures import contract, store
from deepfeatures.tiles import Tile

PACKED = {"reflectance": "uint16", "backscatter": "int16"}
"""Variables that are stored as integers."""


def tree(path: Path) -> dict[str, str]:
    """Checksums of all files below a folder."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def with_everything(ds: xr.Dataset) -> xr.Dataset:
    """Add radar, weather, angles, text and a raster without time."""
    rng = np.random.default_rng(1)
    labelled = {"units": "1", "long_name": "label"}
    shape = (3, 2, ds.sizes["y"], ds.sizes["x"])
    return ds.assign(
        backscatter=(
            ("time_s1", "polarisation", "y", "x"),
            rng.uniform(-30, 10, shape).astype(np.float32),
            {"units": "dB", "long_name": "Radar backscatter"},
        ),
        label_class=(("y", "x"), rng.integers(0, 9, shape[2:]).astype(np.uint8), labelled),
        temperature_mean=(("time_meteo",), rng.normal(10, 5, 40), labelled | {"units": "degC"}),
        tower_name=(("tower",), np.array(["beech", "oak"]), labelled),
    ).assign_coords(
        time_s1=np.datetime64("2021-03-02", "ns") + np.arange(3) * np.timedelta64(6, "D"),
        polarisation=["VV", "VH"],
        time_meteo=np.datetime64("2021-03-01", "ns") + np.arange(40) * np.timedelta64(1, "D"),
    )


def test_what_is_read_is_what_was_written(tmp_path, tiny_bands):
    ds = with_everything(tiny_bands)
    store.write(ds, str(tmp_path / "a.zarr"), "plan")
    got = store.open(str(tmp_path / "a.zarr"))
    assert contract.check(got) is got
    assert got.attrs == ds.attrs
    assert {got[name].dtype for name in ("reflectance", "backscatter")} == {np.dtype("f4")}
    # Reflectance is stored in steps of 1e-4, backscatter in steps of 2e-3 dB.
    np.testing.assert_allclose(got["reflectance"], ds["reflectance"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(got["backscatter"], ds["backscatter"], atol=1.01e-3, rtol=0)
    for name in ("valid", "scl", "label_class", "temperature_mean", "tower_name"):
        assert np.array_equal(got[name].values, ds[name].values), name
        assert {**got[name].attrs, "grid_mapping": ""} == {**ds[name].attrs, "grid_mapping": ""}
    for name in ds.coords:
        assert np.array_equal(got[name].values, ds[name].values), name
    assert "grid_mapping" not in ds["valid"].attrs, "the written dataset was changed"


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 150), st.integers(1, 150))
def test_any_shape_round_trips(tmp_path_factory, times, height, width):
    ds = bands_cube(times=times, height=height, width=width, bands=("B04", "B08"))
    url = str(tmp_path_factory.mktemp("any") / "a.zarr")
    store.write(ds, url)
    got = store.open(url)
    np.testing.assert_allclose(got["reflectance"], ds["reflectance"], atol=1e-6, rtol=0)
    assert np.array_equal(got["valid"], ds["valid"])


def test_digital_numbers_survive_exactly(tmp_path):
    ds = bands_cube(times=1, height=96, width=100, bands=("B04",))
    numbers = np.arange(9600).reshape(1, 1, 96, 100)
    ds["reflectance"].values[:] = (numbers * 1e-4).astype(np.float32)
    store.write(ds, str(tmp_path / "a.zarr"))
    got = np.rint(store.open(str(tmp_path / "a.zarr"))["reflectance"].values * 1e4)
    assert np.array_equal(got.astype(int), numbers)


def test_features_are_stored_as_bytes_of_the_given_step(tmp_path, tiny_bands):
    rng = np.random.default_rng(0)
    values = rng.uniform(-3.9, 3.9, (7, 6, 24, 20)).astype(np.float32)
    values[0, :, 0] = np.nan
    values[1, 0, 0, :2] = 40, -40
    ds = tiny_bands[["valid"]].assign(
        features=(
            ("time", "feature", "y", "x"),
            values,
            {"units": "1", "long_name": "Learned features"},
        )
    )
    ds = ds.assign_coords(feature=[f"F{i:02d}" for i in range(1, 7)])
    ds["features"].encoding["scale_factor"] = 1 / 32
    store.write(ds, str(tmp_path / "f.zarr"))
    raw = store.arrays(str(tmp_path / "f.zarr"))["features"]
    assert raw.dtype == np.int8
    assert raw.chunks[1] == 6, "all features of a pixel lie in one chunk"
    got = store.open(str(tmp_path / "f.zarr"))["features"].values
    assert np.array_equal(np.isnan(got), np.isnan(values))
    np.testing.assert_allclose(got, values.clip(-127 / 32, 127 / 32), atol=1 / 64 + 1e-6)


def test_a_killed_writer_resumes_to_the_same_bytes(tmp_path):
    ds = bands_cube(times=20, height=150, width=200, bands=("B04", "B08"))
    store.write(ds, str(tmp_path / "whole.zarr"), "plan")
    url = str(tmp_path / "parts.zarr")
    writer = store.Writer.create(url, ds, "plan")
    assert len(writer.tiles) == 4
    for tile in writer.pending()[1:3]:
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns))
    with pytest.raises(FileNotFoundError, match="never completed"):
        store.open(url)
    with pytest.raises(ValueError, match="lacks 2 of 4"):
        writer.finish()
    again = store.Writer.create(url, ds, "plan")
    assert [tile.name for tile in again.pending()] == ["0-0", "128-128"]
    store.write(ds, url, "plan")
    assert tree(tmp_path / "parts.zarr") == tree(tmp_path / "whole.zarr")
    assert not (tmp_path / "parts.zarr.journal").exists()


def test_a_tile_that_is_written_again_gives_the_same_bytes(tmp_path):
    ds = bands_cube(times=20, height=150, width=140, bands=("B04",))
    store.write(ds, str(tmp_path / "once.zarr"))
    writer = store.Writer.create(str(tmp_path / "again.zarr"), ds)
    for tile in (*writer.tiles, *writer.tiles[1:3]):
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns))
    writer.finish()
    assert tree(tmp_path / "again.zarr") == tree(tmp_path / "once.zarr")


def _write_tile(writer: store.Writer, tile: Tile) -> None:
    rows, columns = tile.core
    ds = bands_cube(times=5, height=260, width=200, bands=("B04", "B08"))
    writer.write(tile, ds.isel(y=rows, x=columns))


def test_processes_write_tiles_side_by_side(tmp_path):
    ds = bands_cube(times=5, height=260, width=200, bands=("B04", "B08"))
    store.write(ds, str(tmp_path / "one.zarr"))
    writer = store.Writer.create(str(tmp_path / "many.zarr"), ds)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_write_tile, [writer] * 6, writer.tiles))
    writer.finish()
    assert tree(tmp_path / "many.zarr") == tree(tmp_path / "one.zarr")


def test_stored_integers_are_written_as_they_are(tmp_path, tiny_bands):
    ds = with_everything(tiny_bands)
    store.write(ds, str(tmp_path / "floats.zarr"))
    raw = store.arrays(str(tmp_path / "floats.zarr"))
    coded = ds.assign(
        {name: (ds[name].dims, raw[name][:], ds[name].attrs) for name in PACKED},
    )
    assert {name: coded[name].dtype.name for name in PACKED} == PACKED
    store.write(coded, str(tmp_path / "codes.zarr"))
    assert tree(tmp_path / "codes.zarr") == tree(tmp_path / "floats.zarr")


def test_reports_are_kept_until_the_store_is_complete(tmp_path):
    url = str(tmp_path / "a.zarr")
    ds = bands_cube(times=2, height=200, width=90, bands=("B04",))
    writer = store.Writer.create(url, ds, "plan")
    for tile, report in zip(writer.tiles, ("", '["lost.tif"]'), strict=True):
        rows, columns = tile.core
        writer.write(tile, ds.isel(y=rows, x=columns), report)
    again = store.Writer.create(url, ds, "plan")
    assert again.pending() == []
    assert again.reports() == {"128-0": '["lost.tif"]'}
    with pytest.raises(ValueError, match="own"):
        again.finish({"version": "mine"})
    again.finish({"lost_assets": '["lost.tif"]'})
    assert again.reports() == {}
    assert store.open(url).attrs == {**ds.attrs, "lost_assets": '["lost.tif"]'}
    version = str(store.arrays(url).attrs["version"])
    store.write(ds, url, "plan")
    assert str(store.arrays(url).attrs["version"]) == version, "what was complete was written again"
    store.remove(url)
    store.write(ds, url, "plan")
    assert str(store.arrays(url).attrs["version"]) == version.split("-")[0] != version


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 3000))
def test_a_tile_of_one_channel_stays_small(height, width, dates):
    side = store.edge((height, width), dates)
    assert side % store.EDGE == 0
    assert side**2 * min(dates, 1600) * 2 <= 13.2e6, "bytes of one band of a tile"
    assert side < 256 or dates <= 100 < max(height, width)


def test_long_series_get_small_shards_and_dask_chunks_follow_them(tmp_path):
    for times, side in ((2, 256), (101, 128), (401, 64)):
        ds = bands_cube(times=times, height=64, width=513, bands=("B04",))
        url = str(tmp_path / f"{times}.zarr")
        store.write(ds, url)
        raw = store.arrays(url)
        assert {raw[name].shards[-1] for name in ("reflectance", "valid", "scl")} == {side}
        assert store.open(url)["reflectance"].chunksizes["x"][0] == side


def test_another_plan_starts_anew_but_never_over_a_complete_cube(tmp_path, tiny_bands):
    url = str(tmp_path / "a.zarr")
    first = store.Writer.create(url, tiny_bands, "one")
    first.write(first.tiles[0], tiny_bands)
    assert len(store.Writer.create(url, tiny_bands, "two").pending()) == 1
    store.write(tiny_bands, url, "two")
    assert store.Writer.create(url, tiny_bands, "two").pending() == []
    with pytest.raises(ValueError, match="another cube"):
        store.Writer.create(url, tiny_bands, "three")
    store.remove(url)
    with pytest.raises(FileNotFoundError, match="no cube"):
        store.open(url)


def test_progress_rises_to_the_total(tmp_path):
    seen: list[tuple[int, int]] = []
    ds = bands_cube(times=2, height=300, width=130, bands=("B04",))
    store.write(
        ds, str(tmp_path / "a.zarr"), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(i, 6) for i in range(1, 7)]


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)), st.integers(1, 4)
)
def test_coarse_pixels_are_means_of_what_is_there(values, factor):
    got = store.coarsen(values, factor, 0)
    for y in range(got.shape[-2]):
        for x in range(got.shape[-1]):
            rows, columns = slice(y * factor, (y + 1) * factor), slice(x * factor, (x + 1) * factor)
            block = values[..., rows, columns].reshape(*values.shape[:-2], -1).astype(float)
            block[block == 0] = np.nan
            there = ~np.isnan(block)
            mean = np.nansum(block, -1) / np.maximum(there.sum(-1), 1)
            assert np.all(np.abs(got[..., y, x] - mean) <= 0.51)


def test_overviews_follow_the_full_raster(tmp_path):
    ds = bands_cube(times=3, height=260, width=300, bands=("B04", "B08"))
    store.write(ds, str(tmp_path / "a.zarr"))
    group = store.arrays(str(tmp_path / "a.zarr"))
    assert sorted(group["overviews"].group_keys()) == ["2"]
    full, half = group["reflectance"][:], group["overviews/2/reflectance"][:]
    assert np.array_equal(half, store.coarsen(full, 2, 0))
    usable = (group["valid"][:] == 1).astype(np.uint8)
    assert np.array_equal(group["overviews/2/valid"][:], store.coarsen(usable, 2, None))


def test_overviews_count_pixels_that_are_usable(tmp_path):
    ds = bands_cube(times=1, height=256, width=256, bands=("B04",))
    ds["valid"].values[:] = np.where(np.arange(256) % 4 < 2, 2, 1)
    ds["valid"].values[:, :, ::2] = 1
    ds["valid"].attrs |= {"flag_values": [0, 1, 2], "flag_meanings": "no_data usable cloud"}
    store.write(ds, str(tmp_path / "a.zarr"))
    half = store.arrays(str(tmp_path / "a.zarr"))["overviews/2/valid"]
    assert np.all(half[:] == 1), "half of the parts is enough"
    assert half.attrs["flag_meanings"] == "not_usable usable"


def test_deep_overviews_do_not_depend_on_how_they_are_read(tmp_path):
    ds = bands_cube(times=2, height=300, width=520, bands=("B04",))
    store.write(ds, str(tmp_path / "a.zarr"))
    group = store.arrays(str(tmp_path / "a.zarr"))
    assert sorted(group["overviews"].group_keys()) == ["2", "4"]
    full, quarter = group["reflectance"][:], group["overviews/4/reflectance"][:]
    assert np.array_equal(quarter, store.coarsen(full, 4, 0))
