"""Robust SSDU: its noise, its weights, and the correction that undoes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from linear import SHAPE, ZeroFilled, key, target
from networks.problems import problem, small
from synthetic import scan

from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import (
    Cyclic,
    Joint,
    Method,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Robust,
    Split,
    Subset,
    Supervised,
    Views,
    Weighted,
)
from noref.networks import NETWORKS, ISTANet, KIKINet, Network
from noref.networks.demodulated import Demodulated
from noref.sampling.partition import Partition
from noref.scan import Scan, ScanBatch

SQUARES = Objective(kspace={"nmse": 1.0})


def noisy_points(power: float, noise: float) -> Scan:
    """One coil whose samples are Gaussian, `CN(0, s²)`, with noise of `CN(0, σ²)`, all of them measured."""
    full = scan((64, 48), 1)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(full.kspace.shape, dtype=torch.complex64, generator=generator) for _ in range(2)]
    clean = power**0.5 * parts[0]
    return replace(full, kspace=clean + noise * parts[1], clean=clean)


def test_noise_is_added_to_what_is_shown_and_to_nothing_else() -> None:
    full = noisy_points(1.0, 0.5)
    method = Robust(alpha=0.8, sigma=0.5)
    (view,) = method.view(full, key())
    added = view.scan.kspace - full.kspace
    assert not bool(added[:, ~view.shown].any())
    variance = float(added[:, view.shown].abs().square().mean())
    assert variance == pytest.approx((0.8 * 0.5) ** 2, rel=0.1)
    assert float((added[:, view.shown] ** 2).mean().abs()) < 0.1 * variance
    assert torch.equal(view.goal, full.kspace)
    assert torch.equal(method.view(full, key())[0].scan.kspace, view.scan.kspace)
    assert not torch.equal(method.view(full, key(1))[0].scan.kspace, view.scan.kspace)


def test_the_given_noise_is_in_the_units_of_the_file() -> None:
    full = noisy_points(1.0, 0.5)
    given = full.scaled(4j)
    (view,), (scaled,) = (Robust(sigma=0.5).view(one, key()) for one in (full, given))
    added, added_scaled = view.scan.kspace - full.kspace, scaled.scan.kspace - given.kspace
    torch.testing.assert_close(added_scaled.abs(), added.abs() / 4)


def test_noise_is_estimated_from_the_border_of_kspace() -> None:
    full = noisy_points(0.0, 0.3).as_target()
    assert Robust().noise(full) == pytest.approx(0.3, rel=0.15)
    assert Robust().noise(full.scaled(2j)) == pytest.approx(0.15, rel=0.15)
    centre = torch.zeros(full.shape, dtype=torch.bool)
    centre[20:40, 20:30] = True
    with pytest.raises(NorefError, match=r"so its noise cannot be estimated; give method\.sigma"):
        Robust().noise(full.undersampled(centre))


def test_shown_samples_weigh_more_and_the_others_as_in_weighted_ssdu() -> None:
    acquired = replace(target(), density=torch.full(SHAPE, 0.4))
    partition = Partition(unit="points")
    (view,) = Robust(partition, alpha=0.5, sigma=0.1).view(acquired, key())
    (weighted,) = Weighted(partition).view(acquired, key())
    assert bool((view.weight[view.shown] == 25).all())
    held = weighted.weight > 0
    assert torch.equal(view.weight[held], weighted.weight[held])
    assert torch.equal(view.weight > 0, acquired.mask)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_correction_of_what_is_learned_is_the_posterior_mean(alpha: float) -> None:
    """Of Gaussian samples all is known: the best gain, and what it should have been."""
    s2, sigma = 1.0, 0.7
    full = noisy_points(s2, sigma)
    method = Robust(alpha=alpha, sigma=sigma)
    (view,) = method.view(full, key())
    views = Views.of([view])
    seen, goal = views.kspace[:, :, view.shown], views.goal[:, :, view.shown]
    learned = float((seen.conj() * goal).sum().real / seen.abs().square().sum())
    noise = (1 + alpha**2) * sigma**2
    assert learned == pytest.approx((s2 + sigma**2) / (s2 + noise), rel=0.05)
    batch = ScanBatch.of([replace(full, kspace=view.scan.kspace).undersampled(view.shown)])
    estimate = method.reconstruct(ZeroFilled((s2 + sigma**2) / (s2 + noise)), batch)
    corrected = batch.encoding().forward(estimate.image).detach()
    torch.testing.assert_close(corrected, s2 / (s2 + noise) * batch.kspace, atol=1e-5, rtol=1e-4)
    assert full.clean is not None
    left = (full.clean - corrected[0])[:, view.shown]
    # What is left of the error has nothing to do with what was seen: no estimate is better.
    assert abs(float((seen[0].conj() * left).mean().real)) < 0.05


def test_samples_that_were_not_measured_are_the_networks_own() -> None:
    acquired = target(coils=2)
    batch = ScanBatch.of([acquired])
    torch.manual_seed(0)
    network = ISTANet(phases=1, features=2).eval()
    with torch.no_grad():
        plain = batch.encoding().full().forward(network(batch.kspace, batch.encoding()).image)
        corrected = Robust(alpha=0.5).reconstruct(network, batch).image
    expected = torch.where(batch.mask[:, None], (1.25 * plain - batch.kspace) / 0.25, plain)
    torch.testing.assert_close(corrected, batch.encoding().full().adjoint(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_say_whether_they_keep_samples(name: str) -> None:
    network = small(name).eval()
    kspace, encoding = problem(coils=1)
    with torch.no_grad():
        left = encoding.forward(network(kspace, encoding).image)
    kept = bool((left - kspace).abs().max() < 1e-4 * kspace.abs().max())
    assert kept is network.keeps_samples


@pytest.mark.parametrize("wrap", [lambda network: network, Demodulated])
def test_networks_that_keep_samples_are_refused(wrap: Any) -> None:
    network: Network = wrap(KIKINet(iterations=1, layers=2, features=2))
    for method in (Robust(), MultiMask(Robust(), 2)):
        method.minimise(SQUARES)
        with pytest.raises(NorefError, match="Robust: KIKINet ends in hard data consistency"):
            method.meet(network)
        method.meet(wrap(ISTANet(phases=1, features=2)))


@pytest.mark.parametrize("make", [Robust, lambda: MultiMask(Robust(), 2)])
def test_only_squared_errors_in_kspace_teach_what_is_corrected(make: Any) -> None:
    network, method = ISTANet(phases=1, features=2), make()
    for wrong in (
        Objective(),
        Objective(kspace={"nmse": 1.0, "l1": 0.1}),
        Objective(kspace={"nmse": 1.0}, image={"nmse": 1.0}),
        Objective(kspace={"mse": 1.0}, dual=True),
    ):
        method.minimise(wrong)
        with pytest.raises(NorefError, match="Robust: its correction holds for squared errors") as error:
            method.meet(network)
        assert "\n" not in str(error.value)
    for right in (SQUARES, Objective(kspace={"mse": 1.0, "nmse": 0.5})):
        method.minimise(right)
        method.meet(network)


@pytest.mark.parametrize("make", [Robust, lambda: Parallel(Subset()), lambda: MultiMask(Robust(), 2)])
def test_methods_with_rules_of_their_own_are_not_mixed_with_others(make: Any) -> None:
    mixed: list[Method] = [
        Joint(make(), Supervised()),
        Joint(Split(), make()),
        Refinement(make()),
        Cyclic(make()),
        MultiOperator(make()),
        Parallel(make()),
    ]
    for method in mixed:
        with pytest.raises(NorefError, match="trains by rules of its own; use it alone or in multimask"):
            method.meet(ZeroFilled())


def test_nonsense_is_refused() -> None:
    for alpha, sigma in ((0.0, None), (1.0, 0.0), (float("nan"), None)):
        with pytest.raises(NorefError, match="give numbers above 0"):
            Robust(alpha=alpha, sigma=sigma)
