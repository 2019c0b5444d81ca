"""Collinearity: laws, parity with numpy, scipy and least squares, and a real cube."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from conftest import bands_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepfeatures import collinearity, indices, pictures, reading, store, survey
from deepfeatures.collinearity import analyse, eliminate, explanations, inflation, pearson, spearman

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=20)
"""For laws whose examples are many sums each."""


def independent(seed: int, channels: int, samples: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, samples))


def mixed(seed: int, channels: int, samples: int = 400) -> np.ndarray:
    """Channels that share a part, so that their VIF is anything from 1 to some hundred."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-1, 1, (channels, channels))
    return weights @ rng.normal(size=(channels, samples)) + 5 * rng.normal(size=(channels, 1))


def names(count: int) -> list[str]:
    return [f"x{at}" for at in range(count)]


def least_squares_vif(values: np.ndarray) -> np.ndarray:
    """1 / (1 - R^2) of each channel regressed on all others with an intercept."""
    found = []
    for at, target in enumerate(values):
        others = np.vstack([np.ones(values.shape[1]), np.delete(values, at, axis=0)]).T
        rest = target - others @ np.linalg.lstsq(others, target, rcond=None)[0]
        found.append(((target - target.mean()) ** 2).sum() / (rest**2).sum())
    return np.array(found)


# --- correlation


@few
@given(SEEDS, st.integers(1, 8), st.sampled_from([3, 50, 9000]))
def test_parity_with_numpy_and_scipy(seed: int, channels: int, samples: int) -> None:
    values = mixed(seed, channels, samples)
    np.testing.assert_allclose(pearson(values), np.atleast_2d(np.corrcoef(values)), atol=1e-12)
    if channels > 2:
        theirs = scipy.stats.spearmanr(values, axis=1).statistic
        np.testing.assert_allclose(spearman(values), theirs, atol=1e-12)


@few
@given(SEEDS, st.integers(2, 8))
def test_correlation_is_symmetric_and_bounded(seed: int, channels: int) -> None:
    values = np.round(mixed(seed, channels, 30), 1)
    values[:, 0] += 100  # an extreme
    for found in (pearson(values), spearman(values)):
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_array_equal(np.diag(found), 1)
        assert np.abs(found).max() <= 1
        assert np.linalg.eigvalsh(found).min() > -1e-12  # a correlation matrix of some data


@few
@given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100), st.booleans())
def test_affine_maps_change_nothing_but_signs(
    seed: int, factor: float, shift: float, negative: bool
) -> None:
    values = mixed(seed, 5)
    moved = values.copy()
    moved[2] = (-factor if negative else factor) * values[2] + shift
    sign = np.ones(5)
    sign[2] = -1 if negative else 1
    for measure in (pearson, spearman):
        before, after = measure(values), measure(moved)
        np.testing.assert_allclose(after, before * sign * sign[:, None], atol=1e-9)
        np.testing.assert_allclose(inflation(after), inflation(before), rtol=1e-6)


@few
@given(SEEDS)
def test_ranks_see_through_monotone_functions(seed: int) -> None:
    values = mixed(seed, 3)
    curved = np.vstack([values, np.exp(values[0] / 10), -np.arctan(values[1])])
    found = spearman(curved)
    assert found[0, 3] == pytest.approx(1, abs=1e-12)
    assert found[1, 4] == pytest.approx(-1, abs=1e-12)
    np.testing.assert_allclose(found[:3, :3], spearman(values), atol=1e-12)
    groups = collinearity.groups(found)
    for pair in ({0, 3}, {1, 4}):
        assert any(pair <= set(group) for group in groups)


@given(arrays(np.float32, st.integers(1, 40), elements=st.integers(-3, 3).map(float)))
def test_equal_values_share_the_mean_of_their_ranks(values: np.ndarray) -> None:
    np.testing.assert_array_equal(collinearity.rank(values), scipy.stats.rankdata(values))


# --- variance inflation


@few
@given(SEEDS, st.integers(2, 9))
def test_vif_is_that_of_least_squares(seed: int, channels: int) -> None:
    values = mixed(seed, channels)
    found = inflation(pearson(values))
    reference = least_squares_vif(values)
    fine = reference < 1e6  # beyond it the reference itself loses digits
    np.testing.assert_allclose(found[fine], reference[fine], rtol=1e-6)
    assert (found >= 1).all()


def test_vif_of_independent_channels_is_about_one() -> None:
    found = inflation(pearson(independent(0, 12, 20_000)))
    assert found.max() < 1.01


def test_vif_of_two_channels_by_hand() -> None:
    # R^2 of one regressed on one other is r^2: r = 0.8 gives 1 / 0.36
    np.testing.assert_allclose(inflation(np.array([[1, 0.8], [0.8, 1]])), 1 / 0.36)


@few
@given(SEEDS, st.data())
def test_a_linear_combination_is_infinite_and_explained(seed: int, data: st.DataObject) -> None:
    channels = data.draw(st.integers(2, 7))
    values = independent(seed, channels)
    parts = data.draw(st.lists(st.integers(0, channels - 1), min_size=1, unique=True))
    weights = [data.draw(st.floats(0.2, 5)) * data.draw(st.sampled_from([-1, 1])) for _ in parts]
    extra = np.array(weights) @ values[parts] + 3
    place = data.draw(st.integers(0, channels))
    both = np.insert(values, place, extra, axis=0)
    members = {place, *(part + (part >= place) for part in parts)}
    vif = inflation(pearson(both))
    assert set(np.flatnonzero(np.isinf(vif)).tolist()) == members
    outside = [at for at in range(channels + 1) if at not in members]
    alone = inflation(pearson(np.delete(both, place, axis=0)))
    np.testing.assert_allclose(vif[outside], np.insert(alone, place, 0)[outside])
    found = explanations(pearson(both))
    assert {at: {at, *others} for at, others in found.items()} == dict.fromkeys(members, members)


@few
@given(SEEDS)
def test_rounding_to_float32_does_not_hide_a_combination(seed: int) -> None:
    values = independent(seed, 4, 2000) * 0.1 + 0.3
    both = np.vstack([values, values[0] - values[1], (values[2] - values[3]) / 2]).astype("f4")
    assert np.isinf(inflation(pearson(both))).all()


@few
@given(SEEDS)
def test_noise_above_the_tolerance_is_not_exact(seed: int) -> None:
    values = independent(seed, 3, 2000)
    noisy = np.vstack([values, values[0] + 1e-3 * independent(seed + 1, 1, 2000)[0]])
    vif = inflation(pearson(noisy))
    assert np.isfinite(vif).all()
    np.testing.assert_allclose(vif[[0, 3]], 1e6, rtol=0.2)


@few
@given(SEEDS, st.permutations(range(6)))
def test_the_order_of_channels_does_not_matter(seed: int, order: list[int]) -> None:
    values = mixed(seed, 6)
    values[5] = values[0] + values[1]
    found, moved = inflation(pearson(values)), inflation(pearson(values[order]))
    np.testing.assert_array_equal(np.isinf(moved), np.isinf(found[order]))
    np.testing.assert_allclose(moved, found[order], rtol=1e-5)


# --- elimination and groups


@few
@given(SEEDS, st.integers(2, 9), st.floats(1.5, 50))
def test_what_is_kept_is_below_the_threshold(seed: int, channels: int, threshold: float) -> None:
    values = mixed(seed, channels)
    values = np.vstack([values, 2 * values[0] - values[-1]])
    kept, dropped = eliminate(pearson(values), threshold=threshold)
    assert sorted([*kept, *(at for at, _ in dropped)]) == list(range(channels + 1))
    assert np.all(np.array([vif for _, vif in dropped]) >= threshold)
    if len(kept) > 1:
        assert least_squares_vif(values[kept]).max() < threshold * (1 + 1e-9)
    # the last one that was dropped was above it among those that were left
    last, vif = dropped[-1]
    if np.isfinite(vif):
        among = sorted([*kept, last])
        assert least_squares_vif(values[among])[among.index(last)] == pytest.approx(vif, rel=1e-5)


def test_of_exact_duplicates_the_first_is_kept_and_the_kept_stay() -> None:
    values = independent(1, 2)
    table = np.vstack([values[0], 1 - values[0], values[1], 3 * values[0]])
    found = analyse(table, ["NDVI", "other", "SWI", "copy"])
    assert found.pearson.kept == ("NDVI", "SWI")
    assert found.pearson.dropped == (("copy", np.inf), ("other", np.inf))
    assert found.pearson.groups == (("NDVI", "other", "copy"),)
    assert found.pearson.explained["copy"] == ("NDVI",)
    assert set(analyse(table, ["a", "b", "c", "d"], keep=["d"]).pearson.kept) == {"c", "d"}
    near = np.vstack([values[0], values[0] + 0.1 * independent(2, 1)[0], values[1]])
    assert analyse(near, ["a", "b", "c"], keep=["a", "b"]).pearson.kept == ("a", "b", "c")


@few
@given(SEEDS, st.integers(2, 12))
def test_any_two_of_a_group_are_near_equal(seed: int, channels: int) -> None:
    values = independent(seed, channels, 60)
    rng = np.random.default_rng(seed)
    values = np.vstack([values, values + rng.uniform(0, 0.1) * rng.normal(size=values.shape)])
    found = pearson(values)
    seen: list[int] = []
    for group in collinearity.groups(found, at_least=0.99):
        assert len(group) > 1
        assert np.abs(found[np.ix_(group, group)]).min() >= 0.99 - 1e-12
        seen += group
    assert len(seen) == len(set(seen))
    pair = np.abs(found - np.eye(len(found))).max()
    assert bool(seen) == (pair >= 0.99)  # the nearest pair is a group, or in one


def test_leaves_of_the_tree_are_all_channels() -> None:
    from scipy.cluster.hierarchy import leaves_list

    found = collinearity.tree(pearson(mixed(0, 9)))
    assert sorted(leaves_list(found).tolist()) == list(range(9))


# --- the whole analysis


def test_undefined_constant_and_ruled_channels_are_named() -> None:
    values = independent(3, 6, 4000)
    values[1] = 7
    values[2, ::2] = np.nan  # undefined in half of the samples
    values[3, ::50] = np.nan  # in one of fifty
    values[4, 5] = 1e6  # one near-zero denominator
    never = np.full((1, 4000), np.nan)
    found = analyse(np.vstack([values, never]), [*names(6), "never"])
    assert found.names == ("x0", "x3", "x4", "x5")
    assert found.constant == ("x1",)
    assert found.sparse == {"x2": 0.5, "never": 1.0}
    assert set(found.ruled) == {"x4"}
    assert (found.samples, found.used) == (4000, 3920)
    assert np.isnan(found.pearson.vif).tolist() == [False, False, True, False]
    assert found.pearson.kept == ("x0", "x3", "x5")
    assert found.spearman.kept == ("x0", "x3", "x4", "x5")
    # the samples that are complete, and no others, are used
    part = values[[0, 3, 4, 5]][:, ~np.isnan(values[3])]
    np.testing.assert_allclose(found.pearson.correlation, np.corrcoef(part), atol=1e-12)


@few
@given(SEEDS, st.lists(st.floats(0, 1), min_size=3, max_size=12))
def test_undefined_channels_never_use_up_the_samples(seed: int, shares: list[float]) -> None:
    values = independent(seed, len(shares) + 2, 600)
    rng = np.random.default_rng(seed)
    for row, share in zip(values[2:], shares, strict=True):
        row[rng.random(600) < share] = np.nan
    found = analyse(values, names(len(values)))
    assert found.used >= collinearity.COMPLETE * 600
    assert {"x0", "x1"} <= set(found.names)
    # a channel of which a single value is left is constant
    others = set(found.sparse) | set(found.constant)
    assert set(found.names) | others == set(names(len(values)))


def test_float32_and_float64_agree() -> None:
    values = mixed(5, 6, 3000).astype(np.float32)
    one, two = analyse(values, names(6)), analyse(values.astype(np.float64), names(6))
    np.testing.assert_allclose(one.pearson.correlation, two.pearson.correlation, atol=1e-12)
    assert one.pearson.kept == two.pearson.kept


@pytest.mark.parametrize(
    ("values", "given_names", "options", "sentence"),
    [
        (np.ones((2, 9)), ["a", "b"], {}, "say nothing of their collinearity"),
        (independent(0, 3, 3), names(3), {}, "draw more samples"),
        (independent(0, 3), names(2), {}, "do not fit"),
        (independent(0, 3).astype(int), names(3), {}, "give floats"),
        (independent(0, 2), ["a", "a"], {}, "'a' is there twice"),
        (np.array([[1, np.inf], [1, 2.0]]), names(2), {}, "infinite"),
        (np.empty((2, 0)), names(2), {}, "no samples"),
        (independent(0, 2), names(2), {"threshold": 1.0}, "above 1"),
        (independent(0, 2), names(2), {"keep": ["NDVI"]}, "'NDVI' can not be kept"),
    ],
)
def test_what_can_not_be_analysed_is_said(
    values: np.ndarray, given_names: list[str], options: dict, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        analyse(values, given_names, **options)


def test_a_constant_channel_has_no_correlation() -> None:
    with pytest.raises(ValueError, match="number 1 is constant"):
        pearson(np.vstack([independent(0, 1), np.ones((1, 400))]))


# --- samples of a cube


@given(
    arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 50)), st.integers(1, 400), SEEDS
)
def test_shares_are_fair(counts: np.ndarray, total: int, seed: int) -> None:
    found = survey.shared(counts, total, np.random.default_rng(seed))
    assert found.sum() == min(total, counts.sum())
    assert np.all(found <= counts)
    more = found[found < counts]  # those that had some left
    if more.size:
        assert found.max() <= more.min() + 1


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> reading.OpenCube:
    """A cube of several blocks in time and space, ragged at both edges."""
    url = str(tmp_path_factory.mktemp("wide") / "wide.zarr")
    ds = bands_cube(times=36, height=150, width=330, bands=("B03", "B04", "B08"))
    ds["valid"][:, :, 200:264] = 9  # a block without a usable pixel
    store.write(ds, url)
    return reading.open(url)


def test_samples_are_usable_values_of_the_cube(wide: reading.OpenCube) -> None:
    drawn = survey.sample(wide, ["B04", "B08"], count=3000, seed=4)
    ds = store.open(wide.url)
    assert drawn.steps.size == 3000
    places = np.stack([drawn.steps, drawn.rows, drawn.columns])
    assert np.unique(places, axis=1).shape[1] == 3000
    assert np.all(ds["valid"].values[tuple(places)] == 1)
    for band, values in drawn.values.items():
        expected = ds["reflectance"].sel(band=band).values[tuple(places)]
        np.testing.assert_array_equal(values, expected)
    # each date gives as many as the others, each corner of the plane gives some
    counts = np.bincount(drawn.steps, minlength=36)
    assert counts.min() > 0.8 * counts.max()
    quarters = np.bincount(2 * (drawn.rows > 75) + (drawn.columns > 165), minlength=4)
    assert quarters.min() > 500


def test_the_seed_decides(wide: reading.OpenCube) -> None:
    one, again, other = (survey.sample(wide, ["B04"], count=500, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.values["B04"], again.values["B04"])
    np.testing.assert_array_equal(one.columns, again.columns)
    assert not np.array_equal(one.columns, other.columns)


def test_few_blocks_are_read(wide: reading.OpenCube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "READS", 2)
    read: list[tuple] = []
    values = reading.values

    def spy(cube: reading.OpenCube, channels: list[str], *box: slice) -> dict:
        read.append(tuple(side.start for side in box))
        return values(cube, channels, *box)

    monkeypatch.setattr(reading, "values", spy)
    told: list[tuple[int, int]] = []
    drawn = survey.sample(
        wide, ["B04"], count=10**6, progress=lambda done, total: told.append((done, total))
    )
    assert len(read) == len(set(read)) == 3 * survey.LEAST  # three periods of 16 dates
    assert told == [(at + 1, 12) for at in range(12)]
    blocks = {(s // 16 * 16, r // 64 * 64, c // 64 * 64)
              for s, r, c in zip(drawn.steps, drawn.rows, drawn.columns, strict=True)}  # fmt: skip
    assert blocks <= set(read)


def test_a_cube_without_usable_pixels(tmp_path: Path, tiny_bands: xr.Dataset) -> None:
    tiny_bands["valid"][:] = 0
    url = str(tmp_path / "dark.zarr")
    store.write(tiny_bands, url)
    with pytest.raises(ValueError, match="no usable pixel"):
        survey.sample(reading.open(url), ["B04"])


def test_a_sample_that_is_too_large_is_refused(wide: reading.OpenCube) -> None:
    with pytest.raises(ValueError, match="ask for 25,000,000 at most"):
        survey.survey(wide, ["NDVI", "NDWI"], samples=25_000_001)


def test_a_survey_of_indices_equals_the_analysis_of_its_sample(wide: reading.OpenCube) -> None:
    wanted = ["NDVI", "GNDVI", "DVI", "(B08 - L * B04) / B03"]
    found = survey.survey(wide, wanted, constants={"L": 0.5}, samples=2000, seed=7)
    drawn = survey.sample(wide, ["B03", "B04", "B08"], count=2000, seed=7)
    table = indices.compute(drawn.values, wanted, constants={"L": 0.5})
    expected = analyse(table, wanted)
    np.testing.assert_array_equal(found.found.pearson.correlation, expected.pearson.correlation)
    assert found.found.names == tuple(wanted)
    assert survey.summary(found)["constants"] == {"L": 0.5}


def test_bands_themselves_and_all_indices(wide: reading.OpenCube) -> None:
    found = survey.survey(wide, samples=1500)
    assert set(found.found.names) <= set(indices.available(["B03", "B04", "B08"]))
    with pytest.raises(ValueError, match="needs B02"):
        survey.survey(wide, ["EVI"])


# --- files


def test_files_of_a_survey(wide: reading.OpenCube, tmp_path: Path) -> None:
    found = survey.survey(wide, ["NDVI", "IPVI", "SR", "(B08-B03)/(B08+B03+B04)"], samples=2000)
    paths = survey.save(found, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "correlation.csv", "rank_correlation.csv", "vif.csv", "report.json",
    ]  # fmt: skip
    rows = [line.split(",") for line in paths[0].read_text().splitlines()]
    assert rows[0][1:] == [row[0] for row in rows[1:]] == list(found.found.names)
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    np.testing.assert_array_equal(numbers, found.found.pearson.correlation)
    lines = [line.split(",") for line in paths[2].read_text().splitlines()]
    assert [line[0] for line in lines[1:]] == list(found.found.names)
    assert lines[1][:3] == ["NDVI", "inf", lines[1][2]]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    data = json.loads(paths[3].read_text(), parse_constant=refuse)
    assert data["pearson"]["vif"]["IPVI"] == "inf"
    assert data["pearson"]["explained_by"] == {"NDVI": ["IPVI"], "IPVI": ["NDVI"]}
    assert ["NDVI", "IPVI", "SR"] in data["spearman"]["groups"]


@pytest.mark.parametrize("count", [2, 40])
def test_a_picture_shows_the_correlations(tmp_path: Path, count: int) -> None:
    from PIL import Image

    values = mixed(0, count - 1, 2000)
    values = np.vstack([values, values[0] * 2])
    long_names = [f"({name} - B05) / ({name} + B05 + L)" for name in names(count)]
    found = analyse(values, long_names)
    path = tmp_path / "picture.png"
    pictures.collinearity(found, path, title="A title", note="A note\nof two lines")
    with Image.open(path) as image:
        assert min(image.size) > 600
        colours = {colour for _, colour in image.convert("RGB").getcolors(maxcolors=10**6)}
    diagonal = tuple(int(c * 255 + 0.5) for c in pictures._MAP(1.0)[:3])
    assert diagonal in colours
    assert (255, 255, 255) in colours
