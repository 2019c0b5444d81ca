"""Files of flux towers as one table: the days of each tower, in the units of this package.

The table has the columns ``date``, ``site``, ``GPP`` [gC m-2 d-1], ``GPP_QC`` (share of the day
that is measured or well gap-filled, 0..1), drivers (`DRIVERS`), and what does not change: ``lat``,
``lon`` [degrees], ``elev`` [m], ``igbp`` (type of vegetation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepfeatures.indices.table import INDICES

CARBON = 1.03772
"""gC m-2 d-1 of one umol CO2 m-2 s-1: 12.0107e-6 g times 86400 s."""

MOST = 400 * 2**20
"""Bytes of the largest file that is read."""

MODALITIES: dict[str, tuple[str, ...]] = {
    "radiation": (
        "SW_IN", "SW_IN_POT", "RSO_FAO56", "PPFD_IN", "NETRAD", "LW_IN", "SWLAND", "PARDFLAND",
    ),
    "temperature": ("TA", "TS", "LST", "T2MIN", "T2MAX", "T2MEAN"),
    "water": ("VPD", "P", "SWC", "TSMDEWMEAN", "GWETROOT", "LHLAND", "SHLAND", "PRECTOTLAND"),
    "air": ("PA", "WS"),
    "optics": (
        "blue", "green", "red", "nir", "swir1", "swir2", "NDVI", "EVI", "GCI", "NDWI", "NIRv",
        "kNDVI", "fAPAR", *(f"B{n:02d}" for n in range(1, 13)), "B8A",
    ),
    "radar": ("VV", "VH"),
    "features": tuple(f"F{n:02d}" for n in range(1, 33)),
}  # fmt: skip
"""Groups of drivers; every spectral index is of the optics as well. A name may go on with ``_std``,
the spread around the tower."""

DRIVERS = {name: group for group, names in MODALITIES.items() for name in names}
"""Driver -> its group."""

UNITS = {
    "SW_IN": "W m-2", "SW_IN_POT": "W m-2", "RSO_FAO56": "W m-2", "LW_IN": "W m-2",
    "NETRAD": "W m-2", "TA": "degC", "TS": "degC", "VPD": "hPa", "P": "mm d-1", "PA": "kPa",
    "WS": "m s-1",
}  # fmt: skip
"""Units of the usual drivers; reflectances, indices and features have none."""

RENAMED = {
    "GPP_NT_VUT_REF": "GPP", "GPP_DT_VUT_REF": "GPP_DT", "NEE_VUT_REF_QC": "GPP_QC",
    "TA_F": "TA", "SW_IN_F": "SW_IN", "VPD_F": "VPD", "P_F": "P", "PA_F": "PA", "WS_F": "WS",
    "LW_IN_F": "LW_IN", "SW_IN_POT": "SW_IN_POT", "NETRAD": "NETRAD", "PPFD_IN": "PPFD_IN",
    "TS_F_MDS_1": "TS", "SWC_F_MDS_1": "SWC",
}  # fmt: skip
"""Columns of FLUXNET2015, ICOS and AmeriFlux-FLUXNET files -> those of the table."""

BASE = {
    "GPP_PI_F": "GPP", "GPP_PI": "GPP", "GPP": "GPP", "FC": "FC", "TA": "TA", "SW_IN": "SW_IN",
    "VPD_PI": "VPD", "VPD": "VPD", "P": "P", "PA": "PA", "WS": "WS", "LW_IN": "LW_IN",
    "NETRAD": "NETRAD", "PPFD_IN": "PPFD_IN", "TS": "TS", "SWC": "SWC",
}  # fmt: skip
"""Columns of AmeriFlux BASE files, without their position, -> those of the table."""

ENOUGH = 5 / 6
"""Share of a day's half-hours that must be there for a daily value."""


def read(path: str | Path) -> pd.DataFrame:
    """Read the towers of a file: a table of this package, FLUXNET2015, ICOS, AmeriFlux.

    A table has at least ``date, site, GPP`` (Parquet or CSV). Files of FLUXNET2015, of the ICOS
    Carbon Portal and of AmeriFlux (FLUXNET and BASE), daily (DD) or half-hourly (HH, HR), are CSV
    of one tower whose name is in the file's name. The quality of GPP is that of NEE
    (``NEE_VUT_REF_QC``); half-hours become days where at least 5 of 6 are there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large or has not the columns that are needed.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of towers {str(path)!r}")
    if file.stat().st_size > MOST:
        raise ValueError(f"{file.name} has more than {MOST >> 20} MiB; give one tower at a time")
    try:
        raw = _raw(file)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} is neither Parquet nor a CSV table: {error}") from error
    table = _standard(raw, file)
    if table["site"].nunique() > 5000 or not len(table):
        raise ValueError(f"{file.name} holds no days of towers, or more than 5000 towers")
    return table.sort_values(["site", "date"], ignore_index=True)


def _raw(file: Path) -> pd.DataFrame:
    if file.suffix.lower() in (".parquet", ".pq"):
        return pd.read_parquet(file)
    comments = 0
    with file.open(encoding="utf-8-sig") as lines:
        while lines.readline(10_000).startswith("#"):
            comments += 1
    missing = ["-9999", "-9999.0", ""]
    return pd.read_csv(file, skiprows=comments, keep_default_na=False, na_values=missing)


def _standard(raw: pd.DataFrame, file: Path) -> pd.DataFrame:
    columns = set(raw.columns)
    if {"date", "site", "GPP"} <= columns:
        return _table(raw, file)
    stamp = next((c for c in ("TIMESTAMP", "TIMESTAMP_START") if c in columns), None)
    if stamp is None:
        raise ValueError(
            f"{file.name} lacks the columns date, site and GPP, or TIMESTAMP; give a table of "
            "towers or a file of FLUXNET2015, ICOS or AmeriFlux"
        )
    layout = FLUXNET if "NEE_VUT_REF_QC" in columns else AMERIFLUX
    return layout.read(raw, stamp, _site(file))


def _table(raw: pd.DataFrame, file: Path) -> pd.DataFrame:
    table = raw.rename(columns={"pft": "igbp"})
    try:
        table["date"] = pd.to_datetime(table["date"]).dt.normalize()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file.name} has a date that is none: {error}") from error
    table["site"] = table["site"].astype(str)
    numbers = [c for c in table if c in ("GPP", "GPP_QC", "lat", "lon", "elev") or driver(str(c))]
    for name in numbers:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    if "GPP_QC" not in table:
        table["GPP_QC"] = 1.0
    if "igbp" not in table:
        table["igbp"] = ""
    return table


def driver(name: str) -> str | None:
    """Give the group of a column, None if it is no driver."""
    known = name.removesuffix("_std")
    return DRIVERS.get(known) or ("optics" if known in INDICES else None)


def groups(drivers: Sequence[str]) -> dict[str, list[int]]:
    """Give the columns of each group of drivers, in the order of `MODALITIES`."""
    each = [driver(name) or "other" for name in drivers]
    names = [name for name in (*MODALITIES, "other") if name in each]
    return {name: [n for n, one in enumerate(each) if one == name] for name in names}


def _site(file: Path) -> str:
    found = re.search(r"(?<![A-Za-z0-9])([A-Z]{2}-[A-Za-z0-9]{3})(?![A-Za-z0-9])", _parts(file))
    return found.group(1) if found else file.stem[:40]


def _parts(file: Path) -> str:
    return file.stem.replace("_", " ")


@dataclass(frozen=True)
class Layout:
    """How a network of towers writes its files."""

    columns: dict[str, str]
    quality: Callable[[pd.DataFrame, bool], pd.Series]

    def read(self, raw: pd.DataFrame, stamp: str, site: str) -> pd.DataFrame:
        """Give the table of one tower."""
        text = raw[stamp].astype("int64").astype(str)
        within = int(text.str.len().iloc[0]) > 8
        named: dict[str, pd.Series] = {}
        for column in raw.columns:
            name = self.columns.get(re.sub(r"(_\d+){1,3}$", "", column), self.columns.get(column))
            if name and name not in named:
                named[name] = pd.to_numeric(raw[column], errors="coerce")
        if "GPP" not in named:
            raise ValueError(f"the file of {site} holds no GPP; choose one with partitioned fluxes")
        form = "%Y%m%d%H%M" if within else "%Y%m%d"
        table = pd.DataFrame(named).assign(
            date=pd.to_datetime(text, format=form), GPP_QC=self.quality(raw, within)
        )
        table = _days(table) if within else table
        return table.drop(columns="FC", errors="ignore").assign(site=site, igbp="")


def _days(table: pd.DataFrame) -> pd.DataFrame:
    """Make days of half-hours or hours: means, sums of rain, and fluxes in gC m-2 d-1."""
    steps = np.median(np.diff(table["date"].to_numpy()).astype("timedelta64[s]").astype(float))
    whole = max(round(86400 / float(steps)), 1)
    groups = table.assign(date=table["date"].dt.normalize()).groupby("date")
    days = groups.mean()
    counts = groups.count()
    days = days.where(counts >= ENOUGH * whole)
    days["GPP_QC"] = groups["GPP_QC"].sum() / whole
    if "P" in days:
        days["P"] = days["P"] * whole
    days["GPP"] = days["GPP"] * CARBON
    return days.reset_index()


def _fluxnet_quality(raw: pd.DataFrame, within: bool) -> pd.Series:
    # daily files give a share; half-hourly ones a flag: 0 measured, 1 well filled, 2 and 3 not
    value = pd.to_numeric(raw["NEE_VUT_REF_QC"], errors="coerce")
    return (value <= 1).astype(float) if within else value


def _base_quality(raw: pd.DataFrame, within: bool) -> pd.Series:
    # without flags: what was measured are the half-hours with a flux
    flux = [c for c in raw if re.fullmatch(r"FC(_\d+)*", str(c))]
    if not flux:
        return pd.Series(np.nan, index=raw.index)
    return raw[flux].notna().any(axis=1).astype(float)


FLUXNET = Layout(RENAMED, _fluxnet_quality)
AMERIFLUX = Layout(BASE, _base_quality)
