"""How much noise a scan holds, and how well one can score against a reference that holds it too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noref.coils.whitening import MIN_SAMPLES, noise_region
from noref.scan import Scan

_TOO_LITTLE = "too little of the border of k-space was measured"


def noise_level(scan: Scan) -> tuple[float | None, str]:
    """Standard deviation σ of complex noise in one sample of the median coil, and the region it is from.

    Off the Cartesian grid it is that of a sample before its density compensation.

    `σ² = median |y|² / ln 2` over measured samples in the corners of k-space, or along its border if the
    corners were not measured. Signal that reaches there makes it an upper bound.
    """
    if scan.trajectory is not None:
        return _border_of_trajectory(scan, scan.trajectory)
    chosen, found = noise_region(scan.shape, scan.measured)
    return (None if chosen is None else _level(scan.kspace[..., chosen])), found


def _border_of_trajectory(scan: Scan, trajectory: Tensor) -> tuple[float | None, str]:
    far = torch.linalg.vector_norm(trajectory, dim=-1)
    chosen = (far > 0.9 * far[scan.measured].max()) & scan.measured
    if int(chosen.sum()) < MIN_SAMPLES:
        return None, _TOO_LITTLE
    kspace = scan.kspace if scan.weights is None else scan.kspace / scan.weights
    return _level(kspace[..., chosen]), "border"


def _level(samples: Tensor) -> float:
    power = samples.abs().square().median(-1).values / math.log(2)
    return float(power.median().sqrt())


def ceiling_psnr(volume: Sequence[Scan]) -> float | None:
    """The PSNR in dB that the noiseless volume would reach against its noisy reference.

    `20·log10(max |x|) − 10·log10(mean e²)` over all slices, in the file's units, with the error to expect in
    each pixel: `e² = σ²/2` on the object, where only the part of complex noise along the image's phase moves
    its magnitude; `σ²` where there is none (`|x| < 2σ`), and 0 outside the maps. Maps of unit norm leave σ as
    it is. As `noise_level` may count signal as noise, the true ceiling may be higher. None where a slice has
    no reference, or it was made of noiseless k-space or off the Cartesian grid.

    Args:
        volume: the slices that PSNR is taken over.
    """
    peak, errors = 0.0, []
    for scan in volume:
        level, _ = noise_level(scan)
        known = scan.reference is not None and scan.clean is None and scan.trajectory is None
        if scan.reference is None or not (known and level):
            return None
        image = scan.reference.abs().square().sum(0).sqrt()
        error = torch.where(image < 2 * level, level**2, level**2 / 2) * (image > 0)
        peak = max(peak, float(image.max()) * abs(scan.scale))
        errors.append(error.mean() * abs(scan.scale) ** 2)
    return 20 * math.log10(peak) - 10 * math.log10(float(torch.stack(errors).mean()))
