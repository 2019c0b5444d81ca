"""Map tiles: a channel through a colour map, three channels as a composite, a latent selection."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deepfeatures import __version__, reading, render
from deepfeatures.clouds import USABLE
from deepfeatures.serve.ahead import Ahead
from deepfeatures.serve.base import IMMUTABLE, Base, Refusal

MARK = (255, 0, 200)
"""Colour of the pixels of a latent selection."""
MARK_OPACITY = 190
"""Opacity of the same, 0..255."""
COMPOSITE_BANDS = (0.0, 0.3)
"""Range of a composite of bands (surface reflectance) unless another is asked for."""

NEXT = 6
"""Dates between the one that is looked at and the ones that are loaded ahead on either side."""
AHEAD = Ahead()
"""What waits to be loaded in this process."""

_MARKS = np.array([(0, 0, 0), MARK], np.uint8)


class Selections:
    """The last latent selections of this process, by an id that follows from their content."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, reading.Selection] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, selection: reading.Selection) -> str:
        """Keep a selection and give its id for the URL of tiles."""
        words = f"{selection.cube} {selection.time} {selection.plane.key}"
        digest = hashlib.sha256(words.encode())
        digest.update(np.ascontiguousarray(selection.ring, np.float64).tobytes())
        name = digest.hexdigest()[:16]
        with self._lock:
            self._held[name] = selection
            self._held.move_to_end(name)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        return name

    def get(self, name: str) -> reading.Selection:
        """Give a selection.

        Raises
        ------
        Refusal
            404 if it was never made or has been forgotten.
        """
        with self._lock:
            found = self._held.get(name)
        if found is None:
            raise Refusal(404, f"there is no selection {name[:40]!r} any more; select again")
        return found


SELECTIONS = Selections(256)
"""The latent selections of this process."""


@dataclass(frozen=True)
class Style:
    """What a tile shows and how; all of it stands in the URL."""

    time: str = ""
    """Date or index; empty for the last."""
    channels: tuple[str, ...] = ()
    """One channel, or three for red, green, blue; empty for the first stored one."""
    vmin: float | None = None
    """Value of the first colour; None for a range that suits the channel."""
    vmax: float | None = None
    """Value of the last colour."""
    cmap: str = "viridis"
    """Name of the colour map."""
    masked: bool = False
    """Whether pixels that are not valid are left out."""
    selection: str = ""
    """Id of a latent selection; then only its pixels are marked."""


def picture(
    cube: reading.OpenCube, style: Style, z: int, x: int, y: int, *, webp: bool = False
) -> bytes | None:
    """Draw a map tile; three channels as WebP if `webp`.

    Returns
    -------
    bytes or None
        Image of 256 x 256 px; None if the tile lies outside the cube.

    Raises
    ------
    ValueError
        If tile, time, channel, range or colour map is wrong.
    Refusal
        404 if the selection is not known (any more).
    """
    check(cube, style)
    if style.selection:
        return _marks(cube, style, z, x, y)
    t = reading.step(cube, style.time)
    window = render.plan(cube.grid, z, x, y, cube.levels)
    if window is None:
        return None
    channels = style.channels or cube.channels[:1]
    layers = _codes(cube, style, t, channels, window)
    if len(layers) == 3:
        packed = render.gather(window, render.composite(*layers))
        return render.rgb_webp(packed) if webp else render.rgb_png(packed)
    table = render.class_colours() if cube.classes else render.colours(style.cmap)
    return render.palette_png(render.gather(window, layers[0]), table)


def painted(
    cube: reading.OpenCube, style: Style, t: int, window: render.Window
) -> NDArray[np.uint8]:
    """Give colours and opacity (256, 256, 4) of a square, the same as those of a map tile."""
    layers = _codes(cube, style, t, style.channels or cube.channels[:1], window)
    if len(layers) == 3:
        packed = render.gather(window, render.composite(*layers))
        image = packed.view(np.uint8).reshape(*packed.shape, 4).copy()
        image[..., 3] = np.where(packed != 0, 255, 0)
        return image
    codes = render.gather(window, layers[0])
    table = render.class_colours() if cube.classes else render.colours(style.cmap)
    return np.dstack([table[codes], np.where(codes > 0, 255, 0).astype(np.uint8)])


def check(cube: reading.OpenCube, style: Style) -> None:
    """Refuse what the cube can not be drawn as.

    Raises
    ------
    ValueError
        If channel, range or colour map is wrong.
    """
    reading.checked(cube, style.channels)
    render.colours(style.cmap)
    if style.vmin is not None and style.vmax is not None and style.vmin >= style.vmax:
        raise ValueError(f"vmin={style.vmin:g} must be below vmax={style.vmax:g}")


def span(cube: reading.OpenCube, style: Style, channel: str) -> tuple[float, float]:
    """Give the range of values that the colours of a channel stand for.

    Raises
    ------
    ValueError
        If only one end is given and lies on the wrong side of the other.
    """
    if cube.classes:
        return render.CODES  # whatever is asked for: a code has the colour of its class
    low, high = style.vmin, style.vmax
    if low is None or high is None:
        composite = len(style.channels) == 3 and cube.kind == "bands" and channel in cube.channels
        usual = COMPOSITE_BANDS if composite else reading.limits(cube, channel)
        low = usual[0] if low is None else low
        high = usual[1] if high is None else high
    if low >= high:
        raise ValueError(f"vmin={low:g} must be below vmax={high:g}; give both")
    return low, high


def _codes(
    cube: reading.OpenCube, style: Style, t: int, channels: tuple[str, ...], window: render.Window
) -> list[NDArray[np.uint8]]:
    level, rows, columns = window.level, window.rows, window.columns
    times = slice(t, t + 1)
    coded = [one for one in channels if one in cube.channels and cube.fill is not None]
    others = [one for one in channels if one not in coded]
    made = reading.values(cube, others, times, rows, columns, level=level) if others else {}
    found = []
    for channel in channels:
        low, high = span(cube, style, channel)
        if channel in made:
            codes = render.codes(made[channel][0], low, high)
        else:
            stored = reading.stored(cube, t, channel, rows, columns, level=level)
            factors = reading.coding(cube, channel)
            table = render.lookup(str(stored.dtype), *factors, cube.fill, low, high)
            codes = render.look(stored, table)
        found.append(codes)
    if style.masked:
        usable = reading.read(cube, "valid", (times, rows, columns), level=level)[0] == USABLE
        found = [codes * usable for codes in found]
    return found


def neighbours(cube: reading.OpenCube, time: str) -> list[int]:
    """Give the dates that are loaded ahead: the next chunks of dates on either side.

    A chunk holds several dates, so most neighbours of a date are there with itself.
    """
    t = reading.step(cube, time)
    edge = cube.arrays[cube.variable, 1].chunks[0]
    near = [t + NEXT, t - NEXT]
    return [one for one in near if 0 <= one < len(cube.times) and one // edge != t // edge]


def load(cube: reading.OpenCube, style: Style, t: int, z: int, x: int, y: int) -> None:
    """Take what a tile of another date needs into the cache."""
    window = render.plan(cube.grid, z, x, y, cube.levels)
    if window is None:
        return
    channels, area = style.channels or cube.channels[:1], (window.rows, window.columns)
    reading.load(cube, channels, t, *area, level=window.level)
    if style.masked:
        reading.read(cube, "valid", (slice(t, t + 1), *area), level=window.level)


def _marks(cube: reading.OpenCube, style: Style, z: int, x: int, y: int) -> bytes | None:
    selection = SELECTIONS.get(style.selection)
    if selection.cube != cube.name:
        raise ValueError(f"the selection was made in {selection.cube!r}, not in {cube.name!r}")
    t = reading.step(cube, style.time or selection.time)
    window = render.plan(cube.grid, z, x, y, cube.levels)
    if window is None:
        return None
    found = reading.members(cube, selection, t, window.rows, window.columns, level=window.level)
    codes = render.gather(window, found.astype(np.uint8))
    return render.palette_png(codes, _MARKS, (0, MARK_OPACITY))


class Tile(Base):
    """``/tiles/{name}/{z}/{x}/{y}.png``."""

    async def get(self, name: str, z: str, x: str, y: str) -> None:
        """Send a map tile; 204 outside the cube, 304 if the client has it."""
        numbers = [_whole(part) for part in (z, x, y)]
        style = asked(self)
        rgb = len(style.channels) == 3 and not style.selection
        webp = rgb and "image/webp" in self.request.headers.get("Accept", "")
        self.set_header("Vary", "Accept")
        cube, token, image = await self.quick(self._draw, name, style, numbers, webp)
        version = cube.version
        if image is not None and not style.selection:
            self._load_ahead(cube, style, numbers)
        if self.text("version") == version:
            self.set_header("Cache-Control", IMMUTABLE)
        if self.unchanged(token):
            return
        if image is None:
            self.set_status(204)
        else:
            self.set_header("Content-Type", "image/webp" if webp else "image/png")
        self.finish(image)

    def _draw(
        self, name: str, style: Style, numbers: list[int], webp: bool
    ) -> tuple[reading.OpenCube, str, bytes | None]:
        """Give the cube, the ETag, and the image unless the client has it."""
        cube = self.context.cube(name)
        token = _token(cube, style, numbers, webp)
        known = f'"{token}"' in self.request.headers.get("If-None-Match", "")
        return cube, token, None if known else picture(cube, style, *numbers, webp=webp)

    def _load_ahead(self, cube: reading.OpenCube, style: Style, numbers: list[int]) -> None:
        for t in neighbours(cube, style.time):
            work = partial(load, cube, style, t, *numbers)
            AHEAD.ask(
                self.context.quick, (cube.url, cube.version, style.channels, t, *numbers), work
            )

    head = get


def asked(handler: Base) -> Style:
    """Read the style from the query.

    Raises
    ------
    ValueError
        If ``rgb`` does not name three channels, or a number is none.
    """
    channel, rgb = handler.text("channel"), handler.names("rgb")
    if rgb is not None and (len(rgb) != 3 or channel):
        raise ValueError("give either 'channel', or 'rgb' with three channels: rgb=B04,B03,B02")
    return Style(
        time=handler.text("time"),
        channels=tuple(rgb) if rgb else (channel,) if channel else (),
        vmin=handler.number("vmin"),
        vmax=handler.number("vmax"),
        cmap=handler.text("cmap", Style.cmap),
        masked=handler.text("masked") in ("1", "true"),
        selection=handler.text("selection"),
    )


class Legend(Base):
    """``/api/cubes/{name}/legend``."""

    async def get(self, name: str) -> None:
        """Send the stops of a channel's colours, and the range if none was given."""
        style = Style(
            channels=(self.text("channel"),) if self.text("channel") else (),
            vmin=self.number("vmin"),
            vmax=self.number("vmax"),
            cmap=self.text("cmap", Style.cmap),
        )
        self.answer(await self.quick(self._legend, name, style))

    head = get

    def _legend(self, name: str, style: Style) -> dict[str, object]:
        cube = self.context.cube(name)
        check(cube, style)
        channel = style.channels[0] if style.channels else cube.channels[0]
        low, high = span(cube, style, channel)
        return {
            "cube": name,
            "channel": channel,
            "cmap": style.cmap,
            "vmin": low,
            "vmax": high,
            "stops": classes(cube) or render.legend(style.cmap, low, high),
        }


def classes(cube: reading.OpenCube) -> list[dict[str, object]]:
    """Give code, colour and name of each class of a layer; nothing of any other cube."""
    return [
        {"value": code, "colour": render.class_colour(code), "label": name}
        for code, name in enumerate(cube.classes, 1)
    ]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise ValueError(f"{text[:40]!r} is no tile number; the path is z/x/y.png")
    return int(text)


def _token(cube: reading.OpenCube, style: Style, numbers: list[int], webp: bool) -> str:
    words = f"{__version__} {cube.url} {cube.version} {style} {numbers} {webp}"
    return hashlib.sha256(words.encode()).hexdigest()[:24]
