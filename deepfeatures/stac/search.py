"""Finding items: any STAC API, or static catalogues whose items are filtered here."""

from __future__ import annotations

import json
import logging
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, NoReturn

import pystac
import shapely
import shapely.geometry
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from deepfeatures.stac.providers import provider

log = logging.getLogger(__name__)

TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection and for an answer."""
PAGE = 100
"""Items asked for at a time."""
FILES = ("catalog.json", "collection.json", "item_collection.json", "item.json")
"""What a folder is searched for."""

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees (WGS84)."""
Query = Mapping[str, Mapping[str, Any]]
"""Property -> operator -> value."""

# Tested here and not by the server, because few servers have the same extension for it and the
# period and the place leave few items.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, choices: value in choices,
}
"""Conditions that a property can be tested for (names of the STAC API extension Query)."""

Period = tuple[datetime | None, datetime | None]
"""First and last moment, both included; None is open."""


def find(
    catalog: str | Path,
    bbox: Sequence[float],
    *,
    start: date | str | None = None,
    end: date | str | None = None,
    collection: str | None = None,
    query: Query | None = None,
) -> list[pystac.Item]:
    """Find the items of a place and period.

    Parameters
    ----------
    catalog
        Name of a preset (`providers.PROVIDERS`), address of a STAC API or of a static catalogue,
        or path of one: ``catalog.json``, ``collection.json``, an item collection, one item, or
        a folder with one of these.
    bbox
        West, south, east, north in degrees (WGS84).
    start, end
        First and last day (included), ``date`` or ``YYYY-MM-DD``; None is open.
    collection
        Id of the collection; may be left out where there is a preset or only one.
    query
        Conditions on properties, ``{"eo:cloud_cover": {"lt": 30}}``; see `OPERATORS`.

    Returns
    -------
    list of pystac.Item
        With absolute links, at least one.

    Raises
    ------
    FileNotFoundError
        If the path is not there.
    ConnectionError
        If the server cannot be reached or answers with an error.
    ValueError
        If it is no STAC catalogue, the collection is unknown, or nothing is found.
    """
    box, period, query = checked_bbox(bbox), _period(start, end), checked_query(query)
    preset = provider(str(catalog))
    if preset:
        collection = collection or preset.collection
        catalog = preset.url if "://" not in str(catalog) else catalog
        if preset.note:
            log.info("%s", preset.note)
    href = _href(catalog)
    try:
        found = _items(href, box, period, collection)
        found = [item for item in found if _fits(item, query)]
    except APIError as error:
        _unreachable(href, error)
    if not found:
        where = "{:.4f}, {:.4f}, {:.4f}, {:.4f}".format(*box)
        words = f"collection {collection!r} of " if collection else ""
        fitting = f"fit {json.dumps(query)} " if query else ""
        raise ValueError(
            f"no items {fitting}in {words}{href} for the box {where} from "
            f"{start or 'the beginning'} to {end or 'today'}; widen the period or check the place"
        )
    log.info("%d items from %s", len(found), href)
    return found


def checked_query(query: Query | None) -> dict[str, dict[str, Any]]:
    """Return conditions on properties if they can be tested.

    Raises
    ------
    ValueError
        If an operator is unknown.
    """
    conditions = {name: dict(tests) for name, tests in (query or {}).items()}
    for name, tests in conditions.items():
        for operator_name in tests:
            if operator_name not in OPERATORS:
                raise ValueError(
                    f"the condition {operator_name!r} on {name!r} is unknown; choose one of "
                    f"{', '.join(OPERATORS)}"
                )
    return conditions


def _fits(item: pystac.Item, query: Query) -> bool:
    """Tell whether an item meets all conditions; one that lacks the property does not."""
    try:
        return all(
            OPERATORS[name](item.properties[key], value)
            for key, tests in query.items()
            for name, value in tests.items()
        )
    except (KeyError, TypeError):
        return False


def _items(href: str, box: BBox, period: Period, collection: str | None) -> list[pystac.Item]:
    io = StacApiIO(timeout=TIMEOUT)
    data = _json(io, href)
    kind = data.get("type")
    links = {link.get("rel"): link.get("href") for link in data.get("links", [])}
    if kind == "Collection" and "items" in links and "root" in links:
        # the page of one collection of an API: search the API in it
        return _search(str(links["root"]), io, box, period, collection or str(data["id"]))
    if kind == "Catalog" and "search" in links:
        return _search(href, io, box, period, collection)
    if kind not in ("Catalog", "Collection", "Feature", "FeatureCollection"):
        raise ValueError(
            f"{href} is no STAC catalogue (its type is {kind!r}); give the address of an API, or "
            "of catalog.json, collection.json or an item collection"
        )
    return _chosen(list(_static(io, href, data)), href, box, period, collection)


def _search(
    url: str, io: StacApiIO, box: BBox, period: Period, collection: str | None
) -> list[pystac.Item]:
    client = Client.open(url, stac_io=io)
    if collection is None:
        names = sorted(c.id for c in client.get_collections())
        if len(names) != 1:
            raise ValueError(f"{url} has several collections; choose one of {_listed(names)}")
        collection = names[0]
    moments = "/".join(m.strftime("%Y-%m-%dT%H:%M:%SZ") if m else ".." for m in period)
    search = client.search(
        collections=[collection],
        bbox=list(box),
        datetime=None if moments == "../.." else moments,
        limit=PAGE,
    )
    try:
        items = [_item(feature) for feature in search.items_as_dicts()]
    except APIError as error:
        _known(client, collection, error)
        raise
    if not items:
        _known(client, collection, None)
    return items


def _known(client: Client, collection: str, error: APIError | None) -> None:
    """Raise if a server that found nothing, or refused, does not have the collection."""
    if error is not None and getattr(error, "status_code", None) is None:
        return
    names = sorted(c.id for c in client.get_collections())
    if names and collection not in names:
        raise ValueError(
            f"{client.self_href} has no collection {collection!r}; choose one of {_listed(names)}"
        ) from None


def _static(io: StacApiIO, href: str, data: dict[str, Any]) -> Iterator[pystac.Item]:
    """Give all items below a static document, with absolute links."""
    if data["type"] == "FeatureCollection":
        for feature in data.get("features", []):
            yield _item(feature, href)
    elif data["type"] == "Feature":
        yield _item(data, href)
    else:
        for link in data.get("links", []):
            if link.get("rel") in ("item", "items", "child"):
                target = pystac.utils.make_absolute_href(link["href"], href)
                yield from _static(io, target, _json(io, target))


def _item(feature: dict[str, Any], href: str | None = None) -> pystac.Item:
    # not migrated to the newest STAC: `plan` reads all versions, and migrating warns about fields
    # that are of no use here
    item = pystac.Item.from_dict(feature, migrate=False)
    if href is not None:
        item.set_self_href(href)
        item.make_asset_hrefs_absolute()
    return item


def _chosen(
    items: list[pystac.Item], href: str, box: BBox, period: Period, collection: str | None
) -> list[pystac.Item]:
    """Filter items as an API would."""
    names = sorted({str(item.collection_id) for item in items if item.collection_id})
    if collection is None and len(names) > 1:
        raise ValueError(f"{href} has several collections; choose one of {_listed(names)}")
    if collection is not None and names and collection not in names:
        raise ValueError(f"{href} has no collection {collection!r}; choose one of {_listed(names)}")
    if collection is not None:
        items = [item for item in items if item.collection_id == collection]
    return [item for item in items if _meets(item, box) and _during(item, period)]


def _meets(item: pystac.Item, box: BBox) -> bool:
    """Tell whether an item's footprint meets the box; over the date line by its bbox."""
    west, south, east, north = box
    if item.bbox and item.bbox[0] > item.bbox[len(item.bbox) // 2]:
        low, high = item.bbox[0], item.bbox[len(item.bbox) // 2]
        inside = item.bbox[1] <= north and item.bbox[len(item.bbox) // 2 + 1] >= south
        return inside and (east >= low or west <= high)
    if item.geometry is None:
        return False
    return bool(shapely.geometry.shape(item.geometry).intersects(shapely.box(*box)))


def _during(item: pystac.Item, period: Period) -> bool:
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        return False
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    first, last = period
    return (first is None or moment >= first) and (last is None or moment <= last)


def _json(io: StacApiIO, href: str) -> dict[str, Any]:
    try:
        data = io.read_json(href)
    except (json.JSONDecodeError, UnicodeDecodeError):
        data = None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {href}; check the links of the catalogue") from None
    if not isinstance(data, dict):
        raise ValueError(
            f"{href} is not a STAC document (no JSON object); give the address of an API, or of "
            "catalog.json, collection.json or an item collection"
        )
    return data


def _href(catalog: str | Path) -> str:
    if str(catalog).startswith(("http://", "https://")):
        return str(catalog)
    path = Path(str(catalog).removeprefix("file://")).expanduser().resolve()
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"the folder {path} has none of {', '.join(FILES)}")
        return str(found[0])
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no catalogue {catalog}; give a preset (earth-search, planetary-computer, "
            "cdse), the address of a STAC API, or the path of a catalogue"
        )
    return str(path)


def checked_bbox(values: Sequence[float]) -> BBox:
    """Return the box as numbers if it is one in degrees, else raise `ValueError`."""
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"the box {tuple(values)} needs four numbers: west, south, east, north")
    west, south, east, north = (float(value) for value in values)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"the box {tuple(values)} is no area in degrees; give west < east within 180 and "
            "south < north within 90 (split an area that crosses the date line)"
        )
    return west, south, east, north


def _period(start: date | str | None, end: date | str | None) -> Period:
    first, last = _day(start, "start"), _day(end, "end")
    if first and last and first > last:
        raise ValueError(f"the period starts on {start} after its end {end}; swap the two dates")
    return (
        datetime.combine(first, time.min, UTC) if first else None,
        datetime.combine(last, time(23, 59, 59, 999_999), UTC) if last else None,
    )


def _day(value: date | str | None, label: str) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"the {label} {value!r} is not a date; write it as YYYY-MM-DD") from None


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "(none)"


def _unreachable(href: str, error: APIError) -> NoReturn:
    status = getattr(error, "status_code", None)
    if status is not None:
        raise ConnectionError(
            f"{href} answered with status {status}: {str(error).strip()[:120]!r}; check the "
            "address, or try again later"
        ) from None
    reason = "it took too long" if "timed out" in str(error) else "no connection"
    raise ConnectionError(
        f"{href} cannot be reached ({reason}); check the address and the network"
    ) from None
