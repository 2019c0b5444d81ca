"""The one training loop: AdamW, cosine schedule, early stopping; it knows no domain."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Example = TypeVar("Example")


@dataclass(frozen=True)
class Config:
    """How to train."""

    steps: int = 1000
    """Optimiser steps at most."""
    rate: float = 2e-3
    """Highest learning rate; it rises linearly, then falls along a cosine to 1 % of it."""
    decay: float = 1e-4
    """Weight decay."""
    warm_up: int = 50
    """Steps until the highest rate."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    every: int = 100
    """Steps between two entries of the history, and between two validations."""
    patience: int = 5
    """Validations without a better score after which the training stops."""
    seed: int = 0
    """Seed of whatever is random inside the module."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or self.patience < 1:
            raise ValueError(f"steps, every and patience must be 1 or more: {self}")


def fit(
    module: nn.Module,
    batches: Iterable[Example],
    config: Config,
    *,
    loss: Callable[[nn.Module, Example], Tensor],
    validate: Callable[[nn.Module], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[dict[str, float]]:
    """Train a module in place.

    Parameters
    ----------
    module
        Network; it ends in evaluation mode, with its best weights if there was a validation.
    batches
        Batches in the order of use; if they run out they start again.
    config
        Steps, rates, patience, seed.
    loss
        Gives the loss of a batch, a scalar tensor.
    validate
        Gives a score of the module, the smaller the better.
    progress, cancelled
        Called with (steps done, steps), and asked after each step.

    Returns
    -------
    list of dict
        ``step``, mean ``loss`` since the last entry, ``rate``, and ``score`` if validated.

    Raises
    ------
    InterruptedError
        If `cancelled` says so.
    ValueError
        If the loss is no longer finite, or there is no batch.
    """
    torch.manual_seed(config.seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=config.rate, weight_decay=config.decay)
    history: list[dict[str, float]] = []
    best = _Best(config.patience)
    recent: list[float] = []
    source = _endless(batches)
    for step in range(1, config.steps + 1):
        rate = _rate(step, config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        recent.append(_step(module, next(source), optimiser, loss, config.clip))
        if step % config.every == 0 or step == config.steps:
            history.append({"step": step, "loss": sum(recent) / len(recent), "rate": rate})
            recent = []
            if validate:
                history[-1]["score"] = best.see(module, _score(module, validate))
            log.info("step %d: %s", step, history[-1])
        if progress:
            progress(step, config.steps)
        if cancelled and cancelled():
            raise InterruptedError("cancelled")
        if best.stale:
            break
    best.restore(module)
    module.eval()
    return history


class _Best:
    """The best weights so far and how long they have been the best."""

    def __init__(self, patience: int) -> None:
        self.patience, self.score, self.waited = patience, math.inf, 0
        self.state: dict[str, Tensor] | None = None

    @property
    def stale(self) -> bool:
        return self.waited >= self.patience

    def see(self, module: nn.Module, score: float) -> float:
        if score < self.score:
            self.score, self.waited = score, 0
            self.state = copy.deepcopy(module.state_dict())
        else:
            self.waited += 1
        return score

    def restore(self, module: nn.Module) -> None:
        if self.state is not None:
            module.load_state_dict(self.state)


def _step(
    module: nn.Module,
    batch: Example,
    optimiser: torch.optim.Optimizer,
    loss: Callable[[nn.Module, Example], Tensor],
    clip: float,
) -> float:
    module.train()
    optimiser.zero_grad(set_to_none=True)
    value = loss(module, batch)
    if not torch.isfinite(value):
        raise ValueError("the loss is no longer finite; train with a lower rate")
    value.backward()
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimiser.step()
    return float(value.detach())


def _score(module: nn.Module, validate: Callable[[nn.Module], float]) -> float:
    module.eval()
    with torch.no_grad():
        return float(validate(module))


def _rate(step: int, config: Config) -> float:
    if step <= config.warm_up:
        return config.rate * step / config.warm_up
    done = (step - config.warm_up) / max(config.steps - config.warm_up, 1)
    return config.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _endless(batches: Iterable[Example]) -> Iterator[Example]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("there is no batch to train on")
