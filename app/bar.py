"""A bar of small buttons and labelled places, which costs the browser next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import param
from panel.custom import JSComponent

from app import style


class Bar(JSComponent):
    """Buttons in a row, and a chip for each kept place; `pressed` takes what is pressed."""

    label = param.String(doc="What the buttons are for.")
    buttons = param.List([], doc="Id, label, hint and state of each: '', 'on', 'off', 'disabled'.")
    chips = param.List([], doc="Id, words, colour and dash (as of SVG) of each place.")

    _esm = (style.ASSETS / "bar.js").read_text()
    _stylesheets = [(style.ASSETS / "bar.css").read_text()]  # noqa: RUF012

    def pressed(self, call: Callable[[str, str], Any]) -> None:
        """Call with ``press`` and the id of a button, or ``remove`` and that of a chip."""

        def heard(event: Any) -> None:
            words = str(event.data.get("do")), str(event.data.get("id"))
            # The message may come without the lock of the document, a scheduled call never does.
            pn.state.execute(lambda: call(*words), schedule=True)

        self.on_msg(heard)

    def save(self, name: str, text: str) -> None:
        """Let the browser save a text as a file."""
        self._send_msg({"name": name, "text": text})
