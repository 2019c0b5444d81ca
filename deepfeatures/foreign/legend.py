"""A user's key to a file that nobody knows: which variable is which band, and in what units.

A legend is plain data (JSON), for instance::

    {"dims": {"x": "east", "y": "north", "time": "t"}, "bands": {"B04": "red", "B08":
     {"variable": "stack", "index": 3}}, "scale": 1e-4, "nodata": 0, "crs": "EPSG:32718",
     "valid": {"variable": "qa", "clear": [0, 1], "cloud": [2], "shadow": [3]}}

Without ``bands`` it only adds to a form that is recognised (a missing CRS, say).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyproj
import xarray as xr

from deepfeatures.bands import BANDS
from deepfeatures.foreign.plain import Plain, coded

MAX_BYTES = 64 * 1024
"""Largest file of a legend."""
KEYS = ("dims", "bands", "scale", "offset", "nodata", "crs", "valid", "scl", "resolution")
_CLASSES = {"clear": 1, "cloud": 2, "shadow": 3, "missing": 0}
_HELP = f"the keys are {', '.join(KEYS)}"


@dataclass(frozen=True)
class Pick:
    """A two- or three-dimensional layer: a variable, or a step of another dimension of it."""

    variable: str
    index: int | None = None


@dataclass(frozen=True)
class Legend:
    """How to read a file."""

    dims: Mapping[str, str] = field(default_factory=dict)
    """Our name of a dimension -> its name in the file."""
    bands: Mapping[str, Pick] = field(default_factory=dict)
    scale: float | None = None
    offset: float = 0.0
    """Added to the reflectance after scaling."""
    nodata: float | None = None
    crs: str | None = None
    valid: tuple[Pick, Mapping[int, int]] | None = None
    """Layer of the mask, and its classes with their codes of `valid`."""
    scl: Pick | None = None
    resolution: float | None = None
    """Pixel size of a file with a single pixel [m]."""


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Read the words of ``--map``: a JSON file, or ``KEY=VALUE`` each.

    A key is one of `KEYS`, a band (``B04=red``), or has a dot (``dims.x=east``,
    ``valid.clear=[0]``); values are JSON, or text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is too large or no JSON object, or a word has no ``=``.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            found |= _file(Path(word))
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        parts = ["bands", key] if key in BANDS else key.split(".", 1)
        if len(parts) == 1:
            found[key] = value
        else:
            inner = found.setdefault(parts[0], {})
            if not isinstance(inner, dict):
                raise ValueError(f"--map has both {parts[0]!r} and {key!r}; give one of them")
            inner[parts[1]] = value
    return found


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {str(path)!r}; give --map a JSON file or KEY=VALUE"
        )
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES // 1024} KiB; a key is a small file")
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no JSON object; {_HELP}")
    return value


def legend(mapping: Mapping[str, Any] | None) -> Legend:
    """Check a mapping and give it a form.

    Raises
    ------
    ValueError
        With one sentence about the first thing that is wrong.
    """
    given = dict(mapping or {})
    wrong = [str(key) for key in given if key not in KEYS]
    if wrong:
        raise ValueError(f"--map does not know {wrong[0]!r}; {_HELP}")
    return Legend(
        dims=_dims(given.get("dims", {})),
        bands=_bands(given.get("bands", {})),
        scale=_number(given, "scale", positive=True),
        offset=_number(given, "offset") or 0.0,
        nodata=_number(given, "nodata"),
        crs=_crs(given.get("crs")),
        valid=_mask(given.get("valid")),
        scl=_pick(given["scl"], "scl") if "scl" in given else None,
        resolution=_number(given, "resolution", positive=True),
    )


def hinted(raw: xr.Dataset, key: Legend) -> xr.Dataset:
    """Apply what a legend says of the whole file: names of dimensions, CRS, pixel size."""
    for ours, theirs in key.dims.items():
        if theirs not in raw.dims:
            dims = ", ".join(map(str, raw.dims))
            raise ValueError(f"the file has no dimension {theirs!r} (--map dims.{ours}): {dims}")
        if ours != theirs and ours in raw.variables:
            raise ValueError(f"the file has {ours!r} already (--map dims.{ours}={theirs})")
    raw = raw.rename({theirs: ours for ours, theirs in key.dims.items() if ours != theirs})
    if key.crs is not None:
        names = [name for name in ("spatial_ref", "crs") if name in raw.variables]
        raw = raw.drop_vars(names).odc.assign_crs(key.crs)
    if key.resolution is not None:
        raw = raw.assign_attrs(resolution=key.resolution)
    return raw


def from_legend(raw: xr.Dataset, key: Legend) -> Plain:
    """Translate a file of unknown form with its legend.

    Raises
    ------
    ValueError
        If it names what the file does not have.
    """
    data = xr.Dataset(attrs=raw.attrs)
    for name in [name for name in BANDS if name in key.bands]:
        layer = _layer(raw, key.bands[name], name)
        layer = layer.assign_attrs(add_offset=_attr(layer, "add_offset") + key.offset)
        if key.scale is not None:
            layer = layer.assign_attrs(scale_factor=key.scale, add_offset=key.offset)
        if key.nodata is not None:
            layer = layer.assign_attrs(_FillValue=key.nodata)
        data[name] = layer
    if "spatial_ref" in raw.variables:
        data = data.assign_coords(spatial_ref=raw["spatial_ref"].reset_coords(drop=True))
    words = ", ".join(f"{name} = {_words(pick)}" for name, pick in key.bands.items())
    scale = f"; scale {key.scale:g}" if key.scale is not None else ""
    shift = f"; offset {key.offset:+g}" if key.offset else ""
    plain = Plain("mapped by the user", data, (f"mapped by the user: {words}{scale}{shift}",))
    return masked(plain, raw, key)


def masked(plain: Plain, raw: xr.Dataset, key: Legend) -> Plain:
    """Give a plain dataset the mask and the classes that a legend names."""
    data = plain.data
    layers: dict[str, xr.DataArray] = {}
    if key.scl is not None:
        layers["SCL"] = _layer(raw, key.scl, "scl")
    if key.valid is not None:
        pick, codes = key.valid
        layers["mask"] = coded(_layer(raw, pick, "valid"), codes, other=2 if _open(codes) else 0)
    for name, layer in layers.items():
        if any(layer.sizes[dim] != data.sizes.get(dim) for dim in layer.dims):
            raise ValueError(f"{name} has other dates or pixels than the bands; name another layer")
        # the coordinates of the bands may have been moved to pixel centres
        data = data.assign({name: layer.drop_vars(layer.coords)})
    words = ", ".join(layers)
    return plain.then(data, *([f"mapped by the user: {words}"] if layers else []))


def _open(codes: Mapping[int, int]) -> bool:
    """Tell whether only clear classes are named: then every other one is cloud."""
    return set(codes.values()) <= {1, 0}


def _attr(layer: xr.DataArray, name: str) -> float:
    return float(layer.attrs.get(name, 0.0))


def _words(pick: Pick) -> str:
    return pick.variable if pick.index is None else f"{pick.variable}[{pick.index}]"


def _layer(raw: xr.Dataset, pick: Pick, what: str) -> xr.DataArray:
    if pick.variable not in raw.variables:
        names = ", ".join(map(str, list(raw.data_vars)[:12]))
        raise ValueError(f"the file has no variable {pick.variable!r} for {what}; it has {names}")
    array = raw[pick.variable]
    extra = [dim for dim in array.dims if dim not in ("time", "y", "x", "lat", "lon")]
    if pick.index is not None and len(extra) == 1:
        if not -array.sizes[extra[0]] <= pick.index < array.sizes[extra[0]]:
            raise ValueError(
                f"{pick.variable!r} has {array.sizes[extra[0]]} steps along {extra[0]!r}; "
                f"{what} asks for number {pick.index}"
            )
        array = array.isel({extra[0]: pick.index}, drop=True)
        extra = []
    if extra:
        raise ValueError(
            f"{pick.variable!r} has the dimensions {tuple(map(str, array.dims))}; {what} needs "
            "(time, y, x): name them with dims, or pick a step with "
            '{"variable": ..., "index": ...}'
        )
    return array.reset_coords(drop=True)


def _dims(value: Any) -> dict[str, str]:
    known = ("time", "x", "y", "band")
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("dims must name dimensions, as in dims.x=east")
    wrong = [key for key in value if key not in known]
    if wrong:
        raise ValueError(f"dims does not know {wrong[0]!r}; our dimensions are {', '.join(known)}")
    return dict(value)


def _bands(value: Any) -> dict[str, Pick]:
    if not isinstance(value, Mapping):
        raise ValueError('bands must name a variable for each band, as in {"B04": "red"}')
    wrong = [str(key) for key in value if key not in BANDS]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no band; choose from {', '.join(BANDS)}")
    return {key: _pick(pick, key) for key, pick in value.items()}


def _pick(value: Any, what: str) -> Pick:
    if isinstance(value, str):
        return Pick(value)
    if isinstance(value, Mapping) and set(value) <= {"variable", "index"}:
        name, index = value.get("variable"), value.get("index")
        whole = index is None or (isinstance(index, int) and not isinstance(index, bool))
        if isinstance(name, str) and whole:
            return Pick(name, index)
    raise ValueError(
        f'{what} must be the name of a variable, or {{"variable": ..., "index": whole number}}'
    )


def _mask(value: Any) -> tuple[Pick, dict[int, int]] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or "variable" not in value or "clear" not in value:
        raise ValueError('valid must be {"variable": ..., "clear": [..]}')
    wrong = [str(key) for key in value if key not in ("variable", "index", *_CLASSES)]
    if wrong:
        raise ValueError(
            f"valid does not know {wrong[0]!r}; its keys are variable, index, {', '.join(_CLASSES)}"
        )
    codes: dict[int, int] = {}
    for word, code in _CLASSES.items():
        numbers = value.get(word, [])
        if not isinstance(numbers, list) or not all(_is_class(number) for number in numbers):
            raise ValueError(f"valid.{word} must be a list of classes 0..255")
        codes |= dict.fromkeys(numbers, code)
    pick = _pick({k: v for k, v in value.items() if k in ("variable", "index")}, "valid")
    return pick, codes


def _is_class(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _number(given: Mapping[str, Any], key: str, *, positive: bool = False) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (positive and value <= 0):
        raise ValueError(f"{key} {value!r} must be a number{' above zero' if positive else ''}")
    return float(value)


def _crs(value: Any) -> str | None:
    if value is None:
        return None
    try:
        pyproj.CRS.from_user_input(value if isinstance(value, str) else f"EPSG:{value:d}")
    except (pyproj.exceptions.CRSError, TypeError, ValueError):
        raise ValueError(f"crs {value!r} is unknown; write it as EPSG:32631") from None
    return str(value) if isinstance(value, str) else f"EPSG:{value}"
