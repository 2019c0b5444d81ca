"""The worker as a real process: killed, cancelled, stopped, watched; nothing half-made is seen."""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest
from conftest import bands_cube

from deepfeatures import catalogue, contract, jobs, kinds, store, worker
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a cube of six tiles and a linear model."""
    from deepfeatures.predictor import Card, Predictor

    ws = make_workspace(tmp_path_factory.mktemp("prepared") / "home")
    cube = bands_cube(times=24, height=384, width=256, bands=("B02", "B03", "B04", "B08"))
    store.write(cube, catalogue.place(ws, "field"))
    catalogue.add(ws, "field")
    card = Card(
        "net", "pca", ("B02", "B03", "B04", "B08"), ("F01", "F02", "F03"),
        (0.1,) * 4, (0.1,) * 4, (-0.1,) * 4, (1.5,) * 4, 0.05,
    )  # fmt: skip
    Predictor(card).save(ws.models / "net.safetensors")
    return ws.home


@pytest.fixture
def ws(prepared: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(prepared, tmp_path / "home")
    return make_workspace(tmp_path / "home")


@pytest.fixture
def start(ws: Workspace) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start real worker processes, and end those that still live."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*options: str, largest_file: int | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "deepfeatures", "jobs", "work", "--home", str(ws.home)]
        started.append(subprocess.Popen([*command, *options], cwd=ROOT))
        if largest_file:
            limit = (largest_file, largest_file)
            resource.prlimit(started[-1].pid, resource.RLIMIT_FSIZE, limit)
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def half_way(ws: Workspace, job: str) -> bool:
    record = jobs.get(ws, job)
    assert record["state"] in ("queued", "running"), f"too late: {record}"
    return 0 < record["done"] < record["total"]


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with its checksum."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(ws: Workspace, name: str) -> list[str]:
    """What lies in the folder of the cubes under a name, but for lock files."""
    return [path.name for path in ws.cubes.iterdir() if path.name.startswith(name)]


def submit(ws: Workspace) -> str:
    return jobs.submit(ws, cube="field", model="net", out="made")


def test_killed_in_the_middle_gives_the_same_files(
    ws: Workspace, start: Callable[..., subprocess.Popen[bytes]], prepared: Path
) -> None:
    job = submit(ws)
    process = start("--once")
    wait(lambda: half_way(ws, job))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = jobs.get(ws, job)
    assert before["state"] == "running"  # nobody could say otherwise
    assert catalogue.names(ws) == ["field"]
    assert not worker.lives(ws)

    assert start("--once").wait(150) == 0
    after = jobs.get(ws, job)
    assert (after["state"], after["attempts"], after["fraction"]) == ("done", 2, 1.0)
    assert catalogue.names(ws) == ["field", "made"]
    assert leftovers(ws, "made") == ["made.zarr"]

    calm = make_workspace(ws.home.parent / "calm")
    shutil.copytree(prepared, calm.home, dirs_exist_ok=True)
    submit(calm)
    assert worker.run(calm, once=True) == 1
    assert contents(ws.cubes / "made.zarr") == contents(calm.cubes / "made.zarr")
    contract.check(catalogue.open(ws, "made"))


def test_cancelled_in_the_middle_leaves_nothing(
    ws: Workspace, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job, following = submit(ws), jobs.submit(ws, cube="field", model="net", out="second")
    process = start("--once")
    wait(lambda: half_way(ws, job))
    assert jobs.cancel(ws, job)["state"] == "cancelling"
    wait(lambda: jobs.get(ws, job)["state"] == "cancelled")
    assert leftovers(ws, "made") == []
    assert process.wait(150) == 0
    assert jobs.get(ws, following)["state"] == "done"
    assert catalogue.names(ws) == ["field", "second"]


@pytest.mark.long
def test_cancelled_while_the_worker_was_dead(
    ws: Workspace, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = submit(ws)
    process = start()
    wait(lambda: half_way(ws, job))
    process.kill()
    process.wait()
    jobs.cancel(ws, job)
    assert worker.run(ws, once=True) == 0
    assert jobs.get(ws, job)["state"] == "cancelled"
    assert leftovers(ws, "made") == []


def test_sigterm_gives_the_job_back(
    ws: Workspace, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = submit(ws)
    process = start()
    wait(lambda: half_way(ws, job))
    process.terminate()
    assert process.wait(150) == 0
    record = jobs.get(ws, job)
    assert (record["state"], record["attempts"]) == ("queued", 0)
    assert record["done"] > 0
    assert catalogue.names(ws) == ["field"]


def test_the_second_worker_is_sent_away(ws: Workspace) -> None:
    with filelock.FileLock(worker.lock_path(ws)):
        assert worker.lives(ws)
        with pytest.raises(ValueError, match="another worker lives"):
            worker.run(ws, once=True)
    assert worker.run(ws, once=True) == 0


def test_a_job_that_kills_its_worker_is_given_up(ws: Workspace) -> None:
    job = submit(ws)
    for _ in range(jobs.MAX_ATTEMPTS - 1):
        jobs.claim(ws, 1)
        jobs.recover(ws)
    jobs.claim(ws, 1)
    (ws.cubes / "made.zarr").mkdir()
    assert worker.run(ws, once=True) == 0
    assert jobs.get(ws, job)["state"] == "failed"
    assert leftovers(ws, "made") == []


def test_killed_between_the_result_and_its_record(ws: Workspace) -> None:
    job = submit(ws)
    jobs.claim(ws, 1)
    shutil.copytree(ws.cubes / "field.zarr", ws.cubes / "made.zarr")
    catalogue.add(ws, "made")
    before = contents(ws.cubes / "made.zarr")
    assert worker.run(ws, once=True) == 1
    assert jobs.get(ws, job)["state"] == "done"
    assert contents(ws.cubes / "made.zarr") == before


def test_a_failure_is_one_sentence_and_the_next_job_runs(ws: Workspace) -> None:
    lost, kept = submit(ws), jobs.submit(ws, cube="field", model="net", out="kept")
    shutil.move(ws.cubes / "field.zarr", ws.home / "aside")
    answers = iter([False, False, True])  # a look before each claim; the second comes after a job
    worker.run(ws, stop=lambda: jobs.get(ws, lost)["state"] == "failed" or next(answers))
    record = jobs.get(ws, lost)
    assert record["state"] == "failed"
    assert "\n" not in record["error"]
    assert "field" in record["error"]
    shutil.move(ws.home / "aside", ws.cubes / "field.zarr")
    assert worker.run(ws, once=True) == 1
    assert jobs.get(ws, kept)["state"] == "done"
    assert jobs.rate(ws, "net") != jobs.DEFAULT_RATE


def test_a_full_disk_is_said_and_leaves_nothing(
    ws: Workspace, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = submit(ws)
    # the system's limit on files is met while a tile is written, as the end of a disk would be
    assert start("--once", largest_file=150_000).wait(150) == 0
    assert jobs.get(ws, job)["error"] == "the disk is full; free some space and ask again"
    assert leftovers(ws, "made") == []
    assert catalogue.names(ws) == ["field"]


@pytest.mark.long
def test_the_watch_restarts_a_killed_worker_and_ends_it(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BACKOFF_SECONDS", 0.05)
    end = worker.supervise(ws, interval=0.05)
    try:
        job = submit(ws)
        wait(lambda: half_way(ws, job))
        first = jobs.get(ws, job)["pid"]
        os.kill(first, signal.SIGKILL)
        wait(lambda: jobs.get(ws, job)["state"] == "done")
        assert worker.lives(ws)
        assert catalogue.names(ws) == ["field", "made"]
    finally:
        end()
    assert not worker.lives(ws)
    assert not [
        child for child in psutil.Process().children() if "jobs" in " ".join(child.cmdline())
    ]


def test_a_worker_ends_when_its_server_is_gone(ws: Workspace) -> None:
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    threading.Timer(0.5, server.communicate, [b"\n"]).start()
    assert worker.run(ws, parent=server.pid) == 0
    assert server.poll() is not None
    assert worker.run(ws, parent=server.pid) == 0


def test_ensure_waits_longer_after_each_death(ws: Workspace) -> None:
    child = worker._children.setdefault(ws.home, worker._Child(started=time.monotonic()))
    pauses = []
    for _ in range(9):
        child.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        child.process.wait()
        began = time.monotonic()
        assert worker.ensure(ws) is False
        pauses.append(round(child.not_before - began))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    worker.terminate(ws)


def test_the_server_side_loads_no_torch() -> None:
    code = "import sys, deepfeatures.jobs, deepfeatures.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_failed_job_leaves_a_cube_of_somebody_else_alone(ws):
    ident = submit(ws)
    store.write(bands_cube(times=2), catalogue.place(ws, "made"))
    catalogue.add(ws, "made")
    worker.run(ws, once=True)
    assert jobs.get(ws, ident)["state"] == "failed"
    assert "another cube" in jobs.get(ws, ident)["error"]
    assert catalogue.open(ws, "made").sizes["time"] == 2


def test_a_kind_of_its_own_is_run_logged_and_cleared(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared = []

    def count(ws: Workspace, job: kinds.Job, progress: Any, cancelled: Any) -> None:
        for number in range(job["settings"]["to"]):
            progress(number, 20)
            logging.getLogger("deepfeatures.test").info("at %d", number)
        jobs.cancel(ws, job["id"])
        while not cancelled():
            time.sleep(0.01)
        raise InterruptedError("cancelled")

    kind = kinds.Kind(
        "Counting", count, clear=lambda ws, job: cleared.append(job["id"]), makes_cube=False
    )
    monkeypatch.setitem(kinds.KINDS, "count", kind)
    monkeypatch.setattr(logging.getLogger("deepfeatures"), "level", logging.INFO)
    job = jobs.submit(ws, kind="count", cube="field", settings={"to": 12})
    assert jobs.get(ws, job)["out"] == "field-count"
    worker.run(ws, once=True)
    record = jobs.get(ws, job)
    assert (record["state"], record["done"]) == ("cancelled", 11)
    assert cleared == [job]
    lines = [line[20:] for line in jobs.log_text(ws, job).splitlines()]
    assert lines[1:4] == ["started (attempt 1)", "0 of 20", "info: at 0"]
    assert "10 of 20" in lines
    assert "11 of 20" not in lines  # a line each tenth
    assert lines[-1] == "cancelled; nothing was kept"


def test_a_job_that_does_not_look_up_is_given_up(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()

    def deaf(ws: Workspace, job: kinds.Job, progress: Any, cancelled: Any) -> None:
        jobs.cancel(ws, job["id"])
        assert given_up.wait(60)
        raise InterruptedError("as if the process had been replaced")

    monkeypatch.setitem(kinds.KINDS, "deaf", kinds.Kind("Sleeping", deaf, makes_cube=False))
    monkeypatch.setattr(worker, "PATIENCE_SECONDS", 0.1)
    job = jobs.submit(ws, kind="deaf", cube="field")
    worker.run(ws, once=True, give_up=given_up.set)
    assert jobs.get(ws, job)["state"] == "cancelled"
    assert "does not stop by itself" in jobs.log_text(ws, job)


def test_a_worker_becomes_a_new_one_in_the_same_process(ws: Workspace) -> None:
    code = (
        "import os, sys\n"
        "from deepfeatures import kinds, settings, worker\n"
        "def deaf(ws, job, progress, cancelled):\n"
        "    __import__('deepfeatures.jobs').jobs.cancel(ws, job['id'])\n"
        "    __import__('time').sleep(600)\n"
        "kinds.KINDS['deaf'] = kinds.Kind('Sleeping', deaf, makes_cube=False)\n"
        "worker.PATIENCE_SECONDS, worker._warm = 0.1, lambda: None\n"
        "print(os.getpid(), flush=True)\n"
        "worker.main(settings.workspace(sys.argv[1]), once=True)\n"
    )
    kinds_before = dict(kinds.KINDS)
    kinds.KINDS["deaf"] = kinds.Kind("Sleeping", lambda *_: None, makes_cube=False)
    try:
        job = jobs.submit(ws, kind="deaf", cube="field")
    finally:
        kinds.KINDS.clear()
        kinds.KINDS.update(kinds_before)
    done = subprocess.run(
        [sys.executable, "-c", code, str(ws.home)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert len(set(done.stdout.split())) == 1
    assert len(done.stdout.split()) == 2
    assert jobs.get(ws, job)["state"] == "cancelled"


def test_the_table_of_kinds_is_light() -> None:
    code = (
        "import sys, deepfeatures.kinds\n"
        "sys.exit(bool({'torch', 'umap', 'sklearn'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
