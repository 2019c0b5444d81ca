"""NetCDF cubes of others under the cube contract (``deepfeatures import``).

Read are the forms of ``docs/cubes.md`` that come from elsewhere: one variable per Sentinel-2 band
``(time, y, x)`` with SCL, Sentinel-1, AgERA5 weather, DEM and labels (WorldCereal extracts,
TerraMesh tiles), the longitude/latitude minicubes of earthnet-minicuber, and files that already
keep the contract (what ``deepfeatures export --format netcdf`` writes).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import xarray as xr
from odc.geo.geobox import GeoBox

from deepfeatures import __version__, contract, grid
from deepfeatures.bands import BANDS, attributes
from deepfeatures.clouds import SCL_FLAGS, VALID_CLASSES, VALID_FLAGS, valid_from_scl
from deepfeatures.days import mosaic

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
"""Scene angles (time,), degrees."""


WEATHER: dict[str, tuple[str, float, float]] = {
    "agera5_temperature_mean": ("temperature_mean", 1.0, -273.15),
    "agera5_temperature_min": ("temperature_min", 1.0, -273.15),
    "agera5_temperature_max": ("temperature_max", 1.0, -273.15),
    "agera5_dewpoint_temperature": ("dewpoint", 1.0, -273.15),
    "agera5_precipitation_flux": ("precipitation", 1.0, 0.0),
    "agera5_solar_radiation_flux": ("solar_radiation", 1 / 86400, 0.0),
    "agera5_vapour_pressure": ("vapour_pressure", 1.0, 0.0),
    "agera5_wind_speed": ("wind_speed", 1.0, 0.0),
}
"""AgERA5 variable (K, mm d-1, J m-2 d-1, hPa, m s-1) -> name in the contract, scale and shift."""

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

_MINICUBE = {
    "lat": "y",
    "lon": "x",
    "cop_dem": "dem",
    "esawc_lc": "label_WORLDCOVER",
    "geom_cls": "label_GEOMORPHON",
}


def read(path: str | Path, *, offset: float = 0.0, date: str | None = None) -> xr.Dataset:
    """Read a NetCDF cube under the contract.

    Parameters
    ----------
    path
        The file.
    offset
        Added to the reflectance, e.g. -0.1 for digital numbers of processing baseline 04.00 and
        later whose offset was not applied by whoever made the file. Files do not say so; look at
        the darkest pixels.
    date
        Day of a file without a time axis, ``YYYY-MM-DD``.

    Returns
    -------
    xarray.Dataset
        A checked band cube (or whatever kind of cube the file already is). Arrays on the grid
        are dask arrays of up to 32 dates; the file is read when they are computed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no NetCDF file, holds no Sentinel-2 band, or lacks a date.
    """
    raw = _open(Path(path))
    if any(variable in raw for variable, _ in contract.MAIN.values()):
        return contract.check(xr.decode_cf(raw))
    raw, steps = _on_grid(_plain_names(raw))
    raw = _with_time(raw, path, date)
    names = [name for name in BANDS if name in raw]
    if not names:
        raise ValueError(
            f"{path} holds no Sentinel-2 band (B01..B12); it has {_listed(raw)}; "
            "give a file with one variable per band"
        )
    ds = _optical(raw, names, offset)
    ds = ds.assign(_radar(raw) | _weather(raw) | _ground(raw))
    ds = ds.assign_coords(spatial_ref=raw["spatial_ref"])
    return contract.check(_described(ds, raw, steps + _steps(raw, ds, offset)))


def _open(path: Path) -> xr.Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path")
    try:
        raw = xr.open_dataset(path, mask_and_scale=False, decode_coords="all")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read as NetCDF ({str(error).splitlines()[0][:100]}); give a .nc file"
        ) from None
    return raw.chunk({name: 32 if "time" in str(name) else 512 for name in raw.sizes})


def _listed(ds: xr.Dataset) -> str:
    names = [str(name) for name in ds.data_vars]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no variable"


def _plain_names(raw: xr.Dataset) -> xr.Dataset:
    """Rename what minicubes call differently, and keep only their dates with images."""
    if "s2_avail" in raw:
        raw = raw.isel(time=np.flatnonzero(raw["s2_avail"].values == 1))
    renamed = {
        name: _MINICUBE.get(str(name), str(name).removeprefix("s2_"))
        for name in (*raw.data_vars, *raw.dims)
    }
    return raw.rename({old: new for old, new in renamed.items() if old != new})


def _on_grid(raw: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Put a cube in longitude/latitude on a UTM grid by nearest neighbour."""
    if "x" not in raw.coords or "y" not in raw.coords:
        raise ValueError(
            f"the file has the dimensions {', '.join(map(str, raw.dims))}; it needs coordinates "
            "'x' and 'y' (or 'lon' and 'lat')"
        )
    in_degrees = np.abs(raw["x"].values).max() <= 360 and np.abs(raw["y"].values).max() <= 90
    if not in_degrees:
        if "spatial_ref" not in raw.coords:
            raise ValueError(
                "the file names no CRS; add a variable 'spatial_ref' with the attribute 'crs_wkt'"
            )
        return raw.sortby("y", ascending=False).sortby("x"), []
    raw = raw.odc.assign_crs("EPSG:4326")
    target = _utm(raw.odc.geobox)
    on_grid = raw[[name for name in raw.data_vars if {"y", "x"} <= set(raw[name].dims)]]
    moved = xr.Dataset(
        {
            name: array.load().odc.reproject(target, resampling="nearest", dst_nodata=_fill(array))
            for name, array in on_grid.items()
        },
        attrs=raw.attrs,
    )
    step = f"reprojected from EPSG:4326 to {target.crs} at {target.resolution.x:g} m, nearest"
    return moved, [step]


def _utm(source: GeoBox) -> GeoBox:
    """Give the UTM grid around a geographic one, its pixels as tall, to 10 m."""
    metres = abs(source.resolution.y) * 111_320
    return grid.cover(source.extent, resolution=max(10.0, round(metres / 10) * 10.0))


def _fill(array: xr.DataArray) -> float:
    return array.attrs.get("_FillValue", 0)


def _with_time(raw: xr.Dataset, path: str | Path, date: str | None) -> xr.Dataset:
    if "time" in raw.dims:
        return raw
    if date is None:
        raise ValueError(f"{path} has no time axis; say its day with date='YYYY-MM-DD'")
    try:
        step = np.array([np.datetime64(date, "ns")])
    except ValueError:
        raise ValueError(f"the date {date!r} is not a day; write it as YYYY-MM-DD") from None
    single = [name for name in raw if str(name) in (*BANDS, "SCL")]
    for name in single:
        raw[name] = raw[name].expand_dims(time=step)
    for name in [name for name in raw if str(name) in ("VV", "VH")]:
        raw[name] = raw[name].expand_dims(time_s1=step)
    return raw


def _optical(raw: xr.Dataset, names: list[str], offset: float) -> xr.Dataset:
    """Reflectance, mask, classes and angles, one step per day."""
    day = raw["time"].values.astype("datetime64[D]")
    layers = [_decoded(mosaic(raw[n], day, missing=_fill(raw[n])), offset) for n in names]
    reflectance = xr.concat(layers, xr.Variable("band", names)).transpose("time", "band", "y", "x")
    ds = xr.Dataset({"reflectance": reflectance})
    if "SCL" in raw:
        scl = raw["SCL"]
        scl = scl.where(scl != _fill(scl), 0).astype(np.uint8)
        ds["scl"] = mosaic(scl, day, missing=0)
        ds["scl"].attrs = attributes("scl") | SCL_FLAGS
        ds["valid"] = xr.apply_ufunc(
            valid_from_scl, ds["scl"], dask="parallelized", output_dtypes=[np.uint8]
        )
    else:
        ds["valid"] = ds["reflectance"].notnull().any("band").astype(np.uint8)
    ds["reflectance"].attrs = attributes("reflectance") | {"grid_mapping": "spatial_ref"}
    ds["valid"].attrs = attributes("valid") | VALID_FLAGS
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    for name in [name for name in ANGLES if name in raw]:
        ds[name] = raw[name].isel(time=first).astype(np.float32).load()
        ds[name].attrs = attributes(name)
    return ds


def _decoded(array: xr.DataArray, offset: float = 0.0) -> xr.DataArray:
    """Turn stored integers into float32 with NaN for the fill value."""
    scale = array.attrs.get("scale_factor", 1.0)
    shift = array.attrs.get("add_offset", 0.0) + offset
    fill = _fill(array)
    present = array.notnull() if np.isnan(fill) else array != fill
    values = array.astype(np.float64) * scale + shift
    return values.where(present).astype(np.float32).drop_attrs(deep=False)


def _radar(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    names = [name for name in ("VV", "VH") if name in raw]
    if not names:
        return {}
    layers = [_decoded(raw[name]) for name in names]
    stacked = xr.concat(layers, xr.Variable("polarisation", names))
    backscatter = stacked.transpose("time_s1", "polarisation", "y", "x")
    source = str(raw[names[0]].attrs.get("long_name", ""))
    backscatter.attrs = attributes("backscatter") | {
        "comment": source,
        "grid_mapping": "spatial_ref",
    }
    way = next((code for code, word in enumerate(_WAYS) if word in source), 0)
    orbit = xr.DataArray(
        np.full(raw.sizes["time_s1"], way, np.uint8),
        dims="time_s1",
        coords={"time_s1": raw["time_s1"]},
        attrs=attributes("orbit") | {"flag_values": [0, 1, 2], "flag_meanings": " ".join(_WAYS)},
    )
    return {"backscatter": backscatter, "orbit": orbit}


_WAYS = ("unknown", "ascending", "descending")


def _weather(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    found = {}
    for source, (name, scale, shift) in WEATHER.items():
        if source in raw:
            values = (raw[source].astype(np.float64) * scale + shift).astype(np.float32).load()
            found[name] = values.assign_attrs(attributes(name), comment=f"from {source}")
    return found


def _ground(raw: xr.Dataset) -> dict[str, xr.DataArray]:
    found = {}
    if "dem" in raw:
        found["elevation"] = _decoded(raw["dem"]).load()
        found["elevation"].attrs = attributes("elevation") | {"grid_mapping": "spatial_ref"}
    for name in (str(name) for name in raw if str(name).startswith("label_") or name == "LULC"):
        label = raw[name].load()
        label = label.where(label != _fill(label), 0).astype(label.dtype).assign_attrs(label.attrs)
        words = [str(label.attrs.get(key, "")) for key in ("long_name", "description", "note")]
        label.attrs = {
            "units": "1",
            "long_name": next((word for word in words if word), name),
            "comment": words[2] or str(raw[name].attrs.get("classes", "")).strip(),
            "grid_mapping": "spatial_ref",
        }
        found[name if name.startswith("label_") else f"label_{name}"] = label
    return found


def _steps(raw: xr.Dataset, ds: xr.Dataset, offset: float) -> list[str]:
    """Say what was done, for the attribute ``processing``."""
    steps = [f"netcdf.read (deepfeatures {__version__})"]
    if offset:
        steps.append(f"offset {offset:+g} added to the reflectance")
    merged = raw.sizes["time"] - ds.sizes["time"]
    if merged:
        steps.append(f"{merged} acquisitions mosaicked into another of the same day, first valid")
    if "scl" in ds:
        steps.append(f"valid = SCL in {', '.join(map(str, VALID_CLASSES))}")
    else:
        steps.append("no cloud mask in the source: valid = some band has a value")
    if "conversion" in raw.attrs:
        steps.append(f"by the source: {raw.attrs['conversion']}")
    return steps


def _described(ds: xr.Dataset, raw: xr.Dataset, steps: list[str]) -> xr.Dataset:
    """Set the attributes of the cube and of its coordinates."""
    days = ds["time"].values.astype("datetime64[D]")
    repository = str(raw.attrs.get("source_repository", ""))
    licence, keep = SOURCES.get(repository, (str(raw.attrs.get("source_licence", "unknown")), ""))
    words = [_copernicus(raw, days), keep]
    if any(source in raw for source in WEATHER):
        words.append("Contains modified Copernicus Climate Change Service information (AgERA5)")
    place = [str(raw.attrs.get(k, "")) for k in ("source_commit", "source_path")]
    ds = ds.drop_vars([name for name in ds.coords if name not in _COORDS])
    for axis, name in (("x", "projection_x_coordinate"), ("y", "projection_y_coordinate")):
        ds[axis].attrs = {"units": "m", "standard_name": name, "long_name": f"{axis}, pixel centre"}
    return ds.assign_attrs(
        title=str(raw.attrs.get("title", "Sentinel-2 cube")),
        source=", ".join(word for word in (repository, *place) if word) or "NetCDF file",
        source_items=json.dumps([str(raw.attrs[k]) for k in ("location_id",) if k in raw.attrs]),
        processing=json.dumps(steps),
        licence=licence,
        attribution="; ".join(word for word in words if word),
        time_coverage_start=str(days[0]),
        time_coverage_end=str(days[-1]),
    )


_COORDS = ("time", "band", "y", "x", "spatial_ref", "time_s1", "polarisation", "time_meteo")


def _copernicus(raw: xr.Dataset, days: np.ndarray) -> str:
    """Give the attribution line of the file, with the years if it has none."""
    line = str(raw.attrs.get("attribution", "Contains modified Copernicus Sentinel data"))
    if not line.endswith("Sentinel data"):
        return line
    first, last = (str(day)[:4] for day in (days[0], days[-1]))
    return f"{line} {first}" if first == last else f"{line} {first}-{last}"
