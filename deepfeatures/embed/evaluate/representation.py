"""Ways to put a pixel-date into numbers: features, and the simple things beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import indices, latent
from deepfeatures.embed.data import Block
from deepfeatures.indices import ranges
from deepfeatures.predictor import Predictor, usable

Floats = NDArray[np.floating]

SIX = ("NDVI", "EVI", "NDWI", "NDMI", "NBR", "NDREI")
"""Six classic indices: greenness, greenness where it saturates, open water, canopy water, burnt
and bare wood, and red edge."""
DATES = 11
"""Dates of a neighbourhood, as in the research model."""
FILLS = ("linear", "mean")
"""How a neighbourhood is completed where nothing was seen."""
PART = 16
"""Dates of which all indices are in memory at once, in the middle of the computation."""
SAMPLE = 20_000
"""Pixel-dates of all training places on which principal components are fitted."""


@dataclass(frozen=True, eq=False)
class Representation:
    """A way to put each pixel-date of a block into a few numbers.

    What is hidden from it is marked in the mask of the block; it must not look there.
    """

    name: str
    """Name in tables."""
    size: int
    """Numbers per pixel-date."""
    latent: Callable[[Block], Floats]
    """Block -> features ``(time, k, y, x)`` wherever they can be told, NaN elsewhere; an array of
    its own."""
    decode: Callable[[Floats], Floats] | None = None
    """Features ``(time, k, y, x)`` -> channels ``(time, channel, y, x)``, if there is a way."""
    step: float | None = None
    """Step of the int8 quantisation, if they are stored so."""
    alone: bool = False
    """Whether a date's features come from that date only."""

    def features(self, block: Block) -> Floats:
        """Give the features ``(time, k, y, x)`` of what was seen, NaN elsewhere."""
        found = self.latent(block).astype(np.float32, copy=False)
        seen = usable(block.values, block.valid)
        np.copyto(found, np.nan, where=~seen[:, None])
        return found

    def rounded(self, features: Floats) -> Floats:
        """Give features as they come back from int8.

        Raises
        ------
        ValueError
            If they have no quantisation.
        """
        if self.step is None:
            raise ValueError(f"{self.name!r} has no int8 form; take a representation with a step")
        return (np.rint(features / self.step).clip(-127, 127) * self.step).astype(np.float32)

    def told(self, block: Block, left: NDArray[np.bool_]) -> Floats:
        """Tell the channels of all dates ``(time, channel, y, x)`` from what is `left` to see.

        Raises
        ------
        ValueError
            If there is no way back to the channels.
        """
        if self.decode is None:
            raise ValueError(f"{self.name!r} can not be decoded; take one with a decoder")
        return self.decode(self.latent(replace(block, valid=left)))


def of_predictor(
    predictor: Predictor, channels: Sequence[str], *, name: str = ""
) -> Representation:
    """Represent by a predictor.

    Parameters
    ----------
    predictor
        Its inputs must be among the channels. It is given what the blocks have of other sensors.
    channels
        Channels of the blocks, in order.
    name
        Name in tables; by default the predictor's.

    Raises
    ------
    ValueError
        If the blocks lack an input.
    """
    lacking = [word for word in predictor.inputs if word not in channels]
    if lacking:
        raise ValueError(
            f"the blocks lack {', '.join(lacking)}, which {predictor.name!r} needs; read them "
            "with all of its inputs"
        )
    columns = [list(channels).index(word) for word in predictor.inputs]

    def features(block: Block) -> Floats:
        more: list[Any] = [block.others] if block.others else []
        return predictor.latent(block.values[:, columns], block.valid, block.days, *more)

    back = [predictor.channels.index(word) for word in channels if word in predictor.channels]

    def decode(found: Floats) -> Floats:
        return predictor.decode(found)[:, back]

    whole = len(back) == len(channels)
    return Representation(
        name or predictor.name, len(predictor.features), features,
        decode if whole else None, predictor.scale,
    )  # fmt: skip


def bands(channels: Sequence[str]) -> Representation:
    """Represent by the channels themselves."""
    return Representation(
        f"{len(channels)} bands", len(channels), _seen, lambda found: found, alone=True
    )


def _seen(block: Block) -> Floats:
    there = usable(block.values, block.valid)
    return np.where(there[:, None], block.values, np.nan)


def six_indices(channels: Sequence[str]) -> Representation:
    """Represent by `SIX` classic indices, in their usual range as 0..1."""
    return _indices("six indices", SIX, channels)


def all_indices(channels: Sequence[str]) -> Representation:
    """Represent by those of the research model's 135 indices that the channels allow."""
    possible = set(indices.available(channels))
    wanted = [name for name in ranges.SETS["research"] if name in possible]
    return _indices(f"{len(wanted)} indices", wanted, channels)


def _indices(name: str, wanted: Sequence[str], channels: Sequence[str]) -> Representation:
    def features(block: Block) -> Floats:
        there = usable(block.values, block.valid)
        result = np.empty((len(there), len(wanted), *there.shape[1:]), np.float32)
        for start in range(0, len(there), PART):
            part = slice(start, start + PART)
            given = {
                band: np.ascontiguousarray(block.values[part, i], np.float32)
                for i, band in enumerate(channels)
            }
            found = ranges.normalise(indices.compute(given, list(wanted), threads=1), list(wanted))
            # undefined although all bands are there (a zero denominator): the middle of the range
            found[~np.isfinite(found)] = 0.5
            result[part] = np.moveaxis(found, 0, 1)
        np.copyto(result, np.nan, where=~there[:, None])
        return result

    return Representation(name, len(wanted), features, alone=True)


def pca(blocks: Sequence[Block], size: int, *, seed: int = 0) -> Representation:
    """Represent by principal components of the channels of one date.

    Parameters
    ----------
    blocks
        Training places.
    size
        Components; all of them where there are fewer.
    seed
        Seed of the sample of pixel-dates.
    """
    rows = np.concatenate([
        latent.sample(b.values, usable(b.values, b.valid), SAMPLE // len(blocks), seed=seed)[0]
        for b in blocks
    ])  # fmt: skip
    model = latent.pca(rows, min(size, rows.shape[1]))
    span = float(np.abs(latent.transform(model, rows)).max())
    weights, centre = model.components, model.mean

    def features(block: Block) -> Floats:
        return _project(_seen(block) - centre[:, None, None], weights)

    def decode(found: Floats) -> Floats:
        return _project(found, weights.T) + centre[:, None, None]

    return Representation(f"PCA {size}", len(weights), features, decode, span / 127, alone=True)


def neighbourhood_pca(
    blocks: Sequence[Block], size: int, *, dates: int = DATES, fill: str = "linear", seed: int = 0
) -> Representation:
    """Represent by principal components of all channels of the dates around a date.

    Parameters
    ----------
    blocks
        Training places.
    size
        Components.
    dates
        Dates of a neighbourhood, odd; acquisitions, whether usable or not.
    fill
        What stands where nothing was seen: ``linear`` interpolation in time, or the ``mean`` of
        what was seen in the neighbourhood, as the research model has it.
    seed
        Seed of the sample of pixel-dates.

    Raises
    ------
    ValueError
        If the way to fill is unknown.
    """
    if fill not in FILLS:
        raise ValueError(f"the fill {fill!r} is unknown; choose one of {', '.join(FILLS)}")
    half, channels = dates // 2, blocks[0].values.shape[1]
    rows = np.concatenate([_vectors(b, half, fill, SAMPLE // len(blocks), seed) for b in blocks])
    model = latent.pca(rows, size)
    weights = model.components.reshape(len(model.components), dates, channels)
    centre = model.mean.reshape(dates, channels)

    def features(block: Block) -> Floats:
        return _Neighbours(block, half, fill).projected(weights, centre)

    def decode(found: Floats) -> Floats:
        return _project(found, weights[:, half].T) + centre[half][:, None, None]

    span = float(np.abs(latent.transform(model, rows)).max())
    name = f"PCA {size} of {dates} dates" + ("" if fill == "linear" else ", mean-filled")
    return Representation(name, size, features, decode, span / 127)


class _Neighbours:
    """A block without gaps, seen from each of its dates."""

    def __init__(self, block: Block, half: int, fill: str) -> None:
        self.seen = usable(block.values, block.valid)
        self.values = np.where(self.seen[:, None], block.values, 0.0)
        self.linear = filled(block, self.seen) if fill == "linear" else None
        self.mean = self._means(half) if fill == "mean" else None

    def at(self, lag: int) -> Floats:
        """Give the channels ``(time, channel, y, x)`` so many dates after each date."""
        index = np.arange(len(self.values)) + lag
        held = index.clip(0, len(index) - 1)
        if self.linear is not None:
            return self.linear[held]
        assert self.mean is not None
        there = self.seen[held] & (index == held)[:, None, None]
        return np.where(there[:, None], self.values[held], self.mean)

    def projected(self, weights: Floats, centre: Floats) -> Floats:
        """Project on weights ``(k, lag, channel)`` around a centre ``(lag, channel)``."""
        parts, lags, channel = weights.shape
        stacked = np.moveaxis(weights, 1, 0).reshape(lags * parts, channel)
        shape = (len(self.seen), lags, parts, *self.seen.shape[1:])
        # every date is projected once for each place that it takes in a neighbourhood
        if self.linear is not None:
            own, other = _project(self.linear, stacked).reshape(shape), None
        else:
            assert self.mean is not None
            own = _project(self.values, stacked).reshape(shape)
            other = _project(self.mean, stacked).reshape(shape)
        found = -np.einsum("klc,lc->k", weights, centre)[:, None, None] + np.zeros_like(own[:, 0])
        index = np.arange(len(own))
        for k in range(lags):
            held = (index + k - lags // 2).clip(0, len(index) - 1)
            if other is None:
                found += own[held, k]
            else:
                there = self.seen[held] & (held == index + k - lags // 2)[:, None, None]
                found += np.where(there[:, None], own[held, k], other[:, k])
        return found

    def _means(self, half: int) -> Floats:
        total = np.zeros(self.values.shape)
        count = np.zeros(self.seen.shape)
        time = len(count)
        for lag in range(-half, half + 1):
            here = slice(max(-lag, 0), min(time - lag, time))
            there = slice(max(lag, 0), min(time + lag, time))
            total[here] += self.values[there]
            count[here] += self.seen[there]
        return np.where(count[:, None] > 0, total / count.clip(1)[:, None], np.nan)


def filled(block: Block, left: NDArray[np.bool_]) -> Floats:
    """Interpolate the channels ``(time, channel, y, x)`` in time where nothing is `left`.

    Before the first and after the last usable date their values hold; NaN where there is none.
    """
    time = len(block.days)
    index = np.arange(time)[:, None, None]
    before = np.maximum.accumulate(np.where(left, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(left, index, time)[::-1], axis=0)[::-1]
    none = (before < 0) & (after == time)
    first = np.where(before < 0, after, before) % time
    last = np.where(after == time, before, after) % time
    span = block.days[last] - block.days[first]
    share = (block.days[:, None, None] - block.days[first]) / np.where(span > 0, span, 1.0)
    share = np.where(span > 0, share, 0.0).clip(0, 1).astype(np.float32)[:, None]
    start = np.take_along_axis(block.values, first[:, None], axis=0)
    stop = np.take_along_axis(block.values, last[:, None], axis=0)
    return np.where(none[:, None], np.float32(np.nan), start + (stop - start) * share)


def _vectors(block: Block, half: int, fill: str, count: int, seed: int) -> Floats:
    """Draw neighbourhoods ``(n, dates * channel)`` of usable pixel-dates."""
    seen = usable(block.values, block.valid)
    _, at = latent.sample(block.values, seen, count, seed=seed)
    near = _Neighbours(block, half, fill)
    lags = [near.at(lag)[at[:, 0], :, at[:, 1], at[:, 2]] for lag in range(-half, half + 1)]
    return np.concatenate(lags, axis=1)


def _project(values: Floats, weights: NDArray[np.floating]) -> Floats:
    """Multiply channels ``(time, channel, y, x)`` with weights ``(k, channel)``."""
    time, channel, height, width = values.shape
    flat = values.reshape(time, channel, height * width).astype(np.float32)
    found: Floats = np.matmul(weights.astype(np.float32), flat)
    return found.reshape(time, len(weights), height, width)
