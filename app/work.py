"""Slow calls off the event loop: run in a thread, and apply what comes back to the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import panel as pn
from panel.reactive import Syncable

from deepfeatures import errors

together = pn.io.hold
"""Sends what is changed inside it at its end, in the order of the changes.

Otherwise a change of a figure's data can overtake the message that brings the figure: the one
is sent by Bokeh at once, the other by Panel when the connection is free.
"""

# Panel calls what handles clicks and messages of components without the lock of the document,
# and there a change of a figure raises. This is the mark of `panel.io.with_lock`.
setattr(Syncable._event_coroutine, "lock", True)  # noqa: B010 (mypy knows no such attribute)

_RUNNING: set[asyncio.Task[None]] = set()


def run(
    call: Callable[..., Any],
    *args: Any,
    then: Callable[[Any], None],
    failed: Callable[[str], None],
) -> None:
    """Call in a thread; then change the page with what was returned.

    Without an event loop (a test, a script) all of it happens at once.

    Parameters
    ----------
    call, args
        What is slow. It must not touch the page.
    then
        Takes the result; runs on the event loop with the lock of the document.
    failed
        Takes one sentence for the user instead, if `call` raised one of `errors.EXPECTED`.
    """
    document = pn.state.curdoc
    session = document.session_context if document else None

    def apply(result: Any, sentence: str) -> None:
        with together():
            if sentence:
                failed(sentence)
            else:
                then(result)

    async def later() -> None:
        answer = await asyncio.to_thread(_answer, call, args)
        if document is None:
            apply(*answer)
        elif session is None or not session.destroyed:  # else nobody looks any more
            document.add_next_tick_callback(lambda: apply(*answer))

    try:
        task = asyncio.get_running_loop().create_task(later())
    except RuntimeError:
        apply(*_answer(call, args))
        return
    _RUNNING.add(task)  # the loop itself holds tasks weakly
    task.add_done_callback(_RUNNING.discard)


def _answer(call: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, str]:
    try:
        return call(*args), ""
    except errors.EXPECTED as error:
        return None, errors.sentence(error)
