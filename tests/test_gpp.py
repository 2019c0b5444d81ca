"""Laws of the GPP laboratory: nothing leaks, nothing looks ahead, sums merge."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfeatures import work
from deepfeatures.gpp import (
    baselines,
    cycle,
    evaluation,
    importance,
    metrics,
    networks,
    readers,
    splits,
)
from deepfeatures.gpp.batches import batch
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.towers import filled, towers
from deepfeatures.gpp.training import Recipe, train
from deepfeatures.gpp.windows import Windows


def made(sites: int = 4, years: int = 4, seed: int = 0) -> pd.DataFrame:
    """Towers whose GPP is a known law of radiation and the temperature of the last ten days."""
    random = np.random.default_rng(seed)
    parts = []
    for number in range(sites):
        date = pd.date_range("2001-01-01", f"{2000 + years}-12-31")
        season = np.sin(2 * np.pi * (date.day_of_year.to_numpy() - 100) / 365)
        sun = np.maximum(150 + 120 * season + random.normal(0, 40, len(date)), 5)
        warmth = 8 + 10 * season + random.normal(0, 3, len(date))
        used = pd.Series(warmth).rolling(10, min_periods=1).mean().to_numpy()
        gpp = 0.03 * sun * np.clip((used + 2) / 18, 0, 1) * (1 + 0.1 * number)
        quality = random.choice([0.3, 0.9], len(date), p=[0.2, 0.8])
        # a gap-filled day is nonsense here: whoever scores or learns it is found out
        gpp = np.where(quality < 0.7, 500.0, gpp + random.normal(0, 0.3, len(date)))
        parts.append(
            pd.DataFrame(
                {
                    "date": date, "site": f"XX-{number:03d}", "igbp": ["DBF", "ENF"][number % 2],
                    "GPP": gpp, "GPP_QC": quality, "SW_IN": sun, "TA": warmth,
                    "lat": 50.0 + number, "lon": 10.0 + 3 * number, "elev": 100.0 * number,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def four():
    return towers(made())


PAIRS = st.lists(
    st.tuples(st.floats(-20, 30, width=32), st.floats(-20, 30, width=32)), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.integers(0, 40))
def test_sums_of_parts_are_the_sums_of_the_whole(pairs, cut):
    observed, told = np.array(pairs).T
    whole = metrics.sums(observed, told)
    parts = metrics.sums(observed[:cut], told[:cut]) + metrics.sums(observed[cut:], told[cut:])
    assert metrics.close(whole, parts)


def test_scores_are_those_of_their_definitions():
    random = np.random.default_rng(1)
    observed = random.normal(5, 3, 200)
    told = 0.8 * observed + random.normal(0.5, 1, 200)
    found = metrics.sums(observed, told).scores()
    error = told - observed
    r = np.corrcoef(observed, told)[0, 1]
    away = r - 1, told.std() / observed.std() - 1, told.mean() / observed.mean() - 1
    assert found == pytest.approx(
        {
            "r2": 1 - (error**2).sum() / ((observed - observed.mean()) ** 2).sum(),
            "rmse": np.sqrt((error**2).mean()),
            "nrmse": np.sqrt((error**2).mean()) / np.ptp(observed),
            "kge": 1 - np.sqrt(np.square(away).sum()),
            "bias": error.mean(),
        },
        abs=1e-5,
    )
    assert np.isnan(metrics.sums([1.0], [2.0]).r2)
    with pytest.raises(ValueError, match="pairs"):
        metrics.sums([1.0], [1.0, 2.0])


@pytest.mark.parametrize("kind", networks.NETWORKS)
def test_a_network_is_causal_ignores_padding_and_goes_step_by_step(kind):
    make, options = networks.NETWORKS[kind]
    torch.manual_seed(0)
    net = make(5, context=20, **options).eval()
    values = torch.randn(3, 20, 5)
    with torch.inference_mode():
        whole, _ = net(values)
        later = values.clone()
        later[:, 12:] = 99.0
        torch.testing.assert_close(net(later)[0][:, :12], whole[:, :12])
        assert not torch.allclose(net(later)[0][:, 12:], whole[:, 12:])
        state, steps = None, []
        for start, end in ((0, 1), (1, 8), (8, 9), (9, 20)):  # days alone and several at once
            out, state = net(values[:, start:end], state)
            steps.append(out)
        torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-5)
    if kind == "gpt":
        with pytest.raises(ValueError, match="21 days"):
            net(values[:, :1], state)


@pytest.mark.parametrize("name", splits.SPLITS)
def test_no_day_site_or_year_is_on_two_sides(four, name):
    table = made(sites=5)
    table.loc[table["site"] == "XX-004", "igbp"] = "GRA"
    some = towers(table)
    for split in splits.SPLITS[name](some):
        sides = [split.train, split.validate, split.test]
        assert not np.any(np.sum(sides, axis=0) > 1)
        codes = some.site.astype(int) * 10_000 + some.year if name == "year" else some.site
        met = [set(codes[side & some.usable]) for side in sides]
        assert met[0]
        assert met[2]
        assert not (met[0] & met[1])
        assert not (met[0] & met[2])
        assert not (met[1] & met[2])
    tested = np.sum([split.test for split in splits.SPLITS["site"](some)], axis=0)
    assert (tested == 1).all()


def test_towers_that_are_neighbours_stay_on_one_side():
    table = made()
    table.loc[table["site"] == "XX-001", ["lat", "lon"]] = [50.1, 10.1]
    some = towers(table)
    split = splits.by_site(some)[0]
    assert not (split.train | split.validate)[some.site == 1].any()
    assert not split.test[some.site == 1].any()


def test_windows_end_on_their_day_and_never_reach_into_another_tower(four):
    ends = np.array([0, 5, *np.flatnonzero(np.diff(four.site)) + 1, len(four.day) - 1])
    windows = Windows(four, ends, 7)
    rows, days = windows.rows(np.arange(len(ends)))
    for row, count, end in zip(rows, days, ends, strict=True):
        assert row[count - 1] == end
        assert (four.site[row] == four.site[end]).all()
    assert days[0] == 1
    assert days[1] == 6
    some = batch(four.values, four.gpp, windows, np.arange(len(ends)))
    assert (some.values[0, 1:] == 0).all()
    np.testing.assert_array_equal(some.target, four.gpp[ends])
    shorter, less = windows.rows(np.array([1]), np.array([2]))
    assert less == [2]
    assert list(shorter[0, :2]) == [4, 5]


def test_holding_never_looks_ahead_and_interpolation_does():
    values = np.array([[1.0], [np.nan], [np.nan], [4.0]], np.float32)
    np.testing.assert_array_equal(filled(values)[:, 0], [1, 1, 1, 4])
    np.testing.assert_allclose(filled(values, "linear")[:, 0], [1, 2, 3, 4])
    gap = np.full((60, 1), np.nan, np.float32)
    gap[0] = 3
    assert np.isfinite(filled(gap)).sum() == 31


def test_a_gap_filled_day_is_neither_learned_nor_scored(four):
    assert four.gpp[~four.usable].max() == 500
    found = evaluation.predict(four, "year", ["climatology", "trees"])
    rows = evaluation.rows(found)
    whole = {r["model"]: r for r in rows if r["site"] == "all" and r["subset"] == "full"}
    split = splits.by_year(four)[0]
    assert whole["trees"]["days"] == (split.test & four.usable).sum()
    assert whole["trees"]["r2"] > whole["climatology"]["r2"] > 0.5
    for told in found.told.values():
        np.testing.assert_array_equal(np.isfinite(told), split.test)  # told, but never scored
        assert np.nanmax(told) < 50
    for days in cycle.subsets(four, split.test & four.usable, split.known).values():
        assert not (days & ~four.usable).any()


@pytest.fixture(scope="module")
def trained(four):
    return train(four, splits.by_year(four)[0], Recipe(kind="gru", window=15, steps=200))


def test_a_network_learns_a_law_with_memory_and_knows_its_error(four, trained):
    rows = np.flatnonzero(splits.by_year(four)[0].test & four.usable)
    told = trained(four, rows)
    found = metrics.sums(four.gpp[rows], told.mean)
    assert found.r2 > 0.93
    assert (told.low <= told.mean).all()
    assert (told.mean <= told.high).all()
    inside = (four.gpp[rows] >= told.low) & (four.gpp[rows] <= told.high)
    assert 0.75 < inside.mean() < 0.99
    short = metrics.sums(four.gpp[rows], trained(four, rows, context=1).mean)
    assert short.rmse > found.rmse


def test_a_prediction_needs_no_future_and_no_other_day(four, trained):
    row = 1000
    before = trained(four, np.array([row])).mean
    values = four.values.copy()
    values[row + 1 :] = 1e3
    values[: row - 14] = -1e3
    np.testing.assert_allclose(
        trained(replace(four, values=values), np.array([row])).mean, before, rtol=1e-6
    )


def test_a_model_goes_to_a_file_and_back(four, trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    again = Predictor.load(tmp_path / "m.safetensors")
    assert again.card == trained.card
    rows = np.arange(40, 60)
    np.testing.assert_array_equal(again(four, rows).high, trained(four, rows).high)
    far = replace(four, values=four.values + np.float32([400, 40, 200]))
    assert np.median(again.distance(four)) < 1 < np.median(again.distance(far))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no GPP model"):
        Predictor.load(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="needs TA"):
        again(replace(four, drivers=("SW_IN",), values=four.values[:, :1]))


def test_leaving_a_tower_out_lets_no_model_see_it(four):
    split = splits.by_site(four)[0]
    hidden = replace(four, gpp=np.where(split.test, np.float32(-9), four.gpp))
    rows = np.flatnonzero(split.test & four.usable)[:50]
    for fitted in baselines.BASELINES.values():
        np.testing.assert_array_equal(fitted(hidden, split, rows), fitted(four, split, rows))


def test_paired_tests_and_summaries(four):
    found = evaluation.predict(four, "site", ["climatology", "lue"], only=["XX-001", "XX-002"])
    rows = evaluation.rows(found)
    assert {r["site"] for r in rows} == {"all", "XX-001", "XX-002"}
    table = evaluation.summary(rows)
    assert list(table.columns[:4]) == ["model", "subset", "r2", "rmse"]
    test = evaluation.paired(found, "climatology", "lue")
    assert test["pairs"] == 8
    assert 0 < test["p"] <= 1
    assert len(evaluation.median_site(rows)) == 2
    with pytest.raises(ValueError, match="no model"):
        evaluation.predict(four, "year", ["magic"])


def test_processes_give_what_the_caller_alone_gives(four):
    plan, kinds = Recipe(window=5, steps=20), ["gru", "climatology", "rnn"]
    alone = evaluation.predict(four, "year", kinds, seeds=2, recipe=plan)
    rows = importance.context(four, ["gru"], [2, 3], plan)
    before = torch.get_num_threads()
    with work.workers(2, processes=True) as executor:
        beside = evaluation.predict(four, "year", kinds, seeds=2, recipe=plan, executor=executor)
        assert importance.context(four, ["gru"], [2, 3], plan, executor=executor) == rows
    assert torch.get_num_threads() == before
    assert [row["window"] for row in rows] == [2, 3]
    assert beside.told.keys() == alone.told.keys()
    for key, told in alone.told.items():
        np.testing.assert_array_equal(beside.told[key], told)


def test_models_are_tested_beside_the_best_one(four):
    found = evaluation.predict(four, "site", list(baselines.BASELINES))
    tests = {test["model"]: test for test in evaluation.beside_best(found)}
    (best,) = set(baselines.BASELINES) - set(tests)
    assert {test["best"] for test in tests.values()} == {best}
    for name, test in tests.items():
        alone = evaluation.paired(found, name, best)
        assert test["difference"] == alone["difference"]
        assert alone["p"] <= test["p"] <= min(1.0, 2 * alone["p"] + 1e-12)
    assert min(t["p"] for t in tests.values()) == pytest.approx(
        min(1.0, 2 * min(evaluation.paired(found, name, best)["p"] for name in tests))
    )
    assert evaluation.beside_best(evaluation.predict(four, "year", ["climatology"])) == []


def test_the_two_tails_are_extremes_against_the_season(four):
    split = splits.by_year(four)[0]
    tested = split.test & four.usable
    found = cycle.subsets(four, tested, split.known)
    anomaly = four.gpp - cycle.reference(four, split.known)
    assert anomaly[found["lower"]].max() < anomaly[found["upper"]].min()
    assert found["lower"].sum() == pytest.approx(0.05 * tested.sum(), rel=0.05)
    assert "drought" not in found


def fluxnet(days: int, *, hourly: bool = False) -> pd.DataFrame:
    steps = days * (48 if hourly else 1)
    date = pd.date_range("2015-06-01", periods=steps, freq="30min" if hourly else "D")
    form = "%Y%m%d%H%M" if hourly else "%Y%m%d"
    return pd.DataFrame(
        {
            ("TIMESTAMP_START" if hourly else "TIMESTAMP"): date.strftime(form),
            "TA_F_MDS_QC": 0.0, "TA_F": 12.0, "SW_IN_F": 200.0, "VPD_F": -9999,
            "GPP_NT_VUT_REF": 10.0, "NEE_VUT_REF_QC": 2.0 if hourly else 0.9,
        }
    )  # fmt: skip


def test_files_of_fluxnet_are_read_with_the_right_quality_and_units(tmp_path):
    path = tmp_path / "FLX_DE-Hai_FLUXNET2015_SUBSET_DD_2015-2015_1-4.csv"
    fluxnet(3).to_csv(path, index=False)
    found = readers.read(path)
    assert list(found["site"]) == ["DE-Hai"] * 3
    assert found[["GPP", "GPP_QC", "TA"]].iloc[0].tolist() == [10.0, 0.9, 12.0]
    assert found["VPD"].isna().all()

    hours = fluxnet(2, hourly=True)
    hours.loc[:23, "NEE_VUT_REF_QC"] = 1  # half of the first day well filled
    hours.loc[60:, "GPP_NT_VUT_REF"] = -9999  # three quarters of the second day without flux
    path = tmp_path / "ICOSETC_SE-Htm_FLUXNET_HH_L2.csv"
    hours.to_csv(path, index=False)
    found = readers.read(path)
    assert found["GPP"].iloc[0] == pytest.approx(10 * readers.CARBON)
    assert found["GPP_QC"].tolist() == [0.5, 0.0]
    assert np.isnan(found["GPP"].iloc[1])


def test_files_of_ameriflux_base_are_read(tmp_path):
    date = pd.date_range("2015-06-01", periods=48, freq="30min").strftime("%Y%m%d%H%M")
    rows = pd.DataFrame(
        {"TIMESTAMP_START": date, "FC_1_1_1": [-9999] * 12 + [-5.0] * 36, "GPP_PI": 8.0,
         "TA_1_1_1": 20.0, "P": 0.1}
    )  # fmt: skip
    path = tmp_path / "AMF_US-MMS_BASE_HH_1-5.csv"
    path.write_text("# Site: US-MMS\n# Version: 1-5\n" + rows.to_csv(index=False))
    found = readers.read(path).iloc[0]
    assert found["site"] == "US-MMS"
    assert found["GPP_QC"] == 0.75
    assert found["P"] == pytest.approx(4.8)
    assert found["TA"] == 20


def test_a_file_that_is_no_table_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns date, site and GPP"):
        readers.read(tmp_path / "x.csv")
    with pytest.raises(FileNotFoundError):
        readers.read(tmp_path / "y.csv")
    with pytest.raises(ValueError, match="has no driver WS"):
        towers(made(sites=1), ["WS"])


def test_gradients_add_up_and_groups_matter_as_the_law_says(four, trained):
    from deepfeatures.gpp import importance

    rows = np.flatnonzero(four.usable)[300:1100:4]
    found = importance.gradients(trained, four, rows, points=64)
    zero = torch.zeros(1, trained.card.window, trained.card.channels)
    centre, spread = trained.card.target
    with torch.inference_mode():
        bare = trained.module(zero)[0][0, -1, 0].item() * spread + centre
    told = trained(four, rows).mean
    np.testing.assert_allclose(found.sum(axis=(1, 2)), told - bare, atol=0.1)
    rises = {
        (one["group"], one["within"]): one["rise"]
        for one in importance.permutation(trained, four, rows)
    }
    assert min(rises.values()) > 0
    assert rises["radiation", "anywhere"] > rises["radiation", "season"]
    assert {one["group"] for one in importance.by_group(trained, found)} == {
        "radiation", "temperature",
    }  # fmt: skip


def test_a_transformer_is_made_smaller_and_kept(tmp_path, capsys):
    from deepfeatures.__main__ import main

    made(sites=2, years=3).to_csv(tmp_path / "t.csv", index=False)
    shared = ["--towers", str(tmp_path / "t.csv"), "--home", str(tmp_path / "home")]
    short = ["--window", "5", "--steps", "20"]
    assert main(["train", "gpp", "--kind", "gpt", *short, *shared]) == 0
    out = str(tmp_path / "out")
    asked = ["model", "compress", "gpp-gpt", "--share", "0.3", "--heal", "5", "--out", out]
    assert main([*asked, *shared]) == 0
    small = Predictor.load(tmp_path / "home" / "models" / "gpp" / "gpp-gpt-30.safetensors")
    whole = Predictor.load(tmp_path / "home" / "models" / "gpp" / "gpp-gpt.safetensors")
    assert small.parameters < 0.31 * whole.parameters
    assert small.card.bonds
    assert small.card.training["of"] == "gpp-gpt"
    for figure, files in (
        ("scores", ["--models", "climatology,lue"]),
        ("course", ["--models", "climatology,lue", "--site", "XX-000", "--year", "2003"]),
        ("context", ["--models", "rnn", "--windows", "1,3"]),
        ("importance", ["--models", "rnn"]),
    ):
        asked = ["gpp", "compare", "--figure", figure, "--out", out, *short[2:], *files, *shared]
        assert main(asked) == 0
        assert {f"{figure}.{s}" for s in ("csv", "png", "svg")} <= {
            path.name for path in (tmp_path / "out").iterdir()
        }
    capsys.readouterr()
    asked = ["gpp", "evaluate", "--split", "year", "--models", "climatology", "--json", *shared]
    assert main(asked) == 0
    rows = json.loads(capsys.readouterr().out)
    wanted = {"model", "subset", "site", "seed", "r2", "rmse", "nrmse", "kge", "bias"}
    assert wanted <= rows[0].keys()
    assert main(["gpp", "compare", "--figure", "course", "--out", out, *shared]) == 1
    assert "--site NAME --year YEAR" in capsys.readouterr().err


def test_a_cube_gives_drivers_and_a_map_that_looks_back_only(demo_home, tmp_path, capsys):
    from deepfeatures import catalogue, settings
    from deepfeatures.__main__ import main
    from deepfeatures.gpp import drivers, mapping

    home = ["--home", str(tmp_path / "home")]
    ws = settings.workspace(demo_home)
    cube, features = (catalogue.open(ws, name) for name in ("demo", "demo-features"))
    table = drivers.from_cube(cube, features)
    place = table.iloc[0]
    tower = {name: float(cube[f"tower_{name}"][0]) for name in "xy"}
    pixel = features.sel(**tower, method="nearest").load()
    alone = drivers.around(features, place["lon"], place["lat"], radius=4.0)
    seen = pixel["features"].sel(feature="F01")[pixel["valid"].to_numpy() == 1]
    np.testing.assert_allclose(alone["F01"], seen, rtol=1e-5)
    assert (alone["F01_std"] == 0).all()
    assert {"SW_IN", "TA", "VPD", "F06", "F06_std"} <= set(table.columns)

    indices = catalogue.open(ws, "demo", "si").sel(index=["NDVI", "CIRE"])
    alone = drivers.around(indices, place["lon"], place["lat"], radius=4.0)
    pixel = indices.sel(**tower, method="nearest").load()
    seen = pixel["si"].sel(index="CIRE")[pixel["valid"].to_numpy() == 1]
    np.testing.assert_allclose(alone["CIRE"], seen, rtol=1e-5)
    asked = ["gpp", "towers", "demo", "--home", str(demo_home), "--out", str(tmp_path / "i.csv")]
    assert main([*asked, "--around", "demo", "--index", "NDVI,CIRE"]) == 0
    brought = towers(readers.read(tmp_path / "i.csv"), ["SW_IN", "NDVI", "CIRE_std"])
    assert np.isfinite(brought.values).mean() > 0.9
    assert readers.groups(["SW_IN", "NDVI", "CIRE_std"]) == {"radiation": [0], "optics": [1, 2]}
    assert main([*asked, "--index", "NDVI"]) == 1
    assert main([*asked, "--around", "demo", "--index", "NDVI,Magic"]) == 1
    assert "has no index Magic" in capsys.readouterr().err

    names = "SW_IN,TA,F01,F02"
    table.to_csv(tmp_path / "t.csv", index=False)
    some = towers(readers.read(tmp_path / "t.csv"), names.split(","))
    split = splits.Split("none", np.ones(len(some.day), bool), *np.zeros((2, len(some.day)), bool))
    model = train(some, split, Recipe(window=5, steps=30, statics=False))
    day = np.datetime64("2021-07-15")
    small = features.isel(y=slice(0, 8), x=slice(0, 8))
    made = mapping.gpp_map(model, cube, small, [day])
    later = small.copy()
    later["features"] = later["features"].where(later["time"] < day + 1, 99.0)
    again = mapping.gpp_map(model, cube, later, [day])
    np.testing.assert_array_equal(again["gpp"], made["gpp"])
    assert np.isfinite(made["gpp"]).any()
    assert (made["gpp_low"] <= made["gpp_high"]).where(made["gpp"].notnull(), True).all()
    with pytest.raises(ValueError, match="no daily radiation"):
        mapping.gpp_map(model, small, small, [day])

    asked = ["train", "gpp", "--towers", str(tmp_path / "t.csv"), "--steps", "5", *home]
    assert main([*asked, "--drivers", names]) == 1  # one year: nothing to test on
    assert "test" in capsys.readouterr().err
