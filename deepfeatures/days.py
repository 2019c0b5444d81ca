"""One step per acquisition day: which acquisitions belong together, and their mosaic.

Arrays only.
"""

from __future__ import annotations

import numpy as np
import xarray as xr


def solar_day(time: np.ndarray, longitude: float) -> np.ndarray:
    """Give the day of each time in mean solar time at a longitude.

    Sentinel-2 passes at about 10:30 local solar time, so a solar day never cuts a pass in two,
    as the UTC day does near 157 degrees east.

    Parameters
    ----------
    time
        Times in UTC, datetime64 (n,).
    longitude
        Degrees east.

    Returns
    -------
    numpy.ndarray
        datetime64[D] (n,).
    """
    shift = np.timedelta64(round(longitude * 240), "s")
    return (np.asarray(time).astype("datetime64[s]") + shift).astype("datetime64[D]")


def mosaic(array: xr.DataArray, day: np.ndarray, *, missing: float = np.nan) -> xr.DataArray:
    """Merge the steps of each day: the first value that is not missing wins, pixel by pixel.

    Parameters
    ----------
    array
        Dims (time, ...), numpy or dask; steps of a day next to each other.
    day
        Label of each step (time,); equal labels are one day.
    missing
        The value that means "no value"; NaN or a number.

    Returns
    -------
    xarray.DataArray
        One step per day with the time of its first step; `array` itself if no day has two.
    """
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    if first.size == day.size:
        return array
    stop = np.r_[first[1:], day.size]
    merged = array.isel(time=first)
    for turn in range(1, int((stop - first).max())):
        index = np.where(first + turn < stop, first + turn, first)
        later = array.isel(time=index).assign_coords(time=merged["time"])
        present = merged.notnull() if np.isnan(missing) else merged != missing
        merged = merged.where(present, later)
    return merged.assign_attrs(array.attrs)
