from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import gradients, problem
from scipy.signal import correlate2d
from synthetic import image
from torch import Tensor

from noref.errors import NorefError
from noref.networks import NETWORKS, Estimate, ISTANet
from noref.networks.istanet import _soft
from noref.physics import CartesianEncoding, cartesian, fft2c

PUBLISHED = (
    "lambda_step",
    "soft_thr",
    "conv_D",
    "conv1_forward",
    "conv2_forward",
    "conv1_backward",
    "conv2_backward",
    "conv_G",
)


def shapes(features: int, channels: int) -> list[tuple[int, ...]]:
    """Of one phase's parameters, in the published order."""
    inner = [(features, features, 3, 3)] * 4
    return [(1,), (1,), (features, channels, 3, 3), *inner, (channels, features, 3, 3)]


def network(seed: int = 0, **arguments: int | float | bool | str) -> ISTANet:
    """A small network in which every kernel matters, whatever it starts from."""
    torch.manual_seed(seed)
    net = ISTANet(**{"phases": 2, "features": 4, **arguments})  # type: ignore[arg-type] # of several types
    for phase in net.phases:
        torch.nn.init.xavier_normal_(phase.gather)
    return net


def test_the_published_network_has_the_published_size() -> None:
    assert sum(p.numel() for p in ISTANet(channels=1).parameters()) == 336_978
    assert NETWORKS["istanet"] is ISTANet


@pytest.mark.parametrize("channels", [1, 2])
def test_parameters_stand_in_the_published_order(channels: int) -> None:
    names = ("step", "threshold", "extract", "forward1", "forward2", "backward1", "backward2", "gather")
    state = network(phases=3, features=5, channels=channels).state_dict()
    assert list(state) == [f"phases.{i}.{name}" for i in range(3) for name in names]
    assert [tuple(t.shape) for t in state.values()] == 3 * shapes(5, channels)
    for i in range(3):
        assert float(state[f"phases.{i}.step"]) == 0.5
        assert float(state[f"phases.{i}.threshold"]) == pytest.approx(0.01)


def test_kernels_start_as_xavier_normal() -> None:
    kernel = network(features=32).state_dict()["phases.0.forward1"]
    assert float(kernel.std()) == pytest.approx((2 / (2 * 32 * 9)) ** 0.5, rel=0.05)


def published(phases: int, features: int, channels: int = 1) -> OrderedDict[str, Tensor]:
    torch.manual_seed(5)
    return OrderedDict(
        (f"fcs.{i}.{name}", torch.randn(shape))
        for i in range(phases)
        for name, shape in zip(PUBLISHED, shapes(features, channels), strict=True)
    )


def test_published_weights_are_loaded(tmp_path: Path) -> None:
    theirs = published(phases=3, features=6)
    torch.save(theirs, tmp_path / "net_params_200.pkl")
    net = network(phases=3, features=6, channels=1)
    net.load_published(tmp_path / "net_params_200.pkl")
    for ours, given in zip(net.state_dict().values(), theirs.values(), strict=True):
        assert torch.equal(ours, given)
    phase = net.phases[1]
    assert torch.equal(phase.backward2, theirs["fcs.1.conv2_backward"])
    assert torch.equal(phase.threshold, theirs["fcs.1.soft_thr"])


@pytest.mark.parametrize(("phases", "features", "channels"), [(2, 6, 1), (3, 5, 1), (3, 6, 2)])
def test_weights_of_another_size_are_refused(
    tmp_path: Path, phases: int, features: int, channels: int
) -> None:
    torch.save(published(phases, features, channels), tmp_path / "theirs.pkl")
    net = network(phases=3, features=6, channels=1)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(NorefError, match=r"theirs\.pkl: no ISTA-Net\+ weights of this size"):
        net.load_published(tmp_path / "theirs.pkl")
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pkl").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pkl")
    torch.save({"epoch": 3}, tmp_path / "other.pkl")
    for name in ("missing.pkl", "text.pkl", "list.pkl", "other.pkl"):
        with pytest.raises(NorefError, match=name) as caught:
            network().load_published(tmp_path / name)
        assert "\n" not in str(caught.value)


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Zero-padded 3×3 cross-correlation, `(inputs, y, x)` with `(outputs, inputs, 3, 3)`."""
    return np.stack(
        [sum(correlate2d(c, k, mode="same") for c, k in zip(x, ks, strict=True)) for ks in kernel]
    )


def real_phase(
    x: np.ndarray, start: np.ndarray, mask: np.ndarray, weights: dict[str, np.ndarray]
) -> tuple[np.ndarray, float]:
    """One phase of ISTA-Net+ for a real image and a single coil, from the paper's equations."""

    def pair(z: np.ndarray, first: str, second: str) -> np.ndarray:
        return convolved(np.maximum(convolved(z, weights[first]), 0), weights[second])

    shifted = np.fft.fft2(np.fft.ifftshift(x), norm="ortho") * np.fft.ifftshift(mask)
    normal = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho")).real
    r = x - weights["step"] * (normal - start)
    d = convolved(r[None], weights["extract"])
    transformed = pair(d, "forward1", "forward2")
    shrunk = np.sign(transformed) * np.maximum(abs(transformed) - weights["threshold"], 0)
    x = r + convolved(pair(shrunk, "backward1", "backward2"), weights["gather"])[0]
    return x, float(((pair(transformed, "backward1", "backward2") - d) ** 2).mean())


@pytest.mark.parametrize("threshold", [0.3, 0.0, -0.2])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_shrinkage_and_its_gradients_are_those_of_two_rectifiers(threshold: float, kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    x, weights = torch.randn(2, 2, 3, 9, 8, generator=draw, dtype=torch.float64).to(kind)
    theta = torch.tensor([threshold], dtype=torch.float64)
    found = []
    for shrinkage in (_soft, lambda x, t: torch.relu(x - t.to(kind)) - torch.relu(-x - t.to(kind))):
        image, bound = x.clone().requires_grad_(), theta.clone().requires_grad_()
        shrunk = shrinkage(image, bound)
        shrunk.backward(weights)
        assert bound.grad is not None
        assert bound.grad.dtype == torch.float64
        found.append((shrunk.detach().double(), image.grad, bound.grad))
    tolerance = 1e-12 if kind is torch.float64 else 0.05
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours.double(), theirs.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(10, 12), (9, 7)])
def test_the_real_network_is_the_papers(shape: tuple[int, int]) -> None:
    net = network(phases=2, features=3, channels=1).double()
    mask = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) < 0.5
    truth = image(shape).real[None].to(torch.complex128)
    encoding = cartesian(mask, torch.ones(1, 1, 1, *shape, dtype=torch.complex128))
    estimate = net(mask[:, None] * fft2c(truth), encoding)
    shifted = np.fft.fft2(np.fft.ifftshift(truth[0, 0].numpy()), norm="ortho") * np.fft.ifftshift(
        mask[0].numpy()
    )
    start = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho")).real
    x, penalty = start, 0.0
    for phase in net.phases:
        weights = {name: p.detach().numpy() for name, p in phase.named_parameters()}
        x, symmetry = real_phase(x, start, mask[0].numpy(), weights)
        penalty += symmetry
    np.testing.assert_allclose(estimate.image[0, 0].real.detach(), x, atol=1e-12)
    assert not bool(estimate.image.imag.any())
    assert estimate.penalty is not None
    # Penalties are kept in float32 whatever the precision of the convolutions.
    assert float(estimate.penalty.detach()) == pytest.approx(penalty, rel=1e-6)


@pytest.mark.parametrize("shape", [(16, 12), (13, 9), (8, 15)])
@pytest.mark.parametrize(("coils", "sets", "channels"), [(1, 1, 1), (1, 1, 2), (3, 1, 2), (3, 2, 4)])
def test_any_matrix_any_coils_any_sets(shape: tuple[int, int], coils: int, sets: int, channels: int) -> None:
    kspace, encoding = problem(shape, coils, sets)
    net = network(channels=channels)
    estimate: Estimate = net(kspace, encoding)
    assert estimate.image.shape == (2, sets, *shape)
    assert estimate.image.dtype is torch.complex64
    assert estimate.encoding is encoding
    assert estimate.steps == ()
    assert estimate.penalty is not None
    assert estimate.penalty.shape == (2,)
    found = gradients(net, kspace, encoding)
    assert found.keys() == dict(net.named_parameters()).keys()
    for name, gradient in found.items():
        assert bool(gradient.isfinite().all()), name
        assert bool(gradient.any()), name


def test_scans_of_a_batch_do_not_see_each_other() -> None:
    kspace, encoding = problem()
    net = network()
    both = net(kspace, encoding)
    for i in range(2):
        alone = net(kspace[i : i + 1], cartesian(encoding.mask[i : i + 1], encoding.maps[i : i + 1]))
        torch.testing.assert_close(alone.image[0], both.image[i])
        torch.testing.assert_close(alone.penalty[0], both.penalty[i])


def test_the_same_weights_and_scan_give_the_same_image() -> None:
    kspace, encoding = problem()
    first, again = network()(kspace, encoding), network()(kspace, encoding)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, network(seed=1)(kspace, encoding).image)


@pytest.mark.parametrize("channels", [1, 2])
def test_recomputing_phases_changes_no_gradient(channels: int) -> None:
    kspace, encoding = problem(coils=1 if channels == 1 else 2)
    kept = gradients(network(channels=channels), kspace, encoding)
    recomputed = gradients(network(channels=channels, checkpointing=True), kspace, encoding)
    for name, gradient in kept.items():
        assert torch.equal(gradient, recomputed[name]), name


def test_half_precision_is_for_convolutions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, encoding = problem((24, 20))
    net = network(features=16)
    exact = net(kspace, encoding)
    seen: list[torch.dtype] = []
    normal = CartesianEncoding.normal_pairs

    def spy(self: CartesianEncoding, pairs: Tensor) -> Tensor:
        seen.append(pairs.dtype)
        return normal(self, pairs)

    monkeypatch.setattr(CartesianEncoding, "normal_pairs", spy)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(kspace, encoding)
    assert seen == [torch.float32] * 2
    assert half.image.dtype is torch.complex64
    difference = float((half.image - exact.image).detach().norm() / exact.image.detach().norm())
    assert 0 < difference < 0.03
    torch.testing.assert_close(half.penalty, exact.penalty, rtol=0.05, atol=0)
    half.image.abs().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("channels", [3, 5, 0])
def test_channels_that_are_no_pairs_are_refused(channels: int) -> None:
    with pytest.raises(NorefError, match=f"channels is {channels}"):
        ISTANet(channels=channels)


def test_map_sets_that_do_not_fit_are_refused() -> None:
    kspace, encoding = problem(coils=3, sets=2)
    with pytest.raises(NorefError, match=r"2 map sets do not fit .* network\.channels=4"):
        network(channels=2)(kspace, encoding)
    with pytest.raises(NorefError, match="2 map sets do not fit a network of 1 channel"):
        network(channels=1)(kspace, encoding)


def test_blocks_are_the_phases() -> None:
    net = network(phases=3)
    assert list(net.blocks()) == list(net.phases)


@pytest.mark.parametrize("sets", [1, 2])
def test_the_sense_start_explains_the_samples_of_many_coils(sets: int) -> None:
    kspace, encoding = problem(coils=4, sets=sets)
    starts = [
        network(phases=0, channels=2 * sets, start=s)(kspace, encoding).image for s in ("adjoint", "sense")
    ]
    adjoint, sense = ((encoding.forward(x) - kspace).norm() / kspace.norm() for x in starts)
    torch.testing.assert_close(starts[0], encoding.adjoint(kspace))
    assert float(sense) < 0.1 * float(adjoint)


def test_one_coil_starts_from_the_adjoint_whatever_is_asked() -> None:
    kspace, encoding = problem(coils=1)
    start = network(phases=0, start="sense")(kspace, encoding).image
    torch.testing.assert_close(start, encoding.adjoint(kspace))


def test_without_the_symmetry_loss_the_image_is_the_same_and_there_is_no_penalty() -> None:
    kspace, encoding = problem()
    whole, lean = network(), network(symmetry=False)
    torch.testing.assert_close(lean(kspace, encoding).image, whole(kspace, encoding).image)
    assert lean(kspace, encoding).penalty is None
    assert whole(kspace, encoding).penalty is not None


def test_every_step_starts_where_it_is_told() -> None:
    assert [phase.step.tolist() for phase in network(step=1.0).phases] == [[1.0], [1.0]]
    assert [phase.step.tolist() for phase in network().phases] == [[0.5], [0.5]]
