"""Weighted SSDU: the part that is graded stands for all that is not shown."""

from __future__ import annotations

from dataclasses import replace

from noref.methods.split import Split
from noref.methods.view import View
from noref.sampling.density import density_beside, inverse_density
from noref.sampling.partition import Partition
from noref.scan import Scan
from noref.seeding import Key


class Weighted(Split):
    """SSDU with every sample of Λ weighted by `(1 − K)⁻¹` (Millard & Chiew, arXiv 2205.10278).

    `1 − K = p (1 − p̃) / (1 − p̃ p)`, p the scan's density, p̃ the probability with which the partition shows a
    sample that was acquired. The loss is then, on average, what a full scan would give of all that is not
    shown. The weights, at most 100, are the method's own, whatever `loss.weighting` says; a scan without a
    density is graded as by SSDU.

    Args:
        partition: divides Ω into Θ and Λ, drawn anew each epoch; as the scan was acquired in the paper.
    """

    def __init__(self, partition: Partition = Partition()) -> None:  # noqa: B008 - frozen
        super().__init__(partition)

    def view(self, scan: Scan, key: Key) -> list[View]:
        """One view: Θ shown, Λ graded."""
        (view,) = super().view(scan, key)
        if scan.density is None:
            return [view]
        held = view.weight
        beside = density_beside(scan.density, held, self.partition.chance(scan, held))
        return [replace(view, weight=held * inverse_density(beside), density=None)]
