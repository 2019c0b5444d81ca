"""Laws of matrix-product operators, and of models that hold them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deepfeatures import compress
from deepfeatures.gpp.networks import Causal


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 192), (64, 64), (12, 30), (7, 64)])
def test_a_whole_bond_gives_the_same_layer(inputs, outputs):
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    made = compress.MatrixProduct.of(layer, 10_000)
    torch.testing.assert_close(made.weight, layer.weight, atol=1e-5, rtol=1e-4)
    values = torch.randn(3, 5, inputs)
    torch.testing.assert_close(made(values), layer(values), atol=1e-5, rtol=1e-4)


def test_a_cut_bond_loses_just_the_singular_values_that_were_cut():
    torch.manual_seed(1)
    layer = nn.Linear(16, 36)
    rows, columns = compress.factors(36), compress.factors(16)
    split = layer.weight.detach().reshape(*rows, *columns).permute(0, 2, 1, 3)
    values = torch.linalg.svdvals(split.reshape(rows[0] * columns[0], -1))
    lost = [
        (compress.MatrixProduct.of(layer, bond).weight - layer.weight).norm().item()
        for bond in (1, 5, 12, 24)
    ]
    wanted = [values[bond:].norm().item() for bond in (1, 5, 12, 24)]
    assert lost == pytest.approx(wanted, abs=1e-5)
    assert lost == sorted(lost, reverse=True)


@pytest.mark.parametrize("share", [0.15, 0.3, 0.6])
def test_a_network_keeps_the_share_that_was_asked_for_and_learns_on(share):
    torch.manual_seed(2)
    net = Causal(9)
    each = compress.bonds(net, share)
    small = compress.compressed(net, each)
    assert share * 0.8 < compress.parameters(small) / compress.parameters(net) <= share * 1.02
    assert isinstance(net.blocks[0].attend, nn.Linear)  # the network itself is left alone
    values = torch.randn(2, 4, 9)
    out, _ = small(values)
    out.square().mean().backward()
    assert all(core.grad is not None for core in small.blocks[0].attend.cores)
    profile = compress.sensitivity(
        net.eval(), each, lambda one: (one.eval()(values)[0] - net(values)[0]).norm().item()
    )
    assert profile.keys() == each.keys()
    assert all(math.isfinite(value) and value > 0 for value in profile.values())


def test_what_can_not_be_compressed_is_said():
    with pytest.raises(ValueError, match="can not be brought to 1%"):
        compress.bonds(Causal(9, width=32), 0.01)
    with pytest.raises(ValueError, match="not between"):
        compress.bonds(Causal(9), 1.5)
    with pytest.raises(ValueError, match="bond is 0"):
        compress.MatrixProduct(4, 4, 0)
    with pytest.raises(ValueError, match="no linear layer"):
        compress.compressed(Causal(9), {"norm": 3})
