"""The page: one state, the views, one layout; `build` makes all of it anew for each session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.util import edit_readonly

from app import link, reads, sections, style, visitors
from app.state import State
from app.views import glass
from app.views.compare import CompareView, follow
from app.views.dates import DatesView
from app.views.export import ExportView
from app.views.find import FindView
from app.views.gpp import GppView
from app.views.gpp_door import GppDoor
from app.views.histogram import HistogramView
from app.views.jobs import JobsView
from app.views.latent import LatentView
from app.views.layer import LayerView
from app.views.map import MapView
from app.views.meaning import MeaningView
from app.views.places import PlacesView
from app.views.queue import QueueView
from app.views.scenes import ScenesView
from app.views.share import ShareView
from app.views.timeseries import SeriesView
from app.views.transect import TransectView
from deepfeatures import serve
from deepfeatures.settings import Workspace

OPENED = ("Map", "Area and features")
"""Headings at the side that are open at first."""

WELCOME = """<div class="welcome">
<h2>This workspace has no cube yet</h2>
<p>A cube comes from the command line. Then load this page again.</p>
<h3>Look around in a simulated landscape</h3>
<pre>deepfeatures demo</pre>
<h3>Fetch scenes of a place from a catalogue</h3>
<pre>deepfeatures build NAME --bbox WEST SOUTH EAST NORTH \\
    --start 2023-01-01 --end 2023-12-31</pre>
<p>Once there is a cube, the section Scenes of this page does that for an area on the map.</p>
<h3>Take a cube that you have</h3>
<pre>deepfeatures import NAME PATH</pre>
</div>"""


def build(ws: Workspace) -> pmui.Page:
    """Make the page of one session; nothing in it is shared with another one."""
    state = State(ws=ws, cubes=reads.cubes.described(ws), owner=visitors.owner())
    location = pn.state.location
    told = link.read(state, link.parsed(location.search)) if location else []
    state.settle()
    if state.info:
        start(state)
    if location:
        link.follow(state, location)
    return page(state, told)


def start(state: State) -> None:
    """Choose what a newcomer sees: a clear summer day, and the pixel in the middle."""
    west, south, east, north = state.info["bounds"]
    if state.point is None:
        state.param.update(lon=round((west + east) / 2, 6), lat=round((south + north) / 2, 6))
    if not state.date:
        state.date = reads.cubes.clear_day(state.ws, state.cube)


def page(state: State, told: Sequence[str] = ()) -> pmui.Page:
    """Lay the views of a state out on a page, below what there is to be told."""
    if not state.cubes:
        words = pn.pane.HTML(WELCOME, stylesheets=[style.CSS], sizing_mode="stretch_width")
        return _page([], [words], [])
    layer = LayerView(
        state=state,
        suggest=partial(reads.cubes.limits, state.ws),
        reachable=partial(reads.cubes.reachable, style.BASEMAP),
    )
    follow(state)
    chart = MapView(state=state)
    if state.view:
        link.move(chart.figure, state.view)
    link.watch(state, chart.figure)
    main = pn.Row(
        _left(state, layer, chart),
        _right(state),
        css_classes=["panes"],
        stylesheets=[style.CSS],
        margin=0,
        sizing_mode="stretch_both",
    )
    notes = [pmui.Alert(object=escape(" ".join(told)), severity="info", closeable=True)]
    sidebar = _sidebar(state, _sections(state, layer, chart))
    bench = _laboratory(state, main)
    made = _page([*(notes if told else []), sidebar], [main, bench], [_origin(state)])
    if on_phone():
        made.sidebar_open = False
        state.param.watch(lambda *_: made.param.update(sidebar_open=False), "mode")
    return made


def _laboratory(state: State, main: pn.Row) -> pn.Column:
    """Make the place of the GPP laboratory, which stands instead of the map while it is open."""
    part = sections.Part(
        lambda: GppView(state=state), visible=False, css_classes=["lab"], stylesheets=[style.CSS]
    )

    def look(*_: Any) -> None:
        main.css_classes = ["panes", "gone"] if state.lab else ["panes"]
        part.holder.visible = state.lab
        if state.lab:
            part.show()

    state.param.watch(look, "lab")
    if state.lab:
        main.css_classes = ["panes", "gone"]
        part.holder.visible = True
        sections.afterwards([part])
    return part.holder


def _sidebar(state: State, parts: dict[str, sections.Make]) -> pmui.Accordion:
    """Stack the sections; those that are open stand in the address."""
    opened = [title for title in state.opened if title in parts] or list(OPENED)
    stack = sections.folded(parts, opened)

    def look(*_: Any) -> None:
        titles = [list(parts)[place] for place in stack.active]
        state.param.update(
            opened=[] if titles == list(OPENED) else titles, looking="Jobs" in titles
        )

    stack.param.watch(look, "active")
    state.looking = "Jobs" in opened
    return stack


def _sections(state: State, layer: LayerView, chart: MapView) -> dict[str, sections.Make]:
    """Give what stands at the side: heading to what makes the part below it."""
    ws = state.ws
    return {
        "Map": lambda: layer,
        "Histogram": lambda: HistogramView(
            state=state, count=partial(reads.cubes.histogram, ws), bounds=chart.bounds
        ),
        "Compare": lambda: CompareView(state=state),
        "Places": lambda: PlacesView(state=state, bounds=chart.bounds, go=chart.go),
        "Area and features": lambda: JobsView(state=state, read=partial(reads.cubes.described, ws)),
        "Find": lambda: FindView(
            state=state,
            chart=chart.figure,
            ask=partial(reads.find.ask, ws),
            save=partial(reads.find.save, ws),
            shares=partial(reads.cubes.shares, ws),
        ),
        "GPP laboratory": lambda: GppDoor(state=state),
        "Scenes": lambda: ScenesView(state=state),
        "Jobs": lambda: QueueView(state=state),
        "Export": lambda: ExportView(state=state, size=partial(reads.cubes.export_size, ws)),
        "Share": lambda: ShareView(
            state=state,
            chart=chart.figure,
            animate=partial(serve.animate, ws),
        ),
    }


def _left(state: State, layer: LayerView, chart: MapView) -> pn.viewable.Viewable:
    times = DatesView(state=state, read=partial(reads.cubes.shares, state.ws))
    return _column(
        _stack(state, chart, layer.ramp),
        _column(times, name="card times", sizing_mode="stretch_width"),
        name="left",
    )


def _right(state: State) -> pn.viewable.Viewable:
    """Make the cards beside the map; each shows one of its parts."""
    ws = state.ws
    through_time: dict[str, sections.Make] = {
        "Series": lambda: SeriesView(state=state),
        "Along a line": lambda: TransectView(state=state, read=partial(reads.times.line, ws)),
    }
    features: dict[str, sections.Make] = {
        "Latent space": lambda: LatentView(state=state),
        "Meaning": lambda: MeaningView(state=state),
    }
    return _column(
        sections.either(through_time, label="A pixel through time", name="card series"),
        sections.either(features, label="The features", name="card latent"),
        name="right",
    )


def on_phone() -> bool:
    """Tell whether the browser says that it runs on a phone: its drawer covers the map."""
    return "Mobi" in (pn.state.headers or {}).get("User-Agent", "")


def origin(info: dict[str, Any]) -> str:
    """Say in one line what a cube is and where it comes from."""
    label = '<b class="simulated">Simulated</b>' if info.get("simulated") else ""
    return f'<div class="origin">{label}{escape(str(info.get("title", "")))}</div>'


def credit(info: dict[str, Any], background: bool) -> str:
    """Write the line of attribution that the licence of the data asks for."""
    words = str(info.get("attrs", {}).get("attribution", ""))
    if info.get("simulated") and "simulated" not in words.lower():
        words = f"Simulated data. {words}"
    if background:
        words = f"{words} {style.BASEMAP_CREDIT}"
    return f'<div class="credit" title="{escape(words)}">{escape(words)}</div>'


def _origin(state: State) -> pn.viewable.Viewable:
    pane = pn.pane.HTML(
        origin(state.info), stylesheets=[style.CSS], margin=0, sizing_mode="stretch_width"
    )
    state.param.watch(lambda *_: pane.param.update(object=origin(state.info)), ["cube", "cubes"])
    return pane


def _stack(state: State, chart: MapView, ramp: pn.pane.HTML) -> pn.viewable.Viewable:
    """Lay the mouse modes and the legend over the map."""
    mode = pmui.RadioButtonGroup.from_param(
        state.param.mode,
        label="",
        size="small",
        description="What the mouse does on the map",
        margin=0,
    )
    modes = pn.Row(mode, chart.done, css_classes=["modes"], stylesheets=[style.CSS], margin=0)
    ramp.css_classes = ["over"]
    ramp.stylesheets = [style.CSS]
    line = pn.pane.HTML(css_classes=["under"], stylesheets=[style.CSS], margin=0)

    def sign(*_: Any) -> None:
        line.object = credit(state.info, state.background)

    state.param.watch(sign, ["cube", "cubes", "background"])
    sign()
    return _column(chart, glass.over(state), modes, ramp, line, name="stack")


def _column(*parts: Any, name: str, sizing_mode: str = "stretch_both") -> pn.Column:
    return pn.Column(
        *parts,
        css_classes=name.split(),
        stylesheets=[style.CSS],
        sizing_mode=sizing_mode,
        margin=0,
    )


def _page(sidebar: list[Any], main: list[Any], header: list[Any]) -> pmui.Page:
    made = pmui.Page(
        title=style.TITLE,
        header=header,
        sidebar=sidebar,
        main=main,
        theme_config=style.THEME,
        theme_toggle=True,
        sx={
            "& h3": {"fontSize": {"xs": "15px", "md": "20px"}, "whiteSpace": "nowrap"},
            "& .MuiToolbar-root": {"minHeight": "48px !important"},
            "& header.MuiAppBar-root": {"background": "var(--header)", "color": "var(--title)"},
        },
        sidebar_width=300,
        sidebar_resizable=False,  # its handle has no role for a screen reader
        busy_indicator=None,
    )
    with edit_readonly(made):
        made.busy = False  # following it, Panel walks through all models twice for each event
    return made
