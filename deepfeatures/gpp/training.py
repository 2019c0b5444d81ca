"""Training of a GPP network on the windows of towers, with the one training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfeatures import compress, fit, runs
from deepfeatures.gpp import metrics
from deepfeatures.gpp.batches import Batch, batch
from deepfeatures.gpp.card import Card
from deepfeatures.gpp.networks import last, spread_out
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.splits import Split
from deepfeatures.gpp.towers import Towers
from deepfeatures.gpp.windows import Windows

SHORTENED = 0.15
"""Share of the windows that are cut short in training, so that any context can be asked for."""

RATES = {"rnn": 2e-3, "gru": 2e-3, "lstm": 2e-3, "gpt": 1e-3}
"""Highest learning rate of each network."""

STEPS = {"rnn": 1600, "gru": 800, "lstm": 800, "gpt": 800}
"""Steps of a training, chosen on years before the tested ones: only the simplest cell gains from
more, and its steps are the cheapest."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    kind: str = "gru"
    window: int = 30
    seed: int = 0
    steps: int | None = None
    """Steps of the training; by default those of `STEPS`."""
    size: int = 128
    """Windows per step."""
    statics: bool = True
    """Whether latitude, elevation and vegetation go in."""
    config: dict[str, Any] = field(default_factory=dict)
    """Options of the network."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, and then as before; also a decorator, ``@one_thread()``.

    The products are small: a second thread makes a training 1.2 times as fast on idle cores, and
    twenty times as slow where another process keeps one of them busy, because both wait for each
    other after each product.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    towers: Towers,
    split: Split,
    recipe: Recipe,
    *,
    name: str = "",
    run: runs.Run | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Train a network on the training days of a split, and stop by its validation days.

    Raises
    ------
    ValueError
        If there is no day to train on.
    InterruptedError
        If `cancelled` says so.
    """
    torch.manual_seed(recipe.seed)
    card, inverse = describe(towers, split, recipe, name or recipe.kind)
    predictor = Predictor(card, inverse=inverse)
    history = adapt(
        predictor, towers, split, recipe, run=run, progress=progress, cancelled=cancelled
    )
    best = min((e["score"] for e in history if "score" in e), default=None)
    told = card.training | {"steps_done": int(history[-1]["step"]), "validation_mse": best}
    trained = replace(card, training=told)
    return Predictor(trained, predictor.module, inverse)


@one_thread()
def adapt(
    predictor: Predictor,
    towers: Towers,
    split: Split,
    recipe: Recipe,
    *,
    run: runs.Run | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[dict[str, float]]:
    """Train the network of a predictor in place, from the weights that it has; give the history."""
    prepared, target = predictor.prepare(towers), scaled(towers, predictor.card)
    windows = Windows(towers, np.flatnonzero(split.train & towers.usable), recipe.window)
    inner = Windows(towers, np.flatnonzero(split.validate & towers.usable), recipe.window)
    if not len(windows):
        raise ValueError("there is no day to train on; give a table with more usable GPP")

    def draw(step: int) -> Batch:
        random = np.random.default_rng((recipe.seed, step))
        which = random.integers(0, len(windows), recipe.size)
        cut = random.random(recipe.size) < SHORTENED
        days = np.where(cut, random.integers(1, recipe.window + 1, recipe.size), recipe.window)
        return batch(prepared, target, windows, which, days)

    def validate(module: nn.Module) -> float:
        told = Predictor(predictor.card, module).tell(prepared, inner)
        centre, spread = predictor.card.target
        off = (told.mean - centre) / spread - target[inner.ends]
        return float(np.mean(np.square(off, dtype=np.float64)))

    steps = recipe.steps or STEPS[recipe.kind]
    every = max(steps // 16, 1)
    config = fit.Config(
        steps=steps, rate=RATES[recipe.kind], decay=1e-2, warm_up=min(50, steps),
        every=every, patience=6, average=0.99, seed=recipe.seed,
    )  # fmt: skip
    return fit.fit(
        predictor.module, draw, config, loss=loss, validate=validate if len(inner) else None,
        run=run, progress=progress, cancelled=cancelled,
    )  # fmt: skip


def loss(module: nn.Module, some: Batch) -> Tensor:
    """Give the squared error of the mean plus half the pinball loss of both percentiles."""
    out, _ = module(some.values)
    told = spread_out(last(out, some.length))
    error = some.target[:, None] - told
    squared = error[:, 0].square().mean()
    pinball = sum(
        torch.maximum(q * error[:, n], (q - 1) * error[:, n]).mean()
        for n, q in ((1, 0.05), (2, 0.95))
    )
    return squared + 0.5 * pinball


def scaled(towers: Towers, card: Card) -> NDArray[np.float32]:
    """Give the GPP ``(day,)`` as the network learns it; 0 where there is none."""
    centre, spread = card.target
    return np.nan_to_num((towers.gpp - np.float32(centre)) / np.float32(spread))


def describe(
    towers: Towers, split: Split, recipe: Recipe, name: str
) -> tuple[Card, NDArray[np.float32]]:
    """Give the card of a model to be trained, and the inverse covariance of its drivers."""
    mine = split.train & towers.usable
    if not mine.any():
        raise ValueError("there is no day to train on; give a table with more usable GPP")
    values = towers.values[mine].astype(np.float64)
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, values, 0).sum(axis=0) / count
    off = np.where(known, values - centre, 0)
    spread = np.sqrt((off**2).sum(axis=0) / count)
    spread = np.where(spread > 1e-9, spread, 1.0)
    inverse, domain = _domain(off / spread)
    numbers = np.unique(towers.site[mine])
    place: tuple[tuple[float, float], ...] = ()
    if recipe.statics and np.isfinite(towers.places[:, 1:]).all():
        where = towers.places[numbers][:, 1:]
        wide = where.std(axis=0)
        place = tuple(
            (float(c), float(max(s, 1.0))) for c, s in zip(where.mean(0), wide, strict=True)
        )
    biomes = sorted({towers.biomes[n] for n in numbers} - {""}) if recipe.statics else []
    gpp = towers.gpp[mine]
    card = Card(
        name, recipe.kind, towers.drivers, _numbers(centre), _numbers(spread),
        tuple(name for at, name in enumerate(towers.drivers) if not known[:, at].all()),
        recipe.window, (float(gpp.mean()), float(max(gpp.std(), 1e-3))), place, tuple(biomes),
        recipe.config, domain=domain,
        description=f"GPP of a day from the drivers of {recipe.window} days",
        limitations="Trust it less where `distance` is above 1: such days were not in training.",
        training={
            "towers": [towers.sites[n] for n in numbers], "days": int(mine.sum()),
            "years": [int(towers.year[mine].min()), int(towers.year[mine].max())],
            "held_out": split.name, "tested": _tested(towers, split), "seed": recipe.seed,
            "steps": recipe.steps or STEPS[recipe.kind],
            "means": {towers.sites[n]: towers.means(n, split.known) for n in numbers},
        },
    )  # fmt: skip
    return card, inverse


def _tested(towers: Towers, split: Split) -> dict[str, list[int]]:
    """Give the first and the last day (since 1970-01-01) of each tower that were held out."""
    found = {}
    for number, name in enumerate(towers.sites):
        days = towers.day[split.test & (towers.site == number)]
        if days.size:
            found[name] = [int(days.min()), int(days.max())]
    return found


def _domain(scaled_days: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
    """Give the inverse covariance of training days, and the distance that 99.5 % of them keep."""
    count = scaled_days.shape[1]
    covariance = scaled_days.T @ scaled_days / max(len(scaled_days), 1)
    inverse = np.linalg.inv(covariance + 0.01 * np.eye(count))
    far = np.sqrt(np.einsum("di,ij,dj->d", scaled_days, inverse, scaled_days, optimize=True))
    return inverse.astype(np.float32), float(np.quantile(far, 0.995))


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def smaller(
    model: Predictor, towers: Towers, split: Split, share: float, *, heal: int, name: str
) -> tuple[Predictor, dict[str, float]]:
    """Compress a network and heal it: train it on, briefly and gently, with all its chains.

    Parameters
    ----------
    model
        The model; it is left as it is.
    towers, split
        What it was trained on.
    share
        Share of its numbers that it keeps.
    heal
        Steps of training; 0: none.
    name
        Name of the new model.

    Returns
    -------
    model, scores
        RMSE on the tested days ``before``, when ``cut``, when ``healed``, the same for ``r2``,
        and ``share`` of the numbers that is left.
    """
    each = compress.bonds(model.module, share)
    rows = np.flatnonzero(split.test & towers.usable)
    bare = replace(model.card, name=name, bonds=each)
    made = Predictor(bare, compress.compressed(model.module, each), model.inverse)
    found = _skill(model, towers, rows, "before") | _skill(made, towers, rows, "cut")
    if heal:
        seed = int(model.card.training.get("seed", 0))
        recipe = Recipe(model.card.kind, model.card.window, seed, heal)
        adapt(made, towers, split, recipe)
    found |= _skill(made, towers, rows, "healed")
    found["share"] = made.parameters / model.parameters
    told = model.card.training | {"compressed": found, "of": model.card.name}
    return Predictor(replace(bare, training=told), made.module, model.inverse), found


def profile(model: Predictor, towers: Towers, split: Split, share: float) -> dict[str, float]:
    """Give how much the RMSE on validation days rises with one layer compressed at a time."""
    rows = np.flatnonzero((split.validate if split.validate.any() else split.train) & towers.usable)

    def judge(module: nn.Module) -> float:
        return _skill(Predictor(model.card, module), towers, rows, "x")["rmse_x"]

    usual = judge(model.module)
    found = compress.sensitivity(model.module, compress.bonds(model.module, share), judge)
    return {name: rmse - usual for name, rmse in found.items()}


def _skill(
    model: Predictor, towers: Towers, rows: NDArray[np.int64], when: str
) -> dict[str, float]:
    scores = metrics.sums(towers.gpp[rows], model(towers, rows).mean)
    return {f"r2_{when}": scores.r2, f"rmse_{when}": scores.rmse}
