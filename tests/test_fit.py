from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from deepfeatures.fit import Config, fit

Pair = tuple[Tensor, Tensor]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 1))


def pairs(n: int = 4) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 32, 3, generator=generator)
    return [(a, (a**2).sum(1, keepdim=True)) for a in x]


def squared(module: nn.Module, batch: Pair) -> Tensor:
    return (module(batch[0]) - batch[1]).pow(2).mean()


def test_overfits_one_batch() -> None:
    module, batch = network(), pairs(1)
    before = squared(module, batch[0]).item()
    history = fit(module, batch, Config(steps=400, rate=2e-2, every=100), loss=squared)
    assert squared(module, batch[0]).item() < 0.02 * before
    assert [entry["step"] for entry in history] == [100, 200, 300, 400]
    assert not module.training


def test_same_seed_gives_the_same_weights() -> None:
    trained = []
    for _ in range(2):
        module = network()
        fit(module, pairs(), Config(steps=20), loss=squared)
        trained.append(torch.cat([p.flatten() for p in module.parameters()]))
    assert torch.equal(*trained)
    other = network()
    fit(other, pairs(), Config(steps=20, seed=5), loss=squared)
    assert not torch.equal(trained[0], torch.cat([p.flatten() for p in other.parameters()]))


def test_stops_early_and_keeps_the_best_weights() -> None:
    module = network()
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0, 9.0])
    kept: list[Tensor] = []

    def validate(module: nn.Module) -> float:
        kept.append(module[0].weight.detach().clone())
        return next(scores)

    config = Config(steps=100, every=5, patience=3)
    history = fit(module, pairs(), config, loss=squared, validate=validate)
    assert [entry["score"] for entry in history] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert torch.equal(module[0].weight, kept[1])


def test_rate_rises_then_falls() -> None:
    history = fit(network(), pairs(), Config(steps=100, warm_up=20, every=10), loss=squared)
    rates = [entry["rate"] for entry in history]
    assert rates[0] < rates[1]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * Config().rate)


def test_tells_progress_and_can_be_cancelled() -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(InterruptedError, match="cancelled"):
        fit(
            network(), pairs(), Config(steps=50), loss=squared,
            progress=lambda done, total: told.append((done, total)),
            cancelled=lambda: len(told) == 7,
        )  # fmt: skip
    assert told == [(i, 50) for i in range(1, 8)]


def test_a_loss_that_is_not_finite_is_loud() -> None:
    with pytest.raises(ValueError, match="no longer finite"):
        fit(network(), pairs(), Config(steps=5), loss=lambda m, b: squared(m, b) * torch.inf)


def test_no_batch_is_loud() -> None:
    def nothing() -> Iterator[Pair]:
        return iter(())

    with pytest.raises(ValueError, match="no batch"):
        fit(network(), nothing(), Config(steps=5), loss=squared)


@pytest.mark.parametrize("name", ["steps", "every", "patience"])
def test_config_refuses_nonsense(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Config(**{name: 0})
