"""SI cubes: virtual ones equal what the engine computes, stored ones to within half a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import dask.array
import intake
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import catalogue, cube, indices, reading, store, work
from deepfeatures.indices import ranges
from deepfeatures.reading import kept
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace
from tests.conftest import bands_cube

OWN = "(B08 - B05) / (B08 + B05)"
WANTED = ["NDVI", "kNDVI", OWN, "EVI", "NDWI"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a band cube of several shards and overviews, and another of one."""
    ws = make_workspace(tmp_path_factory.mktemp("virtual"))
    for name, sizes in (("field", {"height": 150, "width": 260}), ("little", {})):
        store.write(bands_cube(**sizes), catalogue.place(ws, name))
        catalogue.add(ws, name)
    return ws


def fresh() -> None:
    kept.BLOCKS.clear()
    reading.CHUNKS.clear()


def test_the_catalogue_shows_the_si_cube_of_each_band_cube(home: Workspace) -> None:
    assert catalogue.names(home) == ["field", "little"]
    listed = intake.open_catalog(str(home.catalog))
    assert list(listed) == ["field", "field.si", "little", "little.si"]
    info = catalogue.info(home, "little")
    assert info["indices"] == list(indices.available(info["channels"]))
    by_intake = listed["little.si"].read()
    assert isinstance(by_intake["si"].data, dask.array.Array)
    xr.testing.assert_identical(by_intake, catalogue.open(home, "little", "si"))
    with pytest.raises(KeyError, match="no cube 'little.si'"):
        catalogue.url(home, "little.si")


def test_a_virtual_cube_equals_the_engine_and_is_under_the_contract(home: Workspace) -> None:
    ds = catalogue.open(home, "little")
    si = catalogue.open(home, "little", "si")
    assert si["si"].dims == ("time", "index", "y", "x")
    assert si["si"].dtype == np.float32
    assert si.attrs["source_cube"] == "little"
    assert list(si["index"].values) == list(indices.available(list(ds["band"].values)))
    whole = indices.select(ds.compute(), list(si["index"].values))
    np.testing.assert_array_equal(si["si"].values, whole.values)
    np.testing.assert_array_equal(si["valid"].values, ds["valid"].values)


@pytest.fixture(scope="module")
def pair(home: Workspace) -> tuple[xr.DataArray, xr.DataArray]:
    """Indices of a cube, lazy and in memory."""
    lazy = reading.spectral(catalogue.url(home, "little"), WANTED)["si"]
    return lazy, indices.select(catalogue.open(home, "little").compute(), WANTED)


@settings(max_examples=40)
@given(st.data())
def test_any_selection_equals_the_same_of_the_whole(
    pair: tuple[xr.DataArray, xr.DataArray], data: st.DataObject
) -> None:
    lazy, whole = pair

    def key(size: int) -> int | slice | list[int]:
        one = st.integers(0, size - 1)
        many = st.lists(one, max_size=6)
        steps = st.builds(slice, one, st.integers(0, size), st.integers(1, 4))
        return data.draw(st.one_of(one, many, steps))

    part = dict(zip(lazy.dims, map(key, lazy.shape), strict=True))
    np.testing.assert_array_equal(lazy.isel(part).values, whole.isel(part).values)


def test_a_selection_reads_and_computes_only_what_it_touches(home: Workspace) -> None:
    lazy = reading.spectral(catalogue.url(home, "field"))["si"]
    in_chunks = catalogue.open(home, "field", "si")["si"]
    bands = list(catalogue.open(home, "field")["band"].values)
    used = [bands.index(band) for band in ("B04", "B08")]
    for array, across, down, pixels in (
        (lazy, (2,), (0,), 4 * 10),
        (in_chunks, (2, 3), (0, 1), 128 * 128 * 7),  # a whole chunk of dask
    ):
        fresh()
        array.sel(index="NDVI").isel(time=2, y=slice(0, 4), x=slice(130, 140)).values  # noqa: B018
        assert {key[-1][1:] for key in reading.CHUNKS._held} == set(product(used, down, across))
        assert sum(block.size for block in kept.BLOCKS._held.values()) == pixels


def test_constants_can_be_others(home: Workspace) -> None:
    url = catalogue.url(home, "little")
    mine = xr.open_dataset(
        url, engine="deepfeatures", view="si", index=["SAVI"], constants={"L": 0.5}
    )
    ds = catalogue.open(home, "little").compute()
    nir, red = (ds["reflectance"].sel(band=band).values for band in ("B08", "B04"))
    np.testing.assert_allclose(
        mine["si"].values[:, 0], 1.5 * (nir - red) / (nir + red + np.float32(0.5)), rtol=1e-5
    )
    assert not np.allclose(
        mine["si"].values, reading.spectral(url, ["SAVI"])["si"].values, equal_nan=True
    )


def test_what_can_not_be_opened_is_named(home: Workspace) -> None:
    url = catalogue.url(home, "little")
    with pytest.raises(ValueError, match="no view 'rgb'"):
        catalogue.open(home, "little", "rgb")
    with pytest.raises(KeyError, match="NDVI"):
        reading.spectral(url, ["NDIV"])
    with pytest.raises(ValueError, match="B01"):
        reading.spectral(url, ["B01 / B02"])
    cube.materialise(home, "little", ["NDVI"], out="stored")
    with pytest.raises(ValueError, match="no cube of bands"):
        catalogue.open(home, "stored", "si")
    with pytest.raises(ValueError, match="no cube of bands"):
        cube.materialise(home, "stored", ["NDVI"])
    cube.remove(home, "stored")
    assert list(intake.open_catalog(str(home.catalog))) == [
        "field", "field.si", "little", "little.si",
    ]  # fmt: skip


def test_more_than_memory_holds_is_refused(home: Workspace, monkeypatch) -> None:
    monkeypatch.setattr("deepfeatures.reading.virtual.MAX_BYTES", 10_000)
    lazy = reading.spectral(catalogue.url(home, "little"), WANTED)["si"]
    with pytest.raises(ValueError, match=r"select less"):
        _ = lazy.values
    assert lazy.isel(time=0, y=0).values.shape == (5, 20)


def test_a_stored_cube_holds_the_values_to_half_a_step(home: Workspace) -> None:
    name = cube.materialise(home, "field", WANTED)
    ds, mine = catalogue.open(home, "field").compute(), catalogue.open(home, name)
    assert name == "field-indices"
    assert list(mine["index"].values) == WANTED
    assert not set(store.CODED) & set(mine.variables)
    wanted = indices.select(ds, WANTED)
    raw = xr.open_zarr(catalogue.url(home, name), consolidated=False, mask_and_scale=False)
    assert raw["si"].dtype == np.int16
    report = json.loads(mine.attrs["index_report"])
    for at, label in enumerate(WANTED):
        scale, offset = (float(raw[key].values[at]) for key in store.CODED)
        exact, found = wanted.values[:, at], mine["si"].values[:, at]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
        low, high = offset - 32767 * scale, offset + 32767 * scale
        inside = (exact > low) & (exact < high)
        slack = 0.5 * scale + 4 * np.finfo(np.float32).eps * max(abs(low), abs(high))
        assert np.abs(found - exact)[inside].max() <= slack
        usable = ds["valid"].values == 1
        assert report[label]["values"] == (usable & np.isfinite(exact)).sum()
        assert report[label]["undefined"] == 0
        beyond = report[label]["below"] + report[label]["above"]
        assert beyond == (usable & ((exact < low - scale / 2) | (exact > high + scale / 2))).sum()
    formulas = json.loads(mine.attrs["index_formulas"])
    assert formulas[OWN] == OWN
    cube.remove(home, name)


def test_all_ways_of_reading_a_stored_cube_agree(home: Workspace) -> None:
    name = cube.materialise(home, "field", WANTED, out="same")
    url = catalogue.url(home, name)
    mine = catalogue.open(home, name)["si"]
    by_engine = xr.open_dataset(url, engine="deepfeatures")["si"]
    by_intake = intake.open_catalog(str(home.catalog))[name].read()["si"]
    np.testing.assert_array_equal(by_engine.values, mine.values)
    np.testing.assert_array_equal(by_intake.values, mine.values)
    opened = reading.open(url)
    box = slice(0, 7), slice(100, 150), slice(60, 200)
    quick = reading.values(opened, WANTED, *box)
    for label in WANTED:
        slow = mine.sel(index=label).values[box]
        np.testing.assert_array_equal(quick[label], slow)
    cube.remove(home, name)


def test_overviews_are_indices_of_mean_bands_as_the_map_computes_them(home: Workspace) -> None:
    name = cube.materialise(home, "field", ["NDVI", "EVI"], out="over")
    bands = reading.open(catalogue.url(home, "field"))
    stored = reading.open(catalogue.url(home, name))
    assert stored.levels == bands.levels == (1, 2)
    box = slice(0, 7), slice(0, 75), slice(0, 130)
    virtual = reading.values(bands, ["NDVI", "EVI"], *box, level=2)
    found = reading.values(stored, ["NDVI", "EVI"], *box, level=2)
    for at, label in enumerate(("NDVI", "EVI")):
        low = stored.offsets[at] - 32767 * stored.scales[at]
        high = stored.offsets[at] + 32767 * stored.scales[at]
        np.testing.assert_allclose(
            found[label], virtual[label].clip(low, high), rtol=1e-6, atol=0.6 * stored.scales[at]
        )
    cube.remove(home, name)


def test_a_killed_run_resumes_and_gives_the_same_bytes(home: Workspace) -> None:
    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cube.materialise(home, "field", WANTED, out="once", progress=stop)
    assert "once" not in catalogue.names(home)
    cube.materialise(home, "field", WANTED, out="once")
    with work.workers(2) as pool:
        cube.materialise(home, "field", WANTED, out="twice", executor=pool)
    one, two = (Path(catalogue.url(home, name)) for name in ("once", "twice"))
    files = [file.relative_to(one) for file in sorted(one.rglob("c/**/*")) if file.is_file()]
    assert len(files) > 20
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    reports = [
        json.loads(str(zarr.open_group(place, mode="r").attrs["index_report"]))
        for place in (one, two)
    ]
    assert reports[0] == reports[1]
    for name in ("once", "twice"):
        cube.remove(home, name)


def test_an_expression_that_nothing_bounds_is_stored_by_a_look_at_the_cube(
    home: Workspace,
) -> None:
    name = cube.materialise(home, "little", ["B08 / B04 ** 2"], out="ratio")
    mine = catalogue.open(home, name)["si"].values
    ds = catalogue.open(home, "little").compute()
    exact = indices.select(ds, ["B08 / B04 ** 2"]).values
    report = json.loads(catalogue.open(home, name).attrs["index_report"])["B08 / B04 ** 2"]
    assert report["below"] + report["above"] < 0.02 * report["values"]
    usable = np.broadcast_to(ds["valid"].values[:, None] == 1, exact.shape) & np.isfinite(exact)
    assert np.median(np.abs(mine - exact)[usable]) < 1e-3 * np.median(np.abs(exact[usable]))
    cube.remove(home, name)


def test_the_colours_of_an_index_mean_the_same_in_every_cube(home: Workspace) -> None:
    limits = [
        reading.limits(reading.open(catalogue.url(home, name)), "NDVI")
        for name in ("field", "little")
    ]
    assert limits == [ranges.RANGES["NDVI"]] * 2
    low, high = reading.limits(reading.open(catalogue.url(home, "little")), OWN)
    assert -1 <= low < high <= 1


def test_what_was_computed_is_kept_in_memory_and_on_disk_if_asked(
    home: Workspace, tmp_path: Path
) -> None:
    """Another process finds it, although the bands are gone."""
    script = (
        "import sys, numpy as np\n"
        "from deepfeatures import reading\n"
        "si = reading.spectral(sys.argv[1], ['NDVI'])['si']\n"
        "if len(sys.argv) > 2:\n"
        "    reading.chunks._load = None\n"
        "print(repr(float(np.nansum(si.values.astype('f8')))))\n"
    )
    env = os.environ | {"DEEPFEATURES_CACHE": str(tmp_path / "kept")}
    url = catalogue.url(home, "little")

    def run(*more: str) -> str:
        command = [sys.executable, "-c", script, url, *more]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    first = run()
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 1
    assert run("without reading") == first
    fresh()
    lazy = reading.spectral(url, ["NDVI"])["si"]
    once = lazy.values
    reading.CHUNKS.clear()
    np.testing.assert_array_equal(lazy.values, once)
    assert not reading.CHUNKS._held


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 60)), max_size=25))
def test_the_folder_keeps_to_its_limit(tmp_path_factory, requests: list[tuple[int, int]]) -> None:
    folder = kept.Folder(tmp_path_factory.mktemp("kept"), 1000)
    last: dict[str, np.ndarray] = {}
    for number, size in requests:
        block = np.full(size, number, np.float32)
        folder.put(str(number), block)
        last[str(number)] = block
        files = list(folder.path.glob("*"))
        assert sum(file.stat().st_size for file in files) <= 1000
        np.testing.assert_array_equal(folder.get(str(number)), block)
    for name, block in last.items():
        found = folder.get(name)
        assert found is None or np.array_equal(found, block)


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "old.1.draft", tmp_path / "new.2.draft"
    for draft in (old, new):
        draft.write_bytes(bytes(400))
    os.utime(old, (0, 0))
    folder = kept.Folder(tmp_path, 1000)
    folder.put("a", np.zeros(50, np.float32))  # 328 bytes
    folder.put("b", np.ones(50, np.float32))
    assert not old.exists()
    assert new.exists()
    assert folder.get("a") is None
    np.testing.assert_array_equal(folder.get("b"), np.ones(50))


def test_a_broken_file_of_the_folder_is_made_again(tmp_path: Path) -> None:
    folder = kept.Folder(tmp_path, 10_000)
    folder.put("a", np.arange(5))
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:20])
    assert folder.get("a") is None
    folder.put("a", np.arange(5))
    np.testing.assert_array_equal(folder.get("a"), np.arange(5))
