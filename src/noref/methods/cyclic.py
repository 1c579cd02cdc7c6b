"""Cyclic-consistency SSDU: what was measured must come back from a second, simulated scan."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from noref.errors import NorefError
from noref.methods.again import Again, simulate
from noref.methods.base import Method
from noref.methods.robust import Robust
from noref.methods.view import Losses, View, Views
from noref.networks.base import Estimate, Network
from noref.scan import Scan
from noref.seeding import Key


def cycle(method: Method, network: Network, estimate: Estimate, views: tuple[Views, ...]) -> Losses:
    """The objective on `f(A_Ω̃ f(y_Ω))`, against `y_Ω`."""
    del estimate  # the inner method may have shown a part of Ω
    whole, other = views
    first: Estimate = network(whole.kspace, whole.encoding())
    simulated = simulate(first, other)
    graded = method.grade(network(simulated.kspace, simulated.encoding()), simulated)
    return {f"cycle_{name}": other.share * term for name, term in graded.items()}


class Cyclic(Again):
    """Adds `L(A_Ω f(A_Ω̃ f(y_Ω)), y_Ω)` to the inner method's loss (Zhang et al., ISBI 2024).

    The network reconstructs the scan, is shown its image through the mask Ω̃ of another target, and what it
    makes of that must agree with what was measured. Two passes beside the inner method's, the gradient left
    on in both; L is the objective.

    Args:
        inner: what else to show and grade; SSDU in the paper.
        weight: of the term.
    """

    term = staticmethod(cycle)

    def __init__(self, inner: Method, weight: float = 1.0) -> None:
        super().__init__(inner, weight)
        if any(isinstance(part, Robust) for part in inner.modules()):
            raise NorefError(
                "Cyclic: asks for what was measured, noise included, which Robust learns to remove; "
                "use multioperator around it"
            )

    def passes(self, scan: Scan, mask: Tensor, key: Key) -> tuple[View, ...]:
        """Ω of the scan, then Ω̃ of the image, graded on Ω."""
        (simulated,) = super().passes(scan, mask, key)
        return replace(simulated, shown=scan.mask), simulated
