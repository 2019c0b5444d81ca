"""Sentinel-2 products in a ``.SAFE`` folder: their bands as NBAR, one COG each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from deepfeatures import granule, nbar, rasters

SCALE = 1e-4
"""Reflectance of one step in the files."""
NODATA = -32768
"""Value of pixels without a measurement (DN 0)."""

_TILE = 1024  # pixels; the tiles of the JPEG 2000 files
_CACHE = 128  # MB of decoded tiles; GDAL would take a share of the machine's memory
_HIGHEST = 32767
_OFFSET_SINCE = 4.0  # processing baseline with BOA_ADD_OFFSET
_OFFSET = -1000.0
_NAME = re.compile(r"_(B\d[0-9A])_\d\dm\.(?:jp2|tiff?)$")
# In the order of `band_id`.
_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


@dataclass(frozen=True)
class Raster:
    """One band of a product at one resolution."""

    band: str
    """``B02``."""
    path: Path
    """JPEG 2000 or GeoTIFF."""


@dataclass(frozen=True)
class Product:
    """What a level 2A product says about its pixels."""

    name: str
    """Of the folder, without ``.SAFE``."""
    baseline: str
    """Processing baseline: ``05.09``."""
    quantification: float
    """DN per unit of reflectance."""
    offsets: Mapping[str, float]
    """Added to the DN of a band before the division."""
    metadata: Path
    """XML of the granule."""
    rasters: tuple[Raster, ...]
    """All bands at all resolutions, those without coefficients too."""


@dataclass(frozen=True)
class Report:
    """What `correct` did."""

    written: tuple[Path, ...]
    """New files."""
    kept: tuple[Path, ...]
    """Files that were complete already."""
    uncorrected: tuple[str, ...]
    """Bands of the product that have no coefficients and hence no file."""


def product(path: Path) -> Product:
    """Read what a ``.SAFE`` folder holds.

    Raises
    ------
    FileNotFoundError
        If the folder lacks its metadata or its bands.
    ValueError
        If it is a level 1C product, or its metadata are not those of a product.
    """
    source = path / "MTD_MSIL2A.xml"
    if not source.is_file():
        if (path / "MTD_MSIL1C.xml").is_file():
            raise ValueError(
                f"{path} is level 1C, reflectance at the top of the atmosphere; "
                "give the level 2A product"
            )
        raise FileNotFoundError(f"{path} has no MTD_MSIL2A.xml; give the folder of a .SAFE product")
    granules = sorted(path.glob("GRANULE/*/MTD_TL.xml"))
    if len(granules) != 1:
        raise FileNotFoundError(
            f"{path} has {len(granules)} granules with an MTD_TL.xml; give a product with one"
        )
    found = [
        Raster(match[1], file)
        for file in sorted(granules[0].parent.glob("IMG_DATA/R[126]0m/*"))
        if (match := _NAME.search(file.name))
    ]
    if not found:
        raise FileNotFoundError(f"{granules[0].parent} has no bands in IMG_DATA/R10m, R20m, R60m")
    baseline, quantification, offsets = _radiometry(source)
    return Product(path.stem, baseline, quantification, offsets, granules[0], tuple(found))


def _radiometry(path: Path) -> tuple[str, float, dict[str, float]]:
    """Give baseline, quantification value and the offset of each band."""
    root = granule.document(granule.read(str(path)), str(path))
    try:
        baseline = (root.findtext(".//PROCESSING_BASELINE") or "").strip()
        # the baseline decides, not the date: old acquisitions are processed again
        usual = _OFFSET if float(baseline) >= _OFFSET_SINCE else 0.0
        quantification = float(root.findtext(".//BOA_QUANTIFICATION_VALUE") or "nan")
        offsets = dict.fromkeys(_BANDS, usual)
        for entry in root.iter("BOA_ADD_OFFSET"):
            offsets[_BANDS[int(entry.attrib["band_id"])]] = float(entry.text or "nan")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} lacks what the metadata of a product have ({error})") from None
    if not (quantification > 0 and np.isfinite([*offsets.values()]).all()):
        raise ValueError(f"{path} has no usable BOA_QUANTIFICATION_VALUE or BOA_ADD_OFFSET")
    return baseline, quantification, offsets


def correct(path: Path, out: Path, *, progress: Callable[[int, int], None] | None = None) -> Report:
    """Write the NBAR of each band of a product that has coefficients.

    The files are cloud-optimised GeoTIFF of int16, scale 1e-4: NBAR = value x 1e-4. DN 0 becomes
    -32768, no data. The offset of baseline 04.00 is applied, and what is negative after it stays
    negative. Values above 3.2767 (saturated pixels) become 3.2767. A file appears when it is
    complete; one that is there already is kept, so a killed run goes on where it stopped.

    Parameters
    ----------
    path
        The ``.SAFE`` folder, level 2A.
    out
        Folder for the files, named as the rasters of the product; made if it is not there.
    progress
        Called with tiles done and tiles in all.

    Raises
    ------
    FileNotFoundError, ValueError
        As `product`.
    rasters.Unreadable
        If a raster is broken.
    """
    found = product(path)
    angles = granule.parse(granule.read(str(found.metadata)), str(found.metadata))
    todo = [raster for raster in found.rasters if raster.band in nbar.COEFFICIENTS]
    sizes = [len(list(_windows(*_shape(raster)))) for raster in todo]
    out.mkdir(parents=True, exist_ok=True)
    written, kept, done = [], [], 0
    for raster, size in zip(todo, sizes, strict=True):
        target = out / f"{raster.path.stem}.tif"
        if _complete(target, raster, found):
            kept.append(target)
        else:

            def tick(tile: int, before: int = done) -> None:
                if progress:
                    progress(before + tile, sum(sizes))

            with rasterio.Env(GDAL_CACHEMAX=_CACHE):
                _write(target, raster, found, angles, tick)
            written.append(target)
        done += size
        if progress:
            progress(done, sum(sizes))
    bands = {raster.band for raster in found.rasters}
    left = tuple(sorted(bands - set(nbar.COEFFICIENTS)))
    return Report(tuple(written), tuple(kept), left)


def _shape(raster: Raster) -> tuple[int, int]:
    return rasters.retried(lambda: _opened_shape(raster.path), str(raster.path))


def _opened_shape(path: Path) -> tuple[int, int]:
    with rasterio.open(path) as file:
        return file.shape


def _windows(height: int, width: int) -> Iterator[Window]:
    for row in range(0, height, _TILE):
        for column in range(0, width, _TILE):
            yield Window(column, row, min(_TILE, width - column), min(_TILE, height - row))


def _tags(raster: Raster, source: Product) -> dict[str, str]:
    return {
        "TITLE": f"NBAR of band {raster.band}",
        "SOURCE_PRODUCT": source.name,
        "SOURCE_RASTER": raster.path.name,
        "PROCESSING_BASELINE": source.baseline,
        "BOA_ADD_OFFSET": f"{source.offsets[raster.band]:g}",
        "PROCESSING": "NBAR = c-factor x surface reflectance, doi 10.1016/j.rse.2017.06.019",
        "UNCORRECTED_BANDS": " ".join(nbar.UNCORRECTED),
        "ATTRIBUTION": "Contains modified Copernicus Sentinel data",
    }


def _complete(target: Path, raster: Raster, source: Product) -> bool:
    """Tell whether a file is the result of this raster; it is whole, because it was renamed."""
    try:
        with rasterio.open(target) as file:
            same = file.shape == _opened_shape(raster.path)
            return same and _tags(raster, source).items() <= file.tags().items()
    except OSError:
        return False


def _write(
    target: Path,
    raster: Raster,
    source: Product,
    angles: granule.Angles,
    tick: Callable[[int], None],
) -> None:
    """Write one file, telling the number of tiles done after each."""
    plain = target.with_name(f".{target.stem}.part.tif")
    cog = target.with_name(f".{target.stem}.cog.part.tif")
    try:
        with rasterio.open(raster.path) as file:
            profile = {
                "driver": "GTiff", "dtype": "int16", "count": 1, "nodata": NODATA,
                "height": file.height, "width": file.width, "crs": file.crs or angles.crs,
                "transform": file.transform, "tiled": True, "blockxsize": 512, "blockysize": 512,
                "BIGTIFF": "IF_SAFER",
            }  # fmt: skip
            with rasterio.open(plain, "w", **profile) as made:
                made.scales, made.offsets = (SCALE,), (0.0,)
                made.update_tags(**_tags(raster, source))
                made.set_band_description(1, f"{raster.band} NBAR")
                for number, window in enumerate(_windows(file.height, file.width), start=1):
                    values = _tile(file, window, raster, source, angles)
                    made.write(values, 1, window=window)
                    tick(number)
        rasterio.shutil.copy(
            plain, cog, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE=512,
            OVERVIEW_RESAMPLING="AVERAGE", NUM_THREADS="ALL_CPUS", BIGTIFF="IF_SAFER",
        )  # fmt: skip
        os.replace(cog, target)
    finally:
        for rest in (plain, cog):
            rest.unlink(missing_ok=True)


def _tile(
    file: rasterio.DatasetReader,
    window: Window,
    raster: Raster,
    source: Product,
    angles: granule.Angles,
) -> NDArray[Any]:
    """Give one tile of NBAR as stored."""
    numbers = rasters.retried(lambda: file.read(1, window=window), str(raster.path))
    crs = str(file.crs or angles.crs)
    box = GeoBox((window.height, window.width), file.window_transform(window), crs)
    values = granule.c_window(angles, box, (raster.band,))[0]
    values *= numbers + np.float32(source.offsets[raster.band])
    values *= np.float32(1 / (source.quantification * SCALE))
    stored = np.clip(np.rint(values, out=values), NODATA + 1, _HIGHEST).astype(np.int16)
    stored[numbers == 0] = NODATA
    return stored
