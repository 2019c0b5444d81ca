"""The whole server in this process: who is let in, what is refused, what a closed page leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import panel as pn
import pytest
from bokeh.document import Document
from panel.auth import OAuthLoginHandler
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from app import logs, server, signin, style, work
from app.state import State
from benchmarks import soak
from deepfeatures import catalogue, settings
from deepfeatures.serve.limits import Allowed, Limits, Rate, Refusal

UNUSED = 400
"""Milliseconds after which these servers forget a page that was closed."""


class Running:
    """The server of a workspace in a thread of its own."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.health = server.Health(settings.workspace(home))
        self._options = {"host": "127.0.0.1", "port": 0, "unused": UNUSED} | options
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),))
        self._thread.start()
        assert self._started.wait(60)
        self.address = f"http://127.0.0.1:{self.server.port}"

    async def _main(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.server = server.made(self.health, **self._options)
        self.server.start()
        self._started.set()
        await self._stop.wait()
        self.server.stop()
        await self.server._http.close_all_connections()

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, **options)

    def sessions(self) -> int:
        return sum(len(list(app.sessions)) for app in self.server._tornado.applications.values())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@contextlib.contextmanager
def running(home: Path, **options: Any) -> Iterator[Running]:
    found = Running(home, **options)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def alone(demo_home: Path) -> Iterator[Running]:
    """A server as a user starts it on a computer of their own."""
    with running(demo_home) as found:
        yield found


def token_of(page: httpx.Response) -> str:
    assert page.status_code == 200, page.text
    return re.search(r'"token":"([^"]+)"', page.text)[1]


async def opened(address: str, token: str, **headers: str) -> Any:
    """Open a websocket as a browser does and wait until the server has acknowledged it."""
    request = HTTPRequest(address.replace("http", "ws") + "/ws", headers=headers)
    socket = await websocket_connect(request, subprotocols=["bokeh", token])
    assert json.loads(await socket.read_message())["msgtype"] == "ACK"
    return socket


async def shut(socket: Any) -> None:
    """Close a websocket and wait until the server has done so as well."""
    socket.close()
    while await socket.read_message() is not None:
        pass


async def visit(address: str, token: str, **headers: str) -> None:
    await shut(await opened(address, token, **headers))


def knock(web: httpx.Client, token: str, **headers: str) -> int:
    """Ask for a websocket that will be refused."""
    usual = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": f"bokeh, {token}",
    }  # fmt: skip
    return web.get("/ws", headers=usual | headers).status_code


SIGN_IN = signin.SignIn(provider="basic", passwords={"ann": "rain", "bob": "snow"})
GUARDED = (
    "/api/cubes", "/api/cubes/demo", "/api/cubes/demo/legend", "/api/jobs", "/api/indices",
    "/api/cubes/demo/series?lon=1&lat=1", "/api/cubes/demo/export", "/tiles/demo/14/1/1.png",
    "/api/nothing", "/metrics",
)  # fmt: skip


def test_nobody_gets_in_without_sign_in(demo_home: Path) -> None:
    with running(demo_home, sign_in=SIGN_IN) as found, found.client() as web:
        for url in GUARDED:
            answer = web.get(url)
            assert answer.status_code == 401, url
            assert "sign in" in answer.json()["error"]
        assert web.post("/api/jobs", json={}).status_code == 401
        assert web.delete("/api/jobs/x").status_code == 401
        for url in ("/", "/assets/style.css"):
            assert web.get(url).status_code == 302
            assert "login" in web.get(url).headers["location"]
        assert web.get("/login").status_code == 200
        assert web.get("/healthz").status_code in (200, 503)
        assert knock(web, "x.y", Origin=found.address) == 403
        wrong = web.post("/login", data={"username": "ann", "password": "snow"})
        assert "user" not in wrong.cookies
        assert web.get("/api/cubes").status_code == 401
        right = web.post("/login", data={"username": "ann", "password": "rain"})
        kept = [line for line in right.headers.get_list("set-cookie") if line.startswith("user=")]
        assert "HttpOnly" in kept[0]
        assert "SameSite=Lax" in kept[0]
        assert web.get("/api/cubes").json()["cubes"]
        assert web.get("/assets/style.css").status_code == 200
        assert web.get("/metrics").status_code == 200
        token = token_of(web.get("/"))
        cookie = "; ".join(f"{key}={value}" for key, value in web.cookies.items())
        found.run(visit(found.address, token, Cookie=cookie, Origin=found.address))
        with found.client() as other:  # the token alone is not enough
            assert knock(other, token, Origin=found.address) == 403


def test_only_named_users_are_welcome(demo_home: Path) -> None:
    only = signin.SignIn(
        provider="basic", passwords={"ann": "rain", "bob": "snow"}, users=frozenset({"bob"})
    )
    with running(demo_home, sign_in=only) as found:
        for name, password, status in (("ann", "rain", 401), ("bob", "snow", 200)):
            with found.client() as web:
                web.post("/login", data={"username": name, "password": password})
                assert web.get("/api/cubes").status_code == status


def test_passwords_can_not_be_guessed_for_long(demo_home: Path) -> None:
    with running(demo_home, sign_in=SIGN_IN) as found, found.client() as web:
        guesses = [
            web.post("/login", data={"username": "ann", "password": str(n)}) for n in range(12)
        ]
    assert [answer.status_code for answer in guesses[:10]] == [302] * 10
    assert guesses[-1].status_code == 429
    assert int(guesses[-1].headers["retry-after"]) > 0


def test_cookies_are_secure_behind_https(demo_home: Path, monkeypatch) -> None:
    monkeypatch.setenv("DEEPFEATURES_PROXY", "1")
    with running(demo_home, sign_in=SIGN_IN) as found, found.client() as web:
        secret = {"username": "ann", "password": "rain"}
        answer = web.post("/login", data=secret, headers={"X-Forwarded-Proto": "https"})
    assert all("Secure" in line for line in answer.headers.get_list("set-cookie"))


def test_a_session_needs_the_page(alone: Running) -> None:
    with alone.client() as web:
        token = token_of(web.get("/"))
    alone.run(visit(alone.address, token, Origin=alone.address))
    with alone.client() as web:
        assert knock(web, token, Origin="http://127.0.0.1:1") == 403
    forged = token[:-4] + ("aaaa" if token[-4:] != "aaaa" else "bbbb")

    async def refused() -> Any:
        request = HTTPRequest(alone.address.replace("http", "ws") + "/ws")
        socket = await websocket_connect(request, subprotocols=["bokeh", forged])
        message = await socket.read_message()
        socket.close()
        return message

    assert alone.run(refused()) is None


def test_a_server_answers_to_its_names_only(alone: Running) -> None:
    with alone.client() as web:
        port = alone.server.port
        for host in ("evil.example", f"evil.example:{port}", "10.0.0.1", "localhost.evil.example"):
            for url in ("/", "/api/cubes", "/tiles/demo/14/1/1.png", "/assets/style.css", "/ws"):
                answer = web.get(url, headers={"Host": host})
                assert answer.status_code == 421
                assert "DEEPFEATURES_HOSTS" in answer.json()["error"]
        assert web.get("/healthz", headers={"Host": "evil.example"}).status_code in (200, 503)
        assert web.get("/api/cubes", headers={"Host": "localhost:1"}).status_code == 200


def test_a_rate_lets_some_through_at_once_and_then_so_many_in_a_second() -> None:
    rate = Rate(2.0, 4)
    assert [rate.wait("me", 100.0) for _ in range(4)] == [0] * 4
    assert rate.wait("me", 100.0) == pytest.approx(0.5)
    assert rate.wait("you", 100.0) == 0
    assert rate.wait("me", 100.5) == 0
    assert rate.wait("me", 100.5) > 0
    assert [rate.wait("me", 1000.0) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_slow_requests_are_counted_for_each_user() -> None:
    limits = Limits(Allowed(slow=2))
    limits.begin("me")
    limits.begin("me")
    with pytest.raises(Refusal, match="under way") as refused:
        limits.begin("me")
    assert refused.value.status == 429
    limits.begin("you")
    limits.end("me")
    limits.begin("me")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DEEPFEATURES_AUTH": "basic"}, "PASSWORD"),
        ({"DEEPFEATURES_AUTH": "basic", "DEEPFEATURES_AUTH_FILE": "/nowhere"}, "can not be read"),
        ({"DEEPFEATURES_AUTH": "github"}, "DEEPFEATURES_AUTH_SECRET"),
        ({"DEEPFEATURES_AUTH": "knock"}, "choose one of"),
        ({"DEEPFEATURES_AUTH_PASSWORD": "rain"}, "DEEPFEATURES_AUTH is not"),
        (
            {
                "DEEPFEATURES_AUTH": "github",
                "DEEPFEATURES_AUTH_KEY": "k",
                "DEEPFEATURES_AUTH_SECRET": "s",
                "DEEPFEATURES_AUTH_ENCRYPTION": "short",
            },
            "panel oauth-secret",
        ),
    ],
)
def test_half_a_sign_in_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        signin.from_environment(environment)


def test_sign_in_comes_from_the_environment_and_shows_no_secret() -> None:
    found = signin.from_environment(
        {"DEEPFEATURES_AUTH": "basic", "DEEPFEATURES_AUTH_PASSWORD": "rain"}
    )
    assert signin.right(found.passwords, "ann", "rain")
    assert not signin.right(found.passwords, "", "rain")
    assert not signin.right({"ann": "rain"}, "bob", "")
    assert "rain" not in repr(found)
    assert signin.from_environment({}).provider == ""


class Jar(dict[str, Any]):
    """Keeps the cookies that a handler of Panel would send to the browser."""

    _USER_KEY = "login"

    def set_secure_cookie(self, name: str, value: Any, **_: Any) -> None:
        self[name] = value

    def clear_cookie(self, name: str) -> None:
        self.pop(name, None)


@pytest.mark.parametrize("given", ["", signin.key_of("another secret")])
def test_tokens_of_a_provider_are_not_readable_in_cookies(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pn.config, "oauth_provider", None)  # both are set below, for all
    monkeypatch.setattr(pn.state, "encryption", None)
    environment = {
        "DEEPFEATURES_AUTH": "github", "DEEPFEATURES_AUTH_KEY": "k",
        "DEEPFEATURES_AUTH_SECRET": "s", "DEEPFEATURES_AUTH_COOKIE_SECRET": "quiet",
        "DEEPFEATURES_AUTH_ENCRYPTION": given,
    }  # fmt: skip
    found = signin.from_environment(environment)
    signin.settings(found)
    jar = Jar()
    OAuthLoginHandler.set_auth_cookies(jar, {"login": "ann"}, "gho_token", "ghr_token")
    assert jar["user"] == "ann"
    for name, token in (("access_token", "gho_token"), ("refresh_token", "ghr_token")):
        assert token.encode() not in jar[name]
        assert pn.state._decrypt_cookie(jar[name]) == token
    signin.settings(found)  # a restart
    assert pn.state._decrypt_cookie(jar["access_token"]) == "gho_token"
    assert given not in repr(found) or not given


def test_numbers_and_lines_tell_routes_but_neither_places_nor_names(
    alone: Running, caplog: pytest.LogCaptureFixture
) -> None:
    place = "/api/cubes/demo/series?lon=11.123456&lat=51.654321"
    with caplog.at_level("INFO", "deepfeatures.serve"), alone.client() as web:
        assert web.get(place).status_code == 400  # outside
        assert web.get("/api/cubes").status_code == 200
        text = web.get("/metrics").text
        forwarded = web.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
    assert 'deepfeatures_requests_total{route="Series",status="400"} 1.0' in text
    assert 'deepfeatures_jobs{state="queued"} 0.0' in text
    assert "deepfeatures_event_loop_lag_seconds_max" in text
    assert forwarded.status_code == 403
    lines = [logs.Lines().format(one) for one in caplog.records if hasattr(one, "fields")]
    found = [json.loads(line) for line in lines]
    assert {"Series", "Cubes", "Metrics"} <= {line["route"] for line in found}
    assert all({"time", "level", "status", "ms", "user"} <= set(line) for line in found)
    assert "11.123456" not in "".join(lines)
    assert "127.0.0.1" not in "".join(lines)


def test_health_notices_a_broken_page_and_that_it_was_mended(demo_home: Path) -> None:
    health = server.Health(settings.workspace(demo_home))
    health.look()
    assert health() == {"cubes": len(catalogue.names(health.ws))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "LOOK_SECONDS", 0.0)
        patch.setattr(server, "build", lambda ws: ws.nothing)
        with pytest.raises(RuntimeError, match="no attribute 'nothing'"):
            health()
        patch.undo()
        health.looked = -1e9
        assert health()


def held() -> Counter[str]:
    """Count what each page has one of."""
    gc.collect()
    kinds = (State, Document)
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in kinds)


def test_a_closed_page_leaves_nothing(alone: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "BASEMAP", "none")  # nobody waits for a map of somebody else's

    def until(over: Callable[[], bool]) -> None:
        for _ in range(200):
            if over():
                return
            time.sleep(0.1)
        raise AssertionError(f"{alone.sessions()} sessions, {held()} are held")

    alone.run(soak.visits(alone.address, 1, soak.Watch()))
    until(lambda: not alone.sessions())
    before = held()  # what began with the first page (a reader's thread) may keep that one
    alone.run(soak.visits(alone.address, 3, soak.Watch()))
    assert alone.sessions() > 0
    until(lambda: not alone.sessions())
    until(lambda: held() <= before)  # what is computed for a page may end after it
    assert not work._RUNNING


def test_a_look_at_the_health_leaves_no_page(demo_home: Path) -> None:
    health = server.Health(settings.workspace(demo_home))

    def look() -> int:
        thread = threading.Thread(target=health.look)
        thread.start()
        thread.join()
        assert not health.problem
        return held()["State"]

    first, _, _, last = (look() for _ in range(4))
    assert last <= first + 1  # what a thread saw last may stay until the next one
