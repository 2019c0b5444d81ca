"""The recipes: simulate, import, build, index, embed, remove.

The order of the world is written here only: each recipe goes from its source through the store
to the catalogue. Page, HTTP, command line and notebooks call these functions and no others.
All of them resume where a killed run stopped, and list a cube only when it is complete.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import filelock
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from deepfeatures import __version__, cards, catalogue, contract, makers, space, store, work
from deepfeatures.aoi import AOI, window
from deepfeatures.settings import Workspace, checked_name
from deepfeatures.tiles import Tile

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
    embed(ws, "demo", model=cards.DEFAULT, out="demo-features", progress=progress)
    return ["demo", "demo-features"]


def import_file(
    ws: Workspace,
    name: str,
    path: str | os.PathLike[str],
    *,
    date: str | None = None,
    offset: float | None = None,
    mapping: Mapping[str, Any] | None = None,
    clouds: str = "full",
    progress: Progress = None,
) -> str:
    """Read somebody else's cube into the workspace.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the new cube.
    path
        The file or store.
    date
        Day of a single image whose file does not say it.
    offset
        What is added to the reflectance, for files that kept the shift of processing baseline
        04.00 (-0.1); by default what the metadata of the file say, see `foreign.read`.
    mapping
        How the variables of an unknown form are to be understood, see `foreign.read`.
    clouds
        How clouds are looked for that the file's own mask misses, one of `clouds.METHODS`.
    progress
        Called with tiles done and tiles in all.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file holds no cube that can be understood.
    """
    from deepfeatures import foreign

    checked_name(name)
    ds = foreign.read(path, offset=offset, date=date, mapping=mapping)
    plan = f"import {Path(path).name} {_weight(path)} {offset} {mapping} {clouds}"
    plan += f" version={__version__}"
    return _written(ws, name, makers.Imported(ds, clouds), plan, progress=progress)


def build(
    ws: Workspace,
    name: str,
    *,
    area: AOI | GeoBox | Sequence[float] | None = None,
    lat: float | None = None,
    lon: float | None = None,
    edge_size: float | None = None,
    units: str = "px",
    resolution: float = 10.0,
    start: datetime.date | str,
    end: datetime.date | str,
    catalog: str,
    clouds: str = "full",
    nbar: str = "grid",
    radar: str | None = None,
    radar_collection: str | None = None,
    despeckle: bool = False,
    ground: str | None = None,
    weather: str | None = None,
    executor: Executor | None = None,
    root: str | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
    **request: Any,
) -> str:
    """Build a band cube from a STAC catalogue.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the new cube.
    area
        Where: a polygon, a grid, or west, south, east, north in degrees. Outside a polygon there
        are no values.
    lat, lon, edge_size, units
        Where, said otherwise: the centre [degree] and the edge of a square in ``px`` or ``m``.
    resolution
        Pixel size [m].
    start, end
        First and last day.
    catalog
        Address of a STAC API, path or address of a static catalogue, or the name of a preset.
    clouds
        How clouds are looked for: ``full``, ``temporal`` or ``scl``, see `clouds.refine`.
    nbar
        Correction to a view from nadir: ``grid``, ``scene`` or ``off``, see `stac.sources`.
    radar
        Catalogue of Sentinel-1, as `catalog`; without it the cube has no radar.
    radar_collection
        Its collection; RTC by default where there is one.
    despeckle
        Whether the speckle of radar is filtered.
    ground
        Catalogue of elevation (Copernicus DEM) and land cover (WorldCover), as `catalog`.
    weather
        Daily drivers: NetCDF, Zarr or table, see `weather.read`.
    executor
        Who makes the tiles, see `work.workers`; None for the caller.
    root
        Folder or URL below which the store is written; the workspace by default.
    progress
        Called with tiles done and tiles in all.
    cancelled
        Asked between tiles.
    request
        ``collection``, ``bands``, ``crs``, ``offset``, ``query`` and
        ``resampling`` as in `stac.sources`.

    Raises
    ------
    FileNotFoundError, ConnectionError, ValueError
        One sentence that says what is wrong and the remedy.
    """
    from deepfeatures import stac

    checked_name(name)
    area = makers.area(
        area, lat=lat, lon=lon, edge_size=edge_size, units=units, resolution=resolution
    )
    source = stac.sources(
        area,
        resolution=None if isinstance(area, GeoBox) else resolution,
        catalog=catalog,
        start=str(start),
        end=str(end),
        nbar=nbar,
        angles_folder=ws.home / "angles",
        **request,
    )
    maker = makers.Bands(source, clouds, area if isinstance(area, AOI) else None)
    maker = makers.completed(
        maker,
        period=(str(start), str(end)),
        radar=(radar, radar_collection) if radar else None,
        despeckle=despeckle,
        ground=ground,
        weather=weather,
    )
    return _written(
        ws, name, maker, f"build {maker.plan()} version={__version__}",
        executor=executor, root=root, progress=progress, cancelled=cancelled,
    )  # fmt: skip


def correct(
    ws: Workspace,
    name: str,
    *,
    out: str | None = None,
    executor: Executor | None = None,
    progress: Progress = None,
) -> str:
    """Correct a band cube to a view from nadir with the mean angles of its scenes.

    Cubes that `build` made with the grids of angles are corrected already, and better.

    Raises
    ------
    KeyError
        If the cube is unknown.
    ValueError
        If it has no angles, or is corrected already.
    """
    target = out or f"{name}-nbar"
    maker = makers.Nadir(catalogue.url(ws, name), name)
    plan = f"nbar of {name} version={__version__}"
    return _written(ws, target, maker, plan, executor=executor, progress=progress)


def materialise(
    ws: Workspace,
    name: str,
    indices: Sequence[str],
    *,
    constants: Mapping[str, float] | None = None,
    out: str | None = None,
    executor: Executor | None = None,
    root: str | None = None,
    progress: Progress = None,
) -> str:
    """Store spectral indices of a band cube as an SI cube, in int16 with a step per index.

    What could not be stored as it is stands in the attribute ``index_report``: for each index the
    number of usable values, of those undefined, and of those clipped from below and above.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the band cube.
    indices
        Names of the catalogue, or expressions such as ``"(B08 - B05) / (B08 + B05)"``.
    constants
        Other values than the catalogue's, such as ``{"L": 0.5}``.
    out
        Name of the SI cube; that of the band cube with ``-indices`` by default.
    executor
        Who makes the tiles; the caller by default.
    root
        URL below which the store is to lie; the workspace by default.
    progress
        Called with tiles done and tiles in all.

    Raises
    ------
    KeyError
        If the cube or an index is unknown.
    ValueError
        If the cube lacks a band that an index needs.
    """
    from deepfeatures import indices as engine

    target = out or f"{name}-indices"
    given = tuple(sorted((constants or {}).items()))
    url = catalogue.url(ws, name)
    maker = makers.Indices(url, name, tuple(dict.fromkeys(indices)), given)
    version = store.arrays(url).attrs["version"]
    plan = f"indices of {name} {version} {engine.CATALOGUE} {given} {__version__}"
    return _written(
        ws, target, maker, plan, executor=executor, root=root, progress=progress,
        summary=makers.tallied, coarse=maker.coarse,
    )  # fmt: skip


def _weight(path: str | os.PathLike[str]) -> int:
    """Give the bytes of a file or folder, by which a changed one is known; 0 for a URL."""
    place = Path(path)
    if place.is_dir():
        return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return place.stat().st_size if place.is_file() else 0


class _Maker(Protocol):
    """Knows the cube before its pixels, and makes the pixels of a tile."""

    def template(self) -> xr.Dataset: ...

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str | Callable[[], str]]: ...


def _written(
    ws: Workspace,
    name: str,
    maker: _Maker,
    plan: str,
    *,
    executor: Executor | None = None,
    root: str | None = None,
    progress: Progress = None,
    cancelled: Cancelled = None,
    summary: Callable[[list[str]], dict[str, str]] = makers.lost,
    coarse: store.Coarse | None = None,
) -> str:
    """Write the cube of a maker tile by tile, and list it when it is complete."""
    with _writing(ws, name):
        url = catalogue.place(ws, name, root)
        writer = store.Writer.create(url, maker.template(), plan)
        work.fill(writer, maker, executor=executor, progress=progress, cancelled=cancelled)
        writer.finish(summary(list(writer.reports().values())), coarse)
        catalogue.add(ws, name, url)
    return name


def embed(
    ws: Workspace,
    name: str,
    *,
    model: str = cards.DEFAULT,
    aoi: AOI | None = None,
    out: str | None = None,
    device: str = "auto",
    error: bool = False,
    executor: Executor | None = None,
    root: str | None = None,
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
    error
        Write ``reconstruction_error`` as well: how far the bands that the features tell are from
        those that went in.
    executor
        Who makes whole tiles, see `work.workers`; by default this process, with a thread per core
        inside each tile.
    root
        Folder or URL below which the store is written; the workspace by default.
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
    model_file = cards.locate(ws, model)
    predictor = Predictor.load(model_file, device=device)
    target = out or feature_name(name, model, aoi)
    area, mask, period = None, None, None
    if aoi is not None:
        area, mask = window(aoi, contract.geobox(ds))
        days = np.datetime_as_string(ds["time"].values[[0, -1]], unit="D")
        period = (str(aoi.start or days[0]), str(aoi.end or days[1]))
    if executor is not None:
        maker = infer.Features(
            catalogue.url(ws, name), name, str(model_file), device, area, mask, period, error
        )
        return _written(
            ws, target, maker, maker.plan(),
            executor=executor, root=root, progress=progress, cancelled=cancelled,
        )  # fmt: skip
    with _writing(ws, target), infer.workers(predictor) as threads:
        url = catalogue.place(ws, target, root)
        infer.run(
            predictor,
            ds.assign_attrs(cube_name=name),
            url,
            window=area,
            mask=mask,
            period=period,
            error=error,
            executor=threads,
            progress=progress,
            cancelled=cancelled,
        )
        catalogue.add(ws, target, url)
    return target


def feature_name(name: str, model: str, aoi: AOI | None = None) -> str:
    """Give the name that a feature cube gets unless another is asked for."""
    parts = [name, *([aoi.name] if aoi else []), model]
    return checked_name("-".join(parts)[:100])


def remove(ws: Workspace, name: str) -> None:
    """Remove a cube from the catalogue and from the disk."""
    catalogue.remove(ws, name)
    space.forget(ws, name)


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
