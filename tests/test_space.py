"""Laws of the samples of a feature cube, its stored planes, and what its features mean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
from conftest import bands_cube

from deepfeatures import catalogue, cube, jobs, kinds, latent, layers, reading, space, store
from deepfeatures.aoi import AOI
from deepfeatures.bands import attributes
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace
from deepfeatures.space import planes


def features_cube(*, seed: int = 0, times: int = 20, cut: int = 0) -> xr.Dataset:
    """Make features of `bands_cube`: NDVI and near infrared, mixed; the first rows may be cut."""
    ds = bands_cube(times=times, height=70, width=80, seed=seed)
    red, infrared = (ds["reflectance"].sel(band=band).values for band in ("B04", "B08"))
    ndvi = (infrared - red) / (infrared + red)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.01, (3, *red.shape))
    values = np.stack([ndvi, infrared + 0.1 * ndvi, -infrared]) + noise
    found = xr.Dataset(
        {
            "features": (
                ("time", "feature", "y", "x"),
                values.swapaxes(0, 1).astype(np.float32)[:, :, cut:],
                attributes("features"),
            ),
            "valid": ds["valid"][:, cut:],
        },
        coords={"time": ds["time"], "feature": ["F01", "F02", "F03"], "x": ds["x"],
                "y": ds["y"].values[cut:], "spatial_ref": ds["spatial_ref"]},
        attrs=ds.attrs | {"source_cube": "bands", "title": "Test features"},
    )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a band cube and features of all but its first five rows."""
    made = make_workspace(tmp_path_factory.mktemp("space") / "home")
    cubes = {"bands": bands_cube(times=20, height=70, width=80), "learned": features_cube(cut=5)}
    for name, ds in cubes.items():
        store.write(ds, catalogue.place(made, name))
        catalogue.add(made, name)
    return made


@pytest.fixture
def own(ws: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it to write in."""
    shutil.copytree(ws.home, tmp_path / "home")
    return make_workspace(tmp_path / "home")


def opened(ws: Workspace, name: str = "learned") -> reading.OpenCube:
    return reading.open(catalogue.url(ws, name), name)


def at(ds: xr.Dataset, positions: np.ndarray) -> np.ndarray:
    t, y, x = positions.T
    return ds["features"].values[t, :, y, x]


@pytest.mark.parametrize("most", [10**9, 30_000])
def test_a_sample_holds_usable_pixel_dates_once_and_their_values(ws: Workspace, most: int) -> None:
    cube, ds = opened(ws), catalogue.open(ws, "learned").load()
    found = space.sample(cube, 5000, most=most)
    t, y, x = found.positions.T
    assert len(np.unique(found.positions, axis=0)) == len(found.positions) == 5000
    assert (ds["valid"].values[t, y, x] == 1).all()
    np.testing.assert_array_equal(space.vectors(cube, found.codes), at(ds, found.positions))
    again = space.sample(cube, 5000, most=most)
    np.testing.assert_array_equal(found.positions, again.positions)


def test_a_sample_of_all_is_all_and_a_small_one_uniform(ws: Workspace) -> None:
    cube, ds = opened(ws), catalogue.open(ws, "learned").load()
    whole = (ds["valid"].values == 1) & np.isfinite(ds["features"].values).all(axis=1)
    found = space.sample(cube, 10**7)
    t, y, x = found.positions.T
    assert len(t) == whole.sum()
    assert whole[t, y, x].all()
    part = space.sample(cube, 20_000)
    share = np.bincount(part.positions[:, 0], minlength=20) / whole.sum(axis=(1, 2))
    assert np.ptp(share) < 0.1
    with pytest.raises(ValueError, match="ask for 1"):
        space.sample(cube, 0)


def test_values_gathered_at_positions_equal_the_store(ws: Workspace) -> None:
    cube, ds = opened(ws, "bands"), catalogue.open(ws, "bands").load()
    rng = np.random.default_rng(1)
    positions = np.stack([rng.integers(0, n, 500) for n in (20, 70, 80)], axis=1)
    found = space.gather(cube, ["B04", "NDVI"], positions)
    t, y, x = positions.T
    red, infrared = (ds["reflectance"].sel(band=b).values[t, y, x] for b in ("B04", "B08"))
    np.testing.assert_allclose(found["B04"], red, rtol=1e-6)
    np.testing.assert_allclose(found["NDVI"], (infrared - red) / (infrared + red), atol=1e-5)
    with pytest.raises(ValueError, match="outside"):
        space.gather(cube, ["B04"], np.array([[0, 70, 0]]))


def corner(cube: reading.OpenCube, rows: int, columns: int) -> AOI:
    """Make an area of the first rows and columns of a cube."""
    box = cube.geobox[:rows, :columns].geographic_extent.buffer(-2e-5).geom
    return AOI("corner", shapely.geometry.shape(box.__geo_interface__))


def test_pixel_dates_inside_an_area_are_those_of_the_store(ws: Workspace) -> None:
    cube, ds = opened(ws), catalogue.open(ws, "learned").load()
    found = space.inside(cube, corner(cube, 8, 9), year="2021", most=10**6)
    part = ds.isel(y=slice(0, 8), x=slice(0, 9))
    whole = (part["valid"].values == 1) & np.isfinite(part["features"].values).all(axis=1)
    np.testing.assert_array_equal(found.positions, np.argwhere(whole))
    np.testing.assert_array_equal(space.vectors(cube, found.codes), at(ds, found.positions))
    some = space.inside(cube, corner(cube, 8, 9), most=200)
    assert 0 < len(some.positions) <= 200
    assert len(space.inside(cube, corner(cube, 8, 9), year="1999").positions) == 0


def test_a_stored_plane_is_the_computed_one(own: Workspace) -> None:
    assert space.stored(own, "learned", "pca") is None
    made = space.plane(own, "learned")
    planes._HELD.clear()
    kept = space.stored(own, "learned", "pca")
    ds = catalogue.open(own, "learned").load()
    wanted = latent.pca(at(ds, made.points.positions), 2)
    for one in (made, kept):
        np.testing.assert_allclose(one.axes.components, wanted.components, atol=1e-6)
        scores = latent.transform(wanted, at(ds, one.points.positions))
        np.testing.assert_allclose(one.scores, scores, atol=1e-5)
    np.testing.assert_array_equal(made.scores, kept.scores)
    np.testing.assert_array_equal(made.points.positions, kept.points.positions)
    assert kept.axes.key == made.axes.key


def test_the_plane_of_another_version_is_not_used(own: Workspace) -> None:
    first = space.plane(own, "learned")
    store.remove(catalogue.place(own, "learned"))
    store.write(features_cube(cut=5, seed=3), catalogue.place(own, "learned"))
    assert space.stored(own, "learned", "pca") is None
    second = space.plane(own, "learned")
    assert second.version != first.version
    assert not np.array_equal(second.axes.mean, first.axes.mean)
    files = list(planes.folder(own, "learned").iterdir())
    assert files == [planes.path(own, "learned", "pca", second.version)]


def test_what_a_killed_writer_leaves_is_no_plane(own: Workspace, monkeypatch) -> None:
    made = space.plane(own, "learned")
    file = planes.path(own, "learned", "pca", made.version)
    content = file.read_bytes()
    file.unlink()
    file.with_name(f"{file.stem}.1.draft").write_bytes(content[:1000])
    planes._HELD.clear()
    assert space.stored(own, "learned", "pca") is None
    space.clear(own, "learned")
    assert list(file.parent.iterdir()) == []
    file.write_bytes(content[:-200])  # a disk that lied
    assert space.stored(own, "learned", "pca") is None

    def full(*_args, **_fields):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        planes.keep(own, "learned", made)
    assert not list(file.parent.glob("*.draft"))
    assert space.plane(own, "learned") is not None  # without a disk it is made in memory


def test_a_removed_cube_takes_its_planes_along(own: Workspace) -> None:
    made = space.plane(own, "learned")
    assert planes.path(own, "learned", "pca", made.version).exists()
    cube.remove(own, "learned")
    assert not planes.folder(own, "learned").exists()
    cube.remove(own, "bands")  # which has none


def test_a_cube_without_features_has_no_plane(ws: Workspace) -> None:
    with pytest.raises(ValueError, match="choose a cube of features"):
        space.plane(ws, "bands")
    with pytest.raises(ValueError, match="no way to a plane"):
        space.plane(ws, "learned", "../x")
    assert space.plane(ws, "learned", "umap") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"colour": 1}, "no setting 'colour'"),
        ({"points": 10**9}, "from 50 to 200000"),
        ({"points": True}, "give a number"),
        ({"epochs": "5"}, "give a number"),
    ],
)
def test_wrong_settings_are_refused(ws: Workspace, words: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        jobs.submit(ws, kind="umap", cube="learned", settings=words)
    with pytest.raises(ValueError, match=r"holds bands"):
        jobs.submit(ws, kind="umap", cube="bands")


def test_correlations_are_those_of_the_store(ws: Workspace) -> None:
    features, bands = opened(ws), opened(ws, "bands")
    found = space.meaning(features, bands)
    t, y, x = found.positions.T
    source, ds = (catalogue.open(ws, name).load() for name in ("bands", "learned"))
    values = source["reflectance"].values[t, :, y + 5, x]
    names = source["band"].values.tolist()
    red, infrared = (values[:, names.index(band)] for band in ("B04", "B08"))
    ndvi = (infrared - red) / (infrared + red)
    known = at(ds, found.positions)
    wanted = [np.corrcoef(known[:, k], ndvi)[0, 1] for k in range(3)]
    np.testing.assert_allclose(found.pearson[:, found.names.index("NDVI")], wanted, atol=1e-4)
    assert wanted[0] > 0.9
    assert (source["valid"].values[t, y + 5, x] == 1).all()
    assert set(found.names) == set(bands.available)
    other = space.meaning(features, bands)
    assert other is found


def test_points_have_the_class_of_their_pixel_in_a_layer(own: Workspace) -> None:
    cube = opened(own)
    rows, columns = cube.grid.height, cube.grid.width
    codes = np.random.default_rng(0).integers(0, 3, (1, rows, columns)).astype(np.uint8)
    made = layers.Layer(
        "learned", cube.version, "Made", "groups", {}, ("class",), codes, cube.times[-1],
        ("wood", "water"),
    )  # fmt: skip
    points = space.sample(cube, 900)
    result = opened(own, layers.save(own, made))
    found = space.layer(cube, result, points)
    wanted = codes[0, points.positions[:, 1], points.positions[:, 2]].astype(float)
    np.testing.assert_array_equal(found, np.where(wanted == 0, np.nan, wanted))


def test_a_umap_is_fitted_in_a_process_of_its_own_and_stored(own: Workspace) -> None:
    command = [sys.executable, "-m", "deepfeatures", "latent", "learned", "--method", "umap",
               "--points", "120", "--json", "--home", str(own.home)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr
    found = space.plane(own, "learned", "umap")
    assert len(found.axes.points) == 120
    cube = opened(own)
    table = space.vectors(cube, found.points.codes)
    np.testing.assert_allclose(latent.place(found.axes, table[:900]), found.scores[:900], atol=1e-4)
    # what is near in the features is near in the plane
    order = np.argsort(found.axes.points[:, 0])
    ends = found.axes.scores[order[:15]], found.axes.scores[order[-15:]]
    apart = np.linalg.norm(ends[0].mean(axis=0) - ends[1].mean(axis=0))
    assert apart > max(np.linalg.norm(end.std(axis=0)) for end in ends)


def test_a_cancelled_umap_leaves_nothing(own: Workspace) -> None:
    job = {"cube": "learned", "settings": {"points": 60}}
    with pytest.raises(InterruptedError):
        kinds.KINDS["umap"].run(own, job, lambda *_: None, lambda: True)
    assert space.stored(own, "learned", "umap") is None
