"""Iterative SENSE: regularised least squares by conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.smooth import smoothed
from noref.physics import Encoding, conjugate_gradients, to_complex, to_pairs

FLOOR = 0.1
"""Of the magnitude that a place may have, over its root mean square: nowhere is an image forbidden."""


@dataclass(frozen=True)
class CGSense:
    """`min_x ½‖A x − y‖² + λ/2 Σ_r |x(r)|² / m(r)`, that is `(AᴴA + λ/m) x = Aᴴ y`.

    `m` is where the object is, and how bright: `m = (g ∗ |x₀|) / rms(g ∗ |x₀|) + 0.1`, `g` a Gaussian of one
    pixel and `x₀` the solution for `m = 1`, a few iterations long. Aliasing and noise are then sought where
    there is nothing rather than in the object. Solved for `u = x/√m`, as `(√m AᴴA √m + λ) u = √m Aᴴ y`.

    Maps of unit norm make the largest eigenvalue of `AᴴA` 1, so that λ is relative to it; `m` has no unit.

    Sources: Pruessmann et al., MRM 2001, 46:638 (`m = 1`, by conjugate gradients); Lin et al., MRM 2004,
    51:559 (a prior image in the regularisation); Gorodnitsky & Rao, IEEE TSP 1997, 45:600 (a prior of what a
    first solution is large in).

    Attributes:
        strengths: values of λ to choose from, strongest first.
        iterations: of conjugate gradients, at most.
        tolerance: stop once the residual is below this share of the right side.
        reweighted: False for `m = 1`.
        first_iterations: for `x₀`, at most.
    """

    name: str = "cg-sense"
    strengths: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    iterations: int = 50
    tolerance: float = 1e-4
    reweighted: bool = True
    first_iterations: int = 20
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""
        right = encoding.adjoint_pairs(torch.view_as_real(kspace))
        begin = None if start is None else to_pairs(start)

        def plain(begin: Tensor | None, iterations: int) -> Tensor:
            return conjugate_gradients(
                lambda x: encoding.normal_pairs(x).add_(x, alpha=strength),
                right,
                iterations=iterations,
                tolerance=self.tolerance,
                start=begin,
            )

        if not self.reweighted:
            return to_complex(plain(begin, self.iterations))
        # From nothing whatever the start, so that weights, and with them the solution, are the scan's alone.
        first = plain(None, self.first_iterations)
        root = _magnitude(first).sqrt_()
        solution = conjugate_gradients(
            lambda u: encoding.normal_pairs(root * u).mul_(root).add_(u, alpha=strength),
            root * right,
            iterations=self.iterations,
            tolerance=self.tolerance,
            start=(first if begin is None else begin) / root,
        )
        return to_complex(solution.mul_(root))


def _magnitude(image: Tensor) -> Tensor:
    """`m` of pairs `(batch, 2·sets, y, x)`, in the same shape."""
    smooth = smoothed(to_complex(image).abs())
    mean = smooth.square().mean((1, 2, 3), keepdim=True).sqrt()
    relative = smooth / mean.clamp_min(torch.finfo(smooth.dtype).tiny) + FLOOR
    return relative.repeat_interleave(2, 1)
