"""Scenes of an area are counted before anything is fetched, and fetched by a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
import stac_server

from app.state import State
from app.views.scenes import ScenesView
from deepfeatures import catalogue, contract, jobs, kinds, worker
from deepfeatures.aoi import AOI, to_geojson
from deepfeatures.settings import Workspace
from deepfeatures.stac import scenes

AREA = AOI("patch", shapely.box(3.0225, 50.8150, 3.0239, 50.8160))


@pytest.fixture
def api(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stac_server.Running]:
    """A STAC API on loopback that the operator has allowed under the name ``local``."""
    with stac_server.serve(shared_data / "cog") as running:
        monkeypatch.setenv("DEEPFEATURES_STAC", f"local={running.url}#be-31uds-s2")
        yield running


def test_scenes_are_found_by_day_and_fetched_by_a_job(
    api: stac_server.Running, workspace: Workspace
) -> None:
    days = scenes.search("local", AREA, "2017-08-20", "2017-09-20")
    assert [day.day for day in days] == sorted({day.day for day in days})
    assert (days[0].day, days[0].cloud, days[0].items) == ("2017-08-24", 0.59, 1)
    assert all(day.share == pytest.approx(1.0) for day in days)
    clear = scenes.chosen(days, 20)
    assert 1 < len(clear) < len(days)
    assert not [path for _, path, *_ in api.requests if "/files/" in path], "pixels were fetched"

    settings = {
        "catalog": "local", "start": "2017-08-20", "end": "2017-09-20", "cloud": 20,
        "clouds": "scl", "dates": len(clear),
    }  # fmt: skip
    expected = jobs.estimate(workspace, aoi=AREA, kind="build", settings=settings)
    assert expected["dates"] == len(clear)
    job = jobs.submit(workspace, kind="build", aoi=AREA, settings=settings, owner="me")
    assert worker.run(workspace, once=True) == 1
    record = jobs.get(workspace, job)
    assert (record["state"], record["error"], record["out"]) == ("done", None, "patch-2017")
    ds = contract.check(catalogue.open(workspace, "patch-2017"))
    found = np.datetime_as_string(ds["time"].values, unit="D").tolist()
    assert found == [day.day for day in clear]
    pixels = ds.sizes["y"] * ds.sizes["x"]
    assert expected["pixels"] == pytest.approx(pixels, rel=0.35)


def test_only_allowed_catalogues_are_asked(
    api: stac_server.Running, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(scenes.catalogs()) == {"earth-search", "planetary-computer", "cdse", "local"}
    for address in (api.url, "file:///etc/passwd", "http://169.254.169.254/", ""):
        with pytest.raises(ValueError, match="is not one of earth-search"):
            scenes.search(address, AREA, "2017-08-20", "2017-09-20")
        settings = {"catalog": address, "start": "2017-08-20", "end": "2017-08-21"}
        job = jobs.submit(workspace, kind="build", aoi=AREA, settings=settings)
        worker.run(workspace, once=True)
        assert "is not one of earth-search" in jobs.get(workspace, job)["error"]
    assert not api.requests
    monkeypatch.setenv("DEEPFEATURES_STAC", "local")
    with pytest.raises(ValueError, match="write name=address"):
        scenes.catalogs()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs a first and a last day"),
        ({"start": "2017-08-20", "end": "soon"}, "needs a first and a last day"),
        ({"start": "2017-08-20", "end": "2017-08-19"}, "swap the two dates"),
        ({"start": "1990-01-01", "end": "2017-08-19"}, "fetch at most 3,700"),
    ],
)
def test_a_fetch_that_can_not_be_is_refused_at_once(
    workspace: Workspace, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        jobs.submit(workspace, kind="build", aoi=AREA, settings=settings)
    with pytest.raises(ValueError, match="no area to fetch"):
        jobs.submit(workspace, kind="build", settings={"start": "2017-08-20", "end": "2017-08-21"})


def test_a_fetch_without_a_search_is_estimated_from_above(workspace: Workspace) -> None:
    period = {"start": "2017-01-01", "end": "2017-12-31"}
    whole = jobs.estimate(workspace, aoi=AREA, kind="build", settings=period)
    assert whole["dates"] == 183
    for lie in (-1, 0, 1000, "3", 1.5):
        told = jobs.estimate(workspace, aoi=AREA, kind="build", settings={**period, "dates": lie})
        assert told["dates"] == 183
    assert kinds.KINDS["build"].makes_cube


def test_the_page_lists_days_and_asks_for_those_that_are_clear(
    api: stac_server.Running, workspace: Workspace
) -> None:
    state = State(ws=workspace, owner="me")
    view = ScenesView(state=state)
    assert "Draw an area on the map first" in view.note.object
    assert view.search.disabled
    assert view.catalog.value == "local"
    state.area = to_geojson(AREA)
    view.first.value, view.last.value = "2017-08-20", "2017-09-20"
    assert not view.search.disabled
    view._search(None)
    days = scenes.search("local", AREA, "2017-08-20", "2017-09-20")
    assert view.source.data["day"] == [day.day for day in days]
    clear = scenes.chosen(days, 30)
    assert f"{len(clear)} of {len(days)} days have at most 30 % clouds: " in view.note.object
    view.cloud.value = 0
    assert "0 of" in view.note.object
    assert view.fetch.disabled
    view.cloud.value = 20
    view._fetch(None)
    (job,) = jobs.listing(workspace)
    assert (job["id"], job["kind"], job["owner"]) == (state.job, "build", "me")
    assert job["settings"]["dates"] == len(scenes.chosen(days, 20))
    view.first.value = "soon"
    assert view.place.objects == []
    view._search(None)
    assert "write them as YYYY-MM-DD" in view.note.object
