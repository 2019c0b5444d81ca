"""The sensors that features are made of: where their values stand in a cube."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Disturbance:
    """What a sensor may be off by, in training: all in its unit unless told otherwise."""

    gain: float
    """Largest change of a channel's scale, of a whole patch [1]."""
    offset: float
    """Largest shift of a channel, of a whole patch."""
    scale: float
    """Deviation of the scale of a channel from date to date [1]."""
    shift: float
    """Deviation of a channel from date to date."""
    grain: float
    """Largest deviation of the noise of each pixel."""
    veiled: bool
    """Whether haze and the shadows of clouds that no mask knows change what it sees."""


@dataclass(frozen=True)
class Sensor:
    """Where a sensor stands in a cube, and what of it is learned from."""

    variable: str
    """Variable of the cube."""
    time: str
    """Its time dimension."""
    dim: str | None
    """Its dimension of channels; None if it has one channel only."""
    channels: tuple[str, ...]
    """Channels that are learned from unless told otherwise."""
    features: int
    """Latents of its encoder unless told otherwise."""
    limits: tuple[float, float]
    """Values outside are clipped [unit of the variable]."""
    title: str
    """Name for people."""
    disturbance: Disturbance
    """How its values are changed in training."""


SENSORS: dict[str, Sensor] = {
    "s2": Sensor(
        "reflectance", "time", "band",
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        9, (-0.1, 1.2), "Sentinel-2 surface reflectance",
        # calibration and atmospheric correction: 2 % and 0.003 from date to date
        Disturbance(gain=0.25, offset=0.015, scale=0.02, shift=0.003, grain=0.01, veiled=True),
    ),
    "s1": Sensor(
        "backscatter", "time_s1", "polarisation", ("VV", "VH"), 2, (-35.0, 10.0),
        "Sentinel-1 backscatter",
        # decibels: other soils, roughness and angles shift them; speckle is what a filter left
        Disturbance(gain=0.0, offset=2.0, scale=0.0, shift=0.25, grain=1.0, veiled=False),
    ),
    "lst": Sensor(
        "surface_temperature", "time_lst", None, ("LST",), 1, (230.0, 340.0),
        "Land surface temperature",
        # kelvins: other climates shift them, emissivity and water vapour change them
        Disturbance(gain=0.0, offset=5.0, scale=0.0, shift=0.5, grain=1.0, veiled=False),
    ),
}  # fmt: skip
"""Name -> sensor. The first one, of the optical dates, gives a feature cube its time axis; a new
sensor is one more entry here, one training of its encoder, and one of the fusion."""

MAIN = "s2"
"""The sensor whose dates a feature cube has."""

FAR = 20.0
"""Days beyond which what another sensor saw is not taken for a date of the main one."""
