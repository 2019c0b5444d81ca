"""What there is to look at: pictures, indices by domain, own expressions, bands, features."""

from __future__ import annotations

from typing import Any

from app.fields import Option
from app.state import gives
from deepfeatures import indices
from deepfeatures.bands import BANDS

Groups = list[tuple[str, list[Option]]]
"""Headings and what stands below them, as a `Picker` takes them."""

DOMAINS = {
    "vegetation": "Vegetation",
    "water": "Water",
    "soil": "Soil",
    "urban": "Urban",
    "burn": "Burn",
    "snow": "Snow",
    "clouds": "Clouds",
    "kernel": "Kernel",
}
"""Domain of an index of the catalogue to its heading, in the order of the groups."""

STORED = {"bands": "Bands", "features": "Features", "index": "Indices", "layer": "Result"}
"""Kind of a cube to the heading of what is stored in it."""

FAVOURITES = ("NDVI", "kNDVI", "EVI", "NDMI", "NDRE", "NIRv", "NBR", "NDWI", "BSI", "CIRE")
"""Indices that stand first in the list."""


def layers(info: dict[str, Any], pictures: dict[str, str], own: list[str]) -> Groups:
    """Give what the map of a cube can show; the value of an option is one of `State.show`."""
    found = [("Pictures", [(rgb, label, "", "") for label, rgb in pictures.items()])]
    return [*(group for group in found if group[1]), *channels(info, own)]


def channels(info: dict[str, Any], own: list[str]) -> Groups:
    """Give what a cube holds and what can be computed from its bands."""
    stored = list(info.get("channels", []))
    found: Groups = []
    if info.get("kind") == "bands":
        names = ordered(stored)
        found.append(("Own", [_option(text) for text in reversed(own) if gives(stored, text)]))
        for domain, label in DOMAINS.items():
            members = [name for name in names if indices.INDICES[name].domain == domain]
            found.append((label, [_option(name) for name in members]))
    found.append((STORED[info.get("kind", "bands")], [_channel(name) for name in stored]))
    return [(label, options) for label, options in found if options]


def _option(text: str) -> Option:
    index = indices.find(text)
    words = "" if index.domain == "own" else index.long_name
    return text, text, words, " ".join(index.bands)


def _channel(name: str) -> Option:
    if name in indices.INDICES:
        return name, name, indices.INDICES[name].long_name, ""
    band = BANDS.get(name)
    return name, name, "", f"{band.common_name}, {band.wavelength_nm:.0f} nm" if band else ""


def ordered(channels: list[str]) -> list[str]:
    """Give the indices that these bands allow, the usual ones first."""
    names = indices.available(channels)
    first = [name for name in FAVOURITES if name in names]
    return first + [name for name in names if name not in first]
