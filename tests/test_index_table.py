"""The table of indices: its formulas are spyndex's, its ranges and codes fit what pixels are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import spyndex
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import index_table
from deepfeatures import foreign, indices
from deepfeatures.bands import BANDS
from deepfeatures.indices import ranges

TABLE = json.loads(index_table.TABLE.read_text("utf-8"))
NAMES = indices.names()
BOUNDED = tuple(name for name in NAMES if ranges.bound(indices.INDICES[name]) is not None)
# Poles within what land and water reflect: no 65,535 steps hold both their body and their tails.
POLES = {
    "BAIM", "IBI", "MCARIOSAVI", "MCARIOSAVI705", "MI", "MTCI", "MVI", "NDDI", "S2REP", "SIPI",
    "TCARIOSAVI", "TCARIOSAVI705", "VIBI", "kEVI", "mND705", "CRI550", "CRI700", "OSI",
}  # fmt: skip
# Medians of clear vegetation (Sen2Cor class 4) in West Flanders, 2017-2018.
VEGETATION = {
    "B02": 0.042, "B03": 0.071, "B04": 0.056, "B05": 0.116, "B06": 0.269, "B07": 0.322,
    "B08": 0.342, "B8A": 0.350, "B11": 0.204, "B12": 0.126,
}  # fmt: skip


def test_the_file_is_what_the_script_makes():
    assert index_table.TABLE.read_text("utf-8") == index_table.text(index_table.document())


def test_each_row_is_that_of_spyndex():
    marked = {
        name
        for name, index in spyndex.indices.items()
        if any(platform.startswith("Sentinel-2") for platform in index.platforms)
    }
    assert set(TABLE["indices"]) == marked
    assert list(TABLE["indices"]) == sorted(marked)
    for name, row in TABLE["indices"].items():
        theirs = spyndex.indices[name]
        assert row["formula"].replace(" ", "") == theirs.formula, name
        assert row["domain"] == theirs.application_domain, name
        for key in ("long_name", "reference", "contributor", "date_of_addition"):
            assert row[key] == getattr(theirs, key), (name, key)
        assert row["bands"] == list(theirs.bands), name
    for name, value in TABLE["constants"].items():
        assert value == spyndex.constants[name].default, name


def test_another_spyndex_is_refused_and_a_changed_formula_loses_its_range(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=r"spyndex is 0\.12\.0, the table that of 0\.11\.0; .*"):
        index_table.document("0.11.0")
    changed = json.loads(json.dumps(TABLE))
    changed["indices"]["NDVI"]["formula"] = "(N - R) / (N + R + 1)"
    (tmp_path / "indices.json").write_text(json.dumps(changed), "utf-8")
    monkeypatch.setattr(index_table, "TABLE", tmp_path / "indices.json")
    made = index_table.document()["indices"]
    assert "range" not in made["NDVI"]
    assert made["NDWI"]["range"] == TABLE["indices"]["NDWI"]["range"]


def test_the_rule_of_the_kernel_is_written_down_and_followed():
    assert TABLE["kernel"]["sigma"] == "0.5 (a + b) at each pixel"
    assert "exp(-(a - b)^2 / (2 sigma^2))" in TABLE["kernel"]["rule"]
    red, near = np.float32([0.05, 0.2, 0.02]), np.float32([0.4, 0.25, 0.01])
    k_ndvi, ndvi = indices.compute({"B04": red, "B08": near}, ["kNDVI", "NDVI"])
    np.testing.assert_allclose(k_ndvi, np.tanh(ndvi.astype(float) ** 2), atol=1e-6)


def test_the_table_says_how_ranges_were_made():
    made = TABLE["ranges"]
    assert made["method"] == index_table.METHOD
    kinds = [row["kind"] for row in made["sources"]]
    assert kinds.count("real") == len(index_table.CUBES) + 1
    assert kinds.count("simulated") == 10
    for row in made["sources"]:
        assert 1000 < row["pixels"] <= index_table.EACH, row["name"]
        assert row["period"] is None or row["period"][0] <= row["period"][1]


def test_sets():
    assert ranges.SETS["all"] == NAMES
    assert len(NAMES) == 244
    research = ranges.SETS["research"]
    assert len(research) == len(set(research)) == 135
    assert set(research) <= set(NAMES)
    assert research[:3] == ("AFRI1600", "AFRI2100", "ANDWI")
    assert research[-2:] == ("sNIRvNDVILSWIS", "sNIRvSWIR")
    # unbounded ratios that the research code left out
    assert not set(research) & {"SR", "RVI", "CIG", "CVI", "MTCI", "S2REP", "EVI", "BAI", "NIRvP"}
    domains = [ranges.SETS[word] for word in ranges.SETS if word not in ("all", "research")]
    assert sorted(name for names in domains for name in names) == sorted(NAMES)
    sizes = {word: len(names) for word, names in ranges.SETS.items()}
    assert sizes == {
        "all": 244, "research": 135, "burn": 10, "clouds": 7, "kernel": 5, "snow": 9, "soil": 13,
        "urban": 11, "vegetation": 157, "water": 32,
    }  # fmt: skip


def test_ranges_are_finite_and_lie_within_limits():
    assert set(ranges.RANGES) == set(ranges.LIMITS) == set(NAMES)
    for name, (low, high) in ranges.RANGES.items():
        least, most = ranges.LIMITS[name]
        assert np.isfinite([least, low, high, most]).all(), name
        assert least <= low < high <= most, name
        assert (most - least) / (2 * 32767) < (high - low) / 250, f"{name} has too few steps"


def test_typical_surfaces_lie_within_the_ranges():
    names = indices.available(list(VEGETATION))
    bands = {band: np.float32([value]) for band, value in VEGETATION.items()}
    values = dict(zip(names, indices.compute(bands, names)[:, 0], strict=True))
    assert values["NDVI"] == pytest.approx((0.342 - 0.056) / (0.342 + 0.056))
    outside = [n for n in names if not ranges.display(n)[0] <= values[n] <= ranges.display(n)[1]]
    assert outside == []


def test_landsat_samples_of_three_surfaces_lie_within_the_ranges():
    samples = spyndex.datasets.open("spectral")  # Landsat 8 as level 2 surface reflectance
    names = {"B02": "SR_B2", "B03": "SR_B3", "B04": "SR_B4", "B08": "SR_B5", "B11": "SR_B6"}
    assert set(samples["class"]) == {"Urban", "Water", "Vegetation"}
    for surface, rows in samples.groupby("class"):
        bands = {b: np.float32([rows[column].median()]) for b, column in names.items()}
        wanted = ["NDVI", "NDWI", "MNDWI", "NDBI", "EVI", "SAVI", "OSAVI"]
        for name, value in zip(wanted, indices.compute(bands, wanted)[:, 0], strict=True):
            low, high = ranges.display(name)
            assert low <= value <= high, (surface, name)


def test_no_bounded_index_leaves_its_bounds():
    assert len(BOUNDED) == 150
    bounds = np.array([ranges.bound(indices.INDICES[name]) for name in BOUNDED])
    rng = np.random.default_rng(7)
    for power in (0.3, 1.0, 4.0):
        bands = {b: (1e-4 + (1 - 1e-4) * rng.random(50_000) ** power).astype("f4") for b in BANDS}
        largest = np.nanmax(np.abs(indices.compute(bands, BOUNDED)), axis=1)
        wrong = [n for n, most, b in zip(BOUNDED, largest, bounds, strict=True) if most > b + 1e-5]
        assert wrong == []


@settings(max_examples=50)
@given(
    bands=st.lists(st.sampled_from(list(BANDS)), min_size=4, max_size=4, unique=True),
    weights=st.lists(st.floats(0.1, 9), min_size=4, max_size=4),
)
def test_normalised_differences_of_any_bands_are_bounded(bands, weights):
    left = f"({weights[0]} * {bands[0]} + {weights[1]} * {bands[1]})"
    right = f"({weights[2]} * {bands[2]} + {weights[3]} * {bands[3]})"
    own = f"({left} - {right}) / ({left} + {right})"
    assert ranges.display(own) == (-1.0, 1.0)
    assert ranges.coding(own) == (1 / 32767, 0.0)
    other = f"{own} - ({bands[0]} - {bands[2]}) / ({bands[0]} + {bands[2]})"
    assert ranges.coding(other)[1] == 0
    assert ranges.display(other)[1] in (1.0, 2.0)


@pytest.mark.parametrize("own", ["B08 / B04", "1 / (B08 - B04)", "EVI", "B08 * 100"])
def test_what_has_no_bounds_asks_for_a_sample(own):
    index = indices.define("mine", own)
    with pytest.raises(ValueError, match=r"nothing bounds 'mine'; .* ranges\.coding_of"):
        ranges.coding(index)
    with pytest.raises(ValueError, match=r"nothing bounds 'mine'; .* ranges\.display_of"):
        ranges.display(index)


def test_an_own_index_does_not_get_the_range_of_its_namesake():
    assert ranges.display("NDVI") == ranges.display(indices.INDICES["NDVI"])
    assert ranges.display("NDVI") != (-1.0, 1.0)
    assert ranges.display(indices.define("NDVI", "(B8A - B04) / (B8A + B04)")) == (-1.0, 1.0)
    with pytest.raises(KeyError, match="did you mean NDVI"):
        ranges.display("NDIV")
    with pytest.raises(ValueError, match="NIRvP"):
        ranges.coding("NIRvP")


@given(name=st.sampled_from(NAMES), share=st.floats(0, 1))
def test_codes_give_values_back_to_half_a_step(name, share):
    low, high = ranges.LIMITS[name]
    scale, offset = ranges.coding(name)
    value = low + share * (high - low)
    code = round((value - offset) / scale)
    assert -32767 <= code <= 32767
    assert abs(code * scale + offset - value) <= scale * 0.5001


def test_the_engine_codes_within_half_a_step():
    image = index_table.example().bands
    names = indices.available(list(image))
    stored = {band: np.round(row * 1e4 + 1000).astype(np.uint16) for band, row in image.items()}
    scale, offset = np.array([ranges.coding(name) for name in names]).T
    source = indices.Coding(1e-4, -0.1, 0)
    codes = indices.encode(stored, names, source=source, scale=scale, offset=offset)
    values = indices.compute(stored, names, source=source)
    back = codes * scale[:, None] + offset[:, None]
    inside = np.isfinite(values) & (np.abs(codes) < 32767)
    assert inside.mean() > 0.999
    # half a step, and what float32 loses of a code as large as 32767
    room = 0.51 * scale[:, None] + 2**-22 * (np.abs(values) + np.abs(offset[:, None]))
    assert (np.abs(back - values) <= room)[inside].all()


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=300),
    gaps=st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=5),
)
def test_a_sample_gives_a_coding_that_holds_it(values, gaps):
    sample = np.array([*values, *gaps])
    if max(values) == min(values):
        with pytest.raises(ValueError, match="the sample has 1 different values"):
            ranges.coding_of(sample)
        return
    if not np.quantile(values, 1 - 1e-4) > np.quantile(values, 1e-4):
        return
    scale, offset = ranges.coding_of(sample)
    codes = (np.array(values, np.float64) - offset) / scale
    inner = np.quantile(values, (1e-4, 1 - 1e-4))
    held = (values >= inner[0]) & (values <= inner[1])
    assert (np.abs(codes[held]) <= 32767 * (1 + 1e-9)).all()
    low, high = ranges.display_of(sample) if len(set(values)) > 2 else (0.0, 1.0)
    assert low < high


def test_a_sample_without_values_is_refused():
    for sample in ([], [np.nan, np.inf], [0.5]):
        with pytest.raises(ValueError, match="different values; give more pixels"):
            ranges.display_of(sample)


@given(
    wanted=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    shares=st.lists(st.floats(-1, 2), min_size=6, max_size=6),
)
def test_normalising_is_undone_where_nothing_is_clipped(wanted, shares):
    wanted = [*wanted, "(B08 - B05) / (B08 + B05)"]
    spans = np.array([ranges.display(name) for name in wanted])[:, :, None, None]
    share = np.array(shares).reshape(2, 3)
    values = spans[:, 0] + share * (spans[:, 1] - spans[:, 0])
    values[:, 0, 0] = np.nan
    seen = ranges.normalise(values, wanted)
    assert seen.dtype == np.float32
    assert np.isnan(seen[:, 0, 0]).all()
    expected = np.broadcast_to(np.clip(share, 0, 1), seen.shape).copy()
    expected[:, 0, 0] = np.nan
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    back = ranges.denormalise(seen, wanted)
    inside = (share >= 0) & (share <= 1)
    inside[0, 0] = False
    width = np.broadcast_to(np.abs(spans).max(axis=1) * 2, values.shape)
    assert (np.abs(back - values) <= 1e-6 * width)[:, inside].all()


def test_rows_and_names_have_to_fit():
    with pytest.raises(ValueError, match="2 rows of values do not fit 1 indices"):
        ranges.normalise(np.zeros((2, 3)), ["NDVI"])


def _sources(seed: int = 0) -> tuple[dict[str, index_table.Source], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    values = {
        "place": rng.normal(0.6, 0.1, 700), "other place": rng.normal(0.3, 0.1, 500),
        "crop": rng.normal(0.7, 0.05, 300), "snow": rng.normal(-0.9, 0.01, 900),
    }  # fmt: skip
    kinds = {"place": "real", "other place": "real", "crop": "simulated", "snow": "snow"}
    return {place: index_table.Source({}, kind) for place, kind in kinds.items()}, values


def test_a_source_counts_the_same_whatever_its_number_of_pixels():
    sources, values = _sources()
    once = index_table.display("NDVI", values, sources)
    more = values | {"place": np.repeat(values["place"], 13)}
    assert index_table.display("NDVI", more, sources) == pytest.approx(once, abs=2e-3)
    # half of the weight is simulated: 2 % of all is 4 % of the one simulated source
    alone = index_table.display("NDVI", {"crop": values["crop"]}, sources)
    assert alone == pytest.approx(np.quantile(values["crop"], (0.01, 0.99)), abs=0.01)


def test_snow_counts_for_indices_of_snow_only():
    sources, values = _sources()
    assert index_table.display("NDVI", values, sources)[0] > 0
    assert index_table.display("NDSI", values, sources)[0] < -0.85


def test_limits_are_as_wide_as_noise_allows():
    values = {"place": np.random.default_rng(1).standard_cauchy(200_000)}
    span = (-30.0, 30.0)
    for noise in (1e-4, 1e-3, 1e-2):
        low, high = index_table.limits("SR", values, span, noise)
        assert low <= span[0] < span[1] <= high
        assert (high - low) / (2 * 32767) <= max(4 * noise, 60 / 65534) * 1.001
    calm = {"place": np.random.default_rng(1).uniform(1, 3, 200_000)}
    assert index_table.limits("SR", calm, (1.0, 3.0), 1.0) == pytest.approx((0, 4), abs=2e-3)
    assert index_table.limits("NDVI", calm, (-0.3, 0.9), 1e-4) == (-1, 1)


@pytest.fixture(scope="module")
def places(shared_data: Path) -> dict[str, tuple[list[str], dict[str, np.ndarray]]]:
    """Values of three real places: Chile, Tanzania and, by its own mask, Belgium (every 7th)."""
    found = {}
    for word in ("Chile", "shrubland", "Belgium"):
        file, said = next(row for name, row in index_table.CUBES.items() if word in name)
        ds = foreign.read(shared_data / "s2" / file, **said)
        # solid cloud that its mask calls clear
        ds = ds.sel(time=ds["time"].dt.strftime("%Y-%m-%d") != "2018-09-23")
        pixels = ds["reflectance"].transpose("band", ...).values.reshape(ds.sizes["band"], -1)
        pixels = pixels[:, (ds["valid"].values == 1).ravel()][:, ::7]
        pixels = pixels[:, ~np.isclose(pixels, 1e-4, atol=1e-6).any(axis=0)]  # a floor, no value
        bands = dict(zip(map(str, ds["band"].values), np.ascontiguousarray(pixels), strict=True))
        names = indices.available(list(bands))
        found[word] = names, dict(zip(names, indices.compute(bands, names), strict=True))
    return found


def test_hardly_a_value_of_real_places_exceeds_the_codes(places):
    for names, values in places.values():
        for name in names:
            row = values[name][np.isfinite(values[name])]
            low, high = ranges.LIMITS[name]
            share = ((row < low) | (row > high)).mean()
            assert share < (0.1 if name in POLES else 2e-3), name


def test_ranges_hold_most_values_of_real_places(places):
    shares = {}
    for names, values in places.values():
        for name in names:
            row = values[name][np.isfinite(values[name])]
            low, high = ranges.display(name)
            shares.setdefault(name, []).append(((row >= low) & (row <= high)).mean())
    assert min(np.mean(each) for each in shares.values()) > 0.9
    assert np.median([np.mean(each) for each in shares.values()]) > 0.97


def test_no_channel_of_the_research_model_is_nearly_constant(places):
    # with absolute minima and maxima GEMI, SIPI, SR3, OSI, DSWI2, NBSIMS, WI2015 and TriVI were
    names, values = places["Belgium"]
    wanted = [name for name in ranges.SETS["research"] if name in names]
    assert {"GEMI", "SR3", "OSI", "DSWI2", "NBSIMS", "WI2015", "TriVI"} <= set(wanted)
    seen = ranges.normalise(np.stack([values[name] for name in wanted]), wanted)
    flat = [n for n, row in zip(wanted, seen, strict=True) if np.nanstd(row) < 0.03]
    assert flat == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully")
def test_the_ranges_are_those_of_the_pixels(shared_data):
    with tempfile.TemporaryDirectory() as folder:
        sources = index_table.real(shared_data, Path(folder)) | index_table.simulated()
    found = index_table.measured(sources)
    for name, row in found.items():
        width = ranges.RANGES[name][1] - ranges.RANGES[name][0]
        room = 0.15 * width if name in POLES else 0.02 * width
        np.testing.assert_allclose(row["range"], ranges.RANGES[name], atol=room, err_msg=name)
