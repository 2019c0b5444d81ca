"""Indices on the page without a browser: what is offered, described, remembered and refused."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from app import about, link, main, offers, reads, style
from app.state import MAX_OWN, MOST_SERIES, State, owned
from app.views import layer, timeseries
from app.views import map as chart
from deepfeatures import catalogue, contract, indices, store
from deepfeatures.bands import BANDS
from deepfeatures.settings import Workspace

OWN = "(B08 - B05) / (B08 + B05)"
FEW = ["B02", "B03", "B04", "B08"]


@pytest.fixture(autouse=True)
def _no_background_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "BASEMAP", "none")


@pytest.fixture
def home(workspace: Workspace, tiny_bands: Any) -> Workspace:
    """A workspace with a band cube, and one with four bands only."""
    for name, ds in (("few", tiny_bands.sel(band=FEW)), ("tiny", tiny_bands)):
        store.write(ds, catalogue.place(workspace, name))
        catalogue.add(workspace, name)
    return workspace


@pytest.fixture
def state(home: Workspace) -> State:
    """The state of a new page on the cube ``tiny``."""
    found = State(ws=home, cubes=reads.cubes.described(home), cube="tiny")
    found.settle()
    main.start(found)
    return found


def layer_view(state: State) -> layer.LayerView:
    return layer.LayerView(
        state=state,
        suggest=lambda *asked: reads.cubes.limits(state.ws, *asked),
        reachable=lambda: False,
    )


def series_view(state: State) -> timeseries.SeriesView:
    return timeseries.SeriesView(state=state)


def text_of(source: str) -> str:
    """Give what a reader of some HTML sees."""
    return html.unescape(re.sub(r"<[^>]*>", "", source))


# --- what is offered


@pytest.mark.parametrize("bands", [list(BANDS), FEW, ["B04"]])
def test_each_index_that_bands_allow_is_offered_once_under_its_domain(bands: list[str]) -> None:
    groups = dict(offers.channels({"kind": "bands", "channels": bands}, []))
    assert [option[0] for option in groups.pop("Bands")] == bands
    found = [(option[0], domain) for domain, options in groups.items() for option in options]
    wanted = [(name, indices.INDICES[name].domain) for name in indices.available(bands)]
    assert sorted(found) == sorted((name, offers.DOMAINS[domain]) for name, domain in wanted)
    assert list(groups) == [word for word in offers.DOMAINS.values() if word in groups]


def test_an_option_is_found_by_long_name_and_band() -> None:
    groups = dict(offers.channels({"kind": "bands", "channels": list(BANDS)}, [OWN]))
    (ndvi,) = [option for option in groups["Vegetation"] if option[0] == "NDVI"]
    assert ndvi == ("NDVI", "NDVI", "Normalized Difference Vegetation Index", "B04 B08")
    assert groups["Own"] == [(OWN, OWN, "", "B05 B08")]


def test_own_indices_are_offered_where_the_bands_are_there() -> None:
    texts = [OWN, "NDVI - NDWI"]
    few = dict(offers.channels({"kind": "bands", "channels": FEW}, texts))
    assert [option[0] for option in few["Own"]] == ["NDVI - NDWI"]
    features = offers.channels({"kind": "features", "channels": ["F01"]}, texts)
    assert features == [("Features", [("F01", "F01", "", "")])]


# --- what is said about an index


def test_every_index_is_described_with_formula_bands_and_reference() -> None:
    for found in indices.INDICES.values():
        source = about.index(found)
        text = text_of(source)
        assert found.long_name in text
        assert found.formula in text
        assert all(band in text for band in found.bands)
        assert f'href="{html.escape(found.reference)}" target="_blank" rel="noopener"' in source
        for symbol in re.findall(r"[A-Za-z_]\w*", found.formula):
            assert about.symbol(symbol), f"{symbol} in {found.name} stands for something"


def test_symbols_say_which_band_they_are() -> None:
    source = about.index(indices.find("NDVI"))
    assert '<abbr title="B08, nir, 833 nm">N</abbr>' in source
    assert "N = B08 833 nm" in text_of(source)
    assert "C1 = 6" in text_of(about.index(indices.find("EVI")))
    assert "Own index" in text_of(about.index(indices.find(OWN)))


@given(st.text(max_size=60))
def test_a_written_formula_reads_as_it_was(text: str) -> None:
    assert text_of(about.formula(text)) == text


@pytest.mark.parametrize("reference", ["", "javascript:alert(1)", "doi 10.1/x", "//host/path"])
def test_only_addresses_of_the_web_become_links(reference: str) -> None:
    index = indices.define("mine", "B08 - B04", reference=reference)
    assert "<a " not in about.index(index)


# --- what is wrong with an expression


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=120), st.data())
def test_the_mark_stands_under_the_place(text: str, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(text)))
    shown, mark = about.caret(about.Mistake(text, "", position)).split("\n")
    assert mark == " " * (len(mark) - 1) + "^"
    assert len(shown) <= 34
    under = shown[len(mark) - 1 :]
    assert under[:1] == text[position : position + 1]


def test_a_mistake_is_a_sentence_with_its_place() -> None:
    found = layer.look("NDVI - NDVX", list(BANDS))
    assert isinstance(found, about.Mistake)
    assert found.position == 7
    source = about.mistake(found)
    assert "NDVI - NDVX\n       ^" in text_of(source)
    assert "Character 8: 'NDVX' is unknown; did you mean" in text_of(source)
    assert "At the end" in about.mistake(about.Mistake("B08 -", "a number is missing", 5))


def test_a_mistake_without_a_place_is_a_sentence() -> None:
    found = layer.look("B11 - B08", FEW)
    assert isinstance(found, about.Mistake)
    assert found.position is None
    assert "B11" in about.mistake(found)
    assert isinstance(layer.look("NIRvP * 2", list(BANDS)), about.Mistake)


def test_what_somebody_writes_is_never_html() -> None:
    found = layer.look("<script>alert(1)</script>", FEW)
    assert isinstance(found, about.Mistake)
    assert "<script" not in about.mistake(found)
    assert "<b>&lt;i&gt;</b>" in layer.legend("<i>", "viridis", (0.0, 1.0))


# --- what is remembered


@given(st.lists(st.sampled_from([OWN, "B08-B04", "NDVI", "B04", "oops +", "B1", "", 7, None])))
def test_only_expressions_are_remembered_and_the_last_ones_stay(texts: list[Any]) -> None:
    found = owned(texts)
    assert owned(found) == found
    assert set(found) == {OWN, "B08-B04"} & set(texts)
    many = owned([f"B08 - {number}" for number in range(40)])
    assert many == [f"B08 - {number}" for number in range(40 - MAX_OWN, 40)]


def test_an_own_index_lives_in_the_address(state: State) -> None:
    state.param.update(show=OWN, chosen=["NDVI", "B08 - B04"])
    assert state.own == ["B08 - B04", OWN]
    kept = link.write(state)
    assert json.loads(kept["own"]) == ["B08 - B04", OWN]
    other = State(ws=state.ws, cubes=state.cubes, cube="tiny", show=kept["show"])
    other.chosen = json.loads(kept["series"])
    other.settle()
    assert (other.show, other.own) == (state.show, state.own), "the two alone bring it back"


def test_an_address_with_rubbish_is_cleaned(home: Workspace) -> None:
    state = State(ws=home, cube="tiny", show="B08 +", own=[7, None, "__import__('os')", OWN])
    state.cubes = reads.cubes.described(home)
    assert state.show == "B04,B03,B02"
    assert state.own == [OWN]


# --- the views


def test_an_own_index_comes_on_the_map(state: State) -> None:
    tiles = chart.MapView(state=state)
    view = layer_view(state)
    urls: list[str] = []
    tiles.front.tile_source.on_change("url", lambda _attr, _old, new: urls.append(new))
    view._ask_own(f"  {OWN} ")
    assert state.show == OWN
    assert len(urls) == 1
    assert "channel=%28B08+-+B05%29+%2F+%28B08+%2B+B05%29" in urls[0]
    low, high = state.limits
    assert -1 <= low < high <= 1
    assert OWN in view.ramp.object
    assert "Own index" in view.about.object
    assert ("Own", [(OWN, OWN, "", "B05 B08")]) in view.show.groups
    assert view.own.mistake == ""


def test_one_choice_is_one_change_of_the_map(state: State) -> None:
    tiles, view = chart.MapView(state=state), layer_view(state)
    urls: list[str] = []
    tiles.front.tile_source.on_change("url", lambda _attr, _old, new: urls.append(new))
    for number, text in enumerate(["NDVI", "(B08 - B05) * 100", "B08 - B05", "NDVI"], 1):
        view._ask_own(text)
        assert len(urls) == number


@pytest.mark.parametrize("text", ["B08 -", "", "B01 / B08", "NDVX", "a" * 600])
def test_a_wrong_one_leaves_the_map_as_it_was(state: State, text: str) -> None:
    view = layer_view(state)
    view.show.value = "NDVI"
    before = state.show, state.limits, state.own
    view._ask_own(text)
    assert (state.show, state.limits, state.own) == before
    assert view.own.mistake
    view._ask_own("B08 - B04")
    assert view.own.mistake == ""


def test_a_name_of_the_catalogue_is_no_own_index(state: State) -> None:
    view = layer_view(state)
    view._ask_own("EVI")
    assert state.show == "EVI"
    assert state.own == []
    assert "Enhanced Vegetation Index" in view.about.object


def test_the_index_on_the_map_goes_into_the_series(state: State) -> None:
    view = layer_view(state)
    assert not view.plot.visible, "a picture has no series"
    state.chosen = ["NDVI", "NDMI", "B02", "B03", "B04", "B08"]
    view._ask_own(OWN)
    assert view.plot.visible
    view._plotted(None)
    assert len(state.chosen) == MOST_SERIES
    assert state.chosen[-1] == OWN
    assert not view.plot.visible, "it is there already"


def test_the_series_of_an_own_index_is_what_numpy_gives(state: State, tiny_bands: Any) -> None:
    cube = tiny_bands.isel(y=13, x=4)
    back = Transformer.from_crs(str(contract.crs(tiny_bands)), 4326, always_xy=True)
    lon, lat = back.transform(float(cube["x"]), float(cube["y"]))
    view = series_view(state)
    state.param.update(chosen=[OWN, "NDVI"], lon=lon, lat=lat)
    assert view.pick.values == [OWN, "NDVI"]
    nir, edge = (cube["reflectance"].sel(band=band).values for band in ("B08", "B05"))
    values = (nir - edge) / (nir + edge)
    dots = view.top.dots.data
    rows = [i for i, name in enumerate(dots["channel"]) if name == OWN]
    found = [dots["value"][i] for i in rows]
    np.testing.assert_allclose(found, values[np.isfinite(values)], rtol=2e-3, atol=2e-4)
    assert {dots["fill"][i] for i in rows} <= {style.SERIES[0], style.PAPER}, "the chip's colour"


def test_what_another_cube_lacks_stays_chosen(state: State) -> None:
    view = series_view(state)
    view.pick.values = ["NDVI", OWN]
    assert state.chosen == ["NDVI", OWN]
    state.cube = "few"
    assert view.pick.values == ["NDVI"]
    state.cube = "tiny"
    assert view.pick.values == ["NDVI", OWN]
