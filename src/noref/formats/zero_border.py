"""Zeros that an interpolation put around k-space, told from samples that were left out."""

from __future__ import annotations

import torch
from torch import Tensor

REPEATED = 4
"""Equal gaps between lines from which on these are taken to be evenly spaced."""


def zero_border(measured: Tensor) -> Tensor | None:
    """Known zeros around k-space, bool `(ky, kx)`; None where there are none.

    Outer rows and columns that are empty on both sides of the centre are known zeros if what lies inside is
    full, or evenly spaced but for the calibration lines, and they are more than the widest gap inside. What
    is missing on one side alone was left out by partial Fourier or a partial echo. Of random lines and of
    points nobody can tell.

    Args:
        measured: bool `(ky, kx)`, samples that are not zero.
    """
    lines, samples = measured.any(1), measured.any(0)
    if not torch.equal(measured, lines[:, None] & samples):
        return None
    found = _outside(lines)[:, None] | _outside(samples)
    return found if bool(found.any()) else None


def zero_columns(measured: Tensor) -> Tensor | None:
    """The same of a file of read-outs, none of which reaches the columns at the ends.

    Args:
        measured: bool `(ky, kx)`, what the read-outs hold.
    """
    outside = _beyond(measured.any(0))
    return outside.expand(measured.shape).clone() if bool(outside.any()) else None


def _outside(sampled: Tensor) -> Tensor:
    """Which positions `(n,)` lie around what was sampled, if that is full or evenly spaced; else none."""
    none, at = torch.zeros_like(sampled), sampled.nonzero().flatten()
    if len(at) < 2:
        return none
    gaps = at.diff()
    widest = int(gaps.max())
    # Where the calibration lines begin and end, the spacing may be less.
    others = int(((gaps != 1) & (gaps != widest)).sum())
    if widest > 1 and (others > 2 or int((gaps == widest).sum()) < REPEATED):
        return none
    outside = _beyond(sampled)
    sides = outside[: len(sampled) // 2].sum(), outside[len(sampled) // 2 :].sum()
    return outside if min(map(int, sides)) > widest else none


def _beyond(sampled: Tensor) -> Tensor:
    """Positions `(n,)` farther from the centre than any that was sampled; none where one end was."""
    size, centre = len(sampled), len(sampled) // 2
    at = sampled.nonzero().flatten()
    if len(at) == 0:
        return torch.zeros_like(sampled)
    first, last = int(at[0]), int(at[-1])
    below, above = centre - first, last - centre + 1
    if centre == below or centre + above == size:
        return torch.zeros_like(sampled)
    if abs(below - above) > 1:
        # The longer side tells the resolution.
        below = above = max(below, above)
    position = torch.arange(size)
    return (position < centre - below) | (position >= centre + above)
