"""Band cubes from a catalogue with granule metadata: place, correction, losses, attributes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import made_stac
import numpy as np
import pytest
import shapely

from deepfeatures import catalogue, contract, cube, granule, grid, makers, stac
from deepfeatures.__main__ import main
from deepfeatures.aoi import AOI
from deepfeatures.settings import workspace

PERIOD = {"start": "2018-01-01", "end": "2018-12-31"}


@pytest.fixture(scope="module")
def made(shared_data, tmp_path_factory) -> Path:
    """A catalogue of 96 x 96 px and 4 dates."""
    folder = tmp_path_factory.mktemp("made") / "stac"
    made_stac.make(shared_data, folder, 96, 4)
    return folder


@pytest.fixture(scope="module")
def centre(made) -> dict[str, float]:
    lon, lat = made_stac.centre(made)
    return {"lat": lat, "lon": lon}


def build(tmp_path, made, area, **options):
    ws = workspace(tmp_path)
    options = {"clouds": "scl", "nbar": "off", **PERIOD, **options}
    cube.build(ws, "made", area=area, catalog=str(made), **options)
    return catalogue.open(ws, "made").load()


def test_a_centre_in_pixels_or_metres_a_box_and_a_polygon_say_the_same_place(made, centre):
    pixels = makers.area(**centre, edge_size=32)
    assert makers.area(**centre, edge_size=320, units="m") == pixels
    bounds = pixels.geographic_extent.buffer(-1e-7).boundingbox.bbox
    polygon = AOI("field", shapely.box(*bounds))
    for area in (makers.area(bounds), makers.area(polygon)):
        found = stac.sources(area, catalog=made, **PERIOD)
        assert found.geobox.resolution == pixels.resolution
        assert found.geobox.extent.contains(pixels.extent.buffer(-5))
    for wrong in ({}, {**centre, "edge_size": 3, "shape": bounds}, {"lat": 50.0}):
        with pytest.raises(ValueError, match="in one way|needs all of"):
            makers.area(**wrong)


def test_reflectance_is_corrected_by_the_factor_of_its_granule(tmp_path, made, centre):
    area = grid.square(**centre, edge_size=64)
    seen = build(tmp_path / "off", made, area)
    corrected = build(tmp_path / "grid", made, area, nbar="grid")
    (path,) = sorted(made.glob("*20180101*/MTD_TL.xml"))
    angles = granule.parse(path.read_bytes())
    for band in ("B02", "B08", "B12"):
        factor = granule.c_window(angles, contract.geobox(seen), [band])[0]
        assert not np.allclose(factor, 1, atol=0.005), "the sample must be a view from aside"
        wanted = seen["reflectance"].sel(band=band).values * factor
        found = corrected["reflectance"].sel(band=band).values
        np.testing.assert_allclose(found, wanted, atol=0.6e-4)
    for band in ("B01", "B8A", "B09"):
        same = np.array_equal(
            seen["reflectance"].sel(band=band), corrected["reflectance"].sel(band=band),
            equal_nan=True,
        )  # fmt: skip
        assert same, band
    assert corrected["nbar"].values.tolist() == [1] * 4
    assert "nbar" not in seen
    steps = json.loads(corrected.attrs["processing"])
    assert any("B01, B8A, B09 have no coefficients" in step for step in steps)
    assert len(list((tmp_path / "grid" / "angles").iterdir())) == 4, "angles are kept"


def test_scene_angles_serve_where_there_are_no_others(tmp_path, shared_data):
    where = {
        "catalog": shared_data / "cog" / "be_31UDS_stac" / "item_collection.json",
        "start": "2018-06-20",
        "end": "2018-07-20",
    }
    source = stac.sources((3.0215, 50.8145, 3.0255, 50.817), nbar="grid", **where)
    assert set(source.nbar) == {0}, "mean angles of a tile are only used when asked for"
    source = stac.sources((3.0215, 50.8145, 3.0255, 50.817), nbar="scene", **where)
    assert set(source.nbar) == {2}
    plain = stac.sources((3.0215, 50.8145, 3.0255, 50.817), **where)
    window = source.geobox[:4, :4]
    here, there = (stac.read(s, window).reflectance[5, 0].astype(float) for s in (source, plain))
    ratio = (here - 1000) / (there - 1000)
    assert np.ptp(ratio) < 0.02
    assert 0.8 < ratio.mean() < 1.2
    assert ratio.mean() != pytest.approx(1, abs=1e-3)


def test_a_whole_cube_is_corrected_with_the_angles_of_its_scenes(tmp_path, shared_data):
    area = (3.0215, 50.8145, 3.0255, 50.817)
    where = {"start": "2018-06-20", "end": "2018-07-20"}
    static = shared_data / "cog" / "be_31UDS_stac" / "item_collection.json"
    build(tmp_path / "scene", static, area, nbar="scene", **where)
    build(tmp_path / "off", static, area, **where)
    ws = workspace(tmp_path / "off")
    assert cube.correct(ws, "made") == "made-nbar"
    wanted = catalogue.open(workspace(tmp_path / "scene"), "made")
    found = catalogue.open(ws, "made-nbar")
    np.testing.assert_allclose(found["reflectance"], wanted["reflectance"], atol=1.1e-4)
    assert found["nbar"].values.tolist() == wanted["nbar"].values.tolist()
    assert set(found["nbar"].values.tolist()) == {2}
    for name in ("valid", "scl"):
        assert np.array_equal(found[name], wanted[name])
    with pytest.raises(ValueError, match="'made-nbar' is corrected to nadir already"):
        cube.correct(ws, "made-nbar")
    assert main(["nbar", "made", "--out", "again", "--home", str(ws.home)]) == 0
    assert "again" in catalogue.names(ws)


def test_what_cannot_be_read_costs_its_date_and_is_named(tmp_path, made, centre):
    area = grid.square(**centre, edge_size=64)
    whole = build(tmp_path / "whole", made, area)
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    folders = sorted(path for path in broken.iterdir() if path.is_dir())
    (folders[1] / "B05.tif").unlink()
    content = (folders[2] / "B11.tif").read_bytes()
    (folders[2] / "B11.tif").write_bytes(content[: len(content) // 3])
    found = build(tmp_path / "found", broken, area)
    for step in (0, 3):
        same = np.array_equal(
            whole["reflectance"][step], found["reflectance"][step], equal_nan=True
        )
        assert same
    for step in (1, 2):
        assert found["reflectance"][step].isnull().all()
        assert (found["valid"][step] == 0).all()
    lost = json.loads(found.attrs["lost_assets"])
    assert [(one["item"], one["asset"]) for one in lost] == [
        (folders[1].name, "B05"), (folders[2].name, "B11"),
    ]  # fmt: skip
    assert all(one["reason"] for one in lost)
    assert found.attrs["lost_assets_count"] == "2"
    assert "lost_assets" not in whole.attrs


def test_broken_granule_metadata_cost_their_date_too(tmp_path, made, centre, caplog):
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    folders = sorted(path for path in broken.iterdir() if path.is_dir())
    (folders[3] / "MTD_TL.xml").write_text("<html>")
    found = build(tmp_path / "found", broken, grid.square(**centre, edge_size=32), nbar="grid")
    assert found.sizes["time"] == 3
    assert folders[3].name in caplog.text


def test_items_are_chosen_by_their_properties(tmp_path, made, centre):
    area = grid.square(**centre, edge_size=32)
    items = json.loads((made / "item_collection.json").read_text())["features"]
    clouds = sorted(item["properties"]["eo:cloud_cover"] for item in items)
    limit = (clouds[1] + clouds[2]) / 2
    found = build(tmp_path, made, area, query={"eo:cloud_cover": {"lt": limit}})
    assert found.sizes["time"] == 2
    with pytest.raises(ValueError, match="'like' on 'eo:cloud_cover' is unknown; choose one of"):
        stac.sources(area, catalog=made, query={"eo:cloud_cover": {"like": 1}})
    with pytest.raises(ValueError, match='no items fit {"eo:cloud_cover"'):
        stac.sources(area, catalog=made, query={"eo:cloud_cover": {"lt": -1}})


def test_the_attributes_of_cubo_are_written(tmp_path, made, centre):
    found = build(tmp_path, made, grid.square(**centre, edge_size=32))
    attrs = found.attrs
    assert attrs["collection"] == "be-mirrored"
    assert attrs["stac"] == str(made)
    assert (attrs["epsg"], attrs["resolution"]) == (32631, 10)
    assert (attrs["edge_size"], attrs["edge_size_m"]) == (32, 320)
    assert attrs["central_x"] == pytest.approx(float(found["x"].mean()))
    assert attrs["central_y"] == pytest.approx(float(found["y"].mean()))
    assert attrs["central_lat"] == pytest.approx(centre["lat"], abs=1e-4)
    assert attrs["central_lon"] == pytest.approx(centre["lon"], abs=1e-4)
    assert (attrs["time_coverage_start"], attrs["time_coverage_end"][:4]) == ("2018-01-01", "2018")


def test_outside_a_polygon_there_is_no_value(tmp_path, made, centre):
    lon, lat = centre["lon"], centre["lat"]
    triangle = shapely.Polygon([(lon, lat), (lon + 0.004, lat), (lon, lat + 0.003)])
    found = build(tmp_path, made, AOI("triangle", triangle))
    inside = found["scl"].values > 0
    assert 0.3 < inside.mean() < 0.7
    assert (found["valid"].values[~inside] == 0).all()
    assert not found["reflectance"].isel(time=1).notnull().any("band").values[~inside[1]].any()
    assert any("outside the polygon triangle" in s for s in json.loads(found.attrs["processing"]))


@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_coarser_bands_can_be_smoothed(tmp_path, made, centre, resampling):
    area = grid.square(**centre, edge_size=48)
    plain = build(tmp_path / "plain", made, area)
    smooth = build(tmp_path / "smooth", made, area, resampling=resampling)
    fine, coarse = (smooth["reflectance"].sel(band=band) for band in ("B04", "B11"))
    assert np.array_equal(fine, plain["reflectance"].sel(band="B04"), equal_nan=True)
    sharp = plain["reflectance"].sel(band="B11")
    assert not np.array_equal(coarse, sharp, equal_nan=True)
    assert float(abs(coarse.mean() - sharp.mean())) < 0.01
    assert f"B11 {resampling}" in smooth["reflectance"].attrs["resampling"]


def test_radar_ground_and_weather_come_beside(tmp_path, made, centre):
    other = made_stac.beside(tmp_path / "beside")
    days = np.arange("2018-01-01", "2019-01-01", dtype="datetime64[D]")
    rows = [f"{day},{10 + i % 5},0.0,150" for i, day in enumerate(days)]
    table = tmp_path / "station.csv"
    table.write_text("\n".join(["date,TA [degC],P [mm d-1],SW_IN [W m-2]", *rows]))
    found = build(
        tmp_path / "found", made, grid.square(**centre, edge_size=64),
        radar=str(other), radar_collection="sentinel-1-rtc", ground=str(other), weather=str(table),
    )  # fmt: skip
    assert found["orbit"].values.tolist() == [1, 2]
    for step in (0, 1):
        for name, decibel in (("VV", -8), ("VH", -14)):
            values = found["backscatter"].sel(polarisation=name)[step]
            np.testing.assert_allclose(values, decibel + step, atol=2e-3)
    east = found["x"].values - (made_stac.CORNER[0] - 500)
    heights = (east - 5 - 500) / 1000 + 100
    np.testing.assert_allclose(found["elevation"], np.tile(heights, (64, 1)), atol=1e-2)
    expected = np.where(east - 5 - 500 < 480, 10, 40)
    assert np.array_equal(found["label_WORLDCOVER"], np.tile(expected, (64, 1)))
    assert "10 20 30 40" in " ".join(map(str, found["label_WORLDCOVER"].attrs["flag_values"]))
    assert found.sizes["time_meteo"] == 365
    assert float(found["temperature_mean"][1]) == 11
    assert float(found["clear_sky_radiation"].max()) > 250
    attrs = found.attrs
    assert "Copernicus" in attrs["attribution"]
    assert "WorldCover" in attrs["attribution"]
    steps = " ".join(json.loads(attrs["processing"]))
    assert "gamma0" in steps
    assert "station.csv" in steps
    assert {"S1A_0_rtc", "S1A_1_rtc"} <= set(json.loads(attrs["source_items"]))
