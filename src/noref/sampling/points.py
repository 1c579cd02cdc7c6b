"""Acquisition masks made of points, for two phase-encode axes: random, Gaussian, Poisson discs, CAIPI.

All are bool `(ky, kx)`, hold a centre block, and hold nothing before the `first` line (partial Fourier). A
2-D scan cannot acquire them: there they are "for comparison with the papers".
"""

from __future__ import annotations

from functools import lru_cache
from math import hypot, log, sqrt

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.sampling.centre import Shape, acs_size, centre_block, lines_from
from noref.sampling.draw import draw
from noref.sampling.poisson import poisson_points
from noref.seeding import Key

WIDTH = 0.35 / sqrt(8 * log(2))
"""Standard deviation of the Gaussian of points, as a share of the matrix: half as dense at 0.35 across."""


def acs_block(shape: Shape, acs: float) -> Shape:
    """`(rows, columns)` of the centre block."""
    return min(acs_size(acs, shape[0]), shape[0]), min(acs_size(acs, shape[1]), shape[1])


def random_points(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A sampled centre block and random points of variable density, in exact number `ky·kx / R`.

    Outside the block the density falls as `(1 − r)³`, `r` the distance from the centre over that of the
    corners.
    """
    ky, kx = (torch.arange(n, dtype=torch.float64).sub(n // 2).div(n / 2) for n in shape)
    radius = torch.sqrt(ky[:, None] ** 2 + kx**2) / 2**0.5
    return _drawn_points(shape, acceleration, acs, key, first, 3 * torch.log((1 - radius).clamp_min(1e-3)))


def gaussian_points(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A sampled centre block and random points of Gaussian density, in exact number `ky·kx / R`.

    Drawn one after the other with probability proportional to `exp(−½ (v² + u²))`, v and u the distances from
    the centre over `0.149 ky` and `0.149 kx`: a full width at half maximum of 0.35 of k-space, or 0.7 of its
    half, as in the papers. The corners are hardly ever sampled.

    Source: Lønning et al., Med. Image Anal. 2019, 53:64 (RIM); ATOMMIC's `Gaussian2DMaskFunc`.
    """
    ky, kx = (torch.arange(n, dtype=torch.float64).sub(n // 2).div(WIDTH * n) for n in shape)
    return _drawn_points(shape, acceleration, acs, key, first, -0.5 * (ky[:, None] ** 2 + kx**2))


def _drawn_points(
    shape: Shape, acceleration: float, acs: float, key: Key, first: int, log_weight: Tensor
) -> Tensor:
    block = centre_block(shape, *acs_block(shape, acs))
    others = round(shape[0] * shape[1] / acceleration) - int(block.sum())
    candidates = ~block & lines_from(first, shape[0])[:, None]
    return block | draw(candidates, max(others, 0), key, log_weight)


def poisson(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A sampled centre block and variable-density Poisson discs, in exact number `ky·kx / R`.

    See `poisson_points`.
    """
    return _poisson(shape, acceleration, acs, key, first, corners=True)


def poisson_elliptical(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """The same without the corners of k-space, as SigPy's: nothing is sampled beyond the ellipse.

    Raises:
        NorefError: if the ellipse holds fewer points.
    """
    return _poisson(shape, acceleration, acs, key, first, corners=False)


def _poisson(shape: Shape, acceleration: float, acs: float, key: Key, first: int, *, corners: bool) -> Tensor:
    block = acs_block(shape, acs)
    count = round(shape[0] * shape[1] / acceleration)
    others = poisson_points(shape, block, max(count - block[0] * block[1], 0), key, corners, first)
    mask = centre_block(shape, *block) | others
    if int(mask.sum()) < count:
        raise NorefError(
            f"mask poisson-elliptical: all of the ellipse is {mask.numel() / int(mask.sum()):.2f}-fold "
            f"undersampled, acceleration {acceleration:g} is less; raise it, or use mask poisson"
        )
    return mask


def caipi(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A centre block and a regular lattice that shifts from row to row, from a random offset (CAIPIRINHA).

    Every R₁-th row is sampled, in it every R₂-th point, and the points of a row lie Δ beside those of the
    row before: `R = R₁·R₂` and Δ as `caipi_lattice` chooses them. `R` is that of the lattice: the block makes
    the scan longer.

    Source: Breuer et al., MRM 2006, 55:549.
    """
    rows, columns, shift = caipi_lattice(int(acceleration))
    generator = key.numpy()
    above, beside = int(generator.integers(rows)), int(generator.integers(columns))
    ky, kx = (torch.arange(size) for size in shape)
    number = (ky - above).div(rows, rounding_mode="floor")
    in_row = (kx - beside - shift * number[:, None]) % columns == 0
    sampled = ((ky - above) % rows == 0) & lines_from(first, shape[0])
    return centre_block(shape, *acs_block(shape, acs)) | sampled[:, None] & in_row


@lru_cache(maxsize=64)
def caipi_lattice(acceleration: int) -> tuple[int, int, int]:
    """Of all lattices `(R₁, R₂, Δ)` with `R₁·R₂ = R`, the one whose aliases are farthest apart.

    Aliases of the image lie at `((n − m Δ / R₂) / R₁, m / R₂)` fields of view, for whole n and m. The nearest
    of them is to be as far as possible, and as few as possible are to be as near; a square field of view
    is assumed. Of equals the squarest cell with the smallest shift is taken.
    """

    def nearest(lattice: tuple[int, int, int]) -> tuple[float, int]:
        rows, columns, shift = lattice
        distances = [
            round(hypot((n - m * shift / columns) / rows, m / columns), 9)
            for m in range(-columns, columns + 1)
            for n in range(m * shift // columns - rows, m * shift // columns + rows + 2)
            if (m, n) != (0, 0)
        ]
        return min(distances), -distances.count(min(distances))

    cells = [(r, acceleration // r) for r in range(1, acceleration + 1) if acceleration % r == 0]
    cells.sort(key=lambda cell: (abs(cell[0] - cell[1]), cell))
    lattices = [(rows, columns, shift) for rows, columns in cells for shift in range(columns)]
    return max(lattices, key=nearest)
