from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.embed import data
from deepfeatures.embed.cleaning import YEAR
from deepfeatures.predictor import Predictor, locate, shipped, usable

FEATURES = {"fused": 7, "optical": 6, "pca": 6}
NAMES = list(FEATURES)


@pytest.fixture(scope="module", params=NAMES)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor.load(request.param)


@pytest.fixture
def block(tiny_bands: xr.Dataset, predictor: Predictor) -> data.Block:
    return data.read(tiny_bands, predictor.channels)


def test_the_checkpoints_ship_and_are_small() -> None:
    assert shipped() == NAMES
    assert sum(locate(name).stat().st_size for name in NAMES) < 5e6


def test_card_says_what_is_needed(predictor: Predictor) -> None:
    assert predictor.channels == [name for name in BANDS if name not in ("B01", "B09")]
    assert predictor.features == [f"F{i:02d}" for i in range(1, FEATURES[predictor.name] + 1)]
    card = predictor.card
    assert card.description
    assert card.training["scores"]
    assert "simulated" in json.dumps(card.training["cubes"])
    assert "Copernicus" in json.dumps(card.training["cubes"])


def test_save_and_load_give_the_same_output(
    predictor: Predictor, block: data.Block, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "copy.safetensors"
    predictor.save(path)
    again = Predictor.load(path)
    assert again.card == predictor.card
    assert again.checksum == predictor.checksum
    assert [p.name for p in path.parent.iterdir()] == ["copy.safetensors"]
    before = predictor(block.values, block.valid, block.days)
    np.testing.assert_array_equal(again(block.values, block.valid, block.days), before)


def test_saving_twice_gives_the_same_bytes(predictor: Predictor, tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    predictor.save(one)
    Predictor.load(one).save(two)
    assert one.read_bytes() == two.read_bytes()


def test_checkpoint_holds_no_pickle(predictor: Predictor) -> None:
    path = locate(predictor.name)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert set(header["__metadata__"]) == {"predictor"}
    with safe_open(path, framework="np") as file:
        held = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    # Header and plain numbers fill the file to the last byte: there is no room for code.
    assert path.stat().st_size == 8 + size + held


def test_checksum_changes_with_weights_and_with_metadata(predictor: Predictor) -> None:
    other = Predictor(replace(predictor.card, description="another"), predictor.module)
    assert other.checksum != predictor.checksum
    nudged = Predictor.load(predictor.name)
    with torch.no_grad():
        next(nudged.module.parameters()).flatten()[0] += 1e-3
    assert nudged.checksum != predictor.checksum


def test_gaps_come_out_as_gaps(predictor: Predictor, block: data.Block) -> None:
    values = block.values.copy()
    values[2, 3, 5, 7] = np.nan
    valid = block.valid.copy()
    valid[2, 5, 7] = valid[1, 1, 1] = True
    valid[1, 2, 2] = False
    features = predictor(values, valid, block.days)
    seen = usable(values, valid)
    assert not seen[2, 5, 7]
    np.testing.assert_array_equal(np.isfinite(features).all(axis=1), seen)
    np.testing.assert_array_equal(np.isfinite(features).any(axis=1), seen)


def test_features_fit_the_quantisation(predictor: Predictor, block: data.Block) -> None:
    wild = block.values * 30 - 5
    features = predictor(wild, block.valid, block.days)
    steps = features[np.isfinite(features)] / predictor.scale
    assert np.abs(steps).max() <= 127 + 1e-3


def test_what_is_not_valid_changes_nothing(predictor: Predictor, block: data.Block) -> None:
    before = predictor(block.values, block.valid, block.days)
    values = block.values.copy()
    gone = np.broadcast_to(~block.valid[:, None], values.shape)
    values[gone] = np.random.default_rng(1).normal(size=values.shape)[gone]
    np.testing.assert_array_equal(predictor(values, block.valid, block.days), before)


def test_the_year_does_not_matter_only_the_season(predictor: Predictor, block: data.Block) -> None:
    before = predictor(block.values, block.valid, block.days)
    after = predictor(block.values, block.valid, block.days - 8 * YEAR)
    np.testing.assert_allclose(after, before, atol=2e-4)


@given(st.integers(0, 10), st.integers(0, 10), st.integers(6, 13), st.integers(6, 9))
@settings(max_examples=10, deadline=None)
def test_a_window_with_halo_equals_the_whole(y: int, x: int, height: int, width: int) -> None:
    from conftest import bands_cube

    whole = data.read(bands_cube(), Predictor.load("pca").channels)
    for name in NAMES:
        predictor = Predictor.load(name)
        expected = predictor(whole.values, whole.valid, whole.days)
        halo = predictor.halo
        rows = slice(max(y - halo, 0), min(y + height + halo, 24))
        columns = slice(max(x - halo, 0), min(x + width + halo, 20))
        part = predictor(
            whole.values[:, :, rows, columns], whole.valid[:, rows, columns], whole.days
        )
        inside = (
            slice(y - rows.start, y - rows.start + height),
            slice(x - columns.start, x - columns.start + width),
        )
        np.testing.assert_allclose(
            part[:, :, inside[0], inside[1]],
            expected[:, :, y : y + height, x : x + width],
            atol=1e-5,
        )


def test_wrong_shapes_are_refused(predictor: Predictor, block: data.Block) -> None:
    with pytest.raises(ValueError, match=r"9 channels were given; .* needs 10: B02, B03"):
        predictor(block.values[:, 1:], block.valid, block.days)
    with pytest.raises(ValueError, match="do not fit"):
        predictor(block.values, block.valid[1:], block.days)


def test_unknown_models_devices_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="one of fused, optical, pca"):
        Predictor.load("nothing")
    with pytest.raises(ValueError, match="choose auto, cpu or cuda"):
        Predictor.load("pca", device="tpu")
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"\x80\x04not a checkpoint")
    with pytest.raises(ValueError, match="no checkpoint of deepfeatures"):
        Predictor.load(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    assert Predictor.load("pca", device="auto").device.type == "cpu"
    with pytest.raises(ValueError, match="no CUDA device"):
        Predictor.load("pca", device="cuda")


def test_indices_are_made_of_bands_on_the_way_in(tiny_bands: xr.Dataset, tmp_path: Path) -> None:
    channels = ("B04", "NDVI", "(B08 - B05) / (B08 + B05)", "B08")
    spread = (0.1, 0.3, 0.2, 0.1)
    shipped_card = Predictor.load("pca").card
    limits = {"low": (-0.1, -2.0, -2.0, -0.1), "high": (1.2, 2.0, 2.0, 1.2)}
    card = replace(
        shipped_card, name="with-indices", channels=channels, centre=(0.0,) * 4, spread=spread,
        **limits,
    )  # fmt: skip
    torch.manual_seed(0)
    predictor = Predictor(card)
    torch.nn.init.normal_(next(predictor.module.parameters()))
    assert predictor.inputs == ["B04", "B08", "B05"]
    predictor.save(tmp_path / "with-indices.safetensors")
    predictor = Predictor.load(tmp_path / "with-indices.safetensors")

    block = data.read(tiny_bands, predictor.inputs)
    block.values[0, 0, 0, 0] = block.values[0, 1, 0, 0] = 0  # NDVI is 0 / 0 there
    valid = block.valid.copy()
    valid[0, 0, 0] = True
    found = predictor(block.values, valid, block.days)

    bands = {
        name: np.clip(layer, -0.1, 1.2)
        for name, layer in zip(predictor.inputs, block.values.swapaxes(0, 1), strict=True)
    }
    made = indices.compute(bands, channels[1:3])
    assert np.isnan(made[0, 0, 0, 0])
    made = np.nan_to_num(made, nan=0.0).clip(-2, 2)  # what is undefined counts as the centre
    stack = np.stack([bands["B04"], *made, bands["B08"]], axis=1) / np.array(spread)[:, None, None]
    weight = next(predictor.module.parameters()).detach().numpy()
    expected = np.einsum("tcyx,fc->tfyx", stack, weight)
    expected = expected.clip(-127 * card.scale, 127 * card.scale)
    there = usable(block.values, valid)
    assert there[0, 0, 0]
    picked = np.broadcast_to(there[:, None], found.shape)
    np.testing.assert_allclose(found[picked], expected[picked], rtol=1e-4, atol=1e-5)
    assert np.isnan(found[~picked]).all()
