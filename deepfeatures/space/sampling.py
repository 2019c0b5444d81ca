"""Pixel-dates of a cube, drawn by chance or chosen, with their place in time and space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from deepfeatures.aoi import AOI, window
from deepfeatures.clouds import USABLE
from deepfeatures.reading import OpenCube, checked, decode, read
from deepfeatures.reading.values import derive

MOST_READ = 16_000_000
"""Pixel-dates of the store that a sample looks at, unless told otherwise."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Sample:
    """Pixel-dates of a cube."""

    positions: NDArray[np.int32]
    """(n, 3) time, row and column."""
    codes: NDArray
    """(n, channel) stored numbers of the main array."""


def sample(cube: OpenCube, n: int, *, seed: int = 0, most: int = MOST_READ) -> Sample:
    """Draw usable pixel-dates uniformly, without replacement.

    Of a cube with more than `most` pixel-dates only some blocks (stored chunks), drawn by chance,
    are looked at; within them every usable pixel-date is as likely as any other.

    Parameters
    ----------
    cube
        The cube.
    n
        Number wanted; fewer are given if fewer are usable and have a value in every channel.
    seed
        The same seed draws the same pixel-dates.
    most
        Pixel-dates that are looked at, about.

    Raises
    ------
    ValueError
        If no number is wanted.
    """
    if n < 1:
        raise ValueError(f"a sample of {n} pixel-dates is none; ask for 1 or more")
    rng = np.random.default_rng(seed)
    boxes = _blocks(cube)
    size = [np.prod([part.stop - part.start for part in box]) for box in boxes]
    if sum(size) > most:
        order = rng.permutation(len(boxes))
        taken = max(int(np.searchsorted(np.cumsum(np.array(size)[order]), most)), 1)
        boxes = [boxes[at] for at in sorted(order[:taken])]
    counts = [int(np.count_nonzero(read(cube, "valid", box) == USABLE)) for box in boxes]
    wanted = rng.multivariate_hypergeometric(counts, min(n, sum(counts)), method="marginals")
    positions, codes = [np.empty((0, 3), np.int32)], [_none(cube)]
    for box, count in zip(boxes, wanted.tolist(), strict=True):
        if count:
            usable = np.argwhere(read(cube, "valid", box) == USABLE)
            chosen = rng.choice(len(usable), count, replace=False, shuffle=False)
            at = usable[np.sort(chosen)]
            t, y, x = at.T
            positions.append((at + [part.start for part in box]).astype(np.int32))
            codes.append(_main(cube, box, 0, len(cube.channels))[t, :, y, x])
    return _complete(cube, np.concatenate(positions), np.concatenate(codes))


def inside(
    cube: OpenCube, area: AOI, *, year: str = "", most: int = 4_000, seed: int = 0
) -> Sample:
    """Give the usable pixel-dates of an area, of all dates of a year.

    Parameters
    ----------
    cube
        The cube.
    area
        The area; its period does not count.
    year
        YYYY; empty for all years.
    most
        Pixels times dates at most; of a larger area some pixels are drawn by chance, each with
        all its dates.
    seed
        The same seed draws the same pixels.

    Raises
    ------
    ValueError
        If no pixel of the cube lies in the area.
    """
    (y0, _, x0, _), mask = window(area, cube.geobox)
    pixels = np.argwhere(mask) + (y0, x0)
    years = cube.times.astype("datetime64[Y]").astype(str)
    dates = np.flatnonzero((years == year) | (year == ""))
    if len(pixels) * len(dates) > most:
        count = max(most // max(len(dates), 1), 1)
        chosen = np.random.default_rng(seed).choice(len(pixels), count, replace=False)
        pixels = pixels[np.sort(chosen)]
    positions = np.empty((len(dates), len(pixels), 3), np.int32)
    positions[..., 0], positions[..., 1:] = dates[:, None], pixels
    flat = positions.reshape(-1, 3)
    flat = flat[_at(cube, "valid", flat)[:, 0] == USABLE]
    return _complete(cube, flat, _at(cube, cube.variable, flat))


def vectors(cube: OpenCube, codes: NDArray) -> NDArray[np.float32]:
    """Turn the stored numbers (n, channel) of a sample into physical values."""
    layers = [decode(cube, codes[:, at], name) for at, name in enumerate(cube.channels)]
    return np.stack(layers, axis=1)


def gather(cube: OpenCube, channels: list[str], positions: NDArray) -> dict[str, NDArray]:
    """Read channels, and indices of a band cube, at some pixel-dates.

    Parameters
    ----------
    cube
        The cube.
    channels
        Stored channels, indices or expressions.
    positions
        (n, 3) time, row and column, in any order.

    Returns
    -------
    dict
        Channel -> (n,) float32, NaN where there is no value.

    Raises
    ------
    ValueError
        If a channel is unknown or a position lies outside.
    """
    shape = cube.arrays["valid", 1].shape
    if len(positions) and not ((positions >= 0) & (positions < shape)).all():
        raise ValueError(f"some positions lie outside the cube {cube.name!r} of shape {shape}")
    return derive(
        cube,
        checked(cube, channels),
        lambda low, high: _at(cube, cube.variable, positions, low, high + 1),
    )


def usable(cube: OpenCube, positions: NDArray) -> NDArray[np.bool_]:
    """Tell which pixel-dates (n, 3) of a cube are usable."""
    found: NDArray[np.bool_] = _at(cube, "valid", positions)[:, 0] == USABLE
    return found


def _at(
    cube: OpenCube, variable: str, positions: NDArray, low: int = 0, high: int | None = None
) -> NDArray:
    """Read stored numbers (n, channel) at positions, block by block; one channel for ``valid``."""
    flags = variable == "valid"
    width = 1 if flags else (high or len(cube.channels)) - low
    out = np.empty((len(positions), width), cube.arrays[variable, 1].dtype)
    for box, members in _grouped(cube, positions):
        t, y, x = (positions[members] - [part.start for part in box]).T
        if flags:
            out[members, 0] = read(cube, "valid", box)[t, y, x]
        else:
            out[members] = _main(cube, box, low, low + width)[t, :, y, x]
    return out


def _grouped(cube: OpenCube, positions: NDArray) -> Iterator[tuple[Box, NDArray[np.intp]]]:
    """Give each block that holds some of the positions, and which of them."""
    edges = _edges(cube)
    shape = cube.arrays["valid", 1].shape
    blocks = positions // edges
    counts = [-(-size // edge) for size, edge in zip(shape, edges, strict=True)]
    keys = np.asarray(np.ravel_multi_index(tuple(blocks.T.astype(np.int64)), counts))
    order = np.argsort(keys, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if members.size:
            corner = (blocks[members[0]] * edges).tolist()
            yield _box(corner, edges, shape), members


def _blocks(cube: OpenCube) -> list[Box]:
    edges, shape = _edges(cube), cube.arrays["valid", 1].shape
    starts = (range(0, size, edge) for size, edge in zip(shape, edges, strict=True))
    return [_box(corner, edges, shape) for corner in product(*starts)]


def _box(
    corner: tuple[int, ...] | list[int], edges: tuple[int, ...], shape: tuple[int, ...]
) -> Box:
    t, y, x = (
        slice(at, min(at + edge, size)) for at, edge, size in zip(corner, edges, shape, strict=True)
    )
    return t, y, x


def _edges(cube: OpenCube) -> tuple[int, int, int]:
    dates, _, rows, columns = cube.arrays[cube.variable, 1].chunks
    return dates, rows, columns


def _main(cube: OpenCube, box: Box, low: int, high: int) -> NDArray:
    return read(cube, cube.variable, (box[0], slice(low, high), *box[1:]))


def _none(cube: OpenCube) -> NDArray:
    return np.empty((0, len(cube.channels)), cube.arrays[cube.variable, 1].dtype)


def _complete(cube: OpenCube, positions: NDArray, codes: NDArray) -> Sample:
    """Leave out the pixel-dates that lack a channel."""
    there = np.isfinite(codes) if cube.fill is None else codes != cube.fill
    whole = there.all(axis=1)
    return Sample(positions[whole], codes[whole])
