"""The command line as real processes: the ways of a user, exit codes, one sentence for an error."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import made_stac
import numpy as np
import pytest
import xarray as xr

from deepfeatures import catalogue, progress, store
from deepfeatures.__main__ import main
from deepfeatures.cli import arguments
from deepfeatures.settings import Workspace

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., subprocess.CompletedProcess[str]]


def call(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "deepfeatures", *words, "--home", str(home)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def ws(workspace: Workspace, tiny_bands: xr.Dataset) -> Workspace:
    store.write(tiny_bands, catalogue.place(workspace, "tiny"))
    catalogue.add(workspace, "tiny")
    return workspace


def refused(capsys: pytest.CaptureFixture[str], ws: Workspace, *words: str, code: int = 1) -> str:
    """The sentence with which a command ends that the user got wrong."""
    try:
        found = main([*words, "--home", str(ws.home)])
    except SystemExit as end:
        found = int(str(end.code))
    out, err = capsys.readouterr()
    assert found == code
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1 or code == 2
    return err.strip()


def answered(capsys: pytest.CaptureFixture[str], ws: Workspace, *words: str) -> str:
    assert main([*words, "--home", str(ws.home)]) == 0
    return capsys.readouterr().out


def test_from_a_real_cube_to_an_export(shared_data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    done = call(home, "import", "belgium", str(source), "--clouds", "temporal")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "made belgium"), done.stderr
    assert "118/118" in done.stderr or "1/1" in done.stderr

    done = call(home, "embed", "belgium", "--model", "pca")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "made belgium-pca"), done.stderr

    done = call(home, "list", "--json")
    assert [(cube["name"], cube["kind"]) for cube in json.loads(done.stdout)] == [
        ("belgium", "bands"), ("belgium-pca", "features"),
    ]  # fmt: skip

    target = tmp_path / "made.nc"
    done = call(
        home, "export", "belgium-pca", "--format", "netcdf", "--out", str(target),
        "--start", "2018-06-01", "--end", "2018-06-30", "--channels", "F01,F03",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with xr.open_dataset(target) as found, xr.open_dataset(source) as given:
        june = slice("2018-06-01", "2018-06-30")
        assert found.sizes["time"] == given.sel(time=june).sizes["time"]
        assert found["feature"].values.tolist() == ["F01", "F03"]
        stored = catalogue.open(Workspace(home), "belgium-pca")["features"]
        expected = stored.sel(time=june, feature=["F01", "F03"]).values
        np.testing.assert_array_equal(found["features"].values, expected)
        assert np.isfinite(expected).any()

    wrong = call(home, "info", "france")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == (
        "deepfeatures: there is no cube 'france'; there are: belgium, belgium-pca\n"
    )


def test_list_and_info(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny  bands  7 dates" in answered(capsys, ws, "list")
    text = answered(capsys, ws, "info", "tiny")
    assert "crs: EPSG:32631" in text
    assert "licence: CC0-1.0" in text
    found = json.loads(answered(capsys, ws, "info", "tiny", "--json"))
    assert len(found["times"]) == found["dims"]["time"] == 7


def test_nothing_there_is_said(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no cube yet" in answered(capsys, workspace, "list")
    assert "no job" in answered(capsys, workspace, "jobs", "list")
    assert json.loads(answered(capsys, workspace, "list", "--json")) == []
    assert json.loads(answered(capsys, workspace, "jobs", "list", "--json")) == []


def test_home_before_or_after_the_command(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--home", str(ws.home), "--json", "list"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "tiny"
    monkeypatch.setenv("DEEPFEATURES_HOME", str(ws.home))
    assert main(["list"]) == 0
    assert "tiny" in capsys.readouterr().out


def test_indices(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    answered(capsys, ws, "indices", "tiny", "--index", "NDVI", "EVI", "--index", "NDWI")
    assert catalogue.info(ws, "tiny-indices")["channels"] == ["NDVI", "EVI", "NDWI"]
    answered(capsys, ws, "indices", "tiny", "--set", "snow", "--out", "snow")
    assert "NDSI" in catalogue.info(ws, "snow")["channels"]
    assert "choose one of" in refused(capsys, ws, "indices", "tiny", "--set", "moon")
    assert "did you mean" in refused(capsys, ws, "indices", "tiny", "--index", "NDVJ")
    refused(capsys, ws, "indices", "tiny", code=2)


def test_models(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    answered(capsys, ws, "train", "embedding", "--kind", "pca", "--out", "own")
    found = json.loads(answered(capsys, ws, "model", "list", "--json"))
    assert {"own", "pca"} <= {card["name"] for card in found}
    assert "kind: pca" in answered(capsys, ws, "model", "info", "own")
    answered(capsys, ws, "embed", "tiny", "--model", "own", "--out", "features")
    assert catalogue.info(ws, "features")["kind"] == "features"
    assert "no model 'other'" in refused(capsys, ws, "embed", "tiny", "--model", "other")
    assert "no model 'other'" in refused(capsys, ws, "model", "info", "other")
    assert "no cube of bands" in refused(
        capsys, ws, "train", "embedding", "--kind", "pca", "--cubes", "features"
    )


def test_an_area_from_a_file(
    ws: Workspace, tiny_bands: xr.Dataset, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    west, south, east, north = catalogue.info(ws, "tiny")["bounds"]
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    path = tmp_path / "left half.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    answered(capsys, ws, "train", "embedding", "--kind", "pca", "--out", "own")
    answered(capsys, ws, "embed", "tiny", "--model", "own", "--aoi", str(path))
    assert catalogue.info(ws, "tiny-left-half-own")["dims"]["x"] == 10
    table = tmp_path / "half.csv"
    answered(
        capsys, ws, "export", "tiny", "--format", "csv", "--channels", "NDVI",
        "--aoi", str(path), "--out", str(table),
    )  # fmt: skip
    assert "NDVI" in table.read_text()

    path.write_text("nothing")
    words = ("embed", "tiny", "--aoi", str(path))
    assert "not GeoJSON" in refused(capsys, ws, *words)
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[x + 1, y] for x, y in ring]]}))
    assert "does not touch the cube" in refused(capsys, ws, *words)
    assert "there is no file" in refused(capsys, ws, "embed", "tiny", "--aoi", "none.geojson")


def test_what_a_user_gets_wrong(
    ws: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no cube 'none'" in refused(capsys, ws, "info", "none")
    assert "no cube 'none'" in refused(capsys, ws, "embed", "none")
    assert "no cube 'none'" in refused(capsys, ws, "remove", "none", "--yes")
    assert "no job 'none'" in refused(capsys, ws, "jobs", "cancel", "none")
    refused(capsys, ws, "import", "new", str(tmp_path / "none.nc"))
    (tmp_path / "text.nc").write_text("no cube")
    refused(capsys, ws, "import", "new", str(tmp_path / "text.nc"))
    export = ("export", "tiny", "--format", "netcdf", "--out", str(tmp_path / "x.nc"))
    assert "2030" in refused(capsys, ws, *export, "--start", "2030-01-01")
    assert "B77" in refused(capsys, ws, *export, "--channels", "B77")
    assert not (tmp_path / "x.nc").exists()
    assert catalogue.names(ws) == ["tiny"]


def test_a_home_that_can_not_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["list", "--home", str(tmp_path / "file")]) == 1
    assert "choose another folder" in capsys.readouterr().err


WRONG_USAGE = [
    [],
    ["fly"],
    ["info"],
    ["info", "../x"],
    ["info", "a b"],
    ["remove", "tiny"],
    ["export", "tiny", "--format", "paper", "--out", "x"],
    ["export", "tiny", "--format", "csv", "--out", "x", "--start", "yesterday"],
    ["embed", "tiny", "--device", "abacus"],
    ["serve", "--port", "0"],
    ["demo", "--size", "-3"],
    ["build", "x", "--lat", "95", "--lon", "3", "--edge-size", "9", "--start", "2020-01-01",
     "--end", "2020-02-01"],
    ["jobs"],
    ["train"],
    ["train", "embedding", "--loss", "ssim"],
    ["train", "embedding", "--loss", "ssim=0.5", "mae=much"],
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_ends_with_two(
    ws: Workspace, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert "error:" in refused(capsys, ws, *words, code=2)
    assert catalogue.names(ws) == ["tiny"]


def test_numbers_are_assigned_to_names() -> None:
    assert arguments.assigned("ssim=0.5") == ("ssim", 0.5)
    assert arguments.assigned(" L = -2e-1 ") == ("L", -0.2)
    for wrong in ("", "L", "L=", "=0.5", " =0.5", "L=much", "L=1=2", "L=nan", "L=-inf"):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(f"{wrong!r} is not NAME=")):
            arguments.assigned(wrong)


def test_remove(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    answered(capsys, ws, "remove", "tiny", "--yes")
    assert catalogue.names(ws) == []
    assert not Path(catalogue.place(ws, "tiny")).exists()


def test_jobs(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from deepfeatures import jobs

    answered(capsys, ws, "train", "embedding", "--kind", "pca", "--out", "own")
    first, second = (jobs.submit(ws, cube="tiny", model="own") for _ in range(2))
    assert "is cancelled" in answered(capsys, ws, "jobs", "cancel", second)
    assert "1 jobs taken" in answered(capsys, ws, "jobs", "work", "--once")
    found = json.loads(answered(capsys, ws, "jobs", "list", "--json"))
    assert [(job["id"], job["state"]) for job in found] == [(second, "cancelled"), (first, "done")]
    assert "tiny -> tiny-own" in answered(capsys, ws, "jobs", "list")
    assert "is done already" in refused(capsys, ws, "jobs", "cancel", first)
    assert "started (attempt 1)" in answered(capsys, ws, "jobs", "log", first)
    assert "is queued" in answered(capsys, ws, "jobs", "retry", second)
    assert "is done; only one that failed" in refused(capsys, ws, "jobs", "retry", first)


def test_the_help_is_light_and_hides_the_worker() -> None:
    code = (
        "import sys\n"
        "from deepfeatures.cli.parser import parser\n"
        "sys.stdout.write(parser().format_help())\n"
        "heavy = {'numpy', 'xarray', 'torch', 'panel', 'zarr', 'dask'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in ("demo", "serve", "build", "import", "embed", "export", "jobs"):
        assert word in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "deepfeatures", "jobs", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "work" not in done.stdout.replace("workspace", "")


def test_a_closed_pipe_is_no_error(ws: Workspace) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "deepfeatures", "list", "--home", str(ws.home)],
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_plain_lines_come_each_tenth() -> None:
    stream = io.StringIO()
    with progress.shown("work", stream=stream) as report:
        for done in range(1, 201):
            report(done, 200)
    lines = stream.getvalue().splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, *range(20, 201, 20)]
    assert lines[-1].startswith("work: 200/200 tiles")
    assert "left" in lines[1]
    assert "left" not in lines[-1]


def test_two_pieces_of_work_under_one_label() -> None:
    stream = io.StringIO()
    with progress.shown("work", stream=stream) as report:
        for total in (2, 3):
            for done in range(1, total + 1):
                report(done, total)
    counts = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert counts == ["1/2", "2/2", "1/3", "2/3", "3/3"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    stream = Terminal()
    with progress.shown("work", stream=stream) as report:
        report(1, 2)
        report(2, 2)
        report(1, 4)
        report(4, 4)
    text = stream.getvalue()
    assert "work: 100%" in text
    assert "4/4" in text
    assert "tile/s" in text


def test_build_takes_a_box_and_conditions_and_names_what_is_lost(
    shared_data: Path, tmp_path: Path, ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    stac = tmp_path / "stac"
    made_stac.make(shared_data, stac, 48, 3)
    first = sorted(path for path in stac.iterdir() if path.is_dir())[0]
    (first / "B11.tif").unlink()
    lon, lat = made_stac.centre(stac)
    box = [str(edge) for edge in (lon - 0.001, lat - 0.001, lon + 0.001, lat + 0.001)]
    common = ["--start", "2018-01-01", "--end", "2018-12-31", "--stac", str(stac), "--workers", "1"]
    text = answered(
        capsys, ws, "build", "box", "--bbox", *box, *common, "--clouds", "scl", "--nbar", "off",
        "--query", "eo:cloud_cover", "lte", "100", "--bands", "B04,B11",
    )  # fmt: skip
    assert "made box: 2 channels, 3 x" in text
    assert "1 files could not be read; their dates are empty there:" in text
    assert f"{first.name} B11:" in text
    sentence = refused(capsys, ws, "build", "both", "--bbox", *box, "--lat", "50", *common)
    assert "in one way: centre (lat, lon, edge size), box, or polygon" in sentence
    sentence = refused(
        capsys,
        ws,
        "build",
        "none",
        "--bbox",
        *box,
        *common,
        "--query",
        "eo:cloud_cover",
        "lt",
        "-1",
    )
    assert "no items fit" in sentence
    sentence = refused(
        capsys, ws, "build", "away", "--bbox", *box, *common, "--root", "s3://elsewhere/cubes"
    )
    assert "s3://elsewhere" in sentence
