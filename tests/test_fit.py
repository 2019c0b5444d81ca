from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from deepfeatures import runs
from deepfeatures.fit import AHEAD, Config, fit, moved

Pair = tuple[Tensor, Tensor]


def network(seed: int = 0) -> nn.Module:
    """Make a network with randomness (dropout) and memory (running means) of its own."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 1)
    )


def pair(step: int) -> Pair:
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(step))
    return x, (x**2).sum(1, keepdim=True)


def one(step: int) -> Pair:
    return pair(1)


def squared(module: nn.Module, batch: Pair) -> Tensor:
    return (module(batch[0]) - batch[1]).pow(2).mean()


def unseen(module: nn.Module) -> float:
    return squared(module, pair(1000)).item()


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


# --- training ---


def test_overfits_one_batch() -> None:
    module = network()
    before = squared(module, one(0)).item()
    history = fit(module, one, Config(steps=200, rate=3e-2, every=50), loss=squared)
    assert squared(module, one(0)).item() < 0.05 * before
    assert [entry["step"] for entry in history] == [50, 100, 150, 200]
    assert not module.training


def test_same_seed_gives_the_same_weights() -> None:
    trained = []
    for seed in (0, 0, 5):
        module = network()
        fit(module, pair, Config(steps=20, seed=seed), loss=squared)
        trained.append(weights(module))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_stops_early_and_keeps_the_best_weights() -> None:
    module = network()
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0, 9.0])
    kept: list[Tensor] = []

    def validate(module: nn.Module) -> float:
        assert not module.training
        kept.append(weights(module))
        return next(scores)

    config = Config(steps=100, every=5, patience=3)
    history = fit(module, pair, config, loss=squared, validate=validate)
    assert [entry["score"] for entry in history] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert torch.equal(weights(module), kept[1])


def test_rate_rises_then_falls() -> None:
    history = fit(network(), pair, Config(steps=100, warm_up=20, every=10), loss=squared)
    rates = [entry["rate"] for entry in history]
    assert rates[0] < rates[1]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * Config().rate)


def test_the_average_is_judged_and_kept_and_leaves_the_training_alone() -> None:
    decay, steps = 0.6, 12
    path: list[Tensor] = []
    judged: list[Tensor] = []

    def line(module: nn.Module, batch: Pair) -> Tensor:
        path.append(module.weight.detach().clone())
        return squared(module, batch)

    def validate(module: nn.Module) -> float:
        judged.append(module.weight.detach().clone())
        return -float(len(judged))

    module = nn.Linear(3, 1)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    config = Config(steps=steps, every=4, average=decay)
    history = fit(module, pair, config, loss=line, validate=validate)
    plain = nn.Linear(3, 1)
    plain.load_state_dict(start)
    assert [(e["step"], e["loss"]) for e in history] == [
        (e["step"], e["loss"]) for e in fit(plain, pair, replace(config, average=0.0), loss=squared)
    ]
    expected = path[0]
    for step, weight in enumerate([*path[1:], plain.weight.detach()], 1):
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
        if step % 4 == 0:
            torch.testing.assert_close(judged[step // 4 - 1], expected)
    torch.testing.assert_close(module.weight.detach(), expected)
    unjudged = nn.Linear(3, 1)
    unjudged.load_state_dict(start)
    fit(unjudged, pair, config, loss=squared)
    torch.testing.assert_close(unjudged.weight.detach(), expected)


def test_what_is_frozen_stays() -> None:
    module = network()
    module[0].requires_grad_(False)
    before = module[0].weight.clone(), module[4].weight.clone()
    fit(module, pair, Config(steps=5, average=0.5), loss=squared)
    assert torch.equal(module[0].weight, before[0])
    assert not torch.equal(module[4].weight, before[1])
    with pytest.raises(ValueError, match="no weight of the network can be trained"):
        fit(module.requires_grad_(False), pair, Config(steps=5), loss=squared)


def test_tells_progress_and_can_be_cancelled() -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(InterruptedError, match="cancelled"):
        fit(
            network(), pair, Config(steps=50), loss=squared,
            progress=lambda done, total: told.append((done, total)),
            cancelled=lambda: len(told) == 7,
        )  # fmt: skip
    assert told == [(i, 50) for i in range(1, 8)]


def test_what_is_not_finite_is_loud() -> None:
    with pytest.raises(ValueError, match=r"loss is no longer finite at step 5; .* than 0.002"):
        fit(network(), pair, Config(steps=5), loss=lambda m, b: squared(m, b) * torch.inf)
    with pytest.raises(ValueError, match="score is nan at step 5"):
        fit(network(), pair, Config(steps=5), loss=squared, validate=lambda _: torch.nan)


@pytest.mark.parametrize("name", ["steps", "every", "patience"])
def test_config_refuses_nonsense(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Config(**{name: 0})
    with pytest.raises(ValueError, match="average is 1.0"):
        Config(average=1.0)


# --- batches ---


@given(st.integers(1, 9))
@settings(max_examples=4, deadline=None)
def test_batches_come_in_order_from_one_thread_that_ends(steps: int) -> None:
    drawn, used, threads = [], [], set()

    def draw(step: int) -> Tensor:
        assert step - len(used) <= AHEAD + 1  # memory holds few batches
        drawn.append(step)
        threads.add(threading.current_thread())
        return torch.tensor([float(step)])

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        used.append(int(batch))
        return module(batch).pow(2).sum()

    fit(nn.Linear(1, 1), draw, Config(steps=steps), loss=loss)
    assert drawn == used == list(range(1, steps + 1))
    assert len(threads) == 1
    assert not threads.pop().is_alive()


def test_an_error_while_drawing_arrives_and_ends_the_thread() -> None:
    threads = set()

    def draw(step: int) -> Pair:
        threads.add(threading.current_thread())
        if step == 4:
            raise KeyError("no such cube")
        return pair(step)

    done: list[int] = []
    with pytest.raises(KeyError, match="no such cube"):
        fit(network(), draw, Config(steps=9), loss=squared, progress=lambda i, _: done.append(i))
    assert done == [1, 2, 3]
    assert not threads.pop().is_alive()


@dataclass(frozen=True)
class Batch:
    values: Tensor
    name: str
    inner: Pair


def test_a_batch_moves_to_the_device_with_all_its_parts() -> None:
    there = moved(Batch(torch.ones(2), "kept", pair(1)), torch.device("meta"))
    assert there.values.device.type == there.inner[1].device.type == "meta"
    assert there.name == "kept"

    class Own:
        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    assert moved(Own(), torch.device("meta")) == "moved to meta"


# --- killed and resumed ---

KINDS = {
    "plain": Config(steps=26, every=6, rate=2e-2, warm_up=4),
    "averaged": Config(steps=26, every=6, rate=2e-2, warm_up=4, average=0.8),
    "stopped early": Config(steps=60, every=3, rate=0.5, warm_up=2, patience=2, average=0.3),
}


class Kill(BaseException):
    """Ends a training without giving it the time to write."""


def train(
    folder: Path, config: Config, *, after: Callable[[int], None] | None = None, stop: int = -1
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train in a run folder; `after` is called after each step, `stop` is where it is cancelled."""
    run = runs.begin(folder, {"task": "squares"})
    module, at = network(), [0]

    def told(step: int, _: int) -> None:
        at[0] = step
        if after:
            after(step)

    history = fit(
        module, pair, config, loss=squared, validate=unseen, run=run, progress=told,
        cancelled=lambda: at[0] == stop,
    )  # fmt: skip
    return module, history


@cache
def undisturbed(kind: str) -> tuple[Tensor, list[dict[str, float]]]:
    module = network()
    history = fit(module, pair, KINDS[kind], loss=squared, validate=unseen)
    assert (history[-1]["step"] < KINDS[kind].steps) == (kind == "stopped early")
    return weights(module), history


def check_same(kind: str, folder: Path, module: nn.Module, history: list[dict[str, float]]) -> None:
    expected = undisturbed(kind)
    assert torch.equal(weights(module), expected[0])
    assert history == expected[1]
    with (folder / "history.csv").open() as file:
        assert [{n: float(v) for n, v in line.items()} for line in csv.DictReader(file)] == history
    assert not module.training


@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=4),
)
@settings(max_examples=8, deadline=None)
def test_killed_or_cancelled_and_resumed_equals_undisturbed(
    kind: str, sittings: list[tuple[int, bool]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for length, killed in sittings:
            began: list[int] = []

            def kill(step: int, length: int = length, began: list[int] = began) -> None:
                began.append(step)
                if len(began) == length:
                    raise Kill

            try:
                if killed:
                    train(folder, KINDS[kind], after=kill)
                else:
                    kept = folder / "state.safetensors"
                    at = json.loads(metadata(kept))["step"] if kept.exists() else 0
                    train(folder, KINDS[kind], stop=at + length)
            except (Kill, InterruptedError):
                assert not (folder / "result.json").exists()
            torch.rand(5)  # whatever happens between two sittings
        check_same(kind, folder, *train(folder, KINDS[kind]))


def metadata(path: Path) -> str:
    """Read the JSON in the header of a safetensors file by its published layout."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["state"]


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
import test_fit
def after(step):
    print(step, flush=True)
    if step == 8:
        sys.stdin.read()  # wait for the kill
test_fit.train(Path(sys.argv[1]), test_fit.KINDS[sys.argv[2]], after=after)
"""


def test_a_process_that_is_really_killed_loses_nothing(tmp_path: Path) -> None:
    kind = "averaged"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path, kind, str(torch.get_num_threads())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert child.stdin
    assert child.stdout
    with child, child.stdin, child.stdout:
        for line in child.stdout:
            if int(line) == 8:
                child.kill()
    assert child.returncode == -signal.SIGKILL
    steps: list[int] = []
    module, history = train(tmp_path, KINDS[kind], after=steps.append)
    assert steps == list(range(7, 27))
    check_same(kind, tmp_path, module, history)


@pytest.mark.parametrize("renamed", [1, 4, 5], ids=lambda n: f"after {n} files")
def test_killed_while_a_file_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    def halfway(source: Path, target: Path, replace: Any = os.replace) -> None:
        nonlocal renamed
        if not renamed:
            source.write_bytes(source.read_bytes()[:-9])
            raise Kill
        renamed -= 1
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", halfway)
        with pytest.raises(Kill):
            train(tmp_path, KINDS["averaged"])
    assert len(list(tmp_path.glob("*.part"))) == 1
    check_same("averaged", tmp_path, *train(tmp_path, KINDS["averaged"]))


def test_a_cancelled_training_goes_on_at_the_next_step(tmp_path: Path) -> None:
    steps: list[int] = []
    for stop in (8, 9, -1):
        if stop > 0:
            with pytest.raises(InterruptedError, match="cancelled"):
                train(tmp_path, KINDS["plain"], after=steps.append, stop=stop)
        else:
            train(tmp_path, KINDS["plain"], after=steps.append)
    assert steps == list(range(1, 27))


def test_a_finished_run_returns_at_once_and_tells_its_result(tmp_path: Path) -> None:
    module, history = train(tmp_path, KINDS["stopped early"])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again, told = train(tmp_path, KINDS["stopped early"], after=lambda _: pytest.fail("a step"))
    assert told == history
    assert torch.equal(weights(again), weights(module))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert sorted(path.name for path in files) == [
        "config.json", "curve.png", "history.csv", "result.json", "state.safetensors",
    ]  # fmt: skip
    found = json.loads((tmp_path / "result.json").read_text())
    best = min(history, key=lambda entry: entry["score"])
    assert (found["score"], found["best_step"]) == (best["score"], best["step"])
    assert found["stopped_early"]
    assert found["weights_trained"] == sum(p.numel() for p in module.parameters())
    assert found["cost"]["cpu_seconds"] > 0
    assert found["cost"]["gpu_wh"] == 0


def test_the_cost_of_all_sittings_is_told(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train(tmp_path, KINDS["plain"], stop=8)
    before = json.loads(metadata(tmp_path / "state.safetensors"))["cost"]
    train(tmp_path, KINDS["plain"])
    after = json.loads((tmp_path / "result.json").read_text())["cost"]
    assert after["wall_seconds"] > before["wall_seconds"] > 0


def test_a_run_of_another_training_is_refused(tmp_path: Path) -> None:
    train(tmp_path, KINDS["plain"])
    with pytest.raises(
        ValueError, match=r"begun with rate = 0.02, not 0.01; choose another folder"
    ):
        train(tmp_path, replace(KINDS["plain"], rate=1e-2))
    run = runs.begin(tmp_path, {"task": "squares"})
    with pytest.raises(ValueError, match="is of another network"):
        fit(nn.Linear(3, 1), pair, KINDS["plain"], loss=squared, run=run)
    run.state.write_bytes(b"\x80nonsense")
    with pytest.raises(ValueError, match=r"state.safetensors is not the state of a training"):
        train(tmp_path, KINDS["plain"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_loss_is_mixed_precision_and_a_run_resumes(tmp_path: Path) -> None:
    kinds = set()

    def loss(module: nn.Module, batch: Pair) -> Tensor:
        kinds.add(module(batch[0]).dtype)
        return squared(module, batch)

    run, config = runs.begin(tmp_path, {}), KINDS["averaged"]
    done: list[int] = []
    options = {"loss": loss, "device": "cuda", "run": run}
    with pytest.raises(InterruptedError):
        fit(
            network(), pair, config, **options,
            progress=lambda i, _: done.append(i), cancelled=lambda: done[-1] == 8,
        )  # fmt: skip
    resumed, whole = network(), network()
    fit(resumed, pair, config, **options, progress=lambda i, _: done.append(i))
    fit(whole, pair, config, **{**options, "run": None})
    assert done == list(range(1, 27))
    assert kinds == {torch.bfloat16}
    assert next(resumed.parameters()).device.type == "cuda"
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-3, atol=1e-4)


def test_the_state_is_plain_tensors(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train(tmp_path, KINDS["averaged"], stop=8)
    state = load_file(tmp_path / "state.safetensors")
    assert {name.split("/")[0] for name in state} == {
        "weights", "average", "best", "moments", "random", "recent",
    }  # fmt: skip
    assert len(state["recent/loss"]) == 2
    assert json.loads(metadata(tmp_path / "state.safetensors"))["step"] == 8
