"""What methods share that reconstruct their own image again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from noref.errors import NorefError
from noref.methods.base import Around, Method, need_grid
from noref.methods.view import Further, View, Views
from noref.networks.base import Estimate
from noref.sampling.bank import mask_bank
from noref.scan import Role, Scan
from noref.seeding import Key


class Again(Around):
    """Adds a term on `f(A_Ω̃ x̂)` to the inner method's loss, Ω̃ another mask of the kind, x̂ an estimate.

    Ω̃ is drawn from the masks of all targets; where all have one, from others like it (`mask_bank`).
    Proxies bring references, and are graded by those alone.

    Args:
        inner: what else to show and grade.
        weight: of the term.
    """

    term: Further

    def __init__(self, inner: Method, weight: float = 1.0) -> None:
        super().__init__(inner)
        if not weight > 0:
            raise NorefError(f"{type(self).__name__}: weight is {weight}; give a number above 0")
        self.weight = weight
        self.bank: Mapping[tuple[int, int], Sequence[Tensor]] = {}

    def prepare(self, masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> None:
        """Keeps the bank of Ω̃."""
        super().prepare(masks)
        self.bank = mask_bank(masks)

    def view(self, scan: Scan, key: Key) -> list[View]:
        """The inner method's views, each with further passes of its own."""
        views = self.inner.view(scan, key)
        if scan.role is Role.PROXY:
            return views
        need_grid(scan, "where no mask of another scan can be drawn")
        bank = self.bank[scan.shape]
        draws = key.fold("again").numpy().integers(len(bank), size=len(views))
        return [
            view.also(self.term, *self.passes(scan, bank[int(draw)], key.fold(number)))
            for number, (view, draw) in enumerate(zip(views, draws, strict=True))
        ]

    def passes(self, scan: Scan, mask: Tensor, key: Key) -> tuple[View, ...]:
        """The views of the further passes; the last shows Ω̃ of an image, and has the term's weight."""
        del key  # for what else is drawn
        density, share = scan.density, self.weight
        return (View(scan, shown=mask, goal=scan.kspace, weight=scan.mask, density=density, share=share),)


def simulate(estimate: Estimate, views: Views) -> Views:
    """The views with `A_Ω̃ x̂` as their input, Ω̃ what they show; zero in the padding, as in every scan.

    Their maps stay what they were: a network that learns maps starts from those.
    """
    sampled = views.shown & ~views.padding
    encoding = estimate.encoding.with_mask(sampled, lines=False)
    return replace(views, kspace=encoding.forward(estimate.image))
