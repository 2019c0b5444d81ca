"""The commands of spectral indices on real and made cubes, and the search behind them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import bands_cube
from hypothesis import given
from hypothesis import strategies as st

from deepfeatures import catalogue, cube, indices, store
from deepfeatures.__main__ import main
from deepfeatures.bands import BANDS
from deepfeatures.indices.ranges import RANGES, SETS
from deepfeatures.indices.search import described, of_bands, search
from deepfeatures.settings import Workspace
from deepfeatures.settings import workspace as make_workspace

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def ws(workspace: Workspace, tiny_bands: xr.Dataset) -> Workspace:
    store.write(tiny_bands, catalogue.place(workspace, "tiny"))
    catalogue.add(workspace, "tiny")
    return workspace


@pytest.fixture(scope="module")
def belgium(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a real cube: fields and a village in Flanders, 118 dates, 10 bands."""
    ws = make_workspace(tmp_path_factory.mktemp("real") / "home")
    path = shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc"
    cube.import_file(ws, "belgium", path, clouds="scl")
    return ws


def said(capsys: Capture, ws: Workspace, *words: str) -> str:
    assert main([*words, "--home", str(ws.home)]) == 0
    return capsys.readouterr().out


def answer(capsys: Capture, ws: Workspace, *words: str) -> Any:
    return json.loads(said(capsys, ws, *words, "--json"))


def refused(capsys: Capture, ws: Workspace, *words: str, code: int = 1) -> str:
    try:
        found = main([*words, "--home", str(ws.home)])
    except SystemExit as end:
        found = int(str(end.code))
    out, err = capsys.readouterr()
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    return err.strip()


# --- search


def names(found: list[indices.Index]) -> list[str]:
    return [index.name for index in found]


def test_without_words_the_search_gives_the_catalogue() -> None:
    assert names(search()) == list(indices.INDICES)


@given(st.sampled_from(list(indices.INDICES)))
def test_an_index_is_found_by_its_names(name: str) -> None:
    assert names(search(name))[0].lower() == name.lower()
    assert names(search(name.swapcase())) == names(search(name))
    assert name in names(search(indices.INDICES[name].long_name.upper()))


@given(
    st.sampled_from(["", "water", "normalized difference", "ndvi", "i"]),
    st.none() | st.sampled_from(sorted(set(SETS) - {"all", "research"})),
    st.none() | st.sets(st.sampled_from(list(BANDS))),
    st.none() | st.sampled_from(sorted(SETS)),
)
def test_each_condition_holds_for_what_is_found_and_for_nothing_else(
    words: str, domain: str | None, bands: set[str] | None, among: str | None
) -> None:
    found = search(words, domain, bands, None if among is None else SETS[among])
    for name, index in indices.INDICES.items():
        text = f"{name} {index.long_name}".lower()
        fits = all(word in text for word in words.split())
        fits &= domain in (None, index.domain)
        fits &= bands is None or (set(index.bands) <= bands and name != "NIRvP")  # needs PAR
        fits &= among is None or name in SETS[among]
        assert (name in names(found)) == fits


def test_short_names_come_first() -> None:
    found = names(search("ndvi"))
    assert found[0] == "NDVI"
    assert found.index("NDVI705") < found.index("GNDVI") < len(found)


def test_unknown_conditions_are_named() -> None:
    with pytest.raises(ValueError, match="'moon' is no domain; choose one of burn, clouds"):
        search(domain="moon")
    with pytest.raises(ValueError, match="'B77' is no band; choose from B01"):
        search(bands=["B04", "B77"])


def test_a_formula_of_bands_is_the_same_formula() -> None:
    known = [name for name in indices.names() if name not in {"kEVI", "kVARI"}]  # more kernels
    own = []
    for name in known:
        text = of_bands(indices.INDICES[name].formula)
        text = text.replace("k(B08, B08)", "kNN").replace("k(B08, B04)", "kNR")
        own.append(indices.define(f"own {name}", text))
    rng = np.random.default_rng(0)
    bands = {band: rng.uniform(0.02, 0.6, 50).astype(np.float32) for band in BANDS}
    np.testing.assert_array_equal(indices.compute(bands, own), indices.compute(bands, known))


def test_a_formula_of_bands_opens_indices_and_leaves_numbers() -> None:
    assert of_bands("2e-3 * N - NDVI / L") == "2e-3 * B08 - ((B08 - B04)/(B08 + B04)) / L"
    assert of_bands("B08 - B04") == "B08 - B04"


def test_described_is_all_that_is_known() -> None:
    found = described(indices.find("SAVI"))
    assert found["bands"] == ["B04", "B08"]
    assert found["constants"] == {"L": 1.0}
    assert found.get("range") == (list(RANGES["SAVI"]) if "SAVI" in RANGES else None)
    own = described(indices.define("NDVI", "B08 - B05"))
    assert "range" not in own  # it is another NDVI
    assert own["domain"] == "own"
    json.dumps([described(index) for index in search()])


# --- index list, index info


def test_list(ws: Workspace, capsys: Capture) -> None:
    text = said(capsys, ws, "index", "list", "snow", "difference", "--bands", "B03,B11")
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == ["NDSI"]
    assert lines[0].split() == ["NDSI", "snow", "B03", "B11", "Normalized", "Difference", "Snow",
                                "Index"]  # fmt: skip
    rows = answer(capsys, ws, "index", "list", "--set", "research")
    assert [row["name"] for row in rows] == [n for n in indices.INDICES if n in SETS["research"]]
    assert len(rows) == 135
    assert len(answer(capsys, ws, "index", "list")) == len(indices.INDICES)
    water = answer(capsys, ws, "index", "list", "--domain", "water")
    assert {row["domain"] for row in water} == {"water"}
    assert "no spectral index fits; did you mean NDVI" in said(capsys, ws, "index", "list", "ndvj")
    assert "fewer words" in said(capsys, ws, "index", "list", "green", "martian", "soil")
    assert "is no set of indices" in refused(capsys, ws, "index", "list", "--set", "moon")
    assert "is no domain" in refused(capsys, ws, "index", "list", "--domain", "moon")
    assert "is no band" in refused(capsys, ws, "index", "list", "--bands", "B77")


def test_info(ws: Workspace, capsys: Capture) -> None:
    text = said(capsys, ws, "index", "info", "NDVI")
    assert "of bands: (B08 - B04)/(B08 + B04)" in text
    assert "bands: B04 (red, 664.6 nm), B08 (nir, 832.8 nm)" in text
    assert answer(capsys, ws, "index", "info", "NDVI") == described(indices.find("NDVI"))
    assert "k(a, b) = exp" in said(capsys, ws, "index", "info", "kNDVI")
    assert "PAR = must be given" in said(capsys, ws, "index", "info", "NIRvP")
    assert "domain: own" in said(capsys, ws, "index", "info", "(B08-B05)/(B08+B05)")
    assert "did you mean NDVI" in refused(capsys, ws, "index", "info", "NDIV")
    refused(capsys, ws, "index", "info", "B08 +")


# --- indices


def test_indices_are_stored_with_constants_and_expressions(ws: Workspace, capsys: Capture) -> None:
    own = "(B08-B05)/(B08+B05)"
    said(capsys, ws, "indices", "tiny", "--index", "NDVI", own, "SAVI", "--constant", "L=0.5")
    with catalogue.open(ws, "tiny-indices") as made, catalogue.open(ws, "tiny") as bands:
        assert made["index"].values.tolist() == ["NDVI", own, "SAVI"]
        expected = indices.select(bands, ["NDVI", own, "SAVI"], constants={"L": 0.5})
        np.testing.assert_allclose(made["si"].values, expected.values, atol=2e-4)
    store.write(bands_cube(bands=("B04", "B08")), catalogue.place(ws, "red-nir"))
    catalogue.add(ws, "red-nir")
    said(capsys, ws, "indices", "red-nir", "--all", "--out", "whole")
    found = catalogue.info(ws, "whole")["channels"]
    assert found == list(indices.available(["B04", "B08"]))


def test_a_set_is_what_the_bands_allow_of_it(ws: Workspace, capsys: Capture) -> None:
    text = said(capsys, ws, "indices", "tiny", "--set", "urban", "--out", "set")
    assert "not possible with tiny, of the set 'urban': NHFD" in text  # it needs B01
    wanted = [name for name in SETS["urban"] if name != "NHFD"]
    assert catalogue.info(ws, "set")["channels"] == wanted
    assert "choose one of all, research" in refused(capsys, ws, "indices", "tiny", "--set", "moon")


def test_lost_values_are_told(workspace: Workspace, capsys: Capture) -> None:
    ds = bands_cube(bands=("B04", "B08"))
    ds["reflectance"][:, 0, :12] = 0.6  # AVI is a root of N - R: undefined in half of the cube
    store.write(ds, catalogue.place(workspace, "dark"))
    catalogue.add(workspace, "dark")
    words = ("indices", "dark", "--index", "AVI", "DVI")
    text = said(capsys, workspace, *words)
    found = answer(capsys, workspace, *words)["attrs"]["index_report"]
    assert set(found) == {"AVI", "DVI"}
    assert found["DVI"]["undefined"] == 0
    share = found["AVI"]["undefined"] / found["AVI"]["values"]
    assert 0.4 < share < 0.6
    line = next(line for line in text.splitlines() if line.startswith("AVI"))
    assert f"{100 * share:.2f} %" in line
    assert not any(line.startswith("DVI") for line in text.splitlines())


WRONG = [
    ["indices", "tiny"],
    ["indices", "tiny", "--all", "--set", "water"],
    ["indices", "tiny", "--index"],
    ["indices", "tiny", "--index", "NDVI", "--constant", "L"],
    ["indices", "tiny", "--index", "NDVI", "--constant", "L=much"],
    ["index"],
    ["index", "info"],
    ["index", "report"],
    ["index", "report", "tiny", "--samples", "0"],
    ["index", "report", "tiny", "--all", "--index", "NDVI"],
    ["index", "list", "--bands", ","],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage(ws: Workspace, capsys: Capture, words: list[str]) -> None:
    assert "error:" in refused(capsys, ws, *words, code=2)


# --- index report


def test_report_of_the_research_set_of_a_real_cube(
    belgium: Workspace, capsys: Capture, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    words = ("index", "report", "belgium", "--set", "research", "--samples", "8000")
    found = answer(capsys, belgium, *words, "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        "correlation.csv", "correlation.png", "rank_correlation.csv", "report.json", "vif.csv",
    ]  # fmt: skip
    assert found["absent"] == ["NHFD", "SIPI", "mSR705"]
    assert len(found["channels"]) == 132
    assert found["used"] > 7_800
    # 132 numbers made of 10 bands, each of which varies by itself
    assert 5 <= len(found["pearson"]["kept"]) <= 14
    assert 5 <= len(found["spearman"]["kept"]) <= 14

    def together(measure: str, *wanted: str) -> bool:
        return any(set(wanted) <= set(group) for group in found[measure]["groups"])

    # IPVI = (NDVI + 1) / 2; MNDWI, NDSI and NDPonI are one formula, or its negative
    assert together("pearson", "NDVI", "IPVI", "RNDVI")
    assert together("pearson", "MNDWI", "NDSI", "NDPonI")
    # kNDVI = tanh(NDVI^2) and WDRVI are monotone in NDVI, and not linear
    assert together("spearman", "NDVI", "kNDVI", "WDRVI")
    assert not together("pearson", "NDVI", "kNDVI")
    assert found["pearson"]["explained_by"]["NDVI"] == ["IPVI"]
    # BCC + GCC + RCC = 1
    assert set(found["pearson"]["explained_by"]["BCC"]) == {"GCC", "RCC"}
    with (out / "vif.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["NDVI"]["vif"] == "inf"
    assert [name for name in rows if rows[name]["kept"] == "1"] == found["pearson"]["kept"]
    assert rows["NDVI"]["rank_group"] == rows["kNDVI"]["rank_group"] != ""


def test_report_says_what_it_found(belgium: Workspace, capsys: Capture) -> None:
    words = ["index", "report", "belgium", "--index", "NDVI", "IPVI", "NDWI", "DSWI2", "kNDVI"]
    text = said(capsys, belgium, *words, "--samples", "5000", "--keep", "IPVI")
    assert "belgium: 5 spectral indices, " in text
    assert "IPVI, NDVI" in text.replace("NDVI, IPVI", "IPVI, NDVI")
    again = said(capsys, belgium, *words, "--samples", "5000", "--keep", "IPVI")
    assert again == text
    kept = answer(capsys, belgium, *words, "--samples", "5000", "--keep", "IPVI")["pearson"]["kept"]
    assert "IPVI" in kept
    assert "NDVI" not in kept


def test_report_of_stored_indices_and_of_features(ws: Workspace, capsys: Capture) -> None:
    said(capsys, ws, "indices", "tiny", "--index", "NDVI", "DVI", "IPVI", "NDWI", "--out", "si")
    found = answer(capsys, ws, "index", "report", "si", "--samples", "1500")
    assert found["channels"] == ["NDVI", "DVI", "IPVI", "NDWI"]
    assert ["NDVI", "IPVI"] in found["pearson"]["groups"]
    found = answer(capsys, ws, "index", "report", "si", "--samples", "1500", "--set", "vegetation")
    assert found["channels"] == ["DVI", "IPVI", "NDVI"]  # the order of the set
    said(capsys, ws, "train", "embedding", "--kind", "pca", "--out", "own")
    said(capsys, ws, "embed", "tiny", "--model", "own", "--out", "features")
    found = answer(capsys, ws, "index", "report", "features", "--samples", "1500")
    # principal components are uncorrelated: none repeats another
    assert found["pearson"]["kept"] == catalogue.info(ws, "features")["channels"]
    assert max(found["pearson"]["vif"].values()) < 1.5
    assert "allows no index" in refused(capsys, ws, "index", "report", "features", "--set", "water")


def test_what_a_report_can_not_do(ws: Workspace, capsys: Capture) -> None:
    words = ("index", "report", "tiny")
    assert "no cube 'none'" in refused(capsys, ws, "index", "report", "none")
    assert "did you mean" in refused(capsys, ws, *words, "--index", "NDIV")
    assert "needs B01" in refused(capsys, ws, *words, "--index", "NHFD", "NDVI")
    assert "say nothing" in refused(capsys, ws, *words, "--index", "NDVI")
    assert "no constant" in refused(capsys, ws, *words, "--all", "--constant", "Q=1")
    assert "above 1" in refused(capsys, ws, *words, "--all", "--threshold", "1")
    assert "can not be kept" in refused(capsys, ws, *words, "--all", "--keep", "B04")
    assert "too many" in refused(capsys, ws, *words, "--all", "--samples", "9000000")
