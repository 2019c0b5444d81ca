"""Train predictors: principal components, the network of one sensor, and the fusion of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deepfeatures import __version__, fit, indices, latent, runs
from deepfeatures.embed import augment, data, draws, scores
from deepfeatures.embed.cleaning import Cleaning
from deepfeatures.embed.coding import Coding
from deepfeatures.embed.fusion import Fusion
from deepfeatures.embed.inputs import Preparation, Scaling, limits, required
from deepfeatures.embed.model import Projection
from deepfeatures.embed.recipe import PRESETS, Recipe
from deepfeatures.embed.sensors import MAIN, SENSORS
from deepfeatures.embed.tasks import PLAN, ROUNDING, FusionTask, SensorTask
from deepfeatures.embed.temporal import ORIGIN, Temporal
from deepfeatures.indices.ranges import SETS
from deepfeatures.predictor import Card, Predictor, choose_device, network

SAMPLE = 200_000
"""Pixel-dates from which means, spreads and axes are computed."""

LICENCE = "MIT"
"""Licence of the weights that this package trains."""

PURPOSE = (
    "Compact description of the land surface per pixel and date: similarity, clusters, change, "
    "and linear or light models of vegetation, crops and carbon uptake on top."
)

LIMITATIONS = (
    "Features have no unit; compare them within one model only. They are worth what the training "
    "cubes cover: other climates, surfaces, sensors or processing baselines were not seen. Under "
    "thick cloud that the mask does not know they tell the cloud."
)

EVEN = 0.5
"""How far the scores that a network starts from are whitened: 1 would give the noise of the last
component the same weight as the first, 0 would leave it under the steps of eight bits."""

CODING, ROWS = 2.5, 4096
"""Steps of the code for each one of the series, and the pixel-dates of each."""

LITTLE = 0.5
"""Share of the shifts of calibration that the code learns: few numbers that must tell colours which
no surface has tell the others less well."""

CODE = "code"
"""Folder in the run folder that keeps the training of the code."""

AVERAGE = 0.998
"""Decay of the moving average of the weights that is kept."""

VALIDATION = 8
"""Batches on which a training is judged."""

METERED = 100
"""Steps between two readings of the energy meter."""

Progress = Callable[[int, int], None]
Cubes = Mapping[str, xr.Dataset]


@dataclass(frozen=True)
class Job:
    """What a trainer gets."""

    cubes: Cubes
    """Cubes to learn from."""
    validation: Cubes
    """Cubes on which the training is stopped; none: it runs to its last step."""
    recipe: Recipe
    """What is asked for."""
    run: runs.Run | None
    """Run folder."""
    device: torch.device
    """Where to train."""
    progress: Progress
    """Called with (steps done, steps)."""
    cancelled: Callable[[], bool] | None
    """Asked after each step."""


def train(
    cubes: Cubes,
    recipe: Recipe,
    *,
    validation: Cubes | None = None,
    test: Cubes | None = None,
    out: str | PathLike[str] | None = None,
    run: str | PathLike[str] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Train a predictor on cubes.

    Parameters
    ----------
    cubes
        Name -> cube (lazy or not) that holds the sensor of the recipe.
    recipe
        What to train. The same recipe and cubes give the same checkpoint on the same machine and
        number of threads.
    validation
        Other places on which the training is judged as it goes, and stopped when it gets no
        better; none: it runs to its last step.
    test
        Places that it never sees, on which the finished model is scored, beside the held-out
        share of each cube.
    out
        File of the checkpoint (.safetensors), whose stem becomes the name of the model; None
        writes none.
    run
        Folder for configuration, state, history and curve: a training that was killed goes on
        from there. None keeps nothing.
    device
        ``cpu``, ``cuda`` or ``auto``.
    progress, cancelled
        Called with (steps done, steps), and asked after each step.

    Raises
    ------
    ValueError
        If there is no cube, a cube lacks a channel, or the run folder is of another recipe.
    InterruptedError
        If `cancelled` says so; the run folder, if there is one, keeps what was done.
    """
    if not cubes:
        raise ValueError("there is no cube to train on; name at least one band cube")
    recipe = recipe.settled()
    told = {
        "recipe": recipe.told(),
        "cubes": {name: _origin(ds) for name, ds in cubes.items()},
        "validation": sorted(validation or {}),
    }
    title = f"{recipe.kind}, {recipe.sensor}, seed {recipe.seed}"
    folder = (
        runs.begin(run, told, title=title, score="validation loss [\u2212]")
        if run is not None
        else None
    )
    place = choose_device(device)
    read = runs.meter(fit.gpu(place))

    def counted(done: int, steps: int) -> None:
        if done % METERED == 0:
            read()  # the counters of the processor start over every few minutes
        if progress:
            progress(done, steps)

    job = Job(cubes, validation or {}, recipe, folder, place, counted, cancelled)
    name = Path(out).stem if out else recipe.kind
    predictor, more = TRAINERS[recipe.kind](job, name)
    versions = {
        "deepfeatures": __version__,
        "torch": version("torch"),
        "indices": indices.CATALOGUE,
    }
    training = told | more | {
        "versions": versions,
        "cost": asdict(_cost(folder) or read()),
        "scores": _scores(predictor, cubes, recipe.held_out, test or {}),
    }  # fmt: skip
    predictor = Predictor(replace(predictor.card, training=training), predictor.module.cpu())
    if out is not None:
        predictor.save(out)
    if folder:
        runs.add_result(folder, {"scores": training["scores"], "checksum": predictor.checksum})
    return predictor


def _cost(run: runs.Run | None) -> runs.Cost | None:
    """Give what a training in several sittings has cost, which its folders know."""
    folders = (run, runs.Run(run.folder / CODE)) if run else ()
    told = [runs.result(one)["cost"] for one in folders if "cost" in runs.result(one)]
    return sum((runs.Cost(**one) for one in told), runs.Cost()) if told else None


def _scores(predictor: Predictor, cubes: Cubes, share: float, test: Cubes) -> dict[str, Any]:
    found = {name: scores.held_out(predictor, ds, share=share) for name, ds in cubes.items()}
    found |= {name: scores.unseen(predictor, ds) for name, ds in test.items()}
    return {name: one for name, one in found.items() if one}


# --- principal components ---


def _pca(job: Job, name: str) -> tuple[Predictor, dict[str, Any]]:
    """Principal components of the standardised channels, whitened."""
    scaling, rows = _scaled(job)
    axes = latent.pca(rows, n=job.recipe.features)
    card = _card(job.recipe, name, scaling, scale=1 / 32, description=(
        "Principal components of the standardised surface reflectance of clear pixel-dates, "
        "whitened: each feature has mean 0 and deviation 1 over the training sample."
    ))  # fmt: skip
    module = network(card)
    assert isinstance(module, Projection)
    module.start(*_whitened(axes, rows, 1.0))
    job.progress(1, 1)
    explained = [round(float(share), 6) for share in axes.explained]
    return Predictor(card, module), {"pixel_dates": len(rows), "explained": explained}


# --- one sensor ---


def _temporal(job: Job, name: str) -> tuple[Predictor, dict[str, Any]]:
    """Train the network that tells seen and hidden dates from a few bounded numbers."""
    recipe = job.recipe
    base = _series(recipe) if recipe.series else None
    scaling, rows = _scaled(job, base.card.scaling if base else None)
    size = PRESETS[recipe.preset]
    explained = _explained(recipe)
    many = f"{recipe.features} bounded numbers" if recipe.features > 1 else "One bounded number"
    reach = 2 * Temporal.halo + 1
    card = _card(
        recipe, name, scaling, halo=Temporal.halo, context=size["context"],
        config=size | {"explained": len(explained)}, explained=explained,
        description=(
            f"{many} from {SENSORS[recipe.sensor].title} of a pixel, its {reach} x {reach} px "
            f"surroundings and {size['context']} dates on each side (attention along time at each "
            "pixel), trained to tell the channels of seen and of hidden dates."
        ),
    )  # fmt: skip
    torch.manual_seed(recipe.seed)
    module = network(card)
    assert isinstance(module, Temporal)
    task = SensorTask(card, recipe.losses).to(job.device)
    _start(module.cleaning, rows, module.cleaning.scores)
    _start(module.coding, rows, recipe.features)
    if base:
        module.cleaning.load_state_dict(base.module.get_submodule("cleaning").state_dict())
        history = list(base.card.training["history"])
    else:
        history = _fitted(job, module.cleaning, task.clean, draws.one_sensor, more=_coding(recipe))
    _coded(job, module.coding, task)
    return Predictor(card, module), {"pixel_dates": len(rows), "history": history}


def _start(module: Cleaning | Coding, rows: NDArray[np.float64], count: int) -> None:
    """Start at principal components; numbers beyond the channels start as nothing."""
    axes = latent.pca(rows, n=min(count, rows.shape[1]))
    forth, back = _whitened(axes, rows)
    more = count - len(forth)
    module.start(
        F.pad(forth, (0, 0, 0, more)), F.pad(back, (0, more)), torch.from_numpy(axes.mean).float()
    )


def _series(recipe: Recipe) -> Predictor:
    """Load the model whose clean series are taken."""
    base = Predictor.load(recipe.series)
    told = base.card.sensor, tuple(base.card.channels), base.card.config
    size = PRESETS[recipe.preset]
    if base.card.kind != "temporal" or told[:2] != (recipe.sensor, recipe.channels):
        raise ValueError(
            f"{base.name!r} has no series of {', '.join(recipe.channels)}; name a model of the "
            "same sensor and channels"
        )
    if any(told[2][name] != value for name, value in size.items()):
        raise ValueError(f"{base.name!r} has another size than {recipe.preset!r}; choose its own")
    return base


def _coding(recipe: Recipe) -> int:
    """Give the steps of the code."""
    return round(CODING * recipe.steps)


def _coded(job: Job, module: Coding, task: SensorTask) -> None:
    """Learn the code of what a date says.

    Its steps cost a tenth of those before: a table ``(n, input)`` has no series. Half of the table
    was measured, where there is something measured: simulated spectra vary in fewer ways, and a
    code of mostly them tells measured ones less well.
    """
    kinds = [
        {name: ds for name, ds in job.cubes.items() if bool(ds.attrs.get("simulated")) == simulated}
        for simulated in (False, True)
    ]
    tables = [_sample(job, task.prepare.inputs, part) for part in kinds if part]
    seed, full = job.recipe.seed, SENSORS[job.recipe.sensor].disturbance
    disturbance = replace(full, gain=full.gain * LITTLE, offset=full.offset * LITTLE)

    def draw(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 2, step])
        rows = [one[rng.integers(len(one), size=ROWS // len(tables))] for one in tables]
        chosen = np.concatenate(rows)[:, None, :, None, None]
        return torch.from_numpy(augment.shifted(chosen, disturbance, rng).astype(np.float32))

    steps, before = _coding(job.recipe), 0 if job.recipe.series else job.recipe.steps
    config = fit.Config(steps=steps, rate=4e-3, every=max(steps // 10, 1), seed=seed)
    run = None
    if job.run:
        told = {"steps": steps, "rows": ROWS}
        run = runs.begin(job.run.folder / CODE, told, title=f"{job.run.title}: code")
    fit.fit(
        module, draw, config, loss=task.code, device=job.device, run=run, cancelled=job.cancelled,
        progress=lambda done, _: job.progress(before + done, before + steps),
    )  # fmt: skip


def _explained(recipe: Recipe) -> tuple[str, ...]:
    """Give the indices that the features have to tell: those of the research set."""
    if recipe.sensor != MAIN or not recipe.losses["indices"]:
        return ()
    possible = indices.available(required(recipe.channels))
    return tuple(name for name in SETS["research"] if name in possible)


# --- several sensors ---


def _fusion(job: Job, name: str) -> tuple[Predictor, dict[str, Any]]:
    """Train the layers that join the features of encoders, which stay as they are."""
    parts = {one.card.sensor: one for one in map(Predictor.load, job.recipe.encoders)}
    if next(iter(parts)) != MAIN or len(parts) != len(job.recipe.encoders):
        raise ValueError(
            f"the encoders are of {', '.join(parts)}; give one of {MAIN} first, then one of each "
            "other sensor"
        )
    first = parts[MAIN].card
    recipe = replace(job.recipe, channels=first.channels)
    job = replace(job, recipe=recipe)
    others = ", ".join(SENSORS[sensor].title for sensor in parts if sensor != MAIN)
    card = replace(
        _card(recipe, name, first.scaling),
        halo=max(one.halo for one in parts.values()),
        context=first.context, encoders={sensor: _slim(one) for sensor, one in parts.items()},
        description=(
            f"{recipe.features} bounded numbers at each date of {SENSORS[MAIN].title}, joined from "
            f"its features and those of {others} at the nearest date, where there is one."
        ),
    )  # fmt: skip
    torch.manual_seed(recipe.seed)
    module = network(card)
    assert isinstance(module, Fusion)
    for sensor, one in parts.items():
        module.encoders[sensor].load_state_dict(one.module.state_dict())
    task = FusionTask(card, recipe.losses).to(job.device)

    def draw(cubes: Cubes, asked: Recipe) -> augment.Draw:
        return draws.several(cubes, asked, task.sensors)

    some = _batches(draw(job.cubes, recipe), recipe)
    _start_fusion(module, task, [some(step) for step in range(4)], recipe.features)
    history = _fitted(job, module, task, draw)
    return Predictor(card, module), {"history": history}


def _start_fusion(module: Fusion, task: FusionTask, some: list[augment.Batch], count: int) -> None:
    """Start at the principal components of the channels that the encoders tell together."""
    scores_, channels = [], []
    with torch.no_grad():
        for batch in some:
            found = module.encode(task.seen(batch), task.inner)
            there = torch.stack([told[..., -1] for told in found.values()]).amin(0) > 0
            told = [module.alone(found, sensor).movedim(2, -1)[there] for sensor in found]
            scores_.append(torch.cat([part[..., :-4][there] for part in found.values()], -1))
            channels.append(torch.cat(told, -1))
    rows, table = (torch.cat(parts).double().numpy() for parts in (scores_, channels))
    if len(table) < 100:
        raise ValueError("no cube has dates that all sensors saw; give cubes with all of them")
    axes = latent.pca(table, n=count)
    forth, back = _whitened(axes, table)
    wanted = (table - axes.mean) @ forth.double().numpy().T
    fitted = np.linalg.lstsq(np.column_stack([rows, np.ones(len(rows))]), wanted, rcond=None)[0]
    fitted, mean = torch.from_numpy(fitted).float(), torch.from_numpy(axes.mean).float()
    module.start(fitted[:-1].T, fitted[-1], back, mean)


def _slim(predictor: Predictor) -> dict[str, Any]:
    """Give the card of an encoder, its history left out, with the sum of its weights."""
    told = asdict(predictor.card)
    told["training"] = {k: v for k, v in told["training"].items() if k != "history"}
    told["training"]["checksum"] = predictor.checksum
    return told


# --- what they share ---


def _fitted(
    job: Job,
    module: torch.nn.Module,
    loss: Callable[[torch.nn.Module, augment.Batch], Tensor],
    draw: Callable[[Cubes, Recipe], augment.Draw],
    *,
    more: int = 0,
) -> list[dict[str, float]]:
    """Run the training loop; `more` steps of something else will follow."""
    recipe = job.recipe
    drawn = _batches(draw(job.cubes, recipe), recipe)
    validate = None
    if job.validation:
        judged = replace(recipe, held_out=0.0, seed=recipe.seed + 10_000)
        other = _batches(draw(job.validation, judged), judged)
        kept = [other(step).to(job.device) for step in range(VALIDATION)]

        def validate(network: torch.nn.Module) -> float:
            return float(np.mean([float(loss(network, batch)) for batch in kept]))

    config = fit.Config(
        steps=recipe.steps, seed=recipe.seed, average=AVERAGE, every=min(200, recipe.steps)
    )
    return fit.fit(
        module, drawn, config, loss=loss, validate=validate, device=job.device, run=job.run,
        progress=lambda done, steps: job.progress(done, steps + more), cancelled=job.cancelled,
    )  # fmt: skip


def _batches(draw: augment.Draw, recipe: Recipe) -> Callable[[int], augment.Batch]:
    """Give the function that makes the batches of a recipe."""
    disturbance, inputs = SENSORS[recipe.sensor].disturbance, required(recipe.channels)
    if recipe.kind == "fusion":
        # its encoders know other calibrations; the few numbers that join them need not tell them
        disturbance = replace(disturbance, gain=0.0, offset=0.0)
    return augment.batches(draw, inputs, disturbance, PLAN, seed=recipe.seed, origin=ORIGIN)


def _sample(job: Job, inputs: list[str], cubes: Cubes) -> NDArray[np.float32]:
    """Give the inputs of clear pixel-dates, as many of each cube."""
    recipe = job.recipe
    return data.pixels(
        cubes, inputs, sensor=recipe.sensor, count=SAMPLE, seed=recipe.seed,
        held_out=recipe.held_out,
    )  # fmt: skip


def _scaled(job: Job, scaling: Scaling | None = None) -> tuple[Scaling, NDArray[np.float64]]:
    """Give the scaling of the channels, and the normalised channels of a sample."""
    recipe = job.recipe
    low, high = limits(recipe.sensor, recipe.channels)
    count = len(recipe.channels)
    plain = Preparation(
        recipe.channels, Scaling((0.0,) * count, (1.0,) * count, low, high), recipe.sensor
    )
    sample = _sample(job, plain.inputs, job.cubes)
    rows = plain(torch.from_numpy(sample)[:, :, None, None])[:, :, 0, 0].double().numpy()
    centre, spread = rows.mean(axis=0).round(6), rows.std(axis=0).round(6)
    if spread.min() <= 0:
        raise ValueError("the cubes vary too little to learn from; give more dates or places")
    if scaling is None:
        scaling = Scaling(tuple(centre.tolist()), tuple(spread.tolist()), low, high)
    return scaling, (rows - np.array(scaling.centre)) / np.array(scaling.spread)


def _whitened(
    axes: latent.PCA, rows: NDArray[np.float64], power: float = EVEN
) -> tuple[Tensor, Tensor]:
    """Give the maps to scores (component, channel) and back (channel, component).

    The first score has deviation 1, the others their own in relation to it to the power of
    1 - `power`.
    """
    deviation = ((rows - axes.mean) @ axes.components.T).std(axis=0)[:, None]
    # channels may say the same: what does not vary is not blown up
    deviation = deviation.clip(1e-3 * deviation.max())
    size = deviation**power * deviation.max() ** (1 - power)
    forth, back = axes.components / size, (axes.components * size).T.copy()
    return torch.from_numpy(forth).float(), torch.from_numpy(back).float()


def _card(recipe: Recipe, name: str, scaling: Scaling, **more: Any) -> Card:
    """Write the card of a predictor."""
    return Card(
        name=name, kind=recipe.kind, channels=recipe.channels,
        features=tuple(f"F{i:02d}" for i in range(1, recipe.features + 1)),
        sensor=recipe.sensor, purpose=PURPOSE, limitations=LIMITATIONS, licence=LICENCE,
        **{"scale": ROUNDING, **asdict(scaling), **more},
    )  # fmt: skip


def _origin(ds: xr.Dataset) -> dict[str, Any]:
    """Say where a cube comes from, as far as its attributes tell."""
    names = ("title", "source", "licence", "attribution", "simulated")
    told = {name: ds.attrs[name] for name in names if name in ds.attrs}
    times = ds["time"].values.astype("datetime64[D]").astype(str)
    return told | {"shape": list(ds.sizes[d] for d in ("time", "y", "x")),
                   "period": [str(times[0]), str(times[-1])]}  # fmt: skip


TRAINERS: dict[str, Callable[[Job, str], tuple[Predictor, dict[str, Any]]]] = {
    "pca": _pca,
    "temporal": _temporal,
    "fusion": _fusion,
}
"""Kind of a predictor -> the function that trains it."""
