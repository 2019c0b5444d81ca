"""What there is to look at: cubes, dates, ranges, the size of an export."""

from __future__ import annotations

import urllib.request
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import catalogue, export, reading, store
from deepfeatures.settings import Workspace

Times = NDArray[np.datetime64]


def described(ws: Workspace) -> dict[str, dict[str, Any]]:
    """Describe every cube of the workspace; each version of a cube is looked at once."""
    found = {}
    for name in catalogue.names(ws):
        place = catalogue.url(ws, name)
        found[name] = _info(ws, name, store.token(place))
    return found


@lru_cache(maxsize=512)
def _info(ws: Workspace, name: str, token: str) -> dict[str, Any]:
    return catalogue.info(ws, name)


@lru_cache(maxsize=1)
def reachable(template: str) -> bool:
    """Tell whether a tile of the background map can be fetched; asked once per process."""
    if "{Z}" not in template:
        return False
    address = template.replace("{Z}", "0").replace("{X}", "0").replace("{Y}", "0")
    request = urllib.request.Request(address, headers={"User-Agent": "deepfeatures"})
    try:
        with urllib.request.urlopen(request, timeout=4) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def opened(ws: Workspace, name: str) -> reading.OpenCube:
    """Open a cube for reading."""
    return reading.open(catalogue.url(ws, name), name)


def shares(ws: Workspace, name: str) -> list[float]:
    """Give the usable share of each date of a cube, 0..1."""
    return [float(share) for share in reading.shares(opened(ws, name))]


def clear_day(ws: Workspace, name: str) -> str:
    """Give a date that shows a cube at its best: among its clearest, the greenest of seasons."""
    cube = opened(ws, name)
    found = reading.shares(cube)
    days = cube.times.astype("datetime64[D]")
    south = cube.geobox.geographic_extent.centroid.coords[0][1] < 0
    of_year = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    summer = np.abs((of_year + (182 if south else 0)) % 365 - 182)
    away = np.where(found >= 0.95 * found.max(), summer, 1000)
    return str(days[np.flatnonzero(away == away.min())[-1]])


def limits(ws: Workspace, name: str, channel: str) -> tuple[float, float]:
    """Give the range of values that suits a channel."""
    return reading.limits(opened(ws, name), channel)


def histogram(
    ws: Workspace, name: str, channel: str, date: str, bounds: list[float]
) -> reading.Histogram:
    """Count the usable values of a channel in a view (west, south, east, north in degrees).

    Raises
    ------
    ValueError
        If the view shows nothing of the cube.
    """
    cube = opened(ws, name)
    west, south, east, north = bounds
    return reading.histogram(cube, channel, reading.step(cube, date), (west, south, east, north))


@lru_cache(maxsize=16)
def _lazy(cube: reading.OpenCube) -> xr.Dataset:
    return store.open(cube.url)


def export_size(
    ws: Workspace,
    name: str,
    form: str,
    *,
    geometry: dict[str, Any] | None,
    period: tuple[str, str],
    channels: list[str],
) -> int:
    """Give the bytes of an export before compression.

    Raises
    ------
    ValueError
        If nothing would be exported, or too much.
    """
    chosen = export.select(
        _lazy(opened(ws, name)),
        geometry=shapely.geometry.shape(geometry) if geometry else None,
        start=period[0],
        end=period[1],
        channels=channels or None,
    )
    return export.check_size(chosen, form)
