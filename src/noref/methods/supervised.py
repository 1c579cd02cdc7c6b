"""Supervised training, for proxies and as the oracle row of every table."""

from __future__ import annotations

from dataclasses import replace

import torch

from noref.errors import NorefError
from noref.methods.base import Method, need_grid
from noref.methods.motion import move, moved
from noref.methods.view import View
from noref.scan import Scan, encoding_of, padding_of
from noref.seeding import Key


class Supervised(Method):
    """The network sees Ω and is graded on the full scan, in k-space and against its reference image.

    Args:
        augment: whether it is shown scans of moved images, drawn anew each epoch, instead of the scans: the
            reference image, mirrored, turned and shifted by `moved`, is scanned again with the same coils
            and mask (as Fabian et al., arXiv 2106.14947, do with more motions). Noise that is known, of
            simulated scans, is added; other noise is moved with the image that it is in.
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
            need_grid(scan, "where no moved image is scanned again")
            scan = scanned_again(scan, key.fold("move"))
        if scan.reference is None:
            raise NorefError(
                f"{scan.id}: supervised training needs fully sampled scans, and this one has no reference "
                "that it may learn from; use the recipe default or ssdu"
            )
        # Noiseless k-space lies on the grid: off it the samples themselves are the goal.
        goal = scan.kspace if scan.clean is None or scan.trajectory is not None else scan.clean
        return [View(scan, scan.mask, goal, weight=~padding_of(scan), image=scan.reference)]


def scanned_again(scan: Scan, key: Key) -> Scan:
    """`y = A T x + n` of a scan with reference x: the scan of its moved image, and that image.

    Args:
        scan: fully sampled, on the grid; one without reference is given back.
        key: draws T.
    """
    if scan.reference is None:
        return scan
    inside = ~padding_of(scan)
    encoding = encoding_of(scan, inside)
    kspace = encoding.forward(move(scan.reference, moved(scan.shape, key))[None])
    reference = encoding.adjoint(kspace)[0]
    clean, noise = (None, 0) if scan.clean is None else (kspace[0], scan.kspace - scan.clean)
    return replace(
        scan, kspace=torch.where(scan.measured, kspace[0] + noise, 0), clean=clean, reference=reference
    )
