"""The latent view without a browser: a UMAP asked for, watched, shown and lassoed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bokeh.events import SelectionGeometry
from bokeh.models import Plot

from app import main, reads, style
from app.state import State
from app.views import cloud, latent, meaning
from deepfeatures import catalogue, jobs, reading, serve, space
from deepfeatures import latent as science
from deepfeatures.settings import workspace
from deepfeatures.space import planes


@pytest.fixture
def state(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """The state of a new page on a copy of the demo."""
    monkeypatch.setattr(style, "BASEMAP", "none")
    ws = workspace(demo_copy)
    found = State(ws=ws, cubes=reads.cubes.described(ws))
    found.settle()
    main.start(found)
    return found


def small_umap(state: State) -> space.Plane:
    """Make a plane of neighbours, as a UMAP is one."""
    base = space.plane(state.ws, state.features)
    assert base is not None
    cube = planes.opened(state.ws, state.features)
    table = space.vectors(cube, base.points.codes)
    known = np.unique(table[::501], axis=0)
    axes = science.Neighbours(known, np.stack([known[:, 1], -known[:, 0]], axis=1))
    few = space.Sample(base.points.positions[::50], base.points.codes[::50])
    return space.Plane(
        "umap", cube.version, few, science.place(axes, space.vectors(cube, few.codes)), axes
    )


def test_a_umap_is_offered_watched_shown_and_lassoed(state: State) -> None:
    view = latent.LatentView(state=state)
    assert len(view.image.data["image"]) == 1
    state.plane = "umap"
    offer = view.offer.made
    assert "There is no UMAP of demo-features yet" in offer.note.object
    assert view.image.data["image"] == []
    offer._submit(None)
    (job,) = jobs.listing(state.ws)
    assert (job["kind"], job["cube"], job["state"]) == ("umap", "demo-features", "queued")
    other = latent.LatentView(state=state)
    assert other.offer.made.job == job["id"], "what somebody asked for is not asked for again"
    planes.keep(state.ws, "demo-features", small_umap(state))
    jobs.cancel(state.ws, job["id"])
    offer._looked({"id": job["id"], "state": "done", "fraction": 1.0, "error": None})
    assert view.plane is not None
    assert view.plane.method == "umap"
    assert not view.offer.holder.visible
    assert view.figure.xaxis.axis_label == "UMAP, first axis"
    assert len(view.image.data["image"]) == 1

    low, high = np.percentile(view.plane.scores, (20, 60), axis=0)
    ring = {"type": "rect", "x0": low[0], "x1": high[0], "y0": low[1], "y1": high[1]}
    view._selected(SelectionGeometry(Plot(), geometry=ring, final=True))
    selection = serve.SELECTIONS.get(state.selection)
    cube = reading.open(catalogue.url(state.ws, "demo-features"), "demo-features")
    t = reading.step(cube, state.date)
    found = reading.members(cube, selection, t, slice(0, 90), slice(20, 128))
    at = view.plane.points.positions
    here = (at[:, 0] == t) & (at[:, 1] < 90) & (at[:, 2] >= 20)
    wanted = ((view.plane.scores > low) & (view.plane.scores < high)).all(axis=1)[here]
    assert 0 < wanted.sum() < len(wanted)
    np.testing.assert_array_equal(found[at[here, 1], at[here, 2] - 20], wanted)


def test_a_cancelled_umap_can_be_asked_for_again(state: State) -> None:
    for file in planes.folder(state.ws, "demo-features").glob("umap-*"):
        file.unlink()
    planes._HELD.clear()
    view = latent.LatentView(state=state)
    state.plane = "umap"
    offer = view.offer.made
    offer._submit(None)
    offer._cancel(None)
    assert "UMAP cancelled" in offer.note.object
    assert offer.start.visible
    assert not offer.start.disabled
    state.plane = "pca"
    assert not view.offer.holder.visible
    assert view.plane is not None


def test_an_area_is_marked_at_the_dates_of_the_year(state: State) -> None:
    view = latent.LatentView(state=state)
    west, south, east, north = state.info["bounds"]
    x, y, step = (west + east) / 2, (south + north) / 2, (east - west) / 12
    corners = [[x, y], [x + step, y], [x + step, y + step], [x, y + step], [x, y]]
    state.area = {
        "type": "Feature", "properties": {"name": "here"},
        "geometry": {"type": "Polygon", "coordinates": [corners]},
    }  # fmt: skip
    before = view.area.data
    assert len(set(before["day"])) > 5
    assert {day[:4] for day in before["day"]} == {state.date[:4]}
    state.date = next(day for day in state.days if day != state.date)
    assert view.area.data is before, "another date of the year marks the same points"
    state.whose = "Area"
    times, scores = reads.latent.mean_track(state.ws, state.features, view.plane, state.area)
    kept = np.isfinite(scores).all(axis=1)
    np.testing.assert_array_equal(view.path.data["x"], scores[kept, 0])
    assert view.path.data["day"] == times[kept].astype("datetime64[D]").astype(str).tolist()
    state.plane = "umap"
    state.plane = "pca"
    assert view.area.data["x"] == before["x"], "the points come back with the plane"
    state.area = None
    assert view.area.data["x"] == []


def test_every_choice_of_colour_is_drawn_and_explained(state: State) -> None:
    view = latent.LatentView(state=state)
    values = [one[0] for _, options in view.choices.groups() for one in options]
    assert {"density", "month", "year", "place", "F01", "NDVI", "B04"} <= set(values)
    seen = set()
    for by in ("month", "year", "place", "F01", "NDVI"):
        state.shade = by
        assert view.shade.name == by
        seen.add(view.image.data["image"][0].tobytes())
        assert cloud.legend(view.shade) in view.legend.object
    assert len(seen) == 5
    plane = view.plane
    source = reading.open(catalogue.url(state.ws, "demo"), "demo")
    at = plane.points.positions[:50]
    wanted = space.gather(source, ["NDVI"], at)["NDVI"]  # both cubes have the same dates and pixels
    np.testing.assert_allclose(view.shade.values[:50], wanted)
    state.shade = "nonsense"
    assert "has no channel" in view.note.object


def test_the_meaning_says_when_the_bands_are_gone(state: State) -> None:
    view = meaning.MeaningView(state=state)
    assert len(view.bars.data["name"]) == meaning.STRONGEST
    view.ranks.value = True
    found = reads.latent.meaning(state.ws, "demo-features", "demo")
    row = found.spearman[0]
    first = view.bars.data["name"][0]
    assert abs(row[found.names.index(first)]) == pytest.approx(np.nanmax(np.abs(row)))
    view.bars.selected.indices = [0]
    assert (state.cube, state.show) == ("demo", first)
    state.cubes = {name: one for name, one in state.cubes.items() if one["kind"] == "features"}
    assert "not in this workspace" in view.note.object
    assert view.bars.data["name"] == []
