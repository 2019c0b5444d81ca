"""Metadata of a Sentinel-2 granule: the grids of sun and view angles, and the c-factor of them.

Knows the XML (``MTD_TL.xml``, ``metadata.xml``) of levels 1C and 2A and keeps the angles of each
item on disk, because reading and parsing the XML is nearly all of the time that NBAR takes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

import fsspec
import numpy as np
import pyproj
import requests
import xarray as xr
from affine import Affine
from defusedxml import DefusedXmlException
from defusedxml import ElementTree as safe_xml
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from deepfeatures import nbar, rasters

Array = NDArray[Any]

MAX_BYTES = 8 << 20
"""Largest metadata file that is read; real ones have up to 0.7 MB."""
NODES = 23
"""Nodes along an edge of the angle grids."""
STEP = 5000.0
"""Metres between the nodes."""

# In the order of `bandId`.
_BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
)
_SCHEMES = ("file", "http", "https", "s3")
_TIMEOUT = 20, 120  # seconds to connect and between two pieces
_CONTROL = 32  # pixels between the places that are transformed exactly
_LAYOUT = 1  # of the files of angles on disk


@dataclass(frozen=True)
class Angles:
    """Sun and view angles of a granule on its grid of 23 x 23 nodes, degrees."""

    tile: str
    """MGRS tile: ``34LBP``."""
    crs: str
    """UTM zone of the tile: ``EPSG:32734``."""
    x: Array
    """Of the nodes ``(x,)``, rising [m]."""
    y: Array
    """Of the nodes ``(y,)``, falling [m]."""
    bands: tuple[str, ...]
    """Bands for which there are view angles."""
    sun_zenith: Array
    """``(y, x)``."""
    sun_azimuth: Array
    """``(y, x)``."""
    view_zenith: Array
    """``(band, y, x)``; NaN at nodes that the sensor did not see."""
    view_azimuth: Array
    """``(band, y, x)``; NaN at nodes that the sensor did not see."""


_ARRAYS = ("x", "y", "sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")


def document(xml: bytes, name: str) -> Element:
    """Parse XML from a stranger: of limited size, without entities or a document type.

    Raises
    ------
    ValueError
        If the file is too large or not such XML.
    """
    if len(xml) > MAX_BYTES:
        raise ValueError(
            f"{name} has more than {MAX_BYTES >> 20} MB, so it is no Sentinel-2 metadata"
        )
    try:
        return safe_xml.fromstring(xml, forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError(f"{name} declares entities or a document type; it is not read") from None
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{name} is no readable XML ({error})") from None


def parse(xml: bytes, name: str = "the granule metadata") -> Angles:
    """Read the angles from the XML of a granule.

    Several detectors see a node where their footprints overlap; its angles are the plain means of
    theirs, as in sen2nbar, so that the c-factors of both agree. The mean of two azimuths is not
    an azimuth between them where they lie on either side of north; there, and wherever fore and
    aft looking detectors meet, the c-factor is off by up to 0.4 % (at most 40 of 529 nodes).

    The nodes lie on multiples of 5 km from the upper left corner of the tile: with them there the
    sun angles are those of the sensing time to 0.015 degree. sen2nbar puts them 2.5 km further
    south and east.

    Parameters
    ----------
    xml
        Content of ``MTD_TL.xml`` or ``metadata.xml``, level 1C or 2A.
    name
        What to call the file in errors.

    Raises
    ------
    ValueError
        If this is not the metadata of a granule.
    """
    root = document(xml, name)
    if not root.tag.endswith(("Level-2A_Tile_ID", "Level-1C_Tile_ID")):
        raise ValueError(
            f"{name} is no metadata of a Sentinel-2 granule; give its MTD_TL.xml or metadata.xml"
        )
    try:
        return _angles(root)
    except (KeyError, IndexError, ValueError, DeprecationWarning) as error:
        raise ValueError(f"{name} lacks what the metadata of a granule have ({error})") from None


def _angles(root: Element) -> Angles:
    geometry = _child(root, "{*}Geometric_Info")
    corner = _child(geometry, "Tile_Geocoding/Geoposition")
    crs = _text(geometry, "Tile_Geocoding/HORIZONTAL_CS_CODE").upper()
    if not re.fullmatch(r"EPSG:32[67]\d\d", crs):
        raise ValueError(f"{crs!r} is no UTM zone")
    tile = re.search(r"_T(\d{2}[A-Z]{3})(?:_|$)", _text(root, "{*}General_Info/TILE_ID"))
    if tile is None:
        raise ValueError("no tile in TILE_ID")
    grids = _child(geometry, "Tile_Angles")
    sun = _child(grids, "Sun_Angles_Grid")
    seen: dict[str, list[Element]] = {}
    for detector in grids.findall("Viewing_Incidence_Angles_Grids"):
        seen.setdefault(_BANDS[_index(detector)], []).append(detector)
    bands = tuple(band for band in _BANDS if band in seen)
    shape = (len(bands), NODES, NODES)
    nodes = STEP * np.arange(NODES)
    return Angles(
        tile=tile[1],
        crs=crs,
        x=float(_text(corner, "ULX")) + nodes,
        y=float(_text(corner, "ULY")) - nodes,
        bands=bands,
        sun_zenith=_grid(sun, "Zenith"),
        sun_azimuth=_grid(sun, "Azimuth"),
        view_zenith=np.reshape([_merged(seen[band], "Zenith") for band in bands], shape),
        view_azimuth=np.reshape([_merged(seen[band], "Azimuth") for band in bands], shape),
    )


def _child(parent: Element, path: str) -> Element:
    found = parent.find(path)
    if found is None:
        raise ValueError(f"no {path.split('}')[-1]}")
    return found


def _text(parent: Element, path: str) -> str:
    return (_child(parent, path).text or "").strip()


def _index(detector: Element) -> int:
    index = int(detector.attrib["bandId"])
    if index < 0:
        raise ValueError(f"bandId {index}")
    return index


def _grid(parent: Element, angle: str) -> Array:
    """Read one grid ``(y, x)``."""
    steps = {_text(parent, f"{angle}/{axis}_STEP") for axis in ("COL", "ROW")}
    if {float(step) for step in steps} != {STEP}:
        raise ValueError(f"a grid with steps of {' and '.join(sorted(steps))} m")
    rows = parent.findall(f"{angle}/Values_List/VALUES")
    # several times faster than float() of each; stops at what is no number, so too few are left
    values = np.fromstring(" ".join(row.text or "" for row in rows), sep=" ")
    if len(rows) != NODES or len(values) != NODES**2:
        raise ValueError(f"a grid of {len(values)} values in {len(rows)} rows")
    return values.reshape(NODES, NODES)


def _merged(detectors: Sequence[Element], angle: str) -> Array:
    """Give the mean of the detectors that see a node; NaN where none does."""
    grids = np.array([_grid(detector, angle) for detector in detectors])
    there = np.isfinite(grids)
    count = there.sum(axis=0)
    total = np.where(there, grids, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def c_grid(angles: Angles) -> xr.Dataset:
    """Give the c-factor at the nodes of the angle grid.

    Returns
    -------
    xarray.Dataset
        ``c_factor (band, y, x)`` of the bands that have coefficients, float64, NaN at nodes without
        angles; `x` and `y` of the nodes, and the CRS in ``spatial_ref``.
    """
    bands = list(nbar.COEFFICIENTS)
    crs = pyproj.CRS.from_user_input(angles.crs)
    factor = xr.Variable(
        ("band", "y", "x"),
        _c(angles, bands),
        {
            "units": "1",
            "long_name": "c-factor: NBAR = c_factor x surface reflectance",
            "references": "doi 10.1016/j.rse.2016.01.023, 10.1016/j.rse.2017.06.019, "
            "10.3390/rs9121325",
            "grid_mapping": "spatial_ref",
        },
    )
    axis = {"units": "m", "long_name": "of the node"}
    mapping = {key: value for key, value in crs.to_cf().items() if value is not None}
    return xr.Dataset(
        {"c_factor": factor},
        coords={
            "band": bands,
            "y": ("y", angles.y, axis | {"standard_name": "projection_y_coordinate"}),
            "x": ("x", angles.x, axis | {"standard_name": "projection_x_coordinate"}),
            "spatial_ref": ((), np.int32(0), mapping | {"spatial_ref": crs.to_wkt()}),
        },
        attrs={
            "title": f"c-factor of tile {angles.tile}",
            "crs": angles.crs,
            "tile": angles.tile,
            "uncorrected_bands": " ".join(nbar.UNCORRECTED),
            "comment": "uncorrected_bands have no published coefficients; their c-factor is one.",
        },
    )


def write(href: str, path: Path) -> Path:
    """Write the c-factor of a granule, as of `c_grid`, to a NetCDF file.

    Parameters
    ----------
    href
        Of the granule metadata, as for `fetch`.
    path
        The file; it appears when it is complete.

    Raises
    ------
    FileNotFoundError, ValueError, rasters.Unreadable
        If there is no such file, or it is not the metadata of a granule.
    """
    if "://" not in href and not Path(href).is_file():
        raise FileNotFoundError(
            f"there is no {href!r}; give a .SAFE folder or the metadata of a granule (MTD_TL.xml)"
        )
    factor = c_grid(parse(read(href), href.split("?")[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        factor.to_netcdf(part, engine="netcdf4", format="NETCDF4")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def c_window(angles: Angles, geobox: GeoBox, bands: Sequence[str]) -> Array:
    """Give the c-factor at the pixel centres of a grid.

    Nodes that the sensor did not see take the value of the nearest node that it saw (as
    sen2nbar does), then c is interpolated linearly; beyond the tile the value at its edge holds.
    On a grid in another CRS the places of the pixels are transformed every 32 pixels and
    interpolated between (to better than a metre).

    Parameters
    ----------
    angles
        Of one granule.
    geobox
        Any grid; in the CRS of the granule it goes fastest, and a window of a grid gets the very
        values of the grid.
    bands
        Names of the bands; those of `nbar.UNCORRECTED` get ones.

    Returns
    -------
    numpy.ndarray
        float32 ``(band, y, x)``, without NaN.

    Raises
    ------
    ValueError
        If a band is unknown, or the granule has no view angle of it at all.
    """
    values = nbar.fill(_c(angles, bands))
    empty = [band for band, layer in zip(bands, values, strict=True) if np.isnan(layer).any()]
    if empty:
        raise ValueError(
            f"the granule of tile {angles.tile} has no view angles for {', '.join(empty)}; "
            "use the angles of the scene"
        )
    transform: Affine = geobox.transform
    same = geobox.crs is not None and geobox.crs.epsg == int(angles.crs[5:])
    if same and not (transform.b or transform.d):
        x = transform.c + transform.a * (np.arange(geobox.shape.x) + 0.5)
        y = transform.f + transform.e * (np.arange(geobox.shape.y) + 0.5)
        return nbar.on_lines(values, (angles.y[0] - y) / STEP, (x - angles.x[0]) / STEP)
    return nbar.at_points(values, *_places(geobox, angles))


def _c(angles: Angles, bands: Sequence[str]) -> Array:
    """Give c at the nodes ``(band, y, x)``, NaN without angles."""
    numbers = [angles.bands.index(band) if band in angles.bands else -1 for band in bands]
    # the last layer is for bands without any angle
    zenith, azimuth = (
        np.concatenate([grid, np.full((1, NODES, NODES), np.nan)])[numbers]
        for grid in (angles.view_zenith, angles.view_azimuth)
    )
    return nbar.c_factor(angles.sun_zenith, zenith, angles.sun_azimuth - azimuth, bands)


def _places(geobox: GeoBox, angles: Angles) -> Array:
    """Give row and column in nodes ``(2, y, x)`` of pixel centres in another CRS."""
    height, width = geobox.shape.y, geobox.shape.x
    rows, columns = (
        np.linspace(0.5, size - 0.5, max(2, -(-size // _CONTROL) + 1)) for size in (height, width)
    )
    transformer = pyproj.Transformer.from_crs(str(geobox.crs), angles.crs, always_xy=True)
    x, y = transformer.transform(*(geobox.transform * np.meshgrid(columns, rows)))
    if not np.isfinite([x, y]).all():
        raise ValueError(f"the grid in {geobox.crs} lies partly outside of {angles.crs}")
    exact = np.array([(angles.y[0] - y) / STEP, (x - angles.x[0]) / STEP])
    down = np.linspace(0, len(rows) - 1, height)
    across = np.linspace(0, len(columns) - 1, width)
    return nbar.on_lines(exact, down, across)


def fetch(
    href: str,
    key: str,
    folder: str | Path | None,
    options: Mapping[str, Any] | None = None,
) -> Angles:
    """Give the angles of an item, from the folder if they were asked for before.

    Parameters
    ----------
    href
        Of the granule metadata: a local path, ``file://``, ``https://`` or ``s3://``.
    key
        What the item is known by, its id.
    folder
        Where angles are kept, one ``.npz`` of up to 70 kB per item; made if it is not there.
        A file in it that is broken is replaced. None keeps nothing.
    options
        For the file system of `fsspec` (keys, endpoint), where there is one.

    Raises
    ------
    rasters.Unreadable
        If the metadata cannot be had after all attempts.
    ValueError
        If they are not those of a granule, or the href is of another kind.
    """
    path = Path(folder) / _file_name(key) if folder is not None else None
    kept = _load(path) if path else None
    if kept is not None:
        return kept
    name = href.split("?")[0]  # what follows may be a signature
    angles = parse(read(href, options), name)
    if path:
        _save(angles, path)
    return angles


def read(href: str, options: Mapping[str, Any] | None = None) -> bytes:
    """Read a metadata file, one byte more than `MAX_BYTES` at most.

    Raises
    ------
    rasters.Unreadable
        If the file cannot be had after all attempts.
    ValueError
        If the href is not a path or of ``file``, ``http``, ``https``, ``s3``.
    """
    scheme = href.split("://")[0] if "://" in href else "file"
    if scheme not in _SCHEMES or "::" in href:
        raise ValueError(
            f"{href.split('?')[0]!r} is not read; give a path or one of "
            f"{', '.join(f'{known}://' for known in _SCHEMES)}"
        )
    place = unquote(href.removeprefix("file://")) if href.startswith("file://") else href

    def once() -> bytes:
        if scheme.startswith("http"):
            return _download(href)
        with fsspec.open(place, "rb", **(options or {})) as file:
            return file.read(MAX_BYTES + 1)

    # libraries of object stores have errors of their own for a missing key or host
    return rasters.retried(once, place.split("?")[0], errors=(Exception,))


def _download(href: str) -> bytes:
    try:
        with requests.get(href, stream=True, timeout=_TIMEOUT) as answer:
            if not answer.ok:
                raise OSError(f"the server answered {answer.status_code}")
            content = bytearray()
            for part in answer.iter_content(1 << 16):
                content += part
                if len(content) > MAX_BYTES:
                    break
            return bytes(content)
    except requests.RequestException as error:
        # its text holds the whole address, and with it a signature
        raise OSError(type(error).__name__) from None


def _file_name(key: str) -> str:
    """Give a name that is readable, safe and different for each key."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", key)[:100]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


def _save(angles: Angles, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                layout=np.array(_LAYOUT),
                tile=np.array(angles.tile),
                crs=np.array(angles.crs),
                bands=np.array(angles.bands, dtype="U3"),
                **{field: getattr(angles, field) for field in _ARRAYS},
            )
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _load(path: Path) -> Angles | None:
    """Read kept angles; None if there are none or the file is broken."""
    try:
        # from memory, because a file that is no archive would stay open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            if int(kept["layout"]) != _LAYOUT:
                return None
            bands = tuple(str(band) for band in kept["bands"])
            arrays = {field: kept[field] for field in _ARRAYS}
            tile, crs = str(kept["tile"]), str(kept["crs"])
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error):
        return None
    square = (NODES, NODES)
    shapes = [(NODES,), (NODES,), square, square, (len(bands), *square), (len(bands), *square)]
    if [arrays[field].shape for field in _ARRAYS] != shapes:
        return None
    return Angles(tile=tile, crs=crs, bands=bands, **arrays)
