"""Compressed sensing with total variation: FISTA, its proximal step solved in the dual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.fista import fista, next_momentum
from noref.physics import Encoding

_AXES = (-2, -1)
_BOUND = 8.0
"""Of the largest eigenvalue of `∇ᵀ∇` in two dimensions."""


@dataclass(frozen=True)
class TotalVariation:
    """`min_x ½‖A x − y‖² + λ Σ_r |∇x(r)|` (Block et al., MRM 2007, 57:1086).

    `|∇x(r)|² = |x(r) − x(r − e_y)|² + |x(r) − x(r − e_x)|²` is isotropic, periodic as the Fourier transform
    is, and of each map set on its own. λ is `strength` times the 99.5th percentile of `|Aᴴ y|`, as for
    wavelets. The minimum is found by FISTA (Beck & Teboulle, SIAM J. Imaging Sci. 2009, 2:183); each
    iteration's proximal step, denoising by total variation, by a few accelerated projected gradient steps on
    its dual (IEEE TIP 2009, 18:2419), which go on from the dual of the iteration before.

    Attributes:
        strengths: values to choose from, strongest first.
        iterations: at most, from `Aᴴ y`.
        warm_iterations: at most, from an image with nearly the same strength.
        dual_iterations: of each proximal step; 5 are too few for FISTA to converge.
        tolerance: stop once no scan's image changes by more than this share of it.
    """

    name: str = "tv"
    strengths: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    iterations: int = 100
    warm_iterations: int = 50
    dual_iterations: int = 10
    tolerance: float = 1e-4
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""
        dual: Tensor | None = None

        def denoise(image: Tensor, threshold: Tensor) -> Tensor:
            nonlocal dual
            dual = torch.zeros_like(_gradient(image)) if dual is None else dual
            dual = _denoising_dual(image, threshold, dual, self.dual_iterations)
            return image - _adjoint(dual)

        return fista(
            kspace,
            encoding,
            strength,
            denoise,
            start,
            iterations=self.iterations if start is None else self.warm_iterations,
            tolerance=self.tolerance,
        )


def _denoising_dual(image: Tensor, threshold: Tensor, dual: Tensor, iterations: int) -> Tensor:
    """`u` such that `z − ∇ᵀu` is about `argmin_x ½‖x − z‖² + λ Σ|∇x|`, with `|u| ≤ λ` everywhere.

    Args:
        image: `z`, pairs `(batch, 2·sets, y, x)`.
        threshold: λ, `(batch, 1, 1, 1)`.
        dual: first guess, `(batch, 2, 2·sets, y, x)`, along y and x.
        iterations: of projected gradient ascent.
    """
    ahead, momentum = dual, 1.0
    for _ in range(iterations):
        new = _project(ahead.add(_gradient(image - _adjoint(ahead)), alpha=1 / _BOUND), threshold)
        before, momentum = momentum, next_momentum(momentum)
        dual, ahead = new, dual.lerp(new, 1 + (before - 1) / momentum)
    return dual


def _project(dual: Tensor, bound: Tensor) -> Tensor:
    """The nearest dual of magnitude at most `bound`, both axes and both parts taken together, in place."""
    power = dual.square().sum(1)
    power = power[:, ::2] + power[:, 1::2]
    # A bound of zero over a magnitude of zero must not be NaN.
    shrunk = power.clamp_min_(torch.finfo(dual.dtype).tiny).rsqrt_().mul_(bound).clamp_max_(1)
    for part in (dual[:, :, ::2], dual[:, :, 1::2]):
        part.mul_(shrunk[:, None])
    return dual


def _gradient(image: Tensor) -> Tensor:
    """`∇x`: pairs `(batch, 2·sets, y, x)` to differences `(batch, 2, 2·sets, y, x)`."""
    differences = image.new_empty(image.shape[0], 2, *image.shape[1:])
    for i, axis in enumerate(_AXES):
        _less_neighbour(image, 1, axis, differences[:, i])
    return differences


def _adjoint(dual: Tensor) -> Tensor:
    """`∇ᵀu`, the adjoint of `_gradient`."""
    along_y, along_x = (
        _less_neighbour(part, -1, axis, torch.empty_like(part))
        for part, axis in zip(dual.unbind(1), _AXES, strict=True)
    )
    return along_y.add_(along_x)


def _less_neighbour(image: Tensor, shift: int, axis: int, out: Tensor) -> Tensor:
    """`x − x.roll(shift, axis)`, the shift 1 or −1, without a copy of the image."""
    last = image.shape[axis] - 1
    rest, edge, across = (1, 0, last) if shift == 1 else (0, last, 0)
    torch.sub(
        image.narrow(axis, rest, last), image.narrow(axis, 1 - rest, last), out=out.narrow(axis, rest, last)
    )
    torch.sub(image.narrow(axis, edge, 1), image.narrow(axis, across, 1), out=out.narrow(axis, edge, 1))
    return out
