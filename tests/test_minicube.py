"""Minicubes: the form against direct computation, updates that never leave a half, the registry."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepfeatures import catalogue, contract, extremes, foreign, minicube, simulate, store
from deepfeatures.__main__ import main
from deepfeatures.bands import attributes
from deepfeatures.minicube import files, form, parts
from deepfeatures.settings import Workspace
from deepfeatures.tiles import split

TODAY = datetime.date(2024, 5, 6)
LATER = datetime.date(2024, 6, 7)


def weather(start: str = "2021-01-01", days: int = 200, seed: int = 0) -> xr.Dataset:
    """Daily drivers with a missing day."""
    rng = np.random.default_rng(seed)
    mean = 12 + rng.normal(0, 4, days)
    rows = {
        "temperature_mean": mean,
        "temperature_min": mean - 4,
        "temperature_max": mean + 6,
        "precipitation": rng.gamma(0.5, 4, days),
        "solar_radiation": rng.uniform(20, 300, days),
        "reference_evapotranspiration": rng.uniform(0.5, 6, days),
    }
    rows["precipitation"][70] = np.nan
    time = np.datetime64(start, "ns") + np.arange(days).astype("timedelta64[D]")
    ds = xr.Dataset(
        {name: ("time_meteo", v.astype(np.float32), attributes(name)) for name, v in rows.items()},
        coords={"time_meteo": time},
        attrs={"source": "a station", "attribution": "station line"},
    )
    return ds


@pytest.fixture(scope="module")
def bands() -> xr.Dataset:
    """A band cube with elevation, land cover and weather."""
    ds = bands_cube(times=9)
    shape = ds.sizes["y"], ds.sizes["x"]
    rng = np.random.default_rng(5)
    height = rng.uniform(10, 90, shape).astype(np.float32)
    cover = rng.choice(np.array([10, 30, 50], np.uint8), shape, p=[0.2, 0.7, 0.1])
    ds["elevation"] = (("y", "x"), height, attributes("elevation"))
    ds["label_WORLDCOVER"] = (("y", "x"), cover, attributes("label_WORLDCOVER"))
    return ds.merge(weather())


def made(bands: xr.Dataset, **options: Any) -> xr.Dataset:
    record = weather("1992-01-01", 10_800, seed=1)
    return minicube.assemble(minicube.Sources(bands, record=record), date=TODAY, **options)


@pytest.fixture(scope="module")
def written(bands: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minicube that no test changes."""
    return minicube.write(made(bands), tmp_path_factory.mktemp("minicube") / "one.zarr")


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    """A minicube to be changed."""
    return Path(shutil.copytree(written, tmp_path / "one.zarr"))


def opened(path: Path) -> xr.Dataset:
    """What anybody sees who opens the store, without this package."""
    with xr.open_zarr(path) as ds:
        return ds.load()


# ---- the form


def test_the_grid_is_that_of_the_reference(bands: xr.Dataset) -> None:
    lat, lon = 50.8001, 3.0203
    box = form.grid(bands, lat, lon)
    assert (box.shape.y, box.shape.x, box.resolution.x) == (128, 128, 20)
    assert str(box.crs) == "EPSG:32631"
    left, bottom, _, _ = box.boundingbox.bbox
    assert (left % 20, bottom % 20) == (0, 0)
    middle = odc.geo.geom.point(lon, lat, "EPSG:4326").to_crs(box.crs).coords[0]
    np.testing.assert_allclose((left + 1280, bottom + 1280), middle, atol=10)
    assert form.steps(np.datetime64("2016-01-01"), np.datetime64("2022-10-10")).size == 495


def test_pixels_off_the_raster_of_twenty_metres_stay_whole(bands: xr.Dataset) -> None:
    shifted = bands.assign_coords(x=bands["x"] + 3.0, y=bands["y"] + 7.0)
    box = form.grid(shifted)
    assert (box.boundingbox.left - shifted["x"].values[0] + 5) % 10 == 0
    with pytest.raises(ValueError, match="pixels of 15 m do not divide 20 m"):
        form.grid(bands.assign_coords(x=bands["x"] * 1.5, y=bands["y"] * 1.5))
    with pytest.raises(ValueError, match=r"lat 40, lon 3 does not touch the cube"):
        form.grid(bands, 40.0, 3.0)


def test_each_step_takes_its_least_cloudy_acquisition() -> None:
    days = form.steps(np.datetime64("2021-03-01"), np.datetime64("2021-03-20"))
    assert str(days[0]) == "2021-02-28"  # 377 steps after 2016-01-01
    time = np.array(
        ["2021-02-20", "2021-02-28T10:30", "2021-03-04T23:59", "2021-03-05", "2021-03-06",
         "2021-03-16"], "datetime64[ns]",
    )  # fmt: skip
    free = np.array([1.0, 0.3, 0.8, 0.5, 0.5, np.nan])
    assert form.choose(time, free, days).tolist() == [2, 3, -1, -1, -1]


def test_the_mean_is_that_of_usable_parts() -> None:
    nan = np.nan
    values = np.array([[0.1, 0.2, 0.9, 0.9], [0.1, 0.9, 0.9, 0.9], [0.1, nan, nan, nan], [nan] * 4])
    usable = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    found = form.mean(values.astype(np.float32).T, usable.T)
    np.testing.assert_allclose(found, [0.15, 0.7, 0.1, nan], rtol=1e-6)


@given(arrays(np.uint8, (5, 4), elements=st.integers(0, 5)))
def test_the_most_frequent_class_wins(codes: np.ndarray) -> None:
    found = form.most_frequent(codes.T)
    for row, code in zip(codes, found, strict=True):
        counts = np.bincount(row, minlength=6)
        assert counts[code] == counts.max()
        assert code == 0 or not (counts[1:code] == counts.max()).any()
        assert code != 0 or counts[1:].max() < counts[0]


@pytest.mark.parametrize(
    ("valid", "scl", "code"),
    [
        ([1, 1, 1, 1], [4, 4, 5, 2], 0),
        ([1, 1, 2, 2], [4, 4, 9, 9], 0),
        ([1, 2, 2, 3], [4, 9, 9, 3], 1),
        ([3, 3, 7, 9], [3, 3, 4, 4], 2),
        ([1, 1, 1, 1], [11, 11, 11, 4], 3),
        ([5, 5, 5, 1], [4, 4, 4, 4], 4),
        ([0, 0, 0, 0], [0, 0, 0, 0], 4),
        ([0, 0, 0, 0], [8, 9, 10, 3], 1),  # a mask without reasons: those of the classes
        ([6, 6, 8, 4], [4, 4, 4, 1], 1),
    ],
)
def test_the_cloud_mask_has_the_codes_of_the_reference(
    valid: list[int], scl: list[int], code: int
) -> None:
    found = form.cloudmask(np.array([valid], np.uint8).T, np.array([scl], np.uint8).T)
    assert (found.dtype, found.tolist()) == (np.uint8, [code])


# ---- a whole minicube


def test_a_minicube_against_direct_computation(bands: xr.Dataset, written: Path) -> None:
    ds = opened(written)
    assert dict(ds.sizes)["y"] == dict(ds.sizes)["x"] == 128
    assert {*form.BANDS, "SCL", "cloudmask_en", "cop_dem", "worldcover", "t2m_min", "tp_max",
            "solar_radiation_mean", "events", "event_labels"} <= set(ds.data_vars)  # fmt: skip
    # the cube is 24 x 20 px of 10 m in the middle: 12 x 10 px of 20 m, the rest has no value
    inside = ds.sel(y=slice(bands.y.max(), bands.y.min()), x=slice(bands.x.min(), bands.x.max()))
    assert (inside.sizes["y"], inside.sizes["x"]) == (12, 10)
    assert int(ds["B04"].notnull().any("time").sum()) <= 120
    assert (ds["cloudmask_en"].sel(y=ds.y[:20]) == form.OTHER).all()
    step = (bands["time"].values.astype("datetime64[D]") - ds["time"].values[0]) // np.timedelta64(
        5, "D"
    )
    for number in range(ds.sizes["time"]):
        dates = np.flatnonzero(step == number)
        here = inside.isel(time=number)
        if not dates.size:
            assert here["B02"].isnull().all()
            assert (here["cloudmask_en"] == form.OTHER).all()
            assert np.isnat(here["acquisition_time"].values)
            continue
        best = max(dates, key=lambda i: ((bands["valid"][i] == 1).mean().item(), -i))
        assert here["acquisition_time"].values == bands["time"].values[best]
        one = bands.isel(time=best)
        for row, column in ((0, 0), (5, 7), (11, 9)):
            part = one.isel(y=slice(2 * row, 2 * row + 2), x=slice(2 * column, 2 * column + 2))
            usable = part["valid"].values == 1
            values = part["reflectance"].sel(band="B04").values
            taken = values[usable] if usable.sum() >= 2 else values[np.isfinite(values)]
            wanted = np.nanmean(taken) if np.isfinite(taken).any() else np.nan
            np.testing.assert_allclose(here["B04"][row, column], wanted, atol=5.1e-5)
            assert (here["cloudmask_en"][row, column] == 0) == (usable.sum() >= 2)
    height = bands["elevation"].values.reshape(12, 2, 10, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(inside["cop_dem"], height, rtol=1e-6)


def test_weather_is_summarised_over_the_steps(written: Path) -> None:
    ds = opened(written)
    daily = weather()
    for number, day in enumerate(ds["time"].values):
        days = daily.sel(time_meteo=slice(day, day + np.timedelta64(4, "D")))
        here = ds.isel(time=number)
        low, high = days["temperature_min"].min(), days["temperature_max"].max()
        np.testing.assert_allclose(here["t2m_min"], low + 273.15, rtol=1e-6)
        np.testing.assert_allclose(here["t2m_max"], high + 273.15, rtol=1e-6)
        np.testing.assert_allclose(here["tp_mean"], days["precipitation"].mean() / 1000, rtol=1e-5)
        np.testing.assert_allclose(
            here["solar_radiation_mean"], days["solar_radiation"].mean(), rtol=1e-5
        )
    assert (ds["t2m_mean"].attrs["units"], ds["tp_max"].attrs["units"]) == ("K", "m")


def test_events_are_those_of_the_whole_record(written: Path) -> None:
    ds = opened(written)
    record = weather("1992-01-01", 10_800, seed=1)
    names = ("temperature_max", "precipitation", "reference_evapotranspiration")
    flags = extremes.detect(extremes.indicators(*(record[name].values for name in names)))
    kept = record["time_meteo"].isin(ds["event_time"]).values
    assert kept.sum() == ds.sizes["event_time"] == 5 * ds.sizes["time"]
    np.testing.assert_array_equal(ds["events"], flags[kept])
    assert (ds["events"].dtype, ds["event_labels"].dtype) == (np.uint8, np.uint16)
    assert list(ds["events"].attrs["flag_masks"]) == [1, 2, 4, 8, 16]
    with pytest.raises(ValueError, match="does not touch the period of the minicube"):
        parts.events(record.isel(time_meteo=slice(0, 900)), ds["time"].values)
    with pytest.raises(ValueError, match="no reference_evapotranspiration"):
        parts.events(record.drop_vars(names[2]), ds["time"].values)
    with pytest.raises(ValueError, match="gaps in its days"):
        parts.events(record.drop_isel(time_meteo=5), ds["time"].values)


def test_types_chunks_and_attributes_are_those_of_the_form(
    bands: xr.Dataset, tmp_path: Path
) -> None:
    whole = made(bands, start="2016-01-01", end="2022-10-10")
    path = minicube.write(whole, tmp_path / f"{whole.attrs['data_id']}.zarr")
    with xr.open_zarr(path, mask_and_scale=False, chunks=None) as raw:
        assert (raw["B02"].dtype, raw["B02"].shape) == (np.int16, (495, 128, 128))
        coding = raw["B02"].attrs | raw["B02"].encoding
        assert (coding["scale_factor"], coding["_FillValue"]) == (1e-4, -9999)
        assert raw["B02"].encoding["chunks"] == (165, 128, 128)
        assert raw["SCL"].dtype == raw["cloudmask_en"].dtype == np.uint8
        assert raw["t2m_max"].encoding["chunks"] == (495,)
        assert raw["events"].encoding["chunks"] == raw["events"].shape == (2034,)
        meanings = "free_sky cloud cloud_shadows snow masked_other_reasons"
        assert raw["cloudmask_en"].attrs["flag_meanings"] == meanings
        attrs = raw.attrs
        crs = raw.odc.crs
    assert crs == "EPSG:32631"
    lon, lat, version, date, count = attrs["data_id"].removeprefix("mc_").split("_")
    assert (version, date, count) == ("1.0", "20240506", "0")
    assert attrs["location_id"] == f"{lon}_{lat}"
    components = json.loads(attrs["components"])
    assert set(components) == {"s2", "mask", "dem", "landcover", "era5", "events"}
    assert components["era5"]["sources"]
    assert all(one["version"] == "1.0" for one in components.values())
    assert (attrs["dominant_class"], attrs["second_dominant_class"]) == ("grassland", "tree_cover")
    assert attrs["attribution"] == "none; station line"
    assert attrs["simulated"] == "true"


def test_a_class_with_code_zero_is_a_class(bands: xr.Dataset) -> None:
    flags = {"flag_values": [0, 1], "flag_meanings": "forest meadow"}
    cover = bands["label_WORLDCOVER"].copy(data=np.zeros(bands["valid"].shape[1:], np.uint8))
    cover = cover.rename("label_class").assign_attrs(flags)
    ds = minicube.assemble(minicube.Sources(bands, landcover=cover), date=TODAY)
    assert (ds.attrs["class"], ds.attrs["dominant_class"]) == ("forest", "forest")
    assert ds.attrs["second_dominant_class"] == "-"
    assert set(np.unique(ds["landcover"])) == {0, 255}


def test_what_is_missing_is_said_in_a_sentence(bands: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="no band B02, B03, B04; a minicube needs"):
        made(bands.drop_sel(band=["B02", "B03", "B04"]))
    with pytest.raises(ValueError, match="swap the two days"):
        made(bands, start="2021-05-01", end="2021-04-01")
    layer = bands["elevation"].isel(x=slice(1, None))
    with pytest.raises(ValueError, match="does not lie on the pixels of the cube"):
        minicube.assemble(minicube.Sources(bands, elevation=layer), date=TODAY)


# ---- files


def states(path: Path) -> dict[str, tuple[str, xr.Dataset]]:
    ds = opened(path)
    names = json.loads(ds.attrs["components"])
    plain = ds.drop_vars([name for name in ds.coords if name != "event_time"])
    return {name: (one["version"], plain[one["variables"]]) for name, one in names.items()}


def other(bands: xr.Dataset, days: np.ndarray, name: str) -> minicube.Component:
    """One component made of another cube."""
    changed = bands.copy()
    changed["elevation"] = bands["elevation"] + 100
    changed["reflectance"] = bands["reflectance"] * 0.5
    record = weather("1995-01-01", 9800, seed=7)
    sources = minicube.Sources(changed, weather=weather(seed=3), record=record)
    found = minicube.components(sources, form.grid(bands), days, wanted=[name])
    return found[0]


@pytest.mark.parametrize("name", ["s2", "dem", "era5", "events"])
def test_an_update_replaces_one_component_and_writes_no_other(
    bands: xr.Dataset, path: Path, tmp_path: Path, name: str
) -> None:
    before = states(path)
    inodes = {f.relative_to(path): f.stat().st_ino for f in path.rglob("*") if f.is_file()}
    new = other(bands, opened(path)["time"].values.astype("datetime64[D]"), name)
    assert minicube.update(path, [new], date=LATER) == {name: "1.1"}
    after = states(path)
    assert after.keys() == before.keys()
    for component, (version, data) in after.items():
        same = component != name
        assert version == ("1.0" if same else "1.1")
        assert data.equals(before[component][1]) == same
        folders = {str(v) for v in data.data_vars} | ({"event_time"} if not same else set())
        for file, inode in inodes.items():
            if same and file.parts[0] in folders and not file.name.startswith("."):
                assert (path / file).stat().st_ino == inode
    attrs = opened(path).attrs
    assert json.loads(attrs["configuration_versions"])[name] == "1.1"
    assert json.loads(attrs["history"])[-1] == f"Modified on 2024-06-07: {name} 1.0 to 1.1"
    assert attrs["modification_date"] == "2024-06-07"
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == ["one.zarr"]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed(after: str = "", *, half: bool = False) -> Callable[..., Any]:
    """Make a function that kills, before or in the midst of what it does."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(self: Any, *args: Any, **options: Any) -> Any:
            if half:
                (Path(args[0]) / "cop_dem").mkdir()
            elif not str(self).endswith(after):
                return original(self, *args, **options)
            raise Killed

        return stopped

    return wrap


KILLS = {
    "before linking": (shutil, "copytree", killed(".zarr"), "1.0"),
    "while writing": (xr.Dataset, "to_zarr", killed(half=True), "1.0"),
    "before the first rename": (Path, "rename", killed(".zarr"), "1.0"),
    "between the renames": (Path, "rename", killed(".draft"), None),
    "before tidying": (shutil, "rmtree", killed(".old"), "1.1"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_leaves_the_old_or_the_new_minicube(
    bands: xr.Dataset, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    new = other(bands, opened(path)["time"].values.astype("datetime64[D]"), "dem")
    old = states(path)["dem"][1]
    thing, name, wrap, version = KILLS[moment]
    with monkeypatch.context() as patch:
        # the first tidying finds nothing to remove here
        patch.setattr(thing, name, wrap(getattr(thing, name)))
        with pytest.raises(Killed):
            minicube.update(path, [new], date=LATER)
    if version is not None:
        found = states(path)
        assert found["dem"][0] == version
        xr.testing.assert_equal(found["dem"][1], new.data if version == "1.1" else old)
    else:
        assert not path.exists()
    # the next call finds the old one or the new one, and nothing lies about afterwards
    assert minicube.update(path, [new], date=LATER) == {"dem": "1.1" if version == "1.0" else "1.2"}
    xr.testing.assert_equal(states(path)["dem"][1], new.data)
    assert [f.name for f in tmp_path.iterdir() if f.is_dir()] == ["one.zarr"]


def test_a_component_for_another_period_is_refused(
    bands: xr.Dataset, path: Path, tmp_path: Path
) -> None:
    days = form.steps(np.datetime64("2021-01-01"), np.datetime64("2021-12-31"))
    with pytest.raises(ValueError, match="has 74 steps along 'time' and the minicube"):
        minicube.update(path, [other(bands, days, "era5")], date=LATER)
    with pytest.raises(ValueError, match="there is something at"):
        minicube.write(bands, path)
    with pytest.raises(FileNotFoundError, match="there is no minicube at"):
        minicube.update(tmp_path / "none.zarr", [], date=LATER)


def test_the_registry_has_one_row_for_each_minicube(
    bands: xr.Dataset, path: Path, tmp_path: Path
) -> None:
    ds = opened(path)
    first = path.rename(tmp_path / "a.zarr")
    minicube.register(first)
    new = other(bands, ds["time"].values.astype("datetime64[D]"), "dem")
    minicube.update(first, [new], date=LATER)
    minicube.register(minicube.write(ds.assign_attrs(data_id="mc_b"), tmp_path / "b.zarr"))
    table = minicube.register(first)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["path"], r["dem"], r["era5"]) for r in rows] == [
        ("a.zarr", "1.1", "1.0"), ("b.zarr", "1.0", "1.0"),
    ]  # fmt: skip
    assert rows[0]["dominant_class"] == "grassland"


# ---- the recipes


@pytest.fixture
def ws(workspace: Workspace, bands: xr.Dataset) -> Workspace:
    store.write(contract.check(bands), catalogue.place(workspace, "tiny"))
    catalogue.add(workspace, "tiny")
    return workspace


def test_from_the_workspace_to_an_updated_minicube(ws: Workspace, tmp_path: Path) -> None:
    table = weather("1992-01-01", 10_800, seed=1).to_dataframe()
    table = table.drop(columns=["solar_radiation"]).rename_axis("date").reset_index()
    table.to_csv(tmp_path / "station.csv", index=False)
    out = tmp_path / "minicubes"
    path = minicube.make(ws, "tiny", out)
    again = minicube.make(ws, "tiny", out)
    assert path.name.endswith("_0.zarr")
    assert again.name.endswith("_1.zarr")
    assert opened(again).attrs["data_id"] == again.stem
    assert "events" not in opened(path)
    before = states(path)
    source = str(tmp_path / "station.csv")
    assert minicube.refresh(ws, path, "tiny", ["events"], record=source) == {"events": "1.0"}
    assert minicube.refresh(ws, path, "tiny", ["mask"]) == {"mask": "1.1"}
    assert minicube.refresh(ws, path, "tiny", ["s2"]) == {"s2": "1.1", "mask": "1.2"}
    after = states(path)
    for name, (_, data) in before.items():
        xr.testing.assert_equal(after[name][1], data)  # the same cube: the same values
    with (out / files.REGISTRY).open() as file:
        assert [row["mask"] for row in csv.DictReader(file)] == ["1.2", "1.0"]
    with pytest.raises(ValueError, match="'snow' is no component"):
        minicube.refresh(ws, path, "tiny", ["snow"])
    with pytest.raises(ValueError, match="there is no source for events"):
        minicube.refresh(ws, path, "tiny", ["events"])
    with pytest.raises(ValueError, match="needs both its latitude and its longitude"):
        minicube.make(ws, "tiny", out, lat=50.0)


def test_the_command_line(
    ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, out = str(ws.home), str(tmp_path / "minicubes")
    assert main(["minicube", "make", "tiny", "--out", out, "--json", "--home", home]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "7/7 bands" in said.err
    assert opened(Path(found["path"])).sizes["time"] == found["steps"]
    words = ["minicube", "update", found["path"], "--from", "tiny", "--component", "dem", "era5"]
    assert main([*words, "--home", home]) == 0
    assert capsys.readouterr().out.strip().endswith("dem 1.1, era5 1.1")
    refused = {
        ("make", "nothing", "--out", out): "there is no cube 'nothing'",
        ("make", "tiny", "--lat", "1", "--lon", "2", "--out", out): "does not touch the cube",
        ("make", "tiny", "--weather", f"{out}/no.nc", "--out", out): "no.nc",
        ("update", f"{out}/no.zarr", "--from", "tiny", "--component", "dem"): "no minicube",
    }
    for wrong, sentence in refused.items():
        assert main(["minicube", *wrong, "--home", home]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert sentence in lines[-1]


def test_a_minicube_of_the_real_cube(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    bands = foreign.read(source)
    ds = minicube.assemble(minicube.Sources(bands), date=TODAY)
    path = minicube.write(ds, tmp_path / "real.zarr")
    ds = opened(path)
    with xr.open_dataset(source) as given:
        given = given[["B04", "B05", "B8A", "SCL", "agera5_temperature_max"]].load()
    assert ds.sizes["time"] == 97
    assert int(ds["acquisition_time"].notnull().sum()) <= 118
    inside = ds.sel(y=slice(*given.y.values[[0, -1]]), x=slice(*given.x.values[[0, -1]]))
    assert (inside.sizes["y"], inside.sizes["x"]) == (32, 32)
    assert ds["B05"].notnull().sum() == inside["B05"].notnull().sum() > 0
    for number in np.flatnonzero(ds["acquisition_time"].notnull().values)[::10]:
        here = inside.isel(time=number)
        date = given.sel(time=here["acquisition_time"].values)
        # these bands were measured at 20 m and repeated; so was the classification
        for name in ("B05", "B8A"):
            np.testing.assert_allclose(here[name], date[name][::2, ::2], atol=5.1e-5)
        np.testing.assert_array_equal(here["SCL"], date["SCL"][::2, ::2].fillna(0))
        free = here["cloudmask_en"].values == 0
        means = date["B04"].values.reshape(32, 2, 32, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(here["B04"].values[free], means[free], atol=1e-3)
    hottest = given["agera5_temperature_max"].max().item()
    np.testing.assert_allclose(ds["t2m_max"].max(), hottest, rtol=1e-6)
    assert "Copernicus" in ds.attrs["attribution"]


def test_a_minicube_of_the_simulated_landscape() -> None:
    land = simulate.plan(seed=0, size=64, years=1)
    bands = simulate.render(land, split((64, 64), 64)[0])
    ds = minicube.assemble(minicube.Sources(bands), date=TODAY)
    inside = ds.isel(y=slice(48, 80), x=slice(48, 80))
    corner = bands["x"].values[0] - 5
    assert inside["x"].values[0] - 10 == corner
    words = np.array(bands["label_class"].attrs["flag_meanings"].split())
    blocks = bands["label_class"].values.reshape(32, 2, 32, 2).swapaxes(1, 2).reshape(32, 32, 4)
    whole = (blocks == blocks[..., :1]).all(axis=-1)
    np.testing.assert_array_equal(inside["landcover"].values[whole], blocks[whole, 0])
    counts = np.bincount(inside["landcover"].values.ravel(), minlength=words.size)
    assert ds.attrs["dominant_class"] == words[counts.argmax()]
    for number in np.flatnonzero(ds["acquisition_time"].notnull().values)[::9]:
        here = inside.isel(time=number)
        date = bands.sel(time=here["acquisition_time"].values)
        parts_of = date["valid"].values.reshape(32, 2, 32, 2) == 1
        np.testing.assert_array_equal(
            np.isin(here["cloudmask_en"], [0, 3]), parts_of.sum(axis=(1, 3)) >= 2
        )
    assert ds.attrs["simulated"] == "true"
