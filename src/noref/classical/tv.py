"""Compressed sensing with total variation: FISTA, its proximal step solved in the dual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.fista import fista, next_momentum
from noref.classical.smooth import smoothed, sparsifying_weights
from noref.physics import Encoding, to_pairs

_BOUND = 8.0
"""Of the largest eigenvalue of `∇ᵀ∇` in two dimensions."""


@dataclass(frozen=True)
class TotalVariation:
    """`min_x ½‖A x − y‖² + λ Σ_r w(r) |∇x(r)|` (Block et al., MRM 2007, 57:1086, for `w = 1`).

    `|∇x(r)|² = |x(r) − x(r − e_y)|² + |x(r) − x(r − e_x)|²` is isotropic, periodic as the Fourier transform
    is, and of each map set on its own. λ is `strength` times the 99.5th percentile of `|Aᴴ y|`, as for
    wavelets. The minimum is found by FISTA (Beck & Teboulle, SIAM J. Imaging Sci. 2009, 2:183); each
    iteration's proximal step, denoising by total variation, by a few accelerated projected gradient steps on
    its dual (IEEE TIP 2009, 18:2419), which go on from the dual of the iteration before.

    A first image `x₀` has `w = 1`. If `reweighted`, a second goes on from it with smaller weights where the
    first has edges: `w = c / (s + mean s)` with `s² = g ∗ |∇x₀|²`, `g` a Gaussian of one pixel and `c` such
    that the mean of w is 1 (Candès, Wakin & Boyd, J. Fourier Anal. Appl. 2008, 14:877).

    Attributes:
        strengths: values to choose from, strongest first.
        iterations: at most, from `Aᴴ y`.
        warm_iterations: at most, from an image with nearly the same strength.
        dual_iterations: of each proximal step; 5 are too few for FISTA to converge.
        tolerance: stop once no scan's image changes by more than this share of it.
        reweighted: whether there is a second image.
        second_iterations: at most, from the first image.
    """

    name: str = "tv"
    strengths: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    iterations: int = 100
    warm_iterations: int = 50
    dual_iterations: int = 10
    tolerance: float = 1e-4
    reweighted: bool = True
    second_iterations: int = 50
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""

        def minimum(weight: Tensor | float, start: Tensor | None, iterations: int) -> Tensor:
            dual: Tensor | None = None

            def denoise(image: Tensor, threshold: Tensor) -> Tensor:
                nonlocal dual
                dual = torch.zeros_like(_gradient(image)) if dual is None else dual
                dual = _denoising_dual(image, threshold * weight, dual, self.dual_iterations)
                return image - _adjoint(dual)

            return fista(
                kspace, encoding, strength, denoise, start, iterations=iterations, tolerance=self.tolerance
            )

        first = minimum(1.0, start, self.iterations if start is None else self.warm_iterations)
        if not self.reweighted:
            return first
        size = smoothed(_power(_gradient(to_pairs(first)))).sqrt()
        return minimum(sparsifying_weights(size), first, self.second_iterations)


def _denoising_dual(image: Tensor, threshold: Tensor, dual: Tensor, iterations: int) -> Tensor:
    """`u` such that `z − ∇ᵀu` is about `argmin_x ½‖x − z‖² + Σ λ|∇x|`, with `|u| ≤ λ` everywhere.

    Args:
        image: `z`, pairs `(batch, 2·sets, y, x)`.
        threshold: λ, `(batch, 1, 1, 1)`, or of every pixel `(batch, sets, y, x)`.
        dual: first guess, `(batch, 2, 2·sets, y, x)`, along y and x.
        iterations: of projected gradient ascent.
    """
    # All in the same memory: of small images, views and new tensors would take longer than the arithmetic.
    dual, ahead, new, along = (of.clone() for of in (dual, dual, dual, dual))
    denoised = torch.empty_like(image)
    adjoint, gradient = _differences(ahead.unbind(1), -1, along), _differences((denoised, denoised), 1, new)
    along_y, along_x = along.unbind(1)
    momentum = 1.0
    for _ in range(iterations):
        _subtract(adjoint)
        torch.sub(image, along_y.add_(along_x), out=denoised)
        _subtract(gradient)
        _project(torch.add(ahead, new, alpha=1 / _BOUND, out=new), threshold)
        before, momentum = momentum, next_momentum(momentum)
        torch.lerp(dual, new, 1 + (before - 1) / momentum, out=ahead)
        dual.copy_(new)
    return dual


def _project(dual: Tensor, bound: Tensor) -> Tensor:
    """The nearest dual of magnitude at most `bound`, both axes and both parts taken together, in place."""
    # A bound of zero over a magnitude of zero must not be NaN.
    shrunk = _power(dual).clamp_min_(torch.finfo(dual.dtype).tiny).rsqrt_().mul_(bound).clamp_max_(1)
    for part in (dual[:, :, ::2], dual[:, :, 1::2]):
        part.mul_(shrunk[:, None])
    return dual


def _power(dual: Tensor) -> Tensor:
    """`|u|²` `(batch, sets, y, x)` of `(batch, 2, 2·sets, y, x)`: both axes and both parts together."""
    power = dual.square().sum(1)
    return power[:, ::2] + power[:, 1::2]


def _gradient(image: Tensor) -> Tensor:
    """`∇x`: pairs `(batch, 2·sets, y, x)` to differences `(batch, 2, 2·sets, y, x)`."""
    differences = image.new_empty(image.shape[0], 2, *image.shape[1:])
    _subtract(_differences((image, image), 1, differences))
    return differences


def _adjoint(dual: Tensor) -> Tensor:
    """`∇ᵀu`, the adjoint of `_gradient`."""
    along = torch.empty_like(dual)
    _subtract(_differences(dual.unbind(1), -1, along))
    return along.sum(1)


def _differences(images: Sequence[Tensor], shift: int, out: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Views: the first less the second, in the third, is `x − x.roll(shift, axis)`, without a copy of x.

    Args:
        images: x along y, and along x.
        shift: 1 or −1.
        out: of both, `(batch, 2, …)`.
    """
    parts = []
    for image, made, axis in zip(images, out.unbind(1), (-2, -1), strict=True):
        last = image.shape[axis] - 1
        rest, edge, across = (1, 0, last) if shift == 1 else (0, last, 0)
        for one, other, size in ((rest, 1 - rest, last), (edge, across, 1)):
            parts.append(
                (image.narrow(axis, one, size), image.narrow(axis, other, size), made.narrow(axis, one, size))
            )
    return parts


def _subtract(parts: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    for one, other, out in parts:
        torch.sub(one, other, out=out)
