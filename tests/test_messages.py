"""Messages to the browser: each is sent, whatever else is being sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bokeh.document import Document
from bokeh.document.events import TitleChangedEvent
from bokeh.protocol import Protocol
from panel.io import document as panel_document
from tornado.locks import Lock

from app import messages


class Line:
    """A connection, and its socket, that sends nothing before it may."""

    protocol = Protocol()

    def __init__(self) -> None:
        self.write_lock = Lock()
        self.may = asyncio.Event()
        self.sent: list[str] = []

    @property
    def _socket(self) -> Line:
        return self

    async def _sent(self, text: str) -> None:
        await self.may.wait()
        self.sent.append(text)

    def send(self, *, text_data: str) -> asyncio.Task[None]:
        return asyncio.ensure_future(self._sent(text_data))


async def two(line: Line) -> str:
    """Send a title, then another while Bokeh sends as well and the first is on its way."""
    document = Document()

    def entitle(title: str) -> None:
        events: list[Any] = [TitleChangedEvent(document, title)]
        panel_document.schedule_write_events(document, [line], events)  # type: ignore[list-item]

    entitle("first")
    await asyncio.sleep(0)
    await line.write_lock.acquire()
    entitle("second")
    await asyncio.sleep(0)
    line.may.set()
    await asyncio.sleep(0.005)
    line.write_lock.release()
    await asyncio.sleep(0.2)
    return "".join(line.sent)


def test_what_comes_while_something_else_is_sent_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_document, "_dispatch_msgs", panel_document._dispatch_msgs)
    messages.install()

    async def run() -> str:
        return await two(Line())

    text = asyncio.run(run())
    assert text.index("first") < text.index("second")
