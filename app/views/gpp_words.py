"""What the GPP laboratory says in words and tables: scores, warnings, ranks, keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import style
from app.reads.gpp import Shown
from app.views.gpp_plots import FAR, LOWER, SEEN, UNIT, UPPER
from deepfeatures.gpp import live, metrics

SEASON = "Usual season"
"""Name of the seasonal cycle of the other years."""

TRAINED = {
    "held out": "these days were held out",
    "learned": "learned from these days",
    "partly learned": "learned from some of these days",
    "other tower": "never saw this place",
    "other data": "learned from other data of this name",
}
"""What `live.seen` says, for people."""

CHANGES = (
    ("light", "radiation", "{:+.0f} %"),
    ("warmth", "temperature", "{:+.1f} °C"),
    ("dryness", "dryness of the air", "× {:.2f}"),
    ("rain", "rain", "{:+.0f} %"),
)
"""Name of a change in `live.Change`, its word and form."""


def head(shown: Shown) -> str:
    """Say whose GPP this is and where the data come from."""
    towers, place = shown.site.towers, shown.asked.place
    name = {"pixel": "Clicked pixel", "area": "Drawn area"}.get(place.site, place.site)
    lon, lat = towers.places[0][:2]
    words = [towers.biomes[0]] if towers.biomes[0] else []
    if np.isfinite(lat):
        words.append(f"{abs(lat):.3f}° {'N' if lat >= 0 else 'S'}, "
                     f"{abs(lon):.3f}° {'E' if lon >= 0 else 'W'}")  # fmt: skip
    words.append(f"{int(shown.usable.sum())} of {len(shown.rows)} days with an observation")
    origin = "" if shown.site.simulated else shown.site.source
    label = '<span class="simulated">Simulated</span>' if shown.site.simulated else ""
    if origin:
        words.append(f"measured ({origin})")
    return (
        f'<div class="labhead"><h2>{escape(name)}</h2>{label}'
        f"<span>{escape(' · '.join(words))}</span></div>"
    )


def keys() -> str:
    """Say what the marks of the chart are."""
    parts = [
        (f"border-radius:50%;width:7px;height:7px;background:{SEEN}", "observed"),
        (f"border-radius:50%;width:6px;height:6px;border:1px solid {SEEN}", "gap-filled"),
        (f"height:0;border-top:2px dashed {style.GAP}", "usual season of the other years"),
        (f"background:{LOWER}", "unusually little"),
        (f"background:{UPPER}", "unusually much (5 % of days each)"),
        (f"height:3px;background:{FAR}", "out of domain"),
    ]
    rows = "".join(f'<span><i style="{css}"></i>{escape(text)}</span>' for css, text in parts)
    return f'<div class="keys">{rows}</div>'


def inside(shown: Shown, window: tuple[float, float]) -> NDArray[np.bool_]:
    """Tell which days lie in a window of time (days since 1970-01-01)."""
    return np.asarray((shown.days >= window[0]) & (shown.days <= window[1]))


def scored(
    shown: Shown, window: tuple[float, float], color: Mapping[str, str]
) -> dict[str, metrics.Sums]:
    """Score each model, and the usual season, in the window that is seen."""
    towers, rows = shown.site.towers, shown.rows
    told = {n: shown.answer.told[n].mean for n in color if n in shown.answer.told}
    if np.isfinite(shown.season).any():
        told[SEASON] = shown.season.astype(np.float32)
    return {name: live.scores(towers, rows, values, window) for name, values in told.items()}


def table(shown: Shown, window: tuple[float, float], color: Mapping[str, str]) -> str:
    """Write the scores of the window that is seen, and the sum of GPP of each model."""
    found = scored(shown, window, color)
    mine = inside(shown, window)
    titles = ("Model", "R²", f"RMSE [{UNIT}]", "NRMSE", "KGE", f"Bias [{UNIT}]", "Sum [gC m⁻²]")
    lines = ["".join(f'<th scope="col">{title}</th>' for title in titles)]
    for name, sums in found.items():
        mark = f'<i style="background:{color.get(name, style.GAP)}"></i>'
        note = TRAINED.get(shown.trained.get(name, ""), "")
        cells = [f"{mark}{escape(name)}" + (f" <small>{note}</small>" if note else "")]
        values = (sums.r2, sums.rmse, sums.nrmse, sums.kge, sums.bias)
        forms = ("{:.3f}", "{:.2f}", "{:.3f}", "{:.3f}", "{:+.2f}")
        cells += [_number(form, value) for form, value in zip(forms, values, strict=True)]
        cells.append(_sum(shown, name, mine))
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    count = next(iter(found.values())).count if found else 0
    words = f"Scores of the {count} observed days in view."
    if count == 0:
        words = "No observed day is in view, so there is nothing to score."
    if not shown.asked.change.none:
        words += " They compare changed drivers with what was observed under the real ones."
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scores" tabindex="0" role="region" aria-label="Scores of the days in view">'
        f'<table>{body}</table></div><div class="note" role="status">{escape(words)}</div>'
    )


def _number(form: str, value: float) -> str:
    return form.format(value).replace("-", "−") if np.isfinite(value) else "–"


def _sum(shown: Shown, name: str, mine: NDArray[np.bool_]) -> str:
    """Give the sum of GPP in the window, and by how much the change moves it."""
    if name == SEASON:
        return f"{np.nansum(shown.season[mine]):.0f}"
    total = float(shown.answer.told[name].mean[mine].sum())
    usual = float(shown.answer.usual[name].mean[mine].sum())
    if shown.answer.told[name] is shown.answer.usual[name] or abs(usual) < 1:
        return f"{total:.0f}"
    return f"{total:.0f} <small>({_number('{:+.1f}', 100 * (total / usual - 1))} %)</small>"


def warning(shown: Shown) -> str:
    """Say where models are asked for what they never saw; empty where they are not."""
    found = []
    for name, far in shown.answer.distance.items():
        share = float((far > 1).mean())
        if share >= 0.005:
            found.append(f"{name} {share:.0%}")
    if not found:
        return '<div class="note" role="status">All days are within what the models learned.</div>'
    return (
        '<div class="note" role="status"><b>Out of domain</b> (drivers farther from the training '
        f"days than 99.5 % of these): {escape(', '.join(found))} of the days.</div>"
    )


def ranks(rows: Sequence[Mapping[str, Any]], color: Mapping[str, str]) -> str:
    """Write the leaderboard."""
    titles = ("Model", "Score", "R² held out", "Parameters", "Size", "Multiply-adds", "A year")
    lines = ["".join(f'<th scope="col">{title}</th>' for title in titles)]
    for row in rows:
        mark = f'<i style="background:{color.get(row["model"], style.GAP)}"></i>'
        width = max(1, round(60 * row["score"]))
        cells = (
            f"{mark}{escape(row['model'])}",
            f'<b style="width:{width}px"></b> {row["score"]:.2f}',
            _number("{:.3f}", row["r2"]),
            f"{row['parameters']:,}",
            style.megabytes(row["bytes"]),
            f"{row['multiply_adds'] / 1e6:.2f} M",
            f"{row['milliseconds']:.0f} ms",
        )
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        '<div class="scores" tabindex="0" role="region" aria-label="Leaderboard">'
        f"<table>{body}</table></div>"
        '<div class="note">Models that learned from the same towers. R² of the days held out from '
        "training; multiply-adds of one day told; time of a year on this machine.</div>"
    )


def changed(change: live.Change, context: int | None) -> str:
    """Say in a few words what is asked."""
    plain = live.Change()
    found = [
        f"{word} {_number(form, getattr(change, name))}"
        for name, word, form in CHANGES
        if getattr(change, name) != getattr(plain, name)
    ]
    if context is not None:
        found.append(f"{context} days looked at")
    return ", ".join(found)
