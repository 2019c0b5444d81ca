"""Words about spectral indices as HTML: what one is, and where an expression is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.indices.ranges import RANGES

_SYMBOLS = {band.spyndex: band for band in BANDS.values()} | BANDS
_NAME = re.compile(r"[A-Za-z_]\w*")
_WINDOW = 32
"""Characters of an expression around a mistake that a phone shows in one line."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong with an expression."""

    text: str
    """The expression as it was written."""
    sentence: str
    """The reason and the remedy."""
    position: int | None = None
    """Column of the mistake from 0; None if it has no place, such as a band that lacks."""


def index(found: indices.Index) -> str:
    """Describe an index: long name, formula with its symbols explained, range, reference."""
    own = found.domain == "own"
    title = "Own index" if own else escape(found.long_name)
    rows = [("Bands", _bands(found)), ("Constants", _constants(found)), ("Range", _range(found))]
    rows.append(("Reference", _link(found.reference)))
    table = "".join(f"<dt>{head}</dt><dd>{text}</dd>" for head, text in rows if text)
    domain = "" if own else f"<i>{escape(found.domain.capitalize())}</i>"
    return (
        f'<div class="index"><h3>{title}{domain}</h3><code>{formula(found.formula)}</code>'
        f"<dl>{table}</dl></div>"
    )


def formula(text: str) -> str:
    """Write a formula with a hint at each symbol: what it stands for."""
    parts, end = [], 0
    for match in _NAME.finditer(text):
        parts.append(escape(text[end : match.start()]))
        hint = symbol(match[0])
        word = escape(match[0])
        parts.append(f'<abbr title="{escape(hint)}">{word}</abbr>' if hint else word)
        end = match.end()
    return "".join([*parts, escape(text[end:])])


def symbol(name: str) -> str:
    """Say what a name in a formula stands for; empty for what is no symbol of the catalogue."""
    if band := _SYMBOLS.get(name):
        return f"{band.name}, {band.common_name}, {band.wavelength_nm:.0f} nm"
    if name in indices.CONSTANTS:
        value = indices.CONSTANTS[name]
        return "constant that must be given" if value is None else f"constant, {value:g}"
    if name in indices.INDICES:
        return indices.INDICES[name].long_name
    if band := _SYMBOLS.get(name.removeprefix("lambda")):
        return f"wavelength of {band.name}, {band.wavelength_nm:.0f} nm"
    if name[0] == "k" and len(name) == 3:
        return f"kernel of {name[1]} and {name[2]}"
    return ""


def mistake(found: Mistake) -> str:
    """Say what is wrong with an expression, with a mark under the place."""
    if found.position is None:
        return f"<span>{escape(found.sentence)}</span>"
    behind = found.position >= len(found.text)
    place = "At the end" if behind else f"Character {found.position + 1}"
    words = f"{place}: {found.sentence}"
    return f'<pre aria-hidden="true">{escape(caret(found))}</pre><span>{escape(words)}</span>'


def caret(found: Mistake) -> str:
    """Give the part of an expression around its mistake, and a line with ``^`` under the place."""
    position = min(found.position or 0, len(found.text))
    start = max(0, min(position - _WINDOW // 2, len(found.text) - _WINDOW + 1))
    part = "".join(one if one.isprintable() else " " for one in found.text[start:][:_WINDOW])
    before = "…" if start else ""
    after = "…" if start + _WINDOW < len(found.text) else ""
    return f"{before}{part}{after}\n{' ' * (len(before) + position - start)}^"


def _bands(found: indices.Index) -> str:
    words = []
    for name in found.bands:
        band = BANDS[name]
        used = band.spyndex if re.search(rf"\b{band.spyndex}\b", found.formula) else ""
        sign = f"<code>{used}</code> = " if used else ""
        words.append(f"<span>{sign}{name} <small>{band.wavelength_nm:.0f} nm</small></span>")
    return ", ".join(words)


def _constants(found: indices.Index) -> str:
    words = []
    for name, value in found.constants.items():
        given = "to be given" if value is None else f"{value:g}"
        words.append(f"<span><code>{escape(name)}</code> = {given}</span>")
    return ", ".join(words)


def _range(found: indices.Index) -> str:
    ends = RANGES.get(found.name)
    return f"{ends[0]:g} to {ends[1]:g}".replace("-", "−") if ends else ""


def _link(reference: str) -> str:
    """Link to a publication; empty for what is no address of the web."""
    parts = urlsplit(reference)
    if parts.scheme not in ("http", "https"):
        return ""
    place = parts.netloc.removeprefix("www.")
    words = f"doi:{parts.path[1:]}" if place in ("doi.org", "dx.doi.org") else place
    return (
        f'<a href="{escape(reference)}" target="_blank" rel="noopener">{escape(words)}'
        '<span class="hidden"> (opens in a new tab)</span></a>'
    )
