"""Pixels of one raster file on the grid of a cube, from wherever GDAL can read.

Reads are tried again with growing pauses; what cannot be had raises `Unreadable`, which names
the file, so that whoever reads can give up one date instead of the whole cube.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

ATTEMPTS = 4
"""Times that a read is tried."""
PAUSE = 0.5
"""Seconds before the second attempt; doubled before each further one, with jitter."""

GDAL: Mapping[str, Any] = {
    # without it GDAL asks for the listing of the folder of every file
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    # header and first overviews of a COG in one request
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_NUM_THREADS": "1",
    "VSI_CACHE": "TRUE",
}
"""Settings of GDAL for reading cloud-optimised GeoTIFF."""

_Result = TypeVar("_Result")


class Unreadable(OSError):
    """A file that cannot be had, after all attempts."""

    def __init__(self, href: str, reason: str) -> None:
        super().__init__(f"{href} cannot be read ({reason})")
        self.href = href
        self.reason = reason

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str, str]]:
        """Travel between processes: the message is made of two words."""
        return type(self), (self.href, self.reason)


def read(
    href: str,
    geobox: GeoBox,
    *,
    resampling: str = "nearest",
    nodata: float | None = 0,
    dtype: str | None = None,
    band: int = 1,
    settings: Mapping[str, str] | None = None,
) -> NDArray[Any]:
    """Read a band of a raster on a grid.

    Parameters
    ----------
    href
        Path or URL that GDAL understands (``https://``, ``s3://``, a local path).
    geobox
        The wanted grid, in any CRS.
    resampling
        ``nearest``, ``bilinear``, ``cubic``, ``average`` or ``mode``.
    nodata
        The value that means none, in the file (where it does not say so itself) and outside of it.
    dtype
        Type of the result; that of the file by default.
    band
        Number of the band in the file, from 1.
    settings
        Further settings of GDAL (keys of a provider).

    Returns
    -------
    numpy.ndarray
        ``(y, x)`` of the grid; `nodata` where the file has nothing.

    Raises
    ------
    Unreadable
        If the file is missing, broken or not reachable after `ATTEMPTS` attempts.
    """

    def once() -> NDArray[Any]:
        with rasterio.Env(**{**GDAL, **(settings or {})}), rasterio.open(href) as file:
            return _read(file, geobox, resampling, nodata, band)

    values = retried(once, href)
    return values if dtype is None else values.astype(dtype, copy=False)


def retried(
    once: Callable[[], _Result], href: str, errors: tuple[type[Exception], ...] = ()
) -> _Result:
    """Call `once` until it succeeds, `ATTEMPTS` times at most.

    Raises
    ------
    Unreadable
        With the reason of the last attempt.
    """
    # the signature of a link is nobody's business
    plain = href.split("?")[0]
    last = ATTEMPTS if "://" in href or href.startswith("/vsi") else 1
    reason = ""
    for attempt in range(last):
        if attempt:
            # noise keeps many workers from coming back at the same moment
            time.sleep(PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        try:
            return once()
        except (RasterioError, OSError, *errors) as error:
            words = str(error).replace(href, plain).splitlines() or [type(error).__name__]
            reason = words[0][:200]
    # raised here, because errors of GDAL do not travel between processes as its context
    raise Unreadable(plain, reason)


def _read(
    file: rasterio.DatasetReader, geobox: GeoBox, resampling: str, nodata: float | None, band: int
) -> NDArray[Any]:
    if file.crs is None:
        raise RasterioError("it has no coordinate reference system; it may be cut off")
    empty = file.nodata if file.nodata is not None else nodata
    aligned = _aligned(file, geobox) if resampling == "nearest" else None
    if aligned is not None:
        return _cut(file, geobox, aligned, empty, nodata, band)
    options = {}
    if resampling in ("bilinear", "cubic"):
        # left alone, GDAL takes the width of the kernel from the shape of the window
        options = dict(zip(("XSCALE", "YSCALE"), _scales(file, geobox), strict=True))
    with WarpedVRT(
        file,
        crs=str(geobox.crs),
        transform=geobox.transform,
        width=geobox.shape.x,
        height=geobox.shape.y,
        resampling=Resampling[resampling],
        src_nodata=empty,
        nodata=nodata,
        **options,
    ) as warped:
        return warped.read(band)


def _scales(file: rasterio.DatasetReader, geobox: GeoBox) -> tuple[str, str]:
    """Give grid pixels per file pixel along x and y, one at most, at the centre of the file."""
    x, y = abs(file.transform.a), abs(file.transform.e)
    if file.crs.is_geographic and geobox.crs is not None and geobox.crs.projected:
        latitude = file.transform.f + file.transform.e * file.height / 2
        x, y = x * 111_320 * math.cos(math.radians(latitude)), y * 111_320
    step_x, step_y = abs(geobox.transform.a), abs(geobox.transform.e)
    return str(min(1.0, x / step_x)), str(min(1.0, y / step_y))


def _aligned(file: rasterio.DatasetReader, geobox: GeoBox) -> tuple[int, int, int] | None:
    """Give column, row and number of grid pixels in a file's pixel, if one lies in the other.

    Column and row are those of the grid's corner in grid pixels from the corner of the file.
    Most Sentinel-2 cubes lie so on their files, and cutting is several times faster than warping.
    """
    source: Affine = file.transform
    target: Affine = geobox.transform
    if geobox.crs is None or source.b or source.d or target.b or target.d:
        return None
    ratio = source.a / target.a
    if ratio < 0.999 or abs(ratio - round(ratio)) > 1e-6 or abs(source.e / target.e - ratio) > 1e-6:
        return None
    if file.crs.to_epsg() is None or file.crs.to_epsg() != geobox.crs.epsg:
        return None
    column = (target.c - source.c) / target.a
    row = (target.f - source.f) / target.e
    if abs(column - round(column)) > 1e-3 or abs(row - round(row)) > 1e-3:
        return None
    return round(column), round(row), round(ratio)


def _cut(
    file: rasterio.DatasetReader,
    geobox: GeoBox,
    aligned: tuple[int, int, int],
    empty: float | None,
    nodata: float | None,
    band: int,
) -> NDArray[Any]:
    """Cut a window and repeat its pixels."""
    column, row, ratio = aligned
    height, width = geobox.shape.y, geobox.shape.x
    values = np.full((height, width), 0 if nodata is None else nodata, file.dtypes[band - 1])
    x0, x1 = max(column, 0), min(column + width, file.width * ratio)
    y0, y1 = max(row, 0), min(row + height, file.height * ratio)
    if x0 >= x1 or y0 >= y1:
        return values
    first = x0 // ratio, y0 // ratio
    last = -(-x1 // ratio), -(-y1 // ratio)
    part = file.read(band, window=Window(*first, last[0] - first[0], last[1] - first[1]))
    if ratio > 1:
        part = part.repeat(ratio, axis=0).repeat(ratio, axis=1)
    skip_y, skip_x = y0 - first[1] * ratio, x0 - first[0] * ratio
    part = part[skip_y : skip_y + y1 - y0, skip_x : skip_x + x1 - x0]
    if empty is not None and nodata is not None and empty != nodata:
        part = np.where(part == empty, np.asarray(nodata, part.dtype), part)
    values[y0 - row : y1 - row, x0 - column : x1 - column] = part
    return values
