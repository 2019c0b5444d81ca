"""The catalogue: intake reads it, updates are atomic, foreign entries are refused."""

from __future__ import annotations

import multiprocessing

import intake
import numpy as np
import pytest
import yaml
from conftest import bands_cube

from deepfeatures import catalogue, store
from deepfeatures.settings import Workspace


def put(ws: Workspace, name: str) -> None:
    store.write(bands_cube(times=3), catalogue.place(ws, name))
    catalogue.add(ws, name)


def test_intake_reads_what_was_added(workspace):
    put(workspace, "one")
    put(workspace, "two-2")
    catalog = intake.open_catalog(str(workspace.catalog))
    assert list(catalog) == ["one", "one.si", "two-2", "two-2.si"]
    ds = catalog["two-2"].read()
    assert ds["reflectance"].chunks is not None
    ours = catalogue.open(workspace, "two-2")
    np.testing.assert_allclose(ds["reflectance"], ours["reflectance"], atol=1e-6)
    assert catalog["one"].read().sizes == ours.sizes


def test_a_cube_is_described(workspace):
    put(workspace, "one")
    found = catalogue.info(workspace, "one")
    assert found["kind"] == "bands"
    assert found["simulated"] is True
    assert found["crs"] == "EPSG:32631"
    west, south, east, north = found["bounds"]
    assert 3.0 < west < east < 3.02
    assert 50.8 < south < north < 50.82
    assert len(found["times"]) == 3


def test_an_incomplete_store_is_not_listed(workspace):
    store.Writer.create(catalogue.place(workspace, "half"), bands_cube())
    with pytest.raises(FileNotFoundError, match="never completed"):
        catalogue.add(workspace, "half")
    assert catalogue.names(workspace) == []


def test_removing_takes_store_and_entry(workspace):
    put(workspace, "one")
    catalogue.remove(workspace, "one")
    assert catalogue.names(workspace) == []
    assert list(workspace.cubes.iterdir()) == []
    with pytest.raises(KeyError, match="no cube 'one'"):
        catalogue.remove(workspace, "one")


def _add(home, name: str) -> None:
    catalogue.add(Workspace(home), name)


@pytest.mark.long
def test_concurrent_updates_lose_nothing(workspace):
    names = [f"c{i}" for i in range(6)]
    for name in names:
        store.write(bands_cube(times=1), catalogue.place(workspace, name))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(workspace.home, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(catalogue.names(workspace)) == names


@pytest.mark.parametrize("change", ["url", "reader", "datatype", "options"])
def test_entries_that_are_not_ours_are_refused(workspace, change):
    put(workspace, "one")
    content = yaml.safe_load(workspace.catalog.read_text())
    if change == "url":
        content["data"]["one.zarr"]["kwargs"]["url"] = "{CATALOG_DIR}/../other.zarr"
    elif change == "reader":
        content["entries"]["one"]["reader"] = "os:system"
    elif change == "options":
        content["data"]["one.zarr"]["kwargs"]["storage_options"] = {"key": "k"}
    else:
        content["data"]["one.zarr"]["datatype"] = "intake.readers.datatypes:Python"
    workspace.catalog.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="not allowed|outside the workspace"):
        catalogue.url(workspace, "one")


@pytest.mark.parametrize(
    "root",
    [
        "s3://bucket/other",
        "s3://bucket/ours-not",
        "s3://bucket/ours/../other",
        "s3://bucket/ours/./x",
        "s3://key:secret@bucket/ours",
        "s3://bucket/ours?endpoint_url=http://here",
        "simplecache::s3://bucket/ours",
        "https://bucket/ours",
        "file:///tmp",
        "/tmp",
        "memory://bucket/ours",
    ],
)
def test_places_that_nobody_listed_are_refused(workspace, monkeypatch, root):
    monkeypatch.setenv("DEEPFEATURES_ROOTS", "s3://bucket/ours https://bucket/ours /tmp")
    assert catalogue.place(workspace, "a", "s3://bucket/ours/") == "s3://bucket/ours/a.zarr"
    with pytest.raises(ValueError, match="s3://bucket/prefix|DEEPFEATURES_ROOTS"):
        catalogue.place(workspace, "a", root)
    with pytest.raises(ValueError, match="s3://bucket/prefix|DEEPFEATURES_ROOTS"):
        catalogue.add(workspace, "a", f"{root}/a.zarr")


def test_an_entry_at_a_place_that_nobody_listed_is_refused(workspace):
    put(workspace, "one")
    content = yaml.safe_load(workspace.catalog.read_text())
    content["data"]["one.zarr"]["kwargs"]["url"] = "s3://bucket/ours/one.zarr"
    workspace.catalog.write_text(yaml.safe_dump(content))
    for call in (catalogue.url, catalogue.open, catalogue.info, catalogue.remove):
        with pytest.raises(ValueError, match="DEEPFEATURES_ROOTS"):
            call(workspace, "one")
