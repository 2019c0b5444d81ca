"""A second opinion on clouds: the network of the package ukis-csmask.

The package carries the weights of a U-Net that was trained on Level-2A images of 30 m
(Wieland et al. 2019, doi 10.1016/j.rse.2019.05.022). It is run here at 20 m or coarser, on
windows that end where the tile does.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
"""Bands of the network, in its order."""
EDGE = 256
"""Edge of the network's window [px]."""
WORTH = 0.02
"""Share of usable pixels below which a date is not looked at again."""

_CLOUD, _SHADOW = 1, 2


def possible(bands: Sequence[str]) -> bool:
    """Tell whether the network's bands are there.

    Raises
    ------
    ValueError
        If they are, but its packages are not installed.
    """
    if not set(BANDS) <= set(bands):
        return False
    if not _installed():
        raise ValueError(
            "the packages ukis-csmask and onnxruntime are not installed; install them, or look for "
            "clouds in time only (clouds temporal)"
        )
    return True


def step(bands: Sequence[str]) -> str:
    """Say what is done, for the attribute ``processing``."""
    if not possible(bands):
        missing = [band for band in BANDS if band not in bands]
        return f"no second opinion on clouds by a network: {', '.join(missing)} missing"
    return f"clouds and shadows by a second network (ukis-csmask {version('ukis-csmask')})"


def classify(
    bands: Mapping[str, NDArray[np.float32]], usable: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find clouds and shadows, date by date.

    Parameters
    ----------
    bands
        Reflectance of `BANDS` ``(time, y, x)``, of about 20 m.
    usable
        Pixels that matter ``(time, y, x)``; dates with hardly any are left out.

    Returns
    -------
    cloud, shadow : numpy.ndarray
        ``(time, y, x)``; only pixels of `usable` are set.
    """
    cloud, shadow = np.zeros(usable.shape, bool), np.zeros(usable.shape, bool)
    for index in np.flatnonzero(usable.mean(axis=(1, 2)) > WORTH):
        image = np.stack([bands[name][index] for name in BANDS])
        classes = _classes(np.nan_to_num(image))
        cloud[index] = (classes == _CLOUD) & usable[index]
        shadow[index] = (classes == _SHADOW) & usable[index]
    return cloud, shadow


def _classes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give the class of each pixel of an image ``(band, y, x)``."""
    classes = np.zeros(image.shape[1:], np.uint8)
    for y in range(0, image.shape[1], EDGE):
        for x in range(0, image.shape[2], EDGE):
            part = image[:, y : y + EDGE, x : x + EDGE]
            classes[y : y + EDGE, x : x + EDGE] = _window(part)
    return classes


def _window(part: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Run the network on one window, mirrored to its size."""
    session, name, mean, deviation = _network()
    rows, columns = part.shape[1:]
    whole = np.pad(part, ((0, 0), (0, EDGE - rows), (0, EDGE - columns)), mode="symmetric")
    scaled = (whole - mean[:, None, None]) / deviation[:, None, None]
    scores = session.run(None, {name: scaled[None].astype(np.float32)})[0][0]
    return scores.argmax(axis=0).astype(np.uint8)[:rows, :columns]


def _installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("ukis_csmask", "onnxruntime"))


@functools.lru_cache(maxsize=1)
def _network() -> tuple[Any, str, NDArray[np.float32], NDArray[np.float32]]:
    import onnxruntime  # half a second, for those who look for clouds only

    folder = Path(str(importlib.util.find_spec("ukis_csmask").origin)).parent  # type: ignore
    facts = json.loads((folder / "model_6b_l2a.json").read_text())["data"]["dataset_statistics"]
    options = onnxruntime.SessionOptions()
    # workers run side by side already
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "model_6b_l2a.onnx"), options, providers=["CPUExecutionProvider"]
    )
    mean, deviation = (np.array(values, np.float32) for values in facts["img"])
    return session, session.get_inputs()[0].name, mean, deviation
