"""Judge models on cubes: their places, and the seeds of one recipe taken together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import xarray as xr

from deepfeatures.embed import data
from deepfeatures.embed.evaluate.place import Place, place
from deepfeatures.embed.evaluate.representation import Representation, of_predictor
from deepfeatures.embed.evaluate.table import evaluate
from deepfeatures.embed.sensors import MAIN, SENSORS
from deepfeatures.predictor import Predictor

EDGE = 64
"""Largest edge of a place [px]."""
GAP = 8
"""Columns between the two halves of a cube that belong to neither [px]."""

Cubes = Mapping[str, xr.Dataset]


def judge(
    predictors: Sequence[Predictor],
    *,
    train: Cubes,
    test: Cubes,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Judge models on cubes beside the simple things.

    Models of one recipe that differ in nothing but the seed are one subject: the spread of its
    numbers is that of its seeds.

    Parameters
    ----------
    predictors
        Optical or fused models of the same bands.
    train, test
        Name -> cube to fit the simple things and the probes on, and to measure on. A cube in both
        is cut into a western and an eastern half. Of each, a window of at most `EDGE` px is taken.
    progress
        Called with what is done and what there is to do.

    Returns
    -------
    pandas.DataFrame
        See `table.evaluate`.

    Raises
    ------
    ValueError
        If the models take different bands, one is of another sensor, or a cube lacks a band.
    """
    channels = list(predictors[0].inputs)
    for one in predictors:
        if one.card.sensor != MAIN or set(one.inputs) != set(channels):
            raise ValueError(
                f"{one.name!r} takes {', '.join(one.inputs)} of {SENSORS[one.card.sensor].title}, "
                f"{predictors[0].name!r} {', '.join(channels)}: judge them one by one"
            )
    contexts = {name: data.ALL for one in predictors for name in one.contexts}
    both = set(train) & set(test)
    sides = [
        [_window(ds, name, channels, contexts, half if name in both else None)
         for name, ds in cubes.items()]
        for cubes, half in ((train, 0), (test, 1))
    ]  # fmt: skip
    tables, total = [], len(predictors)
    for number, one in enumerate(predictors):
        subject = of_predictor(one, channels, name=_subject(one, predictors))
        # every model meets the same haze and the same rows: the spread is that of the trainings
        table = evaluate(
            [subject], train=sides[0], test=sides[1], beside=_beside(one, predictors[:number])
        )
        tables.append(table.assign(seed=number))
        if progress:
            progress(number + 1, total)
    return pd.concat(tables, ignore_index=True)


def _beside(one: Predictor, before: Sequence[Predictor]) -> list[Representation] | None:
    """Tell which simple things are still to be judged: all (None), or none."""
    return [] if any(len(b.features) == len(one.features) for b in before) else None


def _subject(one: Predictor, all_: Sequence[Predictor]) -> str:
    """Name the first model of the same recipe but for the seed."""

    def plain(predictor: Predictor) -> dict[str, object]:
        recipe = dict(predictor.card.training.get("recipe", {"name": predictor.name}))
        recipe.pop("seed", None)
        recipe.pop("encoders", None)
        recipe["series"] = bool(recipe.get("series"))
        return recipe

    return next(other.name for other in all_ if plain(other) == plain(one))


def _window(
    ds: xr.Dataset,
    name: str,
    channels: Sequence[str],
    contexts: Mapping[str, int],
    half: int | None,
) -> Place:
    """Take the middle of a cube, or of its western or eastern half."""
    height, width = ds.sizes["y"], ds.sizes["x"]
    region, first, last = name, 0, width
    if half is not None:
        cut = (width - GAP) // 2
        first, last = ((0, cut), (width - cut, width))[half]
        if cut < 2 * GAP:
            raise ValueError(
                f"the cube {name!r} is too narrow ({width} px) to learn from one half and be "
                "judged on the other; name other cubes with --train and --test"
            )
        name = f"{name} {('west', 'east')[half]}"
    y = max((height - EDGE) // 2, 0)
    x = max(first, (first + last - EDGE) // 2)
    return place(
        ds, name, channels, region=region, sensors=contexts,
        rows=slice(y, min(y + EDGE, height)), columns=slice(x, min(x + EDGE, last)),
    )  # fmt: skip
