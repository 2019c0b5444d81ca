"""The file formats of the export."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path


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
    "geotiff-dates": Format(".zip", "application/zip", 5, 10_000_000_000),
    "csv": Format(".csv", "text/csv; charset=utf-8", 120, 4_000_000_000),
    "parquet": Format(".parquet", "application/vnd.apache.parquet", 40, 4_000_000_000),
    "research": Format(".zarr.zip", "application/zip", 4, 20_000_000_000),
}
"""The formats by name."""


def of(fmt: str) -> Format:
    """Give a format.

    Raises
    ------
    ValueError
        If it is unknown.
    """
    if fmt not in FORMATS:
        raise ValueError(f"the format {fmt!r} is unknown; choose from {', '.join(FORMATS)}")
    return FORMATS[fmt]


def content_type(path: Path) -> str:
    """Give the media type of a file that is kept: an export, a picture, an animation."""
    types = {one.suffix: one.content_type for one in FORMATS.values()}
    known = next((kind for end, kind in types.items() if path.name.endswith(end)), None)
    return known or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
