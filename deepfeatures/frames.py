"""Pictures of a view with what they need to be understood alone, and animations of them.

The map keeps its pixels; a strip below it says what is shown, when, in which colours, how large
and by whom. Animations are written frame by frame, so that only one is held.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont

STRIP = 84
"""Height of the strip below the map [px]."""
BACKGROUND = (238, 241, 242)
"""Colour of the map where the cube has nothing."""

_PAPER, _INK, _FAINT = (255, 255, 255), (31, 41, 46), (84, 98, 105)
_EDGE = 10  # margin of the strip
_RAMP = (160, 10)  # size of the colour bar


@dataclass(frozen=True)
class Caption:
    """What stands below a map."""

    title: str
    """What is shown."""
    date: str
    """When, YYYY-MM-DD."""
    credit: str
    """Whose data it is."""
    metres: float
    """Metres on the ground that a pixel stands for."""
    simulated: bool = False
    """Whether the data are simulated."""
    ramp: tuple[tuple[int, int, int], ...] = ()
    """Colours from the lowest to the highest value; empty for a colour picture."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Values of the first and the last of these colours."""
    classes: tuple[tuple[str, str], ...] = ()
    """Colour (``#rrggbb``) and name of each class, instead of a ramp."""


def compose(image: NDArray[np.uint8], caption: Caption) -> NDArray[np.uint8]:
    """Put a map on paper with its caption.

    Parameters
    ----------
    image
        (height, width, 4) colours and opacity of the map, opaque or not at all.
    caption
        What stands below it.

    Returns
    -------
    array
        (height + `STRIP`, width, 3).
    """
    height, width = image.shape[:2]
    made = np.empty((height + STRIP, width, 3), np.uint8)
    made[:height] = np.where(image[..., 3:] > 0, image[..., :3], np.array(BACKGROUND, np.uint8))
    made[height:] = _strip(width, caption)
    return made


def _strip(width: int, caption: Caption) -> NDArray[np.uint8]:
    strip = Image.new("RGB", (width, STRIP), _PAPER)
    draw = ImageDraw.Draw(strip)
    label = "Simulated · " if caption.simulated else ""
    half = width // 2 - _EDGE
    left = [(8, 16, f"{caption.date}", _INK), (29, 12, f"{label}{caption.title}", _FAINT)]
    for top, size, text, colour in left:
        font = ImageFont.load_default(size)
        draw.text((_EDGE, top), _fitted(text, font, half), colour, font)
    small = ImageFont.load_default(10)
    draw.text((_EDGE, STRIP - 18), _fitted(caption.credit, small, width - 2 * _EDGE), _FAINT, small)
    _scale(draw, width, caption.metres)
    if caption.ramp:
        _ramp(draw, width, caption)
    else:
        _classes(draw, width, caption)
    return np.asarray(strip)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Cut a text so that it is no longer than `width` pixels."""
    text = " ".join(text.split())[:400]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _scale(draw: ImageDraw.ImageDraw, width: int, metres: float) -> None:
    """Draw a scale bar of a round length, at most a fifth of the picture."""
    most = max(width / 5, 30) * metres
    power = 10.0 ** math.floor(math.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    bottom, end = STRIP - 30, _EDGE + round(length / metres)
    points = [(_EDGE, bottom - 4), (_EDGE, bottom), (end, bottom), (end, bottom - 4)]
    draw.line(points, _INK, 1)
    draw.text((end + 6, bottom - 9), words, _INK, ImageFont.load_default(10))


def _ramp(draw: ImageDraw.ImageDraw, width: int, caption: Caption) -> None:
    across = min(_RAMP[0], width // 2 - 2 * _EDGE)
    left, top, font = width - _EDGE - across, 14, ImageFont.load_default(10)
    count = len(caption.ramp)
    for x in range(across):
        draw.line([(left + x, top), (left + x, top + _RAMP[1])], caption.ramp[x * count // across])
    low, high = (f"{value:.3g}" for value in caption.limits)
    below = top + _RAMP[1] + 4
    draw.text((left, below), low, _INK, font)
    draw.text((width - _EDGE - font.getlength(high), below), high, _INK, font)


def _classes(draw: ImageDraw.ImageDraw, width: int, caption: Caption) -> None:
    font, left = ImageFont.load_default(10), width // 2
    each = max((width // 2 - _EDGE) // 3, 1)
    for number, (colour, name) in enumerate(caption.classes[:9]):
        x, y = left + number // 3 * each, 8 + number % 3 * 15
        draw.rectangle([x, y, x + 9, y + 9], colour)
        draw.text((x + 13, y - 1), _fitted(name, font, each - 16), _INK, font)


def png(image: NDArray[np.uint8], path: Path) -> None:
    """Write a picture (height, width, 3) as PNG."""
    Image.fromarray(image).save(path, "PNG", compress_level=4)


def gif(frames: Iterable[NDArray[np.uint8]], path: Path, *, speed: float) -> None:
    """Write an animation as GIF that runs for ever, each frame with 256 colours of its own.

    Parameters
    ----------
    frames
        Pictures (height, width, 3) of one size; taken one by one.
    path
        The file.
    speed
        Frames a second.
    """
    lasting: dict[str, Any] = {"duration": round(1000 / speed), "include_color_table": True}
    with path.open("wb") as file:
        for number, frame in enumerate(frames):
            if number == 0:
                size = struct.pack("<HH", frame.shape[1], frame.shape[0])
                file.write(b"GIF89a" + size + bytes(3))
                file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
            image = Image.fromarray(frame).quantize(dither=Image.Dither.NONE)
            for piece in GifImagePlugin.getdata(image, **lasting):
                file.write(piece)
        file.write(b";")


def mp4(frames: Iterable[NDArray[np.uint8]], path: Path, *, speed: float) -> None:
    """Write an animation as MP4 (H.264), with a white row or column where a size is odd.

    Parameters
    ----------
    frames, path, speed
        As of `gif`.
    """
    import av  # loads the libraries of FFmpeg, which pictures do not need

    rate = Fraction(speed).limit_denominator(100)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as target:
        stream = target.add_stream("libx264", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        for number, frame in enumerate(frames):
            padded = np.pad(
                frame,
                ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)),
                constant_values=255,
            )
            if number == 0:
                stream.height, stream.width = padded.shape[:2]
            target.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        target.mux(stream.encode())


ANIMATIONS = {"gif": gif, "mp4": mp4}
"""Writers of animations by the end of the file name."""
