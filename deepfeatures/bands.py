"""The Sentinel-2 bands and the variables of a cube: names, wavelengths, units, labels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """One band of the Sentinel-2 multispectral instrument (values of Sentinel-2A)."""

    name: str
    """Name with a leading zero: ``B04``."""
    wavelength_nm: float
    """Centre wavelength [nm]."""
    bandwidth_nm: float
    """Full width at half maximum [nm]."""
    resolution_m: int
    """Native ground sampling distance [m]."""
    common_name: str
    """Common name of the STAC ``eo`` extension."""
    spyndex: str
    """Name in the formulas of the spectral index table."""


# Source: Sentinel-2 Spectral Response Functions, ESA document COPE-GSEG-EOPG-TN-15-0007, S2A.
_ROWS = (
    ("B01", 442.7, 21, 60, "coastal", "A"),
    ("B02", 492.4, 66, 10, "blue", "B"),
    ("B03", 559.8, 36, 10, "green", "G"),
    ("B04", 664.6, 31, 10, "red", "R"),
    ("B05", 704.1, 15, 20, "rededge071", "RE1"),
    ("B06", 740.5, 15, 20, "rededge075", "RE2"),
    ("B07", 782.8, 20, 20, "rededge078", "RE3"),
    ("B08", 832.8, 106, 10, "nir", "N"),
    ("B8A", 864.7, 21, 20, "nir08", "N2"),
    ("B09", 945.1, 20, 60, "nir09", "WV"),
    ("B11", 1613.7, 91, 20, "swir16", "S1"),
    ("B12", 2202.4, 175, 20, "swir22", "S2"),
)

BANDS: dict[str, Band] = {row[0]: Band(*row) for row in _ROWS}
"""The twelve bands of level 2A in the order of wavelength (B10 has no surface reflectance)."""

VARIABLES: dict[str, tuple[str, str]] = {
    "reflectance": ("1", "Surface reflectance"),
    "si": ("1", "Spectral index"),
    "features": ("1", "Learned features"),
    "layer": ("1", "Result on the map"),
    "valid": ("1", "Usable observation (1 = usable)"),
    "scl": ("1", "Scene classification (Sen2Cor)"),
    "backscatter": ("dB", "Radar backscatter"),
    "surface_temperature": ("K", "Land surface temperature"),
    "orbit": ("1", "Orbit direction"),
    "relative_orbit": ("1", "Relative orbit number"),
    "elevation": ("m", "Elevation above sea level"),
    "label_WORLDCOVER": ("1", "Land cover"),
    "sun_zenith": ("degree", "Sun zenith angle"),
    "sun_azimuth": ("degree", "Sun azimuth angle"),
    "view_zenith": ("degree", "View zenith angle"),
    "nbar": ("1", "Correction to a view from nadir"),
    "view_azimuth": ("degree", "View azimuth angle"),
    "temperature_mean": ("degC", "Daily mean air temperature at 2 m"),
    "temperature_min": ("degC", "Daily minimum air temperature at 2 m"),
    "temperature_max": ("degC", "Daily maximum air temperature at 2 m"),
    "dewpoint": ("degC", "Daily mean dew point temperature at 2 m"),
    "precipitation": ("mm d-1", "Daily precipitation"),
    "solar_radiation": ("W m-2", "Daily mean downward short-wave radiation"),
    "vapour_pressure": ("hPa", "Daily mean vapour pressure"),
    "wind_speed": ("m s-1", "Daily mean wind speed at 10 m"),
    "relative_humidity": ("%", "Daily mean relative humidity at 2 m"),
    "vapour_pressure_deficit": ("hPa", "Daily mean vapour pressure deficit at 2 m"),
    "surface_pressure": ("hPa", "Daily mean air pressure at the surface"),
    "clear_sky_radiation": ("W m-2", "Daily mean downward short-wave radiation without clouds"),
    "evaporation": ("mm d-1", "Daily evaporation, positive upwards"),
    "potential_evaporation": ("mm d-1", "Daily potential evaporation, positive upwards"),
    "reference_evapotranspiration": ("mm d-1", "Daily reference evapotranspiration of grass"),
    "events": ("1", "Extremes of heat and drought (bits)"),
    "event_labels": ("1", "Number of the persistent compound event (0 = none)"),
}
"""Units and long name of each variable that a cube may hold."""


def attributes(variable: str) -> dict[str, str]:
    """Give the ``units`` and ``long_name`` attributes of a variable of `VARIABLES`."""
    units, long_name = VARIABLES[variable]
    return {"units": units, "long_name": long_name}
