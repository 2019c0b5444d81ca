"""Tiles of cubes that are derived from a stored band cube: seen from nadir, and indices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from deepfeatures import contract, indices, nbar, reading, stac, store
from deepfeatures.bands import attributes
from deepfeatures.indices import ranges
from deepfeatures.tiles import Tile

_CODING = (
    "value = stored * si_scale + si_offset, both along index; -32768 = no value "
    '(xarray.open_dataset(url, engine="deepfeatures") does it)'
)


@dataclass(frozen=True)
class Nadir:
    """Makes tiles of a band cube corrected to a view from nadir with its angles per date."""

    url: str
    """Store of the band cube."""
    name: str
    """Name of the band cube."""

    def template(self) -> xr.Dataset:
        """Give the corrected cube, lazy.

        Raises
        ------
        ValueError
            If the cube is corrected already, or has no angles.
        """
        ds = store.open(self.url)
        if contract.kind(ds) != "bands":
            raise ValueError(f"{self.name!r} is no cube of bands; correct the bands it is made of")
        if "nbar" in ds and ds["nbar"].values.any():
            raise ValueError(f"{self.name!r} is corrected to nadir already")
        missing = [name for name in _SCENE_ANGLES if name not in ds]
        if missing:
            raise ValueError(
                f"{self.name!r} has no {', '.join(missing)}; build it from items with granule "
                "metadata (build --nbar grid)"
            )
        factor = _scene_factors(ds)
        how = np.where(np.isfinite(factor).all(axis=1), stac.SCENE, stac.NO_NBAR).astype(np.uint8)
        ds["nbar"] = ("time", how, attributes("nbar") | stac.NBAR_FLAGS)
        steps = json.loads(ds.attrs.get("processing", "[]"))
        steps.append(
            "corrected to a view from nadir (NBAR) with the mean angles of "
            f"{np.count_nonzero(how)} of {how.size} scenes; {', '.join(nbar.UNCORRECTED)} as seen"
        )
        return ds.assign_attrs(processing=json.dumps(steps), source_cube=self.name)

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, str]:
        """Make a tile in memory."""
        rows, columns = tile.core
        ds = store.open(self.url)
        part = ds.isel(y=rows, x=columns)
        factor = np.nan_to_num(_scene_factors(ds), nan=1.0).astype(np.float32)
        corrected = part["reflectance"] * xr.DataArray(factor, dims=("time", "band"))
        return part.assign(reflectance=corrected.transpose(*part["reflectance"].dims)), ""


_SCENE_ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")


def _scene_factors(ds: xr.Dataset) -> NDArray[np.float64]:
    """Give the c-factor of each date and band; 1 for bands without coefficients."""
    names = contract.channels(ds)
    sun, sun_azimuth, view, view_azimuth = (ds[name].values for name in _SCENE_ANGLES)
    known = [name for name in names if name in nbar.COEFFICIENTS]
    factor = np.ones((ds.sizes["time"], len(names)))
    found = nbar.c_factor(sun[None], view[None], (sun_azimuth - view_azimuth)[None], known)
    factor[:, [names.index(name) for name in known]] = found.T
    return factor


@dataclass(frozen=True)
class Indices:
    """Makes tiles of an SI cube, straight from the stored integers of its bands."""

    url: str
    """Store of the band cube."""
    name: str
    """Name of the band cube."""
    names: tuple[str, ...]
    """Spectral indices: names of the catalogue, or expressions."""
    constants: tuple[tuple[str, float], ...] = ()
    """Constants that differ from the catalogue's."""

    @cached_property
    def codings(self) -> tuple[tuple[float, float], ...]:
        """Scale and offset of each index, from the table or, of an expression, from the cube."""
        cube = reading.open(self.url, self.name)
        return tuple(_coding(cube, name) for name in self.names)

    def template(self) -> xr.Dataset:
        """Give the SI cube, its values empty.

        Raises
        ------
        KeyError
            If an index is unknown.
        ValueError
            If a band is missing, or there are no bands.
        """
        ds = store.open(self.url)
        if contract.kind(ds) != "bands":
            raise ValueError(f"{self.name!r} is no cube of bands; name the one it was made from")
        wanted = indices.chosen(self.names, contract.channels(ds))
        labels = [index.name for index in wanted]
        shape = ds.sizes["time"], len(labels), ds.sizes["y"], ds.sizes["x"]
        empty = dask.array.zeros(shape, dtype=np.int16)
        codings = np.array(self.codings)
        attrs = attributes("si") | {"catalogue": indices.CATALOGUE, "coding": _CODING}
        formulas = {index.name: index.formula for index in wanted}
        steps = json.loads(ds.attrs.get("processing", "[]"))
        steps.append(f"{len(labels)} spectral indices of {self.name} ({indices.CATALOGUE})")
        return xr.Dataset(
            {"si": (("time", "index", "y", "x"), empty, attrs), "valid": ds["valid"]},
            coords={name: c for name, c in ds.coords.items() if set(c.dims) <= {"time", "y", "x"}}
            | {"index": labels}
            | {name: ("index", codings[:, at]) for at, name in enumerate(store.CODED)},
            attrs=ds.attrs
            | {
                "title": f"Spectral indices of {ds.attrs.get('title', self.name)}",
                "source_cube": self.name,
                "processing": json.dumps(steps),
                "index_formulas": json.dumps(formulas),
                "index_constants": json.dumps(dict(self.constants)),
            },
        )

    def __call__(self, tile: Tile) -> tuple[xr.Dataset, Callable[[], str]]:
        """Make a tile; its indices are computed a few at a time, when they are written."""
        coded = self._coded(tile)
        valid = store.open(self.url)["valid"].isel(y=tile.core[0], x=tile.core[1])
        return xr.Dataset({"si": coded.lazy(), "valid": valid.variable}), coded.report

    def coarse(self, factor: int, tile: Tile) -> xr.Variable:
        """Make a tile of an overview: indices of mean reflectance, as a virtual cube has them."""
        return self._coded(tile, factor).lazy()

    def _coded(self, tile: Tile, level: int = 1) -> reading.Coded:
        wanted = [indices.find(name) for name in self.names]
        return reading.Coded(self.url, wanted, self.codings, dict(self.constants), tile, level)


def _coding(cube: reading.OpenCube, name: str) -> tuple[float, float]:
    """Give scale and offset of an index; what nothing bounds is looked at in the cube."""
    try:
        return ranges.coding(name)
    except ValueError:
        return ranges.coding_of(reading.sample(cube, name))


def tallied(reports: Sequence[str]) -> dict[str, str]:
    """Give the attribute that says what became of the values of each index in all tiles."""
    total: dict[str, Counter[str]] = {}
    for report in reports:
        for name, counts in json.loads(report).items():
            total.setdefault(name, Counter()).update(counts)
    return {"index_report": json.dumps(total)}
