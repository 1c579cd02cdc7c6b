"""Supervised training, for proxies and as the oracle row of every table."""

from __future__ import annotations

from noref.errors import NorefError
from noref.methods.base import Method
from noref.methods.view import View
from noref.scan import Scan, padding_of
from noref.seeding import Key


class Supervised(Method):
    """The network sees Ω and is graded on the full scan, in k-space and against its reference image."""

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Ω shown, all but the padding graded; off the grid all that was measured.

        Raises:
            NorefError: if the scan has no reference.
        """
        del key
        if scan.reference is None:
            raise NorefError(
                f"{scan.id}: supervised training needs fully sampled scans, and this one has no reference "
                "that it may learn from; use the recipe default or ssdu"
            )
        # Noiseless k-space lies on the grid: off it the samples themselves are the goal.
        goal = scan.kspace if scan.clean is None or scan.trajectory is not None else scan.clean
        return [View(scan, scan.mask, goal, weight=~padding_of(scan), image=scan.reference)]
