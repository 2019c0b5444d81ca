"""Laws of tiling: cores partition the raster, reads stay inside, stitching is the identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfeatures.tiles import split

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(shapes, st.integers(1, 40), st.integers(0, 9))
def test_cores_partition_the_raster(shape, core, halo):
    count = np.zeros(shape, int)
    for tile in split(shape, core, halo):
        count[tile.core] += 1
    assert np.all(count == 1)


@given(shapes, st.integers(1, 40), st.integers(0, 9))
def test_stitching_the_inner_parts_gives_the_raster(shape, core, halo):
    raster = np.arange(shape[0] * shape[1]).reshape(shape)
    stitched = np.full(shape, -1)
    for tile in split(shape, core, halo):
        assert 0 <= tile.ry0 <= tile.y0 < tile.y1 <= tile.ry1 <= shape[0]
        assert 0 <= tile.rx0 <= tile.x0 < tile.x1 <= tile.rx1 <= shape[1]
        stitched[tile.core] = raster[tile.read][tile.inner]
    assert np.array_equal(stitched, raster)


@pytest.mark.parametrize(
    ("shape", "core", "halo"), [((0, 3), 2, 0), ((3, 3), 0, 0), ((3, 3), 2, -1)]
)
def test_impossible_splits_are_refused(shape, core, halo):
    with pytest.raises(ValueError, match="can not split"):
        split(shape, core, halo)
