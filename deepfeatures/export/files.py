"""Exports as files and streams: limits, temporary files, a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from deepfeatures.export import writers

PIECE = 1 << 20
"""Bytes per piece of a stream."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Format:
    """A file format of the export."""

    suffix: str
    """End of the file name."""
    content_type: str
    """Media type for HTTP."""
    value_bytes: int
    """Bytes per value before compression, the mask included."""
    limit: int
    """Largest export, by `estimate` [bytes]."""


FORMATS: dict[str, Format] = {
    "zarr": Format(".zarr.zip", "application/zip", 5, 20_000_000_000),
    "netcdf": Format(".nc", "application/x-netcdf", 5, 20_000_000_000),
    "geotiff": Format(".tif", "image/tiff", 5, 10_000_000_000),
    "csv": Format(".csv", "text/csv; charset=utf-8", 80, 4_000_000_000),
    "research": Format(".zarr.zip", "application/zip", 4, 20_000_000_000),
}
"""The formats by name."""


def estimate(selection: xr.Dataset, fmt: str = "zarr") -> int:
    """Give the size of an export before compression [bytes], from the shape alone.

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    values = sum(array.size for array in writers.arrays(selection))
    return values * _format(fmt).value_bytes


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
    most = _format(fmt).limit if limit is None else limit
    if size == 0:
        raise ValueError("the selection is empty; choose an area, a period and channels with data")
    if size > most:
        raise ValueError(
            f"the export would have {size / 1e9:.3g} GB as {fmt}, and {most / 1e9:.3g} GB is the "
            "limit; choose a smaller area, a shorter period or fewer channels"
        )
    return size


def stream(
    selection: xr.Dataset,
    fmt: str,
    *,
    name: str = "export",
    limit: int | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> tuple[str, str, Iterator[bytes]]:
    """Write a selection to a temporary file and give its bytes piece by piece.

    The file is written before this returns, so that all that can go wrong is told while an error
    can still be answered; call it outside an event loop. The file is gone when the pieces are
    used up, closed or forgotten.

    Parameters
    ----------
    selection, fmt, limit
        As of `write`.
    name
        File name without suffix.
    folder
        Where the temporary file goes; the system's place by default.

    Returns
    -------
    (filename, content_type, pieces)
        `pieces` are of at most `PIECE` bytes.

    Raises
    ------
    ValueError, OSError
        As of `write`.
    """
    kept = tempfile.mkdtemp(prefix="export-", dir=folder)
    try:
        path = write(selection, Path(kept) / f"{name}{_format(fmt).suffix}", fmt, limit=limit)
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    pieces = _pieces(path, kept)
    next(pieces)  # from here on, closing or forgetting them removes the file
    zipped = path.suffix == ".zip"
    return path.name, "application/zip" if zipped else _format(fmt).content_type, pieces


def _pieces(path: Path, folder: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield b""
            while piece := file.read(PIECE):
                yield piece
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _format(fmt: str) -> Format:
    if fmt not in FORMATS:
        raise ValueError(f"the format {fmt!r} is unknown; choose from {', '.join(FORMATS)}")
    return FORMATS[fmt]


def _failure(error: OSError | RuntimeError, folder: Path) -> OSError:
    """Say in one sentence why a writer failed; NetCDF and GDAL do not give the error's number."""
    number = getattr(error, "errno", None)
    if number in _FULL or shutil.disk_usage(folder).free < PIECE:
        return OSError(
            errno.ENOSPC,
            "the disk is full; free some space or choose a smaller area, a shorter period or "
            "fewer channels",
        )
    if isinstance(error, OSError) and number is not None:
        return error
    return OSError(f"the file was not written ({error}); see if there is space left for it")
