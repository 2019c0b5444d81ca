"""The mask of the scene classification."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfeatures.clouds import SCENE_CLASSES, SCL_FLAGS, VALID_CLASSES, valid_from_scl


def test_each_class_goes_where_the_table_says():
    codes = np.arange(256, dtype=np.uint8)
    assert [c.code for c in SCENE_CLASSES.values()] == list(range(12)) == SCL_FLAGS["flag_values"]
    assert len(SCL_FLAGS["flag_meanings"].split()) == 12
    assert tuple(np.flatnonzero(valid_from_scl(codes))) == VALID_CLASSES == (2, 4, 5, 6, 7, 11)


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3), elements=st.integers(0, 255)))
def test_the_mask_is_binary_of_the_same_shape_and_local(scl):
    valid = valid_from_scl(scl)
    assert valid.shape == scl.shape
    assert valid.dtype == np.uint8
    assert set(np.unique(valid)) <= {0, 1}
    assert np.array_equal(valid_from_scl(scl[::-1]), valid[::-1])


def test_a_signed_layer_is_refused_because_its_fill_could_become_a_class():
    with pytest.raises(ValueError, match="int16; give it as uint8"):
        valid_from_scl(np.array([4, -32767], np.int16))


@pytest.mark.parametrize(
    "name", ["be_31UDS_s2s1_2017-2018_10m.nc", "tza_37MBS_s2s1_2019-2021_20m.nc"]
)
def test_the_mask_is_the_complement_of_the_cloud_mask_of_the_real_cubes(shared_data, name):
    with xr.open_dataset(shared_data / "s2" / name, mask_and_scale=False) as raw:
        assert np.array_equal(valid_from_scl(raw["SCL"].values), 1 - raw["cloud_mask"].values)
