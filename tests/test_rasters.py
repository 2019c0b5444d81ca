"""One raster on a grid: windows of the whole, no value, what cannot be read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from scipy.ndimage import map_coordinates

from deepfeatures import rasters

UTM = "EPSG:32631"
WEST, NORTH = 500_000.0, 5_630_000.0
GRID = GeoBox.from_bbox((WEST, NORTH - 640, WEST + 640, NORTH), crs=UTM, shape=(64, 64))


def _write(path: Path, values: np.ndarray, transform, crs, **options) -> str:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        tiled=True,
        blockxsize=64,
        blockysize=64,
        **options,
    ) as file:
        file.write(values, 1)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Seeded rasters over the grid: its own pixels, 20 m, the next zone, degrees."""
    folder = tmp_path_factory.mktemp("rasters")
    rng = np.random.default_rng(1)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1, (200, 200)), 0), 1).astype(np.float32)
    codes = rng.integers(0, 5, (200, 200)).astype(np.uint16)
    west, north = 2.99, 50.83
    degree = from_origin(west, north, 0.0002, 0.00012)
    next_zone = GRID.extent.to_crs("EPSG:32632").boundingbox
    return {
        "aligned": _write(
            folder / "a.tif", codes, from_origin(WEST - 200, NORTH + 300, 10, 10), UTM, nodata=0
        ),
        "coarse": _write(
            folder / "c.tif", codes, from_origin(WEST - 200, NORTH + 300, 20, 20), UTM, nodata=0
        ),
        "zone": _write(
            folder / "z.tif",
            smooth,
            from_origin(next_zone.left - 500, next_zone.top + 500, 10, 10),
            "EPSG:32632",
        ),
        "degree": _write(folder / "d.tif", smooth, degree, "EPSG:4326"),
        "codes": _write(folder / "w.tif", codes, degree, "EPSG:4326", nodata=0),
    }


_starts = st.integers(0, 40)
_sizes = st.integers(1, 24)


@pytest.mark.parametrize(
    ("name", "how", "tolerance"),
    [
        ("aligned", "nearest", 0),
        ("coarse", "nearest", 0),
        ("codes", "nearest", 0),
        ("zone", "bilinear", 1e-3),
        ("degree", "bilinear", 1e-3),
    ],
)
def test_a_window_is_a_part_of_the_whole(files, name, how, tolerance):
    whole = rasters.read(files[name], GRID, resampling=how, nodata=0)
    assert np.unique(whole).size > 3

    @settings(max_examples=15)
    @given(top=_starts, left=_starts, height=_sizes, width=_sizes)
    def law(top, left, height, width):
        window = GRID[top : top + height, left : left + width]
        part = rasters.read(files[name], window, resampling=how, nodata=0)
        expected = whole[top : top + height, left : left + width]
        spread = float(np.ptp(whole.astype(float))) or 1.0
        assert np.abs(part.astype(float) - expected).max() <= tolerance * spread

    law()


def test_cutting_is_what_warping_gives(files):
    moved = GeoBox.from_bbox(
        (WEST - 400, NORTH - 2000, WEST + 2000, NORTH + 500), crs=UTM, shape=(250, 240)
    )
    for name in ("aligned", "coarse"):
        cut = rasters.read(files[name], moved)
        with (
            rasterio.open(files[name]) as file,
            rasterio.vrt.WarpedVRT(
                file, crs=UTM, transform=moved.transform, width=240, height=250, nodata=0
            ) as warped,
        ):
            assert np.array_equal(cut, warped.read(1))
        assert (cut == 0).any()
        assert (cut != 0).any()


def test_bilinear_reads_a_plane_as_it_is(tmp_path):
    rows, columns = np.mgrid[0:80, 0:80].astype(np.float32)
    plane = 3 + 0.5 * columns - 0.25 * rows
    path = _write(tmp_path / "p.tif", plane, from_origin(WEST - 25, NORTH + 25, 10, 10), UTM)
    read = rasters.read(path, GRID, resampling="bilinear", nodata=-9999)
    y, x = np.mgrid[0:64, 0:64]
    assert np.allclose(read, 3 + 0.5 * (x + 2.5) - 0.25 * (y + 2.5), rtol=0, atol=1e-4)
    assert np.allclose(read, map_coordinates(plane, (y + 2.5, x + 2.5), order=1), atol=1e-4)


def test_no_value_is_the_one_that_was_asked_for(tmp_path):
    values = np.full((40, 40), 7, np.float32)
    values[10:20, 10:20] = -32768
    path = _write(tmp_path / "n.tif", values, from_origin(WEST, NORTH, 10, 10), UTM, nodata=-32768)
    for how in ("nearest", "bilinear"):
        read = rasters.read(path, GRID, resampling=how, nodata=np.nan)
        assert np.isnan(read[12:18, 12:18]).all()
        assert np.isnan(read[40:]).all()
        assert set(np.unique(read[np.isfinite(read)])) == {7.0}


def test_a_grid_beside_the_file_has_no_value(files):
    beside = GeoBox.from_bbox(
        (WEST + 50_000, NORTH, WEST + 50_640, NORTH + 640), crs=UTM, shape=(64, 64)
    )
    for name in ("aligned", "degree"):
        assert not rasters.read(files[name], beside, resampling="bilinear", nodata=0).any()
    assert not rasters.read(files["aligned"], beside).any()


def test_the_type_is_that_of_the_file_or_the_one_asked_for(files):
    assert rasters.read(files["aligned"], GRID).dtype == np.uint16
    assert rasters.read(files["aligned"], GRID, dtype="float32").dtype == np.float32


@pytest.mark.parametrize("count", [0, 9])
def test_a_file_without_projection_is_not_readable(tmp_path, count):
    points = [
        GroundControlPoint(row=row, col=column, x=WEST + 10 * column, y=NORTH - 10 * row)
        for row in (0, 32, 64)
        for column in (0, 32, 64)
    ]
    path = tmp_path / "g.tif"
    options = {"height": 64, "width": 64, "count": 1, "dtype": "uint16"}
    place = {"gcps": points, "crs": UTM} if count else {"transform": GRID.transform}
    with rasterio.open(path, "w", driver="GTiff", **options, **place) as file:
        file.write(np.full((64, 64), 7, np.uint16), 1)
    with pytest.raises(rasters.Unreadable, match="g.tif"):
        rasters.read(str(path), GRID, resampling="bilinear")


def test_what_cannot_be_read_is_named(tmp_path, files):
    missing = str(tmp_path / "missing.tif")
    with pytest.raises(rasters.Unreadable, match="missing.tif cannot be read") as caught:
        rasters.read(missing, GRID)
    assert caught.value.href == missing
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.href, again.reason, str(again)) == (
        missing,
        caught.value.reason,
        str(caught.value),
    )
    broken = tmp_path / "broken.tif"
    broken.write_bytes(Path(files["degree"]).read_bytes()[:3000])
    with pytest.raises(rasters.Unreadable, match="broken.tif"):
        rasters.read(str(broken), GRID, resampling="bilinear")


def test_a_server_that_stumbles_is_asked_again(monkeypatch):
    monkeypatch.setattr(rasters, "PAUSE", 0.001)
    calls = []

    def stumbling() -> str:
        calls.append(1)
        if len(calls) < rasters.ATTEMPTS:
            raise OSError("503 slow down")
        return "here"

    assert rasters.retried(stumbling, "https://host/file.tif") == "here"
    assert len(calls) == rasters.ATTEMPTS

    def down() -> str:
        calls.append(1)
        raise OSError("503 slow down\nsecond line")

    calls.clear()
    with pytest.raises(rasters.Unreadable, match="503 slow down") as caught:
        rasters.retried(down, "https://host/file.tif")
    assert len(calls) == rasters.ATTEMPTS
    assert caught.value.reason == "503 slow down"
    calls.clear()
    with pytest.raises(rasters.Unreadable):
        rasters.retried(down, "/a/local/file.tif")
    assert len(calls) == 1
