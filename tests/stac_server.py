"""A STAC API server on loopback: stac-fastapi over the items and COGs of the shared data.

Application, request and response models and validation are those of stac-fastapi; only the
client below, a search over a list in memory, is ours. Files are served beside the API with range
requests. Run it by hand: ``python tests/stac_server.py ../shared/data/cog --port 8080``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attr
import uvicorn
from shapely.geometry import box, shape
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.rfc3339 import str_to_interval
from starlette.staticfiles import StaticFiles

PAGE = 50
"""Most items that one page holds, whatever the client asks for."""


@attr.s
class MemoryClient(BaseCoreClient):
    """Collections and items in memory; hrefs are made absolute below the server's ``/files``."""

    collections: dict[str, dict] = attr.ib(factory=dict)
    items: dict[str, list[tuple[str, dict]]] = attr.ib(factory=dict)

    def all_collections(self, **kwargs: Any) -> dict:
        request = kwargs["request"]
        found = [self.get_collection(name, request=request) for name in self.collections]
        return {
            "collections": found,
            "links": [_link(request, "self", "collections"), _link(request, "root", "")],
        }

    def get_collection(self, collection_id: str, **kwargs: Any) -> dict:
        if collection_id not in self.collections:
            raise NotFoundError(f"no collection {collection_id}")
        request = kwargs["request"]
        path = f"collections/{collection_id}"
        links = [
            _link(request, "self", path),
            _link(request, "root", ""),
            _link(request, "parent", ""),
            _link(request, "items", f"{path}/items"),
        ]
        return {**self.collections[collection_id], "links": links}

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> dict:
        for folder, item in self.items.get(collection_id, []):
            if item["id"] == item_id:
                return _served(kwargs["request"], folder, item)
        raise NotFoundError(f"no item {item_id}")

    def item_collection(self, collection_id: str, **kwargs: Any) -> dict:
        self.get_collection(collection_id, request=kwargs["request"])
        return self.get_search(collections=[collection_id], **kwargs)

    def get_search(self, **kwargs: Any) -> dict:
        page, token = self._page(kwargs)
        request = kwargs["request"]
        if token:
            url = request.url.include_query_params(token=token)
            page["links"].append({"rel": "next", "href": str(url), "method": "GET"})
        return page

    def post_search(self, search_request: Any, **kwargs: Any) -> dict:
        asked = search_request.model_dump(exclude_none=True, mode="json")
        page, token = self._page({**asked, **kwargs})
        if token:
            body = {**asked, "token": token}
            link = _link(kwargs["request"], "next", "search")
            page["links"].append({**link, "method": "POST", "body": body, "merge": False})
        return page

    def _page(self, asked: dict[str, Any]) -> tuple[dict, str | None]:
        names = asked.get("collections") or list(self.items)
        hits = [hit for name in names for hit in self.items.get(name, []) if _hit(hit[1], asked)]
        start = int(asked.get("token") or 0)
        stop = start + min(int(asked.get("limit") or 10), PAGE)
        features = [_served(asked["request"], *hit) for hit in hits[start:stop]]
        page = {"type": "FeatureCollection", "features": features, "links": []}
        return page, str(stop) if stop < len(hits) else None


def _hit(item: dict, asked: dict[str, Any]) -> bool:
    if asked.get("ids") and item["id"] not in asked["ids"]:
        return False
    if asked.get("bbox") and not shape(item["geometry"]).intersects(box(*asked["bbox"])):
        return False
    if asked.get("intersects"):
        wanted = asked["intersects"]
        wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
        if not shape(item["geometry"]).intersects(shape(wanted)):
            return False
    period = str_to_interval(asked.get("datetime"))
    if period is None:
        return True
    first, last = period if isinstance(period, tuple) else (period, period)
    moment = str_to_interval(item["properties"]["datetime"])
    return (first is None or moment >= first) and (last is None or moment <= last)


def _link(request: Any, rel: str, path: str) -> dict:
    kind = "application/geo+json" if rel in ("next", "items") else "application/json"
    return {"rel": rel, "href": get_base_url(request) + path, "type": kind}


def _served(request: Any, folder: str, item: dict) -> dict:
    item = copy.deepcopy(item)
    base = str(request.base_url).rstrip("/")
    for asset in item["assets"].values():
        asset["href"] = f"{base}/files/{folder}/{asset['href'].removeprefix('./')}"
    path = f"collections/{item['collection']}"
    item["links"] = [
        _link(request, "self", f"{path}/items/{item['id']}"),
        _link(request, "collection", path),
        _link(request, "parent", path),
        _link(request, "root", ""),
    ]
    return item


@dataclass
class Running:
    """A server that runs, and what was asked of it."""

    url: str
    """Address of the API; files are below ``/files``."""
    requests: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Method, path with query, Range header and status of each answered request."""


def application(cog: Path, running: Running) -> Any:
    """Make the application over the folder ``cog`` of the shared data."""
    extensions = [TokenPaginationExtension()]
    client = MemoryClient(extensions=extensions)
    _add(client, "be_31UDS_stac", cog / "be_31UDS_stac", "item_collection.json")
    _add(client, "S2A_29RKH_20200219_0_L2A", cog / "S2A_29RKH_20200219_0_L2A", "item.json")
    api = StacApi(
        settings=ApiSettings(
            enable_response_models=True,
            stac_fastapi_title="Shared data",
            stac_fastapi_description="COGs of the shared data",
            stac_fastapi_landing_id="shared-data",
            stac_fastapi_version="1.0",
        ),
        client=client,
        extensions=extensions,
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions),
        items_get_request_model=create_request_model(
            "ItemCollectionURI", ItemCollectionUri, extensions, request_type="GET"
        ),
    )
    api.app.mount("/files", StaticFiles(directory=cog))
    return _recorded(api.app, running)


def _add(client: MemoryClient, folder: str, path: Path, name: str) -> None:
    data = json.loads((path / name).read_text())
    features = data.get("features", [data])
    for item in features:
        client.items.setdefault(item["collection"], []).append((folder, item))
    for collection in {item["collection"] for item in features}:
        moments = sorted(i["properties"]["datetime"] for i in features)
        boxes = [i["bbox"] for i in features]
        client.collections[collection] = {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": collection,
            "description": f"{len(features)} items",
            "license": "other",
            "extent": {
                "spatial": {
                    "bbox": [
                        [
                            f(b)
                            for f, b in zip(
                                (min, min, max, max), zip(*boxes, strict=True), strict=True
                            )
                        ]
                    ]
                },
                "temporal": {"interval": [[moments[0], moments[-1]]]},
            },
        }


def _recorded(app: Any, running: Running) -> Any:
    async def recording(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope["path"] + (
            "?" + scope["query_string"].decode() if scope["query_string"] else ""
        )

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                asked = headers.get(b"range", b"").decode()
                running.requests.append((scope["method"], path, asked, message["status"]))
            await send(message)

        await app(scope, receive, sending)

    return recording


@contextlib.contextmanager
def serve(cog: Path, port: int = 0) -> Iterator[Running]:
    """Serve in a thread, on a free port of the loopback interface, until the block ends."""
    running = Running(url="")
    config = uvicorn.Config(
        application(cog, running), host="127.0.0.1", port=port, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the STAC server did not start")
        time.sleep(0.02)
    running.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cog", type=Path)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    with serve(args.cog, args.port) as running, contextlib.suppress(KeyboardInterrupt):
        print(running.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
