"""How much noise a scan holds, and how well one can score against a reference that holds it too."""

from __future__ import annotations

import math

import torch

from noref.scan import Scan

MIN_SAMPLES = 50
"""Fewer samples than this say nothing about the noise."""


def noise_level(scan: Scan) -> tuple[float | None, str]:
    """Standard deviation σ of complex noise in one sample of the median coil, and the region it is from.

    `σ² = median |y|² / ln 2` over measured samples in the corners of k-space, or along its border if the
    corners were not measured. Signal that reaches there makes it an upper bound.
    """
    radius = [(torch.arange(n) - n // 2).abs() / (n / 2) for n in scan.shape]
    y, x = radius[0][:, None], radius[1][None, :]
    for region, where in (("corners", torch.minimum(y, x) > 0.85), ("border", torch.maximum(y, x) > 0.9)):
        chosen = where & scan.measured
        if int(chosen.sum()) >= MIN_SAMPLES:
            power = scan.kspace[..., chosen].abs().square().median(-1).values / math.log(2)
            return float(power.median().sqrt()), region
    return None, "too little of the border of k-space was measured"


def ceiling_psnr(scan: Scan) -> float | None:
    """The PSNR in dB that the noiseless image would reach against the scan's noisy reference.

    `20·log10(max |x| / (σ/√2))`: maps of unit norm leave σ as it is, and of complex noise only the part along
    the image's phase moves its magnitude. As `noise_level` may count signal as noise, the true ceiling may be
    higher. None where there is no reference, or it was made of noiseless k-space.
    """
    level, _ = noise_level(scan)
    if scan.reference is None or scan.clean is not None or not level:
        return None
    return 20 * math.log10(float(scan.reference.abs().max()) * math.sqrt(2) / level)
