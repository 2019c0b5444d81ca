"""What the mask of clouds and shadows finds, and what it costs in good pixels.

Run from the top of the repository: ``python benchmarks/clouds.py --data ../shared/data
[--pictures FOLDER]``. Thresholds were chosen on the Belgian cube, by eye; the one for the red edge
(`temporal.BLANK`) on one date of the Tanzanian cube, 2020-12-09. Landscapes of seeds 1 and 2 were
looked at on the way; the rest of the Tanzanian cube, the Swedish one and seed 9 judge.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image
from scipy.ndimage import gaussian_filter

from deepfeatures import clouds, simulate
from deepfeatures.clouds import USABLE
from deepfeatures.tiles import Tile

REAL = {
    "be_31UDS": ("be_31UDS_s2s1_2017-2018_10m.nc", 10.0),
    "tza (held out but for 2020-12-09)": ("tza_37MBS_s2s1_2019-2021_20m.nc", 20.0),
}
SWEDEN = "minicube_34VCL_sweden_forest.nc"
SEEDS = {1: "looked at", 2: "looked at", 9: "held out"}
EDGE = 96
LITTLE = 0.02
COLOURS = {
    0: (0, 0, 0), 2: (255, 0, 0), 3: (0, 0, 255), 4: (255, 0, 255), 5: (255, 255, 0),
    6: (255, 128, 0), 7: (0, 200, 255), 8: (255, 80, 160), 9: (0, 255, 120),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What `clouds.refine` takes, and the classes it starts from."""

    bands: Mapping[str, np.ndarray]
    scl: np.ndarray
    days: np.ndarray
    resolution: float

    def mask(self, method: str) -> np.ndarray:
        """Refine the mask of the scene classification."""
        wanted = {name: self.bands[name] for name in clouds.needs(list(self.bands), method)}
        valid = clouds.from_scl(self.scl)
        return clouds.refine(valid, wanted, self.days, self.resolution, method)


def real(path: Path, resolution: float) -> Case:
    with xr.open_dataset(path) as ds, xr.open_dataset(path, mask_and_scale=False) as raw:
        days, first = np.unique(ds["time"].values.astype("datetime64[D]"), return_index=True)
        names = [str(name) for name in ds if str(name).startswith("B")]
        bands = {name: ds[name].values[first].astype(np.float32) for name in names}
        return Case(bands, raw["SCL"].values[first].astype(np.uint8), days, resolution)


def landscape(seed: int) -> tuple[Case, np.ndarray]:
    """Give a simulated landscape and its true clouds (above 0) and shadows (below)."""
    tile = Tile(0, EDGE, 0, EDGE, 0, EDGE, 0, EDGE)
    ds = simulate.render(simulate.plan(seed=seed, size=EDGE, years=2), tile)
    bands = {str(name): ds["reflectance"].sel(band=name).values for name in ds["band"].values}
    days = ds["time"].values.astype("datetime64[D]")
    return Case(bands, ds["scl"].values, days, 10.0), ds["truth_cloud"].values


def dates(name: str, case: Case) -> None:
    """Print what is lost of the dates that the scene classification calls clear."""
    before = clouds.from_scl(case.scl)
    masks = {method: case.mask(method) for method in ("temporal", "full")}
    share = np.isin(case.scl, (8, 9, 10)).mean(axis=(1, 2))
    print(f"\n{name}: usable {_percent(before)} by SCL, " + ", ".join(
        f"{_percent(mask)} {method}" for method, mask in masks.items()
    ))  # fmt: skip
    print(f"dates with less than {LITTLE:.0%} cloud by SCL; not usable [%]: SCL, temporal, full")
    for t in np.flatnonzero(share < LITTLE):
        lost = [100 * (mask[t] != USABLE).mean() for mask in (before, *masks.values())]
        print(f"  {case.days[t]} {lost[0]:6.1f} {lost[1]:6.1f} {lost[2]:6.1f}")


def truth(seed: int) -> None:
    """Print recall and losses against the true sky of a simulated landscape."""
    case, sky = landscape(seed)
    there, before = case.scl != 0, clouds.from_scl(case.scl)
    classes = {
        "cloud > 0.3": sky > 0.3, "cloud 0.1..0.3": (sky > 0.1) & (sky <= 0.3),
        "shadow > 0.4": sky < -0.4, "shadow 0.2..0.4": (sky < -0.2) & (sky >= -0.4),
        "clear": sky == 0,
    }  # fmt: skip
    bright, dark = case.bands["B03"], case.bands["B11"]
    with np.errstate(invalid="ignore", divide="ignore"):
        classes["clear snow"] = (sky == 0) & ((bright - dark) / (bright + dark) > 0.4)
        classes["clear snow"] &= bright > 0.15
    print(f"\nsimulated, seed {seed} ({SEEDS[seed]}): masked [%] of each true class")
    print(f"  {'':16}{'SCL':>8}{'temporal':>10}{'full':>8}{'pixels':>10}")
    masks = [before, case.mask("temporal"), case.mask("full")]
    for word, where in classes.items():
        chosen = where & there
        values = [100 * (mask[chosen] != USABLE).mean() for mask in masks]
        print(f"  {word:16}{values[0]:8.1f}{values[1]:10.1f}{values[2]:8.1f}{chosen.sum():10}")
    hit = [(mask[there & (np.abs(sky) > 0.1)] != USABLE).sum() for mask in masks]
    made = [(mask[there] != USABLE).sum() for mask in masks]
    print("  precision (|sky| > 0.1) [%]: " + ", ".join(
        f"{100 * h / max(m, 1):.1f}" for h, m in zip(hit, made, strict=True)
    ))  # fmt: skip


def sweden(path: Path) -> None:
    """Print the agreement with the mask of a network (1 thick, 2 thin cloud, 3 shadow)."""
    with xr.open_dataset(path) as ds:
        part = ds.isel(time=np.flatnonzero(ds["s2_avail"].values == 1))
        names = ("B02", "B03", "B04", "B8A")
        bands = {name: part[f"s2_{name}"].values.astype(np.float32) for name in names}
        scl = np.nan_to_num(part["s2_SCL"].values).astype(np.uint8)
        judge = part["s2_dlmask"].values
        days = part["time"].values.astype("datetime64[D]")
    case = Case(bands, scl, days, 21.0)
    there = np.isfinite(judge) & np.isfinite(bands["B02"])
    print("\nSweden (held out; four bands): masked [%] where its network says so")
    print(f"  {'':16}{'SCL':>8}{'temporal':>10}{'pixels':>10}")
    masks = clouds.from_scl(case.scl), case.mask("temporal")
    for code, word in enumerate(("clear", "thick cloud", "thin cloud", "shadow")):
        chosen = there & (judge == code)
        values = [100 * (mask[chosen] != USABLE).mean() for mask in masks]
        print(f"  {word:16}{values[0]:8.1f}{values[1]:10.1f}{chosen.sum():10}")
    for mask, word in zip(masks, ("SCL", "temporal"), strict=True):
        same = ((mask == USABLE) == (judge == 0))[there].mean()
        print(f"  usable or not, agreement of {word}: {100 * same:.1f} %")


def speed(edge: int = 512, count: int = 60) -> None:
    """Print pixels of all dates per second, and the memory beyond the arrays given."""
    rng = np.random.default_rng(0)
    names = ("B02", "B03", "B04", "B08", "B8A", "B11", "B12")
    bands = {name: rng.uniform(0.03, 0.3, (count, edge, edge)).astype(np.float32) for name in names}
    sky = gaussian_filter(rng.normal(0, 1, (count, edge, edge)), (0, 12, 12))
    scl = np.where(sky > 0, 8, 4).astype(np.uint8)
    case = Case(bands, scl, np.datetime64("2021-01-01") + 5 * np.arange(count), 10.0)
    print(f"\nspeed, {count} dates of {edge} x {edge} px at 10 m, one process")
    for method in ("temporal", "full"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        case.mask(method)
        spent = time.process_time() - start
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        rate = scl.size / 1e6 / spent
        print(f"  {method:10}{rate:6.2f} Mpx-dates/s, peak +{more / 1024:.0f} MiB")


def pictures(case: Case, folder: Path, name: str) -> None:
    """Write true (or false) colour beside the mask, one image per date."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = case.mask("full")
    names = ("B04", "B03", "B02") if "B02" in case.bands else ("B11", "B8A", "B05")
    top = 0.25 if "B02" in case.bands else 0.4
    for t, day in enumerate(case.days):
        image = np.stack([case.bands[band][t] / top for band in names], axis=-1)
        image = 255 * np.clip(np.nan_to_num(image), 0, 1) ** 0.7
        over = image.copy()
        for code, colour in COLOURS.items():
            over[mask[t] == code] = 0.35 * over[mask[t] == code] + 0.65 * np.array(colour)
        both = np.concatenate([image, over], axis=1).astype(np.uint8)
        Image.fromarray(both.repeat(4, 0).repeat(4, 1)).save(folder / f"{name}_{day}.png")


def _percent(mask: np.ndarray) -> str:
    return f"{100 * (mask == USABLE).mean():.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--pictures", type=Path, help="folder for an image of each date")
    args = parser.parse_args()
    for name, (file, resolution) in REAL.items():
        case = real(args.data / "s2" / file, resolution)
        dates(name, case)
        if args.pictures:
            pictures(case, args.pictures, file.split("_")[0])
    sweden(args.data / "s2" / SWEDEN)
    for seed in SEEDS:
        truth(seed)
    speed()


if __name__ == "__main__":
    main()
