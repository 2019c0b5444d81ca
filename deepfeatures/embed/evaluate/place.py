"""Places on which features are judged: a block of a cube and what is known to be true there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures.embed import data

NEAR_DAYS = 6.0
"""Radar farther in time than this [d] tells nothing about an optical date."""
LABELS = ("label_class", "label_CT")
"""Maps of classes that are probed, the first that a cube has; 0 = none."""
TRUTHS = {
    "leaf area": "truth_lai",
    "chlorophyll": "truth_chlorophyll",
    "stress": "truth_stress",
    "GPP": "truth_gpp",
}
"""What is probed at each pixel-date, and the variable that holds it, (time, y, x)."""
FOOTPRINT = 2
"""Pixels on each side of a tower that it measures."""


@dataclass(frozen=True, eq=False)
class Towers:
    """Flux towers of a place."""

    row: NDArray[np.intp]
    """Row of each tower's pixel ``(tower,)``."""
    column: NDArray[np.intp]
    """Column of each tower's pixel ``(tower,)``."""
    gpp: NDArray[np.float64]
    """What they measured on the optical dates ``(tower, time)``, NaN in gaps."""


@dataclass(frozen=True, eq=False)
class Events:
    """Where and when a place changed for good."""

    kind: NDArray[np.integer]
    """Code ``(y, x)``, 0 = nothing happened."""
    day: NDArray[np.float64]
    """Days since 1970-01-01 ``(y, x)``, NaN = never."""


@dataclass(frozen=True, eq=False)
class Place:
    """A block of a cube with what is known to be true there."""

    name: str
    """Name, unique among the places of a table."""
    region: str
    """Places of one region share sensors and labels: one may teach a probe for the other."""
    channels: tuple[str, ...]
    """Channels of the block."""
    block: data.Block
    """Values, with the mask as delivered."""
    strict: NDArray[np.bool_]
    """Usable pixel-dates ``(time, y, x)`` after `clouds.refine` in time."""
    truth: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    """What is known of each pixel-date, name -> ``(time, y, x)``, NaN = unknown."""
    labels: NDArray[np.integer] | None = None
    """Classes ``(y, x)``, 0 = none."""
    events: Events | None = None
    """Changes, if they are known."""
    towers: Towers | None = None
    """Flux towers, if there are any."""

    @property
    def refined(self) -> data.Block:
        """The block with the strict mask in the place of the delivered one."""
        return replace(self.block, valid=self.strict)


def place(
    ds: xr.Dataset,
    name: str,
    channels: Sequence[str],
    *,
    region: str | None = None,
    sensors: Mapping[str, int] | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Place:
    """Read a window of a cube and what the cube knows about it.

    Parameters
    ----------
    ds
        Band cube.
    name, region
        See `Place`; simulated cubes are of the region ``simulated``, others, if it is not named, of
        their own.
    channels
        Bands to take.
    sensors
        Other sensors that models look at, see `data.read` (``contexts`` of a predictor).
    rows, columns
        The window.
    """
    data.require(ds, channels)
    simulated = ds.attrs.get("simulated") == "true"
    part = ds.isel(y=rows, x=columns)
    block = data.read(part, channels, sensors=sensors)
    truth = {
        word: part[variable].transpose("time", "y", "x").values
        for word, variable in TRUTHS.items()
        if variable in part
    }
    events = _events(part)
    return Place(
        name=name,
        region="simulated" if simulated else region or name,
        channels=tuple(channels),
        block=block,
        strict=data.refined(part, block, channels),
        truth=truth | _radar(part, block.days),
        labels=_labels(part, events),
        events=events,
        towers=_towers(part),
    )


def _radar(ds: xr.Dataset, days: NDArray[np.float64]) -> dict[str, NDArray[np.floating]]:
    """Give the backscatter [dB] of the radar date nearest to each optical date."""
    if "backscatter" not in ds or ds.sizes["time_s1"] == 0:
        return {}
    echoes = ds["backscatter"].transpose("polarisation", "time_s1", "y", "x").compute()
    when = ds["time_s1"].values.astype("datetime64[s]").astype(np.float64) / 86400.0
    gap = np.abs(when[None] - days[:, None])  # (time, time_s1)
    nearest, far = gap.argmin(axis=1), gap.min(axis=1) > NEAR_DAYS
    found = {}
    for name, values in zip(echoes["polarisation"].values, echoes.values, strict=True):
        taken = values[nearest]
        taken[far] = np.nan
        found[f"radar {name}"] = taken
    return found


def _events(ds: xr.Dataset) -> Events | None:
    if "truth_event_day" not in ds:
        return None
    first = ds["time_meteo"].values[0].astype("datetime64[D]").astype(np.float64)
    day = ds["truth_event_day"].values
    return Events(ds["truth_event"].values, np.where(day == -32768, np.nan, first + day))


def _labels(ds: xr.Dataset, events: Events | None) -> NDArray[np.integer] | None:
    """Give the classes, without the pixels whose class changes."""
    name = next((name for name in LABELS if name in ds), None)
    if name is None:
        return None
    labels: NDArray[np.integer] = ds[name].values
    return labels if events is None else np.where(events.kind > 0, 0, labels)


def _towers(ds: xr.Dataset) -> Towers | None:
    """Find the towers whose pixel lies in a window."""
    if "tower_gpp" not in ds:
        return None
    y, x = ds["y"].values, ds["x"].values
    row = np.rint((ds["tower_y"].values - y[0]) / (y[1] - y[0])).astype(np.intp)
    column = np.rint((ds["tower_x"].values - x[0]) / (x[1] - x[0])).astype(np.intp)
    inside = (row >= 0) & (row < ds.sizes["y"]) & (column >= 0) & (column < ds.sizes["x"])
    if not inside.any():
        return None
    date = ds["time"].values.astype("datetime64[D]")
    index = np.searchsorted(ds["time_meteo"].values.astype("datetime64[D]"), date)
    gpp = ds["tower_gpp"].transpose("tower", "time_meteo").values[inside][:, index]
    return Towers(row[inside], column[inside], gpp.astype(np.float64))
