"""Classes from a few clicked pixels: label, train, see how far to trust it."""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from typing import Any
from urllib.parse import quote

import panel as pn
import panel_material_ui as pmui
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from app import style, work
from app.reads.find import Map
from app.views.find_parts import SMALL, WIDE, Finder, areas, note, swatches, whens
from deepfeatures import render
from deepfeatures.find import labels
from deepfeatures.find.labels import Label

CLASSIFIERS = {
    "Logistic regression": "logistic",
    "Nearest neighbours": "neighbours",
    "Random forest": "forest",
}
"""Kinds of classifiers."""


def confusion(names: list[str], table: list[list[int]]) -> str:
    """Write which class was told as which."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        + "".join(
            f'<td style="text-align:right;{"font-weight:500" if at == column else ""}">{count}</td>'
            for column, count in enumerate(line)
        )
        + "</tr>"
        for at, (name, line) in enumerate(zip(names, table, strict=True))
    )
    return (
        '<div class="note"><table style="width:100%;border-spacing:4px 1px">'
        '<caption style="text-align:left">Labels of a class (row) told as (column)</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def curve(points: list[list[float]]) -> figure:
    """Draw accuracy against the number of labels that were learned from."""
    fig = style.plain(
        tools="", height=150, sizing_mode="stretch_width", name="learning-curve",
        x_axis_label="Labels learned from", y_axis_label="Accuracy", y_range=(0, 1.05),
    )  # fmt: skip
    x, y = ([point[axis] for point in points] for axis in (0, 1))
    source = ColumnDataSource({"labels": x, "accuracy": y}, name="learning")
    fig.line("labels", "accuracy", source=source, color=style.PRIMARY, line_width=2)
    fig.scatter("labels", "accuracy", source=source, color=style.PRIMARY, size=7)
    return fig


class ClassFinder(Finder):
    """Learns classes from labels."""

    method = "classify"

    def build(self) -> None:
        """Make the controls."""
        self.labels: list[Label] = []
        self.names: list[str] = []
        self.name_of = pmui.TextInput(label="New class", placeholder="forest, water, ...", **SMALL)
        self.add = pmui.Button(label="Add the class", icon="add", variant="outlined", **SMALL)
        self.current = pmui.Select(label="Label as", options=[], **SMALL)
        self.marking = pmui.Switch(label="Clicks on the map set labels", size="small", **WIDE)
        self.legend = pn.pane.HTML("", stylesheets=[style.CSS], **WIDE)
        self.listed = pmui.Select(label="Labels", options={}, **SMALL)
        self.delete = pmui.Button(label="Delete the label", icon="delete", variant="text", **SMALL)
        self.upload = pmui.FileInput(
            label="Upload labels", accept=".geojson,.json", variant="outlined", size="small",
            max_file_size=labels.MAX_BYTES, **WIDE,
        )  # fmt: skip
        self.kind = pmui.Select(label="Classifier", options=CLASSIFIERS, **SMALL)
        self.when = pmui.Select(
            label="Dates", options=whens(self.info, self.state.date), value="", **SMALL
        )
        self.start.label = "Train and map"
        self.add.on_click(self._add)
        self.name_of.param.watch(self._add, "enter_pressed")
        self.delete.on_click(self._delete)
        self.upload.param.watch(lambda event: self._upload(event.new), "value")
        self.state.param.watch(self._clicked, ["lon", "lat"])
        self.state.param.watch(lambda *_: self.renew(), "date")
        self._listed()

    def renew(self) -> None:
        """Follow cube and date."""
        options = whens(self.info, self.state.date)
        if options != self.when.options:
            kept = self.when.value if self.when.value in options.values() else ""
            self.when.param.update(options=options, value=kept)

    def _add(self, *_: Any) -> None:
        name = self.name_of.value.strip()
        if not name:
            return
        try:
            Label(0.0, 0.0, name)
            if name not in self.names and len(self.names) >= labels.MOST:
                raise ValueError(f"There are {labels.MOST} classes already.")
        except ValueError as error:
            self.note.object = note(str(error), alert=True)
            return
        if name not in self.names:
            self.names = [*self.names, name]
        self.name_of.value = ""
        self.current.param.update(options=self.names, value=name)
        self.marking.value = True
        self._listed()

    def _clicked(self, *_: Any) -> None:
        point, name = self.state.point, self.current.value
        if not (self.active and self.marking.value and point and name):
            return
        if len(self.labels) >= labels.MAX_LABELS:
            self.note.object = note(f"There are {labels.MAX_LABELS} labels already.", alert=True)
            return
        self.labels = [*self.labels, Label(*point, name)]
        self._listed()

    def _delete(self, _: Any) -> None:
        at = self.listed.value
        if at is not None:
            self.labels = [one for number, one in enumerate(self.labels) if number != at]
            self._listed()

    def _upload(self, content: bytes | None) -> None:
        if content:
            work.run(
                labels.from_geojson, content, then=self._uploaded,
                failed=lambda sentence: setattr(self.note, "object", note(sentence, alert=True)),
            )  # fmt: skip

    def _uploaded(self, found: list[Label]) -> None:
        names = list(dict.fromkeys([*self.names, *(label.name for label in found)]))
        if len(names) > labels.MOST or len(found) + len(self.labels) > labels.MAX_LABELS:
            self.note.object = note("These are too many classes or labels.", alert=True)
            return
        self.names, self.labels = names, [*self.labels, *found]
        self.current.param.update(options=names, value=self.current.value or names[0])
        self.note.object = note(f"{len(found)} labels were read.")
        self._listed()

    def _listed(self) -> None:
        """Show classes and labels in the controls and on the map."""
        counts = Counter(label.name for label in self.labels)
        colours = {name: render.class_colour(at) for at, name in enumerate(self.names, 1)}
        rows = [(colours[name], name, str(counts[name])) for name in self.names]
        if not rows:
            self.legend.object = note("Name two or more classes, then click pixels of each.")
        else:
            self.legend.object = swatches(rows) + self._download()
        self.listed.param.update(
            options={
                f"{at + 1} · {one.name} · {one.lon:.5f}, {one.lat:.5f}": at
                for at, one in enumerate(self.labels)
            },
            value=len(self.labels) - 1 if self.labels else None,
            visible=bool(self.labels),
        )
        self.delete.visible = bool(self.labels)
        if self.active:
            self._marks()

    def _marks(self) -> None:
        colours = {name: render.class_colour(at) for at, name in enumerate(self.names, 1)}
        self.overlay.dots(
            [(one.lon, one.lat) for one in self.labels], [colours[one.name] for one in self.labels]
        )

    def _download(self) -> str:
        if not self.labels:
            return ""
        text = quote(json.dumps(labels.to_geojson(self.labels)))
        return (
            f'<div class="note"><a style="color:var(--primary)" download="labels.geojson" '
            f'href="data:application/geo+json,{text}">Download the labels</a></div>'
        )

    def settings(self) -> dict[str, Any]:
        """Give labels, classifier and dates; the order of the classes is that of the colours."""
        named = {label.name for label in self.labels}
        if len(named) < 2:
            raise ValueError("Label pixels of at least two classes first.")
        ordered = sorted(self.labels, key=lambda label: self.names.index(label.name))
        return {
            "labels": labels.to_geojson(ordered),
            "classifier": self.kind.value,
            "when": self.when.value or "",
        }

    def fill(self, made: Map) -> list[Any]:
        """Show what the blocks say, areas, and which map is drawn."""
        assert made.found is not None
        summary, classes = made.found.summary, list(made.found.layers[0].classes)
        share = summary["accuracy"]
        words = "" if share is None else f"Accuracy {share:.0%}. "
        parts: list[Any] = [
            pn.pane.HTML(note(f"{words}{summary['note']}"), stylesheets=[style.CSS], **WIDE)
        ]
        if share is not None:
            table = confusion(classes, summary["confusion"])
            parts.append(pn.pane.HTML(table, stylesheets=[style.CSS], **WIDE))
        if len(summary["learning_curve"]) > 1:
            parts.append(pn.pane.Bokeh(curve(summary["learning_curve"]), height=150, **WIDE))
        self.map = pmui.Select(
            label="Map", options=["Classes", *(f"Probability of {name}" for name in classes)],
            value="Classes", **SMALL,
        )  # fmt: skip
        self.map.param.watch(self.draw, "value")
        legend = areas(summary["areas_ha"])
        return [*parts, self.map, pn.pane.HTML(legend, stylesheets=[style.CSS], **WIDE)]

    def look(self, made: Map) -> dict[str, Any]:
        """Draw the classes, or the probability of one."""
        if self.map.value == "Classes":
            return {"channel": "class"}
        channel = self.map.value.removeprefix("Probability of ")
        return {"channel": channel, "vmin": "0", "vmax": "1", "cmap": "viridis"}

    def draw(self, *_: Any) -> None:
        """Draw the labels as well."""
        super().draw()
        if self.active:
            self._marks()

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(
            self.name_of, self.add, self.current, self.marking, self.legend, self.listed,
            self.delete, self.upload, self.kind, self.when, self.start, self.note, self.result,
            sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
