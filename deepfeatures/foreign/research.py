"""Band cubes of the DeepFeatures cube generation: ``s2l2a (band, time, y, x)`` and its company.

Reflectance of xcube-stac (scaled, baseline offset applied), corrected to nadir by sen2nbar except
in B01, B8A and B09; cloud mask of a CloudSEN12 network; daily ERA5 at the centre.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from deepfeatures.foreign.drivers import driver_of, scene_angles
from deepfeatures.foreign.plain import CLOUDSEN, Plain, band_names, coded
from deepfeatures.foreign.stacks import (
    items_of,
    labels_of,
    left_out,
    sampled,
    unit_of,
    unstacked,
)

_KEPT = ("dem", "lccs_class", "esa_wc")
_USED = ("s2l2a", "scl", "cloud_mask", "solar_angle", "viewing_angle", "spatial_ref", "crs")


def from_research(raw: xr.Dataset, scale: float | None) -> Plain:
    """Translate a research cube."""
    stack = raw["s2l2a"]
    labels = labels_of(stack)
    names = {name: label for name, label in band_names(labels).items() if name != "SCL"}
    unit = scale or unit_of(sampled(stack.sel(band=list(names.values()))))
    data = unstacked(stack, names, unit).assign_attrs(raw.attrs | items_of(stack))
    words = [f"s2l2a {tuple(map(str, stack.dims))} to (time, band, y, x)"]
    words += [f"digital numbers x {unit:g}"] if unit != 1 else []
    if "scl" in raw:
        data["SCL"] = raw["scl"]
    if "cloud_mask" in raw:
        data["mask"] = coded(raw["cloud_mask"], CLOUDSEN)
        words.append("valid from cloud_mask (0 clear, 1 thick and 2 thin cloud, 3 shadow)")
    angles = scene_angles(raw, stack.sizes["time"])
    if angles:
        data = data.assign(angles)
        data["nbar"] = ("time", np.ones(stack.sizes["time"], np.uint8))
        words.append("grids of sun and view angles averaged to scene angles")
        words.append("by the source: NBAR by sen2nbar; B01, B8A and B09 are not corrected")
    daily = [str(name) for name, array in raw.data_vars.items() if array.dims == ("time_era5",)]
    weather = [name for name in daily if driver_of(raw[name]) is not None]
    kept = raw[[*weather, *(name for name in _KEPT if name in raw)]]
    if "time_era5" in kept.dims:
        kept = kept.rename(time_era5="time_meteo")
    data = data.assign(kept.data_vars)
    others = [str(name) for name in raw.data_vars if name not in (*_USED, *_KEPT, *weather)]
    words += left_out([*others, *(label for label in labels if label not in names.values())])
    for name in ("spatial_ref", "crs"):
        if name in raw.variables:
            data = data.assign_coords({name: raw[name].reset_coords(drop=True)})
    return Plain("DeepFeatures research cube", data, tuple(words))
