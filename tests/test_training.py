"""Batches and the training of predictors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import bands_cube, with_radar
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import embed
from deepfeatures.bands import BANDS
from deepfeatures.embed import augment, data, draws, losses, scores, tasks
from deepfeatures.embed.inputs import Preparation, Scaling, limits
from deepfeatures.embed.sensors import SENSORS
from deepfeatures.fit import Config, fit
from deepfeatures.predictor import Predictor

CHANNELS = list(SENSORS["s2"].channels)
OPTICAL = SENSORS["s2"].disturbance
PLAN = augment.Plan(size=3, length=12, edge=8, pool=3, renew=2)
RECIPE = embed.Recipe(steps=3, preset="small", held_out=0.0)


def drawn(ds: xr.Dataset, *, seed: int = 0, held_out: float = 0.0, plan: augment.Plan = PLAN):
    recipe = replace(RECIPE, held_out=held_out).settled()
    draw = draws.one_sensor({"a": ds}, recipe)
    return augment.batches(draw, CHANNELS, OPTICAL, plan, seed=seed, origin=18_700.0)


# --- places ---


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
    batch = drawn(ds, held_out=0.5)
    for step in range(12):
        assert batch(step).target.max() < 3
    assert data.pixels({"a": ds}, CHANNELS, count=10_000, seed=0, held_out=0.5).max() < 3


@given(st.lists(st.integers(0, 700), min_size=1, max_size=30, unique=True), st.integers(0, 3),
       st.integers(0, 600), st.integers(1, 90))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_dates_of_another_sensor_near_a_window_and_their_neighbours(
    others: list[int], more: int, first: int, length: int
) -> None:
    other = np.array(sorted(others), float)
    near = data.nearby(other, np.array([first, first + length], float), more)
    inside = np.flatnonzero((other >= first - data.FAR) & (other <= first + length + data.FAR))
    expected = [i for i in range(len(other)) if len(inside) and
                inside[0] - more <= i <= inside[-1] + more]  # fmt: skip
    if len(inside):
        assert list(range(len(other)))[near] == expected


# --- batches ---


def test_a_batch_is_a_function_of_seed_and_number_lazy_or_not() -> None:
    ds = bands_cube(times=20)
    lazy = ds.chunk({"time": 7, "y": 10})
    forward = [drawn(ds)(step).values for step in range(6)]
    again = drawn(lazy)
    backward = [again(step).values for step in reversed(range(6))]
    for one, two in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(forward[0], drawn(ds, seed=1)(0).values)


def test_a_batch_hides_dates_and_keeps_the_target_clean() -> None:
    ds = bands_cube(times=60, height=30)
    batch = drawn(ds, plan=replace(PLAN, size=24, length=40))(0)
    assert batch.values.shape == (24, 40, 10, 8, 8)
    assert (batch.seen <= batch.known).all()
    assert (batch.known - batch.seen).amax((2, 3)).mean() > 0.1
    assert (batch.days.diff(dim=1) >= 0).all()
    assert (batch.values * (1 - batch.seen[:, :, None]) == 0).all()
    assert (batch.target * (1 - batch.known[:, :, None]) == 0).all()
    far = ((batch.values - batch.target).abs().amax(2) > 0.1) & (batch.seen == 1)
    veiled = far.float().amax((2, 3)).mean()
    assert 0 < veiled < 0.15


@given(st.sampled_from([name for name in SENSORS if name != "s2"]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_sensor_is_disturbed_in_its_own_unit(name: str, seed: int) -> None:
    """Decibels and kelvins are shifted, never scaled: what differs between pixels stays."""
    sensor, rng = SENSORS[name], np.random.default_rng(seed)
    shape = (5, 8, len(sensor.channels), 3, 3)
    values = rng.uniform(*sensor.limits, shape).astype(np.float32)
    shift = augment.shifted(values, sensor.disturbance, rng) - values
    assert np.ptp(shift, axis=(1, 3, 4)).max() < 1e-3
    assert np.abs(shift).max() <= sensor.disturbance.offset + 1e-3
    block = data.Block(values[0], np.ones((8, 3, 3), bool), np.arange(8.0))
    batch = augment.augment([block], sensor.channels, sensor.disturbance, rng, origin=0.0)
    assert set(np.unique(batch.known)) == {1.0}  # no haze
    noise = (batch.values - batch.target)[(batch.seen > 0)[:, :, None].expand_as(batch.values)]
    assert (
        len(noise) == 0
        or noise.abs().max() < 6 * sensor.disturbance.grain + 6 * sensor.disturbance.shift
    )


def test_other_sensors_keep_to_the_clock_of_the_dates() -> None:
    """Each sensor's value is its day: whatever is done to time is done to all of them."""
    time = np.datetime64("2021-03-01", "ns") + 5 * np.arange(30).astype("timedelta64[D]")
    ds = with_radar(bands_cube(times=30)).isel(time=slice(0, 30)).assign_coords(time=time)
    days, radar_days = data.days(ds) - 18_700, data.days(ds, "time_s1") - 18_700
    ds["reflectance"][:] = (days / 1000)[:, None, None, None]
    ds["valid"][:] = 1
    ds["backscatter"][:] = radar_days[:, None, None, None] / 1000
    draw = draws.several({"a": ds}, RECIPE.settled(), ["s1"])
    batch = augment.batches(draw, CHANNELS, OPTICAL, PLAN, seed=3, origin=18_700.0)
    turned = 0
    for step in range(8):
        found = batch(step)
        radar = found.others["s1"]
        for i in range(PLAN.size):
            seen = radar.seen[i, :, 0, 0] > 0
            if seen.sum() < 2:
                continue
            then, now = radar.values[i, seen, 0, 0, 0] * 1000, radar.days[i, seen]
            slope = float((now[-1] - now[0]) / (then[-1] - then[0]))
            shift = float(now[0] - slope * then[0])
            turned += slope < 0
            assert (now.diff() > 0).all()
            gain = found.target[i, :, 0, 0, 0]  # a gain and an offset of the first day's value
            step_days = found.days[i].diff().median()
            assert step_days == pytest.approx(5 * abs(slope), rel=1e-3)
            assert np.isfinite(shift)
            assert len(gain) == PLAN.length
    assert turned > 0


def test_a_hazy_date_that_the_mask_does_not_know_is_seen_but_not_told() -> None:
    """What a test in time finds is no target: it would teach to keep haze."""
    ds = with_radar(bands_cube(times=40))
    ds["reflectance"][:] = 0.1
    ds["valid"][:] = 1
    waves = np.array([BANDS[name].wavelength_nm for name in CHANNELS])
    ds["reflectance"][20] = 0.1 + 0.15 * ((waves / 492.0) ** -1.3)[:, None, None]
    recipe = RECIPE.settled()
    for draw in (draws.one_sensor({"a": ds}, recipe), draws.several({"a": ds}, recipe, ["s1"])):
        block = draw(np.random.default_rng(0))
        assert block.clear is not None
        assert block.valid.all()
        assert not block.clear[20].any()
        assert np.delete(block.clear, 20, axis=0).mean() > 0.9
        batch = augment.augment(
            [block], CHANNELS, OPTICAL, np.random.default_rng(1), origin=18_700.0
        )
        assert batch.target.shape[1] == 40
        known = batch.known[0].mean(dim=(1, 2))
        assert (known == 0).nonzero()[0].item() in (19, 20)  # time may be turned round


def test_noise_is_small_and_of_some_patches_only() -> None:
    rng = np.random.default_rng(0)
    even = np.full((200, 6, 10, 4, 4), 0.3, np.float32)
    noise = augment.noisy(even, OPTICAL, rng) - even
    assert 0.15 < (noise == 0).all(axis=(1, 2, 3, 4)).mean() < 0.35
    assert np.abs(noise).mean() < 0.006
    assert np.abs(noise.mean()) < 1e-3


def test_haze_brightens_dark_pixels_most_in_the_blue_and_may_be_left_out() -> None:
    rng = np.random.default_rng(0)
    dark = np.full((40, 50, 10, 1, 1), 0.05, np.float32)
    veil = augment.veiled(dark, CHANNELS, rng, share=1.0)
    assert ((veil - dark)[..., 0, 0].mean(axis=(0, 1)) > 0).all()
    assert (np.diff(veil.mean(axis=(0, 1, 3, 4))) < 0).all()
    np.testing.assert_array_equal(augment.veiled(dark, CHANNELS, rng, share=0.0), dark)


def test_series_shorter_than_a_patch_are_padded() -> None:
    batch = drawn(bands_cube(times=3, height=5, width=6))(0)
    assert batch.values.shape == (3, 12, 10, 8, 8)
    assert batch.seen.sum() > 0


# --- inputs and losses ---


def test_preparation_and_its_inverse_are_one_within_the_limits() -> None:
    rng = np.random.default_rng(0)
    low, high = limits("s2", ("B04", "B08", "NDVI"))
    prepare = Preparation(
        ("B04", "B08", "NDVI"), Scaling((0.1, 0.3, 0.5), (0.05, 0.1, 0.2), low, high)
    )
    bands = torch.from_numpy(rng.uniform(0.01, 0.5, (4, 2, 3, 3)).astype(np.float32))
    told = prepare.invert(prepare(bands))
    torch.testing.assert_close(told[:, :2], bands)
    ndvi = (bands[:, 1] - bands[:, 0]) / (bands[:, 1] + bands[:, 0])
    torch.testing.assert_close(told[:, 2], ndvi.clamp(low[2], high[2]), atol=1e-5, rtol=1e-5)
    bands[0, 0] = torch.nan
    assert torch.isfinite(prepare(bands)).all()


def test_the_loss_is_nothing_for_the_truth_and_grows_with_the_error() -> None:
    count = len(CHANNELS)
    scaling = Scaling((0.2,) * count, (0.1,) * count, *limits("s2", CHANNELS))
    weights = {"mae": 20.0, "sam": 1.0, "ssim": 1.0}
    cost = losses.Reconstruction(Preparation(CHANNELS, scaling), weights)
    truth = torch.randn(2, 5, count, 9, 9, generator=torch.Generator().manual_seed(0))
    known = torch.ones(2, 5, 9, 9)
    seen = (torch.arange(5) % 2 == 0).float()[None, :, None, None].expand(2, -1, 9, 9)
    assert cost(truth, truth, known, seen).item() == pytest.approx(0, abs=1e-4)
    errors = [cost(truth + step, truth, known, seen).item() for step in (0.1, 0.3, 1.0)]
    assert errors[0] < errors[1] < errors[2]
    wrong = truth.clone()
    wrong[:, :, :, 4, 4] += 5  # what is not known costs nothing
    gap = known.clone()
    gap[:, :, 4, 4] = 0
    assert cost(wrong, truth, gap, seen).item() == pytest.approx(0, abs=1e-4)


def test_structural_similarity_agrees_with_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 1, 1, 1, 7, 7, generator=generator)
    a, b = (x.flatten().double() / 4 for x in (one, two))
    both = ((a - a.mean()) * (b - b.mean())).mean()
    expected = ((2 * a.mean() * b.mean() + 1e-4) * (2 * both + 9e-4)) / (
        (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var(correction=0) + b.var(correction=0) + 9e-4)
    )
    found = losses.dissimilarity(one, two, torch.ones(1, 1, 7, 7))
    assert found.item() == pytest.approx(1 - expected.item(), abs=1e-5)


def test_indices_are_told_at_no_loss_by_their_own_values() -> None:
    names = ("NDVI", "NDWI", "kNDVI")
    cost = losses.Explained(names, ("B03", "B04", "B08"))
    bands = torch.rand(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.01
    known, seen = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    b03, b04, b08 = bands.unbind(2)
    ndvi = (b08 - b04) / (b08 + b04)
    truth = torch.stack([ndvi, (b03 - b08) / (b03 + b08), torch.tanh(ndvi**2)], 2)
    told = ((truth - cost.middle) / cost.half).clamp(-2, 2)
    assert cost(told, bands, known, seen).item() == pytest.approx(0, abs=1e-4)
    assert cost(told + 0.5, bands, known, seen).item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.long
def test_overfits_one_batch() -> None:
    batch = drawn(bands_cube(times=12), plan=replace(PLAN, edge=16))(0)
    predictor = embed.train({"a": bands_cube(times=12)}, replace(RECIPE, steps=1))
    task = tasks.SensorTask(predictor.card, RECIPE.losses)
    with torch.no_grad():
        before = task.clean(predictor.module.cleaning, batch).item()
    fit(predictor.module.cleaning, lambda _: batch, Config(steps=80, rate=1e-2), loss=task.clean)
    with torch.no_grad():
        assert task.clean(predictor.module.cleaning, batch).item() < 0.5 * before


# --- the training ---


def test_pca_is_that_of_the_clear_pixels() -> None:
    ds = bands_cube(times=20)
    predictor = embed.train({"a": ds}, embed.Recipe(kind="pca", held_out=0.0))
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
        embed.train(cubes, replace(RECIPE, seed=seed), out=tmp_path / f"{i}.safetensors")
        for i, seed in enumerate((0, 0, 1))
    )
    tensors = [p.module.state_dict() for p in (one, two)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert Predictor.load(tmp_path / "0.safetensors").checksum == one.checksum
    assert other.checksum != one.checksum
    told = one.card.training
    assert told["cubes"]["a"]["title"] == "Test cube"
    assert one.name == "0"
    assert told["recipe"]["seed"] == 0
    assert told["history"][-1]["step"] == 3
    assert told["cost"]["cpu_seconds"] > 0
    assert one.card.licence
    assert one.card.limitations
    assert one.card.purpose


def test_indices_go_in_beside_the_bands_and_never_exist_as_a_cube(tmp_path: Path) -> None:
    channels = ("B04", "B08", "B11", "NDVI", "(B08 - B11) / (B08 + B11)")
    recipe = replace(RECIPE, channels=channels, features=3)
    path = tmp_path / "m.safetensors"
    predictor = embed.train({"a": bands_cube(times=12)}, recipe, out=path)
    assert Predictor.load(path).inputs == ["B04", "B08", "B11"]
    block = data.read(bands_cube(times=12), predictor.inputs)
    found = predictor(block.values, block.valid, block.days)
    assert predictor.decode(found).shape == (12, 5, 24, 20)


def test_a_training_that_was_stopped_goes_on(tmp_path: Path) -> None:
    cubes, recipe = {"a": bands_cube(times=12)}, replace(RECIPE, steps=4)
    whole = embed.train(cubes, recipe)
    told: list[int] = []
    with pytest.raises(InterruptedError):
        embed.train(
            cubes, recipe, out=tmp_path / "m.safetensors", run=tmp_path / "run",
            progress=lambda done, total: told.append(done), cancelled=lambda: len(told) == 2,
        )  # fmt: skip
    assert told == [1, 2]
    assert not (tmp_path / "m.safetensors").exists()
    again = embed.train(cubes, recipe, out=tmp_path / "m.safetensors", run=tmp_path / "run")
    one, two = whole.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["recipe"]["steps"] == 4
    with pytest.raises(ValueError, match="steps"):
        embed.train(cubes, replace(recipe, steps=5), run=tmp_path / "run")


def test_a_code_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """The series is not learned again, and what both cost is told."""
    cubes, recipe = {"a": bands_cube(times=12)}, replace(RECIPE, steps=4)
    whole = embed.train(cubes, recipe)
    told: list[tuple[int, int]] = []
    with pytest.raises(InterruptedError):
        embed.train(
            cubes, recipe, run=tmp_path / "run",
            progress=lambda *steps: told.append(steps), cancelled=lambda: len(told) == 7,
        )  # fmt: skip
    assert told == [(done, 14) for done in range(1, 8)]
    first = len(told)
    again = embed.train(cubes, recipe, run=tmp_path / "run", progress=lambda *s: told.append(s))
    assert told[first:] == [(done, 14) for done in range(8, 15)]
    one, two = whole.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    halves = [json.loads(path.read_text()) for path in (tmp_path / "run").rglob("result.json")]
    cost = again.card.training["cost"]["cpu_seconds"]
    assert cost == pytest.approx(sum(half["cost"]["cpu_seconds"] for half in halves))
    assert len(halves) == 2


def test_another_code_of_the_same_series(tmp_path: Path) -> None:
    """More features than channels as well; of another size or channels there is no such series."""
    cubes, file = {"a": bands_cube(times=12)}, tmp_path / "first.safetensors"
    first = embed.train(cubes, RECIPE, out=file)
    recipe = replace(RECIPE, features=12, seed=5, series=str(file))
    other = embed.train(cubes, recipe, run=tmp_path / "run")
    one, two = (model.module.cleaning.state_dict() for model in (first, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert other.card.scaling == first.card.scaling
    assert len(other.card.features) == 12
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert list(kept["recipe"]["series"]) == ["first"]
    few = replace(recipe, channels=("B04", "B08"))
    for wrong, why in ((replace(recipe, preset="base"), "size"), (few, "no series of B04, B08")):
        with pytest.raises(ValueError, match=why):
            embed.train(cubes, wrong)
    with pytest.raises(ValueError, match="kind pca has no series"):
        replace(recipe, kind="pca")


def test_a_fusion_keeps_its_encoders_as_they_were(tmp_path: Path) -> None:
    cubes = {"a": with_radar(bands_cube(times=12))}
    s2, s1, fused = (tmp_path / f"{name}.safetensors" for name in ("s2", "s1", "fused"))
    first = embed.train(cubes, replace(RECIPE, features=4), out=s2)
    second = embed.train(cubes, replace(RECIPE, sensor="s1", features=2), out=s1)
    recipe = replace(RECIPE, kind="fusion", features=3, encoders=(str(s2), str(s1)))
    predictor = embed.train(cubes, recipe, out=fused)
    for sensor, one in (("s2", first), ("s1", second)):
        kept = {
            name.removeprefix(f"encoders.{sensor}."): tensor
            for name, tensor in predictor.module.state_dict().items()
        }
        assert all(torch.equal(kept[n], t) for n, t in one.module.state_dict().items())
        assert predictor.card.encoders[sensor]["training"]["checksum"] == one.checksum
    again = Predictor.load(fused)
    assert list(again.contexts) == ["s1"]
    block = data.read(cubes["a"], again.inputs, sensors=again.contexts)
    with_, without = (again(block.values, block.valid, block.days, o) for o in (block.others, {}))
    assert with_.shape == (12, 3, 24, 20)
    assert np.nanmax(np.abs(with_ - without)) > 0
    with pytest.raises(ValueError, match="the encoders are of s1, s2"):
        embed.train(cubes, replace(recipe, encoders=(str(s1), str(s2))))


def test_what_can_not_be_trained_is_refused() -> None:
    ds = bands_cube()
    with pytest.raises(ValueError, match="choose from pca, temporal, fusion"):
        embed.Recipe(kind="magic")
    with pytest.raises(ValueError, match="no loss is called 'mse'"):
        embed.Recipe(losses={"mse": 1.0})
    with pytest.raises(ValueError, match="needs two encoders"):
        embed.Recipe(kind="fusion", encoders=("one",))
    with pytest.raises(ValueError, match="no cube to train on"):
        embed.train({}, RECIPE)
    with pytest.raises(ValueError, match="held-out share"):
        embed.Recipe(held_out=1.0)
    with pytest.raises(ValueError, match="lacks B05"):
        embed.train({"a": bands_cube(bands=("B02", "B03", "B04"))}, RECIPE)
    with pytest.raises(ValueError, match="lacks Sentinel-1"):
        embed.train({"a": ds}, replace(RECIPE, sensor="s1"))


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
