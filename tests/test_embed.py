from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deepfeatures import embed, foreign
from deepfeatures.embed import data, scores, training
from deepfeatures.embed.model import ConvTemporal
from deepfeatures.fit import Config, fit
from deepfeatures.predictor import Predictor

CHANNELS = list(training.CHANNELS)


def network(*, context: int = 8, seed: int = 0) -> ConvTemporal:
    torch.manual_seed(seed)
    return ConvTemporal(10, 6, context=context).eval()


def series(
    time: int, *, batch: int = 1, edge: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    seen = (torch.rand(batch, time, edge, edge, generator=generator) > 0.4).float()
    values = torch.randn(batch, time, 10, edge, edge, generator=generator) * seen.unsqueeze(2)
    days = torch.randint(2, 9, (batch, time), generator=generator).cumsum(1).float()
    return values, seen, days


# --- the network ---


@pytest.mark.long
@given(st.integers(1, 40), st.integers(1, 9))
@settings(max_examples=8, deadline=None)
@torch.no_grad()
def test_attention_in_blocks_equals_the_plain_formula(time: int, context: int) -> None:
    module = network(context=context)
    token = torch.randn(2, time, 2, 3, 32, generator=torch.Generator().manual_seed(time))
    _, mask, days = series(time, batch=2, edge=3)
    mask = mask[:, :, :2, :, None]
    found = module._attend(token, mask, days)
    query, key, value = (part(token) for part in (module.query, module.key, module.value))
    for t in range(time):
        near = [u for u in range(time) if 0 < abs(u - t) <= context]
        total = torch.zeros(2, 2, 3, 4)
        mixed, away = torch.zeros(2, 2, 3, 32), torch.zeros(2, 2, 3, 4)
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            score, gaps = [], []
            for u in near:
                gap = ((days[:, u] - days[:, t]) / 30).clamp(-6, 6)
                size = gap.abs()
                told = torch.stack([gap, size, torch.log(size + 0.03), torch.exp(-size)], -1)
                alike = (query[:, t, ..., part] * key[:, u, ..., part]).sum(-1) / 8**0.5
                one = alike + module.nearness(told)[:, head, None, None]
                score.append(one.masked_fill(mask[:, u, ..., 0] == 0, -torch.inf))
                gaps.append((days[:, u] - days[:, t]) / 30)
            if not near:
                continue
            weights = torch.nan_to_num(torch.stack(score).softmax(0))
            total[..., head] = weights.sum(0)
            for weight, gap, u in zip(weights, gaps, near, strict=True):
                mixed[..., part] += weight.unsqueeze(-1) * value[:, u, ..., part]
                away[..., head] += weight * gap[:, None, None]
        expected = torch.cat([mixed, total, away.clamp(-6, 6)], -1)
        torch.testing.assert_close(found[:, t], expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_dates_within_the_context_play_a_part_and_those_beyond_do_not() -> None:
    module = network(context=3)
    values, seen, days = series(30)
    seen[:, 12] = 1
    before = module(values, seen, days)
    values[:, 12] += 1
    changed = (module(values, seen, days) - before).abs().amax((0, 2, 3, 4)) > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(9, 16))


@torch.no_grad()
def test_a_date_without_any_pixel_changes_nothing_but_the_count_of_neighbours() -> None:
    module = network(context=20)
    values, seen, days = series(12)
    before = module(values, seen, days)
    more = torch.zeros(1, 1, 10, 5, 5)
    values = torch.cat([values[:, :6], more, values[:, 6:]], 1)
    seen = torch.cat([seen[:, :6], torch.zeros(1, 1, 5, 5), seen[:, 6:]], 1)
    days = torch.cat([days[:, :6], days[:, 5:6] + 1, days[:, 6:]], 1)
    after = module(values, seen, days)
    assert torch.isfinite(after).all()
    rest = torch.cat([after[:, :6], after[:, 7:]], 1)
    torch.testing.assert_close(rest, before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_size_and_order_of_the_batch_do_not_matter() -> None:
    module = network()
    values, seen, days = series(20, batch=4)
    together = module(values, seen, days)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = module(values[order], seen[order], days[order])
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=1e-5)
    for i in range(4):
        alone = module(values[i : i + 1], seen[i : i + 1], days[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_latents_are_bounded_and_decoding_gives_the_channels_back_in_shape() -> None:
    module = network()
    values, seen, days = series(3)
    latent = module(values * 100, seen, days)
    assert latent.shape == (1, 3, 6, 5, 5)
    assert latent.abs().max() <= 1
    told = module.decode(latent)
    assert told.shape == values.shape
    assert torch.isfinite(told).all()


@torch.no_grad()
def test_spatial_reach_is_the_halo() -> None:
    module = network()
    values, seen, days = series(1, edge=15)
    seen[:] = 1
    before = module(values, seen, days)
    values[0, 0, :, 7, 7] += 1
    changed = (module(values, seen, days) - before).abs().amax((0, 1, 2)) > 1e-7
    reach = module.halo
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
    assert not (changed & ~expected).any()
    assert changed[7 - reach].any()
    assert changed[:, 7 + reach].any()


@torch.no_grad()
def test_operations_stay_within_the_budget() -> None:
    values, seen, days = series(64, edge=8)
    with FlopCounterMode(display=False) as counter:
        Predictor.load("convtemporal").module(values, seen, days)
    assert counter.get_total_flops() / 2 / seen.numel() < 150_000


@pytest.mark.long
def test_overfits_one_batch() -> None:
    cubes = {"a": bands_cube(times=12)}
    batch = next(data.batches(cubes, CHANNELS, seed=0, size=2, length=8, edge=4))
    centre, spread = (0.2,) * 10, (0.1,) * 10
    card = training.card("net", "convtemporal", centre, spread, {}, scale=1 / 127)
    module = network()
    loss = training.Reconstruction(card)
    with torch.no_grad():
        before = loss(module, batch).item()
    fit(module, [batch], Config(steps=80, rate=1e-2), loss=loss)
    with torch.no_grad():
        assert loss(module, batch).item() < 0.5 * before


# --- the data ---


@given(st.integers(1, 150), st.integers(1, 150), st.floats(0, 0.9))
@settings(max_examples=30, deadline=None)
def test_places_to_learn_from_and_to_judge_on_are_apart(
    height: int, width: int, share: float
) -> None:
    ds = xr.Dataset(coords={"y": np.arange(height), "x": np.arange(width)})
    learn, judge = data.places(ds, held_out=share, gap=4)
    count = np.zeros((height, width), int)
    for tile in learn:
        count[tile.core] += 1
    edge = np.flatnonzero(count.any(axis=0)).max()
    for tile in judge:
        count[tile.core] += 1
        assert tile.x0 > edge + 3
        assert tile.x1 <= width
    assert count.max() == 1
    assert learn


def test_what_is_held_out_is_never_drawn() -> None:
    ds = bands_cube(times=20, width=40)
    ds["reflectance"][..., 20:] = 9.0
    draw = data.batches({"a": ds}, CHANNELS, seed=0, held_out=0.5, size=4)
    for _ in range(30):
        assert next(draw).target.max() < 3
    assert data.pixels({"a": ds}, CHANNELS, count=10_000, seed=0, held_out=0.5).max() < 3


def test_batches_are_the_same_for_the_same_seed_and_lazy_or_not() -> None:
    ds = bands_cube(times=20)
    lazy = ds.chunk({"time": 7, "y": 10})

    def drawn(source: xr.Dataset, seed: int) -> Tensor:
        draw = data.batches({"a": source}, CHANNELS, seed=seed, size=3)
        return torch.stack([next(draw).values for _ in range(3)])

    assert torch.equal(drawn(ds, 0), drawn(lazy, 0))
    assert not torch.equal(drawn(ds, 0), drawn(ds, 1))


def test_a_batch_hides_dates_and_keeps_the_target_clean() -> None:
    ds = bands_cube(times=60, height=30)
    batch = next(data.batches({"a": ds}, CHANNELS, seed=0, size=16))
    assert batch.values.shape == (16, 40, 10, 8, 8)
    assert (batch.seen <= batch.known).all()
    assert (batch.known - batch.seen).amax((2, 3)).mean() > 0.1
    assert (batch.days.diff(dim=1) >= 0).all()
    assert (batch.values * (1 - batch.seen[:, :, None]) == 0).all()
    assert (batch.target * (1 - batch.known[:, :, None]) == 0).all()
    same = (batch.values == batch.target).all(2) | (batch.seen == 0)
    veiled = (~same).float().amax((2, 3)).mean()
    assert 0 < veiled < 0.1


def test_haze_brightens_dark_pixels_most_in_the_blue_and_may_be_left_out() -> None:
    rng = np.random.default_rng(0)
    dark = np.full((40, 50, 10, 1, 1), 0.05, np.float32)
    veil = data.veiled(dark, CHANNELS, rng, share=1.0)
    assert ((veil - dark)[..., 0, 0].mean(axis=(0, 1)) > 0).all()
    assert (np.diff(veil.mean(axis=(0, 1, 3, 4))) < 0).all()
    np.testing.assert_array_equal(data.veiled(dark, CHANNELS, rng, share=0.0), dark)


def test_series_shorter_than_a_patch_are_padded() -> None:
    ds = bands_cube(times=3, height=5, width=6)
    batch = next(data.batches({"a": ds}, CHANNELS, seed=0, size=4))
    assert batch.values.shape == (4, 40, 10, 8, 8)
    assert batch.seen.sum() > 0


# --- the training ---


def test_pca_is_that_of_the_clear_pixels() -> None:
    ds = bands_cube(times=20)
    predictor = embed.train({"a": ds}, kind="pca", held_out=0.0)
    block = data.read(ds, CHANNELS)
    clear = block.valid & np.isfinite(block.values).all(axis=1)
    rows = np.moveaxis(block.values, 1, -1)[clear].astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    found = np.moveaxis(predictor(block.values, block.valid, block.days), 1, -1)[clear]
    expected = left[:, :6] * np.sqrt(len(rows))
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, (expected * signs).clip(-127 / 32, 127 / 32), atol=2e-3)
    np.testing.assert_allclose(
        predictor.card.training["explained"], (singular**2 / (singular**2).sum())[:6], atol=1e-4
    )
    told = predictor.decode(predictor(block.values, block.valid, block.days))
    restored = (left[:, :6] * singular[:6]) @ right[:6]
    spread = np.array(predictor.card.spread)
    gap = np.moveaxis(told, 1, -1)[clear] - np.array(predictor.card.centre) - restored * spread
    assert np.median(np.abs(gap)) < 1e-4


def test_same_seed_trains_the_same_checkpoint(tmp_path: Path) -> None:
    cubes = {"a": bands_cube(times=12), "b": bands_cube(times=9, seed=1)}
    one, two, other = (
        embed.train(cubes, out=tmp_path / f"{i}.safetensors", seed=seed, steps=3)
        for i, seed in enumerate((0, 0, 1))
    )
    tensors = [p.module.state_dict() for p in (one, two)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert Predictor.load(tmp_path / "0.safetensors").checksum == one.checksum
    assert other.checksum != one.checksum
    told = one.card.training
    assert told["cubes"]["a"]["title"] == "Test cube"
    assert one.name == "0"
    assert told["seed"] == 0
    assert told["steps"] == 3
    assert told["history"][-1]["step"] == 3


def test_cancelled_training_writes_nothing(tmp_path: Path) -> None:
    told: list[int] = []
    with pytest.raises(InterruptedError):
        embed.train(
            {"a": bands_cube(times=12)}, out=tmp_path / "m.safetensors", steps=9,
            progress=lambda done, total: told.append(done), cancelled=lambda: len(told) == 2,
        )  # fmt: skip
    assert told == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_trained_is_refused() -> None:
    ds = bands_cube()
    with pytest.raises(ValueError, match="choose from pca, convtemporal"):
        embed.train({"a": ds}, kind="magic")
    with pytest.raises(ValueError, match="no cube to train on"):
        embed.train({})
    with pytest.raises(ValueError, match="held-out share"):
        embed.train({"a": ds}, held_out=1.0)
    with pytest.raises(ValueError, match="lacks B05"):
        embed.train({"a": bands_cube(bands=("B02", "B03", "B04"))})


# --- the scores ---


def test_simple_answers_agree_with_numpy() -> None:
    block = data.read(bands_cube(times=30, height=6, width=5, seed=2), CHANNELS)
    left = block.valid & np.isfinite(block.values).all(axis=1)
    dates = np.array([0, 7, 8, 29])
    left[dates] = False
    left[:, 3, 4] = False
    left[:20, 2, 2] = False
    told, middle = scores.linear(block, left, dates), scores.median(block, left, dates)
    assert np.isnan(told[..., 3, 4]).all()
    assert np.isnan(middle[..., 3, 4]).all()
    for y, x in [(0, 0), (2, 2), (5, 4)]:
        at = np.flatnonzero(left[:, y, x])
        for c in range(10):
            rows = block.values[at, c, y, x].astype(np.float64)
            line = np.interp(block.days[dates], block.days[at], rows)
            np.testing.assert_allclose(told[:, c, y, x], line, atol=1e-7)
            for i, date in enumerate(dates):
                order = np.argsort(np.abs(block.days[at] - block.days[date]), kind="stable")
                assert middle[i, c, y, x] == pytest.approx(np.median(rows[order[:5]]), abs=1e-7)


# --- what the shipped checkpoints are worth, on the half of a real cube they never saw ---


@pytest.fixture(scope="module")
def judged(shared_data: Path) -> dict[str, dict[str, float]]:
    ds = foreign.read(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    found = {}
    for name in ("pca", "convtemporal"):
        predictor = Predictor.load(name)
        share = predictor.card.training["held_out"]
        found[name] = scores.held_out(predictor, ds, share=share)
        card = predictor.card.training["scores"]["be_31UDS"]
        assert found[name] == pytest.approx(card, abs=2e-4), "the card tells other figures"
    return found


def test_hidden_dates_are_told_better_than_by_interpolation(
    judged: dict[str, dict[str, float]],
) -> None:
    network = judged["convtemporal"]
    assert network["dates"] > 40
    assert network["hidden"] < 0.8 * network["linear"]
    assert network["hidden"] < network["median"]
    assert network["hidden"] < 0.6 * judged["pca"]["hidden"]


def test_seen_dates_are_kept_and_eight_bits_are_enough(
    judged: dict[str, dict[str, float]],
) -> None:
    for found in judged.values():
        assert found["seen"] < 0.008
        assert found["seen_int8"] < found["seen"] + 0.0005
