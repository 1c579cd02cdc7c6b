"""Acquisition masks of dynamic scans: one for each frame, which together fill k-space (k-t sampling).

All are bool `(frames, ky, kx)`, made of whole lines.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.sampling.centre import Shape, acs_size, centre_lines
from noref.seeding import Key


def interleaved_lines(frames: int, shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """Every R-th line, in each frame one line further on than in the frame before, and the ACS in all.

    Outside the ACS, R successive frames hold every line once. `R`, a whole number, is the spacing: the ACS
    makes the frames longer; `acs=0` leaves it out, as it is had from the mean over frames.

    Source: Breuer et al., MRM 2005, 53:981 (TGRAPPA); Tsao et al., MRM 2003, 50:1031 (k-t BLAST).
    """
    spacing = int(acceleration)
    offset = int(key.numpy().integers(spacing))
    ky, frame = torch.arange(shape[0]), torch.arange(frames)
    lines = (ky - offset - frame[:, None]) % spacing == 0
    return _whole(lines | centre_lines(acs_size(acs, shape[0]), shape[0]), shape)


def random_frame_lines(frames: int, shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The ACS and random lines, exactly `ky / R` in each frame, drawn over all frames without replacement.

    A frame takes lines that were taken least often by the frames before it, random ones among these. So no
    two frames share a line outside the ACS until all lines were taken, and the numbers of times that lines
    were taken never differ by more than one.
    """
    size = shape[0]
    centre = centre_lines(acs_size(acs, size), size)
    free = np.flatnonzero(~centre.numpy())
    count = min(max(round(size / acceleration) - int(centre.sum()), 0), free.size)
    generator = key.numpy()
    lines, taken = centre.repeat(frames, 1), np.zeros(free.size)
    for frame in lines:
        chosen = np.argsort(taken + generator.random(free.size))[:count]
        taken[chosen] += 1
        frame[torch.from_numpy(free[chosen])] = True
    return _whole(lines, shape)


def _whole(lines: Tensor, shape: Shape) -> Tensor:
    return lines[..., None].expand(-1, *shape).clone()


FRAME_MASKS: dict[str, Callable[[int, Shape, float, float, Key], Tensor]] = {
    "kt-equispaced": interleaved_lines,
    "kt-lines": random_frame_lines,
}


def frame_masks(kind: str, frames: int, shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The masks of one dynamic scan, bool `(frames, ky, kx)`.

    Args:
        kind: a name in `FRAME_MASKS`.
        frames: their number.
        shape: k-space matrix `(ky, kx)`.
        acceleration: `R`, the ACS counted; of `kt-equispaced` the spacing, a whole number.
        acs: calibration lines of every frame, or their share of the matrix if below 1.
        key: of the data set's seed and the scan; without an epoch, so that they are fixed for life.

    Raises:
        NorefError: if the kind is unknown, or the acceleration cannot be had.
    """
    if kind not in FRAME_MASKS:
        raise NorefError(f"mask {kind} is unknown; give {' or '.join(FRAME_MASKS)}")
    low = acs_size(acs, shape[0])
    if kind == "kt-equispaced" and acceleration != int(acceleration):
        raise NorefError(
            f"mask {kind}: acceleration {acceleration:g} is the spacing of lines; give a whole number"
        )
    if kind == "kt-lines" and low * acceleration > shape[0]:
        raise NorefError(
            f"mask {kind}: {low} calibration lines of {shape[0]} leave no room for acceleration "
            f"{acceleration:g}; lower acs or acceleration"
        )
    return FRAME_MASKS[kind](frames, shape, acceleration, acs, key)
