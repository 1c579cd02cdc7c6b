"""JSSL's losses in both domains are their formulas, and read of a target what it is graded on alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import DUAL, Oracle
from numpy.typing import NDArray
from synthetic import image, maps, scan, undersampled
from torch import Tensor

from noref import metrics
from noref.losses import Objective
from noref.methods import Method, Split, Supervised, View, Views
from noref.physics import cartesian
from noref.sampling.partition import Partition
from noref.scan import Role, Scan
from noref.seeding import Key

SHAPE = (32, 24)
POINTS = Partition(weight="gaussian", unit="points", share=[0.2, 0.4, 0.6], width=3.5)


def target(seed: int = 0) -> Scan:
    return undersampled(scan(SHAPE, 3, seed, noise=0.01), "lines", 2, 8, seed).as_target()


def proxy(seed: int = 0) -> Scan:
    full = scan(SHAPE, 3, seed, noise=0.01, role=Role.PROXY)
    return replace(full, mask=target(seed).mask, reference=image(SHAPE, seed=seed))


def key() -> Key:
    return Key(0, "s", "view", 0)


def transform(coils: NDArray[np.complex128], inverse: bool = False) -> NDArray[np.complex128]:
    """The centred orthonormal transform of numpy."""
    axes = (-2, -1)
    turned = (np.fft.ifft2 if inverse else np.fft.fft2)(np.fft.ifftshift(coils, axes), norm="ortho")
    return np.fft.fftshift(turned, axes)


def kspace_terms(goal: NDArray[np.complex128], made: NDArray[np.complex128]) -> dict[str, float]:
    error = goal - made
    absolute = [np.abs(z.real).sum() + np.abs(z.imag).sum() for z in (error, goal)]
    return {
        "kspace_l1": 2 * absolute[0] / absolute[1],
        "kspace_nmse": 2 * (np.abs(error) ** 2).sum() / (np.abs(goal) ** 2).sum(),
    }


def image_terms(goal: NDArray[np.complex128], made: NDArray[np.complex128]) -> dict[str, float]:
    """Of images `(y, x)`; SSIM by scikit-image."""
    oracle = pytest.importorskip("skimage.metrics")
    u, v = np.abs(goal), np.abs(made)
    similar = oracle.structural_similarity(u, v, win_size=7, data_range=u.max())
    edges = [
        getattr(metrics, name)(*(torch.from_numpy(z)[None] for z in (u, v))) for name in ("hfen1", "hfen2")
    ]
    return {
        "image_l1": 2 * np.abs(u - v).sum() / u.sum(),
        "image_ssim": 2 * (1 - similar),
        "image_hfen1": float(edges[0]),
        "image_hfen2": float(edges[1]),
    }


def graded(method: Method, view: View, *guesses: Tensor, objective: Objective = DUAL) -> dict[str, float]:
    method.minimise(objective)
    network = Oracle(*guesses, maps=maps(SHAPE, 3, seed=9))
    losses = method.loss(network, Views.of([view]), key())
    return {name: float(loss) for name, loss in losses.items()}


def close(terms: dict[str, float], expected: dict[str, float]) -> None:
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name] == pytest.approx(value, rel=2e-3), name


def test_a_proxy_is_graded_on_all_of_its_kspace_with_what_was_shown_put_back() -> None:
    guess, learned, one = image(SHAPE, seed=4), maps(SHAPE, 3, seed=9), proxy()
    method = Supervised()
    (view,) = method.view(one, key())
    assert one.reference is not None
    made = transform((learned * guess)[0].numpy().astype(complex))
    filled = np.where(one.mask.numpy(), one.kspace.numpy(), made)
    expected = kspace_terms(one.kspace.numpy().astype(complex), filled)
    expected |= image_terms(one.reference[0].numpy().astype(complex), guess[0].numpy().astype(complex))
    close(graded(method, view, guess), expected)


def test_a_target_is_graded_on_lambda_in_kspace_and_as_its_image() -> None:
    guess, given, learned, one = image(SHAPE, seed=4), maps(SHAPE, 3), maps(SHAPE, 3, seed=9), target()
    method = Split(POINTS)
    (view,) = method.view(one, key())
    held = view.weight.numpy()
    goal = np.where(held, one.kspace.numpy().astype(complex), 0)
    made = np.where(held, transform((learned * guess)[0].numpy().astype(complex)), 0)
    combined = [(given[0].numpy().conj() * transform(k, inverse=True)).sum(0) for k in (goal, made)]
    close(graded(method, view, guess), kspace_terms(goal, made) | image_terms(combined[0], combined[1]))


@pytest.mark.parametrize("make", [lambda: (Split(POINTS), target()), lambda: (Supervised(), proxy())])
def test_every_step_is_graded_in_both_domains(make: object) -> None:
    method, one = make()  # type: ignore[operator]
    (view,) = method.view(one, key())
    images = [image(SHAPE, seed=seed) for seed in (1, 2, 3)]
    alone = [graded(method, view, guess) for guess in images]
    together = graded(method, view, *images)
    for name, term in together.items():
        weighted = sum(w * of[name] for w, of in zip((0.1, 0.1**0.5, 1.0), alone, strict=True))
        assert term == pytest.approx(weighted, rel=1e-5)


def test_the_image_loss_of_a_target_reads_what_is_graded_and_nothing_else() -> None:
    method, one = Split(POINTS), target()
    (view,) = method.view(one, key())
    poisoned = replace(view, goal=torch.where(view.weight, view.goal, torch.nan))
    assert not bool(poisoned.goal.isfinite().all())
    for objective in (DUAL, replace(DUAL, kspace={})):
        method.minimise(objective)
        results = []
        for what in (view, poisoned):
            guess = image(SHAPE, seed=4).requires_grad_()
            network = Oracle(guess, maps=maps(SHAPE, 3, seed=9))
            loss = torch.stack(list(method.loss(network, Views.of([what]), key()).values())).sum()
            loss.backward()
            assert guess.grad is not None
            results.append((loss.detach(), guess.grad))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
        assert bool(results[0][1].abs().sum() > 0)


def test_without_it_targets_have_no_image_loss_and_nothing_is_put_back() -> None:
    plain, guess = replace(DUAL, dual=False), image(SHAPE, seed=4)
    method = Split(POINTS)
    (view,) = method.view(target(), key())
    both = graded(method, view, guess)
    alone = graded(method, view, guess, objective=plain)
    assert alone == {name: both[name] for name in ("kspace_l1", "kspace_nmse")}
    (view,) = Supervised().view(proxy(), key())
    assert (
        graded(Supervised(), view, guess, objective=plain)["kspace_nmse"]
        > graded(Supervised(), view, guess)["kspace_nmse"]
        > 0
    )


def test_what_maps_a_network_learns_does_not_move_the_goal() -> None:
    views = Views.of(Split(POINTS).view(target(), key()))
    given = cartesian(views.weight > 0, views.maps)
    torch.testing.assert_close(views.combined(views.goal), given.adjoint(views.goal))


@pytest.mark.parametrize("domain", ["kspace", "image"])
def test_grading_is_in_full_precision(domain: str) -> None:
    method = Split(POINTS)
    method.minimise(DUAL if domain == "image" else replace(DUAL, image={}))
    views = Views.of(method.view(target(), key()))
    network = Oracle(image(SHAPE, seed=4), maps=maps(SHAPE, 3, seed=9))
    exact = method.loss(network, views, key())
    with torch.autocast("cpu", torch.bfloat16):
        half = method.loss(network, views, key())
    assert all(torch.equal(exact[name], half[name]) for name in exact)
