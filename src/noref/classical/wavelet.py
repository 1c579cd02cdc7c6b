"""Compressed sensing with wavelets: FISTA with cycle spinning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noref.classical.dwt import WaveletTransform, wavelet_transform
from noref.classical.fista import fista
from noref.physics import Encoding, to_pairs
from noref.seeding import Key


@dataclass(frozen=True)
class Wavelet:
    """`min_x ½‖A x − y‖² + λ ‖w Ψ x‖₁` (Lustig et al., MRM 2007, 58:1182) by FISTA (Beck & Teboulle, 2009).

    λ is `strength` times the 99.5th percentile of `|Aᴴ y|`: in an orthonormal basis noise has the same
    standard deviation in every coefficient as in every pixel, so that a threshold is measured in units of the
    image, while the largest coefficient grows with the number of levels. With cycle spinning (Figueiredo &
    Nowak, 2003) every iteration thresholds the image shifted by a random amount, which removes the blocks of
    a decimated transform; the minimised penalty is then the mean over all shifts.

    A first image `x₀` has `w = 1`, and the second, which goes on from it, smaller thresholds for what the
    first is made of: `w = ε / (|Ψ x₀| + ε)`, `ε` the mean of `|Ψ x₀|`, of the image shifted likewise (Candès,
    Wakin & Boyd, J. Fourier Anal. Appl. 2008, 14:877).

    Attributes:
        strengths: values to choose from, strongest first.
        wavelet: a name in `noref.classical.dwt.SCALING_FILTERS`.
        levels: of the transform; as many as the matrix allows if None, which is up to 0.3 dB worse.
        iterations: at most, always from `Aᴴ y`: with cycle spinning 100 are better than 200 or 1000, by up to
            1 dB on real heads, so that an image that was gone on from would be another one.
        tolerance: stop once no scan's image changes by more than this share of it.
        cycle_spinning: whether to shift; without it FISTA converges to the minimum for the one transform.
        reweighted: False for the first image alone.
        second_iterations: at most, from the first image.
    """

    name: str = "wavelet"
    strengths: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    wavelet: str = "db2"
    levels: int | None = 3
    iterations: int = 100
    tolerance: float = 1e-4
    cycle_spinning: bool = True
    reweighted: bool = True
    second_iterations: int = 50
    evenly_spaced: ClassVar[bool] = False

    def __call__(
        self,
        kspace: Tensor,
        encoding: Encoding,
        strength: float,
        start: Tensor | None = None,  # noqa: ARG002 - see `iterations`
    ) -> Tensor:
        """Reconstructs a batch; see `Classical`."""
        transform = wavelet_transform(
            encoding.shape, self.wavelet, self.levels, dtype=kspace.real.dtype, device=kspace.device
        )
        shifts = iter(self._shifts(self.iterations + self.second_iterations, len(transform.matrices)))

        def minimum(first: Tensor | None, iterations: int) -> Tensor:
            known = None if first is None else to_pairs(first)
            return fista(
                kspace,
                encoding,
                strength,
                lambda image, threshold: _shrink(image, transform, threshold, next(shifts), known),
                first,
                iterations=iterations,
                tolerance=self.tolerance,
            )

        first = minimum(None, self.iterations)
        return minimum(first, self.second_iterations) if self.reweighted else first

    def _shifts(self, iterations: int, levels: int) -> list[tuple[int, int]]:
        """Per iteration along y and x, below `2^levels`, where they begin to repeat."""
        if not self.cycle_spinning:
            return [(0, 0)] * iterations
        draws = Key(0, "", "cycle spinning").numpy().integers(0, 2**levels, (iterations, 2))
        return [(int(y), int(x)) for y, x in draws]


def _shrink(
    image: Tensor,
    transform: WaveletTransform,
    threshold: Tensor,
    shift: tuple[int, int],
    first: Tensor | None = None,
) -> Tensor:
    """`Ψᴴ soft(Ψ x)` of the shifted image, on pairs `(batch, 2·sets, y, x)`, shifted back.

    With thresholds that a first image lowers, pairs too.
    """
    axes = (-2, -1)
    coefficients = transform.forward(image.roll(shift, axes))
    if first is not None:
        size = _magnitude(transform.forward(first.roll(shift, axes)))
        mean = size.mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(image.dtype).tiny)
        threshold = threshold * (mean / (size + mean))
    # A magnitude of zero with a threshold of zero is zero over tiny, not zero over zero.
    gain = 1 - threshold / _magnitude(coefficients).clamp_min(torch.finfo(image.dtype).tiny)
    coefficients *= gain.clamp_min_(0).repeat_interleave(2, 1)
    back = (-shift[0], -shift[1])
    return transform.inverse(coefficients).roll(back, axes)


def _magnitude(coefficients: Tensor) -> Tensor:
    """`|c|` `(batch, sets, y, x)` of pairs `(batch, 2·sets, y, x)`."""
    return torch.hypot(coefficients[:, ::2], coefficients[:, 1::2])
