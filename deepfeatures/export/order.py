"""What is asked for as a file, and how the same file is made again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import shapely
import xarray as xr
from shapely.geometry.base import BaseGeometry

from deepfeatures import __version__, catalogue, contract, store
from deepfeatures.export.formats import of
from deepfeatures.export.selection import select
from deepfeatures.settings import Workspace

_DIGITS = 7
"""Digits of a degree in a box: a centimetre, and the same in each of the lines below."""


@dataclass(frozen=True)
class Order:
    """A part of a cube in a format; see `select` and `FORMATS`."""

    cube: str
    """Name of the cube in the workspace."""
    fmt: str
    """A key of `FORMATS`."""
    bbox: tuple[float, ...] | None = None
    """West, south, east, north [degree]."""
    geometry: BaseGeometry | None = None
    """Polygon in longitude and latitude."""
    start: str = ""
    """First day, YYYY-MM-DD; empty for that of the cube."""
    end: str = ""
    """Last day."""
    channels: tuple[str, ...] = ()
    """Bands, features, indices; empty for all of the cube."""

    def __post_init__(self) -> None:
        if self.bbox is not None:
            rounded = tuple(round(float(edge), _DIGITS) for edge in self.bbox)
            object.__setattr__(self, "bbox", rounded)

    def plain(self) -> dict[str, object]:
        """Give what is asked for in values that JSON can carry, without what is not there."""
        area = shapely.to_wkt(self.geometry, rounding_precision=-1) if self.geometry else None
        found = {
            "cube": self.cube, "format": self.fmt, "bbox": list(self.bbox or ()), "geometry": area,
            "start": self.start, "end": self.end, "channels": list(self.channels),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    def digest(self, version: str) -> str:
        """Give a hash of what is asked for, of the version of the cube and of this package."""
        words = json.dumps([self.plain(), version, __version__], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:32]

    def command(self, path: str) -> str:
        """Write the lines for a terminal that make the file at `path`."""
        words = ["deepfeatures", "export", self.cube, "--format", self.fmt, "--out", path]
        for name, value in (("start", self.start), ("end", self.end)):
            words += [f"--{name}", value] if value else []
        words += ["--channels", ",".join(self.channels)] if self.channels else []
        words += ["--bbox", *(f"{edge:.{_DIGITS}f}" for edge in self.bbox)] if self.bbox else []
        if self.geometry is None:
            return shlex.join(words)
        area = shlex.quote(json.dumps(shapely.geometry.mapping(self.geometry)))
        return f"echo {area} > area.geojson\n{shlex.join([*words, '--aoi', 'area.geojson'])}"

    def python(self, path: str) -> str:
        """Write the lines of Python that make the file at `path`."""
        values: dict[str, object] = {
            name: value
            for name in ("bbox", "start", "end", "channels")
            if (value := getattr(self, name))
        }
        words = [repr(self.cube), repr(self.fmt)]
        words += [f"{name}={value!r}" for name, value in values.items()]
        lines = ["from deepfeatures import export", "from deepfeatures.settings import workspace"]
        if self.geometry is not None:
            lines.insert(0, "import shapely")
            wkt = shapely.to_wkt(self.geometry, rounding_precision=-1)
            words.append(f"geometry=shapely.from_wkt({wkt!r})")
        return "\n".join(
            [*lines, "", f"order = export.Order({', '.join(words)})",
             f"export.save(workspace(), order, {path!r})"]
        )  # fmt: skip


def ordered(ws: Workspace, order: Order) -> xr.Dataset:
    """Select what is asked for, with its provenance in the attributes.

    Raises
    ------
    KeyError
        If the catalogue has no such cube.
    ValueError
        As of `select`.
    """
    ds = select(
        store.open(catalogue.url(ws, order.cube)),
        bbox=order.bbox,
        geometry=order.geometry,
        start=order.start or None,
        end=order.end or None,
        channels=order.channels or None,
    )
    version = version_of(ws, order.cube)
    origin = provenance(ds, order, version)
    return ds.assign_attrs(citation=origin["citation"], provenance=json.dumps(origin))


def version_of(ws: Workspace, name: str) -> str:
    """Give the version of a cube, which changes with its content."""
    return str(store.arrays(catalogue.url(ws, name)).attrs["version"])


def provenance(ds: xr.Dataset, order: Order, version: str) -> dict[str, object]:
    """Tell where an export comes from, and how it is made again.

    Parameters
    ----------
    ds
        The selection.
    order
        What was asked for.
    version
        Version of the cube.
    """
    attrs = ds.attrs
    path = f"{order.cube}{of(order.fmt).suffix}"
    box = contract.geobox(ds).geographic_extent.boundingbox.bbox
    found = {
        "cube": order.cube,
        "title": attrs.get("title"),
        "version": version,
        "model": attrs.get("model"),
        "model_sha256": attrs.get("model_checksum"),
        "bounds": [round(float(edge), _DIGITS) for edge in box],
        "period": [attrs["time_coverage_start"], attrs["time_coverage_end"]],
        "request": order.plain(),
        "request_sha256": order.digest(version),
        "simulated": attrs.get("simulated"),
        "licence": attrs.get("licence"),
        "attribution": attrs.get("attribution"),
        "citation": citation(attrs, order, version),
        "software": f"deepfeatures {__version__}",
        "python": order.python(path),
        "command": order.command(path),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def citation(attrs: Mapping[object, object], order: Order, version: str) -> str:
    """Write how the data are cited, in the form of BibTeX."""

    def word(name: str, instead: str) -> str:
        return " ".join(str(attrs.get(name) or instead).replace("{", "(").replace("}", ")").split())

    digest = order.digest(version)
    note = f"Cube {order.cube}, version {version[:12]}, request {digest[:12]}"
    period = f"{attrs['time_coverage_start']} to {attrs['time_coverage_end']}"
    if attrs.get("model"):
        note += f", model {attrs['model']} {str(attrs.get('model_checksum', ''))[:12]}"
    fields = {
        "title": f"{word('title', order.cube)}, {period}",
        "author": f"{{{word('attribution', 'unknown')}}}",
        "year": str(attrs["time_coverage_end"])[:4],
        "note": f"{note}. Made with deepfeatures {__version__}",
        "license": word("licence", "unknown"),
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    return f"@misc{{{order.cube}-{digest[:8]},\n" + ",\n".join(lines) + "\n}"
