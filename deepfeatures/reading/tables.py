"""Series as CSV: each row says the place, its coordinates and its geometry."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

LONGEST = 2_000
"""Characters of a geometry that every row repeats; a longer one stands in the first row only."""


@dataclass(frozen=True, eq=False)
class Entry:
    """The series of one place in one cube."""

    cube: str
    """Name of the cube."""
    place: str
    """Id of the place: letters, digits, ``-`` and ``_``."""
    geometry: BaseGeometry
    """Point or polygon, lon/lat in degrees (WGS84)."""
    times: NDArray[np.datetime64]
    """(time,) acquisitions, UTC."""
    values: Mapping[str, NDArray[np.floating]]
    """Column -> (time,) values."""
    usable: NDArray[Any]
    """(time,) whether a pixel is usable, or how many pixels of an area are."""


def wkt(geometry: BaseGeometry, times: int) -> list[str]:
    """Write a geometry for each of some rows, with 7 decimals (1 cm)."""
    text = shapely.to_wkt(geometry, rounding_precision=7)
    return [text if row == 0 or len(text) <= LONGEST else "" for row in range(times)]


def text(columns: Mapping[str, Iterable[Any]]) -> str:
    """Write columns of equal length as CSV; None and NaN become empty fields.

    Raises
    ------
    ValueError
        If the columns differ in length.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(written(column) for column in columns.values()), strict=True))
    return out.getvalue()


def written(column: Iterable[Any]) -> list[Any]:
    """Give what a column writes: dates as ISO text, floats as the shortest text of their value."""
    array = column if isinstance(column, np.ndarray) else None
    if array is None:
        return list(column)
    if array.dtype.kind == "M":
        return list(np.datetime_as_string(array, unit="s").tolist())
    if array.dtype.kind == "f":
        return ["" if text == "nan" else text for text in array.astype(str).tolist()]
    return list(array.astype(np.int64).tolist() if array.dtype.kind == "b" else array.tolist())


def tidy(entries: Iterable[Entry]) -> str:
    """Write many series as one long table, a row for each place, channel and date.

    The columns are ``place``, ``lon``, ``lat`` (of a point, or the centre of an area),
    ``geometry`` (WKT), ``cube``, ``time``, ``channel``, ``value`` and ``usable``.
    """
    names = "place", "lon", "lat", "geometry", "cube", "time", "channel", "value", "usable"
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for entry in entries:
        count = entry.times.size
        centre = entry.geometry.centroid
        for channel, values in entry.values.items():
            rows = (
                [entry.place] * count,
                [f"{centre.x:.7f}"] * count,
                [f"{centre.y:.7f}"] * count,
                wkt(entry.geometry, count),
                [entry.cube] * count,
                written(entry.times),
                [channel] * count,
                written(np.asarray(values, np.float32)),
                written(entry.usable),
            )
            for name, row in zip(names, rows, strict=True):
                columns[name].extend(row)
    return text(columns)
