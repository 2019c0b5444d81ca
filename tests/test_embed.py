"""The networks: what plays a part in a feature, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deepfeatures.embed.cleaning import Cleaning, _Line
from deepfeatures.embed.fusion import FAR, Fusion, Seen, around, nearest
from deepfeatures.embed.recipe import PRESETS
from deepfeatures.embed.temporal import Temporal

BUDGET = 150_000
"""Multiply-adds per pixel and date."""


def network(channels: int = 10, features: int = 6, *, context: int = 8, seed: int = 0) -> Temporal:
    torch.manual_seed(seed)
    module = Temporal(channels, features, context=context, width=16).eval()
    with torch.no_grad():  # the start is silent; here every part has to speak
        for part in module.parameters():
            part.add_(0.2 * torch.randn(part.shape))
    return module


def series(
    time: int, *, batch: int = 1, edge: int = 5, seed: int = 0, channels: int = 10
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    seen = (torch.rand(batch, time, edge, edge, generator=generator) > 0.4).float()
    values = torch.randn(batch, time, channels, edge, edge, generator=generator)
    days = torch.randint(2, 9, (batch, time), generator=generator).cumsum(1).float()
    return values * seen.unsqueeze(2), seen, days


# --- one sensor ---


def plainly(module: Cleaning, query: Tensor, token: Tensor, own: Tensor, mask: Tensor,
            days: Tensor, turn: int, guess: Tensor | None = None) -> Tensor:  # fmt: skip
    """Look from each date at each other one, with loops: the formula that blocks compute."""
    heads, size = module.heads, token.shape[-1] // module.heads
    key, value = module.key(token), module.value(token)
    batch, time = mask.shape[:2]
    rows = []
    for t in range(time):
        near = [u for u in range(time) if 0 < abs(u - t) <= module.context]
        parts: list[list[Tensor]] = [[], [], [], []]
        for head in range(heads):
            part = slice(size * head, size * head + size)
            score = []
            for u in near:
                gap = days[:, u] - days[:, t]
                bias = module.nearness[turn](gap[:, None, None, None])[head, :, 0, 0, 0, 0]
                alike = (query[:, t, ..., part] * key[:, u, ..., part]).sum(-1) / size**0.5
                one = alike + bias[:, None, None]
                if guess is not None:
                    far = (own[:, u] - guess[:, t]).square().sum(-1)
                    one = one - module.strict[head].exp() * far
                score.append(one.masked_fill(mask[:, u, ..., 0] == 0, -torch.inf))
            shape = mask.shape[2:4]
            weight = torch.zeros(batch, 0, *shape)
            if near:
                weight = torch.nan_to_num(torch.stack(score, 1).softmax(1))

            def mean(of: list[Tensor], weight: Tensor = weight) -> Tensor:
                return (weight.unsqueeze(-1) * torch.stack(of, 1)).sum(1)

            zero = torch.zeros(batch, *shape)
            parts[0].append(weight.sum(1).unsqueeze(-1))
            away = [
                ((days[:, u] - days[:, t]) / 30)[:, None, None, None] + zero.unsqueeze(-1)
                for u in near
            ]
            parts[1].append(mean([own[:, u] for u in near]) if near else 0 * own[:, t])
            parts[2].append(mean(away) if near else zero.unsqueeze(-1))
            here = value[:, t, ..., part]
            parts[3].append(mean([value[:, u, ..., part] for u in near]) if near else 0 * here)
        rows.append(torch.cat([torch.cat(each, -1) for each in parts], -1))
    return torch.stack(rows, 1)


@given(st.integers(1, 12), st.integers(1, 5))
@settings(max_examples=4, deadline=None)
@torch.no_grad()
def test_attention_in_blocks_equals_the_plain_formula(time: int, context: int) -> None:
    module = network(context=context).cleaning
    values, mask, days = series(time, batch=2, edge=2)
    values, mask = (values * mask.unsqueeze(2)).movedim(2, -1), mask.unsqueeze(-1)
    generator = torch.Generator().manual_seed(time)
    token = torch.randn(2, time, 2, 2, 16, generator=generator) * mask
    line = _Line(days, context)
    flat = torch.cat([values, mask], -1)
    given = line.laid(*(part.flatten(2, 3).movedim(-1, 2) for part in (token, flat)))
    weights, _, keyed = module._entering()
    _, _, key, value = (torch.cat(weights) @ given).split([len(weight) for weight in weights])
    memory = module._headed(key + keyed), module._headed(value), line.when(4)
    weight, bias = module._asking(module.again)
    query = weight @ line.cut(given[:16]) + bias.unsqueeze(1)
    owned = (torch.cat(weights) @ given)[:10]
    guess = torch.randn(10, query.shape[1], generator=generator)
    doubting, keys = module._doubting(line.cut(given[:16]), guess, key + keyed, owned)
    guess = line.unlaid(guess).unflatten(-1, (2, 2)).movedim(2, -1)
    for turn in range(2):
        near = module.nearness[turn](line.gaps) + line.closed
        asked = ((query, memory[0]), (doubting, keys))[turn]
        mixed, away = module._look(*asked, *memory[1:], line, near)
        total, mean, _, rest = mixed.split([1, 10, 1, 16 // module.heads], 1)
        found = torch.cat([*(part.flatten(0, 1) for part in (total, mean)), away,
                           rest.flatten(0, 1)])  # fmt: skip
        found = line.unlaid(found).unflatten(-1, (2, 2)).movedim(2, -1)
        own = module.straight(values)
        asking = module.again(token)
        expected = plainly(module, asking, token, own, mask, days, turn, guess if turn else None)
        heads = module.heads
        away = slice(heads * 11, heads * 12)
        expected[..., away] = expected[..., away].clamp(-6, 6)
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-3)


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
    values = torch.cat([values[:, :6], torch.zeros(1, 1, 10, 5, 5), values[:, 6:]], 1)
    seen = torch.cat([seen[:, :6], torch.zeros(1, 1, 5, 5), seen[:, 6:]], 1)
    days = torch.cat([days[:, :6], days[:, 5:6] + 1, days[:, 6:]], 1)
    after = module(values, seen, days)
    assert torch.isfinite(after).all()
    rest = torch.cat([after[:, :6], after[:, 7:]], 1)
    torch.testing.assert_close(rest, before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_series_in_which_nothing_was_seen_gives_numbers() -> None:
    values, seen, days = series(7)
    found = network()(values * 0, seen * 0, days)
    assert torch.isfinite(found).all()


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
def test_spatial_reach_is_the_halo_of_15_pixels() -> None:
    module = network()
    assert module.halo == 7
    values, seen, days = series(1, edge=23)
    seen[:] = 1
    before = module(values, seen, days)
    values[0, 0, :, 11, 11] += 3
    changed = (module(values, seen, days) - before).abs().amax((0, 1, 2)) > 0
    expected = torch.zeros(23, 23, dtype=torch.bool)
    expected[4:19, 4:19] = True
    assert not (changed & ~expected).any()
    assert changed[4].any()
    assert changed[:, 18].any()


@torch.no_grad()
def test_the_edge_that_is_left_out_is_that_of_the_whole() -> None:
    module = network()
    values, seen, days = series(6, edge=12)
    whole = module(values, seen, days)
    torch.testing.assert_close(module(values, seen, days, 3), whole[..., 3:-3, 3:-3])


@pytest.mark.parametrize("preset", list(PRESETS))
@torch.no_grad()
def test_operations_stay_within_the_budget(preset: str) -> None:
    values, seen, days = series(64, edge=8)
    module = Temporal(10, 6, **PRESETS[preset])
    with FlopCounterMode(display=False) as counter:
        module(values, seen, days)
    assert counter.get_total_flops() / 2 / seen.numel() < BUDGET


@torch.no_grad()
def test_the_start_is_the_linear_map_where_a_date_is_seen() -> None:
    torch.manual_seed(0)
    module = Temporal(10, 6, width=16).eval()
    turn = torch.linalg.qr(torch.randn(10, 10))[0] / 3
    forth, back = turn[:6], torch.linalg.pinv(turn[:6])
    module.cleaning.start(turn, torch.linalg.inv(turn), torch.zeros(10))
    module.coding.start(forth, back, torch.zeros(10))
    values, seen, days = series(9)
    seen[:] = 1
    told = module.decode(module(values, seen, days))
    linear = torch.einsum("btcyx,dc->btdyx", values, back @ forth)
    near = (told - linear).abs().mean() / linear.abs().mean()
    assert near < 0.15  # the gate leaves a few percent to the neighbours


@torch.no_grad()
def test_a_date_without_others_starts_as_it_is() -> None:
    torch.manual_seed(0)
    module = Temporal(10, 6, width=16).eval()
    turn = torch.linalg.qr(torch.randn(10, 10))[0]
    module.cleaning.start(turn, turn.T, torch.zeros(10))
    values, seen, days = series(9)
    seen[:] = 0
    seen[:, 4] = 1
    values = values * seen.unsqueeze(2)
    clean = module.cleaning(values, seen, days)
    torch.testing.assert_close(clean[:, 4], values[:, 4], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_features_are_the_code_of_clean_series() -> None:
    module = network()
    values, seen, days = series(20, edge=6)
    clean = module.cleaning(values, seen, days, 1)
    code = module.coding(clean.flatten(3)).unflatten(3, (4, 4))
    torch.testing.assert_close(module(values, seen, days, 1), code)


# --- several sensors ---


def fusion(seed: int = 0, *, third: bool = False) -> Fusion:
    encoders = {"s2": network(10, 9, context=4), "s1": network(2, 2, context=3, seed=1)}
    if third:
        encoders["lst"] = network(1, 1, context=2, seed=2)
    torch.manual_seed(seed)
    module = Fusion(encoders, 7).eval()
    with torch.no_grad():
        for part in module.parameters():
            if part.requires_grad:
                part.add_(0.2 * torch.randn(part.shape))
    return module


def sensors(time: int = 20, edge: int = 4, **more: int) -> dict[str, Seen]:
    found = {"s2": Seen(*series(time, edge=edge, **more))}
    found["s1"] = Seen(*series(17, edge=edge, seed=5, channels=2, **more))
    return found | {"lst": Seen(*series(11, edge=edge, seed=6, channels=1, **more))}


@torch.no_grad()
def test_a_sensor_that_saw_nothing_is_as_good_as_none() -> None:
    module, seen = fusion(), sensors()
    blind = Seen(0 * seen["s1"].values, 0 * seen["s1"].there, seen["s1"].days)
    alone = module({"s2": seen["s2"]})
    torch.testing.assert_close(module({"s2": seen["s2"], "s1": blind}), alone)
    gone = replace(seen["s1"], days=seen["s1"].days + 10_000)
    torch.testing.assert_close(module({"s2": seen["s2"], "s1": gone}), alone)
    assert (module(seen) - alone).abs().max() > 0.01


@torch.no_grad()
def test_dates_of_other_sensors_beyond_their_context_play_no_part() -> None:
    module, seen = fusion(), sensors()
    before = module(seen)
    values = seen["s1"].values.clone()
    values[:, 8] += 3
    there = seen["s1"].there.clone()
    changed = module(seen | {"s1": replace(seen["s1"], values=values)}) - before
    index, _ = nearest(seen["s1"].days, seen["s2"].days)
    near = (index[0] - 8).abs() <= 3
    assert torch.equal(changed.abs().amax((0, 2, 3, 4)) > 0, near)
    assert there.any()


@torch.no_grad()
def test_a_third_sensor_needs_new_layers_of_the_fusion_only() -> None:
    two, three = fusion(), fusion(third=True)
    before = {n: p for n, p in two.named_parameters() if n.startswith("encoders")}
    after = dict(three.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in before.items())
    assert not any(p.requires_grad for n, p in after.items() if n.startswith("encoders"))
    found = three(sensors())
    assert found.shape == (1, 20, 7, 4, 4)
    assert found.abs().max() <= 1
    for name, channels in (("s2", 10), ("s1", 2), ("lst", 1)):
        assert three.tell(found, name).shape == (1, 20, channels, 4, 4)


@torch.no_grad()
def test_size_and_order_of_the_batch_do_not_matter_to_a_fusion() -> None:
    module, seen = fusion(third=True), sensors(batch=3)

    def picked(at: list[int]) -> dict[str, Seen]:
        return {n: Seen(s.values[at], s.there[at], s.days[at]) for n, s in seen.items()}

    together = module(seen)
    torch.testing.assert_close(module(picked([2, 0, 1])), together[[2, 0, 1]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(picked([1])), together[[1]], atol=1e-5, rtol=1e-5)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=12, unique=True), st.integers(0, 900))
@settings(max_examples=40, deadline=None)
def test_the_nearest_date_is_the_nearest(others: list[int], day: int) -> None:
    dates = torch.tensor([sorted(others)]).float()
    index, gap = nearest(dates, torch.tensor([[float(day)]]))
    assert abs(gap.item()) == min(abs(other - day) for other in others)
    assert dates[0, index.item()] - day == gap.item()
    assert FAR > 0


def test_around_tells_where_anything_was_seen_near() -> None:
    there = torch.zeros(1, 9, 1, 2)
    there[0, 4, 0, 0] = 1
    found = around(there, 2)
    assert found[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert found[0, :, 0, 1].sum() == 0
