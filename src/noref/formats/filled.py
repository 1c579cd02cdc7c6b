"""Lines that a scanner filled in itself, told by its header and by k-space from those that it acquired.

Some files hold k-space after parallel imaging: the header says that every R-th line was acquired, and yet no
line is empty. What lies between was computed (GRAPPA and its kin), and is no measurement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from noref.scan import Scan

Acquired = Literal["header", "all"]
"""Which lines that are not empty count as measured: those that the header's factor tells, or all."""

CALIBRATION_LINES = 24
"""In the centre, where nothing tells how many were acquired for calibration."""

COILS = 8
"""Virtual coils of which lines are fitted by each other."""

WIDTH = 5
"""Neighbours along the read-out by which a sample is fitted."""

EQUATIONS = 8000
"""Samples by which a fit is made, at most."""

CLEARLY = 0.9
"""Ratio of the smallest residual to the next below which it decides. Of full scans it is above."""


def acquired_lines(
    measured: Tensor, acceleration: float, calibration: int | Tensor | None = None, offset: int = 0
) -> Tensor | None:
    """The lines, bool `(ky,)`, that were acquired of a k-space that was filled in; None where it was not.

    It was where the header tells a whole R > 1, yet no line is empty between the first and the last, and
    these are at least half of all. Acquired is then every R-th line, and the calibration lines.

    Args:
        measured: bool `(ky, kx)`, samples that are not empty.
        acceleration: R as the header tells it.
        calibration: the calibration lines, bool `(ky,)`, or how many of them lie around the centre;
            `CALIBRATION_LINES` if None.
        offset: of the lines from the centre at `ky // 2`, see `offset_of`.
    """
    ky = measured.shape[0]
    lines = measured.any(-1)
    found = lines.nonzero().flatten()
    factor = round(acceleration)
    if factor < 2 or abs(acceleration - factor) > 1e-3 or len(found) < ky / 2:
        return None
    if len(found) <= int(found[-1] - found[0]):
        return None
    from_centre = torch.arange(ky) - ky // 2
    if not isinstance(calibration, Tensor):
        count = CALIBRATION_LINES if calibration is None else calibration
        calibration = (from_centre >= -(count // 2)) & (from_centre < count - count // 2)
    return lines & (((from_centre - offset) % factor == 0) | calibration)


def offset_of(kspace: Tensor, factor: int) -> int:
    """How far the acquired lines of a k-space that was filled in lie from its centre, `0 ≤ offset < R`.

    Computed lines are sums over the coils and neighbours of acquired ones (Griswold et al., MRM 2002,
    47:1202), and acquired ones, with noise of their own, are not. For every offset those that it says were
    computed, Z, are fitted by the two beside them that it says were acquired, Y: `min_W ‖Y W − Z‖²`. The one
    with the smallest residual is right if it is clearly the smallest; else, and for a single coil, the line
    in the centre is taken for acquired, as scanners do it.

    Args:
        kspace: complex64 `(coils, ky, kx)`, all lines.
        factor: R.
    """
    coils, ky, kx = kspace.shape
    from_centre = torch.arange(ky) - ky // 2
    # Calibration lines were acquired, whatever the offset; nearest the centre, noise is least of it.
    outside = (from_centre < -(CALIBRATION_LINES // 2)) | (from_centre >= CALIBRATION_LINES // 2)
    outside &= (kspace != 0).any(-1).any(0)
    noisy = (torch.arange(kx) - kx // 2).abs() > kx // 8
    samples = kspace[:, outside][..., noisy].flatten(1)
    if coils == 1 or samples.shape[1] == 0:
        return 0
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    virtual = torch.einsum("cv,cyx->vyx", vectors[:, -COILS:].conj_physical(), kspace).to(torch.complex128)
    windows = torch.nn.functional.pad(virtual, (WIDTH // 2, WIDTH // 2)).unfold(-1, WIDTH, 1)
    residuals = []
    for offset in range(factor):
        total = 0.0
        for step in range(1, factor):
            line = torch.arange(step, ky - factor + step)
            line = line[((line - ky // 2 - offset - step) % factor == 0) & outside[line]]
            beside = torch.cat([windows[:, line - step], windows[:, line + factor - step]])
            sources = beside[:, :, noisy].permute(1, 2, 0, 3).flatten(0, 1).flatten(1)
            total += _residual(sources, virtual[:, line][..., noisy].flatten(1).T)
        residuals.append(total)
    smallest, next_ = sorted(residuals)[:2]
    return residuals.index(smallest) if smallest < CLEARLY * next_ else 0


def _residual(sources: Tensor, targets: Tensor) -> float:
    """Share of the targets' energy `(samples, coils)` that sources `(samples, unknowns)` do not explain.

    Infinite where there are not more samples than unknowns.
    """
    every = -(-len(sources) // EQUATIONS) or 1
    sources, targets = sources[::every], targets[::every]
    spare = len(sources) - sources.shape[1]
    if spare <= 0:
        return float("inf")
    normal = sources.mH @ sources
    normal.diagonal().add_(1e-6 * normal.diagonal().real.mean())
    left = targets - sources @ torch.linalg.solve(normal, sources.mH @ targets)
    shares = left.abs().square().sum(0) / targets.abs().square().sum(0)
    return float(shares.mean()) * len(sources) / spare


def without_filled(scan: Scan, lines: Tensor) -> Scan:
    """The scan of the acquired lines alone; its header tells how many were left out.

    Args:
        scan: as read, on the Cartesian grid.
        lines: bool `(ky,)`, from `acquired_lines`.
    """
    kept = scan.measured & lines[:, None]
    left_out = int((scan.measured.any(-1) & ~lines).sum())
    return replace(
        scan,
        kspace=torch.where(kept, scan.kspace, 0),
        measured=kept,
        mask=scan.mask & kept,
        header=replace(scan.header, filled_lines=left_out),
    )
