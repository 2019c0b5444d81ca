"""Pictures and animations: the colours of the map tiles, every date, what is written below."""

from __future__ import annotations

import gc
import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_serve import Server, pixels

from deepfeatures import catalogue, frames, reading, render, serve, store
from deepfeatures.serve import pictures
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with the cube ``field``."""
    found = make_workspace(tmp_path_factory.mktemp("frames") / "home")
    store.write(bands_cube(times=6, height=270, width=150), catalogue.place(found, "field"))
    catalogue.add(found, "field")
    return found


@pytest.fixture(scope="module")
def web(ws: Workspace) -> Iterator[httpx.Client]:
    server = Server(serve.routes(ws))
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client
    server.close()


def caption(**options: object) -> frames.Caption:
    words = {"title": "NDVI", "date": "2021-05-03", "credit": "Nobody", "metres": 10.0}
    return frames.Caption(**(words | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["channel=NDVI&cmap=magma&vmin=0&vmax=1", "rgb=B04,B03,B02"])
def test_a_picture_has_the_colours_of_the_tiles(
    query: str, web: httpx.Client, ws: Workspace
) -> None:
    grid = serve.cube(ws, "field").grid
    west, south, east, north = render.bounds(grid)
    z, side = 15, 2 * render.HALF_WORLD / 2**15
    x, y = (
        int(((west + east) / 2 + render.HALF_WORLD) / side),
        int((render.HALF_WORLD - (north + south) / 2) / side),
    )
    left, _, _, top = render.tile_bounds(z, x, y)
    to_lonlat = render.transformer("EPSG:3857", "EPSG:4326").transform
    corners = [*to_lonlat(left, top - 2 * side), *to_lonlat(left + 2 * side, top)]
    box = ",".join(f"{edge!r}" for edge in corners)
    answer = web.get(f"/api/cubes/field/picture.png?bbox={box}&width=512&height=512&time=2&{query}")
    assert answer.status_code == 200, answer.text
    image = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert image.shape == (512 + frames.STRIP, 512, 3)
    drawn = 0
    for down in (0, 1):
        for across in (0, 1):
            tile = web.get(f"/tiles/field/{z}/{x + across}/{y + down}.png?time=2&{query}")
            if tile.status_code == 204:
                continue
            wanted = pixels(tile)
            part = image[down * 256 : down * 256 + 256, across * 256 : across * 256 + 256]
            there = wanted[..., 3] > 0
            drawn += int(there.sum())
            # a corner that went through degrees may turn a pixel at the edge of another one
            assert (part[there] == wanted[there][:, :3]).all(axis=1).mean() > 0.999
            assert (part[~there] == frames.BACKGROUND).all(axis=1).mean() > 0.999
    assert drawn > 10_000


def test_the_strip_tells_what_is_shown() -> None:
    image = np.zeros((40, 400, 4), np.uint8)
    ramp = tuple((v, 0, 255 - v) for v in range(256))
    plain = frames.compose(image, caption())
    assert plain.shape == (40 + frames.STRIP, 400, 3)
    assert (plain[:40] == frames.BACKGROUND).all()
    for other in (
        caption(date="2021-05-04"), caption(title="EVI"), caption(credit="Somebody"),
        caption(simulated=True), caption(ramp=ramp), caption(metres=3.0),
        caption(classes=(("#e69f00", "Beech"),)),
    ):  # fmt: skip
        assert (frames.compose(image, other)[40:] != plain[40:]).any()
    coloured = frames.compose(image, caption(ramp=ramp))[40:].reshape(-1, 3)
    assert len({tuple(v) for v in coloured.tolist()} & set(ramp)) > 100
    long = frames.compose(image, caption(title="x" * 1000, credit="y" * 1000))
    assert (long[40:, -8:] == 255).all(), "long words end within the picture"


@given(st.floats(0.01, 1e5), st.integers(160, 2000))
@settings(max_examples=20)
def test_a_scale_bar_always_fits(metres: float, width: int) -> None:
    strip = frames.compose(np.zeros((1, width, 4), np.uint8), caption(metres=metres))[1:]
    row = (strip[frames.STRIP - 30, :] == (31, 41, 46)).all(axis=1)
    assert 3 <= row.sum() <= width / 5 + 2


@pytest.mark.parametrize("form", ["gif", "mp4"])
@pytest.mark.parametrize("size", [(181, 203), (160, 200)])
def test_an_animation_has_a_frame_for_each_date(
    form: str, size: tuple[int, int], web: httpx.Client, ws: Workspace
) -> None:
    width, height = size
    url = f"/api/cubes/field/animation.{form}?channel=NDVI&width={width}&height={height}&speed=5"
    answer = web.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == pictures.TYPES[form]
    found = decoded(answer.content, form)
    assert len(found) == 6
    full = height + frames.STRIP
    even = (full + full % 2, width + width % 2)
    assert {one.shape[:2] for one in found} == {even if form == "mp4" else (full, width)}
    cube = serve.cube(ws, "field")
    place = pictures.placed(cube, serve.View(width=width, height=height))
    style = serve.Style(channels=("NDVI",))
    for t, image in enumerate(found):
        wanted = pictures.mosaic(cube, style, t, place)[..., :3].astype(float)
        away = np.abs(image[:height, :width].astype(float) - wanted)[wanted.sum(axis=-1) > 0]
        assert np.median(away) < (24 if form == "mp4" else 12)
    strips = {one[height : height + 30, : width // 2].tobytes() for one in found}
    assert len(strips) == 6, "each frame has its own date"
    part = web.get(url, headers={"Range": "bytes=0-99", "If-Range": answer.headers["etag"]})
    assert (part.status_code, part.content == answer.content[:100]) == (206, True)


def decoded(data: bytes, form: str) -> list[np.ndarray]:
    if form == "mp4":
        with av.open(io.BytesIO(data)) as source:
            assert source.streams.video[0].codec_context.name == "h264"
            return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0
        assert image.info["duration"] == 200
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")))
    return found


def test_only_clear_dates_of_a_period(ws: Workspace) -> None:
    cube = serve.cube(ws, "field")
    days = [str(day)[:10] for day in cube.times]
    assert pictures.dates(cube, serve.Span(days[1], days[3])) == [1, 2, 3]
    shares = reading.shares(cube)
    clear = np.flatnonzero(shares >= pictures.CLEAR).tolist()
    if clear:
        assert pictures.dates(cube, serve.Span(clear=True)) == clear
    else:
        with pytest.raises(ValueError, match="clear ones were asked for"):
            pictures.dates(cube, serve.Span(clear=True))


def test_progress_is_told_and_an_animation_made_once(ws: Workspace) -> None:
    told: list[tuple[int, int]] = []
    asked = (ws, "field", serve.Style(channels=("B04",)), serve.View(width=200), serve.Span())
    for _ in range(2):
        serve.animate(*asked, "gif", progress=lambda *now: told.append(now))
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("form", ["gif", "mp4"])
def test_memory_does_not_grow_with_frames(form: str, tmp_path: Path) -> None:
    def made(count: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            gc.collect()
            yield rng.integers(0, 255, (120, 160, 3), np.uint8)

    peaks = []
    gc.collect()
    gc.freeze()  # what is there already need not be looked at after each frame
    try:
        for count in (2, 4, 24):  # the first loads what is loaded once
            tracemalloc.start()
            frames.ANIMATIONS[form](made(count), tmp_path / f"x.{form}", speed=5)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        gc.unfreeze()
    assert peaks[2] < peaks[1] + 200_000


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("picture.png?width=9000&height=9000", 400, "at most 4 million pixels"),
        ("picture.png?width=10", 400, "at least 160 px"),
        ("picture.png?width=ten", 400, "no number of pixels"),
        ("picture.png?bbox=1,2,3", 400, "is no box"),
        ("picture.png?bbox=-500,2,3,4", 400, "within 180 degrees"),
        ("picture.png?channel=B77", 400, "B77"),
        ("picture.png?time=yesterday", 400, "yesterday"),
        ("picture.png?cmap=jet", 400, "unknown colour map"),
        ("animation.gif?width=2000&height=2000", 400, "at most 2 million pixels"),
        ("animation.mp4?speed=0", 400, "from 0.2 to 30"),
        ("animation.mp4?start=soon", 400, "no date"),
        ("animation.mp4?start=2030-01-01", 400, "no date is left"),
        ("animation.avi", 404, "there is no"),
    ],
)
def test_what_can_not_be_drawn_says_so(
    query: str, status: int, message: str, web: httpx.Client
) -> None:
    answer = web.get(f"/api/cubes/field/{query}")
    assert answer.status_code == status
    assert message in answer.json()["error"]
