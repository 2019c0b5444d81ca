"""The run folder of a training: what was asked, how it went, what came out and what it cost."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import math
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = Mapping[str, float]
"""One line of a history: ``step``, ``loss``, ``rate`` and, if validated, ``score``."""

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of the processor (RAPL)."""

_INK, _FAINT, _RULE = "#222222", "#6b6b6b", "#e4e4e4"
_LOSS, _SCORE = "#0072b2", "#d55e00"  # blue and vermilion of Okabe and Ito: safe for all eyes
_MOST = 600e6  # microwatts: more than a processor takes for long
_WIDE, _NARROW = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)  # ticks of log axes


@dataclass(frozen=True)
class Run:
    """A folder in which one training keeps its record and its state."""

    folder: Path
    """The folder."""
    title: str = ""
    """What stands above the curve; empty: the name of the folder."""
    score: str = "validation score [\u2212]"
    """What the score is called at its axis, with the unit."""

    @property
    def config(self) -> Path:
        """What was asked for."""
        return self.folder / "config.json"

    @property
    def history(self) -> Path:
        """One line per entry."""
        return self.folder / "history.csv"

    @property
    def curve(self) -> Path:
        """The picture of the history."""
        return self.folder / "curve.png"

    @property
    def state(self) -> Path:
        """What a training needs to go on after a kill."""
        return self.folder / "state.safetensors"

    @property
    def result(self) -> Path:
        """What came out; it is there once the training is over."""
        return self.folder / "result.json"


def begin(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    title: str = "",
    score: str = Run.score,
) -> Run:
    """Make a run folder, or find the one that was made for the same configuration.

    Parameters
    ----------
    folder
        Made if it is missing.
    config
        All that was asked for, as JSON can hold it.
    title, score
        For the curve, see `Run`.

    Raises
    ------
    ValueError
        If the folder belongs to another configuration.
    """
    run = Run(Path(folder), title, score)
    if run.config.is_file():
        refuse_other(run.folder, json.loads(run.config.read_text()), config)
    else:
        run.folder.mkdir(parents=True, exist_ok=True)
        write(run.config, _json(config))
    return run


def refuse_other(folder: Path, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise if two configurations differ, and say in what.

    Raises
    ------
    ValueError
        If they do.
    """
    found = _difference(kept, json.loads(_json(asked)))
    if found:
        where, before, now = found
        raise ValueError(
            f"the run in {folder} was begun with {where} = {before}, not {now}; "
            "choose another folder or delete this one"
        )


def write(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(content)
    os.replace(aside, path)


def write_history(run: Run, history: Sequence[Entry]) -> None:
    """Write the history as a table, one line per entry."""
    named = (name for entry in history for name in entry)
    names = list(dict.fromkeys(("step", "loss", "rate", *named)))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write(run.history, text.getvalue().encode())


def add_result(run: Run, found: Mapping[str, Any]) -> None:
    """Write what came out, beside what was already told."""
    write(run.result, _json(result(run) | dict(found)))


def result(run: Run) -> dict[str, Any]:
    """Give what came out so far, empty while the training is not over."""
    return json.loads(run.result.read_text()) if run.result.is_file() else {}


def draw(run: Run, history: Sequence[Entry]) -> None:
    """Draw loss and score over the steps, the best score marked."""
    from matplotlib.figure import Figure  # slow to import, and not every training keeps a run

    scored = [entry for entry in history if "score" in entry]
    height = 5.4 if scored else 3.4
    figure = Figure(figsize=(8, height), facecolor="white")
    panels = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(0.13, 0.58 / height, 0.975, 1 - 0.45 / height, hspace=0.16)
    figure.align_ylabels(panels)
    _panel(panels[0], history, "loss", "training loss [\u2212]", _LOSS)
    if scored:
        _panel(panels[1], scored, "score", textwrap.fill(run.score, 28), _SCORE)
        _mark(panels[1], min(scored, key=lambda entry: entry["score"]))
    panels[0].set_title(
        run.title or run.folder.name, loc="left", color=_INK, fontsize=13, fontweight="bold", pad=12
    )
    panels[-1].set_xlabel("optimiser steps", color=_FAINT)
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    panels[-1].set_xlim(0, max(entry["step"] for entry in history) * 1.03)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    write(run.curve, picture.getvalue())


def _panel(axes: Axes, history: Sequence[Entry], name: str, label: str, colour: str) -> None:
    """Draw one quantity; on a logarithmic axis where it spans more than a factor of three."""
    from matplotlib.ticker import LogLocator, NullLocator

    steps, values = [e["step"] for e in history], [e[name] for e in history]
    dots = "o" if len(values) <= 40 else ""
    axes.plot(steps, values, color=colour, linewidth=1.8, marker=dots, markersize=4)
    if min(values) > 0 and max(values) > 3 * min(values):
        wide = max(values) > 10 * min(values)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=_WIDE if wide else _NARROW, numticks=20))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(label, color=_FAINT)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.tick_params(colors=_FAINT, which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=_FAINT)


def _mark(axes: Axes, best: Entry) -> None:
    step, score = best["step"], best["score"]
    axes.plot([step], [score], "o", color=_SCORE, markersize=9, markerfacecolor="white", mew=2)
    # Above the panel, where no curve can cross it.
    axes.set_title(f"best: {score:.4g} at step {step:,.0f}", loc="right", color=_SCORE, fontsize=10)


# --- what it cost ---


@dataclass(frozen=True)
class Cost:
    """Time and energy spent; energy that could not be measured is None."""

    wall_seconds: float = 0.0
    """Time on the clock [s]."""
    cpu_seconds: float = 0.0
    """Processor time of this process, all threads together [s]."""
    processor_wh: float | None = 0.0
    """Energy of the whole processor and its memory, whoever used them [Wh]."""
    gpu_wh: float | None = 0.0
    """Energy of the whole graphics card, whoever used it [Wh]; 0 where none was used."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            _sum(self.processor_wh, other.processor_wh),
            _sum(self.gpu_wh, other.gpu_wh),
        )


def meter(gpu: str | None = None, *, powercap: Path = POWERCAP) -> Callable[[], Cost]:
    """Begin to count, and give the function that tells what has been spent since.

    Energy comes from the counters of the hardware: RAPL for the processor (packages and memory),
    NVML for a graphics card. They are often missing or closed to users; then the energy is None.
    RAPL starts over after its range, often 262 kJ. Where it was not asked for so long that it
    could have done so twice, unseen, the energy is None: ask every few minutes.

    Parameters
    ----------
    gpu
        NVML's name of the graphics card in use (`fit.gpu` gives it), None without one.
    powercap
        Folder of the RAPL counters.
    """
    wall, cpu = time.monotonic(), time.process_time()
    domains = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if _counts(folder)]
    ranges = [_microjoules(folder / "max_energy_range_uj") for folder in domains]
    last = [_microjoules(folder / "energy_uj") for folder in domains]
    spent, asked = 0.0, wall
    card = _gpu_joules(gpu) if gpu else 0.0

    def read() -> Cost:
        nonlocal spent, asked, last
        silence, asked = time.monotonic() - asked, time.monotonic()
        now = [_microjoules(folder / "energy_uj") for folder in domains]
        for before, after, top in zip(last, now, ranges, strict=True):
            if before is None or after is None or top is None or silence * _MOST > top:
                spent = math.nan  # what went by unseen once is unknown for good
            else:
                spent += after - before if after >= before else after - before + top
        last = now
        known = bool(domains) and math.isfinite(spent)
        then = _gpu_joules(gpu) if gpu else 0.0
        return Cost(
            time.monotonic() - wall,
            time.process_time() - cpu,
            spent / 1e6 / 3600 if known else None,
            None if card is None or then is None else (then - card) / 3600,
        )

    return read


def _counts(domain: Path) -> bool:
    """Tell whether a RAPL domain belongs to the sum: cores and graphics lie inside the package."""
    try:
        name = (domain / "name").read_text().strip()
    except OSError:
        return False
    return name == "dram" or name.startswith("package")


def _microjoules(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except OSError:  # kernels since 5.10 let only root read it
        return None


def _gpu_joules(name: str) -> float | None:
    """Give the energy a graphics card has used since its driver was loaded [J]."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    card, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
    if nvml.nvmlInit_v2():
        return None
    try:
        failed = nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(card))
        failed = failed or nvml.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(energy))
    finally:
        nvml.nvmlShutdown()
    return None if failed else energy.value / 1000  # mJ


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _difference(kept: Any, asked: Any, where: str = "") -> tuple[str, str, str] | None:
    """Find the first place where two JSON values differ: its name, and both values."""
    if kept == asked:
        return None
    if isinstance(kept, dict) and isinstance(asked, dict):
        for name in dict.fromkeys((*kept, *asked)):
            inner = f"{where}.{name}" if where else name
            if name not in kept or name not in asked:
                return inner, _told(kept, name), _told(asked, name)
            if found := _difference(kept[name], asked[name], inner):
                return found
    return where, json.dumps(kept), json.dumps(asked)


def _told(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "nothing"
