"""The picture of the latent space: millions of points as a raster, in colours with a legend."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import datashader as ds
import numpy as np
import pandas as pd
from datashader import transfer_functions as tf
from numpy.typing import NDArray

from app import style
from app.state import LAYER
from deepfeatures import render

DENSITY = ["#c9d9dc", "#7fb0b2", "#0b5d5e", "#062f33"]
"""Few points to many."""
RAMP = "cividis"
"""Colour map of values."""
SIZE = (460, 360)
"""Width and height of the picture of the cloud [px]."""
PLACE = ((0.0, 0.35, 0.7), (0.84, 0.37, 0.0))
"""Colours of the north-west and the south-east corner; south adds light, east the second."""

Ranges = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Shade:
    """What the points of a cloud are coloured by."""

    name: str
    """``density``, ``month``, ``year``, ``place``, a channel, or ``layer:`` and a name."""
    values: NDArray
    """(n,) numbers of classes (-1 = none) or values; (n, 2) place; (0,) for the density."""
    labels: tuple[str, ...] = ()
    """Names of the classes; empty if there are none."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Values of the first and last colour."""

    @property
    def colors(self) -> list[str]:
        """Colours of the classes."""
        count = range(len(self.labels))
        if self.name.startswith(LAYER):  # the colours that its map has
            return [render.class_colour(at + 1) for at in count]
        known = style.MONTHS if self.name == "month" else style.SERIES
        return [known[at % len(known)] for at in count]


PLAIN = Shade("density", np.empty(0))
"""Only how many points there are."""


def ranges(scores: np.ndarray) -> Ranges:
    """Give the ranges that show all but the outermost points of a cloud (n, 2)."""
    if len(scores) == 0:
        return (-1.0, 1.0), (-1.0, 1.0)
    low, high = np.percentile(scores[:, :2], [0.2, 99.8], axis=0)
    air = 0.12 * (high - low) + 1e-6
    x, y = zip(low - air, high + air, strict=True)
    return (float(x[0]), float(x[1])), (float(y[0]), float(y[1]))


def cloud(scores: np.ndarray, shown: Ranges, shade: Shade = PLAIN) -> np.ndarray:
    """Draw points (n, 2): packed RGBA (height, width), lowest row first.

    Classes are mixed where they meet, values are averaged in each pixel of the picture.
    """
    canvas = ds.Canvas(plot_width=SIZE[0], plot_height=SIZE[1], x_range=shown[0], y_range=shown[1])
    table = pd.DataFrame(scores[:, :2], columns=["x", "y"])
    if shade.name == "place":
        image = _placed(canvas, table, shade.values)
    elif shade.labels:
        codes = np.asarray(shade.values, np.int64)
        table, codes = table[codes >= 0].copy(), codes[codes >= 0]
        table["class"] = pd.Categorical.from_codes(codes, list(shade.labels))
        counts = canvas.points(table, "x", "y", ds.by("class", ds.count()))
        key = dict(zip(shade.labels, shade.colors, strict=True))
        image = tf.shade(counts, color_key=key, how="eq_hist", min_alpha=110)
    elif len(shade.values):
        table["value"] = shade.values.astype(np.float32)
        means = canvas.points(table, "x", "y", ds.mean("value"))
        stops = [str(stop["colour"]) for stop in render.legend(RAMP, 0, 1, 16)]
        image = tf.shade(means, cmap=stops, how="linear", span=shade.limits)
    else:
        image = tf.shade(canvas.points(table, "x", "y"), cmap=DENSITY, how="eq_hist")
    return np.asarray(tf.dynspread(image, threshold=0.5, max_px=3).data, np.uint32)


def _placed(canvas: ds.Canvas, table: pd.DataFrame, values: np.ndarray) -> Any:
    table["down"], table["right"] = values.astype(np.float32).T
    down, right = (canvas.points(table, "x", "y", ds.mean(name)) for name in ("down", "right"))
    there = np.isfinite(down.values)
    colors = mixed(np.nan_to_num(down.values), np.nan_to_num(right.values))
    packed = np.zeros((*there.shape, 4), np.uint8)
    packed[..., :3], packed[..., 3] = np.round(255 * colors), 255
    image = np.where(there, packed.view(np.uint32)[..., 0], np.uint32(0))
    return tf.Image(image, coords=down.coords, dims=down.dims)


def mixed(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give the colour (..., 3) of a place: 0, 0 is the north-west, 1, 1 the south-east corner."""
    west, east = np.array(PLACE)
    hue = west + right[..., None] * (east - west)
    return (hue * (1 - 0.65 * down[..., None]) + 0.65 * down[..., None] * 0.95).clip(0, 1)


def legend(shade: Shade) -> str:
    """Write what the colours mean as HTML."""
    if shade.name == "place":
        return _places()
    if shade.labels:
        pairs = zip(shade.labels, shade.colors, strict=True)
        parts = [f"<span>{_dot(color)}{escape(label)}</span>" for label, color in pairs]
        return f'<div class="months">{"".join(parts)}</div>'
    if not len(shade.values):
        return _ramp("Points", DENSITY, ("few", "many"))
    colors = [str(stop["colour"]) for stop in render.legend(RAMP, 0, 1)]
    low, high = (f"{value:.3g}" for value in shade.limits)
    return _ramp(f"Mean {shade.name.removeprefix(LAYER)}", colors, (low, high))


def _dot(color: str) -> str:
    return f'<i style="background:{color}"></i>'


def _ramp(name: str, colors: list[str], ends: tuple[str, str]) -> str:
    words = f"{name} from {ends[0]} to {ends[1]}"
    return (
        f'<div class="shade" role="img" aria-label="{escape(words)}"><b>{escape(name)}</b>'
        f"<span>{escape(ends[0])}</span>"
        f'<i style="background:linear-gradient(to right, {", ".join(colors)})"></i>'
        f"<span>{escape(ends[1])}</span></div>"
    )


def _places() -> str:
    rows = []
    for down in (0.0, 0.5, 1.0):
        colors = mixed(np.full(5, down), np.linspace(0, 1, 5))
        stops = ", ".join("#" + bytes(np.round(255 * one).astype(np.uint8)).hex() for one in colors)
        rows.append(f'<i style="background:linear-gradient(to right, {stops})"></i>')
    return (
        '<div class="shade" role="img" aria-label="Colour of the place: west blue, east orange, '
        f'south lighter"><b>Place</b><span>west</span><div>{"".join(rows)}</div>'
        "<span>east; lighter to the south</span></div>"
    )


def path(times: np.ndarray, scores: np.ndarray, year: str) -> dict[str, list[Any]]:
    """Lay out the dates of one year of a pixel: place, day, colour of the month."""
    days = times.astype("datetime64[D]")
    kept = np.isfinite(scores).all(axis=1) & (days.astype("datetime64[Y]").astype(str) == year)
    months = days[kept].astype("datetime64[M]").astype(int) % 12
    return {
        "x": scores[kept, 0].tolist(),
        "y": scores[kept, 1].tolist(),
        "day": days[kept].astype(str).tolist(),
        "color": [style.MONTHS[month] for month in months],
    }


def paths(times: np.ndarray, scores: np.ndarray) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Lay out all years over one another: as `path`, in the colour of the year; year to colour."""
    years = sorted(set(times.astype("datetime64[Y]").astype(str).tolist()))
    colors = {year: style.SERIES[at % len(style.SERIES)] for at, year in enumerate(years)}
    found: dict[str, list[Any]] = {"x": [], "y": [], "day": [], "color": []}
    for year, color in colors.items():
        for key, column in path(times, scores, year).items():
            found[key] += [color] * len(column) if key == "color" else column
    return found, colors


def lines(dots: dict[str, list[Any]], color: str = "") -> dict[str, list[Any]]:
    """Join the dates of each year to a line, in the colour of its first date or a given one."""
    years: dict[str, list[int]] = {}
    for at, day in enumerate(dots["day"]):
        years.setdefault(day[:4], []).append(at)
    return {
        "xs": [[dots["x"][at] for at in members] for members in years.values()],
        "ys": [[dots["y"][at] for at in members] for members in years.values()],
        "color": [color or dots["color"][members[0]] for members in years.values()],
    }


def years(colors: dict[str, str]) -> str:
    """Write the legend of the years."""
    parts = [f"<span>{_dot(color)}{escape(year)}</span>" for year, color in colors.items()]
    return f'<div class="months">{"".join(parts)}</div>'


def months() -> str:
    """Write the legend of the months."""
    shade = Shade("month", np.empty(0), style.MONTH_NAMES)
    return legend(shade)
