"""IDR: a network refines its own training data, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.methods.base import Method, View
from noref.networks.base import Estimate, Network
from noref.physics import cartesian
from noref.scan import Role, Scan, ScanBatch, coil_maps
from noref.seeding import Key


class Refinement(Method):
    """From the second stage on, learn from what the last stage's network filled in (arXiv 2211.13440).

    `ŷ = Ω·y + (1 − Ω)·F S x̂`, x̂ the teacher's image of Ω·y, is undersampled by a mask Ω̃ of the acquisition's
    kind and handed to the inner method. Acquired samples never change.

    Args:
        inner: what to show and grade of the refined scan.
        stages: 1 is the inner method alone.
        data_term: `acquired` grades Ω only, against acquired values; `refined` all of ŷ.
    """

    def __init__(
        self, inner: Method, stages: int = 2, data_term: Literal["acquired", "refined"] = "acquired"
    ) -> None:
        super().__init__()
        if inner.stages > 1:
            raise NorefError("Refinement: its inner method refines too; use one or the other")
        if stages < 1:
            raise NorefError(f"Refinement: stages is {stages}; give 1 (the inner method alone) or more")
        self.inner, self.stages, self.data_term = inner, stages, data_term
        self.bank: Mapping[tuple[int, int], Sequence[Tensor]] = {}
        self.teacher: Mapping[str, Tensor] = {}

    def prepare(self, masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> None:
        """Keeps the masks of all scans: the bank of Ω̃."""
        super().prepare(masks)
        self.bank = masks

    def begin(self, stage: int, teacher: Mapping[str, Tensor]) -> None:
        """Takes over the teacher's images."""
        super().begin(stage, teacher)
        self.teacher = teacher

    def view(self, scan: Scan, key: Key) -> list[View]:
        """The inner method's views: of the scan in the first stage, of the refined scan afterwards.

        A proxy needs no guesses: its views are the inner method's in every stage.
        """
        if self.stage == 0 or scan.role is Role.PROXY:
            return self.inner.view(scan, key)
        filled = self.filled(scan)
        bank = self.bank[scan.shape]
        again = bank[int(key.fold("bank").numpy().integers(len(bank)))]
        views = self.inner.view(filled.undersampled(again), key)
        return [self.graded(view, scan, filled) for view in views]

    def filled(self, scan: Scan) -> Scan:
        """The scan with the teacher's guess in every sample outside Ω; padding stays zero."""
        encoding = cartesian(scan.mask[None], coil_maps(scan)[None])
        kspace = encoding.consistent(self.teacher[scan.id][None], scan.kspace[None])[0]
        known = torch.ones_like(scan.mask) if scan.padding is None else ~scan.padding
        return replace(scan, kspace=torch.where(known, kspace, 0), measured=known, mask=known)

    def graded(self, view: View, scan: Scan, filled: Scan) -> View:
        """The inner view, graded against the data term."""
        if self.data_term == "acquired":
            # Copying what is shown teaches nothing, least of all about guesses: it counts once, as in Subset.
            density = None if scan.density is None else torch.where(view.shown, 1.0, scan.density)
            return replace(view, goal=scan.kspace, weight=scan.mask, density=density)
        return replace(view, goal=filled.kspace, weight=filled.mask, density=None)

    def reconstruct(self, network: Network, batch: ScanBatch) -> Estimate:
        """As the inner method does."""
        return self.inner.reconstruct(network, batch)
