"""Jobs over HTTP: submit, watch, cancel. The work is done by the worker process."""

from __future__ import annotations

from typing import Any

from deepfeatures import aoi, jobs
from deepfeatures.serve.base import Base, Context, Refusal
from deepfeatures.settings import NAME


class Jobs(Base):
    """``/api/jobs``."""

    async def get(self) -> None:
        """Send all jobs, the newest first."""
        found = await self.quick(jobs.listing, self.context.ws)
        self.answer({"jobs": [_public(job) for job in found]})

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Queue the embedding of an area: ``{"cube", "model", "aoi"}`` and perhaps ``"out"``."""
        name = await self.quick(_submit, self.context, body)
        self.set_header("Location", f"/api/jobs/{name}")
        self.answer({"id": name}, 202)


class Job(Base):
    """``/api/jobs/{id}``."""

    async def get(self, name: str) -> None:
        """Send one job."""
        self.set_header("Cache-Control", "no-store")
        self.answer(_public(await self.quick(_found, self.context, name, jobs.get)))

    head = get

    async def delete(self, name: str) -> None:
        """Ask for the end of a job."""
        self.answer(_public(await self.quick(_found, self.context, name, jobs.cancel)), 202)


def _found(context: Context, name: str, work: Any) -> dict[str, Any]:
    try:
        return work(context.ws, name)
    except KeyError as error:
        raise Refusal(404, str(error.args[0])) from error
    except ValueError as error:
        raise Refusal(409, str(error)) from error


def _submit(context: Context, body: dict[str, Any]) -> str:
    texts = {}
    for key in ("cube", "model"):
        value = body.get(key)
        # A name and nothing else: a path would lead out of the workspace.
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ValueError(f'the body needs "{key}", a name of letters, digits, "-" and "_"')
        texts[key] = value
    out = body.get("out")
    if out is not None and not isinstance(out, str):
        raise ValueError('"out" must be the name of the new cube')
    area = body.get("aoi")
    if not isinstance(area, dict):
        raise ValueError('the body needs "aoi", a GeoJSON polygon in longitude/latitude')
    context.cube(texts["cube"])  # one sentence if it is not there
    try:
        return jobs.submit(
            context.ws,
            cube=texts["cube"],
            model=texts["model"],
            aoi=aoi.from_geojson(area),
            out=out,
        )
    except KeyError as error:
        raise Refusal(404, str(error.args[0])) from error


def _public(job: dict[str, Any]) -> dict[str, Any]:
    return jobs.seen(job, None)
