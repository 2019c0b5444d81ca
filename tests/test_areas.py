"""Uploaded files become areas or one sentence; kept areas belong to whoever keeps them."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from app.state import State
from app.views import area, queue
from deepfeatures import areas, vectors
from deepfeatures.aoi import AOI
from deepfeatures.settings import Workspace

ONE = shapely.box(3.0, 50.79, 3.01, 50.8)
TWO = shapely.MultiPolygon(
    [shapely.box(3.02, 50.79, 3.03, 50.8), shapely.box(3.04, 50.7, 3.05, 51)]
)


def written(path: Path, driver: str, shapes: list[shapely.Geometry], crs: int = 4326) -> bytes:
    """Write areas with GDAL, and give the file."""
    turn = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform
    turned = [shapely.transform(one, turn, interleaved=False) for one in shapes]
    pyogrio.raw.write(
        path, np.array(shapely.to_wkb(turned)),
        [np.array([f"field {number}" for number in range(len(shapes))], dtype=object)],
        fields=["name"], driver=driver, geometry_type="MultiPolygon",
        promote_to_multi=True, crs=f"EPSG:{crs}",
    )  # fmt: skip
    return path.read_bytes()


def zipped(files: dict[str, bytes], link: str = "") -> bytes:
    """Pack files; `link` is marked as a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFLNK if name == link else stat.S_IFREG) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def shapefile(folder: Path, shapes: list[shapely.Geometry], crs: int = 32631) -> bytes:
    written(folder / "s.shp", "ESRI Shapefile", shapes, crs)
    return zipped({f"data/{path.name}": path.read_bytes() for path in folder.glob("s.*")})


def kml(folder: Path) -> bytes:
    return written(folder / "a.kml", "LIBKML", [ONE, TWO])


FORMATS: dict[str, Callable[[Path], bytes]] = {
    "a.geojson": lambda folder: written(folder / "a.geojson", "GeoJSON", [ONE, TWO]),
    "a.kml": kml,
    "a.kmz": lambda folder: zipped({"doc.kml": kml(folder), "files/icon.png": b"no picture"}),
    "a.zip": lambda folder: shapefile(folder, [ONE, TWO]),
    "A.GPKG": lambda folder: written(folder / "a.gpkg", "GPKG", [ONE, TWO], 32631),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_its_areas_in_longitude_and_latitude(tmp_path: Path, name: str) -> None:
    found = vectors.read(FORMATS[name](tmp_path), name)
    assert [one["properties"]["name"] for one in found] == ["field 0", "field 1"]
    for one, wanted in zip(found, (ONE, TWO), strict=True):
        shape = shapely.geometry.shape(one["geometry"])
        assert shape.symmetric_difference(wanted).area < 1e-6 * wanted.area
    json.dumps(found, allow_nan=False)


GEOJSON = json.dumps(shapely.geometry.mapping(ONE)).encode()
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<kml xmlns="http://www.opengis.net/kml/2.2"><Placemark><name>&b;</name></Placemark></kml>'
)
OUTSIDE = LAUGHS.replace(b'"ha"', b'SYSTEM "file:///etc/passwd"')
VRT = b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/etc/x</SrcDataSource>'
BOMB = zipped({"a.shp": b"\0" * 60_000_000})
CORNERS = [[3 + n / 1e7, 50 + (n % 2) / 1e7] for n in range(100_001)]
MANY = json.dumps({"type": "Polygon", "coordinates": [[*CORNERS, CORNERS[0]]]}).encode()
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "foreign format": ("a.vrt", VRT, "can not be read; upload GeoJSON"),
    "no name": ("", GEOJSON, "can not be read; upload GeoJSON"),
    "empty": ("a.gpkg", b"", "is empty"),
    "too large": ("a.geojson", b" " * 6_000_001, "6.0 MB is too large"),
    "VRT called KML": ("a.kml", VRT, "no KML, whatever its name says"),
    "VRT called GeoPackage": ("a.gpkg", VRT, "no GeoPackage, whatever its name says"),
    "VRT called JSON": ("a.json", VRT, "is not GeoJSON"),
    "JSON of another kind": ("a.json", b'{"type": "Topology", "objects": {}}', "no GeoJSON area"),
    "text called shapefile": ("a.zip", zipped({"a.shp": b"hello"}), "no shapefile, whatever"),
    "bomb": ("a.zip", BOMB, "unpacks to more than 50 MB"),
    "bomb called KMZ": ("a.kmz", zipped({"d.kml": b" " * 60_000_000}), "unpacks to more than"),
    "traversal": ("a.zip", zipped({"../a.shp": b"x"}), "leads out of it"),
    "absolute path": ("a.zip", zipped({"/etc/a.shp": b"x"}), "leads out of it"),
    "drive": ("a.zip", zipped({"C:\\a.shp": b"x"}), "leads out of it"),
    "link": ("a.zip", zipped({"a.shp": b"/etc/passwd"}, "a.shp"), "has the link 'a.shp'"),
    "crowd": ("a.zip", zipped({f"{n}.shp": b"" for n in range(201)}), "holds 201 files"),
    "two shapefiles": ("a.zip", zipped({"a.shp": b"", "b.shp": b""}), "holds 2 shapefiles"),
    "KMZ without KML": ("a.kmz", zipped({"a.png": b"x"}), "holds no KML"),
    "no archive": ("a.zip", b"PK\3\4 and then nothing", "damaged or encrypted"),
    "half an archive": ("a.zip", BOMB[: len(BOMB) // 2], "damaged or encrypted"),
    "billion laughs": ("a.kml", LAUGHS, "declares a document type"),
    "billion laughs in UTF-16": ("a.kml", LAUGHS.decode().encode("utf-16"), "is not UTF-8"),
    "external entity": ("a.kml", OUTSIDE, "declares a document type"),
    "null bytes in KML": ("a.kml", b"<kml>\0</kml>", "declares a document type"),
    "null bytes": ("a.geojson", b"\0" * 100, "is not GeoJSON"),
    "NaN": ("a.geojson", GEOJSON.replace(b"3.01", b"NaN"), "has the coordinate NaN"),
    "deep": ("a.geojson", b"[" * 200_000, "is not GeoJSON"),
    "a point": ("a.geojson", b'{"type": "Feature", "properties": {}, "geometry": {"type": "Point"'
                b', "coordinates": [3, 50]}}', "holds no polygon"),
    "many corners": ("a.geojson", MANY, "more than 100,000"),
    "cut GeoPackage": ("a.gpkg", b"", "file is damaged"),
    "cut shapefile": ("a.zip", b"", "file is damaged"),
    "no coordinate system": ("a.zip", b"", "does not say its coordinate system"),
    "many areas": ("a.geojson", b"", "more than 1,000 areas"),
    "NaN in a GeoPackage": ("a.gpkg", b"", "NaN or infinite"),
}  # fmt: skip


def made(case: str, folder: Path) -> bytes:
    """Make a file that can not be written as a constant."""
    if case == "cut GeoPackage":
        return written(folder / "a.gpkg", "GPKG", [ONE])[:5000]
    if case == "many areas":
        return written(folder / "a.geojson", "GeoJSON", [ONE] * 1001)
    if case == "NaN in a GeoPackage":
        whole = written(folder / "a.gpkg", "GPKG", [ONE])
        return whole.replace(struct.pack("<d", 50.8), struct.pack("<d", float("nan")))
    archive = zipfile.ZipFile(io.BytesIO(shapefile(folder, [ONE])))
    parts = {name: archive.read(name) for name in archive.namelist()}
    if case == "cut shapefile":
        return zipped({name: content[:120] for name, content in parts.items()})
    return zipped({name: text for name, text in parts.items() if not name.endswith(".prj")})


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_area_is_refused_with_a_sentence(tmp_path: Path, case: str) -> None:
    name, content, words = HOSTILE[case]
    if not content and case != "empty":
        content = made(case, tmp_path)
    inside = tmp_path / "inside"
    inside.mkdir()
    if Path(name).suffix in vectors.SUFFIXES and case not in ("empty", "too large"):
        (inside / name).write_bytes(content)
        with pytest.raises(ValueError, match=words) as caught:
            vectors.features(inside / name)  # what runs behind the wall, without starting it
    else:
        with pytest.raises(ValueError, match=words) as caught:
            vectors.read(content, name)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
    assert str(tmp_path) not in text
    assert not {"root", "etc"} & {path.name for path in tmp_path.rglob("*")}


def test_the_wall_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="declares a document type"):
        vectors.read(LAUGHS, "a.kml")
    monkeypatch.setattr(vectors, "SECONDS", 0.01)
    with pytest.raises(ValueError, match=r"longer than 0.01 s to read"):
        vectors.read(GEOJSON, "a.json")


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors.sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="damaged, or needs too much memory"):
        vectors.read(GEOJSON, "a.json")


def test_kept_areas_belong_to_whoever_keeps_them(workspace: Workspace) -> None:
    area = AOI("field", ONE, start=date(2021, 3, 1))
    first = areas.keep(workspace, "browser-1", area, "My field")
    second = areas.keep(workspace, "browser-1", AOI("wood", TWO))
    other = areas.keep(workspace, "browser-2", area)
    shared = areas.keep(workspace, "", area, "Everybody's")
    assert {one["id"] for one in areas.listing(workspace, "browser-1")} == {first, second, shared}
    assert {one["id"] for one in areas.listing(workspace, "browser-2")} == {other, shared}
    found = areas.get(workspace, first)
    assert found["properties"] | {"created": ""} == {
        "name": "field", "title": "My field", "start": "2021-03-01", "resolution": 10.0,
        "created": "",
    }  # fmt: skip
    assert shapely.geometry.shape(found["geometry"]).equals(ONE)
    assert areas.rename(workspace, first, "browser-1", " New  name ")["properties"]["title"] == (
        "New name"
    )
    for forbidden in (areas.remove, lambda *args: areas.rename(*args, "stolen")):
        with pytest.raises(KeyError, match="no kept area"):
            forbidden(workspace, first, "browser-2")
    areas.remove(workspace, first, "browser-1")
    with pytest.raises(KeyError, match="no kept area"):
        areas.get(workspace, first)


def test_no_id_and_no_owner_leads_out_of_the_folder(workspace: Workspace) -> None:
    (workspace.home / "secret.geojson").write_text("{}")
    for key in ("../secret", "..", "*", "", "A" * 16):
        with pytest.raises(KeyError, match="no kept area"):
            areas.get(workspace, key)
    with pytest.raises(ValueError, match="can not be used"):
        areas.keep(workspace, "../up", AOI("field", ONE))
    key = areas.keep(workspace, "me", AOI("field", ONE))
    for title in ("", " ", "\x1b[31m"):
        with pytest.raises(ValueError, match="can not be used"):
            areas.rename(workspace, key, "me", title)


def test_a_spoilt_file_is_passed_over_and_there_is_a_limit(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = areas.keep(workspace, "me", AOI("field", ONE))
    (workspace.home / "areas" / "me" / f"{'0' * 16}.geojson").write_text('{"type": "Feature"')
    assert [one["id"] for one in areas.listing(workspace, "me")] == [key]
    monkeypatch.setattr(areas, "MAX_AREAS", 2)
    with pytest.raises(ValueError, match="you keep 2 areas already"):
        areas.keep(workspace, "me", AOI("field", ONE))


def state_of(workspace: Workspace, **more: object) -> State:
    return State(ws=workspace, owner="me", **more)


def test_corners_are_moved_and_an_area_of_two_outlines_has_none() -> None:
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(ONE)}
    places = area.corners(feature)
    assert len(places["x"]) == 4
    assert area.moved(feature, places) is None
    places["x"][0] += 100
    changed = area.moved(feature, places)
    assert changed is not None
    assert area.corners(changed)["x"] == pytest.approx(places["x"], abs=0.02)
    assert area.moved(feature, {"x": [1.0, 2.0], "y": [1.0, 2.0]}) is None
    whole = {**feature, "geometry": shapely.geometry.mapping(shapely.MultiPolygon([ONE]))}
    assert area.corners(whole) == area.corners(feature)
    assert area.corners({**feature, "geometry": shapely.geometry.mapping(TWO)})["x"] == []
    assert area.corners(None)["x"] == []


def test_an_area_is_kept_opened_and_forgotten_on_the_page(workspace: Workspace) -> None:
    state = state_of(workspace)
    view = area.AreaView(state=state)
    view.uploaded(GEOJSON, "a.json")
    assert state.area is not None
    view.title.value_input = "Mine"
    view._keep(None)
    key = state.kept
    assert view.kept.options == {"none": "", "Mine": key}
    assert view.keeping.objects == []
    again = state_of(workspace, kept=key)
    assert area.AreaView(state=again).note() == ""
    assert again.area == state.area
    view.uploaded(GEOJSON, "a.json")
    assert state.kept == "", "another area is not the kept one"
    state.area = again.area
    view.kept.value = ""
    view.kept.value = key
    view._renamed("Yours")
    assert view.kept.options == {"none": "", "Yours": key}
    view._drop(None)
    assert areas.listing(workspace, "me") == []
    assert view.shelf.objects == []
    stranger = state_of(workspace, kept=key)
    assert "no kept area" in area.AreaView(state=stranger).note()
    assert stranger.kept == ""


def test_the_queue_shows_what_may_be_done_with_a_job() -> None:
    job = {
        "id": "1", "kind": "build", "state": "running", "fraction": 0.5, "remaining": 30.0,
        "out": "field", "title": "", "error": None,
    }  # fmt: skip
    shown = queue.row(job, True)
    assert (shown["name"], shown["state"]) == ("field", "50%, about 30 s to go")
    assert shown["actions"] == ["log", "cancel"]
    failed = queue.row({**job, "state": "failed", "error": "no space"}, True)
    assert (failed["state"], failed["actions"]) == ("failed: no space", ["log", "retry"])
    assert queue.row(job, False)["actions"] == []
