"""The time axis of a foreign file: dates, order, days."""

from __future__ import annotations

import numpy as np

from deepfeatures.bands import BANDS
from deepfeatures.foreign.plain import Plain


def dated(plain: Plain, date: str | None) -> Plain:
    """Give a time axis of dates to a dataset.

    Parameters
    ----------
    plain
        Its ``time`` may be missing.
    date
        Day of a dataset without a time axis, ``YYYY-MM-DD``.

    Raises
    ------
    ValueError
        If the day is missing or none, or the times are no dates.
    """
    data = plain.data
    if "time" in data.dims:
        if "time" not in data.coords or data["time"].dtype.kind != "M":
            raise ValueError(
                "the times of the file are no dates; write them as CF times (days since ...)"
            )
        if np.isnat(data["time"].values).any():
            raise ValueError("the times of the file have gaps (NaT); remove these steps first")
        return plain.then(data.assign_coords(time=data["time"].values.astype("datetime64[ns]")))
    if date is None:
        raise ValueError("the file has no time axis; say its day with date='YYYY-MM-DD'")
    try:
        step = np.array([np.datetime64(date, "ns")])
    except ValueError:
        raise ValueError(f"the date {date!r} is not a day; write it as YYYY-MM-DD") from None
    data = data.drop_vars("time", errors="ignore")
    for name in [name for name in data if str(name) in (*BANDS, "SCL", "mask")]:
        data[name] = data[name].expand_dims(time=step)
    for name in [name for name in data if str(name) in ("VV", "VH")]:
        data[name] = data[name].expand_dims(time_s1=step)
    return plain.then(data, f"the day {date} given by the user")


def ordered(plain: Plain) -> tuple[Plain, np.ndarray]:
    """Sort the steps: by day, within a day the newest baseline first, then by time.

    Returns
    -------
    tuple
        The sorted dataset and the day of each step, datetime64[D] (time,).
    """
    data = plain.data
    time = data["time"].values
    day = time.astype("datetime64[D]")
    baseline = data["baseline"].values if "baseline" in data else np.zeros(time.size)
    order = np.lexsort((time, -baseline, day))
    words: list[str] = []
    if np.array_equal(order, np.arange(time.size)[::-1]) and time.size > 1:
        data = data.isel(time=slice(None, None, -1))
        words.append("time turned: oldest first")
    elif not np.array_equal(order, np.arange(time.size)):
        data = data.isel(time=order)
        words.append("time sorted")
    for name in ("time_s1", "time_meteo"):
        if name in data.dims and name in data.coords:
            data = data.sortby(name)
    return plain.then(data, *words), day[order]
