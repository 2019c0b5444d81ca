"""Exports as files: limits, temporary files, a full disk, what is kept."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import xarray as xr

from deepfeatures.export import writers
from deepfeatures.export.formats import of
from deepfeatures.export.keeping import keep
from deepfeatures.export.order import Order, ordered, version_of
from deepfeatures.settings import Workspace

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def estimate(selection: xr.Dataset, fmt: str = "zarr") -> int:
    """Give the size of an export before compression [bytes], from the shape alone.

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    values = sum(array.size for array in writers.arrays(selection))
    return values * of(fmt).value_bytes


def write(
    selection: xr.Dataset, path: str | os.PathLike[str], fmt: str, *, limit: int | None = None
) -> Path:
    """Write a selection to a file, which appears only when it is complete.

    Parameters
    ----------
    selection
        From `select`, or any cube under the contract.
    path
        Where to; replaced if it exists. A GeoTIFF that becomes a zip gets the suffix ``.zip``.
    fmt
        A key of `FORMATS`.
    limit
        Most bytes by `estimate`; that of the format by default.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If the format is unknown, the selection is empty or over the limit.
    OSError
        If the disk is full or the folder cannot be written to.
    """
    check_size(selection, fmt, limit=limit)
    path = Path(path)
    if fmt == "geotiff" and writers.tiff_bands(selection) > writers.MAX_TIFF_BANDS:
        path = path.with_suffix(".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        made = Path(folder) / f"export{path.suffix}"
        try:
            writers.WRITERS[fmt](writers.plain(selection), made)
        except (OSError, RuntimeError) as error:
            failure = _failure(error, Path(folder))
            if failure is error:
                raise
            raise failure from error
        os.replace(made, path)
    return path


def check_size(selection: xr.Dataset, fmt: str, *, limit: int | None = None) -> int:
    """Give the `estimate`, if there is something to write and not too much of it.

    Raises
    ------
    ValueError
        If the format is unknown or does not hold such a cube, the selection is empty or over the
        limit.
    """
    size = estimate(selection, fmt)
    if fmt == "research" and "features" not in selection:
        raise ValueError("the research layout holds features; embed the cube first, or take zarr")
    most = of(fmt).limit if limit is None else limit
    if size == 0:
        raise ValueError("the selection is empty; choose an area, a period and channels with data")
    if size > most:
        raise ValueError(
            f"the export would have {size / 1e9:.3g} GB as {fmt}, and {most / 1e9:.3g} GB is the "
            "limit; choose a smaller area, a shorter period or fewer channels"
        )
    return size


def save(ws: Workspace, order: Order, path: str | os.PathLike[str]) -> Path:
    """Write what is asked for to a file, with its provenance.

    Parameters
    ----------
    ws
        The workspace with the cube.
    order
        What is asked for.
    path
        As of `write`.

    Raises
    ------
    KeyError, ValueError, OSError
        As of `ordered` and `write`.
    """
    return write(ordered(ws, order), path, order.fmt)


def kept(ws: Workspace, order: Order) -> Path:
    """Give the file of what is asked for, made unless it is still there from before.

    It is kept for `KEEP_SECONDS` after its last use; call this outside an event loop.

    Raises
    ------
    KeyError, ValueError, OSError
        As of `ordered` and `write`.
    """
    name = f"{order.cube}{of(order.fmt).suffix}"
    return keep(ws, key(ws, order), lambda folder: save(ws, order, folder / name))


def key(ws: Workspace, order: Order) -> str:
    """Give the hash under which a file is kept."""
    return order.digest(version_of(ws, order.cube))


def _failure(error: OSError | RuntimeError, folder: Path) -> OSError:
    """Say in one sentence why a writer failed; NetCDF and GDAL do not give the error's number."""
    number = getattr(error, "errno", None)
    if number in _FULL or shutil.disk_usage(folder).free < 1 << 20:
        return OSError(
            errno.ENOSPC,
            "the disk is full; free some space or choose a smaller area, a shorter period or "
            "fewer channels",
        )
    if isinstance(error, OSError) and number is not None:
        return error
    return OSError(f"the file was not written ({error}); see if there is space left for it")
