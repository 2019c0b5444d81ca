"""Stores on S3 work like local ones: the same bytes, whatever goes wrong on the way."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pytest
import s3_server
import xarray as xr
from conftest import bands_cube
from test_store import tree, with_everything

from deepfeatures import catalogue, reading, store

ROOT = f"s3://{s3_server.BUCKET}"


@pytest.fixture(scope="module")
def server():
    with s3_server.serving() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture
def s3(server):
    """A server whose requests go well, unless a test says otherwise, and that forgot the past."""
    server.share = 0.0
    server.log.clear()
    server.seen.clear()
    yield server
    server.share = 0.0


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    """A cube of six tiles with ragged edges and one overview."""
    return bands_cube(times=18, height=270, width=150, bands=("B04", "B08"))


@pytest.fixture(scope="module")
def written(cube, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("local") / "whole.zarr"
    store.write(cube, str(path), "plan")
    return path


def objects(s3: s3_server.S3, prefix: str) -> dict[str, str]:
    """Checksums of all objects below a prefix, read past the proxy."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3.upstream}")
    try:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=s3_server.BUCKET, Prefix=f"{prefix}/"
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        bodies = {
            key: client.get_object(Bucket=s3_server.BUCKET, Key=key)["Body"].read() for key in keys
        }
    finally:
        client.close()
    return {
        key.removeprefix(f"{prefix}/"): hashlib.sha256(body).hexdigest()
        for key, body in bodies.items()
    }


def test_the_objects_are_the_files_of_a_local_store(s3, tmp_path, tiny_bands):
    ds = with_everything(tiny_bands)
    store.write(ds, str(tmp_path / "a.zarr"), "plan")
    store.write(ds, f"{ROOT}/same/a.zarr", "plan")
    assert objects(s3, "same/a.zarr") == tree(tmp_path / "a.zarr")
    assert objects(s3, "same/a.zarr.journal") == {}
    assert store.open(f"{ROOT}/same/a.zarr").identical(store.open(str(tmp_path / "a.zarr")))


def test_each_shard_is_one_put(s3, cube, written):
    store.write(cube, f"{ROOT}/puts/a.zarr", "plan")
    assert objects(s3, "puts/a.zarr") == tree(written)
    puts = Counter(path for method, path, _ in s3.log if method == "PUT")
    shards = {path: n for path, n in puts.items() if "/c/" in path}
    assert len(shards) > 30
    assert set(shards.values()) == {1}


def test_broken_requests_change_nothing(s3, cube, written):
    s3.share = 0.05
    url = f"{ROOT}/broken/a.zarr"
    store.write(cube, url, "plan")
    xr.testing.assert_identical(store.open(url).load(), store.open(str(written)).load())
    assert s3.faults() >= 5
    assert objects(s3, "broken/a.zarr") == tree(written)
    store.remove(url)
    assert objects(s3, "broken") == {}


def test_threads_write_tiles_side_by_side(s3, cube, written):
    writer = store.Writer.create(f"{ROOT}/threads/a.zarr", cube, "plan")

    def put(tile):
        rows, columns = tile.core
        writer.write(tile, cube.isel(y=rows, x=columns), report=f'{{"tile": "{tile.name}"}}')

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put, reversed(writer.pending())))
    assert writer.reports()["128-0"] == '{"tile": "128-0"}'
    assert len(writer.reports()) == 6
    writer.finish()
    assert objects(s3, "threads/a.zarr") == tree(written)


WRITE_SLOWLY = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import bands_cube
from deepfeatures import store

ds = bands_cube(times=18, height=270, width=150, bands=("B04", "B08"))
writer = store.Writer.create({url!r}, ds, "plan")
for tile in writer.pending():
    rows, columns = tile.core
    writer.write(tile, ds.isel(y=rows, x=columns))
    time.sleep(0.3)
"""


def test_a_killed_process_resumes_to_the_same_bytes(s3, cube, written):
    url = f"{ROOT}/killed/a.zarr"
    script = WRITE_SLOWLY.format(tests=str(Path(__file__).parent), url=url)
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 60
        while s3.count("PUT", "a.zarr.journal/") < 3 and time.monotonic() < deadline:
            assert process.poll() is None, "the writer ended by itself"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match="never completed"):
        store.open(url)
    left = len(store.Writer.create(url, cube, "plan").pending())
    assert 0 < left < 6
    store.write(cube, url, "plan")
    assert objects(s3, "killed/a.zarr") == tree(written)
    assert objects(s3, "killed/a.zarr.journal") == {}


def test_another_plan_starts_anew_but_never_over_a_complete_cube(s3, tiny_bands):
    url = f"{ROOT}/plans/a.zarr"
    first = store.Writer.create(url, tiny_bands, "one")
    first.write(first.tiles[0], tiny_bands)
    store.write(tiny_bands, url, "two")
    assert store.Writer.create(url, tiny_bands, "two").pending() == []
    with pytest.raises(ValueError, match="another cube"):
        store.Writer.create(url, tiny_bands, "three")
    store.remove(url)
    store.remove(url)
    with pytest.raises(FileNotFoundError, match="no cube"):
        store.open(url)


def test_tiles_and_series_are_those_of_the_local_store(s3, cube, written):
    store.write(cube, f"{ROOT}/read/a.zarr", "plan")
    here, there = reading.open(str(written)), reading.open(f"{ROOT}/read/a.zarr", "a")
    assert here.version == there.version
    assert here.levels == there.levels == (1, 2)
    box = slice(0, 18), slice(0, 2), slice(100, 140), slice(90, 150)
    for level in (1, 2):
        part = box if level == 1 else (*box[:2], slice(60, 70), slice(20, 75))
        local = reading.chunks.read(here, "reflectance", part, level=level)
        assert np.array_equal(local, reading.chunks.read(there, "reflectance", part, level=level))


def test_a_place_that_can_not_be_reached_is_named_in_one_sentence(monkeypatch, tiny_bands):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for call in (store.open, lambda url: store.Writer.create(url, tiny_bands)):
        with pytest.raises(ConnectionError, match="AWS_ENDPOINT_URL") as caught:
            call("s3://cubes/far.zarr")
        assert "s3://cubes/far.zarr" in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(s3, tiny_bands):
    with pytest.raises(FileNotFoundError, match="bucket"):
        store.Writer.create("s3://no-such-bucket/a.zarr", tiny_bands)


def test_a_listed_root_may_hold_cubes(s3, workspace, monkeypatch):
    (workspace.home / "roots").write_text(f"# ours\n{ROOT}/listed/\n")
    url = catalogue.place(workspace, "far", f"{ROOT}/listed/deep")
    assert url == f"{ROOT}/listed/deep/far.zarr"
    store.write(bands_cube(times=2), url)
    catalogue.add(workspace, "far", url)
    assert catalogue.names(workspace) == ["far"]
    assert catalogue.url(workspace, "far") == url
    assert len(catalogue.info(workspace, "far")["times"]) == 2
    text = workspace.catalog.read_text()
    for secret in (s3_server.KEY, s3_server.SECRET, s3.endpoint, "127.0.0.1"):
        assert secret not in text
    (workspace.home / "roots").unlink()
    with pytest.raises(ValueError, match="DEEPFEATURES_ROOTS"):
        catalogue.open(workspace, "far")
    monkeypatch.setenv("DEEPFEATURES_ROOTS", f"s3://elsewhere {ROOT}/listed")
    assert catalogue.open(workspace, "far").sizes["time"] == 2
    catalogue.remove(workspace, "far")
    assert catalogue.names(workspace) == []
    assert objects(s3, "listed") == {}


@pytest.mark.long
def test_plain_intake_reads_a_remote_entry_and_the_process_ends_quietly(s3, workspace, monkeypatch):
    monkeypatch.setenv("DEEPFEATURES_ROOTS", ROOT)
    url = catalogue.place(workspace, "far", ROOT)
    store.write(bands_cube(times=2), url)
    catalogue.add(workspace, "far", url)
    script = (
        "import sys, intake\n"
        "from deepfeatures import store\n"
        "ds = intake.open_catalog(sys.argv[1])['far'].read()\n"
        "ours = store.open(sys.argv[2])\n"
        "print(float(ds['reflectance'].mean()), float(ours['reflectance'].mean()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default::ResourceWarning", "-c", script,
         str(workspace.catalog), url],
        capture_output=True, text=True, timeout=120, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = float(bands_cube(times=2)["reflectance"].mean())
    assert [float(word) for word in done.stdout.split()] == pytest.approx([expected] * 2, abs=1e-5)
