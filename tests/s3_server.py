"""An S3 server on loopback (moto in its own process) behind a proxy that can break requests."""

from __future__ import annotations

import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY, SECRET = "loopback-key-id", "loopback-secret-key"
BUCKET = "cubes"
FAULTS = ("500", "503", "drop", "lose", "cut")
"""Error; slow down; hang up before the request is done; hang up after; half of the answer."""

_XML = "<?xml version='1.0'?><Error><Code>{}</Code><Message>please try again</Message></Error>"
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class S3:
    """A running server: where it is, what it was asked, which share of it goes wrong."""

    port: int
    """Port of the proxy."""
    upstream: int
    """Port of the server behind it."""
    share: float = 0.0
    """Share of requests that go wrong."""
    seed: int = 0
    """Which ones."""
    log: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path with query, and status or fault of each request."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each request was made."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def fault(self, method: str, path: str) -> str | None:
        """Tell what goes wrong: the same each time, whoever else asks at the same moment."""
        with self.lock:
            self.seen[method, path] += 1
            draw = random.Random(f"{self.seed} {method} {path} {self.seen[method, path]}")
        return draw.choice(FAULTS) if draw.random() < self.share else None

    def count(self, method: str, part: str = "") -> int:
        """Count the requests of a method that were answered and whose path holds a word."""
        return sum(m == method and part in p and s.startswith("2") for m, p, s in self.log)

    def faults(self) -> int:
        """Count the requests that went wrong on purpose."""
        return sum(status in FAULTS for _, _, status in self.log)


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server with one empty bucket until the block ends."""
    with _moto() as upstream:
        server = _Server(("127.0.0.1", 0), _Proxy)
        server.s3 = S3(server.server_address[1], upstream)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.s3  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@contextmanager
def _moto() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip
    try:
        _wait(port, process)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the S3 server did not start")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a killed client go in silence; everything else is a fault of this file."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def handle_expect_100(self) -> bool:
        """Let the client go on, at once in spite of the buffer."""
        going = super().handle_expect_100()
        self.wfile.flush()
        return going

    def _handle(self) -> None:
        s3: S3 = self.server.s3  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = s3.fault(self.command, self.path)
        if fault in ("500", "503"):
            code = {"500": "InternalError", "503": "SlowDown"}[fault]
            answer = int(fault), [("Content-Type", "application/xml")], _XML.format(code).encode()
        elif fault != "drop":
            answer = self._forward(s3.upstream, body)
        s3.log.append((self.command, self.path, fault or str(answer[0])))
        if fault in ("drop", "lose"):
            self.close_connection = True
        else:
            self._answer(*answer, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _forward(self, port: int, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP | {"expect"}}
            upstream.request(self.command, self.path, body, headers)
            found = upstream.getresponse()
            content = found.read()
            length = str(len(content))
            if self.command == "HEAD":
                length = found.headers.get("Content-Length", "0")
            return found.status, [*found.getheaders(), ("Content-Length", length)], content
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool
    ) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in {name.lower(): (name, value) for name, value in headers}.values():
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if cut and content:
            self.close_connection = True
            content = content[: len(content) // 2]
        self.wfile.write(content)
