"""Files over HTTP: whole or in part, so that a download that broke off is taken up again."""

from __future__ import annotations

import logging
import os
import re
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from tornado.iostream import StreamClosedError

from deepfeatures.serve.base import Base, Refusal

PIECE = 1 << 20
"""Bytes that are read at once."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_log = logging.getLogger(__name__)


def part(header: str, size: int) -> tuple[int, int] | None:
    """Give first byte and the one after the last of a ``Range``; None for the whole file.

    Several ranges at once, other units and nonsense count as none, as RFC 9110 allows.

    Raises
    ------
    Refusal
        416 if the range lies behind the end of the file.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(first) > int(last):
        return None
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if begin >= end:
        raise Refusal(416, f"the file has {size} bytes; ask for a range within them")
    return begin, end


async def send(handler: Base, path: Path, kind: str, *, inline: bool = False) -> None:
    """Answer with a file: 200, 206 for a range, 304 if the client has it.

    Parameters
    ----------
    handler
        Whose answer it is.
    path
        The file; it may be removed meanwhile.
    kind
        Its media type.
    inline
        Whether a browser may show it instead of saving it.

    Raises
    ------
    Refusal
        404 if the file is gone.
    """
    quick = handler.context.quick
    try:
        file: BinaryIO = await quick.run(path.open, "rb")
    except FileNotFoundError:
        raise Refusal(404, "the file is not kept any more; ask for it again") from None
    with closing(file):
        state = await quick.run(_state, file)
        etag = f"{path.parent.name}-{state[0]:x}"  # the same request may give other bytes later
        handler.set_header("Accept-Ranges", "bytes")
        handler.set_header("Content-Type", kind)
        way = "inline" if inline else "attachment"
        handler.set_header("Content-Disposition", f'{way}; filename="{path.name}"')
        if handler.unchanged(etag):
            return
        try:
            begin, end = _placed(handler, etag, state[1])
        except Refusal as refusal:  # not raised further: that would clear the headers
            handler.set_header("Content-Range", f"bytes */{state[1]}")
            handler.clear_header("Content-Disposition")
            handler.answer({"error": str(refusal)}, refusal.status)
            return
        handler.set_header("Content-Length", str(end - begin))
        if handler.request.method == "HEAD":
            handler.finish()
            return
        await quick.run(file.seek, begin)
        await _copy(handler, file, end - begin)


def _state(file: BinaryIO) -> tuple[int, int]:
    """Give when an open file was changed [ns] and its size [bytes]."""
    state = os.fstat(file.fileno())
    return state.st_mtime_ns, state.st_size


def _placed(handler: Base, etag: str, size: int) -> tuple[int, int]:
    """Tell which bytes are wanted, and say so in the head of the answer."""
    headers = handler.request.headers
    if headers.get("If-Range", f'"{etag}"') != f'"{etag}"':
        return 0, size  # what the client has a part of is another file
    found = part(headers.get("Range", ""), size)
    if found is None:
        return 0, size
    handler.set_status(206)
    handler.set_header("Content-Range", f"bytes {found[0]}-{found[1] - 1}/{size}")
    return found


async def _copy(handler: Base, file: BinaryIO, size: int) -> None:
    left = size
    try:
        while left:
            piece = await handler.context.quick.run(file.read, min(PIECE, left))
            if not piece:
                raise OSError("the file is shorter than it was")
            left -= len(piece)
            handler.write(piece)
            await handler.flush()
        handler.finish()
    except StreamClosedError:
        _log.info("the client left during %s", handler.request.path)
    except (OSError, Refusal):
        if not handler._headers_written:
            raise
        _log.exception("sending %s failed on its way", handler.request.path)
        # A cut connection tells the client that the file is not whole; an end would not.
        handler.request.connection.close()  # type: ignore[union-attr]
