"""Fixtures that several rooms share: a workspace, tiny cubes, the real data, a demo."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import hypothesis
import numpy as np
import odc.geo.xr  # noqa: F401 (registers the accessor .odc)
import pytest
import xarray as xr

from deepfeatures.bands import BANDS, attributes
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Laws are checked on busy machines too, so no example has a time limit.
hypothesis.settings.register_profile("laws", deadline=None)
hypothesis.settings.load_profile("laws")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def missing(sentence: str) -> None:
    """Skip with a sentence; on CI, where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real cubes, granule metadata, STAC items and COGs."""
    if not (SHARED / "MANIFEST.sha256").exists():
        missing(f"the real data are not there: put them into {SHARED}")
    return SHARED


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return make_workspace(tmp_path / "home")


def bands_cube(
    *, times: int = 7, height: int = 24, width: int = 20, bands: tuple[str, ...] = (), seed: int = 0
) -> xr.Dataset:
    """Make a small seeded band cube, not square, with clouds, missing values and bright pixels."""
    rng = np.random.default_rng(seed)
    names = list(bands or ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"))
    days = np.cumsum(rng.integers(2, 9, times))
    time = np.datetime64("2021-03-01T10:30", "ns") + days.astype("timedelta64[D]")
    levels = np.linspace(0.04, 0.35, len(names))[None, :, None, None]
    season = 1 + 0.3 * np.sin(days / 20.0)[:, None, None, None]
    noise = rng.normal(0, 0.02, (times, len(names), height, width))
    values = np.round((levels * season + noise).clip(-0.02, 1.3), 4).astype(np.float32)
    valid = (rng.random((times, height, width)) > 0.25).astype(np.uint8)
    gone = rng.random((times, height, width)) > 0.95
    values[np.broadcast_to(gone[:, None], values.shape)] = np.nan
    valid[gone] = 0
    scl = np.where(gone, 0, np.where(valid == 1, 4, 9)).astype(np.uint8)
    flags = {"flag_values": [0, 1], "flag_meanings": "not_usable usable"}
    ds = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), values, attributes("reflectance")),
            "valid": (("time", "y", "x"), valid, attributes("valid") | flags),
            "scl": (("time", "y", "x"), scl, attributes("scl")),
        },
        coords={
            "time": time,
            "band": [name for name in BANDS if name in names],
            "y": 5629000.0 - 10.0 * np.arange(height) - 5.0,
            "x": 501000.0 + 10.0 * np.arange(width) + 5.0,
        },
        attrs={
            "title": "Test cube",
            "source": "seeded random numbers",
            "source_items": "[]",
            "processing": "[]",
            "licence": "CC0-1.0",
            "attribution": "none",
            "simulated": "true",
        },
    )
    return ds.odc.assign_crs("EPSG:32631")


def with_radar(ds: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
    """Add radar of made-up dates to a cube."""
    rng = np.random.default_rng(seed)
    first = ds["time"].values[0].astype("datetime64[D]")
    count = 9
    values = rng.normal(-12, 2, (count, 2, ds.sizes["y"], ds.sizes["x"])).astype(np.float32)
    values[2] = np.nan
    return ds.assign_coords(
        time_s1=(first + np.arange(count) * 6).astype("datetime64[ns]"), polarisation=["VV", "VH"]
    ).assign(backscatter=(("time_s1", "polarisation", "y", "x"), values, attributes("backscatter")))


@pytest.fixture
def tiny_bands() -> xr.Dataset:
    """A small, seeded band cube under the contract (7 dates, 10 bands, 24 x 20 px)."""
    return bands_cube()


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a small simulated landscape and its feature cubes, to read only.

    One for all processes of a run: the first one makes it, the others wait.
    """
    from deepfeatures import cube

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    done = shared / "demo" / "done"
    with filelock.FileLock(shared / "demo.lock"):
        if not done.exists():
            cube.demo(make_workspace(done.parent / "home"), seed=0, size=128, years=1)
            done.touch()
    return done.parent / "home"


@pytest.fixture(scope="module")
def demo_copy(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo that the tests of a module may add to."""
    copy = tmp_path_factory.mktemp("page") / "home"
    shutil.copytree(demo_home, copy)
    return copy


@pytest.fixture(scope="module")
def shots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page go: below DEEPFEATURES_SCREENSHOTS, else a temporary folder."""
    wanted = os.environ.get("DEEPFEATURES_SCREENSHOTS", "")
    stem = request.module.__name__.removeprefix("test_browser").strip("_")
    folder = Path(wanted).resolve() / stem if wanted else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def address(demo_copy: Path, shots: Path) -> Iterator[str]:
    """Address of a running server of `demo_copy`."""
    from browser import served

    with served(demo_copy, shots / "server.log") as found:
        yield found


@pytest.fixture(autouse=True)
def _quiet_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a browser test during which the server logged a fault."""
    if request.node.get_closest_marker("browser") is None:
        yield
        return
    from browser import complaints

    log = request.getfixturevalue("shots") / "server.log"
    begin = log.stat().st_size if log.exists() else 0
    yield
    if log.exists() and (found := complaints(log, begin)):
        pytest.fail("the server logged:\n" + "\n".join(found)[:3000], pytrace=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A running Chromium; it ends with the module, for its loop would disturb other tests."""
    from browser import FLAGS, PATIENCE, executable
    from playwright.sync_api import expect, sync_playwright

    path = executable()
    if path is None:
        missing("Chromium is not there: install Debian's package chromium, or set CHROMIUM")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()
