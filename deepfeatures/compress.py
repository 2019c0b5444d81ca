"""Linear layers as matrix-product operators: fewer numbers for nearly the same layer.

A matrix of outputs by inputs is written as a chain of small tensors that share a bond, found by
singular value decompositions and cut at a largest bond (arXiv:2401.14109). The layer is put
together again when it is used: it takes less room in a file and in training, not less time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CORES = 2
"""Tensors in a chain."""


SMALL = 0.02
"""A layer with less of the numbers stays whole: the first and the last are the most sensitive."""


class MatrixProduct(nn.Module):
    """A linear layer whose matrix is a chain of tensors.

    Parameters
    ----------
    inputs, outputs
        Numbers in and out.
    bond
        Largest size of the bond between two tensors.
    bias
        Whether something is added.
    """

    def __init__(self, inputs: int, outputs: int, bond: int, *, bias: bool = True) -> None:
        super().__init__()
        if bond < 1:
            raise ValueError(f"the bond is {bond}; it must be 1 or more")
        self.in_features, self.out_features = inputs, outputs
        self.rows, self.columns = factors(outputs), factors(inputs)[::-1]
        shapes = _shapes(self.rows, self.columns, bond)
        self.cores = nn.ParameterList(torch.zeros(shape) for shape in shapes)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @classmethod
    def of(cls, layer: nn.Linear, bond: int) -> MatrixProduct:
        """Give the chain that is nearest to a layer: singular values beyond the bond are cut."""
        made = cls(layer.in_features, layer.out_features, bond, bias=layer.bias is not None)
        pairs = list(zip(made.rows, made.columns, strict=True))
        split = layer.weight.detach().reshape(*made.rows, *made.columns)
        order = [axis for k in range(CORES) for axis in (k, CORES + k)]
        rest = split.permute(order)
        before = 1
        with torch.no_grad():
            for core, (row, column) in zip(made.cores[:-1], pairs[:-1], strict=True):
                u, s, v = torch.linalg.svd(
                    rest.reshape(before * row * column, -1), full_matrices=False
                )
                keep = core.shape[-1]
                root = s[:keep].sqrt()
                core.copy_((u[:, :keep] * root).reshape(core.shape))
                rest, before = root[:, None] * v[:keep], keep
            made.cores[-1].copy_(rest.reshape(made.cores[-1].shape))
            if layer.bias is not None and made.bias is not None:
                made.bias.copy_(layer.bias)
        return made.to(layer.weight.device)

    @property
    def weight(self) -> Tensor:
        """The matrix ``(outputs, inputs)`` that the chain stands for."""
        chain = self.cores[0]
        for core in list(self.cores)[1:]:
            chain = torch.tensordot(chain, core, dims=1)
        split = chain.squeeze(0).squeeze(-1)
        order = [2 * k for k in range(CORES)] + [2 * k + 1 for k in range(CORES)]
        return split.permute(order).reshape(self.out_features, self.in_features)

    def forward(self, values: Tensor) -> Tensor:
        """Give what the layer makes of ``(..., inputs)``."""
        return functional.linear(values, self.weight, self.bias)


def factors(number: int) -> tuple[int, ...]:
    """Give two factors of a number, as near to each other as can be, the smaller one first."""
    low = next(n for n in range(math.isqrt(number), 0, -1) if number % n == 0)
    return low, number // low


def _shapes(
    rows: tuple[int, ...], columns: tuple[int, ...], bond: int
) -> list[tuple[int, int, int, int]]:
    sizes = [row * column for row, column in zip(rows, columns, strict=True)]
    bonds = [1, *(min(math.prod(sizes[:k]), math.prod(sizes[k:]), bond) for k in (1,)), 1]
    return [(bonds[k], rows[k], columns[k], bonds[k + 1]) for k in range(CORES)]


def layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Give the linear layers of a network by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}


def parameters(module: nn.Module) -> int:
    """Count the numbers of a network."""
    return sum(weight.numel() for weight in module.parameters())


def bonds(module: nn.Module, share: float) -> dict[str, int]:
    """Give the bond of each layer with which the network keeps a share of its numbers.

    What is no linear layer stays as it is, and so does a layer that is small, or that no bond
    makes smaller.

    Raises
    ------
    ValueError
        If the share can not be reached.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share {share:g} is not between 0 and 1")
    whole = parameters(module)
    each = {}
    for name, layer in layers(module).items():
        cost = _cost(layer)
        if layer.weight.numel() >= SMALL * whole and cost * 2 <= layer.weight.numel():
            each[name] = (cost, layer.weight.numel())
    movable = sum(full for _, full in each.values())
    left = share * whole - (whole - movable)
    part = left / movable if movable else 0.0
    found = {name: int(part * full / cost) for name, (cost, full) in each.items()}
    # a layer so small that it would vanish keeps one, at the cost of the share
    found = {name: max(bond, 1) for name, bond in found.items()}
    kept = sum(found[name] * cost for name, (cost, _) in each.items())
    if left <= 0 or kept > left + 0.02 * whole:
        raise ValueError(
            f"the network can not be brought to {share:.0%} of its {whole} numbers; ask for more"
        )
    return found


def _cost(layer: nn.Linear) -> int:
    """Count the numbers that a bond of one costs."""
    rows, columns = factors(layer.out_features), factors(layer.in_features)[::-1]
    return sum(row * column for row, column in zip(rows, columns, strict=True))


def compressed(module: nn.Module, each: Mapping[str, int]) -> nn.Module:
    """Give a copy of a network in which layers are chains of given bonds."""
    made = copy.deepcopy(module)
    for name, bond in each.items():
        parent, _, own = name.rpartition(".")
        layer = made.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                f"{name!r} is no linear layer; choose from {', '.join(layers(module))}"
            )
        setattr(made.get_submodule(parent), own, MatrixProduct.of(layer, bond))
    return made


def sensitivity(
    module: nn.Module, each: Mapping[str, int], judge: Callable[[nn.Module], float]
) -> dict[str, float]:
    """Give the score of the network with one layer compressed at a time."""
    return {name: judge(compressed(module, {name: bond})) for name, bond in each.items()}
