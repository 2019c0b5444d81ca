"""Maps of GPP: a model asked at every pixel of a cube, with one weather for all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures.gpp import drivers
from deepfeatures.gpp.card import UNIT
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.towers import HELD, Towers, filled

PIXELS = 4096
"""Pixels that are told at once, in whole rows."""


def gpp_map(
    model: Predictor,
    cube: xr.Dataset,
    channels: xr.Dataset,
    days: Sequence[np.datetime64],
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> xr.Dataset:
    """Tell the GPP of every pixel on some days.

    Parameters
    ----------
    model
        Its drivers are weather of the cube and channels of the other; nothing after a day is used.
    cube
        Cube with daily weather.
    channels
        Feature cube or band cube on the grid that is told.
    days
        Days that are told.
    progress, cancelled
        Called with (rows done, rows), and asked after each part.

    Returns
    -------
    xarray.Dataset
        ``gpp``, ``gpp_low``, ``gpp_high`` (5th and 95th percentile) ``(time, y, x)`` and
        ``distance`` to the training days (above 1: out of domain); NaN where no channel was seen
        in the last 30 days.

    Raises
    ------
    ValueError
        If a driver is in neither cube, or it was learned of an area around a tower.
    InterruptedError
        If `cancelled` says so.
    """
    variable = next(name for name in drivers.CHANNELS if name in channels)
    air = drivers.weather(cube).set_index("date")
    names = [str(n) for n in channels[drivers.CHANNELS[variable]].to_numpy()]
    lacking = [n for n in model.card.drivers if n not in air and n not in names]
    if lacking:
        raise ValueError(
            f"the model {model.card.name} needs {', '.join(lacking)}, which no pixel has; train it "
            "with --drivers of the weather and the channels of this cube"
        )
    if model.card.place or model.card.biomes:
        raise ValueError(
            f"the model {model.card.name} asks for place and vegetation, which no pixel tells; "
            "train it with --no-statics"
        )
    shape = (len(days), channels.sizes["y"], channels.sizes["x"])
    made = {name: np.full(shape, np.nan, np.float32) for name in ("gpp", "low", "high", "distance")}
    step = max(1, PIXELS // shape[2])
    starts = range(0, shape[1], step)
    for done, start in enumerate(starts, 1):
        box = slice(start, min(start + step, shape[1]))
        values, calendar = _daily(channels, variable, box, days, model.card.window)
        for at, day in enumerate(days):
            told = _told(model, air, names, values, calendar, day)
            for name, array in told.items():
                made[name][at, box] = array.reshape(box.stop - box.start, shape[2])
        if progress:
            progress(done, len(starts))
        if cancelled and cancelled():
            raise InterruptedError("cancelled")
    return _dataset(made, channels, days, model)


def _daily(
    channels: xr.Dataset, variable: str, box: slice, days: Sequence[np.datetime64], window: int
) -> tuple[NDArray[np.float32], NDArray[np.datetime64]]:
    """Give channels ``(day, channel, pixel)`` of some rows, held from date to date."""
    dimension = drivers.CHANNELS[variable]
    first = min(days) - np.timedelta64(window + HELD, "D")
    calendar = np.arange(first, max(days) + np.timedelta64(1, "D"), dtype="datetime64[D]")
    stamps = channels["time"].to_numpy().astype("datetime64[D]")
    inside = np.flatnonzero((stamps >= calendar[0]) & (stamps <= calendar[-1]))
    part = channels[[variable, "valid"]].isel(time=inside, y=box).load()
    seen = part[variable].transpose("time", dimension, "y", "x").to_numpy()
    usable = part["valid"].to_numpy() == 1
    seen = np.where(usable[:, None], seen, np.nan).reshape(len(inside), seen.shape[1], -1)
    values = np.full((len(calendar), *seen.shape[1:]), np.nan, np.float32)
    values[(stamps[inside] - calendar[0]).astype(int)] = seen
    flat = filled(values.reshape(len(calendar), -1))
    return flat.reshape(values.shape), calendar


def _told(
    model: Predictor,
    air: object,
    names: list[str],
    values: NDArray[np.float32],
    calendar: NDArray[np.datetime64],
    day: np.datetime64,
) -> dict[str, NDArray[np.float32]]:
    """Tell one day of some pixels, each as if it were a tower."""
    window, pixels = model.card.window, values.shape[2]
    end = int((day - calendar[0]).astype(int))
    span = slice(end - window + 1, end + 1)
    weather = air.reindex(calendar[span])  # type: ignore[attr-defined]
    columns = []
    for name in model.card.drivers:
        if name in names:
            columns.append(values[span, names.index(name)].T)
        else:
            series = weather[name].to_numpy(np.float32)
            columns.append(np.broadcast_to(series, (pixels, window)))
    stacked = np.stack(columns, axis=-1).reshape(pixels * window, -1).astype(np.float32)
    towers = _pixels(model, stacked, pixels, np.tile(calendar[span].astype(np.int64), pixels))
    rows = np.arange(pixels) * window + window - 1
    told = model(towers, rows)
    there = np.isfinite(values[end]).all(axis=0)
    found = {"gpp": told.mean, "low": told.low, "high": told.high}
    found["distance"] = model.distance(towers)[rows]
    return {name: np.where(there, array, np.float32(np.nan)) for name, array in found.items()}


def _pixels(
    model: Predictor, values: NDArray[np.float32], count: int, day: NDArray[np.int64]
) -> Towers:
    nothing = np.zeros(len(day), bool)
    window = model.card.window
    return Towers(
        tuple(map(str, range(count))), ("",) * count, np.full((count, 3), np.nan),
        model.card.drivers, np.repeat(np.arange(count), window).astype(np.int16), day, values,
        np.full(len(day), np.nan, np.float32), nothing, nothing,
    )  # fmt: skip


def _dataset(
    made: dict[str, NDArray[np.float32]],
    channels: xr.Dataset,
    days: Sequence[np.datetime64],
    model: Predictor,
) -> xr.Dataset:
    titles = {
        "gpp": ("gpp", UNIT, "Predicted gross primary production"),
        "low": ("gpp_low", UNIT, "5th percentile of the predicted gross primary production"),
        "high": ("gpp_high", UNIT, "95th percentile of the predicted gross primary production"),
        "distance": ("distance", "1", "Distance to the training days, above 1 out of domain"),
    }
    coords = {name: channels[name] for name in ("y", "x", "spatial_ref") if name in channels.coords}
    found = xr.Dataset(
        {
            title: (("time", "y", "x"), made[name], {"units": unit, "long_name": text})
            for name, (title, unit, text) in titles.items()
        },
        coords={"time": np.array(days, "datetime64[ns]"), **coords},
    )
    kept = ("attribution", "licence", "simulated", "summary")
    found.attrs = {k: channels.attrs[k] for k in kept if k in channels.attrs}
    found.attrs["model"] = model.card.name
    return found
