"""IDR's inner method: show a subset, grade all."""

from __future__ import annotations

from noref.methods.base import Method
from noref.methods.view import View
from noref.sampling.density import density_beside
from noref.sampling.partition import Partition, Share, check_share, draw_share
from noref.scan import Scan
from noref.seeding import Key


class Subset(Method):
    """The network sees Λ̂·y and is graded on all of Ω, Λ̂ included (arXiv 2211.13440, section 2.2).

    Λ̂ keeps the low frequencies and a random share of the rest, drawn anew each time. Weighted by the inverse
    of `density_beside`, the samples of Λ̂ stand for themselves alone, the others for all that was not shown.

    Args:
        share: of Ω that is shown: a number, a pair to draw from, or a list of three or more. Trained only on
            inputs far sparser than the scan, a network is worse on the scan itself: a wide range that comes
            close to 1 is best.
        centre: size of the low-frequency block that is always shown, as a share of the matrix (16 of 256).
    """

    def __init__(self, share: Share = (0.55, 0.95), centre: float = 16 / 256) -> None:
        super().__init__()
        check_share(share)
        self.share, self.centre = share, centre

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Λ̂ shown, Ω graded."""
        partition = Partition(share=1 - draw_share(self.share, key.fold("shown")), centre=self.centre)
        candidates = partition.candidates(scan)
        shown, hidden = partition.among(candidates, scan, key)
        density = scan.density
        if density is not None:
            held = int(hidden.sum()) / int(candidates.sum())
            density = density_beside(density, hidden, held)
        return [View(scan, shown, goal=scan.kspace, weight=scan.mask, density=density)]
