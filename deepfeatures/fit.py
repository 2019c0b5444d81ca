"""The one training loop: AdamW, cosine schedule, early stopping, resume; it knows no domain."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from deepfeatures import runs

log = logging.getLogger(__name__)

Example = TypeVar("Example")

AHEAD = 2
"""Batches that are drawn before they are needed."""

REDRAWN = 30.0
"""Seconds at least between two drawings of the curve."""


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
    """Steps between two entries of the history, two validations, and two savings of the state."""
    patience: int = 5
    """Validations without a better score after which the training stops."""
    average: float = 0.0
    """Decay of the moving average of the weights that is validated and kept; 0: none is made."""
    seed: int = 0
    """Seed of whatever is random inside the module."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or self.patience < 1:
            raise ValueError(f"steps, every and patience must be 1 or more: {self}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be from 0 to below 1")


def fit(
    module: nn.Module,
    draw: Callable[[int], Example],
    config: Config,
    *,
    loss: Callable[[nn.Module, Example], Tensor],
    validate: Callable[[nn.Module], float] | None = None,
    device: torch.device | str | None = None,
    run: runs.Run | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[dict[str, float]]:
    """Train a module in place.

    On a GPU the loss is computed in mixed precision (bfloat16), scores in float32. With a run
    folder, a training that was killed goes on from its last entry and ends with the same weights
    as an undisturbed one, bit for bit on a CPU with the same number of threads.

    Parameters
    ----------
    module
        Network; it ends in evaluation mode, with its best weights if there was a validation.
        Only what its ``state_dict`` holds outlives a kill.
    draw
        Gives the batch of a step (1, 2, ...): tensors, or a tuple or dataclass of them, or a thing
        with a method ``to(device)``. It depends on nothing but the step and is called ahead, in
        another thread; it must leave torch's global generator alone.
    config
        Steps, rates, patience, seed.
    loss
        Gives the loss of a batch, a scalar tensor.
    validate
        Gives a score of the module, the smaller the better.
    device
        Where to train; by default where the module is.
    run
        Folder for the state and the record (`runs.begin`); None keeps neither.
    progress, cancelled
        Called with (steps done, steps), and asked after each step.

    Returns
    -------
    list of dict
        ``step``, mean ``loss`` since the last entry, ``rate``, and ``score`` if validated.

    Raises
    ------
    InterruptedError
        If `cancelled` says so; the state is kept.
    ValueError
        If loss or score are no longer finite, nothing can be trained, or the run folder belongs
        to another configuration or network.
    """
    place = torch.device(device) if device is not None else _place(module)
    training = _Training(module.to(place), config, place)
    if run:
        _resume(training, run)
    if not training.finished:
        record = _Record(training, run) if run else None
        batches = _ahead(lambda step: moved(draw(step), place), training.step + 1, config.steps)
        with closing(batches):
            while not training.over:
                training.advance(next(batches), loss)
                if training.step % config.every == 0 or training.step == config.steps:
                    training.enter(validate)
                    if record:
                        record.keep()
                if progress:
                    progress(training.step, config.steps)
                if cancelled and cancelled():
                    if record:
                        record.keep()
                    raise InterruptedError("cancelled")
        if record:
            record.finish()
    training.settle()
    return training.history


def moved(example: Any, device: torch.device) -> Any:
    """Give a batch on a device: tensors, tuples and dataclasses of them; the rest as it is."""
    if hasattr(example, "to"):
        return example.to(device)
    if isinstance(example, tuple):
        return tuple(moved(part, device) for part in example)
    if dataclasses.is_dataclass(example) and not isinstance(example, type):
        parts = {f.name: getattr(example, f.name) for f in dataclasses.fields(example)}
        return dataclasses.replace(example, **{n: moved(p, device) for n, p in parts.items()})
    return example


def gpu(device: torch.device) -> str | None:
    """Give the name by which `runs.meter` finds the graphics card of a device, None for a CPU."""
    if device.type != "cuda":
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _ahead(draw: Callable[[int], Example], first: int, last: int) -> Generator[Example]:
    """Give the batches of the steps in order while a thread draws the next ones."""
    with ThreadPoolExecutor(1, thread_name_prefix="draw") as thread:
        steps = iter(range(first, last + 1))
        waiting = deque(thread.submit(draw, step) for step in islice(steps, AHEAD))
        try:
            while waiting:
                example = waiting.popleft().result()
                waiting.extend(thread.submit(draw, step) for step in islice(steps, 1))
                yield example
        finally:
            thread.shutdown(cancel_futures=True)


class _Training:
    """All that a training is between two steps."""

    def __init__(self, module: nn.Module, config: Config, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.module, self.config, self.device = module, config, device
        self.trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not self.trained:
            raise ValueError("no weight of the network can be trained; leave some not frozen")
        self.optimiser = torch.optim.AdamW(
            list(self.trained.values()), lr=config.rate, weight_decay=config.decay
        )
        self.average = _copy(self.trained) if config.average else {}
        self.best: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.recent: list[Tensor] = []  # losses since the last entry, left on the device
        self.step, self.waited, self.finished = 0, 0, False
        self.cost = runs.Cost()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.step >= self.config.steps or self.waited >= self.config.patience

    @property
    def score(self) -> float:
        """The best score so far."""
        return min((entry["score"] for entry in self.history if "score" in entry), default=math.inf)

    def advance(self, batch: Example, loss: Callable[[nn.Module, Example], Tensor]) -> None:
        """Take one step of the optimiser."""
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = _rate(self.step, self.config)
        self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        # bfloat16 has the range of float32: its gradients need no scaling.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            value = loss(self.module, batch)
        value.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), self.config.clip)
        self.optimiser.step()
        self.recent.append(value.detach())
        if self.average:
            # A young average forgets faster, or it would cling to the weights of the start.
            decay = min(self.config.average, (1 + self.step) / (10 + self.step))
            now = [weight.detach() for weight in self.trained.values()]
            get_ema_multi_avg_fn(decay)(list(self.average.values()), now, self.step)

    def enter(self, validate: Callable[[nn.Module], float] | None) -> None:
        """Add an entry to the history, and judge the weights."""
        mean = torch.stack(self.recent).double().mean().item()
        if not math.isfinite(mean):
            raise ValueError(
                f"the loss is no longer finite at step {self.step}; train with a lower rate than "
                f"{self.config.rate:g}"
            )
        entry = {"step": self.step, "loss": mean, "rate": _rate(self.step, self.config)}
        if validate:
            entry["score"] = self._judge(validate)
        self.recent = []
        self.history.append(entry)
        log.info("step %d: %s", self.step, entry)

    def _judge(self, validate: Callable[[nn.Module], float]) -> float:
        with self._averaged(), torch.no_grad():
            self.module.eval()
            score = float(validate(self.module))
            if not math.isfinite(score):
                raise ValueError(
                    f"the score is {score} at step {self.step}; validate on data that has values"
                )
            if score < self.score:
                self.best, self.waited = _copy(self.module.state_dict()), 0
            else:
                self.waited += 1
        return score

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the module bear the averaged weights for a while."""
        own = _copy(self.trained)
        _put(self.average, self.trained)
        try:
            yield
        finally:
            _put(own, self.trained)

    def settle(self) -> None:
        """Leave the module with its best weights, or the averaged ones if none were judged."""
        if self.best:
            self.module.load_state_dict(self.best)
        else:
            _put(self.average, self.trained)
        self.module.eval()


class _Record:
    """What a run folder is told of a training while it goes on."""

    def __init__(self, training: _Training, run: runs.Run) -> None:
        self.training, self.run = training, run
        self.earlier, self.drawn = training.cost, time.monotonic()
        self.spent = runs.meter(gpu(training.device))

    def keep(self) -> None:
        """Write the state and the history, now and then the curve."""
        self.training.cost = self.earlier + self.spent()
        _save(self.training, self.run)
        runs.write_history(self.run, self.training.history)
        if self.training.history and time.monotonic() - self.drawn > REDRAWN:
            runs.draw(self.run, self.training.history)
            self.drawn = time.monotonic()

    def finish(self) -> None:
        """Write the curve and the result, then mark the state as finished."""
        training = self.training
        scored = [entry for entry in training.history if "score" in entry]
        best = min(scored, key=lambda entry: entry["score"], default=None)
        runs.write_history(self.run, training.history)
        runs.draw(self.run, training.history)
        found = {
            "steps": training.step,
            "stopped_early": training.step < training.config.steps,
            "loss": training.history[-1]["loss"],
            "score": best and best["score"],
            "best_step": best and best["step"],
            "weights_trained": sum(weight.numel() for weight in training.trained.values()),
            "device": training.device.type,
            "cost": asdict(training.cost),
        }
        runs.add_result(self.run, found)
        training.finished = True
        _save(training, self.run)


def _save(training: _Training, run: runs.Run) -> None:
    """Write the state as one safetensors file whose metadata is JSON."""
    moments = {
        f"{key}.{name}": value
        for name, weight in training.trained.items()
        for key, value in training.optimiser.state[weight].items()
    }
    random = {"cpu": torch.get_rng_state()}
    if training.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(training.device)
    groups = {
        "weights": training.module.state_dict(),
        "average": training.average,
        "best": training.best,
        "moments": moments,
        "random": random,
        "recent": {"loss": torch.stack(training.recent)} if training.recent else {},
    }
    told = {name: getattr(training, name) for name in ("step", "waited", "finished", "history")}
    told |= {"config": asdict(training.config), "cost": asdict(training.cost)}
    tensors = {
        f"{group}/{name}": value.detach().to("cpu", copy=True).contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    runs.write(run.state, save(tensors, {"state": json.dumps(told)}))


def _resume(training: _Training, run: runs.Run) -> None:
    """Bring a training to the state that a run folder holds, if it holds one."""
    if not run.state.is_file():
        return
    try:
        with safe_open(str(run.state), framework="pt") as file:
            told = json.loads(file.metadata()["state"])
            groups: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118  # it is no mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run.state} is not the state of a training; delete it") from error
    runs.refuse_other(run.folder, told.pop("config"), asdict(training.config))
    shapes = {name: value.shape for name, value in training.module.state_dict().items()}
    if shapes != {name: value.shape for name, value in groups["weights"].items()}:
        raise ValueError(f"the run in {run.folder} is of another network; choose another folder")
    training.module.load_state_dict(groups["weights"])
    _put(groups.get("average", {}), training.average)
    training.best = {n: v.to(training.device) for n, v in groups.get("best", {}).items()}
    _restore(training, groups)
    training.cost = runs.Cost(**told.pop("cost"))
    for name, value in told.items():
        setattr(training, name, value)
    log.info("resumed %s at step %d", run.folder, training.step)


def _restore(training: _Training, groups: dict[str, dict[str, Tensor]]) -> None:
    """Bring back the moments of AdamW, the generators, and the losses since the last entry."""
    for key, value in groups.get("moments", {}).items():
        kind, name = key.split(".", 1)
        weight = training.trained[name]
        # AdamW counts its steps on the CPU; the moments lie in memory as their weight does.
        kept = value if kind == "step" else torch.empty_like(weight).copy_(value)
        training.optimiser.state[weight][kind] = kept.detach()
    torch.set_rng_state(groups["random"]["cpu"])
    if training.device.type == "cuda" and "cuda" in groups["random"]:
        torch.cuda.set_rng_state(groups["random"]["cuda"], training.device)
    if "recent" in groups:
        training.recent = list(groups["recent"]["loss"].to(training.device).unbind())


@torch.no_grad()
def _put(values: dict[str, Tensor], targets: dict[str, Any]) -> None:
    for name, value in values.items():
        targets[name].copy_(value)


def _place(module: nn.Module) -> torch.device:
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def _copy(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


def _rate(step: int, config: Config) -> float:
    if step <= config.warm_up:
        return config.rate * step / config.warm_up
    done = (step - config.warm_up) / max(config.steps - config.warm_up, 1)
    return config.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
