"""An orthonormal two-dimensional wavelet transform for any matrix size.

One level multiplies an axis of `n` samples by an orthogonal matrix: the periodic filter bank

    a[k] = Σ_j h[j] x[2k + c − j],    d[k] = Σ_j g[j] x[2k + c − j],    g[j] = (−1)^(j+1) h[F − 1 − j],

for even `n` (`F` taps, `c = F/2`: the periodisation of PyWavelets); for odd `n` the last sample joins the
approximation as it is. Padding to an even size instead would give a tight frame, whose proximal operator is
no longer a soft threshold; this stays orthonormal. At the sizes of images a matrix product is faster than
strided filtering, on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SCALING_FILTERS: dict[str, tuple[float, ...]] = {
    "haar": (0.5**0.5, 0.5**0.5),
    "db2": (-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416),
    "db4": (
        -0.010597401785069032,
        0.0328830116668852,
        0.030841381835560764,
        -0.18703481171909309,
        -0.027983769416859854,
        0.6308807679298589,
        0.7148465705529157,
        0.2303778133088965,
    ),
}
"""Low-pass analysis filters `h` (Daubechies, Ten Lectures on Wavelets, 1992, table 6.1), `Σh = √2`."""


@dataclass(frozen=True)
class WaveletTransform:
    """`Ψ`, real and orthonormal, on the last two axes; build it with `wavelet_transform`.

    Attributes:
        matrices: per level, finest first, the matrices of both axes, `(n_y, n_y)` and `(n_x, n_x)`, where
            `n` is the size of the approximation that the level divides.
    """

    matrices: tuple[tuple[Tensor, Tensor], ...]

    def forward(self, image: Tensor) -> Tensor:
        """`Ψ x`: image `(…, y, x)`, real or complex, to coefficients of the same shape.

        The approximation stands in the upper left corner, around it the details of every level.
        """
        if image.is_complex():
            return torch.complex(self.forward(image.real), self.forward(image.imag))
        coefficients = image.clone()
        for rows, columns in self.matrices:
            block = coefficients[..., : len(rows), : len(columns)]
            block.copy_(rows @ (block @ columns.mT))
        return coefficients

    def inverse(self, coefficients: Tensor) -> Tensor:
        """`Ψᴴ c`, the inverse and adjoint of `forward`."""
        if coefficients.is_complex():
            return torch.complex(self.inverse(coefficients.real), self.inverse(coefficients.imag))
        image = coefficients.clone()
        for rows, columns in reversed(self.matrices):
            block = image[..., : len(rows), : len(columns)]
            block.copy_(rows.mT @ (block @ columns))
        return image


def wavelet_transform(
    shape: tuple[int, int],
    wavelet: str = "db4",
    levels: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> WaveletTransform:
    """The transform of images of one shape.

    Args:
        shape: `(y, x)`, odd or even.
        wavelet: a name in `SCALING_FILTERS`.
        levels: how often the approximation is divided again; as often as no filter wraps around it if None.
        dtype: real, of the images (of their real part, if complex).
        device: of the images.
    """
    if levels is None:
        levels = most_levels(min(shape), wavelet)
    matrices = []
    rows, columns = shape
    for _ in range(levels):
        matrices.append(tuple(_level_matrix(n, wavelet).to(device, dtype) for n in (rows, columns)))
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    return WaveletTransform(tuple((y, x) for y, x in matrices))


def most_levels(size: int, wavelet: str) -> int:
    """How often `size` samples can be divided before the filter is longer than what it filters."""
    return max((size // (len(SCALING_FILTERS[wavelet]) - 1)).bit_length() - 1, 0)


@lru_cache(maxsize=64)
def _level_matrix(size: int, wavelet: str) -> Tensor:
    """One level for an axis of `size` samples, float64 `(size, size)`: approximation rows, then details."""
    low = torch.tensor(SCALING_FILTERS[wavelet], dtype=torch.float64)
    taps, half = len(low), size // 2
    k, j = torch.arange(half)[:, None], torch.arange(taps)
    sample = (2 * k + taps // 2 - j) % (2 * half)
    high = low.flip(0) * (-1.0) ** (j + 1)
    approximation, detail = torch.zeros(2, half, size, dtype=torch.float64)
    approximation.scatter_add_(1, sample, low.expand_as(sample))
    detail.scatter_add_(1, sample, high.expand_as(sample))
    carried = torch.eye(size, dtype=torch.float64)[2 * half :]
    return torch.cat((approximation, carried, detail))
