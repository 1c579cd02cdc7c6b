from __future__ import annotations

import numpy as np
import pytest
import torch
from synthetic import image
from torch import Tensor

from noref import metrics
from noref.losses import IMAGE_TERMS, TERMS, Objective
from noref.sampling.density import CAP

SHAPE = (9, 8)


def pair(batch: int = 3, coils: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Goal and estimate `(batch, coils, ky, kx)` of very different sizes, and weights."""
    generator = torch.Generator().manual_seed(seed)
    goal, error = (
        torch.randn(batch, coils, *SHAPE, dtype=torch.complex64, generator=generator) for _ in range(2)
    )
    scale = torch.logspace(-2, 2, batch)[:, None, None, None]
    weight = torch.rand(batch, *SHAPE, generator=generator) * (torch.rand(SHAPE, generator=generator) < 0.5)
    return scale * goal, scale * (goal + 0.3 * error), weight


def by_hand(name: str, goal: Tensor, estimate: Tensor, weight: Tensor) -> list[float]:
    results = []
    for u, v, w in zip(goal.numpy(), estimate.numpy(), weight.double().numpy(), strict=True):
        difference = (u - v).astype(complex)
        absolute = (w * (abs(difference.real) + abs(difference.imag))).sum()
        squared = (w * abs(difference) ** 2).sum()
        results.append(
            {
                "l1": absolute / (w * (abs(u.real) + abs(u.imag))).sum(),
                "l2": np.sqrt(squared / (w * abs(u) ** 2).sum()),
                "nmse": squared / (w * abs(u) ** 2).sum(),
                "mse": squared / w.sum(),
                "mae": absolute / w.sum(),
            }[name]
        )
    return results


@pytest.mark.parametrize("name", TERMS)
def test_kspace_terms_are_their_formulas(name: str) -> None:
    goal, estimate, weight = pair()
    losses = Objective(kspace={name: 3.0}).grade_kspace(goal, estimate, weight)
    assert list(losses) == [f"kspace_{name}"]
    expected = 3 * torch.tensor(by_hand(name, goal, estimate, weight))
    torch.testing.assert_close(losses[f"kspace_{name}"].double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", TERMS)
def test_image_terms_compare_magnitudes(name: str) -> None:
    goal, estimate, _ = pair()
    losses = Objective(image={name: 2.0}).grade_image(goal, estimate)
    expected = by_hand(name, goal.abs(), estimate.abs(), torch.ones(3, *SHAPE))
    if name in ("mse", "mae"):  # a mean over pixels and sets
        expected = [value / goal.shape[1] for value in expected]
    torch.testing.assert_close(
        losses[f"image_{name}"].double(), 2 * torch.tensor(expected), rtol=1e-4, atol=0
    )


def test_image_ssim_is_scikit_images() -> None:
    oracle = pytest.importorskip("skimage.metrics")
    goal = torch.stack([image((24, 20), seed=seed) for seed in range(3)])
    estimate = torch.stack([image((24, 20), seed=seed) * 0.8 for seed in range(3)])
    losses = Objective(image={"ssim": 1.0}).grade_image(goal, estimate)["image_ssim"]
    for g, e, loss in zip(goal.abs().numpy(), estimate.abs().numpy(), losses.tolist(), strict=True):
        assert loss == pytest.approx(
            1 - oracle.structural_similarity(g[0], e[0], data_range=g.max()), abs=1e-5
        )


@pytest.mark.parametrize("name", ["hfen1", "hfen2"])
def test_image_hfen_is_the_metrics(name: str) -> None:
    goal = torch.stack([image((24, 20), sets=2, seed=seed) for seed in range(3)])
    estimate = torch.stack([image((24, 20), sets=2, seed=seed + 5) for seed in range(3)])
    losses = Objective(image={name: 2.0}).grade_image(goal, estimate)[f"image_{name}"]
    expected = 2 * getattr(metrics, name)(goal.abs(), estimate.abs())
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)
    nothing = torch.zeros_like(goal)
    assert bool(Objective(image={name: 1.0}).grade_image(nothing, nothing)[f"image_{name}"].isfinite().all())


def test_ssdus_loss_is_the_default() -> None:
    goal, estimate, weight = pair()
    losses = Objective().grade_kspace(goal, estimate, weight)
    expected = [
        0.5 * a + 0.5 * b
        for a, b in zip(
            by_hand("l1", goal, estimate, weight), by_hand("l2", goal, estimate, weight), strict=True
        )
    ]
    torch.testing.assert_close(
        sum(losses.values()).double(),
        torch.tensor(expected),
        rtol=1e-5,
        atol=0,  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("name", TERMS)
def test_what_is_not_graded_may_be_anything(name: str) -> None:
    goal, estimate, weight = pair()
    objective = Objective(kspace={name: 1.0})
    clean = estimate.clone().requires_grad_()
    exact = objective.grade_kspace(goal, clean, weight)[f"kspace_{name}"]
    exact.sum().backward()
    hidden = (weight == 0)[:, None]
    broken = torch.where(hidden, torch.nan, estimate).requires_grad_()
    loss = objective.grade_kspace(torch.where(hidden, torch.nan, goal), broken, weight)[f"kspace_{name}"]
    assert torch.equal(loss, exact)
    loss.sum().backward()
    assert broken.grad is not None
    assert clean.grad is not None
    assert torch.equal(broken.grad, clean.grad)
    assert not bool(broken.grad[hidden.expand_as(goal)].any())


@pytest.mark.parametrize("name", IMAGE_TERMS)
@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite_at_an_exact_match(name: str, empty: bool) -> None:
    goal = torch.stack([image((16, 14), sets=2, seed=seed) for seed in range(2)])
    weight = torch.zeros(2, 16, 14) if empty else torch.ones(2, 16, 14)
    estimate = goal.clone().requires_grad_()
    if name in TERMS:
        loss = Objective(kspace={name: 1.0}).grade_kspace(goal, estimate, weight)[f"kspace_{name}"]
        assert float(loss.detach().abs().max()) < 2e-6
        loss.sum().backward()
    losses = Objective(image={name: 1.0}).grade_image(goal, estimate)[f"image_{name}"]
    assert float(losses.detach().abs().max()) < 2e-5
    losses.sum().backward()
    assert estimate.grad is not None
    assert bool(torch.view_as_real(estimate.grad).isfinite().all())


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_where_the_goal_or_the_estimate_is_zero(name: str) -> None:
    zero = torch.zeros(1, 1, *SHAPE, dtype=torch.complex64)
    weight = torch.ones(1, *SHAPE)
    for goal, start in ((zero, zero), (zero, zero + 1), (zero + 1, zero)):
        estimate = start.clone().requires_grad_()
        objective = Objective(kspace={name: 1.0}, image={name: 1.0})
        loss = sum(
            {
                **objective.grade_kspace(goal, estimate, weight),
                **objective.grade_image(goal, estimate),
            }.values()
        )
        assert isinstance(loss, Tensor)
        loss.sum().backward()
        assert estimate.grad is not None
        assert bool(torch.view_as_real(estimate.grad).isfinite().all())


def test_ratios_are_of_each_scan() -> None:
    goal, estimate, weight = pair()
    together = Objective().grade_kspace(goal, estimate, weight)
    for i in range(3):
        alone = Objective().grade_kspace(goal[i : i + 1], estimate[i : i + 1], weight[i : i + 1])
        for name in together:
            torch.testing.assert_close(together[name][i : i + 1], alone[name])
    scaled = Objective().grade_kspace(100 * goal, 100 * estimate, weight)
    torch.testing.assert_close(scaled["kspace_l1"], together["kspace_l1"])


def test_weighting_by_density_makes_the_sum_stand_for_all_of_kspace() -> None:
    weight = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    density = torch.tensor([[1.0, 0.25, 0.5, 1e-6]])
    torch.testing.assert_close(
        Objective().sample_weight(weight, density), torch.tensor([[1.0, 4.0, 0.0, CAP]])
    )
    assert torch.equal(Objective(weighting="none").sample_weight(weight, density), weight)


def test_the_weighted_mean_over_random_samples_is_the_mean_over_all() -> None:
    goal, estimate, _ = pair(1)
    goal = goal * torch.linspace(0.1, 3, SHAPE[1])
    density = torch.linspace(0.2, 0.9, SHAPE[0] * SHAPE[1]).view(1, *SHAPE)
    objective = Objective(kspace={"nmse": 1.0})
    draws = torch.rand(4000, *SHAPE, generator=torch.Generator().manual_seed(0)) < density
    scores = objective.grade_kspace(
        goal.expand(4000, -1, -1, -1),
        estimate.expand(4000, -1, -1, -1),
        objective.sample_weight(draws.float(), density.expand_as(draws)),
    )["kspace_nmse"]
    full = objective.grade_kspace(goal, estimate, torch.ones(1, *SHAPE))["kspace_nmse"]
    assert float(scores.mean()) == pytest.approx(float(full), rel=0.02)


def test_unknown_losses_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown loss 'ssim'; there are l1, l2, nmse, mse"):
        Objective(kspace={"ssim": 1.0})
    with pytest.raises(ValueError, match="unknown loss 'hfn'"):
        Objective(image={"hfn": 1.0})
