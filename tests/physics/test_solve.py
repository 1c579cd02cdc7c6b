"""Conjugate gradients, every element of a batch on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from random_encodings import BATCH, draw, make
from torch import Tensor

from noref.physics import cartesian, conjugate_gradients


def systems(sizes: int = 12) -> tuple[Tensor, Tensor]:
    roots = draw(3, sizes, sizes, dtype=torch.float64)
    scale = torch.tensor([1.0, 1e-6, 1e4], dtype=torch.float64)[:, None, None]
    return scale * (roots @ roots.mT + torch.eye(sizes)), draw(3, sizes, seed=1, dtype=torch.float64)


def applied(matrices: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (matrices @ x[..., None])[..., 0]


def test_conjugate_gradients_agree_with_a_dense_solve() -> None:
    matrices, right = systems()
    expected = torch.linalg.solve(matrices, right)
    for start in (None, draw(3, 12, seed=2, dtype=torch.float64)):
        solved = conjugate_gradients(applied(matrices), right, iterations=40, tolerance=1e-12, start=start)
        torch.testing.assert_close(solved, expected, rtol=1e-8, atol=0)


def test_every_batch_element_is_solved_on_its_own() -> None:
    matrices, right = systems()
    right[1] = 0
    together = conjugate_gradients(applied(matrices), right, iterations=30)
    for i in range(3):
        alone = conjugate_gradients(lambda x, i=i: x @ matrices[i], right[i : i + 1], iterations=30)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-7, atol=0)
    assert torch.equal(together[1], torch.zeros(12, dtype=torch.float64))


def test_the_tolerance_holds_for_the_slowest_element() -> None:
    matrices, right = systems()
    matrices[0] = torch.eye(12)
    calls = 0

    def apply(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return applied(matrices)(x)

    solved = conjugate_gradients(apply, right, iterations=100, tolerance=1e-4)
    assert calls < 30
    residual = (right - applied(matrices)(solved)).norm(dim=1) / right.norm(dim=1)
    assert float(residual.max()) <= 1.01e-4


def test_what_has_converged_stays_as_it_is() -> None:
    """However long the others take: with a tolerance, too, an element does not depend on its batch."""
    matrices, right = systems()
    matrices[0] = torch.eye(12) + 0.01 * matrices[0]
    together = conjugate_gradients(applied(matrices), right, iterations=100, tolerance=1e-3)
    for i in range(3):
        alone = conjugate_gradients(
            applied(matrices[i : i + 1]), right[i : i + 1], iterations=100, tolerance=1e-3
        )
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=0)


def test_no_tolerance_means_exactly_so_many_iterations() -> None:
    calls = []
    conjugate_gradients(lambda x: (calls.append(1), 2 * x)[1], torch.ones(1, 3), iterations=7, tolerance=0)
    assert len(calls) == 7


def test_float32_iterations_past_convergence_do_no_harm() -> None:
    encoding = make((8, 8), 3, 1, "points")
    single = cartesian(encoding.mask, encoding.maps.to(torch.complex64))
    right = draw(BATCH, 1, 8, 8)
    expected = encoding.solve(right, 0.05, iterations=300, tolerance=1e-13)
    solved = single.solve(right.to(torch.complex64), 0.05, iterations=500, tolerance=0)
    assert float((solved - expected).norm() / expected.norm()) < 1e-4
