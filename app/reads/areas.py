"""What the views of areas, scenes and jobs read; slow, so it goes in a thread."""

from __future__ import annotations

from typing import Any

from deepfeatures import aoi, areas, jobs, vectors
from deepfeatures.settings import Workspace

MOST_JOBS = 30
"""Jobs that the page lists."""


def uploaded(content: bytes, filename: str) -> list[dict[str, Any]]:
    """Give the areas of an uploaded file."""
    return vectors.read(content, filename or "area.geojson")


def merged(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Make one checked area of one or several."""
    if len(features) == 1:
        return aoi.to_geojson(aoi.from_geojson(features[0]))
    whole = {"type": "FeatureCollection", "features": features}
    return aoi.to_geojson(aoi.from_geojson(whole))


def keep(ws: Workspace, owner: str, area: dict[str, Any], title: str) -> str:
    """Keep an area, and give its id."""
    return areas.keep(ws, owner, aoi.from_geojson(area), title)


def listed(ws: Workspace, owner: str) -> list[dict[str, Any]]:
    """Give the jobs as an owner may see them, the newest first."""
    found = jobs.listing(ws)[:MOST_JOBS]
    return [jobs.seen(job, owner) | {"mine": jobs.mine(job, owner)} for job in found]


def log(ws: Workspace, owner: str, job: str) -> str:
    """Give the log of an owner's job."""
    jobs.check_owner(jobs.get(ws, job), owner)
    return jobs.log_text(ws, job) or "Nothing was logged yet."


def catalogs() -> list[str]:
    """Give the names of the catalogues that may be asked for scenes."""
    from deepfeatures.stac import scenes

    return list(scenes.catalogs())


def scenes(catalog: str, area: dict[str, Any], start: str, end: str) -> list[dict[str, Any]]:
    """Give the days with scenes of an area."""
    from deepfeatures.stac import scenes as found

    days = found.search(catalog, aoi.from_geojson(area), start, end)
    return [
        {"day": one.day, "cloud": one.cloud, "share": one.share, "items": one.items} for one in days
    ]


def fetch(ws: Workspace, owner: str, area: dict[str, Any], settings: dict[str, Any]) -> str:
    """Ask for the fetch of scenes, and give the id of the job."""
    wanted = aoi.from_geojson(area)
    return jobs.submit(ws, kind="build", aoi=wanted, settings=settings, owner=owner)


def fetch_size(ws: Workspace, area: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Estimate a fetch."""
    return jobs.estimate(ws, kind="build", aoi=aoi.from_geojson(area), settings=settings)
