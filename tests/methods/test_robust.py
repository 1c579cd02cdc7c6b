"""Robust SSDU: its noise, its weights, and what they teach."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear import SHAPE, key, target
from networks.problems import problem, small
from synthetic import image, scan, undersampled

from noref.data.phantoms import phantom
from noref.errors import NorefError
from noref.losses import Objective
from noref.methods import (
    Cyclic,
    Joint,
    MultiMask,
    MultiOperator,
    Parallel,
    Refinement,
    Robust,
    Supervised,
    Views,
    Weighted,
)
from noref.networks import NETWORKS, ISTANet, KIKINet, Network
from noref.networks.demodulated import Demodulated
from noref.physics import cartesian, fft2c
from noref.sampling.masks import acquisition_mask
from noref.sampling.partition import Partition
from noref.scan import Scan, ScanBatch, coil_maps
from noref.seeding import Key

SQUARES = Objective(kspace={"nmse": 1.0})


def noisy_points(power: float, noise: float) -> Scan:
    """One coil whose samples are Gaussian, `CN(0, s²)`, with noise of `CN(0, σ²)`, all of them measured."""
    full = scan((64, 48), 1)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(full.kspace.shape, dtype=torch.complex64, generator=generator) for _ in range(2)]
    clean = power**0.5 * parts[0]
    return replace(full, kspace=clean + noise * parts[1], clean=clean)


def test_what_is_shown_has_more_noise_and_is_graded_against_noise_of_its_own() -> None:
    full = noisy_points(0.0, 0.5)
    method = Robust(alpha=0.8, sigma=0.5)
    (view,) = method.view(full, key())
    added = view.scan.kspace - full.kspace
    assert not bool(added[:, ~view.shown].any())
    variance = float(added[:, view.shown].abs().square().mean())
    assert variance == pytest.approx((0.8 * 0.5) ** 2, rel=0.1)
    assert float((added[:, view.shown] ** 2).mean().abs()) < 0.1 * variance
    assert torch.equal(view.goal[:, ~view.shown], full.kspace[:, ~view.shown])
    seen, goal = view.scan.kspace[:, view.shown], view.goal[:, view.shown]
    assert float(goal.abs().square().mean()) == pytest.approx((1 + 0.8**-2) * 0.5**2, rel=0.1)
    assert abs(complex((seen.conj() * goal).mean())) < 0.05 * float(seen.abs().square().mean())
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


def test_noise_is_estimated_from_the_air_where_the_border_was_filtered() -> None:
    shape = (128, 128)
    head = phantom("brain", shape, Key(0, "head", "phantom"))
    noise = 0.05 * torch.randn(shape, dtype=torch.complex64, generator=Key(0, "head", "noise").torch())
    filtered = (fft2c(head) + noise) * torch.hann_window(shape[1] + 2)[1:-1] ** 0.25
    everywhere = torch.ones(shape, dtype=torch.bool)
    mask = acquisition_mask("lines", shape, 2, 12, Key(0, "head", "mask"))
    scan = Scan(id="head/head/0", kspace=filtered[None], measured=everywhere, mask=mask).as_target()
    assert Robust().noise(scan) < 0.7 * 0.05
    assert Robust(sigma="air").noise(scan) == pytest.approx(0.05, rel=0.25)
    assert Robust(sigma="air").noise(scan.scaled(2j)) == pytest.approx(0.025, rel=0.25)
    few = torch.zeros(shape, dtype=torch.bool)
    few[60:68, 60:68] = True
    with pytest.raises(NorefError, match=r"head/head/0: the centre .* too small to show the air"):
        Robust(sigma="air").noise(scan.undersampled(few))


def test_shown_samples_count_once_and_the_others_as_in_weighted_ssdu() -> None:
    acquired = replace(target(), density=torch.full(SHAPE, 0.4))
    partition = Partition(unit="points")
    (view,) = Robust(partition, alpha=0.5, sigma=0.1).view(acquired, key())
    (weighted,) = Weighted(partition).view(acquired, key())
    assert bool((view.weight[view.shown] == 1).all())
    held = weighted.weight > 0
    assert torch.equal(view.weight[held], weighted.weight[held])
    assert torch.equal(view.weight > 0, acquired.mask)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_no_image_of_what_is_shown_is_graded_better_than_the_posterior_mean(coils: int, alpha: float) -> None:
    """Of Gaussian images the mean is known, `(AᴴA + (1 + α²) σ²)⁻¹ Aᴴ ỹ`: no part of ỹ would improve it."""
    sigma = 0.7
    clean, noise = noisy_points(1.0, 0.0).kspace, torch.Generator().manual_seed(1)
    full = replace(scan((64, 48), coils), density=torch.ones(64, 48), calibration=torch.zeros(1))
    encoding = ScanBatch.of([full]).encoding()
    kspace = encoding.forward(clean[None])[0]
    added = torch.randn(kspace.shape, dtype=kspace.dtype, generator=noise)
    (view,) = Robust(alpha=alpha, sigma=sigma).view(replace(full, kspace=kspace + sigma * added), key())
    views = Views.of([view])
    shown = views.encoding()
    seen = shown.adjoint(views.kspace)
    mean = shown.solve(seen, (1 + alpha**2) * sigma**2)
    torch.testing.assert_close(views.weight, torch.ones(1, 64, 48))
    left = encoding.adjoint(views.goal) - mean
    for part in (seen, shown.normal(seen), mean):
        alike = (part.conj() * left).sum().real / (
            part.abs().square().sum() * left.abs().square().sum()
        ).sqrt()
        assert abs(float(alike)) < 0.04


def test_a_reconstruction_is_the_networks_own_where_the_maps_see_it() -> None:
    acquired = target(coils=2)
    assert acquired.maps is not None
    seen = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) < 0.7
    batch = ScanBatch.of([replace(acquired, maps=acquired.maps * seen)])
    torch.manual_seed(0)
    network = ISTANet(phases=1, features=2).eval()
    with torch.no_grad():
        plain = network(batch.kspace, batch.encoding()).image
        image = Robust().reconstruct(network, batch).image
    assert bool((plain[:, :, ~seen] != 0).any())
    torch.testing.assert_close(image, plain * seen, atol=1e-5, rtol=1e-4)


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
def test_only_squared_errors_in_kspace_teach_a_mean(make: Any) -> None:
    network, method = ISTANet(phases=1, features=2), make()
    for wrong in (
        Objective(),
        Objective(kspace={"nmse": 1.0, "l1": 0.1}),
        Objective(kspace={"nmse": 1.0}, image={"nmse": 1.0}),
        Objective(kspace={"mse": 1.0}, dual=True),
    ):
        method.minimise(wrong)
        with pytest.raises(NorefError, match="Robust: squared errors in k-space alone") as error:
            method.meet(network)
        assert "\n" not in str(error.value)
    for right in (SQUARES, Objective(kspace={"mse": 1.0, "nmse": 0.5})):
        method.minimise(right)
        method.meet(network)


@pytest.mark.parametrize("sigma", [0.5, None])
@pytest.mark.parametrize("data_term", ["acquired", "refined", "mixed"])
def test_guesses_are_shown_with_the_noise_of_a_measured_sample_and_graded_without(
    data_term: Any, sigma: float | None
) -> None:
    alpha = 0.8
    full = noisy_points(1.0, 0.5)
    acquired = undersampled(full, "random2d", 2, 8).as_target()
    # The border tells a level that is wrong here, for the object reaches it: any level must be kept to.
    level = 0.5 if sigma else Robust().noise(acquired)
    method = Refinement(Robust(alpha=alpha, sigma=sigma), data_term=data_term)
    method.prepare({full.shape: [undersampled(full, "random2d", 2, 8, seed).mask for seed in range(3)]})
    teacher = image(full.shape, seed=1)
    method.begin(1, {full.id: teacher})
    guess = cartesian(torch.ones(1, *full.shape, dtype=torch.bool), coil_maps(full)[None])
    refined = torch.where(acquired.mask, acquired.kspace, guess.forward(teacher[None])[0])
    (view,) = method.view(acquired, key())
    added = (view.scan.kspace - refined)[0]
    measured, guessed = view.shown & acquired.mask, view.shown & ~acquired.mask
    for where, spread in ((measured, alpha * level), (guessed, math.hypot(1, alpha) * level)):
        assert int(where.sum()) > 200
        assert float(added[where].abs().square().mean().sqrt()) == pytest.approx(spread, rel=0.1)
    torch.testing.assert_close(view.goal[0, measured], (refined[0] - added / alpha**2)[measured])
    hidden = ~view.shown & acquired.mask
    torch.testing.assert_close(view.goal[0, hidden], refined[0, hidden])
    graded = torch.ones_like(acquired.mask) if data_term == "refined" else acquired.mask
    assert torch.equal(view.weight > 0, graded)
    if data_term == "refined":
        torch.testing.assert_close(view.goal[0, ~acquired.mask], refined[0, ~acquired.mask])
    if data_term == "mixed":
        ((_, (complement,)),) = view.further
        counted = complement.weight > 0
        torch.testing.assert_close(complement.goal[0, counted], refined[0, counted])


def test_the_noise_covariance_of_a_scan_comes_before_its_border() -> None:
    full = replace(noisy_points(0.0, 0.3), noise_cov=0.49 * torch.eye(1, dtype=torch.complex64))
    assert Robust().noise(full.scaled(2j)) == pytest.approx(0.35)


def test_it_stands_inside_every_method_but_cyclic() -> None:
    network = ISTANet(phases=1, features=2)
    for method in (
        MultiMask(Robust(), 2),
        Joint(Robust(), Supervised()),
        Joint(Refinement(Robust()), Supervised()),
        MultiOperator(Robust()),
        Parallel(Robust()),
    ):
        method.minimise(SQUARES)
        method.meet(network)
    for inner in (Robust(), MultiMask(Robust(), 2)):
        with pytest.raises(NorefError, match="Cyclic: asks for what was measured, noise included") as error:
            Cyclic(inner)
        assert "\n" not in str(error.value)


def test_nonsense_is_refused() -> None:
    for alpha, sigma in ((0.0, None), (1.0, 0.0), (float("nan"), None)):
        with pytest.raises(NorefError, match="give numbers above 0"):
            Robust(alpha=alpha, sigma=sigma)
    with pytest.raises(NorefError, match="sigma is 'corners'; give a number, `air` or null"):
        Robust(sigma="corners")  # type: ignore[arg-type]
