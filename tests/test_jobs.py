"""Laws of the job records: legal transitions, exclusive claims, progress that never falls."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
import shapely
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfeatures import catalogue, jobs, store
from deepfeatures.aoi import AOI
from deepfeatures.jobs import asking
from deepfeatures.settings import Workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ws(workspace: Workspace, tiny_bands: xr.Dataset) -> Workspace:
    """A workspace with the cube ``tiny`` and the model ``linear``."""
    from deepfeatures.predictor import Card, Predictor

    store.write(tiny_bands, catalogue.place(workspace, "tiny"))
    catalogue.add(workspace, "tiny")
    bands = tuple(tiny_bands["band"].values.tolist())
    card = Card(
        "linear",
        "pca",
        bands,
        ("F01", "F02"),
        (0.1,) * 10,
        (0.1,) * 10,
        (-0.1,) * 10,
        (1.5,) * 10,
        0.05,
    )
    Predictor(card).save(workspace.models / "linear.safetensors")
    return workspace


def area(ds: xr.Dataset, **period: date) -> AOI:
    """The middle of a cube."""
    from deepfeatures import contract

    west, south, east, north = contract.geobox(ds).geographic_extent.boundingbox
    dx, dy = (east - west) / 4, (north - south) / 4
    return AOI("middle", shapely.box(west + dx, south + dy, east - dx, north - dy), **period)


def submit(ws: Workspace) -> str:
    return jobs.submit(ws, cube="tiny", model="linear")


def test_a_job_from_asked_to_done(ws: Workspace, tiny_bands: xr.Dataset) -> None:
    job = jobs.submit(ws, cube="tiny", model="linear", aoi=area(tiny_bands))
    assert jobs.get(ws, job)["state"] == "queued"
    assert jobs.get(ws, job)["out"] == "tiny-middle-linear"
    assert jobs.get(ws, job)["aoi"]["properties"]["name"] == "middle"
    claimed = jobs.claim(ws, 4711)
    assert claimed is not None
    assert (claimed["id"], claimed["pid"], claimed["state"]) == (job, 4711, "running")
    assert jobs.claim(ws, 4712) is None
    jobs.progress(ws, job, 1, 4)
    assert jobs.get(ws, job)["fraction"] == 0.25
    assert jobs.finish(ws, job) is not None
    done = jobs.get(ws, job)
    assert (done["state"], done["fraction"], done["pid"]) == ("done", 1.0, None)
    assert done["created"] <= done["started"] <= done["finished"]
    json.dumps(jobs.listing(ws))


def test_exactly_the_legal_transitions_are_possible(ws: Workspace) -> None:
    for source, target in itertools.product(jobs.TRANSITIONS, repeat=2):
        job = submit(ws)
        for step in {
            "queued": (), "running": ("running",), "cancelled": ("cancelled",),
            "cancelling": ("running", "cancelling"), "done": ("running", "done"),
            "failed": ("running", "failed"),
        }[source]:  # fmt: skip
            jobs.move(ws, job, jobs.get(ws, job)["state"], step)
        if target in jobs.TRANSITIONS[source]:
            assert jobs.move(ws, job, source, target) is not None
            assert jobs.get(ws, job)["state"] == target
        else:
            with pytest.raises(ValueError, match="can not go from"):
                jobs.move(ws, job, source, target)
            assert jobs.get(ws, job)["state"] == source
        for other in set(jobs.TRANSITIONS) - {jobs.get(ws, job)["state"]}:
            for wrong in jobs.TRANSITIONS[other]:  # legal, but not from where the job is
                assert jobs.move(ws, job, other, wrong) is None


def test_what_is_over_stays_over() -> None:
    assert [state for state, after in jobs.TRANSITIONS.items() if not after] == [
        "done", "failed", "cancelled",
    ]  # fmt: skip


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(reports=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8))
def test_progress_never_falls(ws: Workspace, reports: list[tuple[int, int]]) -> None:
    job = submit(ws)
    claimed = jobs.claim(ws, 1)
    assert claimed is not None
    last = 0.0
    for done, total in reports:
        jobs.progress(ws, job, done, total)
        now = jobs.get(ws, job)["fraction"]
        assert last <= now <= 1.0
        last = now
    jobs.finish(ws, job)
    assert jobs.get(ws, job)["fraction"] == 1.0


def test_two_processes_never_claim_the_same_job(ws: Workspace) -> None:
    wanted = {submit(ws) for _ in range(24)}
    code = (
        "import sys\n"
        "from deepfeatures import jobs, settings\n"
        "ws = settings.workspace(sys.argv[1])\n"
        "sys.stdin.readline()\n"
        "while (job := jobs.claim(ws, 1)) is not None: print(job['id'])\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(ws.home)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in running:  # both are started before either may go
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(taken[0] + taken[1]) == sorted(wanted)


def test_cancel(ws: Workspace) -> None:
    queued, running, done = submit(ws), submit(ws), submit(ws)
    assert jobs.cancel(ws, queued)["state"] == "cancelled"
    assert jobs.cancel(ws, queued)["state"] == "cancelled"
    claimed = jobs.claim(ws, 1)
    assert claimed is not None
    assert claimed["id"] == running
    assert jobs.cancel(ws, running)["state"] == "cancelling"
    assert jobs.cancel(ws, running)["state"] == "cancelling"
    assert jobs.finish(ws, running) is None
    assert jobs.fail(ws, running, "no") is None
    jobs.claim(ws, 1)
    jobs.finish(ws, done)
    with pytest.raises(ValueError, match="is done already"):
        jobs.cancel(ws, done)
    with pytest.raises(KeyError, match="no job 'nonsense'"):
        jobs.cancel(ws, "nonsense")


def test_recover_queues_again_and_gives_up_after_three_deaths(ws: Workspace) -> None:
    job, asked = submit(ws), submit(ws)
    for attempt in range(1, jobs.MAX_ATTEMPTS):
        claimed = jobs.claim(ws, 1)
        assert claimed is not None
        assert (claimed["id"], claimed["attempts"]) == (job, attempt)
        jobs.progress(ws, job, attempt, 10)
        assert jobs.recover(ws) == []
        assert jobs.get(ws, job)["state"] == "queued"
        assert jobs.get(ws, job)["fraction"] == attempt / 10
    jobs.claim(ws, 1)
    jobs.claim(ws, 1)
    jobs.cancel(ws, asked)
    over = {record["id"]: record for record in jobs.recover(ws)}
    assert set(over) == {job, asked}
    assert jobs.get(ws, job)["state"] == "failed"
    assert "killed 3 times" in jobs.get(ws, job)["error"]
    assert jobs.get(ws, asked)["state"] == "cancelling"  # until its output is removed


def test_names_are_never_shared(ws: Workspace) -> None:
    first, second = submit(ws), submit(ws)
    assert jobs.get(ws, first)["out"] == "tiny-linear"
    assert jobs.get(ws, second)["out"] == "tiny-linear-2"
    for taken in ("tiny", "tiny-linear-2"):
        with pytest.raises(ValueError, match="is taken"):
            jobs.submit(ws, cube="tiny", model="linear", out=taken)
    with pytest.raises(ValueError, match="letters, digits"):
        jobs.submit(ws, cube="tiny", model="linear", out="../x")
    assert len(jobs.listing(ws)) == 2
    assert [record["id"] for record in jobs.listing(ws, state="queued")] == [second, first]


def test_estimate_counts_pixels_and_dates(ws: Workspace, tiny_bands: xr.Dataset) -> None:
    whole = jobs.estimate(ws, "tiny", "linear")
    assert (whole["pixels"], whole["dates"]) == (24 * 20, 7)
    assert whole["bytes"] == 24 * 20 * 7 * 3 * 4 // 3
    last = tiny_bands["time"].values[-1].astype("datetime64[D]").item()
    part = jobs.estimate(ws, "tiny", "linear", area(tiny_bands, start=last))
    assert part["dates"] == 1
    assert part["pixels"] == pytest.approx(12 * 10, rel=0.2)
    assert part["seconds"] <= whole["seconds"]


def test_the_rate_is_learned(ws: Workspace) -> None:
    assert jobs.rate(ws, "linear") == jobs.DEFAULT_RATE
    jobs.measured(ws, "linear", 1000, 10.0)
    assert jobs.rate(ws, "linear") == pytest.approx(100.0)
    for _ in range(12):
        jobs.measured(ws, "linear", 1000, 1.0)
    assert jobs.rate(ws, "linear") == pytest.approx(1000.0, rel=0.01)
    assert jobs.rate(ws, "another") == jobs.DEFAULT_RATE


def test_what_can_not_be_done_is_said_at_once(
    ws: Workspace, tiny_bands: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError, match="no cube 'nowhere'"):
        jobs.submit(ws, cube="nowhere", model="linear")
    with pytest.raises(KeyError, match="no model 'none'"):
        jobs.submit(ws, cube="tiny", model="none")
    with pytest.raises(ValueError, match="does not touch the cube"):
        jobs.submit(ws, cube="tiny", model="linear", aoi=AOI("far", shapely.box(9, 9, 9.1, 9.1)))
    with pytest.raises(ValueError, match="has no date from 2030-01-01"):
        jobs.submit(ws, cube="tiny", model="linear", aoi=area(tiny_bands, start=date(2030, 1, 1)))
    with pytest.raises(ValueError, match="not GeoJSON"):
        jobs.submit(ws, cube="tiny", model="linear", aoi="somewhere")
    monkeypatch.setattr(asking, "RESERVE_BYTES", 10**18)
    with pytest.raises(ValueError, match="GB left; free some space"):
        submit(ws)
    monkeypatch.setattr(asking, "MAX_PIXEL_DATES", 1000)
    with pytest.raises(ValueError, match="choose a smaller area or period"):
        submit(ws)
    assert jobs.listing(ws) == []


def test_a_model_that_needs_other_bands(ws: Workspace, tiny_bands: xr.Dataset) -> None:
    few = tiny_bands.sel(band=["B02", "B03", "B04"])
    store.write(few, catalogue.place(ws, "few"))
    catalogue.add(ws, "few")
    with pytest.raises(ValueError, match="needs B05, B06, B07, B08, B8A, B11, B12"):
        jobs.submit(ws, cube="few", model="linear")


def test_the_queue_has_an_end(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_WAITING", 2)
    submit(ws), submit(ws)
    with pytest.raises(ValueError, match="2 jobs wait already"):
        submit(ws)
    jobs.claim(ws, 1)
    submit(ws)


def test_one_owner_can_not_fill_the_queue(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_WAITING_EACH", 2)

    def ask(owner: str) -> str:
        return jobs.submit(ws, cube="tiny", model="linear", owner=owner)

    first, second = ask("ann"), ask("ann")
    with pytest.raises(ValueError, match=r"2 jobs of yours wait already.*cancel one of them"):
        ask("ann")
    ask("bob"), ask(""), ask(""), ask("")
    jobs.cancel(ws, second, "ann")
    jobs.claim(ws, 1)  # the first one; what runs does not wait any more
    ask("ann"), ask("ann")
    with pytest.raises(ValueError, match="2 jobs of yours"):
        jobs.retry(ws, second, "ann")
    assert jobs.get(ws, first)["state"] == "running"


def test_a_broken_database_is_said_in_one_sentence(ws: Workspace) -> None:
    ws.jobs_db.write_text("this is no database, but it is long enough to be read as one\n" * 40)
    with pytest.raises(OSError, match="jobs database .* can not be used"):
        jobs.listing(ws)


def test_an_older_database_is_brought_up(ws: Workspace) -> None:
    first = submit(ws)
    with closing(sqlite3.connect(ws.jobs_db)) as db:
        for column in ("settings", "owner", "title", "marked", "marked_done"):
            db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    found = jobs.get(ws, first)
    assert (found["out"], found["settings"], found["owner"]) == ("tiny-linear", {}, "")
    assert jobs.claim(ws, 1) is not None


def test_a_retry_asks_the_same_once_more(ws: Workspace, tiny_bands: xr.Dataset) -> None:
    job = jobs.submit(
        ws, cube="tiny", model="linear", aoi=area(tiny_bands), settings={"a": [1]}, owner="me"
    )
    with pytest.raises(ValueError, match="is queued; only one that failed or was cancelled"):
        jobs.retry(ws, job)
    jobs.cancel(ws, job)
    again = jobs.retry(ws, job)
    old, new = jobs.get(ws, job), jobs.get(ws, again)
    same = ("kind", "cube", "model", "aoi", "settings", "out", "owner", "title")
    assert {key: old[key] for key in same} == {key: new[key] for key in same}
    assert (old["state"], new["state"]) == ("cancelled", "queued")
    assert f"the job {job} once more" in jobs.log_text(ws, again)


def test_settings_are_json_of_a_bounded_size(ws: Workspace) -> None:
    with pytest.raises(ValueError, match="take 1,000,"):
        jobs.submit(ws, cube="tiny", model="linear", settings={"a": "x" * 1_000_000})
    for wrong in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(ValueError, match="are no JSON"):
            jobs.submit(ws, cube="tiny", model="linear", settings=wrong)
    with pytest.raises(ValueError, match="no kind of job 'magic'; there are: embed"):
        jobs.submit(ws, kind="magic", cube="tiny")


def test_somebody_elses_job_is_seen_without_what_it_is(
    ws: Workspace, tiny_bands: xr.Dataset
) -> None:
    job = jobs.submit(
        ws, cube="tiny", model="linear", aoi=area(tiny_bands), owner="me", title="My field"
    )
    found = jobs.get(ws, job)
    assert jobs.seen(found, "me")["title"] == "My field"
    hidden = jobs.seen(found, "you")
    assert (hidden["title"], hidden["state"], hidden["fraction"]) == ("somebody's job", "queued", 0)
    assert "middle" not in json.dumps(hidden)
    assert not {"aoi", "owner", "settings", "cube", "out", "error"} & set(hidden)
    for forbidden in (jobs.cancel, jobs.retry):
        with pytest.raises(PermissionError, match="somebody else's"):
            forbidden(ws, job, "you")
    assert jobs.cancel(ws, job, "me")["state"] == "cancelled"
    assert "aoi" in jobs.seen(jobs.get(ws, submit(ws)), "anybody")  # asked for without a page


def test_the_log_is_bounded_and_keeps_the_newest(ws: Workspace) -> None:
    job = submit(ws)
    assert "asked for: embed of tiny to tiny-linear" in jobs.log_text(ws, job)
    for number in range(150):
        jobs.log(ws, job, f"line {number}\n{'x' * 1900}")
    text = jobs.log_text(ws, job)
    assert len(text.encode()) <= jobs.MAX_LOG
    assert "line 149 x" in text.splitlines()[-1]
    assert "asked for" not in text
    with pytest.raises(ValueError, match="letters, digits"):
        jobs.log_text(ws, "../catalog")


def test_the_remaining_time_follows_from_the_rate(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    job = submit(ws)
    assert jobs.get(ws, job)["remaining"] == jobs.get(ws, job)["seconds_expected"]
    jobs.claim(ws, 1)
    jobs.progress(ws, job, 2, 10)
    now += 6
    jobs.progress(ws, job, 4, 10)
    assert jobs.get(ws, job)["remaining"] == pytest.approx(18.0)
    now += 3
    assert jobs.get(ws, job)["remaining"] == pytest.approx(15.0)
    jobs.progress(ws, job, 6, 20)  # it turned out to be more: the rate is measured anew
    assert jobs.get(ws, job)["fraction"] == 0.4
    jobs.finish(ws, job)
    assert jobs.get(ws, job)["remaining"] is None


def test_the_oldest_that_are_over_are_forgotten(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_KEPT", 2)
    waiting, *over = (submit(ws) for _ in range(2))
    jobs.cancel(ws, over[0])
    last = [submit(ws) for _ in range(2)]
    assert [job["id"] for job in jobs.listing(ws)] == [*reversed(last), waiting]
    assert jobs.log_text(ws, over[0]) == ""
