"""What the shipped checkpoints are worth, on places that they never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepfeatures import foreign, simulate
from deepfeatures.embed import scores
from deepfeatures.predictor import Predictor, shipped
from deepfeatures.tiles import Tile

TOLERANCE = 2e-4
"""Difference of an error from that in the card, on another machine [reflectance]."""


@pytest.fixture(scope="module")
def belgium(shared_data: Path) -> dict[str, dict[str, float]]:
    """Scores on the eastern half of a real cube whose western half was learned from."""
    ds = foreign.read(shared_data / "s2" / "be_31UDS_s2s1_2017-2018_10m.nc")
    east = ds.isel(x=slice(36, None))
    return {name: scores.unseen(Predictor.load(name), east) for name in shipped()}


def test_the_card_tells_the_figures(belgium: dict[str, dict[str, float]]) -> None:
    for name, found in belgium.items():
        told = Predictor.load(name).card.training["scores"]["be_31UDS east"]
        assert found == pytest.approx(told, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["optical", "fused"])
def test_hidden_dates_of_a_real_place_are_told_better_than_by_interpolation(
    belgium: dict[str, dict[str, float]], name: str
) -> None:
    found = belgium[name]
    assert found["dates"] > 40
    assert found["hidden"] < 0.7 * found["linear"]
    assert found["hidden"] < 0.95 * found["median"]
    assert found["hidden"] < 0.6 * belgium["pca"]["hidden"]


def test_eight_bits_are_enough(belgium: dict[str, dict[str, float]]) -> None:
    for found in belgium.values():
        assert found["seen_int8"] < found["seen"] + 0.0005


def test_hidden_dates_of_a_hazy_landscape_of_another_seed() -> None:
    """A simulated one with much haze that its mask misses: what the network is for."""
    tile = Tile(0, 64, 0, 64, 0, 64, 0, 64)
    ds = simulate.render(simulate.plan(seed=901, size=128, years=2, varied=True), tile)
    found = scores.unseen(Predictor.load("optical"), ds)
    assert found["hidden"] < 0.5 * found["linear"]
    assert found["hidden"] < 0.75 * found["median"]


@pytest.mark.parametrize("name", shipped())
def test_the_card_says_what_the_model_is_and_names_no_place_of_a_machine(name: str) -> None:
    card = Predictor.load(name).card
    assert card.licence == "MIT"
    assert card.purpose
    assert card.limitations
    assert card.training["versions"]["indices"]
    assert card.training["cost"]["cpu_seconds"] > 0
    told = json.dumps(card.training)
    assert "Copernicus" in told
    assert "simulated" in told
    assert "/home/" not in told
    assert "/tmp/" not in told
