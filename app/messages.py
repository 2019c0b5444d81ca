"""Messages to the browser that Panel would leave behind."""

from __future__ import annotations

from bokeh.document import Document
from panel.io import document as panel_document

_send = panel_document._dispatch_msgs


async def _send_all(document: Document) -> None:
    """Send what waits, and what came to wait in the meantime.

    Of two of Panel's tasks that send at the same time, the one that is done first takes away the
    mark without which the other one sends nothing: what it had to send waited for the next change
    of the page, so a click seemed to do nothing.
    """
    await _send(document)
    waiting, marked = panel_document._WRITE_MSGS, panel_document._WRITE_BLOCK
    if document in waiting and document not in marked:
        marked[document] = True
        panel_document._dispatch_write_task(document, _send_all, document)


def install() -> None:
    """Let Panel send all messages."""
    setattr(panel_document, "_dispatch_msgs", _send_all)  # noqa: B010 (mypy knows the function)
