"""Pieces of a selection that are small enough to be held."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from deepfeatures import contract

BUDGET = 128 << 20
"""Bytes of values that are held at once."""
EDGE = 128
"""Edge of a block of a GeoTIFF [px]; pieces are whole rows of blocks."""


def arrays(ds: xr.Dataset) -> list[xr.DataArray]:
    """Give the arrays (time, channel, y, x) of a selection."""
    return [ds[variable] for variable, _ in contract.MAIN.values() if variable in ds]


def cut(array: xr.DataArray, share: int = 1) -> Iterator[tuple[slice, slice]]:
    """Cut time and rows into pieces along the chunks, if there are any.

    A piece has about `BUDGET` bytes, or the part of it that `share` says.
    """
    budget = BUDGET // share
    sizes = array.sizes
    per_row = max(1, array.size // (sizes["time"] * sizes["y"])) * 4
    dates = min(sizes["time"], array.chunksizes["time"][0] if array.chunks else 16)
    rows = sizes["y"]
    while rows > EDGE and dates * rows * per_row > budget:
        rows = -(-rows // 2)
    rows = min(sizes["y"], -(-rows // EDGE) * EDGE)
    dates = max(1, min(dates, budget // (rows * per_row)))
    for t in range(0, sizes["time"], dates):
        for y in range(0, sizes["y"], rows):
            yield slice(t, min(t + dates, sizes["time"])), slice(y, min(y + rows, sizes["y"]))
