"""Makes ``deepfeatures/data/indices.json``: formulas of spyndex, ranges and limits of pixels.

``python benchmarks/index_table.py`` renews what comes from the installed spyndex and keeps the
ranges; ``--data ../shared/data`` measures those anew on the real cubes there and on the simulated
landscape (some minutes); ``--judge`` leaves each place out in turn instead, and prints what its
values lose. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from deepfeatures import catalogue, cube, indices, simulate
from deepfeatures.bands import BANDS
from deepfeatures.indices import ranges
from deepfeatures.indices.native import CODES
from deepfeatures.settings import workspace
from deepfeatures.simulate.land import CLASSES
from deepfeatures.tiles import Tile

TABLE = Path(__file__).resolve().parents[1] / "deepfeatures" / "data" / "indices.json"
SCHEMA = 1
VERSION = "1.0"
SPYNDEX = "0.12.0"
ATTRIBUTION = (
    "contains modified Copernicus Sentinel data 2017-2021, by way of WorldCereal (MIT), "
    "greenearthnet (MIT), TerraMesh (CC-BY-SA-4.0; arXiv:2504.11172) and Earth Search"
)
KERNEL = {
    "rule": "k(a, b) = exp(-(a - b)^2 / (2 sigma^2)), radial basis function",
    "sigma": "0.5 (a + b) at each pixel",
    "reference": "https://doi.org/10.1126/sciadv.abc7447",
}
# Name -> file below ``s2``, and what the file does not say; the shift of baseline 04.00 is known
# from the darkest pixels.
CUBES: dict[str, tuple[str, dict[str, Any]]] = {
    "Belgium, fields and village": ("be_31UDS_s2s1_2017-2018_10m.nc", {}),
    "Tanzania, fields": ("tza_37MBS_s2s1_2019-2021_20m.nc", {}),
    "Sweden, forest": ("minicube_34VCL_sweden_forest.nc", {}),
    "Chile, river valley and town": (
        "terramesh_433D_629L_3_1_s2l2a_s1rtc_lulc.nc", {"date": "2022-01-01", "offset": -0.1},
    ),
    "Tanzania, shrubland": ("terramesh_38D_378R_2_3_s2l2a_s1rtc_lulc.nc", {"date": "2022-01-01"}),
}  # fmt: skip
DESERT = "Western Sahara, desert"
ITEM = ("S2A_29RKH_20200219_0_L2A", (-11.85, 24.4, -11.0, 25.2), 200.0, "2020-02-19")
SEED, SIZE, YEARS = 0, 256, 3
JUDGE = (1, 96, 2)
SNOW = 11
CLEAR = 0.02
EACH = 100_000
BATCH = 32
STEP = 1e-4
TAILS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
TAILS_ABOVE = tuple(1 - tail for tail in reversed(TAILS))
METHOD = (
    "range: 1st and 99th percentile of usable, cloud-free, snow-free pixels (for indices of snow: "
    "simulated snow is one more source), rounded. Half of the weight is real, half simulated; "
    "within a half each source weighs the same, whatever its number of pixels; a source without "
    "the bands of an index does not count. limits: what int16 codes hold: plus and minus the "
    "bound 1, 2 or 4 of an index that has one for all reflectances, else the 0.01 to 99.99 "
    "percentile of the sources (the widest of them), twice as far from the median; where the step "
    "of the codes would then exceed 4 times the noise, so much less, but never less than the "
    "range. noise: median magnitude of what reflectance rounded to 1e-4 does to the index."
)


@dataclass(frozen=True, eq=False)
class Source:
    """Pixels of one place or land cover."""

    bands: dict[str, np.ndarray]
    """Reflectance of each band (pixel,)."""
    kind: str
    """``real``, ``simulated``, or ``snow`` (simulated too)."""
    period: tuple[str, str] | None = None
    """First and last date, where dates are known."""


Values = dict[str, np.ndarray]


def formulas(version: str) -> dict[str, Any]:
    """Give what comes from spyndex: constants, and each index marked Sentinel-2 by name."""
    found = metadata.version("spyndex")
    if found != version:
        raise SystemExit(
            f"spyndex is {found}, the table that of {version}; install that one, or say "
            f"--spyndex {found}"
        )
    folder = resources.files("spyndex").joinpath("data")
    every = json.loads(folder.joinpath("spectral-indices-dict.json").read_text("utf-8"))
    rows = {
        name: {
            "long_name": row["long_name"], "formula": row["formula"],
            "domain": row["application_domain"], "reference": row["reference"],
            "bands": row["bands"], "contributor": row["contributor"],
            "date_of_addition": row["date_of_addition"],
        }
        for name, row in sorted(every["SpectralIndices"].items())
        if any(word.startswith("Sentinel-2") for word in row["platforms"])
    }  # fmt: skip
    used = {symbol for row in rows.values() for symbol in row["bands"]}
    known = json.loads(folder.joinpath("constants.json").read_text("utf-8"))
    constants = {
        name: known[name]["default"]
        for name in sorted(known)
        if name in used and not name.startswith("lambda")
    }
    return {"constants": constants, "indices": rows}


def real(data: Path, folder: Path) -> dict[str, Source]:
    """Import the real cubes and give their usable pixels."""
    ws = workspace(folder)
    for number, (file, said) in enumerate(CUBES.values()):
        cube.import_file(ws, f"c{number}", data / "s2" / file, **said)
    item, area, resolution, day = ITEM
    cube.build(
        ws, f"c{len(CUBES)}", area=area, resolution=resolution, start=day, end=day, nbar="off",
        catalog=str(data / "cog" / item / "item.json"),
    )  # fmt: skip
    found = {}
    for number, name in enumerate([*CUBES, DESERT]):
        ds = catalogue.open(ws, f"c{number}")
        days = np.datetime_as_string(ds["time"].values[[0, -1]], unit="D")
        dated = "date" not in CUBES.get(name, ("", {}))[1]
        period = (str(days[0]), str(days[1])) if dated else None
        usable = ds["valid"].values == 1
        found[name] = Source(_spread(ds, usable), "real", period)
    return found


def simulated(seed: int = SEED, size: int = SIZE, years: int = YEARS) -> dict[str, Source]:
    """Render a landscape and give the usable pixels of each land cover, by its true sky."""
    whole = Tile(0, size, 0, size, 0, size, 0, size)
    ds = simulate.render(simulate.plan(seed=seed, size=size, years=years), whole)
    scl, label = ds["scl"].values, ds["label_class"].values
    usable = (ds["valid"].values == 1) & (np.abs(ds["truth_cloud"].values) < CLEAR)
    days = np.datetime_as_string(ds["time"].values[[0, -1]], unit="D")
    period = (str(days[0]), str(days[1]))
    found = {
        f"simulated {word}": Source(
            _spread(ds, usable & (scl != SNOW) & (label == code)), "simulated", period
        )
        for code, word in enumerate(CLASSES)
        if (label == code).any()
    }
    found["simulated snow"] = Source(_spread(ds, usable & (scl == SNOW)), "snow", period)
    return found


def _spread(ds: xr.Dataset, usable: np.ndarray) -> dict[str, np.ndarray]:
    """Take at most `EACH` of the usable pixels, evenly in time and space."""
    t, y, x = np.nonzero(usable)
    chosen = np.linspace(0, len(t) - 1, min(len(t), EACH)).astype(int)
    t, y, x = t[chosen], y[chosen], x[chosen]
    found = {}
    for band in map(str, ds["band"].values):
        layer = ds["reflectance"].sel(band=band).values[t, y, x]
        # as a store keeps it: whole steps
        found[band] = (np.round(layer / STEP) * STEP).astype(np.float32)
    return found


def measured(sources: dict[str, Source]) -> dict[str, dict[str, Any]]:
    """Give range, limits and noise of each index."""
    found = {}
    for names in _batches():
        values = {place: evaluated(source, names) for place, source in sources.items()}
        moved = {place: evaluated(source, names, noisy=True) for place, source in sources.items()}
        for name in names:
            here = {place: rows[name] for place, rows in values.items() if name in rows}
            shifts = [_finite(moved[place][name] - row) for place, row in here.items()]
            noise = float(np.median([np.median(np.abs(row)) for row in shifts if row.size]))
            here = {place: _finite(row) for place, row in here.items()}
            here = {place: row for place, row in here.items() if row.size}
            span = display(name, here, sources)
            found[name] = {"range": span, "limits": limits(name, here, span, noise), "noise": noise}
    return found


def _finite(row: np.ndarray) -> np.ndarray:
    return row[np.isfinite(row)].astype(np.float64)


def _batches() -> Iterator[tuple[str, ...]]:
    every = indices.names()
    return (every[start : start + BATCH] for start in range(0, len(every), BATCH))


def evaluated(source: Source, names: tuple[str, ...], *, noisy: bool = False) -> Values:
    """Give those indices that the source has bands for; `noisy`: as if rounded otherwise."""
    bands = source.bands
    if noisy:
        rng = np.random.default_rng(0)
        bands = {
            name: (row + rng.uniform(-STEP / 2, STEP / 2, row.shape)).astype(np.float32)
            for name, row in bands.items()
        }
    able = set(indices.available(list(bands)))
    wanted = [name for name in names if name in able]
    if not wanted:
        return {}
    return dict(zip(wanted, indices.compute(bands, wanted), strict=True))


def display(name: str, values: Values, sources: dict[str, Source]) -> tuple[float, float]:
    """Give the weighted percentiles."""
    snowy = indices.INDICES[name].domain == "snow"
    rows, weights = [], []
    kinds = {p: "real" if sources[p].kind == "real" else "simulated" for p in values}
    kinds = {p: kind for p, kind in kinds.items() if snowy or sources[p].kind != "snow"}
    for place, kind in kinds.items():
        row = values[place]
        rows.append(row)
        weights.append(np.full(row.size, 1 / list(kinds.values()).count(kind) / row.size))
    low, high = np.quantile(
        np.concatenate(rows), (0.01, 0.99), weights=np.concatenate(weights), method="inverted_cdf"
    )
    return _tidy(low, high)


def limits(
    name: str, values: Values, span: tuple[float, float], noise: float
) -> tuple[float, float]:
    """Give the least and largest value that int16 codes hold, see `METHOD`."""
    allowed = 2 * CODES * 4 * noise
    bound = ranges.bound(indices.INDICES[name])
    if bound is not None and 2 * bound <= allowed:
        return -bound, bound
    each = np.array([np.quantile(row, (*TAILS, 0.5, *TAILS_ABOVE)) for row in values.values()])
    middle = float(np.median(each[:, len(TAILS)]))
    lows = [min(span[0], *each[:, at]) for at in range(len(TAILS))] + [span[0]]
    highs = [max(span[1], *each[:, -1 - at]) for at in range(len(TAILS))] + [span[1]]
    least = middle - ranges.WIDER * (middle - lows[0])
    most = middle + ranges.WIDER * (highs[0] - middle)
    for low, high in zip(lows, highs, strict=True):
        if high - low <= allowed:
            more = allowed / (high - low)
            low = max(least, middle - more * (middle - low))
            high = min(most, middle + more * (high - middle))
            return _tidy(low, high)
    return span


def _tidy(low: float, high: float) -> tuple[float, float]:
    """Round to a thousandth of the width, or less."""
    place = 3 - math.floor(math.log10(high - low))
    return round(float(low), place) + 0.0, round(float(high), place) + 0.0


def judge(sources: dict[str, Source], others: dict[str, Source]) -> None:
    """Print what the values of places that a table does not know lose in its codes."""
    print(f"{'held out':32}{'indices':>8}{'>0.1 %':>8}{'>1 %':>6}   clipped [%], the worst")
    for place in [place for place, source in sources.items() if source.kind == "real"]:
        rest = {name: source for name, source in sources.items() if name != place}
        _loss(place, {place: sources[place]}, measured(rest))
    full = measured(sources)
    _loss(f"simulated, seed {JUDGE[0]}", others, full)
    _loss("image of spyndex", {"spyndex": example()}, full)
    print("\nstep too coarse (mean rounding of the codes > noise), rounding / noise:")
    for name, row in full.items():
        coarse = (row["limits"][1] - row["limits"][0]) / (2 * CODES) / 4 / row["noise"]
        if coarse > 1.01:
            print(f"  {name:16}{coarse:10.2g}")


def example() -> Source:
    """Give the Sentinel-2 image that spyndex brings along (four bands, no date)."""
    import spyndex

    image = spyndex.datasets.open("sentinel")
    bands = {
        str(band): image.sel(band=band).values.ravel().astype(np.float32) * np.float32(STEP)
        for band in image["band"].values
    }
    return Source(bands, "real")


def _loss(word: str, held: dict[str, Source], table: dict[str, dict[str, Any]]) -> None:
    clipped: dict[str, list[float]] = {}
    for names in _batches():
        for source in held.values():
            for name, row in evaluated(source, names).items():
                low, high = table[name]["limits"]
                row = _finite(row)
                if row.size:
                    share = float(((row < low) | (row > high)).mean())
                    clipped.setdefault(name, []).append(share)
    shares = {name: float(np.mean(each)) for name, each in clipped.items()}
    worst = sorted(shares, key=lambda name: -shares[name])
    words = ", ".join(f"{n} {100 * shares[n]:.2g}" for n in worst if shares[n] > 1e-3)
    some = [sum(share > least for share in shares.values()) for least in (1e-3, 1e-2)]
    print(f"{word:32}{len(shares):8}{some[0]:8}{some[1]:6}   {words}")


def document(
    version: str = SPYNDEX,
    spans: dict[str, dict[str, Any]] | None = None,
    sources: dict[str, Source] | None = None,
) -> dict[str, Any]:
    """Give the whole table; without new spans with those that formulas had that stay the same."""
    made = formulas(version)
    old = json.loads(TABLE.read_text("utf-8"))
    for name, row in made["indices"].items():
        known = old["indices"].get(name, {}) if spans is None else spans.get(name, {})
        if spans is not None or known.get("formula") == row["formula"]:
            row |= {key: list(known[key]) for key in ("range", "limits") if key in known}
    return {
        "schema": SCHEMA, "version": VERSION,
        "catalogue": f"Awesome Spectral Indices as in spyndex {version}",
        "spyndex": version,
        "source": "https://github.com/awesome-spectral-indices/spyndex",
        "licence": "MIT, (c) David Montero Loaiza",
        "kernel": KERNEL, "ranges": old["ranges"] if sources is None else _inputs(sources), **made,
    }  # fmt: skip


def _inputs(sources: dict[str, Source]) -> dict[str, Any]:
    rows = [
        {
            "name": name, "kind": source.kind, "period": source.period,
            "pixels": len(next(iter(source.bands.values()))),
            "bands": "all" if len(source.bands) == len(BANDS) else list(source.bands),
        }
        for name, source in sources.items()
    ]  # fmt: skip
    return {
        "method": METHOD, "attribution": ATTRIBUTION,
        "landscape": {"seed": SEED, "size": SIZE, "years": YEARS}, "sources": rows,
    }  # fmt: skip


def text(table: dict[str, Any]) -> str:
    """Write the table with one line per index and source: differences stay readable."""
    inputs = dict(table["ranges"])
    listed = ",\n".join(f"  {json.dumps(row)}" for row in inputs.pop("sources"))
    rows = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in table["indices"].items())
    parts = {key: json.dumps(value) for key, value in table.items()}
    parts["ranges"] = json.dumps(inputs)[:-1] + f', "sources": [\n{listed}\n]}}'
    parts["indices"] = f"{{\n{rows}\n}}"
    return "{" + ",\n".join(f"{json.dumps(key)}: {part}" for key, part in parts.items()) + "}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the real data; else ranges stay")
    parser.add_argument("--spyndex", default=SPYNDEX, help=f"version to take ({SPYNDEX})")
    parser.add_argument("--judge", action="store_true", help="measure losses, write nothing")
    args = parser.parse_args()
    if args.judge and args.data is None:
        parser.error("--judge needs --data")
    if args.data is None:
        TABLE.write_text(text(document(args.spyndex)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        sources = real(args.data, Path(folder)) | simulated()
    if args.judge:
        judge(sources, simulated(*JUDGE))
        return
    made = document(args.spyndex, measured(sources), sources)
    TABLE.write_text(text(made), encoding="utf-8")


if __name__ == "__main__":
    main()
