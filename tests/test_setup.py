"""The set-up files agree with each other: Makefile, lock file, Dockerfile, CI, catalogue."""

from __future__ import annotations

import re
import shutil
import tomllib

import intake
import numpy as np
from conftest import ROOT


def text(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_lock_file_pins_each_dependency():
    project = tomllib.loads(text("pyproject.toml"))
    lock = dict(
        line.lower().replace("_", "-").split("==")
        for line in text("requirements.lock").splitlines()
        if "==" in line
    )
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = [re.split(r"[<>=!~ \[]", item)[0].lower().replace(".", "-") for item in wanted]
    pinned = {name.replace(".", "-") for name in lock}
    assert [name for name in names if name not in pinned and name != "torch"] == []
    torch = next(item for item in wanted if item.startswith("torch"))
    assert torch == f"torch=={re.search('TORCH_VERSION = (.*)', text('Makefile'))[1]}"
    assert "torch" not in lock, "torch is installed apart, as its build is a choice"


def test_the_container_takes_the_same_steps_as_the_makefile():
    docker, make = text("Dockerfile"), text("Makefile")
    assert "make env" in docker, "the same lock file by the same rule"
    assert "requirements.lock" in docker
    serve = re.search(r"^serve: env\n((?:\t.*\n)+)", make, re.M)[1]
    for command in re.findall(r"-m deepfeatures (\w+)", serve):
        assert f"-m deepfeatures {command}" in docker
    assert "/healthz" in docker
    user = docker.index("\nUSER deepfeatures")
    assert user < docker.index("\nCMD"), "runs as a user without rights"
    assert "\nUSER root" not in docker
    assert re.search(r"^FROM python:3\.\d+-slim$", docker, re.M)


def test_the_default_port_is_said_once():
    from deepfeatures import settings

    assert f"PORT ?= {settings.PORT}" in text("Makefile")
    assert f"PORT={settings.PORT}" in text("Dockerfile")
    assert f":{settings.PORT}" in text("README.md")


def test_ci_runs_what_a_developer_runs():
    assert text(".ci/run").rstrip().endswith("make test")


def test_the_catalogue_of_the_repository_opens_the_demo(demo_home, tmp_path):
    shutil.copy(ROOT / "catalog.yaml", tmp_path)
    (tmp_path / "workspace").symlink_to(demo_home)
    catalog = intake.open_catalog(str(tmp_path / "catalog.yaml"))
    assert sorted(catalog) == ["demo", "demo-features", "demo.si"]
    bands, features = catalog["demo"].read(), catalog["demo-features"].read()
    assert bands.sizes["time"] == features.sizes["time"]
    assert bands["reflectance"].dims == ("time", "band", "y", "x")
    assert features["features"].dims == ("time", "feature", "y", "x")
    indices = catalog["demo.si"].read()["si"]
    assert indices.dims == ("time", "index", "y", "x")
    assert np.isfinite(indices.sel(index="NDVI").isel(time=5, y=slice(0, 8)).values).any()
