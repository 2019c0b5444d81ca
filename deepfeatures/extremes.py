"""Compound heat and drought in daily weather, as in DeepExtremeCubes and Dheed.

A day is hot where its maximum temperature is above the 99th percentile, and dry where the mean
over 30, 90 or 180 days of precipitation minus evaporation (PEI) is below the 1st; compound where
it is both. The percentiles are ranks over the whole record of a place, without season, so the
share of flagged days is fixed by construction (Weynants et al. 2025,
doi:10.5194/essd-17-6621-2025; Ji et al. 2024, arXiv:2406.18179). Arrays only; the first axis is
the day, without gaps; further axes (y, x) are places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

WINDOWS = (30, 90, 180)
"""Days over which the balance of water is averaged."""

HEAT, NORMAL = 1, 16
BITS: dict[str, int] = {"heat": HEAT, "pei_30": 2, "pei_90": 4, "pei_180": 8, "normal": NORMAL}
"""Bits of `events`: bit 1 to bit 5 of the reference."""
DROUGHT = 2 | 4 | 8

EVENT_FLAGS: dict[str, object] = {
    "flag_masks": list(BITS.values()),
    "flag_meanings": " ".join(BITS),
    "comment": "heat: P(daily maximum temperature) > 0.99; pei_*: P(mean of precipitation minus "
    "evaporation over the last 30, 90, 180 days) < 0.01; normal: all four within 0.1..0.9; "
    "0: neither, or without a value",
}
"""Attributes of a variable with such bits."""


def water_balance(precipitation: Array, evaporation: Array, window: int) -> Array:
    """Give the precipitation-evaporation index: the mean over the last `window` days [mm d-1].

    Parameters
    ----------
    precipitation, evaporation
        ``(day, ...)`` [mm d-1]; evaporation counts positive upwards, and is reference
        evapotranspiration in Dheed.
    window
        Days, today included.

    Returns
    -------
    numpy.ndarray
        NaN where a day of the window has no value, and on the first ``window - 1`` days (the
        reference averages what there is so far, which makes single days into extremes).
    """
    balance = np.asarray(precipitation, np.float64) - np.asarray(evaporation, np.float64)
    made = np.full_like(balance, np.nan)
    if balance.shape[0] < window:
        return made
    gone = ~np.isfinite(balance)
    total = _moving_sum(np.where(gone, 0.0, balance), window)
    whole = _moving_sum(gone.astype(np.int64), window) == 0
    made[window - 1 :] = np.where(whole, total / window, np.nan)
    return made


def _moving_sum(values: np.ndarray, window: int) -> np.ndarray:
    total = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    return total[window:] - total[:-window]


def indicators(
    temperature_max: Array, precipitation: Array, evaporation: Array
) -> dict[str, Array]:
    """Give the four indicators ``heat`` [degC] and ``pei_30``, ``pei_90``, ``pei_180`` [mm d-1].

    Parameters
    ----------
    temperature_max
        ``(day, ...)`` [degC].
    precipitation, evaporation
        As for `water_balance`.
    """
    found = {"heat": np.asarray(temperature_max, np.float64)}
    for window in WINDOWS:
        found[f"pei_{window}"] = water_balance(precipitation, evaporation, window)
    return found


def ranks(values: Array, reference: NDArray[np.bool_] | None = None) -> Array:
    """Give the rank of each day in its record, i/n with i = 1 for the smallest of n values.

    Equal values are ranked in the order of time, as in the reference, so that every rank is taken
    once. Days without a value have none.

    Parameters
    ----------
    values
        ``(day, ...)``.
    reference
        ``(day,)`` days that make the record; all by default. Other days get the share of the
        record that is not above them.

    Returns
    -------
    numpy.ndarray
        ``(day, ...)`` in 0..1, NaN where there is no value.
    """
    values = np.asarray(values, np.float64)
    inside = np.ones(values.shape[0], bool) if reference is None else np.asarray(reference, bool)
    record = values[inside]
    count = np.isfinite(record).sum(axis=0)
    order = np.argsort(np.where(np.isfinite(record), record, np.nan), axis=0, kind="stable")
    places = np.arange(1, record.shape[0] + 1).reshape(-1, *[1] * (values.ndim - 1))
    ranked = np.empty(record.shape, np.int64)
    np.put_along_axis(ranked, order, np.broadcast_to(places, record.shape), axis=0)
    made = np.full(values.shape, np.nan)
    made[inside] = ranked
    if not inside.all():
        made[~inside] = _not_above(values[~inside], np.take_along_axis(record, order, 0), count)
    with np.errstate(invalid="ignore", divide="ignore"):
        made = made / count
    return np.where(np.isfinite(values), made, np.nan)


def _not_above(values: Array, ordered: Array, count: NDArray[np.int64]) -> Array:
    """Count the values of an ordered record that are not above others, place by place."""
    flat, sorted_flat = values.reshape(values.shape[0], -1), ordered.reshape(ordered.shape[0], -1)
    counts = np.atleast_1d(count).ravel()
    made = np.empty(flat.shape)
    for at, n in enumerate(counts):
        made[:, at] = np.searchsorted(sorted_flat[:n, at], flat[:, at], side="right")
    return made.reshape(values.shape)


def flagged(days: int, share: float = 0.01) -> int:
    """Give the number of days of a record with a rank strictly below `share`."""
    return int(np.count_nonzero(np.arange(1, days + 1) / max(days, 1) < share))


def detect(
    found: Mapping[str, Array],
    *,
    reference: NDArray[np.bool_] | None = None,
    share: float = 0.01,
    middle: float = 0.1,
) -> NDArray[np.uint8]:
    """Give the events of each day as bits.

    Parameters
    ----------
    found
        What `indicators` gives.
    reference
        Days that make the record, as for `ranks`.
    share
        Share of the record that counts as extreme; strictly fewer days are flagged.
    middle
        A day is normal where all indicators lie strictly within ``middle .. 1 - middle``.

    Returns
    -------
    numpy.ndarray
        uint8 ``(day, ...)`` of `BITS`.
    """
    shape = next(iter(found.values())).shape
    made, normal = np.zeros(shape, np.uint8), np.ones(shape, bool)
    for name, values in found.items():
        # heat lies at the upper end of its record
        rank = ranks(-values if name == "heat" else values, reference)
        made |= np.where(rank < share, BITS[name], 0).astype(np.uint8)
        normal &= (rank > middle) & (rank < 1 - middle)
    return made | np.where(normal, NORMAL, 0).astype(np.uint8)


def compound(events: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell the days that are hot and dry at once."""
    hot: NDArray[np.bool_] = (events & HEAT) > 0
    return hot & ((events & DROUGHT) > 0)


def label(flags: NDArray[np.bool_], *, gap: int = 0, shortest: int = 3) -> NDArray[np.uint16]:
    """Give each persistent event a number, in the order of time.

    Days that follow each other are one event, and on a grid also neighbours in space and time,
    corners included (Dheed joins faces only).

    Parameters
    ----------
    flags
        ``(day,)`` or ``(day, y, x)``.
    gap
        Days without a flag that do not end an event.
    shortest
        Flagged days that an event needs at least; 3 in Dheed.

    Returns
    -------
    numpy.ndarray
        uint16 like `flags`; 0 outside of events, in their gaps too.

    Raises
    ------
    ValueError
        If there are more events than uint16 can number.
    """
    flags = np.asarray(flags, bool)
    parts, count = ndimage.label(_closed(flags, gap), np.ones((3,) * flags.ndim))
    parts = np.where(flags, parts, 0)
    if count == 0:
        return np.zeros(flags.shape, np.uint16)
    day = np.broadcast_to(
        np.arange(flags.shape[0]).reshape(-1, *[1] * (flags.ndim - 1)), flags.shape
    )
    pairs = np.unique(np.stack([parts[flags], day[flags]]), axis=1)
    numbers, first, length = np.unique(pairs[0], return_index=True, return_counts=True)
    kept = length >= shortest
    by_time = numbers[kept][np.argsort(pairs[1][first][kept], kind="stable")]
    if by_time.size > np.iinfo(np.uint16).max:
        raise ValueError(
            f"there are {by_time.size} events and uint16 numbers 65535; ask for longer events"
        )
    new = np.zeros(count + 1, np.uint16)
    new[by_time] = np.arange(1, by_time.size + 1)
    return new[parts]


def _closed(flags: NDArray[np.bool_], gap: int) -> NDArray[np.bool_]:
    """Fill the gaps of up to `gap` days between flagged days of a place."""
    if gap == 0:
        return flags
    day = np.arange(flags.shape[0]).reshape(-1, *[1] * (flags.ndim - 1))
    before = np.maximum.accumulate(np.where(flags, day, -flags.shape[0] - gap), axis=0)
    later = np.where(flags, day, 2 * flags.shape[0] + gap)
    after = np.minimum.accumulate(later[::-1], axis=0)[::-1]
    return after - before <= gap + 1


@dataclass(frozen=True)
class Event:
    """One persistent event."""

    label: int
    """Its number in `label`."""
    start: np.datetime64
    """First day."""
    end: np.datetime64
    """Last day."""
    days: int
    """Flagged days."""
    places: int
    """Places that it touched; 1 for a single record."""
    bits: int
    """All bits that occurred in it."""
    peaks: dict[str, float]
    """Largest ``heat`` [degC] and smallest ``pei_*`` [mm d-1]."""


def table(
    labels: NDArray[np.uint16],
    events: NDArray[np.uint8],
    found: Mapping[str, Array],
    days: NDArray[np.datetime64],
) -> list[Event]:
    """List the events of `label` with their dates and peaks.

    Parameters
    ----------
    labels, events
        What `label` and `detect` gave.
    found
        What `indicators` gave.
    days
        ``(day,)`` datetime64.
    """
    made = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        inside = labels == number
        touched = np.flatnonzero(inside.reshape(inside.shape[0], -1).any(axis=1))
        peaks = {
            name: -_least(-v[inside]) if name == "heat" else _least(v[inside])
            for name, v in found.items()
        }
        made.append(
            Event(
                label=number,
                start=days[touched[0]].astype("datetime64[D]"),
                end=days[touched[-1]].astype("datetime64[D]"),
                days=touched.size,
                places=int(inside.any(axis=0).sum()),
                bits=int(np.bitwise_or.reduce(events[inside])),
                peaks=peaks,
            )
        )
    return made


def _least(values: Array) -> float:
    there = values[np.isfinite(values)]
    return float(there.min()) if there.size else float("nan")
