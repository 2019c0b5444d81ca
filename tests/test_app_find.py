"""The section *Find* without a browser: its ways ask, draw, filter and save."""

from __future__ import annotations

import shutil
from functools import partial
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from app import main, reads, style
from app.state import State
from app.views import layer as looks
from app.views.find import FindView
from app.views.find_change import clearest
from app.views.map import MapView
from deepfeatures import finding, jobs
from deepfeatures.find import labels
from deepfeatures.settings import workspace as make_workspace


@pytest.fixture
def view(demo_home, tmp_path, monkeypatch) -> FindView:
    monkeypatch.setattr(style, "BASEMAP", "none")
    shutil.copytree(demo_home, tmp_path / "home")
    ws = make_workspace(tmp_path / "home")
    state = State(ws=ws, cubes=reads.cubes.described(ws))
    state.settle()
    main.start(state)
    return FindView(
        state=state,
        chart=MapView(state=state).figure,
        ask=partial(reads.find.ask, ws),
        save=partial(reads.find.save, ws),
        shares=partial(reads.cubes.shares, ws),
    )


def drawn(view: FindView) -> dict[str, str]:
    """The query of the tiles over the map."""
    (tiles,) = (one for one in view.overlay._chart.renderers if one.name == "found")
    return {key: one[0] for key, one in parse_qs(urlsplit(tiles.tile_source.url).query).items()}


def test_the_threshold_only_filters(view):
    way = view.shown
    way.ask()
    before = way.made
    assert drawn(view)["least"] == f"{way.threshold.value:g}"
    way.threshold.param.update(value=0.25, value_throttled=0.25)
    assert way.made is before
    assert drawn(view)["least"] == "0.25"
    values = before.found.layers[0].values
    hectares = (values >= np.float32(0.25)).sum() / 100
    assert f"{style.area(hectares * 1e4)} (" in way.area.object
    assert reads.find.beyond(before, 0.25, rising=False) == pytest.approx(
        (values <= np.float32(0.25)).sum() / 100
    )
    way.shown.value = False
    assert drawn(view) == {}
    # once asked, the map follows the clicks
    way.shown.value = True
    view.state.lon += 0.002
    assert way.made is not before
    way.like.value = "The drawn area"
    way.ask()
    assert "Draw an area" in way.note.object


def test_a_saved_layer_is_a_cube_with_its_own_legend(view):
    view.way.value = "Groups"
    way = view.shown
    way.count.value = 3
    way.ask()
    way.wanted.value = "three"
    way._keep(way.made, None)
    assert "/api/cubes/three/export?format=geotiff" in way.saved.object
    state = view.state
    source, features = state.source, state.features
    state.cube = "three"
    assert (state.source, state.features, state.show) == (source, features, "group")
    legend = looks.classes(state.info)
    assert all(f"Group {number}" in legend for number in (1, 2, 3))
    way._keep(way.made, None)
    assert "taken" in way.saved.object


def test_labels_are_set_listed_deleted_and_learned(view):
    view.way.value = "Classes"
    way, state = view.shown, view.state
    way.ask()
    assert "at least two classes" in way.note.object
    west, south, east, north = state.info["bounds"]
    for name, height in (("low", 0.2), ("high & dry", 0.8)):
        way.name_of.value = name
        way._add()
        for step in range(1, 6):
            lon = west + (east - west) * step / 6
            state.param.update(lon=lon, lat=south + (north - south) * height)
    assert len(way.labels) == 10
    assert "high &amp; dry" in way.legend.object
    way.listed.value = 3
    way._delete(None)
    assert len(way.labels) == 9
    way.ask()
    assert "Accuracy" in way.result.objects[0].object
    assert drawn(view) == {"channel": "class"}
    way.map.value = "Probability of low"
    assert drawn(view)["channel"] == "low"
    way._upload(b"{")
    assert "no JSON" in way.note.object
    way._uploaded([labels.Label(west, south, "new")])
    assert way.names == ["low", "high & dry", "new"]
    way.marking.value = False
    state.lon = east
    assert len(way.labels) == 10
    view.way.value = "Similar"
    assert view.overlay._dots.data["x"] == []


def test_change_offers_clear_dates_and_sums_to_the_area(view):
    view.way.value = "Change"
    way = view.shown
    assert way.before.value < way.after.value
    way.ask()
    summary = way.made.found.summary
    assert sum(summary["areas_ha"]) + summary["not_comparable_ha"] == pytest.approx(128**2 / 100)
    assert clearest(["a", "b", "c", "d"], [0.1, 1.0, 0.9, 0.2]) == ("a", "d")
    way.after.value = "2999"
    way.ask()
    assert "Choose two dates" in way.note.object


def test_what_takes_long_becomes_a_job(view, monkeypatch):
    monkeypatch.setattr(finding, "MAX_NOW", 10)
    view.way.value = "Groups"
    view.shown.ask()
    assert "became a job" in view.shown.note.object
    (job,) = jobs.listing(view.state.ws)
    assert (job["kind"], job["settings"]["method"]) == ("find", "groups")
