from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import contract, infer, store
from deepfeatures.embed import data
from deepfeatures.predictor import Predictor
from deepfeatures.tiles import split

NETWORK = Predictor.load("convtemporal")
PCA = Predictor.load("pca")


def whole(predictor: Predictor, ds: xr.Dataset) -> np.ndarray:
    """Features of the whole cube in one call."""
    block = data.read(ds, predictor.channels)
    return predictor(block.values, block.valid, block.days)


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


@given(st.integers(9, 60), st.integers(9, 60), st.integers(5, 40), st.sampled_from([2, 3, 5]))
@settings(max_examples=6, deadline=None)
def test_tiled_equals_whole(height: int, width: int, edge: int, dates: int) -> None:
    ds = bands_cube(times=5, height=height, width=width)
    expected = whole(NETWORK, ds)
    found = np.full_like(expected, np.nan)
    count = np.zeros((height, width), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infer, "DATES", dates)
        patch.setattr(infer, "MEMORY", 4 * NETWORK.floats * (dates + 16) * (edge + 6) ** 2)
        for tile in split((height, width), 32):
            for part in infer.parts(NETWORK, ds, slice(0, 5), (0, height, 0, width), tile):
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
