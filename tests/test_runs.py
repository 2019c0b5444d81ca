from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepfeatures import runs
from deepfeatures.runs import Cost

CONFIG = {"recipe": {"kind": "temporal", "steps": 3000, "encoders": ["a"]}, "seed": 0}

numbers = st.floats(-1e6, 1e6)
energies = st.none() | st.floats(0, 1e6)
costs = st.builds(Cost, st.floats(0, 1e6), st.floats(0, 1e6), energies, energies)


def test_the_same_configuration_finds_its_folder_again(tmp_path: Path) -> None:
    first = runs.begin(tmp_path / "new" / "run", CONFIG)
    assert json.loads(first.config.read_text()) == CONFIG
    written = first.config.stat().st_mtime_ns
    # What JSON can not tell apart is the same: a tuple and a list.
    same = {"seed": 0, "recipe": {**CONFIG["recipe"], "encoders": ("a",)}}  # type: ignore[dict-item]
    assert runs.begin(tmp_path / "new" / "run", same) == first
    assert first.config.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed = 0, not 1;"),
        ({"recipe": {**CONFIG["recipe"], "steps": 5}}, "recipe.steps = 3000, not 5;"),  # type: ignore[dict-item]
        ({"recipe": {"kind": "temporal"}}, "recipe.steps = 3000, not nothing;"),
        ({"extra": None}, "extra = nothing, not null;"),
        ({"recipe": "short"}, "recipe = {"),
    ],
)
def test_another_configuration_is_refused_and_the_difference_named(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    runs.begin(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="choose another folder or delete this one") as error:
        runs.begin(tmp_path, CONFIG | changed)
    assert told in str(error.value)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    runs.write(path, b"old")
    (tmp_path / "result.json.part").mkdir()
    with pytest.raises(IsADirectoryError):
        runs.write(path, b"new")
    assert path.read_bytes() == b"old"


def test_results_add_up(tmp_path: Path) -> None:
    run = runs.begin(tmp_path, CONFIG)
    assert runs.result(run) == {}
    runs.add_result(run, {"score": 1.0, "loss": 2.0})
    runs.add_result(run, {"score": 0.5, "name": "Waldgröße"})
    assert runs.result(run) == {"score": 0.5, "loss": 2.0, "name": "Waldgröße"}


@given(st.lists(st.tuples(numbers, numbers, st.none() | numbers), max_size=5))
@settings(deadline=None, max_examples=40)
def test_the_history_is_read_as_it_was_written(lines: list[tuple[float, float, Any]]) -> None:
    history = [
        {"step": i, "loss": loss, "rate": rate} | ({} if score is None else {"score": score})
        for i, (loss, rate, score) in enumerate(lines)
    ]
    with TemporaryDirectory() as folder:
        run = runs.begin(folder, {})
        runs.write_history(run, history)
        with run.history.open() as file:
            read = [{n: float(v) for n, v in line.items() if v} for line in csv.DictReader(file)]
    assert read == history


@pytest.mark.parametrize(
    ("losses", "scored"),
    [
        pytest.param([3.0], True, id="one entry"),
        pytest.param([0.0, 0.0], True, id="zeros"),
        pytest.param([-1.0, 2.0], True, id="below zero"),
        pytest.param([1e-9, 1e6, 3.0], True, id="fifteen decades"),
        pytest.param([0.5, 0.49], False, id="never validated"),
    ],
)
def test_any_history_can_be_drawn(tmp_path: Path, losses: list[float], scored: bool) -> None:
    run = runs.begin(tmp_path, CONFIG, title="squares", score="error [m]")
    history = [
        {"step": 10 * (i + 1), "loss": loss, "rate": 1e-3} | ({"score": loss} if scored else {})
        for i, loss in enumerate(losses)
    ]
    runs.draw(run, history)
    with Image.open(run.curve) as picture:
        assert picture.size == (1200, 810 if scored else 510)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (0x00, 0x72, 0xB2) in colours  # the blue of the loss
    assert ((0xD5, 0x5E, 0x00) in colours) == scored


# --- cost ---


def domain(root: Path, number: str, name: str, energy: int, top: int = 10**15) -> Path:
    """Make or change a RAPL domain as Linux shows it."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    for file, content in {"name": name, "energy_uj": energy, "max_energy_range_uj": top}.items():
        (folder / file).write_text(f"{content}\n")
    return folder


def test_energy_is_that_of_packages_and_memory(tmp_path: Path) -> None:
    for number, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1")):
        domain(tmp_path, number, name, 500)
    read = runs.meter(powercap=tmp_path)
    assert read().processor_wh == 0
    domain(tmp_path, "0", "package-0", 500 + 3_600_000)  # 1 mWh
    domain(tmp_path, "0:0", "core", 500 + 3_000_000)  # lies inside the package
    domain(tmp_path, "0:1", "dram", 500 + 7_200_000)
    domain(tmp_path, "1", "package-1", 500 + 18_000_000)
    assert read().processor_wh == pytest.approx(8e-3)
    assert read().processor_wh == pytest.approx(8e-3)


@given(st.lists(st.integers(0, 10**12 - 1), max_size=8))
@settings(deadline=None, max_examples=15)
def test_a_counter_that_starts_over_loses_nothing(steps: list[int]) -> None:
    with TemporaryDirectory() as name:
        root, top = Path(name), 10**12  # microjoules
        domain(root, "0", "package-0", 0, top)
        read = runs.meter(powercap=root)
        for i in range(len(steps)):
            domain(root, "0", "package-0", sum(steps[: i + 1]) % top, top)
            cost = read()
        assert not steps or cost.processor_wh == pytest.approx(sum(steps) / 1e6 / 3600)


def test_a_counter_not_asked_for_too_long_tells_nothing(tmp_path: Path) -> None:
    domain(tmp_path, "0", "package-0", 0, top=2)  # so small that any wait is too long
    assert runs.meter(powercap=tmp_path)().processor_wh is None


def test_what_is_not_measured_is_not_told(tmp_path: Path) -> None:
    assert runs.meter(powercap=tmp_path)().processor_wh is None
    folder = domain(tmp_path, "0", "package-0", 5)
    read = runs.meter(powercap=tmp_path)
    assert read().processor_wh == 0
    (folder / "energy_uj").unlink()
    assert read().processor_wh is None
    domain(tmp_path, "0", "package-0", 7)
    assert read().processor_wh is None  # what went by unseen can not be told any more
    assert read().gpu_wh == 0
    assert runs.meter("GPU-no-such-card")().gpu_wh is None


def test_time_goes_on() -> None:
    read = runs.meter()
    first = read()
    while time.process_time() == 0 or read().cpu_seconds == first.cpu_seconds:
        pass
    assert read().wall_seconds > first.wall_seconds >= 0


@given(costs, costs)
def test_costs_add_and_the_unknown_stays_unknown(a: Cost, b: Cost) -> None:
    total = a + b
    assert total == b + a
    assert a + Cost() == a
    assert total.wall_seconds == a.wall_seconds + b.wall_seconds
    assert (total.gpu_wh is None) == (a.gpu_wh is None or b.gpu_wh is None)
    assert (total.processor_wh is None) == (a.processor_wh is None or b.processor_wh is None)
