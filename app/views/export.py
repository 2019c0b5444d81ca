"""Take away what is selected: cube, channels, period, area and format, streamed over HTTP."""

from __future__ import annotations

import json
from functools import partial
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

import panel as pn
import panel_material_ui as pmui
import param
import shapely

from app import style, work
from app.state import State
from app.views.jobs import periods
from app.views.share import COPY
from deepfeatures import export

FORMATS = {
    "NetCDF": "netcdf",
    "Zarr": "zarr",
    "GeoTIFF, all dates": "geotiff",
    "GeoTIFF, one a date": "geotiff-dates",
    "CSV": "csv",
    "Parquet": "parquet",
}
"""Label to the name of a format in the interface."""

DOWNLOAD = (style.ASSETS / "download.js").read_text()
"""Asks for a file with a polygon, which a link can not carry."""


def bounds(geometry: dict[str, Any]) -> list[float]:
    """Give west, south, east, north of a GeoJSON geometry in degrees."""
    parts = geometry["coordinates"]
    polygons = parts if geometry["type"] == "MultiPolygon" else [parts]
    places = [place for polygon in polygons for place in polygon[0]]
    lons, lats = zip(*[place[:2] for place in places], strict=True)
    return [min(lons), min(lats), max(lons), max(lats)]


def is_box(geometry: dict[str, Any]) -> bool:
    """Tell whether an area is a box along the meridians, which a link can carry."""
    west, south, east, north = bounds(geometry)
    if geometry["type"] != "Polygon" or len(geometry["coordinates"]) > 1:
        return False
    corners = {tuple(place[:2]) for place in geometry["coordinates"][0]}
    return corners == {(west, south), (east, south), (east, north), (west, north)}


def question(
    form: str,
    *,
    channels: list[str],
    period: tuple[str, str],
    geometry: dict[str, Any] | None,
) -> dict[str, str]:
    """Write the query for the export route; a polygon that is no box goes into the body."""
    found = {"format": form, "start": period[0], "end": period[1]}
    if channels:
        found["channels"] = ",".join(channels)
    if geometry and is_box(geometry):
        found["bbox"] = ",".join(f"{edge:.7f}" for edge in bounds(geometry))
    return found


def lines(name: str, query: dict[str, str], geometry: dict[str, Any] | None) -> str:
    """Write the lines that make the same export, for Python and for a terminal, as HTML."""
    boxed = geometry is not None and "bbox" in query
    shape = shapely.geometry.shape(geometry) if geometry and not boxed else None
    order = export.Order(
        name,
        query["format"],
        bbox=tuple(bounds(geometry)) if geometry and boxed else None,
        geometry=shape,
        start=query["start"],
        end=query["end"],
        channels=tuple(query["channels"].split(",")) if "channels" in query else (),
    )
    path = f"{name}{export.FORMATS[order.fmt].suffix}"
    return "".join(
        f'<details><summary>{title}</summary><pre class="{kind}">{escape(text)}</pre></details>'
        for title, kind, text in (
            ("The same in Python", "python", order.python(path)),
            ("On the command line", "command", order.command(path)),
        )
    )


class ExportView(pn.viewable.Viewer):
    """The export of one session."""

    state = param.ClassSelector(class_=State)
    built = param.Boolean(False, doc="Whether all parts are there.")

    def __init__(self, *, size: Any, **params: Any) -> None:
        super().__init__(**params)
        self.size = size
        wide = {"sizing_mode": "stretch_width", "margin": (5, 0)}
        self.cube = pmui.Select(label="Cube to export", options=[], size="small", **wide)
        self.channels = pmui.MultiChoice(label="Channels (none: all)", options=[], **wide)
        self.period = pmui.Select(label="Period to export", options={}, size="small", **wide)
        self.form = pmui.Select(
            label="File format", options=FORMATS, value="netcdf", size="small", **wide
        )
        self.inside = pmui.Switch(label="Only inside the area", size="small", margin=(4, 0))
        self.note = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        download = {"label": "Download", "icon": "download", "variant": "contained", **wide}
        self.link = pmui.Button(disabled=True, **download)
        self.ask = pmui.Button(visible=False, **download)
        self.code = pn.pane.HTML("", stylesheets=[style.CSS], **wide)
        self.copied = pn.pane.HTML("", stylesheets=[style.CSS], margin=0)
        self.copies = [
            pmui.Button(label=label, icon="content_copy", variant="text", size="small", margin=0)
            for label in ("Copy Python", "Copy command")
        ]
        for button, what in zip(self.copies, ("python", "command"), strict=True):
            button.js_on_click(args={"note": self.copied, "what": what}, code=COPY)
        args = {"link": self.link, "note": self.note, "code": self.code}
        self.ask.js_on_click(args=args, code=DOWNLOAD)
        self._wire()

    def _wire(self) -> None:
        self.state.param.watch(self._options, ["cube", "cubes"])
        self.state.param.watch(self._area, ["area"])
        self.cube.param.watch(self._options, "value")
        for widget in (self.channels, self.period, self.form, self.inside):
            widget.param.watch(self._show, "value")
        self._options()
        self._area()
        self.built = True
        self._show()

    @property
    def info(self) -> dict[str, Any]:
        """Description of the cube to export."""
        return self.state.cubes.get(self.cube.value or self.state.cube, {})

    def _options(self, *_: Any) -> None:
        names = list(self.state.cubes)
        chosen = self.cube.value if self.cube.value in names else self.state.cube
        self.cube.param.update(options=names, value=chosen or None)
        if not self.info:
            return
        channels = list(self.info["channels"])
        if channels != self.channels.options:
            self.channels.param.update(options=channels, value=[])
        options = periods([time[:10] for time in self.info["times"]])
        if options != self.period.options:
            self.period.param.update(options=options, value=next(iter(options.values())))
        self._show()

    def _area(self, *_: Any) -> None:
        has = self.state.area is not None
        self.inside.param.update(value=has, disabled=not has)
        self._show()

    def _wanted(self) -> dict[str, Any]:
        area = self.state.area if self.inside.value else None
        return {
            "geometry": area["geometry"] if area else None,
            "period": self.period.value,
            "channels": list(self.channels.value),
        }

    def _show(self, *_: Any) -> None:
        if not self.built or not self.info or not self.period.value:
            return
        name, form, wanted = self.info["name"], self.form.value, self._wanted()
        query = question(form, **wanted)
        shape = wanted["geometry"]
        boxed = shape is None or is_box(shape)
        self.link.param.update(
            href=f"/api/cubes/{quote(name)}/export?{urlencode(query, safe=',')}",
            visible=boxed, disabled=True,
        )  # fmt: skip
        self.ask.param.update(visible=not boxed, disabled=True)
        body = escape(json.dumps(self.state.area if shape else {}))
        self.code.object = f'<div data-area="{body}">{lines(name, query, shape)}</div>'
        asked = name, form, wanted
        work.run(
            partial(self.size, name, form, **wanted),
            then=lambda size: self._sized(asked, size),
            failed=self._failed,
        )

    def _sized(self, asked: tuple[Any, ...], size: int) -> None:
        if asked == (self.info.get("name"), self.form.value, self._wanted()):
            words = f"{style.megabytes(size)} before compression."
            self.note.object = f'<div class="note">{words}</div>'
            self.link.disabled = self.ask.disabled = False

    def _failed(self, sentence: str) -> None:
        self.note.object = f'<div class="note" role="alert"><b>{escape(sentence)}</b></div>'

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.cube, self.channels, self.period, self.form, self.inside, self.note, self.link,
            self.ask, self.code, pn.Row(*self.copies, margin=0), self.copied,
            sizing_mode="stretch_width", margin=(4, 12, 10, 12),
        )  # fmt: skip
