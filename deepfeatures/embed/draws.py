"""Which cube and which of its places a training draws next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from deepfeatures.embed import augment, data
from deepfeatures.embed.inputs import required
from deepfeatures.embed.recipe import Recipe
from deepfeatures.embed.sensors import MAIN
from deepfeatures.tiles import Tile

REAL = 1 / 3
"""Share of the draws that are of real cubes where there are simulated ones as well."""


def one_sensor(cubes: Mapping[str, xr.Dataset], recipe: Recipe) -> augment.Draw:
    """Give the function that draws blocks as the sensor of the recipe saw them."""
    inputs = required(recipe.channels)
    where = _places(cubes, recipe.held_out)

    def draw(rng: np.random.Generator) -> data.Block:
        ds, tile = where(rng)
        block = data.seen_by(ds, recipe.sensor, inputs, tile.core)
        return _asked(ds, tile, block, inputs) if recipe.sensor == MAIN else block

    return draw


def several(
    cubes: Mapping[str, xr.Dataset], recipe: Recipe, sensors: Sequence[str]
) -> augment.Draw:
    """Give the function that draws blocks of the main sensor, and of others beside it."""
    where = _places(cubes, recipe.held_out)
    inputs, everything = required(recipe.channels), dict.fromkeys(sensors, data.ALL)

    def draw(rng: np.random.Generator) -> data.Block:
        ds, tile = where(rng)
        rows, columns = tile.core
        block = data.read(ds, inputs, sensors=everything, rows=rows, columns=columns)
        return _asked(ds, tile, block, inputs)

    return draw


def _asked(ds: xr.Dataset, tile: Tile, block: data.Block, inputs: Sequence[str]) -> data.Block:
    """Say where a block is clear enough to be told: a target with haze teaches to keep haze."""
    rows, columns = tile.core
    return replace(block, clear=data.refined(ds.isel(y=rows, x=columns), block, inputs))


def _places(
    cubes: Mapping[str, xr.Dataset], held_out: float
) -> Callable[[np.random.Generator], tuple[xr.Dataset, Tile]]:
    """Give the function that draws a cube and a place to learn from.

    Where there are real and simulated cubes, `REAL` of the draws are real: simulations are cheap to
    make in numbers, but their noise and haze are only what somebody thought of.
    """
    sources = [(ds, data.places(ds, held_out=held_out)[0]) for ds in cubes.values()]
    simulated = np.array([ds.attrs.get("simulated") == "true" for ds, _ in sources])
    chance = np.full(len(sources), 1 / len(sources))
    if simulated.any() and not simulated.all():
        chance = np.where(simulated, (1 - REAL) / simulated.sum(), REAL / (~simulated).sum())

    def draw(rng: np.random.Generator) -> tuple[xr.Dataset, Tile]:
        ds, learn = sources[int(rng.choice(len(sources), p=chance))]
        return ds, learn[int(rng.integers(len(learn)))]

    return draw
