"""Minicubes on disk: written whole, updated component by component, listed in a registry.

A minicube is a folder in Zarr format 2 with consolidated metadata, as those of DeepExtremeCubes
are, so that any xarray opens it. Nothing is ever changed where readers look: a new or updated
minicube is made beside its place and then moved there. What is not updated is not written again:
its files are linked.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import filelock
import numpy as np
import xarray as xr

from deepfeatures.minicube import assembly, form
from deepfeatures.minicube.parts import VERSIONS, Component

REGISTRY = "registry.csv"
"""Name of the table of the minicubes in a folder."""

_COLUMNS = (
    "mc_id", "path", "location_id", "version", "creation_date", "modification_date",
    "geospatial_center_lon", "geospatial_center_lat",
    "temporal_coverage_start", "temporal_coverage_end",
    "class", "dominant_class", "second_dominant_class",
)  # fmt: skip


def write(ds: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a minicube; it is there only when it is complete.

    Reflectance is rounded to 1e-4 and cut to -0.9998..3.2767.

    Parameters
    ----------
    ds
        From `assembly.assemble`.
    path
        Folder of the new store.

    Raises
    ------
    ValueError
        If something is there already.
    """
    target = Path(path)
    with _locked(target):
        _mend(target)
        if target.exists():
            raise ValueError(f"there is something at {target}; choose another place or update it")
        draft = _beside(target, "draft")
        _save(ds, draft, mode="w")
        draft.rename(target)
    return target


def open(path: str | os.PathLike[str]) -> xr.Dataset:  # noqa: A001 (reads as minicube.open)
    """Open a minicube lazily, decoded.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    target = Path(path)
    if not (target / ".zmetadata").is_file():
        raise FileNotFoundError(f"there is no minicube at {target}; check the path")
    return xr.open_zarr(target, chunks=None)


def update(
    path: str | os.PathLike[str],
    components: Iterable[Component],
    *,
    date: datetime.date,
) -> dict[str, str]:
    """Replace components of a minicube, all together or not at all.

    The version of each rises by 0.1, or begins. A reader that opens the minicube before the move
    sees all of the old, one that opens it afterwards all of the new; between two renames there is
    for an instant nothing. A kill at any moment leaves the old minicube or the new one, and what
    is left beside it is removed, or put in place, by the next call. A dataset that was opened
    lazily before reads the new files afterwards: open it again.

    Parameters
    ----------
    path
        Folder of the store.
    components
        New components on the grid and the steps of the minicube.
    date
        Day of the update.

    Returns
    -------
    dict
        The new version of each component.

    Raises
    ------
    FileNotFoundError
        If there is no minicube.
    ValueError
        If a component does not lie on the grid and the steps of the minicube.
    """
    target, made = Path(path), list(components)
    with _locked(target):
        _mend(target)
        with open(target) as old:
            _check_fits(old, made)
            before = json.loads(old.attrs["components"])
            attrs = dict(old.attrs)
        versions = {one.name: _next(before.get(one.name, {}).get("version")) for one in made}
        gone = {name for one in made for name in before.get(one.name, {}).get("variables", [])}
        gone |= {"event_time"} if "events" in versions else set()
        changes = ", ".join(
            f"{name} {before.get(name, {}).get('version', 'none')} to {version}"
            for name, version in versions.items()
        )
        history = [*json.loads(attrs["history"]), f"Modified on {date}: {changes}"]
        attrs |= assembly.described(before, made, versions, date)
        attrs |= {"history": json.dumps(history), "modification_date": str(date)}
        draft = _beside(target, "draft")
        shutil.copytree(
            target, draft, copy_function=_link, ignore=lambda _, names: gone & set(names)
        )
        new = xr.merge([assembly.labelled(one) for one in made], join="exact", compat="equals")
        _save(new.assign_attrs(attrs), draft, mode="a")
        _swap(draft, target)
    return versions


def register(path: str | os.PathLike[str]) -> Path:
    """Put a minicube into the registry of its folder, or bring its row up to date.

    The registry is a CSV file with one row for each minicube and a column with the version of
    each component; it is replaced in one step. What counts is what a minicube says itself.
    """
    target = Path(path)
    with open(target) as ds:
        attrs = dict(ds.attrs)
    versions = json.loads(attrs["configuration_versions"])
    row = {name: str(attrs.get(name, "")) for name in _COLUMNS}
    row |= {"mc_id": attrs["data_id"], "path": target.name}
    row |= {name: versions.get(name, "") for name in VERSIONS}
    table = target.parent / REGISTRY
    with _locked(table):
        rows = {one["path"]: one for one in read_registry(table)} | {target.name: row}
        draft = _beside(table, "draft")
        with draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=[*_COLUMNS, *VERSIONS])
            writer.writeheader()
            writer.writerows(rows[name] for name in sorted(rows))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(table)
    return table


def read_registry(table: Path) -> list[dict[str, str]]:
    """Read the rows of a registry; none if there is no such file."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: row.get(name) or "" for name in (*_COLUMNS, *VERSIONS)} for row in rows]


def _save(ds: xr.Dataset, path: Path, mode: Literal["w", "a"]) -> None:
    most = np.iinfo(np.int16).max * 1e-4
    cut = {name: ds[name].clip(-0.9998, most, keep_attrs=True) for name in form.BANDS if name in ds}
    ds = ds.assign(cut)
    coding = assembly.encoding(ds)
    ds.to_zarr(path, mode=mode, encoding=coding, zarr_format=2, consolidated=True)


def _check_fits(old: xr.Dataset, made: list[Component]) -> None:
    for component in made:
        for name in ("time", "y", "x"):
            size = component.data.sizes.get(name, old.sizes[name])
            if size != old.sizes[name]:
                raise ValueError(
                    f"the component {component.name!r} has {size} steps along {name!r} and the "
                    f"minicube {old.sizes[name]}; make it for the grid and period of the minicube"
                )


def _next(version: str | None) -> str:
    if version is None:
        return "1.0"
    major, minor = version.split(".")
    return f"{major}.{int(minor) + 1}"


def _link(source: str, target: str) -> str:
    """Link a chunk, which nobody writes again; copy metadata, which the update writes."""
    if not os.path.basename(source).startswith(".z"):
        try:
            os.link(source, target)
            return target
        except OSError:  # a file system without links
            pass
    return str(shutil.copy2(source, target))


def _swap(draft: Path, target: Path) -> None:
    old = _beside(target, "old")
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def _mend(target: Path) -> None:
    """Bring a place in order on which somebody was killed."""
    draft, old = _beside(target, "draft"), _beside(target, "old")
    if old.exists() and not target.exists():
        # killed between the two renames: the draft was complete
        (draft if draft.exists() else old).rename(target)
    for rest in (draft, old):
        if rest.exists():
            shutil.rmtree(rest)


def _beside(target: Path, word: str) -> Path:
    return target.with_name(f".{target.name}.{word}")


def _locked(target: Path) -> filelock.BaseFileLock:
    target.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(_beside(target, "lock"), timeout=60)
