"""Trajectories of radial acquisitions: the spokes that a scanner measures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2
"""Angle between successive golden-angle spokes, 111.25° (Winkelmann et al., IEEE TMI 2007, 26:68)."""


def radial(spokes: int, samples: int, golden: bool = False, spacing: float = 0.5) -> Tensor:
    """Full spokes through the centre of k-space, the sample `samples // 2` in the centre.

    Spoke i lies at the angle `2πi / spokes` from the x axis towards y; for even numbers that is every
    direction twice, there and back. With `golden` at `i · 111.25°`.

    Args:
        spokes: number of read-outs.
        samples: of each.
        golden: golden angles; evenly spaced ones otherwise.
        spacing: of the samples, cycles per field of view: 0.5 where the read-out is twice oversampled.

    Returns:
        float32 `(spokes, samples, 2)`, cycles per field of view along y and x.
    """
    step = GOLDEN if golden else 2 * math.pi / spokes
    angles = step * torch.arange(spokes, dtype=torch.float64)
    radius = spacing * (torch.arange(samples, dtype=torch.float64) - samples // 2)
    along = torch.stack((angles.sin(), angles.cos()), -1)
    return (radius[None, :, None] * along[:, None]).to(torch.float32)


def turned(trajectory: Tensor, angle: float) -> Tensor:
    """A trajectory `(…, 2)`, y first, turned from the x axis towards y, in radians."""
    y, x = trajectory.unbind(-1)
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.stack((cosine * y + sine * x, cosine * x - sine * y), -1)
