"""Trajectories of radial acquisitions: the spokes that a scanner measures, evenly spread or golden."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2
"""Angle between successive golden-angle spokes, 111.25° (Winkelmann et al., IEEE TMI 2007, 26:68)."""


def golden_angle(tiny: int = 1) -> float:
    """The n-th tiny golden angle `ψ_n = π / (φ + n − 1)` in radians, φ the golden ratio; `GOLDEN` for n = 1.

    Source: Wundrak et al., IEEE TMI 2015, 34:1262.
    """
    return math.pi / ((1 + math.sqrt(5)) / 2 + tiny - 1)


def spoke_angles(
    spokes: int, golden: bool = False, *, half: bool = False, tiny: int = 1, start: float = 0.0
) -> Tensor:
    """The angles of spokes in radians, float64 `(spokes,)`.

    Args:
        spokes: number of read-outs.
        golden: each by the golden angle beyond the one before; evenly spaced ones otherwise.
        half: evenly over the half circle, which is every direction once; over the full one otherwise, which
            for even numbers is every direction twice, there and back.
        tiny: number of the tiny golden angle; 1 is the golden angle itself.
        start: angle of the first.
    """
    step = golden_angle(tiny) if golden else (1 if half else 2) * math.pi / spokes
    return start + step * torch.arange(spokes, dtype=torch.float64)


def radial(
    spokes: int,
    samples: int,
    golden: bool = False,
    spacing: float = 0.5,
    *,
    half: bool = False,
    tiny: int = 1,
    start: float = 0.0,
) -> Tensor:
    """Full spokes through the centre of k-space: `(ky, kx) = Δ (j − samples // 2) (sin θ_i, cos θ_i)`.

    θ is the angle from the x axis towards y, as `spoke_angles` gives it.

    Args:
        spokes: number of read-outs.
        samples: of each, the sample `samples // 2` in the centre.
        golden: golden angles; evenly spaced ones otherwise.
        spacing: Δ, cycles per field of view: 0.5 where the read-out is twice oversampled.
        half: evenly over the half circle.
        tiny: number of the tiny golden angle.
        start: angle of the first spoke in radians.

    Returns:
        float32 `(spokes, samples, 2)`, cycles per field of view along y and x.
    """
    angles = spoke_angles(spokes, golden, half=half, tiny=tiny, start=start)
    radius = spacing * (torch.arange(samples, dtype=torch.float64) - samples // 2)
    along = torch.stack((angles.sin(), angles.cos()), -1)
    return (radius[:, None] * along[:, None]).to(torch.float32)


def turned(trajectory: Tensor, angle: float) -> Tensor:
    """A trajectory `(…, 2)`, y first, turned from the x axis towards y, in radians."""
    y, x = trajectory.unbind(-1)
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.stack((cosine * y + sine * x, cosine * x - sine * y), -1)
