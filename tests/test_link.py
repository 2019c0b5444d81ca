"""The address of the page: what it says comes back, what is broken is named and left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import data, link, main
from app.state import State
from deepfeatures import catalogue, render, store
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace
from tests.conftest import bands_cube

SINGLE = st.sampled_from(["NDVI", "B04", "B08,B04,B03", "B08 - B04"])
NUMBER = st.floats(-1, 1).map(lambda v: float(f"{v:.5g}"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = make_workspace(tmp_path_factory.mktemp("link") / "home")
    store.write(bands_cube(), catalogue.place(found, "tiny"))
    catalogue.add(found, "tiny")
    return found


def fresh(home: Workspace) -> State:
    return State(ws=home, cubes=data.cubes(home))


@given(
    show=SINGLE,
    cmap=st.sampled_from(list(render.COLOURS)),
    low=NUMBER,
    masked=st.booleans(),
    day=st.integers(0, 6),
    lon=NUMBER,
    view=st.one_of(st.none(), st.tuples(NUMBER, NUMBER)),
    opened=st.lists(st.sampled_from(["Map", "Export", "Area and features"]), unique=True),
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
        opened=drawn["opened"],
    )  # fmt: skip
    text = link.query(state)
    other = fresh(home)
    assert link.read(other, link.parsed(text)) == []
    assert link.query(other) == text
    for key in link.linked(state):
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
    ],
)
def test_what_is_left_out_is_named(home: Workspace, words: dict[str, str], sentence: str) -> None:
    state = fresh(home)
    (told,) = link.read(state, {"lat": "50", **words})
    assert sentence in told
    assert state.lat == 50
    page = main.page(state, [told])
    assert page is not None
