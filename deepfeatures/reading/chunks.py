"""Stored numbers through a bounded cache of decoded chunks that all threads share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from deepfeatures.reading.opened import OpenCube

CACHE_BYTES = 512 * 1024**2
"""Bytes of decoded chunks that one process keeps."""


class Cache:
    """Least recently used arrays under a limit of bytes, safe between threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._held: OrderedDict[Any, NDArray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> NDArray | None:
        """Give an array and remember that it was used."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def put(self, key: Any, array: NDArray) -> None:
        """Keep an array; the least recently used ones go."""
        with self._lock:
            previous = self._held.pop(key, None)
            self.size += array.nbytes - (0 if previous is None else previous.nbytes)
            self._held[key] = array
            while self.size > self.limit:
                self.size -= self._held.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self.size = 0


CHUNKS = Cache(CACHE_BYTES)
"""The decoded chunks of this process."""

_LOADING = tuple(threading.Lock() for _ in range(64))


def read(cube: OpenCube, variable: str, box: tuple[slice, ...], *, level: int = 1) -> NDArray:
    """Read stored numbers through the cache.

    Parameters
    ----------
    cube
        The cube.
    variable
        The main array or ``valid``.
    box
        One slice with start and stop for each dimension.
    level
        Overview factor.

    Returns
    -------
    array
        Stored (not decoded) numbers of the box.
    """
    array = cube.arrays[variable, level]
    edges = array.chunks
    spans = [range(s.start // n, -(-s.stop // n)) for s, n in zip(box, edges, strict=True)]
    out = np.empty([s.stop - s.start for s in box], array.dtype)
    for place, chunk in _chunks(cube, variable, level, spans):
        target, source = [], []
        for at, edge, size, s in zip(place, edges, chunk.shape, box, strict=True):
            low, high = max(at * edge, s.start), min(at * edge + size, s.stop)
            target.append(slice(low - s.start, high - s.start))
            source.append(slice(low - at * edge, high - at * edge))
        out[tuple(target)] = chunk[tuple(source)]
    return out


def _chunks(
    cube: OpenCube, variable: str, level: int, spans: Sequence[range]
) -> Iterator[tuple[tuple[int, ...], NDArray]]:
    """Give the decoded chunks at some positions, loading those that the cache lacks."""
    stem = (cube.url, cube.version, variable, level)
    places = list(product(*spans))
    found = {place: CHUNKS.get((*stem, place)) for place in places}
    if any(chunk is None for chunk in found.values()):
        # Tiles that are asked for together share chunks: one loads, the others wait for it.
        with _LOADING[hash((*stem, spans[0].start, spans[1].start)) % len(_LOADING)]:
            missing = []
            for place in places:
                if found[place] is None and (chunk := CHUNKS.get((*stem, place))) is not None:
                    found[place] = chunk
                elif found[place] is None:
                    missing.append(place)
            for place, chunk in _load(cube.arrays[variable, level], missing):
                CHUNKS.put((*stem, place), chunk)
                found[place] = chunk
    for place, held in found.items():
        if held is not None:
            yield place, held


def _load(
    array: zarr.Array, places: list[tuple[int, ...]]
) -> Iterator[tuple[tuple[int, ...], NDArray]]:
    """Read whole chunks: one request for each run of neighbouring channels."""
    if array.ndim == 4:
        used = sorted({place[1] for place in places})
        groups = [
            [place for place in places if first <= place[1] <= last] for first, last in runs(used)
        ]
    else:
        groups = [places] if places else []
    for group in groups:
        low, high = np.min(group, axis=0), np.max(group, axis=0) + 1
        box = [
            slice(a * n, min(b * n, size))
            for a, b, n, size in zip(low, high, array.chunks, array.shape, strict=True)
        ]
        block = np.asarray(array[tuple(box)])
        for place in group:
            part = tuple(
                slice((at - a) * n, (at - a + 1) * n)
                for at, a, n in zip(place, low, array.chunks, strict=True)
            )
            yield place, block[part].copy()


def gathered(
    cube: OpenCube, channels: Iterable[str], fetch: Callable[[int, int], NDArray]
) -> dict[str, NDArray]:
    """Give the stored numbers (time, ...) of some channels.

    `fetch` gives those (time, channel, ...) of a run of neighbouring channels, first to last.
    """
    found: dict[str, NDArray] = {}
    for low, high in runs(sorted({cube.channels.index(channel) for channel in channels})):
        block = fetch(low, high)
        found |= {cube.channels[at]: block[:, at - low] for at in range(low, high + 1)}
    return found


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Give first and last of each run of consecutive numbers."""
    grouped = groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    runs = [[number for _, number in group] for _, group in grouped]
    return [(run[0], run[-1]) for run in runs]
