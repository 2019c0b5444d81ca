"""From the plain form to a band cube under the contract."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from deepfeatures import __version__
from deepfeatures.bands import BANDS, attributes
from deepfeatures.clouds import SCL_FLAGS, VALID_FLAGS, from_scl
from deepfeatures.days import mosaic
from deepfeatures.foreign.drivers import weather
from deepfeatures.foreign.plain import ANGLES, Plain, classes, decoded, missing
from deepfeatures.foreign.times import dated, ordered

SOURCES: dict[str, tuple[str, str]] = {
    "WorldCereal/worldcereal-classification": (
        "MIT; Copernicus Sentinel data legal notice",
        "(c) 2023 ESA WorldCereal",
    ),
    "IBM/terramind": (
        "CC-BY-SA-4.0; Copernicus Sentinel data legal notice",
        "TerraMesh, Blumenstiel et al. 2025, arXiv:2504.11172; land cover: Esri 10 m; "
        "Copernicus DEM: (c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH 2014-2018 "
        "provided under COPERNICUS by the European Union and ESA; all rights reserved",
    ),
    "dongzhang04/greenearthnet": (
        "MIT; Copernicus Sentinel data legal notice; terms of the layers in the attribution",
        "(c) 2024 Vitus Benson, made with earthnet-minicuber",
    ),
}
"""Source repository named in a file -> licence and the line to keep."""

_WEATHER = {
    "agera5_": "Contains modified Copernicus Climate Change Service information (AgERA5)",
    "era5_": "Contains modified Copernicus Climate Change Service information (ERA5)",
    "eobs_": "E-OBS data set of the Copernicus Climate Change Service and ECA&D (for "
    "non-commercial research and education), doi 10.1029/2017JD028200",
}
"""How names of weather variables start -> the line to keep."""

_WAYS = ("unknown", "ascending", "descending")
_LABELS = {"lccs_class": "label_LCCS", "esa_wc": "label_WORLDCOVER", "LULC": "label_LULC"}
_COORDS = frozenset(
    ["time", "band", "feature", "y", "x", "spatial_ref", "time_s1", "polarisation", "time_meteo"]
)


def band_cube(plain: Plain, date: str | None) -> xr.Dataset:
    """Make a band cube of a plain dataset that is on its grid.

    Parameters
    ----------
    plain
        Placed already, see `places.placed`.
    date
        Day of a dataset without time axis.

    Returns
    -------
    xarray.Dataset
        Under the contract; arrays of pixels and time are lazy.
    """
    plain, day = ordered(dated(plain, date))
    raw = plain.data
    names = [name for name in BANDS if name in raw]
    ds = _optical(raw, names, day)
    ds = ds.assign(_radar(raw) | weather(raw) | _ground(raw))
    ds = ds.assign_coords(spatial_ref=raw["spatial_ref"])
    changes = list(plain.changes)
    merged = day.size - ds.sizes["time"]
    if merged:
        changes.append(f"{merged} acquisitions mosaicked into another of the same day, first valid")
    changes += _mask_words(raw)
    if "conversion" in raw.attrs:
        changes.append(f"by the source: {raw.attrs['conversion']}")
    return described(ds, plain.form, changes, raw)


def described(
    ds: xr.Dataset, form: str, changes: list[str] | tuple[str, ...], raw: xr.Dataset
) -> xr.Dataset:
    """Set the attributes of a cube and of its coordinates."""
    days = ds["time"].values.astype("datetime64[D]")
    attrs = raw.attrs
    repository = str(attrs.get("source_repository", ""))
    stated = attrs.get("source_licence") or attrs.get("license") or "unknown"
    licence, keep = SOURCES.get(repository, (str(stated), ""))
    words = [_copernicus(raw, days), keep]
    for start, line in _WEATHER.items():
        if any(str(name).startswith(start) for name in raw.data_vars):
            words.append(line)
    place = [str(attrs.get(k, "")) for k in ("source_commit", "source_path", "stac", "collection")]
    ds = ds.drop_vars([name for name in ds.coords if name not in _COORDS])
    for axis, name in (("x", "projection_x_coordinate"), ("y", "projection_y_coordinate")):
        ds[axis].attrs = {"units": "m", "standard_name": name, "long_name": f"{axis}, pixel centre"}
    if ds.sizes["x"] == ds.sizes["y"] == 1:
        ds = ds.assign_attrs(resolution=float(attrs["resolution"]))
    items = [str(attrs[k]) for k in ("location_id", "data_id") if k in attrs]
    step = f"foreign.read (deepfeatures {__version__}): {form}"
    return ds.assign_attrs(
        title=str(attrs.get("title") or _title(form, attrs)),
        source=", ".join(word for word in (repository, *place) if word) or form,
        source_items=str(attrs.get("source_items") or json.dumps(items)),
        processing=json.dumps([step, *changes]),
        licence=licence,
        attribution="; ".join(word for word in words if word),
        time_coverage_start=str(days[0]),
        time_coverage_end=str(days[-1]),
    )


def _title(form: str, attrs: dict[str, object]) -> str:
    name = next((str(attrs[key]) for key in ("data_id", "id", "collection") if key in attrs), "")
    return f"{form} {name}".strip()


def _optical(raw: xr.Dataset, names: list[str], day: np.ndarray) -> xr.Dataset:
    """Reflectance, mask, classes and angles, one step per day."""
    shift: float | xr.DataArray = raw["offset"].reset_coords(drop=True) if "offset" in raw else 0.0
    layers = [mosaic(decoded(_stepped(raw[n]), shift), day) for n in names]
    layers = [layer.reset_coords(drop=True) for layer in layers]
    reflectance = xr.concat(layers, xr.Variable("band", names)).transpose("time", "band", "y", "x")
    ds = xr.Dataset({"reflectance": reflectance})
    ds["reflectance"].attrs = attributes("reflectance") | {"grid_mapping": "spatial_ref"}
    if "SCL" in raw:
        ds["scl"] = mosaic(classes(_stepped(raw["SCL"])), day, missing=0).reset_coords(drop=True)
        ds["scl"].attrs = attributes("scl") | SCL_FLAGS
    mask = None
    if "mask" in raw:
        mask = mosaic(_stepped(raw["mask"]), day, missing=0).reset_coords(drop=True)
    ds["valid"] = _valid(ds, mask)
    ds["valid"].attrs = attributes("valid") | VALID_FLAGS
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    for name in [name for name in ANGLES if name in raw]:
        values = decoded(raw[name]) if "scale_factor" in raw[name].attrs else raw[name]
        ds[name] = values.isel(time=first).astype(np.float32).load()
        ds[name].attrs = attributes(name)
    if "nbar" in raw:
        ds["nbar"] = raw["nbar"].isel(time=first).astype(np.uint8)
        ds["nbar"].attrs = {
            **attributes("nbar"), "flag_values": [0, 1, 2],
            "flag_meanings": "none angle_grid scene_angles",
        }  # fmt: skip
    return ds


def _stepped(array: xr.DataArray) -> xr.DataArray:
    return array.transpose("time", "y", "x")


def _valid(ds: xr.Dataset, mask: xr.DataArray | None) -> xr.DataArray:
    """Join what the source says of clouds: its own mask first, SCL where it says nothing."""
    if "scl" in ds:
        by_scl = xr.apply_ufunc(from_scl, ds["scl"], dask="parallelized", output_dtypes=[np.uint8])
        if mask is None:
            return by_scl
        valid = by_scl.where(mask == 0, mask)
        return valid.where(ds["scl"] != 0, 0).where(ds["scl"] != 1, 4).astype(np.uint8)
    there = ds["reflectance"].notnull().any("band")
    return (there if mask is None else mask.where(there, 0)).astype(np.uint8)


def _mask_words(raw: xr.Dataset) -> list[str]:
    if "SCL" in raw and "mask" in raw:
        return ["SCL decides where that mask is silent, and on no data and defective pixels"]
    if "SCL" in raw:
        return ["valid from SCL"]
    return [] if "mask" in raw else ["no cloud mask in the source: valid = some band has a value"]


def _radar(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    names = [name for name in ("VV", "VH") if name in raw]
    if not names:
        return {}
    layers = [decoded(raw[name]).reset_coords(drop=True) for name in names]
    stacked = xr.concat(layers, xr.Variable("polarisation", names))
    backscatter = stacked.transpose("time_s1", "polarisation", "y", "x")
    source = str(raw[names[0]].attrs.get("long_name", ""))
    backscatter.attrs = attributes("backscatter") | {
        "comment": source,
        "grid_mapping": "spatial_ref",
    }
    way = next((code for code, word in enumerate(_WAYS) if word in source), 0)
    values = np.full(raw.sizes["time_s1"], way, np.uint8)
    orbit = xr.DataArray(
        raw["orbit"].values if "orbit" in raw else values,
        dims="time_s1",
        coords={"time_s1": raw["time_s1"]},
        attrs=attributes("orbit") | {"flag_values": [0, 1, 2], "flag_meanings": " ".join(_WAYS)},
    )
    return {"backscatter": backscatter, "orbit": orbit}


def _ground(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    found = {}
    if "dem" in raw:
        found["elevation"] = decoded(_flat(raw["dem"])).transpose("y", "x").load()
        found["elevation"].attrs = attributes("elevation") | {"grid_mapping": "spatial_ref"}
    for name in map(str, raw.data_vars):
        target = name if name.startswith("label_") else _LABELS.get(name)
        if target is None or not {"y", "x"} <= set(raw[name].dims):
            continue
        label = _flat(raw[name]).transpose("y", "x").load()
        kind = label.dtype if label.dtype.kind in "iu" else np.dtype(np.int16)
        codes = label.where(label.notnull() & (label != missing(label)), 0).astype(kind)
        words = [str(label.attrs.get(key, "")) for key in ("long_name", "description", "note")]
        codes.attrs = {
            "units": "1",
            "long_name": next((word for word in words if word), target),
            "comment": words[2] or str(label.attrs.get("classes", "")).strip(),
            "grid_mapping": "spatial_ref",
        }
        found[target] = codes
    return {name: array.reset_coords(drop=True) for name, array in found.items()}


def _flat(array: xr.DataArray) -> xr.DataArray:
    """Give the newest layer of a map of several years."""
    extra = [dim for dim in array.dims if dim not in ("y", "x")]
    return array.isel({dim: -1 for dim in extra}, drop=True)


def _copernicus(raw: xr.Dataset, days: np.ndarray) -> str:
    """Give the attribution line of the file, with the years if it has none."""
    line = str(raw.attrs.get("attribution", "Contains modified Copernicus Sentinel data"))
    if not line.endswith("Sentinel data"):
        return line
    first, last = (str(day)[:4] for day in (days[0], days[-1]))
    return f"{line} {first}" if first == last else f"{line} {first}-{last}"
