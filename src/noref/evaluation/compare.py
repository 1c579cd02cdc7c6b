"""Paired comparisons over subjects, and how well Γ chooses between checkpoints.

SciPy's tests take as long to import as half of PyTorch, which only comparisons spend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.seeding import Key

FEWEST_SUBJECTS = 6
"""Below this, no two-sided Wilcoxon test can reach 5 %: nothing is tested, and spreads are descriptive."""

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """How far one method lies from the baseline, over the subjects that both were scored on.

    Attributes:
        mean: of the paired differences, method minus baseline.
        low: lower end of the mean's 95 % bootstrap interval; of fewer than 6 subjects the smallest.
        high: upper end; of fewer than 6 subjects the largest.
        subjects: how many were scored by both.
        p: Wilcoxon's signed-rank test, two-sided, Holm-corrected; None with fewer than 6 subjects.
    """

    mean: float
    low: float
    high: float
    subjects: int
    p: float | None


def differences(
    baseline: Mapping[str, float], others: Mapping[str, Mapping[str, float]], tested: bool = True
) -> dict[str, Difference]:
    """Compares methods with a baseline, subject by subject.

    Args:
        baseline: the baseline's score of each volume, named `subject` or `subject/scan`; the differences of a
            subject's scans are averaged first, since they say little about other subjects.
        others: each other method's score of each volume, by the method's name.
        tested: whether many subjects are enough for tests and intervals; otherwise they are as few.

    Returns:
        A difference for every method that shares a subject with the baseline. Holm's correction counts the
        methods that were tested.
    """
    paired = {}
    for name, scores in others.items():
        deltas = {volume: scores[volume] - baseline[volume] for volume in baseline if volume in scores}
        if deltas:
            paired[name] = np.array(list(by_subject(deltas).values()))
    fewest = FEWEST_SUBJECTS if tested else math.inf
    p_values = holm({name: _wilcoxon(d) for name, d in paired.items() if d.size >= fewest})
    return {name: _difference(deltas, p_values.get(name)) for name, deltas in paired.items()}


def subject_of(volume: str) -> str:
    """The subject that `subject` or `subject/scan` is of."""
    return volume.split("/", 1)[0]


def by_subject(values: Mapping[str, float]) -> dict[str, float]:
    """Of values by volume, named `subject` or `subject/scan`, the mean of each subject's."""
    found: dict[str, list[float]] = {}
    for volume, value in values.items():
        found.setdefault(subject_of(volume), []).append(value)
    return {subject: fmean(of) for subject, of in found.items()}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (Scand J Stat 1979): `max_{j ≤ i} min(1, (m − j + 1) p_(j))`."""
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def _wilcoxon(deltas: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(deltas).pvalue) if deltas.any() else 1.0


def _difference(deltas: NDArray[np.float64], p: float | None) -> Difference:
    if p is None:
        low, high = deltas.min(), deltas.max()
    else:
        draws = Key(0, "", "bootstrap").numpy().integers(deltas.size, size=(_RESAMPLES, deltas.size))
        low, high = np.percentile(deltas[draws].mean(-1), [2.5, 97.5])
    return Difference(float(deltas.mean()), float(low), float(high), deltas.size, p)


@dataclass(frozen=True)
class Share:
    """How much of the distance between two methods another one closes.

    Attributes:
        mean: `(m − a) / (b − a)` of the mean scores; 0 is as good as `a`, 1 as good as `b`.
        low: lower end of the 95 % bootstrap interval over volumes; descriptive if these are of one subject.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def share_closed(scores: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float]) -> Share:
    """The share of the distance from `low` to `high` that a method closes, paired over volumes.

    Args:
        scores: the method's, by volume.
        low: the weaker method's, of the same volumes.
        high: the stronger method's, of the same volumes.

    Raises:
        NorefError: if the volumes differ.
    """
    if not scores.keys() == low.keys() == high.keys():
        raise NorefError(
            "shares of a distance: the methods were scored on different volumes; score them alike"
        )
    of, a, b = (np.array([some[volume] for volume in scores]) for some in (scores, low, high))
    draws = Key(0, "", "bootstrap").numpy().integers(of.size, size=(_RESAMPLES, of.size))
    shares = (of - a)[draws].mean(-1) / (b - a)[draws].mean(-1)
    ends = np.percentile(shares, [2.5, 97.5])
    return Share(float((of - a).mean() / (b - a).mean()), float(ends[0]), float(ends[1]))


@dataclass(frozen=True)
class Choice:
    """What choosing by Γ costs, known only where there is a reference.

    Attributes:
        candidates: checkpoints, or methods, that had both Γ and PSNR.
        rank_correlation: Spearman's, between −Γ and PSNR; 1 where Γ ranks as the reference does.
        lost: the best candidate's PSNR minus that of the one with the lowest Γ, dB.
    """

    candidates: int
    rank_correlation: float
    lost: float


def choice_by_gamma(rows: Sequence[Mapping[str, Any]]) -> Choice | None:
    """How well Γ ranks the checkpoints of a run, or methods.

    Args:
        rows: such as those of `metrics.jsonl`; those with finite `gamma` and `psnr` are candidates.

    Returns:
        None with fewer than three candidates, or where Γ or PSNR never changes.
    """
    pairs = [(row["gamma"], row["psnr"]) for row in rows if "gamma" in row and "psnr" in row]
    gamma, psnr = np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2).T
    if len(gamma) < 3 or not np.ptp(gamma) or not np.ptp(psnr):
        return None
    from scipy.stats import spearmanr

    correlation = float(spearmanr(-gamma, psnr).statistic)
    return Choice(len(gamma), correlation, float(psnr.max() - psnr[gamma.argmin()]))
