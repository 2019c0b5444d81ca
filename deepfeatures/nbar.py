"""Nadir BRDF-adjusted reflectance (NBAR): the c-factor of Sentinel-2 from sun and view angles.

Arrays only, angles in degrees. NBAR = c x surface reflectance, where c is the modelled
reflectance seen from nadir over that seen from where the sensor stood, both under the sun of the
acquisition (Roy et al. 2016, doi 10.1016/j.rse.2016.01.023, equation 7). The model is Ross-Thick
and Li-Sparse-Reciprocal with one global set of coefficients per band, so it corrects the view angle
and not the sun angle, and it is meant for view angles of up to some ten degrees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Array = NDArray[Any]


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of the three terms of the reflectance model for one band."""

    isotropic: float
    """Of one: reflectance with sun and sensor at nadir."""
    geometric: float
    """Of the Li-Sparse-Reciprocal kernel: shadows between crowns."""
    volumetric: float
    """Of the Ross-Thick kernel: scattering inside a dense canopy."""


# Roy et al. 2016, doi 10.1016/j.rse.2016.01.023, and for Sentinel-2 Roy et al. 2017, doi
# 10.1016/j.rse.2017.06.019 (visible, near and short-wave infrared) and doi 10.3390/rs9121325
# (red edge); the same numbers as in sen2nbar 2024.6.0.
COEFFICIENTS: dict[str, Coefficients] = {
    "B02": Coefficients(0.0774, 0.0079, 0.0372),
    "B03": Coefficients(0.1306, 0.0178, 0.0580),
    "B04": Coefficients(0.1690, 0.0227, 0.0574),
    "B05": Coefficients(0.2085, 0.0256, 0.0845),
    "B06": Coefficients(0.2316, 0.0273, 0.1003),
    "B07": Coefficients(0.2599, 0.0294, 0.1197),
    "B08": Coefficients(0.3093, 0.0330, 0.1535),
    "B11": Coefficients(0.3430, 0.0453, 0.1154),
    "B12": Coefficients(0.2658, 0.0387, 0.0639),
}
"""The bands with published coefficients."""

UNCORRECTED: tuple[str, ...] = ("B01", "B8A", "B09")
"""Bands of level 2A without published coefficients: their c-factor is one."""

HIGHEST_SUN_ZENITH = 80.0
"""Degrees; for a sun further down the c-factor of this one is taken.

The modelled reflectance of the bands runs through zero near 83 degrees, so the quotient of two of
them means nothing there (it goes from -1900 to 1100). Up to here it stays within 0.83 and 1.18.
"""

_ROWS = 64  # pixel rows made at once
_RELATIVE_HEIGHT = 2.0  # h/b of the crowns; with b/r = 1 the primed angles are the angles


def kvol(sun_zenith: ArrayLike, view_zenith: ArrayLike, relative_azimuth: ArrayLike) -> Array:
    """Give the volumetric kernel, Ross-Thick.

    Parameters
    ----------
    sun_zenith, view_zenith, relative_azimuth
        Degrees; shapes that broadcast.

    Returns
    -------
    numpy.ndarray
        Lucht et al. 2000, doi 10.1109/36.841980, equation 38; zero with sun and view at nadir.
    """
    sun, view, azimuth = (
        np.deg2rad(angle) for angle in (sun_zenith, view_zenith, relative_azimuth)
    )
    cos_phase = _cos_phase(sun, view, azimuth)
    phase = np.arccos(cos_phase)
    scattering = (np.pi / 2 - phase) * cos_phase + np.sin(phase)
    return scattering / (np.cos(sun) + np.cos(view)) - np.pi / 4


def kgeo(sun_zenith: ArrayLike, view_zenith: ArrayLike, relative_azimuth: ArrayLike) -> Array:
    """Give the geometric kernel, Li-Sparse-Reciprocal, for spheres (b/r = 1) at h/b = 2.

    Parameters
    ----------
    sun_zenith, view_zenith, relative_azimuth
        Degrees; shapes that broadcast.

    Returns
    -------
    numpy.ndarray
        Lucht et al. 2000, doi 10.1109/36.841980, equations 39 to 44; zero with sun and view at
        nadir.
    """
    sun, view, azimuth = (
        np.deg2rad(angle) for angle in (sun_zenith, view_zenith, relative_azimuth)
    )
    tan_sun, tan_view = np.tan(sun), np.tan(view)
    sec_sun, sec_view = 1 / np.cos(sun), 1 / np.cos(view)
    both = sec_sun + sec_view
    # equation 42 is a square of a length, which rounding may turn negative at the hot spot
    squared = tan_sun**2 + tan_view**2 - 2 * tan_sun * tan_view * np.cos(azimuth)
    squared = np.maximum(squared, 0) + (tan_sun * tan_view * np.sin(azimuth)) ** 2
    cos_t = np.minimum(_RELATIVE_HEIGHT * np.sqrt(squared) / both, 1)
    t = np.arccos(cos_t)
    overlap = (t - np.sin(t) * cos_t) * both / np.pi
    return overlap - both + 0.5 * (1 + _cos_phase(sun, view, azimuth)) * sec_sun * sec_view


def c_factor(
    sun_zenith: ArrayLike,
    view_zenith: ArrayLike,
    relative_azimuth: ArrayLike,
    bands: Sequence[str],
) -> Array:
    """Give the factor that turns surface reflectance into NBAR.

    Parameters
    ----------
    sun_zenith, view_zenith, relative_azimuth
        Degrees (azimuth of the sun minus that of the view, any multiple of 360 added; a sun below
        `HIGHEST_SUN_ZENITH` counts as that). Numbers,
        or arrays that broadcast with the band axis first: ``(band, y, x)``, or ``(y, x)`` for
        all bands alike, or ``(1, time)`` for one triple per date.
    bands
        Names of the bands, ``B02``.

    Returns
    -------
    numpy.ndarray
        float64 ``(band, ...)``: one for the bands of `UNCORRECTED`, elsewhere NaN where an angle
        is NaN.

    Raises
    ------
    ValueError
        If a band is unknown, or the angles do not broadcast with the bands.
    """
    angles = [
        np.asarray(angle, np.float64) for angle in (sun_zenith, view_zenith, relative_azimuth)
    ]
    shape = np.broadcast_shapes(*(angle.shape for angle in angles)) or (1,)
    if shape[0] not in (1, len(bands)):
        raise ValueError(
            f"the angles have {shape[0]} layers for {len(bands)} bands; put the band axis first, "
            "with one layer for all bands or one for each"
        )
    sun, view, azimuth = (
        np.reshape(angle, (1,) * (len(shape) - angle.ndim) + angle.shape) for angle in angles
    )
    terms = np.array([_terms(band) for band in bands]).reshape(-1, 3, *(1,) * (len(shape) - 1))
    sun = np.minimum(sun, HIGHEST_SUN_ZENITH)
    nadir = brdf(terms, kvol(sun, 0, 0), kgeo(sun, 0, 0))
    seen = brdf(terms, kvol(sun, view, azimuth), kgeo(sun, view, azimuth))
    factor = nadir / seen
    factor[[band in UNCORRECTED for band in bands]] = 1
    return factor


def brdf(terms: Array, volumetric: Array, geometric: Array) -> Array:
    """Give the modelled reflectance, Roy et al. 2016, equation 1.

    Parameters
    ----------
    terms
        Coefficients ``(band, 3, ...)``: isotropic, geometric, volumetric.
    volumetric, geometric
        The kernels, ``(band, ...)`` or ``(1, ...)``.

    Returns
    -------
    numpy.ndarray
        ``(band, ...)``.
    """
    return terms[:, 0] + (terms[:, 2] * volumetric + terms[:, 1] * geometric)


def fill(values: Array) -> Array:
    """Give nodes without a value that of the nearest node of the same band that has one.

    Parameters
    ----------
    values
        ``(band, y, x)`` on a grid with square cells, NaN where there is none.

    Returns
    -------
    numpy.ndarray
        Of the same shape. A band without any value stays NaN.
    """
    filled = values.copy()
    known: dict[bytes, Array] = {}
    columns, rows = np.meshgrid(np.arange(values.shape[2]), np.arange(values.shape[1]))
    # rows count upwards, as y does: among nodes equally near the tree then takes the same one
    # as sen2nbar, which fills on coordinates
    nodes = np.column_stack([columns.ravel(), -rows.ravel()]).astype(np.float64)
    for layer in filled.reshape(len(values), -1):
        there = np.isfinite(layer)
        if there.all() or not there.any():
            continue
        key = there.tobytes()  # most bands miss the same nodes
        if key not in known:
            known[key] = np.flatnonzero(there)[cKDTree(nodes[there]).query(nodes[~there])[1]]
        layer[~there] = layer[known[key]]
    return filled


def on_lines(values: Array, rows: Array, columns: Array) -> Array:
    """Interpolate a grid linearly to pixels that lie on its lines.

    Parameters
    ----------
    values
        ``(band, y, x)`` at the nodes, without gaps.
    rows, columns
        Places of the pixels' rows ``(height,)`` and columns ``(width,)``, counted in nodes.
        Beyond the grid the value at its edge holds.

    Returns
    -------
    numpy.ndarray
        float32 ``(band, height, width)``. Each pixel depends on its own place alone, so parts
        equal the whole bit for bit.
    """
    across, part = _cells(columns, values.shape[2])
    left = values[:, :, across]
    lines = (left + (values[:, :, across + 1] - left) * part).astype(np.float32)
    down, part = _cells(rows, values.shape[1])
    share = part.astype(np.float32)
    out = np.empty((len(values), len(rows), len(columns)), np.float32)
    for block in _runs(down):
        cell = down[block.start]
        # spread out, because the product with a column is twice as slow
        spread = np.repeat(share[block, None], len(columns), axis=1)
        for layer, line in zip(out, lines, strict=True):
            np.multiply(spread, line[cell + 1] - line[cell], out=layer[block])
            layer[block] += line[cell]
    return out


def at_points(values: Array, rows: Array, columns: Array) -> Array:
    """Interpolate a grid linearly to any places.

    Parameters
    ----------
    values
        ``(band, y, x)`` at the nodes, without gaps.
    rows, columns
        Places ``(height, width)``, counted in nodes; beyond the grid the value at its edge holds.

    Returns
    -------
    numpy.ndarray
        float32 ``(band, height, width)``.
    """
    count, height, width = values.shape
    nodes = values.reshape(count, -1).astype(np.float32)
    out = np.empty((count, *rows.shape), np.float32)
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        down, v = _cells(rows[block], height)
        across, u = _cells(columns[block], width)
        corner = down * width + across
        u, v = u.astype(np.float32), v.astype(np.float32)
        for layer, grid in zip(out, nodes, strict=True):
            upper, lower = (
                (1 - u) * grid.take(first) + u * grid.take(first + 1)
                for first in (corner, corner + width)
            )
            layer[block] = upper + v * (lower - upper)
    return out


def _cells(places: Array, count: int) -> tuple[Array, Array]:
    """Give the node before each place and the share of the way to the next one."""
    inside = np.clip(places, 0, count - 1)
    before = np.minimum(inside.astype(np.intp), count - 2)
    return before, inside - before


def _runs(cells: Array) -> Iterator[slice]:
    """Cut rows into blocks within one cell, small enough for the processor's cache."""
    edges = [0, *(np.flatnonzero(np.diff(cells)) + 1), len(cells)]
    for first, last in itertools.pairwise(edges):
        for start in range(first, last, _ROWS):
            yield slice(start, min(start + _ROWS, last))


def _terms(band: str) -> tuple[float, float, float]:
    if band in UNCORRECTED:
        return 1.0, 0.0, 0.0
    if band not in COEFFICIENTS:
        raise ValueError(
            f"band {band!r} has no c-factor; choose from {', '.join((*COEFFICIENTS, *UNCORRECTED))}"
        )
    found = COEFFICIENTS[band]
    return found.isotropic, found.geometric, found.volumetric


def _cos_phase(sun: Array, view: Array, azimuth: Array) -> Array:
    """Give the cosine of the angle between sun and view (radians), kept in its domain."""
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    return np.clip(cosine, -1, 1)
