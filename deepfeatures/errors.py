"""An error in one sentence, for the person who asked for the work."""

from __future__ import annotations

import errno

EXPECTED = (ValueError, KeyError, OSError, MemoryError)
"""Errors whose text is written for the user; `InterruptedError` is an `OSError`."""


def sentence(error: BaseException) -> str:
    """Say an error in one sentence with the remedy, where there is one."""
    if isinstance(error, MemoryError):
        return "there was not enough memory; choose a smaller area or period"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full; free some space and ask again"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {str(error.filename2 or error.filename)!r}"
    # the text of a KeyError is quoted by str()
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(text.split())
    if isinstance(error, EXPECTED) and text:
        return text
    return f"{type(error).__name__}: {text or 'no message'}"
