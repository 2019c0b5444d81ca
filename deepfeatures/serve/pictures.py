"""What is on the screen as a picture, and through time as an animation."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfeatures import __version__, catalogue, export, frames, reading, render
from deepfeatures.errors import sentence
from deepfeatures.serve import sending, tiles
from deepfeatures.serve.base import Base, Refusal, cube
from deepfeatures.serve.exports import box
from deepfeatures.serve.tiles import Style
from deepfeatures.settings import Workspace

WIDTH = 1024
"""Width of a picture unless another is asked for [px]."""
SMALLEST = 160
"""Least width and height [px]: less has no room for the words."""
LARGEST = 4_000_000
"""Most pixels of a picture, without the strip below."""
LARGEST_FRAME = 2_000_000
"""Most pixels of a frame of an animation."""
MOST_FRAMES = 400
"""Most dates of an animation."""
CLEAR = 0.8
"""Usable share from which a date counts as clear."""
SPEEDS = (0.2, 30.0)
"""Least and most frames a second."""
TYPES = {"gif": "image/gif", "mp4": "video/mp4"}
"""Media types of animations."""

_TURNS = threading.BoundedSemaphore(2)
"""Animations that are made at the same time, whoever asks for them."""


@dataclass(frozen=True)
class View:
    """A part of the map at a size."""

    bbox: tuple[float, ...] | None = None
    """West, south, east, north [degree]; None for the whole cube."""
    width: int = 0
    """Width [px]; 0 for what follows from the height, or `WIDTH`."""
    height: int = 0
    """Height [px]; 0 for what follows from the width."""


@dataclass(frozen=True)
class Span:
    """The dates of an animation."""

    start: str = ""
    """First day; empty for that of the cube."""
    end: str = ""
    """Last day."""
    clear: bool = False
    """Whether dates with less than `CLEAR` usable pixels are left out."""
    speed: float = 4.0
    """Frames a second."""


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in EPSG:3857."""

    west: float
    """Left edge [m]."""
    north: float
    """Upper edge [m]."""
    pixel: float
    """Edge of a pixel [m]."""
    width: int
    """Columns."""
    height: int
    """Rows."""


def placed(one: reading.OpenCube, view: View, largest: int = LARGEST) -> Frame:
    """Fit a box into a picture, in the middle where the shapes differ.

    Raises
    ------
    ValueError
        If the box or the size can not be drawn.
    """
    west, south, east, north = view.bbox or render.bounds(one.grid, "EPSG:4326")
    if not (-180 <= west < east <= 180 and -85 <= south < north <= 85):
        raise ValueError(
            f"bbox={west:g},{south:g},{east:g},{north:g} must lie within 180 degrees east and "
            "west and 85 degrees north and south"
        )
    to_map = render.transformer("EPSG:4326", "EPSG:3857").transform
    (left, bottom), (right, top) = to_map(west, south), to_map(east, north)
    shape = (top - bottom) / (right - left)
    width, height = view.width, view.height
    width = width or (round(height / shape) if height else WIDTH)
    height = height or round(width * shape)
    if min(width, height) < SMALLEST or width * height > largest:
        raise ValueError(
            f"a picture of {width} x {height} px can not be made; take at least {SMALLEST} px a "
            f"side and at most {largest / 1e6:g} million pixels"
        )
    pixel = max((right - left) / width, (top - bottom) / height)
    across, down = (left + right - width * pixel) / 2, (top + bottom + height * pixel) / 2
    return Frame(across, down, pixel, width, height)


def mosaic(one: reading.OpenCube, style: Style, t: int, frame: Frame) -> NDArray[np.uint8]:
    """Draw a date square by square with the means of the map tiles: (height, width, 4)."""
    image = np.zeros((frame.height, frame.width, 4), np.uint8)
    side = render.TILE
    for y in range(0, frame.height, side):
        for x in range(0, frame.width, side):
            window = render.window(
                one.grid, frame.west + x * frame.pixel, frame.north - y * frame.pixel,
                frame.pixel, one.levels,
            )  # fmt: skip
            if window is not None:
                part = image[y : y + side, x : x + side]
                part[:] = tiles.painted(one, style, t, window)[: part.shape[0], : part.shape[1]]
    return image


def caption(
    one: reading.OpenCube, info: dict[str, Any], style: Style, frame: Frame
) -> frames.Caption:
    """Write what stands below the map; the date is added for each frame."""
    channels = style.channels or one.channels[:1]
    middle = frame.north - frame.height * frame.pixel / 2
    found = frames.Caption(
        title=f"{', '.join(channels)} · {info['title'] or one.name}",
        date="",
        credit=str(info["attrs"].get("attribution", "")),
        metres=frame.pixel / math.cosh(middle / 6378137.0),
        simulated=bool(info["simulated"]),
    )
    if one.classes:
        named = tuple((str(c["colour"]), str(c["label"])) for c in tiles.classes(one))
        return replace(found, classes=named)
    if len(channels) == 3:
        return found
    ramp = render.colours(style.cmap)[1:].tolist()
    return replace(
        found, ramp=tuple((r, g, b) for r, g, b in ramp), limits=tiles.span(one, style, channels[0])
    )


def drawn(
    one: reading.OpenCube, info: dict[str, Any], style: Style, frame: Frame, dates: list[int]
) -> Iterator[NDArray[np.uint8]]:
    """Draw dates one by one, with their captions."""
    words = caption(one, info, style, frame)
    for t in dates:
        day = str(one.times[t].astype("datetime64[D]"))
        yield frames.compose(mosaic(one, style, t, frame), replace(words, date=day))


def dates(one: reading.OpenCube, span: Span) -> list[int]:
    """Give the dates of an animation.

    Raises
    ------
    ValueError
        If there are none or too many, or a day or the speed is wrong.
    """
    if not SPEEDS[0] <= span.speed <= SPEEDS[1]:
        raise ValueError(f"speed={span.speed:g} must be from {SPEEDS[0]} to {SPEEDS[1]:g} a second")
    days = one.times.astype("datetime64[D]")
    keep = np.ones(days.size, bool)
    for text, name in ((span.start, "start"), (span.end, "end")):
        if text:
            day = _day(text, name)
            keep &= days >= day if name == "start" else days <= day
    if span.clear:
        keep &= reading.shares(one) >= CLEAR
    found = np.flatnonzero(keep).tolist()
    if not found:
        raise ValueError(
            f"no date is left; {one.name!r} has dates from {days[0]} to {days[-1]}"
            + (", of which clear ones were asked for" if span.clear else "")
        )
    if len(found) > MOST_FRAMES:
        raise ValueError(
            f"{len(found)} dates are more than the {MOST_FRAMES} that an animation holds; "
            "choose a shorter period, or clear dates only"
        )
    return found


def _day(text: str, name: str) -> np.datetime64:
    try:
        return np.datetime64(text, "D")
    except ValueError:
        raise ValueError(f"{name}={text[:40]!r} is no date; write it like 2021-05-03") from None


def still(ws: Workspace, name: str, style: Style, view: View) -> Path:
    """Make the picture of a date, kept for a while.

    Raises
    ------
    KeyError, ValueError
        If cube, style or view can not be drawn.
    """
    one = cube(ws, name)
    tiles.check(one, style)
    frame, t = placed(one, view), reading.step(one, style.time)

    def make(folder: Path) -> Path:
        path = folder / f"{name}-{str(one.times[t])[:10]}.png"
        frames.png(next(drawn(one, catalogue.info(ws, name), style, frame, [t])), path)
        return path

    return export.keep(ws, _key(one, style, frame, t), make)


def animate(
    ws: Workspace,
    name: str,
    style: Style,
    view: View,
    span: Span,
    form: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Make the animation of a period, kept for a while.

    Parameters
    ----------
    ws
        The workspace.
    name
        The cube.
    style, view, span
        What is shown, where, and when.
    form
        A key of `TYPES`.
    progress
        Called with frames done and frames in all.

    Raises
    ------
    KeyError, ValueError
        If cube, style, view or period can not be drawn.
    """
    one = cube(ws, name)
    tiles.check(one, style)
    frame, found = placed(one, view, LARGEST_FRAME), dates(one, span)

    def counted() -> Iterator[NDArray[np.uint8]]:
        for done, image in enumerate(drawn(one, catalogue.info(ws, name), style, frame, found), 1):
            yield image
            progress(done, len(found))

    def make(folder: Path) -> Path:
        path = folder / f"{name}-{'-'.join(style.channels) or one.channels[0]}.{form}"
        path = path.with_name("".join(c if c.isalnum() or c in "-_." else "_" for c in path.name))
        with _TURNS:
            frames.ANIMATIONS[form](counted(), path, speed=span.speed)
        return path

    return export.keep(ws, _key(one, replace(style, time=""), frame, found, span.speed, form), make)


def _key(one: reading.OpenCube, *words: object) -> str:
    text = f"{__version__} {one.url} {one.version} {words}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _size(handler: Base, name: str) -> int:
    text = handler.text(name)
    if text and not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError(f"{name}={text[:40]!r} is no number of pixels")
    return int(text or 0)


def _view(handler: Base) -> View:
    return View(box(handler), _size(handler, "width"), _size(handler, "height"))


class Picture(Base):
    """``/api/cubes/{name}/picture.png``."""

    async def get(self, name: str) -> None:
        """Send a picture of ``bbox``, ``width``, ``height`` in the style of a tile."""
        path = await self.slow(_told, still, self, name, tiles.asked(self), _view(self))
        await sending.send(self, path, "image/png")

    head = get


class Animation(Base):
    """``/api/cubes/{name}/animation.{gif,mp4}``."""

    async def get(self, name: str, form: str) -> None:
        """Send an animation from ``start`` to ``end``, of ``clear`` dates, with a ``speed``."""
        speed = self.number("speed")
        span = Span(
            self.text("start"),
            self.text("end"),
            self.text("clear") in ("1", "true"),
            Span.speed if speed is None else speed,
        )
        style = tiles.asked(self)
        path = await self.slow(_told, animate, self, name, style, _view(self), span, form)
        await sending.send(self, path, TYPES[form])

    head = get


def _told(make: Callable[..., Path], handler: Base, name: str, style: Style, *rest: Any) -> Path:
    handler.context.cube(name)  # says in other words what is missing
    if style.selection:
        raise Refusal(400, "a selection is not drawn into pictures; leave 'selection' out")
    try:
        return make(handler.context.ws, name, style, *rest)
    except KeyError as error:
        raise Refusal(404, sentence(error)) from error
