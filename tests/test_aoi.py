"""Laws of areas of interest: round trip, true areas, and one clear sentence for each bad input."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from deepfeatures import aoi
from deepfeatures.aoi import AOI, from_geojson, to_geojson, window

GRID = GeoBox.from_bbox((500000, 5600000, 503000, 5602000), crs="EPSG:32631", resolution=10)
CENTRE = (3.0213, 50.5609)
SQUARE = [[3.0, 50.0], [3.1, 50.0], [3.1, 50.1], [3.0, 50.1], [3.0, 50.0]]


def polygon(*ring: list[float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [list(ring)]}


def feature(**properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": polygon(*SQUARE)}


def star(centre: tuple[float, float], radii: list[float]) -> shapely.Polygon:
    """A polygon that never crosses itself: rising angles around its centre; radii in degrees."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    x = centre[0] + np.array(radii) * np.cos(angles)
    y = centre[1] + np.array(radii) * np.sin(angles)
    return shapely.Polygon(np.column_stack([x, y]))


stars = st.builds(
    star,
    st.tuples(st.floats(-170, 170), st.floats(-70, 70)),
    st.lists(st.floats(0.01, 0.1), min_size=3, max_size=12),
)
days = st.dates(date(2015, 7, 1), date(2030, 1, 1)) | st.none()


@settings(deadline=None)
@given(geometry=stars, first=days, second=days, name=st.text(max_size=80))
def test_geojson_round_trip(
    geometry: shapely.Polygon, first: date | None, second: date | None, name: str
) -> None:
    if first and second and first > second:
        first, second = second, first
    area = AOI(name, geometry, first, second)
    assert from_geojson(json.dumps(to_geojson(area))) == area
    assert from_geojson(to_geojson(area)) == area
    assert from_geojson(json.dumps(to_geojson(area)).encode()) == area


@settings(deadline=None)
@given(name=st.text(max_size=200))
def test_names_hold_only_letters_digits_minus_and_underscore(name: str) -> None:
    plain = aoi.sanitise(name)
    assert 1 <= len(plain) <= 64
    assert set(plain) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert aoi.sanitise(plain) == plain


def test_a_path_can_not_hide_in_a_name() -> None:
    assert AOI("../../etc/passwd", shapely.box(0, 0, 0.1, 0.1)).name == "etc-passwd"


@settings(deadline=None)
@given(radii=st.lists(st.floats(0.003, 0.008), min_size=5, max_size=20))
def test_mask_area_is_the_polygon_area(radii: list[float]) -> None:
    area = AOI("star", star(CENTRE, radii))
    (y0, y1, x0, x1), mask = window(area, GRID)
    assert mask.shape == (y1 - y0, x1 - x0)
    # 1e-4 km2 per pixel; the projection's scale differs from 1 by 4e-4 here
    outline = area.geometry.length * 111.0
    assert mask.sum() * 1e-4 == pytest.approx(area.area_km2, rel=2e-3, abs=outline * 0.003)


@settings(deadline=None)
@given(radii=st.lists(st.floats(0.003, 0.008), min_size=5, max_size=20))
def test_mask_holds_exactly_the_pixels_whose_centre_is_inside(radii: list[float]) -> None:
    from pyproj import Transformer

    area = AOI("star", star(CENTRE, radii))
    (y0, y1, x0, x1), mask = window(area, GRID)
    x = 500005.0 + 10 * np.arange(GRID.shape[1])
    y = 5601995.0 - 10 * np.arange(GRID.shape[0])
    back = Transformer.from_crs(32631, 4326, always_xy=True)
    lon, lat = back.transform(*np.meshgrid(x, y))
    expected = shapely.contains_xy(area.geometry, lon, lat)
    found = np.zeros(GRID.shape, bool)
    found[y0:y1, x0:x1] = mask
    # a straight line in longitude/latitude leaves the chord by centimetres
    assert np.count_nonzero(found != expected) <= 2
    assert mask.any(axis=1)[[0, -1]].all()
    assert mask.any(axis=0)[[0, -1]].all()


def test_an_area_that_sticks_out_is_cut_at_the_border() -> None:
    bounds, mask = window(AOI("all", shapely.box(2.9, 50.5, 3.1, 50.6)), GRID)
    assert bounds == (0, 200, 0, 300)
    assert mask.all()


def test_holes_stay_empty() -> None:
    outer, inner = shapely.Point(CENTRE).buffer(0.006), shapely.Point(CENTRE).buffer(0.003)
    (y0, y1, x0, x1), mask = window(AOI("ring", outer.difference(inner)), GRID)
    assert not mask[(y1 - y0) // 2, (x1 - x0) // 2]
    _, full = window(AOI("disc", outer), GRID)
    assert mask.sum() / full.sum() == pytest.approx(0.75, abs=0.01)


def test_area_of_a_degree_at_the_equator() -> None:
    # 1 x 1 degree at the equator is 12,309 km2 on WGS84 (111.320 km x 110.574 km)
    square = AOI("s", shapely.box(0, 0, 0.1, 0.1))
    assert square.area_km2 == pytest.approx(123.09, rel=1e-3)
    assert AOI("s", square.geometry.reverse()).area_km2 == pytest.approx(square.area_km2)


def test_several_features_become_one_area_with_the_first_name() -> None:
    other = feature(name="second")
    other["geometry"] = polygon(*[[x + 0.2, y] for x, y in SQUARE])
    area = from_geojson({"type": "FeatureCollection", "features": [feature(name="a b"), other]})
    assert area.name == "a-b"
    assert area.geometry.geom_type == "MultiPolygon"
    assert area.area_km2 == pytest.approx(2 * from_geojson(feature()).area_km2)


def test_arguments_come_before_properties() -> None:
    area = from_geojson(feature(name="p", start="2018-01-01", end="2018-12-31T00:00:00Z"))
    assert (area.name, area.start, area.end) == ("p", date(2018, 1, 1), date(2018, 12, 31))
    area = from_geojson(
        feature(name="p", start="2018-01-01"), name="q", start=datetime(2018, 2, 1, 5), end=""
    )
    assert (area.name, area.start, area.end) == ("q", date(2018, 2, 1), None)
    assert type(area.start) is date


def test_height_is_dropped() -> None:
    assert from_geojson(polygon(*[[x, y, 100.0] for x, y in SQUARE])) == from_geojson(
        polygon(*SQUARE)
    )


NOT_AN_AREA = {
    "not JSON": ("draw me", "not GeoJSON"),
    "not text": (b"\xff\xfe\x00", "not GeoJSON"),
    "too deep": ("[" * 100_000, "not GeoJSON"),
    "a list": ("[1, 2]", "JSON list"),
    "no type": ({}, "missing, not an area"),
    "a point": ({"type": "Point", "coordinates": [3, 50]}, "Point, not an area"),
    "no geometry": ({"type": "Feature", "properties": {}, "geometry": None}, "missing"),
    "no feature": ({"type": "FeatureCollection", "features": []}, "no geometry"),
    "features no list": ({"type": "FeatureCollection", "features": 3}, "no list"),
    "features no objects": ({"type": "FeatureCollection", "features": [3]}, "missing"),
    "no ring": ({"type": "Polygon", "coordinates": []}, "empty"),
    "no coordinates": ({"type": "Polygon"}, "cannot be read"),
    "two corners": (polygon([3, 50], [3.1, 50]), "four or more"),
    "words": (polygon(["a", "b"], [3.1, 50], [3.1, 50.1], ["a", "b"]), "cannot be read"),
    "numbers for pairs": (polygon(1, 2, 3, 4), "cannot be read"),  # type: ignore[arg-type]
    "NaN": (polygon([math.nan, 50], *SQUARE[1:]), "NaN or infinite"),
    "infinite text": ('{"type": "Polygon", "coordinates": [[[1e999, 5]]]}', "NaN or infinite"),
    "metres": (
        polygon([5e5, 5.6e6], [5.1e5, 5.6e6], [5.1e5, 5.7e6], [5e5, 5.6e6]),
        "projected metres",
    ),
    "swapped": (polygon([50, 103], [50, 104], [51, 104], [50, 103]), "look swapped"),
    "out of range": (polygon([190, 95], [191, 95], [191, 96], [190, 95]), "outside longitude"),
    "metres by crs": (
        feature() | {"crs": {"properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}},
        "EPSG::32631",
    ),
    "crossing": (
        polygon([3, 50], [3.1, 50.1], [3.1, 50], [3, 50.1], [3, 50]),
        "crosses itself at lon 3.05000, lat 50.05000",
    ),
    "a line": (polygon([3, 50], [3.1, 50], [3.2, 50], [3, 50]), "zero"),
    "a dot": (polygon([3, 50], [3, 50], [3, 50], [3, 50]), "zero"),
    "huge": (polygon([0, 0], [10, 0], [10, 10], [0, 0]), "above the limit of 2,500 km2"),
    "many vertices": (polygon(*[[i * 1e-6, 0] for i in range(10_001)]), "10,000 vertices"),
    "large file": (" " * 5_000_001, "too large"),
    "a wrong day": (feature(start="2020-13-01"), "YYYY-MM-DD"),
    "days swapped": (feature(start="2020-12-01", end="2020-01-01"), "swap the two dates"),
    "no resolution": (feature(resolution="fine"), "resolution"),
    "resolution zero": (feature(resolution=0), "resolution"),
}


@pytest.mark.parametrize(("source", "words"), NOT_AN_AREA.values(), ids=NOT_AN_AREA.keys())
def test_bad_input_gives_one_sentence(source: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        from_geojson(source)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 320


@settings(deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["Polygon", "Feature", "FeatureCollection", "MultiPolygon"]),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(
        st.sampled_from(["type", "coordinates", "features", "geometry", "properties", "crs"]),
        inner, max_size=5,
    ),
    max_leaves=30,
))  # fmt: skip
def test_no_json_gives_anything_but_an_area_or_a_value_error(data: Any) -> None:
    try:
        area = from_geojson(json.dumps(data))
    except ValueError:
        return
    assert area.area_km2 > 0


def test_outside_names_both_bounds() -> None:
    with pytest.raises(ValueError, match="does not touch the cube") as caught:
        window(AOI("far", shapely.box(4, 51, 4.1, 51.1)), GRID)
    assert "lon 4.0000 to 4.1000, lat 51.0000 to 51.1000" in str(caught.value)
    assert "lon 3.0000 to 3.04" in str(caught.value)
    assert "draw it inside" in str(caught.value)


def test_outside_because_longitude_and_latitude_are_swapped() -> None:
    with pytest.raises(ValueError, match="swap longitude and latitude"):
        window(AOI("swapped", shapely.box(50.56, 3.01, 50.57, 3.02)), GRID)


def test_smaller_than_a_pixel() -> None:
    # centred on the corner of four pixels
    from pyproj import Transformer

    at = Transformer.from_crs(32631, 4326, always_xy=True).transform(501000, 5601000)
    with pytest.raises(ValueError, match="no pixel centre"):
        window(AOI("dot", shapely.Point(at).buffer(1e-6)), GRID)
