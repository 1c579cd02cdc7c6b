"""IDR: a network refines its own training data, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from noref.data.noise import noise_level
from noref.errors import NorefError
from noref.methods.base import Around, Method, graded_images, need_grid
from noref.methods.parallel import grade_second
from noref.methods.view import Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.physics import cartesian
from noref.sampling.bank import mask_bank
from noref.scan import Role, Scan, coil_maps, padding_of
from noref.seeding import Key

_TINY = 1e-12


class Refinement(Around):
    """From the second stage on, learn from what the last stage's network filled in (arXiv 2211.13440).

    `ŷ = Ω·y + (1 − Ω)·F S x̂`, x̂ the teacher's image of Ω·y, is undersampled by a mask Ω̃ of the acquisition's
    kind and handed to the inner method. Acquired samples never change, and held-out ones are guessed like any
    that were never measured. Ω̃ is drawn from a bank: the masks of all scans; where all have one, others like
    it (`mask_bank`).

    Args:
        inner: what to show of the refined scan, in further passes too, and what to grade of that. What counts
            how much is its choice in the first stage only: later ones are weighted as `data_term` says.
        stages: 1 is the inner method alone.
        data_term: `acquired` grades Ω only, against acquired values (the paper's section 2.3); `refined` all
            of ŷ (its section 2.2); `mixed` is `acquired + β·Σ |F S x − ŷ|² / Σ |ŷ|²` over the complement of
            Ω, in the inner method's first pass (of both networks, where it has two).
        beta: β of `mixed`.
        dc: the network's data consistency holds on all of its `input`, guesses included (the paper's
            formula), or on `measured` samples only: the guesses are then what its first image is made of.
        update: whether each stage has the network of the stage before as its teacher; otherwise all learn
            from the first stage's.
        bank: draw Ω̃; otherwise it is Ω, and guesses are graded at most, never shown.
    """

    def __init__(
        self,
        inner: Method,
        stages: int = 2,
        data_term: Literal["acquired", "refined", "mixed"] = "acquired",
        beta: float = 1.0,
        dc: Literal["input", "measured"] = "input",
        update: bool = True,
        bank: bool = True,
    ) -> None:
        super().__init__(inner)
        if any(isinstance(part, Refinement) for part in inner.modules()):
            raise NorefError("Refinement: its inner method refines too; use one or the other")
        if stages < 1:
            raise NorefError(f"Refinement: stages is {stages}; give 1 (the inner method alone) or more")
        if not 0 < beta < math.inf:
            raise NorefError(f"Refinement: beta is {beta}; give a weight above 0, or data_term=acquired")
        self.stages, self.data_term, self.beta, self.dc, self.update = stages, data_term, beta, dc, update
        self.draws = bank
        self.bank: Mapping[tuple[int, int], Sequence[Tensor]] = {}
        self.teacher: Mapping[str, Tensor] = {}

    def prepare(self, masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> None:
        """Keeps the bank of Ω̃."""
        super().prepare(masks)
        if self.stages > 1 and self.draws:
            self.bank = mask_bank(masks)

    def begin(self, stage: int, teacher: Mapping[str, Tensor]) -> None:
        """Takes over the teacher's images."""
        super().begin(stage, teacher)
        self.teacher = teacher

    def view(self, scan: Scan, key: Key) -> list[View]:
        """The inner method's views: of the scan in the first stage, of the refined scan afterwards.

        A proxy needs no guesses: its views are the inner method's in every stage.
        """
        need_grid(scan, "where guesses have no place")
        if self.stage == 0 or scan.role is Role.PROXY:
            return self.inner.view(scan, key)
        filled = self.filled(scan)
        views = self.inner.view(filled.undersampled(self.again(scan, key)), key)
        graded = [self.graded(view, scan, filled) for view in views]
        return [self.mixed(view, scan, filled) for view in graded] if self.data_term == "mixed" else graded

    def again(self, scan: Scan, key: Key) -> Tensor:
        """Ω̃, bool `(ky, kx)`."""
        if not self.draws:
            return scan.mask
        bank = self.bank[scan.shape]
        return bank[int(key.fold("bank").numpy().integers(len(bank)))]

    def filled(self, scan: Scan) -> Scan:
        """The scan with the teacher's guess in every sample outside Ω; padding stays zero.

        What was measured stays Ω, and the noise of that is told, since guesses have none.

        The teacher's image is `(sets, y, x)`, or `(sets, 1 + coils, y, x)` with its learned maps behind it.
        """
        image, maps = self.teacher[scan.id], coil_maps(scan)
        if image.ndim == 4:
            image, maps = image[:, 0], image[:, 1:]
        encoding = cartesian(scan.mask[None], maps[None])
        kspace = encoding.consistent(image[None], scan.kspace[None])[0]
        known = ~padding_of(scan)
        return replace(
            scan, kspace=torch.where(known, kspace, 0), mask=known, noise_cov=_noise_covariance(scan)
        )

    def graded(self, view: View, scan: Scan, filled: Scan) -> View:
        """The inner view, graded against the data term, and told which of its samples are guesses.

        So are the views of its further passes.
        """
        further = tuple(
            (term, tuple(self.graded(one, scan, filled) for one in passes)) for term, passes in view.further
        )
        view = replace(view, guessed=~scan.mask, keep_guesses=self.dc == "input", further=further)
        # Of what is shown the inner method may have a goal of its own, as Robust does.
        goal = torch.where(view.shown & view.scan.mask, view.goal, filled.kspace)
        if self.data_term == "refined":
            return replace(view, goal=goal, weight=filled.mask, density=None)
        # Copying what is shown teaches nothing, least of all about guesses: it counts once, as in Subset.
        density = None if scan.density is None else torch.where(view.shown, 1.0, scan.density)
        return replace(view, goal=goal, weight=scan.mask, density=density)

    def mixed(self, view: View, scan: Scan, filled: Scan) -> View:
        """The view with the term on guesses; so has the one that a second network is shown."""
        further = tuple(
            (term, tuple(self.mixed(one, scan, filled) for one in passes) if term is grade_second else passes)
            for term, passes in view.further
        )
        return replace(view, further=further).also(grade_guesses, self.complement(view, scan, filled))

    def complement(self, view: View, scan: Scan, filled: Scan) -> View:
        """The view graded on ŷ outside Ω: weights are β over the power that ŷ has there."""
        outside = filled.mask & ~scan.mask
        power = filled.kspace[:, outside].abs().square().sum().clamp_min(_TINY)
        return replace(view, goal=filled.kspace, weight=self.beta * outside / power, further=())


def _noise_covariance(scan: Scan) -> Tensor | None:
    """Of the scan, as it says itself or as it looks; None where neither tells."""
    level = noise_level(scan)[0] if scan.noise_cov is None else None
    if level is None:
        return scan.noise_cov
    return level**2 * torch.eye(scan.coils, dtype=scan.kspace.dtype)


def grade_guesses(method: Method, network: Network, estimate: Estimate, further: tuple[Views, ...]) -> Losses:
    """`β·Σ |F S x − ŷ|² / Σ |ŷ|²` over the complement of Ω and all coils: the term that `mixed` adds.

    Args:
        method: not needed.
        network: not needed: the first pass is graded once more.
        estimate: of that pass.
        further: the same views, with ŷ as goal, weighted by `Refinement.complement`.
    """
    del method, network
    (views,) = further
    full = estimate.encoding.full()
    error = torch.zeros_like(views.share)
    for image, share in graded_images(estimate):
        squares = torch.view_as_real(full.forward(image) - views.goal).square().sum((1, -1))
        error = error + share * (views.weight * squares).sum((-2, -1))
    return {"kspace_guess": error}
