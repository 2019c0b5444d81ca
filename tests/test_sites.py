"""Sites: distances, strata, a minimum distance, and folds that never touch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.transform import from_origin

from deepfeatures import sites
from deepfeatures.__main__ import main

R = sites.EARTH_KM


def spread(seed: int, count: int, clusters: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in clusters anywhere on Earth, the poles and the date line among them."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(clusters, 3))
    middle[0] = (0, 0, 1)
    middle[-1] = (-1, 0, 0.2)
    points = middle[rng.integers(clusters, size=count)]
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    points = points + rng.normal(0, width / R, size=points.shape)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    lon = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    return lon, np.degrees(np.arcsin(points[:, 2]))


places = st.builds(
    spread,
    st.integers(0, 2**32 - 1),
    st.integers(1, 200),
    st.integers(2, 12),
    st.sampled_from([1.0, 30.0, 300.0, 5000.0]),
)


def between(lon: np.ndarray, lat: np.ndarray, left: Any, right: Any) -> np.ndarray:
    return sites.distance(lon[left][:, None], lat[left][:, None], lon[right], lat[right])


def test_distances_are_those_of_a_sphere() -> None:
    sphere = Geod(a=R * 1000, b=R * 1000)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, (2, 200)), rng.uniform(-90, 90, (2, 200))
    metres = sphere.inv(lon[0], lat[0], lon[1], lat[1])[2]
    np.testing.assert_allclose(
        sites.distance(lon[0], lat[0], lon[1], lat[1]), metres / 1000, rtol=1e-6
    )
    assert sites.distance(179.9, 0, -179.9, 0) == pytest.approx(0.2 * np.pi / 180 * R)
    assert sites.distance(0, 90, 123, 90) == pytest.approx(0, abs=1e-9)
    assert sites.distance(0, 0, 180, 0) == pytest.approx(np.pi * R)


def test_strata_are_classes_by_quantiles() -> None:
    classes = np.array(["forest", "crop"] * 50)
    heat, rain = np.arange(100.0), np.arange(100.0)[::-1]
    found = sites.strata(classes, heat, rain, bins=2)
    assert found.max() == 3  # the two climates say the same here: 2 classes x 2 bins
    assert np.bincount(found).tolist() == [25, 25, 25, 25]
    assert sites.strata(classes).tolist() == [1, 0] * 50
    with pytest.raises(ValueError, match="climate variable 2 has 99 values for 100 sites"):
        sites.strata(classes, heat, np.r_[rain[:99], np.nan])


@settings(max_examples=60)
@given(places, st.integers(1, 5), st.integers(1, 60), st.sampled_from([0.0, 5.0, 80.0, 2000.0]))
def test_sampling_keeps_the_distance_and_the_quotas(
    place: tuple[np.ndarray, np.ndarray], kinds: int, count: int, apart: float
) -> None:
    lon, lat = place
    stratum = np.random.default_rng(1).integers(kinds, size=lon.size)
    found = sites.stratified(lon, lat, stratum, count=count, min_distance_km=apart, seed=3)
    assert 0 < found.size <= count
    assert np.unique(found).size == found.size
    km = between(lon, lat, found, found)
    np.fill_diagonal(km, np.inf)
    assert km.min(initial=np.inf) >= apart * (1 - 1e-9)
    # a stratum that got two less than another has nothing left that is far enough
    taken = np.bincount(stratum[found], minlength=kinds)
    blocked = (between(lon, lat, slice(None), found) < apart * (1 + 1e-9) + 1e-6).any(axis=1)
    for kind in np.unique(stratum):
        if taken[kind] + 1 < taken.max() or (found.size < count):
            assert blocked[stratum == kind].all()


@given(places, st.integers(0, 99))
def test_sampling_does_not_depend_on_the_order(
    place: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    lon, lat = place
    stratum = (lon > 0).astype(int)
    found = sites.stratified(lon, lat, stratum, count=20, min_distance_km=50, seed=seed)
    turn = np.random.default_rng(seed).permutation(lon.size)
    again = sites.stratified(
        lon[turn], lat[turn], stratum[turn], count=20, min_distance_km=50, seed=seed
    )
    np.testing.assert_array_equal(turn[again], found)


def test_another_seed_draws_others() -> None:
    lon, lat = spread(0, 200, 12, 5000.0)
    draws = {
        tuple(sites.stratified(lon, lat, np.zeros(200), count=20, min_distance_km=1, seed=seed))
        for seed in range(5)
    }
    assert len(draws) == 5


@settings(max_examples=100)
@given(
    places,
    st.sampled_from([0.0, 1.0, 20.0, 200.0, 3000.0]),
    st.sampled_from([3.0, 100.0, 1000.0]),
    st.integers(0, 99),
)
def test_no_two_folds_come_near_each_other(
    place: tuple[np.ndarray, np.ndarray], buffer: float, block: float, seed: int
) -> None:
    lon, lat = place
    fold = sites.folds(lon, lat, block_km=block, buffer_km=buffer, seed=seed)
    assert set(np.unique(fold)) <= {-1, 0, 1, 2}
    for low, high in ((0, 1), (0, 2), (1, 2)):
        km = between(lon, lat, fold == low, fold == high)
        assert km.min(initial=np.inf) > buffer


@settings(max_examples=60)
@given(places, st.sampled_from([0.0, 5.0, 40.0]), st.integers(0, 99))
def test_folds_in_time_share_no_season(
    place: tuple[np.ndarray, np.ndarray], buffer: float, seed: int
) -> None:
    lon, lat = place
    rng = np.random.default_rng(seed)
    time = np.datetime64("2016-01-01") + rng.integers(0, 2500, lon.size).astype("timedelta64[D]")
    fold = sites.folds(lon, lat, time, block_km=300, buffer_km=20, buffer_days=buffer, seed=seed)
    days = time.astype(int)
    for low, high in ((0, 1), (0, 2), (1, 2)):
        apart = np.abs(days[fold == low][:, None] - days[fold == high])
        assert apart.min(initial=10**6) > buffer
        assert between(lon, lat, fold == low, fold == high).min(initial=np.inf) > 20


@given(places, st.integers(0, 99))
def test_folds_do_not_depend_on_the_order(place: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    lon, lat = place
    first = sites.folds(lon, lat, block_km=200, buffer_km=50, seed=seed)
    turn = np.random.default_rng(seed).permutation(lon.size)
    again = sites.folds(lon[turn], lat[turn], block_km=200, buffer_km=50, seed=seed)
    np.testing.assert_array_equal(again, first[turn])


@given(st.integers(0, 99), st.integers(100, 300))
def test_sites_that_stand_apart_are_all_kept_in_their_shares(seed: int, count: int) -> None:
    lon, lat = spread(seed, count, 12, 5000.0)
    alone = sites.stratified(lon, lat, np.zeros(count), count=count, min_distance_km=60)
    assume(alone.size >= 50)
    fold = sites.folds(lon[alone], lat[alone], block_km=1, buffer_km=50, seed=seed)
    assert (fold >= 0).all()
    counts = np.bincount(fold, minlength=3)
    np.testing.assert_allclose(counts, np.array([0.7, 0.15, 0.15]) * alone.size, atol=2.0)


def test_a_block_lies_in_one_fold() -> None:
    rng = np.random.default_rng(4)
    lon, lat = rng.uniform(-180, 180, 400), rng.uniform(-60, 60, 400)
    # so large a block that the two hemispheres are all there is
    fold = sites.folds(lon, lat, block_km=20_000, buffer_km=0, seed=2)
    east, west = set(fold[lon > 0]), set(fold[lon < 0])
    assert len(east) == len(west) == 1
    assert east != west


def test_a_dense_region_is_cut_along_blocks_and_loses_its_seams_only() -> None:
    lon, lat = (
        axis.ravel() for axis in np.meshgrid(np.linspace(5, 15, 60), np.linspace(45, 55, 60))
    )
    fold = sites.folds(lon, lat, block_km=150, buffer_km=20, seed=1)
    assert len(np.unique(fold)) == 4
    lost = fold == -1
    assert 0.02 < lost.mean() < 0.5
    # a dropped site is near a site of a fold above training: nothing is dropped for nothing
    nearest = between(lon, lat, lost, fold > 0).min(axis=1)
    assert nearest.max() <= 20 * (1 + 1e-6)


def test_what_is_no_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"site 1 at lon 5\.0, lat 95\.0 is no place"):
        sites.folds([1, 5], [2, 95], block_km=1, buffer_km=1)
    with pytest.raises(ValueError, match="site 0 at lon nan"):
        sites.stratified([np.nan], [2], [0], count=1, min_distance_km=1)
    with pytest.raises(ValueError, match="1 strata for 2 sites"):
        sites.stratified([1, 2], [2, 3], [0], count=1, min_distance_km=1)
    with pytest.raises(ValueError, match="count 0"):
        sites.stratified([1], [2], [0], count=0, min_distance_km=1)
    with pytest.raises(ValueError, match="must be three numbers"):
        sites.folds([1], [2], block_km=1, buffer_km=1, shares=(0.5, 0.5))
    with pytest.raises(ValueError, match="block 0 km"):
        sites.folds([1], [2], block_km=0, buffer_km=1)
    with pytest.raises(ValueError, match="1 longitudes and 2 latitudes"):
        sites.folds([1], [2, 3], block_km=1, buffer_km=1)
    with pytest.raises(ValueError, match="0 dates for 1 sites"):
        sites.folds([1], [2], ["NaT"], block_km=1, buffer_km=1)


def test_no_site_gives_no_label() -> None:
    assert sites.folds([], [], block_km=1, buffer_km=1).size == 0
    assert sites.stratified([], [], [], count=3, min_distance_km=1).size == 0


# ---- the tables of the command line


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 30, 3000), rng.uniform(42, 62, 3000)
    table = pd.DataFrame(
        {
            "lon": lon,
            "lat": lat,
            "class": rng.choice(["needle", "broad", "grass"], 3000, p=[0.6, 0.3, 0.1]),
            "temperature": 20 - 0.3 * lat + rng.normal(size=3000),
            "precipitation": rng.gamma(2, 300, 3000),
        }
    )
    table.to_csv(tmp_path / "candidates.csv", index=False)
    return tmp_path / "candidates.csv"


def run(capsys: pytest.CaptureFixture[str], home: Path, *words: str, code: int = 0) -> str:
    assert main(["minicube", *words, "--home", str(home)]) == code
    out, err = capsys.readouterr()
    return (err if code else out).strip()


def test_from_candidates_to_folds(
    candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, cut = str(tmp_path / "sites.csv"), str(tmp_path / "folds.csv")
    said = run(
        capsys, tmp_path, "sites", "--landcover", str(candidates), "--count", "250",
        "--min-distance", "30", "--bins", "3", "--out", drawn, "--json",
    )  # fmt: skip
    assert json.loads(said)["sites"] == 250
    table = pd.read_csv(drawn)
    # 27 strata of three classes, three of heat and three of rain: all get nine or ten sites
    assert table["stratum"].value_counts().between(9, 10).all()
    assert table["stratum"].nunique() == 27
    said = run(capsys, tmp_path, "folds", drawn, "--buffer", "60", "--block", "300", "--out", cut)
    assert "train" in said
    found = pd.read_csv(cut)
    assert set(found["fold"]) >= {"train", "validation", "test"}
    lon, lat = found["lon"].to_numpy(), found["lat"].to_numpy()
    train, test = (found["fold"] == name for name in ("train", "test"))
    assert between(lon, lat, train, test).min() > 60


def test_candidates_of_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[:20, :30], classes[20:, 30:] = 10, 40
    place = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_600_000, 1000, 1000)}
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", width=60, height=40, count=1, dtype="uint8",
        **place,
    ) as file:  # fmt: skip
        file.write(classes, 1)
    run(
        capsys, tmp_path, "sites", "--landcover", str(tmp_path / "map.tif"), "--count", "20",
        "--min-distance", "2", "--out", str(tmp_path / "sites.csv"),
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "sites.csv")
    assert table["class"].value_counts().to_dict() == {10: 10, 40: 10}
    back = Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True)
    x, y = back.transform(table["lon"].to_numpy(), table["lat"].to_numpy())
    column, row = (x - 500_000) / 1000, (5_600_000 - y) / 1000
    np.testing.assert_allclose(column % 1, 0.5, atol=1e-4)  # centres of pixels
    assert (classes[row.astype(int), column.astype(int)] == table["class"]).all()


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        (None, ("sites", "--count", "1"), "there is no file"),
        ("lon,lat\n1,2\n", ("sites", "--count", "1"), "has no column 'class'"),
        ("a,b\n1,2\n", ("folds",), "has no column 'lon'"),
        ("lon,lat\nx,2\n", ("folds",), "holds no numbers"),
        ("lon,lat\n1,95\n", ("folds",), "site 0 at lon 1.0, lat 95.0 is no place"),
        ("lon,lat,time\n1,5,soon\n", ("folds",), "0 dates for 1 sites"),
        ("", ("folds",), "is no CSV table"),
        ("lon,lat,class\n1,2,a\n", ("sites", "--count", "1", "--climate", "heat"),
         "the candidates have no column 'heat'"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    given = (
        ["--landcover", str(path), "--min-distance", "1"] if words[0] == "sites" else [str(path)]
    )
    more = [] if words[0] == "sites" else ["--buffer", "1"]
    said = run(
        capsys, tmp_path, words[0], *given, *words[1:], *more, "--out", str(tmp_path / "o.csv"),
        code=1,
    )  # fmt: skip
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "o.csv").exists()
