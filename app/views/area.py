"""The area: drawn, its corners moved, uploaded, kept under a name and found again."""

from __future__ import annotations

from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import ColumnDataSource, PointDrawTool
from bokeh.plotting import figure

from app import reads, style, work
from app.state import State
from deepfeatures import areas, vectors

MOST_CORNERS = 300
"""Corners of an area that can be moved by hand."""

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (4, 0)}

HINTS = {
    "Box": "Drag a box on the map.",
    "Polygon": "Click the corners on the map; double-click the last one, or press Finish.",
    "Edit": "Drag a corner of the area on the map; Backspace removes the one that was clicked.",
}
"""What to do in a mode of the mouse."""


def corners(area: dict[str, Any] | None) -> dict[str, list[float]]:
    """Give the corners of an area in web mercator, empty if it has more than one outline."""
    geometry = (area or {}).get("geometry", {"type": "Polygon", "coordinates": []})
    parts = geometry["coordinates"]
    polygons = parts if geometry["type"] == "MultiPolygon" else [parts]
    rings = polygons[0] if len(polygons) == 1 else []
    if len(rings) != 1 or not 3 < len(rings[0]) <= MOST_CORNERS:
        return {"x": [], "y": []}
    places = [style.to_mercator(*place[:2]) for place in rings[0][:-1]]
    return {"x": [x for x, _ in places], "y": [y for _, y in places]}


def moved(area: dict[str, Any], places: dict[str, list[float]]) -> dict[str, Any] | None:
    """Give the area with other corners; None if nothing of it is left or nothing was moved."""
    xs, ys = places["x"], places["y"]
    if len(xs) < 3 or corners(area) == {"x": list(xs), "y": list(ys)}:
        return None
    ring = [
        [round(value, 7) for value in style.to_lonlat(x, y)] for x, y in zip(xs, ys, strict=True)
    ]
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return {**area, "geometry": outline}


class Corners:
    """The corners of the area on the map, which can be dragged in the mode *Edit*."""

    def __init__(self, fig: figure, state: State) -> None:
        self.state, self.figure = state, fig
        self.source: ColumnDataSource | None = None
        self.tool: PointDrawTool | None = None
        state.param.watch(self._show, ["area", "mode"])

    def _show(self, *_: Any) -> None:
        editing = self.state.mode == "Edit"
        if self.source is None:
            if not editing:
                return
            self._make()
        wanted = corners(self.state.area) if editing else {"x": [], "y": []}
        if {key: list(column) for key, column in self.source.data.items()} != wanted:
            self.source.data = wanted

    def _make(self) -> None:
        self.source = ColumnDataSource({"x": [], "y": []}, name="area-corners")
        dots = self.figure.scatter(
            "x", "y", source=self.source, size=13, color="#ffffff", line_color=style.ACCENT,
            line_width=2.5, nonselection_alpha=1, selection_color=style.ACCENT,
        )  # fmt: skip
        self.tool = PointDrawTool(renderers=[dots], add=False, drag=True)
        self.figure.add_tools(self.tool)
        self.source.on_change("data", lambda _, __, ___: self._dragged())

    def _dragged(self) -> None:
        if self.state.mode != "Edit" or not self.state.area or self.source is None:
            return
        changed = moved(self.state.area, dict(self.source.data))
        if changed is not None:
            self.state.param.update(area=changed, kept="")


class AreaView(pn.viewable.Viewer):
    """The area of one session."""

    state = param.ClassSelector(class_=State)
    sentence = param.String(doc="What went wrong with the area last; empty if nothing.")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.found: list[dict[str, Any]] = []
        self.kept: Any = None
        self._make()
        self.state.param.watch(self._area, "area")
        self.state.param.watch(self._open, "kept")
        self._list()
        self._open()

    def _make(self) -> None:
        small = {"variant": "outlined", "size": "small", "margin": 0}
        self.box = pmui.Button(label="Draw a box", icon="crop_square", **small)
        self.polygon = pmui.Button(label="Draw a polygon", icon="polyline", **small)
        self.upload = pmui.FileInput(
            label="Upload an area", accept=",".join(vectors.SUFFIXES), variant="outlined",
            size="small", max_file_size=vectors.MAX_BYTES, **WIDE,
            description="GeoJSON, KML, KMZ, zipped shapefile or GeoPackage, 6 MB at most",
        )  # fmt: skip
        self.box.on_click(lambda _: self.state.param.update(mode="Box"))
        self.polygon.on_click(lambda _: self.state.param.update(mode="Polygon"))
        self.upload.param.watch(
            lambda event: self.uploaded(event.new, self.upload.filename), "value"
        )
        self.choice = pn.Column(sizing_mode="stretch_width", margin=0)
        self.keeping = pn.Column(sizing_mode="stretch_width", margin=0)
        self.shelf = pn.Column(sizing_mode="stretch_width", margin=0)

    def uploaded(self, content: bytes | None, filename: str | None) -> None:
        """Take a file: its only area, or let the user choose among several."""
        if content:
            self.sentence = ""
            work.run(
                reads.areas.uploaded, content, filename or "", then=self._read, failed=self._failed
            )

    def _failed(self, sentence: str) -> None:
        self.sentence = ""
        self.sentence = sentence

    def _read(self, found: list[dict[str, Any]]) -> None:
        self.found = found
        if len(found) == 1:
            self.choice.objects = []
            self._take(found)
            return
        names = {f"All {len(found)} areas together": -1}
        for place, one in enumerate(found):
            names.setdefault(f"{place + 1}: {one['properties']['name']}"[:60], place)
        pick = pmui.Select(
            label="Area of the file", options=names, value=None, size="small", **WIDE
        )
        pick.param.watch(lambda event: self._picked(event.new), "value")
        self.choice.objects = [pick]

    def _picked(self, place: int | None) -> None:
        if place is not None:
            self._take(self.found if place < 0 else [self.found[place]])

    def _take(self, features: list[dict[str, Any]]) -> None:
        work.run(
            reads.areas.merged, features,
            then=lambda area: self.state.param.update(area=area, mode="Explore", kept=""),
            failed=self._failed,
        )  # fmt: skip

    def _area(self, *_: Any) -> None:
        """Offer to keep an area that is not kept."""
        self.sentence = ""
        if self.state.kept and (self.state.area or {}).get("id") != self.state.kept:
            self.state.kept = ""  # another one was drawn
        if self.state.area is None or self.state.kept:
            self.keeping.objects = []
        elif not self.keeping.objects:
            self.title = pmui.TextInput(
                label="Name of the area", value="", max_length=areas.MAX_TITLE, size="small",
                sizing_mode="stretch_width", margin=(4, 4, 4, 0),
            )  # fmt: skip
            keep = pmui.Button(
                label="Keep", icon="bookmark_add", variant="outlined", size="small", margin=(4, 0)
            )
            keep.on_click(self._keep)
            self.keeping.objects = [pn.Row(self.title, keep, margin=0, align="center")]

    def _keep(self, _: Any) -> None:
        state = self.state
        area = state.area
        work.run(
            reads.areas.keep, state.ws, state.owner, area, self.title.value_input.strip(),
            then=lambda key: state.area == area and self._kept(key), failed=self._failed,
        )  # fmt: skip

    def _kept(self, key: str) -> None:
        self.state.kept = key
        self.keeping.objects = []
        self._list()

    def _list(self) -> None:
        work.run(
            areas.listing, self.state.ws, self.state.owner, then=self._shelve, failed=self._failed
        )

    def _shelve(self, found: list[dict[str, Any]]) -> None:
        """Show the kept areas, if there are any."""
        if not found:
            self.kept, self.shelf.objects = None, []
            return
        names = {"none": ""}
        for one in found:
            title = one["properties"]["title"]
            names[title if title not in names else f"{title} ({one['id'][:4]})"] = one["id"]
        value = self.state.kept if self.state.kept in names.values() else ""
        if self.kept is not None:
            self.kept.param.update(options=names, value=value)
            return
        self.kept = pmui.Select(
            label="Kept areas", options=names, value=value, size="small",
            sizing_mode="stretch_width", margin=(4, 4, 4, 0),
        )  # fmt: skip
        self.kept.param.watch(lambda event: self.state.param.update(kept=event.new or ""), "value")
        drop = pmui.IconButton(icon="delete", description="Delete the kept area", margin=(4, 0))
        drop.on_click(self._drop)
        again = pmui.IconButton(icon="edit", description="Rename the kept area", margin=(4, 0))
        again.on_click(self._rename)
        self.shelf.objects = [pn.Row(self.kept, again, drop, margin=0, align="center")]

    def _open(self, *_: Any) -> None:
        """Put a kept area on the map; also one of somebody else, whose id is in the address."""
        key = self.state.kept
        if self.kept is not None and self.kept.value != key:
            self.kept.value = key if key in self.kept.options.values() else ""
        if key:
            work.run(
                areas.get, self.state.ws, key,
                then=lambda area: self._opened(key, area), failed=self._gone,
            )  # fmt: skip

    def _opened(self, key: str, area: dict[str, Any]) -> None:
        if self.state.kept == key and self.state.area != area:
            self.state.param.update(area=area, mode="Explore")
        self.keeping.objects = []

    def _gone(self, sentence: str) -> None:
        self.state.kept = ""
        self._failed(sentence)

    def _drop(self, _: Any) -> None:
        if key := self.state.kept:
            self.state.kept = ""
            work.run(
                areas.remove, self.state.ws, key, self.state.owner,
                then=lambda _: self._list(), failed=self._failed,
            )  # fmt: skip

    def _rename(self, _: Any) -> None:
        """Let the field for the name give the chosen area another one."""
        if not self.state.kept:
            return
        field = pmui.TextInput(
            label="New name of the area", value="", max_length=areas.MAX_TITLE, size="small", **WIDE
        )
        field.param.watch(lambda event: event.new and self._renamed(event.new), "value")
        self.keeping.objects = [field]

    def _renamed(self, title: str) -> None:
        work.run(
            areas.rename, self.state.ws, self.state.kept, self.state.owner, title,
            then=lambda _: self._kept(self.state.kept), failed=self._failed,
        )  # fmt: skip

    def note(self) -> str:
        """Say as HTML what to do next, or what went wrong; empty if there is an area to use."""
        if self.sentence:
            return f'<div class="note" role="alert"><b>{escape(self.sentence)}</b></div>'
        hint = HINTS.get(self.state.mode, "")
        if self.state.mode == "Edit" and not corners(self.state.area)["x"]:
            hint = "Draw an area of one outline first; then its corners can be moved."
        if not hint and self.state.area is None:
            hint = "Draw an area on the map, or upload one, to compute its features."
        return f'<div class="note">{escape(hint)}</div>' if hint else ""

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            pn.FlexBox(self.box, self.polygon, gap="8px", margin=(0, 0, 4, 0)),
            self.upload, self.choice, self.shelf, self.keeping,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
