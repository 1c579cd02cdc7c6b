"""Supervised training, for proxies and as the oracle row of every table."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.methods.base import Method, need_grid
from noref.methods.motion import move, moved
from noref.methods.view import View
from noref.physics import fft2c, ifft2c
from noref.scan import Scan, padding_of
from noref.seeding import Key


class Supervised(Method):
    """The network sees Ω and is graded on the full scan, in k-space and against its reference image.

    Args:
        augment: whether object and coils, noise included, are moved anew each epoch: mirrored, turned and
            shifted as `moved` draws it, and undersampled by the scan's mask (Fabian et al., ICML 2021, who
            have more motions).
    """

    def __init__(self, augment: bool = False) -> None:
        super().__init__()
        self.augment = augment

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Ω shown, all but the padding graded; off the grid all that was measured.

        Raises:
            NorefError: if the scan has no reference; or is to be moved, but off the grid.
        """
        if self.augment:
            need_grid(scan, "where images cannot be moved")
            scan = elsewhere(scan, key.fold("move"))
        if scan.reference is None:
            raise NorefError(
                f"{scan.id}: supervised training needs fully sampled scans, and this one has no reference "
                "that it may learn from; use the recipe default or ssdu"
            )
        # Noiseless k-space lies on the grid: off it the samples themselves are the goal.
        goal = scan.kspace if scan.clean is None or scan.trajectory is not None else scan.clean
        return [View(scan, scan.mask, goal, weight=~padding_of(scan), image=scan.reference)]


def elsewhere(scan: Scan, key: Key) -> Scan:
    """The scan with object and coils moved by T, which is drawn: `F T Fᴴ y`, the maps `T S`, the image `T x`.

    Args:
        scan: fully sampled, on the grid.
        key: draws T.
    """
    taken = moved(scan.shape, key)

    def along(kspace: Tensor) -> Tensor:
        return torch.where(scan.measured, fft2c(move(ifft2c(kspace), taken)), 0)

    return replace(
        scan,
        kspace=along(scan.kspace),
        clean=None if scan.clean is None else along(scan.clean),
        maps=None if scan.maps is None else move(scan.maps, taken.expand(len(scan.maps), -1, -1)),
        reference=None if scan.reference is None else move(scan.reference, taken),
    )
