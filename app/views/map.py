"""The map: our own tiles on a GeoViews map, the clicked pixel, the drawn area, the selection."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import geoviews as gv
import panel as pn
import panel_material_ui as pmui
import param
from bokeh.document import Document
from bokeh.events import DoubleTap, SelectionGeometry, Tap
from bokeh.models import (
    BoxSelectTool,
    ColumnDataSource,
    CustomJS,
    PanTool,
    TileRenderer,
    WMTSTileSource,
)
from bokeh.plotting import figure

from app import style
from app.state import State
from app.views.area import Corners

EMPTY = (
    "data:image/gif;tile={Z}-{X}-{Y};base64,"
    "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
)
"""A transparent picture, for a layer that shows nothing."""
MAX_ZOOM = 20
PICTURE = ["cube", "show", "date", "cmap", "limits", "masked", "cubes"]
"""Choices that change the picture on the map."""

RELAY = (style.ASSETS / "relay.js").read_text()
"""Keeps the last picture under the next one until that has arrived, so that nothing flickers."""


def tile_url(
    info: dict[str, Any],
    show: str,
    date: str,
    *,
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    masked: bool = False,
) -> str:
    """Write the address of the tiles of one cube, channel, date and style."""
    query = {"time": date, "version": info["version"]}
    if "," in show:
        query["rgb"] = show
    else:
        query |= {"channel": show, "cmap": cmap}
        if limits is not None:
            query |= {"vmin": f"{limits[0]:g}", "vmax": f"{limits[1]:g}"}
    if masked:
        query["masked"] = "1"
    return f"/tiles/{info['name']}/{{Z}}/{{X}}/{{Y}}.png?{urlencode(query, safe=',')}"


def selection_url(info: dict[str, Any], selection: str, date: str) -> str:
    """Write the address of the tiles that light up a selection of pixels."""
    query = urlencode({"time": date, "version": info["version"], "selection": selection})
    return f"/tiles/{info['name']}/{{Z}}/{{X}}/{{Y}}.png?{query}"


def box(bounds: list[float]) -> list[float]:
    """Project west, south, east, north [degrees] to web mercator [m]."""
    return [*style.to_mercator(*bounds[:2]), *style.to_mercator(*bounds[2:])]


def extent(bounds: list[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give the ranges of x and y in web mercator [m] that show bounds in degrees."""
    left, bottom, right, top = box(bounds)
    margin = 0.03 * max(right - left, top - bottom)
    return (left - margin, right + margin), (bottom - margin, top + margin)


def ring(area: dict[str, Any] | None) -> dict[str, list[list[float]]]:
    """Give the outer rings of a GeoJSON Feature in web mercator, as a patches glyph wants them."""
    if not area:
        return {"xs": [], "ys": []}
    geometry = area["geometry"]
    parts = geometry["coordinates"]
    polygons = parts if geometry["type"] == "MultiPolygon" else [parts]
    rings = [[style.to_mercator(*place[:2]) for place in polygon[0]] for polygon in polygons]
    return {
        "xs": [[x for x, _ in one] for one in rings],
        "ys": [[y for _, y in one] for one in rings],
    }


def feature(corners: list[tuple[float, float]], name: str) -> dict[str, Any]:
    """Turn corners in web mercator [m] into a GeoJSON Feature."""
    kept = [one for i, one in enumerate(corners) if i == 0 or one != corners[i - 1]]
    places = [[round(v, 7) for v in style.to_lonlat(x, y)] for x, y in kept]
    return {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": "Polygon", "coordinates": [[*places, places[0]]]},
    }


def map_figure(bounds: list[float], *, layers: int) -> tuple[figure, list[TileRenderer]]:
    """Make the map with a stack of empty tile layers.

    Returns
    -------
    (figure, renderers)
        The lowest layer first.
    """
    xlim, ylim = extent(bounds)
    # Only the mode of a server takes the document that is given. Any other takes the current one:
    # that of another session when the page is built in a thread, or one that nobody ever closes.
    plot = gv.renderer("bokeh").instance(mode="server").get_plot(
        gv.WMTS(EMPTY).opts(
            responsive=True, xaxis=None, yaxis=None, toolbar=None, border=0, xlim=xlim, ylim=ylim,
            default_tools=["pan", "wheel_zoom"], active_tools=["pan", "wheel_zoom"],
        ),
        doc=Document(),
    )  # fmt: skip
    fig: figure = plot.state
    for _ in range(layers - 1):
        fig.add_tile(WMTSTileSource(url=EMPTY))
    fig.outline_line_color = None
    fig.background_fill_color = "#eef1f2"
    fig.min_border = 0
    fig.output_backend = "canvas"
    fig.name = "map"
    return fig, [one for one in fig.renderers if isinstance(one, TileRenderer)]


def marks(
    fig: figure, *, point: ColumnDataSource, area: ColumnDataSource, sketch: ColumnDataSource,
    pins: ColumnDataSource, line: ColumnDataSource,
) -> None:  # fmt: skip
    """Draw pixels, area, line, and the one that is being drawn, on top of the tiles."""
    fig.patches(
        "xs", "ys", source=area, fill_color="#ffffff", fill_alpha=0.12, line_color="#ffffff",
        line_width=4, nonselection_alpha=1,
    )  # fmt: skip
    fig.multi_line("xs", "ys", source=area, line_color=style.INK, line_width=1.6, line_dash=[5, 4])
    fig.line("x", "y", source=sketch, line_color=style.ACCENT, line_width=2)
    fig.scatter("x", "y", source=sketch, size=9, color=style.ACCENT, line_color="#ffffff")
    for color, width in (("#ffffff", 5), (style.ACCENT, 2)):
        fig.line("x", "y", source=line, line_color=color, line_width=width)
    fig.scatter("x", "y", source=pins, size=18, color="color", line_color="#ffffff", line_width=2)
    fig.text(
        "x", "y", text="id", source=pins, text_color="#ffffff", text_align="center",
        text_baseline="middle", text_font_size="11px", text_font={"value": style.FONT},
    )  # fmt: skip
    for size, color, width in ((17, "#ffffff", 5.0), (17, style.ACCENT, 2.4)):
        fig.scatter(
            "x", "y", source=point, marker="circle_cross", size=size, fill_alpha=0.0,
            line_color=color, line_width=width,
        )  # fmt: skip


def put(layer: TileRenderer, info: dict[str, Any], url: str) -> None:
    """Show tiles in a layer, asked for within the bounds of a cube; nothing without an address."""
    layer.tags = box(info["bounds"]) if url else [0.0, 0.0, 0.0, 0.0]
    layer.tile_source.url = url or EMPTY


class MapView(pn.viewable.Viewer):
    """The map of one session."""

    state = param.ClassSelector(class_=State)

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        bounds = self.state.info.get("bounds", [-10.0, 35.0, 30.0, 60.0])
        self.figure, layers = map_figure(bounds, layers=5)
        self.background, self.back, self.front, self.over, self.glow = layers
        self.point = ColumnDataSource({"x": [], "y": []})
        self.area = ColumnDataSource(ring(None), name="map-area")
        self.sketch = ColumnDataSource({"x": [], "y": []})
        self.pins = ColumnDataSource({"x": [], "y": [], "id": [], "color": []}, name="pins")
        self.line = ColumnDataSource({"x": [], "y": []}, name="line")
        marks(
            self.figure, point=self.point, area=self.area, sketch=self.sketch, pins=self.pins,
            line=self.line,
        )  # fmt: skip
        self.corners = Corners(self.figure, self.state)
        self.front.name, self.back.name = "front", "back"
        self.over.name, self.glow.name = "over", "glow"
        self.other: TileRenderer | None = None
        self.done = pmui.Button(
            label="Finish", size="small", variant="contained", visible=False, margin=(0, 8)
        )
        self.done.on_click(self._finished)
        self.last: tuple[float, float] | None = None
        self._prepare()
        self._wire()
        self.pane = pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", margin=0)

    def _prepare(self) -> None:
        for layer in (self.background, self.back, self.front, self.over, self.glow):
            layer.tile_source.max_zoom = MAX_ZOOM
            put(layer, {}, "")
        self.box = BoxSelectTool()
        self.box.overlay.update(
            fill_color="#ffffff", fill_alpha=0.25, line_color=style.ACCENT, line_width=2
        )
        self.figure.add_tools(self.box)
        args = {"front": self.front, "back": self.back}
        relay = CustomJS(args=args, code=RELAY)
        self.front.tile_source.js_on_change("url", relay)
        if pn.state.curdoc is not None:  # a range found before the page is there is no change in it
            pn.state.curdoc.js_on_event("document_ready", relay)
        self.figure.on_event(Tap, self._tapped)
        self.figure.on_event(DoubleTap, self._finished)
        self.figure.on_event(SelectionGeometry, self._drawn)

    def _wire(self) -> None:
        state = self.state
        state.param.watch(self._zoom, "cube")
        state.param.watch(self._picture, PICTURE)
        state.param.watch(self._layers, ["cube", "date", "features", "over", "selection", "cubes"])
        state.param.watch(self._marks, ["lon", "lat", "area", "pins", "line"])
        state.param.watch(self._tool, "mode")
        state.param.watch(self._background, "background")
        state.param.watch(self._opacity, "opacity")
        state.param.watch(self._other, ["split", "other_cube", "other_show", "other_date", "cubes"])
        self._picture()
        self._layers()
        self._marks()
        self._opacity()
        self._other()
        put(self.back, self.state.info, self.front.tile_source.url)

    def _zoom(self, *_: Any) -> None:
        if self.state.info:
            (left, right), (bottom, top) = extent(self.state.info["bounds"])
            self.figure.x_range.update(start=left, end=right)
            self.figure.y_range.update(start=bottom, end=top)

    def _picture(self, *_: Any) -> None:
        state = self.state
        single = "," not in state.show
        if state.info and state.date in state.days and not (single and state.limits is None):
            url = tile_url(
                state.info, state.show, state.date,
                cmap=state.cmap, limits=state.limits, masked=state.masked,
            )  # fmt: skip
            put(self.front, state.info, url)

    def _layers(self, *_: Any) -> None:
        state = self.state
        info = state.cubes.get(state.features, {})
        has = state.date in [time[:10] for time in info.get("times", [])]
        pictures = list(state.pictures(state.features).values()) if info else []
        over = state.over and has and pictures and state.features != state.cube
        put(self.over, info, tile_url(info, pictures[0], state.date) if over else "")
        lit = state.selection and has
        put(self.glow, info, selection_url(info, state.selection, state.date) if lit else "")

    def _background(self, *_: Any) -> None:
        self.background.tags = []  # no bounds
        self.background.tile_source.url = style.BASEMAP if self.state.background else EMPTY

    def _opacity(self, *_: Any) -> None:
        self.front.alpha = self.back.alpha = self.state.opacity

    def _other(self, *_: Any) -> None:
        """Show the other picture; its layer is made when it is first asked for."""
        state = self.state
        info = state.cubes.get(state.other_cube, {})
        days = [time[:10] for time in info.get("times", [])]
        if not (state.split and info and state.other_date in days and state.other_show):
            if self.other is not None:
                put(self.other, {}, "")
            return
        if self.other is None:
            source = WMTSTileSource(url=EMPTY, max_zoom=MAX_ZOOM)
            self.other = self.figure.add_tile(source, name="other", level="underlay")
        put(self.other, info, tile_url(info, state.other_show, state.other_date))

    def bounds(self) -> list[float]:
        """Give west, south, east, north of the view [degrees]."""
        x, y = self.figure.x_range, self.figure.y_range
        return [*style.to_lonlat(x.start, y.start), *style.to_lonlat(x.end, y.end)]

    def go(self, bounds: list[float]) -> None:
        """Show bounds in degrees."""
        left, bottom, right, top = box(bounds)
        self.figure.x_range.update(start=left, end=right)
        self.figure.y_range.update(start=bottom, end=top)

    def _marks(self, *_: Any) -> None:
        point = self.state.point
        x, y = ([], []) if point is None else ([v] for v in style.to_mercator(*point))
        self.point.data = {"x": x, "y": y}
        self.area.data = ring(self.state.area)
        pins = self.state.pins
        places = [style.to_mercator(pin["lon"], pin["lat"]) for pin in pins]
        self.pins.data = {
            "x": [x for x, _ in places],
            "y": [y for _, y in places],
            "id": [pin["id"] for pin in pins],
            "color": [pin["color"] for pin in pins],
        }
        path = [style.to_mercator(lon, lat) for lon, lat in self.state.line]
        self.line.data = {"x": [x for x, _ in path], "y": [y for _, y in path]}

    def _tool(self, *_: Any) -> None:
        tools = {"Box": self.box, "Edit": self.corners.tool}
        drag = tools.get(self.state.mode) or self.figure.select_one(PanTool)
        self.figure.toolbar.active_drag = drag
        edit = self.corners.tool if self.state.mode == "Edit" else None
        self.figure.toolbar.active_tap = edit or "auto"
        self._corners([])

    def _corners(self, corners: list[tuple[float, float]]) -> None:
        self.sketch.data = {"x": [x for x, _ in corners], "y": [y for _, y in corners]}
        self.done.visible = len(corners) > (1 if self.state.mode == "Line" else 2)

    def _tapped(self, event: Tap) -> None:
        place = (event.x, event.y)
        if event.x is None or event.y is None or place == self.last:
            return  # the second click of a double click
        if self.state.mode in ("Polygon", "Line"):
            self.last = place
            self._corners([*zip(*self.sketch.data.values(), strict=True), place])
        elif self.state.mode != "Edit":
            lon, lat = style.to_lonlat(*place)
            self.state.param.update(lon=round(lon, 6), lat=round(lat, 6))

    def _finished(self, _: Any) -> None:
        corners = [*zip(*self.sketch.data.values(), strict=True)]
        if self.state.mode == "Polygon" and len(corners) > 2:
            self.state.param.update(area=feature(corners, "area"), mode="Explore")
        elif self.state.mode == "Line" and len(corners) > 1:
            places = [[round(v, 7) for v in style.to_lonlat(x, y)] for x, y in corners]
            self.state.param.update(line=places, mode="Explore")

    def _drawn(self, event: SelectionGeometry) -> None:
        if event.final and self.state.mode == "Box":
            x0, x1, y0, y1 = (event.geometry[key] for key in ("x0", "x1", "y0", "y1"))
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            self.state.param.update(area=feature(corners, "area"), mode="Explore")

    def __panel__(self) -> pn.viewable.Viewable:
        return self.pane
