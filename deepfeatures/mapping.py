"""Maps of a cube by its features: what is similar, groups, classes, change; tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import reading
from deepfeatures.aoi import AOI, to_geojson, window
from deepfeatures.clouds import USABLE
from deepfeatures.find import change as changing
from deepfeatures.find import classify as classifying
from deepfeatures.find import clusters, labels
from deepfeatures.find.course import PARTS, course
from deepfeatures.find.similarity import similarity, usable
from deepfeatures.layers import Layer, pixel_ha
from deepfeatures.tiles import Tile, split

MAX_PIXELS = 4_000_000
"""Most pixels of a cube that is mapped at once."""
MAX_PIXEL_DATES = 2_000_000_000
"""Most pixels times dates that are read for one map."""
MAX_AREA_PIXELS = 250_000
"""Largest reference area [px]."""
GAP = 100.0
"""Labels not farther apart than this are never on both sides of a validation [m]."""
EDGE = 64
"""Edge of the windows that are read at once [px]: that of a stored chunk."""
THREADS = 2
"""Windows that are worked on side by side."""

Progress = Callable[[int, int], None] | None
Cancelled = Callable[[], bool] | None
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Classified:
    """A classification: its maps, and how far to trust them."""

    layer: Layer
    """The class of each pixel."""
    chances: Layer
    """The probability of each class, a map each."""
    validation: classifying.Validation
    """What blocks of labels say that were left out."""
    used: int
    """Labels that are usable; the others lie on pixels without a value."""


@dataclass(frozen=True, eq=False)
class Changed:
    """A map of change, and how much area changed by how much."""

    layer: Layer
    """The distance of each pixel."""
    edges: NDArray[np.float64]
    """(bin + 1,) edges of the chart."""
    areas: NDArray[np.float64]
    """(bin,) areas [ha]."""
    missing: float
    """Area that can not be compared [ha]."""


def similar(
    cube: reading.OpenCube,
    place: tuple[float, float] | AOI,
    *,
    method: str = "cosine",
    when: str = "",
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Layer:
    """Map how alike each pixel is to a pixel or to the mean of an area.

    Parameters
    ----------
    cube
        A cube; its stored channels are the features.
    place
        Longitude and latitude [degrees], or an area.
    method
        ``cosine`` or ``euclid``, see `find.similarity.similarity`.
    when
        Empty for all dates, a year (``2021``), or a date (``2021-07-03``).
    progress, cancelled
        Told of windows done; asked between windows.

    Raises
    ------
    ValueError
        If the place lies outside or is never usable, or the cube is too large.
    InterruptedError
        If `cancelled` said so.
    """
    times = dates(cube, when)
    reference = _reference(cube, place, times)
    seen = usable(reference[..., None])[:, 0]
    if not seen.any():
        raise ValueError("the place is usable on no date; choose another one, or other dates")
    found = _mapped(
        cube, times, lambda block: similarity(block, reference[seen], method)[None], 1,
        only=seen, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    where: Any = to_geojson(place)["geometry"] if isinstance(place, AOI) else list(place)
    what = "an area" if isinstance(place, AOI) else f"{place[0]:.5f}, {place[1]:.5f}"
    return _layer(
        cube, "similar", f"Similarity to {what} ({method}), {said(when)}",
        {"place": where, "method": method, "when": when}, (method,), found, times,
    )  # fmt: skip


def groups(
    cube: reading.OpenCube,
    k: int,
    *,
    when: str = "",
    seed: int = 0,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Layer:
    """Map `k` groups of pixels with alike features; the first group is the largest.

    Parameters
    ----------
    cube
        A cube; its stored channels are the features.
    k
        Number of groups, 2 to `find.clusters.MOST`.
    when
        A date for its features; a year, or empty for all dates, for mean and yearly wave.
    seed
        Seed of the search.
    progress, cancelled
        As in `similar`.

    Raises
    ------
    ValueError
        If `k` or the date is wrong, or the cube is too large.
    InterruptedError
        If `cancelled` said so.
    """
    if not 2 <= k <= clusters.MOST:
        raise ValueError(f"{k} groups can not be made; ask for 2 to {clusters.MOST}")
    times = dates(cube, when)
    summary = _summary(cube, times, when)
    width = len(cube.channels) * (1 if _single(when) else len(PARTS))
    rows = _mapped(cube, times, summary, width, progress=progress, cancelled=cancelled)
    found = clusters.kmeans(rows.reshape(width, -1).T, k, seed)
    return _layer(
        cube, "groups", f"{k} groups by features, {said(when)}",
        {"k": k, "when": when, "seed": seed}, ("group",),
        found.codes.reshape(1, *rows.shape[1:]), times,
        tuple(f"Group {number}" for number in range(1, k + 1)),
    )  # fmt: skip


def classify(
    cube: reading.OpenCube,
    marked: Sequence[labels.Label],
    *,
    method: str = "logistic",
    when: str = "",
    gap: float = GAP,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Classified:
    """Map the classes of some labelled pixels, with probabilities and an honest validation.

    Parameters
    ----------
    cube
        A cube; its stored channels are the features.
    marked
        Labelled places.
    method
        One of `find.classify.METHODS`.
    when
        As in `groups`.
    gap
        Labels not farther apart are kept on one side of the validation [m].
    progress, cancelled
        As in `similar`.

    Raises
    ------
    ValueError
        If labels lie outside, are too few or too many, or the cube is too large.
    InterruptedError
        If `cancelled` said so.
    """
    names = labels.classes(marked)
    times = dates(cube, when)
    summary = _summary(cube, times, when)
    places = [reading.locate(cube, label.lon, label.lat) for label in marked]
    samples = np.concatenate([summary(_pixel(cube, times, *at)) for at in places], axis=1).T
    codes = np.array([names.index(label.name) + 1 for label in marked])
    there = np.isfinite(samples).all(axis=1)
    samples, codes = samples[there], codes[there]
    where = np.array(places, np.float64)[there] * cube.grid.resolution
    model = classifying.train(samples, codes, method)
    validation = classifying.validate(
        samples, codes, classifying.blocks(where, gap), k=len(names), method=method
    )

    def told(block: Vectors) -> NDArray[Any]:
        found = classifying.predict(model, summary(block).T, len(names))
        return np.concatenate([found[0][None].astype(np.float32), found[1]])

    planes = _mapped(cube, times, told, 1 + len(names), progress=progress, cancelled=cancelled)
    settings = {"method": method, "when": when, "gap_m": gap, "labels": labels.to_geojson(marked)}
    title = f"{len(names)} classes of {int(there.sum())} labels ({method}), {said(when)}"
    layer = _layer(cube, "classify", title, settings, ("class",), planes[:1].astype(np.uint8),
                   times, names)  # fmt: skip
    chances = _layer(cube, "probability", f"Probability of {title}", settings, names, planes[1:],
                     times)  # fmt: skip
    return Classified(layer, chances, validation, int(there.sum()))


def change(
    cube: reading.OpenCube,
    before: str,
    after: str,
    *,
    edges: Sequence[float] | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Changed:
    """Map how far each pixel moved in feature space between two dates or two years.

    Years are compared month by month, on the months in which both have a usable date.

    Parameters
    ----------
    cube
        A cube; its stored channels are the features.
    before, after
        Two dates (``2021-07-03``) or two years (``2021``).
    edges
        Edges of the bins of the chart, rising.
    progress, cancelled
        As in `similar`.

    Raises
    ------
    ValueError
        If a date or year is not there, or one is a date and the other a year.
    InterruptedError
        If `cancelled` said so.
    """
    if not before or not after or _single(before) != _single(after):
        raise ValueError(f"{before!r} and {after!r} can not be compared; give two dates or years")
    first, second = dates(cube, before), dates(cube, after)
    both = slice(min(first.start, second.start), max(first.stop, second.stop))
    parts = [slice(one.start - both.start, one.stop - both.start) for one in (first, second)]
    month = cube.times[both].astype("datetime64[M]").astype(int) % 12

    def moved(block: Vectors) -> Vectors:
        states = [block[part] for part in parts]
        if not _single(before):
            states = [changing.months(s, month[p]) for s, p in zip(states, parts, strict=True)]
        return changing.change(*states)[None]

    # of two dates far apart only these are read
    times = [first, second] if _single(before) else both
    if _single(before):
        parts = [slice(0, 1), slice(1, 2)]
    found = _mapped(cube, times, moved, 1, progress=progress, cancelled=cancelled)
    limits, areas, missing = changing.bins(found, pixel_ha(cube), edges)
    layer = _layer(cube, "change", f"Change of features from {before} to {after}",
                   {"before": before, "after": after}, ("change",), found, both)  # fmt: skip
    return Changed(layer, limits, areas, missing)


def years(cube: reading.OpenCube) -> list[str]:
    """Give the years in which a cube has dates."""
    return [str(year) for year in np.unique(cube.times.astype("datetime64[Y]"))]


def said(when: str) -> str:
    """Say a period in words."""
    return when or "all dates"


def _single(when: str) -> bool:
    return len(when) > 4


def dates(cube: reading.OpenCube, when: str) -> slice:
    """Give the places of the dates of a period: all, those of a year, or one date.

    Raises
    ------
    ValueError
        If the cube has no date there.
    """
    if not when:
        return slice(0, len(cube.times))
    if _single(when):
        at = reading.step(cube, when)
        return slice(at, at + 1)
    if when not in years(cube):
        raise ValueError(f"{cube.name!r} has no date in {when!r}; it has {', '.join(years(cube))}")
    found = np.flatnonzero(cube.times.astype("datetime64[Y]").astype(str) == when)
    return slice(int(found[0]), int(found[-1]) + 1)


@lru_cache(maxsize=32)
def spread(cube: reading.OpenCube) -> tuple[Vectors, Vectors]:
    """Give mean and deviation (feature,) of the usable pixels of a few dates of a cube."""
    pools = [reading.sample(cube, channel).astype(np.float64) for channel in cube.channels]
    if not all(pool.size for pool in pools):
        raise ValueError(f"{cube.name!r} has no usable pixel on the dates that were looked at")
    mean, deviation = zip(*((pool.mean(), pool.std()) for pool in pools), strict=True)
    wide = [one if one > 0 else 1.0 for one in deviation]
    return np.array(mean, np.float32), np.array(wide, np.float32)


def vectors(
    cube: reading.OpenCube,
    times: slice,
    rows: slice,
    columns: slice,
    only: NDArray[np.bool_] | None = None,
) -> Vectors:
    """Read features in units of the spread: (time, feature, pixel), NaN where not usable.

    `only` tells which of the dates are wanted; all by default.
    """
    mean, deviation = spread(cube)
    box = (times, slice(0, len(cube.channels)), rows, columns)
    stored = reading.read(cube, cube.variable, box)
    gone = reading.read(cube, "valid", (times, rows, columns)) != USABLE
    if only is not None:
        stored, gone = stored[only], gone[only]
    scale = (np.array(cube.scales, np.float32) / deviation)[:, None, None]
    shift = ((np.array(cube.offsets, np.float32) - mean) / deviation)[:, None, None]
    found = stored.astype(np.float32)
    found *= scale
    found += shift
    if cube.fill is not None:
        gone |= (stored == cube.fill).any(axis=1)
    np.copyto(found, np.float32(np.nan), where=gone[:, None])
    return found.reshape(*found.shape[:2], -1)


def _pixel(cube: reading.OpenCube, times: slice, row: int, column: int) -> Vectors:
    return vectors(cube, times, slice(row, row + 1), slice(column, column + 1))


def _reference(cube: reading.OpenCube, place: tuple[float, float] | AOI, times: slice) -> Vectors:
    """Give the features (time, feature) of a pixel, or the means of an area's usable pixels."""
    if not isinstance(place, AOI):
        return _pixel(cube, times, *reading.locate(cube, *place))[..., 0]
    (y0, y1, x0, x1), inside = window(place, cube.geobox)
    if inside.size > MAX_AREA_PIXELS:
        raise ValueError(
            f"the area of {inside.size:,} pixels is too large to be a reference; draw one of at "
            f"most {MAX_AREA_PIXELS:,}"
        )
    total = np.zeros((times.stop - times.start, len(cube.channels)), np.float64)
    count = np.zeros(len(total), np.int64)
    for tile in split((y1 - y0, x1 - x0), EDGE):
        rows, columns = tile.core
        kept = inside[rows, columns].ravel()
        block = vectors(cube, times, slice(y0 + tile.y0, y0 + tile.y1),
                        slice(x0 + tile.x0, x0 + tile.x1))[..., kept]  # fmt: skip
        there = usable(block)
        total += np.where(there[:, None], block, 0).sum(axis=-1)
        count += there.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count[:, None]).astype(np.float32)


def _summary(cube: reading.OpenCube, times: slice, when: str) -> Callable[[Vectors], Vectors]:
    """Give what makes (column, pixel) of vectors: features of a date, or the yearly course."""
    if _single(when):
        return lambda block: block[0]
    days = cube.times[times].astype("datetime64[D]").astype(np.int64)
    return lambda block: course(block, days)


def _mapped(
    cube: reading.OpenCube,
    times: slice | list[slice],
    work: Callable[[Vectors], NDArray[Any]],
    planes: int,
    *,
    only: NDArray[np.bool_] | None = None,
    progress: Progress,
    cancelled: Cancelled,
) -> NDArray[np.float32]:
    """Work on all windows of a cube; gives (plane, y, x)."""
    shape = cube.grid.height, cube.grid.width
    parts = times if isinstance(times, list) else [times]
    _check(cube, sum(part.stop - part.start for part in parts))
    out = np.empty((planes, *shape), np.float32)
    windows = split(shape, EDGE)

    def one(tile: Tile) -> None:
        if cancelled is not None and cancelled():
            raise InterruptedError("cancelled")
        blocks = [vectors(cube, part, *tile.core, only) for part in parts]
        block = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        size = tile.y1 - tile.y0, tile.x1 - tile.x0
        out[(slice(None), *tile.core)] = work(block).reshape(planes, *size)

    with ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(one, windows), 1):
            if progress is not None:
                progress(done, len(windows))
    return out


def _check(cube: reading.OpenCube, count: int) -> None:
    if cube.kind == "layer":
        raise ValueError(f"{cube.name!r} is a layer; choose the cube of features that it is of")
    pixels = cube.grid.height * cube.grid.width
    if pixels > MAX_PIXELS or pixels * count > MAX_PIXEL_DATES:
        raise ValueError(
            f"{cube.name!r} with {pixels:,} pixels at {count} dates is too large for one map "
            f"(limits: {MAX_PIXELS:,} pixels, {MAX_PIXEL_DATES:,} pixel-dates); compute the "
            "features of a smaller area, or choose a shorter period"
        )


def _layer(
    cube: reading.OpenCube,
    method: str,
    title: str,
    settings: dict[str, Any],
    channels: tuple[str, ...],
    values: NDArray[Any],
    times: slice,
    classes: tuple[str, ...] = (),
) -> Layer:
    return Layer(
        source=cube.name, version=cube.version, title=f"{title}: {cube.name}", method=method,
        settings=settings, channels=channels, values=values, classes=classes,
        day=cube.times[times.stop - 1].astype("datetime64[D]"),
    )  # fmt: skip
