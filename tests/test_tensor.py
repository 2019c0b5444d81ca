"""Laws of programs on torch: the values of the native engine, gradients, memory, the layer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.indices import tensor
from deepfeatures.indices.table import chosen, program
from tests.rounding import bounded, tree_of
from tests.test_indices import EXCEPTIONS, REAL, beyond, random_bands, real_bands

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def planned(names: tuple[str, ...]) -> indices.program.Program:
    return program(tuple(chosen(names, BANDS)), ())


def tensors(bands: dict[str, np.ndarray], device: str = "cpu") -> dict[str, torch.Tensor]:
    return {band: torch.from_numpy(values).to(device) for band, values in bands.items()}


def odd_bands(count: int) -> dict[str, np.ndarray]:
    """Usual reflectances with zeros, negative, missing, infinite and absurd ones among them."""
    rng = np.random.default_rng(2)
    odd = np.array([0, 0, -0.01, 1, np.nan, np.inf, -np.inf, 1e-30, 1e30, -3e38], np.float32)
    values = rng.uniform(0.01, 0.8, (12, count)).astype(np.float32)
    values = np.where(rng.random(values.shape) < 0.1, rng.choice(odd, values.shape), values)
    return dict(zip(BANDS, values, strict=True))


def assert_as_native(bands: dict[str, np.ndarray], device: str) -> None:
    """Undefined at the same places; within 1e-6 + 1e-5, but for some values of `EXCEPTIONS`."""
    names = indices.available(bands)
    expected = indices.compute(bands, names).astype(float)
    found = tensor.run(planned(names), tensors(bands, device)).cpu().numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert not np.isinf(found).any()
    missed = beyond(found.astype(float), expected)
    assert missed.mean() < 1e-4
    for row in np.flatnonzero(missed.any(axis=1)):
        assert names[row] in EXCEPTIONS
        _, off = bounded(tree_of(indices.INDICES[names[row]].formula), bands)
        at = missed[row] & np.isfinite(off)
        assert (abs(found[row] - expected[row])[at] <= 8 * off[at]).all()


@pytest.mark.parametrize("device", DEVICES)
def test_values_are_those_of_the_native_engine(device: str, shared_data: Path) -> None:
    assert_as_native(random_bands(20_000), device)
    for name in list(REAL)[::3]:
        assert_as_native(real_bands(shared_data, name), device)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_undefined_is_so_in_both_engines(device: str) -> None:
    bands, names = odd_bands(5000), indices.names()
    expected = indices.compute(bands, names)
    found = tensor.run(planned(names), tensors(bands, device)).cpu().numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert not np.isinf(found).any()


def test_infinities_do_not_become_numbers_again() -> None:
    zero, one = torch.zeros(2), torch.ones(2)
    hidden = indices.define("hidden", "1 / (1 + N / R)")  # 1 / (1 + inf) would be 0
    for wanted, bands in (
        (hidden, {"B08": one, "B04": zero}),
        (indices.find("kNDVI"), {"B08": one, "B04": -one}),
        (indices.find("1e9 ** 4 * B08"), {"B08": 1e3 * one}),
        (indices.find("B08 ** 0.3"), {"B08": -one}),
        (indices.find("B08 ** 0.5"), {"B08": torch.tensor([-1.0, np.inf])}),
    ):
        assert torch.isnan(tensor.run(program((wanted,), ()), bands)).all()


@pytest.mark.parametrize("block", [77, 250, 999])
def test_blocks_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(name for name in indices.names() if name not in EXCEPTIONS)
    bands, plan = tensors(odd_bands(1000)), planned(names)
    whole = tensor.run(plan, bands)
    layer = tensor.Layer(names, list(BANDS))
    cube = torch.stack(list(bands.values())).reshape(12, 10, 10, 10).swapaxes(0, 1)
    monkeypatch.setattr(tensor, "BLOCK", block)
    for again in (tensor.run(plan, bands), layer(cube).swapaxes(0, 1).reshape(len(names), -1)):
        torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_any_shape_and_precision() -> None:
    plan = planned(("NDVI",))
    for shape in ((), (3,), (2, 3, 4), (0,), (2, 0)):
        bands = {"B08": torch.full(shape, 0.4), "B04": torch.full(shape, 0.1)}
        found = tensor.run(plan, bands)
        assert found.shape == (1, *shape)
        torch.testing.assert_close(found, torch.full((1, *shape), 0.6))
    for kind, result in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        bands = {
            "B08": torch.full((3,), 0.5, dtype=kind),
            "B04": torch.full((3,), 0.25, dtype=kind),
        }
        found = tensor.run(plan, bands)
        assert found.dtype == result
        torch.testing.assert_close(found, torch.full((1, 3), 1 / 3, dtype=result))
    whole = tensor.run(plan, {"B08": torch.tensor([3, 1]), "B04": torch.tensor([1, 1])})
    assert whole.tolist() == [[0.5, 0.0]]
    with pytest.raises(ValueError, match="differ in shape"):
        tensor.run(plan, {"B08": torch.ones(3), "B04": torch.ones(4)})
    with pytest.raises(KeyError, match="B04"):
        tensor.run(plan, {"B08": torch.ones(3)})


# --- gradients


@pytest.mark.parametrize("name", ["NDVI", "EVI", "kNDVI", "MSAVI", "BAIS2", "OSI", "NIRvH2"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    rng = np.random.default_rng(7)
    plan = planned((name,))
    values = [torch.from_numpy(rng.uniform(0.1, 0.5, (2, 3))).requires_grad_() for _ in plan.inputs]

    def outputs(*given: torch.Tensor) -> torch.Tensor:
        return tensor.run(plan, dict(zip(plan.inputs, given, strict=True)))

    assert torch.autograd.gradcheck(outputs, values)
    assert torch.autograd.gradgradcheck(outputs, values)


def gradients(names: tuple[str, ...], bands: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Gradients of the sum of all that is defined, with respect to each band."""
    given = {band: values.requires_grad_() for band, values in tensors(bands).items()}
    found = tensor.run(planned(names), given)
    found[torch.isfinite(found)].sum().backward()
    return {band: v.grad for band, v in given.items() if v.grad is not None}


def test_what_is_undefined_adds_nothing_to_gradients() -> None:
    bands = {band: values[:500] for band, values in odd_bands(500).items()}
    names = ("NDVI", "EVI", "TVI", "kNDVI", "SR", "MTVI2")
    together = gradients(names, bands)
    alone = [gradients((name,), bands) for name in names]
    for band, gradient in together.items():
        assert torch.isfinite(gradient).all()
        parts = torch.stack([one[band] for one in alone if band in one])
        usual = parts.abs().amax(dim=0) < 1e3
        torch.testing.assert_close(gradient[usual], parts.sum(dim=0)[usual], rtol=1e-3, atol=1e-3)
    assert (together["B08"] != 0).float().mean() > 0.5


def test_gradients_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    bands, names = odd_bands(300), ("NDVI", "EVI", "kNDVI", "TVI")
    whole = gradients(names, bands)
    monkeypatch.setattr(tensor, "BLOCK", 64)
    for band, gradient in gradients(names, bands).items():
        assert torch.equal(gradient, whole[band])


# --- the layer


def test_layer_gives_indices_in_the_place_of_bands() -> None:
    order = ["B12", "B04", "B08", "B02"]
    layer = tensor.Layer(["NDVI", "SAVI", "B08 - B02"], order, constants={"L": 0.5})
    x = torch.rand(5, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    found = layer(x)
    assert found.shape == (5, 3, 6, 7)
    assert layer.indices == ("NDVI", "SAVI", "B08 - B02")
    bands = {band: x[:, at].numpy() for at, band in enumerate(order)}
    expected = indices.compute(bands, layer.indices, constants={"L": 0.5})
    np.testing.assert_allclose(found.numpy().swapaxes(0, 1), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(layer(x[0]), found[0])
    assert torch.equal(layer(x.reshape(1, 5, 4, 6, 7))[0], found)
    assert torch.equal(layer(x.permute(0, 1, 3, 2)), found.permute(0, 1, 3, 2))
    for shape in ((0, 4, 6, 7), (5, 4, 0, 7)):
        assert layer(torch.zeros(shape)).shape == (shape[0], 3, *shape[2:])
    with torch.inference_mode():
        assert torch.equal(layer(x), found)
        assert torch.equal(layer(torch.cat([x] * 400))[-5:], found)


def test_layer_holds_nothing_and_trains_what_is_behind_it() -> None:
    layer = tensor.Layer(["NDVI", "EVI"], ["B02", "B04", "B08"])
    assert layer.state_dict() == {}
    assert list(layer.parameters()) == []
    torch.manual_seed(0)
    bands = torch.nn.Conv2d(3, 3, 1)
    network = torch.nn.Sequential(bands, torch.nn.Sigmoid(), layer, torch.nn.Conv2d(2, 1, 1))
    network(torch.rand(2, 3, 4, 4)).square().mean().backward()
    for parameter in network.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_layer_says_what_is_wrong() -> None:
    layer = tensor.Layer(["NDVI"], ["B04", "B08"])
    with pytest.raises(ValueError, match="3 channels; give B04, B08"):
        layer(torch.rand(1, 3, 2, 2))
    with pytest.raises(KeyError, match="NDVI"):
        tensor.Layer(["NDIV"], ["B04", "B08"])
    with pytest.raises(ValueError, match="EVI needs B02"):
        tensor.Layer(["EVI"], ["B04", "B08"])


# --- memory and imports


def resident() -> int:
    return psutil.Process().memory_info().rss


def test_memory_stays_flat() -> None:
    layer = tensor.Layer(indices.names(), list(BANDS))
    x = torch.rand(1, 12, 256, 200)
    size = 244 * 256 * 200 * 4
    for _ in range(8):  # until the arenas of the threads have their size
        layer(x)
    before = resident()
    for _ in range(8):
        layer(x)
    assert resident() - before < 0.5 * size


def test_gradients_keep_the_bands_and_nothing_between() -> None:
    kept: list[int] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.nbytes)
        return value

    layer = tensor.Layer(indices.names(), list(BANDS))
    x = torch.rand(2, 12, 20, 20, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        layer(x).nansum().backward()
    result = 2 * 244 * 20 * 20 * 4
    assert sum(kept) <= x.nbytes + result  # the result is what nansum keeps
    assert torch.isfinite(x.grad).all()


def test_indices_do_not_load_torch() -> None:
    code = "import sys, deepfeatures.indices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
