"""Areas out of files that people upload: GeoJSON, KML, KMZ, zipped shapefile, GeoPackage.

A file from outside is opened by GDAL in a process of its own with little memory, time and disk, and
only after its first bytes have shown that it is what its name says: no other driver sees it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

MAX_BYTES = 6_000_000
"""Largest file, in bytes."""
MAX_UNPACKED = 50_000_000
"""Most bytes that an archive may unpack to."""
MAX_MEMBERS = 200
"""Most files in an archive."""
MAX_FEATURES = 1_000
"""Most areas in one file."""
MAX_VERTICES = 100_000
"""Most corners of all areas of a file together."""
SECONDS = 20
"""How long reading may take."""
MAX_MEMORY = 2_000_000_000
"""Address space of the process that reads [bytes]."""

SUFFIXES = (".geojson", ".json", ".kml", ".kmz", ".zip", ".gpkg")
"""How the name of a file may end; ``.zip`` holds one shapefile."""

_DRIVERS = {"geojson": "GeoJSON", "kml": "LIBKML", "shp": "ESRI Shapefile", "gpkg": "GPKG"}
_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_NAMES = ("name", "title", "label", "id")


def read(content: bytes, filename: str) -> list[dict[str, Any]]:
    """Read the areas of a file.

    Parameters
    ----------
    content
        The file.
    filename
        Its name, whose end says what it is.

    Returns
    -------
    list of dict
        GeoJSON Features in longitude/latitude (WGS84), each a polygon or several with the property
        ``name``; at least one.

    Raises
    ------
    ValueError
        One sentence that says what is wrong with the file, and the remedy.
    """
    suffix = Path(filename).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"the file {filename[:80]!r} can not be read; upload GeoJSON, KML, KMZ, a zipped "
            "shapefile or a GeoPackage"
        )
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"the file of {len(content) / 1e6:.1f} MB is too large (limit "
            f"{MAX_BYTES / 1e6:.0f} MB); simplify the areas or leave out the others"
        )
    if not content:
        raise ValueError(f"the file {filename[:80]!r} is empty; upload one with an area")
    with tempfile.TemporaryDirectory(prefix="deepfeatures-upload-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        return _asked(path)


def _asked(path: Path) -> list[dict[str, Any]]:
    """Let another process read, and give what it found."""
    environment = {
        **{key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ},
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "HOME": str(path.parent), "TMPDIR": str(path.parent),
        "PROJ_NETWORK": "OFF", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
        "OGR_SQLITE_LOAD_EXTENSIONS": "", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-m", "deepfeatures.vectors", str(path)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
            cwd=path.parent, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"the file took longer than {SECONDS} s to read; simplify the areas"
        ) from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise ValueError(
            "the file can not be read: it is damaged, or needs too much memory; "
            "save the area anew, best as GeoJSON"
        ) from None
    if "error" in found:
        raise ValueError(str(found["error"]))
    return list(found["features"])


def features(path: Path) -> list[dict[str, Any]]:
    """Read the areas of a file in this process; `read` does the same behind a wall.

    Raises
    ------
    ValueError
        As `read`.
    """
    source, driver = _recognised(path)
    found: list[tuple[str, Any]] = []
    for layer in _layers(source):
        found += _layer(source, layer, driver, MAX_FEATURES - len(found))
    if not found:
        raise ValueError("the file holds no polygon; draw an area in it, points and lines are none")
    return [_feature(name, geometry) for name, geometry in found]


def _recognised(path: Path) -> tuple[Path, str]:
    """Give what GDAL may open of a file, and the only driver that may do it."""
    suffix = path.suffix.lower()
    if suffix in (".geojson", ".json"):
        return _geojson(path), _DRIVERS["geojson"]
    if suffix == ".gpkg":
        head = path.read_bytes()[:100]
        if head[:16] != b"SQLite format 3\0" or head[68:72] not in (b"GPKG", b"GP10", b"GP11"):
            raise ValueError("the file is no GeoPackage, whatever its name says; save it as one")
        return path, _DRIVERS["gpkg"]
    if suffix == ".kml":
        return _kml(path.read_bytes(), path.parent), _DRIVERS["kml"]
    members = _unpacked(path)
    if suffix == ".kmz":
        inside = [name for name in members if name.lower().endswith(".kml")]
        if not inside:
            raise ValueError("the KMZ holds no KML; save it anew, or upload the KML itself")
        return _kml(members[inside[0]], path.parent), _DRIVERS["kml"]
    return _shapefile(members, path.parent), _DRIVERS["shp"]


def _geojson(path: Path) -> Path:
    """Check that a file is GeoJSON and nothing else in JSON; NaN is none."""

    def refused(word: str) -> Any:
        raise ValueError(f"the file has the coordinate {word}; replace it by a number")

    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(text, parse_constant=refused)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(
            "the file is not GeoJSON; save the area as .geojson in longitude/latitude"
        ) from None
    kinds = ("Feature", "FeatureCollection", "Polygon", "MultiPolygon", "GeometryCollection")
    if not isinstance(data, dict) or data.get("type") not in kinds:
        raise ValueError(f"the JSON is no GeoJSON area; its type must be one of {', '.join(kinds)}")
    plain = path.with_name("plain.geojson")
    plain.write_text(text)
    return plain


def _kml(content: bytes, folder: Path) -> Path:
    """Check that a text is KML without entities, and write it where GDAL reads it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the KML is not UTF-8 text; save it anew as UTF-8") from None
    if "\0" in text or re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ValueError("the KML declares a document type or entities; save it without them")
    if not re.search(r"<(?:\w+:)?kml[\s>]", text[:4000]):
        raise ValueError("the file is no KML, whatever its name says; save it as one")
    path = folder / "plain.kml"
    path.write_text(text, encoding="utf-8")
    return path


def _unpacked(path: Path) -> dict[str, bytes]:
    """Give the files of an archive by name, read into memory up to the limit."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(entries)
            room, found = MAX_UNPACKED, {}
            for entry in entries:
                if Path(entry.filename).suffix.lower() not in (*_SHAPEFILE, ".kml"):
                    continue
                with archive.open(entry) as file:
                    found[entry.filename] = file.read(room + 1)  # the header may lie
                room -= len(found[entry.filename])
                if room < 0:
                    raise _too_much()
            return found
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError):
        raise ValueError(
            "the archive is damaged or encrypted, or no ZIP at all; pack it again"
        ) from None


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_MEMBERS:
        raise ValueError(f"the archive holds {len(entries):,} files; pack only those of the area")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise _too_much()
    for entry in entries:
        parts = re.split(r"[/\\]", entry.filename)
        if ".." in parts or not parts[0] or ":" in parts[0]:
            raise ValueError(
                f"the archive has the path {entry.filename[:60]!r} that leads out of it; "
                "pack it again"
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"the archive has the link {entry.filename[:60]!r}; pack the file")


def _too_much() -> ValueError:
    return ValueError(
        f"the archive unpacks to more than {MAX_UNPACKED / 1e6:.0f} MB; simplify the areas"
    )


def _shapefile(members: dict[str, bytes], folder: Path) -> Path:
    """Write the parts of the one shapefile of an archive under a name of ours."""
    shapes = [name for name in members if name.lower().endswith(".shp")]
    if len(shapes) != 1:
        raise ValueError(
            f"the archive holds {len(shapes)} shapefiles; pack one .shp with its .shx, .dbf and "
            ".prj"
        )
    if members[shapes[0]][:4] != b"\0\0\x27\x0a":
        raise ValueError("the .shp is no shapefile, whatever its name says; save it anew")
    stem = shapes[0][:-4]
    for name, content in members.items():
        if name[:-4] == stem:
            (folder / f"plain{name[-4:].lower()}").write_bytes(content)
    return folder / "plain.shp"


def _layers(source: Path) -> list[str]:
    import pyogrio

    try:
        return [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
    except (pyogrio.errors.DataSourceError, ValueError) as error:
        raise _damaged(error) from None


def _layer(source: Path, layer: str, driver: str, room: int) -> list[tuple[str, Any]]:
    """Give the polygons of a layer with their names, in longitude/latitude."""
    import numpy as np
    import pyogrio
    import shapely

    try:
        info = pyogrio.read_info(source, layer=layer)
        if info["driver"] != driver:
            raise ValueError(f"the file was taken for {info['driver']}; save it anew as GeoJSON")
        column = next(
            (field for word in _NAMES for field in info["fields"] if field.lower() == word), None
        )
        meta, _, shapes, columns = pyogrio.raw.read(
            source, layer=layer, columns=[column] if column else [], force_2d=True,
            max_features=room + 1,
        )  # fmt: skip
        with np.errstate(invalid="ignore"):  # NaN is looked for below
            geometries = shapely.from_wkb(shapes)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise _damaged(error) from None
    except (pyogrio.errors.GeometryError, shapely.errors.GEOSException) as error:
        raise _damaged(error) from None
    if len(geometries) > room:
        raise ValueError(f"the file holds more than {MAX_FEATURES:,} areas; leave out the others")
    vertices = int(shapely.get_num_coordinates(geometries).sum())
    if vertices > MAX_VERTICES:
        raise ValueError(
            f"the areas have {vertices:,} corners, more than {MAX_VERTICES:,}; simplify them "
            "(10 m is enough)"
        )
    names = columns[0] if columns else [None] * len(geometries)
    turned = _lonlat(geometries, meta["crs"])
    return [
        (str(name) if name not in (None, "") else f"{layer[:40]} {number}", geometry)
        for number, (name, geometry) in enumerate(zip(names, turned, strict=True), 1)
        if geometry is not None and geometry.geom_type in ("Polygon", "MultiPolygon")
    ]


def _lonlat(geometries: Any, crs: str | None) -> Any:
    """Turn geometries to longitude/latitude; those without a system are taken to be in it."""
    import numpy as np
    import pyproj
    import shapely

    xy = shapely.get_coordinates(geometries)
    if not np.isfinite(xy).all():
        raise ValueError("the areas have NaN or infinite coordinates; replace them by numbers")
    if crs is None:
        if xy.size and not (np.abs(xy) <= (180, 90)).all():
            raise ValueError(
                "the file does not say its coordinate system; add it (the .prj of a shapefile)"
            )
        return geometries
    try:
        turn = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    except pyproj.exceptions.ProjError:
        raise ValueError(
            f"the coordinate system {crs[:60]!r} is unknown; save in longitude/latitude (WGS84)"
        ) from None
    turned = np.column_stack(turn.transform(xy[:, 0], xy[:, 1]))
    if not np.isfinite(turned).all():
        raise ValueError("the coordinates are not those of the file's system; save it anew")
    return shapely.set_coordinates(geometries, turned)


def _feature(name: str, geometry: Any) -> dict[str, Any]:
    import shapely

    return {
        "type": "Feature",
        "properties": {"name": " ".join(name.split())[:100] or "area"},
        "geometry": json.loads(shapely.to_geojson(geometry)),
    }


def _damaged(error: Exception) -> ValueError:
    words = re.sub(r"\S*/\S*", "", " ".join(str(error).split()))[:120].strip(" :;'\"")
    return ValueError(f"the file is damaged ({words}); save the area anew, best as GeoJSON")


def _main(path: str) -> int:
    """Read under limits, and write what was found or what is wrong as JSON."""
    for limit, most in (
        (resource.RLIMIT_AS, MAX_MEMORY), (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 2 * MAX_UNPACKED), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(limit, (most, most))
    try:
        found: dict[str, Any] = {"features": features(Path(path))}
    except ValueError as error:
        found = {"error": " ".join(str(error).split())}
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
