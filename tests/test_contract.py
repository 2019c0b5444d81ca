"""The contract takes good cubes and names the first breach of bad ones."""

from __future__ import annotations

import numpy as np
import pytest

from deepfeatures import contract


def test_a_good_cube_passes_unchanged(tiny_bands):
    before = tiny_bands.copy(deep=True)
    assert contract.check(tiny_bands).identical(before)
    assert contract.kind(tiny_bands) == "bands"
    assert contract.channels(tiny_bands)[:2] == ["B02", "B03"]


def test_the_grid_has_pixel_centres_at_the_coordinates(tiny_bands):
    grid = contract.geobox(tiny_bands)
    assert grid.shape == (24, 20)
    x, y = grid.affine * (0.5, 0.5)
    assert (x, y) == (tiny_bands["x"].values[0], tiny_bands["y"].values[0])
    assert str(grid.crs) == "EPSG:32631"


def _duplicate_day(ds):
    time = ds["time"].values.copy()
    time[1] = time[0] + np.timedelta64(3, "h")
    return ds.assign_coords(time=time)


BREACHES = {
    "no cube": (lambda ds: ds.drop_vars("reflectance"), "no cube"),
    "dims": (lambda ds: ds.transpose("band", ...), "dimensions"),
    "y rises": (lambda ds: ds.isel(y=slice(None, None, -1)), "must fall"),
    "uneven x": (lambda ds: ds.isel(x=[0, 1, 3, 7]), "equal steps"),
    "no crs": (lambda ds: ds.drop_vars("spatial_ref"), "no CRS"),
    "degrees": (lambda ds: ds.odc.assign_crs("EPSG:4326"), "metres"),
    "time falls": (lambda ds: ds.isel(time=slice(None, None, -1)), "increasing"),
    "same day": (_duplicate_day, "two steps"),
    "no date": (lambda ds: ds.isel(time=slice(0)), "no date"),
    "band order": (lambda ds: ds.isel(band=[1, 0]), "order of wavelength"),
    "band name": (lambda ds: ds.assign_coords(band=["X", *ds.band.values[1:]]), "no band"),
    "band twice": (lambda ds: ds.isel(band=[0, 0]), "not unique"),
    "no mask": (lambda ds: ds.drop_vars("valid"), "mask"),
    "mask type": (lambda ds: ds.assign(valid=ds.valid.astype(float)), "uint8"),
    "units": (lambda ds: ds.assign(scl=ds.scl.drop_attrs()), "attribute 'units'"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_named(tiny_bands, name):
    breach, words = BREACHES[name]
    with pytest.raises(ValueError, match=words):
        contract.check(breach(tiny_bands))


def test_provenance_decodes_lists(tiny_bands):
    found = contract.provenance(tiny_bands.assign_attrs(source_items='["a"]', note="[broken"))
    assert found["source_items"] == ["a"]
    assert found["note"] == "[broken"
