"""Tables of sites: candidates from a table or a map, the sample, its folds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import RasterioError
from rasterio.transform import xy
from rasterio.warp import transform

from deepfeatures import sites

MOST_BYTES = 500_000_000
"""Largest table that is read."""
MOST_PIXELS = 4_000_000
"""Most pixels of a map that become candidates; a larger map is thinned evenly."""
CLIMATE = ("temperature", "precipitation")
"""Columns of climate that are used unless others are named."""


def candidates(source: str | os.PathLike[str]) -> pd.DataFrame:
    """Read candidate sites.

    Parameters
    ----------
    source
        A CSV file with the columns ``lon``, ``lat`` [degree] and ``class``, and any others; or a
        raster of land-cover classes, each pixel of which is a candidate (the value 0 and the
        file's own nodata value are none).

    Returns
    -------
    pandas.DataFrame
        ``lon``, ``lat``, ``class`` and what else the table holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large, cannot be read, or lacks a column.
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}; check the path")
    if path.suffix.lower() != ".csv":
        return _from_map(path)
    table = _table(path)
    if "class" not in table:
        raise ValueError(f"{str(path)!r} has no column 'class'; name the land cover of each site")
    return table


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}; check the path")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{str(path)!r} is larger than {MOST_BYTES / 1e6:g} MB; split it")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{str(path)!r} is no CSV table ({reason}); give one") from None
    missing = [name for name in ("lon", "lat") if name not in table]
    if missing:
        raise ValueError(f"{str(path)!r} has no column {missing[0]!r}; it needs 'lon' and 'lat'")
    for name in ("lon", "lat"):
        if table[name].dtype.kind not in "if":
            raise ValueError(f"the column {name!r} of {str(path)!r} holds no numbers; give degrees")
    return table


def _from_map(path: Path) -> pd.DataFrame:
    try:
        with rasterio.open(path) as file:
            thin = max(1.0, (file.width * file.height / MOST_PIXELS) ** 0.5)
            shape = max(1, int(file.height / thin)), max(1, int(file.width / thin))
            classes = file.read(1, out_shape=shape)
            affine = file.transform * file.transform.scale(
                file.width / shape[1], file.height / shape[0]
            )
            crs, nodata = file.crs, file.nodata
    except RasterioError as error:
        raise ValueError(f"{str(path)!r} is neither a table nor a raster ({error})") from None
    if crs is None:
        raise ValueError(f"{str(path)!r} names no CRS; give a georeferenced map")
    rows, columns = np.nonzero((classes != 0) & (classes != (0 if nodata is None else nodata)))
    x, y = xy(affine, rows, columns)
    lon, lat = transform(crs, "EPSG:4326", x, y)
    return pd.DataFrame({"lon": lon, "lat": lat, "class": classes[rows, columns]})


def sample(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    count: int,
    min_distance_km: float,
    climate: Sequence[str] | None = None,
    bins: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Draw sites from candidates, stratified by land cover and climate, and write the table.

    Parameters
    ----------
    source
        As for `candidates`.
    out
        CSV file of the sites: the candidates' columns and ``stratum``.
    count, min_distance_km, seed
        As for `sites.stratified`.
    climate
        Columns of climate; ``temperature`` and ``precipitation`` by default, if they are there.
    bins
        Classes of each climate column, cut at quantiles.

    Returns
    -------
    pandas.DataFrame
        The table; it has fewer rows than `count` where the distance does not allow more.
    """
    table = candidates(source)
    names = [name for name in CLIMATE if name in table] if climate is None else list(climate)
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(
            f"the candidates have no column {missing[0]!r}; they have {', '.join(table.columns)}"
        )
    table["stratum"] = sites.strata(table["class"], *(table[name] for name in names), bins=bins)
    taken = sites.stratified(
        table["lon"], table["lat"], table["stratum"],
        count=count, min_distance_km=min_distance_km, seed=seed,
    )  # fmt: skip
    return _written(table.iloc[taken].reset_index(drop=True), Path(out))


def split(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    block_km: float,
    buffer_km: float,
    buffer_days: float = 0.0,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> pd.DataFrame:
    """Split a table of sites into folds and write it with a column ``fold``.

    Parameters
    ----------
    source
        CSV file with ``lon`` and ``lat``, and ``time`` to split by years as well.
    out
        CSV file; ``fold`` is train, validation, test or dropped.
    block_km, buffer_km, buffer_days, shares, seed
        As for `sites.folds`.
    """
    table = _table(Path(source))
    time = None
    if "time" in table:
        time = pd.to_datetime(table["time"], errors="coerce").to_numpy("datetime64[s]")
    labels = sites.folds(
        table["lon"], table["lat"], time, block_km=block_km, buffer_km=buffer_km,
        buffer_days=buffer_days, shares=shares, seed=seed,
    )  # fmt: skip
    table["fold"] = np.array([*sites.FOLDS, "dropped"])[labels]
    return _written(table, Path(out))


def _written(table: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Write a table in one step, so that a kill leaves all of it or nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft")
    table.to_csv(draft, index=False)
    draft.replace(out)
    return table
