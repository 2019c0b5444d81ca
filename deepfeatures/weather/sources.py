"""Known weather variables: their names at the source, units, and how hours make a day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deepfeatures.bands import VARIABLES

COMPONENTS = ("wind_east", "wind_north")
"""Wind components [m s-1]: they make `wind_speed` and are not kept."""

# unit of the contract -> unit of a source -> factor, shift, and whether it is an amount per
# interval (whose day is the sum) and not a rate or state (whose day is the mean)
_CONVERSIONS: dict[str, dict[str, tuple[float, float, bool]]] = {
    "degC": {
        "degC": (1.0, 0.0, False),
        "K": (1.0, -273.15, False),
        "degF": (5 / 9, -160 / 9, False),
    },
    "mm d-1": {
        "mm d-1": (1.0, 0.0, False),
        "mm": (1.0, 0.0, True),
        "m": (1e3, 0.0, True),
        "m d-1": (1e3, 0.0, False),
        "cm": (10.0, 0.0, True),
        "mm h-1": (24.0, 0.0, False),
        "mm s-1": (86400.0, 0.0, False),
        "kg m-2": (1.0, 0.0, True),
        "kg m-2 d-1": (1.0, 0.0, False),
        "kg m-2 s-1": (86400.0, 0.0, False),
    },
    "W m-2": {
        "W m-2": (1.0, 0.0, False),
        "J m-2": (1 / 86400, 0.0, True),
        "J m-2 d-1": (1 / 86400, 0.0, False),
        "kJ m-2": (1e3 / 86400, 0.0, True),
        "kJ m-2 d-1": (1e3 / 86400, 0.0, False),
        "MJ m-2": (1e6 / 86400, 0.0, True),
        "MJ m-2 d-1": (1e6 / 86400, 0.0, False),
    },
    "hPa": {
        "hPa": (1.0, 0.0, False),
        "Pa": (0.01, 0.0, False),
        "kPa": (10.0, 0.0, False),
        "mbar": (1.0, 0.0, False),
    },
    "m s-1": {"m s-1": (1.0, 0.0, False), "km h-1": (1 / 3.6, 0.0, False)},
    "%": {"%": (1.0, 0.0, False), "1": (100.0, 0.0, False)},
}

_WORDS = {
    "kelvin": "K", "k": "K", "celsius": "degC", "c": "degC", "degc": "degC", "deg_c": "degC",
    "degree_celsius": "degC", "degrees_celsius": "degC", "°c": "degC", "degf": "degF",
    "°f": "degF", "day": "d", "days": "d", "hr": "h", "hour": "h", "sec": "s", "mb": "mbar",
    "percent": "%", "hpa": "hPa", "pa": "Pa", "kpa": "kPa", "mj": "MJ", "j": "J", "kj": "kJ",
    "w": "W", "fraction": "1",
}  # fmt: skip

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "degC": (-95.0, 65.0),
    "mm d-1": (-25.0, 2500.0),
    "W m-2": (-10.0, 650.0),
    "m s-1": (-90.0, 90.0),
    "%": (-1.0, 120.0),
    "vapour_pressure": (0.0, 80.0),
    "vapour_pressure_deficit": (-1.0, 150.0),
    "surface_pressure": (400.0, 1100.0),
}
"""Unit of the contract, or name, -> range of daily values that the Earth can have."""


STATISTICS = {
    "temperature_min": "min",
    "temperature_max": "max",
    "precipitation": "sum",
    "evaporation": "sum",
    "potential_evaporation": "sum",
    "reference_evapotranspiration": "sum",
}
"""Contract variables whose daily value is not a mean."""


@dataclass(frozen=True)
class Driver:
    """What a variable of a source is under the contract."""

    name: str
    """Name in `deepfeatures.bands.VARIABLES`, or one of `COMPONENTS`."""
    units: str
    """Units at the source where it states none."""
    statistic: str = "mean"
    """How values within a day make the day's, or what a daily value is: mean, min, max or sum."""
    sign: int = 1
    """-1 where the source counts downward fluxes positive and the contract upward ones."""

    @property
    def scale(self) -> float:
        """Factor from the source's units to the contract's."""
        return self.sign * conversion(self.name, self.units)[0]

    @property
    def shift(self) -> float:
        """Added after the factor."""
        return conversion(self.name, self.units)[1]


def units_of(name: str) -> str:
    """Give the unit of a driver under the contract."""
    return "m s-1" if name in COMPONENTS else VARIABLES[name][0]


def conversion(name: str, units: str) -> tuple[float, float, bool]:
    """Give factor and shift from a source's units, and whether they are those of an amount.

    Raises
    ------
    ValueError
        If the units are not known for this variable.
    """
    known = _CONVERSIONS[units_of(name)]
    found = known.get(canonical(units))
    if found is None:
        raise ValueError(
            f"the units {units!r} are not known for {name!r}; use one of {', '.join(known)}"
        )
    return found


def canonical(units: str) -> str:
    """Write units as the contract does: ``W/m^2`` and ``W m**-2`` become ``W m-2``."""
    text = units.strip().replace("**", "").replace("^", "").replace("²", "2")
    text = re.sub(r"\s*of water( equivalent)?", "", text)
    if text in ("(0 - 1)", "-", "dimensionless"):
        return "1"
    made = []
    for at, part in enumerate(text.split("/")):
        for word in re.split(r"[\s.*·]+", part.strip()):
            found = re.fullmatch(r"([^\d\s-]+)(-?\d+)?", word)
            if found is None:
                made.append(word)
                continue
            base, power = _WORDS.get(found[1].lower(), found[1]), int(found[2] or 1)
            power = -abs(power) if at else power
            made.append(base if power == 1 else f"{base}{power}")
    return " ".join(made)


# names of hourly or daily values of ERA5, ERA5-Land and AgERA5; then those of stations
_STATES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("temperature", "K", ("t2m", "2m_temperature", "temperature_2m")),
    ("dewpoint", "K", ("d2m", "2m_dewpoint_temperature", "dewpoint_temperature_2m")),
    ("surface_pressure", "Pa", ("sp", "surface_pressure")),
    ("wind_east", "m s-1", ("u10", "10m_u_component_of_wind", "u_component_of_wind_10m")),
    ("wind_north", "m s-1", ("v10", "10m_v_component_of_wind", "v_component_of_wind_10m")),
    ("wind_speed", "m s-1", ("si10", "10m_wind_speed", "wind_speed_10m")),
    ("relative_humidity", "%", ("rh", "r2")),
    ("vapour_pressure_deficit", "hPa", ("vpd", "vpd_cf")),
)
_FLUXES: tuple[tuple[str, str, int, tuple[str, ...]], ...] = (
    ("precipitation", "m", 1, ("tp", "total_precipitation")),
    ("solar_radiation", "J m-2", 1, ("ssrd", "surface_solar_radiation_downwards")),
    ("evaporation", "m", -1, ("e", "evaporation", "total_evaporation")),
    ("potential_evaporation", "m", -1, ("pev", "potential_evaporation")),
)
_NAMED: dict[str, Driver] = {
    "mn2t": Driver("temperature_min", "K", "min"),
    "mx2t": Driver("temperature_max", "K", "max"),
    "mtpr": Driver("precipitation", "kg m-2 s-1"),
    "msdwswrf": Driver("solar_radiation", "W m-2"),
    "agera5_temperature_mean": Driver("temperature_mean", "K"),
    "agera5_temperature_min": Driver("temperature_min", "K", "min"),
    "agera5_temperature_max": Driver("temperature_max", "K", "max"),
    "agera5_dewpoint_temperature": Driver("dewpoint", "K"),
    "agera5_precipitation_flux": Driver("precipitation", "mm d-1", "sum"),
    "agera5_solar_radiation_flux": Driver("solar_radiation", "J m-2 d-1", "sum"),
    "agera5_vapour_pressure": Driver("vapour_pressure", "hPa"),
    "agera5_wind_speed": Driver("wind_speed", "m s-1"),
    "Temperature_Air_2m_Mean_24h": Driver("temperature_mean", "K"),
    "Temperature_Air_2m_Min_24h": Driver("temperature_min", "K", "min"),
    "Temperature_Air_2m_Max_24h": Driver("temperature_max", "K", "max"),
    "Dew_Point_Temperature_2m_Mean": Driver("dewpoint", "K"),
    "Precipitation_Flux": Driver("precipitation", "mm d-1", "sum"),
    "Solar_Radiation_Flux": Driver("solar_radiation", "J m-2 d-1", "sum"),
    "Vapour_Pressure_Mean": Driver("vapour_pressure", "hPa"),
    "Wind_Speed_10m_Mean": Driver("wind_speed", "m s-1"),
    "ReferenceET_PenmanMonteith_FAO56": Driver("reference_evapotranspiration", "mm d-1", "sum"),
    "eobs_tg": Driver("temperature_mean", "degC"),
    "eobs_tn": Driver("temperature_min", "degC", "min"),
    "eobs_tx": Driver("temperature_max", "degC", "max"),
    "eobs_rr": Driver("precipitation", "mm", "sum"),
    "eobs_qq": Driver("solar_radiation", "W m-2"),
    "eobs_fg": Driver("wind_speed", "m s-1"),
    "eobs_hu": Driver("relative_humidity", "%"),
}
STATION: dict[str, Driver] = {
    "TA_F": Driver("temperature_mean", "degC"),
    "VPD_F": Driver("vapour_pressure_deficit", "hPa"),
    "SW_IN_F": Driver("solar_radiation", "W m-2"),
    "P_F": Driver("precipitation", "mm", "sum"),
    "PA_F": Driver("surface_pressure", "kPa"),
    "WS_F": Driver("wind_speed", "m s-1"),
    "TA": Driver("temperature_mean", "degC"),
    "VPD": Driver("vapour_pressure_deficit", "hPa"),
    "SW_IN": Driver("solar_radiation", "W m-2"),
    "P": Driver("precipitation", "mm", "sum"),
    "PA": Driver("surface_pressure", "kPa"),
    "WS": Driver("wind_speed", "m s-1"),
    "RH": Driver("relative_humidity", "%"),
}
"""Columns of FLUXNET and ICOS tables."""


def _gridded() -> dict[str, Driver]:
    """Names of ERA5 with the endings of daily products; ``era5_`` as in the research cubes."""
    found: dict[str, Driver] = {}
    for name, units, spellings in _STATES:
        statistics = ("mean", "min", "max") if name == "temperature" else ("mean",)
        for statistic in statistics:
            whole = f"temperature_{statistic}" if name == "temperature" else name
            driver = Driver(whole, units, statistic)
            for word in spellings:
                found |= {f"{head}{word}_{statistic}": driver for head in ("", "era5_")}
                if statistic == "mean":
                    found[word] = driver
    for name, units, sign, spellings in _FLUXES:
        driver = Driver(name, units, "sum", sign)
        for word in spellings:
            found |= {word: driver, f"{word}_sum": driver, f"era5_{word}_sum": driver}
    return found


SOURCES: dict[str, Driver] = _gridded() | _NAMED
"""Variable of ERA5, ERA5-Land, AgERA5, E-OBS or a cube made of them -> what it is here."""

_STATION = {key.lower(): driver for key, driver in STATION.items()}
_LOWER = {key.lower(): driver for key, driver in SOURCES.items()}


def lookup(
    name: str, units: str = "", columns: Mapping[str, str] | None = None, *, station: bool = False
) -> Driver | None:
    """Tell what a variable of a source is; None if it is nothing known.

    Parameters
    ----------
    name
        Name at the source, in any case, with ``-`` or ``_``.
    units
        What the source says of its units. A name of the contract in units of the contract is that
        variable, so that our own cubes are sources too.
    columns
        The user's words: name at the source -> ``"name [unit]"`` or ``"name"`` under the
        contract.
    station
        Whether it is a column of a station's table; there names of the contract need no units.

    Raises
    ------
    ValueError
        If `columns` speaks of a variable or unit that is not known.
    """
    if columns is not None and name in columns:
        return _stated(columns[name])
    key = name.strip().lower().replace("-", "_")
    if _is_driver(key) and (station or (units and canonical(units) == units_of(key))):
        return Driver(key, units_of(key), STATISTICS.get(key, "mean"))
    if station:
        return _STATION.get(key)
    return _LOWER.get(key) or _LOWER.get(key.removesuffix("_24h"))


def _is_driver(name: str) -> bool:
    """Tell whether a name of the contract, or a wind component, is weather."""
    return name in COMPONENTS or VARIABLES.get(name, ("",))[0] in _CONVERSIONS


def _stated(words: str) -> Driver:
    found = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\])?\s*", words)
    name = found[1] if found else words
    if found is None or not _is_driver(name):
        raise ValueError(
            f"{words!r} is no variable; write 'name [unit]', e.g. 'temperature_mean [degC]'"
        )
    driver = Driver(name, found[2] or units_of(name), STATISTICS.get(name, "mean"))
    conversion(name, driver.units)
    return driver
