"""The plain form, into which each foreign form is translated before it becomes a cube.

A plain dataset has one variable per band (``B02`` ..., dims ``time, y, x`` in any order, with the
CF attributes ``scale_factor``, ``add_offset``, ``_FillValue``), and where the source has them

* ``SCL``: Sen2Cor classes; ``mask``: codes of `valid` (uint8) from the source's own cloud mask;
* ``offset (time)``: what is added to the reflectance of each step; ``baseline (time)``: processing
  baseline, of which the newest is the first of its day;
* ``VV``, ``VH (time_s1, y, x)`` in dB, ``orbit (time_s1)``; scene angles (time,);
* weather on ``time_meteo``, ``dem``, ``label_*``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from deepfeatures.bands import BANDS

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
"""Scene angles (time,), degrees."""

CLOUDSEN = {0: 1, 1: 2, 2: 2, 3: 3}
"""Classes of CloudSEN12 networks (clear, thick cloud, thin cloud, shadow) -> codes of `valid`."""

RESERVED = ("mask", "offset", "baseline", "nbar", "orbit")
"""Names that mean something in the plain form, and may mean something else in a file."""

_COLOURS = {band.common_name: name for name, band in BANDS.items()} | {
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir08": "B8A",
    "nir09": "B09",
}
_NAME = re.compile(r"(?:B)(\d{1,2}|8A)(?:_(\d+)m)?", re.IGNORECASE)
_METRES = re.compile(r"_(\d+)m$")


@dataclass(frozen=True)
class Plain:
    """A dataset in plain form, and what was done to it so far."""

    form: str
    """Name of the form in which it came."""
    data: xr.Dataset
    changes: tuple[str, ...] = ()
    """Sentences for the attribute ``processing``."""

    def then(self, data: xr.Dataset, *changes: str) -> Plain:
        """Give the next state: other data, and why."""
        return replace(self, data=data, changes=(*self.changes, *changes))


def band_name(label: str) -> str | None:
    """Give our name of a band or class layer: ``B4``, ``B04_10m``, ``red`` are ``B04``.

    Returns
    -------
    str or None
        A name of `bands.BANDS`, ``SCL``, or None for what is neither.
    """
    word = label.strip()
    if _METRES.sub("", word).upper() == "SCL":
        return "SCL"
    found = _NAME.fullmatch(word)
    if found is None:
        return _COLOURS.get(word.lower())
    number = found[1].upper()
    name = f"B{number}" if number == "8A" else f"B{int(number):02d}"
    return name if name in BANDS else None


def band_names(labels: list[str]) -> dict[str, str]:
    """Give our name -> the label to take; of several resolutions the finest."""
    best: dict[str, tuple[int, str]] = {}
    for label in labels:
        name = band_name(label)
        if name is None:
            continue
        metres = _METRES.search(label)
        step = int(metres[1]) if metres else 0
        if name not in best or step < best[name][0]:
            best[name] = (step, label)
    return {name: label for name, (_, label) in best.items()}


def missing(array: xr.DataArray) -> float:
    """Give the value that means none: ``_FillValue``, else NaN of floats and 0 of integers."""
    default = np.nan if array.dtype.kind == "f" else 0
    return float(array.attrs.get("_FillValue", default))


def decoded(array: xr.DataArray, shift: float | xr.DataArray = 0.0) -> xr.DataArray:
    """Turn stored numbers into float32 with NaN for none.

    Parameters
    ----------
    array
        With the CF attributes ``scale_factor``, ``add_offset`` and ``_FillValue``, or without.
    shift
        Added after scaling; a number, or one for each step (time,).
    """
    scale = float(array.attrs.get("scale_factor", 1.0))
    first = float(array.attrs.get("add_offset", 0.0))
    fill = missing(array)
    present = array.notnull() if np.isnan(fill) else array.notnull() & (array != fill)
    values = array.astype(np.float64) * scale + first + shift
    return values.where(present).astype(np.float32).drop_attrs(deep=False)


def classes(array: xr.DataArray) -> xr.DataArray:
    """Turn a layer of classes into uint8, 0 for none."""
    array = array.where(array.notnull() & (array != missing(array)), 0)
    return array.astype(np.uint8).drop_attrs(deep=False)


def coded(array: xr.DataArray, codes: Mapping[int, int], other: int = 0) -> xr.DataArray:
    """Translate the classes of a mask into codes of `valid`.

    Parameters
    ----------
    array
        Classes, integer or float; missing ones become 0 (no data).
    codes
        Class -> code.
    other
        Code of the classes that are not listed.
    """
    table = np.full(257, other, np.uint8)
    for value, code in codes.items():
        table[value] = code
    # the last row is for what has no class; clipping keeps fill values out of the table
    table[256] = 0
    fill = missing(array) if array.dtype.kind == "f" or "_FillValue" in array.attrs else np.nan
    known = array.notnull() & (array >= 0) & (array < 256)
    if not np.isnan(fill):
        known = known & (array != fill)
    index = array.where(known, 256).astype(np.int16)
    return xr.apply_ufunc(
        lambda part: table[part], index, dask="parallelized", output_dtypes=[np.uint8]
    ).drop_attrs(deep=False)


def filled(array: xr.DataArray) -> np.ndarray:
    """Tell which steps (time,) have a value anywhere; reads the array once."""
    fill = missing(array)
    present = array.notnull() if np.isnan(fill) else array.notnull() & (array != fill)
    others = [dim for dim in array.dims if dim != "time"]
    return np.asarray(present.any(others).compute().values)
