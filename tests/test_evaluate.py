from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score

from deepfeatures import foreign
from deepfeatures.embed import evaluate, scores
from deepfeatures.embed.data import Block
from deepfeatures.embed.evaluate import change, picture, probes, reading, veil, withheld
from deepfeatures.embed.evaluate.place import Events, Place, Towers
from deepfeatures.embed.evaluate.representation import filled
from deepfeatures.predictor import Predictor, shipped, usable
from deepfeatures.simulate import plan, render
from deepfeatures.tiles import Tile

CHANNELS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
SHAPE = (16, 20)
START = 18_600.0  # a day of 2020


def season(seed: int, *, times: int = 30, gaps: float = 0.2) -> Block:
    """Make a block whose pixels have seasons of their own, with gaps, and dates without any."""
    rng = np.random.default_rng(seed)
    days = START + np.cumsum(rng.integers(3, 15, times)).astype(float)
    level = np.linspace(0.04, 0.3, len(CHANNELS))[None, :, None, None]
    width = rng.uniform(0.1, 0.5, (1, len(CHANNELS), *SHAPE))
    phase = rng.uniform(0, 6, (1, 1, *SHAPE))
    phase[..., 8:13, 8:13] = 1.0  # around the tower
    wave = np.sin(2 * np.pi * days / 365.25)[:, None, None, None] * np.cos(phase) + np.cos(
        2 * np.pi * days / 365.25
    )[:, None, None, None] * np.sin(phase)
    values = (level * (1 + width * wave)).astype(np.float32)
    values += rng.normal(0, 0.002, values.shape).astype(np.float32)
    valid = rng.random((times, *SHAPE)) > 0.03
    valid[rng.random(times) < gaps] = False
    values[1, 0, 0, 0] = np.nan
    return Block(values, valid, days)


def toy(seed: int, *, region: str = "toy") -> Place:
    """Make a place with a truth that is linear in the bands, classes, events and a tower."""
    block = season(seed)
    rng = np.random.default_rng(seed)
    labels = np.where(np.indices(SHAPE)[0] < 9, 1, np.where(np.indices(SHAPE)[1] < 12, 2, 3))
    kind, day = np.zeros(SHAPE, int), np.full(SHAPE, np.nan)
    kind[2:5, 2:5], day[2:5, 2:5] = 1, block.days[15] - 1
    for band in range(6):
        block.values[15:, band, 2:5, 2:5] += 0.3
    values = np.nan_to_num(block.values)
    return Place(
        name=f"{region} {seed}",
        region=region,
        channels=CHANNELS,
        block=block,
        strict=block.valid & (rng.random(block.valid.shape) > 0.05),
        truth={"leaf area": 3 * values[:, 6] - 2 * values[:, 2] + 1, "GPP": values[:, 3]},
        labels=labels,
        events=Events(kind, day),
        towers=Towers(
            np.array([10]), np.array([10]), 5 * values[:, 6, 8:13, 8:13].mean(axis=(1, 2))[None]
        ),
    )


BLOCK = season(0)
SEEN = usable(BLOCK.values, BLOCK.valid)
REPRESENTATIONS = {
    r.name: r
    for r in (
        evaluate.bands(CHANNELS),
        evaluate.pca([BLOCK], 4),
        evaluate.neighbourhood_pca([BLOCK], 4),
        evaluate.neighbourhood_pca([BLOCK], 4, fill="mean"),
        evaluate.six_indices(CHANNELS),
        evaluate.all_indices(CHANNELS),
    )
}


# --- representations ---


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_features_stand_where_something_was_seen(name: str) -> None:
    each = REPRESENTATIONS[name]
    found = each.features(BLOCK)
    assert found.shape == (len(BLOCK.days), each.size, *SHAPE)
    np.testing.assert_array_equal(np.isfinite(found).all(axis=1), SEEN)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), ~SEEN)


@pytest.mark.parametrize("name", [n for n, r in REPRESENTATIONS.items() if r.alone])
def test_dates_that_stand_alone_can_be_taken_alone(name: str) -> None:
    each = REPRESENTATIONS[name]
    some = np.array([2, 7, 20])
    part = replace(BLOCK, values=BLOCK.values[some], valid=BLOCK.valid[some], days=BLOCK.days[some])
    np.testing.assert_allclose(each.features(part), each.features(BLOCK)[some], atol=1e-6)


def test_the_bands_and_all_components_tell_seen_dates_exactly() -> None:
    assert withheld.seen_errors(BLOCK, evaluate.bands(CHANNELS))["all"].max() == 0
    whole = evaluate.pca([BLOCK], len(CHANNELS))
    assert withheld.seen_errors(BLOCK, whole)["all"].max() < 1e-6


def test_more_components_tell_seen_dates_better() -> None:
    gaps = [
        withheld.seen_errors(BLOCK, evaluate.pca([BLOCK], k))["all"].mean() for k in (1, 3, 6, 9)
    ]
    assert gaps == sorted(gaps, reverse=True)


def test_the_neighbourhood_holds_the_lagged_dates() -> None:
    # without gaps, and with all components, the central date comes back
    block = replace(season(3, times=20), valid=np.ones((20, *SHAPE), bool))
    block.values[np.isnan(block.values)] = 0.1
    for fill in ("linear", "mean"):
        whole = evaluate.neighbourhood_pca([block], 30, dates=3, fill=fill)
        told = whole.told(block, block.valid)
        np.testing.assert_allclose(told, block.values, atol=1e-5)


def test_rounding_costs_at_most_half_a_step() -> None:
    each = evaluate.pca([BLOCK], 4)
    assert each.step is not None
    z = each.features(BLOCK)
    assert np.nanmax(np.abs(each.rounded(z) - z)) <= each.step * 0.5001
    np.testing.assert_array_equal(each.rounded(each.rounded(z)), each.rounded(z))


def test_representations_say_what_they_can_not_do() -> None:
    six = REPRESENTATIONS["six indices"]
    with pytest.raises(ValueError, match="can not be decoded"):
        six.told(BLOCK, SEEN)
    with pytest.raises(ValueError, match="no int8"):
        six.rounded(six.features(BLOCK))
    with pytest.raises(ValueError, match="'cubic' is unknown"):
        evaluate.neighbourhood_pca([BLOCK], 4, fill="cubic")
    with pytest.raises(ValueError, match="lack B12"):
        evaluate.of_predictor(Predictor.load(shipped()[0]), CHANNELS[:-1])


# --- withheld dates ---


def _tellers() -> dict[str, withheld.Teller]:
    made = {n: withheld.told_by(r) for n, r in REPRESENTATIONS.items() if r.decode}
    for name in shipped():
        made[name] = withheld.told_by(evaluate.of_predictor(Predictor.load(name), CHANNELS))
    return withheld.TELLERS | made


@pytest.mark.parametrize("name", _tellers())
def test_nobody_looks_at_a_hidden_date(name: str) -> None:
    teller, hide = _tellers()[name], np.array([5, 6, 14])
    left = SEEN.copy()
    left[hide] = False
    scrambled = BLOCK.values.copy()
    scrambled[hide] = np.random.default_rng(1).random(scrambled[hide].shape)
    other = replace(BLOCK, values=scrambled)
    np.testing.assert_array_equal(teller(BLOCK, left, hide), teller(other, left, hide))


def test_filling_linearly_is_linear_interpolation() -> None:
    hide = np.array([0, 8, 9, 29])
    left = SEEN.copy()
    left[hide] = False
    np.testing.assert_allclose(
        filled(BLOCK, left)[hide], scores.linear(BLOCK, left, hide), atol=1e-6
    )


def test_climatology_finds_a_season() -> None:
    days = START + np.arange(0, 730, 5.0)
    phase = 2 * np.pi * days / withheld.YEAR
    wave = 0.2 + 0.1 * np.cos(phase) + 0.05 * np.sin(2 * phase)
    values = np.broadcast_to(wave[:, None, None, None], (len(days), 2, 3, 4)).astype(np.float32)
    left = np.random.default_rng(0).random((len(days), 3, 4)) > 0.3
    left[:, 0, 0] = False
    hide = np.arange(0, len(days), 7)
    told = withheld.climatology(Block(values, left, days), left, hide)
    assert np.isnan(told[:, :, 0, 0]).all()
    known = np.ones((3, 4), bool)
    known[0, 0] = False
    # the penalty of one date in about a hundred takes at most two percent of the swing
    assert np.abs(told - values[hide])[:, :, known].max() < 0.004


def test_targets_are_judged_where_they_are_asked_for() -> None:
    half = np.zeros_like(SEEN)
    half[:, :, :12] = True
    none = np.zeros_like(SEEN)
    found = withheld.hidden_errors(BLOCK, scores.median, {"half": half, "none": none})
    assert np.isnan(found["none"]).all()
    # the error of the western half does not depend on the eastern one
    values = BLOCK.values.copy()
    values[:, :, :, 12:] += np.float32(0.02)
    again = withheld.hidden_errors(replace(BLOCK, values=values), scores.median, {"half": half})
    np.testing.assert_allclose(found["half"], again["half"])
    whole = withheld.hidden_errors(BLOCK, scores.median)["all"]
    assert len(whole) == len(scores.clear_dates(BLOCK))
    assert np.isfinite(whole).all()


# --- haze, shadow and noise ---


@pytest.mark.parametrize("kind", veil.VEILS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_no_veil_moves_nothing_and_a_thicker_one_more(name: str, kind: str) -> None:
    each = REPRESENTATIONS[name]
    found = [veil.answer(each, BLOCK, CHANNELS, kind, strength=s) for s in (0.0, 0.3, 1.0)]
    far = [one.moved for one in found]
    assert far[0] == 0
    assert 0 < far[1] < far[2]
    if each.decode is not None:
        assert found[0].kept == 0
        assert found[2].kept > 0


@pytest.mark.parametrize("kind", veil.VEILS)
def test_bands_keep_the_whole_veil(kind: str) -> None:
    found = veil.answer(evaluate.bands(CHANNELS), BLOCK, CHANNELS, kind)
    assert found.kept == pytest.approx(1.0, abs=1e-5)


def test_veils_have_the_strength_that_they_state() -> None:
    rng, waves = np.random.default_rng(0), np.array([492.0, 1613.0])
    dark = veil.haze(np.zeros((40, 2, 16, 16)), waves, rng, 1.0)
    assert dark[:, 0].min() >= 0.5 * veil.HAZE[0]
    assert dark[:, 0].max() <= 1.5 * veil.HAZE[1]
    np.testing.assert_allclose(dark[:, 1], dark[:, 0] * (1613 / 492) ** -1.3)
    left = veil.shadow(np.ones((40, 2, 16, 16)), waves, rng, 1.0)
    assert left[:, 0].max() < 1 - 0.7 * 0.5 * veil.SHADOW[0] + 1e-9
    assert (left[:, 1] < left[:, 0]).all(), "the light of the sky is blue"
    assert veil.noise(np.zeros((9, 2, 64, 64)), waves, rng, 1.0).std() == pytest.approx(
        veil.NOISE, rel=0.02
    )


def test_only_touched_dates_are_veiled() -> None:
    under = veil.veiled(BLOCK, CHANNELS, "haze")
    touched = veil.touched(BLOCK)
    changed = (np.nan_to_num(under.values) != np.nan_to_num(BLOCK.values)).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(changed), touched)
    assert set(touched) <= set(scores.clear_dates(BLOCK))
    assert under.valid is BLOCK.valid


def test_spread_is_the_distance_of_random_pairs() -> None:
    features = evaluate.bands(CHANNELS).features(BLOCK)
    clear = scores.clear_dates(BLOCK)
    rows = np.moveaxis(features[clear], 1, -1)[SEEN[clear]]
    rng = np.random.default_rng(0)
    a, b = (rows[rng.integers(len(rows), size=40_000)] for _ in range(2))
    pairs = np.sqrt(((a - b) ** 2).sum(axis=1).mean())
    assert veil.spread(features, BLOCK) == pytest.approx(pairs, rel=0.02)


# --- probes ---


def test_a_probe_tells_what_is_linear_and_no_noise() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.normal(3, 2, (400, 6)), rng.normal(3, 2, (300, 6))
    weights, groups = rng.normal(size=6), np.arange(400) // 100
    told = probes.ridge(x, x @ weights - 4, groups, new)
    assert probes.r2(new @ weights - 4, told) > 0.99999
    noise = probes.ridge(x, rng.normal(size=400), groups, new)
    assert abs(probes.r2(rng.normal(size=300), noise)) < 0.1


def test_ridge_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    x, new, y = rng.normal(size=(90, 5)), rng.normal(size=(40, 5)), rng.normal(size=90)
    middle = probes.PENALTIES[len(probes.PENALTIES) // 2]
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    peer = Ridge(alpha=middle * len(x)).fit((x - mean) / deviation, y)
    told = probes.ridge(x, y, np.zeros(90, int), new)
    np.testing.assert_allclose(told, peer.predict((new - mean) / deviation), atol=1e-10)
    assert probes.r2(y[:40], told) == pytest.approx(r2_score(y[:40], told))


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 500)
    centre = rng.normal(size=(4, 6))
    x = centre[y] + rng.normal(0, 1.2, (500, 6))
    told = probes.logistic(x, y, x, 1e-2)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    peer = LogisticRegression(C=1 / (500 * 1e-2), tol=1e-8, max_iter=500).fit(scaled, y)
    assert (told == peer.predict(scaled)).mean() > 0.995
    assert probes.macro_f1(y, told) == pytest.approx(f1_score(y, told, average="macro"))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 5))
@settings(max_examples=40)
def test_a_group_is_never_cut(groups: list[int], count: int) -> None:
    fold = probes.folds(np.array(groups), count)
    assert fold.min() >= 0
    assert fold.max() < count
    for group in set(groups):
        assert len(set(fold[np.array(groups) == group])) == 1


@given(st.integers(0, 2**31))
@settings(max_examples=15)
def test_folds_share_no_field(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (6, 7)).repeat(4, 0).repeat(4, 1)
    field = probes.fields(labels)
    fold = probes.field_folds(labels, field, 2)
    assert (field[labels == 0] == 0).all()
    for number in np.unique(field[field > 0]):
        here = field == number
        assert len(np.unique(labels[here])) == 1
        assert len(np.unique(fold[here])) == 1
        assert here.sum() >= probes.SMALLEST
    for value in np.unique(labels[fold >= 0]):
        assert set(fold[(labels == value) & (fold >= 0)]) == {0, 1}
    # neighbours of one label are one field
    same = labels[:, 1:] == labels[:, :-1]
    assert (field[:, 1:][same] == field[:, :-1][same]).all()


def test_seasons_are_means_over_parts_of_the_year() -> None:
    days = START + np.arange(0, 365, 5.0)
    part = ((days % reading.YEAR) / reading.YEAR * reading.SEASONS).astype(int)
    features = np.broadcast_to(part[:, None, None], (len(days), 2, 3)).astype(float).copy()
    features[part == 1, :, 2] = np.nan  # a pixel without a spring has its mean there
    found = reading.seasonal(features, days)
    np.testing.assert_allclose(found[0], [0, 0, 1, 1, 2, 2, 3, 3])
    assert found[2, 2] == pytest.approx(np.nanmean(features[:, 0, 2]))


# --- changes ---


@given(st.integers(change.SIDES, 30), st.integers(0, 2**31))
def test_a_planted_step_is_dated(at: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = np.cumsum(rng.integers(1, 12, 33 + change.SIDES)).astype(float)
    series = rng.normal(0, 0.01, (len(days), 3))
    series[at:] += [0.5, -0.2, 0.1]
    assert change.dated(series, days) == (days[at - 1] + days[at]) / 2


def test_short_series_have_no_date() -> None:
    assert np.isnan(change.dated(np.zeros((5, 2)), np.arange(5.0)))


def test_events_are_dated_as_well_as_the_dates_allow() -> None:
    place = toy(1)
    assert place.events is not None
    least = change.least_errors(place.block, place.events)
    found = change.event_errors(
        evaluate.bands(CHANNELS).features(place.block), place.block, place.events
    )
    assert len(least) == 9
    np.testing.assert_array_equal(found, least)


def test_what_stands_still_has_no_steps() -> None:
    rng = np.random.default_rng(0)
    still = np.broadcast_to(rng.random((1, 3, *SHAPE)), (len(BLOCK.days), 3, *SHAPE))
    never = Events(np.zeros(SHAPE, int), np.full(SHAPE, np.nan))
    assert change.roughness(still, BLOCK, never) == 0
    shaken = still + rng.normal(0, 0.5, still.shape)
    assert change.roughness(shaken, BLOCK, never) > 0.3


# --- places ---


def test_a_real_place_knows_radar_and_crops(shared_data: Path) -> None:
    ds = foreign.read(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    window = {"rows": slice(0, 32), "columns": slice(16, 48)}
    found = evaluate.place(ds, "be", CHANNELS, **window)
    assert found.region == "be"
    assert set(found.truth) == {"radar VV", "radar VH"}
    for values in found.truth.values():
        assert values.shape == found.block.valid.shape
        assert -25 < np.nanmedian(values) < 0
    gap = np.nanmedian(found.truth["radar VV"] - found.truth["radar VH"])
    assert 3 < gap < 12, "fields scatter back 3 to 12 dB less across than along"
    assert found.labels is not None
    assert set(np.unique(found.labels)) <= {0, 1200, 2130, 5100, 7900, 9120}
    assert not (found.strict & ~found.block.valid).any()
    # solid cloud that the scene classification does not know (README of the data)
    cloudy = np.flatnonzero(
        ds["time"].values.astype("datetime64[D]") == np.datetime64("2018-09-23")
    )
    assert found.block.valid[cloudy].mean() > 0.9
    assert found.strict[cloudy].mean() < 0.1


@pytest.fixture(scope="module")
def simulated() -> tuple[Place, np.ndarray]:
    ds = render(plan(seed=5, size=48, years=1), Tile(0, 48, 0, 48, 0, 48, 0, 48))
    labels = ds["label_class"].values
    return evaluate.place(ds, "sim 5", CHANNELS), labels[labels > 0]


def test_a_simulated_place_knows_its_truth(simulated: tuple[Place, np.ndarray]) -> None:
    place, _ = simulated
    assert place.region == "simulated"
    assert {"leaf area", "chlorophyll", "GPP", "radar VV", "radar VH"} <= set(place.truth)
    assert place.labels is not None
    assert place.events is not None
    assert place.towers is not None
    assert (place.labels[place.events.kind > 0] == 0).all()
    assert np.isfinite(place.events.day[place.events.kind > 0]).all()
    # towers stand on pixels whose production is what they measure
    rows, columns = place.towers.row, place.towers.column
    truth = place.truth["GPP"][:, rows, columns].T
    there = np.isfinite(place.towers.gpp)
    assert np.corrcoef(truth[there], place.towers.gpp[there])[0, 1] > 0.8


# --- the table ---


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return [toy(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def subjects() -> list[evaluate.Representation]:
    mean = evaluate.neighbourhood_pca([season(9)], 3, dates=5)
    return [replace(mean, name="subject")]


@pytest.fixture(scope="module")
def table(places: list[Place], subjects: list[evaluate.Representation]) -> pd.DataFrame:
    return evaluate.evaluate(subjects, train=places[:2], test=places[2:])


def value(table: pd.DataFrame, task: str, name: str) -> float:
    found = table[(table["task"] == task) & (table["representation"] == name)]["value"]
    assert len(found) > 0
    return float(found.mean())


def test_the_table_says_what_is_known(table: pd.DataFrame) -> None:
    assert set(table["task"]) <= set(evaluate.TASKS)
    assert value(table, "seen", "10 bands") == 0
    assert value(table, "leaf area", "10 bands") > 0.999
    assert value(table, "GPP", "10 bands") > 0.999
    assert value(table, "tower GPP", "10 bands") > 0.9, "a footprint has gaps"
    assert value(table, "event", evaluate.BEST) <= value(table, "event", "PCA 3")
    assert value(table, "withheld", "linear interpolation") > 0
    assert abs(value(table, "seen", "subject int8") - value(table, "seen", "subject")) < 0.005
    alone = table[table["representation"] == "PCA 3"]["task"]
    assert "withheld" not in set(alone), "one date tells nothing of another"


def test_the_order_of_places_does_not_matter(
    places: list[Place], subjects: list[evaluate.Representation], table: pd.DataFrame
) -> None:
    again = evaluate.evaluate(subjects, train=places[1::-1], test=places[:1:-1])
    keys = ["task", "place", "representation"]
    one, two = (t.set_index(keys)["value"].sort_index() for t in (table, again))
    assert list(one.index) == list(two.index)
    np.testing.assert_allclose(one, two, rtol=0.02, atol=2e-3)


def test_other_simple_things_can_stand_beside(places: list[Place], table: pd.DataFrame) -> None:
    bands = evaluate.bands(CHANNELS)
    found = evaluate.evaluate([], train=places[:2], test=places[2:], beside=[bands])
    assert set(found["representation"]) == {"10 bands", evaluate.BEST, *withheld.TELLERS}
    merged = found.merge(table, on=["task", "place", "representation"])
    assert len(merged) == len(found)
    np.testing.assert_array_equal(merged["value_x"], merged["value_y"])


def test_a_place_alone_teaches_its_own_probes(places: list[Place]) -> None:
    foreigner = replace(places[2], region="elsewhere")
    rows = reading.rows(foreigner, evaluate.bands(CHANNELS).features(foreigner.block))
    found = reading.quantities([], rows)
    assert found["leaf area"] > 0.999
    assert "tower GPP" not in found
    assert np.isnan(reading.classes([], rows)), "each class has one field only"


def test_claims_are_ratios_of_the_table(table: pd.DataFrame) -> None:
    found = {(c.task, c.against): c for c in evaluate.claims(table, "subject")}
    claim = found["withheld", "linear interpolation"]
    ratio = value(table, "withheld", "subject") / value(table, "withheld", "linear interpolation")
    assert claim.value == pytest.approx(ratio)
    assert claim.kept == (ratio <= 0.7)
    probe = found["leaf area", "PCA 3"]
    assert probe.kept == (
        value(table, "leaf area", "subject") >= value(table, "leaf area", "PCA 3")
    )
    with pytest.raises(KeyError, match="no 'nobody'"):
        evaluate.claims(table, "nobody")


def test_the_table_is_written_and_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    text = evaluate.render(table)
    assert "toy: R2; macro F1" in text
    assert "median of five dates" in text
    assert "±" in text
    read = pd.read_csv(evaluate.write(table, tmp_path / "t.csv"))
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    found = json.loads(evaluate.write(table, tmp_path / "t.json").read_text())
    assert pd.DataFrame(found["rows"])["value"].to_numpy() == pytest.approx(
        table["value"].to_numpy()
    )
    assert found["tasks"]["GPP"]["metric"] == "R2"
    with pytest.raises(ValueError, match=r"'t\.txt'"):
        evaluate.write(table, tmp_path / "t.txt")
    picture.draw(table, tmp_path / "t.png", subjects=["subject"])
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


def test_what_can_not_be_judged_is_refused(
    places: list[Place], subjects: list[evaluate.Representation]
) -> None:
    with pytest.raises(ValueError, match="training and a test place"):
        evaluate.evaluate(subjects, train=places[:2], test=places[1:])
    with pytest.raises(ValueError, match="at least one of each"):
        evaluate.evaluate(subjects, train=[], test=places)
    other = replace(places[3], channels=tuple(reversed(CHANNELS)))
    with pytest.raises(ValueError, match="read all places with the same"):
        evaluate.evaluate(subjects, train=places[:1], test=[other])
    taken = [replace(subjects[0], name="PCA 3")]
    with pytest.raises(ValueError, match="rename it"):
        evaluate.evaluate(taken, train=places[:1], test=places[1:])
