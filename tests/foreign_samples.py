"""Cubes in the forms of other packages, filled with given pixels.

Each function writes what the package itself writes, as far as its code tells: cubo with stackstac
(``cubo.create``, ``stackstac.prepare.to_coords``), sentle (``setup_zarr_storage``), the cube
generation and the feature cubes of DeepFeatures, DeepExtremes minicubes (their JSON
configurations and ``generate-cube.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from odc.geo.crs import CRS
from zarr.codecs import BloscCodec

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_NAMES = "blue green red rededge1 rededge2 rededge3 nir nir08 swir16 swir22"
COLOURS = dict(zip(BANDS, _NAMES.split(" "), strict=True))


@dataclass(frozen=True)
class Pixels:
    """What all samples hold: digital numbers without the offset of baseline 04.00, 0 = none."""

    numbers: np.ndarray
    """uint16 (time, band, y, x)."""
    scl: np.ndarray
    """uint8 (time, y, x)."""
    time: np.ndarray
    x: np.ndarray
    """Pixel centres, rising."""
    y: np.ndarray
    """Pixel centres, falling."""
    wkt: str
    radar: np.ndarray
    """Linear power, float32 (time_s1, VV and VH, y, x); ascending."""
    time_s1: np.ndarray

    @property
    def step(self) -> float:
        """Pixel size."""
        return float(self.x[1] - self.x[0])

    @property
    def cloud(self) -> np.ndarray:
        """Classes as of a CloudSEN12 network: 0 clear, 1 thick, 2 thin, 3 shadow (by SCL)."""
        table = np.array([1, 1, 0, 3, 0, 0, 0, 0, 1, 1, 2, 0], np.uint8)
        return table[self.scl]

    @property
    def codes(self) -> np.ndarray:
        """Codes of `valid` that follow from it: 0 no data, 1 usable, 2 cloud, 3 shadow."""
        codes = np.array([1, 2, 2, 3], np.uint8)[self.cloud]
        return np.where((self.numbers == 0).all(axis=1), 0, codes).astype(np.uint8)


def pixels(raw: xr.Dataset) -> Pixels:
    """Take some dates of a real cube, wider than high, with pixels that have no data."""
    part = raw.isel(time=slice(20, 44), y=slice(4, 52), time_s1=slice(0, 6))
    numbers = np.stack([part[name].values for name in BANDS], axis=1)
    scl = part["SCL"].values.copy()
    for step, rows in ((2, 9), (7, 48), (11, 20)):
        numbers[step, :, :rows, -13:] = 0
        scl[step, :rows, -13:] = 0
    decibel = np.stack([part[n].values * 1e-4 for n in ("VV", "VH")], axis=1)
    return Pixels(
        numbers, scl, part["time"].values, part["x"].values, part["y"].values,
        raw["spatial_ref"].attrs["crs_wkt"], (10 ** (decibel / 10)).astype(np.float32),
        part["time_s1"].values,
    )  # fmt: skip


def plain(p: Pixels, path: Path) -> Path:
    """One variable per band (the form of the WorldCereal extracts), in NetCDF."""
    coding = {"scale_factor": 1e-4, "_FillValue": np.uint16(0), "units": "1"}
    ds = xr.Dataset(
        {name: (("time", "y", "x"), p.numbers[:, i], coding) for i, name in enumerate(BANDS)},
        coords={"time": p.time, "y": p.y, "x": p.x},
    )
    ds["SCL"] = (("time", "y", "x"), p.scl, {"_FillValue": np.uint8(0)})
    ds = ds.odc.assign_crs(p.wkt)
    ds.to_netcdf(path)
    return path


def cubo(
    p: Pixels,
    path: Path,
    *,
    baseline: np.ndarray,
    colours: bool = False,
    centre: bool = False,
    split: bool = True,
    catalogue: str = "https://planetarycomputer.microsoft.com/api/stac/v1",
    applied: bool = False,
    rescaled: bool = False,
) -> Path:
    """An array of cubo: one step per item, upper left corners, DN as float64 with NaN.

    `baseline` says which steps have the offset; `split` puts the right half of some days into a
    second item; `rescaled` applies scale and offset of the catalogue, as stackstac does.
    """
    shift = np.where((baseline >= 4) & (not applied), 1000, 0)[:, None, None, None]
    stack = np.where(p.numbers > 0, p.numbers + shift.astype(float), np.nan)
    if rescaled:
        stack = stack * 1e-4 - np.where(baseline >= 4, 0.1, 0)[:, None, None, None]
    classes = np.where(p.scl > 0, p.scl.astype(float), np.nan)[:, None]
    stack, time = np.concatenate([stack, classes], axis=1), p.time
    items = [f"S2A_MSIL2A_{str(t)[:19].replace('-', '').replace(':', '')}" for t in time]
    if split:
        twice = np.arange(0, time.size, 3)
        left, right = stack.copy(), stack[twice].copy()
        left[twice, :, :, 30:] = np.nan
        right[:, :, :, :30] = np.nan
        time = np.concatenate([time, time[twice] + np.timedelta64(14, "s")])
        order = np.argsort(time, kind="stable")
        stack = np.concatenate([left, right])[order]
        baseline = np.concatenate([baseline, baseline[twice]])[order]
        items = [[*items, *(f"{items[i]}_2" for i in twice)][i] for i in order]
        time = time[order]
    half = 0 if centre else p.step / 2
    centre_x, centre_y = float(p.x.mean()) + 2.1, float(p.y.mean()) - 3.3
    labels = [*(COLOURS[b] if colours else b for b in BANDS), "scl" if colours else "SCL"]
    array = xr.DataArray(
        stack, dims=("time", "band", "y", "x"), name="sentinel-2-l2a",
        coords={
            "time": time, "band": labels, "y": p.y + half, "x": p.x - half,
            "id": ("time", items),
            "s2:processing_baseline": ("time", [f"{value:05.2f}" for value in baseline]),
            "s2:mgrs_tile": "31UDS",
            "eo:cloud_cover": ("time", np.linspace(0, 100, time.size)),
            "title": ("band", [f"Band {label}" for label in labels]),
            "epsg": CRS(p.wkt).epsg,
        },
        attrs={
            "collection": "sentinel-2-l2a", "stac": catalogue, "epsg": CRS(p.wkt).epsg,
            "resolution": p.step, "edge_size": p.x.size, "edge_size_m": p.x.size * p.step,
            "central_lat": 50.816, "central_lon": 3.024, "central_y": centre_y,
            "central_x": centre_x, "time_coverage_start": "2017-11-01",
            "time_coverage_end": "2018-05-01",
        },
    )  # fmt: skip
    if applied:
        array = array.assign_coords({"earthsearch:boa_offset_applied": ("time", [1] * time.size)})
    far = np.hypot(array["x"] - centre_x, array["y"] - centre_y).transpose("y", "x")
    array = array.assign_coords({"cubo:distance_from_center": (("y", "x"), far.values)})
    if path.suffix == ".zarr":
        array.to_dataset().to_zarr(path, zarr_format=2, consolidated=True)
    else:
        array.to_netcdf(path)
    return path


def sentle(
    p: Pixels,
    path: Path,
    *,
    uint16: bool = False,
    radar: bool = True,
    mode: str | None = "top-left",
) -> Path:
    """A store of sentle: Zarr v3, newest first, corners in float32, DN, radar in linear power."""
    s1 = ["vh_asc", "vh_desc", "vv_asc", "vv_desc"] if radar else []
    labels = [*BANDS, "S2_cloud_classification", *s1]
    seconds = {int(pd.Timestamp(t).timestamp()) for t in [*p.time, *(p.time_s1 if radar else [])]}
    times = sorted(seconds, reverse=True)
    data = np.full((len(times), len(labels), p.y.size, p.x.size), np.nan, np.float32)
    for step, moment in enumerate(p.time):
        row = times.index(int(pd.Timestamp(moment).timestamp()))
        there = (p.numbers[step] > 0).any(axis=0)
        data[row, :10] = np.where(p.numbers[step] > 0, p.numbers[step], np.nan)
        data[row, 10] = np.where(there, p.cloud[step], np.nan)
    for step, moment in enumerate(p.time_s1 if radar else []):
        row = times.index(int(pd.Timestamp(moment).timestamp()))
        data[row, labels.index("vv_asc")] = p.radar[step, 0]
        data[row, labels.index("vh_asc")] = p.radar[step, 1]
    root = zarr.group(store=zarr.storage.LocalStore(path))
    root.attrs["crs_wkt"] = p.wkt
    array = zarr.create(
        shape=data.shape, chunks=(10, 11, 250, 250), dtype=np.uint16 if uint16 else np.float32,
        fill_value=0 if uint16 else float("nan"), store=root.store, path="/sentle",
        config={"write_empty_chunks": False}, dimension_names=["time", "band", "y", "x"],
    )  # fmt: skip
    array.attrs.update(grid_mapping="spatial_ref", coordinates="spatial_ref")
    array[...] = np.nan_to_num(data, nan=0).astype(np.uint16) if uint16 else data
    holder = zarr.create(
        shape=(), dtype="int64", store=root.store, path="/spatial_ref", dimension_names=[]
    )
    holder[...] = 0
    holder.attrs.update(crs_wkt=p.wkt, spatial_ref=p.wkt)
    half = 0 if mode == "center" else p.step / 2
    coords = {
        "band": (labels, "string"),
        "x": ((p.x - half).astype(np.float32), "float32"),
        "y": ((p.y + half).astype(np.float32), "float32"),
        "time": (times, "int64"),
    }
    for name, (values, dtype) in coords.items():
        one = zarr.create(
            shape=(len(values),), dtype=dtype, store=root.store, path=f"/{name}",
            dimension_names=[name],
        )  # fmt: skip
        one[:] = values if dtype == "string" else np.asarray(values)
        if name in "xy" and mode:
            one.attrs["coord_save_mode"] = mode
        if name == "time":
            one.attrs.update(
                calendar="proleptic_gregorian", units="seconds since 1970-01-01 00:00:00"
            )
    return path


def research(p: Pixels, path: Path, *, zarr_format: int = 2) -> Path:
    """A science cube of DeepFeatures: reflectance (band, time, y, x), masks, ERA5, angles."""
    numbers = p.numbers.transpose(1, 0, 2, 3)
    values = np.where(numbers > 0, numbers * 1e-4, np.nan).astype(np.float32)
    grid = ("time", "y", "x")
    count, days = p.time.size, pd.date_range("2017-11-01", periods=90)
    ds = xr.Dataset(
        {
            "s2l2a": (("band", *grid), values, {"units": "1"}),
            "scl": (grid, p.scl, {"flag_values": list(range(12))}),
            "cloud_mask": (grid, p.cloud, {
                "flag_values": [0, 1, 2, 3],
                "flag_meanings": "clear thick_cloud thin_cloud cloud_shadow",
            }),
            "solar_angle": (("angle", "time", "angle_y", "angle_x"),
                            np.stack([np.full((count, 3, 3), v) for v in (50.0, 170.0)])),
            "viewing_angle": (("angle", "band", "time", "angle_y", "angle_x"),
                              np.stack([np.full((10, count, 3, 3), v) for v in (5.0, 0.0)])),
            "dem": (("y", "x"), np.full(p.scl.shape[1:], 23.5, np.float32)),
            "lccs_class": (("time_lccs", "y", "x"), np.full((2, *p.scl.shape[1:]), 10, np.uint8)),
            "esa_wc": (("y", "x"), np.full(p.scl.shape[1:], 40, np.uint8)),
            "era5_t2m_mean": ("time_era5", np.full(90, 280.15)),
            "era5_tp_sum": ("time_era5", np.full(90, 0.002)),
            "era5_ssrd_sum": ("time_era5", np.full(90, 8.64e6)),
            "era5_swvl1_mean": ("time_era5", np.full(90, 0.3)),
        },
        coords={
            "band": list(BANDS), "time": p.time, "y": p.y, "x": p.x, "angle": ["Zenith", "Azimuth"],
            "time_era5": days, "time_lccs": pd.to_datetime(["2020-01-01", "2021-01-01"]),
            "angle_x": p.x[0] + 5000.0 * np.arange(3), "angle_y": p.y[0] - 5000.0 * np.arange(3),
        },
        attrs={"id": 61, "cube_type": "ScienceCube", "version": "0.1.0", "project": "DeepFeatures",
               "utm_zone": "31U", "Conventions": "CF-1.8"},
    )  # fmt: skip
    ds["viewing_angle"][1, :, :, 0, 0] = 10.0
    ds["viewing_angle"][1, :, :, 1, 1] = 350.0
    ds = ds.assign_coords(spatial_ref=((), 0, {"crs_wkt": p.wkt, "spatial_ref": p.wkt}))
    for name in ("s2l2a", "scl", "cloud_mask", "dem"):
        ds[name].attrs["grid_mapping"] = "spatial_ref"
    coding = {"s2l2a": {"chunks": (10, 20, 24, 32)}}
    if zarr_format == 3:
        coding["s2l2a"]["compressors"] = (BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),)
    if zarr_format == 3:
        # text of fixed length has no specification there
        ds = ds.assign_coords({n: ds[n].astype(object) for n in ("band", "angle")})
    ds.to_zarr(path, zarr_format=zarr_format, encoding=coding, consolidated=zarr_format == 2)
    return path


def features(p: Pixels, path: Path, *, seed: int = 0) -> tuple[Path, np.ndarray]:
    """A feature cube: ``features (feature, time, y, x)`` without labels and CRS; its values."""
    rng = np.random.default_rng(seed)
    values = np.log1p(np.exp(rng.normal(0.5, 1.5, (6, *p.scl.shape)))).astype(np.float32)
    values[:, (p.numbers == 0).all(axis=1)] = np.nan
    ds = xr.Dataset(
        {"features": (("feature", "time", "y", "x"), values)},
        coords={"time": p.time, "y": p.y, "x": p.x},
    )
    ds.to_zarr(path, zarr_format=2, encoding={"features": {"chunks": (6, 1, *p.scl.shape[1:])}})
    return path, values


def deepextremes(p: Pixels, path: Path) -> Path:
    """A DeepExtremes minicube: int16 reflectance, empty steps first, deep cloud mask, weather."""
    empty = p.time[0] - np.timedelta64(5, "D") * np.arange(4, 0, -1)
    time = np.concatenate([empty.astype("datetime64[ns]"), p.time])
    coding = {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -9999}
    grid = ("time", "y", "x")
    ds = xr.Dataset(coords={"time": time, "y": p.y, "x": p.x})
    names = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A")
    for name in names:
        values = p.numbers[:, BANDS.index(name)]
        values = np.where(values > 0, values * 1e-4, np.nan).astype(np.float32)
        ds[name] = (grid, np.concatenate([np.full((4, *values.shape[1:]), np.nan), values]))
    none = np.zeros((4, *p.scl.shape[1:]), np.uint8)
    ds["SCL"] = (grid, np.concatenate([none, p.scl]))
    meanings = ["free_sky", "cloud", "cloud_shadows", "snow", "masked_other_reasons"]
    words = {"flag_values": [0, 1, 2, 3, 4], "flag_meanings": meanings}
    ds["cloudmask_en"] = (grid, np.concatenate([none, p.cloud]), words)
    ds["cop_dem"] = (("y", "x"), np.full(p.scl.shape[1:], 31.0, np.float32))
    ds["lccs_class"] = (("y", "x"), np.full(p.scl.shape[1:], 60, np.uint8))
    for name in ("t2m", "tp"):
        for kind in ("min", "mean", "max"):
            ds[f"{name}_{kind}"] = ("time", np.full(time.size, 285.0, np.float32))
    ds["events"] = ("event_time", np.full(60, 16, np.uint8))
    ds["event_time"] = pd.date_range("2017-11-01", periods=60)
    ds["crs"] = ((), 0, CRS(p.wkt).proj.to_cf())
    ds.attrs = {
        "data_id": "mc_3.02_50.82_1.3_20230928_0",
        "location_id": "3.02_50.82",
        "version": "1.3",
        "metadata": {"configuration_versions": {"era5": 1.0}},
    }
    ds.to_zarr(path, zarr_format=2, encoding=dict.fromkeys(names, coding), consolidated=True)
    return path
