"""The components of a minicube, each made from its own source.

A component is what can be replaced alone: its variables, the version of how they were made, their
sources and the steps taken. Arrays only, but the cube may be lazy: one band is read at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import extremes, meteo
from deepfeatures.bands import BANDS
from deepfeatures.clouds import SCL_FLAGS
from deepfeatures.minicube import form

VERSIONS: dict[str, str] = {
    "s2": "1.0", "mask": "1.0", "dem": "1.0", "landcover": "1.0", "era5": "1.0", "events": "1.0",
}  # fmt: skip
"""Components and the version in which this module makes each."""

WORLDCOVER: dict[int, str] = {
    10: "tree_cover", 20: "shrubland", 30: "grassland", 40: "cropland", 50: "built_up",
    60: "bare_or_sparse_vegetation", 70: "snow_and_ice", 80: "permanent_water_bodies",
    90: "herbaceous_wetland", 95: "mangroves", 100: "moss_and_lichen",
}  # fmt: skip
"""Classes of ESA WorldCover 2021 (product user manual 2.0)."""

# Name of the form -> daily variables behind its _mean, _min and _max, factor, shift and unit.
_ERA5: dict[str, tuple[tuple[str, str, str], float, float, str]] = {
    "t2m": (("temperature_mean", "temperature_min", "temperature_max"), 1.0, 273.15, "K"),
    "tp": (("precipitation",) * 3, 1e-3, 0.0, "m"),
    "sp": (("surface_pressure",) * 3, 100.0, 0.0, "Pa"),
    # the form counts fluxes of water positive downwards, as ERA5 does
    "e": (("evaporation",) * 3, -1e-3, 0.0, "m of water equivalent"),
    "pev": (("potential_evaporation",) * 3, -1e-3, 0.0, "m"),
}
_NONE = ("no_data", "nodata", "none", "unknown", "no_label")

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Component:
    """One replaceable part of a minicube."""

    name: str
    """One of `VERSIONS`."""
    data: xr.Dataset
    """Its variables, in memory."""
    sources: tuple[str, ...]
    """Where the values come from."""
    processing_steps: tuple[str, ...]
    """What was done to them, in order."""
    attribution: str = ""
    """Line to keep."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Attributes that the whole minicube takes from it."""


def surface(
    ds: xr.Dataset,
    source: GeoBox,
    box: GeoBox,
    days: NDArray[np.datetime64],
    *,
    acquired: NDArray[np.datetime64] | None = None,
    progress: Progress = None,
) -> tuple[Component, Component]:
    """Make the components ``s2`` and ``mask`` of a band cube.

    Parameters
    ----------
    ds
        Band cube under the contract, or a window of one, lazy or in memory.
    source, box
        Grids of the cube and of the minicube, from `form.grid`.
    days
        First days of the steps, from `form.steps`.
    acquired
        Times of the acquisitions to take (step,), NaT for none, as ``acquisition_time`` of a
        minicube has them; by default the least cloudy acquisition of each step is chosen.
    progress
        Called with bands done and bands in all.

    Raises
    ------
    ValueError
        If the cube lacks a band of the form, or an acquisition of `acquired`.
    """
    missing = [name for name in form.BANDS if name not in ds["band"].values]
    if missing:
        raise ValueError(
            f"the cube has no band {', '.join(missing)}; a minicube needs {', '.join(form.BANDS)}"
        )
    valid = form.window(ds["valid"].values, source, box, 0)
    scl = form.window(ds["scl"].values, source, box, 0) if "scl" in ds else np.zeros_like(valid)
    time = ds["time"].values
    if acquired is None:
        inside = form.window(np.ones(ds["valid"].shape[1:], np.uint8), source, box, 0).sum()
        free = (valid == 1).sum(axis=(0, 2, 3)) / inside
        seen = ((valid != 0) | (scl != 0)).any(axis=(0, 2, 3))
        index = form.choose(time, np.where(seen, free, np.nan), days)
    else:
        index = _found(time, acquired)
    there, taken = np.flatnonzero(index >= 0), index[index >= 0]
    valid, scl = valid[:, taken], scl[:, taken]
    bands = _bands(ds, source, box, taken, valid == 1, progress)
    layers = {name: _spread(values, there, days, np.nan) for name, values in bands}
    attrs = {
        name: {"units": "1", "long_name": f"Reflectance in band {name}",
               "wavelength": BANDS[name].wavelength_nm, "bandwidth": BANDS[name].bandwidth_nm}
        for name in layers
    }  # fmt: skip
    tyx = ("time", "y", "x")
    s2 = xr.Dataset({name: (tyx, values, attrs[name]) for name, values in layers.items()})
    if "scl" in ds:
        classes = _spread(form.most_frequent(scl), there, days, 0)
        s2["SCL"] = (tyx, classes, {"units": "1", "long_name": "Scene classification"} | SCL_FLAGS)
    when = np.full(days.size, np.datetime64("NaT"), "datetime64[ns]")
    when[there] = time[taken]
    s2["acquisition_time"] = ("time", when, {"long_name": "Time of the acquisition"})
    sky = _spread(form.cloudmask(valid, scl), there, days, form.OTHER)
    flags = {"flag_values": list(range(len(form.SKY))), "flag_meanings": " ".join(form.SKY)}
    mask = xr.Dataset(
        {"cloudmask_en": (tyx, sky, {"units": "1", "long_name": "Cloud mask"} | flags)}
    )
    return _described_surface(ds, source, s2, mask)


def _found(time: NDArray[np.datetime64], acquired: NDArray[np.datetime64]) -> NDArray[np.int64]:
    index = np.full(acquired.size, -1)
    wanted = ~np.isnat(acquired)
    index[wanted] = np.searchsorted(time, acquired[wanted]).clip(max=time.size - 1)
    lost = acquired[wanted][time[index[wanted]] != acquired[wanted]]
    if lost.size:
        raise ValueError(
            f"the cube has no acquisition at {lost[0]}, which the minicube holds; update 's2' too"
        )
    return index


def _bands(
    ds: xr.Dataset,
    source: GeoBox,
    box: GeoBox,
    taken: NDArray[np.int64],
    usable: NDArray[np.bool_],
    progress: Progress,
) -> list[tuple[str, NDArray[np.float32]]]:
    found = []
    for number, name in enumerate(form.BANDS, start=1):
        values = ds["reflectance"].sel(band=name).isel(time=taken).values
        found.append((name, form.mean(form.window(values, source, box, np.nan), usable)))
        if progress is not None:
            progress(number, len(form.BANDS))
    return found


def _spread(
    values: NDArray[Any], there: NDArray[np.int64], days: NDArray[Any], fill: float
) -> NDArray[Any]:
    """Put acquisitions at their steps; the others are filled."""
    found = np.full((days.size, *values.shape[1:]), fill, values.dtype)
    found[there] = values
    return found


def _described_surface(
    ds: xr.Dataset, source: GeoBox, s2: xr.Dataset, mask: xr.Dataset
) -> tuple[Component, Component]:
    before = _steps_of(ds)
    size = f"{source.resolution.x:g} m to {form.RESOLUTION:g} m"
    line = str(ds.attrs.get("attribution", ""))
    origin = (str(ds.attrs.get("source", "unknown")),)
    chosen = f"least cloudy acquisition of each {form.STEP} days (share of usable pixels)"
    means = f"{size}: mean of the usable parts where they are half or more, else of all parts"
    votes = f"{size}: usable where half of the parts are, else the most frequent reason"
    s2_steps = (*before, chosen, means, "SCL: most frequent class")
    return (
        Component("s2", s2, origin, s2_steps, line),
        Component("mask", mask, origin, (*before, "codes of valid and SCL", votes), line),
    )


def _steps_of(ds: xr.Dataset) -> tuple[str, ...]:
    steps = json.loads(ds.attrs.get("processing", "[]"))
    return tuple(str(step) for step in steps)


def terrain(elevation: xr.DataArray, source: GeoBox, box: GeoBox) -> Component:
    """Make the component ``dem``.

    Parameters
    ----------
    elevation
        Metres (y, x) on the grid `source`, NaN = no value.
    source, box
        Grids of the elevation and of the minicube.
    """
    parts = form.window(elevation.values.astype(np.float32), source, box, np.nan)
    attrs = {"units": "m", "long_name": "Elevation above sea level"}
    values = form.mean(parts, np.isfinite(parts))
    data = xr.Dataset({"cop_dem": (("y", "x"), values, attrs)})
    steps = (f"mean to {form.RESOLUTION:g} m",)
    return Component("dem", data, (_origin(elevation),), steps, _line(elevation))


def landcover(classes: xr.DataArray, source: GeoBox, box: GeoBox) -> Component:
    """Make the component ``landcover``.

    The variable is called ``lccs_class`` if the name of `classes` says so (ESA CCI), ``worldcover``
    if that does, else ``landcover``. The class in the middle, the most frequent and the second
    most frequent one become attributes of the minicube.

    Parameters
    ----------
    classes
        Codes (y, x), uint8 or uint16, 0 = none, on the grid `source`; with ``flag_values`` and
        ``flag_meanings`` the attributes are words.
    source, box
        Grids of the classes and of the minicube.
    """
    word = str(classes.name or "").lower()
    name = next((known for known in ("lccs_class", "worldcover") if known in word), "landcover")
    attrs = {
        "units": "1",
        "long_name": str(classes.attrs.get("long_name", "Land cover")),
    } | _flags(classes, name)
    none = _none(classes)
    if none:
        attrs["comment"] = f"{none} = no value"
    values = form.most_frequent(form.window(classes.values, source, box, none), missing=none)
    data = xr.Dataset({name: (("y", "x"), values, attrs)})
    steps = (f"most frequent class to {form.RESOLUTION:g} m",)
    facts = _dominance(values, none, attrs)
    return Component("landcover", data, (_origin(classes),), steps, _line(classes), facts)


def _none(classes: xr.DataArray) -> int:
    """Give the code that means no class: 0, or the largest where 0 is a class."""
    meaning = _words(classes.attrs).get(0)
    taken = meaning is not None and meaning.lower() not in _NONE
    return int(np.iinfo(classes.dtype).max) if taken else 0


def _words(attrs: Mapping[str, object]) -> dict[int, str]:
    codes: Any = attrs.get("flag_values", [])
    meanings = str(attrs.get("flag_meanings", "")).split()
    return {int(code): word for code, word in zip(np.atleast_1d(codes), meanings, strict=False)}


def _dominance(values: NDArray[Any], none: int, attrs: Mapping[str, object]) -> dict[str, str]:
    """Give the class in the middle, the most frequent and the second most frequent one."""
    words = _words(attrs)
    found, counts = np.unique(values[values != none], return_counts=True)
    order = [*found[np.argsort(-counts, kind="stable")], none, none]
    middle = values[values.shape[0] // 2, values.shape[1] // 2]
    named = zip(
        ("class", "dominant_class", "second_dominant_class"), (middle, *order), strict=False
    )
    return {key: words.get(int(code), str(code)) if code != none else "-" for key, code in named}


def _flags(classes: xr.DataArray, name: str) -> dict[str, object]:
    if "flag_values" in classes.attrs:
        return {key: classes.attrs[key] for key in ("flag_values", "flag_meanings")}
    if name == "worldcover":
        return {"flag_values": list(WORLDCOVER), "flag_meanings": " ".join(WORLDCOVER.values())}
    return {}


def weather(daily: xr.Dataset, days: NDArray[np.datetime64]) -> Component:
    """Make the component ``era5``: minimum, mean and maximum of each step.

    Temperature, precipitation, surface pressure, evaporation and potential evaporation get the
    names, units and signs of the form (``t2m`` K, ``tp`` m, ``sp`` Pa, ``e`` and ``pev`` m); all
    else keeps its own. ``t2m_min`` is the smallest daily minimum and ``t2m_max`` the largest daily
    maximum; of all others the daily values are taken.

    Parameters
    ----------
    daily
        Drivers ``(time_meteo,)`` under the contract.
    days
        First days of the steps; a step without any day is NaN.

    Raises
    ------
    ValueError
        If no driver is there.
    """
    names = [str(name) for name, array in daily.items() if array.dims == ("time_meteo",)]
    if not names:
        raise ValueError(
            "the weather holds no variable with the dimension 'time_meteo'; give daily drivers"
        )
    recipes = {new: entry for new, entry in _ERA5.items() if set(entry[0]) <= set(names)}
    used = {name for entry in recipes.values() for name in entry[0]}
    for name in names:
        if name not in used:
            units = str(daily[name].attrs.get("units", "1"))
            recipes[name] = ((name,) * 3, 1.0, 0.0, units)
    data = xr.Dataset()
    when = daily["time_meteo"].values
    for name, (sources, factor, shift, units) in recipes.items():
        for statistic, source in zip(("mean", "min", "max"), sources, strict=True):
            values = daily[source].values * factor + shift
            step = meteo.steps(values, when, days, form.STEP)[statistic]
            words = str(daily[source].attrs.get("long_name", source))
            data[f"{name}_{statistic}"] = (
                "time",
                step.astype(np.float32),
                {"units": units, "long_name": f"{words}, {statistic} of {form.STEP} days"},
            )
    steps = (f"mean, min and max over {form.STEP} days with a value",)
    return Component("era5", data, (_origin(daily),), steps, _line(daily))


def events(record: xr.Dataset, days: NDArray[np.datetime64]) -> Component:
    """Make the component ``events`` of a daily record of weather.

    The percentiles are those of the whole record, so a long one (30 years) is better than the
    period of the minicube; only the days of the minicube's period are kept. A label counts the
    persistent compound events of the whole record.

    Parameters
    ----------
    record
        Daily ``temperature_max`` [degC], ``precipitation`` and ``reference_evapotranspiration``
        [mm d-1] on ``time_meteo``.
    days
        First days of the steps of the minicube.

    Raises
    ------
    ValueError
        If the record lacks a variable, has a gap in its days, or lies outside the period.
    """
    needed = ("temperature_max", "precipitation", "reference_evapotranspiration")
    missing = [name for name in needed if name not in record]
    if missing:
        raise ValueError(
            f"the record of weather has no {', '.join(missing)}; events need {', '.join(needed)}"
        )
    there = np.logical_or.reduce([np.isfinite(record[name].values) for name in needed])
    if not there.any():
        raise ValueError("the record of weather has no value; give another one")
    first, last = np.flatnonzero(there)[[0, -1]]
    record = record.isel(time_meteo=slice(first, last + 1))
    when = record["time_meteo"].values.astype("datetime64[D]")
    if (np.diff(when) != np.timedelta64(1, "D")).any():
        raise ValueError("the record of weather has gaps in its days; fill them with empty days")
    flags = extremes.detect(extremes.indicators(*(record[name].values for name in needed)))
    labels = extremes.label(extremes.compound(flags))
    kept = (when >= days[0]) & (when < days[-1] + form.STEP)
    if not kept.any():
        raise ValueError(
            f"the record of weather ({when[0]} to {when[-1]}) does not touch the period of the "
            f"minicube ({days[0]} to {days[-1] + form.STEP - 1}); give a longer one"
        )
    attrs = {"units": "1", "long_name": "Extreme events"} | extremes.EVENT_FLAGS
    about = {"units": "1", "long_name": "Number of the persistent compound event (0 = none)"}
    data = xr.Dataset(
        {"events": ("event_time", flags[kept], attrs),
         "event_labels": ("event_time", labels[kept], about)},
        coords={"event_time": when[kept].astype("datetime64[ns]")},
    )  # fmt: skip
    steps = (f"percentiles of {when[0]} to {when[-1]} ({when.size} days)",)
    return Component("events", data, (_origin(record),), steps, _line(record))


def _origin(array: xr.DataArray | xr.Dataset) -> str:
    words = [str(array.attrs.get(key, "")) for key in ("source", "comment", "title")]
    return next((word for word in words if word), "not named by the cube")


def _line(array: xr.DataArray | xr.Dataset) -> str:
    return str(array.attrs.get("attribution", ""))
