"""Models on the command line: train, resume, fuse, judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import bands_cube, with_radar

from deepfeatures import catalogue, simulate, store
from deepfeatures.__main__ import main
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace
from deepfeatures.tiles import Tile

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a small cube with radar, one without, and a simulated one."""
    found = make_workspace(tmp_path_factory.mktemp("models") / "home")
    landscape = simulate.plan(seed=3, size=64, years=1)
    cubes = {
        "radar": with_radar(bands_cube(times=12)),
        "plain": bands_cube(times=9, seed=1),
        "land": simulate.render(landscape, Tile(0, 64, 0, 64, 0, 64, 0, 64)),
    }
    for name, ds in cubes.items():
        store.write(ds, catalogue.place(found, name))
        catalogue.add(found, name)
    return found


def said(capsys: Capture, ws: Workspace, *words: str) -> str:
    assert main([*words, "--home", str(ws.home)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: Capture, ws: Workspace, *words: str) -> str:
    assert main([*words, "--home", str(ws.home)]) == 1
    return capsys.readouterr().err


TRAIN = ("train", "embedding", "--steps", "2", "--preset", "small")


def test_a_fusion_from_the_command_line(ws: Workspace, capsys: Capture) -> None:
    said(capsys, ws, *TRAIN, "--cubes", "radar,plain", "--features", "6", "--out", "s2")
    said(capsys, ws, *TRAIN, "--sensor", "s1", "--features", "2", "--cubes", "radar", "--out", "s1")
    fuse = (*TRAIN, "--kind", "fusion", "--encoders", "s2,s1", "--cubes", "radar", "--out", "both")
    text = said(capsys, ws, *fuse)
    assert "made the model both" in text
    card = json.loads(said(capsys, ws, "model", "info", "both", "--json"))
    assert len(card["features"]) == 7
    assert set(card["encoders"]) == {"s2", "s1"}
    run = ws.models / "runs" / "both"
    assert {path.name for path in run.iterdir()} >= {"config.json", "history.csv", "curve.png"}
    short = said(capsys, ws, "model", "info", "both")
    assert "licence: MIT" in short
    assert "'loss'" not in short  # the history is for the curve
    for name in ("radar", "plain"):  # one without radar is embedded as well
        said(capsys, ws, "embed", name, "--model", "both", "--out", f"{name}-both")
        assert catalogue.info(ws, f"{name}-both")["dims"]["feature"] == 7


def test_another_code_of_a_series_from_the_command_line(ws: Workspace, capsys: Capture) -> None:
    said(capsys, ws, *TRAIN, "--cubes", "plain", "--out", "six")
    three = (*TRAIN, "--cubes", "plain", "--series", "six", "--features", "3", "--out", "three")
    said(capsys, ws, *three)
    card = json.loads(said(capsys, ws, "model", "info", "three", "--json"))
    assert len(card["features"]) == 3
    assert list(card["training"]["recipe"]["series"]) == ["six"]
    assert "'none'" in refused(capsys, ws, *TRAIN, "--series", "none", "--out", "four")


def test_the_same_name_is_not_trained_otherwise(ws: Workspace, capsys: Capture) -> None:
    words = (*TRAIN, "--cubes", "plain", "--out", "again")
    said(capsys, ws, *words)
    said(capsys, ws, *words)  # finished: nothing to do
    assert "recipe.seed = 0, not 1" in refused(capsys, ws, *words, "--seed", "1")


def test_indices_go_in(ws: Workspace, capsys: Capture) -> None:
    words = ("--channels", "B03,B04,B08", "--indices", "snow", "--cubes", "plain", "--out", "si")
    said(capsys, ws, *TRAIN, *words, "--loss", "ssim=0.5")
    card = json.loads(said(capsys, ws, "model", "info", "si", "--json"))
    assert card["channels"][:3] == ["B03", "B04", "B08"]
    assert "NDSI" in card["channels"]
    assert card["training"]["recipe"]["losses"]["ssim"] == 0.5


def test_what_can_not_be_trained_or_judged(ws: Workspace, capsys: Capture) -> None:
    assert "no set of indices" in refused(capsys, ws, *TRAIN, "--indices", "moon")
    wrong = refused(capsys, ws, *TRAIN, "--sensor", "s1", "--cubes", "plain")
    assert "'plain' is no cube of bands with Sentinel-1" in wrong
    assert "needs two encoders" in refused(capsys, ws, *TRAIN, "--kind", "fusion")
    assert "too narrow" in refused(
        capsys,
        ws,
        "evaluate",
        "embedding",
        "--models",
        "pca",
        "--train",
        "plain",
        "--test",
        "plain",
    )


@pytest.mark.long
def test_models_are_judged_beside_the_simple_things(
    ws: Workspace, capsys: Capture, tmp_path: Path
) -> None:
    out = tmp_path / "quality"
    words = ("--train", "land", "--test", "land", "--models", "pca", "--out", str(out))
    text = said(capsys, ws, "evaluate", "embedding", *words)
    assert {path.name for path in out.iterdir()} == {"quality.csv", "quality.json", "quality.png"}
    for word in ("withheld", "linear interpolation", "haze", "leaf area", "PCA 6", "six indices"):
        assert word in text
    rows = json.loads((out / "quality.json").read_text())["rows"]
    assert {row["place"] for row in rows} == {"land east"}
