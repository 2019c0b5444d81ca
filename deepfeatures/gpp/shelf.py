"""Models and towers of a workspace: what comes with the package, what was trained or brought."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import xarray as xr
from pyarrow import ArrowInvalid

from deepfeatures import aoi, cards, catalogue, contract, store
from deepfeatures.gpp import drivers, readers
from deepfeatures.gpp.light import Light
from deepfeatures.gpp.towers import Towers, common, towers
from deepfeatures.settings import NAME, Workspace, checked_name

SHIPPED = cards.SHIPPED / "gpp"
"""Folder of the GPP models that come with the package."""

MAX_BYTES = 12_000_000
"""Largest table that is taken from a page."""
MAX_VALUES = 5_000_000
"""Most values of such a table, rows times columns."""
MAX_TABLES = 50
"""Tables that a workspace keeps at most."""
SUFFIXES = (".csv", ".parquet")
"""Files that hold tables of towers."""

PIXEL, AREA = "pixel", "area"
"""Names of the places on the map that stand in for a tower."""


def models(ws: Workspace) -> dict[str, Path]:
    """Give the GPP models by name; one of the workspace hides a shipped one of its name."""
    folders = (SHIPPED, ws.models / "gpp")
    return {path.stem: path for one in folders for path in sorted(one.glob("*.safetensors"))}


def model_path(ws: Workspace, name: str) -> Path:
    """Give the checkpoint of a model.

    Raises
    ------
    KeyError
        If there is no model of this name.
    """
    known = models(ws)
    if name not in known:
        raise KeyError(
            f"there is no GPP model {name[:80]!r}; there are: {', '.join(known) or 'none'}"
        )
    return known[name]


def model(ws: Workspace, name: str) -> Light:
    """Give a model, which stays loaded.

    Raises
    ------
    KeyError
        If there is no model of this name.
    ValueError
        If its file is no checkpoint.
    """
    path = model_path(ws, name)
    return _light(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _light(path: Path, _changed: int) -> Light:
    return Light.load(path)


def folder(ws: Workspace) -> Path:
    """Give the folder of the tables of towers."""
    return ws.home / "towers"


def tables(ws: Workspace) -> dict[str, str]:
    """Name the tables of towers: name -> ``file``, or ``cube`` for one with simulated towers."""
    found = (p.stem for p in folder(ws).glob("*") if p.suffix in SUFFIXES)
    files = sorted(name for name in found if NAME.fullmatch(name))
    cubes = [name for name in catalogue.names(ws) if _with_towers(ws, name)]
    return dict.fromkeys(cubes, "cube") | dict.fromkeys(files, "file")


def _with_towers(ws: Workspace, name: str) -> bool:
    try:
        place = catalogue.url(ws, name)
        return _has(place, store.token(place), "tower_gpp")
    except (OSError, ValueError):
        return False  # a cube that can not be opened has none


@lru_cache(maxsize=512)
def _has(place: str, token: str, variable: str) -> bool:
    return variable in store.arrays(place)


def version(ws: Workspace, name: str) -> str:
    """Give what changes with the content of a table, also with the features of its cube.

    Raises
    ------
    KeyError
        If there is no such table.
    """
    if name in catalogue.names(ws):
        return " ".join([store.token(catalogue.url(ws, name)), *catalogue.names(ws)])
    return str(_file(ws, name).stat().st_mtime_ns)


def sites(ws: Workspace, name: str) -> dict[str, str]:
    """Give the towers of a table, and their vegetation.

    Raises
    ------
    KeyError, ValueError
        As `load`.
    """
    if name in catalogue.names(ws):
        table = drivers.simulated(catalogue.open(ws, name))
    else:
        table = readers.read(_file(ws, name))
    first = table.groupby("site")["igbp"].first()
    return {str(site): str(biome) for site, biome in first.items()}


def _file(ws: Workspace, name: str) -> Path:
    found = [folder(ws) / f"{checked_name(name)}{suffix}" for suffix in SUFFIXES]
    there = next((path for path in found if path.is_file()), None)
    if there is None:
        raise KeyError(f"there is no table of towers {name[:80]!r}; bring one, or build the demo")
    return there


def load(ws: Workspace, name: str) -> pd.DataFrame:
    """Read a table of towers; towers of a cube come with its weather and features around them.

    Raises
    ------
    KeyError
        If there is no such table.
    ValueError
        If it can not be read.
    """
    if name in catalogue.names(ws):
        cube = catalogue.open(ws, name)
        return drivers.from_cube(cube, features_of(ws, name))
    return readers.read(_file(ws, name))


def features_of(ws: Workspace, cube: str) -> xr.Dataset | None:
    """Give the first feature cube of the whole of a cube, None without one."""
    sizes = catalogue.open(ws, cube).sizes
    for name in catalogue.names(ws):
        ds = catalogue.open(ws, name)
        same = ds.sizes.get("y") == sizes["y"] and ds.sizes.get("x") == sizes["x"]
        if contract.kind(ds) == "features" and ds.attrs.get("source_cube") == cube and same:
            return ds
    return None


def daily(table: pd.DataFrame) -> Towers:
    """Lay a table out with every driver that a tower of it has, gaps held."""
    known = [str(name) for name in table if readers.driver(str(name))]
    usual = common(table)
    extra = [name for name in known if name not in usual and table[name].notna().any()]
    made = towers(table, observed=False)
    if not extra:
        return made
    return towers(table, (*made.drivers, *extra), observed=False)


def place(
    ws: Workspace,
    cube: str,
    *,
    point: tuple[float, float] | None = None,
    area: dict[str, object] | None = None,
    radius: float = 0.0,
) -> pd.DataFrame:
    """Give a table of a pixel or an area of a cube with daily weather.

    Parameters
    ----------
    ws
        The workspace.
    cube
        Name of a band cube.
    point
        Longitude and latitude [degrees]; the pixels within `radius` metres, or the one there.
    area
        GeoJSON; its pixels.
    radius
        Metres around a point.

    Raises
    ------
    KeyError
        If there is no such cube.
    ValueError
        If the place lies outside, or the cube has no daily weather.
    """
    ds = catalogue.open(ws, cube)
    channels = features_of(ws, cube)
    if area is not None:
        box, mask = aoi.window(aoi.from_geojson(area), contract.geobox(ds))
        inside = drivers.empty(ds)
        inside[box[0] : box[1], box[2] : box[3]] = mask
        return drivers.at_pixels(ds, channels, inside, AREA)
    if point is None:
        raise ValueError("there is no place; click a pixel on the map")
    return drivers.at_pixels(ds, channels, drivers.near(ds, *point, radius), PIXEL)


def add(ws: Workspace, content: bytes, filename: str) -> str:
    """Keep a table that a user brings, once it can be read; gives its name.

    Raises
    ------
    ValueError
        If it is too large, of another form, holds no usable day, or there are too many already.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"the file has {len(content) / 1e6:.1f} MB, no more than {MAX_BYTES / 1e6:.0f} may "
            "come through the page; make a daily table, or put it into the folder `towers` of the "
            "workspace"
        )
    given = Path(filename)
    suffix = given.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a table of towers ends with {' or '.join(SUFFIXES)}, not {suffix!r}")
    if len(tables(ws)) >= MAX_TABLES:
        raise ValueError(
            f"there are {MAX_TABLES} tables of towers already; remove one from "
            "the folder `towers` of the workspace"
        )
    _check_values(content, suffix)
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in given.stem)
    name = checked_name(_free(ws, stem[:60].strip("-") or "towers"))
    folder(ws).mkdir(parents=True, exist_ok=True)
    # the reader finds the name of the tower in that of the file, so it is kept until it is read
    partial = folder(ws) / f".{os.getpid()}-{stem[:60] or 'towers'}.partial{suffix}"
    try:
        partial.write_bytes(content)
        table = readers.read(partial)
        daily(table)
        if not (table["GPP_QC"] > 0).any():
            raise ValueError(f"{given.name} has no day with a GPP that counts as truth")
        kept = partial.with_suffix(".kept")
        table.to_parquet(kept, index=False)
        os.replace(kept, folder(ws) / f"{name}.parquet")
    finally:
        partial.unlink(missing_ok=True)
    return name


def _check_values(content: bytes, suffix: str) -> None:
    """Refuse a table that would unfold to too much, before it is unfolded."""
    if suffix == ".parquet":
        try:
            told = parquet.ParquetFile(io.BytesIO(content)).metadata
        except (ArrowInvalid, OSError) as error:
            raise ValueError("the file is no Parquet table; give CSV or Parquet") from error
        values = told.num_rows * told.num_columns
    else:
        values = content.count(b",") + content.count(b"\n")
    if values > MAX_VALUES:
        raise ValueError(f"the table holds {values:,} values; no more than {MAX_VALUES:,} may")


def _free(ws: Workspace, stem: str) -> str:
    taken = tables(ws)
    names = (stem, *(f"{stem}-{number}" for number in range(2, MAX_TABLES + 3)))
    return next(name for name in names if name not in taken)
