"""Similarity, groups, classes and change: laws and golden numbers on small arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures.find import change, classify, clusters, labels
from deepfeatures.find.course import FEWEST, YEAR, course
from deepfeatures.find.similarity import METHODS, similarity, usable


def some(seed: int = 0, dates: int = 9, features: int = 4, pixels: int = 30) -> np.ndarray:
    """Vectors with gaps."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(dates, features, pixels)).astype(np.float32)
    gone = rng.random((dates, pixels)) < 0.3
    found[np.broadcast_to(gone[:, None], found.shape)] = np.nan
    return found


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_similarity_is_the_plain_formula_on_common_dates(seed):
    vectors = some(seed)
    reference = vectors[..., 0]
    cosine, euclid = (similarity(vectors, reference, method) for method in METHODS)
    for pixel in range(vectors.shape[2]):
        one, other = vectors[..., pixel], reference
        common = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
        if not common.any():
            assert np.isnan(cosine[pixel])
            assert np.isnan(euclid[pixel])
            continue
        a, b = one[common].astype(float).ravel(), other[common].astype(float).ravel()
        want = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        np.testing.assert_allclose(cosine[pixel], want, atol=1e-5)
        np.testing.assert_allclose(
            euclid[pixel], np.linalg.norm(a - b) / np.sqrt(common.sum()), rtol=1e-5, atol=1e-6
        )
    if usable(reference[None].transpose(1, 2, 0)).any():
        assert cosine[0] == pytest.approx(1, abs=1e-6)
        assert euclid[0] == 0


def test_pixels_are_compared_each_for_itself():
    vectors, reference = some(pixels=50), some(3, pixels=1)[..., 0]
    for method in METHODS:
        whole = similarity(vectors, reference, method)
        parts = [similarity(vectors[..., at : at + 7], reference, method) for at in range(0, 50, 7)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5)


def test_a_reference_that_was_never_seen_is_refused():
    vectors = some()
    with pytest.raises(ValueError, match="usable on no date"):
        similarity(vectors, np.full((9, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="choose cosine or euclid"):
        similarity(vectors, vectors[..., 0], "manhattan")
    with pytest.raises(ValueError, match="does not fit"):
        similarity(vectors, vectors[:3, :, 0])


def test_the_course_finds_a_planted_wave_whatever_the_gaps():
    days = np.arange(0, 1096, 7)
    angle = 2 * np.pi * days / YEAR
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3, 2, 40))
    basis = np.stack([np.ones(days.size), np.cos(angle), np.sin(angle)])
    vectors = np.einsum("ct,cfn->tfn", basis, truth).astype(np.float32)
    gone = rng.random((days.size, 40)) < 0.4
    vectors[np.broadcast_to(gone[:, None], vectors.shape)] = np.nan
    vectors[FEWEST - 1 :, :, 7] = np.nan
    found = course(vectors, days).reshape(3, 2, 40)
    assert np.isnan(found[..., 7]).all()
    kept = np.arange(40) != 7
    np.testing.assert_allclose(found[..., kept], truth[..., kept], rtol=0.03, atol=0.05)


def test_planted_groups_are_found_and_ordered_by_size():
    rng = np.random.default_rng(2)
    sizes = (500, 300, 100)
    middles = rng.normal(scale=20, size=(3, 5))
    truth = np.repeat([1, 2, 3], sizes)
    rows = (middles[truth - 1] + rng.normal(size=(900, 5))).astype(np.float32)
    order = rng.permutation(900)
    rows, truth = rows[order], truth[order]
    rows[11, 2] = np.nan
    found = clusters.kmeans(rows, 3, seed=5)
    assert found.codes[11] == 0
    there = np.arange(900) != 11
    np.testing.assert_array_equal(found.codes[there], truth[there])
    assert found.counts.tolist() == np.bincount(truth[there])[1:].tolist()
    np.testing.assert_array_equal(found.codes, clusters.kmeans(rows, 3, seed=5).codes)
    with pytest.raises(ValueError, match="2 to 12"):
        clusters.kmeans(rows, 13)
    with pytest.raises(ValueError, match="fewer than 4 different"):
        clusters.kmeans(np.repeat(rows[:3], 20, axis=0), 4)


@given(st.integers(0, 10_000), st.floats(1, 60))
@settings(max_examples=30)
def test_neighbouring_labels_are_in_one_block(seed, gap):
    places = np.random.default_rng(seed).uniform(0, 300, (40, 2))
    block = classify.blocks(places, gap)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    near = apart <= gap
    assert (block[:, None] == block[None])[near].all()


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give samples, codes and places of three well separated classes in clumps."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([1, 2, 3], 24)
    samples = (rng.normal(size=(3, 6))[codes - 1] * 6 + rng.normal(size=(72, 6))).astype(np.float32)
    clump = np.tile(np.repeat(np.arange(6), 4), 3)
    places = np.stack([codes * 1000.0, clump * 500.0], axis=1) + rng.uniform(0, 40, (72, 2))
    return samples, codes, places


@pytest.mark.parametrize("method", classify.METHODS)
def test_planted_classes_are_told_in_other_blocks(method):
    samples, codes, places = planted()
    block = classify.blocks(places, 100)
    assert len(np.unique(block)) == 18
    found = classify.validate(samples, codes, block, k=3, method=method)
    assert found.accuracy > 0.9
    assert found.confusion.sum() == 72
    assert found.accuracy == pytest.approx(np.trace(found.confusion) / 72)
    counts = [n for n, _ in found.learning]
    assert counts == sorted(counts)
    model = classify.train(samples, codes, method)
    rows = np.concatenate([samples, np.full((1, 6), np.nan, np.float32)])
    told, chances = classify.predict(model, rows, 3)
    assert told[-1] == 0
    assert np.isnan(chances[:, -1]).all()
    np.testing.assert_allclose(chances[:, :-1].sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(told[:-1], chances[:, :-1].argmax(axis=0) + 1)
    assert (told[:-1] == codes).mean() > 0.95


def test_no_block_is_on_both_sides_and_one_place_is_no_proof(monkeypatch):
    samples, codes, places = planted()
    block = classify.blocks(places, 100)
    train = classify.train

    def watched(rows, *args):
        learned = {int(b) for b in block[(samples[:, None] == rows[None]).all(-1).any(axis=1)]}
        model = train(rows, *args)
        ask = model.predict

        def predict(asked):
            told = {int(b) for b in block[(samples[:, None] == asked[None]).all(-1).any(axis=1)]}
            assert not learned & told
            return ask(asked)

        model.predict = predict
        return model

    monkeypatch.setattr(classify, "train", watched)
    classify.validate(samples, codes, block, k=3)
    alone = classify.validate(samples, codes, codes, k=3)
    assert np.isnan(alone.accuracy)
    assert "two or more places" in alone.note
    with pytest.raises(ValueError, match="choose logistic"):
        train(samples, codes, "magic")
    with pytest.raises(ValueError, match="second one"):
        train(samples, np.ones(72, int), "logistic")


def test_nothing_changes_between_a_date_and_itself():
    vectors = some()
    same = change.change(vectors[:1], vectors[:1])
    there = np.isfinite(vectors[0]).all(axis=0)
    assert (same[there] == 0).all()
    assert np.isnan(same[~there]).all()
    moved = change.change(vectors[:1], vectors[:1] + np.float32(0.5))
    np.testing.assert_allclose(moved[there], 0.5 * 2, rtol=1e-4)  # four features: sqrt(4) = 2


def test_months_are_means_of_what_was_usable():
    vectors = some(dates=24)
    month = np.arange(24) % 12
    found = change.months(vectors, month)
    both = np.stack([vectors[:12], vectors[12:]])
    seen = np.isfinite(both).any(axis=0)
    want = np.nansum(both, axis=0)[seen] / np.isfinite(both).sum(axis=0)[seen]
    np.testing.assert_allclose(found[seen], want, rtol=1e-5)
    assert np.isnan(found[~seen]).all()


@given(st.integers(0, 10_000), st.floats(0.001, 1))
@settings(max_examples=30)
def test_bins_and_what_is_missing_sum_to_the_area(seed, hectares):
    rng = np.random.default_rng(seed)
    values = rng.exponential(size=200).astype(np.float32)
    values[rng.random(200) < 0.2] = np.nan
    for edges in (None, [0, 0.1, 0.5], [1.0, 2.0]):
        limits, areas, missing = change.bins(values, hectares, edges)
        assert len(limits) == len(areas) + 1
        assert areas.sum() + missing == pytest.approx(200 * hectares)
    with pytest.raises(ValueError, match="rising"):
        change.bins(values, hectares, [1, 1])


def test_labels_come_back_equal_and_within_limits():
    marked = [labels.Label(11.5, 50.9, "forest"), labels.Label(11.6, 50.8, "open-pit mine")]
    text = json.dumps(labels.to_geojson(marked))
    assert labels.from_geojson(text) == marked
    assert labels.classes(marked) == ("forest", "open-pit mine")
    with pytest.raises(ValueError, match="1 classes"):
        labels.classes(marked[:1])
    with pytest.raises(ValueError, match="too many"):
        labels.classes(marked * 1001)
    with pytest.raises(ValueError, match="12"):
        labels.classes([labels.Label(0, 0, str(n)) for n in range(13)])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{", "no JSON"),
        ("[]", "FeatureCollection"),
        ("[" * 100_000, "no JSON"),
        (b" " * (labels.MAX_BYTES + 1), "too large"),
        ({"features": [{}]}, "label 1"),
        ({"features": [None] * (labels.MAX_LABELS + 1)}, "too many"),
        ({"features": [{"type": "Feature", "properties": {"class": "a"},
                        "geometry": {"type": "Point", "coordinates": [200, 0]}}]}, "no place"),
        ({"features": [{"type": "Feature", "properties": {"class": "a" * 41},
                        "geometry": {"type": "Point", "coordinates": [1, 0]}}]}, "1 to 40"),
        ({"features": [{"type": "Feature", "properties": {"class": "a"},
                        "geometry": {"type": "Polygon", "coordinates": [[[1, 0]]]}}]}, "label 1"),
    ],
)  # fmt: skip
def test_broken_labels_are_refused_in_a_sentence(source, words):
    with pytest.raises(ValueError, match=words):
        labels.from_geojson(source)
