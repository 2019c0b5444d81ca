"""The recipes, on the simulated landscape: whole, killed and resumed, areas, refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_store import tree

from deepfeatures import cards, catalogue, clouds, contract, cube, export
from deepfeatures.aoi import from_geojson
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

DEMO = """
import sys
from deepfeatures import cube
from deepfeatures.settings import workspace
cube.demo(workspace(sys.argv[1]), seed=3, size=136, years=1)
"""


def start_demo(home) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", DEMO, str(home)])


@pytest.mark.long
def test_a_demo_killed_while_writing_resumes_to_the_same_bytes(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start_demo(undisturbed).wait(300) == 0
    journal = killed / "cubes" / "demo.zarr.journal"
    process = start_demo(killed)
    deadline = time.monotonic() + 300
    while not (journal / "0-0").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the demo ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (journal / "0-0").exists()
    assert not (journal / "128-128").exists(), "it was killed after the work was done"
    assert catalogue.names(make_workspace(killed)) == []
    assert start_demo(killed).wait(300) == 0
    assert catalogue.names(make_workspace(killed)) == ["demo", "demo-features"]
    assert tree(killed / "cubes") == tree(undisturbed / "cubes")
    assert (killed / "catalog.yaml").read_text() == (undisturbed / "catalog.yaml").read_text()


def test_the_demo_keeps_the_contract_and_says_that_it_is_simulated(demo_home):
    ws = Workspace(demo_home)
    for name in ("demo", "demo-features"):
        ds = contract.check(catalogue.open(ws, name))
        assert ds.attrs["simulated"] == "true"
        assert "imulated" in ds.attrs["title"]
    assert catalogue.open(ws, "demo-features").attrs["source_cube"] == "demo"


def square_in(ds, share: float = 0.4) -> dict:
    """A square around the middle of a cube, as GeoJSON."""
    box = contract.geobox(ds).geographic_extent.boundingbox
    x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    dx, dy = (box.right - box.left) * share / 2, (box.top - box.bottom) * share / 2
    ring = [
        [x - dx, y - dy],
        [x + dx, y - dy],
        [x + dx, y + dy],
        [x - dx, y + dy],
        [x - dx, y - dy],
    ]
    return {"type": "Polygon", "coordinates": [ring]}


def test_an_area_is_cut_from_the_whole(demo_home, tmp_path):
    ws = Workspace(demo_home)
    ds = catalogue.open(ws, "demo")
    days = np.datetime_as_string(ds["time"].values, unit="D")
    aoi = from_geojson(square_in(ds), name="middle", start=days[4], end=days[-5])
    name = cube.embed(ws, "demo", aoi=aoi, model="pca", out="middle-pca")
    whole_name = cube.embed(ws, "demo", model="pca", out="whole-pca")
    try:
        part, whole = catalogue.open(ws, name), catalogue.open(ws, whole_name)
        assert part.sizes["time"] == ds.sizes["time"] - 8
        same = whole["features"].sel(time=part["time"], y=part["y"], x=part["x"])
        inside = part["valid"].values.astype(bool)
        assert 0 < inside.mean() < 1
        got = np.moveaxis(part["features"].values, 1, -1)[inside]
        expected = np.moveaxis(same.values, 1, -1)[inside]
        np.testing.assert_allclose(got, expected, atol=1e-6)
    finally:
        cube.remove(ws, name)
        cube.remove(ws, whole_name)


def test_indices_can_be_stored(demo_home):
    ws = Workspace(demo_home)
    name = cube.materialise(ws, "demo", ["NDVI", "NDMI"], out="stored-indices")
    try:
        si = contract.check(catalogue.open(ws, name))
        r = catalogue.open(ws, "demo")["reflectance"].isel(time=5)
        red, nir = (r.sel(band=band).values for band in ("B04", "B08"))
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(nir + red != 0, (nir - red) / (nir + red), np.nan)
        got = si["si"].isel(time=5).sel(index="NDVI").values
        # stored in int16: half a step of limits a little beyond -1..1
        np.testing.assert_allclose(got, expected, atol=2e-5)
    finally:
        cube.remove(ws, name)


def test_two_writers_of_one_name_are_told_apart(demo_home):
    ws = Workspace(demo_home)
    with (
        cube._writing(ws, "busy"),
        pytest.raises(ValueError, match="another process"),
        cube._writing(ws, "busy"),
    ):
        pass


def test_a_name_is_never_overwritten(demo_home):
    with pytest.raises(ValueError, match="another cube"):
        cube.embed(Workspace(demo_home), "demo", model="pca", out="demo-features")


def test_unknown_models_and_cubes_are_named(demo_home):
    ws = Workspace(demo_home)
    with pytest.raises(KeyError, match="there is no model 'none'"):
        cube.embed(ws, "demo", model="none")
    with pytest.raises(KeyError, match="there is no cube 'none'"):
        cube.embed(ws, "none")


def test_the_real_cube_goes_all_the_way(shared_data, workspace):
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    cube.import_file(workspace, "be", path, clouds="temporal")
    ds = contract.check(catalogue.open(workspace, "be"))
    assert ds.sizes["time"] == 118
    assert {"backscatter", "elevation", "temperature_mean"} <= set(ds.data_vars)
    cloud = ds["valid"].sel(time="2018-09-23").values
    assert (cloud != 1).mean() >= 0.9, "cloud that the scene classification takes for snow"
    assert (ds["valid"].sel(time="2018-06-28").values == 1).mean() > 0.95
    assert "shadows that show in time" in ds.attrs["processing"]
    for model in ("pca", cards.DEFAULT):
        name = cube.embed(workspace, "be", model=model)
        features = contract.check(catalogue.open(workspace, name))
        assert features.sizes["time"] == 118
        usable = features["valid"].values.astype(bool)
        values = np.moveaxis(features["features"].values, 1, -1)
        assert np.isfinite(values[usable]).all()
        assert np.isnan(values[~usable]).all()
        assert usable.mean() > 0.4


def test_the_classes_alone_can_be_asked_for_and_exports_come_back_as_they_were(
    shared_data, workspace, tmp_path
):
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    cube.import_file(workspace, "plain", path, clouds="scl")
    plain = catalogue.open(workspace, "plain")
    codes = clouds.from_scl(plain["scl"].values)
    assert np.array_equal(plain["valid"], codes)
    cube.import_file(workspace, "masked", path, clouds="temporal")
    masked = catalogue.open(workspace, "masked")
    assert (masked["valid"].values == 8).any()
    file = export.write(export.select(masked), tmp_path / "masked.nc", "netcdf")
    cube.import_file(workspace, "again", file)
    assert np.array_equal(catalogue.open(workspace, "again")["valid"], masked["valid"])
