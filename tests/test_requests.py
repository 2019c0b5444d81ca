"""Generated bad requests against every route of the whole server: a sentence, never a trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_operation import Running, running

EXAMPLES = 300

WORDS = (
    "demo", "demo-features", "..", "../../etc/passwd", "/etc/passwd", "nothing", "", "%", "\x00",
    "a" * 300, "demo;rm", "<script>", "ä", "1e309", "-1", "nan", "NDVI", "B04", "F01",
    "2020-01-01", "0", "1,2,3,4", "B04,B03,B02", "((((", "B04/0", "netcdf", "zarr", "csv",
    "viridis", "11.5", "51.1",
)  # fmt: skip
KEYS = (
    "time", "channel", "vmin", "vmax", "cmap", "rgb", "masked", "selection", "version", "lon",
    "lat", "channels", "format", "bbox", "start", "end", "q", "domain", "bands", "cube",
    "expression",
)  # fmt: skip
ROUTES = (
    "/", "/ws", "/healthz", "/metrics", "/login", "/api/cubes", "/api/cubes/{}",
    "/api/cubes/{}/legend", "/api/cubes/{}/series", "/api/cubes/{}/transect",
    "/api/cubes/{}/export", "/api/cubes/{}/similar", "/api/cubes/{}/groups",
    "/api/cubes/{}/classify", "/api/cubes/{}/change", "/api/cubes/{}/polygons", "/api/indices",
    "/api/indices/check", "/api/jobs", "/api/jobs/{}", "/api/jobs/{}/log", "/api/jobs/{}/retry",
    "/api/areas", "/api/areas/{}", "/tiles/{}/{}/{}/{}.png", "/tiles/{}/found/{}/{}/{}/{}.png",
    "/components/{}/{}/{}", "/autoload.js", "/metadata", "/assets/{}", "/static/{}", "/{}",
)  # fmt: skip

values = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.floats().map(str))
leaves = st.none() | st.booleans() | st.floats() | st.sampled_from(WORDS)
bodies = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["type", "coordinates", "geometry", "cube", "model", "aoi", "kind"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


def cleaned(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe="")


@st.composite
def requests(draw: Any) -> dict[str, Any]:
    route = draw(st.sampled_from(ROUTES))
    path = route.format(*(cleaned(draw(values)) for _ in range(route.count("{}"))))
    query = draw(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
    text = "&".join(f"{key}={cleaned(value)}" for key, value in query.items())
    made: dict[str, Any] = {"url": f"{path}?{text}"}
    made["method"] = draw(
        st.sampled_from(["GET"] * 4 + ["POST"] * 3 + ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
    )
    if made["method"] == "POST":
        raw = draw(st.one_of(bodies.map(json.dumps).map(str.encode), st.binary(max_size=40)))
        kind = draw(st.sampled_from(["application/json"] * 4 + ["text/plain", "", "\u00e4"]))
        made |= {"content": raw, "headers": {"Content-Type": kind.encode("latin-1")}}
    return made


@pytest.fixture(scope="module")
def web(demo_copy: Path) -> Iterator[tuple[Running, httpx.Client]]:
    with running(demo_copy) as found, found.client() as client:
        client.get("/")
        yield found, client


def files(home: Path) -> set[str]:
    return {
        str(file.relative_to(home.parent))
        for file in home.parent.rglob("*")
        if not file.is_relative_to(home)
    }


def test_bad_requests_get_a_sentence(web, caplog, demo_copy: Path) -> None:
    _, client = web
    before = files(demo_copy)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def check(asked: dict[str, Any]) -> None:
        answer = client.request(**asked)
        assert answer.status_code < 500 or answer.status_code == 503, (asked, answer.text)
        assert "Traceback" not in answer.text
        assert str(demo_copy.parent) not in answer.text
        ours = asked["url"].startswith(("/api", "/tiles", "/healthz", "/metrics"))
        if ours and answer.status_code >= 400 and asked["method"] != "HEAD":
            assert set(answer.json()) >= {"error"}, asked
            assert answer.json()["error"].strip()

    with caplog.at_level(logging.WARNING):
        check()
    traces = [record for record in caplog.records if record.exc_info]
    assert [str(trace.exc_info[1]) for trace in traces] == []
    assert files(demo_copy) == before
