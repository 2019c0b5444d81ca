"""c-factor: ours and sen2nbar in the same run, on the granule files of the real data.

``python benchmarks/nbar.py [--data ../shared/data] [--repeat 7]`` prints JSON: for each granule the
largest relative difference per band where both are finite, seconds from XML to c-factor of both,
and seconds for a window of 1000 x 1000 pixels x 9 bands beside the time to fill as much memory.
The peer comes with ``pip install --no-deps -r benchmarks/peers.txt``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from sen2nbar.c_factor import c_factor_from_metadata
from sen2nbar.utils import _extrapolate_c_factor

from deepfeatures import granule, nbar

BANDS = tuple(nbar.COEFFICIENTS)
NAMES = {"MTD_TL.xml", "metadata.xml"}
HALF = 2500.0
"""Metres by which sen2nbar puts the nodes further south and east."""


def median(work: Callable[[], object], repeat: int) -> float:
    """Seconds of a call: the median after one to warm up."""
    work()
    runs = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        runs.append(time.perf_counter() - begin)
    return statistics.median(runs)


def files(data: Path, folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Give tile, file, and the file as sen2nbar takes it: it refuses the root of level 1C."""
    for path in sorted((data / "granule_metadata").rglob("*.xml")):
        if path.name in NAMES:
            content = path.read_bytes()
            tile = granule.parse(content).tile
            other = folder / f"{tile}.xml"
            other.write_bytes(content.replace(b"Level-1C_Tile_ID", b"Level-2A_Tile_ID"))
            yield tile, path, other


def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Relative difference where both are finite, else NaN."""
    return np.abs(ours / theirs - 1)


def parity(path: Path, other: Path) -> dict[str, object]:
    """Differences of the nodes, of the filled nodes, and of pixels of 100 m over the tile."""
    angles = granule.parse(path.read_bytes())
    ours = granule.c_grid(angles)["c_factor"].values
    theirs = c_factor_from_metadata(str(other)).sel(band=list(BANDS))
    nodes = difference(ours, theirs.values)
    filled = _extrapolate_c_factor(theirs.copy(deep=True))
    box = GeoBox((1098, 1098), Affine(100, 0, angles.x[0], 0, -100, angles.y[0]), angles.crs)
    places = 50.0 + 100 * np.arange(1098)
    pixels = filled.interp(x=angles.x[0] + places, y=angles.y[0] - places, method="linear").values
    shifted = replace(angles, x=angles.x + HALF, y=angles.y - HALF)
    apart = difference(granule.c_window(angles, box, BANDS), pixels)
    return {
        "finite_nodes": [int(np.isfinite(ours).sum()), int(np.isfinite(theirs.values).sum())],
        "largest_relative_difference": dict(
            zip(BANDS, (float(f"{np.nanmax(layer):.1e}") for layer in nodes), strict=True)
        ),
        "filled_nodes": float(f"{difference(nbar.fill(ours), filled.values).max():.1e}"),
        "pixels_with_nodes_as_sen2nbar": float(
            f"{np.nanmax(difference(granule.c_window(shifted, box, BANDS), pixels)):.1e}"
        ),
        "pixels_with_nodes_where_they_are": {
            "median": round(float(np.nanmedian(apart)), 5),
            "largest": round(float(np.nanmax(apart)), 5),
        },
    }


def times(path: Path, other: Path, folder: Path, repeat: int) -> dict[str, float]:
    """Seconds from the file to the c-factor of the nodes, and from the kept angles."""
    granule.fetch(str(path), path.parent.name, folder)
    ours = median(lambda: granule.c_grid(granule.parse(path.read_bytes())), repeat)
    kept = median(
        lambda: granule.c_grid(granule.fetch(str(path), path.parent.name, folder)), repeat
    )
    theirs = median(lambda: c_factor_from_metadata(str(other)), repeat)
    return {
        "ours": round(ours, 4),
        "ours_from_kept_angles": round(kept, 4),
        "sen2nbar": round(theirs, 4),
        "sen2nbar_over_ours": round(theirs / ours, 1),
    }


def windows(path: Path, repeat: int) -> dict[str, float]:
    """Seconds for 1000 x 1000 pixels x 9 bands, beside the least that writing them costs."""
    angles = granule.parse(path.read_bytes())
    corner = Affine(10, 0, angles.x[0] + 20_000, 0, -10, angles.y[0] - 30_000)
    box = GeoBox((1000, 1000), corner, angles.crs)
    other = box.to_crs("EPSG:3857", resolution="fit")
    grid = granule.c_grid(angles)["c_factor"]
    x = corner.c + 5 + 10 * np.arange(1000)
    y = corner.f - 5 - 10 * np.arange(1000)
    return {
        "ours": round(median(lambda: granule.c_window(angles, box, BANDS), repeat), 4),
        "ours_in_another_crs": round(median(lambda: granule.c_window(angles, other, BANDS), 3), 4),
        "pixels_in_another_crs": other.shape.x * other.shape.y,
        "sen2nbar_interp": round(median(lambda: grid.interp(x=x, y=y, method="linear"), 3), 4),
        "fill_fresh_memory": round(
            median(lambda: np.full((len(BANDS), 1000, 1000), 1, np.float32), repeat), 4
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        for tile, path, other in files(options.data, Path(name)):
            report[tile] = {
                **parity(path, other),
                "seconds": times(path, other, Path(name), options.repeat),
            }
            if tile == "01KAB":
                report["window_1000_px_9_bands"] = windows(path, options.repeat)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
