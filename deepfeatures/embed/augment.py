"""Training batches: patches drawn from blocks of cubes and changed in physically meant ways.

A batch is a function of the seed and of its number alone, so that a training that was interrupted
goes on with the batches it would have seen. No index is materialised: indices are made of the
bands inside the network's `Preparation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfeatures.bands import BANDS
from deepfeatures.embed.data import Block, Series
from deepfeatures.embed.sensors import Disturbance

MARGIN = 60.0
"""Days before and after a patch from which other sensors are taken."""

MISSING = 0.15
"""Share of the patches that another sensor did not see at all."""

Draw = Callable[[np.random.Generator], Block]
"""Gives a block, chosen by the generator."""


@dataclass(frozen=True)
class Plan:
    """How batches are drawn."""

    size: int = 4
    """Patches per batch."""
    length: int = 40
    """Dates of a patch."""
    edge: int = 16
    """Pixels along an edge of a patch."""
    pool: int = 12
    """Blocks that patches are drawn from at a time."""
    renew: int = 25
    """Batches after which one of them is exchanged."""


@dataclass(frozen=True)
class Other:
    """What another sensor saw of the patches."""

    values: Tensor
    """``(batch, time, channel, y, x)`` in physical units, 0 where nothing is seen."""
    seen: Tensor
    """``(batch, time, y, x)``, 0 or 1."""
    days: Tensor
    """Days ``(batch, time)`` from the origin of the networks, rising."""


@dataclass(frozen=True)
class Batch:
    """Patches of series: what the network sees, and what was there."""

    values: Tensor
    """Input ``(batch, time, channel, y, x)`` in physical units, 0 where nothing is seen."""
    seen: Tensor
    """Input mask ``(batch, time, y, x)``, 0 or 1."""
    days: Tensor
    """Days ``(batch, time)`` from the origin of the networks, rising."""
    target: Tensor
    """Clean channels ``(batch, time, channel, y, x)``, 0 where there are none."""
    known: Tensor
    """Where `target` holds ``(batch, time, y, x)``, 0 or 1: not where it may be hazy itself."""
    others: dict[str, Other] = field(default_factory=dict)
    """What other sensors saw, by name."""

    def to(self, device: torch.device) -> Self:
        """Give the batch on a device."""
        names = ("values", "seen", "days", "target", "known")
        others = {
            name: Other(one.values.to(device), one.seen.to(device), one.days.to(device))
            for name, one in self.others.items()
        }
        return replace(self, **{n: getattr(self, n).to(device) for n in names}, others=others)


def batches(
    draw: Draw,
    channels: Sequence[str],
    disturbance: Disturbance,
    plan: Plan,
    *,
    seed: int,
    origin: float,
) -> Callable[[int], Batch]:
    """Give the function that makes batch number 0, 1, 2, ...

    Parameters
    ----------
    draw
        Gives a block of a cube.
    channels
        Names of the channels of the blocks; haze falls with their wavelength.
    disturbance
        Of the sensor of the blocks.
    plan
        Sizes.
    seed
        Seed of all choices.
    origin
        Day that becomes 0.
    """

    @lru_cache(maxsize=plan.pool + 2)
    def block(number: int) -> Block:
        return draw(np.random.default_rng([seed, 0, number]))

    def batch(step: int) -> Batch:
        first = step // plan.renew
        rng = np.random.default_rng([seed, 1, step])
        chosen = [block(first + int(rng.integers(plan.pool))) for _ in range(plan.size)]
        patches = [patch(one, plan, rng) for one in chosen]
        return augment(patches, channels, disturbance, rng, origin=origin)

    return batch


def patch(block: Block, plan: Plan, rng: np.random.Generator) -> Block:
    """Cut a patch, half of the time mixed with the series of another place of the same block."""
    time = len(block.days)
    start = int(rng.integers(max(time - plan.length, 0) + 1))
    times = slice(start, min(start + plan.length, time))
    one = _cut(block, times, plan.edge, rng)
    if rng.random() < 0.5:
        one = _blend(one, _cut(block, times, plan.edge, rng), np.float32(rng.random()))
    return _padded(one, plan)


def _cut(block: Block, times: slice, edge: int, rng: np.random.Generator) -> Block:
    """Cut a turned square and some dates out of a block, and the other sensors' dates nearby."""
    height, width = block.values.shape[2:]
    y, x = (int(rng.integers(max(size - edge, 0) + 1)) for size in (height, width))
    turn = int(rng.integers(4)) if min(height, width) >= edge else 0

    def window(array: NDArray[Any]) -> NDArray[Any]:
        return np.rot90(array[..., y : y + edge, x : x + edge], turn, (-2, -1))

    days = block.days[times]
    others = {}
    for name, series in block.others.items():
        near = (series.days >= days[0] - MARGIN) & (series.days <= days[-1] + MARGIN)
        others[name] = Series(window(series.values[near]), series.days[near])
    clear = block.valid if block.clear is None else block.clear
    return Block(
        window(block.values[times]), window(block.valid[times]), days, others, window(clear[times])
    )


def _blend(one: Block, two: Block, share: np.float32) -> Block:
    """Mix the series of two places of a block, as a pixel on their border would."""
    others = {
        name: replace(series, values=share * series.values + (1 - share) * two.others[name].values)
        for name, series in one.others.items()
    }
    values = share * one.values + (1 - share) * two.values
    return Block(values, one.valid & two.valid, one.days, others, _both(one, two))


def _both(one: Block, two: Block) -> NDArray[np.bool_] | None:
    return None if one.clear is None or two.clear is None else one.clear & two.clear


def _padded(one: Block, plan: Plan) -> Block:
    """Fill a patch that is short in time or space with pixel-dates where nothing was seen."""
    time, _, height, width = one.values.shape
    space = ((0, plan.edge - height), (0, plan.edge - width))
    short = (0, plan.length - time)
    return Block(
        np.pad(one.values, (short, (0, 0), *space), constant_values=np.nan),
        np.pad(one.valid, (short, *space)),
        np.pad(one.days, short, mode="edge"),
        {
            name: replace(
                series,
                values=np.pad(series.values, ((0, 0), (0, 0), *space), constant_values=np.nan),
            )
            for name, series in one.others.items()
        },
        None if one.clear is None else np.pad(one.clear, (short, *space)),
    )


def augment(
    patches: list[Block],
    channels: Sequence[str],
    disturbance: Disturbance,
    rng: np.random.Generator,
    *,
    origin: float,
) -> Batch:
    """Change patches in physically meant ways and hide some of their dates.

    Per patch: gain and offset per channel, noise, time reversed, day distances stretched, season
    shifted, some dates under haze or shadow that the mask does not know, a share of the dates
    hidden, another sensor missing or some of its dates. The target stays free of haze, shadow and
    noise.
    """
    values = np.stack([p.values for p in patches])  # (batch, time, channel, y, x)
    valid = np.stack([p.valid for p in patches]) & np.isfinite(values).all(axis=2)
    known = valid & np.stack([p.valid if p.clear is None else p.clear for p in patches])
    when = np.stack([p.days for p in patches]) - origin
    target = np.where(valid[:, :, None], shifted(values, disturbance, rng), 0.0)
    target = target.astype(np.float32)
    dim = target
    if disturbance.veiled:
        dim = veiled(target, channels, rng, share=rng.choice([0.0, 0.15, 0.35], (len(when), 1)))
    dim = noisy(dim, disturbance, rng)
    hidden = rng.random(when.shape) < rng.uniform(0.05, 0.6, (len(when), 1))
    seen = valid & ~hidden[:, :, None, None]
    clock = _clock(when, rng)
    others = {
        name: _other([p.others[name] for p in patches], clock, origin, rng)
        for name in patches[0].others
    }
    back = clock.slope[:, 0] < 0
    for array in (target, dim, seen, known):
        array[back] = array[back, ::-1]
    when = clock(when)
    when[back] = when[back, ::-1]
    dim = np.where(seen[:, :, None], dim, 0.0)
    values_, seen_, days, target_, known_ = (
        torch.from_numpy(one.astype(np.float32)) for one in (dim, seen, when, target, known)
    )
    return Batch(values_, seen_, days, target_, known_, others)


@dataclass(frozen=True)
class _Clock:
    """A linear change of days, per patch ``(batch, 1)``; a negative slope turns time round."""

    slope: NDArray[np.float64]
    start: NDArray[np.float64]

    def __call__(self, when: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.start + self.slope * when


def _clock(when: NDArray[np.float64], rng: np.random.Generator) -> _Clock:
    """Stretch the distances of the dates (batch, time), shift their season, or turn them round."""
    batch = len(when)
    stretch = np.exp(rng.uniform(-0.7, 0.7, (batch, 1)))
    stretch = np.where(rng.random((batch, 1)) < 0.3, 1.0, stretch)
    shift = rng.normal(0, 25, (batch, 1)) + 182.6 * (rng.random((batch, 1)) < 0.2)
    first, last = when[:, :1], when[:, -1:]
    back = rng.random((batch, 1)) < 0.3
    start = np.where(back, first + stretch * last, first - stretch * first) + shift
    return _Clock(np.where(back, -stretch, stretch), start)


def _other(series: list[Series], clock: _Clock, origin: float, rng: np.random.Generator) -> Other:
    """Stack what another sensor saw of the patches: the same clock, some of it missing."""
    most = max(max(len(one.days) for one in series), 1)
    channels, *space = series[0].values.shape[1:]
    values = np.full((len(series), most, channels, *space), np.nan, np.float32)
    days = np.full((len(series), most), 1e5)  # nothing is near to what pads
    for i, one in enumerate(series):
        count = len(one.days)
        when = _Clock(clock.slope[i], clock.start[i])(one.days - origin)
        forth = slice(None) if clock.slope[i, 0] > 0 else slice(None, None, -1)
        values[i, :count], days[i, :count] = one.values[forth], when[forth]
    gone = rng.random((len(series), 1)) < MISSING
    dropped = gone | (rng.random((len(series), most)) < rng.uniform(0, 0.3, (len(series), 1)))
    seen = np.isfinite(values).all(axis=2) & ~dropped[:, :, None, None]
    values = np.where(seen[:, :, None], values, 0.0)
    return Other(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(seen.astype(np.float32)),
        torch.from_numpy(days.astype(np.float32)),
    )


def shifted(
    values: NDArray[np.float32], disturbance: Disturbance, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Change gain and offset per channel of most patches ``(batch, time, channel, y, x)``."""
    one = (len(values), 1, values.shape[2], 1, 1)
    gain = 1 + rng.uniform(-disturbance.gain, disturbance.gain, one)
    offset = rng.uniform(-disturbance.offset, disturbance.offset, one)
    plain = rng.random((len(values), 1, 1, 1, 1)) < 0.4
    return np.where(plain, values, values * gain + offset)


def noisy(
    values: NDArray[np.float32], disturbance: Disturbance, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add the noise of sensor and processing to ``(batch, time, channel, y, x)``.

    Half of the patches get noise of each pixel, half an error of each date and channel.
    """
    batch, time, channel = values.shape[:3]
    one = (batch, 1, 1, 1, 1)
    grain = rng.uniform(0, disturbance.grain, one) * (rng.random(one) < 0.5)
    grains = rng.standard_normal(values.shape, np.float32) * grain.astype(np.float32)
    dates = (rng.random(one) < 0.5) * rng.normal(0, 1, (2, batch, time, channel, 1, 1))
    result = values * (1 + disturbance.scale * dates[0]) + disturbance.shift * dates[1] + grains
    return result.astype(np.float32)


def veiled(
    values: NDArray[np.float32],
    channels: Sequence[str],
    rng: np.random.Generator,
    *,
    share: float | NDArray[np.float64] = 0.04,
) -> NDArray[np.float32]:
    """Put thin haze or a cloud's shadow over a share of the dates ``(batch, time, channel, ...)``.

    Haze of optical weight a moves a reflectance r to ``r (1 - a) + 0.6 a``, with a falling with
    the wavelength to a power between 0 (droplets) and 1.3 (aerosol); shadow takes a part of r.
    """
    shape = values.shape[:2]
    waves = np.array([BANDS[name].wavelength_nm if name in BANDS else 800.0 for name in channels])
    power = rng.uniform(0, 1.3, (*shape, 1))
    weight = np.exp(rng.uniform(np.log(0.02), np.log(0.5), (*shape, 1)))
    weight = weight * (waves / 490.0) ** -power
    chance = rng.random(shape)
    hazy, under = chance < share * 0.65, chance < share
    keep = np.where(under[..., None], rng.uniform(0.35, 0.85, (*shape, 1)), 1.0)
    keep = np.where(hazy[..., None], 1 - weight, keep)
    light = np.where(hazy[..., None], 0.6 * weight, 0.0)
    veil = values * keep[..., None, None] + light[..., None, None]
    return veil.astype(np.float32)
