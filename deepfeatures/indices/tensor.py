"""Programs on torch: indices of tensors on any device, differentiable, and as a network's layer.

What is undefined is NaN here as in `native`: an infinity can only turn into a number again as a
denominator or in an exponential, so it becomes NaN there, and in the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from deepfeatures.indices.program import Program
from deepfeatures.indices.table import Index, chosen
from deepfeatures.indices.table import program as planned

LOG2E = math.log2(math.e)
HALF = torch.tensor(0.5, dtype=torch.float64)
"""As a tensor it is an exponent; as a number it would call torch.sqrt."""
BLOCK = 32768
"""Pixels that a processor computes at once: intermediate values stay in its caches, and torch does
not share them among threads, which would have to meet after each of hundreds of short steps."""

_PLAIN: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "neg": torch.neg,
}


def run(program: Program, bands: Mapping[str, Tensor]) -> Tensor:
    """Compute a program.

    On a processor one thread takes `BLOCK` pixels at a time, elsewhere all are taken at once;
    beside the result that needs room for ``program.slots`` values of each of them. For gradients a
    block is computed again on the way back rather than kept.

    Parameters
    ----------
    program
        What to compute.
    bands
        A tensor of surface reflectance (...) for each of ``program.inputs``, all of one shape and
        on one device; NaN = no value. float64 stays so, all else is computed in float32.

    Returns
    -------
    torch.Tensor
        (outputs, ...); NaN where a band has no value and where an output is undefined. What is
        undefined, or has an infinite slope, adds nothing to gradients.

    Raises
    ------
    KeyError
        If a band is missing.
    ValueError
        If the bands differ in shape.
    """
    shapes = {name: tuple(bands[name].shape) for name in program.inputs}
    shape = next(iter(shapes.values()))
    if set(shapes.values()) != {shape}:
        raise ValueError(f"the bands differ in shape: {shapes}")
    flat = [bands[name].reshape(1, -1) for name in program.inputs]
    return _computed(program, flat).reshape(program.outputs, *shape)


class Layer(torch.nn.Module):
    """Indices of bands as the first layer of a network, so that they never exist as a cube.

    It has no parameters and nothing that a checkpoint would hold.

    Parameters
    ----------
    wanted
        Names of the catalogue, expressions, or indices from `define`.
    bands
        Names of the bands in the order in which the input has them.
    constants
        Other values than the catalogue's, such as ``{"L": 0.5}``.

    Raises
    ------
    KeyError
        If an index is unknown.
    ValueError
        If a band or a constant is missing, or an expression is none.

    Examples
    --------
    >>> layer = Layer(["NDVI", "B08 - B04"], ["B04", "B08"])
    >>> layer(torch.tensor([0.1, 0.4]).reshape(1, 2, 1, 1)).flatten().tolist()
    [0.6000000238418579, 0.30000001192092896]
    """

    def __init__(
        self,
        wanted: Sequence[str | Index],
        bands: Sequence[str],
        constants: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        found = chosen(wanted, bands)
        self.program = planned(tuple(found), tuple(sorted((constants or {}).items())))
        self.bands = tuple(bands)
        """Channels of the input."""
        self.indices = tuple(index.name for index in found)
        """Channels of the output."""

    def forward(self, x: Tensor) -> Tensor:
        """Give (time, index, y, x) of reflectance (time, band, y, x); see `run`."""
        *times, channels, height, width = x.shape
        if channels != len(self.bands):
            raise ValueError(
                f"the input has {channels} channels; give {', '.join(self.bands)} as dimension -3"
            )
        flat = x.reshape(math.prod(times), channels, height * width)  # (time, band, pixel)
        places = [self.bands.index(name) for name in self.program.inputs]
        out = _computed(self.program, [flat[:, place] for place in places])  # (time, index, pixel)
        return out.reshape(*times, len(self.indices), height, width)


def _computed(program: Program, bands: Sequence[Tensor]) -> Tensor:
    """Give (item, output, pixel) of bands (item, pixel)."""
    items, pixels = bands[0].shape
    some = BLOCK if bands[0].device.type == "cpu" else bands[0].numel()
    wide = _spans(pixels, max(some, 1))
    tall = _spans(items, max(some // max(pixels, 1), 1))
    if torch.is_grad_enabled() and any(band.requires_grad for band in bands):
        rows = [[_again(program, [band[i, p] for band in bands]) for p in wide] for i in tall]
        return torch.cat([torch.cat(row, dim=2) for row in rows])
    kind = torch.promote_types(bands[0].dtype, torch.float32)
    out = _blank((items, program.outputs, pixels), kind, bands[0].device)
    for i in tall:
        for p in wide:
            _steps(program, [band.detach()[i, p] for band in bands], out[i, :, p].unbind(1))
    return out


def _blank(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.empty(shape, dtype=kind, device=device)
    # unlike torch, numpy asks the system for huge pages
    return torch.from_numpy(np.empty(shape, np.float64 if kind == torch.float64 else np.float32))


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, max(length, 1), step)]


def _again(program: Program, bands: Sequence[Tensor]) -> Tensor:
    """Compute a block of which only the bands are kept; on the way back it is computed again."""

    def block(*given: Tensor) -> Tensor:
        return torch.stack(_steps(program, given), dim=1)

    found: Tensor = checkpoint(block, *bands, use_reentrant=False, preserve_rng_state=False)
    return found


def _steps(
    program: Program, bands: Sequence[Tensor], out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Compute the outputs of a block: into `out`, or as tensors that have gradients."""
    kind = torch.promote_types(bands[0].dtype, torch.float32)
    leaves = [_finite(band.to(kind)) for band in bands]
    leaves += [torch.tensor(number, dtype=kind) for number in program.constants]
    spare: Tensor | None = None
    targets: list[Tensor | None] = [None] * (program.slots + program.outputs)
    if out is not None:
        shape = (program.slots + 1, *leaves[0].shape)
        spare, *slots = _blank(shape, kind, leaves[0].device).unbind()
        targets = [*slots, *out]
    values: list[Any] = [*leaves, *targets]
    for operation, (*operands, place) in program.code:
        target = targets[place - len(leaves)]
        value = _operation(operation, [values[at] for at in operands], target, spare)
        if place >= len(leaves) + program.slots:
            value = _finite(value.expand_as(leaves[0]), target)
        values[place] = value
    return values[len(leaves) + program.slots :]


def _operation(name: str, args: list[Tensor], out: Tensor | None, spare: Tensor | None) -> Tensor:
    """Do a step; `spare` takes what is needed only for it."""
    if torch.is_grad_enabled():
        args = [_Operand.apply(arg) if arg.requires_grad else arg for arg in args]
    if name == "copy":
        return args[0]
    if name == "/":
        return torch.div(args[0], _finite(args[1], spare if args[1].ndim else None), out=out)
    if name == "exp":  # torch.exp and torch.sqrt share even few values among threads
        return torch.exp2(torch.mul(_finite(args[0], spare), LOG2E, out=spare), out=out)
    if name == "sqrt":
        return torch.pow(args[0], HALF, out=out)
    if name == "**":
        return torch.pow(_finite(args[0], spare), float(args[1]), out=out)
    return _PLAIN[name](*args, out=out)


def _finite(value: Tensor, out: Tensor | None = None) -> Tensor:
    """Make infinities NaN."""
    return torch.nan_to_num(value, nan=math.nan, posinf=math.nan, neginf=math.nan, out=out)


class _Operand(torch.autograd.Function):
    """A value whose gradient is 0 where it is none.

    Where an output is undefined the slopes of its steps are, and 0 times these, which is what a
    loss that leaves the output out gives, would be NaN for all that shares the bands.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
