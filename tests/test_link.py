"""The address of the page: what it says comes back, what is broken is named and left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import link, main, reads
from app.state import State
from deepfeatures import catalogue, render, store
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace
from tests.conftest import bands_cube

SINGLE = st.sampled_from(["NDVI", "B04", "B08,B04,B03", "B08 - B04"])
SHARE = st.floats(0, 1).map(lambda v: float(f"{v:.3g}"))
NUMBER = st.floats(-1, 1).map(lambda v: float(f"{v:.5g}"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = make_workspace(tmp_path_factory.mktemp("link") / "home")
    store.write(bands_cube(), catalogue.place(found, "tiny"))
    catalogue.add(found, "tiny")
    return found


def fresh(home: Workspace) -> State:
    return State(ws=home, cubes=reads.cubes.described(home))


@given(
    show=SINGLE,
    cmap=st.sampled_from(list(render.COLOURS)),
    low=NUMBER,
    masked=st.booleans(),
    day=st.integers(0, 6),
    lon=NUMBER,
    view=st.one_of(st.none(), st.tuples(NUMBER, NUMBER)),
    opened=st.lists(st.sampled_from(["Map", "Export", "Area and features"]), unique=True),
    rest=st.fixed_dictionaries(
        {
            "chosen": st.lists(st.sampled_from(["NDVI", "B04", "EVI", "kNDVI"]), unique=True),
            "opacity": SHARE,
            "split": st.booleans(),
            "part": SHARE,
            "other_show": SINGLE,
            "plane": st.sampled_from(["pca", "umap"]),
            "shade": st.sampled_from(["density", "place", "EVI", "NDVI", "B08"]),
            "whose": st.sampled_from(["Pixel", "Area"]),
            "years": st.booleans(),
            "pins": st.lists(
                st.builds(
                    lambda name, lon, lat: {"id": name, "lon": lon, "lat": lat, "color": "#0072b2"},
                    st.sampled_from("ABCDEF"),
                    NUMBER,
                    NUMBER,
                ),
                unique_by=lambda pin: pin["id"],
            ),
        }
    ),
)
@settings(max_examples=40)
def test_a_link_brings_the_view_back(home: Workspace, **drawn: Any) -> None:
    state = fresh(home)
    state.settle()
    corner = drawn["view"]
    state.param.update(
        show=drawn["show"], cmap=drawn["cmap"], limits=(drawn["low"], drawn["low"] + 0.5),
        masked=drawn["masked"], date=state.days[drawn["day"]], lon=drawn["lon"], lat=50.0,
        view=corner and (*corner, round(corner[0] + 2, 5), round(corner[1] + 2, 5)),
        opened=drawn["opened"], **drawn["rest"],
    )  # fmt: skip
    if state.split:
        state.param.update(other_cube="tiny", other_date=state.days[-1])
    text = link.query(state)
    other = fresh(home)
    assert link.read(other, link.parsed(text)) == []
    assert link.query(other) == text
    for key in set(link.linked(state)) - set(() if state.split else link.COMPARED):
        value, again = getattr(state, key), getattr(other, key)
        assert value == pytest.approx(again, abs=1e-8) if key == "limits" else value == again, key


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "v",
                "lon",
                "lat",
                "range",
                "view",
                "open",
                "series",
                "own",
                "cube",
                "show",
                "date",
                "cmap",
                "pins",
                "masked",
                "compare",
                "cube2",
                "show2",
                "date2",
                "part",
                "opacity",
                "plane",
                "shade",
                "way",
                "job",
                "x",
            ]
        ),
        st.text(max_size=30),
    )
)
@settings(max_examples=60)
def test_rubbish_is_never_an_error(home: Workspace, words: dict[str, str]) -> None:
    state = fresh(home)
    told = link.read(state, words)
    assert all(sentence.endswith(".") for sentence in told)
    assert state.cube == "tiny"
    assert state.date in ("", *state.days)
    again = fresh(home)
    link.read(again, link.parsed(link.query(state)))
    assert link.query(again) == link.query(state)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"lon": "east"}, "lon='east', which can not be read"),
        ({"view": "5,4,3,2"}, "which can not be read"),
        ({"range": "2,1"}, "which can not be read"),
        ({"cmap": "jet"}, "which can not be read"),
        ({"cube": "gone"}, "not the cube 'gone' here; tiny is shown"),
        ({"date": "2001-01-01"}, "not the date '2001-01-01' here"),
        ({"colour": "red"}, "'colour', which this page does not know"),
        ({"v": "2"}, "another version"),
        ({"compare": "1", "cube2": "../secret"}, "not the cube to compare with '../secret'"),
        ({"cube2": "tiny", "show2": "B77"}, "not the channel to compare with 'B77'"),
        ({"cube2": "tiny", "date2": "2001-01-01"}, "not the date to compare with '2001-01-01'"),
        ({"opacity": "1.5"}, "opacity='1.5', which can not be read"),
        ({"part": "-0.1"}, "which can not be read"),
        ({"plane": "tsne"}, "which can not be read"),
        ({"way": "Mine"}, "which can not be read"),
        ({"shade": "layer:gone"}, "not the colour of the latent space 'layer:gone'"),
        ({"job": "../jobs/1"}, "which can not be read"),
        ({"pins": '[["A",1,2,"#000000"],["A",3,4,"#000000"]]'}, "which can not be read"),
        ({"pins": '[["A",999,2,"#000000"]]'}, "which can not be read"),
        ({"pins": '[["<b>",1,2,"#000000"]]'}, "which can not be read"),
    ],
)
def test_what_is_left_out_is_named(home: Workspace, words: dict[str, str], sentence: str) -> None:
    state = fresh(home)
    (told,) = link.read(state, {"lat": "50", **words})
    assert sentence in told
    assert state.lat == 50
    page = main.page(state, [told])
    assert page is not None


def test_a_link_opens_all_that_it_says(home: Workspace) -> None:
    """An address as the first form of the page wrote it, and one with everything in it."""
    days = fresh(home).cubes["tiny"]["times"]
    old = (
        f"?v=1&cube=tiny&show=NDVI&date={days[2][:10]}&lon=3.1&lat=50.8&series=%5B%22NDVI%22%5D"
        "&cmap=magma&range=0,1&masked=1&open=%5B%22Share%22%5D"
    )
    state = fresh(home)
    assert link.read(state, link.parsed(old)) == []
    assert (state.show, state.date, state.cmap) == ("NDVI", days[2][:10], "magma")
    assert (state.limits, state.masked, state.chosen) == ((0, 1), True, ["NDVI"])
    assert (state.split, state.opacity, state.plane) == (False, 1, "pca")

    more = old + (
        f"&compare=1&cube2=tiny&show2=B04&date2={days[4][:10]}&part=0.3&opacity=0.6"
        "&plane=umap&shade=place&way=Area&years=1"
    )
    state = fresh(home)
    assert link.read(state, link.parsed(more)) == []
    view = main.MapView(state=state)
    assert "channel=B04&cmap=viridis" in view.other.tile_source.url
    assert f"time={days[4][:10]}" in view.other.tile_source.url
    assert view.front.alpha == view.back.alpha == 0.6
    assert main.glass.over(state).part == 0.3
    assert (state.plane, state.shade, state.whose, state.years) == ("umap", "place", "Area", True)


def test_the_other_picture_of_a_link_is_completed(home: Workspace) -> None:
    state = fresh(home)
    assert link.read(state, {"compare": "1"}) == []
    main.start(state)
    main.page(state)
    assert (state.other_cube, state.other_show) == ("tiny", state.show)
    assert state.other_date == state.date
