"""What lies over the map: value under the pointer, scale bar, the line between two pictures."""

from __future__ import annotations

from typing import Any

import param
from panel.custom import JSComponent

from app import style
from app.state import State


class Glass(JSComponent):
    """A pane over the map that lets the mouse through."""

    look = param.Dict({}, doc="What a value is read of: cube, time, channels, bounds.")
    split = param.Boolean(False, doc="Part the map at a line.")
    part = param.Number(0.5, bounds=(0, 1), doc="Share of the width that is left of the line.")
    left = param.String(doc="What the left side shows.")
    right = param.String(doc="What the right side shows.")

    _esm = (style.ASSETS / "glass.js").read_text()
    _stylesheets = [(style.ASSETS / "glass.css").read_text()]  # noqa: RUF012


def over(state: State) -> Glass:
    """Lay a glass over the map of a session."""
    glass = Glass(part=state.part)
    glass.param.watch(lambda event: state.param.update(part=round(event.new, 3)), "part")

    def look(*_: Any) -> None:
        glass.param.update(
            look=looked(state),
            split=state.split,
            left=label(state, state.cube, state.show, state.date),
            right=label(state, state.other_cube, state.other_show, state.other_date),
        )

    state.param.watch(
        look, ["cube", "cubes", "show", "date", "split", "other_cube", "other_show", "other_date"]
    )
    look()
    return glass


def looked(state: State) -> dict[str, Any]:
    """Say of what the value under the pointer is read."""
    if not state.info or state.date not in state.days:
        return {}
    return {
        "cube": state.cube,
        "time": state.date,
        "channels": state.show,
        "bounds": list(state.info["bounds"]),
    }


def label(state: State, cube: str, show: str, date: str) -> str:
    """Say in words what one side of the map shows."""
    names = {rgb: words for words, rgb in state.pictures(cube).items()}
    return " · ".join((cube, names.get(show, show), date))
