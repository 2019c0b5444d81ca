"""The address of the page: all that a view of the data is made of, in a short query.

What an address holds that is unknown or broken is left out, with a sentence for the user.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import panel as pn
from bokeh.events import RangesUpdate
from bokeh.plotting import figure

from app import style
from app.state import LINKED, MOST_SERIES, PINS, State, offered
from deepfeatures import render

VERSION = "1"
"""Form of the address; a page that reads another one says so."""
LONGEST = 4000
"""Characters of one value that are looked at."""
QUIET = 800
"""Milliseconds after which a map that was moved is written to the address."""
MOST_PLACES = 100

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_ID = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True)
class Form:
    """How values of a parameter are written."""

    write: Callable[[Any], str]
    """Value to text."""
    read: Callable[[str], Any]
    """Text to value; raises ValueError, TypeError or KeyError if it is none."""


def _number(text: str, most: float = math.inf) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > most:
        raise ValueError(text)
    return value


def _numbers(text: str, count: int) -> tuple[float, ...]:
    found = tuple(_number(part) for part in text.split(","))
    if len(found) != count:
        raise ValueError(text)
    return found


def _range(text: str) -> tuple[float, ...]:
    low, high = _numbers(text, 2)
    if low >= high:
        raise ValueError(text)
    return low, high


def _box(text: str) -> tuple[float, ...]:
    west, south, east, north = _numbers(text, 4)
    if not (-180 <= west < east <= 180 and -85 <= south < north <= 85):
        raise ValueError(text)
    return west, south, east, north


def _names(text: str, most: int = 20) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(text)
    return found[:most]


def _cmap(text: str) -> str:
    return {name: name for name in render.COLOURS}[text]


def _flag(text: str) -> bool:
    return {"1": True, "0": False, "true": True, "false": False}[text.lower()]


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(text)
    return text


def _share(text: str) -> float:
    value = _number(text, 1)
    if value < 0:
        raise ValueError(text)
    return value


def _one(*names: str) -> Form:
    return Form(str, lambda text: {name: name for name in names}[text])


def _pins(text: str) -> list[dict[str, Any]]:
    found = []
    for name, lon, lat, color in json.loads(text)[: len(PINS)]:
        if name not in [*PINS] or not _COLOUR.fullmatch(color):
            raise ValueError(text)
        place = {"lon": _number(lon, 180), "lat": _number(lat, 90)}
        found.append({"id": name, **place, "color": color})
    if len({pin["id"] for pin in found}) < len(found):
        raise ValueError(text)
    return found


def _places(text: str) -> list[tuple[float, float]]:
    return [(_number(lon, 180), _number(lat, 90)) for lon, lat in json.loads(text)[:MOST_PLACES]]


def _listed(values: Any) -> str:
    return ",".join(f"{value:.9g}" for value in values)


TEXT = Form(str, str)
FLAG = Form(lambda value: "1", _flag)
ID = Form(str, _id)
SHARE = Form(lambda value: f"{value:.3g}", _share)
FORMS: dict[str, Form] = {
    "lon": Form(str, lambda text: _number(text, 180)),
    "lat": Form(str, lambda text: _number(text, 90)),
    "chosen": Form(json.dumps, lambda text: _names(text, MOST_SERIES)),
    "own": Form(json.dumps, _names),
    "cmap": Form(str, _cmap),
    "limits": Form(_listed, _range),
    "masked": FLAG,
    "over": FLAG,
    "job": ID,
    "kept": ID,
    "opacity": SHARE,
    "split": FLAG,
    "part": SHARE,
    "plane": _one("pca", "umap"),
    "whose": _one("Pixel", "Area"),
    "years": FLAG,
    "lab": FLAG,
    "view": Form(_listed, _box),
    "opened": Form(json.dumps, _names),
    "line": Form(json.dumps, _places),
    "pins": Form(
        lambda pins: json.dumps([[p["id"], p["lon"], p["lat"], p["color"]] for p in pins]), _pins
    ),
}
"""Parameter to the form of its values; all others are text."""

COMPARED = ("other_cube", "other_show", "other_date", "part")
"""Parameters that only say something when two pictures are compared."""


def linked(state: State) -> dict[str, str]:
    """Give the parameters of a state that the address holds, and their names there."""
    return {key: name for key, name in LINKED.items() if key in state.param}


def write(state: State) -> dict[str, str]:
    """Give what the address of the page says about a state."""
    found = {"v": VERSION}
    for key, name in linked(state).items():
        value = getattr(state, key)
        if value != state.param[key].default and (state.split or key not in COMPARED):
            found[name] = FORMS.get(key, TEXT).write(value)
    return found


def query(state: State) -> str:
    """Give the query of the address, with its question mark."""
    return f"?{urlencode(write(state), safe=',')}"


def parsed(text: str) -> dict[str, str]:
    """Give the words of a query as they were written, a part of those that are very many."""
    return dict(parse_qsl(text.removeprefix("?")[: 10 * LONGEST])[:100])


def read(state: State, words: Mapping[str, str]) -> list[str]:
    """Bring a state to what an address says.

    Returns
    -------
    list of str
        A sentence for each thing that was left out.
    """
    names = {name: key for key, name in linked(state).items()}
    told = []
    if words.get("v", VERSION) != VERSION:
        told.append("The link is of another version of this page; not all of it may be shown.")
    values: dict[str, Any] = {}
    for name, value in words.items():
        text = value[:LONGEST]
        if name == "v":
            continue
        if name not in names:
            told.append(f"The link says {name[:40]!r}, which this page does not know.")
            continue
        key = names[name]
        try:
            values[key] = FORMS.get(key, TEXT).read(text)
        except (ValueError, TypeError, KeyError):
            told.append(f"The link says {name}={text[:40]!r}, which can not be read.")
    try:
        state.param.update(**values)
    except ValueError:
        told.append("The link holds values that do not belong together; it was left out.")
    state.settle()
    for key, what in (("cube", "the cube"), ("show", "the channel"), ("date", "the date")):
        if values.get(key) and values[key] != getattr(state, key):
            instead = getattr(state, key)
            told.append(f"There is not {what} {values[key][:40]!r} here; {instead} is shown.")
    return [*told, *_missing(state)][:6]


def _missing(state: State) -> list[str]:
    """Leave out what the picture to compare and the latent space do not have; a sentence each."""
    told = []
    other = state.cubes.get(state.other_cube, {})
    days = [time[:10] for time in other.get("times", [])]
    for key, what, there in (
        ("other_cube", "cube to compare with", bool(other)),
        ("other_show", "channel to compare with", bool(other) and offered(other, state.other_show)),
        ("other_date", "date to compare with", state.other_date in days),
        ("shade", "colour of the latent space", state.shaded(state.shade)),
    ):
        value, usual = getattr(state, key), state.param[key].default
        if value != usual and not there:
            told.append(f"There is not the {what} {value[:40]!r} here; the usual one is shown.")
            setattr(state, key, usual)
    return told


def follow(state: State, location: Any) -> None:
    """Write the address of the page whenever what it holds changes."""

    def tell(*_: Any) -> None:
        location.search = query(state)

    def begin() -> None:
        state.param.watch(tell, list(linked(state)))
        tell()

    pn.state.onload(begin)


def bounds(chart: figure) -> tuple[float, ...]:
    """Give west, south, east, north of a map [degrees]."""
    x, y = chart.x_range, chart.y_range
    west, south = style.to_lonlat(x.start, y.start)
    east, north = style.to_lonlat(x.end, y.end)
    return tuple(round(edge, 5) for edge in (west, south, east, north))


def move(chart: figure, view: tuple[float, ...]) -> None:
    """Show a box [degrees] on a map."""
    left, bottom = style.to_mercator(*view[:2])
    right, top = style.to_mercator(*view[2:])
    chart.x_range.update(start=left, end=right)
    chart.y_range.update(start=bottom, end=top)


def watch(state: State, chart: figure) -> None:
    """Remember what part of the map is looked at, once it rests."""
    document = pn.state.curdoc
    waiting: list[Any] = []

    def rest() -> None:
        waiting.clear()
        found = bounds(chart)
        if -180 <= found[0] < found[2] <= 180 and -85 <= found[1] < found[3] <= 85:
            state.view = found

    def moved(_: Any) -> None:
        if document is None or document.session_context is None:
            rest()
        elif not waiting:
            waiting.append(document.add_timeout_callback(rest, QUIET))

    chart.on_event(RangesUpdate, moved)
    state.param.watch(lambda *_: state.param.update(view=None), "cube")
