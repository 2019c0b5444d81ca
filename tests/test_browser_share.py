"""Taking away in a real browser: pictures, animations, each format of a file, the link."""

from __future__ import annotations

import zipfile
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from browser import PATIENCE, Watched, watched
from PIL import Image
from playwright.sync_api import Browser, expect
from test_browser import until
from zarr.storage import ZipStore

from deepfeatures import catalogue, frames, reading, serve
from deepfeatures.serve import pictures
from deepfeatures.settings import Workspace, workspace

pytestmark = pytest.mark.browser

SIZE = {"width": 1440, "height": 900}


def test_what_is_on_the_screen_can_be_taken_away(
    chromium: Browser, address: str, demo_copy: Path, shots: Path
) -> None:
    ws = workspace(demo_copy)
    name = catalogue.names(ws)[0]
    day = str(serve.cube(ws, name).times[8])[:10]
    with watched(chromium, address, shots, viewport=SIZE) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open(f"?cube={name}&show=NDVI&date={day}&cmap=magma&range=0,1&open=%5B%22Share%22%5D")
        seen.page.wait_for_function("location.search.includes('v=1')")
        takes_a_picture(seen, ws, name)
        animates(seen, ws, name)
        exports(seen, ws, name)
        link = follows(seen)
        assert seen.errors == []
    with watched(chromium, address, shots, viewport=SIZE) as seen:
        seen.page.set_default_timeout(PATIENCE)
        seen.open(link + "&lat=north&compare=1&part=0.3&opacity=0.8")
        expect(seen.page.get_by_text("lat='north', which can not be read")).to_be_visible()
        expect(seen.page.get_by_role("button", name="Copy link")).to_be_visible()
        until(seen, lambda: any("cmap=magma&vmin=0&vmax=1" in url for url in seen.tiles))
        assert view(seen) == pytest.approx(view_of(link), abs=2e-3)
        line = seen.page.get_by_role("slider", name="Line between two pictures")
        expect(line).to_have_attribute("aria-valuenow", "30")
        expect(seen.page.locator(".side.right")).to_contain_text(f"{name}-features")
        assert "part=0.3" in seen.page.url
        assert "opacity=0.8" in seen.page.url
        line.press("ArrowRight")
        seen.page.wait_for_function("location.search.includes('part=0.32')")
        seen.shot("2-restored")
        assert seen.errors == []


def taken(seen: Watched, click: str, role: str = "link") -> Path:
    """Press what downloads, and give the file."""
    with seen.page.expect_download() as download:
        seen.page.get_by_role(role, name=click).click()  # type: ignore[arg-type]
    path = seen.shots / download.value.suggested_filename
    download.value.save_as(path)
    return path


def takes_a_picture(seen: Watched, ws: Workspace, name: str) -> None:
    expect(seen.page.get_by_role("link", name="Picture (PNG)")).to_be_visible()
    seen.shot("1-share")
    href = seen.page.get_by_role("link", name="Picture (PNG)").get_attribute("href")
    assert href is not None
    asked = dict(part.split("=") for part in href.split("?")[1].split("&"))
    with Image.open(taken(seen, "Picture (PNG)")) as image:
        found = np.asarray(image)
    height, width = int(asked["height"]), int(asked["width"])
    assert found.shape == (height + frames.STRIP, width, 3)
    cube = serve.cube(ws, name)
    box = tuple(float(edge) for edge in asked["bbox"].split(","))
    place = pictures.placed(cube, serve.View(box, width, height))
    style = serve.Style(channels=("NDVI",), cmap="magma", vmin=0, vmax=1)
    wanted = pictures.mosaic(cube, style, reading.step(cube, asked["time"]), place)
    there = wanted[..., 3] > 0
    assert 0.1 < there.mean() < 1
    assert (found[:height][there] == wanted[there][:, :3]).all()


def animates(seen: Watched, ws: Workspace, name: str) -> None:
    page = seen.page
    cube = serve.cube(ws, name)
    count = len(pictures.dates(cube, serve.Span(clear=True)))
    page.get_by_role("button", name="Make animation").click()
    expect(page.get_by_text("The animation is ready")).to_be_visible()
    with Image.open(taken(seen, "Download animation")) as image:
        assert (image.format, image.n_frames) == ("GIF", count)
    page.get_by_role("button", name="MP4", exact=True).click()
    expect(page.get_by_role("link", name="Download animation")).to_have_count(0)
    page.get_by_role("button", name="Make animation").click()
    expect(page.get_by_role("link", name="Download animation")).to_be_visible()
    with av.open(str(taken(seen, "Download animation"))) as source:
        assert len(list(source.decode(video=0))) == count


def exports(seen: Watched, ws: Workspace, name: str) -> None:
    page = seen.page
    page.get_by_role("button", name="Export", exact=True).click()
    kept = catalogue.open(ws, name)["reflectance"].isel(time=2, y=40, x=50)
    where = {key: kept[key].values for key in ("time", "y", "x")}
    wanted = float(kept.sel(band="B04"))
    year = str(where["time"])[:4]
    page.get_by_role("combobox", name="Channels (none: all)").click()
    page.get_by_role("menuitem", name="B04", exact=True).click()
    for _ in range(5):  # the list takes keys once it has the focus
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
        if page.get_by_role("menuitem").count() == 0:
            break
    expect(page.get_by_role("menuitem")).to_have_count(0)
    day = str(where["time"])[:10]
    labels = {
        "NetCDF": "netcdf", "Zarr": "zarr", "GeoTIFF, one a date": "geotiff-dates",
        "Parquet": "parquet", "CSV": "csv",
    }  # fmt: skip
    for label, fmt in labels.items():
        page.get_by_role("combobox", name="File format").click()
        page.get_by_role("menuitem", name=label, exact=True).click()
        link = page.locator(f"a[href*='format={fmt}&'][href*='channels=B04']")
        expect(link).not_to_have_attribute("aria-disabled", "true")
        with page.expect_download() as download:
            link.click()
        path = seen.shots / download.value.suggested_filename
        download.value.save_as(path)
        assert value(path, fmt, where, day) == pytest.approx(wanted, abs=1e-6), (fmt, year)
    page.get_by_text("The same in Python").click()
    assert f"'{name}', 'csv'" in page.locator("pre.python").inner_text()
    assert page.locator("pre.python").evaluate("(pre) => pre.scrollWidth <= pre.clientWidth")
    seen.shot("1-export")


def value(path: Path, fmt: str, where: dict, day: str) -> float:
    """Read B04 of one pixel and date from a file."""
    if fmt == "netcdf":
        with xr.open_dataset(path) as ds:
            return float(ds["reflectance"].sel(where).sel(band="B04"))
    if fmt == "zarr":
        source = ZipStore(path, mode="r")
        with xr.open_zarr(source, consolidated=False) as ds:
            return float(ds["reflectance"].sel(where).sel(band="B04"))
    if fmt == "geotiff-dates":
        with zipfile.ZipFile(path) as archive:
            archive.extract(f"{day}.tif", path.parent)
        with rasterio.open(path.parent / f"{day}.tif") as tiff:
            return float(next(tiff.sample([(where["x"], where["y"])]))[0])
    columns = ["time", "x", "y", "value"]
    table = (
        pd.read_parquet(path, columns=columns)
        if fmt == "parquet"
        else pd.read_csv(path, comment="#", parse_dates=["time"], usecols=columns)
    )
    at = (table["x"] == where["x"]) & (table["y"] == where["y"])
    row = table[at & (table["time"].dt.strftime("%Y-%m-%d") == day)]
    return float(row["value"].iloc[0])


def follows(seen: Watched) -> str:
    """Zoom the map, and give the query of the link when it has followed."""
    page = seen.page
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_role("button", name="Share", exact=True).click()
    before = view(seen)
    x, y = seen.place("map", *middle(seen))
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_function("location.search.includes('view=')")
    assert view(seen) != before
    page.wait_for_timeout(1500)  # the last turn of the wheel rests
    link = page.locator("a.permalink").get_attribute("href")
    assert link is not None
    assert "Share" in link
    return link


def view(seen: Watched) -> list[float]:
    """Give x and y of two corners of the map in degrees."""
    found = seen.page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        " return [f.x_range.start, f.y_range.start, f.x_range.end, f.y_range.end] }"
    )
    from app import style

    return [*style.to_lonlat(*found[:2]), *style.to_lonlat(*found[2:])]


def middle(seen: Watched) -> tuple[float, float]:
    west, south, east, north = seen.page.evaluate(
        "() => { const f = Bokeh.documents[0].get_model_by_name('map');"
        " return [f.x_range.start, f.y_range.start, f.x_range.end, f.y_range.end] }"
    )
    return (west + east) / 2, (south + north) / 2


def view_of(link: str) -> list[float]:
    from urllib.parse import parse_qs

    return [float(edge) for edge in parse_qs(link.removeprefix("?"))["view"][0].split(",")]
