"""The catalogue of spectral indices: search it, and check an expression."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.errors import sentence
from deepfeatures.indices.formula import FormulaError
from deepfeatures.indices.search import described, search
from deepfeatures.serve.base import Base, Context


class Indices(Base):
    """``/api/indices``."""

    async def get(self) -> None:
        """Send the indices that ``q``, ``domain``, ``bands`` and ``cube`` leave."""
        wanted = self.text("q"), self.text("domain"), self.names("bands"), self.text("cube")
        self.answer({"indices": await self.quick(_found, self.context, *wanted)})

    head = get


class Check(Base):
    """``/api/indices/check``."""

    async def get(self) -> None:
        """Send what an ``expression`` needs; 400 with its ``position`` for one with a mistake."""
        # Blanks at the ends count, so that the position fits what was written.
        expression = self.get_query_argument("expression", "", strip=False)
        found, status = await self.quick(_checked, self.context, expression, self.text("cube"))
        if status != 200:
            self.set_header("Cache-Control", "no-store")
        self.answer(found, status)

    head = get


def computable(text: str, bands: Collection[str]) -> indices.Index:
    """Give the index of a name or of an expression that bands alone can give.

    Raises
    ------
    KeyError
        If it is a name that the catalogue does not have.
    ValueError
        If an expression has a mistake in it, a band is missing, or a constant has no default.
    """
    (found,) = indices.chosen([text], bands)
    for name, value in found.constants.items():
        if value is None:
            raise ValueError(
                f"{found.name} needs {name}, which is no band and has no default; "
                "compute it in Python, with constants"
            )
    return found


def _bands(context: Context, name: str) -> tuple[str, ...]:
    """Give the bands of a cube; none if it holds something else."""
    cube = context.cube(name)
    return cube.channels if cube.kind == "bands" else ()


def _found(
    context: Context, words: str, domain: str, bands: list[str] | None, cube: str
) -> list[dict[str, Any]]:
    names = indices.available(_bands(context, cube)) if cube else None
    found = search(words, domain=domain or None, bands=bands, names=names)
    return [{"range": None} | described(index) for index in found]


def _checked(context: Context, expression: str, cube: str) -> tuple[dict[str, Any], int]:
    bands = _bands(context, cube) if cube else BANDS
    try:
        found = computable(expression, bands)
    except FormulaError as error:
        return {"error": sentence(error), "position": error.position}, 400
    except (KeyError, ValueError) as error:
        return {"error": sentence(error)}, 400
    return {"expression": expression, "bands": found.bands, "constants": found.constants}, 200
