"""A minicube from its components: coordinates, attributes, and what is stored how."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from deepfeatures import __version__
from deepfeatures.minicube import form, parts
from deepfeatures.minicube.parts import VERSIONS, Component, Progress

VERSION = "1.0"
"""Version of the form as this package writes it, in the name of each minicube."""
CHUNK = 165
"""Steps in a chunk of the variables on the grid; three chunks make 2016-01-01 to 2022-10-10."""

_LANDCOVER = ("lccs_class", "worldcover", "label_WORLDCOVER", "label_class")


@dataclass(frozen=True)
class Sources:
    """What a minicube is made of; what is None is taken from the cube, or left out."""

    cube: xr.Dataset
    """Band cube under the contract, lazy or in memory."""
    weather: xr.Dataset | None = None
    """Daily drivers on ``time_meteo``."""
    elevation: xr.DataArray | None = None
    """Metres (y, x) on the grid of the cube."""
    landcover: xr.DataArray | None = None
    """Codes (y, x) on the grid of the cube."""
    record: xr.Dataset | None = None
    """Long daily record of weather, from which events are found."""


def assemble(
    sources: Sources,
    *,
    date: datetime.date,
    lat: float | None = None,
    lon: float | None = None,
    start: str | None = None,
    end: str | None = None,
    count: int = 0,
    progress: Progress = None,
) -> xr.Dataset:
    """Make a minicube.

    Parameters
    ----------
    sources
        The cube, with pixels of 20 m or a whole fraction of it and the seven bands of
        `form.BANDS`, and what else there is. Where the minicube reaches beyond the cube, there is
        no value.
    date
        Day of making, for the name and the history.
    lat, lon
        Place in the middle, degrees; the middle of the cube by default.
    start, end
        First and last day; those of the cube by default. Steps are counted from 2016-01-01 in any
        case. ``2016-01-01`` and ``2022-10-10`` are those of DeepExtremeCubes.
    count
        Last part of the name, to tell apart minicubes of one place and day.
    progress
        Called with bands done and bands in all.

    Returns
    -------
    xarray.Dataset
        The minicube in memory, see ``docs/minicubes.md``; what has no source is left out.

    Raises
    ------
    ValueError
        If the cube, the place or the period does not allow a minicube.
    """
    box = form.grid(sources.cube, lat, lon)
    days = period(sources.cube, start, end)
    made = components(sources, box, days, progress=progress)
    return _assembled(made, sources.cube, box, days, date, count)


def period(ds: xr.Dataset, start: str | None, end: str | None) -> NDArray[np.datetime64]:
    """Give the steps of a period, by default that of a cube."""
    first, last = ds["time"].values[[0, -1]].astype("datetime64[D]")
    return form.steps(
        np.datetime64(start, "D") if start else first, np.datetime64(end, "D") if end else last
    )


def components(
    sources: Sources,
    box: GeoBox,
    days: NDArray[np.datetime64],
    *,
    wanted: Collection[str] = tuple(VERSIONS),
    acquired: NDArray[np.datetime64] | None = None,
    progress: Progress = None,
) -> list[Component]:
    """Make the components for which there is a source.

    Parameters
    ----------
    sources
        As for `assemble`.
    box, days
        Grid and steps, from `form.grid` and `form.steps`.
    wanted
        Names of components; all by default.
    acquired
        As for `parts.surface`.
    progress
        Called with bands done and bands in all.
    """
    layers = {name: layer for name, layer in _layers(sources).items() if name in wanted}
    for layer in layers.values():
        _check_grid(layer, sources.cube)
    whole = sources.cube.assign({name: layer.variable for name, layer in layers.items()})
    cube, grid = form.cut(whole, box)
    found: list[Component] = []
    if {"s2", "mask"} & set(wanted):
        both = parts.surface(cube, grid, box, days, acquired=acquired, progress=progress)
        found += [one for one in both if one.name in wanted]
    for name, make in (("dem", parts.terrain), ("landcover", parts.landcover)):
        if name in layers:
            found.append(make(cube[name].rename(layers[name].name), grid, box))
    weather = sources.weather
    if weather is None and "time_meteo" in cube.dims:
        weather = cube.drop_dims([dim for dim in cube.dims if dim != "time_meteo"])
    if weather is not None and "era5" in wanted:
        found.append(parts.weather(weather, days))
    if sources.record is not None and "events" in wanted:
        found.append(parts.events(sources.record, days))
    return found


def _layers(sources: Sources) -> dict[str, xr.DataArray]:
    found = {}
    if sources.elevation is not None or "elevation" in sources.cube:
        given = sources.elevation
        found["dem"] = sources.cube["elevation"] if given is None else given
    there = [name for name in _LANDCOVER if name in sources.cube]
    if sources.landcover is not None or there:
        given = sources.landcover
        found["landcover"] = sources.cube[there[0]] if given is None else given
    return found


def _check_grid(layer: xr.DataArray, ds: xr.Dataset) -> None:
    if layer.dims != ("y", "x") or not (
        np.array_equal(layer["y"], ds["y"]) and np.array_equal(layer["x"], ds["x"])
    ):
        raise ValueError(
            f"the layer {layer.name!r} does not lie on the pixels of the cube; put it on its grid"
        )


def _assembled(
    made: list[Component],
    ds: xr.Dataset,
    box: GeoBox,
    days: NDArray[np.datetime64],
    date: datetime.date,
    count: int,
) -> xr.Dataset:
    cube = xr.Dataset(coords=xr_coords(box))
    cube = cube.assign_coords(time=days.astype("datetime64[ns]"))
    about = {"long_name": f"First day of the {form.STEP} days", "standard_name": "time"}
    cube["time"].attrs = about
    for component in made:
        cube = cube.assign(labelled(component))
    lon, lat = box.extent.centroid.to_crs("EPSG:4326").coords[0]
    west, south, east, north = box.geographic_extent.boundingbox.bbox
    place = f"{lon:.2f}_{lat:.2f}"
    name = f"mc_{place}_{VERSION}_{date:%Y%m%d}_{count}"
    facts: dict[str, Any] = {
        "Conventions": "CF-1.9",
        "title": f"Minicube at {lat:.4f} N, {lon:.4f} E",
        "data_id": name,
        "location_id": place,
        "version": VERSION,
        "creation_date": str(date),
        "modification_date": str(date),
        "time_period": f"{form.STEP}D",
        "temporal_coverage_start": str(days[0]),
        "temporal_coverage_end": str(days[-1] + form.STEP - 1),
        "spatial_res": form.RESOLUTION,
        "spatial_bbox": json.dumps(list(box.boundingbox.bbox)),
        "geospatial_center_lon": lon, "geospatial_center_lat": lat,
        "geospatial_lon_min": west, "geospatial_lon_max": east,
        "geospatial_lat_min": south, "geospatial_lat_max": north,
        "source_cube": str(ds.attrs.get("title", "")),
        "licence": str(ds.attrs.get("licence", "unknown")),
        "history": json.dumps([f"Created on {date} as {name} by deepfeatures {__version__}"]),
    }  # fmt: skip
    if ds.attrs.get("simulated") == "true":
        facts["simulated"] = "true"
    versions = {component.name: VERSIONS[component.name] for component in made}
    return cube.assign_attrs(facts | described({}, made, versions, date))


def labelled(component: Component) -> xr.Dataset:
    """Give the variables of a component with what they say about themselves."""
    data = component.data.copy()
    for array in data.data_vars.values():
        array.attrs["component"] = component.name
        if {"y", "x"} <= set(array.dims):
            array.attrs["grid_mapping"] = "spatial_ref"
    return data


def described(
    before: dict[str, Any],
    made: Iterable[Component],
    versions: dict[str, str],
    date: datetime.date,
) -> dict[str, str]:
    """Give the attributes that components add to those of a minicube or replace in it.

    Parameters
    ----------
    before
        Entries of the attribute ``components`` so far.
    made
        New components.
    versions
        Version of each new component.
    date
        Day of making.
    """
    made = list(made)
    entries = dict(before)
    for component in made:
        entries[component.name] = {
            "version": versions[component.name],
            "variables": sorted(str(name) for name in component.data.data_vars),
            "sources": list(component.sources),
            "processing_steps": list(component.processing_steps),
            "attribution": component.attribution,
            "date": str(date),
        }
    lines = [str(entry["attribution"]) for entry in entries.values()]
    found = {
        "components": json.dumps(entries),
        # the name that it has in DeepExtremeCubes
        "configuration_versions": json.dumps({n: entry["version"] for n, entry in entries.items()}),
        "attribution": "; ".join(dict.fromkeys(line for line in lines if line)),
    }
    for component in made:
        found |= component.facts
    return found


def encoding(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Say how the variables of a minicube, or of some components of one, are stored."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in ds.variables.items():
        sizes = dict(zip(array.dims, array.shape, strict=True))
        if {"time", "y", "x"} <= set(sizes):
            sizes["time"] = min(CHUNK, sizes["time"])
        entry: dict[str, Any] = {"chunks": tuple(sizes.values())} if sizes else {}
        if name in form.BANDS:
            entry |= {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -9999}
        elif array.dtype.kind == "M":
            entry |= {"dtype": "int64", "units": "seconds since 1970-01-01"}
        found[str(name)] = entry
    return found
