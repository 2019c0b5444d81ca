"""Selection of area, period and channels of a cube, with its provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyproj
import rasterio.features
import shapely
import xarray as xr
from shapely.geometry.base import BaseGeometry

from deepfeatures import __version__, contract, indices


def select(
    ds: xr.Dataset,
    *,
    bbox: Sequence[float] | None = None,
    geometry: BaseGeometry | None = None,
    start: object = None,
    end: object = None,
    channels: Sequence[str] | None = None,
) -> xr.Dataset:
    """Select area, period and channels of a cube; what is lazy stays lazy.

    Parameters
    ----------
    ds
        A cube under the contract.
    bbox
        West, south, east, north [degree]; gives the pixels whose centres lie in its bounds on
        the cube's grid.
    geometry
        Polygon in longitude, latitude [degree]; pixels whose centres lie outside become NaN and
        not valid.
    start, end
        First and last day (text ``2021-05-03``, date or datetime); both are included.
    channels
        Channels of the cube and, of a band cube, names of spectral indices, mixed as you like;
        all channels of the cube by default.

    Returns
    -------
    xarray.Dataset
        ``reflectance``, ``features`` and/or ``si``, and ``valid``, with the provenance.

    Raises
    ------
    ValueError
        If nothing would be left, or what is asked for does not exist.
    """
    contract.check(ds)
    part = _area(_period(ds, start, end), bbox)
    inside = None
    if geometry is not None:
        part, inside = _polygon(part, geometry)
    arrays = _channels(part, channels)
    arrays["valid"] = part["valid"]
    if inside is not None:
        arrays = {
            name: array.where(inside, 0) if name == "valid" else array.where(inside)
            for name, array in arrays.items()
        }
    result = xr.Dataset(arrays).assign_coords(spatial_ref=ds["spatial_ref"])
    asked = {
        "bbox": [float(edge) for edge in bbox] if bbox is not None else None,
        "geometry": shapely.to_wkt(geometry) if geometry is not None else None,
        "channels": list(channels) if channels is not None else None,
    }
    return result.assign_attrs(_provenance(ds, result, asked))


def _period(ds: xr.Dataset, start: object, end: object) -> xr.Dataset:
    times = ds["time"].values
    keep = np.ones(times.size, bool)
    if start is not None:
        keep &= times >= _day(start)
    if end is not None:
        keep &= times < _day(end) + np.timedelta64(1, "D")
    if not keep.any():
        first, last = (np.datetime_as_string(times[at], unit="D") for at in (0, -1))
        raise ValueError(
            f"there is no date from {start or first} to {end or last}; "
            f"the cube runs from {first} to {last}"
        )
    return ds.isel(time=keep)


def _day(value: object) -> np.datetime64:
    try:
        day = pd.Timestamp(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise ValueError(f"{value!r} is no date; write it like 2021-05-03") from None
    if pd.isna(day):
        raise ValueError(f"{value!r} is no date; write it like 2021-05-03")
    if day.tzinfo is not None:
        day = day.tz_convert("UTC").tz_localize(None)
    return np.datetime64(day.date(), "D")


def _area(ds: xr.Dataset, bbox: Sequence[float] | None) -> xr.Dataset:
    if bbox is None:
        return ds
    edges = [float(edge) for edge in bbox]
    if len(edges) != 4 or not all(map(math.isfinite, edges)):
        raise ValueError(f"bbox {edges} must be four numbers: west, south, east, north in degrees")
    west, south, east, north = edges
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(f"bbox {edges} must have west < east and south < north, in degrees")
    return _window(ds, _projected(ds, shapely.box(west, south, east, north)))


def _polygon(ds: xr.Dataset, geometry: BaseGeometry) -> tuple[xr.Dataset, xr.DataArray]:
    """Cut to the bounds of a polygon; tell which pixel centres lie in it."""
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise ValueError(f"the area is a {geometry.geom_type}; draw a polygon that is not empty")
    if not geometry.is_valid:
        why = shapely.is_valid_reason(geometry)
        raise ValueError(f"the area is no clean polygon ({why}); draw it again without crossing")
    projected = _projected(ds, geometry)
    part = _window(ds, projected)
    mask = rasterio.features.geometry_mask(
        [projected],
        out_shape=(part.sizes["y"], part.sizes["x"]),
        transform=contract.geobox(part).affine,
        invert=True,
    )
    if not mask.any():
        raise ValueError("no pixel centre lies in the area; draw a larger one")
    coords = {"y": part["y"], "x": part["x"]}
    return part, xr.DataArray(mask, dims=("y", "x"), coords=coords)


def _projected(ds: xr.Dataset, geometry: BaseGeometry) -> BaseGeometry:
    """Bring longitude, latitude to the grid of the cube; long edges keep their course."""
    west, south, east, north = geometry.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("the area must be in longitude and latitude, in degrees")
    step = max(east - west, north - south) / 64
    to_grid = pyproj.Transformer.from_crs("EPSG:4326", contract.crs(ds).to_wkt(), always_xy=True)

    def moved(points: np.ndarray) -> np.ndarray:
        return np.stack(to_grid.transform(points[:, 0], points[:, 1]), axis=1)

    return shapely.transform(shapely.segmentize(geometry, step), moved)


def _window(ds: xr.Dataset, projected: BaseGeometry) -> xr.Dataset:
    """Cut to the pixels whose centres lie in the bounds of a geometry on the grid."""
    left, bottom, right, top = projected.bounds
    x, y = ds["x"].values, ds["y"].values
    columns = np.flatnonzero((x >= left) & (x <= right))
    rows = np.flatnonzero((y >= bottom) & (y <= top))
    if columns.size and rows.size:
        return ds.isel(
            y=slice(int(rows[0]), int(rows[-1]) + 1),
            x=slice(int(columns[0]), int(columns[-1]) + 1),
        )
    if not np.isfinite(projected.bounds).all() or not projected.intersects(
        shapely.box(*contract.geobox(ds).boundingbox.bbox)
    ):
        west, south, east, north = contract.geobox(ds).geographic_extent.boundingbox.bbox
        raise ValueError(
            f"the area lies outside the cube, which covers {west:.4f} to {east:.4f} degrees east "
            f"and {south:.4f} to {north:.4f} degrees north"
        )
    raise ValueError("no pixel centre lies in the area; draw a larger one")


def _channels(ds: xr.Dataset, wanted: Sequence[str] | None) -> dict[str, xr.DataArray]:
    """Give the arrays that hold the channels: stored ones in the cube's order, then indices."""
    variable, dim = contract.MAIN[contract.kind(ds)]
    labels = contract.channels(ds)
    if wanted is None:
        return {variable: ds[variable]}
    if not wanted:
        raise ValueError(f"no channel is asked for; choose from {_choices(ds)}")
    derived = [name for name in dict.fromkeys(wanted) if name not in labels]
    for name in derived:
        named = name.strip().isidentifier()
        if variable != "reflectance" or (named and name not in indices.INDICES):
            hint = indices.hint(name) if variable == "reflectance" else ""
            raise ValueError(f"the channel {name!r} is unknown{hint}; choose from {_choices(ds)}")
    stored = [label for label in labels if label in wanted]
    arrays = {variable: ds[variable].sel({dim: stored})} if stored else {}
    if derived:
        arrays["si"] = indices.select(ds, derived)
    return arrays


def _choices(ds: xr.Dataset) -> str:
    labels = contract.channels(ds)
    listed = ", ".join(labels)
    if contract.kind(ds) != "bands":
        return listed
    return f"{listed} and {len(indices.available(labels))} spectral indices such as NDVI"


def _provenance(
    ds: xr.Dataset, result: xr.Dataset, asked: Mapping[str, object]
) -> dict[str, object]:
    """Give the attributes of the cube, brought up to date for the selection."""
    first, last = (
        np.datetime_as_string(result["time"].values[at], unit="D").item() for at in (0, -1)
    )
    steps = contract.provenance(ds).get("processing", [])
    step = f"deepfeatures {__version__}: selection for export"
    attrs: dict[str, object] = {
        **{str(name): value for name, value in ds.attrs.items()},
        "processing": json.dumps([*(steps if isinstance(steps, list) else [steps]), step]),
        "selection": json.dumps({name: value for name, value in asked.items() if value}),
        "time_coverage_start": first,
        "time_coverage_end": last,
    }
    if "si" in result and "reflectance" in ds:
        names = [str(name) for name in result["index"].values]
        attrs["index_catalogue"] = indices.CATALOGUE
        attrs["index_formulas"] = json.dumps({n: indices.find(n).formula for n in names})
    return attrs
