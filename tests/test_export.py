"""Exports open in other people's readers with the same values; what cannot be exported says so."""

from __future__ import annotations

import gc
import json
import resource
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401 (registers the accessor .rio)
import shapely
import xarray as xr
from zarr.storage import ZipStore

from deepfeatures import catalogue, contract, export, foreign, indices, store
from deepfeatures import cube as recipes
from deepfeatures.export import blocks
from deepfeatures.settings import Workspace
from tests.conftest import bands_cube

CHANNELS = ["B08", "NDVI", "B04", "kNDVI"]


@pytest.fixture
def cube(tmp_path: Path) -> xr.Dataset:
    """A band cube read lazily from a store, as an export gets it (34 dates, 40 x 30 px)."""
    url = str(tmp_path / "cube.zarr")
    store.write(bands_cube(times=34, height=40, width=30), url)
    return store.open(url)


def made_for(fmt: str, ds: xr.Dataset) -> xr.Dataset:
    """Give a selection that a format can hold."""
    return features_cube() if fmt == "research" else ds


def features_cube() -> xr.Dataset:
    ds = bands_cube(times=5, height=20, width=16)
    values = ds["reflectance"].isel(band=slice(0, 3)).values
    return ds.drop_vars(["reflectance", "band", "scl"]).assign(
        features=(("time", "feature", "y", "x"), values, {"units": "1", "long_name": "Features"})
    ).assign_coords(feature=["F01", "F02", "F03"])  # fmt: skip


def triangle(ds: xr.Dataset) -> shapely.Polygon:
    """A triangle in lon/lat over the middle of the cube, without its corners."""
    x, y = ds["x"].values, ds["y"].values
    corners = [(x[3] + 2, y[-4] + 3), (x[-4] + 1, y[-6] + 3), (x[10] + 2, y[4] + 1)]
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    return shapely.Polygon([to_lonlat.transform(*corner) for corner in corners])


def selection(ds: xr.Dataset) -> xr.Dataset:
    return export.select(
        ds, geometry=triangle(ds), start="2021-03-10", end="2021-06-20", channels=CHANNELS
    )


def open_netcdf(path: Path) -> xr.Dataset:
    with xr.open_dataset(path) as ds:
        return ds.load()


def open_zarr(path: Path) -> xr.Dataset:
    source = ZipStore(path, mode="r")
    try:
        return xr.open_zarr(source, consolidated=False).load()
    finally:
        source.close()


def assert_same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    for name in wanted.data_vars:
        np.testing.assert_array_equal(found[name].values, wanted[name].values)
        assert found[name].dims == wanted[name].dims
        assert found[name].attrs["units"] == wanted[name].attrs["units"]
    for name in ("time", "y", "x", *({"band", "index", "feature"} & set(wanted.coords))):
        np.testing.assert_array_equal(found[name].values.astype(wanted[name].dtype), wanted[name])
    assert found["y"].values[0] > found["y"].values[-1]
    assert found.rio.crs.to_epsg() == 32631


@pytest.mark.parametrize(
    ("fmt", "opened"), [("netcdf", open_netcdf), ("zarr", open_zarr)], ids=["netcdf", "zarr"]
)
def test_xarray_opens_the_same_values(
    cube: xr.Dataset, tmp_path: Path, fmt: str, opened: Callable[[Path], xr.Dataset]
) -> None:
    part = selection(cube)
    path = export.write(part, tmp_path / f"x{export.FORMATS[fmt].suffix}", fmt)
    found = opened(path)
    assert_same(found, part.compute())
    assert found["valid"].dtype == np.uint8
    assert found["reflectance"].dtype == np.float32
    assert found.attrs["source"] == cube.attrs["source"]
    assert found.attrs["licence"] == "CC0-1.0"
    assert "selection for export" in json.loads(found.attrs["processing"])[-1]
    assert json.loads(found.attrs["selection"])["channels"] == CHANNELS
    assert json.loads(found.attrs["index_formulas"])["NDVI"] == "(N - R)/(N + R)"
    assert found.attrs["index_catalogue"] == indices.CATALOGUE
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".x")] == []


def test_netcdf_keeps_the_cf_conventions(cube: xr.Dataset, tmp_path: Path) -> None:
    path = export.write(selection(cube), tmp_path / "x.nc", "netcdf")
    with xr.open_dataset(path, decode_coords="all", decode_times=False) as ds:
        assert ds.attrs["Conventions"] == "CF-1.11"
        assert ds["spatial_ref"].attrs["grid_mapping_name"] == "transverse_mercator"
        assert ds["reflectance"].encoding["grid_mapping"] == "spatial_ref"
        assert ds["x"].attrs["standard_name"] == "projection_x_coordinate"
        assert ds["time"].attrs["units"].split()[1] == "since"
    with rasterio.open(f"NETCDF:{path}:valid") as source:  # GDAL places it without help
        assert source.crs.to_epsg() == 32631
        assert source.transform.e < 0


def test_features_export_under_the_contract(tmp_path: Path) -> None:
    ds = features_cube()
    part = export.select(ds, channels=["F03", "F01"])
    assert contract.channels(part) == ["F01", "F03"]
    found = open_netcdf(export.write(part, tmp_path / "f.nc", "netcdf"))
    assert_same(found, part)
    again = export.write(contract.check(export.select(found)), tmp_path / "g.nc", "netcdf")
    assert_same(open_netcdf(again), part)


def test_geotiff_has_a_band_per_date_and_channel(cube: xr.Dataset, tmp_path: Path) -> None:
    part = selection(cube)
    path = export.write(part, tmp_path / "x.tif", "geotiff")
    labels = ["B04", "B08", "NDVI", "kNDVI", "valid"]
    days = np.datetime_as_string(part["time"].values, unit="D").tolist()
    assert 2 < len(days) < 34
    with rasterio.open(path) as source:
        assert list(source.descriptions) == [f"{day} {label}" for day in days for label in labels]
        assert source.crs.to_epsg() == 32631
        assert source.transform.e < 0
        assert source.xy(0, 0) == (part["x"].values[0], part["y"].values[0])
        assert source.tags()["licence"] == "CC0-1.0"
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.tags(2) == source.tags(2) | {"date": days[0], "channel": "B08"}
        values = source.read().reshape(len(days), len(labels), *source.shape)
    np.testing.assert_array_equal(values[:, :2], part["reflectance"].values)
    np.testing.assert_array_equal(values[:, 2:4], part["si"].values)
    np.testing.assert_array_equal(values[:, 4], part["valid"].values)


def test_many_bands_become_a_zip_of_one_geotiff_per_date(cube: xr.Dataset, tmp_path: Path) -> None:
    path = export.write(cube, tmp_path / "x.tif", "geotiff")
    assert path.name == "x.zip"
    with zipfile.ZipFile(path) as archive:
        days = np.datetime_as_string(cube["time"].values, unit="D").tolist()
        assert archive.namelist() == [f"{day}.tif" for day in days]
        archive.extract(f"{days[20]}.tif", tmp_path)
    with rasterio.open(tmp_path / f"{days[20]}.tif") as source:
        assert source.descriptions[-2:] == (f"{days[20]} B12", f"{days[20]} valid")
        values = source.read()
    np.testing.assert_array_equal(values[:-1], cube["reflectance"].isel(time=20).values)


def test_csv_has_a_row_per_value(cube: xr.Dataset, tmp_path: Path) -> None:
    part = selection(cube)
    path = export.write(part, tmp_path / "x.csv", "csv")
    table = pd.read_csv(path, comment="#", parse_dates=["time"])
    assert list(table) == [
        "time", "channel", "x", "y", "lon", "lat", "geometry", "value", "valid",
    ]  # fmt: skip
    assert set(table["channel"]) == set(CHANNELS)
    both = xr.concat(
        [
            part["reflectance"].rename(band="channel"),
            part["si"].rename(index="channel"),
        ],
        "channel",
    ).transpose("time", "channel", "y", "x")
    wanted = both.to_series().dropna()
    found = table.set_index(["time", "channel", "y", "x"])["value"].reindex(wanted.index)
    assert len(table) == len(wanted)
    np.testing.assert_array_equal(found.astype(np.float32), wanted)
    row = table.iloc[1234]
    lonlat = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    assert lonlat.transform(row["x"], row["y"]) == pytest.approx((row["lon"], row["lat"]), abs=1e-7)
    at = part["valid"].sel(time=row["time"], y=row["y"], x=row["x"])
    assert row["valid"] == at.values.item()
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert "# licence: CC0-1.0" in header
    assert "# crs: EPSG:32631" in header


def test_pieces_do_not_matter(
    cube: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = export.select(bands_cube(times=6, height=300, width=20), channels=["B04", "NDVI"])
    whole = {}
    for fmt in ("csv", "geotiff"):
        whole[fmt] = export.write(part, tmp_path / f"whole.{fmt}", fmt)
    monkeypatch.setattr(blocks, "BUDGET", 60_000)
    assert len(list(blocks.cut(part["si"]))) > 2
    sorted_lines = [
        sorted(path.read_text().splitlines())
        for path in (whole["csv"], export.write(part, tmp_path / "cut.csv", "csv"))
    ]
    assert sorted_lines[0] == sorted_lines[1]
    cut = export.write(part, tmp_path / "cut.tif", "geotiff")
    with rasterio.open(whole["geotiff"]) as one, rasterio.open(cut) as two:
        np.testing.assert_array_equal(one.read(), two.read())


def test_selection_stays_lazy_and_leaves_the_cube_alone(cube: xr.Dataset) -> None:
    before = cube.copy(deep=True)
    part = selection(cube)
    assert all(part[name].chunks is not None for name in ("reflectance", "si", "valid"))
    contract.check(part)
    xr.testing.assert_identical(cube, before)


def test_period_includes_both_days(cube: xr.Dataset) -> None:
    days = cube["time"].values.astype("datetime64[D]")
    part = export.select(cube, start=str(days[3]), end=days[8].astype(date))
    np.testing.assert_array_equal(part["time"].values, cube["time"].values[3:9])
    assert part.attrs["time_coverage_start"] == str(days[3])
    assert part.attrs["time_coverage_end"] == str(days[8])


def test_polygon_keeps_exactly_the_pixels_whose_centres_lie_in_it(cube: xr.Dataset) -> None:
    area = triangle(cube)
    part = export.select(cube, geometry=area, channels=["B04"])
    assert part.sizes["x"] < cube.sizes["x"]
    grid = np.meshgrid(part["x"].values, part["y"].values)
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    inside = shapely.contains_xy(area, *to_lonlat.transform(*grid))
    source = cube.sel(x=part["x"], y=part["y"])
    wanted = source["reflectance"].sel(band=["B04"]).values
    np.testing.assert_array_equal(part["reflectance"], np.where(inside, wanted, np.nan))
    np.testing.assert_array_equal(part["valid"], source["valid"].values * inside)
    assert 0 < inside.sum() < inside.size


def test_bbox_gives_the_window_of_pixel_centres(cube: xr.Dataset) -> None:
    bounds = triangle(cube).bounds
    part = export.select(cube, bbox=bounds)
    assert export.select(cube, geometry=triangle(cube)).sizes["x"] <= part.sizes["x"]
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(*np.meshgrid(part["x"].values, part["y"].values))
    assert abs(lon.min() - bounds[0]) < 2e-4
    assert abs(lat.max() - bounds[3]) < 2e-4
    world = export.select(cube, bbox=(2, 50, 4, 52))
    assert world.sizes == {**cube.sizes}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bbox": (10, 50, 11, 51)}, "outside the cube, which covers 3.0"),
        ({"bbox": (-120, -40, -119, -39)}, "outside the cube"),
        ({"bbox": (3.5, 50, 3.4, 51)}, "west < east"),
        ({"bbox": (float("nan"), 50, 3.4, 51)}, "four numbers"),
        ({"bbox": (1, 2, 3)}, "four numbers"),
        ({"geometry": shapely.box(10, 50, 11, 51)}, "outside the cube"),
        ({"geometry": shapely.box(501000, 5628000, 502000, 5629000)}, "in degrees"),
        ({"geometry": shapely.Point(3.014, 50.81)}, "polygon"),
        ({"geometry": shapely.Polygon()}, "not empty"),
        ({"geometry": shapely.Polygon([(3, 50), (4, 51), (4, 50), (3, 51)])}, "without crossing"),
        ({"start": "2030-01-01"}, "there is no date from 2030-01-01 .* the cube runs from 2021"),
        ({"start": "2021-06-01", "end": "2021-05-01"}, "there is no date"),
        ({"end": "soon"}, "'soon' is no date"),
        ({"channels": ["B04", "NDIV"]}, "'NDIV' is unknown; did you mean NDVI.*B02, .*B12 and"),
        ({"channels": []}, "no channel is asked for; choose from B02"),
        ({"channels": ["AWEInsh", "WI2015", "A1", "F01"]}, "'A1' is unknown"),
    ],
)
def test_what_cannot_be_selected_says_so(
    tiny_bands: xr.Dataset, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export.select(tiny_bands, **options)


def test_area_between_pixel_centres_is_too_small(tiny_bands: xr.Dataset) -> None:
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    x, y = tiny_bands["x"].values[5] + 4, tiny_bands["y"].values[5] + 4
    tiny = shapely.Point(to_lonlat.transform(x, y)).buffer(1e-6)
    with pytest.raises(ValueError, match="no pixel centre"):
        export.select(tiny_bands, geometry=tiny)


def test_a_feature_cube_has_no_indices() -> None:
    with pytest.raises(ValueError, match="'NDVI' is unknown; choose from F01, F02, F03"):
        export.select(features_cube(), channels=["NDVI"])


def test_an_expression_is_a_channel_like_any_other() -> None:
    own = "(B08 - B04) / (B08 + B04)"
    part = export.select(bands_cube(), channels=[own, "NDVI"])
    np.testing.assert_array_equal(part["si"].sel(index=own), part["si"].sel(index="NDVI"))
    assert json.loads(part.attrs["index_formulas"])[own] == own
    with pytest.raises(ValueError, match="character 8"):
        export.select(bands_cube(), channels=["(B08 - B99) / 2"])


def test_index_of_a_band_that_is_missing_says_which() -> None:
    with pytest.raises(ValueError, match="EVI needs B02"):
        export.select(bands_cube(bands=("B04", "B08")), channels=["EVI"])


def test_limits_and_formats(tiny_bands: xr.Dataset, tmp_path: Path) -> None:
    assert export.estimate(tiny_bands) == 7 * 10 * 24 * 20 * 5
    with pytest.raises(ValueError, match="0.000168 GB as zarr, and 1e-06 GB is the limit"):
        export.write(tiny_bands, tmp_path / "x.zip", "zarr", limit=1000)
    with pytest.raises(ValueError, match="'shp' is unknown; choose from zarr, netcdf"):
        export.write(tiny_bands, tmp_path / "x.shp", "shp")
    with pytest.raises(ValueError, match="selection is empty"):
        export.write(tiny_bands.isel(time=slice(0, 0)), tmp_path / "x.nc", "netcdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fmt", export.FORMATS)
def test_estimate_is_an_upper_bound_and_files_are_replaced(fmt: str, tmp_path: Path) -> None:
    part = export.select(bands_cube(times=4, height=128, width=128), channels=["B04", "NDVI"])
    part = made_for(fmt, part)
    path = export.write(part, tmp_path / "x", fmt)
    assert path.stat().st_size < export.estimate(part, fmt) * 1.5 + 200_000
    first = path.read_bytes()
    assert export.write(part, tmp_path / "x", fmt) == path
    if fmt != "netcdf":
        assert path.read_bytes() == first
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("fmt", export.FORMATS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(fmt: str, tmp_path: Path) -> None:
    ds = bands_cube(times=6, height=200, width=200)
    if fmt == "research":
        values = ds["reflectance"].values[:, :3]
        ds = ds.drop_vars(["reflectance", "band"]).assign(
            features=(("time", "feature", "y", "x"), values, {"units": "1", "long_name": "x"})
        )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # no file may grow larger
    try:
        with pytest.raises(OSError, match=r"the disk is full; free|see if there is space left"):
            export.write(ds, tmp_path / "x", fmt)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_geotiff_is_a_valid_cog(tmp_path: Path) -> None:
    ds = bands_cube(times=2, height=300, width=280)
    order = export.select(ds, channels=["B04", "NDVI"])
    stacked = export.write(order, tmp_path / "x.tif", "geotiff")
    dated = export.write(order, tmp_path / "x.zip", "geotiff-dates")
    days = [str(day)[:10] for day in ds["time"].values]
    with zipfile.ZipFile(dated) as archive:
        assert archive.namelist() == [f"{day}.tif" for day in days]
        archive.extractall(tmp_path)
    with rasterio.open(stacked) as whole:
        for number, day in enumerate(days):
            with rasterio.open(tmp_path / f"{day}.tif") as one:
                for source in (whole, one):
                    assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                    assert source.block_shapes[0] == (blocks.EDGE, blocks.EDGE)
                    assert source.overviews(1) == [2, 4]
                    assert source.crs.to_epsg() == 32631
                    assert tuple(source.transform)[:6] == (10, 0, 501000, 0, -10, 5629000)
                    assert np.isnan(source.nodata)
                bands = [3 * number + 1 + band for band in range(3)]
                np.testing.assert_array_equal(one.read(), whole.read(bands))


def test_parquet_is_a_geoparquet_table_with_a_row_per_value(
    cube: xr.Dataset, tmp_path: Path
) -> None:
    part = selection(cube)
    path = export.write(part, tmp_path / "x.parquet", "parquet")
    text = pd.read_csv(
        export.write(part, tmp_path / "x.csv", "csv"), comment="#", parse_dates=["time"]
    )
    found = pd.read_parquet(path)
    assert list(found) == list(text)
    keys = ["channel", "time", "y", "x"]
    found, text = (one.sort_values(keys, ignore_index=True) for one in (found, text))
    for name in (*keys, "valid"):
        np.testing.assert_array_equal(found[name], text[name])
    np.testing.assert_array_equal(found["value"], text["value"].astype(np.float32))
    points = shapely.from_wkb(found["geometry"].to_numpy())
    wanted = shapely.from_wkt(text["geometry"].to_numpy())
    np.testing.assert_allclose(
        shapely.get_coordinates(points), shapely.get_coordinates(wanted), rtol=0, atol=6e-8
    )
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"geo"])["columns"]["geometry"]["encoding"] == "WKB"
    assert metadata[b"licence"] == b"CC0-1.0"


@pytest.mark.parametrize("fmt", ["parquet", "geotiff-dates", "zarr"])
def test_memory_does_not_grow_with_dates(
    fmt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BUDGET", 8 << 20)
    peaks = []
    for times in (64, 192):  # 64 dates are decoded together
        url = str(tmp_path / f"{times}.zarr")
        ds = bands_cube(times=64, height=32, width=32, bands=("B04",))
        later = [ds.assign_coords(time=ds["time"] + np.timedelta64(k * 500, "D")) for k in range(3)]
        store.write(
            xr.concat(
                later[: times // 64],
                "time",
                data_vars="minimal",
                coords="minimal",
                compat="override",
            ),
            url,
        )
        part = export.select(store.open(url), channels=["B04"])
        gc.collect()
        tracemalloc.start()
        try:
            export.write(part, tmp_path / f"{times}.out", fmt)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 300_000  # three times as much would be held otherwise


# --- the layout of the research code ---


def test_the_research_layout_holds_features_by_feature_and_nan_where_not_usable(
    tmp_path: Path,
) -> None:
    ds = features_cube()
    second = ds["time"].values[1]
    part = export.select(ds, geometry=triangle(ds), start=second, channels=["F03", "F01"])
    found = open_zarr(export.write(part, tmp_path / "x.zarr.zip", "research"))
    assert list(found.data_vars) == ["features"]
    assert found["features"].dims == ("feature", "time", "y", "x")
    assert found["features"].dtype == np.float32
    assert found["feature"].values.tolist() == ["F01", "F03"]
    assert 0 < part.sizes["time"] < ds.sizes["time"]
    for name in ("time", "y", "x"):
        np.testing.assert_array_equal(found[name], part[name])
    expected = part["features"].where(part["valid"] == 1).transpose("feature", "time", "y", "x")
    np.testing.assert_array_equal(found["features"].values, expected.values)
    assert 0 < np.isfinite(expected).mean() < 0.7
    assert found.rio.crs.to_epsg() == 32631
    assert found.attrs["licence"] == "CC0-1.0"


def test_the_research_layout_comes_back_with_the_same_numbers(
    tmp_path: Path, workspace: Workspace
) -> None:
    ds = features_cube()
    path = export.write(export.select(ds), tmp_path / "x.zarr.zip", "research")
    folder = tmp_path / "x.zarr"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    again = foreign.read(folder)
    expected = ds["features"].where(ds["valid"] == 1)
    np.testing.assert_array_equal(again["features"].values, expected.values)
    np.testing.assert_array_equal(again["valid"], np.isfinite(expected.values).all(axis=1))
    np.testing.assert_array_equal(again["x"], ds["x"])
    assert contract.crs(again).epsg == 32631
    recipes.import_file(workspace, "again", folder)
    kept = catalogue.open(workspace, "again")["features"]
    step = float(np.nanmax(np.abs(expected))) / 127
    np.testing.assert_allclose(kept.values, expected.values, rtol=0, atol=0.501 * step)


def test_the_research_layout_is_for_features_only(tiny_bands: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds features; embed the cube first"):
        export.write(tiny_bands, tmp_path / "x.zip", "research")
    assert list(tmp_path.iterdir()) == []


def test_real_cube_round_trip(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    names = ["B04", "B08"]
    with xr.open_dataset(path) as source:
        part = source.isel(time=slice(0, 12))
        values = np.stack([part[name].values for name in names], axis=1).astype(np.float32)
        times, clear = part["time"].values, (part["cloud_mask"].values == 0).astype(np.uint8)
        grid = {"y": part["y"].values, "x": part["x"].values}
    text = {"units": "1", "long_name": "x"}
    ds = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), values, text),
            "valid": (("time", "y", "x"), clear, text),
        },
        coords={"time": times, "band": names, **grid},
        attrs={"attribution": "Contains modified Copernicus Sentinel data 2017"},
    ).odc.assign_crs("EPSG:32631")
    part = export.select(ds, channels=["B04", "NDVI"], end="2017-09-10")
    found = open_netcdf(export.write(part, tmp_path / "be.nc", "netcdf"))
    assert_same(found, part)
    count = found.sizes["time"]
    nir, red = values[:count, 1].astype(float), values[:count, 0].astype(float)
    np.testing.assert_allclose(found["si"][:, 0], (nir - red) / (nir + red), atol=1e-6)
    assert found.attrs["attribution"] == ds.attrs["attribution"]
