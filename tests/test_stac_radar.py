"""Sentinel-1 from STAC: plans of real items, RTC and GRD read from files and over HTTP."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import file_server
import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from scipy.interpolate import RegularGridInterpolator

from deepfeatures import contract, granule, grd, radar, rasters
from deepfeatures.stac import radar as stac_radar
from deepfeatures.stac import search

RTC_ITEM = "sentinel1_stactools/S1A_20200103_17RMJ_ASC.json"
GRD_ITEM = "sentinel1_stactools/S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13.json"
UTM = "EPSG:32631"


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


def _items(*features: dict) -> list[pystac.Item]:
    return [pystac.Item.from_dict(copy.deepcopy(f), migrate=False) for f in features]


def _around(feature: dict) -> GeoBox:
    """A small grid in the middle of an item."""
    west, south, east, north = feature["bbox"]
    return _grid((west + east) / 2, (south + north) / 2)


def _grid(lon: float, lat: float, crs: str = UTM) -> GeoBox:
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    x, y = round(x, -1), round(y, -1)
    return GeoBox.from_bbox((x - 320, y - 320, x + 320, y + 320), crs=crs, shape=(64, 64))


# ---------------------------------------------------------------- plans of real items


def test_the_real_grd_item_is_planned(shared_data):
    feature = _json(shared_data / "stac" / GRD_ITEM)
    source = stac_radar.plan_radar(_items(feature), _around(feature))
    (step,) = source.passes
    assert source.kind == stac_radar.GRD
    assert source.polarisations == ("VV", "VH")
    assert str(step.time) == "2021-08-09T17:39:53.153776000"
    assert (step.orbit, step.relative_orbit) == (radar.ASCENDING, 59)
    (part,) = step.slices
    for name in ("VV", "VH"):
        assert part.measurement[name].endswith(".tiff")
        assert f"-grd-{name.lower()}-" in part.measurement[name]
        assert "/calibration/calibration-" in part.calibration[name]
        assert "/calibration/noise-" in part.noise[name]
    assert source.attributes()["quantity"].startswith("sigma0")
    assert source.items() == (feature["id"],)
    assert source.attribution() == "Contains modified Copernicus Sentinel data 2021"


def test_the_real_rtc_item_is_planned(shared_data):
    feature = _json(shared_data / "stac" / RTC_ITEM)
    source = stac_radar.plan_radar(_items(feature), _grid(-81.9, 25.7, "EPSG:32617"))
    assert source.kind == stac_radar.RTC
    assert source.passes[0].relative_orbit == 121
    assert source.passes[0].slices[0].measurement["VH"].endswith("/Gamma0_VH.tif")
    assert source.attributes()["quantity"].startswith("gamma0")
    # its footprint is the western part of the tile
    with pytest.raises(ValueError, match="none of 1 items is a measurement"):
        stac_radar.plan_radar(_items(feature), _grid(-81.0, 25.7, "EPSG:32617"))


def test_items_of_the_planetary_computer_are_rtc_although_they_say_grd(shared_data):
    feature = _json(shared_data / "stac" / GRD_ITEM)
    feature["id"] += "_rtc"
    feature["collection"] = "sentinel-1-rtc"
    (item,) = _items(feature)
    assert item.properties["sar:product_type"] == "GRD"
    assert stac_radar.kind(item) == stac_radar.RTC


def test_real_slices_over_ice_are_one_pass_in_hh(shared_data):
    page = _json(shared_data / "stac/earth_search_v1/search_cql2_page1.json")["features"]
    slices = [f for f in page if f["collection"] == "sentinel-1-grd"]
    for feature in slices:
        feature["geometry"] = None  # they lie side by side
    source = stac_radar.plan_radar(_items(*slices), _around(slices[0]), catalog="earth-search")
    assert source.polarisations == ("HH",)
    (step,) = source.passes
    assert [part.item[17:32] for part in step.slices] == [
        "20250731T135608",
        "20250731T135637",
        "20250731T135702",
    ]
    # who reads from that bucket pays
    assert source.settings["AWS_REQUEST_PAYER"] == "requester"


def _moved(feature: dict, **fields) -> dict:
    feature = copy.deepcopy(feature)
    for key, value in fields.items():
        target = feature if key in ("id", "collection", "geometry") else feature["properties"]
        target[key.replace("__", ":")] = value
    return feature


def test_a_product_is_used_once_and_a_pass_is_one_satellite(shared_data):
    grd_item = _json(shared_data / "stac" / GRD_ITEM)
    again = _moved(
        grd_item,
        id=grd_item["id"] + "_0A12",
        s1__processing_datetime="2022-01-01T00:00:00Z",
    )
    first = _moved(grd_item, id=grd_item["id"] + "_6FF8")
    start = datetime.fromisoformat(grd_item["properties"]["start_datetime"])
    other = _moved(
        grd_item,
        id=grd_item["id"].replace("S1A", "S1B"),
        platform="sentinel-1b",
        sat__orbit_state="descending",
        start_datetime=(start + timedelta(minutes=3)).isoformat(),
    )
    # over the ascending node the relative orbit is another one
    follows = _moved(
        grd_item,
        id=grd_item["id"].replace("173953", "174018"),
        sat__relative_orbit=60,
        start_datetime=(start + timedelta(seconds=25)).isoformat(),
    )
    features = (other, first, follows, again)
    source = stac_radar.plan_radar(_items(*features), _around(grd_item))
    assert [[part.item for part in step.slices] for step in source.passes] == [
        [again["id"], follows["id"]],
        [other["id"]],
    ]
    template = source.template()
    assert template["orbit"].values.tolist() == [radar.ASCENDING, radar.DESCENDING]
    assert template["relative_orbit"].values.tolist() == [59, 59]
    assert (np.diff(template["time_s1"].values) > np.timedelta64(0)).all()
    assert all(template[name].attrs["long_name"] for name in template)
    one = stac_radar.plan_radar(_items(*features), _around(grd_item), direction="descending")
    assert [step.orbit for step in one.passes] == [radar.DESCENDING]
    assert pickle.loads(pickle.dumps(source)) == source


def test_items_that_cannot_be_planned_are_refused(shared_data):
    rtc, grd_item = (_json(shared_data / "stac" / name) for name in (RTC_ITEM, GRD_ITEM))
    place = _around(grd_item)
    with pytest.raises(ValueError, match="RTC and GRD; choose one collection"):
        stac_radar.plan_radar(_items(rtc, grd_item), place)
    with pytest.raises(ValueError, match="'up' is unknown; choose ascending"):
        stac_radar.plan_radar(_items(grd_item), place, direction="up")
    with pytest.raises(ValueError, match="a descending measurement of Sentinel-1 over the grid"):
        stac_radar.plan_radar(_items(grd_item), place, direction="descending")
    optical = _moved(grd_item, id="S2A_MSIL2A", collection="sentinel-2", sar__product_type=None)
    with pytest.raises(ValueError, match="neither RTC nor GRD; choose a collection"):
        stac_radar.plan_radar(_items(optical), place)


# ---------------------------------------------------------------- RTC

_SPLIT = 29
"""Row at which one slice ends and the next begins."""
_PASSES = (  # day of the series, direction, rows of each slice
    (0, "ascending", ((0, _SPLIT), (_SPLIT, 64))),
    (3, "descending", ((0, 64),)),
    (6, "ascending", ((0, 64),)),
    (9, "ascending", ((0, 64),)),
)


@pytest.fixture(scope="module")
def series(shared_data):
    """The first real dates of Belgium [dB] (time_s1, polarisation, y, x)."""
    raw = xr.open_dataset(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    stacked = xr.concat([raw["VV"], raw["VH"]], xr.Variable("polarisation", ["VV", "VH"]))
    ds = stacked.isel(time_s1=slice(0, len(_PASSES))).transpose("time_s1", ...).load()
    return ds.astype(np.float32)


@pytest.fixture(scope="module")
def grid(series):
    x, y = series["x"].values, series["y"].values
    return GeoBox.from_bbox((x[0] - 5, y[-1] - 5, x[-1] + 5, y[0] + 5), crs=UTM, shape=(64, 64))


def _cog(path: Path, power: np.ndarray, grid: GeoBox) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=power.shape[0],
        width=power.shape[1],
        count=1,
        dtype="float32",
        crs=str(grid.crs),
        transform=grid.transform,
        nodata=-32768,
        blocksize=128,
    ) as file:
        file.write(np.where(np.isnan(power), -32768, power).astype(np.float32), 1)


@pytest.fixture(scope="module")
def rtc(tmp_path_factory, shared_data, series, grid):
    """Folder with a static catalogue of RTC: real backscatter as linear power in COGs."""
    folder = tmp_path_factory.mktemp("rtc")
    model = _json(shared_data / "stac" / RTC_ITEM)
    features = []
    for index, (day, direction, parts) in enumerate(_PASSES):
        for number, (top, bottom) in enumerate(parts):
            start = datetime(2017, 8, 1, 17, 32, 36) + timedelta(days=day, seconds=25 * number)
            name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_slice{number}_rtc"
            power = 10.0 ** (series.values[index] / 10)
            # as in a swath: no value outside of the slice, in a file of the whole
            power[:, :top], power[:, bottom:] = np.nan, np.nan
            for channel, low in enumerate(("vv", "vh")):
                _cog(folder / name / f"iw-{low}.rtc.tiff", power[channel], grid)
            feature = _moved(
                model,
                id=name,
                collection="sentinel-1-rtc",
                sat__orbit_state=direction,
                sat__relative_orbit=161 if direction == "ascending" else 37,
                datetime=f"{start.isoformat()}Z",
                start_datetime=f"{start.isoformat()}Z",
                proj__epsg=32631,
            )
            feature["bbox"] = list(grid.extent.to_crs("EPSG:4326").boundingbox.bbox)
            feature["geometry"] = grid.extent.to_crs("EPSG:4326").json
            feature["links"] = []
            feature["assets"] = {
                low: {"href": f"./{name}/iw-{low}.rtc.tiff", "roles": ["data"]}
                for low in ("vv", "vh")
            }
            features.append(feature)
    page = {"type": "FeatureCollection", "features": features}
    (folder / "item_collection.json").write_text(json.dumps(page))
    return folder


@pytest.fixture(scope="module")
def source(rtc, grid):
    return stac_radar.find_radar(rtc, grid)


def test_passes_are_steps_and_slices_are_mosaicked(source, series, grid):
    assert [len(step.slices) for step in source.passes] == [2, 1, 1, 1]
    assert [step.orbit for step in source.passes] == [1, 2, 1, 1]
    assert [step.relative_orbit for step in source.passes] == [161, 37, 161, 161]
    window = stac_radar.read_radar(source, grid)
    assert window.lost == ()
    assert window.backscatter.dtype == np.float32
    # on its own pixels nothing is between pixels: what was written comes back
    assert np.allclose(window.backscatter, series.values, rtol=0, atol=1e-4)


@settings(max_examples=8)
@given(
    top=st.integers(0, 40), left=st.integers(0, 40), height=st.integers(1, 24),
    width=st.integers(1, 24),
)  # fmt: skip
def test_a_window_of_rtc_is_a_part_of_the_whole(source, series, grid, top, left, height, width):
    window = stac_radar.read_radar(source, grid[top : top + height, left : left + width])
    expected = series.values[..., top : top + height, left : left + width]
    assert np.allclose(window.backscatter, expected, rtol=0, atol=1e-4)


def test_between_pixels_power_is_interpolated_not_decibel(source, series, grid):
    between = grid.translate_pix(0.5, 0.0)
    got = stac_radar.read_radar(source, between).backscatter[1:, :, :, :-1]
    power = radar.to_power(series.values[1:])
    mean = radar.to_db((power[..., :-1] + power[..., 1:]) / 2)
    assert np.allclose(got, mean, rtol=0, atol=1e-3)
    db = (series.values[1:, ..., :-1] + series.values[1:, ..., 1:]) / 2
    assert np.abs(got - db).max() > 1


def test_a_cube_with_it_keeps_the_contract(source, tiny_bands):
    place = contract.geobox(tiny_bands)
    window = stac_radar.read_radar(source, place)
    dims = ("time_s1", "polarisation", "y", "x")
    cube = tiny_bands.merge(source.template())
    cube["backscatter"] = (dims, window.backscatter, source.attributes())
    assert contract.check(cube)["backscatter"].attrs["units"] == "dB"
    assert cube["orbit"].attrs["flag_meanings"].split()[2] == "descending"


def test_the_period_and_the_direction_are_searched(rtc, grid):
    source = stac_radar.find_radar(
        rtc, grid, start="2017-08-03", end="2017-08-08", direction="ascending"
    )
    assert [str(step.time)[:10] for step in source.passes] == ["2017-08-07"]


def test_a_broken_file_costs_what_it_holds_and_is_named(rtc, grid, series, tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "PAUSE", 0.001)
    folder = tmp_path / "damaged"
    shutil.copytree(rtc, folder)
    first, second = sorted(path.name for path in folder.glob("*_slice*"))[:2]
    (folder / first / "iw-vv.rtc.tiff").unlink()
    third = next(folder.glob("*20170807*"))
    (third / "iw-vh.rtc.tiff").write_bytes(b"II*\x00 this is no image")
    with file_server.serve(folder) as url:
        source = stac_radar.find_radar(f"{url}/item_collection.json", grid)
        window = stac_radar.read_radar(source, grid)
    assert [(loss["item"], loss["asset"]) for loss in window.lost] == [
        (first, "VV"),
        (third.name, "VH"),
    ]
    assert window.lost[0]["date"] == "2017-08-01T17:32:36"
    assert window.lost[0]["reason"].startswith("iw-vv.rtc.tiff: ")
    expected = series.values.copy()
    expected[0, 0, :_SPLIT] = np.nan
    expected[2, 1] = np.nan
    assert np.allclose(window.backscatter, expected, rtol=0, atol=1e-4, equal_nan=True)


def test_links_are_signed_and_signatures_are_not_told(rtc, grid, series, tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "PAUSE", 0.001)
    folder = tmp_path / "signed"
    shutil.copytree(rtc, folder)
    last = next(folder.glob("*20170810*"))
    for name in ("vv", "vh"):
        (last / f"iw-{name}.rtc.tiff").write_bytes(b"this is no image")
    asked = []

    def sign(href: str) -> str:
        asked.append(href)
        return f"{href}?sig=secret"

    with file_server.serve(folder) as url:
        source = stac_radar.find_radar(f"{url}/item_collection.json", grid)
        window = stac_radar.read_radar(source, grid[:8, :8], sign=sign)
    assert len(asked) == 2 * (2 + 1 + 1 + 1) - 2  # the first slice has all of this window
    assert np.allclose(window.backscatter[:3], series.values[:3, :, :8, :8], rtol=0, atol=1e-4)
    assert np.isnan(window.backscatter[3]).all()
    assert [loss["asset"] for loss in window.lost] == ["VV", "VH"]
    assert "secret" not in str(window.lost)


# ---------------------------------------------------------------- GRD

_SHAPE = (420, 460)
"""Lines and pixels of the image."""
_TURN = np.radians(12.0)


def _utm(line: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of a line and pixel of the image (0 is the first edge), as on a swath that leans."""
    east, north = 10.0 * pixel, -10.0 * line
    x = 500_000 + east * np.cos(_TURN) - north * np.sin(_TURN)
    return x, 5_630_000 + east * np.sin(_TURN) + north * np.cos(_TURN)


def _truth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Backscatter [dB] at a place."""
    return -12 + 4 * np.sin(x / 400) * np.cos(y / 500)


_NODES = np.array([0, 100, 200, 300, 419]), np.arange(0, 481, 40)
# 40 times the usual, so that rounding to whole numbers is of no weight
_GAIN = 16_000 + 4 * _NODES[0][:, None] + 8 * _NODES[1]
_FLOOR = 1_440_000 + 800 * _NODES[0][:, None] + 480 * _NODES[1]
_SEAM = 230  # pixel at which one sub-swath ends


def _words(values: np.ndarray) -> str:
    return " ".join(f"{value:.6e}" for value in np.ravel(values))


def _vectors(kind: str, name: str, table: np.ndarray) -> str:
    pixels = " ".join(str(p) for p in _NODES[1])
    return "".join(
        f"<{kind}><line>{line}</line><pixel count='{len(_NODES[1])}'>{pixels}</pixel>"
        f"<{name} count='{len(row)}'>{_words(row)}</{name}></{kind}>"
        for line, row in zip(_NODES[0], table, strict=True)
    )


def _calibration() -> bytes:
    vectors = _vectors("calibrationVector", "sigmaNought", _GAIN)
    text = f"<calibration><calibrationVectorList>{vectors}</calibrationVectorList></calibration>"
    return text.encode()


def _noise() -> bytes:
    block = (
        "<noiseAzimuthVector><swath>IW{n}</swath><firstAzimuthLine>0</firstAzimuthLine>"
        "<firstRangeSample>{first}</firstRangeSample><lastAzimuthLine>419</lastAzimuthLine>"
        "<lastRangeSample>{last}</lastRangeSample><line>0 419</line>"
        "<noiseAzimuthLut>{low} {high}</noiseAzimuthLut></noiseAzimuthVector>"
    )
    blocks = block.format(n=1, first=0, last=_SEAM - 1, low=1.0, high=1.1)
    blocks += block.format(n=2, first=_SEAM, last=459, low=1.3, high=1.2)
    vectors = _vectors("noiseRangeVector", "noiseRangeLut", _FLOOR)
    return (
        f"<noise><noiseRangeVectorList>{vectors}</noiseRangeVectorList>"
        f"<noiseAzimuthVectorList>{blocks}</noiseAzimuthVectorList></noise>"
    ).encode()


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Gain and noise at every pixel of the image, from a library's interpolation."""
    at = np.stack(np.meshgrid(*(np.arange(n) for n in _SHAPE), indexing="ij"), axis=-1)
    gain, floor = (RegularGridInterpolator(_NODES, t)(at) for t in (_GAIN, _FLOOR))
    line, pixel = at[..., 0] / 419, at[..., 1]
    return gain, floor * np.where(pixel < _SEAM, 1 + 0.1 * line, 1.3 - 0.1 * line)


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    """Folder with a GRD measurement whose sigma0 is known everywhere, and its annotations."""
    folder = tmp_path_factory.mktemp("grd")
    line, pixel = np.mgrid[0 : _SHAPE[0], 0 : _SHAPE[1]] + 0.5
    gain, floor = _tables()
    numbers = np.sqrt(10 ** (_truth(*_utm(line, pixel)) / 10) * gain**2 + floor)
    numbers = np.round(numbers).astype(np.uint16)
    numbers[:, :12] = 0  # the border of a swath
    to_degree = Transformer.from_crs(UTM, 4326, always_xy=True)
    points = []
    for row in np.linspace(0, _SHAPE[0], 8):
        for column in np.linspace(0, _SHAPE[1], 9):
            lon, lat = to_degree.transform(*_utm(row, column))
            points.append(GroundControlPoint(row=row, col=column, x=lon, y=lat, z=30.0))
    for low in ("vv", "vh"):
        with rasterio.open(
            folder / f"iw-{low}.tiff", "w", driver="GTiff", dtype="uint16", count=1, tiled=True,
            height=_SHAPE[0], width=_SHAPE[1], blockxsize=128, blockysize=128,
            gcps=points, crs="EPSG:4326",
        ) as file:  # fmt: skip
            file.write(numbers, 1)
        (folder / f"calibration-iw-{low}.xml").write_bytes(_calibration())
        (folder / f"noise-iw-{low}.xml").write_bytes(_noise())
    return folder


@pytest.fixture(scope="module")
def inside() -> GeoBox:
    """A grid within the image."""
    x, y = _utm(np.array(210.0), np.array(230.0))
    x, y = np.round(x, -1), np.round(y, -1)
    return GeoBox.from_bbox((x - 900, y - 800, x + 900, y + 800), crs=UTM, shape=(160, 180))


def _expected(grid: GeoBox) -> np.ndarray:
    x = grid.transform.c + grid.transform.a * (np.arange(grid.shape.x) + 0.5)
    y = grid.transform.f + grid.transform.e * (np.arange(grid.shape.y) + 0.5)
    return _truth(*np.meshgrid(x, y))


def _read(safe: Path, grid: GeoBox, *, quiet: bool = True) -> np.ndarray:
    return grd.read(
        str(safe / "iw-vv.tiff"),
        grid,
        calibration_href=str(safe / "calibration-iw-vv.xml"),
        noise_href=str(safe / "noise-iw-vv.xml") if quiet else None,
    )


def test_sigma0_is_what_was_put_into_the_numbers(safe, inside):
    db = radar.to_db(_read(safe, inside))
    assert np.abs(db - _expected(inside)).max() < 0.02
    # noise left in: what it adds is what the tables say
    loud = radar.to_db(_read(safe, inside, quiet=False))
    assert (loud > db).all()
    ratio = _FLOOR.min() / _GAIN.max() ** 2
    assert (radar.to_power(loud) - radar.to_power(db)).min() > 0.9 * ratio


@settings(max_examples=15)
@given(
    top=st.integers(0, 120), left=st.integers(0, 120), height=st.integers(1, 40),
    width=st.integers(1, 60),
)  # fmt: skip
def test_a_window_of_grd_is_a_part_of_the_whole(safe, inside, top, left, height, width):
    whole = _read(safe, inside)[top : top + height, left : left + width]
    part = _read(safe, inside[top : top + height, left : left + width])
    assert np.allclose(part, whole, rtol=1e-5, atol=0)


def test_outside_of_the_image_and_its_border_is_no_value(safe):
    x, y = _utm(np.array(0.0), np.array(0.0))
    corner = GeoBox.from_bbox((x - 300, y - 300, x + 300, y + 300), crs=UTM, shape=(60, 60))
    db = radar.to_db(_read(safe, corner))
    known = np.isfinite(db)
    assert 0 < known.sum() < 1500
    assert np.abs(db - _expected(corner))[known].max() < 0.02
    far = corner.translate_pix(2000, 0)
    assert np.isnan(_read(safe, far)).all()


def test_coarse_grids_take_the_mean_of_power(safe, inside):
    coarse = inside.zoom_to((80, 90))
    fine = _read(safe, inside).reshape(80, 2, 90, 2).mean(axis=(1, 3))
    assert np.allclose(_read(safe, coarse), fine, rtol=1e-5)


def test_tables_are_interpolated_as_a_library_does():
    gain, floor = _tables()
    lines, pixels = np.arange(*(30, 350)), np.arange(*(100, 460))
    found = grd.calibration(_calibration()).at(lines, pixels)
    assert np.allclose(found, gain[30:350, 100:], rtol=1e-6)
    found = grd.noise(_noise()).at(lines, pixels)
    assert np.allclose(found, floor[30:350, 100:], rtol=1e-6)
    # beyond the nodes the nearest one counts
    assert grd.calibration(_calibration()).at(np.array([-5, 900]), np.array([0])).ravel().tolist() \
        == pytest.approx([_GAIN[0, 0], _GAIN[-1, 0]])  # fmt: skip


def test_noise_of_old_processors_is_read():
    vectors = _vectors("noiseVector", "noiseLut", _FLOOR)
    table = grd.noise(f"<noise><noiseVectorList>{vectors}</noiseVectorList></noise>".encode())
    assert table.at(np.array([100]), np.array([40]))[0, 0] == pytest.approx(_FLOOR[1, 1])
    assert table.blocks == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not plain XML"),
        (b"<html>404</html>", "no calibrationVector with sigmaNought"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "not plain XML"),
        (_calibration().replace(b"count='13'>0 40", b">40 0"), "does not fit its pixels"),
        (_calibration().replace(b"1.600000e+04", b"nan"), "is not finite"),
        (_calibration().replace(b"1.600000e+04", b"0"), "not above zero"),
        (_calibration().replace(b"<line>100</line>", b""), "without line"),
        (b"<a>" + b" " * granule.MAX_BYTES + b"</a>", "longer than 8,388,608 bytes"),
    ],
    ids=["empty", "other", "entity", "order", "nan", "zero", "line", "long"],
)
def test_annotations_that_are_not_what_they_should_be(text, reason):
    with pytest.raises(ValueError, match=reason):
        grd.calibration(text)


@pytest.fixture(scope="module")
def grd_features(shared_data, safe, inside):
    """Two items modelled on the real one, with the second measurement damaged."""
    model = _json(shared_data / "stac" / GRD_ITEM)
    features = []
    for name, start in (("20210809T173953", 0), ("20210821T173953", 12)):
        moment = datetime(2021, 8, 9, 17, 39, 53) + timedelta(days=start)
        feature = _moved(
            model,
            id=model["id"].replace("20210809T173953", name),
            start_datetime=f"{moment.isoformat()}Z",
            datetime=f"{moment.isoformat()}Z",
        )
        feature["geometry"] = inside.extent.to_crs("EPSG:4326").json
        feature["bbox"] = list(inside.extent.to_crs("EPSG:4326").boundingbox.bbox)
        feature["links"] = []
        for low in ("vv", "vh"):
            assets = feature["assets"]
            assets[low]["href"] = f"./iw-{low}.tiff"
            for kind in ("calibration", "noise"):
                assets[f"schema-{kind}-{low}"]["href"] = f"./{kind}-iw-{low}.xml"
        features.append(feature)
    features[1]["assets"]["schema-calibration-vh"]["href"] = "./missing.xml"
    features[1]["assets"]["vv"]["href"] = "./calibration-iw-vv.xml"
    return features


def test_grd_is_read_over_http_and_losses_are_named(
    grd_features, safe, inside, tmp_path, monkeypatch
):
    monkeypatch.setattr(rasters, "PAUSE", 0.001)
    folder = tmp_path / "served"
    shutil.copytree(safe, folder)
    page = {"type": "FeatureCollection", "features": grd_features}
    (folder / "item_collection.json").write_text(json.dumps(page))
    window_grid = inside[20:70, 40:100]
    with file_server.serve(folder) as url:
        bbox = window_grid.extent.to_crs("EPSG:4326").boundingbox.bbox
        items = search.find(f"{url}/item_collection.json", bbox)
        source = stac_radar.plan_radar(items, window_grid)
        window = stac_radar.read_radar(source, window_grid)
    assert source.kind == stac_radar.GRD
    assert "less thermal noise" in source.step()
    # the transform of the items is not that of the files
    assert items[0].properties["proj:epsg"] == 4326
    expected = _expected(window_grid)
    assert np.abs(window.backscatter[0] - expected).max() < 0.02
    assert np.isnan(window.backscatter[1]).all()
    assert [(loss["asset"], loss["date"][:10]) for loss in window.lost] == [
        ("VV", "2021-08-21"),
        ("VH", "2021-08-21"),
    ]
    assert window.lost[0]["reason"].startswith("calibration-iw-vv.xml: ")
    assert window.lost[1]["reason"].startswith("missing.xml: ")


def test_a_measurement_without_calibration_is_named(grd_features, safe, inside):
    feature = copy.deepcopy(grd_features[0])
    for low in ("vv", "vh"):
        feature["assets"][low]["href"] = str(safe / f"iw-{low}.tiff")
        del feature["assets"][f"schema-calibration-{low}"]
    source = stac_radar.plan_radar(_items(feature), inside)
    window = stac_radar.read_radar(source, inside[:4, :4])
    assert np.isnan(window.backscatter).all()
    assert all("no calibration annotation" in loss["reason"] for loss in window.lost)


def test_a_map_is_no_grd_measurement(rtc, safe, grid):
    picture = next(rtc.glob("*20170804*")) / "iw-vv.rtc.tiff"
    with pytest.raises(rasters.Unreadable, match="no ground control points"):
        grd.read(str(picture), grid, calibration_href=str(safe / "calibration-iw-vv.xml"))
