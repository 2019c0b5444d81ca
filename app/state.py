"""What the views of one session share: the choices of the user, and what follows from them."""

from __future__ import annotations

from typing import Any

import param

from deepfeatures.bands import BANDS
from deepfeatures.reading import COMPONENTS
from deepfeatures.serve.spectral import computable
from deepfeatures.settings import Workspace
from deepfeatures.space import METHODS

PICTURES = {
    "bands": {
        "True colour": "B04,B03,B02",
        "False colour (vegetation red)": "B08,B04,B03",
        "Short-wave infrared": "B12,B8A,B04",
        "Red edge": "B8A,B06,B05",
    },
    "features": {
        "Features 1, 2, 3 as colours": "F01,F02,F03",
        "Features 4, 5, 6 as colours": "F04,F05,F06",
        "Principal components as colours": ",".join(COMPONENTS),
    },
}
"""Colour pictures of a kind of cube: label to three channels, drawn as red, green and blue."""

LINKED = {
    "cube": "cube",
    "show": "show",
    "date": "date",
    "lon": "lon",
    "lat": "lat",
    "chosen": "series",
    "own": "own",
    "job": "job",
    "kept": "aoi",
    "cmap": "cmap",
    "limits": "range",
    "masked": "masked",
    "over": "over",
    "view": "view",
    "opened": "open",
    "pins": "pins",
    "line": "line",
    "opacity": "opacity",
    "split": "compare",
    "other_cube": "cube2",
    "other_show": "show2",
    "other_date": "date2",
    "part": "part",
    "plane": "plane",
    "shade": "shade",
    "whose": "way",
    "years": "years",
    "lab": "lab",
}
"""The parameters that are kept in the address of the page, and their names there."""

SHADES = ("density", "month", "year", "place")
"""Colours of the latent space that need no channel."""

LAYER = "layer:"
"""What the name of a saved layer follows among the colours of the latent space."""

PINS = "ABCDEF"
"""Ids of kept pixels."""

MOST_SERIES = 6
"""Channels that the series plot shows at most."""

MAX_OWN = 12
"""Own indices that a session remembers; the oldest go first."""


class State(param.Parameterized):
    """The choices of one user; views read it, change it and follow it."""

    ws = param.ClassSelector(class_=Workspace, doc="The workspace that is looked at.")
    cubes = param.Dict(default={}, doc="Name to description (`catalogue.info`) of each cube.")
    cube = param.String(doc="Name of the cube on the map.")
    show = param.String(
        doc="Channel, index or expression on the map, or three channels with commas as colours."
    )
    date = param.String(doc="Date on the map, YYYY-MM-DD.")
    cmap = param.String("viridis", doc="Colour map of a single channel.")
    limits = param.Tuple(None, length=2, doc="Ends of the colour map; None: from the data.")
    masked = param.Boolean(False, doc="Leave out pixels that are not usable.")
    background = param.Boolean(False, doc="Draw the background map; only if it can be reached.")
    features = param.String(doc="Feature cube that belongs to the cube, or empty.")
    over = param.Boolean(False, doc="Draw the feature cube on top of its source.")
    lon = param.Number(None, doc="Longitude of the clicked pixel [degrees].")
    lat = param.Number(None, doc="Latitude of the clicked pixel [degrees].")
    chosen = param.List(["NDVI", "kNDVI", "NDMI"], doc="Indices and bands in the series plot.")
    own = param.List([], doc="Expressions that the user has made indices of, newest last.")
    opacity = param.Number(1.0, bounds=(0, 1), doc="Opacity of the picture on the map.")
    split = param.Boolean(False, doc="Show another picture right of a line.")
    other_cube = param.String(doc="Cube of the picture right of the line.")
    other_show = param.String(doc="What of it is shown, like `show`.")
    other_date = param.String(doc="Its date, YYYY-MM-DD.")
    part = param.Number(0.5, bounds=(0, 1), doc="Share of the width that is left of the line.")
    plane = param.Selector(objects=list(METHODS), doc="Way to the plane of the latent space.")
    shade = param.String("density", doc="What colours its points: one of `SHADES`, a channel, …")
    whose = param.Selector(objects=["Pixel", "Area"], doc="Whose way through time is drawn there.")
    years = param.Boolean(False, doc="Draw the way through each year there.")
    mode = param.Selector(
        objects=["Explore", "Box", "Polygon", "Line", "Edit"], doc="What the mouse does."
    )
    pins = param.List([], doc="Kept pixels: dicts with id, lon, lat [degrees] and color.")
    line = param.List([], doc="Drawn line: longitude and latitude [degrees] of its points.")
    area = param.Dict(None, doc="Drawn or uploaded area, a GeoJSON Feature.")
    kept = param.String(doc="Id of the kept area that `area` is, or empty.")
    owner = param.String(doc="Whose areas and jobs these are, see `visitors.owner`.")
    selection = param.String(doc="Id of the pixels selected in the latent view, or empty.")
    looking = param.Boolean(False, doc="Whether the list of jobs is open.")
    view = param.Tuple(None, length=4, doc="West, south, east, north of the map [degrees].")
    opened = param.List([], doc="Headings that are open at the side; empty: the usual ones.")
    lab = param.Boolean(False, doc="Whether the GPP laboratory is shown instead of the map.")
    job = param.String(doc="Id of the job that this session watches, or empty.")

    @property
    def info(self) -> dict[str, Any]:
        """Description of the cube on the map; empty if there is none."""
        return self.cubes.get(self.cube, {})

    @property
    def days(self) -> list[str]:
        """Dates of the cube on the map, YYYY-MM-DD."""
        return [time[:10] for time in self.info.get("times", [])]

    @property
    def index(self) -> int:
        """Position of the date among the dates of the cube."""
        return self.days.index(self.date) if self.date in self.days else 0

    @property
    def source(self) -> str:
        """Name of the band cube that the cube on the map is or was made from, or empty."""
        info = self.whole
        if info.get("kind") != "features":
            return str(info.get("name", ""))
        return origin(self.cubes, str(info["name"]))

    @property
    def whole(self) -> dict[str, Any]:
        """Description of the cube on the map or, of a saved result, of the cube it is of."""
        if self.info.get("kind") != "layer":
            return self.info
        return self.cubes.get(str(self.info["attrs"].get("source_cube")), self.info)

    @property
    def point(self) -> tuple[float, float] | None:
        """Longitude and latitude of the clicked pixel, or None."""
        return None if self.lon is None or self.lat is None else (self.lon, self.lat)

    def partners(self) -> list[str]:
        """Names of the feature cubes that were made from the band cube shown, newest last."""
        whole = self.whole
        if whole.get("kind") == "features":
            return [str(whole["name"])]
        return [name for name, info in self.cubes.items() if made(info, whole)]

    def pictures(self, name: str = "") -> dict[str, str]:
        """Colour pictures that a cube has the channels for: label to channels."""
        info = self.cubes.get(name or self.cube, {})
        has = channels(info)
        found = PICTURES.get(info.get("kind", ""), {})
        return {label: rgb for label, rgb in found.items() if has >= set(rgb.split(","))}

    @param.depends("cube", "cubes", "date", "show", "chosen", "own", watch=True)
    def settle(self) -> None:
        """Make every choice one that the cube on the map has, keeping what can be kept."""
        if self.cube not in self.cubes:
            kinds = {name: info["kind"] for name, info in self.cubes.items()}
            first = [name for name, kind in kinds.items() if kind == "bands"] or list(kinds)
            self.cube = first[0] if first else ""
        if not self.cube:
            return
        pictures = list(self.pictures().values())
        partners = self.partners()
        self.param.update(
            show=self.show if self.shown(self.show) else (pictures or self.info["channels"])[0],
            date=self.date if self.date in ("", *self.days) else nearest(self.days, self.date),
            features=self.features if self.features in partners else (partners or [""])[0],
        )
        self.own = owned([*self.own, *self.chosen, self.show])

    def shown(self, show: str) -> bool:
        """Tell whether the cube on the map has these channels, or gives this index."""
        return offered(self.info, show)

    def shaded(self, by: str) -> bool:
        """Tell whether the points of the latent space can have colours of this name."""
        if by.startswith(LAYER):
            layer = self.cubes.get(by.removeprefix(LAYER), {})
            of = layer.get("attrs", {}).get("source_cube")
            return layer.get("kind") == "layer" and of == self.features
        sources = (self.cubes.get(self.features, {}), self.cubes.get(self.source, {}))
        named = "," not in by and any(one and offered(one, by) for one in sources)
        return by in SHADES or named

    def layers(self) -> list[str]:
        """Give what the keys for layers go through: pictures, chosen and own indices, channels."""
        chosen = [name for name in [*self.chosen, *self.own] if self.shown(name)]
        found = [*self.pictures().values(), *chosen, *self.info.get("channels", [])]
        return list(dict.fromkeys(found))


def channels(info: dict[str, Any]) -> set[str]:
    """Give what can be read of a cube by name, but for indices."""
    stored = list(info.get("channels", []))
    return {*stored, *(COMPONENTS[: len(stored)] if info.get("kind") == "features" else ())}


def offered(info: dict[str, Any], show: str) -> bool:
    """Tell whether a cube has these channels, or gives this index."""
    if channels(info) >= set(show.split(",")):
        return True
    return info.get("kind") == "bands" and gives(info["channels"], show)


def gives(bands: list[str], text: str) -> bool:
    """Tell whether bands allow an index of the catalogue or an expression."""
    try:
        computable(text, bands)
    except (KeyError, ValueError):
        return False
    return True


def owned(texts: list[Any]) -> list[str]:
    """Give the expressions among some texts, each once, the last `MAX_OWN` of them."""
    found = [text for text in texts if isinstance(text, str) and not text.isidentifier()]
    latest = list(dict.fromkeys(reversed(found[-100:])))
    return [text for text in latest if gives(list(BANDS), text)][:MAX_OWN][::-1]


def made(info: dict[str, Any], source: dict[str, Any]) -> bool:
    """Tell whether a cube holds features that were made from another one."""
    kinds = info.get("kind"), source.get("kind")
    origin = info.get("attrs", {}).get("source_cube")
    return kinds == ("features", "bands") and origin in (source["name"], source["title"])


def origin(cubes: dict[str, dict[str, Any]], features: str) -> str:
    """Name the band cube that a feature cube was made from; empty if it is not there."""
    info = cubes.get(features, {})
    return next((name for name, one in cubes.items() if made(info, one)), "")


def nearest(days: list[str], day: str) -> str:
    """Give the date of a sorted list that is `day` or follows it, else the last one."""
    later = [one for one in days if day and one >= day]
    return (later or days[-1:] or [""])[0]
