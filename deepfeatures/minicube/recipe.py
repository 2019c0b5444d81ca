"""The recipes of minicubes: from a cube of the workspace to a store with its row in the registry.

These functions know the workspace, weather sources and the clock; all else is given to them.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import catalogue, contract
from deepfeatures import weather as reader
from deepfeatures.minicube import assembly, files, form
from deepfeatures.minicube.assembly import Sources
from deepfeatures.minicube.parts import VERSIONS, Progress
from deepfeatures.settings import Workspace

RECORD = np.datetime64("1950-01-01", "D")
"""First day of the record of which percentiles are taken, where the source reaches back so far."""


def make(
    ws: Workspace,
    name: str,
    out: Path,
    *,
    lat: float | None = None,
    lon: float | None = None,
    start: str | None = None,
    end: str | None = None,
    weather: str | None = None,
    record: str | None = None,
    progress: Progress = None,
) -> Path:
    """Make a minicube of a band cube and register it.

    Parameters
    ----------
    ws, name
        Workspace and name of the cube.
    out
        Folder of minicubes; each is called after its ``data_id``, and ``registry.csv`` lists them.
    lat, lon, start, end
        As for `assembly.assemble`.
    weather
        Path or URL of daily weather; that in the cube by default.
    record
        Path or URL of a long record of daily weather from which events are found.
    progress
        Called with bands done and bands in all.

    Returns
    -------
    pathlib.Path
        The store.
    """
    if (lat is None) != (lon is None):
        raise ValueError("a place needs both its latitude and its longitude; give --lat and --lon")
    cube = _cube(ws, name)
    box, days = form.grid(cube, lat, lon), assembly.period(cube, start, end)
    ds = assembly.assemble(
        _sources(cube, box, days, weather, record), date=_today(),
        lat=lat, lon=lon, start=start, end=end, progress=progress,
    )  # fmt: skip
    count = 0
    while (out / f"{ds.attrs['data_id']}.zarr").exists():
        before, count = str(ds.attrs["data_id"]), count + 1
        ds.attrs["data_id"] = f"{before.rsplit('_', 1)[0]}_{count}"
        ds.attrs["history"] = ds.attrs["history"].replace(before, ds.attrs["data_id"])
    target = files.write(ds, out / f"{ds.attrs['data_id']}.zarr")
    files.register(target)
    return target


def refresh(
    ws: Workspace,
    path: Path,
    name: str,
    wanted: Collection[str],
    *,
    weather: str | None = None,
    record: str | None = None,
    progress: Progress = None,
) -> dict[str, str]:
    """Make components of a minicube anew and replace them, without touching the others.

    ``s2`` takes ``mask`` along, for both hold the same acquisitions; ``mask`` alone is made for
    the acquisitions that the minicube holds.

    Parameters
    ----------
    ws, name
        Workspace and name of the cube from which they are made.
    path
        The minicube.
    wanted
        Names of components.
    weather, record, progress
        As for `make`.

    Returns
    -------
    dict
        The new version of each component.
    """
    unknown = [word for word in wanted if word not in VERSIONS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no component; choose from {', '.join(VERSIONS)}")
    cube = _cube(ws, name)
    with files.open(path) as old:
        box = contract.geobox(old)
        days = old["time"].values.astype("datetime64[D]")
        acquired = old["acquisition_time"].values if "s2" not in wanted else None
    if contract.crs(cube) != box.crs:
        raise ValueError(
            f"{name!r} is in {contract.crs(cube)} and the minicube in {box.crs}; take the cube "
            "of which it was made"
        )
    sources = _sources(cube, box, days, weather, record)
    names = {*wanted, *(["mask"] if "s2" in wanted else [])}
    made = assembly.components(
        sources, box, days, wanted=names, acquired=acquired, progress=progress
    )
    lacking = names - {one.name for one in made}
    if lacking:
        raise ValueError(f"there is no source for {', '.join(sorted(lacking))}; name one")
    versions = files.update(path, made, date=_today())
    files.register(path)
    return versions


def _cube(ws: Workspace, name: str) -> xr.Dataset:
    cube = catalogue.open(ws, name)
    if contract.kind(cube) != "bands":
        raise ValueError(f"{name!r} is no cube of bands; a minicube is made of one")
    return cube


def _sources(
    cube: xr.Dataset,
    box: GeoBox,
    days: NDArray[np.datetime64],
    weather: str | None,
    record: str | None,
) -> Sources:
    lon, lat = box.extent.centroid.to_crs("EPSG:4326").coords[0]
    part, _ = form.cut(cube, box)
    height = float(part["elevation"].mean()) if "elevation" in part else np.nan
    found: dict[str, Any] = {}
    for name, source, first in (("weather", weather, days[0]), ("record", record, RECORD)):
        if source is not None:
            found[name] = reader.read(
                source, lat=lat, lon=lon, start=first, end=days[-1] + form.STEP - 1,
                elevation=height if np.isfinite(height) else None,
            )  # fmt: skip
    return Sources(cube, **found)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
