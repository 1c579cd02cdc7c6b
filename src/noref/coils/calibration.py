"""The fully sampled centre of k-space, from which coil maps are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
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
    sampled = mask.cpu().numpy()
    # No other rows than those without a gap in the centre column.
    rise, fall = (
        int(_run(side[None])[0]) for side in (sampled[centre_y::-1, centre_x], sampled[centre_y:, centre_x])
    )
    rows = sampled[centre_y - rise + 1 : centre_y + fall]
    # How far each row is sampled without a gap, from the centre column to either side.
    sides = np.stack((_run(rows[:, centre_x::-1]), _run(rows[:, centre_x:])))
    # The same for all rows from the centre row to the i-th above and to the j-th below it.
    above = np.minimum.accumulate(sides[:, rise - 1 :: -1], 1)
    below = np.minimum.accumulate(sides[:, rise - 1 :], 1)
    reach = np.minimum(above[:, :, None], below[:, None, :])
    height = np.arange(rise)[:, None] + np.arange(fall) + 1
    width = reach.sum(0) - 1
    area = height * width
    best = int((np.minimum(height, width) * (ky * kx + 1) + area).argmax())
    up, down = divmod(best, below.shape[1])
    to_left, to_right = (int(extent) for extent in reach[:, up, down])
    return (
        slice(centre_y - up, centre_y + down + 1),
        slice(centre_x - to_left + 1, centre_x + to_right),
    )


def _run(rows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Length of the run of sampled positions that each row begins with."""
    length: NDArray[np.intp] = np.where(rows.all(1), rows.shape[1], (~rows).argmax(1))
    return length


def calibration(scan: Scan) -> Tensor:
    """What maps may be made of: complex64 `(coils, ky, kx)`, the centre of k-space at `N // 2`.

    The scan's separate calibration k-space if it has one; otherwise the part of the fully sampled block of
    Ω∖Γ that lies evenly around the centre, empty where the centre was not sampled.

    Raises:
        NorefError: if the separate calibration is of other coils than the scan.
    """
    if scan.calibration is None:
        return centred_block(scan.kspace, scan.allowed)
    if len(scan.calibration) != scan.coils:
        raise NorefError(
            f"{scan.id}: a calibration scan of {len(scan.calibration)} coils, but {scan.coils} in the image; "
            "give one of the same coils"
        )
    return scan.calibration


def centred_block(kspace: Tensor, mask: Tensor) -> Tensor:
    """The part of the fully sampled block that lies evenly around the centre; empty without one.

    Args:
        kspace: `(coils, ky, kx)`.
        mask: bool `(ky, kx)`.
    """
    rows, columns = (_centred(side, size // 2) for side, size in zip(acs_box(mask), mask.shape, strict=True))
    return kspace[..., rows, columns]


def _centred(side: slice, centre: int) -> slice:
    """The longest part of a side whose own middle, `length // 2`, is the centre."""
    below, above = centre - side.start, side.stop - centre
    if above <= 0:
        return slice(0, 0)
    reach = min(below, above)
    return slice(centre - reach, centre + reach + (above > below))
