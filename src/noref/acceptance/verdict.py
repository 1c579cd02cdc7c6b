"""From measurements to a verdict, criterion by criterion. The thresholds are conventions, and say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from noref.acceptance.results import VISIBLE, SliceResult, mean_recovery, over

BASELINE = "wavelet"
"""What a network must not be worse than."""

BELOW = 0.8
"""Γ below this share of its floor: the noise is less than it was taken for, and the floor says nothing."""


class Verdict(StrEnum):
    """Of a criterion, or of all."""

    ACCEPTED = "accepted"
    REFUSED = "not accepted"
    OPEN = "not decidable"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Thresholds:
    """Where the line is drawn. Conventions: no law of nature, nor any standard, sets them.

    Attributes:
        gamma: largest Γ as a multiple of the wavelets': 1, as a network that predicts unseen samples worse
            than a method that learned nothing is not worth its risk.
        floor: largest Γ as a multiple of its noise floor: 20, as far above it what is missing is signal.
            Scans with little noise may need more.
        contrast: smallest share of a lesion's contrast that is given back, and one over it the largest: 0.8,
            as less hides what radiologists look for, and more makes it up.
        width: largest width of what is given back of a lesion, in its own widths: 1.3.
        repeat: largest difference between two measurements, in energy, as a multiple of what noise explains:
            2, as noise is known to some tens of per cent.
    """

    gamma: float = 1.0
    floor: float = 20.0
    contrast: float = 0.8
    width: float = 1.3
    repeat: float = 2.0


@dataclass(frozen=True)
class Criterion:
    """A line of the verdict.

    Attributes:
        name: what is asked.
        measured: what was found.
        threshold: what is demanded.
        verdict: of it.
        reason: why the threshold is there, or why nothing can be decided.
    """

    name: str
    measured: str
    threshold: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Acceptance:
    """An acceptance's numbers.

    Attributes:
        model: the name of the method that was judged.
        made: what it is.
        verdict: over all criteria.
        criteria: one a line.
        thresholds: that they were judged by.
        slices: what was measured of each.
        labels: what a reader must know before believing a number.
        seed: of all draws.
        acquired: the method that shows acquired samples alone.
        seal: SHA-256 of the readers' key; empty without readers.
        given: how many slices there were to choose from.
    """

    model: str
    made: str
    verdict: Criterion
    criteria: Sequence[Criterion]
    thresholds: Thresholds
    slices: Sequence[SliceResult]
    labels: Sequence[str]
    seed: int
    acquired: str
    seal: str = ""
    given: int = 0


def criteria(slices: Sequence[SliceResult], model: str, limits: Thresholds) -> list[Criterion]:
    """Every criterion, of means over the slices.

    Args:
        slices: measured.
        model: the name of the method that is judged.
        limits: the thresholds.
    """
    return [
        _baseline(slices, model, limits),
        _floor(slices, model, limits),
        *_lesions(slices, model, limits),
        _repeat(slices, model, limits),
    ]


def overall(lines: Sequence[Criterion]) -> Criterion:
    """Refused if any is; open if any is; accepted otherwise. What was not tested does not count."""
    for verdict in (Verdict.REFUSED, Verdict.OPEN):
        named = [line.name for line in lines if line.verdict is verdict]
        if named:
            return Criterion("Overall", "; ".join(named), "", verdict, "")
    untested = [line.name for line in lines if line.verdict is Verdict.UNTESTED]
    rest = f"not tested: {'; '.join(untested)}" if untested else ""
    return Criterion("Overall", rest, "", Verdict.ACCEPTED, "")


def _judged(passed: bool) -> Verdict:
    return Verdict.ACCEPTED if passed else Verdict.REFUSED


def _baseline(slices: Sequence[SliceResult], model: str, limits: Thresholds) -> Criterion:
    name, threshold = "Γ against wavelets", f"at most {limits.gamma:g} times theirs"
    ratio = over(slices, lambda one: one.gamma[model] / one.gamma[BASELINE])
    assert ratio is not None
    better = sum(one.gamma[model] <= one.gamma[BASELINE] for one in slices)
    measured = f"{ratio:.3f} times theirs; not above in {better} of {len(slices)} slices"
    reason = (
        "To predict unseen samples worse than a method that learned nothing is not worth a network's risk."
    )
    return Criterion(name, measured, threshold, _judged(ratio <= limits.gamma), reason)


def _floor(slices: Sequence[SliceResult], model: str, limits: Thresholds) -> Criterion:
    name, threshold = "Γ against its noise floor", f"at most {limits.floor:g} times the floor"

    def ratio(method: str) -> float | None:
        return over(slices, lambda one: one.gamma[method] / one.floor.value if one.floor.value else None)

    found = ratio(model)
    if found is None:
        reason = f"Nothing tells the noise ({slices[0].floor.source}); give noise scans."
        return Criterion(name, "–", threshold, Verdict.OPEN, reason)
    measured = f"{found:.2f} times the floor"
    lowest = min(value for value in map(ratio, slices[0].gamma) if value is not None)
    if lowest < BELOW and found <= limits.floor:
        reason = f"A method scores {lowest:.2f} of it: noise was overestimated; give noise scans."
        return Criterion(name, measured, threshold, Verdict.OPEN, reason)
    reason = "Far above the floor, signal is missing. Scans with little noise may need a higher threshold."
    return Criterion(name, measured, threshold, _judged(found <= limits.floor), reason)


def _lesions(slices: Sequence[SliceResult], model: str, limits: Thresholds) -> list[Criterion]:
    lowest, highest = limits.contrast, 1 / limits.contrast
    lines, widths = [], []
    for bright, kind in ((True, "Bright"), (False, "Dark")):
        name, threshold = f"{kind} lesions: contrast", f"{lowest:.2f} to {highest:.2f}"
        found = mean_recovery(slices, model, bright)
        if found is None:
            reason = (
                f"No lesion fitted in, or noise hides them all (signal-to-noise ratio below {VISIBLE:g})."
            )
            lines.append(Criterion(name, "–", threshold, Verdict.OPEN, reason))
            continue
        widths.append(math.inf if found.width is None else found.width)
        reason = "Less hides what is looked for, more makes it up."
        passed = lowest <= found.contrast <= highest
        lines.append(Criterion(name, f"{found.contrast:.3f} of it", threshold, _judged(passed), reason))
    name, threshold = "Lesions: width", f"at most {limits.width:g} times their own"
    if not widths:
        lines.append(Criterion(name, "–", threshold, Verdict.OPEN, "As above."))
        return lines
    width = fmean(widths)
    measured = f"{width:.3f} times their own" if math.isfinite(width) else "no peak is left"
    reason = "Full width at half maximum: what is wider is blurred."
    return [*lines, Criterion(name, measured, threshold, _judged(width <= limits.width), reason)]


def _repeat(slices: Sequence[SliceResult], model: str, limits: Thresholds) -> Criterion:
    name, threshold = "Repeatability", f"at most {limits.repeat:g} times the noise"
    repeats = [one.repeats[model] for one in slices if model in one.repeats]
    if not repeats:
        reason = "No slice was measured twice; give averages=apart or --again."
        return Criterion(name, "–", threshold, Verdict.UNTESTED, reason)
    ratios = [one.ratio for one in repeats if one.ratio is not None]
    if not ratios:
        return Criterion(name, "–", threshold, Verdict.OPEN, "Nothing tells the noise; give noise scans.")
    ratio = fmean(ratios)
    reason = (
        "Two measurements that differ by more than noise: motion, or a reconstruction that is not stable."
    )
    return Criterion(name, f"{ratio:.3f} times the noise", threshold, _judged(ratio <= limits.repeat), reason)
