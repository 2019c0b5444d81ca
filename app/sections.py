"""Parts of the page that are made when somebody first looks at them.

A figure costs the browser a third of a second and a component some fifty milliseconds, so what
nobody has opened yet is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui

from app import style, work

Make = Callable[[], Any]
"""Makes a part of the page: a view or a component."""


class Part:
    """A place on the page whose content is made when it is first shown."""

    def __init__(self, make: Make, **options: Any) -> None:
        self._make = make
        self.made: Any = None
        self.holder = pn.Column(margin=0, **({"sizing_mode": "stretch_width"} | options))

    def show(self) -> Any:
        """Make the content unless it is there, and give it."""
        if self.made is None:
            with work.together():
                self.made = self._make()
                self.holder.objects = [self.made]
        return self.made


def afterwards(parts: Sequence[Part]) -> None:
    """Make parts one by one after the page was drawn, so that the map need not wait for them.

    Without a server (a test, a script) they are made at once.
    """
    document = pn.state.curdoc
    waiting = list(parts)
    if not waiting:
        return
    if document is None or document.session_context is None:
        for part in waiting:
            part.show()
        return
    for part in waiting:
        part.holder.objects = [
            pn.pane.HTML(
                '<div class="note" role="status">Loading …</div>',
                stylesheets=[style.CSS],
                margin=8,
            )
        ]

    def following() -> None:
        waiting.pop(0).show()
        if waiting:
            document.add_next_tick_callback(following)  # the loop is free in between

    pn.state.onload(following)


def folded(parts: Mapping[str, Make], opened: Sequence[str] = ()) -> pmui.Accordion:
    """Stack parts under headings; each is made when it is first unfolded.

    Parameters
    ----------
    parts
        Heading to what makes the part below it.
    opened
        Headings that are open from the beginning.
    """
    titles = list(parts)
    made = [Part(make) for make in parts.values()]
    stack = pmui.Accordion(
        *zip(titles, (part.holder for part in made), strict=True),
        active=[titles.index(title) for title in opened],
        sizing_mode="stretch_width",
        disable_gutters=True,
        title_variant="subtitle2",
        margin=0,
    )

    def look(*_: Any) -> None:
        for place in stack.active:
            made[place].show()

    stack.param.watch(look, "active")
    afterwards([made[place] for place in stack.active])
    return stack


def either(
    parts: Mapping[str, Make], *, label: str, name: str = "", sizing_mode: str = "stretch_both"
) -> pn.Column:
    """Show one of several parts in the same place, chosen by its title; the first one at first.

    Parameters
    ----------
    parts
        Title to what makes the part.
    label
        Says to a screen reader what is chosen here.
    name
        Classes for the style sheet.
    sizing_mode
        Of the card and its parts, as Panel takes it.
    """
    made = {title: Part(make, sizing_mode=sizing_mode) for title, make in parts.items()}
    titles = list(made)
    if len(titles) == 1:
        return _alone(titles[0], made[titles[0]], name, sizing_mode)
    choice = pmui.RadioButtonGroup(
        options=titles,
        value=titles[0],
        size="small",
        description=label,
        margin=(0, 0, 4, 0),
        sx={
            "maxWidth": "100%",
            "overflowX": "auto",
            "& .MuiToggleButton-root": {"whiteSpace": "nowrap", "py": "2px"},
        },
    )
    place = pn.Column(sizing_mode=sizing_mode, margin=0)

    def look(*_: Any) -> None:
        part = made[choice.value]
        part.show()
        place.objects = [part.holder]

    choice.param.watch(look, "value")
    first = made[titles[0]]
    place.objects = [first.holder]
    afterwards([first])
    return _card(choice, place, name, sizing_mode)


def _alone(title: str, part: Part, name: str, sizing_mode: str) -> pn.Column:
    afterwards([part])
    heading = pn.pane.HTML(f"<h2>{title}</h2>", stylesheets=[style.CSS], margin=0)
    return _card(heading, part.holder, name, sizing_mode)


def _card(head: Any, body: Any, name: str, sizing_mode: str) -> pn.Column:
    return pn.Column(
        head,
        body,
        css_classes=name.split(),
        stylesheets=[style.CSS],
        sizing_mode=sizing_mode,
        margin=0,
    )
