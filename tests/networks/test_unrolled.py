"""What every unrolled network does, whatever it unrolls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from problems import gradients, problem, small
from torch import Tensor

from noref.errors import NorefError
from noref.networks import NETWORKS, Estimate
from noref.physics import CartesianEncoding, cartesian

# What the first cascade gets has the measured samples already: there is nothing to weigh.
NO_EFFECT = {("varnet", "cascades.0.weight")}

each = pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"istanet"}))


@each
@pytest.mark.parametrize("shape", [(16, 12), (13, 9), (8, 15)])
@pytest.mark.parametrize(("coils", "sets"), [(1, 1), (3, 1), (3, 2)])
def test_any_matrix_any_coils_any_sets(name: str, shape: tuple[int, int], coils: int, sets: int) -> None:
    kspace, encoding = problem(shape, coils, sets)
    net = small(name, channels=2 * sets)
    estimate: Estimate = net(kspace, encoding)
    assert estimate.image.shape == (2, sets, *shape)
    assert estimate.image.dtype is torch.complex64
    assert estimate.encoding is encoding
    assert estimate.penalty is None
    found = gradients(net, kspace, encoding)
    assert found.keys() == dict(net.named_parameters()).keys()
    for parameter, gradient in found.items():
        assert bool(gradient.isfinite().all()), parameter
        assert bool(gradient.any()) is ((name, parameter) not in NO_EFFECT), parameter


@each
def test_scans_of_a_batch_do_not_see_each_other(name: str) -> None:
    kspace, encoding = problem()
    net = small(name)
    both = net(kspace, encoding)
    for i in range(2):
        alone = net(kspace[i : i + 1], cartesian(encoding.mask[i : i + 1], encoding.maps[i : i + 1]))
        torch.testing.assert_close(alone.image[0], both.image[i], rtol=1e-4, atol=1e-5)


@each
def test_the_same_weights_and_scan_give_the_same_image(name: str) -> None:
    kspace, encoding = problem()
    first, again = small(name)(kspace, encoding), small(name)(kspace, encoding)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, small(name, seed=1)(kspace, encoding).image)


@each
def test_recomputing_changes_no_gradient(name: str) -> None:
    kspace, encoding = problem()
    kept = gradients(small(name), kspace, encoding)
    recomputed = gradients(small(name, checkpointing=True), kspace, encoding)
    for parameter, gradient in kept.items():
        assert torch.equal(gradient, recomputed[parameter]), parameter


@each
def test_half_precision_is_for_convolutions_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, encoding = problem((24, 20))
    net = small(name)
    exact = net(kspace, encoding)
    seen: list[torch.dtype] = []

    def spied(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def spy(self: CartesianEncoding, pairs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            seen.append(pairs.dtype)
            return operator(self, pairs, *args, **kwargs)

        return spy

    for operator in ("forward_pairs", "adjoint_pairs", "normal_pairs", "solve_pairs"):
        monkeypatch.setattr(CartesianEncoding, operator, spied(getattr(CartesianEncoding, operator)))
    convolved: list[torch.dtype] = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: convolved.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        half = net(kspace, encoding)
    assert seen
    assert set(seen) == {torch.float32}
    assert set(convolved) == {torch.bfloat16}
    assert half.image.dtype is torch.complex64
    difference = float((half.image - exact.image).detach().norm() / exact.image.detach().norm())
    assert 0 < difference < 0.05
    half.image.abs().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@each
@pytest.mark.parametrize("channels", [3, 1, 0])
def test_channels_that_are_no_pairs_are_refused(name: str, channels: int) -> None:
    with pytest.raises(NorefError, match=f"{NETWORKS[name].__name__}: channels is {channels}"):
        small(name, channels=channels)


@each
def test_map_sets_that_do_not_fit_are_refused(name: str) -> None:
    kspace, encoding = problem(coils=3, sets=2)
    with pytest.raises(NorefError, match=r"2 map sets do not fit .* network\.channels=4"):
        small(name, channels=2)(kspace, encoding)


@each
def test_compiled_blocks_hold_every_convolution(name: str) -> None:
    net = small(name)
    inside = {id(p) for block in net.blocks() for p in block.parameters()}
    assert all(id(p) in inside for p in net.parameters() if p.ndim == 4)
