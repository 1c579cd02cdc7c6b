"""What a perfect image would score on Γ: the held-out samples have noise of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from noref.data.noise import noise_power
from noref.errors import NorefError
from noref.sampling.density import inverse_density
from noref.scan import Scan


@dataclass(frozen=True)
class Floor:
    """The noise floor of a scan's Γ.

    Attributes:
        value: to be compared with Γ; None if nothing tells the noise.
        source: where the noise was measured, or why it could not be.
    """

    value: float | None
    source: str


def noise_floor(scan: Scan) -> Floor:
    """The Γ to expect of the noiseless image, `Σ_Γ w Σ_c σ_c² / Σ_Γ w Σ_c |y_c|²`, `w` as in `holdout_error`.

    The image predicts the held-out signal exactly, and of the noise in it nothing, which was never shown.
    σ is that of `noise_power`: of the noise scans, or an upper bound from the border of k-space, with which
    the floor is one, too.

    Args:
        scan: prepared, with Γ.

    Raises:
        NorefError: if the scan has no Γ.
    """
    if scan.holdout is None or not bool(scan.holdout.any()):
        raise NorefError(f"{scan.id}: no held-out samples to score with; set holdout above 0")
    power, source = noise_power(scan)
    if power is None:
        return Floor(None, source)
    weight = torch.ones(scan.shape) if scan.density is None else inverse_density(scan.density)
    weight = weight * scan.holdout
    # Off the grid k-space was multiplied by the root of its density compensation, and its noise too.
    noise = power.sum() * (1.0 if scan.weights is None else scan.weights.square())
    held = scan.kspace.abs().square().sum(-3)
    return Floor(float((weight * noise).sum() / (weight * held).sum()), source)
