"""STAC: plans made of real answers, and cubes read from files, over HTTP and through an API."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import stac_server
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

from deepfeatures import contract, foreign, stac
from deepfeatures.aoi import AOI
from deepfeatures.stac import plan, search
from deepfeatures.stac.providers import COLOURS, PLAIN, SIZED, provider
from deepfeatures.stac.signing import signer

BOX = (3.0193042, 50.8130854, 3.028392, 50.8188427)
CDSE = "cdse/S2A_MSIL2A_20200301T090901_N0500_R050_T35UPU_20230630T033416.json"
PC = "planetary_computer/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json"
PC_RASTER = PC.replace(".json", "_raster_ext.json")
ES0 = "earth_search_v0/S2A_28QCH_20200714_0_L2A.json"
ES1 = "earth_search_v1/search_cql2_page1.json"


def _items(path: Path) -> list[pystac.Item]:
    data = json.loads(path.read_text())
    return [
        pystac.Item.from_dict(feature, migrate=False) for feature in data.get("features", [data])
    ]


@pytest.fixture(scope="module")
def answers(shared_data):
    """Items of one of the real answers."""
    return lambda path: _items(shared_data / "stac" / path)


@pytest.fixture(scope="module")
def belgium(shared_data):
    """The cube that the COGs were made of."""
    return foreign.read(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc").load()


@pytest.fixture(scope="module")
def api(shared_data):
    """A STAC API with files beside it, on loopback."""
    with stac_server.serve(shared_data / "cog") as running:
        yield running


@pytest.fixture
def fresh_api(shared_data):
    """The same on a port of its own: GDAL keeps what it has read of an address."""
    with stac_server.serve(shared_data / "cog") as running:
        yield running


def _of(items: list[pystac.Item], collection: str) -> pystac.Item:
    return next(item for item in items if item.collection_id == collection)


# ---------------------------------------------------------------- plans made of real answers


def test_the_offset_comes_from_metadata_in_the_order_of_trust(answers):
    def of(item, name):
        return plan.offset(item, item.assets[name])

    # acquired in 2020, reprocessed to 05.00: the date would say 0
    assert of(answers(CDSE)[0], "B04_10m") == -0.1
    assert of(answers(PC)[0], "B04") == 0.0
    assert of(answers(PC_RASTER)[0], "B04") == 0.0
    assert of(answers(ES0)[0], "B04") == 0.0
    page = answers(ES1)
    # the same scene twice: the pixels of the older collection have the offset already, although
    # its raster:bands says -0.1 too
    done, c1 = _of(page, "sentinel-2-l2a"), _of(page, "sentinel-2-c1-l2a")
    assert done.assets["red"].extra_fields["raster:bands"][0]["offset"] == -0.1
    assert of(done, "red") == 0.0
    assert of(c1, "red") == -0.1


def test_without_raster_extension_the_baseline_decides(answers):
    (item,) = answers(PC)
    assert plan.baseline(item) == "02.12"
    for number, expected in (("03.01", 0.0), ("04.00", -0.1), ("05.11", -0.1)):
        item.properties["s2:processing_baseline"] = number
        assert plan.offset(item, item.assets["B04"]) == expected
    for key in ("s2:processing_baseline", "s2:product_uri", "s2:datatake_id"):
        item.properties.pop(key)
    assert plan.baseline(item) is None
    with pytest.raises(ValueError, match="neither an offset nor a processing baseline; say"):
        plan.offset(item, item.assets["B04"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [(CDSE, "05.00"), (PC, "02.12"), (ES0, "02.14"), (ES1, "05.11")],
)
def test_the_baseline_is_found_in_all_dialects(answers, path, expected):
    found = [item for item in answers(path) if "2" in str(item.collection_id)]
    assert {plan.baseline(item) for item in found} == {expected}


def test_assets_are_found_in_all_dialects(answers):
    for path, naming in ((PC, PLAIN), (ES0, PLAIN), (CDSE, SIZED)):
        names = plan.asset_names(answers(path)[0])
        assert list(names) == list(naming)
        assert all(names[band] in naming[band] for band in naming)
    colours = plan.asset_names(_of(answers(ES1), "sentinel-2-c1-l2a"))
    assert colours == {band: names[0] for band, names in COLOURS.items()}
    assert colours["B8A"] == "nir08"
    assert colours["B08"] == "nir"


def test_of_several_sizes_the_one_that_fits_the_grid_is_taken(answers):
    (item,) = answers(CDSE)
    assert plan.asset_names(item, 10)["B04"] == "B04_10m"
    assert plan.asset_names(item, 20)["B04"] == "B04_20m"
    assert plan.asset_names(item, 60)["B04"] == "B04_60m"
    assert plan.asset_names(item, 100)["SCL"] == "SCL_60m"
    assert plan.asset_names(item, 10)["B05"] == "B05_20m"
    assert plan.asset_names(item, 10)["B01"] == "B01_20m"
    assert plan.native(item, item.assets["B01_20m"], "B01") == 20


def test_unusual_asset_names_are_found_by_their_band(answers):
    (item,) = answers(PC)
    item.assets = {f"file_{key}": asset for key, asset in item.assets.items()}
    names = plan.asset_names(item)
    assert names["B8A"] == "file_B8A"
    assert len(names) == 12


@pytest.mark.parametrize(
    ("path", "expected"), [(CDSE, "EPSG:32635"), (PC, "EPSG:32606"), (ES0, "EPSG:32628")]
)
def test_the_crs_is_found_in_both_versions_of_the_extension(shared_data, answers, path, expected):
    assert plan.common_crs(answers(path)) == expected
    raw = json.loads((shared_data / "stac" / path).read_text())
    assert plan.common_crs([pystac.Item.from_dict(raw, migrate=True)]) == expected


def test_angles_are_read_in_all_dialects(answers):
    cdse = plan.angles(answers(CDSE)[0])
    assert cdse["sun_zenith"] == pytest.approx(61.395, abs=1e-3)  # of the granule's own XML
    assert cdse["view_zenith"] == pytest.approx(4.0324, abs=1e-3)
    assert plan.angles(answers(PC)[0]) == {
        "sun_zenith": pytest.approx(37.9129, abs=1e-3),
        "sun_azimuth": pytest.approx(170.1480, abs=1e-3),
    }


def test_granules_of_one_pass_are_one_date(answers):
    strip = answers("planetary_computer/site1-20200606-tall-strip-africa.geojson")
    (date,) = plan.dates(strip, ["B04"], 27.0)
    assert len(date.scenes) == 9
    assert {scene.assets["B04"].offset for scene in date.scenes} == {0.0}
    dates = plan.dates(
        answers("planetary_computer/site2-2020_jun_jul-35MNM.geojson"), ["B04"], 27.0
    )
    assert [str(date.time)[:10] for date in dates][:2] == ["2020-06-01", "2020-06-06"]
    assert len(dates) == 13
    july = plan.dates(answers("cdse/search_sentinel-2-l2a_2020-07.json"), ["B04"], 9.0)
    assert [len(date.scenes) for date in july] == [2, 2]


@pytest.mark.parametrize(("path", "ends"), [(CDSE, "MTD_TL.xml"), (PC, "MTD_TL.xml")])
def test_the_granule_metadata_are_found_in_all_dialects(answers, path, ends):
    (date,) = plan.dates(answers(path), ["B04"], 27.0)
    assert date.scenes[0].metadata.endswith(ends)


def test_the_newest_processing_of_a_granule_wins(answers):
    (new,) = answers(CDSE)
    old = copy.deepcopy(new)
    old.id = old.id.replace("N0500", "N0209").replace("20230630T033416", "20200301T120000")
    old.properties["processing:version"] = "02.09"
    assert plan.newest([old, new], 27.0) == [new]
    # the rest of a tile whose datastrip ended inside is no double
    rest = copy.deepcopy(new)
    rest.id = rest.id.replace("033416", "033417")
    assert plan.newest([new, rest], 27.0) == [new, rest]
    # nor are another tile and another day
    elsewhere, later = copy.deepcopy(old), copy.deepcopy(old)
    elsewhere.properties["grid:code"] = "MGRS-35UQU"
    later.datetime = new.datetime + timedelta(days=5)
    assert plan.newest([new, elsewhere, later], 27.0) == [new, elsewhere, later]


def test_one_scene_in_several_collections_is_known_as_one(answers):
    page = answers(ES1)
    c1, l2a = (_of(page, name) for name in ("sentinel-2-c1-l2a", "sentinel-2-l2a"))
    assert plan._granule(c1, -62.0)[:2] == plan._granule(l2a, -62.0)[:2] == ("sentinel-2b", "20EPT")


@given(
    st.lists(st.integers(0, 40 * 24 * 60), min_size=1, max_size=25),
    st.floats(-180, 180),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_dates_use_each_item_once_and_are_one_step_per_utc_day(minutes, longitude, seed):
    rng = np.random.default_rng(seed)
    items = []
    for index, minute in enumerate(minutes):
        moment = datetime(2022, 1, 10) + timedelta(minutes=minute)
        item = pystac.Item(f"item{index}", None, None, moment, {})
        fields = {"raster:offset": float(rng.choice([0.0, -0.1]))}
        item.add_asset("B04", pystac.Asset("B04.tif", extra_fields=fields))
        items.append(item)
    dates = plan.dates(items, ["B04"], longitude)
    used = [scene for date in dates for scene in date.scenes]
    assert sorted(scene.item for scene in used) == sorted(item.id for item in items)
    times = np.array([date.time for date in dates])
    assert np.all(np.diff(times) > np.timedelta64(0))
    assert len(set(times.astype("datetime64[D]"))) == len(times)
    by_id = {item.id: item for item in items}
    for scene in used:
        item = by_id[scene.item]
        assert scene.assets["B04"].offset == plan.offset(item, item.assets["B04"])


def test_presets_are_known_by_name_and_by_address(answers):
    assert set(stac.PROVIDERS) == {"earth-search", "planetary-computer", "cdse"}
    for name, entry in stac.PROVIDERS.items():
        assert provider(name) is provider(f"{entry.url}/collections/x") is entry
        assert set(entry.assets) == {*PLAIN}
    assert provider("http://127.0.0.1/stac") is None
    # each table fits the answers of its service
    for path, name in ((PC, "planetary-computer"), (CDSE, "cdse"), (ES1, "earth-search")):
        entry = stac.PROVIDERS[name]
        item = next(i for i in answers(path) if i.collection_id == entry.collection)
        assert all(set(names) & set(item.assets) for names in entry.assets.values())


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_only_links_of_the_planetary_computer_are_signed():
    sign = signer("planetary-computer")
    assert sign("http://127.0.0.1/B04.tif") == "http://127.0.0.1/B04.tif"
    assert signer("http://127.0.0.1/stac")("s3://bucket/B04.tif") == "s3://bucket/B04.tif"


# ------------------------------------------------------------------------------ whole cubes


def _assert_same(ds: xr.Dataset, cube: xr.Dataset) -> None:
    assert np.array_equal(ds["time"], cube["time"])
    assert contract.channels(ds) == contract.channels(cube)
    assert np.array_equal(ds["x"], cube["x"])
    assert np.array_equal(ds["y"], cube["y"])
    for name in ("scl", "valid"):
        assert ds[name].dtype == np.uint8
        assert np.array_equal(ds[name], cube[name]), name
    assert ds["reflectance"].dtype == np.float32
    for band in contract.channels(cube):
        same = np.array_equal(
            ds["reflectance"].sel(band=band), cube["reflectance"].sel(band=band), equal_nan=True
        )
        assert same, band


def test_a_static_catalogue_gives_the_source_cube_back(shared_data, belgium):
    ds = stac.load(contract.geobox(belgium), catalog=shared_data / "cog" / "be_31UDS_stac")
    assert ds["reflectance"].chunks[0] == (1,) * 118
    _assert_same(ds.load(), belgium)
    for name in foreign.ANGLES:
        np.testing.assert_allclose(ds[name], belgium[name], atol=1e-4)
    assert len(json.loads(ds.attrs["source_items"])) == 118
    steps = " ".join(json.loads(ds.attrs["processing"]))
    assert "offset [0.0]" in steps
    assert "B05 nearest" in ds["reflectance"].attrs["resampling"]
    assert ds.attrs["attribution"].endswith("2017-2018")
    assert "licence" in ds.attrs


def test_the_api_gives_the_source_cube_back_in_pages_and_ranges(fresh_api, belgium):
    ds = stac.load(
        contract.geobox(belgium),
        catalog=fresh_api.url,
        collection="be-31uds-s2",
        start="2017-08-04",
        end="2018-11-27",
    ).load()
    _assert_same(ds, belgium)
    searches = [path for method, path, _, _ in fresh_api.requests if path.startswith("/search")]
    assert len(searches) == 3, "118 items in pages of 50"
    files = [r for r in fresh_api.requests if r[1].endswith(".tif") and r[0] == "GET"]
    assert len({path for _, path, _, _ in files}) == 118 * 11
    assert all(status == 206 and asked.startswith("bytes=") for _, _, asked, status in files)
    # with readdir, GDAL would ask for the folder of every file
    assert not [
        path for _, path, _, _ in fresh_api.requests if path[:6] == "/files" and path[-1] == "/"
    ]


def test_a_static_catalogue_over_http_is_read_by_window(fresh_api, belgium):
    ds = stac.load(
        contract.geobox(belgium),
        catalog=f"{fresh_api.url}/files/be_31UDS_stac/collection.json",
        start="2018-06-01",
        end="2018-07-01",
    )
    assert not [path for _, path, _, _ in fresh_api.requests if path.endswith(".tif")]
    part = belgium.sel(time=slice("2018-06-01", "2018-07-01"))
    window = ds["reflectance"].sel(band="B8A").isel(time=2, y=slice(8, 20), x=slice(30, 40)).load()
    expected = part["reflectance"].sel(band="B8A").isel(time=2, y=slice(8, 20), x=slice(30, 40))
    assert np.array_equal(window, expected, equal_nan=True)
    assert {
        path.rsplit("/", 1)[1] for _, path, _, _ in fresh_api.requests if path.endswith(".tif")
    } == {"B8A.tif"}
    _assert_same(ds.load(), part)


def test_the_collection_page_of_an_api_is_an_address_too(api, belgium):
    ds = stac.load(
        contract.geobox(belgium),
        catalog=f"{api.url}/collections/be-31uds-s2",
        start="2018-06-28",
        end="2018-06-28",
        bands=["B04", "B02"],
    )
    day = belgium.sel(time="2018-06-28", band=["B02", "B04"])
    _assert_same(ds.load(), day)


@pytest.mark.parametrize("kind", ["file", "api"])
def test_both_ends_of_the_period_are_included_and_may_be_open(shared_data, api, kind):
    catalog = api.url if kind == "api" else shared_data / "cog/be_31UDS_stac/item_collection.json"

    def days(**period):
        found = search.find(catalog, BOX, collection="be-31uds-s2", **period)
        return sorted(str(item.datetime.date()) for item in found)

    assert len(days()) == 118
    assert days(end="2017-08-14") == ["2017-08-04", "2017-08-14"]
    assert days(start="2018-11-22") == ["2018-11-22", "2018-11-27"]
    assert days(start="2017-08-05", end="2017-08-24") == ["2017-08-14", "2017-08-24"]


def test_an_area_is_put_on_the_snapped_grid(shared_data, belgium):
    aoi = AOI(
        "field",
        box(3.0215, 50.8145, 3.0255, 50.817),
        start=datetime(2018, 6, 28).date(),
        end=datetime(2018, 6, 28).date(),
        resolution=20,
    )
    ds = stac.load(aoi, catalog=shared_data / "cog" / "be_31UDS_stac").load()
    grid = contract.geobox(ds)
    assert grid.resolution.x == 20
    assert np.allclose(np.array(grid.boundingbox.bbox) % 20, 0)
    # 20 m bands are the file's own pixels, 10 m bands the mean of four
    day = belgium.sel(time="2018-06-28")
    native = day["reflectance"].sel(band="B05", x=ds["x"] - 5, y=ds["y"] + 5)
    assert np.array_equal(ds["reflectance"].sel(band="B05"), native)
    four = day["reflectance"].sel(band="B04").coarsen(y=2, x=2).mean()
    mean = four.sel(x=ds["x"], y=ds["y"])
    np.testing.assert_allclose(ds["reflectance"].sel(band="B04"), mean, atol=1e-4)
    assert "B04 average, B05 nearest" in ds["reflectance"].attrs["resampling"]


def test_a_square_of_the_western_sahara_at_its_own_resolutions(shared_data, api):
    folder = shared_data / "cog" / "S2A_29RKH_20200219_0_L2A"
    with rasterio.open(folder / "B04.tif") as file:
        grid = GeoBox(file.shape, file.transform, str(file.crs))
    ds = stac.load(grid, catalog=folder / "item.json").load()
    assert contract.channels(ds) == list(PLAIN)[:-1]
    assert ds["reflectance"].shape == (1, 12, 1098, 1098)
    for band, times in (("B04", 1), ("B11", 2), ("B01", 6)):
        with rasterio.open(folder / f"{band}.tif") as file:
            repeated = file.read(1).repeat(times, 0).repeat(times, 1)[:1098, :1098]
        found = np.nan_to_num(ds["reflectance"].sel(band=band).values[0].astype(float))
        assert np.array_equal(np.round(found * 1e4), repeated), band
    assert float(ds["sun_zenith"][0]) == pytest.approx(90 - 48.293, abs=1e-3)
    # a part of it by place, over HTTP, on the items' own CRS
    part = stac.load(
        (-11.5, 24.7, -11.4, 24.8),
        catalog=api.url,
        collection="sentinel-2-l2a-fixture",
        resolution=100,
        bands=["B04", "B12"],
        crs="items",
        chunk=64,
    )
    assert max(part["reflectance"].chunks[2]) == 64
    part = part.load()
    assert str(contract.crs(part)) == "EPSG:32629"
    assert part["reflectance"].notnull().all()
    assert 0.3 < float(part["reflectance"].sel(band="B04").median()) < 0.6, "bright desert"


def _scene(folder: Path, name: str, number: int, columns: slice, offset: float) -> pystac.Item:
    """Write a granule of 8 x 8 pixels that has values in some columns only."""
    transform = from_origin(500_000, 5_600_000, 10, 10)
    item = pystac.Item(
        name,
        mapping(box(2.99, 50.5, 3.01, 50.6)),
        [2.99, 50.5, 3.01, 50.6],
        datetime(2021, 5, 3, 10, 40, number % 60),
        {"proj:code": "EPSG:32631"},
        collection="tiny",
    )
    for band, value, dtype in (("B04", number, "uint16"), ("SCL", 4, "uint8")):
        data = np.zeros((8, 8), dtype)
        data[:, columns] = value
        path = folder / f"{name}_{band}.tif"
        with rasterio.open(
            path, "w", "GTiff", 8, 8, 1, "EPSG:32631", transform, dtype, nodata=0
        ) as file:
            file.write(data, 1)
        item.add_asset(band, pystac.Asset(path.name, extra_fields={"raster:offset": offset}))
    return item


def test_granules_of_a_day_with_different_offsets_are_decoded_before_they_are_merged(tmp_path):
    left = _scene(tmp_path, "left", 1500, slice(0, 5), -0.1)
    right = _scene(tmp_path, "right", 700, slice(3, 7), 0.0)
    path = tmp_path / "items.json"
    path.write_text(json.dumps(pystac.ItemCollection([right, left]).to_dict()))
    grid = GeoBox((8, 8), from_origin(500_000, 5_600_000, 10, 10), "EPSG:32631")
    ds = stac.load(grid, catalog=path).load()
    assert ds.sizes["time"] == 1
    row = ds["reflectance"].sel(band="B04").values[0, 0]
    # `left` was acquired first (10:40:00), so its values win where both are
    np.testing.assert_allclose(row, [0.05] * 5 + [0.07] * 2 + [np.nan], atol=1e-6)
    assert ds["valid"].values[0, 0].tolist() == [1] * 7 + [0]
    forced = stac.load(grid, catalog=path, offset=-0.02).load()
    np.testing.assert_allclose(
        forced["reflectance"].values[0, 0, 0], [0.13] * 5 + [0.05] * 2 + [np.nan], atol=1e-6
    )


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"start": "2001-01-01", "end": "2001-02-01"}, ValueError, "no items .*widen the period"),
        ({"area": (10.0, 50.0, 10.01, 50.01)}, ValueError, "no items .* check the place"),
        ({"collection": "landsat"}, ValueError, "no collection 'landsat'; choose one of be-31uds"),
        ({"bands": ["B10"]}, ValueError, "'B10' is not among B02"),
        ({"start": "2018-02-01", "end": "2018-01-01"}, ValueError, "swap the two dates"),
        ({"start": "first of May"}, ValueError, "write it as YYYY-MM-DD"),
        ({"area": (3.0, 50.0, 2.0, 51.0)}, ValueError, "west < east"),
        ({"area": (float("nan"), 50.0, 2.0, 51.0)}, ValueError, "four numbers"),
        ({"catalog": "nowhere/catalog.json"}, FileNotFoundError, "no catalogue nowhere"),
        ({"resolution": 0.0}, ValueError, "metres above zero"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "api"])
def test_bad_input_gets_one_clear_sentence(shared_data, api, kind, options, error, words):
    catalog = api.url if kind == "api" else shared_data / "cog/be_31UDS_stac/item_collection.json"
    usual = {"area": BOX, "catalog": catalog, "collection": "be-31uds-s2"}
    arguments = {**usual, **options}
    with pytest.raises(error, match=words) as caught:
        stac.load(arguments.pop("area"), **arguments)
    assert "\n" not in str(caught.value)


def test_what_is_no_catalogue_or_does_not_answer_is_said(api, tmp_path):
    with pytest.raises(ConnectionError, match="cannot be reached .* check the address"):
        search.find("http://127.0.0.1:9/stac", BOX)
    with pytest.raises(ConnectionError, match="status 404"):
        search.find(f"{api.url}/nothing", BOX)
    with pytest.raises(ValueError, match="several collections; choose one of be-31uds-s2"):
        search.find(api.url, BOX)
    with pytest.raises(FileNotFoundError, match="has none of catalog.json"):
        search.find(tmp_path, BOX)
    (tmp_path / "catalog.json").write_text("<html>")
    with pytest.raises(ValueError, match="not a STAC document"):
        search.find(tmp_path, BOX)
    (tmp_path / "catalog.json").write_text('{"type": "Dashboard"}')
    with pytest.raises(ValueError, match="no STAC catalogue .*'Dashboard'"):
        search.find(tmp_path, BOX)


def test_items_that_are_not_level_2a_are_refused(shared_data):
    page = shared_data / "stac" / ES1
    with pytest.raises(ValueError, match=r"no scene classification .* Level-2A"):
        stac.load((-40.3, -4.7, -40.0, -4.6), catalog=page, collection="sentinel-2-l1c")
