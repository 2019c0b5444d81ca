"""Files with one variable per band: minicubes of EarthNet and DeepExtremes, extracts, tiles.

Sources: earthnet-minicuber (GreenEarthNet, doi 10.1109/CVPR52733.2024.02615), DeepExtremeCubes
(doi 10.1038/s41597-025-04447-5). Both describe their deep cloud mask as 1 cloud, 2 shadow, 3 snow
but store what the CloudSEN12 network gives: 1 thick cloud, 2 thin cloud, 3 shadow (the
reflectance of class 3 is that of shadow, and the code that writes it takes an argmax).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from deepfeatures.foreign.plain import CLOUDSEN, RESERVED, Plain, band_names, coded, filled

_EARTHNET = {"cop_dem": "dem", "esawc_lc": "label_WORLDCOVER", "geom_cls": "label_GEOMORPHON"}
_MASK_WORDS = (
    "valid from {name} (0 clear, 1 thick and 2 thin cloud, 3 shadow: what its network gives, not "
    "what its attributes say)"
)


def from_earthnet(raw: xr.Dataset) -> Plain:
    """Translate a GreenEarthNet minicube: ``s2_B04`` ..., ``s2_avail``, ``s2_dlmask``."""
    words = []
    daily = [name for name, array in raw.data_vars.items() if _is_daily(array)]
    weather = raw[daily].rename(time="time_meteo") if daily else None
    raw = raw.drop_vars(daily)
    if "s2_avail" in raw:
        there = np.flatnonzero(raw["s2_avail"].values == 1)
        words.append(f"{raw.sizes['time'] - there.size} of {raw.sizes['time']} days without image")
        words[0] += " left out"
        raw = raw.isel(time=there)
    raw = raw.drop_vars([name for name in RESERVED if name in raw.variables])
    names = {
        name: _EARTHNET.get(str(name), str(name).removeprefix("s2_")) for name in raw.data_vars
    }
    data = raw.rename({old: new for old, new in names.items() if old != new})
    words.append("renamed s2_B.. to B..")
    if "dlmask" in data:
        data["mask"] = coded(data["dlmask"], CLOUDSEN)
        words.append(_MASK_WORDS.format(name="s2_dlmask"))
    others = [n for n in data.data_vars if str(n).endswith("_dem") or n in ("dlmask", "avail")]
    data = data.drop_vars(others)
    if weather is not None:
        data = data.assign(weather.data_vars)
        words.append(f"daily weather put on time_meteo: {', '.join(map(str, daily))}")
    return Plain("GreenEarthNet minicube", data, tuple(words))


def _is_daily(array: xr.DataArray) -> bool:
    return str(array.name).startswith(("eobs_", "era5_")) and array.dims == ("time",)


def from_deepextremes(raw: xr.Dataset) -> Plain:
    """Translate a DeepExtremeCubes minicube: ``B02`` ..., ``SCL``, ``cloudmask_en``."""
    names = [name for name in band_names([str(n) for n in raw.data_vars]) if name != "SCL"]
    there = filled(raw[names[0]])
    data = raw[[*names, *(["SCL"] if "SCL" in raw else [])]].isel(time=np.flatnonzero(there))
    words = [f"{int((~there).sum())} of {there.size} five-day steps without image left out"]
    if "cloudmask_en" in raw:
        # its stored fill is 255 or none; class 4 means masked for other reasons
        data["mask"] = coded(raw["cloudmask_en"], CLOUDSEN).isel(time=np.flatnonzero(there))
        words.append(_MASK_WORDS.format(name="cloudmask_en"))
    if "cop_dem" in raw:
        data["dem"] = raw["cop_dem"]
    for name in ("lccs_class", "spatial_ref", "crs"):
        if name in raw.variables:
            data[name] = raw[name]
    left = [str(name) for name in raw.data_vars if name not in data and name not in _TAKEN]
    if left:
        words.append(
            f"left out: {', '.join(left)} (weather in five-day steps, events and climatology have "
            "no place in a band cube)"
        )
    return Plain("DeepExtremes minicube", data.assign_attrs(raw.attrs), tuple(words))


_TAKEN = ("cloudmask_en", "cop_dem", "time_bnds", "crs")


def from_bands(raw: xr.Dataset) -> Plain:
    """Translate a file with one variable per band, whatever the spelling of its name."""
    names = band_names([str(name) for name in raw.data_vars])
    renamed = {label: name for name, label in names.items() if label != name}
    words = [f"renamed {', '.join(f'{a} to {b}' for a, b in renamed.items())}"] if renamed else []
    others = [name for name in RESERVED if name in raw.variables]
    if others:
        words.append(f"left out: {', '.join(others)} (of unknown meaning)")
    return Plain("one variable per band", raw.drop_vars(others).rename(renamed), tuple(words))
