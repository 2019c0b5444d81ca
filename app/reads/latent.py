"""What the views of the latent space read, as plain calls into the package; all go in a thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import style
from app.reads.cubes import Times, opened
from app.state import LAYER
from app.views.cloud import PLAIN, Ranges, Shade, ranges
from deepfeatures import aoi, jobs, latent, reading, serve, space
from deepfeatures.settings import Workspace

AREA_POINTS = 4_000
"""Pixel-dates of an area that are marked in the cloud, at most."""

OPEN = ("queued", "running", "cancelling")
"""States of a job that is not over."""


def plane(ws: Workspace, name: str, method: str) -> tuple[space.Plane, Ranges] | None:
    """Give a plane of a feature cube and the ranges that show it, None if it was not fitted yet."""
    found = space.plane(ws, name, method)
    return None if found is None else (found, ranges(found.scores))


def shade(ws: Workspace, name: str, found: space.Plane, by: str, source: str) -> Shade:
    """Give what colours the points of a plane: ``density``, a time, ``place``, a channel, a layer.

    Raises
    ------
    ValueError
        If neither the feature cube nor its source has such a channel.
    """
    cube, at = opened(ws, name), found.points.positions
    if by == "density":
        return PLAIN
    if by == "month":
        of_date = (cube.times.astype("datetime64[M]").astype(int) % 12).astype(np.int8)
        return Shade(by, of_date[at[:, 0]], style.MONTH_NAMES)
    if by == "year":
        years, of_date = np.unique(cube.times.astype("datetime64[Y]"), return_inverse=True)
        return Shade(by, of_date.astype(np.int16)[at[:, 0]], tuple(years.astype(str).tolist()))
    if by == "place":
        share = (at[:, 1:] + 0.5) / (cube.grid.height, cube.grid.width)
        return Shade(by, share.astype(np.float32))
    if by.startswith(LAYER):
        layer = opened(ws, by.removeprefix(LAYER))
        values = space.layer(cube, layer, found.points)
        if layer.classes:
            codes = np.where(np.isfinite(values), values, 0).astype(np.int16) - 1
            return Shade(by, codes, layer.classes)
    else:
        values = space.channel(cube, opened(ws, source) if source else None, found.points, by)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError(f"{by} has no value at the sampled pixels and dates.")
    low, high = (float(end) for end in np.percentile(finite, (2, 98)))
    return Shade(by, values, limits=(low, high) if low < high else (low - 0.5, low + 0.5))


def track(
    ws: Workspace, name: str, found: space.Plane, point: tuple[float, float]
) -> tuple[Times, NDArray[np.floating]]:
    """Give the way of a pixel through a plane: (time,) and (time, 2), with NaN."""
    cube = opened(ws, name)
    pixel = reading.series(cube, *reading.locate(cube, *point))
    vectors = np.stack([pixel.values[channel] for channel in cube.channels], axis=1)
    return pixel.times, latent.place(found.axes, vectors)


def mean_track(
    ws: Workspace, name: str, found: space.Plane, area: dict[str, Any]
) -> tuple[Times, NDArray[np.floating]]:
    """Give the way of the mean of an area's usable pixels through a plane, as `track`."""
    series = reading.area_series(opened(ws, name), aoi.from_geojson(area))
    vectors = np.stack([one["mean"] for one in series.statistics.values()], axis=1)
    return series.times, latent.place(found.axes, vectors)


def inside(
    ws: Workspace, name: str, found: space.Plane, area: dict[str, Any], year: str
) -> dict[str, list[Any]]:
    """Give the usable pixel-dates of an area in a year: place in the plane, and day."""
    cube = opened(ws, name)
    points = space.inside(cube, aoi.from_geojson(area), year=year, most=AREA_POINTS)
    scores = latent.place(found.axes, space.vectors(cube, points.codes))
    days = cube.times.astype("datetime64[D]").astype(str)[points.positions[:, 0]]
    return {"x": scores[:, 0].tolist(), "y": scores[:, 1].tolist(), "day": days.tolist()}


def select(name: str, found: space.Plane, corners: list[tuple[float, float]]) -> tuple[str, float]:
    """Keep a selection for the tile route.

    Returns
    -------
    (id, share)
        The id that tiles are asked for with, and the share of the sampled points inside.

    Raises
    ------
    ValueError
        If the corners make no polygon.
    """
    ring = np.array(corners, np.float64)
    within = reading.contained(ring, found.scores.T)
    key = serve.SELECTIONS.put(reading.Selection(name, None, found.axes, ring))
    return key, float(within.mean())


def expected(ws: Workspace, name: str) -> tuple[float, str]:
    """Give the seconds that a UMAP would take, and the id of a job that makes it already."""
    running = [
        job["id"]
        for job in jobs.listing(ws)
        if job["kind"] == "umap" and job["cube"] == name and job["state"] in OPEN
    ]
    return jobs.estimate(ws, cube=name, kind="umap")["seconds"], (running or [""])[0]


def fit(ws: Workspace, name: str) -> str:
    """Ask for a UMAP, and give the id of the job."""
    return jobs.submit(ws, kind="umap", cube=name)


def meaning(ws: Workspace, name: str, source: str) -> space.Meaning:
    """Correlate features with the bands and indices of their source."""
    return space.meaning(opened(ws, name), opened(ws, source))
