"""Cubes of others under the cube contract (``deepfeatures import``).

A form is recognised by its variables and attributes, translated to a plain one (one variable per
band, see `plain`), put on its grid, sorted, mosaicked and described. What was changed stands in
the attribute ``processing``. ``docs/cubes.md`` lists the forms.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import xarray as xr

from deepfeatures import contract
from deepfeatures.bands import BANDS
from deepfeatures.foreign import minicubes, stacks
from deepfeatures.foreign.cubes import band_cube, described
from deepfeatures.foreign.features import from_features
from deepfeatures.foreign.legend import Legend, from_legend, hinted, legend, masked, parse
from deepfeatures.foreign.opening import open_raw
from deepfeatures.foreign.places import placed
from deepfeatures.foreign.plain import ANGLES, Plain, band_names
from deepfeatures.foreign.research import from_research
from deepfeatures.foreign.sentle import from_sentle

__all__ = ["ANGLES", "changes", "parse", "read"]


def read(
    path: str | os.PathLike[str],
    *,
    offset: float | None = None,
    date: str | None = None,
    mapping: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Read a NetCDF or Zarr cube of somebody else under the contract.

    Parameters
    ----------
    path
        The file, the folder of a Zarr store (format 2 or 3), or the URL of a Zarr store.
    offset
        Added to the reflectance of every step, e.g. -0.1 for digital numbers of processing
        baseline 04.00 and later; by default what the metadata of the steps say (stacks of STAC
        items), and nothing where there are none: then look at the darkest pixels.
    date
        Day of a file without a time axis, ``YYYY-MM-DD``.
    mapping
        The user's key to a form that is not known, or a hint to one that is, see `legend`.

    Returns
    -------
    xarray.Dataset
        A checked band or feature cube (or whatever kind of cube the file already is). Arrays on
        the grid are dask arrays; the file is read when they are computed. The attribute
        ``processing`` says what was changed, see `changes`.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If the form is unknown or its metadata do not suffice; the sentence says what to give.
    """
    key = legend(mapping)
    raw = hinted(open_raw(path), key)
    if _is_ours(raw):
        return contract.check(xr.decode_cf(raw))
    if "features" in raw and {"feature", "time", "y", "x"} == set(map(str, raw["features"].dims)):
        ds, words = from_features(raw)
        return contract.check(described(ds, "DeepFeatures feature cube", words, raw))
    plain = from_legend(raw, key) if key.bands else _translated(raw, offset, key, os.fspath(path))
    if not key.bands and (key.valid or key.scl):
        plain = masked(plain, raw, key)
    if offset is not None and "offset" not in plain.data:
        plain = plain.then(plain.data.assign(offset=offset))
    if offset:
        plain = plain.then(plain.data, f"offset {offset:+g} added to the reflectance")
    return contract.check(band_cube(placed(plain), date))


def changes(ds: xr.Dataset) -> list[str]:
    """Give the sentences about what was changed when a cube was read."""
    found = json.loads(str(ds.attrs.get("processing", "[]")))
    return [str(step) for step in found]


def _is_ours(raw: xr.Dataset) -> bool:
    """Tell a file that keeps the contract (what ``deepfeatures export`` writes)."""
    for variable, channel in contract.MAIN.values():
        if variable in raw and raw[variable].dims == ("time", channel, "y", "x"):
            return "valid" in raw
    return False


def _translated(raw: xr.Dataset, offset: float | None, key: Legend, path: str) -> Plain:
    """Recognise the form of a file and translate it.

    Raises
    ------
    ValueError
        If it is none of the forms; names what was found.
    """
    names = band_names([str(name) for name in raw.data_vars])
    if "s2l2a" in raw and "band" in raw["s2l2a"].dims:
        return from_research(raw, key.scale)
    if "sentle" in raw and {"time", "band", "y", "x"} == set(map(str, raw["sentle"].dims)):
        return from_sentle(raw)
    if stacks.find_stack(raw) is not None:
        return stacks.from_stack(raw, offset, key.scale)
    if any(str(name).startswith("s2_B") for name in raw.data_vars):
        return minicubes.from_earthnet(raw)
    if any(name in BANDS for name in names):
        extremes = "cloudmask_en" in raw or "event_time" in raw.dims
        return minicubes.from_deepextremes(raw) if extremes else minicubes.from_bands(raw)
    raise ValueError(
        f"{path} is of no known form (holds no Sentinel-2 band B01..B12); it has {_listed(raw)}; "
        "say which variable is which band with --map B04=NAME ..."
    )


def _listed(ds: xr.Dataset) -> str:
    """Name what a file holds, with its dimensions."""
    words = [f"{name} ({', '.join(map(str, ds[name].dims))})" for name in list(ds.data_vars)[:8]]
    return ", ".join(words) + (", ..." if len(ds.data_vars) > 8 else "") if words else "no variable"
