"""Jobs over HTTP: submit, watch, read the log, cancel, retry. A worker process does the work."""

from __future__ import annotations

from typing import Any

from deepfeatures import aoi, jobs
from deepfeatures.serve.base import Base, Context, Refusal
from deepfeatures.settings import NAME


class Jobs(Base):
    """``/api/jobs``."""

    async def get(self) -> None:
        """Send all jobs, the newest first; of somebody else's only how far they are."""
        found = await self.quick(jobs.listing, self.context.ws)
        self.answer({"jobs": [jobs.seen(job, self.owner) for job in found]})

    head = get

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Queue the embedding of an area: ``{"cube", "model", "aoi"}`` and perhaps ``"out"``."""
        name = await self.quick(_submit, self.context, body, self.owner)
        self.set_header("Location", f"/api/jobs/{name}")
        self.answer({"id": name}, 202)


class Job(Base):
    """``/api/jobs/{id}``."""

    async def get(self, name: str) -> None:
        """Send one job."""
        self.set_header("Cache-Control", "no-store")
        found = await self.quick(_asked, jobs.get, self.context, name)
        self.answer(jobs.seen(found, self.owner))

    head = get

    async def delete(self, name: str) -> None:
        """Ask for the end of a job."""
        found = await self.quick(_asked, jobs.cancel, self.context, name, self.owner)
        self.answer(jobs.seen(found, self.owner), 202)


class Log(Base):
    """``/api/jobs/{id}/log``."""

    async def get(self, name: str) -> None:
        """Send the log of a job as plain text."""
        text = await self.quick(_asked, _log, self.context, name, self.owner)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)

    head = get


class Retry(Base):
    """``/api/jobs/{id}/retry``."""

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Ask once more for a job that failed or was cancelled; the body is ``{}``."""
        name = await self.quick(_asked, jobs.retry, self.context, path[0], self.owner)
        self.set_header("Location", f"/api/jobs/{name}")
        self.answer({"id": name}, 202)


def _log(ws: Any, name: str, owner: str) -> str:
    jobs.check_owner(jobs.get(ws, name), owner)
    return jobs.log_text(ws, name)


def _asked(work: Any, context: Context, name: str, *args: Any) -> Any:
    try:
        return work(context.ws, name, *args)
    except KeyError as error:
        raise Refusal(404, str(error.args[0])) from error
    except PermissionError as error:
        raise Refusal(403, str(error)) from error
    except ValueError as error:
        raise Refusal(409, str(error)) from error


def _submit(context: Context, body: dict[str, Any], owner: str) -> str:
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
            owner=owner,
        )
    except KeyError as error:
        raise Refusal(404, str(error.args[0])) from error
