"""Who makes the tiles does not matter: same bytes from one, threads, processes, Dask, the dead."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import made_stac
import numpy as np
import pytest
import xarray as xr

from deepfeatures import catalogue, cube, grid, makers, stac, store, work
from deepfeatures.settings import workspace
from deepfeatures.tiles import Tile

PERIOD = {"start": "2018-01-01", "end": "2018-12-31"}


@pytest.fixture(scope="module")
def made(shared_data, tmp_path_factory) -> Path:
    """A catalogue of 160 x 160 px: four tiles."""
    folder = tmp_path_factory.mktemp("made") / "stac"
    made_stac.make(shared_data, folder, 160, 6)
    return folder


@pytest.fixture(scope="module")
def square(made):
    lon, lat = made_stac.centre(made)
    return grid.square(lat, lon, 160)


@pytest.fixture(scope="module")
def undisturbed(made, square, tmp_path_factory) -> Path:
    """A workspace with the cube, made by one worker without interruption."""
    ws = workspace(tmp_path_factory.mktemp("undisturbed"))
    cube.build(ws, "square", area=square, catalog=str(made), clouds="temporal", **PERIOD)
    return ws.home


def checksum(path: Path) -> str:
    """Hash of all files below a folder with their names."""
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("way", ["threads", "processes"])
def test_workers_here_give_the_bytes_of_one(undisturbed, made, square, tmp_path, way):
    ws = workspace(tmp_path)
    with work.workers(2, processes=way == "processes") as executor:
        cube.build(
            ws, "square", area=square, catalog=str(made), clouds="temporal",
            executor=executor, **PERIOD,
        )  # fmt: skip
    assert checksum(ws.cubes / "square.zarr") == checksum(undisturbed / "cubes/square.zarr")


@pytest.fixture(scope="module")
def scheduler():
    """Address of a Dask cluster on loopback."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.long
def test_a_dask_cluster_gives_the_bytes_of_one(undisturbed, made, square, tmp_path, scheduler):
    ws = workspace(tmp_path)
    with work.workers(scheduler=scheduler) as executor:
        cube.build(
            ws, "square", area=square, catalog=str(made), clouds="temporal",
            executor=executor, **PERIOD,
        )  # fmt: skip
        cube.materialise(ws, "square", ["NDVI", "kNDVI"], executor=executor)
        cube.embed(ws, "square", model="pca", out="spread", executor=executor)
    assert checksum(ws.cubes / "square.zarr") == checksum(undisturbed / "cubes/square.zarr")
    cube.materialise(ws, "square", ["NDVI", "kNDVI"], out="here")
    here = store.open(str(ws.cubes / "here.zarr"))
    xr.testing.assert_identical(here, catalogue.open(ws, "square-indices"))
    cube.embed(ws, "square", model="pca", out="alone")
    alone, spread = (ws.cubes / f"{name}.zarr" for name in ("alone", "spread"))
    assert checksum(alone) == checksum(spread)


def test_a_build_killed_in_the_middle_resumes_to_the_same_bytes(undisturbed, made, tmp_path):
    lon, lat = made_stac.centre(made)
    command = [
        sys.executable, "-m", "deepfeatures", "build", "square", "--home", str(tmp_path),
        "--lat", str(lat), "--lon", str(lon), "--edge-size", "160", "--stac", str(made),
        "--start", "2018-01-01", "--end", "2018-12-31", "--clouds", "temporal", "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    journal = tmp_path / "cubes/square.zarr.journal"
    while len(list(journal.glob("*-*"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ws = workspace(tmp_path)
    assert catalogue.names(ws) == [], "nothing half-written is listed"
    assert len(list(journal.glob("*-*"))) >= 1
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert catalogue.names(ws) == ["square"]
    assert checksum(ws.cubes / "square.zarr") == checksum(undisturbed / "cubes/square.zarr")


def test_memory_is_bounded_by_the_tile(made, square):
    source = stac.sources(square, catalog=made, **PERIOD)
    maker = makers.Bands(source, "temporal")
    block, report = maker(Tile(0, 128, 128, 160, 0, 128, 128, 160))
    assert block["reflectance"].shape == (6, 12, 128, 32)
    assert block["reflectance"].dtype == np.uint16
    assert report == ""


def test_no_scheduler_and_no_workers_are_said(monkeypatch):
    monkeypatch.setattr(work, "CONNECT", 0.5)
    with (
        pytest.raises(ConnectionError, match="no Dask scheduler at tcp://127.0.0.1:9"),
        work.workers(scheduler="tcp://127.0.0.1:9"),
    ):
        pass
    with pytest.raises(ValueError, match="0 workers can do nothing"), work.workers(0):
        pass
    with work.workers(1) as nobody:
        assert nobody is None
    with work.workers(2) as pool:
        assert isinstance(pool, ThreadPoolExecutor)


def test_a_cancelled_run_keeps_what_is_done(made, square, tmp_path):
    ws = workspace(tmp_path)
    asked = iter([False, True])
    with pytest.raises(InterruptedError):
        cube.build(
            ws, "square", area=square, catalog=str(made), clouds="scl",
            cancelled=lambda: next(asked), **PERIOD,
        )  # fmt: skip
    assert catalogue.names(ws) == []
    told: list[tuple[int, int]] = []
    cube.build(
        ws, "square", area=square, catalog=str(made), clouds="scl",
        progress=lambda done, total: told.append((done, total)), **PERIOD,
    )  # fmt: skip
    assert told == [(3, 4), (4, 4)], "two tiles were there already"
