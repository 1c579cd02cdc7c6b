"""Regularisation chosen without a reference: the strength whose image predicts the held-out samples best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from noref.errors import NorefError
from noref.physics import Encoding
from noref.sampling.holdout import holdout_error
from noref.scan import Scan, ScanBatch

_PATIENCE = 2
"""How many weaker strengths in a row may score worse before the search ends."""

_SAME = 1e-4
"""Relative difference of errors below which Γ does not tell two strengths apart."""


class Classical(Protocol):
    """A reconstruction that is fitted to one scan and learns nothing from others."""

    @property
    def name(self) -> str:
        """What recipes and tables call it."""

    @property
    def strengths(self) -> tuple[float, ...]:
        """Regularisation to choose from, log-spaced, strongest first; empty if there is none."""

    def __call__(
        self, kspace: Tensor, encoding: Encoding, strength: float, start: Tensor | None = None
    ) -> Tensor:
        """Reconstructs a batch: k-space `(batch, coils, ky, kx)` to image `(batch, sets, y, x)`."""


@dataclass(frozen=True)
class Choice:
    """A strength and what speaks for it.

    Attributes:
        strength: the chosen one.
        image: complex64 `(sets, y, x)`, reconstructed from Ω∖Γ with it.
        errors: `holdout_error` of every strength that was tried.
    """

    strength: float
    image: Tensor
    errors: dict[float, float]


def choose(method: Classical, scan: Scan) -> Choice:
    """The strength with the lowest error on Γ when reconstructing from Ω∖Γ.

    Goes from strong to weak, each reconstruction starting from the one before, until the error has risen
    twice in a row; then tries the geometric means with both neighbours of the best. Where Γ cannot tell (one
    coil: least squares leaves unacquired samples at zero whatever its strength), the weakest is taken, the
    most faithful to the data.

    Args:
        method: one without strengths is scored as it is, under the strength 0.
        scan: with Γ, normalised.

    Raises:
        NorefError: if the scan has no Γ.
    """
    if scan.holdout is None:
        raise NorefError(
            f"{scan.id}: {method.name} chooses its regularisation by held-out samples and the scan has none; "
            "set holdout above 0"
        )
    batch = ScanBatch.of([scan.as_target()])
    encoding = batch.encoding()
    images: dict[float, Tensor] = {}
    errors: dict[float, float] = {}

    def attempt(strength: float, start: Tensor | None) -> None:
        images[strength] = method(batch.kspace, encoding, strength, start)
        errors[strength] = holdout_error(scan, images[strength][0])

    start = None
    strengths = method.strengths or (0.0,)
    for tried, strength in enumerate(strengths):
        attempt(strength, start)
        start = images[strength]
        if tried - strengths.index(_best(errors)) >= _PATIENCE:
            break
    coarse = _best(errors)
    ordered = sorted(errors)
    place = ordered.index(coarse)
    for neighbour in ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]:
        attempt((coarse * neighbour) ** 0.5, images[coarse])
    best = _best(errors)
    return Choice(best, images[best][0], errors)


def fit(method: Classical, scan: Scan, strength: float, start: Tensor | None = None) -> Tensor:
    """The scan's image `(sets, y, x)` from all of Ω, with a given strength.

    Args:
        method: a member of `noref.classical.CLASSICAL`, or one like it.
        scan: normalised.
        strength: of the regularisation.
        start: complex64 `(sets, y, x)`, an image near the result.
    """
    batch = ScanBatch.of([scan.undersampled(scan.mask)])
    return method(batch.kspace, batch.encoding(), strength, None if start is None else start[None])[0]


def reconstruct(method: Classical, scan: Scan) -> Tensor:
    """The scan's image `(sets, y, x)` from all of Ω, with the strength that Γ prefers.

    Args:
        method: a member of `noref.classical.CLASSICAL`, or one like it.
        scan: normalised; with Γ if the method has strengths (`noref.sampling.holdout.hold_out` draws one).

    Raises:
        NorefError: if the method has strengths and the scan has no Γ.
    """
    if not method.strengths:
        return fit(method, scan, 0.0)
    choice = choose(method, scan)
    return fit(method, scan, choice.strength, choice.image)


def _best(errors: dict[float, float]) -> float:
    """The weakest strength whose error is the lowest, or the same as the lowest."""
    lowest = min(errors.values())
    return min(strength for strength, error in errors.items() if error <= lowest * (1 + _SAME))
