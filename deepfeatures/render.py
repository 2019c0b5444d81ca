"""A cube window as a map tile: which pixels a tile shows, their colours, the image file.

Pure functions over arrays. A web-mercator tile is warped by a small control grid: the projection
is exact at 17 x 17 points of the part of the tile that the cube covers, bilinear between them, and
the nearest pixel is taken. Images are palette PNG whose entry 0 is transparent, or RGB PNG whose
black is transparent; values never reach either by accident, as codes of data start at 1.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

TILE = 256
"""Edge of a map tile [px]."""

MAX_ZOOM = 24
"""Deepest zoom of a map tile."""

HALF_WORLD = math.pi * 6378137.0
"""Half the edge of the web-mercator square [m] (EPSG:3857)."""

COLOURS: dict[str, str] = {
    "viridis": "sequential",
    "cividis": "sequential",
    "magma": "sequential",
    "inferno": "sequential",
    "YlGn": "sequential",
    "gray": "sequential",
    "coolwarm": "diverging",
    "BrBG": "diverging",
    "PuOr": "diverging",
    "RdYlBu": "diverging",
    "twilight": "cyclic",
}
"""Colour maps that stay readable with a colour vision deficiency, and their use."""

CLASSES = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000",
    "#882255", "#999933", "#332288", "#b8b8b8",
)  # fmt: skip
"""Colours of classes, the first for code 1: Okabe and Ito (2008), then Tol (muted, 2021)."""

CODES = (1.0, 255.0)
"""Range at which the colour code of a class is its own code."""

CONTROL = 17
"""Points of the control grid along each side."""


@dataclass(frozen=True)
class Grid:
    """A north-up raster in a projected CRS."""

    crs: str
    """Anything that pyproj reads: WKT or an authority code."""
    west: float
    """Left edge of the first column [m]."""
    north: float
    """Upper edge of the first row [m]."""
    resolution: float
    """Edge of a pixel [m]."""
    height: int
    """Rows."""
    width: int
    """Columns."""


@dataclass(frozen=True, eq=False)
class Window:
    """The pixels of one overview level that a map tile shows."""

    level: int
    """Overview factor; 1 is full resolution."""
    rows: slice
    """Rows at this level."""
    columns: slice
    """Columns at this level."""
    index: NDArray[np.int32]
    """(256, 256) position in the flattened window; its size where the tile lies outside."""


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Transformer:
    """Give the transformation between two CRS, x or longitude first, made once."""
    return Transformer.from_crs(source, target, always_xy=True)


def tile_bounds(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """Give west, south, east, north of a tile in EPSG:3857 [m].

    Raises
    ------
    ValueError
        If there is no such tile.
    """
    if not 0 <= z <= MAX_ZOOM:
        raise ValueError(f"zoom {z} is not from 0 to {MAX_ZOOM}")
    if not (0 <= x < 1 << z and 0 <= y < 1 << z):
        raise ValueError(f"there is no tile {x}/{y} at zoom {z}; both are below {1 << z}")
    span = 2 * HALF_WORLD / (1 << z)
    west, north = -HALF_WORLD + x * span, HALF_WORLD - y * span
    return west, north - span, west + span, north


@lru_cache(maxsize=256)
def bounds(grid: Grid, crs: str = "EPSG:3857") -> tuple[float, float, float, float]:
    """Give west, south, east, north of a grid in another CRS, along its curved edges."""
    south = grid.north - grid.height * grid.resolution
    east = grid.west + grid.width * grid.resolution
    return transformer(grid.crs, crs).transform_bounds(
        grid.west, south, east, grid.north, densify_pts=21
    )


@lru_cache(maxsize=256)
def plan(grid: Grid, z: int, x: int, y: int, levels: tuple[int, ...] = (1,)) -> Window | None:
    """Tell which window of which overview level a map tile shows.

    Parameters
    ----------
    grid
        The cube's pixel grid at full resolution.
    z, x, y
        The tile in the web-mercator scheme, y from the north.
    levels
        Overview factors at hand, 1 among them. The coarsest that is not coarser than the tile's
        own pixels is taken, so that no more than about four pixels stand behind one of the tile.

    Returns
    -------
    Window or None
        None if no pixel of the tile lies in the grid.

    Raises
    ------
    ValueError
        If there is no such tile.
    """
    west, _, east, north = tile_bounds(z, x, y)
    return window(grid, west, north, (east - west) / TILE, levels)


def window(
    grid: Grid, west: float, north: float, pixel: float, levels: tuple[int, ...] = (1,)
) -> Window | None:
    """Tell which window of which overview level a square of `TILE` pixels anywhere shows.

    Parameters
    ----------
    grid, levels
        As of `plan`.
    west, north
        Corner of the square in EPSG:3857 [m].
    pixel
        Edge of one of its pixels [m].

    Returns
    -------
    Window or None
        None if no pixel of the square lies in the grid.
    """
    left, bottom, right, top = bounds(grid)
    c0, c1 = _span((left - west) / pixel, (right - west) / pixel)
    r0, r1 = _span((north - top) / pixel, (north - bottom) / pixel)
    if c0 >= c1 or r0 >= r1:
        return None
    columns, rows = _positions(grid, west, north, pixel, (r0, r1, c0, c1))
    inside = (columns >= 0) & (columns < grid.width) & (rows >= 0) & (rows < grid.height)
    if not inside.any():
        return None
    level = _level(grid, pixel, north - (r0 + r1) / 2 * pixel, levels)
    columns = np.where(inside, columns / level, 0).astype(np.int32)
    rows = np.where(inside, rows / level, 0).astype(np.int32)
    y0, y1 = int(rows[inside].min()), int(rows[inside].max()) + 1
    x0, x1 = int(columns[inside].min()), int(columns[inside].max()) + 1
    index = np.full((TILE, TILE), (y1 - y0) * (x1 - x0), np.int32)
    flat = (rows - y0) * (x1 - x0) + columns - x0
    index[r0:r1, c0:c1] = np.where(inside, flat, index[0, 0])
    index.flags.writeable = False
    return Window(level, slice(y0, y1), slice(x0, x1), index)


def _span(low: float, high: float) -> tuple[int, int]:
    return max(math.floor(low), 0), min(math.ceil(high), TILE)


def _positions(
    grid: Grid, west: float, north: float, pixel: float, box: tuple[int, int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give fractional columns and rows of the grid at the pixel centres of a part of a tile."""
    r0, r1, c0, c1 = box
    down, across = np.linspace(r0, r1, CONTROL), np.linspace(c0, c1, CONTROL)
    mercator = np.meshgrid(west + across * pixel, north - down * pixel)
    xs, ys = transformer("EPSG:3857", grid.crs).transform(*mercator)
    along, over = _weights(r1 - r0), _weights(c1 - c0)
    columns = along @ ((xs - grid.west) / grid.resolution) @ over.T
    rows = along @ ((grid.north - ys) / grid.resolution) @ over.T
    return columns, rows


@lru_cache(maxsize=TILE)
def _weights(count: int) -> NDArray[np.float64]:
    """Give the weights of the control points at `count` pixel centres: piecewise linear."""
    place = (np.arange(count) + 0.5) * (CONTROL - 1) / count
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(CONTROL)))


def _level(grid: Grid, pixel: float, y: float, levels: tuple[int, ...]) -> int:
    # One mercator metre is 1 / cosh(y / R) metres on the ground.
    ground = pixel / math.cosh(y / 6378137.0) / grid.resolution
    return max((level for level in levels if level <= ground * 1.001), default=min(levels))


def gather(window: Window, codes: NDArray) -> NDArray:
    """Spread the codes of a window over its tile; 0 where the tile lies outside.

    Parameters
    ----------
    window
        From `plan`.
    codes
        (rows, columns) codes of the window's pixels, or packed colours from `composite`.

    Returns
    -------
    array
        (256, 256) of the same type.
    """
    flat = np.append(codes.ravel(), codes.dtype.type(0))
    return flat.take(window.index, mode="clip")


def codes(values: NDArray, vmin: float, vmax: float) -> NDArray[np.uint8]:
    """Turn values into colour codes: 1 at `vmin` and below, 255 at `vmax` and above, 0 for NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (np.asarray(values, np.float32) - vmin) * (254.0 / (vmax - vmin)) + 1.5
        found = np.nan_to_num(np.clip(scaled, 1, 255), nan=0.0).astype(np.uint8)
    return found


def physical(stored: NDArray, scale: float, offset: float) -> NDArray[np.float32]:
    """Turn stored integers into physical values, with the arithmetic of a lazily opened cube."""
    values = stored.astype(np.float32)
    values *= np.float32(scale)
    values += np.float32(offset)
    return values


@lru_cache(maxsize=256)
def lookup(
    dtype: str, scale: float, offset: float, fill: int | None, vmin: float, vmax: float
) -> NDArray[np.uint8]:
    """Give the colour code of each number that an 8 or 16 bit integer type can store.

    The table is addressed by the bits of the stored number, read as unsigned.
    """
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"u{kind.itemsize}")
    stored = np.arange(1 << (8 * kind.itemsize), dtype=unsigned).view(kind)
    table = codes(physical(stored, scale, offset), vmin, vmax)
    if fill is not None:
        table[stored == fill] = 0
    table.flags.writeable = False
    return table


def look(stored: NDArray, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn stored integers into colour codes through a table of `lookup`."""
    return table[stored.view(f"u{stored.dtype.itemsize}")]


@lru_cache(maxsize=32)
def colours(name: str) -> NDArray[np.uint8]:
    """Give the (256, 3) colours of a map; entry 0 stands for no data.

    Raises
    ------
    ValueError
        If the colour map is not one of `COLOURS`.
    """
    from matplotlib import colormaps  # slow to import, and only a table is taken from it

    if name not in COLOURS:
        raise ValueError(f"unknown colour map {name[:40]!r}; choose from {', '.join(COLOURS)}")
    table = np.zeros((256, 3), np.uint8)
    table[1:] = np.round(colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255)
    table.flags.writeable = False
    return table


def class_colour(code: int) -> str:
    """Give the colour (``#rrggbb``) of a class, 1 the first."""
    return CLASSES[(code - 1) % len(CLASSES)]


@lru_cache(maxsize=1)
def class_colours() -> NDArray[np.uint8]:
    """Give the (256, 3) colours of classes, to be used with the range `CODES`."""
    table = np.zeros((256, 3), np.uint8)
    table[1:] = [tuple(bytes.fromhex(class_colour(code)[1:])) for code in range(1, 256)]
    table.flags.writeable = False
    return table


def legend(name: str, vmin: float, vmax: float, stops: int = 11) -> list[dict[str, object]]:
    """Give the stops of a legend: value and colour (``#rrggbb``), from `vmin` to `vmax`."""
    table = colours(name)
    values = np.linspace(vmin, vmax, stops)
    return [
        {"value": float(value), "colour": "#" + bytes(table[code]).hex()}
        for value, code in zip(values, codes(values, vmin, vmax), strict=True)
    ]


def palette_png(
    codes: NDArray[np.uint8], table: NDArray[np.uint8], opacity: tuple[int, ...] = (0,)
) -> bytes:
    """Write codes as a palette PNG.

    Parameters
    ----------
    codes
        (rows, columns) entries of the palette.
    table
        (n, 3) colours of the palette.
    opacity
        Opacity 0..255 of the first entries; the others are opaque.
    """
    return _png(codes, 3, (b"PLTE", table.tobytes()), (b"tRNS", bytes(opacity)))


def composite(
    red: NDArray[np.uint8], green: NDArray[np.uint8], blue: NDArray[np.uint8]
) -> NDArray[np.uint32]:
    """Pack three arrays of codes into one of colours; 0 where any of them has no data."""
    packed = np.zeros((*red.shape, 4), np.uint8)
    for place, band in enumerate((red, green, blue)):
        packed[..., place] = band
    whole = packed.view(np.uint32)[..., 0]
    return np.where((red > 0) & (green > 0) & (blue > 0), whole, np.uint32(0))


def rgb_png(packed: NDArray[np.uint32]) -> bytes:
    """Write packed colours of `composite` as an RGB PNG; transparent where they are 0."""
    image = packed.view(np.uint8).reshape(*packed.shape, 4)[..., :3]
    return _png(image, 2, (b"tRNS", bytes(6)))


def rgb_webp(packed: NDArray[np.uint32]) -> bytes:
    """Write packed colours of `composite` as a lossless WebP; transparent where they are 0.

    As quick as the PNG and a third of its bytes where a tile shows pixels larger than its own.
    """
    from PIL import Image  # slow to import, and many processes never draw a tile

    image = packed.view(np.uint8).reshape(*packed.shape, 4).copy()
    image[..., 3] = np.where(packed != 0, 255, 0)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True, quality=0, method=0)
    return file.getvalue()


def _png(image: NDArray[np.uint8], kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    # Differences to the row above, run lengths and Huffman codes: on tiles as fast as it gets,
    # and no larger than deflate at its fastest level (benchmarks/serve.py).
    height, width = image.shape[:2]
    lines = image.reshape(height, -1)
    filtered = np.empty((height, lines.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    data = deflate.compress(filtered.data) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in parts
    )
