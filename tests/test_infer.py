from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import catalogue, contract, cube, featurecube, infer, store
from deepfeatures.embed import data
from deepfeatures.embed.inputs import limits
from deepfeatures.embed.sensors import SENSORS
from deepfeatures.predictor import Card, Predictor
from deepfeatures.settings import Workspace
from deepfeatures.tiles import split

NETWORK = Predictor.load("optical")
PCA = Predictor.load("pca")


def card(name: str, sensor: str, count: int, **more: object) -> Card:
    """A card of made-up scaling."""
    channels = SENSORS[sensor].channels
    low, high = limits(sensor, channels)
    middle = [(one + two) / 2 for one, two in zip(low, high, strict=True)]
    steps = [(two - one) / 6 for one, two in zip(low, high, strict=True)]
    kind = {"kind": "temporal", "config": {"width": 8, "context": 2, "heads": 2}}
    return Card(
        name=name, channels=channels, features=tuple(f"F{i + 1:02d}" for i in range(count)),
        centre=tuple(middle), spread=tuple(steps), low=low, high=high, scale=1 / 127,
        sensor=sensor, halo=7, context=2, **(kind | more),
    )  # fmt: skip


def fused() -> Predictor:
    """A small untrained predictor of optical and radar dates whose parts all have a say."""
    encoders = {"s2": asdict(card("one", "s2", 4)), "s1": asdict(card("two", "s1", 2))}
    made = Predictor(card("both", "s2", 3, kind="fusion", config={"width": 8}, encoders=encoders))
    torch.manual_seed(0)
    with torch.no_grad():
        for part in made.module.parameters():
            part.add_(0.2 * torch.randn_like(part))
    return made


def with_radar(ds: xr.Dataset) -> xr.Dataset:
    """Add radar of made-up dates, with gaps, to a cube."""
    rng = np.random.default_rng(1)
    first = ds["time"].values[0].astype("datetime64[D]")
    values = rng.normal(-12, 4, (9, 2, ds.sizes["y"], ds.sizes["x"])).astype(np.float32)
    values[2] = np.nan
    values[:, :, :5] = np.nan
    told = {"units": "dB", "long_name": "Radar backscatter"}
    return ds.assign_coords(
        time_s1=(first + np.arange(9) * 4).astype("datetime64[ns]"), polarisation=["VV", "VH"]
    ).assign(backscatter=(("time_s1", "polarisation", "y", "x"), values, told))


def whole(predictor: Predictor, ds: xr.Dataset) -> np.ndarray:
    """Features of the whole cube in one call."""
    block = data.read(ds, predictor.inputs, sensors=predictor.contexts)
    return predictor(block.values, block.valid, block.days, block.others)


def stored(predictor: Predictor, ds: xr.Dataset, url: Path, **options: object) -> xr.Dataset:
    """The feature cube of a cube, written and opened."""
    infer.run(predictor, ds, str(url), **options)
    return contract.check(store.open(str(url))).load()


def files(url: Path) -> dict[str, bytes]:
    found = [path for path in url.rglob("*") if path.is_file()]
    return {str(path.relative_to(url)): path.read_bytes() for path in found}


@pytest.mark.parametrize("predictor", [PCA, NETWORK], ids=lambda p: p.name)
def test_store_holds_what_the_predictor_gives(
    predictor: Predictor, tiny_bands: xr.Dataset, tmp_path: Path
) -> None:
    url = str(tmp_path / "features")
    infer.run(predictor, tiny_bands, url)
    made = contract.check(store.open(url))
    expected = whole(predictor, tiny_bands)
    found = made["features"].transpose("time", "feature", "y", "x").values
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, atol=0.51 * predictor.scale)
    np.testing.assert_array_equal(made["valid"].values, np.isfinite(expected[:, 0]))
    raw = store.arrays(url)["features"]
    assert raw.dtype == np.int8
    assert raw.attrs["scale_factor"] == predictor.scale


def test_provenance_travels(tiny_bands: xr.Dataset, tmp_path: Path) -> None:
    url = str(tmp_path / "features")
    infer.run(PCA, tiny_bands.assign_attrs(cube_name="test"), url)
    told = contract.provenance(store.open(url))
    assert told["model"] == "pca"
    assert told["model_checksum"] == PCA.checksum
    assert told["model_channels"] == PCA.channels
    assert told["quantisation"]["scale"] == {"type": "scalar", "value": PCA.scale}
    assert told["source_cube"] == "test"
    assert told["simulated"] == "true"
    assert told["licence"] == tiny_bands.attrs["licence"]
    assert told["attribution"] == tiny_bands.attrs["attribution"]
    for name in ("type", "dimensions", "model", "source_data", "data_type"):
        assert told[f"geoemb:{name}"], name
    assert "embed: model pca" in told["processing"][-1]
    assert json.loads(tiny_bands.attrs["processing"]) == []


@given(
    st.integers(9, 60), st.integers(9, 60), st.integers(5, 40), st.sampled_from([2, 3, 5]),
    st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=6, deadline=None)
def test_tiled_equals_whole(height: int, width: int, edge: int, dates: int, least: int) -> None:
    ds = bands_cube(times=5, height=height, width=width)
    expected = whole(NETWORK, ds)
    found = np.full_like(expected, np.nan)
    count = np.zeros((height, width), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infer, "DATES", dates)
        patch.setattr(infer, "MEMORY", 4 * NETWORK.floats * (dates + 16) * (edge + 6) ** 2)
        for tile in split((height, width), 32):
            area = (0, height, 0, width)
            for part in infer.parts(NETWORK, ds, slice(0, 5), area, tile, least):
                features = infer.compute(NETWORK, infer.read(NETWORK, ds, [part]), part)
                found[(part.times, slice(None), *part.tile.core)] = features
                count[part.tile.core] += part.times.stop - part.times.start
    assert (count == 5).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def wide() -> xr.Dataset:
    """A cube of four tiles."""
    return bands_cube(times=6, height=140, width=150)


def test_cancelled_and_resumed_gives_the_same_bytes(
    wide: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some parts per tile, so that a run stops within one.
    monkeypatch.setattr(infer, "MEMORY", 4 * NETWORK.floats * 22 * 80**2)
    smooth = tmp_path / "smooth"
    infer.run(NETWORK, wide, str(smooth))
    broken, stop = tmp_path / "broken", 7
    told: list[tuple[int, int]] = []
    tell = lambda done, total: told.append((done, total))  # noqa: E731
    with pytest.raises(InterruptedError, match="cancelled"):
        infer.run(NETWORK, wide, str(broken), progress=tell, cancelled=lambda: len(told) >= stop)
    with pytest.raises(FileNotFoundError, match="never completed"):
        store.open(str(broken))
    first = told[-1][0]
    infer.run(NETWORK, wide, str(broken), progress=tell)
    assert files(broken) == files(smooth)
    infer.run(NETWORK, wide, str(broken), progress=tell)
    assert files(broken) == files(smooth)
    counts = [done for done, _ in told]
    assert len({total for _, total in told}) == 1
    assert counts[-1] == told[-1][1]
    # Only whole tiles stay; within a run the count never falls.
    again = counts[stop:]
    assert counts[:stop] == sorted(counts[:stop])
    assert again == sorted(again)
    assert first >= stop


def test_executor_gives_the_same_bytes(wide: xr.Dataset, tmp_path: Path) -> None:
    infer.run(NETWORK, wide, str(tmp_path / "serial"))
    with ThreadPoolExecutor(2) as pool:
        infer.run(NETWORK, wide, str(tmp_path / "pool"), executor=pool)
    assert files(tmp_path / "pool") == files(tmp_path / "serial")


def test_window_mask_and_period_cut_the_whole(wide: xr.Dataset, tmp_path: Path) -> None:
    y0, y1, x0, x1 = 3, 60, 100, 149
    rng = np.random.default_rng(0)
    mask = rng.random((y1 - y0, x1 - x0)) < 0.5
    days = wide["time"].values.astype("datetime64[D]").astype(str)
    url = str(tmp_path / "part")
    infer.run(NETWORK, wide, url, window=(y0, y1, x0, x1), mask=mask, period=(days[1], days[4]))
    made = store.open(url)
    assert made["time"].size == 4
    np.testing.assert_array_equal(made["x"], wide["x"][x0:x1])
    # Neighbours outside the period and the window play their part.
    expected = whole(NETWORK, wide)[1:5, :, y0:y1, x0:x1]
    expected = np.where(mask, expected, np.nan)
    found = made["features"].values
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, atol=0.51 * NETWORK.scale)
    assert not made["valid"].values[:, ~mask].any()


def test_lazy_equals_eager_and_input_stays(wide: xr.Dataset, tmp_path: Path) -> None:
    lazy = wide.chunk({"time": 2, "y": 50, "x": 70})
    before = wide.copy(deep=True)
    infer.run(NETWORK, wide, str(tmp_path / "eager"))
    infer.run(NETWORK, lazy, str(tmp_path / "lazy"))
    assert files(tmp_path / "lazy") == files(tmp_path / "eager")
    xr.testing.assert_identical(wide, before)


def test_channels_may_come_among_others(tiny_bands: xr.Dataset, tmp_path: Path) -> None:
    more = bands_cube(bands=("B01", *PCA.channels, "B09")[:12])
    infer.run(PCA, more, str(tmp_path / "more"))
    block = data.read(more, PCA.channels)
    expected = PCA(block.values, block.valid, block.days)
    found = store.open(str(tmp_path / "more"))["features"].values
    np.testing.assert_allclose(found, expected, atol=0.51 * PCA.scale)


def test_missing_channels_are_named(tmp_path: Path) -> None:
    ds = bands_cube(bands=("B02", "B03", "B04", "B08"))
    with pytest.raises(ValueError, match="lacks B05, B06, B07, B8A, B11, B12"):
        infer.run(PCA, ds, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_wrong_windows_masks_and_periods_are_refused(
    tiny_bands: xr.Dataset, tmp_path: Path
) -> None:
    url = str(tmp_path / "none")
    with pytest.raises(ValueError, match=r"outside the cube of 24 x 20 px"):
        infer.run(PCA, tiny_bands, url, window=(0, 25, 0, 20))
    with pytest.raises(ValueError, match="the mask is"):
        infer.run(PCA, tiny_bands, url, mask=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="no date lies from 1999-01-01"):
        infer.run(PCA, tiny_bands, url, period=("1999-01-01", "1999-12-31"))
    assert not Path(url).exists()


# --- what stands beside the features ---


def test_share_of_usable_pixels_is_that_of_the_mask(
    wide: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(featurecube, "STEP", (2, 50))
    mask = np.random.default_rng(0).random((130, 60)) < 0.3
    for name, area in (("all", None), ("part", mask)):
        made = stored(PCA, wide, tmp_path / name, window=(5, 135, 40, 100), mask=area)
        inside = made["valid"].values[:, np.ones_like(mask) if area is None else area]
        np.testing.assert_allclose(made["valid_share"], inside.mean(axis=1), rtol=1e-6)
        assert made["valid_share"].dtype == np.float32
        assert 0.5 < float(made["valid_share"][0]) < 0.9


def test_edges_are_kept_and_flagged(tmp_path: Path) -> None:
    predictor = Predictor(card("one", "s2", 4))
    ds = bands_cube(times=9, height=40, width=36)
    days = ds["time"].values.astype("datetime64[D]").astype(str)
    made = stored(
        predictor, ds, tmp_path / "x", window=(0, 35, 3, 36), period=(days[1], days[8])
    )  # fmt: skip
    flags = [made[name].values for name in ("edge_time", "edge_y", "edge_x")]
    assert flags[0].tolist() == [1, 0, 0, 0, 0, 0, 1, 1]
    assert flags[1].tolist() == [1] * 7 + [0] * 26 + [1] * 2
    assert flags[2].tolist() == [1] * 4 + [0] * 22 + [1] * 7
    np.testing.assert_array_equal(made["valid"], ds["valid"][1:9, :35, 3:])
    for name in ("edge_time", "edge_y", "edge_x"):
        assert made[name].attrs["flag_meanings"] == "complete padded"
    # the flags tell the truth: what lies outside the cube may only change what is flagged
    wider = bands_cube(times=9, height=40, width=36)
    wider["reflectance"][:, :, 0] += 0.1
    changed = np.abs(whole(predictor, wider) - whole(predictor, ds)).max(axis=1)[1:9, :35, 3:]
    rows = np.flatnonzero(np.nan_to_num(changed).max(axis=(0, 2)) > 1e-6)
    assert rows.max() <= 7  # the first row lies within 7 px of the rows 0..7


@pytest.mark.parametrize("predictor", [PCA, NETWORK], ids=lambda p: p.name)
def test_reconstruction_error_is_that_of_the_stored_features(
    predictor: Predictor, tiny_bands: xr.Dataset, tmp_path: Path
) -> None:
    made = stored(predictor, tiny_bands, tmp_path / "x", error=True)
    told = predictor.decode(made["features"].values)
    chosen = tiny_bands["reflectance"].sel(band=predictor.channels)
    expected = np.abs(told - chosen.values).mean(axis=1)
    expected[made["valid"].values == 0] = np.nan
    np.testing.assert_allclose(made["reconstruction_error"], expected, atol=1e-4)
    assert 0 < np.nanmean(expected) < 0.1
    plain = stored(predictor, tiny_bands, tmp_path / "y")
    assert "reconstruction_error" not in plain
    np.testing.assert_array_equal(plain["features"], made["features"])


def test_the_error_of_a_network_with_indices_is_of_its_bands() -> None:
    channels = ("NDVI", "B04", "B08")
    low, high = limits("s2", channels)
    made = Predictor(
        Card("x", "pca", channels, ("F01",), (0.0,) * 3, (1.0,) * 3, low, high, scale=0.1)
    )
    values = np.random.default_rng(0).random((4, 2, 3, 5)).astype(np.float32)
    features = np.random.default_rng(1).random((4, 1, 3, 5)).astype(np.float32)
    bands = [made.inputs.index(name) for name in ("B04", "B08")]
    expected = np.abs(made.decode(features)[:, 1:] - values[:, bands]).mean(axis=1)
    np.testing.assert_allclose(made.error(values, features), expected, rtol=1e-5)
    (low, high), one = limits("s2", ["NDVI"]), (0.0,)
    only = Predictor(Card("x", "pca", ("NDVI",), ("F01",), one, (1.0,), low, high, scale=0.1))
    with pytest.raises(ValueError, match="knows indices only"):
        only.error(values, features)


def test_threads_tiles_and_the_workspace_give_the_same_bytes(
    wide: xr.Dataset, tmp_path: Path, workspace: Workspace
) -> None:
    url = str(workspace.cubes / "wide.zarr")
    store.write(wide, url)
    catalogue.add(workspace, "wide", url)
    cube.embed(workspace, "wide", model="pca", out="alone", device="cpu", error=True)
    with ThreadPoolExecutor(2) as pool:
        cube.embed(
            workspace, "wide", model="pca", out="spread", device="cpu", error=True, executor=pool
        )
    alone, spread = (workspace.cubes / f"{name}.zarr" for name in ("alone", "spread"))
    assert files(alone) == files(spread)
    assert {"reconstruction_error", "valid_share"} <= set(store.open(str(alone)).data_vars)


# --- laws of neighbours ---


def test_a_date_beyond_the_context_and_one_without_a_pixel_change_nothing(tmp_path: Path) -> None:
    predictor = Predictor(card("one", "s2", 4))
    ds = bands_cube(times=9)
    before = stored(predictor, ds, tmp_path / "before")["features"].values
    later = ds.copy(deep=True)
    later["reflectance"][6] += 0.2
    after = stored(predictor, later, tmp_path / "later")["features"].values
    np.testing.assert_array_equal(after[:4], before[:4])
    assert not np.array_equal(after[4], before[4], equal_nan=True)
    masked = ds.copy(deep=True)
    masked["valid"][4] = 0
    first = stored(predictor, masked, tmp_path / "masked")
    masked["reflectance"][4] = np.nan
    second = stored(predictor, masked, tmp_path / "gone")
    xr.testing.assert_equal(first, second)
    assert np.isnan(first["features"][4]).all()
    assert float(first["valid_share"][4]) == 0
    others = [0, 1, 7, 8]
    np.testing.assert_array_equal(first["features"][others], before[others])
    assert np.isfinite(first["features"].values[:, 0])[first["valid"].values == 1].all()
    masked["valid"][:] = 0
    nothing = stored(predictor, masked, tmp_path / "nothing")
    assert np.isnan(nothing["features"]).all()


@pytest.mark.parametrize("edge", [11, 24, 64])
@pytest.mark.parametrize("dates", [2, 7])
def test_tiled_equals_whole_with_radar(
    edge: int, dates: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    predictor, ds = fused(), with_radar(bands_cube(times=7, height=40, width=37))
    expected = whole(predictor, ds)
    monkeypatch.setattr(infer, "DATES", dates)
    monkeypatch.setattr(infer, "MEMORY", 4 * predictor.floats * (dates + 4) * (edge + 14) ** 2)
    found = stored(predictor, ds, tmp_path / "x")["features"].values
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, atol=0.51 * predictor.scale)
    without = whole(predictor, ds.drop_vars("backscatter"))
    assert np.nanmax(np.abs(without - expected)) > 3 * predictor.scale, "radar has no say"


def test_a_period_of_a_cube_with_radar_has_the_numbers_of_the_whole(tmp_path: Path) -> None:
    predictor, ds = fused(), with_radar(bands_cube(times=8, height=30))
    days = ds["time"].values.astype("datetime64[D]").astype(str)
    expected = stored(predictor, ds, tmp_path / "whole")["features"][3:6]
    found = stored(predictor, ds, tmp_path / "part", period=(days[3], days[5]))["features"]
    # the length of a series decides how sums are rounded, so a step of the integers may differ
    np.testing.assert_allclose(found, expected, atol=1.01 * predictor.scale)
    assert (found == expected).where(np.isfinite(expected), other=True).mean() > 0.999


def test_killed_and_resumed_with_radar_gives_the_same_bytes(wide: xr.Dataset, tmp_path: Path
                                                            ) -> None:  # fmt: skip
    predictor, ds = fused(), with_radar(wide)
    infer.run(predictor, ds, str(tmp_path / "smooth"), error=True)
    asked = iter([False, False, True])
    broken = str(tmp_path / "broken")
    with pytest.raises(InterruptedError):
        infer.run(predictor, ds, broken, error=True, cancelled=lambda: next(asked))
    infer.run(predictor, ds, broken, error=True)
    assert files(tmp_path / "broken") == files(tmp_path / "smooth")
