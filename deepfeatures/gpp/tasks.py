"""What takes longer than a look: a model trained on towers, a map of GPP; for the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from deepfeatures import aoi, catalogue, contract, layers, store
from deepfeatures.gpp import mapping, metrics, readers, shelf, splits, training
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.towers import Towers, towers
from deepfeatures.settings import Workspace

Progress = Callable[[int, int], None] | None
Cancelled = Callable[[], bool] | None


def train(
    found: Towers,
    recipe: training.Recipe,
    name: str,
    *,
    about: Mapping[str, Any] | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> Predictor:
    """Train a model on all towers but their last years, and judge it on those.

    Parameters
    ----------
    found
        Towers with the drivers that go in.
    recipe
        How it is trained.
    name
        What it is called.
    about
        What else its card says about the training: the source of the data, whether simulated.
    progress, cancelled
        See `training.train`.
    """
    split = splits.by_year(found)[0]
    model = training.train(found, split, recipe, name=name, progress=progress, cancelled=cancelled)
    days = np.flatnonzero(split.test & found.usable)
    told = {"test": metrics.sums(found.gpp[days], model(found, days).mean).scores()}
    card = replace(model.card, training=model.card.training | told | dict(about or {}))
    return Predictor(card, model.module, model.inverse)


def about(table: pd.DataFrame) -> dict[str, Any]:
    """Say where a table of towers comes from, as far as it tells."""
    sources = sorted({str(one) for one in table["source"]}) if "source" in table else []
    return {"source": ", ".join(sources[:8]), "simulated": sources == ["simulated"]}


def train_job(
    ws: Workspace,
    settings: Mapping[str, Any],
    name: str,
    *,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> None:
    """Train a model as a job asks for it, and keep it in the workspace.

    Parameters
    ----------
    ws
        The workspace.
    settings
        ``towers`` (name of a table), ``kind``; perhaps ``drivers``, ``window``, ``steps``,
        ``seed``, ``statics``.
    name
        What it is called.
    progress, cancelled
        See `training.train`.
    """
    table = shelf.load(ws, str(settings["towers"]))
    names = settings.get("drivers") or usual_drivers(table)
    plan = training.Recipe(
        kind=str(settings["kind"]), window=int(settings.get("window", 30)),
        steps=settings.get("steps"), seed=int(settings.get("seed", 0)),
        statics=bool(settings.get("statics", False)),
    )  # fmt: skip
    made = train(
        towers(table, names), plan, name, about=about(table), progress=progress,
        cancelled=cancelled,
    )  # fmt: skip
    made.save(ws.models / "gpp" / f"{name}.safetensors")


def usual_drivers(table: pd.DataFrame) -> list[str]:
    """Name the drivers that also a pixel has: no spread around a tower."""
    usual = [name for name in towers(table).drivers if not name.endswith("_std")]
    # features come only when the sky is clear, so they may miss in half of the days
    more = [
        str(name) for name in table
        if readers.DRIVERS.get(str(name)) == "features" and table[name].notna().any()
    ]  # fmt: skip
    return list(dict.fromkeys([*usual, *more]))


def paint(
    ws: Workspace,
    name: str,
    model: str,
    days: list[np.datetime64],
    *,
    weather: str = "",
    area: aoi.AOI | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> xr.Dataset:
    """Tell the GPP of the pixels of a cube; see `mapping.gpp_map`.

    Parameters
    ----------
    ws
        The workspace.
    name
        Cube of features or bands.
    model
        Name of a GPP model.
    days
        Days that are told.
    weather
        Cube with daily weather; by default that of which the features were made.
    area
        Only the window around this area.
    progress, cancelled
        See `mapping.gpp_map`.
    """
    predictor = Predictor.load(shelf.model_path(ws, model))
    channels = catalogue.open(ws, name)
    source = weather or str(channels.attrs.get("source_cube") or name)
    if area is not None:
        (y0, y1, x0, x1), _ = aoi.window(area, contract.geobox(channels))
        channels = channels.isel(y=slice(y0, y1), x=slice(x0, x1))
    cube = catalogue.open(ws, source)
    return mapping.gpp_map(predictor, cube, channels, days, progress=progress, cancelled=cancelled)


CHANNELS = ("gpp", "range", "distance")
"""Maps of a stored result: GPP [gC m-2 d-1], 95th minus 5th percentile [gC m-2 d-1], and the
distance to the training days (above 1: out of domain)."""


def paint_job(
    ws: Workspace,
    name: str,
    model: str,
    settings: Mapping[str, Any],
    out: str,
    *,
    area: aoi.AOI | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> None:
    """Make the map of a day as a job asks for it, and keep it as a layer with its uncertainty."""
    day = np.datetime64(str(settings["day"]), "D")
    made = paint(ws, name, model, [day], area=area, progress=progress, cancelled=cancelled)
    whole = store.open(catalogue.url(ws, name))
    values = np.full((len(CHANNELS), whole.sizes["y"], whole.sizes["x"]), np.nan, np.float32)
    rows, columns = (whole.indexes[dim].get_indexer(made.indexes[dim]) for dim in ("y", "x"))
    values[:, rows[:, None], columns] = np.stack(
        [made["gpp"][0], made["gpp_high"][0] - made["gpp_low"][0], made["distance"][0]]
    )
    version = str(store.arrays(catalogue.url(ws, name)).attrs["version"])
    layers.save(
        ws,
        layers.Layer(
            source=name, version=version, title=f"GPP of {name} on {day} by {model} [gC m-2 d-1]",
            method="gpp", settings={"model": model, "day": str(day)}, channels=CHANNELS,
            values=values, day=day,
        ),
        out,
    )  # fmt: skip
