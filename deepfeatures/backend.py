"""What ``xarray.open_dataset(url, engine="deepfeatures")`` does, and so intake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from deepfeatures import reading, store


class Cubes(BackendEntrypoint):
    """Opens stores of this package, decoded; of band cubes also the indices."""

    description = "Feature data cubes, and the spectral indices of band cubes"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "view", "index", "constants")

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        view: str | None = None,
        index: list[str] | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> xr.Dataset:
        """Open a store lazily.

        Parameters
        ----------
        filename_or_obj
            Path or URL of the store.
        drop_variables
            Variables to leave out.
        view
            ``"si"`` for the spectral indices of a band cube.
        index, constants
            Names or expressions of that view, all by default, and its constants.

        Raises
        ------
        ValueError
            If `view` is another word.
        """
        url = os.fspath(filename_or_obj)
        if view not in (None, "si"):
            raise ValueError(f"there is no view {view!r}; leave it out, or take 'si'")
        ds = reading.spectral(url, index, constants=constants) if view else store.open(url)
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables
        return ds.drop_vars(list(dropped or []))
