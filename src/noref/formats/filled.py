"""Lines that a scanner filled in itself, told by its header from those that it acquired.

Some files hold k-space after parallel imaging: the header says that every R-th line was acquired, and yet no
line is empty. What lies between was computed (GRAPPA and its kin), and is no measurement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from noref.scan import Scan

Acquired = Literal["header", "all"]
"""Which lines that are not empty count as measured: those that the header's factor tells, or all."""

CALIBRATION_LINES = 24
"""In the centre, where nothing tells how many were acquired for calibration."""


def acquired_lines(
    measured: Tensor, acceleration: float, calibration: int | Tensor | None = None
) -> Tensor | None:
    """The lines, bool `(ky,)`, that were acquired of a k-space that was filled in; None where it was not.

    It was where the header tells a whole R > 1, yet no line is empty between the first and the last, and
    these are at least half of all. Acquired is then every R-th line, counted from the centre at `ky // 2`,
    and the calibration lines.

    Args:
        measured: bool `(ky, kx)`, samples that are not empty.
        acceleration: R as the header tells it.
        calibration: the calibration lines, bool `(ky,)`, or how many of them lie around the centre;
            `CALIBRATION_LINES` if None.
    """
    ky = measured.shape[0]
    lines = measured.any(-1)
    found = lines.nonzero().flatten()
    factor = round(acceleration)
    if factor < 2 or abs(acceleration - factor) > 1e-3 or len(found) < ky / 2:
        return None
    if len(found) <= int(found[-1] - found[0]):
        return None
    from_centre = torch.arange(ky) - ky // 2
    if not isinstance(calibration, Tensor):
        count = CALIBRATION_LINES if calibration is None else calibration
        calibration = (from_centre >= -(count // 2)) & (from_centre < count - count // 2)
    return lines & ((from_centre % factor == 0) | calibration)


def without_filled(scan: Scan, lines: Tensor) -> Scan:
    """The scan of the acquired lines alone; its header tells how many were left out.

    Args:
        scan: as read, on the Cartesian grid.
        lines: bool `(ky,)`, from `acquired_lines`.
    """
    kept = scan.measured & lines[:, None]
    left_out = int((scan.measured.any(-1) & ~lines).sum())
    return replace(
        scan,
        kspace=torch.where(kept, scan.kspace, 0),
        measured=kept,
        mask=scan.mask & kept,
        header=replace(scan.header, filled_lines=left_out),
    )
