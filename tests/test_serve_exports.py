"""Exports over HTTP: kept, in ranges, resumable; the lines that make them again run."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from test_serve import Server

from deepfeatures import aoi, catalogue, export, serve, store
from deepfeatures.__main__ import main as command_line
from deepfeatures.serve import sending
from deepfeatures.serve.base import Refusal
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

FIELD = "/api/cubes/field/export"


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the cube ``field``."""
    found = make_workspace(tmp_path_factory.mktemp("exports") / "home")
    store.write(bands_cube(times=6, height=90, width=70), catalogue.place(found, "field"))
    catalogue.add(found, "field")
    return found


@pytest.fixture(scope="module")
def web(ws: Workspace) -> Iterator[httpx.Client]:
    server = Server(serve.routes(ws))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.close()


@pytest.fixture
def field(ws: Workspace) -> xr.Dataset:
    return catalogue.open(ws, "field").load()


def middle(ws: Workspace) -> shapely.Polygon:
    """A triangle in the middle of the cube."""
    west, south, east, north = catalogue.info(ws, "field")["bounds"]
    dx, dy = east - west, north - south
    corners = [(0.2, 0.2), (0.8, 0.3), (0.5, 0.8)]
    return shapely.Polygon([(west + a * dx, south + b * dy) for a, b in corners])


@given(st.integers(1, 10**6), st.data())
@settings(max_examples=50)
def test_a_range_is_a_part_of_the_file(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 2 * size))
    assert sending.part(f"bytes={first}-{last}", size) == (first, min(last + 1, size))
    assert sending.part(f"bytes={first}-", size) == (first, size)
    assert sending.part(f"bytes=-{first + 1}", size) == (size - first - 1, size)
    with pytest.raises(Refusal, match=f"{size} bytes"):
        sending.part(f"bytes={size}-", size)
    for text in ("", "bytes=", "bytes=-", "bytes=5-2", "bytes=1-2,4-5", "lines=1-2", "x"):
        assert sending.part(text, size) is None


def test_the_parts_of_an_export_are_the_whole(web: httpx.Client) -> None:
    url = f"{FIELD}?format=netcdf&channels=B04"
    whole = web.get(url)
    etag = whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(whole.content)
    cut = len(whole.content) // 3
    rest = {"Range": f"bytes={cut}-", "If-Range": etag}
    again = web.get(url, headers=rest)
    assert again.status_code == 206
    size = len(whole.content)
    assert again.headers["content-range"] == f"bytes {cut}-{size - 1}/{size}"
    assert (whole.content[:cut] + again.content == whole.content) is True
    assert again.headers["etag"] == etag
    other = web.get(url, headers=rest | {"If-Range": '"of another file"'})
    assert (other.status_code, len(other.content)) == (200, size)
    late = web.get(url, headers={"Range": f"bytes={size}-"})
    assert late.status_code == 416
    assert late.headers["content-range"] == f"bytes */{size}"
    assert str(size) in late.json()["error"]
    assert web.get(url, headers={"If-None-Match": etag}).status_code == 304
    head = web.head(url)
    assert (head.headers["etag"], int(head.headers["content-length"])) == (etag, size)


def test_an_export_is_made_once(web: httpx.Client, ws: Workspace, field: xr.Dataset) -> None:
    url = f"{FIELD}?format=csv&channels=NDVI"
    body = aoi.to_geojson(aoi.AOI("a", middle(ws)))
    made = web.post(url, json=body, headers={"Accept": "application/json"})
    assert made.status_code == 201
    href = made.json()["href"]
    assert made.headers["location"] == href
    file = export.find(ws, href.split("/")[3])
    assert file is not None
    before = file.stat().st_mtime_ns
    for answer in (web.get(href), web.post(url, json=body)):
        assert len(answer.content) == made.json()["bytes"]
        assert 'filename="field.csv"' in answer.headers["content-disposition"]
    assert file.stat().st_mtime_ns == before
    table = pd.read_csv(io.BytesIO(answer.content), comment="#", parse_dates=["time"])
    inside = export.select(field, geometry=middle(ws), channels=["NDVI"])
    assert len(table) == int(inside["si"].count())
    assert web.get(href.replace("field.csv", "other.csv")).status_code == 404
    assert web.get("/api/exports/../catalog.yaml").status_code == 404
    assert web.get(f"/api/exports/{'0' * 32}/..%2f..%2fcatalog.yaml").status_code == 404


def test_a_new_version_of_a_cube_is_another_file(ws: Workspace) -> None:
    order = export.Order("field", "csv")
    assert order.digest("a") != order.digest("b")
    assert order.digest("a") != export.Order("field", "csv", channels=("B04",)).digest("a")


def test_what_is_old_or_too_much_goes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file(folder: Path) -> Path:
        path = folder / "x.bin"
        path.write_bytes(bytes(1000))
        return path

    keys = [f"{i:032x}" for i in range(4)]
    for age, key in enumerate(keys):
        made = export.keep(workspace, key, file)
        os.utime(made.parent, (time.time() - 100 * age,) * 2)
    export.sweep(workspace)
    assert all((workspace.home / "exports" / key).exists() for key in keys)
    monkeypatch.setattr("deepfeatures.export.keeping.KEEP_BYTES", 2500)
    export.sweep(workspace)
    assert [(workspace.home / "exports" / key).exists() for key in keys] == [1, 1, 0, 0]
    monkeypatch.setattr("deepfeatures.export.keeping.KEEP_SECONDS", 50)
    export.sweep(workspace)
    assert [(workspace.home / "exports" / key).exists() for key in keys] == [1, 0, 0, 0]
    assert export.find(workspace, keys[0]) is not None
    assert export.find(workspace, "../../etc") is None


KILLED = """
import sys, time
from deepfeatures import export
from deepfeatures.settings import workspace

def make(folder):
    path = folder / "x.bin"
    path.write_bytes(bytes(1000))
    print("half", flush=True)
    time.sleep(60)
    return path

export.keep(workspace(sys.argv[1]), "0" * 32, make)
"""


def test_a_killed_export_leaves_nothing_that_is_served(workspace: Workspace) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(workspace.home)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        export.sweep(workspace)
        assert len(list((workspace.home / "exports").iterdir())) == 1, "its writer is alive"
        process.send_signal(signal.SIGKILL)
    assert export.find(workspace, "0" * 32) is None
    export.sweep(workspace)
    assert list((workspace.home / "exports").iterdir()) == []

    def fails(folder: Path) -> Path:
        (folder / "x.bin").write_bytes(bytes(1000))
        raise OSError("the disk fell out")

    with pytest.raises(OSError, match="fell out"):
        export.keep(workspace, "0" * 32, fails)
    assert list((workspace.home / "exports").iterdir()) == []


def test_a_download_that_breaks_off_is_no_whole_file(
    web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{FIELD}?format=csv&channels=B04"
    assert web.get(url).status_code == 200
    monkeypatch.setattr(sending, "_state", lambda _: (1, 10**9))
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(url)


def shell(lines: str, folder: Path) -> str:
    """Let a shell find the command."""
    script = folder / "bin" / "deepfeatures"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m deepfeatures "$@"\n')
    script.chmod(0o755)
    return f'PATH="{script.parent}:$PATH"\n{lines}'


def values(path: Path, fmt: str) -> np.ndarray:
    """Read B04 (time, y, x) from a file."""
    if fmt == "netcdf":
        with xr.open_dataset(path) as ds:
            return ds["reflectance"].sel(band="B04").values
    if fmt == "parquet":
        found = pq.read_table(path).to_pandas()
        found = found[found["channel"] == "B04"].set_index(["time", "y", "x"])["value"]
        return found.to_xarray().sortby("y", ascending=False).values
    with rasterio.open(path) as source:
        return source.read([i + 1 for i, d in enumerate(source.descriptions) if "B04" in d])


@pytest.mark.parametrize("fmt", ["netcdf", "geotiff", "parquet"])
def test_the_lines_that_make_an_export_again_run(
    fmt: str, ws: Workspace, field: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [str(day)[:10] for day in field["time"].values[[1, 3]]]
    place: dict = {"geometry": middle(ws)}
    if fmt == "geotiff":
        place = {"bbox": middle(ws).bounds}
    order = export.Order("field", fmt, **place, start=days[0], end=days[1], channels=("B04",))
    origin = json.loads(export.ordered(ws, order).attrs["provenance"])
    suffix = export.FORMATS[fmt].suffix
    assert origin["cube"] == "field"
    assert origin["version"] == export.version_of(ws, "field")
    assert origin["licence"] == "CC0-1.0"
    assert origin["period"] == days
    assert origin["citation"].startswith("@misc{field-")
    assert origin["request_sha256"] in str(export.kept(ws, order))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPFEATURES_HOME", str(ws.home))
    exec(compile(origin["python"], "lines", "exec"), {})
    first = Path(f"field{suffix}").rename("python.bin")
    if fmt == "netcdf":  # in a shell, the others without the cost of another process
        subprocess.run(["sh", "-euc", shell(origin["command"], tmp_path)], check=True)
    else:
        *before, last = origin["command"].split("\n")
        subprocess.run(["sh", "-euc", "\n".join(before)], check=True)
        assert command_line(shlex.split(last)[1:]) == 0
    part = export.ordered(ws, order)
    wanted = part["reflectance"].sel(band="B04").values
    for path in (first, Path(f"field{suffix}"), export.kept(ws, order)):
        got = values(path, fmt)
        if fmt == "parquet":
            assert np.isfinite(got).sum() == np.isfinite(wanted).sum()
            continue
        np.testing.assert_array_equal(got, wanted)


def test_each_format_carries_where_it_comes_from(web: httpx.Client, tmp_path: Path) -> None:
    found = {}
    for fmt in ("csv", "parquet", "geotiff-dates", "zarr"):
        path = tmp_path / f"x{export.FORMATS[fmt].suffix}"
        path.write_bytes(web.get(f"{FIELD}?format={fmt}&channels=B04").content)
        if fmt == "csv":
            lines = path.read_text().splitlines()
            line = next(one for one in lines if one.startswith("# provenance: "))
            found[fmt] = json.loads(line.removeprefix("# provenance: "))
        elif fmt == "parquet":
            found[fmt] = json.loads(pq.read_schema(path).metadata[b"provenance"])
        else:
            with zipfile.ZipFile(path) as archive:
                name = "zarr.json" if fmt == "zarr" else "provenance.json"
                content = json.loads(archive.read(name))
            found[fmt] = (
                json.loads(content["attributes"]["provenance"]) if fmt == "zarr" else content
            )
    for fmt, origin in found.items():
        assert origin["request"] == {"cube": "field", "format": fmt, "channels": ["B04"]}
        assert f"--format {fmt}" in origin["command"]


def test_the_command_line_takes_a_box_or_an_area(
    ws: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    area = tmp_path / "a.geojson"
    area.write_text(json.dumps(aoi.to_geojson(aoi.AOI("a", middle(ws)))))
    shutil.rmtree(ws.home / "exports", ignore_errors=True)
    words = ["export", "field", "--format", "csv", "--out", str(tmp_path / "x.csv")]
    box = [f"{edge:.7f}" for edge in middle(ws).bounds]
    code = command_line([*words, "--home", str(ws.home), "--bbox", *box, "--aoi", str(area)])
    assert code == 1
    assert "not both" in capsys.readouterr().err
