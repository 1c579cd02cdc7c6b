"""The inverse sampling density: what makes a mean over samples stand for a mean over k-space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.sampling.draw import sampled_in_lines
from noref.scan import Scan

CAP = 100.0
"""Largest inverse density; above it a single sample would carry the score."""

_RING = 4.0
"""Cycles per field of view across a ring."""

_COUNTS = 32.0
"""Samples that a smoothing window should expect."""


def _smooth(array: Tensor, widths: tuple[float, float]) -> Tensor:
    """Gaussian smoothing of `(ky, kx)` along both axes, zeros outside."""
    for axis, width in enumerate(widths):
        if width > 0:
            index = torch.arange(array.shape[axis], dtype=array.dtype)
            kernel = torch.exp(-0.5 * ((index[:, None] - index) / width) ** 2)
            array = torch.tensordot(kernel, array, dims=([1], [axis])).movedim(0, axis)
    return array


def sampling_density(
    masks: Sequence[Tensor], independent: int | None = None, padding: Tensor | None = None
) -> Tensor:
    """The probability with which an acquisition holds each sample, from the masks it made.

    One in the centre that every mask holds (the ACS); elsewhere the mean of the masks, at each position under
    the narrowest Gaussian window (0, 1, 2, 4, … samples) that expects 32 samples. A single mask gives its
    local density, `1/R` for equispaced lines.

    Args:
        masks: bool `(ky, kx)` of equal shape; Ω∖Γ of every scan of a data set.
        independent: how many of them were drawn on their own; slices acquired with one mask count once. All
            of them if None.
        padding: bool `(ky, kx)`, samples that no acquisition can hold; none if None.

    Returns:
        float32 `(ky, kx)` in (0, 1], at least `1 / CAP`.
    """
    count, mean = independent or len(masks), torch.zeros(masks[0].shape, dtype=torch.float64)
    lines = True
    for mask in masks:
        mean += mask
        lines = lines and sampled_in_lines(mask)
    mean /= len(masks)
    certain = torch.zeros_like(masks[0])
    certain[acs_box(mean == 1)] = True
    # The certain part and padding are left out of both sums: they must not bleed into what lies beside them.
    inside = ~certain if padding is None else ~(certain | padding)
    inside = inside.to(mean.dtype)
    density, settled = mean, certain
    for width in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        widths = (width, 0.0) if lines else (width, width)
        held, positions = (_smooth(of, widths) for of in (mean * inside, inside))
        density = torch.where(settled, density, held / positions.clamp_min(1e-12))
        settled = settled | (count * held >= _COUNTS)
        if bool(settled.all()):
            break
    density = torch.where(certain, 1.0, density).clamp(1 / CAP, 1)
    return density.to(torch.float32)


def ring_density(scan: Scan) -> Tensor:
    """The density of a scan off the grid: how much of k-space Ω∖Γ covers, ring by ring around the centre.

    `p(|k|) = Σ w_j / n` over the samples of Ω∖Γ in a ring, four cycles per field of view wide, that holds n
    positions of the grid, over its largest value. Radial and spiral trajectories are alike in all directions.

    Args:
        scan: with its trajectory and weights.

    Returns:
        float32 `(ky, kx)` in (0, 1], at least `1 / CAP`.
    """
    assert scan.trajectory is not None
    assert scan.weights is not None
    y, x = (torch.arange(n) - n // 2 for n in scan.matrix)
    cells = _ring(torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).to(torch.float32))
    rings = _ring(scan.trajectory)
    count = int(torch.maximum(cells.max(), rings.max())) + 1
    area = torch.bincount(cells.flatten(), minlength=count)
    covered = torch.bincount(
        rings.flatten(), (scan.allowed * scan.weights.square()).flatten().double(), minlength=count
    )
    density = covered / area.clamp_min(1)
    return (density / density.max()).clamp(1 / CAP, 1)[rings].to(torch.float32)


def _ring(places: Tensor) -> Tensor:
    radius: Tensor = torch.linalg.vector_norm(places, dim=-1)
    return (radius / _RING).long()


def density_beside(density: Tensor, hidden: Tensor, share: float | Tensor) -> Tensor:
    """The probability with which a sample is there to be graded, knowing which samples are shown.

    One where it is shown. Elsewhere it was acquired and held back, or never acquired,

        P(k ∈ Ω | k not shown) = p q / (1 − p (1 − q)),

    p its density, q the share held back. With its inverse as weight the loss on Ω is an unbiased estimate of
    what a reference would give for the same input: shown samples count once, the hidden ones for all the
    rest. It is `(1 − K)⁻¹` of Millard & Chiew (arXiv 2205.10278), with 1 where a sample is shown, not 0.

    Args:
        density: p, `(ky, kx)`.
        hidden: bool `(ky, kx)`, samples of Ω that are held back.
        share: q, the probability with which a sample that may be held back is; one for all, or `(ky, kx)`.
    """
    beside = density * share / (1 - density * (1 - share))
    return torch.where(hidden, beside, torch.ones_like(beside))


def inverse_density(density: Tensor) -> Tensor:
    """`1 / p`, capped at `CAP`."""
    return density.reciprocal().clamp(max=CAP)
