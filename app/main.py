"""The page: one state, the views, one layout; `build` makes all of it anew for each session."""

from __future__ import annotations

import json
from functools import partial
from html import escape
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app import data, reads_find, reads_time, sections, style, visitors
from app.state import LINKED, State
from app.views import glass
from app.views.compare import CompareView, follow
from app.views.dates import DatesView
from app.views.export import ExportView
from app.views.find import FindView
from app.views.histogram import HistogramView
from app.views.jobs import JobsView
from app.views.latent import LatentView
from app.views.layer import LayerView
from app.views.map import MapView
from app.views.meaning import MeaningView
from app.views.places import PlacesView
from app.views.queue import QueueView
from app.views.scenes import ScenesView
from app.views.timeseries import SeriesView
from app.views.transect import TransectView
from deepfeatures.settings import Workspace

WELCOME = (
    "This workspace has no cube yet. Build the simulated landscape with "
    "<code>deepfeatures demo</code>, or import your own with "
    "<code>deepfeatures import NAME PATH</code>, and load this page again."
)


def build(ws: Workspace) -> pmui.Page:
    """Make the page of one session; nothing in it is shared with another one."""
    state = State(ws=ws, cubes=data.cubes(ws), owner=visitors.owner())
    if location := pn.state.location:
        location.sync(state, LINKED)
    state.settle()
    if state.info:
        start(state)
    if location:
        pn.state.onload(lambda: location.update_query(**address(state)))
    return page(state)


def address(state: State) -> dict[str, Any]:
    """Give what the address of the page says about a state."""
    found = {name: getattr(state, key) for key, name in LINKED.items()}
    words = {key: json.dumps(one) if isinstance(one, list) else one for key, one in found.items()}
    return {name: value for name, value in words.items() if value not in ("", None)}


def start(state: State) -> None:
    """Choose what a newcomer sees: a clear summer day, and the pixel in the middle."""
    west, south, east, north = state.info["bounds"]
    if state.point is None:
        state.param.update(lon=round((west + east) / 2, 6), lat=round((south + north) / 2, 6))
    if not state.date:
        state.date = data.clear_day(state.ws, state.cube)


def page(state: State) -> pmui.Page:
    """Lay the views of a state out on a page."""
    if not state.cubes:
        return _page([], [pmui.Alert(object=WELCOME, severity="info", margin=24)], [])
    layer = LayerView(
        state=state,
        suggest=partial(data.limits, state.ws),
        reachable=partial(data.reachable, style.BASEMAP),
    )
    follow(state)
    chart = MapView(state=state)
    main = pn.Row(
        _left(state, layer, chart),
        _right(state),
        css_classes=["panes"],
        stylesheets=[style.CSS],
        margin=0,
        sizing_mode="stretch_both",
    )
    sidebar = sections.folded(_sections(state, layer, chart), ["Map", "Area and features"])
    titles = list(_sections(state, layer, chart))
    sidebar.param.watch(
        lambda event: state.param.update(looking="Jobs" in [titles[one] for one in event.new]),
        "active",
    )
    made = _page([sidebar], [main], [_origin(state)])
    if on_phone():
        made.sidebar_open = False
        state.param.watch(lambda *_: made.param.update(sidebar_open=False), "mode")
    return made


def _sections(state: State, layer: LayerView, chart: MapView) -> dict[str, sections.Make]:
    """Give what stands at the side: heading to what makes the part below it."""
    ws = state.ws
    return {
        "Map": lambda: layer,
        "Histogram": lambda: HistogramView(
            state=state, count=partial(data.histogram, ws), bounds=chart.bounds
        ),
        "Compare": lambda: CompareView(state=state),
        "Places": lambda: PlacesView(state=state, bounds=chart.bounds, go=chart.go),
        "Area and features": lambda: JobsView(state=state, read=partial(data.cubes, ws)),
        "Find": lambda: FindView(
            state=state,
            chart=chart.figure,
            ask=partial(reads_find.ask, ws),
            save=partial(reads_find.save, ws),
            shares=partial(data.shares, ws),
        ),
        "Scenes": lambda: ScenesView(state=state),
        "Jobs": lambda: QueueView(state=state),
        "Export": lambda: ExportView(state=state, size=partial(data.export_size, ws)),
    }


def _left(state: State, layer: LayerView, chart: MapView) -> pn.viewable.Viewable:
    times = DatesView(state=state, read=partial(data.shares, state.ws))
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
        "Along a line": lambda: TransectView(state=state, read=partial(reads_time.line, ws)),
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
    return pmui.Page(
        title=style.TITLE,
        header=header,
        sidebar=sidebar,
        main=main,
        theme_config=style.THEME,
        theme_toggle=False,
        sx={
            "& h3": {"fontSize": {"xs": "15px", "md": "20px"}},
            "& .MuiToolbar-root": {"minHeight": "48px !important"},
        },
        sidebar_width=300,
        busy_indicator="linear",
    )
