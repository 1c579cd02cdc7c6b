"""The fully sampled centre of k-space, from which coil maps are made."""

from __future__ import annotations

import torch
from torch import Tensor

from noref.scan import Scan


def acs_box(mask: Tensor) -> tuple[slice, slice]:
    """The fully sampled block around the centre of k-space, as slices along ky and kx.

    Of all rectangles that hold the centre sample `(ky // 2, kx // 2)` and nothing unsampled, the one whose
    shorter side is longest, and among those the one of the largest area: a block of whole lines gives
    lines × read-out, and a square centre is never traded for a long thin strip through it. The slices are
    empty (`0:0`) where the centre is not sampled.

    Args:
        mask: bool `(ky, kx)`.
    """
    ky, kx = mask.shape
    centre_y, centre_x = ky // 2, kx // 2
    if not mask[centre_y, centre_x]:
        return slice(0, 0), slice(0, 0)
    # How far each row is sampled without a gap, from the centre column to either side.
    left = mask[:, : centre_x + 1].flip(1).long().cumprod(1).sum(1)
    right = mask[:, centre_x:].long().cumprod(1).sum(1)
    # The same for all rows from the centre row to the i-th above and to the j-th below it.
    above = torch.stack((left, right))[:, : centre_y + 1].flip(1).cummin(1).values
    below = torch.stack((left, right))[:, centre_y:].cummin(1).values
    reach = torch.minimum(above[:, :, None], below[:, None, :])
    rows_above = torch.arange(above.shape[1], device=mask.device)
    rows_below = torch.arange(below.shape[1], device=mask.device)
    height = rows_above[:, None] + rows_below + 1
    width = torch.where((reach > 0).all(0), reach.sum(0) - 1, 0)
    area = height * width
    best = int((torch.minimum(height, width) * (ky * kx + 1) + area).argmax())
    up, down = divmod(best, below.shape[1])
    to_left, to_right = (int(extent) for extent in reach[:, up, down])
    return (
        slice(centre_y - up, centre_y + down + 1),
        slice(centre_x - to_left + 1, centre_x + to_right),
    )


def calibration(scan: Scan) -> Tensor:
    """What maps may be made of: complex64 `(coils, ky, kx)`, the centre of k-space at `N // 2`.

    The scan's separate calibration k-space if it has one; otherwise the part of the fully sampled block of
    Ω∖Γ that lies evenly around the centre, empty where the centre was not sampled.
    """
    if scan.calibration is not None:
        return scan.calibration
    box = acs_box(scan.allowed)
    rows, columns = (_centred(side, size // 2) for side, size in zip(box, scan.shape, strict=True))
    return scan.kspace[..., rows, columns]


def _centred(side: slice, centre: int) -> slice:
    """The longest part of a side whose own middle, `length // 2`, is the centre."""
    below, above = centre - side.start, side.stop - centre
    if above <= 0:
        return slice(0, 0)
    reach = min(below, above)
    return slice(centre - reach, centre + reach + (above > below))
