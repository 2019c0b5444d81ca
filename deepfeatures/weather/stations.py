"""Weather of a station from a table: a CSV file, or a data frame."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping

import fsspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfeatures.weather.record import Record, Series
from deepfeatures.weather.sources import lookup

LARGEST = 256 * 1024**2
"""Bytes of a table."""
TABLES = (".csv", ".txt", ".tsv", ".dat")
MISSING = -9990.0
"""Values at or below mean none: -9999 and its kin."""

_TIMES = ("timestamp_start", "timestamp", "date", "datetime", "time", "day", "datum")


def read(source: str, columns: Mapping[str, str] | None) -> Record:
    """Read a table of a station.

    The delimiter is a comma, semicolon or tabulator. Units stand behind a name (``TA [degC]``,
    ``TA (degC)``), in a second line, or in `columns`; else those of FLUXNET or of the contract
    are meant. Lines that start with ``#`` are comments.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large, or has no date or known column.
    """
    lines = [line for line in _text(source).splitlines() if line.strip() and line[0] != "#"]
    if len(lines) < 2:
        raise ValueError(f"{source} has no rows; give a table with a header and one row per day")
    delimiter = max(",;\t", key=lines[0].count)
    names = next(csv.reader([lines[0]], delimiter=delimiter))
    second = next(csv.reader([lines[1]], delimiter=delimiter))
    units, start = {}, 1
    date = _date_column([name.strip() for name in names], source)
    position = [name.strip() for name in names].index(date)
    if position < len(second) and not re.search(r"\d{4}", second[position]):
        units = {n.strip(): u.strip(" []()") for n, u in zip(names, second, strict=False)}
        start = 2
    # decimal commas go with semicolons
    decimal = "," if delimiter == ";" and not re.search(r"\d\.\d", "".join(lines[start:])) else "."
    frame = pd.read_csv(
        io.StringIO("\n".join([lines[0], *lines[start:]])),
        sep=delimiter,
        decimal=decimal,
        dtype={names[position]: str},
        na_values=["-9999", "NA", "NaN", ""],
        skipinitialspace=True,
    )
    return from_frame(frame.rename(columns=str.strip), units, columns, source)


def _text(source: str) -> str:
    try:
        with fsspec.open(source, "rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no table at {source}; check the path") from None
    if len(content) > LARGEST:
        raise ValueError(f"{source} has more than {LARGEST} bytes; cut it to the period you need")
    try:
        return str(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{source} is no text in UTF-8; save it as UTF-8") from None


def from_frame(
    frame: pd.DataFrame,
    units: Mapping[str, str],
    columns: Mapping[str, str] | None,
    source: str,
) -> Record:
    """Take the known columns of a data frame.

    Raises
    ------
    ValueError
        If it has no date or no known column, or a column holds words.
    """
    date = _date_column([str(name) for name in frame.columns], source)
    time = _times(frame[date], source)
    order = np.argsort(time, kind="stable")
    series = []
    for column in frame.columns:
        name, unit = _split(str(column))
        unit = unit or units.get(str(column), "")
        stated = name if columns is not None and name in columns else str(column)
        driver = lookup(stated, unit, columns, station=True) or lookup(name, unit, station=True)
        if driver is None or column == date:
            continue
        if columns is not None and "[" in columns.get(stated, ""):
            unit = driver.units
        values = _numbers(frame[column], str(column), source)[order]
        series.append(Series(name, driver, unit or driver.units, values))
    if not series:
        raise ValueError(
            f"{source} has no known weather column (it has {', '.join(map(str, frame.columns))}); "
            "say what they are with columns={'name': 'temperature_mean [degC]', ...}"
        )
    flux = any(one.source.lower().endswith("_f") for one in series)
    keep = "FLUXNET: CC-BY-4.0, cite the site and its DOI" if flux else "unknown; ask its owner"
    return Record(
        time=time[order],
        # gap-filled columns first, as the first of a kind is taken
        series=tuple(sorted(series, key=lambda one: not one.source.lower().endswith("_f"))),
        ends=False,
        place="table of a station",
        licence=keep,
        attribution="the operator of the station",
    )


def _date_column(names: list[str], source: str) -> str:
    by_key = {_split(name)[0].lower(): name for name in reversed(names)}
    found = next((by_key[key] for key in _TIMES if key in by_key), None)
    if found is None:
        raise ValueError(
            f"{source} has no column with dates (it has {', '.join(names)}); call one 'date'"
        )
    return found


def _split(column: str) -> tuple[str, str]:
    """Part a header like ``TA [degC]`` in name and unit."""
    found = re.fullmatch(r"\s*([^\[\(]+?)\s*[\[\(](.*)[\]\)]\s*", column)
    return (found[1], found[2].strip()) if found else (column.strip(), "")


def _times(column: pd.Series, source: str) -> NDArray[np.datetime64]:
    """Read dates: ISO 8601, ``YYYYMMDD`` or ``YYYYMMDDHHMM``."""
    if column.dtype.kind == "M":
        return column.to_numpy().astype("datetime64[s]")
    text = column.astype(str).str.strip()
    digits = text.str.fullmatch(r"\d+").all()
    known = {8: "%Y%m%d", 12: "%Y%m%d%H%M"}
    how = known.get(int(text.str.len().max()), "") if digits else "ISO8601"
    try:
        if not how:
            raise ValueError
        made = pd.to_datetime(text, format=how)
        if made.dt.tz is not None:
            made = made.dt.tz_convert(None)
    except (ValueError, AttributeError):
        raise ValueError(
            f"the dates of {source} (such as {text.iloc[0]!r}) cannot be read; write YYYY-MM-DD"
        ) from None
    return made.to_numpy().astype("datetime64[s]")


def _numbers(column: pd.Series, name: str, source: str) -> NDArray[np.float64]:
    try:
        values = pd.to_numeric(column).to_numpy(np.float64)
    except (ValueError, TypeError):
        raise ValueError(
            f"the column {name!r} of {source} holds words; keep numbers only"
        ) from None
    return np.where(values <= MISSING, np.nan, values)
