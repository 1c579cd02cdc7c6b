"""Multi-operator imaging: the image must survive a scan with another mask."""

from __future__ import annotations

import torch

from noref.losses import TERMS
from noref.methods.again import Again, simulate
from noref.methods.base import Method
from noref.methods.view import Losses, Views
from noref.networks.base import Estimate, Network


def image_again(method: Method, network: Network, estimate: Estimate, views: tuple[Views, ...]) -> Losses:
    """`‖x̂ − f(A_Ω̃ x̂)‖² / ‖x̂‖²` of each scan; as a ratio it cannot be lowered by making x̂ small."""
    del method
    (other,), image = views, estimate.image
    simulated = simulate(estimate, other)
    second = network(simulated.kspace, simulated.encoding()).image
    return {"operator": other.share * TERMS["nmse"](image, second, torch.ones_like(image.real))}


class MultiOperator(Again):
    """Adds `‖x̂ − f(A_Ω̃ x̂)‖² / ‖x̂‖²` to the inner method's loss (Tachella et al., arXiv 2201.12151).

    x̂ is the inner method's estimate, Ω̃ the mask of another target. Where the masks differ, an image whose
    unmeasured part was guessed wrong does not come back. One pass beside the inner method's, the gradient
    left on in both.

    Args:
        inner: what else to show and grade; all of Ω in the paper.
        weight: of the term.
    """

    term = staticmethod(image_again)
