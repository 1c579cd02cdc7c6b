"""What a reconstruction added to what was acquired, and where."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noref.acceptance.candidates import Candidate, Made, by_classical
from noref.data.noise import noise_power
from noref.scan import Scan, encoding_of, padding_of


@dataclass(frozen=True)
class Added:
    """The difference between a reconstruction and the image of the acquired samples alone.

    Attributes:
        energy: of the difference in k-space over the acquired image's: `‖F S (x̂ − x_a)‖² / ‖F S x_a‖²`.
        unacquired: share of it at samples that were not acquired, where nothing contradicts it; None off the
            Cartesian grid.
        residual: `‖y − A x̂‖² / Nσ²` over Ω: 1 fits as well as noise allows, more is a changed measurement;
            None where nothing tells the noise.
    """

    energy: float
    unacquired: float | None
    residual: float | None


def acquired_only(coils: int) -> tuple[str, Candidate]:
    """What shows acquired samples alone: zero-filled for one coil, CG-SENSE for several."""
    name = "zero-filled" if coils == 1 else "cg-sense"
    return name, by_classical(name)


def added(scan: Scan, made: Made, acquired: Made) -> Added:
    """What was added, and at which samples.

    Args:
        scan: prepared.
        made: x̂, from Ω.
        acquired: x_a, by `acquired_only`, from Ω.
    """
    whole = torch.ones_like(scan.mask)
    told, plain = (encoding_of(scan, whole, one.maps).forward(one.image[None])[0] for one in (made, acquired))
    difference = (told - plain).abs().square().sum(-3)
    total, share = float(difference.sum()), None
    if scan.trajectory is None:
        elsewhere = ~(scan.mask | padding_of(scan))
        share = float(difference[elsewhere].sum()) / total if total > 0 else 0.0
    return Added(total / float(plain.abs().square().sum()), share, _residual(scan, told))


def _residual(scan: Scan, told: Tensor) -> float | None:
    power, _ = noise_power(scan)
    if power is None:
        return None
    left = (scan.kspace - told).abs().square().sum(-3)[scan.mask]
    noise = power.sum() * (torch.ones(scan.shape) if scan.weights is None else scan.weights.square())
    return float(left.sum() / noise[scan.mask].sum())
