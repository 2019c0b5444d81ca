"""Windows of a raster with core and halo: integers only, nothing lost at ragged edges."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tile:
    """A window of a raster: its core is written, its read window is the core with a halo."""

    y0: int
    """First row of the core."""
    y1: int
    """Row after the last of the core."""
    x0: int
    """First column of the core."""
    x1: int
    """Column after the last of the core."""
    ry0: int
    """First row that is read."""
    ry1: int
    """Row after the last that is read."""
    rx0: int
    """First column that is read."""
    rx1: int
    """Column after the last that is read."""

    @property
    def core(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the raster."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns of the read window in the raster."""
        return slice(self.ry0, self.ry1), slice(self.rx0, self.rx1)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the core inside the read window."""
        return (
            slice(self.y0 - self.ry0, self.y1 - self.ry0),
            slice(self.x0 - self.rx0, self.x1 - self.rx0),
        )

    def grown(self, halo: int, shape: tuple[int, int]) -> Tile:
        """Give the tile with a halo that is cut at the border of a raster of `shape`."""
        rows, columns = shape
        return replace(
            self,
            ry0=max(self.y0 - halo, 0),
            ry1=min(self.y1 + halo, rows),
            rx0=max(self.x0 - halo, 0),
            rx1=min(self.x1 + halo, columns),
        )

    @property
    def name(self) -> str:
        """Position of the core as a file name, ``y0-x0``."""
        return f"{self.y0}-{self.x0}"


def split(shape: tuple[int, int], core: int, halo: int = 0) -> list[Tile]:
    """Split a raster into square cores, each with a halo cut at the border of the raster.

    Parameters
    ----------
    shape
        Rows and columns of the raster.
    core
        Edge of a core [px]; cores at the lower and right border may be smaller.
    halo
        Pixels that are read around the core.

    Returns
    -------
    list of Tile
        Row by row; the cores partition the raster.
    """
    rows, columns = shape
    if rows < 1 or columns < 1 or core < 1 or halo < 0:
        raise ValueError(f"can not split {shape} into cores of {core} px with a halo of {halo} px")
    return [
        Tile(
            y0, y1 := min(y0 + core, rows), x0, x1 := min(x0 + core, columns),
            max(y0 - halo, 0), min(y1 + halo, rows), max(x0 - halo, 0), min(x1 + halo, columns),
        )
        for y0 in range(0, rows, core)
        for x0 in range(0, columns, core)
    ]  # fmt: skip
