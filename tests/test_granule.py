"""Granule metadata and products: parity with the reference, laws, limits, real flows."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from s3_server import BUCKET, KEY, SECRET, serving
from scipy.interpolate import RegularGridInterpolator

from deepfeatures import granule, nbar, rasters, safe
from deepfeatures.__main__ import main

GOLDEN = json.loads((Path(__file__).parent / "data_nbar.json").read_text())
TILES = tuple(GOLDEN["granules"])
CORRECTED = tuple(nbar.COEFFICIENTS)
CORNER = 300000.0, 5700000.0


def grid(values: np.ndarray) -> str:
    rows = "".join(f"<VALUES>{' '.join(map(str, row))}</VALUES>" for row in values)
    return (
        f'<COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP>'
        f"<Values_List>{rows}</Values_List>"
    )


def both(zenith: np.ndarray, azimuth: np.ndarray) -> str:
    return f"<Zenith>{grid(zenith)}</Zenith><Azimuth>{grid(azimuth)}</Azimuth>"


def made(
    detectors: dict[int, list[tuple[np.ndarray, np.ndarray]]], *, crs: str = "EPSG:32631"
) -> bytes:
    """Metadata of a granule with the given view grids, by number of band."""
    plane = np.add.outer(np.arange(23), np.arange(23))
    views = "".join(
        f'<Viewing_Incidence_Angles_Grids bandId="{band}" detectorId="{number}">'
        f"{both(*angles)}</Viewing_Incidence_Angles_Grids>"
        for band, grids in detectors.items()
        for number, angles in enumerate(grids, start=1)
    )
    return (
        '<?xml version="1.0"?><n1:Level-2A_Tile_ID xmlns:n1="urn:x">'
        "<n1:General_Info><TILE_ID>S2A_OPER_MSI_L2A_TL_X_A1_T31UDS_N05.09</TILE_ID>"
        "</n1:General_Info><n1:Geometric_Info><Tile_Geocoding>"
        f"<HORIZONTAL_CS_CODE>{crs}</HORIZONTAL_CS_CODE>"
        f'<Geoposition resolution="10"><ULX>{CORNER[0]}</ULX><ULY>{CORNER[1]}</ULY></Geoposition>'
        "</Tile_Geocoding><Tile_Angles>"
        f"<Sun_Angles_Grid>{both(40 + plane / 50, 150 + plane / 20)}</Sun_Angles_Grid>"
        f"{views}</Tile_Angles></n1:Geometric_Info></n1:Level-2A_Tile_ID>"
    ).encode()


def halves() -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """Two detectors for each band: one sees the left half, one a bit more than the right."""
    rng = np.random.default_rng(0)
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for band in range(13):
        zenith, azimuth = rng.uniform(1, 11, (2, 23, 23)), rng.uniform(90, 120, (2, 23, 23))
        zenith[0, :, 12:] = azimuth[0, :, 12:] = np.nan
        zenith[1, :, :10] = azimuth[1, :, :10] = np.nan
        found[band] = list(zip(zenith, azimuth, strict=True))
    return found


@pytest.fixture(scope="module")
def xml() -> bytes:
    return made(halves())


@pytest.fixture(scope="module")
def angles(xml: bytes) -> granule.Angles:
    return granule.parse(xml)


def source(shared_data: Path, tile: str) -> Path:
    """The granule metadata of a tile in the real data."""
    names = {"MTD_TL.xml", "metadata.xml"}
    found = [p for p in (shared_data / "granule_metadata").rglob("*.xml") if p.name in names]
    return next(path for path in found if tile in str(path))


def same(one: granule.Angles, other: granule.Angles) -> None:
    for field in fields(granule.Angles):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("tile", TILES)
def test_the_factor_equals_that_of_sen2nbar(shared_data: Path, tile: str) -> None:
    """Numbers of sen2nbar 2024.6.0, among them five nodes of each band and the filled corners."""
    found = granule.parse(source(shared_data, tile).read_bytes())
    assert "T" + found.tile == tile
    factor = granule.c_grid(found)["c_factor"]
    tolerance = GOLDEN["tolerance"]
    for band, golden in GOLDEN["granules"][tile].items():
        layer = factor.sel(band=band).values
        assert np.isfinite(layer).sum() == golden["finite"]
        rows, columns, values = zip(*golden["nodes"], strict=True)
        np.testing.assert_allclose(layer[rows, columns], values, rtol=tolerance)
        filled = nbar.fill(layer[None])[0]
        assert filled.mean() == pytest.approx(golden["filled_mean"], rel=tolerance)
        corners = filled[[0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, golden["filled_corners"], rtol=tolerance)


def test_detectors_are_merged_where_they_overlap(angles: granule.Angles) -> None:
    detectors = halves()
    assert angles.bands[8:11] == ("B8A", "B09", "B10")
    for number, band in enumerate(angles.bands):
        (left, _), (right, _) = detectors[number]
        seen = angles.view_zenith[angles.bands.index(band)]
        np.testing.assert_allclose(seen[:, :10], left[:, :10])
        np.testing.assert_allclose(seen[:, 12:], right[:, 12:])
        np.testing.assert_allclose(seen[:, 10:12], (left[:, 10:12] + right[:, 10:12]) / 2)
    assert (angles.crs, angles.tile) == ("EPSG:32631", "31UDS")
    assert (angles.x[0], angles.y[0], angles.x[-1]) == (*CORNER, CORNER[0] + 110_000)


def test_nodes_without_angles_stay_empty_on_the_grid() -> None:
    some = halves()
    for band in some:
        some[band] = some[band][:1]
    factor = granule.c_grid(granule.parse(made(some)))["c_factor"]
    assert np.isfinite(factor.values[:, :, :12]).all()
    assert np.isnan(factor.values[:, :, 12:]).all()


def window(row: int = 0, column: int = 0, height: int = 300, width: int = 260) -> GeoBox:
    corner = CORNER[0] + 33_000 + 10 * column, CORNER[1] - 61_000 - 10 * row
    return GeoBox((height, width), Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:32631")


def expected(angles: granule.Angles, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    values = nbar.fill(granule.c_grid(angles)["c_factor"].values)
    nodes = -angles.y, angles.x
    return np.array([RegularGridInterpolator(nodes, layer)((-y, x)) for layer in values])


def test_pixels_lie_between_the_nodes(angles: granule.Angles) -> None:
    box = window()
    x, y = np.meshgrid(
        CORNER[0] + 33_005 + 10 * np.arange(260), CORNER[1] - 61_005 - 10 * np.arange(300)
    )
    found = granule.c_window(angles, box, CORRECTED)
    assert (found.shape, found.dtype) == ((9, 300, 260), np.float32)
    np.testing.assert_allclose(found, expected(angles, x, y), rtol=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 250), st.integers(1, 50), st.integers(0, 210), st.integers(1, 50))
def test_a_window_of_a_grid_gets_its_values(
    angles: granule.Angles, row: int, height: int, column: int, width: int
) -> None:
    whole = granule.c_window(angles, window(), ("B05", "B8A"))
    part = granule.c_window(angles, window(row, column, height, width), ("B05", "B8A"))
    np.testing.assert_array_equal(part, whole[:, row : row + height, column : column + width])
    assert (part[1] == 1).all()


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:3035"])
def test_another_crs_gets_the_values_of_the_same_places(angles: granule.Angles, crs: str) -> None:
    box = window().to_crs(crs, resolution="fit")
    found = granule.c_window(angles, box, CORRECTED)
    columns, rows = np.meshgrid(np.arange(box.shape.x) + 0.5, np.arange(box.shape.y) + 0.5)
    from pyproj import Transformer

    to = Transformer.from_crs(crs, angles.crs, always_xy=True)
    x, y = to.transform(*(box.transform * (columns, rows)))
    np.testing.assert_allclose(found, expected(angles, x, y), rtol=1e-5)


def test_the_edge_of_the_tile_holds_beyond_it(angles: granule.Angles) -> None:
    far = GeoBox((3, 4), Affine(10, 0, CORNER[0] - 900, 0, -10, CORNER[1] + 900), angles.crs)
    corner = nbar.fill(granule.c_grid(angles)["c_factor"].values)[:, 0, 0]
    np.testing.assert_allclose(
        granule.c_window(angles, far, CORRECTED), np.broadcast_to(corner, (4, 3, 9)).T, rtol=1e-6
    )


def test_a_band_without_any_angle_is_named() -> None:
    some = halves()
    del some[4]
    found = granule.parse(made(some))
    assert "B05" not in found.bands
    assert np.isnan(granule.c_grid(found)["c_factor"].sel(band="B05")).all()
    with pytest.raises(ValueError, match="no view angles for B05"):
        granule.c_window(found, window(), ("B04", "B05"))
    assert (granule.c_window(found, window(), ("B8A",)) == 1).all()


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
    b'<n1:Level-2A_Tile_ID xmlns:n1="urn:x">&c;</n1:Level-2A_Tile_ID>'
)
OUTSIDE = b'<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>'


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (BOMB, "declares entities"),
        (OUTSIDE, "declares entities"),
        (b" " * (granule.MAX_BYTES + 1), "more than 8 MB"),
        (b"", "no readable XML"),
        (b"\x1f\x8b\x08 no", "no readable XML"),
        (b"<html/>", "no metadata of a Sentinel-2 granule"),
        (b'<n:Level-2A_Tile_ID xmlns:n="urn:x"/>', "lacks what .*no Geometric_Info"),
        (made({0: []}, crs="EPSG:4326"), "no UTM zone"),
        (made({13: [(np.zeros((23, 23)),) * 2]}), "lacks what"),
        (made({-1: [(np.zeros((23, 23)),) * 2]}), "bandId -1"),
        (made({1: [(np.zeros((23, 22)),) * 2]}), "a grid of 506 values"),
        (made({1: [(np.full((23, 23), "x"),) * 2]}), "lacks what"),
        (made({}).replace(b">5000<", b">2500<"), "steps of 2500 m"),
    ],
)
def test_what_is_no_granule_is_refused_in_one_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        granule.parse(content, "MTD_TL.xml")
    assert "\n" not in str(error.value)
    assert "MTD_TL.xml" in str(error.value)


@settings(max_examples=40)
@given(st.data())
def test_broken_metadata_never_escape_as_another_error(xml: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(xml)))
    broken = xml[:start] + data.draw(st.binary(max_size=8)) + xml[start + 8 :]
    try:
        found = granule.parse(broken)
    except ValueError:
        return
    assert len(found.view_zenith) == len(found.bands)


def test_a_second_look_reads_no_metadata(tmp_path: Path, xml: bytes) -> None:
    href, folder = tmp_path / "MTD_TL.xml", tmp_path / "angles"
    href.write_bytes(xml)
    first = granule.fetch(str(href), "S2A_31UDS", folder)
    same(first, granule.parse(xml))
    same(granule.fetch(href.as_uri(), "another", folder), first)
    href.unlink()
    same(granule.fetch(str(href), "S2A_31UDS", folder), first)
    for folder_or_none in (folder, None):
        with pytest.raises(rasters.Unreadable, match=r"MTD_TL.xml cannot be read"):
            granule.fetch(str(href), "not seen before", folder_or_none)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("key", ["../../up", "/abs", "a/b", "a_b", "x" * 300, "", "é?*"])
def test_keys_of_strangers_stay_in_the_folder(tmp_path: Path, xml: bytes, key: str) -> None:
    href, folder = tmp_path / "MTD_TL.xml", tmp_path / "deep" / "angles"
    href.write_bytes(xml)
    for name in (key, key + "2"):
        granule.fetch(str(href), name, folder)
    assert len(list(folder.glob("*.npz"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MTD_TL.xml", "deep"]


@settings(max_examples=25)
@given(st.data())
def test_a_broken_file_of_angles_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, xml: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("angles")
    href = folder / "MTD_TL.xml"
    href.write_bytes(xml)
    first = granule.fetch(str(href), "key", folder)
    (kept,) = folder.glob("*.npz")
    content = kept.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    kept.write_bytes(content[:cut] + data.draw(st.binary(max_size=20)))
    same(granule.fetch(str(href), "key", folder), first)
    assert not list(folder.glob(".*"))


def test_angles_of_another_layout_or_with_objects_are_made_again(
    tmp_path: Path, xml: bytes
) -> None:
    href = tmp_path / "MTD_TL.xml"
    href.write_bytes(xml)
    first = granule.fetch(str(href), "key", tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    with np.load(kept) as opened:
        content = dict(opened)
    for wrong in (
        {"layout": np.array(0)},
        {"x": np.zeros(5)},
        {"view_zenith": np.array([object()])},
        {"bands": np.array(["B02"])},
    ):
        np.savez(kept, **{**content, **wrong})
        same(granule.fetch(str(href), "key", tmp_path), first)


@pytest.fixture
def server(xml: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that is busy at the first request, and knows a file without end."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            asked.append(self.path)
            if len(asked) == 1 or "missing" in self.path:
                self.send_error(503 if len(asked) == 1 else 404)
                return
            self.send_response(200)
            self.end_headers()
            if "endless" not in self.path:
                self.wfile.write(xml)
                return
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                asked.append("hung up")

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", asked
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_metadata_come_by_http(
    server: tuple[str, list[str]],
    tmp_path: Path,
    angles: granule.Angles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rasters, "PAUSE", 0.0)
    url, asked = server
    same(granule.fetch(f"{url}/MTD_TL.xml?sig=secret", "a", tmp_path), angles)
    same(granule.fetch(f"{url}/MTD_TL.xml?sig=secret", "a", tmp_path), angles)
    assert asked == ["/MTD_TL.xml?sig=secret"] * 2
    with pytest.raises(ValueError, match="more than 8 MB") as large:
        granule.fetch(f"{url}/endless?sig=secret", "b", tmp_path)
    with pytest.raises(rasters.Unreadable, match="missing cannot be read") as missing:
        granule.fetch(f"{url}/missing?sig=secret", "c", tmp_path)
    assert asked.count("/missing?sig=secret") == rasters.ATTEMPTS
    assert "secret" not in f"{large.value} {missing.value}"
    assert len(list(tmp_path.iterdir())) == 1


def test_metadata_come_from_s3(
    tmp_path: Path,
    xml: bytes,
    angles: granule.Angles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rasters, "PAUSE", 0.0)
    with serving() as s3:
        options = {"key": KEY, "secret": SECRET, "endpoint_url": s3.endpoint}
        with fsspec.open(f"s3://{BUCKET}/MTD_TL.xml", "wb", **options) as file:
            file.write(xml)
        same(granule.fetch(f"s3://{BUCKET}/MTD_TL.xml", "a", tmp_path, options), angles)
        with pytest.raises(rasters.Unreadable, match=r"nothing.xml cannot be read"):
            granule.fetch(f"s3://{BUCKET}/nothing.xml", "b", tmp_path, options)


@pytest.mark.parametrize("href", ["ftp://x/y.xml", "memory://x", "simplecache::s3://a/b", "://"])
def test_other_kinds_of_href_are_refused(href: str) -> None:
    with pytest.raises(ValueError, match="is not read; give a path or one of file://"):
        granule.read(href)


def raster(path: Path, corner: tuple[float, float], size: int, crs: str, seed: int) -> np.ndarray:
    """Write a small band as JPEG 2000 without loss, with all values that are special."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 9000, (size + 40, size), dtype=np.uint16)
    values[:9], values[20, :5], values[21, :5] = 0, 65535, 1
    resolution = int(path.stem[-3:-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", width=size, height=size + 40, count=1, dtype="uint16",
        crs=crs, transform=Affine(resolution, 0, corner[0], 0, -resolution, corner[1]),
        QUALITY=100, REVERSIBLE="YES",
    ) as file:  # fmt: skip
        file.write(values, 1)
    return values


BANDS = ("B02_10m", "B08_10m", "B02_20m", "B05_20m", "B8A_20m", "B01_60m", "B09_60m", "B12_60m")


def make_product(
    shared_data: Path, tile: str, folder: Path, size: int = 90
) -> tuple[Path, dict[str, np.ndarray], granule.Angles]:
    """A product with the real metadata of a tile and small rasters at its corner."""
    found = source(shared_data, tile)
    original = found.parents[2]
    path = folder / original.name
    inside = path / "GRANULE" / found.parent.name
    inside.mkdir(parents=True)
    shutil.copyfile(found, inside / "MTD_TL.xml")
    shutil.copyfile(original / "MTD_MSIL2A.xml", path / "MTD_MSIL2A.xml")
    angles = granule.parse(found.read_bytes())
    corner = float(angles.x[0]), float(angles.y[0])
    day = original.name.split("_")[2]
    values = {}
    for seed, name in enumerate((*BANDS, "SCL_20m", "TCI_10m")):
        target = inside / "IMG_DATA" / f"R{name[-3:]}" / f"{tile}_{day}_{name}.jp2"
        values[name] = raster(target, corner, size, angles.crs, seed)
    return path, values, angles


@pytest.mark.parametrize(("tile", "offset"), [("T01KAB", -1000), ("T07HFE", 0)])
def test_a_product_becomes_files_of_nbar(
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tile: str,
    offset: int,
) -> None:
    monkeypatch.setattr(safe, "_TILE", 64)  # so that small rasters have several tiles
    path, values, angles = make_product(shared_data, tile, tmp_path)
    out = tmp_path / "out"
    words = ["nbar", str(path), "--out", str(out), "--home", str(tmp_path / "home"), "--json"]
    assert main(words) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["uncorrected_bands"] == ["B01", "B09", "B8A"]
    assert answer["kept"] == []
    assert len(told.err.splitlines()) > 3
    names = {Path(file).stem[-7:]: Path(file) for file in answer["written"]}
    assert sorted(names) == ["B02_10m", "B02_20m", "B05_20m", "B08_10m", "B12_60m"]
    assert sorted(out.iterdir()) == sorted(names.values())
    for name, file in names.items():
        numbers = values[name].astype(float)
        resolution = int(name[-3:-1])
        with rasterio.open(file) as opened:
            assert opened.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert (opened.scales, opened.nodata) == ((1e-4,), -32768)
            assert opened.tags()["UNCORRECTED_BANDS"] == "B01 B8A B09"
            assert opened.tags()["BOA_ADD_OFFSET"] == str(offset)
            assert str(opened.crs) == angles.crs
            assert opened.transform.a == resolution
            stored = opened.read(1)
            box = GeoBox(opened.shape, opened.transform, angles.crs)
        factor = granule.c_window(angles, box, (name[:3],))[0].astype(float)
        ideal = np.clip((numbers + offset) * factor, -32767, 32767)
        np.testing.assert_array_equal(stored == -32768, numbers == 0)
        there = numbers > 0
        assert np.abs(stored[there] - ideal[there]).max() <= 0.51
        assert (stored[20, :5] == 32767).all()
        assert (stored[there].min() < 0) == (offset < 0)


def test_a_stopped_run_goes_on_and_gives_the_same_files(shared_data: Path, tmp_path: Path) -> None:
    path, _, _ = make_product(shared_data, "T01KAB", tmp_path)
    whole = safe.correct(path, tmp_path / "whole")
    assert len(whole.written) == 5

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        safe.correct(path, out, progress=stop)
    assert len(list(out.iterdir())) == 2  # no half of a file, hidden or not
    (out / whole.written[0].name).write_bytes(b"not a tiff")
    steps: list[tuple[int, int]] = []
    again = safe.correct(path, out, progress=lambda done, total: steps.append((done, total)))
    assert (len(again.written), len(again.kept)) == (4, 1)
    assert steps[-1] == (5, 5)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    for file in whole.written:
        assert (out / file.name).read_bytes() == file.read_bytes()
    times = {file: os.stat(file).st_mtime_ns for file in out.iterdir()}
    assert len(safe.correct(path, out).kept) == 5
    assert {file: os.stat(file).st_mtime_ns for file in out.iterdir()} == times


def test_the_baseline_decides_where_the_product_names_no_offset(
    shared_data: Path, tmp_path: Path
) -> None:
    path, _, _ = make_product(shared_data, "T07HFE", tmp_path, size=8)
    assert set(safe.product(path).offsets.values()) == {0.0}
    text = (path / "MTD_MSIL2A.xml").read_text()
    newer = text.replace("<PROCESSING_BASELINE>02.12<", "<PROCESSING_BASELINE>05.00<")
    (path / "MTD_MSIL2A.xml").write_text(newer)
    found = safe.product(path)
    assert (found.baseline, set(found.offsets.values())) == ("05.00", {-1000.0})
    (path / "MTD_MSIL2A.xml").write_text(text.replace("02.12<", "new<"))
    with pytest.raises(ValueError, match="lacks what the metadata of a product have"):
        safe.product(path)


def test_wrong_folders_are_refused_in_one_sentence(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, _ = make_product(shared_data, "T07HFE", tmp_path, size=8)
    first = next(path.rglob("*_B02_10m.jp2"))
    first.write_bytes(first.read_bytes()[:200])
    empty, bare = tmp_path / "empty", tmp_path / "bare.SAFE"
    empty.mkdir()
    (bare / "GRANULE").mkdir(parents=True)
    shutil.copyfile(path / "MTD_MSIL2A.xml", bare / "MTD_MSIL2A.xml")
    level_1c = source(shared_data, "T46RER").parents[2]
    for given_path, sentence in (
        (level_1c, "is level 1C"),
        (empty, "has no MTD_MSIL2A.xml"),
        (bare, "has 0 granules"),
        (path, "_B02_10m.jp2 cannot be read"),
        (path / "MTD_MSIL2A.xml", "is no metadata of a Sentinel-2 granule"),
        (tmp_path / "nowhere.SAFE", "there is no"),
    ):
        words = ["nbar", str(given_path), "--out", str(tmp_path / "out")]
        assert main([*words, "--home", str(tmp_path / "home")]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert sentence in told.err
        assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("tile", ["T46RER", "T34LBP"])
def test_the_factor_of_a_granule_as_a_file(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tile: str
) -> None:
    out = tmp_path / "new" / "c.nc"
    words = ["nbar", str(source(shared_data, tile)), "--out", str(out)]
    assert main([*words, "--home", str(tmp_path / "home"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out)}
    expected = granule.c_grid(granule.parse(source(shared_data, tile).read_bytes()))
    with xr.open_dataset(out) as found:
        factor = found["c_factor"]
        assert factor.dims == ("band", "y", "x")
        assert factor.shape == (9, 23, 23)
        np.testing.assert_array_equal(factor, expected["c_factor"])
        assert 0 < np.isfinite(factor).sum() < factor.size
        assert found.attrs["crs"] == expected.attrs["crs"]
        assert found.attrs["uncorrected_bands"] == "B01 B8A B09"
        assert (np.diff(found["x"]) == 5000).all()
        assert (np.diff(found["y"]) == -5000).all()
    assert [path.name for path in out.parent.iterdir()] == ["c.nc"]


def test_a_broken_granule_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "MTD_TL.xml").write_bytes(BOMB)
    with pytest.raises(ValueError, match="declares entities"):
        granule.write(str(tmp_path / "MTD_TL.xml"), tmp_path / "c.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["MTD_TL.xml"]
