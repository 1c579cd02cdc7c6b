"""Supervised training, for proxies and as the oracle row of every table."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.data.prepare import reference_of
from noref.errors import NorefError
from noref.methods.base import Method
from noref.methods.motion import draw_motion, move
from noref.methods.view import View
from noref.physics import fft2c, ifft2c
from noref.scan import Scan, padding_of
from noref.seeding import Key


class Supervised(Method):
    """The network sees Ω and is graded on the full scan, in k-space and against its reference image.

    Args:
        augment: whether object and coils, noise included, are moved anew each epoch: mirrored, turned and
            shifted as `draw_motion` has it, then undersampled by the scan's mask. Fabian et al., ICML 2021,
            have more motions.
    """

    def __init__(self, augment: bool = False) -> None:
        super().__init__()
        self.augment = augment

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Ω shown, all but the padding graded; off the grid all that was measured.

        Raises:
            NorefError: if the scan has no reference; or is to be moved, but off the grid.
        """
        if scan.reference is None:
            raise NorefError(
                f"{scan.id}: supervised training needs fully sampled scans, and this one has no reference "
                "that it may learn from; use the recipe default or ssdu"
            )
        if self.augment:
            if scan.trajectory is not None:
                raise NorefError(
                    f"{scan.id}: sampled off the Cartesian grid, where images cannot be moved; leave out "
                    "augment"
                )
            scan = moved_scan(scan, key.fold("move"))
        # Noiseless k-space lies on the grid: off it the samples themselves are the goal.
        goal = scan.kspace if scan.clean is None or scan.trajectory is not None else scan.clean
        return [View(scan, scan.mask, goal, weight=~padding_of(scan), image=scan.reference)]


def moved_scan(scan: Scan, key: Key) -> Scan:
    """The scan with object and coils moved by T, which is drawn: `F T Fᴴ y`, the maps `T S`, and their image.

    Its scale stays what it was, though a turned centre of k-space may hold a tenth more or less.

    Args:
        scan: fully sampled but for the padding, on the grid.
        key: draws T.
    """
    motion = draw_motion(scan.shape, key)

    def along(kspace: Tensor) -> Tensor:
        return torch.where(scan.measured, fft2c(move(ifft2c(kspace), motion)), 0)

    moved = replace(
        scan,
        kspace=along(scan.kspace),
        clean=None if scan.clean is None else along(scan.clean),
        maps=None if scan.maps is None else move(scan.maps, motion),
        # Neither shown nor graded, and not moved.
        calibration=None,
        density=None,
        rss=None,
    )
    # Not the reference moved: turned or mirrored, it may hold what the padding says is zero.
    return replace(moved, reference=reference_of(moved))
