"""What the four ways to find share: the result over the map, asking, saving, legends, links."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import ColumnDataSource, TileRenderer, WMTSTileSource
from bokeh.plotting import figure

from app import style, work
from app.reads.find import Map
from app.state import State
from app.views.map import EMPTY, MAX_ZOOM, box
from deepfeatures import render

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (5, 0)}
"""Layout of a control at the side."""
SMALL = WIDE | {"size": "small"}
"""The same of one that comes in sizes."""


class Overlay:
    """A result and labelled places over the map; made when there is something to draw."""

    def __init__(self, chart: figure) -> None:
        self._chart = chart
        self._tiles: TileRenderer | None = None
        self._dots: ColumnDataSource | None = None

    def show(self, info: Mapping[str, Any], url: str) -> None:
        """Draw the tiles of a result; none without an address."""
        if self._tiles is None:
            if not url:
                return
            source = WMTSTileSource(url=EMPTY, max_zoom=MAX_ZOOM)
            self._tiles = self._chart.add_tile(source, alpha=0.85)
            self._tiles.name = "found"
        self._tiles.tags = box(info["bounds"]) if url else [0.0, 0.0, 0.0, 0.0]
        self._tiles.tile_source.url = url or EMPTY

    def dots(self, places: Sequence[tuple[float, float]], colours: Sequence[str]) -> None:
        """Mark places (longitude, latitude)."""
        if self._dots is None:
            if not places:
                return
            self._dots = ColumnDataSource({"x": [], "y": [], "colour": []}, name="labels")
            self._chart.scatter(
                "x", "y", source=self._dots, size=10, fill_color="colour", line_color="#ffffff",
                line_width=1.5,
            )  # fmt: skip
        xy = [style.to_mercator(*place) for place in places]
        self._dots.data = {
            "x": [x for x, _ in xy], "y": [y for _, y in xy], "colour": list(colours),
        }  # fmt: skip


def note(sentence: str, alert: bool = False) -> str:
    """Write a sentence."""
    if alert:
        return f'<div class="note" role="alert"><b>{escape(sentence)}</b></div>'
    return f'<div class="note" role="status">{escape(sentence)}</div>' if sentence else ""


def swatches(rows: Sequence[tuple[str, str, str]]) -> str:
    """Write a legend: colour, name and what stands at the right of each row."""
    square = "display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px"
    parts = [
        f'<div role="listitem" style="display:flex;align-items:center">'
        f'<i style="{square};background:{colour or "transparent"}"></i>'
        f'<span style="flex:1">{escape(name)}</span><span>{escape(right)}</span></div>'
        for colour, name, right in rows
    ]
    return f'<div class="note" role="list">{"".join(parts)}</div>'


def areas(found: Mapping[str, float]) -> str:
    """Write the legend of classes with their areas."""
    rows = []
    for code, (name, hectares) in enumerate(found.items(), 1):
        colour = "" if name == "no value" else render.class_colour(code)
        rows.append((colour, name.capitalize() if not colour else name, style.area(hectares * 1e4)))
    return swatches(rows)


def ramp(cmap: str, low: float, high: float, label: str) -> str:
    """Write the colour bar of a map of numbers."""
    colours = ", ".join(str(stop["colour"]) for stop in render.legend(cmap, low, high))
    return (
        f'<div class="note" role="img" aria-label="Colours of {escape(label)} from {low:.2f} to '
        f'{high:.2f}"><span>{escape(label)}</span><div class="ramp" style="background:'
        f'linear-gradient(to right, {colours})"></div><div class="ticks"><span>{low:.2f}</span>'
        f"<span>{high:.2f}</span></div></div>"
    )


def links(names: Sequence[str], limits: Mapping[str, float], classes: bool) -> str:
    """Write where saved layers are and how they are taken home."""
    parts = []
    for number, name in enumerate(names):
        stem = f"/api/cubes/{name}"
        ways = [("GeoTIFF", f"{stem}/export?format=geotiff")]
        if number == 0 and (classes or limits):
            query = f"?{urlencode(limits)}" if limits else ""
            ways.append(("GeoJSON", f"{stem}/polygons{query}"))
        anchors = " · ".join(
            f'<a style="color:var(--primary)" href="{escape(url)}" download>{label}</a>'
            for label, url in ways
        )
        parts.append(f"<div>{escape(name)}: {anchors}</div>")
    return f'<div class="note" role="status">Saved as a layer. {"".join(parts)}</div>'


def whens(info: Mapping[str, Any], date: str) -> dict[str, str]:
    """Give the periods that a cube can be asked about."""
    days = [time[:10] for time in info.get("times", [])]
    found = {"All dates": ""} | {year: year for year in sorted({day[:4] for day in days})}
    return found | ({f"{date} (on the map)": date} if date in days else {})


class Finder(pn.viewable.Viewer):
    """One way to find: asks, draws what comes back, and saves it."""

    state = param.ClassSelector(class_=State)
    method = ""

    def __init__(
        self,
        *,
        overlay: Overlay,
        ask: Callable[..., Any],
        save: Callable[..., Any],
        shares: Callable[[str], list[float]],
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.overlay, self._ask, self._save, self._shares = overlay, ask, save, shares
        self.active = False
        self.made: Map | None = None
        self.cube = ""
        self._turn = 0
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.start = pmui.Button(label="Find", icon="search", variant="contained", **WIDE)
        self.start.on_click(lambda _: self.ask())
        self.result = pn.Column(sizing_mode="stretch_width", margin=0)
        self.state.param.watch(self._other, ["cube", "features", "cubes"])
        self.build()

    @property
    def base(self) -> str:
        """Name of the cube that is asked: features if there are any, else what they are made of."""
        return str(self.state.features or self.state.source)

    @property
    def info(self) -> dict[str, Any]:
        """Description of that cube."""
        return dict(self.state.cubes.get(self.base, {}))

    def build(self) -> None:
        """Make the controls."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Give what to ask for; raises `ValueError` with the sentence of what is missing."""
        raise NotImplementedError

    def fill(self, made: Map) -> list[Any]:
        """Give what is shown of a result, above the row that saves it."""
        raise NotImplementedError

    def look(self, made: Map) -> dict[str, Any]:
        """Give the query of the tiles of a result."""
        raise NotImplementedError

    def limits(self) -> dict[str, float]:
        """Give the limits within which a map of numbers becomes polygons."""
        return {}

    def ask(self) -> None:
        """Ask for the map."""
        try:
            settings = self.settings()
        except ValueError as error:
            self.note.object = note(str(error), alert=True)
            return
        self._turn += 1
        self.note.object = note("Looking at all pixels …")
        turn, self.cube = self._turn, self.base
        work.run(
            self._ask, self.base, self.method, settings,
            then=partial(self._answered, turn), failed=partial(self._failed, turn),
        )  # fmt: skip

    def _answered(self, turn: int, made: Map) -> None:
        if turn != self._turn:
            return
        if made.found is None:
            self.note.object = note(
                "This takes longer, so it became a job; its layer will be among the cubes."
            )
            return
        self.made = made
        self.note.object = ""
        self.result.objects = [*self.fill(made), *self._saving(made)]
        self.draw()

    def _failed(self, turn: int, sentence: str) -> None:
        if turn == self._turn:
            self.note.object = note(sentence, alert=True)

    def draw(self, *_: Any) -> None:
        """Put the result over the map, or take away that of another way."""
        if not self.active:
            return
        info = self.state.cubes.get(self.cube, {})
        if self.made is None or not info or not self.shown.value:
            self.overlay.show({}, "")
            return
        query = urlencode(self.look(self.made))
        stem = f"/tiles/{self.cube}/found/{self.made.key}/{{Z}}/{{X}}/{{Y}}.png"
        self.overlay.show(info, f"{stem}?{query}")

    def _saving(self, made: Map) -> list[Any]:
        self.shown = pmui.Switch(label="Show on the map", value=True, size="small", margin=(4, 0))
        self.shown.param.watch(self.draw, "value")
        self.wanted = pmui.TextInput(
            label="Name of the layer", placeholder="chosen for you", **SMALL
        )
        self.keep = pmui.Button(label="Save as a layer", icon="save", variant="outlined", **SMALL)
        self.saved = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.keep.on_click(partial(self._keep, made))
        return [self.shown, self.wanted, self.keep, self.saved]

    def _keep(self, made: Map, _: Any) -> None:
        self.keep.disabled = True
        work.run(
            self._save, made.found, self.wanted.value.strip(),
            then=partial(self._kept, made), failed=self._refused,
        )  # fmt: skip

    def _kept(self, made: Map, answer: tuple[list[str], dict[str, Any]]) -> None:
        names, cubes = answer
        self.keep.disabled = False
        classes = bool(made.found and made.found.layers[0].classes)
        self.saved.object = links(names, self.limits(), classes)
        self.state.cubes = cubes

    def _refused(self, sentence: str) -> None:
        self.keep.disabled = False
        self.saved.object = note(sentence, alert=True)

    def _other(self, *_: Any) -> None:
        if self.made is not None and self.cube != self.base:
            self._turn += 1
            self.made = None
            self.result.objects = []
            self.draw()
        self.renew()

    def renew(self) -> None:
        """Follow the cube: options that depend on it."""

    def __panel__(self) -> pn.viewable.Viewable:
        raise NotImplementedError
