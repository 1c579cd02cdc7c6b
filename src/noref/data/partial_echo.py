"""Cutting the field of view of read-outs of which only a part was measured: partial echoes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from noref.physics import crop_centre, fft1c, ifft1c

OUTSIDE = 0.01
"""μ: the power that is expected of a pixel outside the cut field of view, as a share of one within."""

SIGNAL_ERROR = 0.01
"""The most by which a sample may differ from the full echo's, as a share, of an object white within it."""

NOISE_ERROR = 0.05
"""The most by which the noise power of a sample may differ from that of any other, as a share."""


@lru_cache(maxsize=64)
def cut_weights(before: int, after: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """How samples of the cut field of view are made of a part of the read-out, and which of them can be.

    The full echo's cut is `z = D y`, `D = F_after C Fᴴ_before` with C the centre of the pixels, `D Dᴴ = 1`.
    Of the samples S it is estimated by

        `W = D_S (P_SS + μ (1 − P_SS))⁻¹`, `P = Dᴴ D`,

    the linear estimate of least mean square error where pixels within the field of view have power 1 and
    those outside μ (`OUTSIDE`). With all samples it is D, whatever μ; with μ = 1 the others are filled with
    zeros, which mixes them into every sample. A sample is good where its row of `W D_Sᴴ − 1` has a norm of no
    more than `SIGNAL_ERROR`, and its element of the diagonal of `W Wᴴ − 1`, of white noise, is no more than
    `NOISE_ERROR`: all but about six next to the end of the echo and, as the transform is periodic, four at
    the other end of k-space. Where less than half is cut off it can be a few more.

    Args:
        before: samples of the full read-out.
        after: samples of the cut one.
        first: the first sample that was measured.
        last: the one after the last.

    Returns:
        the rows of W of the good samples, complex64 `(good, last − first)`, and which these are, bool
        `(after,)`.
    """
    whole = torch.eye(before, dtype=torch.complex128)
    # Row n is what a sample n of 1 becomes.
    cut = fft1c(crop_centre(ifft1c(whole), (before, after))).mT[:, first:last]
    within = cut.mH @ cut
    prior = within + OUTSIDE * (whole[first:last, first:last] - within)
    weights = torch.linalg.solve(prior, cut.mH).mH
    signal = torch.linalg.vector_norm(weights @ cut.mH - torch.eye(after), dim=-1)
    noise = weights.abs().square().sum(-1)
    good = (signal <= SIGNAL_ERROR) & ((noise - 1).abs() <= NOISE_ERROR)
    return weights[good].to(torch.complex64).contiguous(), good


def cut_partial(
    kspace: Tensor, measured: Tensor, padding: Tensor, after: int
) -> tuple[Tensor, Tensor, Tensor]:
    """k-space of a field of view cut along the read-out, from what was measured of each line.

    Args:
        kspace: complex64 `(coils, ky, kx)`.
        measured: bool `(ky, kx)`, one stretch of every line, or nothing.
        padding: bool `(ky, kx)`, known zeros.
        after: samples of the cut read-out.

    Returns:
        k-space `(coils, ky, after)`, and what counts as measured and as padding, bool `(ky, after)`. Samples
        that `cut_weights` cannot make are padding next to padding, and else not measured.

    Raises:
        ValueError: if what was measured of a line is not one stretch.
    """
    before = measured.shape[-1]
    cut = kspace.new_zeros(*kspace.shape[:-1], after)
    kept, zeros = (mask.new_zeros(len(mask), after) for mask in (measured, padding))
    places = (torch.arange(after) - after // 2) * (before / after) + before // 2
    kinds, kind = torch.unique(torch.cat([measured, padding], -1), dim=0, return_inverse=True)
    for number, (sampled, known) in enumerate(kinds.unflatten(-1, (2, before))):
        lines = (kind == number).nonzero().flatten()
        reached = sampled if sampled.any() else ~known
        at = reached.nonzero().flatten()
        if len(at) == 0:
            zeros[lines] = True
            continue
        first, last = int(at[0]), int(at[-1]) + 1
        if last - first != len(at):
            raise ValueError("what was measured of a line is not one stretch")
        weights, good = cut_weights(before, after, first, last)
        missing = (~reached).nonzero().flatten()
        if len(missing):
            nearest = missing[(places[:, None] - missing).abs().argmin(-1)]
            zeros[lines] = ~good & known[nearest]
        if sampled.any():
            kept[lines] = good
            columns = good.nonzero().flatten()
            cut[:, lines[:, None], columns] = kspace[:, lines, first:last] @ weights.mT
    return cut, kept, zeros
