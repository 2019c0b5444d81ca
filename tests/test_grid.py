"""Grids around places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geom import box, point

from deepfeatures.grid import cover, square, utm

places = st.tuples(st.floats(-79, 83), st.floats(-179.9, 179.9))


@given(places, st.integers(1, 300), st.sampled_from([10.0, 20.0, 60.0, 100.0]))
@settings(max_examples=40)
def test_a_square_is_snapped_and_holds_its_centre(place, pixels, resolution):
    lat, lon = place
    grid = square(lat, lon, pixels, resolution)
    assert grid.shape == (pixels, pixels)
    assert (grid.resolution.x, grid.resolution.y) == (resolution, -resolution)
    edges = np.array(grid.boundingbox.bbox) / resolution
    assert np.allclose(edges, np.round(edges), atol=1e-6)
    x, y = point(lon, lat, "EPSG:4326").to_crs(grid.crs).coords[0]
    middle = edges.reshape(2, 2).mean(axis=0) * resolution
    assert np.all(np.abs(middle - [x, y]) <= resolution / 2 * 1.0001)


def test_an_even_square_is_the_one_of_cubo():
    # cubo: centre rounded to the resolution, plus and minus half of the edge
    grid = square(50.816, 3.024, 64, 10)
    x, y = point(3.024, 50.816, "EPSG:4326").to_crs("EPSG:32631").coords[0]
    x, y = round(x / 10) * 10, round(y / 10) * 10
    assert grid.boundingbox.bbox == (x - 320, y - 320, x + 320, y + 320)
    assert str(grid.crs) == "EPSG:32631"


def test_metres_are_rounded_up_to_whole_pixels():
    assert square(-3.657, 36.85, 1000, 20, units="m").shape == (50, 50)
    assert square(-3.657, 36.85, 1001, 20, units="m").shape == (51, 51)
    assert str(square(-3.657, 36.85, 8).crs) == "EPSG:32737"


@given(places, st.floats(0.001, 0.05), st.floats(0.001, 0.05))
@settings(max_examples=30)
def test_a_cover_holds_the_area_and_not_a_pixel_more(place, width, height):
    lat, lon = place
    area = box(lon, lat, min(lon + width, 180), min(lat + height, 84), "EPSG:4326")
    grid = cover(area, resolution=20)
    inside = np.array(area.to_crs(grid.crs).boundingbox.bbox)
    edges = np.array(grid.boundingbox.bbox)
    slack = (inside - edges) * [1, 1, -1, -1]
    assert np.all(slack > -0.01)
    assert np.all(slack < 20.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: utm(float("nan"), 0), "is no place"),
        (lambda: utm(50.8, 181), "is no place"),
        (lambda: utm(85, 0), "outside UTM"),
        (lambda: square(50, 3, 64, 0), "metres above zero"),
        (lambda: square(50, 3, 0), "edge size 0 must be above zero"),
        (lambda: square(50, 3, 64, units="km"), "choose 'px' or 'm'"),
        (lambda: square(50, 3, 200_000), "too many"),
        (lambda: cover(box(0, 40, 10, 50, "EPSG:4326")), "take a smaller area"),
    ],
)
def test_what_cannot_be_is_refused_with_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
