"""Arrays that stack bands along a dimension, as cubo and stackstac make them of STAC items.

Source of the form: cubo (doi 10.48550/arXiv.2404.13105), whose arrays are what ``stackstac.stack``
gives: one step per item, coordinates at the upper left corner of a pixel unless asked otherwise,
scale and offset applied only where the catalogue states them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from deepfeatures.foreign import baselines
from deepfeatures.foreign.places import steady
from deepfeatures.foreign.plain import Plain, band_names, missing

STEPS = 12
"""Steps of which a window is looked at to tell digital numbers from reflectance."""
WINDOW = 64
"""Edge of that window [px]."""
DARK = -0.02
"""A stack whose darkest percent lies below is too dark to be reflectance."""


def find_stack(raw: xr.Dataset) -> xr.DataArray | None:
    """Give the array with Sentinel-2 bands along a dimension ``band``, if there is one."""
    for name, array in raw.data_vars.items():
        whole = {"time", "band", "y", "x"} == set(map(str, array.dims)) and "band" in array.coords
        if whole and set(band_names(labels_of(array))) - {"SCL"}:
            return raw[name]
    return None


def is_cubo(stack: xr.DataArray) -> bool:
    """Tell cubo's arrays from others."""
    return "cubo:distance_from_center" in stack.coords or {"stac", "central_lat"} <= set(
        stack.attrs
    )


def from_stack(raw: xr.Dataset, offset: float | None, scale: float | None) -> Plain:
    """Translate a cubo array, or another stack of STAC items."""
    stack = find_stack(raw)
    assert stack is not None
    form = "cubo" if is_cubo(stack) else "stack"
    names = band_names(labels_of(stack))
    bands = {name: label for name, label in names.items() if name != "SCL"}
    values = sampled(stack.sel(band=list(bands.values())))
    unit = scale or unit_of(values)
    numbers = unit != 1.0
    steps = baselines.of(stack, numbers=numbers, dark=bool(np.quantile(values, 0.01) < DARK))
    ours = unstacked(stack, names, unit)
    shift = steps.offset if offset is None else np.full(steps.offset.shape, offset)
    data = ours.assign(
        offset=("time", shift), baseline=("time", steps.baseline)
    ).assign_attrs(raw.attrs | stack.attrs | items_of(stack))  # fmt: skip
    for name in ("epsg", "proj:epsg", "proj:code", "spatial_ref", "crs"):
        if name in raw.variables:
            data = data.assign_coords({name: raw[name].reset_coords(drop=True)})
    plain = Plain(form, data, _stack_words(stack, names, unit))
    plain = plain.then(data, *(steps.changes if offset is None else ()))
    return _centred(plain)


def sampled(stack: xr.DataArray) -> np.ndarray:
    """Give finite values of a window in the middle, of some steps; of all if there are none.

    Raises
    ------
    ValueError
        If the array is empty.
    """
    count, rows, columns = (stack.sizes[dim] for dim in ("time", "y", "x"))
    steps = np.unique(np.linspace(0, count - 1, STEPS).astype(int))
    near = {
        dim: slice(max(0, size // 2 - WINDOW // 2), size // 2 + WINDOW // 2)
        for dim, size in (("y", rows), ("x", columns))
    }
    choices: list[dict[str, Any]] = [{"time": steps, **near}]
    choices += [{"time": [step]} for step in range(count)]
    fill = missing(stack)
    for choice in choices:
        values = np.asarray(stack.isel(choice).values, np.float64)
        values = values[np.isfinite(values) & (values != fill) & (values != 0)]
        if values.size:
            scale = float(stack.attrs.get("scale_factor", 1.0))
            return values * scale + float(stack.attrs.get("add_offset", 0.0))
    raise ValueError("the array holds no value at all; check the file")


def unit_of(values: np.ndarray) -> float:
    """Tell digital numbers (1e-4) from reflectance (1) by their size.

    Raises
    ------
    ValueError
        If the values are neither.
    """
    bright = float(np.quantile(np.abs(values), 0.95))
    if bright > 200:
        return 1e-4
    if bright < 3:
        return 1.0
    raise ValueError(
        f"values around {bright:.3g} are neither reflectance (0..1) nor digital numbers (0..10000);"
        " say the factor with --map scale=..."
    )


def labels_of(array: xr.DataArray) -> list[str]:
    """Give the labels of the bands of a stack."""
    return [str(label) for label in array["band"].values]


def layer_of(stack: xr.DataArray, label: str) -> xr.DataArray:
    """Give one band of a stack, without the coordinates that items left."""
    index = labels_of(stack).index(label)
    return stack.isel(band=index, drop=True).reset_coords(drop=True)


def unstacked(stack: xr.DataArray, names: dict[str, str], unit: float) -> xr.Dataset:
    """Give one variable per band, with the factor that makes reflectance."""
    layers = {}
    for name, label in names.items():
        layer = layer_of(stack, label)
        coding = {
            key: stack.attrs[key] for key in ("add_offset", "_FillValue") if key in stack.attrs
        }
        if name == "SCL":
            layers[name] = layer.assign_attrs(coding)
            continue
        if unit != 1 and np.isnan(missing(stack)):
            coding["_FillValue"] = 0
        coding["scale_factor"] = float(stack.attrs.get("scale_factor", 1.0)) * unit
        coding["add_offset"] = float(stack.attrs.get("add_offset", 0.0)) * unit
        layer.attrs = coding
        layers[name] = layer
    return xr.Dataset(layers)


def items_of(stack: xr.DataArray) -> dict[str, str]:
    """Give the names of the STAC items that the array kept."""
    if "id" in stack.coords:
        return {"source_items": json.dumps([str(v) for v in np.atleast_1d(stack["id"].values)])}
    return {}


def left_out(labels: list[str]) -> list[str]:
    """Give the sentence about what was not taken, if there is anything."""
    return [f"left out: {', '.join(labels)}"] if labels else []


def _stack_words(stack: xr.DataArray, names: dict[str, str], unit: float) -> tuple[str, ...]:
    words = [f"digital numbers x {unit:g}"] if unit != 1 else []
    renamed = [f"{label} = {name}" for name, label in names.items() if name != label]
    words += [f"bands renamed: {', '.join(renamed)}"] if renamed else []
    return (*words, *left_out([w for w in labels_of(stack) if w not in names.values()]))


def _centred(plain: Plain) -> Plain:
    """Move the coordinates of a stack to pixel centres.

    Where the array's centre is known (cubo's attributes), its edges follow from it; else pixel
    edges are taken to lie on multiples of the pixel size, as stackstac snaps them.
    """
    data = plain.data
    moved: dict[str, float] = {}
    for axis, sign in (("x", 1), ("y", -1)):
        values = steady(data[axis].values)
        step = step_of(values, data)
        first = values.min() if sign > 0 else values.max()
        shift = _to_centre(first, step, values.size, sign, data.attrs.get(f"central_{axis}"))
        data = data.assign_coords({axis: values + shift})
        if shift:
            moved[axis] = shift
    if not moved:
        return plain.then(data)
    words = ", ".join(f"{axis} {shift:+g} m" for axis, shift in moved.items())
    return plain.then(data, f"coordinates moved to pixel centres: {words}")


def step_of(values: np.ndarray, data: xr.Dataset) -> float:
    """Give the pixel size [m] from an axis, or from the attributes where it has one pixel."""
    if values.size > 1:
        return float(abs(values[1] - values[0]))
    return float(data.attrs.get("resolution", 10.0))


def _to_centre(first: float, step: float, count: int, sign: int, centre: Any) -> float:
    if centre is not None:
        edge = round(float(centre) / step) * step - sign * count * step / 2
        shift = edge + sign * step / 2 - first
        halves = shift * sign / (step / 2)
        # two halves: stackstac before 0.5 put the centres of rows above the pixel
        if abs(halves - round(halves)) < 0.01 and round(halves) in (0, 1, 2):
            return float(round(halves)) * sign * step / 2
    corner = abs(first / step - round(first / step)) < 0.25
    return sign * step / 2 if corner else 0.0
