"""Regularisation chosen without a reference, by the held-out samples Γ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.physics import Encoding
from noref.sampling.density import inverse_density
from noref.sampling.holdout import calibrated, holdout_error
from noref.scan import Scan, ScanBatch, encoding_of, padding_of

_PATIENCE = 2
"""After how many weaker strengths that are no better the search ends."""

_SAME = 1e-3
"""Relative difference of scores below which two strengths cannot be told apart."""


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
        """Reconstructs a batch.

        Args:
            kspace: complex64 `(batch, coils, ky, kx)`; samples outside the encoding's mask are not read.
            encoding: of the samples.
            strength: of the regularisation, in the unit of `strengths`; methods without any ignore it.
            start: complex64 `(batch, sets, y, x)`, an image near the result, for methods that iterate.

        Returns:
            complex64 `(batch, sets, y, x)`.

        Raises:
            NorefError: that names no scan, where it refuses the sampling.
        """


@dataclass(frozen=True)
class Choice:
    """A strength and what speaks for it.

    Attributes:
        strength: the chosen one.
        image: complex64 `(sets, y, x)`, reconstructed from Ω∖Γ with it.
        errors: `holdout_error` of every strength that was tried.
        scores: `kspace_error` of every strength that was tried; the lowest chose.
    """

    strength: float
    image: Tensor
    errors: dict[float, float]
    scores: dict[float, float]


def choose(method: Classical, scan: Scan) -> Choice:
    """The strength whose image from Ω∖Γ has the lowest estimated error over all of k-space.

    Goes from strong to weak, each reconstruction starting from the one before, until two in a row are no
    better than the best; then tries the geometric means with both neighbours of the best. Of strengths that
    cannot be told apart the strongest is taken.

    Args:
        method: one without strengths is scored as it is, under the strength 0.
        scan: with Γ, normalised.

    Raises:
        NorefError: if the scan has no Γ, or one without signal, or the method refuses its sampling.
    """
    if scan.holdout is None:
        raise NorefError(
            f"{scan.id}: {method.name} chooses its regularisation by held-out samples and the scan has none; "
            "set holdout above 0"
        )
    shown = scan.as_target()
    images: dict[float, Tensor] = {}
    errors: dict[float, float] = {}
    scores: dict[float, float] = {}

    def attempt(strength: float, start: Tensor | None) -> None:
        images[strength] = _image(method, shown, strength, start)
        errors[strength] = holdout_error(scan, images[strength])
        if not math.isfinite(errors[strength]):
            raise NorefError(
                f"{scan.id}: Γ is {errors[strength]}, so nothing can be chosen by it; are the "
                "held-out samples zero? mark what was not measured in the mask"
            )
        scores[strength] = kspace_error(scan, images[strength], errors[strength])

    start = None
    strengths = method.strengths or (0.0,)
    for tried, strength in enumerate(strengths):
        attempt(strength, start)
        start = images[strength]
        if tried - strengths.index(_best(scores)) >= _PATIENCE:
            break
    coarse = _best(scores)
    ordered = sorted(scores)
    place = ordered.index(coarse)
    for neighbour in ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]:
        attempt((coarse * neighbour) ** 0.5, images[coarse])
    best = _best(scores)
    return Choice(best, images[best], errors, scores)


def kspace_error(scan: Scan, image: Tensor, gamma: float) -> float:
    """Estimated NMSE over all of k-space: `(‖A_C x̂ − y_C‖² + e_Γ E) / (‖y_C‖² + E)`.

    `C` is the ACS, and `E` the energy outside it, for which Γ stands. Γ never holds the ACS itself, so that
    on Γ alone a strength that dims the whole image would go unpunished; there, where signal is far above
    noise, the residual is the error. Without an ACS, `C` is Ω∖Γ.

    Args:
        scan: with Γ.
        image: complex64 `(sets, y, x)`, from Ω∖Γ.
        gamma: `e_Γ`, its `holdout_error`.
    """
    known = calibrated(scan)
    if not bool(known.any()):
        known = scan.allowed
    unknown = ~(known | padding_of(scan))
    kspace = torch.where(scan.mask, scan.kspace, 0)
    energy = kspace.abs().square().sum(-3)
    weight = torch.ones(scan.shape) if scan.density is None else inverse_density(scan.density)
    weight = weight * (scan.mask & unknown)
    energy_unknown = (weight * energy).sum() / weight.sum() * unknown.sum()
    fitted = encoding_of(scan, known).forward(image[None])[0]
    residual = (fitted - kspace).abs().square().sum(-3)[known].sum()
    return float((residual + gamma * energy_unknown) / (energy[known].sum() + energy_unknown))


def fit(method: Classical, scan: Scan, strength: float, start: Tensor | None = None) -> Tensor:
    """The scan's image `(sets, y, x)` from all of Ω, with a given strength.

    Args:
        method: a member of `noref.classical.CLASSICAL`, or one like it.
        scan: normalised.
        strength: of the regularisation.
        start: complex64 `(sets, y, x)`, an image near the result.

    Raises:
        NorefError: if the method refuses the scan's sampling.
    """
    return _image(method, scan.undersampled(scan.mask), strength, start)


def reconstruct(method: Classical, scan: Scan) -> Tensor:
    """The scan's image `(sets, y, x)` from all of Ω, with the strength that Γ prefers.

    Args:
        method: a member of `noref.classical.CLASSICAL`, or one like it.
        scan: normalised; with Γ if the method has strengths (`noref.sampling.holdout.hold_out` draws one).

    Raises:
        NorefError: if the method has strengths and the scan has no Γ, or it refuses the scan's sampling.
    """
    if not method.strengths:
        return fit(method, scan, 0.0)
    choice = choose(method, scan)
    return fit(method, scan, choice.strength, choice.image)


def _image(method: Classical, scan: Scan, strength: float, start: Tensor | None) -> Tensor:
    batch = ScanBatch.of([scan])
    try:
        return method(batch.kspace, batch.encoding(), strength, None if start is None else start[None])[0]
    except NorefError as error:
        raise NorefError(f"{scan.id}: {error}") from None


def _best(scores: dict[float, float]) -> float:
    """The strongest strength whose score is the lowest, or the same as the lowest."""
    lowest = min(scores.values())
    return max(strength for strength, score in scores.items() if score <= lowest * (1 + _SAME))
