"""Colours, fonts, number formats and the theme: how everything on the page looks."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from bokeh.models import DatetimeTicker, DatetimeTickFormatter
from bokeh.plotting import figure

ASSETS = Path(__file__).parent / "assets"
CSS = (ASSETS / "style.css").read_text()
COLOURS = (ASSETS / "theme.css").read_text()
"""Custom properties with the colours that all other sheets use, by day and in the dark."""
LIGHT, DARK = (
    dict(re.findall(r"--([a-z]+): (#[0-9a-f]+);", part)) for part in COLOURS.split("}")[:2]
)
TITLE = "Feature Data Cubes"

INK, SOFT, GRID = LIGHT["ink"], LIGHT["faint"], LIGHT["grid"]
"""Of what the theme colours anew (axes, grids, legends), and of what lies on pictures."""
PAPER = "#ffffff00"
"""No colour: the paper shows, be it white or dark."""
PRIMARY, ACCENT, GAP, LINE = "#2b8a8b", "#d55e00", "#9aa5ab", "#76838a"
"""Of marks in figures: they stay as they are, so they are seen on white and on dark paper."""
FONT = "Roboto, system-ui, sans-serif"

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#767676", "#9a52bb")
"""Colours that people with colour blindness tell apart (after Okabe and Ito 2008), seen on white
and on dark paper."""

MONTHS = (
    "#3b4cc0", "#5977e3", "#3d9fbf", "#35b779", "#6ccd5a", "#b5d333",
    "#f0c929", "#f39a27", "#e4632d", "#c03a4b", "#8e3a7d", "#5b3fa3",
)  # fmt: skip
"""A ring of twelve colours, January first: winter blue, spring green, summer yellow."""

MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _theme(colours: dict[str, str]) -> dict[str, Any]:
    return {
        "palette": {
            "primary": {"main": colours["primary"]},
            "secondary": {"main": ACCENT},
            "background": {"default": colours["page"], "paper": colours["paper"]},
            "text": {"primary": colours["ink"], "secondary": colours["faint"]},
        },
        "components": {"MuiPaper": {"styleOverrides": {"root": {"backgroundImage": "none"}}}},
        "typography": {"button": {"textTransform": "none"}, "fontSize": 13},
        "shape": {"borderRadius": 6},
    }


THEME: dict[str, Any] = {"light": _theme(LIGHT), "dark": _theme(DARK)}
"""Theme of Material UI for the whole page."""

BASEMAP = os.environ.get("DEEPFEATURES_BASEMAP", "https://tile.openstreetmap.org/{Z}/{X}/{Y}.png")
"""Address of the tiles of the background map; ``none`` for no such map."""

BASEMAP_CREDIT = "Background © OpenStreetMap contributors."

RADIUS = 6378137.0
"""Radius of the sphere of web mercator [m]."""


def plain(**options: Any) -> figure:
    """Make an empty figure in the style of the page."""
    usual = {"toolbar_location": None, "sizing_mode": "stretch_both", "min_border": 4}
    fig = figure(**(usual | options))
    fig.outline_line_color = None
    fig.background_fill_color = fig.border_fill_color = PAPER
    for axis in fig.axis:
        axis.axis_line_color = GRID
        axis.major_tick_line_color = GRID
        axis.minor_tick_line_color = None
        axis.major_label_text_color = SOFT
        axis.major_label_text_font_size = "11px"
        axis.major_label_text_font = axis.axis_label_text_font = FONT
        axis.axis_label_text_color = SOFT
        axis.axis_label_text_font_size = "11px"
        axis.axis_label_text_font_style = "normal"
    for grid in fig.grid:
        grid.grid_line_color = GRID
    return fig


def dated(fig: figure) -> figure:
    """Label the horizontal axis of a figure with months and years."""
    fig.xaxis.ticker = DatetimeTicker(desired_num_ticks=5)
    fig.xaxis.formatter = DatetimeTickFormatter(
        days="%d %b", months="%b %y", years="%Y", hours="%d %b", minutes="%d %b"
    )
    return fig


def to_mercator(lon: float, lat: float) -> tuple[float, float]:
    """Project longitude and latitude [degrees] to web mercator [m]."""
    y = math.log(math.tan(math.pi / 4 + math.radians(lat) / 2))
    return RADIUS * math.radians(lon), RADIUS * y


def to_lonlat(x: float, y: float) -> tuple[float, float]:
    """Turn web mercator [m] back into longitude and latitude [degrees]."""
    lat = 2 * math.atan(math.exp(y / RADIUS)) - math.pi / 2
    return math.degrees(x / RADIUS), math.degrees(lat)


def megabytes(size: float) -> str:
    """Write a number of bytes for people: ``870 kB``, ``12 MB``, ``1.4 GB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(size / 1e3, 1):.0f} kB"


def duration(seconds: float) -> str:
    """Write a time span for people: ``8 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def area(square_metres: float) -> str:
    """Write an area for people: ``3.2 ha`` or ``1.45 km²``."""
    if square_metres < 1e6:
        return f"{square_metres / 1e4:.1f} ha"
    return f"{square_metres / 1e6:.2f} km²"
