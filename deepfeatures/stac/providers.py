"""What differs between the catalogues of Sentinel-2: one table.

Checked against real answers of the three services. Traps that the table and `plan` cover:

* Earth Search names assets by colour (``red``, ``rededge1``, ``nir08`` for B8A); its older
  collection ``sentinel-2-l2a`` says ``offset: -0.1`` in ``raster:bands`` although
  ``earthsearch:boa_offset_applied`` is true, i.e. the pixels have it already, and in part of
  2022-2025 that flag itself is wrong (Element84/earth-search, issues 66 and 71). The default is
  therefore ``sentinel-2-c1-l2a``, whose metadata are consistent.
* Planetary Computer states no offset; only ``s2:processing_baseline`` tells.
* Copernicus Data Space lists each band at 10, 20 and 60 m (``B04_10m``), JPEG 2000 on S3, and
  writes STAC 1.1 (``proj:code``, ``bands``, ``raster:offset``, ``processing:version``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from deepfeatures.bands import BANDS

SCL = "SCL"
"""Name of the scene classification among the bands."""

AssetNames = Mapping[str, tuple[str, ...]]
"""Band (and SCL) -> names of its asset, finest resolution first."""

PLAIN: AssetNames = MappingProxyType({name: (name,) for name in (*BANDS, SCL)})
"""``B04``, ``SCL``: Planetary Computer, the first Earth Search, most static catalogues."""

_COLOURS = [
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "swir16",
    "swir22",
    "scl",
]
COLOURS: AssetNames = MappingProxyType(
    {name: (colour,) for name, colour in zip(PLAIN, _COLOURS, strict=True)}
)
"""``red``, ``nir08``, ``scl``: Earth Search version 1."""


def _sized(name: str, native: int) -> tuple[str, ...]:
    return tuple(f"{name}_{size}m" for size in (10, 20, 60) if size >= native)


SIZED: AssetNames = MappingProxyType(
    {
        # B01 is measured at 60 m; Sen2Cor writes it at 20 m too
        name: _sized(name, 20 if name in ("B01", SCL) else BANDS[name].resolution_m)
        for name in (*BANDS, SCL)
    }
)
"""``B04_10m``, ``B04_20m``, ``SCL_20m``: Copernicus Data Space."""

METADATA = ("granule_metadata", "granule-metadata", "metadata")
"""How the asset with the granule's own metadata (MTD_TL.xml) is called, best first."""


@dataclass(frozen=True)
class Provider:
    """A public STAC API with Sentinel-2 Level-2A."""

    url: str
    """Address of the API."""
    collection: str
    """Its collection of surface reflectance."""
    assets: AssetNames
    """How it names the assets."""
    signed: bool = False
    """True if the links need signing (package ``planetary_computer``)."""
    gdal: Mapping[str, str] = field(default_factory=dict)
    """Settings of GDAL beside `rasters.GDAL`."""
    note: str = ""
    """What a user must have or know, one sentence."""


PROVIDERS: dict[str, Provider] = {
    "earth-search": Provider(
        url="https://earth-search.aws.element84.com/v1",
        collection="sentinel-2-c1-l2a",
        assets=COLOURS,
    ),
    "planetary-computer": Provider(
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        collection="sentinel-2-l2a",
        assets=PLAIN,
        signed=True,
        note="Links are signed for about 45 minutes; start the command again to resume after that.",
    ),
    "cdse": Provider(
        url="https://stac.dataspace.copernicus.eu/v1",
        collection="sentinel-2-l2a",
        assets=SIZED,
        gdal=MappingProxyType(
            {"AWS_S3_ENDPOINT": "eodata.dataspace.copernicus.eu", "AWS_VIRTUAL_HOSTING": "FALSE"}
        ),
        note="Reading needs the (free) S3 keys of Copernicus Data Space in AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY.",
    ),
}
"""Presets: short name -> provider."""

NAMINGS: tuple[AssetNames, ...] = tuple(entry.assets for entry in PROVIDERS.values())
"""All ways to name the assets; any catalogue may use any of them."""


def provider(catalog: str) -> Provider | None:
    """Give the provider of a preset name or of an address below one's, None for any other."""
    if catalog in PROVIDERS:
        return PROVIDERS[catalog]
    return next((p for p in PROVIDERS.values() if catalog.startswith(p.url)), None)
