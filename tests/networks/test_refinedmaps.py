"""Coil maps that are learned along: normalised, made of the given maps alone, used with the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from problems import gradients, problem, small
from synthetic import image, maps, scan, undersampled
from torch import Tensor
from training.files import tiny

import noref
from noref.config import build_network, load_config
from noref.data.dataset import Dataset
from noref.data.prepare import Preparation
from noref.errors import NorefError
from noref.evaluation.score import by_network
from noref.methods import Split, Subset
from noref.networks import NETWORKS, Estimate, Network
from noref.networks.demodulated import Demodulated
from noref.networks.refinedmaps import RefinedMaps, learns_maps
from noref.physics import CartesianEncoding, cartesian
from noref.sampling.holdout import holdout_error
from noref.scan import ScanBatch
from noref.training.validate import score_holdout


def refining(name: str = "istanet", moved: bool = True, **arguments: Any) -> RefinedMaps:
    """A small network on learned maps; `moved` as after some training."""
    network = RefinedMaps(small(name, **arguments), features=4, pools=2)
    if moved:
        for weight in network.unet.last.parameters():
            torch.nn.init.normal_(weight, std=0.05)
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("shape", "coils", "sets"), [((13, 9), 3, 1), ((16, 12), 2, 2), ((14, 11), 1, 1)])
def test_any_network_any_matrix_any_coils(name: str, shape: tuple[int, int], coils: int, sets: int) -> None:
    kspace, encoding = problem(shape, coils, sets)
    network = refining(name, channels=2 * sets)
    estimate: Estimate = network(kspace, encoding)
    assert estimate.image.shape == (2, sets, *shape)
    assert estimate.image.dtype is torch.complex64
    moved = (estimate.encoding.maps - encoding.maps).abs().max()
    found = gradients(network, kspace, encoding)
    assert found.keys() == dict(network.named_parameters()).keys()
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())
    of_maps = [bool(gradient.any()) for weight, gradient in found.items() if weight.startswith("unet.")]
    if coils == 1:
        assert moved == 0
        assert torch.equal(estimate.image, network.inner(kspace, encoding).image)
        assert not any(of_maps)
    else:
        assert moved > 0.01
        assert all(of_maps)


@pytest.mark.parametrize("sets", [1, 2])
def test_refined_maps_are_normalised_on_the_object_and_zero_off_it(sets: int) -> None:
    given = torch.stack([maps((13, 10), 3, sets, seed=i) for i in range(2)])
    given[..., :4, :] = 0
    network = refining(channels=2 * sets)
    learned = network.refined(given)
    assert float((learned - given).detach().abs().max()) > 0.01
    power = learned.abs().square().sum(2)
    torch.testing.assert_close(power[..., 4:, :], torch.ones_like(power[..., 4:, :]))
    assert not bool(learned[..., :4, :].any())
    learned.abs().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.unet.parameters() if p.grad is not None)


def test_learning_begins_with_the_given_maps() -> None:
    kspace, encoding = problem((16, 12), coils=3)
    network = refining(moved=False)
    estimate, plain = network(kspace, encoding), network.inner(kspace, encoding)
    torch.testing.assert_close(estimate.encoding.maps, encoding.maps)
    torch.testing.assert_close(estimate.image, plain.image, rtol=1e-4, atol=1e-5)


def test_maps_are_made_of_maps_alone() -> None:
    kspace, encoding = problem((16, 12), coils=3)
    network = refining()
    other = network(torch.randn_like(kspace), encoding.with_mask(~encoding.mask)).encoding.maps
    assert torch.equal(network(kspace, encoding).encoding.maps, other)


def test_coils_and_scans_of_a_batch_do_not_see_each_other() -> None:
    given = torch.stack([maps((13, 10), 3, seed=i) for i in range(2)])
    network = refining()
    learned = network.refined(given)
    torch.testing.assert_close(network.refined(given[1:]), learned[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.refined(given.flip(2)), learned.flip(2), rtol=1e-4, atol=1e-5)


def test_gradients_by_the_weights_of_the_maps_are_finite_differences() -> None:
    _, encoding = problem((9, 7), coils=2)
    encoding = cartesian(encoding.mask, encoding.maps.to(torch.complex128))
    kspace = encoding.forward(torch.stack([image((9, 7), seed=i) for i in range(2)]).to(torch.complex128))
    for name in ("istanet", "varnet", "modl"):
        network = refining(name, start="adjoint").double()
        weight = network.unet.last.weight
        start_at = weight.detach().clone()

        def loss(at: Tensor, network: RefinedMaps = network) -> Tensor:
            weights = {**dict(network.named_parameters()), "unet.last.weight": at}
            made = torch.func.functional_call(network, weights, (kspace, encoding))
            return (made.encoding.full().forward(made.image) - kspace).abs().square().sum()

        assert torch.autograd.gradcheck(loss, start_at.requires_grad_(), rtol=1e-3, fast_mode=True), name


def test_half_precision_is_for_convolutions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, encoding = problem((16, 12), coils=3)
    network = refining()
    exact = network(kspace, encoding)
    seen: list[torch.dtype] = []
    normal = CartesianEncoding.normal_pairs

    def spy(self: CartesianEncoding, pairs: Tensor) -> Tensor:
        seen.extend((pairs.dtype, self.folded.dtype))
        return normal(self, pairs)

    monkeypatch.setattr(CartesianEncoding, "normal_pairs", spy)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(kspace, encoding)
    assert set(seen) == {torch.float32}
    assert half.encoding.maps.dtype is torch.complex64
    difference = float((half.encoding.maps - exact.encoding.maps).detach().abs().max())
    assert 0 < difference < 0.05


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of itself
def test_compiled_gradients_are_the_eager_ones() -> None:
    kspace, encoding = problem((16, 12), coils=3)
    network = refining(phases=1)
    blocks = list(network.blocks())
    assert network.unet in blocks
    assert set(network.inner.blocks()) < set(blocks)
    eager = gradients(network, kspace, encoding)
    for block in blocks:
        # Traced and differentiated ahead, but without a minute of the C++ compiler.
        block.compile(backend="aot_eager")
    compiled = gradients(network, kspace, encoding)
    for name, gradient in eager.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["istanet", "vsharp"])
def test_recomputing_changes_no_gradient(name: str) -> None:
    kspace, encoding = problem((16, 12), coils=3)
    kept = gradients(refining(name), kspace, encoding)
    recomputed = gradients(refining(name, checkpointing=True), kspace, encoding)
    for parameter, gradient in kept.items():
        torch.testing.assert_close(recomputed[parameter], gradient, rtol=1e-4, atol=1e-5)


def test_the_phase_is_taken_out_by_the_learned_maps() -> None:
    kspace, encoding = problem((16, 12), coils=3)
    network = refining()
    network.inner = Demodulated(network.inner)
    estimate = network(kspace, encoding)
    torch.testing.assert_close(estimate.encoding.maps, network.refined(encoding.maps))


def test_learned_maps_fit_what_given_ones_cannot() -> None:
    """A scan whose maps are wrong: training finds better ones, and held-out lines are predicted better."""
    torch.manual_seed(0)
    full = scan((24, 20), 3, noise=0.001)
    assert full.maps is not None
    wrong = full.maps + 0.4 * maps((24, 20), 3, seed=5)
    wrong = wrong / wrong.abs().square().sum(1, keepdim=True).sqrt()
    target = undersampled(replace(full, maps=wrong), "lines", 1.5, 8)
    batch = ScanBatch.of([target])
    errors = []
    given: dict[str, Any] = {"phases": 3, "start": "adjoint", "step": 1.0}
    networks = (small("istanet", **given), refining(moved=False, **given))
    for network in networks:
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(60):
            optimiser.zero_grad()
            made = network(batch.kspace, batch.encoding())
            error = (made.encoding.full().forward(made.image) - full.kspace)[:, :, ::2].abs().square().sum()
            error.backward()
            optimiser.step()
        errors.append(float(error.detach() / full.kspace.abs().square().sum()))
    assert errors[1] < 0.8 * errors[0]


# where the image is compared with samples


def test_measured_samples_are_put_back_with_the_learned_maps() -> None:
    target = undersampled(scan((16, 12), 3, noise=0.01), "lines", 2, 6)
    batch = ScanBatch.of([target])
    network = refining()
    with torch.no_grad():
        plain = network(batch.kspace, batch.encoding())
        made = Split().reconstruct(network, batch)
    learned = cartesian(batch.mask, plain.encoding.maps)
    kspace = torch.where(batch.mask[:, None], batch.kspace, learned.full().forward(plain.image))
    torch.testing.assert_close(made.image, learned.full().adjoint(kspace))
    torch.testing.assert_close(made.encoding.maps, network.refined(batch.maps))


def test_gamma_is_the_error_with_the_learned_maps() -> None:
    slices = [undersampled(scan((24, 20), 3, seed, noise=0.01), "lines", 2, 8) for seed in range(2)]
    dataset = Dataset(slices, Preparation(holdout=0.2))
    network, method, target = refining(), Subset(), dataset[0]

    @torch.no_grad()
    def estimate(one: Any) -> Estimate:
        return method.reconstruct(network, ScanBatch.of([one]))

    held = estimate(target.as_target())
    gamma = by_network(estimate)(target).gamma
    (validated,), _ = score_holdout(method, network, dataset, 1, torch.device("cpu"))
    assert gamma == pytest.approx(validated, rel=1e-5)
    assert target.holdout is not None
    kspace = held.encoding.full().forward(held.image)[0]
    assert target.density is not None
    weight = target.holdout / target.density.clamp_min(0.01)
    error = (weight * (kspace - target.kspace).abs().square()).sum()
    assert gamma == pytest.approx(float(error / (weight * target.kspace.abs().square()).sum()), rel=1e-4)
    assert gamma != pytest.approx(holdout_error(target, held.image[0]), rel=1e-2)


# configurations


def built(value: str) -> Network:
    small = ["data.target.path=x", "network.phases=1", "network.features=2"]
    return build_network(load_config("default", [*small, f"network.refine_maps={value}"]))


def test_a_configuration_asks_for_it() -> None:
    for value in ("false", "0"):
        assert isinstance(built(value), Demodulated)
        assert not learns_maps(built(value))
    published, small = built("true"), built("4")
    for network in (published, small):
        assert isinstance(network, RefinedMaps)
        assert isinstance(network.inner, Demodulated)
        assert learns_maps(network)
    # Yiasemis et al.: 16 filters, 4 pools.
    assert sum(p.numel() for p in published.unet.parameters()) == 1_939_266  # type: ignore[union-attr]
    assert small.unet.encoder[0].first.out_channels == 4  # type: ignore[union-attr, index]
    plain = built("false").state_dict()
    assert all(torch.equal(published.state_dict()[f"inner.{name}"], plain[name]) for name in plain)


def test_a_model_keeps_what_it_learned_of_maps(tmp_path: Path) -> None:
    config = tiny("default", tmp_path, "network.refine_maps=2", "training.epochs=2")
    trained = noref.load(noref.train(config), device="cpu").network
    assert isinstance(trained, RefinedMaps)
    start = build_network(config).state_dict()
    assert start.keys() == trained.state_dict().keys()
    assert bool(trained.unet.last.weight.any())
    assert not bool(start["unet.last.weight"].any())


@pytest.mark.parametrize("value", ["-1", "2.5", "many"])
def test_impossible_sizes_are_refused(value: str) -> None:
    with pytest.raises(NorefError, match=r"network\.refine_maps: .* is not possible"):
        built(value)
