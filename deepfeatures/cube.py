"""The recipes: simulate, import, build, index, embed, remove.

The order of the world is written here only: each recipe goes from its source through the store
to the catalogue. Page, HTTP, command line and notebooks call these functions and no others.
All of them resume where a killed run stopped, and list a cube only when it is complete.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import numpy as np
import xarray as xr

from deepfeatures import __version__, cards, catalogue, contract, store
from deepfeatures.aoi import AOI, window
from deepfeatures.settings import Workspace, checked_name

DEFAULT_MODEL = "convtemporal"
"""The shipped network that is used unless another is asked for."""

Progress = Callable[[int, int], None] | None
Cancelled = Callable[[], bool] | None


def demo(
    ws: Workspace,
    *,
    seed: int = 0,
    size: int = 256,
    years: int = 3,
    progress: Progress = None,
) -> list[str]:
    """Build the simulated landscape ``demo`` and its feature cube ``demo-features``.

    Parameters
    ----------
    ws
        The workspace.
    seed
        Seed of everything random.
    size
        Edge of the landscape [px of 10 m].
    years
        Number of years.
    progress
        Called with tiles done and tiles in all.

    Returns
    -------
    list of str
        The names of the cubes.
    """
    from deepfeatures import simulate

    with _writing(ws, "demo"):
        landscape = simulate.plan(seed=seed, size=size, years=years)
        writer = store.Writer.create(
            catalogue.place(ws, "demo"),
            simulate.template(landscape),
            plan=f"demo seed={seed} size={size} years={years} version={__version__}",
        )
        for tile in store.counted(writer, progress):
            writer.write(tile, simulate.render(landscape, tile))
        writer.finish()
        catalogue.add(ws, "demo")
    embed(ws, "demo", model=DEFAULT_MODEL, out="demo-features", progress=progress)
    return ["demo", "demo-features"]


def import_file(
    ws: Workspace,
    name: str,
    path: str | os.PathLike[str],
    *,
    date: str | None = None,
    offset: float = 0.0,
    progress: Progress = None,
) -> str:
    """Read a NetCDF cube into the workspace.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the new cube.
    path
        The file.
    date
        Day of a single image whose file does not say it.
    offset
        What is added to the reflectance, for files that kept the shift of processing baseline
        04.00 (-0.1).
    progress
        Called with tiles done and tiles in all.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file holds no cube that can be understood.
    """
    from deepfeatures import netcdf

    checked_name(name)
    source = Path(path)
    ds = netcdf.read(source, offset=offset, date=date)
    with _writing(ws, name):
        plan = f"import {source.name} {source.stat().st_size} {offset} version={__version__}"
        store.write(ds, catalogue.place(ws, name), plan, progress)
        catalogue.add(ws, name)
    return name


def build(
    ws: Workspace,
    name: str,
    *,
    lat: float,
    lon: float,
    edge_size: float,
    start: datetime.date | str,
    end: datetime.date | str,
    catalog: str,
    collection: str | None = None,
    resolution: float = 10.0,
    progress: Progress = None,
) -> str:
    """Build a band cube from a STAC catalogue.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the new cube.
    lat, lon
        Centre [degree].
    edge_size
        Edge of the square [px].
    start, end
        First and last day.
    catalog
        Address of a STAC API, path or address of a static catalogue, or the name of a preset.
    collection
        Collection to search; the preset's own by default.
    resolution
        Pixel size [m].
    progress
        Called with tiles done and tiles in all.
    """
    from deepfeatures import stac

    checked_name(name)
    grid = stac.square(lat, lon, edge_size, resolution)
    ds = stac.load(
        grid,
        catalog=catalog,
        collection=collection,
        start=str(start),
        end=str(end),
        chunk=store.edge((grid.shape.y, grid.shape.x)),
    )
    with _writing(ws, name):
        plan = f"build from {catalog} {collection} version={__version__}"
        store.write(ds, catalogue.place(ws, name), plan, progress)
        catalogue.add(ws, name)
    return name


def materialise(
    ws: Workspace,
    name: str,
    indices: Sequence[str],
    *,
    out: str | None = None,
    progress: Progress = None,
) -> str:
    """Store spectral indices of a band cube as an SI cube.

    Raises
    ------
    KeyError
        If the cube or an index is unknown.
    ValueError
        If the cube lacks a band that an index needs.
    """
    from deepfeatures import indices as engine

    ds = catalogue.open(ws, name)
    target = out or f"{name}-indices"
    template = _index_cube(ds, engine.select(ds, list(indices)), name)
    with _writing(ws, target):
        plan = f"indices of {name} {engine.CATALOGUE} version={__version__}"
        writer = store.Writer.create(catalogue.place(ws, target), template, plan)
        for tile in store.counted(writer, progress):
            rows, columns = tile.core
            part = ds[["reflectance", "valid"]].isel(y=rows, x=columns).load().chunk(time=64)
            # One lazy array for each index, so that the writer holds one at a time.
            each = [engine.select(part, [index]) for index in indices]
            writer.write(tile, _index_cube(part, xr.concat(each, dim="index"), name))
        writer.finish()
        catalogue.add(ws, target)
    return target


def _index_cube(ds: xr.Dataset, si: xr.DataArray, name: str) -> xr.Dataset:
    attrs = {
        "title": f"Spectral indices of {ds.attrs.get('title', name)}",
        "source_cube": name,
    }
    return xr.Dataset({"si": si, "valid": ds["valid"]}, attrs=dict(ds.attrs) | attrs)


def embed(
    ws: Workspace,
    name: str,
    *,
    model: str = DEFAULT_MODEL,
    aoi: AOI | None = None,
    out: str | None = None,
    device: str = "auto",
    progress: Progress = None,
    cancelled: Cancelled = None,
) -> str:
    """Make a feature cube of a band cube, or of an area and period of it.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the band cube.
    model
        Name of a shipped model or of one in the workspace; the shipped network by default.
    aoi
        Area and period; the whole cube by default.
    out
        Name of the new cube.
    device
        ``auto``, ``cpu`` or ``cuda``.
    progress
        Called with tiles done and tiles in all.
    cancelled
        Asked between tiles.

    Returns
    -------
    str
        The name of the new cube.

    Raises
    ------
    InterruptedError
        If `cancelled` said so; what was written is kept for a later resume.
    ValueError
        If the area does not touch the cube, or the cube lacks a channel of the model.
    """
    from deepfeatures import infer
    from deepfeatures.predictor import Predictor

    ds = catalogue.open(ws, name)
    predictor = Predictor.load(cards.locate(ws, model), device=device)
    target = out or feature_name(name, model, aoi)
    area, mask, period = None, None, None
    if aoi is not None:
        area, mask = window(aoi, contract.geobox(ds))
        days = np.datetime_as_string(ds["time"].values[[0, -1]], unit="D")
        period = (str(aoi.start or days[0]), str(aoi.end or days[1]))
    with _writing(ws, target), infer.workers(predictor) as executor:
        infer.run(
            predictor,
            ds.assign_attrs(cube_name=name),
            catalogue.place(ws, target),
            window=area,
            mask=mask,
            period=period,
            executor=executor,
            progress=progress,
            cancelled=cancelled,
        )
        catalogue.add(ws, target)
    return target


def feature_name(name: str, model: str, aoi: AOI | None = None) -> str:
    """Give the name that a feature cube gets unless another is asked for."""
    parts = [name, *([aoi.name] if aoi else []), model]
    return checked_name("-".join(parts)[:100])


def remove(ws: Workspace, name: str) -> None:
    """Remove a cube from the catalogue and from the disk."""
    catalogue.remove(ws, name)


def discard(ws: Workspace, name: str) -> None:
    """Remove what an unfinished run left of a cube; one that is listed or being written stays."""
    with suppress(_Busy), _writing(ws, name):
        if name not in catalogue.names(ws):
            store.remove(catalogue.place(ws, name))


class _Busy(ValueError):
    """Another process writes the cube."""


@contextmanager
def _writing(ws: Workspace, name: str) -> Iterator[None]:
    """Let one process at a time write a cube; the lock goes with the process that holds it."""
    checked_name(name)
    ws.cubes.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(ws.cubes / f".{name}.lock", timeout=0)
    try:
        with lock:
            yield
    except filelock.Timeout as error:
        raise _Busy(
            f"another process is writing the cube {name!r}; wait for it or choose another name"
        ) from error
