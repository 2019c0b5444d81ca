"""Feature cubes of the research code: ``features (feature, time, y, x)`` without labels."""

from __future__ import annotations

import json

import dask
import numpy as np
import xarray as xr

from deepfeatures import __version__
from deepfeatures.bands import attributes
from deepfeatures.clouds import VALID_FLAGS
from deepfeatures.foreign.places import placed
from deepfeatures.foreign.plain import Plain, decoded
from deepfeatures.foreign.times import dated, ordered

LEVELS = 127
"""Quantised features are -127..127."""


def from_features(raw: xr.Dataset) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Give a feature cube: labelled, with its mask and a stated quantisation.

    The step is the largest magnitude over `LEVELS`, so that nothing is cut; the values are read
    once to find it.

    Returns
    -------
    tuple
        The cube without the attributes of its provenance, and what was done.
    """
    array = raw["features"]
    data = xr.Dataset({"features": array}, attrs=raw.attrs)
    for name in ("spatial_ref", "crs"):
        if name in raw.variables:
            data = data.assign_coords({name: raw[name].reset_coords(drop=True)})
    words = [f"features {tuple(map(str, array.dims))} to (time, feature, y, x)"]
    plain = placed(Plain("DeepFeatures feature cube", data, tuple(words)))
    plain, day = ordered(dated(plain, None))
    features = decoded(plain.data["features"]).transpose("time", "feature", "y", "x")
    if np.unique(day).size != day.size:
        raise ValueError("two steps of the feature cube lie on one day; keep one of them")
    labels = [f"F{number + 1:02d}" for number in range(features.sizes["feature"])]
    changes = list(plain.changes)
    if "feature" not in array.coords:
        changes.append(f"features labelled {labels[0]}..{labels[-1]}")
    features = features.assign_coords(feature=labels).chunk(feature=-1)
    step = _step(features)
    changes.append(
        f"stored as integers -{LEVELS}..{LEVELS} with the step {step:.6g} (largest value over "
        f"{LEVELS}): features change by at most {step / 2:.3g}"
    )
    changes.append("valid = all features have a value")
    ds = plain.data.drop_vars(["features"]).drop_vars("feature", errors="ignore")
    ds["features"] = features.assign_attrs(attributes("features"), grid_mapping="spatial_ref")
    ds["features"].encoding = {"scale_factor": step}
    ds["valid"] = features.notnull().all("feature").astype(np.uint8)
    ds["valid"].attrs = attributes("valid") | VALID_FLAGS
    quantisation = {"scale": step, "dtype": "int8", "formula": "feature = integer x scale"}
    unknown = "not stated by the source"
    ds.attrs = {
        **raw.attrs,
        "model": str(raw.attrs.get("model", unknown)),
        "model_checksum": unknown,
        "model_channels": "[]",
        "source_cube": unknown,
        "quantisation": json.dumps(quantisation),
        "geoemb:quantization": json.dumps(quantisation),
        "geoemb:version": f"imported by deepfeatures {__version__}",
    }
    return ds, tuple(changes)


def _step(features: xr.DataArray) -> float:
    (largest,) = dask.compute(abs(features).max())
    value = float(largest)
    if not np.isfinite(value):
        raise ValueError("the feature cube holds no value at all; check the file")
    return (value or 1.0) / LEVELS
