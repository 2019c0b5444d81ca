"""What a worker can do: one table of kinds of jobs; a new kind is a new entry.

A kind is four functions over the record of a job, which is what `jobs.get` gives: `cube`, `model`,
`aoi` (GeoJSON or None), `settings` (a mapping that JSON can carry) and `out`. Everything heavy is
imported inside them, because the server process reads this table too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from deepfeatures import cards, catalogue, contract, cube, space
from deepfeatures.aoi import AOI, from_geojson, window
from deepfeatures.settings import Workspace, checked_name

Job = Mapping[str, Any]
Size = dict[str, int]

DEFAULT_RATE = 50_000.0
"""Pixel-dates per second until a job was measured on this machine (conservative)."""


def _unknown(ws: Workspace, job: Job) -> Size:
    return {"pixels": 0, "dates": 0, "bytes": 0}


def _usual(job: Job) -> str:
    return checked_name(f"{job['cube'] or 'job'}-{job['kind']}"[:100])


def _discard(ws: Workspace, job: Job) -> None:
    cube.discard(ws, job["out"])


@dataclass(frozen=True)
class Kind:
    """One kind of job."""

    title: str
    """What it is doing, as the page says it: ``Computing features``."""
    run: Callable[[Workspace, Job, Callable[[int, int], None], Callable[[], bool]], None]
    """Does the work: ``run(ws, job, progress, cancelled)``. It calls ``progress(done, total)``,
    asks ``cancelled()`` every second or so, and raises `InterruptedError` if that is true. A job
    whose worker was killed is run again: what was written so far may be used or replaced."""
    clear: Callable[[Workspace, Job], None] = _discard
    """Removes what an unfinished run has written."""
    size: Callable[[Workspace, Job], Size] = _unknown
    """What the job takes: ``pixels``, ``dates`` and at most ``bytes`` on disk; raises `KeyError`
    or `ValueError` with one sentence if it can not be done. Milliseconds, no network."""
    name: Callable[[Job], str] = _usual
    """The name of its result unless another is asked for."""
    makes_cube: bool = True
    """Whether the result is a cube called `out`; other results go where `run` puts them."""
    rate: float = DEFAULT_RATE
    """Pixel-dates per second until a job of the kind was measured on this machine."""


def area(job: Job) -> AOI | None:
    """Give the area of a job, None if it is about the whole cube."""
    return None if job["aoi"] is None else from_geojson(job["aoi"])


def kind(name: str) -> Kind:
    """Give a kind of job.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name not in KINDS:
        raise ValueError(f"there is no kind of job {name[:40]!r}; there are: {', '.join(KINDS)}")
    return KINDS[name]


def selected(ws: Workspace, job: Job) -> tuple[Any, Size]:
    """Give the cube of a job, and the pixels and dates that its area and period select.

    Raises
    ------
    KeyError
        If the cube is unknown.
    ValueError
        If the area does not touch it, or no date is in the period.
    """
    ds = catalogue.open(ws, job["cube"])
    aoi = area(job)
    height, width = contract.main(ds).sizes["y"], contract.main(ds).sizes["x"]
    if aoi is not None:
        (y0, y1, x0, x1), _ = window(aoi, contract.geobox(ds))
        height, width = y1 - y0, x1 - x0
    dates = _dates(job["cube"], ds["time"].values.astype("datetime64[D]"), aoi)
    return ds, {"pixels": height * width, "dates": dates, "bytes": 0}


def _dates(name: str, days: np.ndarray, aoi: AOI | None) -> int:
    start = np.datetime64(aoi.start if aoi and aoi.start else days[0], "D")
    end = np.datetime64(aoi.end if aoi and aoi.end else days[-1], "D")
    count = int(((days >= start) & (days <= end)).sum())
    if not count:
        raise ValueError(
            f"the cube {name!r} has no date from {start} to {end}; "
            f"choose a period within {days[0]} to {days[-1]}"
        )
    return count


def _embed_size(ws: Workspace, job: Job) -> Size:
    ds = catalogue.open(ws, job["cube"])
    if contract.kind(ds) != "bands":
        raise ValueError(
            f"the cube {job['cube']!r} holds {contract.kind(ds)}; choose a cube of bands to embed"
        )
    features = _features(ws, job["model"], contract.channels(ds))
    size = selected(ws, job)[1]
    # one byte per feature and one for the mask; the overviews add a third
    return size | {"bytes": int(size["pixels"] * size["dates"] * (features + 1) * 4 / 3)}


def _features(ws: Workspace, model: str, channels: list[str]) -> int:
    card = cards.read(ws, model)
    missing = [channel for channel in card["channels"] if channel not in channels]
    if missing:
        raise ValueError(
            f"the model {model!r} needs {', '.join(missing)}, which the cube does not have; "
            "choose another model or cube"
        )
    return len(card["features"])


def _embed(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    cube.embed(
        ws,
        job["cube"],
        model=job["model"],
        aoi=area(job),
        out=job["out"],
        progress=progress,
        cancelled=cancelled,
        device="auto",
    )


MAX_DAYS = 3700
"""Longest period that is fetched [days]."""
BAND_BYTES = 12 * 2 + 2
"""Bytes of a pixel-date in the store: twelve bands, the scene classes and the mask."""


def _period(job: Job) -> tuple[str, str]:
    """Give first and last day of what is fetched."""
    try:
        start, end = (str(date.fromisoformat(str(job["settings"][key]))) for key in _ENDS)
    except (KeyError, ValueError):
        raise ValueError("the period needs a first and a last day; write YYYY-MM-DD") from None
    if not start <= end:
        raise ValueError(f"the period starts on {start} after its end {end}; swap the two dates")
    return start, end


_ENDS = ("start", "end")


def _build_size(ws: Workspace, job: Job) -> Size:
    """Estimate a fetch without asking the catalogue: all days that the satellites pass."""
    wanted = area(job)
    if wanted is None:
        raise ValueError("there is no area to fetch; draw one on the map")
    start, end = (date.fromisoformat(day) for day in _period(job))
    days = (end - start).days + 1
    if days > MAX_DAYS:
        raise ValueError(f"the period has {days:,} days; fetch at most {MAX_DAYS:,} at once")
    found = job["settings"].get("dates")  # of a search that was made before
    dates = found if isinstance(found, int) and 0 < found <= days else -(-days // 2)
    west, south, east, north = wanted.geometry.bounds
    metres = 111_320.0
    wide = (east - west) * metres * math.cos(math.radians((south + north) / 2))
    pixels = math.ceil(wide / 10) * math.ceil((north - south) * metres / 10)
    return {
        "pixels": pixels, "dates": dates, "bytes": int(pixels * dates * BAND_BYTES * 4 / 3),
    }  # fmt: skip


def _build(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    from deepfeatures.stac import scenes

    asked = job["settings"]
    address, collection = scenes.catalog(str(asked.get("catalog", "earth-search")))
    start, end = _period(job)
    cube.build(
        ws,
        job["out"],
        area=area(job),
        start=start,
        end=end,
        catalog=address,
        collection=collection,
        query={"eo:cloud_cover": {"lte": float(asked.get("cloud", 100))}},
        clouds=str(asked.get("clouds", "full")),
        progress=progress,
        cancelled=cancelled,
    )


def _build_name(job: Job) -> str:
    wanted = area(job)
    start, end = _period(job)
    years = start[:4] if start[:4] == end[:4] else f"{start[:4]}-{end[:4]}"
    return checked_name(f"{wanted.name if wanted else 'area'}-{years}"[:100])


def _umap_size(ws: Workspace, job: Job) -> Size:
    wanted, ds = space.Settings.of(job["settings"]), catalogue.open(ws, job["cube"])
    if contract.kind(ds) != "features":
        raise ValueError(f"the cube {job['cube']!r} holds {contract.kind(ds)}, no features")
    each = 20 + contract.main(ds).sizes["feature"]  # bytes of a point: positions, places, codes
    points = min(space.POINTS, contract.main(ds).size)
    return {"pixels": wanted.points, "dates": 1, "bytes": each * points}


def _umap(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    space.fit_umap(ws, job["cube"], job["settings"], progress, cancelled)


def _find_size(ws: Workspace, job: Job) -> Size:
    from deepfeatures import finding, reading

    opened = reading.open(catalogue.url(ws, job["cube"]), job["cube"])
    count = finding.pixel_dates(opened, *_finding(job))
    pixels = opened.grid.height * opened.grid.width
    # classes, and at most twelve probabilities of four bytes, and the overviews
    return {"pixels": pixels, "dates": max(count // pixels, 1), "bytes": 60 * pixels}


def _finding(job: Job) -> tuple[str, dict[str, Any]]:
    settings = dict(job["settings"])
    method = settings.pop("method", None)
    if not isinstance(method, str):
        raise ValueError("the settings need a method: similar, groups, classify or change")
    return method, settings


def _find(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    from deepfeatures import finding, reading

    opened = reading.open(catalogue.url(ws, job["cube"]), job["cube"])
    method, settings = _finding(job)
    found = finding.find(opened, method, settings, progress=progress, cancelled=cancelled)
    finding.save(ws, found, job["out"])


MAX_STEPS, MAX_WINDOW = 5_000, 365
"""Longest training of a GPP model, and most days that it may look at."""


def _train_size(ws: Workspace, job: Job) -> Size:
    asked = job["settings"]
    for key, usual, most in (("steps", 500, MAX_STEPS), ("window", 30, MAX_WINDOW)):
        value = asked.get(key, usual)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{key} must be a whole number from 1 to {most:,}")
    if asked.get("kind") not in ("rnn", "gru", "lstm", "gpt"):
        raise ValueError("choose a network to train: rnn, gru, lstm or gpt")
    if not isinstance(asked.get("towers"), str):
        raise ValueError("say which table of towers the model learns from")
    return {"pixels": asked.get("steps", 500), "dates": asked.get("window", 30), "bytes": 10**7}


def _train(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    from deepfeatures.gpp import tasks

    tasks.train_job(ws, job["settings"], job["out"], progress=progress, cancelled=cancelled)


def _untrained(ws: Workspace, job: Job) -> None:
    (ws.models / "gpp" / f"{job['out']}.safetensors").unlink(missing_ok=True)


def _paint_size(ws: Workspace, job: Job) -> Size:
    try:
        date.fromisoformat(str(job["settings"]["day"]))
    except (KeyError, ValueError):
        raise ValueError("the map needs a day; write YYYY-MM-DD") from None
    if not job["model"]:
        raise ValueError("the map needs a GPP model")
    ds = catalogue.open(ws, job["cube"])
    height, width = contract.main(ds).sizes["y"], contract.main(ds).sizes["x"]
    wanted = area(job)
    if wanted is not None:
        (y0, y1, x0, x1), _ = window(wanted, contract.geobox(ds))
        height, width = y1 - y0, x1 - x0
    # three maps of four bytes and the overviews; thirty days go into each pixel
    return {"pixels": height * width, "dates": 30, "bytes": 20 * height * width}


def _paint(
    ws: Workspace, job: Job, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
) -> None:
    from deepfeatures.gpp import tasks

    tasks.paint_job(
        ws, job["cube"], job["model"], job["settings"], job["out"], area=area(job),
        progress=progress, cancelled=cancelled,
    )  # fmt: skip


KINDS: dict[str, Kind] = {
    "embed": Kind(
        title="Computing features",
        run=_embed,
        size=_embed_size,
        name=lambda job: cube.feature_name(job["cube"], job["model"], area(job)),
    ),
    "build": Kind(
        title="Fetching scenes", run=_build, size=_build_size, name=_build_name, rate=20_000.0
    ),
    "umap": Kind(
        title="Fitting a UMAP",
        run=_umap,
        clear=lambda ws, job: space.clear(ws, job["cube"]),
        size=_umap_size,
        makes_cube=False,
        rate=400.0,
    ),
    "find": Kind(title="Making a map", run=_find, size=_find_size, rate=10_000_000.0),
    "gpp-train": Kind(
        title="Training a GPP model",
        run=_train,
        clear=_untrained,
        size=_train_size,
        name=lambda job: checked_name(
            f"{job['settings'].get('towers', 'gpp')}-{job['settings'].get('kind', '')}"[:100]
        ),
        makes_cube=False,
        rate=500.0,
    ),
    "gpp-map": Kind(
        title="Mapping GPP",
        run=_paint,
        size=_paint_size,
        name=lambda job: checked_name(f"{job['cube']}-gpp"[:100]),
        rate=60_000.0,
    ),
}
"""Name of a kind -> the kind."""
