"""Maps of what was found: asked for, kept for a while, drawn as map tiles, saved, as polygons."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from deepfeatures import errors, finding, layers, reading, render
from deepfeatures.finding import Found
from deepfeatures.layers import Layer
from deepfeatures.serve.base import IMMUTABLE, Base, Context, Refusal
from deepfeatures.settings import Workspace

KEPT_BYTES = 256 * 1024**2
"""Bytes of maps that one process keeps."""


class Results:
    """The last maps of this process, by an id that follows from cube, method and settings."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._held: OrderedDict[str, Found] = OrderedDict()
        self._lock = threading.Lock()

    def ask(
        self, cube: reading.OpenCube, method: str, settings: finding.Settings
    ) -> tuple[str, Found]:
        """Give the id and the result of a method; what is still kept is not made again.

        Raises
        ------
        ValueError
            As `finding.find`, or if it takes too long to wait for.
        """
        words = json.dumps([cube.url, cube.version, method, settings], sort_keys=True, default=str)
        key = hashlib.sha256(words.encode()).hexdigest()[:20]
        found = self._get(key)
        if found is None:
            asked = finding.pixel_dates(cube, method, settings)
            if asked > finding.MAX_NOW:
                raise ValueError(
                    f"{asked:,} pixel-dates take too long to wait for (limit "
                    f"{finding.MAX_NOW:,}); choose a year or a date, or ask for a job"
                )
            found = finding.find(cube, method, settings)
            self._put(key, found)
        return key, found

    def get(self, key: str) -> Found:
        """Give a result.

        Raises
        ------
        Refusal
            404 if it was never made or has been forgotten.
        """
        found = self._get(key)
        if found is None:
            raise Refusal(404, f"there is no map {key[:40]!r} any more; ask for it again")
        return found

    def _get(self, key: str) -> Found | None:
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def _put(self, key: str, found: Found) -> None:
        with self._lock:
            if key not in self._held:
                self._held[key] = found
                self._size += _bytes(found)
            while self._size > self._limit and len(self._held) > 1:
                self._size -= _bytes(self._held.popitem(last=False)[1])


def _bytes(found: Found) -> int:
    return sum(layer.values.nbytes for layer in found.layers)


RESULTS = Results(KEPT_BYTES)
"""The maps of this process."""


class Find(Base):
    """``/api/cubes/{name}/similar``, ``/groups``, ``/classify`` and ``/change``."""

    async def posted(self, body: dict[str, Any], *path: str) -> None:
        """Make a map with the settings in the body; ``"save"`` (true or a name) stores it."""
        self.answer(await self.slow(_asked, self.context, *path, body))


class Polygons(Base):
    """``/api/cubes/{name}/polygons``."""

    async def get(self, name: str) -> None:
        """Send a saved layer as GeoJSON: ``channel``, ``least``, ``most``, ``smallest``."""
        smallest = self.number("smallest")
        wanted = {
            "channel": self.text("channel") or None,
            "least": self.number("least"),
            "most": self.number("most"),
            "smallest": layers.SMALLEST if smallest is None else int(min(max(smallest, 1), 1e6)),
        }
        text = await self.slow(_polygons, self.context, name, wanted)
        self.set_header("Content-Type", "application/geo+json; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}.geojson"')
        self.finish(text)

    head = get


@dataclass(frozen=True)
class Look:
    """How a map that was found is drawn."""

    channel: str = ""
    """Which of its maps; the first by default."""
    vmin: float | None = None
    """Value of the first colour."""
    vmax: float | None = None
    """Value of the last colour."""
    cmap: str = "viridis"
    """Colour map of numbers; classes have their own."""
    least: float | None = None
    """Pixels below are left out."""
    most: float | None = None
    """Pixels above are left out."""


class FoundTile(Base):
    """``/tiles/{name}/found/{id}/{z}/{x}/{y}.png``."""

    async def get(self, name: str, key: str, z: str, x: str, y: str) -> None:
        """Send a map tile of a result that is kept; 204 outside, 404 when it was forgotten."""
        if not all(part.isascii() and part.isdecimal() and len(part) < 12 for part in (z, x, y)):
            raise ValueError("the path of a map tile is z/x/y.png, whole numbers")
        numbers = {edge: self.number(edge) for edge in ("vmin", "vmax", "least", "most")}
        look = Look(channel=self.text("channel"), cmap=self.text("cmap", Look.cmap), **numbers)
        image = await self.quick(_drawn, self.context, name, key, look, int(z), int(x), int(y))
        self.set_header("Cache-Control", IMMUTABLE)  # the id names cube, version and settings
        if image is None:
            self.set_status(204)
        else:
            self.set_header("Content-Type", "image/png")
        self.finish(image)

    head = get


def picture(
    cube: reading.OpenCube, layer: Layer, look: Look, z: int, x: int, y: int
) -> bytes | None:
    """Draw a map tile of a layer on the grid of a cube; None outside.

    Raises
    ------
    ValueError
        If the tile, the map, the range or the colour map is wrong.
    """
    if look.channel and look.channel not in layer.channels:
        raise ValueError(
            f"there is no map {look.channel[:40]!r}; choose {', '.join(layer.channels)}"
        )
    table = render.class_colours() if layer.classes else render.colours(look.cmap)
    low, high = _span(layer, look)
    window = render.plan(cube.grid, z, x, y)
    if window is None:
        return None
    plane = layer.values[layer.channels.index(look.channel) if look.channel else 0]
    values = plane[window.rows, window.columns]
    if layer.classes:
        return render.palette_png(render.gather(window, values), table)
    codes = render.codes(values, low, high) * layers.within(values, look.least, look.most)
    return render.palette_png(render.gather(window, codes), table)


def _span(layer: Layer, look: Look) -> tuple[float, float]:
    if look.vmin is None or look.vmax is None:
        return 0.0, 1.0
    if look.vmin >= look.vmax:
        raise ValueError(f"vmin={look.vmin:g} must be below vmax={look.vmax:g}")
    return look.vmin, look.vmax


def ask(ws: Workspace, cube: reading.OpenCube, method: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make a map, or take one that is kept, and perhaps save it.

    Returns
    -------
    dict
        ``id``, ``cube``, ``method``, ``maps``, ``classes``, ``tiles`` (address of the map tiles),
        ``saved`` (names of the cubes) and the summary.

    Raises
    ------
    ValueError
        As `finding.find` and `finding.save`.
    """
    settings = {key: value for key, value in body.items() if key != "save"}
    name = body.get("save")
    if not (name is None or isinstance(name, bool | str)):
        raise ValueError('"save" must be true, or the name of the new cube')
    key, found = RESULTS.ask(cube, method, settings)
    saved = finding.save(ws, found, name if isinstance(name, str) else None) if name else []
    return {
        "id": key,
        "cube": cube.name,
        "method": method,
        "maps": list(found.layers[0].channels),
        "classes": [
            {"value": code, "name": one, "colour": render.class_colour(code)}
            for code, one in enumerate(found.layers[0].classes, 1)
        ],
        "tiles": f"/tiles/{cube.name}/found/{key}/{{z}}/{{x}}/{{y}}.png",
        "saved": saved,
        "summary": found.summary,
    }


def _asked(context: Context, name: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return ask(context.ws, context.cube(name), method, body)
    except KeyError as error:
        raise Refusal(404, errors.sentence(error)) from error


def _polygons(context: Context, name: str, wanted: dict[str, Any]) -> str:
    cube = context.cube(name)
    return json.dumps(layers.polygons(cube, layers.opened(cube), **wanted), allow_nan=False)


def _drawn(
    context: Context, name: str, key: str, look: Look, z: int, x: int, y: int
) -> bytes | None:
    cube, found = context.cube(name), RESULTS.get(key)
    if found.layers[0].version != cube.version or found.layers[0].source != cube.name:
        raise Refusal(404, f"the map {key[:40]!r} is of another cube; ask for it again")
    layer = next((one for one in found.layers if look.channel in one.channels), found.layers[0])
    return picture(cube, layer, look, z, x, y)
