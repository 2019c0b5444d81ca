"""Reflectance of canopies from PROSAIL, as a look-up table that is interpolated.

Leaves come from PROSPECT-D (Feret et al. 2017, doi:10.1016/j.rse.2017.03.004), canopies from
4SAIL (Verhoef et al. 2007, doi:10.1109/TGRS.2007.895844); a review of the pair is Jacquemoud
et al. 2009 (doi:10.1016/j.rse.2008.01.026). 4SAIL knows no crowns, so forests are darkened by
the share of the scene that crowns shade, which grows with the sun zenith angle (the idea of
geometric-optical models, Li and Strahler 1986, doi:10.1109/TGRS.1986.289706).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deepfeatures.bands import BANDS

LEAF_AREA = np.array([0, 0.25, 0.5, 0.9, 1.4, 2.0, 2.8, 3.8, 5.0, 7.0])
"""Nodes of the plant area index [m2 m-2]."""
CHLOROPHYLL = np.array([0, 6, 14, 24, 36, 50, 70.0])
"""Nodes of leaf chlorophyll [ug cm-2]."""
BROWN = np.array([0, 1.0])
"""Nodes of the share of dead leaves, which have brown pigments and no chlorophyll [1]."""
SOIL = np.array([0, 1.0])
"""Nodes of the soil: 0 wet and dark, 1 dry and bright [1]."""
SUN_ZENITH = np.array([26, 40, 52, 63, 72, 78.0])
"""Nodes of the sun zenith angle [degree]."""
VIEWS = ((4.6, 105.0), (8.4, 286.0))
"""View zenith and azimuth [degree] of the two orbits that see the landscape."""

_SUN_AZIMUTH = 162.0  # degree, typical of the overpass; the table has no axis for it
_SAMPLES = 7  # wavelengths across a band


@dataclass(frozen=True)
class Canopy:
    """What makes one canopy look like itself."""

    leaf: tuple[float, float, float]
    """Leaf layers N [1], equivalent water [cm], dry matter [g cm-2]."""
    angle: float
    """Mean leaf angle [degree]."""
    hotspot: float
    """Leaf size relative to the canopy's height [1]."""
    litter: float
    """Brightness of the ground below relative to open soil [1]."""
    clumping: float
    """Leaf area that 4SAIL sees as a share of the true one: leaves hide behind each other in
    shoots, crowns and rows (Chen and Black 1992, doi:10.1111/j.1365-3040.1992.tb00992.x) [1]."""
    tan: float
    """Brown pigments of its dead leaves: 1 dark red-brown, 0.3 straw [1]."""
    crowns: float
    """How strongly crowns shade each other, 0 for a closed even canopy [1]."""


@dataclass(frozen=True)
class Soil:
    """How the open soil differs from the two spectra that come with PROSAIL."""

    brightness: float
    """Factor on reflectance [1]."""
    redness: float
    """Exponent of the wavelength up to 800 nm: above 0 red, below 0 pale [1]."""
    slope: float
    """Exponent of the wavelength beyond 800 nm [1]."""


LOAM = Soil(1.0, 0.0, 0.0)
"""The soil of PROSAIL itself."""
CANOPIES: dict[str, Canopy] = {
    "beech": Canopy((1.5, 0.010, 0.0060), 32, 0.05, 0.60, 0.80, 0.75, 0.22),
    "spruce": Canopy((2.0, 0.015, 0.0160), 48, 0.03, 0.60, 0.62, 0.90, 0.38),
    "pine": Canopy((2.1, 0.015, 0.0160), 48, 0.03, 0.85, 0.68, 0.90, 0.28),
    "winter_wheat": Canopy((1.7, 0.017, 0.0045), 56, 0.08, 1.00, 0.72, 0.35, 0.04),
    "maize": Canopy((1.7, 0.017, 0.0045), 50, 0.10, 1.00, 0.70, 0.45, 0.06),
    "meadow": Canopy((1.9, 0.017, 0.0045), 52, 0.05, 1.00, 0.80, 0.70, 0.04),
}
"""Canopies; leaf values within the ranges of the LOPEX and ANGERS measurements."""


def table(canopies: tuple[Canopy, ...] | None = None, soil: Soil = LOAM) -> np.ndarray:
    """Compute the look-up table of canopies with PROSAIL (about a second; the last few are kept).

    Parameters
    ----------
    canopies
        Canopies, by default `CANOPIES`.
    soil
        The open soil.

    Returns
    -------
    numpy.ndarray
        Reflectance (canopy, view, sun zenith, leaf area, chlorophyll, brown, soil, band) float32,
        the canopies in their order and the bands in the order of `BANDS`.
    """
    return _table(tuple(CANOPIES.values()) if canopies is None else canopies, soil)


@lru_cache(maxsize=4)
def _table(canopies: tuple[Canopy, ...], soil: Soil) -> np.ndarray:
    wavelength, weight = _response()
    soils = _soils(wavelength, soil)
    shape = (len(VIEWS), SUN_ZENITH.size, LEAF_AREA.size, CHLOROPHYLL.size, BROWN.size, SOIL.size)
    found = np.empty((len(canopies), *shape, len(BANDS)), np.float32)
    for c, canopy in enumerate(canopies):
        leaf = _leaves(canopy, wavelength)
        ground = np.tile((soils * canopy.litter).ravel(), leaf.shape[1])
        # One call of 4SAIL sees all leaves and soils behind each other in one long spectrum.
        optics = np.repeat(leaf[:, :, None, :], SOIL.size, axis=2).reshape(2, -1)
        for v, s in np.ndindex(shape[:2]):
            for a, area in enumerate(LEAF_AREA):
                sun = float(SUN_ZENITH[s])
                seen = float(area) * canopy.clumping
                spectra = _sail(canopy, optics, ground, seen, v, sun)
                bands = spectra.reshape(*shape[3:], len(BANDS), _SAMPLES) @ weight
                found[c, v, s, a] = bands * _shade(canopy, sun, float(area))
    return found


def at_sun(tables: np.ndarray, view: int, sun_zenith: float) -> np.ndarray:
    """Interpolate the table to a date: (canopy, leaf area, chlorophyll, brown, soil, band)."""
    position = float(np.interp(sun_zenith, SUN_ZENITH, np.arange(SUN_ZENITH.size)))
    low = min(int(position), SUN_ZENITH.size - 2)
    share = np.float32(position - low)
    return tables[:, view, low] * (1 - share) + tables[:, view, low + 1] * share


def look_up(
    dated: np.ndarray,
    canopy: np.ndarray,
    leaf_area: np.ndarray,
    chlorophyll: np.ndarray,
    brown: np.ndarray,
    soil: np.ndarray,
) -> np.ndarray:
    """Interpolate the reflectance of pixels linearly in the properties of canopy and soil.

    Parameters
    ----------
    dated
        Table of a date from `at_sun`.
    canopy
        Index into `CANOPIES`, integers (pixel,).
    leaf_area, chlorophyll, brown, soil
        Properties (pixel,) in the units of the nodes; values outside are clipped.

    Returns
    -------
    numpy.ndarray
        Reflectance (pixel, band) float32.
    """
    axes = ((LEAF_AREA, leaf_area), (CHLOROPHYLL, chlorophyll), (BROWN, brown))
    rows, shares = canopy.astype(np.intp), []
    for nodes, values in axes:
        position = np.interp(values, nodes, np.arange(nodes.size)).astype(np.float32)
        low = np.minimum(position.astype(np.intp), nodes.size - 2)
        rows = rows * nodes.size + low
        shares.append(position - low)
    steps = np.array([CHLOROPHYLL.size * BROWN.size, BROWN.size, 1])
    # Both soils are fetched together: fewer and longer rows are quicker.
    flat = np.ascontiguousarray(dated).reshape(-1, SOIL.size * dated.shape[-1])
    total = np.zeros((rows.size, flat.shape[1]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones(rows.size, np.float32)
        for up, share in zip(corner, shares, strict=True):
            weight *= share if up else 1 - share
        part = flat[rows + int(steps @ corner)]
        part *= weight[:, None]
        total += part
    return on_soil(total.reshape(rows.size, SOIL.size, -1), soil)


def on_soil(both: np.ndarray, soil: np.ndarray) -> np.ndarray:
    """Interpolate (..., soil, band) to soils (pixel,): (pixel, band) float32."""
    share = soil.astype(np.float32)[:, None]
    return both[..., 0, :] * (1 - share) + both[..., 1, :] * share


def bare_soil(wetness: float, brightness: np.ndarray) -> np.ndarray:
    """Give the position on the axis `SOIL` of soils by wetness and brightness, both 0..1."""
    return np.clip((0.12 + 0.80 * brightness) * (1 - 0.62 * wetness), 0, 1)


def _response() -> tuple[np.ndarray, np.ndarray]:
    """Sample each band in +-1 half width of a Gaussian response: (band, sample), (sample,)."""
    offset = np.linspace(-1, 1, _SAMPLES)
    weight = np.exp(-4 * np.log(2) * (offset * 0.75) ** 2)
    centre = np.array([band.wavelength_nm for band in BANDS.values()])
    width = np.array([band.bandwidth_nm for band in BANDS.values()])
    wavelength = np.rint(centre[:, None] + 0.75 * width[:, None] * offset).astype(int)
    return wavelength, (weight / weight.sum()).astype(np.float32)


def _soils(wavelength: np.ndarray, soil: Soil) -> np.ndarray:
    """Wet and dry soil (soil, band, sample) from the two spectra that come with PROSAIL."""
    from prosail import spectral_lib

    dry, wet = spectral_lib.soil.rsoil1, spectral_lib.soil.rsoil2
    mixed = np.stack([0.15 * dry + 0.85 * wet, 0.95 * dry])
    relative = wavelength / 800
    tint = np.minimum(relative, 1) ** soil.redness * np.maximum(relative, 1) ** soil.slope
    return np.minimum(mixed[:, wavelength - 400] * (soil.brightness * tint), 0.9)


def _leaves(canopy: Canopy, wavelength: np.ndarray) -> np.ndarray:
    """Reflectance and transmittance of leaves: (2, chlorophyll * brown, band * sample)."""
    from prosail import run_prospect

    layers, water, matter = canopy.leaf
    found = []
    for chlorophyll in CHLOROPHYLL:
        for brown in BROWN:
            green = chlorophyll * (1 - brown)
            _, reflected, passed = run_prospect(
                layers, green, 1.5 + 0.21 * green, canopy.tan * brown, water * (1 - 0.75 * brown),
                matter, ant=0.0, prospect_version="D",
            )  # fmt: skip
            found.append([reflected[wavelength - 400].ravel(), passed[wavelength - 400].ravel()])
    return np.stack(found, axis=1)


def _sail(
    canopy: Canopy, optics: np.ndarray, ground: np.ndarray, area: float, view: int, sun: float
) -> np.ndarray:
    # Imported here because it loads numba, which takes seconds.
    from prosail import run_sail

    zenith, azimuth = VIEWS[view]
    return run_sail(
        optics[0].copy(), optics[1].copy(), area, canopy.angle, canopy.hotspot, sun, zenith,
        abs(azimuth - _SUN_AZIMUTH), rsoil0=ground,
    )  # fmt: skip


def _shade(canopy: Canopy, sun_zenith: float, area: float) -> float:
    """Share of light left by mutual shading; shaded crowns keep a quarter of their brightness."""
    steep = 1 - np.exp(-1.1 * np.tan(np.radians(sun_zenith)))
    return float(1 - 0.75 * canopy.crowns * steep * (1 - np.exp(-1.5 * area)))
