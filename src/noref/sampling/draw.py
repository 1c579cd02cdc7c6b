"""Weighted draws without replacement, in exact counts and bounded work."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from noref.scan import Scan
from noref.seeding import Key


def draw(candidates: Tensor, count: int, key: Key, log_weight: Tensor | None = None) -> Tensor:
    """Exactly `count` of the candidates, one after the other with probability proportional to a weight.

    The Gumbel top-k rule: the `count` largest of `log w + Gumbel noise` are a weighted sample without
    replacement (Kool et al., ICML 2019, arXiv 1903.06059).

    Args:
        candidates: bool, any shape.
        count: how many; at most all candidates.
        key: the stream of random numbers.
        log_weight: logarithm of the weights, shape of `candidates`; equal if None.

    Returns:
        bool, shape of `candidates`.
    """
    positions = np.flatnonzero(candidates.numpy())
    score = key.numpy().gumbel(size=positions.size)
    if log_weight is not None:
        score = score + log_weight.flatten().numpy()[positions]
    count = min(count, positions.size)
    chosen = np.zeros(candidates.numel(), dtype=bool)
    if count:
        chosen[positions[np.argpartition(score, -count)[-count:]]] = True
    return torch.from_numpy(chosen).view_as(candidates)


def lines_of(mask: Tensor) -> Tensor:
    """The phase-encode lines of a mask `(ky, kx)` that hold any sample, bool `(ky, 1)`."""
    # NumPy reduces booleans a hundred times as fast as PyTorch.
    return torch.from_numpy(mask.numpy().any(-1, keepdims=True))


def whole_lines(candidates: Tensor, mask: Tensor) -> Tensor:
    """The lines of `mask` all of whose samples are candidates, bool `(ky, 1)`."""
    return lines_of(candidates) & ~lines_of(mask & ~candidates)


def sampled_in_lines(mask: Tensor) -> bool:
    """Whether a mask `(ky, kx)` was acquired in read-out lines: all its lines hold the same samples."""
    held = mask.numpy()
    return bool((held == (held.any(-1, keepdims=True) & held.any(-2, keepdims=True))).all())


def whole_readouts(scan: Scan) -> bool | None:
    """The `lines` of a draw from a scan's samples: off the grid always; on it as the mask has them."""
    return None if scan.trajectory is None else True


def draw_units(
    candidates: Tensor,
    mask: Tensor,
    share: float,
    key: Key,
    log_weight: Tensor | None = None,
    lines: bool | None = None,
) -> Tensor:
    """A share of a mask's samples, drawn in whole lines or in points.

    Args:
        candidates: bool `(ky, kx)`, samples that may be drawn, a part of `mask`; a line with others is left.
        mask: bool `(ky, kx)`, of which `share` is counted, rounded to whole units, at least one.
        share: between 0 and 1.
        key: the stream of random numbers.
        log_weight: logarithm of each sample's weight `(ky, kx)`; a line weighs as its centre sample does.
        lines: whether lines are drawn; by default in the unit that the mask was acquired in.

    Returns:
        bool `(ky, kx)`.
    """
    units, measured, weight = _units(candidates, mask, log_weight, lines)
    return draw(units, max(round(share * np.count_nonzero(measured.numpy())), 1), key, weight) & candidates


def chance_of_units(
    candidates: Tensor,
    mask: Tensor,
    drawn: Tensor,
    log_weight: Tensor | None = None,
    lines: bool | None = None,
) -> Tensor:
    """The probability with which `draw_units` draws each sample when it draws as many as `drawn` holds.

    `1 − exp(−w t)`, t such that the expected number is right: for equal weights exactly the share of the
    candidates that is drawn, for others the limit of many candidates (Rosén, Ann. Math. Stat. 1972, 43:748).

    Args:
        candidates: bool `(ky, kx)`, samples that may be drawn.
        mask: bool `(ky, kx)`, of which they are a part.
        drawn: bool `(ky, kx)`, samples of which as many are drawn.
        log_weight: logarithm of each sample's weight `(ky, kx)`.
        lines: whether lines are drawn.

    Returns:
        float32 `(ky, kx)`, zero where nothing is drawn.
    """
    units, _, log_weight = _units(candidates, mask, log_weight, lines)
    count = int((drawn.any(-1, keepdim=True) if units.shape[-1] == 1 else drawn).sum())
    weight = torch.ones(units.shape, dtype=torch.float64) if log_weight is None else log_weight.exp().double()
    weight = torch.where(units, weight, 0)
    if count >= int(units.sum()):
        return candidates.to(torch.float32)
    low, high = 0.0, 1.0
    while _expected(weight, high) < count:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(weight, middle) < count else (low, middle)
    return (candidates * -torch.expm1(-weight * high)).to(torch.float32)


def _expected(weight: Tensor, time: float) -> float:
    return float(-torch.expm1(-weight * time).sum())


def _units(
    candidates: Tensor, mask: Tensor, log_weight: Tensor | None, lines: bool | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Candidates, mask and weights, of lines `(ky, 1)` or of points `(ky, kx)`."""
    if lines or (lines is None and sampled_in_lines(mask)):
        weight = None if log_weight is None else log_weight[:, log_weight.shape[1] // 2, None]
        return whole_lines(candidates, mask), lines_of(mask), weight
    return candidates, mask, log_weight
