"""Acquisition masks made of whole read-out lines: random, Gaussian, evenly spaced.

All are bool `(ky, kx)`, hold the ACS, and hold no line before the `first` one (partial Fourier).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noref.sampling.centre import Shape, acs_size, centre_lines, lines_from
from noref.sampling.draw import draw
from noref.seeding import Key

WIDTH = 0.1
"""Standard deviation of the Gaussian of lines, as a share of the matrix."""


def random_lines(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """The ACS and uniformly random lines (fastMRI's random mask), their number exactly `ky / R`."""
    return _drawn_lines(shape, acceleration, acs, key, first, None)


def gaussian_lines(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """The ACS and random lines of Gaussian density over a uniform one, their number exactly `ky / R`.

    Drawn one after the other with probability proportional to

        w(k) = exp(−½ ((k − ky/2) / (ky/10))²) + 1 / (2R).

    Source: Schlemper et al., IEEE TMI 2018, 37:491, as in DeepInverse's `GaussianMaskGenerator`, with which
    SSIBench (arXiv 2502.14009) undersamples.
    """
    size = shape[0]
    k = (torch.arange(size, dtype=torch.float64) - size / 2) / (WIDTH * size)
    weight = torch.exp(-0.5 * k**2) + 1 / (2 * acceleration)
    return _drawn_lines(shape, acceleration, acs, key, first, weight.log())


def _drawn_lines(
    shape: Shape, acceleration: float, acs: float, key: Key, first: int, log_weight: Tensor | None
) -> Tensor:
    size = shape[0]
    centre = centre_lines(acs_size(acs, size), size)
    others = round(size / acceleration) - int(centre.sum())
    lines = centre | draw(~centre & lines_from(first, size), max(others, 0), key, log_weight)
    return _whole(lines, shape)


def equispaced_lines(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """The ACS and every n-th line from a random offset, n such that ACS and lines together give `R`.

    fastMRI's `EquispacedMaskFractionFunc`: `n = R (a − K) / (a R − N)` for `a` ACS lines, `K` of `N` lines
    that partial Fourier leaves. n is no whole number, places are rounded.
    """
    size, low = shape[0], acs_size(acs, shape[0])
    lines = centre_lines(low, size)
    if low * acceleration < size:
        spacing = acceleration * (low - (size - first)) / (low * acceleration - size)
        offset = first + int(key.numpy().integers(0, max(round(spacing), 1)))
        positions = np.around(np.arange(offset, size - 1, spacing)).astype(int)
        lines[torch.from_numpy(positions)] = True
    return _whole(lines, shape)


def regular_lines(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """Exactly every R-th line from a random offset, and the ACS, as scanners acquire for GRAPPA.

    `R` is the spacing: the ACS makes the scan longer. fastMRI's `EquiSpacedMaskFunc`.
    """
    size, spacing = shape[0], int(acceleration)
    lines = torch.zeros(size, dtype=torch.bool)
    lines[int(key.numpy().integers(0, spacing)) :: spacing] = True
    return _whole(_with_acs(lines, acs, first), shape)


def magic_lines(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """The ACS, and every R-th line with another offset on either side of the centre.

    Mirrored at the centre, lines of one side lie two beside those of the other: for `R = 4` midway, so that
    an image that is nearly real was seen at twice as many lines. With p drawn from `0 … R − 1`, the lines
    are `k₀ + n R` and `−k₁ − n R` with `(k₀, k₁) = (p + 1, p + 3)` for even p, `(p + 2, p)` for odd p.
    `R` is the spacing: the ACS makes the scan longer.

    Source: Defazio, arXiv 1912.01101; fastMRI's `MagicMaskFunc`.
    """
    size, spacing = shape[0], int(acceleration)
    p = int(key.numpy().integers(0, spacing))
    above, below = (p + 1, p + 3) if p % 2 == 0 else (p + 2, p)
    k = torch.arange(size) - size // 2
    lines = ((k >= above) & ((k - above) % spacing == 0)) | ((k <= -below) & ((k + below) % spacing == 0))
    return _whole(_with_acs(lines, acs, first), shape)


def _with_acs(lines: Tensor, acs: float, first: int) -> Tensor:
    size = len(lines)
    return lines & lines_from(first, size) | centre_lines(acs_size(acs, size), size)


def _whole(lines: Tensor, shape: Shape) -> Tensor:
    return lines[:, None].expand(shape).clone()
