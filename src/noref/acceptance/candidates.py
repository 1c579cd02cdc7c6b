"""What is judged and what it is held against: reconstructions whose settings are fixed for one scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from noref.api import Model
from noref.classical import CLASSICAL, choose, fit
from noref.sampling.holdout import holdout_error
from noref.scan import Scan, coil_maps


@dataclass(frozen=True)
class Made:
    """What a reconstruction makes of a scan's Ω.

    Attributes:
        image: complex64 `(sets, y, x)`, in the scan's scaled units.
        maps: complex64 `(sets, coils, y, x)`, that it was made with.
    """

    image: Tensor
    maps: Tensor


Applied = Callable[[Scan], Made]
"""A reconstruction with all settings fixed: of this scan, or of the same with other samples or values."""

Candidate = Callable[[Scan], Applied]
"""A reconstruction whose settings one prepared scan fixes."""


def by_network(model: Model) -> Candidate:
    """A trained network, which has no settings."""

    def applied(scan: Scan) -> Made:
        made = model.estimate(scan)
        return Made(made.image[0], made.encoding.maps[0])

    return lambda _: applied


def by_classical(name: str) -> Candidate:
    """A classical method, the strength of its regularisation chosen by the scan's Γ.

    The strength stays as it is where a lesion or noise is added: what is measured then is the method, not how
    its choice moves.

    Args:
        name: in `noref.classical.CLASSICAL`.
    """
    method = CLASSICAL[name]

    def fixed(scan: Scan) -> Applied:
        strength = choose(method, scan).for_all if method.strengths else 0.0
        return lambda other: Made(fit(method, other, strength), coil_maps(other))

    return fixed


def gamma(applied: Applied, scan: Scan) -> float:
    """`holdout_error` of what is made of Ω∖Γ.

    Raises:
        NorefError: if the scan has no Γ.
    """
    made = applied(scan.as_target())
    return holdout_error(scan, made.image, made.maps)
