"""Compressed sensing with wavelets: FISTA with cycle spinning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noref.classical.dwt import WaveletTransform, wavelet_transform
from noref.physics import Encoding, to_complex, to_pairs
from noref.seeding import Key


@dataclass(frozen=True)
class Wavelet:
    """`min_x ½‖A x − y‖² + λ ‖Ψ x‖₁` (Lustig et al., MRM 2007, 58:1182) by FISTA (Beck & Teboulle, 2009).

    λ is `strength` times the 99.5th percentile of `|Aᴴ y|`: in an orthonormal basis noise has the same
    standard deviation in every coefficient as in every pixel, so that a threshold is measured in units of the
    image, while the largest coefficient grows with the number of levels. With cycle spinning (Figueiredo &
    Nowak, 2003) every iteration thresholds the image shifted by a random amount, which removes the blocks of
    a decimated transform; the minimised penalty is then the mean over all shifts.

    Attributes:
        strengths: values to choose from, strongest first.
        wavelet: a name in `noref.classical.dwt.SCALING_FILTERS`.
        levels: of the transform; as many as the matrix allows if None.
        iterations: at most, from `Aᴴ y`.
        warm_iterations: at most, from an image with nearly the same strength: going down the strengths with
            50 iterations each is as good as 100 for each alone.
        tolerance: stop once no scan's image changes by more than this share of it.
        cycle_spinning: whether to shift; without it FISTA converges to the minimum for the one transform.
    """

    name: str = "wavelet"
    strengths: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
    wavelet: str = "db4"
    levels: int | None = None
    iterations: int = 100
    warm_iterations: int = 50
    tolerance: float = 1e-3
    cycle_spinning: bool = True

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch.

        Args:
            kspace: complex64 `(batch, coils, ky, kx)`; samples outside the encoding's mask are not read.
            encoding: of the samples.
            strength: λ over the 99.5th percentile of `|Aᴴ y|`.
            start: complex64 `(batch, sets, y, x)`, an image near the result, for `warm_iterations` more;
                `Aᴴ y` if None.

        Returns:
            complex64 `(batch, sets, y, x)`.
        """
        right = encoding.adjoint_pairs(torch.view_as_real(kspace))
        transform = wavelet_transform(
            encoding.shape, self.wavelet, self.levels, dtype=right.dtype, device=right.device
        )
        step = 1 / largest_eigenvalue(encoding)
        threshold = step * strength * brightness(right)
        image = right if start is None else to_pairs(start)
        iterations = self.iterations if start is None else self.warm_iterations
        ahead, momentum = image, 1.0
        for shift in self._shifts(iterations, len(transform.matrices)):
            forward = ahead + step * (right - encoding.normal_pairs(ahead))
            new = _shrink(forward, transform, threshold, shift)
            change = new - image
            next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + ((momentum - 1) / next_momentum) * change
            image, momentum = new, next_momentum
            if bool((norm(change) <= self.tolerance * norm(image)).all()):
                break
        return to_complex(image)

    def _shifts(self, iterations: int, levels: int) -> list[tuple[int, int]]:
        """Per iteration along y and x, below `2^levels`, where they begin to repeat."""
        if not self.cycle_spinning:
            return [(0, 0)] * iterations
        draws = Key(0, "", "cycle spinning").numpy().integers(0, 2**levels, (iterations, 2))
        return [(int(y), int(x)) for y, x in draws]


def largest_eigenvalue(encoding: Encoding) -> Tensor:
    """A bound of the largest eigenvalue of `AᴴA`, per scan `(batch, 1, 1, 1)`; 1 for maps of unit norm.

    As `‖M F‖ ≤ 1`, it is that of the maps alone: the largest row sum of `|SᴴS|`, `(sets, sets)`, of any
    pixel (Gershgorin).
    """
    maps = torch.view_as_complex(encoding.folded)
    rows = [(maps[:, s, None].conj() * maps).sum(2).abs().sum(1) for s in range(encoding.sets)]
    return torch.stack(rows).amax((0, 2, 3)).view(-1, 1, 1, 1)


def _shrink(image: Tensor, transform: WaveletTransform, threshold: Tensor, shift: tuple[int, int]) -> Tensor:
    """`Ψᴴ soft(Ψ x)` of the shifted image, on pairs `(batch, 2·sets, y, x)`, shifted back."""
    axes = (-2, -1)
    coefficients = transform.forward(image.roll(shift, axes))
    magnitude = torch.hypot(coefficients[:, ::2], coefficients[:, 1::2])
    # A magnitude of zero with a threshold of zero is zero over tiny, not zero over zero.
    gain = (1 - threshold / magnitude.clamp_min(torch.finfo(image.dtype).tiny)).clamp_min_(0)
    coefficients *= gain.repeat_interleave(2, 1)
    back = (-shift[0], -shift[1])
    return transform.inverse(coefficients).roll(back, axes)


def norm(image: Tensor) -> Tensor:
    """The 2-norm of pairs `(batch, 2·sets, y, x)`, per scan `(batch,)`."""
    return image.square().sum((1, 2, 3)).sqrt()


def brightness(image: Tensor) -> Tensor:
    """The 99.5th percentile of the magnitude of pairs, per scan `(batch, 1, 1, 1)`."""
    magnitude = to_complex(image).abs().flatten(1)
    rank = max(round(0.995 * magnitude.shape[1]), 1)
    percentile: Tensor = magnitude.kthvalue(rank, dim=1).values
    return percentile.view(-1, 1, 1, 1)
