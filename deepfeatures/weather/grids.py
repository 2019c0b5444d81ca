"""Weather of one place from a gridded store: Zarr or NetCDF, by path or URL."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import rasters
from deepfeatures.store import places
from deepfeatures.weather.record import Record, Series
from deepfeatures.weather.sources import Driver, lookup

LARGEST_FILE = 2 * 1024**3
"""Bytes of a remote NetCDF file, which is fetched whole."""
LARGEST_READ = 16 * 1024**3
"""Bytes in the chunks that a place and period may touch."""
NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
COPERNICUS = "Licence to use Copernicus Products"

_TIMES = ("time", "valid_time", "time_meteo", "time_era5", "date", "day")
_LATITUDES, _LONGITUDES = ("latitude", "lat"), ("longitude", "lon")


def read(
    source: str,
    *,
    lat: float,
    lon: float,
    period: tuple[np.datetime64, np.datetime64],
    columns: Mapping[str, str] | None,
    nearest: bool,
) -> Record:
    """Read the known variables at a place; only its cells and the period are fetched.

    Parameters
    ----------
    source
        Path or URL; ``.nc`` is NetCDF, anything else a Zarr store.
    lat, lon
        Degrees.
    period
        First and last time.
    columns
        As for `deepfeatures.weather.read`.
    nearest
        Take the nearest cell instead of the bilinear mean of four.

    Raises
    ------
    FileNotFoundError
        If there is nothing at a path.
    ValueError
        If it cannot be read or nothing in it is known, or the place or period lies outside.
    OSError
        If a URL cannot be read after several attempts.
    """
    if not places.remote(source):
        if not Path(source).exists():
            raise FileNotFoundError(f"there is no weather at {source}; check the path")
        return _read(source, lat, lon, period, columns, nearest)
    from aiohttp import ClientError

    def once() -> Record:
        return _read(source, lat, lon, period, columns, nearest)

    return rasters.retried(once, source, (ClientError,))


def _read(
    source: str,
    lat: float,
    lon: float,
    period: tuple[np.datetime64, np.datetime64],
    columns: Mapping[str, str] | None,
    nearest: bool,
) -> Record:
    with _opened(source) as ds:
        known = {}
        for name, array in ds.data_vars.items():
            driver = lookup(str(name), str(array.attrs.get("units", "")), columns)
            if driver is not None:
                known[name] = _of_method(driver, array)
        if not known:
            names = ", ".join(str(name) for name in list(ds.data_vars)[:12])
            raise ValueError(
                f"{source} has no known weather variable (it has {names}); say what they are with "
                "columns={'name': 'temperature_mean [degC]', ...}"
            )
        axis = _time_axis(ds[list(known)], source)
        known = {name: driver for name, driver in known.items() if axis in ds[name].dims}
        part = ds[list(known)].isel({axis: _within(ds[axis].values, period, source)})
        cells, words = _cells(part, lat, lon, nearest, source)
        part = part.isel({dim: index for dim, (index, _) in cells.items()})
        _bounded(part, ds, source)
        series = []
        for name, driver in known.items():
            values = _at_place(part[name], axis, cells, source)
            units = str(part[name].attrs.get("units", "")) or driver.units
            if columns is not None and "[" in columns.get(str(name), ""):
                units = driver.units
            series.append(Series(str(name), driver, units, values))
        time = part[axis].values.astype("datetime64[s]")
        licence = str(ds.attrs.get("licence") or ds.attrs.get("license") or COPERNICUS)
        attribution = str(ds.attrs.get("attribution") or _attribution(time))
    return Record(time, tuple(series), True, words, licence, attribution)


def _attribution(time: NDArray[np.datetime64]) -> str:
    first, last = (str(day)[:4] for day in (time[0], time[-1]))
    years = first if first == last else f"{first}-{last}"
    return f"Contains modified Copernicus Climate Change Service information {years}"


@contextmanager
def _opened(source: str) -> Iterator[xr.Dataset]:
    """Open a store lazily, without dask: indexing fetches the chunks that are touched."""
    options: dict[str, Any] = {"chunks": None, "decode_timedelta": False}
    with ExitStack() as stack:
        try:
            if source.split("?")[0].lower().endswith(NETCDF):
                path = stack.enter_context(_local(source))
                ds = stack.enter_context(xr.open_dataset(path, engine="netcdf4", **options))
            else:
                # keys and endpoint of a bucket come from the environment
                store = places.zarr_store(source) if source.startswith("s3://") else source
                with warnings.catch_warnings():
                    # stores without consolidated metadata are read all the same
                    warnings.simplefilter("ignore", RuntimeWarning)
                    ds = xr.open_zarr(store, **options)
        except OSError as error:
            if places.remote(source) and not isinstance(error, FileNotFoundError):
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise ValueError(
                f"{source} cannot be read as NetCDF or Zarr ({said}); check what it is"
            ) from None
        yield ds


@contextmanager
def _local(source: str) -> Iterator[str]:
    """Give a path of a NetCDF file; a remote one is fetched into a temporary file."""
    if not places.remote(source):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weather.nc"
        with fsspec.open(source, "rb") as remote, path.open("wb") as file:
            size = getattr(remote, "size", None)
            if size is None or size > LARGEST_FILE:
                raise ValueError(
                    f"{source} has {size or 'an unknown number of'} bytes and is fetched whole; "
                    "use a Zarr store, or fetch it yourself and give the path"
                )
            shutil.copyfileobj(remote, file, 4 * 1024**2)
        yield str(path)


def _of_method(driver: Driver, array: xr.DataArray) -> Driver:
    """Follow ``cell_methods``: daily statistics of ERA5 call the maximum ``t2m`` too."""
    method = str(array.attrs.get("cell_methods", "")).lower()
    if driver.name == "temperature_mean":
        for word in ("maximum", "minimum"):
            if f"time: {word}" in method:
                return Driver(f"temperature_{word[:3]}", driver.units, word[:3])
    return driver


def _time_axis(ds: xr.Dataset, source: str) -> str:
    for name in _TIMES:
        if name in ds.coords and ds[name].dims == (name,):
            if ds[name].dtype.kind != "M":
                raise ValueError(
                    f"the times of {source} are in a calendar that is not the usual one "
                    f"({ds[name].dtype}); convert them to the standard calendar"
                )
            return name
    raise ValueError(f"{source} has no time axis; it needs one of {', '.join(_TIMES)}")


def _within(
    time: NDArray[np.datetime64], period: tuple[np.datetime64, np.datetime64], source: str
) -> slice:
    if time.size > 1 and np.any(np.diff(time) <= np.timedelta64(0)):
        raise ValueError(f"the times of {source} do not rise; sort them and drop duplicates")
    first, last = np.searchsorted(time, period[0]), np.searchsorted(time, period[1], side="right")
    if first >= last:
        days = [str(t.astype("datetime64[D]")) for t in (time[0], time[-1])] if time.size else []
        raise ValueError(
            f"{source} has nothing from {period[0]} to {period[1]}; it holds "
            f"{' to '.join(days) or 'no time'}"
        )
    return slice(int(first), int(last))


_Cells = dict[Hashable, tuple[NDArray[np.int64], NDArray[np.float64]]]


def _cells(
    ds: xr.Dataset, lat: float, lon: float, nearest: bool, source: str
) -> tuple[_Cells, str]:
    """Give the cells around the place with their weights, and words about them."""
    found: _Cells = {}
    where = []
    for names, place, around in ((_LATITUDES, lat, False), (_LONGITUDES, lon, True)):
        name = next((n for n in names if n in ds.dims and n in ds.coords), None)
        if name is None:
            continue
        axis = ds[name].values.astype(np.float64)
        index, weight = neighbours(axis, place, around=around)
        if index.size == 0:
            raise ValueError(
                f"the place ({lat:g}, {lon:g}) lies outside of {source}, whose {name} goes from "
                f"{axis.min():g} to {axis.max():g}"
            )
        if nearest:
            index, weight = index[[np.argmax(weight)]], np.ones(1)
        found[name] = index, weight
        where.append(f"{name} {' and '.join(f'{axis[i]:g}' for i in index)}")
    how = "nearest cell" if nearest else "bilinear between cells"
    return found, f"{how}: {', '.join(where)}" if where else "a series of one place"


def neighbours(
    axis: NDArray[np.float64], place: float, *, around: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the one or two nodes around a place on an axis, and their weights.

    Parameters
    ----------
    axis
        Rising or falling nodes; longitudes of either 0..360 or -180..180.
    place
        Where.
    around
        Whether the axis closes at 360 degrees.

    Returns
    -------
    index, weight
        Rising indices; empty where the place is more than half a step outside.
    """
    away = axis - place
    if around:
        away = (away + 180.0) % 360.0 - 180.0
    spacing = float(np.min(np.abs(np.diff(axis)))) if axis.size > 1 else 1.0
    order = np.argsort(np.abs(away), kind="stable")
    closest = int(order[0])
    nothing = np.zeros(0, np.int64), np.zeros(0)
    other = next((int(i) for i in order[1:3] if away[i] * away[closest] < 0), None)
    if abs(away[closest]) < 1e-9 * max(1.0, spacing):
        return np.array([closest]), np.ones(1)
    if other is None or abs(away[other] - away[closest]) > 1.5 * spacing:
        if abs(away[closest]) > 0.5 * spacing * (1 + 1e-6):
            return nothing
        return np.array([closest]), np.ones(1)
    weight = abs(away[other]) / abs(away[other] - away[closest])
    pair, share = np.array([closest, other]), np.array([weight, 1 - weight])
    rising = np.argsort(pair)
    return pair[rising], share[rising]


def _bounded(part: xr.Dataset, ds: xr.Dataset, source: str) -> None:
    """Refuse what would fetch whole maps for one place."""
    total = 0
    for name, array in part.data_vars.items():
        chunks = ds[name].encoding.get("preferred_chunks") or {}
        size = array.dtype.itemsize
        for dim, length in array.sizes.items():
            chunk = int(chunks.get(dim, 1))
            # cells may straddle chunks; a period touches one more than it fills
            touched = min(length, -(-length // chunk) + 1)
            size *= min(touched * chunk, ds.sizes[dim])
        total += size
    if total > LARGEST_READ:
        raise ValueError(
            f"reading {source} for one place would fetch {total / 1024**3:.0f} GiB, as its chunks "
            "hold whole maps; use a store chunked along time, or a shorter period"
        )


def _at_place(array: xr.DataArray, axis: str, cells: _Cells, source: str) -> NDArray[np.float64]:
    """Load the cells and weigh them; a cell without a value (sea) leaves it to the others."""
    extra = [dim for dim in array.dims if dim != axis and dim not in cells]
    if any(array.sizes[dim] > 1 for dim in extra) or axis not in array.dims:
        raise ValueError(
            f"the variable {array.name!r} of {source} has the dimensions "
            f"{', '.join(map(str, array.dims))}; it needs time, latitude and longitude"
        )
    array = array.isel(dict.fromkeys(extra, 0)).transpose(
        axis, *[d for d in cells if d in array.dims]
    )
    values = array.values.astype(np.float64)
    weight = np.ones(())
    for dim in array.dims[1:]:
        weight = np.multiply.outer(weight, cells[dim][1])
    there = np.isfinite(values)
    inner = tuple(range(1, values.ndim))
    total = np.where(there, weight, 0.0).sum(axis=inner)
    summed = np.where(there, values * weight, 0.0).sum(axis=inner)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)
