"""Regularisation chosen without a reference, by the held-out samples Γ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from noref.errors import NorefError
from noref.physics import Encoding
from noref.sampling.density import inverse_density
from noref.sampling.draw import draw_units, sampled_in_lines, whole_readouts
from noref.sampling.holdout import all_calibrates, calibrated, holdout_error, holdout_squares
from noref.scan import Scan, ScanBatch, encoding_of, padding_of, shown_whole
from noref.seeding import Key

_PATIENCE = 2
"""After how many weaker strengths that are no better the search ends."""

_SAME = 1e-3
"""Relative difference of scores below which two strengths are the same, however sure it is."""

_CLOSE = 1e-2
"""Relative difference of scores from which two strengths differ, however unsure it is."""

_UNITS = 4
"""Held-out lines, or points, below which one Γ is too few to choose by."""

_OTHERS = 3
"""Further splits then. Of a real head of 24 to 48 lines, Γ of one or two chose up to 9 dB too little."""


class Classical(Protocol):
    """A reconstruction that is fitted to one scan and learns nothing from others.

    Attributes:
        evenly_spaced: whether it takes evenly spaced lines alone, and does without few of them only.
    """

    evenly_spaced: ClassVar[bool]

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
        strength: the chosen one, of images without what was held out.
        for_all: what it is for all of Ω, `strength · √(share of Ω outside the ACS that the images were made
            of)`, the mean over the splits: the fewer lines, the more aliasing there is to suppress. The same
            for a single strength, and for methods for evenly spaced lines.
        image: complex64 `(sets, y, x)`, reconstructed from Ω∖Γ with it.
        errors: `holdout_error` of every strength that was tried.
        scores: the sum of `kspace_errors` of every strength that was tried, see `choose`.
    """

    strength: float
    for_all: float
    image: Tensor
    errors: dict[float, float]
    scores: dict[float, float]


def choose(method: Classical, scan: Scan) -> Choice:
    """The strength whose images from Ω∖Γ have the lowest estimated error over all of k-space.

    Γ of a scan of few lines is a line or two, and what suits these need not suit the scan: where it holds
    fewer than 4 lines or points, all others outside the ACS are held out in turn, in three further splits,
    and the errors on all of them count together (cross-validation). Methods for evenly spaced lines cannot do
    without a third of them, and are chosen for by Γ alone.

    Goes from strong to weak, each reconstruction starting from the one before, until two in a row are no
    better than the best; then tries the geometric means with both neighbours of the best. Taken is the
    strongest that is worse by less than 1 % and by less than one standard error of the difference, as the
    held-out lines or points scatter (Breiman et al., Classification and Regression Trees, 1984, section
    3.4.3): where these are mostly noise, it is chance that tells strengths apart.

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
    strengths = method.strengths or (0.0,)
    # What was given, or is learned in the ACS, which nothing is held out of, does not depend on the rest.
    settled = len(strengths) == 1 or method.evenly_spaced
    parts = [scan] if settled else splits(scan)
    shown = [part.as_target() for part in parts]
    images: dict[float, list[Tensor]] = {}
    errors: dict[float, float] = {}
    shares: dict[float, Tensor] = {}

    def attempt(strength: float, start: Sequence[Tensor | None]) -> None:
        # One after the other: a batch of them would leave the processor's caches, and takes twice as long.
        made = zip(shown, start, strict=True)
        images[strength] = [_image(method, part, strength, before) for part, before in made]
        errors[strength] = holdout_error(scan, images[strength][0])
        if not math.isfinite(errors[strength]):
            raise NorefError(
                f"{scan.id}: Γ is {errors[strength]}, so nothing can be chosen by it; are the "
                "held-out samples zero? mark what was not measured in the mask"
            )
        shares[strength] = kspace_errors(parts, images[strength])

    start: Sequence[Tensor | None] = [None] * len(parts)
    for tried, strength in enumerate(strengths):
        attempt(strength, start)
        start = images[strength]
        if tried - strengths.index(min(shares, key=lambda one: float(shares[one].sum()))) >= _PATIENCE:
            break
    coarse = best_of(shares)
    ordered = sorted(shares)
    place = ordered.index(coarse)
    for weaker, stronger in pairwise(ordered[max(place - 1, 0) : place + 2]):
        # From the stronger one, as all before: more iterations than these had would flatter it.
        attempt((weaker * stronger) ** 0.5, images[stronger])
    best = best_of(shares)
    scores = {strength: float(of_units.sum()) for strength, of_units in shares.items()}
    return Choice(best, best if settled else best * _kept(parts) ** 0.5, images[best][0], errors, scores)


def splits(scan: Scan) -> list[Scan]:
    """The scan alone or, where its Γ is small, with copies whose Γ share out the rest of Ω outside its ACS.

    Args:
        scan: with Γ.
    """
    assert scan.holdout is not None
    parts, spared = [scan], calibrated(scan)
    # Without an ACS what is not held out must tell whether an image is dimmed, and is not to be halved.
    if _units(scan) >= _UNITS or not bool(spared.any()):
        return parts
    left = scan.mask & ~spared & ~scan.holdout
    lines = whole_readouts(scan)
    for others in range(_OTHERS, 0, -1):
        held = draw_units(left, left, 1 / others, Key(0, scan.id, "choice", index=(others,)), lines=lines)
        if bool(held.any()):
            parts.append(replace(scan, holdout=held))
        left = left & ~held
    return parts


def _kept(parts: Sequence[Scan]) -> float:
    """The share of Ω outside the ACS that is not held out, the mean over the splits."""
    outside = parts[0].mask & ~calibrated(parts[0])
    return sum(float((part.allowed & outside).sum() / outside.sum()) for part in parts) / len(parts)


def _units(scan: Scan) -> int:
    """How many lines, or points, Γ holds."""
    assert scan.holdout is not None
    return len(_by_unit(scan, scan.holdout))


def _by_unit(scan: Scan, values: Tensor) -> Tensor:
    """Sums over what was held out together, lines or points, of values `(ky, kx)`."""
    assert scan.holdout is not None
    in_lines = scan.trajectory is not None or sampled_in_lines(scan.mask)
    return values.sum(1)[scan.holdout.any(1)] if in_lines else values[scan.holdout]


def kspace_errors(parts: Sequence[Scan], images: Sequence[Tensor]) -> Tensor:
    """Estimated NMSE over all of k-space, `(‖A_C x̂ − y_C‖² + e_Γ E) / (‖y_C‖² + E)`, by what it comes from.

    `C` is the ACS, and `E` the energy outside it, for which Γ stands. Γ never holds the ACS itself, so that
    on Γ alone a strength that dims the whole image would go unpunished; there, where signal is far above
    noise, the residual is the error. Without an ACS, `C` is Ω∖Γ. Of several splits the residual is the mean,
    and `e_Γ` the error on all their Γ together: its mean would be that of lines that are nothing but noise.

    Args:
        parts: one scan, with one Γ or with several.
        images: complex64 `(sets, y, x)`, from Ω without the Γ of each.

    Returns:
        float32 `(1 + units,)`, whose sum is the NMSE: the share of `C`, then that of every line or point held
        out.
    """
    scan = parts[0]
    known = calibrated(scan)
    spared = bool(known.any())
    kspace = torch.where(scan.mask, scan.kspace, 0)
    energy = kspace.abs().square().sum(-3)
    weight = torch.ones(scan.shape) if scan.density is None else inverse_density(scan.density)
    total = residual = outside = held = torch.zeros(())
    errors = []
    for part, image in zip(parts, images, strict=True):
        region = known if spared else part.allowed
        unknown = ~(region | padding_of(scan))
        inside = weight * (scan.mask & unknown)
        energy_unknown = (inside * energy).sum() / inside.sum() * unknown.sum()
        fitted = encoding_of(scan, region).forward(image[None])[0]
        residual = residual + (fitted - kspace).abs().square().sum(-3)[region].sum()
        outside, total = outside + energy_unknown, total + energy[region].sum() + energy_unknown
        error, energy_held = holdout_squares(part, image)
        errors.append(_by_unit(part, error))
        held = held + energy_held.sum()
    return torch.cat([residual[None], torch.cat(errors) / held * outside]) / total


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

    Where all of Ω calibrates there is nothing to be held out. A scan that is shown whole has nothing for
    regularisation to fill in, and gets the least; one of which an end is missing, by partial Fourier or a
    partial echo, the one in the middle.

    Args:
        method: a member of `noref.classical.CLASSICAL`, or one like it.
        scan: normalised; if the method has strengths and not all of Ω calibrates, with Γ
            (`noref.sampling.holdout.hold_out` draws one).

    Raises:
        NorefError: if Γ is missing, or the method refuses the scan's sampling.
    """
    if not method.strengths:
        return fit(method, scan, 0.0)
    if scan.holdout is None and all_calibrates(scan):
        whole = shown_whole(scan)
        return fit(method, scan, method.strengths[-1 if whole else len(method.strengths) // 2])
    # From nothing: iterations that go on from the image without Γ are fewer, and cost up to 0.6 dB.
    return fit(method, scan, choose(method, scan).for_all)


def _image(method: Classical, scan: Scan, strength: float, start: Tensor | None) -> Tensor:
    batch = ScanBatch.of([scan])
    try:
        return method(batch.kspace, batch.encoding(), strength, None if start is None else start[None])[0]
    except NorefError as error:
        raise NorefError(f"{scan.id}: {error}") from None


def best_of(shares: dict[float, Tensor]) -> float:
    """The strongest strength, from the best upwards, that cannot be told from it, see `choose`.

    Args:
        shares: `kspace_errors` of every strength, all of the same scans.
    """
    best = min(shares, key=lambda strength: float(shares[strength].sum()))
    lowest, score = shares[best], float(shares[best].sum())
    for stronger in sorted(strength for strength in shares if strength > best):
        worse = shares[stronger] - lowest
        # The sum's, over the units of Γ; of one alone there is none.
        error = float(worse[1:].var() * (len(worse) - 1)) ** 0.5 if len(worse) > 2 else 0.0
        if float(worse.sum()) > max(_SAME * score, min(_CLOSE * score, error)):
            break
        best = stronger
    return best
