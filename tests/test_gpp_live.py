"""Laws of the live GPP laboratory: the same numbers without torch, honest scores, safe uploads."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gpp import made

from deepfeatures import catalogue, jobs, kinds, worker
from deepfeatures.gpp import card as cards
from deepfeatures.gpp import live, metrics, shelf, tasks
from deepfeatures.gpp.card import KINDS, Card
from deepfeatures.gpp.light import Light
from deepfeatures.gpp.predictor import Predictor
from deepfeatures.gpp.towers import Towers, towers
from deepfeatures.gpp.training import Recipe
from deepfeatures.settings import Workspace, workspace

DRIVERS = ("SW_IN", "TA")


def card(kind: str, *, window: int = 12, config: dict[str, object] | None = None) -> Card:
    """A model that nobody trained."""
    return Card(
        f"some-{kind}", kind, DRIVERS, (150.0, 8.0), (80.0, 7.0), (), window, (5.0, 3.0),
        config=config or {}, domain=3.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two():
    return towers(made(sites=2, years=2))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("rnn", {"hidden": 8}), ("gru", {"hidden": 8, "layers": 2}), ("lstm", {"hidden": 8}),
        ("gpt", {"width": 8, "layers": 3, "heads": 2}), ("gpt", {"width": 8, "heads": 4}),
    ],
)  # fmt: skip
def test_without_torch_a_network_tells_the_same(kind, config, two, tmp_path):
    torch.manual_seed(3)
    heavy = Predictor(card(kind, config=config))
    heavy.save(tmp_path / "some.safetensors")
    light = Light.load(tmp_path / "some.safetensors")
    # the first days of a tower have short windows; the second tower begins in the middle
    rows = np.r_[0:20, 725:760]
    for context in (None, 1, 5):
        one, other = heavy(two, rows, context=context), light(two, rows, context)
        for field in ("mean", "low", "high"):
            np.testing.assert_allclose(getattr(other, field), getattr(one, field), atol=2e-5)
    np.testing.assert_allclose(light.distance(two), heavy.distance(two), rtol=1e-5)
    assert light.parameters == heavy.parameters
    assert [light.multiply_adds(n) for n in (1, 12)] == [heavy.multiply_adds(n) for n in (1, 12)]


def test_a_compressed_network_tells_the_same_without_torch(two, tmp_path):
    from deepfeatures import compress

    torch.manual_seed(1)
    whole = Predictor(card("gpt", config={"width": 32}))
    bonds = compress.bonds(whole.module, 0.4)
    assert bonds
    less = Predictor(
        replace(whole.card, bonds=bonds), compress.compressed(whole.module, bonds), whole.inverse
    )
    less.save(tmp_path / "less.safetensors")
    rows = np.arange(100, 130)
    light = Light.load(tmp_path / "less.safetensors")
    np.testing.assert_allclose(light(two, rows).mean, less(two, rows).mean, atol=2e-5)
    assert light.multiply_adds(12) == less.multiply_adds(12)
    assert light.parameters == less.parameters < whole.parameters


def test_the_side_of_the_page_loads_no_torch():
    code = (
        "import sys, app.main, app.reads.gpp, app.views.gpp_orders;sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_shipped_models_say_what_they_are(workspace):
    known = shelf.models(workspace)
    assert {f"{name}-{kind}" for name in ("forest", "landscape") for kind in KINDS} <= set(known)
    for name in known:
        told = shelf.model(workspace, name).card
        assert told.training["simulated"] is name.startswith("landscape")
        assert told.limitations
        assert told.training["source"]
        assert 0.7 < told.training["test"]["r2"] < 1
    with pytest.raises(KeyError, match="no GPP model"):
        shelf.model(workspace, "../secret")


CHANGES = st.builds(
    live.Change, light=st.floats(-50, 20), warmth=st.floats(-5, 5), dryness=st.floats(0, 3),
    rain=st.floats(-100, 100),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(CHANGES)
def test_a_change_moves_its_drivers_and_nothing_else(change):
    table = made(sites=1, years=1).assign(VPD=4.0, P=2.0, NDVI=0.5)
    some = towers(table)
    other = live.changed(some, change)
    wanted = {
        "SW_IN": lambda v: v * (1 + change.light / 100),
        "TA": lambda v: v + change.warmth,
        "VPD": lambda v: v * change.dryness,
        "P": lambda v: v * (1 + change.rain / 100),
    }
    for at, name in enumerate(some.drivers):
        before, after = some.values[:, at], other.values[:, at]
        np.testing.assert_allclose(
            after, wanted.get(name, lambda v: v)(before.astype(float)), rtol=1e-4, atol=1e-4
        )
    np.testing.assert_array_equal(other.gpp, some.gpp)
    assert live.changed(some, live.Change()) is some
    with pytest.raises(ValueError, match="warmth is 99"):
        live.Change(warmth=99)


def test_an_answer_keeps_what_was_told_before_and_says_what_is_far(two, tmp_path):
    one = two.alone("XX-001")
    torch.manual_seed(0)
    Predictor(card("gru", config={"hidden": 8})).save(tmp_path / "m.safetensors")
    models = {"m": Light.load(tmp_path / "m.safetensors")}
    rows = np.arange(30, 130)
    first = live.tell(models, one, rows, live.Change())
    assert first.told["m"] is first.usual["m"]
    second = live.tell(models, one, rows, live.Change(light=-50), usual=first.usual)
    assert second.usual["m"] is first.usual["m"]
    expected = models["m"](live.changed(one, live.Change(light=-50)), rows)
    np.testing.assert_array_equal(second.told["m"].mean, expected.mean)
    assert not np.allclose(second.told["m"].mean, first.told["m"].mean)
    hot = live.tell(models, one, rows, live.Change(warmth=20, light=100))
    assert hot.distance["m"].mean() > first.distance["m"].mean()
    window = (float(one.day[rows[10]]), float(one.day[rows[40]]))
    mine = rows[10:41][one.usable[rows[10:41]]]
    direct = metrics.sums(one.gpp[mine], models["m"](one, mine).mean)
    assert live.scores(one, rows, first.told["m"].mean, window).rmse == pytest.approx(direct.rmse)


def test_extremes_are_tails_and_the_season_knows_nothing_of_the_year(two):
    one = two.alone("XX-000")
    found = live.extremes(one)
    for tail in ("lower", "upper"):
        times = found[tail]
        assert all(first <= last for first, last in times)
        assert all(a[1] + live.SHADED < b[0] for a, b in zip(times, times[1:], strict=False))
    rows = np.flatnonzero(one.year == 2002)
    season = live.season(one, rows)
    moved = replace(one, gpp=np.where(one.year == 2002, 77.0, one.gpp).astype(np.float32))
    np.testing.assert_array_equal(live.season(moved, rows), season)
    alone = replace(one, usable=one.usable & (one.year == 2002))
    assert np.isnan(live.season(alone, rows)).all()


def test_ranks_follow_the_weight():
    costs = {"bytes": 10, "multiply_adds": 10, "milliseconds": 1.0}
    rows = [
        {"model": "able", "r2": 0.9, "parameters": 1000} | {k: v * 100 for k, v in costs.items()},
        {"model": "small", "r2": 0.7, "parameters": 10} | costs,
        {"model": "unknown", "r2": float("nan"), "parameters": 500} | costs,
    ]
    assert live.ranked(rows, 1.0)[0]["model"] == "able"
    assert live.ranked(rows, 0.0)[0]["model"] == "small"
    for weight in (0.0, 0.3, 1.0):
        scores = [row["score"] for row in live.ranked(rows, weight)]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    assert live.ranked([], 0.5) == []


def test_a_driver_that_was_marked_may_be_missing(two):
    needy = replace(card("gru"), drivers=("SW_IN", "TA", "P"), centre=(150.0, 8.0, 1.0),
                    spread=(80.0, 7.0, 1.0))  # fmt: skip
    assert cards.lacking(needy, two) == ["P"]
    with pytest.raises(ValueError, match="needs P"):
        cards.prepare(needy, two)
    marked = cards.prepare(replace(needy, marked=("P",)), two)
    assert (marked[:, 2] == 0).all()
    assert (marked[:, 3] == 1).all()


def test_what_a_model_saw_of_a_tower_is_said(workspace, monkeypatch):
    model = shelf.model(workspace, "forest-gru")
    first, last = model.card.training["tested"]["SE-Htm"]
    tower = towers(made(sites=1, years=8)).alone("XX-000")
    named = replace(tower, sites=("SE-Htm",))
    means = named.means(0)
    assert means == {
        year: pytest.approx(named.gpp[named.usable & (named.year == int(year))].mean(), abs=1e-4)
        for year in means
    }

    def seen(known: dict[str, float], first: int, last: int, tower: Towers = named) -> str:
        training = model.card.training | {"means": {"SE-Htm": known}}
        monkeypatch.setattr(model, "card", replace(model.card, training=training))
        return live.seen(model, tower, first, last)

    for known in (means, {"1990": 1.0}, {}):
        assert seen(known, first, last) == "held out"
        assert seen(known, first - 800, first - 500) == "learned"
        assert seen(known, first - 10, last) == "partly learned"
    other = means | {max(means): 1.1 * means[max(means)]}
    assert seen(other, first, last) == "other data"
    assert seen(means, first, last, tower) == "other tower"


def test_a_table_is_brought_kept_and_refused(workspace):
    table = made(sites=2, years=2)
    text = table.to_csv(index=False).encode()
    assert shelf.add(workspace, text, "my towers.csv") == "my-towers"
    assert shelf.add(workspace, text, "../../my towers.csv") == "my-towers-2"
    assert shelf.tables(workspace) == {"my-towers": "file", "my-towers-2": "file"}
    assert shelf.sites(workspace, "my-towers") == {"XX-000": "DBF", "XX-001": "ENF"}
    pd.testing.assert_frame_equal(
        shelf.load(workspace, "my-towers")[["site", "GPP"]], table[["site", "GPP"]]
    )
    written = io.BytesIO()
    table.to_parquet(written)
    assert shelf.add(workspace, written.getvalue(), "more.parquet") == "more"
    for content, name, words in (
        (b"\x00" * 100, "x.parquet", "no Parquet"),
        (b"a,b\n1,2\n", "x.csv", "lacks the columns"),
        (text, "x.exe", "ends with"),
        (b"," * (shelf.MAX_BYTES + 1), "x.csv", "no more than"),
        (table.assign(GPP_QC=0.0).to_csv(index=False).encode(), "x.csv", "no day"),
    ):
        with pytest.raises(ValueError, match=words):
            shelf.add(workspace, content, name)
    for name in ("../jobs", "/etc/passwd", "..", "a/b"):
        with pytest.raises((KeyError, ValueError)):
            shelf.load(workspace, name)
    kept = sorted(path.name for path in shelf.folder(workspace).iterdir())
    assert kept == ["more.parquet", "my-towers-2.parquet", "my-towers.parquet"]


@pytest.fixture(scope="module")
def home(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    copy = tmp_path_factory.mktemp("gpp") / "home"
    shutil.copytree(demo_home, copy)
    return workspace_of(copy)


def workspace_of(path: Path) -> Workspace:
    return workspace(path)


def test_towers_pixels_and_areas_of_a_cube_have_drivers(home):
    assert shelf.tables(home) == {"demo": "cube"}
    table = shelf.load(home, "demo")
    name = next(iter(shelf.sites(home, "demo")))
    one = shelf.daily(table[table["site"] == name])
    assert {"SW_IN", "TA", "VPD", "F01", "F06"} <= set(one.drivers)
    ds = catalogue.open(home, "demo")
    x, y = (
        float(table.query("site == @name")["lon"].iloc[0]),
        float(table.query("site == @name")["lat"].iloc[0]),
    )
    pixel = shelf.place(home, "demo", point=(x, y), radius=25.0)
    both = pixel.merge(table[table["site"] == name], on="date", suffixes=("", "_tower"))
    there = both["F01"].notna()
    assert there.sum() > 20
    np.testing.assert_allclose(both["F01"][there], both["F01_tower"][there], rtol=1e-6)
    assert pixel["GPP"].notna().sum() == len(np.unique(ds["time"].values.astype("M8[D]")))
    ring = [[x - 2e-4, y - 2e-4], [x + 2e-4, y - 2e-4], [x + 2e-4, y + 2e-4], [x - 2e-4, y - 2e-4]]
    area = {"type": "Feature", "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [ring]}}  # fmt: skip
    wide = shelf.daily(shelf.place(home, "demo", area=area))
    assert wide.sites == (shelf.AREA,)
    with pytest.raises(ValueError, match="no pixel"):
        shelf.place(home, "demo", point=(0.0, 0.0))


def test_a_model_is_trained_and_a_map_made_by_the_worker(home):
    settings_ = {"towers": "mine", "kind": "rnn", "steps": 30, "window": 10}
    shelf.add(home, made(sites=2, years=3).to_csv(index=False).encode(), "mine.csv")
    with pytest.raises(ValueError, match="steps"):
        jobs.submit(home, kind="gpp-train", settings=settings_ | {"steps": 10**6})
    with pytest.raises(ValueError, match="network"):
        jobs.submit(home, kind="gpp-train", settings=settings_ | {"kind": "x"})
    with pytest.raises(ValueError, match="needs a day"):
        jobs.submit(home, kind="gpp-map", cube="demo-features", model="landscape-rnn")
    learn = jobs.submit(home, kind="gpp-train", settings=settings_)
    day = str(catalogue.open(home, "demo")["time"].values[40])[:10]
    west, south, east, north = catalogue.info(home, "demo")["bounds"]
    x, y = (west + east) / 2, (south + north) / 2
    ring = [[x - 6e-4, y - 4e-4], [x + 6e-4, y - 4e-4], [x + 6e-4, y + 4e-4], [x - 6e-4, y - 4e-4]]
    area = {"type": "Feature", "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [ring]}}  # fmt: skip
    asked = {"cube": "demo-features", "model": "landscape-rnn", "settings": {"day": day}}
    paint = jobs.submit(home, kind="gpp-map", aoi=area, **asked)
    assert worker.run(home, once=True) == 2
    assert [jobs.get(home, job)["state"] for job in (learn, paint)] == ["done", "done"]
    trained = shelf.model(home, "mine-rnn")
    assert trained.card.training["towers"] == ["XX-000", "XX-001"]
    assert trained.card.window == 10
    layer = catalogue.open(home, jobs.get(home, paint)["out"])
    assert list(layer["map"].values) == list(tasks.CHANNELS)
    values = layer["layer"].isel(time=0).values
    direct = tasks.paint(home, "demo-features", "landscape-rnn", [np.datetime64(day)])
    there = np.isfinite(values[0])
    assert 10 < there.sum() < there.size / 4
    np.testing.assert_allclose(values[0][there], direct["gpp"].values[0][there], atol=1e-4)
    assert (values[1][there] > 0).all()
    assert kinds.kind("gpp-map").makes_cube


def test_importance_finds_what_a_law_rests_on():
    table = made(sites=1, years=3).assign(WS=1.0)
    table["WS"] = np.random.default_rng(0).normal(3, 1, len(table))
    some = towers(table)
    model = tasks.train(some, Recipe(kind="gru", window=8, steps=150, statics=False), "law")
    assert 0 < model.card.training["test"]["r2"] < 1
    arrays = {n: t.numpy() for n, t in model.module.state_dict().items()}
    light = Light(model.card, arrays | {"domain.inverse": model.inverse})
    rows = np.flatnonzero(some.year == 2003)
    found = {row["group"]: row["rise"] for row in live.importance(light, some, rows)}
    assert found["radiation"] > 5 * abs(found["air"])


def test_the_page_follows_the_map_and_says_what_is_missing(home, workspace):
    from app import reads
    from app.state import State
    from app.views.gpp import GppView

    state = State(ws=home, cubes=reads.cubes.described(home), lab=True)
    state.settle()
    view = GppView(state=state)
    view.__panel__()
    assert view.models.values == [f"landscape-{kind}" for kind in sorted(KINDS)]
    west, south, east, north = state.info["bounds"]
    x, y = (west + east) / 2, (south + north) / 2
    state.param.update(lon=x, lat=y)
    view.tower.value = "map/pixel"
    assert view.shown is not None
    assert view.shown.asked.place.point == (x, y)
    pixel = view.shown.answer.told["landscape-gru"].mean
    state.param.update(lon=x + 3e-3)
    assert view.shown.asked.place.point == (x + 3e-3, y)
    assert not np.allclose(view.shown.answer.told["landscape-gru"].mean, pixel)
    ring = [[x - 3e-4, y - 3e-4], [x + 3e-4, y - 3e-4], [x + 3e-4, y + 3e-4], [x - 3e-4, y - 3e-4]]
    state.area = {"type": "Feature", "properties": {},
                  "geometry": {"type": "Polygon", "coordinates": [ring]}}  # fmt: skip
    view.tower.value = "map/area"
    assert view.shown.asked.place.site == shelf.AREA
    state.area = None
    assert not view.tower.value.startswith("map/area")
    view.models.values = []
    assert "Choose a model" in str(view.note.object)

    nothing = GppView(state=State(ws=workspace, lab=True))
    assert "no tower here yet" in str(nothing.note.object)
    table = made(sites=1, years=2)[["date", "site", "igbp", "GPP", "GPP_QC", "TA"]]
    shelf.add(workspace, table.to_csv(index=False).encode(), "warm.csv")
    nothing.renew()
    assert nothing.shown is not None
    assert "needs SW_IN" in str(nothing.note.object)
    assert len(nothing.course.seen.data["x"]) > 300
