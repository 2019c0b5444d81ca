"""The intake catalogue of a workspace: which cubes there are and where.

The file is an intake 2 catalogue (``intake.open_catalog(path)[name].read()`` gives the lazy
dataset). A catalogue is code, so the package itself never executes one: it reads it as plain
YAML, each entry must be of the one known reader, and each place must lie in the workspace or
below a URL that its owner listed (`Workspace.roots`). Keys are in the environment, never here.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from itertools import product
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import xarray as xr
import yaml

from deepfeatures import contract, indices, store
from deepfeatures.backend import Cubes
from deepfeatures.settings import Workspace, checked_name

_DATA = "intake.readers.datatypes:Zarr"
_READER = "intake.readers.readers:XArrayDatasetReader"
_VIEW = ".si"
"""Ends the names of virtual SI cubes; no name of a cube has a dot."""
_REMOTE = re.compile(r"s3://[a-z0-9.-]{3,63}(/(?!\.{1,2}(/|$))[A-Za-z0-9._=-]{1,100})*")
"""What a remote place may look like: no keys, no queries, no steps upwards, no other driver."""
_EMPTY: dict[str, Any] = {
    "version": 2, "data": {}, "entries": {}, "aliases": {}, "metadata": {},
    "user_parameters": {"CATALOG_DIR": ""},
}  # fmt: skip


def names(ws: Workspace) -> list[str]:
    """Give the names of the cubes in a workspace, in the order in which they were added."""
    return [name for name in _load(ws)["aliases"] if not name.endswith(_VIEW)]


def url(ws: Workspace, name: str) -> str:
    """Give the place of a cube.

    Raises
    ------
    KeyError
        If the catalogue has no cube of this name.
    ValueError
        If the entry points outside the workspace or asks for another reader.
    """
    content = _load(ws)
    token = None if name.endswith(_VIEW) else content["aliases"].get(name)
    if token is None:
        known = ", ".join(names(ws)[:12]) or "none yet"
        raise KeyError(f"there is no cube {name!r}; there are: {known}")
    entry, data = content["entries"][token], content["data"][f"{token}.zarr"]
    if entry.get("reader") != _READER or data.get("datatype") != _DATA:
        raise ValueError(f"the entry {name!r} of {ws.catalog} has a reader that is not allowed")
    text = str(data["kwargs"].get("url"))
    if set(data["kwargs"]) != {"url"}:
        raise ValueError(f"the entry {name!r} of {ws.catalog} has options that are not allowed")
    if store.remote(text):
        return _allowed(ws, text)
    place = Path(text.replace("{CATALOG_DIR}", str(ws.home))).resolve()
    if ws.home not in place.parents:
        raise ValueError(f"the entry {name!r} of {ws.catalog} points outside the workspace")
    return str(place)


def place(ws: Workspace, name: str, root: str | None = None) -> str:
    """Give the place where a new cube of this name is to be written.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the cube.
    root
        URL below which the store is to lie (``s3://bucket/prefix``); the workspace by default.

    Raises
    ------
    ValueError
        If the name can not be used, or `root` is not below one of ``ws.roots``.
    """
    file = f"{checked_name(name)}.zarr"
    return _allowed(ws, f"{root.rstrip('/')}/{file}") if root else str(ws.cubes / file)


def _allowed(ws: Workspace, url: str) -> str:
    """Return a remote place that lies below one of the roots of the workspace."""
    if not _REMOTE.fullmatch(url):
        raise ValueError(
            f"{url[:200]!r} is no place for a cube; it must look like "
            "s3://bucket/prefix/name.zarr (keys and endpoint come from the environment)"
        )
    if not any(url.startswith(f"{root.rstrip('/')}/") for root in ws.roots):
        raise ValueError(
            f"{url!r} lies below no root that this workspace allows; add its prefix to "
            f"{ws.home / 'roots'} or to DEEPFEATURES_ROOTS"
        )
    return url


def add(ws: Workspace, name: str, url: str | None = None) -> None:
    """List a cube that was written to `place`.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the cube.
    url
        Where it was written, if not to the workspace.

    Raises
    ------
    FileNotFoundError
        If the store is not there or was never completed.
    ValueError
        If `url` is not below one of ``ws.roots``.
    """
    checked_name(name)
    local = url is None or url == place(ws, name)
    found = place(ws, name) if local else _allowed(ws, str(url))
    group = store.arrays(found)
    with _locked(ws):
        content = _load(ws)
        content["data"][f"{name}.zarr"] = {
            "datatype": _DATA,
            "kwargs": {"url": f"{{CATALOG_DIR}}/cubes/{name}.zarr" if local else found},
            "metadata": {},
            "user_parameters": {},
        }
        title = str(group.attrs.get("title", name))
        kwargs = {"consolidated": False} if "si" not in group else {"engine": "deepfeatures"}
        content["entries"][name] = _entry(name, title, kwargs)
        content["aliases"][name] = name
        if "reflectance" in group:
            view = {"engine": "deepfeatures", "view": "si"}
            content["entries"][name + _VIEW] = _entry(name, f"Spectral indices of {title}", view)
            content["aliases"][name + _VIEW] = name + _VIEW
        _save(ws, content)


def _entry(name: str, title: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Write an entry that reads the store of a cube."""
    return {
        "reader": _READER,
        "kwargs": {"args": [f"{{data({name}.zarr)}}"], **kwargs, "chunks": {}},
        "output_instance": "xarray:Dataset",
        "metadata": {"title": title},
        "user_parameters": {},
    }


def remove(ws: Workspace, name: str) -> None:
    """Take a cube out of the catalogue and remove its store.

    Raises
    ------
    KeyError
        If the catalogue has no cube of this name.
    """
    found = url(ws, name)
    with _locked(ws):
        content = _load(ws)
        content["data"].pop(f"{name}.zarr", None)
        for part, token in product(("entries", "aliases"), (name, name + _VIEW)):
            content[part].pop(token, None)
        _save(ws, content)
    store.remove(found)


def open(ws: Workspace, name: str, view: str | None = None) -> xr.Dataset:  # noqa: A001
    """Open a cube lazily, in dask chunks.

    Parameters
    ----------
    ws
        The workspace.
    name
        Name of the cube.
    view
        ``"si"`` for the virtual SI cube of a band cube: nothing of it exists until it is read.

    Raises
    ------
    KeyError
        If the catalogue has no cube of this name.
    ValueError
        If there is no such view of it.
    """
    if view is None:
        return store.open(url(ws, name))
    return xr.open_dataset(url(ws, name), engine=Cubes, view=view, chunks={})


def info(ws: Workspace, name: str) -> dict[str, Any]:
    """Describe a cube in plain values that JSON can carry.

    Returns
    -------
    dict
        ``name, title, kind, dims, channels, indices, times`` (ISO), ``bounds`` [west, south, east,
        north] in degrees, ``crs, resolution, simulated, version, variables, attrs``.
    """
    found = url(ws, name)
    ds = store.open(found)
    grid = contract.geobox(ds)
    west, south, east, north = grid.geographic_extent.boundingbox
    return {
        "name": name,
        "title": ds.attrs.get("title", name),
        "kind": contract.kind(ds),
        "dims": {str(dim): size for dim, size in ds.sizes.items()},
        "channels": contract.channels(ds),
        "indices": list(indices.available(contract.channels(ds))) if "band" in ds.dims else [],
        "times": [str(time) for time in np.datetime_as_string(ds["time"].values, unit="s")],
        "bounds": [west, south, east, north],
        "crs": str(contract.crs(ds)),
        "resolution": float(abs(grid.resolution.x)),
        "simulated": ds.attrs.get("simulated") == "true",
        "version": str(store.arrays(found).attrs["version"]),
        "variables": sorted(str(variable) for variable in ds.data_vars),
        "attrs": contract.provenance(ds),
    }


def _locked(ws: Workspace) -> filelock.BaseFileLock:
    return filelock.FileLock(ws.home / "catalog.lock", timeout=60)


def _load(ws: Workspace) -> dict[str, Any]:
    try:
        state = ws.catalog.stat()
    except FileNotFoundError:
        return copy.deepcopy(_EMPTY)
    return copy.deepcopy(_parsed(ws.catalog, state.st_mtime_ns, state.st_ino))


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, changed: int, inode: int) -> dict[str, Any]:
    """Read the file; each change makes another inode, so what is remembered is never old."""
    content = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(content, dict) or content.get("version") != 2:
        raise ValueError(f"{path} is no intake 2 catalogue; move it away and try again")
    return {key: content.get(key, value) for key, value in _EMPTY.items()}


def _save(ws: Workspace, content: dict[str, Any]) -> None:
    """Replace the file in one step, so that a kill leaves the old or the new one."""
    ws.home.mkdir(parents=True, exist_ok=True)
    draft = ws.catalog.with_suffix(".draft")
    with draft.open("w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(ws.catalog)
