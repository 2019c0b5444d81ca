"""Stores of sentle: optical and radar bands of one Zarr array ``sentle (time, band, y, x)``.

Digital numbers from which the offset of baseline 04.00 is off already (clipped at zero), newest
step first, coordinates in float32 at upper left corners unless ``coord_save_mode`` says "center",
linear radar power on the same time axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from deepfeatures.foreign.places import steady
from deepfeatures.foreign.plain import CLOUDSEN, Plain, band_names, coded, filled
from deepfeatures.foreign.stacks import labels_of, layer_of, left_out, step_of, unstacked

_CLASSIFICATION = "S2_cloud_classification"
_WAYS = {"asc": 1, "desc": 2}
"""Suffix of a radar band -> code of the orbit direction."""


def from_sentle(raw: xr.Dataset) -> Plain:
    """Translate a store of sentle."""
    stack = raw["sentle"]
    labels = labels_of(stack)
    names = {name: label for name, label in band_names(labels).items() if name != "SCL"}
    if not names:
        raise ValueError(f"the store has no Sentinel-2 band; its bands are {', '.join(labels)}")
    data = unstacked(stack, names, 1e-4).assign_attrs(crs_wkt=raw.attrs.get("crs_wkt", ""))
    used = list(names.values())
    words = ["digital numbers x 0.0001; the offset of baseline 04.00 is off already (sentle)"]
    if _CLASSIFICATION in labels:
        data["mask"] = coded(layer_of(stack, _CLASSIFICATION), CLOUDSEN)
        used.append(_CLASSIFICATION)
        words.append(f"valid from {_CLASSIFICATION} (0 clear, 1 and 2 cloud, 3 shadow)")
    config = raw.attrs.get("sentle_config")
    if isinstance(config, dict) and config.get("S2_nbar"):
        words.append("by the source: NBAR by sen2nbar")
        data["nbar"] = ("time", np.ones(data.sizes["time"], np.uint8))
    radar = [f"{p}_{way}" for way in _WAYS for p in ("vv", "vh") if f"{p}_{way}" in labels]
    if radar:
        data, said = _parted(data, stack, radar, next(iter(names)))
        words.append(said)
    words += left_out([label for label in labels if label not in (*used, *radar)])
    if "spatial_ref" in raw.variables:
        data = data.assign_coords(spatial_ref=raw["spatial_ref"].reset_coords(drop=True))
    return _centred(Plain("sentle", data, tuple(words)), raw, config)


def _parted(
    data: xr.Dataset, stack: xr.DataArray, radar: list[str], band: str
) -> tuple[xr.Dataset, str]:
    """Put optical and radar steps on time axes of their own; reads the array once."""
    there = filled(data[band])
    if not there.any():
        raise ValueError("the store has radar only; a band cube needs optical dates")
    data = data.isel(time=np.flatnonzero(there))
    layers = _radar(stack, radar)
    steps = layers["orbit"].size if layers else 0
    said = f"{steps} radar steps put on time_s1 and turned to dB, {there.sum()} optical ones kept"
    return data.assign(layers), said


def _radar(stack: xr.DataArray, labels: list[str]) -> dict[str, xr.DataArray]:
    """Give ``VV`` and ``VH (time_s1, y, x)`` in dB and ``orbit (time_s1)``."""
    names = sorted({label.split("_")[0] for label in labels}, reverse=True)
    parts: dict[str, list[xr.DataArray]] = {name: [] for name in names}
    times, ways = [], []
    for way, code in _WAYS.items():
        layers = {n: layer_of(stack, f"{n}_{way}") for n in names if f"{n}_{way}" in labels}
        if not layers:
            continue
        there = np.flatnonzero(np.any([filled(layer) for layer in layers.values()], axis=0))
        empty = next(iter(layers.values())).where(False)
        times.append(stack["time"].values[there])
        ways.append(np.full(there.size, code, np.uint8))
        for name in names:
            parts[name].append(layers.get(name, empty).isel(time=there))
    moments = np.concatenate(times).astype("datetime64[ns]")
    order = np.lexsort((np.concatenate(ways), moments))
    moments = moments[order]
    if not moments.size:
        return {}
    # a composite holds both directions under one time, and the axis must rise strictly
    moments[1:][np.diff(moments) <= np.timedelta64(0)] += np.timedelta64(1, "s")
    found = {
        name.upper(): _decibel(xr.concat(layers, "time").isel(time=order), moments)
        for name, layers in parts.items()
    }
    found["orbit"] = xr.DataArray(
        np.concatenate(ways)[order], dims="time_s1", coords={"time_s1": moments}
    )
    return found


def _decibel(linear: xr.DataArray, moments: np.ndarray) -> xr.DataArray:
    power = linear.rename(time="time_s1").assign_coords(time_s1=moments).astype(np.float64)
    decibel = xr.apply_ufunc(np.log10, power.where(power > 0), dask="allowed") * 10
    return decibel.astype(np.float32).assign_attrs(long_name="Sentinel-1 RTC (linear power to dB)")


def _centred(plain: Plain, raw: xr.Dataset, config: Any) -> Plain:
    mode = raw["x"].attrs.get("coord_save_mode")
    if mode is None and isinstance(config, dict):
        mode = config.get("coord_save_mode")
    x, y = (steady(raw[axis].values) for axis in ("x", "y"))
    if mode == "center":
        return plain.then(plain.data.assign_coords(x=x, y=y))
    half = step_of(x if x.size > 1 else y, plain.data) / 2
    said = "stated" if mode else "not stated, so sentle's default is taken"
    return plain.then(
        plain.data.assign_coords(x=x + half, y=y - half),
        f"coordinates moved from upper left corners ({said}) to pixel centres: {half:g} m",
    )
