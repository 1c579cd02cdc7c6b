"""Equivariant imaging: a moved image is an image, and must survive a scan of its own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noref.losses import TERMS
from noref.methods.again import Again, simulate
from noref.methods.base import Method
from noref.methods.motion import draw_motion, move
from noref.methods.view import Further, Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.physics import fft2c, ifft2c
from noref.scan import Scan
from noref.seeding import Key


def moved_again(method: Method, network: Network, estimate: Estimate, views: tuple[Views, ...]) -> Losses:
    """`‖T x̂ − f(A_Ω̃ T x̂)‖² / ‖T x̂‖²` of each scan, A with the coils moved by T as well."""
    del method
    (other,) = views
    motion = other.motion
    assert motion is not None, "views of this term move their image"
    # Turned or mirrored, it may hold what the padding says is zero.
    kspace = fft2c(move(estimate.image, motion))
    image = ifft2c(torch.where(other.padding[:, None], 0, kspace))
    encoding = estimate.encoding.with_maps(move(estimate.encoding.maps, motion))
    # A network that learns maps scans with those that it ended with, and starts from those that it was given.
    other = replace(other, maps=move(other.maps, motion))
    simulated = simulate(replace(estimate, image=image, encoding=encoding), other)
    second = network(simulated.kspace, simulated.encoding()).image
    return {"equivariance": other.share * TERMS["nmse"](image, second, torch.ones_like(image.real))}


class Equivariant(Again):
    """Adds `‖T x̂ − f(A_Ω̃ T x̂)‖² / ‖T x̂‖²` to the inner method's loss (Chen et al., arXiv 2103.14756).

    T moves the inner method's estimate x̂: it mirrors it, shifts it round by up to a tenth, and, where the
    matrix is square, turns it by a multiple of 90°, each drawn anew. Anatomy so moved is still anatomy, but
    what Ω̃ cannot see has moved on: guesses are graded that no mask would show. The coils move along: moved
    to where their maps are zero, anatomy could not come back. Ω̃ is the mask of another target, which makes
    it multi-operator equivariant imaging (Tachella et al., arXiv 2201.12151), or, with `other=False`, the
    scan's own. One pass beside the inner method's, the gradient left on in both.

    Args:
        inner: what else to show and grade; all of Ω in the paper.
        weight: of the term.
        other: whether the image is scanned with the mask of another target.
    """

    term: Further = staticmethod(moved_again)

    def __init__(self, inner: Method, weight: float = 1.0, other: bool = True) -> None:
        super().__init__(inner, weight)
        self.other = other

    def passes(self, scan: Scan, mask: Tensor, key: Key) -> tuple[View, ...]:
        """Ω̃ of the moved image."""
        (view,) = super().passes(scan, mask if self.other else scan.mask, key)
        return (replace(view, motion=draw_motion(scan.shape, key.fold("move"))),)
