"""Fields that Panel does not have: a list to search in, and a field for an expression."""

from __future__ import annotations

from typing import Any

import param
from panel.custom import JSComponent

from app import style

Option = tuple[str, str, str, str]
"""Value, name, words about it, a note at the side; one finds it by all but the value."""


class Picker(JSComponent):
    """A field to find and choose one option of many in groups, or a few of them."""

    value = param.String(doc="What is chosen in a field for one.")
    values = param.List([], doc="What is chosen in a field for several.")
    most = param.Integer(1, doc="How many can be chosen; one more drops the first.")
    colors = param.List([""], doc="Colour of each value of a field for several.")
    groups = param.List([], doc="Pairs of a heading and its options (`Option`), in order.")
    label = param.String(doc="What is chosen here.")
    placeholder = param.String("Search", doc="Shown while the field is empty.")

    _esm = (style.ASSETS / "picker.js").read_text()
    _stylesheets = [(style.ASSETS / "fields.css").read_text()]  # noqa: RUF012


class Expression(JSComponent):
    """A field whose text is sent by Enter or its button; `on_msg` takes it."""

    label = param.String(doc="What is written here.")
    placeholder = param.String(doc="An example.")
    action = param.String(doc="Label of the button.")
    length = param.Integer(500, doc="Most characters.")
    mistake = param.String(doc="What is wrong with the text that was sent, as HTML.")
    position = param.Integer(-1, doc="Column of the mistake from 0; -1 if it has no place.")

    _esm = (style.ASSETS / "expression.js").read_text()
    _stylesheets = [(style.ASSETS / "fields.css").read_text()]  # noqa: RUF012

    def write(self, text: str) -> None:
        """Put a text into the field, to be changed there."""
        self.mistake = ""
        self._send_msg(text)

    def sent(self, call: Any) -> None:
        """Call with each text that is sent."""
        self.on_msg(lambda event: call(str(event.data)))
