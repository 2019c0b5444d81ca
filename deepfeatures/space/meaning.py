"""What features mean: their correlation with bands and indices over sampled pixel-dates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deepfeatures import latent
from deepfeatures.reading import OpenCube
from deepfeatures.space.sampling import Sample, gather, sample, usable, vectors

SAMPLED = 8_000
"""Pixel-dates that features and indices are compared over."""

READ = 1_500_000
"""Pixel-dates of the store that they are drawn from."""


@dataclass(frozen=True, eq=False)
class Meaning:
    """Correlations of the features of a cube with bands and indices."""

    features: tuple[str, ...]
    """The features (k)."""
    names: tuple[str, ...]
    """Bands, then indices (m)."""
    pearson: NDArray[np.float64]
    """(k, m) correlation of values; NaN where one does not vary."""
    spearman: NDArray[np.float64]
    """(k, m) correlation of ranks."""
    count: int
    """Pixel-dates compared."""
    positions: NDArray[np.int32]
    """(count, 3) time, row and column of these in the feature cube."""


@lru_cache(maxsize=8)
def meaning(features: OpenCube, bands: OpenCube) -> Meaning:
    """Correlate each feature with each band and index of the cube that it was made from.

    Over pixel-dates that are usable in both cubes. A correlation says what goes together, not what
    causes what.

    Raises
    ------
    ValueError
        If the cubes share no date or no pixel grid, or too little is usable in both.
    """
    found = sample(features, SAMPLED, most=READ)
    places, there = across(features, bands, found.positions)
    there[there] = usable(bands, places[there])
    positions, places = found.positions[there], places[there]
    if len(positions) < 10:
        raise ValueError(
            f"{features.name!r} and {bands.name!r} share {len(positions)} of the sampled "
            "pixel-dates; too few to compare them"
        )
    table = vectors(features, found.codes[there])
    names = bands.available
    columns = gather(bands, list(names), places)
    others = np.stack([columns[name] for name in names], axis=1)
    return Meaning(
        features=features.channels,
        names=names,
        pearson=latent.correlations(table, others),
        spearman=latent.correlations(table, others, ranks=True),
        count=len(positions),
        positions=positions,
    )


def channel(
    features: OpenCube, bands: OpenCube | None, points: Sample, name: str
) -> NDArray[np.float32]:
    """Give a channel at the pixel-dates of a feature cube: a feature, or a band or index.

    Returns
    -------
    numpy.ndarray
        (n,) float32; NaN where there is no value.

    Raises
    ------
    ValueError
        If neither cube has it, or the cubes have different pixels.
    """
    if name in features.channels:
        return vectors(features, points.codes)[:, features.channels.index(name)]
    if bands is None:
        raise ValueError(f"{features.name!r} has no channel {name[:40]!r} and no band cube")
    places, there = across(features, bands, points.positions)
    found = np.full(len(there), np.nan, np.float32)
    found[there] = gather(bands, [name], places[there])[name]
    return found


def layer(features: OpenCube, result: OpenCube, points: Sample) -> NDArray[np.float32]:
    """Give the first map of a layer, which has one date, at the pixels of a feature cube.

    Returns
    -------
    numpy.ndarray
        (n,) float32; codes of classes from 1; NaN where there is no value.

    Raises
    ------
    ValueError
        If it has other pixels.
    """
    places = points.positions.copy()
    places[:, 1:] += _shift(features, result)
    places[:, 0] = 0
    there = ((places >= 0) & (places < result.arrays["valid", 1].shape)).all(axis=1)
    found = np.full(len(places), np.nan, np.float32)
    name = result.channels[0]
    found[there] = gather(result, [name], places[there])[name]
    return np.where(found == 0, np.nan, found) if result.classes else found


def _shift(cube: OpenCube, other: OpenCube) -> NDArray[np.int32]:
    """Give what is added to row and column of a pixel to find it in another cube."""
    one, two = cube.grid, other.grid
    down = (two.north - one.north) / two.resolution
    right = (one.west - two.west) / two.resolution
    shift = np.array([round(down), round(right)], np.int32)
    apart = np.abs(shift - (down, right)).max() > 0.01
    if one.crs != two.crs or one.resolution != two.resolution or apart:
        raise ValueError(f"{cube.name!r} and {other.name!r} have different pixels")
    return shift


def across(
    cube: OpenCube, other: OpenCube, positions: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find pixel-dates of a cube in another one on the same grid.

    Returns
    -------
    (places, there)
        (n, 3) time, row and column in the other cube, and which of them it has (n,).

    Raises
    ------
    ValueError
        If the pixels of the two are not the same.
    """
    shift, two = _shift(cube, other), other.grid
    days, known = (times.astype("datetime64[D]") for times in (cube.times, other.times))
    steps = np.searchsorted(known, days).clip(max=len(known) - 1)
    places = np.empty_like(positions)
    places[:, 0] = steps[positions[:, 0]]
    places[:, 1:] = positions[:, 1:] + shift
    inside = (places[:, 1:] >= 0) & (places[:, 1:] < (two.height, two.width))
    there = inside.all(axis=1) & (known[steps] == days)[positions[:, 0]]
    return places, there
