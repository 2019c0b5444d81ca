"""Which dates are corrected to a view from nadir, and the angles that this needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepfeatures import granule, nbar, rasters
from deepfeatures.stac.plan import Scene
from deepfeatures.stac.signing import signer
from deepfeatures.stac.source import GRID, NO_NBAR, SCENE, Source

log = logging.getLogger(__name__)

METHODS = ("grid", "scene", "off")
"""What `corrected` can be asked for."""
THREADS = 8
"""Granule metadata that are fetched at once: each is a short wait for a server."""
_NEEDED = {"sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth"}


def corrected(source: Source, method: str, folder: str | Path | None) -> Source:
    """Give the source with what is needed to correct its dates.

    Parameters
    ----------
    source
        A source without correction.
    method
        ``grid``: dates whose items all point to granule metadata are corrected with the grids of
        angles in there, the others not; ``scene``: those are corrected with the mean angles that
        their items state; ``off``: none is corrected.
    folder
        Where grids of angles are kept between runs; None for no memory.

    Raises
    ------
    ValueError
        If the method is unknown.

    Notes
    -----
    Granule metadata that an item points to but that cannot be read cost the date, as a missing
    band does: it is left out of the cube, and a warning names it.
    """
    if method not in METHODS:
        raise ValueError(f"nbar {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if method == "off" or not set(source.bands) & set(nbar.COEFFICIENTS):
        return replace(source, nbar=(NO_NBAR,) * len(source.dates))
    wanted = [scene for date in source.dates for scene in date.scenes if scene.metadata]
    sign = signer(source.catalog)
    bands = tuple(band for band in source.bands if band in nbar.COEFFICIENTS)

    def fetch(scene: Scene) -> granule.Angles | None:
        try:
            href = sign(str(scene.metadata))
            return slim(granule.fetch(href, scene.item, folder, _options(source)), bands)
        except (rasters.Unreadable, ValueError) as error:
            log.warning("%s is left out: %s", scene.item, error)
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip((scene.item for scene in wanted), pool.map(fetch, wanted), strict=True))
    lost = {item for item, grids in found.items() if grids is None}
    dates = [d for d in source.dates if not any(scene.item in lost for scene in d.scenes)]
    if not dates:
        raise ValueError(
            f"the granule metadata of none of the {len(source.dates)} dates can be read; "
            "build without correction to nadir (nbar off)"
        )
    return replace(
        source,
        dates=tuple(dates),
        nbar=tuple(_how(date.scenes, method) for date in dates),
        grids={item: grids for item, grids in found.items() if grids is not None},
    )


def slim(angles: granule.Angles, bands: tuple[str, ...]) -> granule.Angles:
    """Keep what the correction of some bands needs: a cube's grids travel to every worker.

    Raises
    ------
    ValueError
        If a band has no angle at all.
    """
    numbers = [angles.bands.index(band) for band in bands if band in angles.bands]
    grids = {
        name: getattr(angles, name)[numbers].astype(np.float32)
        for name in ("view_zenith", "view_azimuth")
    }
    there = np.isfinite(grids["view_zenith"]).any(axis=(1, 2))
    if len(numbers) < len(bands) or not there.all():
        raise ValueError(f"its granule metadata have no view angles for some of {', '.join(bands)}")
    return replace(angles, bands=bands, **grids)


def _options(source: Source) -> dict[str, str]:
    """Give what fsspec needs to read where GDAL reads with the settings of the source."""
    endpoint = source.settings.get("AWS_S3_ENDPOINT")
    return {"endpoint_url": f"https://{endpoint}"} if endpoint else {}


def _how(scenes: tuple[Scene, ...], method: str) -> int:
    if all(scene.metadata for scene in scenes):
        return GRID
    if method == "scene" and all(set(scene.angles) >= _NEEDED for scene in scenes):
        return SCENE
    return NO_NBAR


def step(source: Source) -> str:
    """Say what was done, for the attribute ``processing``."""
    if not any(source.nbar):
        return "reflectance as seen: not corrected to a view from nadir"
    left = [band for band in source.bands if band not in nbar.COEFFICIENTS]
    parts = list(_parts(source))
    parts.append("c-factor, Roy et al. 2016 and 2017 (doi 10.1016/j.rse.2017.06.019)")
    if left:
        parts.append(f"{', '.join(left)} have no coefficients and stay as seen")
    return "reflectance corrected to a view from nadir (NBAR): " + "; ".join(parts)


def _parts(source: Source) -> Iterator[str]:
    words = {
        GRID: "with grids of angles",
        SCENE: "with the mean angles of the scene",
        NO_NBAR: "left as seen, because their items have no angles",
    }
    for how, text in words.items():
        count = source.nbar.count(how)
        if count:
            yield f"{count} dates {text}"
