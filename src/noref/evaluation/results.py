"""What a report is made of, and the numbers it states."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.evaluation.compare import FEWEST_SUBJECTS, Difference, differences, subject_of

MetricName = Literal["psnr", "ssim", "nmse", "nmae", "hfen1", "gamma", "seconds"]


@dataclass(frozen=True)
class Metric:
    """How a score is written.

    Attributes:
        key: its field in `SubjectScore`.
        name: its heading.
        unit: empty for ratios.
        best: picks the best of several means; None where less is not better science.
        digits: decimals; None for as many as the smallest mean needs.
    """

    key: MetricName
    name: str
    unit: str
    best: Literal["highest", "lowest"] | None
    digits: int | None


METRICS = (
    Metric("psnr", "PSNR", "dB", "highest", 2),
    Metric("ssim", "SSIM", "", "highest", 3),
    Metric("nmse", "NMSE", "", "lowest", None),
    Metric("nmae", "NMAE", "", "lowest", None),
    Metric("hfen1", "HFEN₁", "", "lowest", None),
    Metric("gamma", "Γ", "", "lowest", None),
    Metric("seconds", "Time", "s", None, 2),
)


@dataclass(frozen=True)
class SubjectScore:
    """One subject's scores; None without a reference, or without Γ.

    Attributes:
        subject: its name, the same for every method; `subject/scan` where a subject has several scans.
        psnr: dB, of the volume.
        ssim: of the volume.
        nmse: of the volume.
        nmae: of the volume.
        hfen1: of the volume: edges, by the first norm.
        gamma: error on held-out samples.
        seconds: that the reconstruction took.
    """

    subject: str
    psnr: float | None
    ssim: float | None
    nmse: float | None
    nmae: float | None
    hfen1: float | None
    gamma: float | None
    seconds: float


@dataclass(frozen=True)
class MethodResult:
    """One method's scores.

    Attributes:
        name: unique within a report.
        scores: one a subject.
        images: subject to the magnitude image `(y, x)` of one slice, for the subjects of `extremes` at least.
    """

    name: str
    scores: Sequence[SubjectScore]
    images: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def values(self, metric: Metric) -> dict[str, float]:
        """The finite scores, by subject."""
        scores = {score.subject: getattr(score, metric.key) for score in self.scores}
        return {name: value for name, value in scores.items() if value is not None and math.isfinite(value)}


@dataclass(frozen=True)
class Column:
    """A further column of the table of scores.

    Attributes:
        name: its heading.
        note: what it means, in small letters under the heading.
        cells: a row's text; rows without one have none.
    """

    name: str
    note: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        title: of the page.
        results: one a method, in the order of the table.
        intro: what the data are; blank lines separate paragraphs.
        commands: what was typed, to be repeated.
        labels: what a reader must know before believing a number, such as "not raw".
        ceiling_psnr: dB that a perfect reconstruction would reach against these noisy references, or None.
        baseline: the method that the others are compared with, or None.
        pictured_by: the method whose best, median and worst subjects are pictured; the last one if None.
        references: subject to the magnitude image of the pictured slice.
        masks: subject to the mask `(ky, kx)` of the pictured slice.
        curves: each run's rows of `metrics.jsonl`.
        settings: name to value.
        notes: sentences.
        columns: of the table of scores, beside the metrics.
        untested: why nothing is tested however many subjects there are, such as "subjects may be one person".
    """

    title: str
    results: Sequence[MethodResult]
    intro: str = ""
    commands: Sequence[str] = ()
    labels: Sequence[str] = ()
    ceiling_psnr: float | None = None
    baseline: str | None = None
    pictured_by: str | None = None
    references: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    columns: Sequence[Column] = ()
    untested: str = ""

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if not names:
            raise NorefError(f"report {self.title!r}: no results; give at least one method's scores")
        if len(set(names)) < len(names):
            raise NorefError(
                f"report {self.title!r}: two methods of one name among {', '.join(names)}; rename one"
            )
        for role, name in (("baseline", self.baseline), ("pictured_by", self.pictured_by)):
            if name is not None and name not in names:
                known = ", ".join(names)
                raise NorefError(f"report {self.title!r}: {role} {name!r} has no scores; choose from {known}")

    @property
    def volumes(self) -> list[str]:
        """Names of all that was scored, `subject` or `subject/scan`, in the order of their appearance."""
        return list(dict.fromkeys(score.subject for result in self.results for score in result.scores))

    @property
    def subjects(self) -> list[str]:
        """All subjects, however many scans each has: what statistics count."""
        return list(dict.fromkeys(map(subject_of, self.volumes)))

    @property
    def primary(self) -> Metric:
        """The metric that methods are compared and subjects ranked by: PSNR, or Γ without any reference."""
        psnr, gamma = (next(metric for metric in METRICS if metric.key == key) for key in ("psnr", "gamma"))
        return psnr if any(result.values(psnr) for result in self.results) else gamma

    def differences(self, metric: Metric) -> dict[str, Difference]:
        """Paired differences to the baseline, by method; empty without a baseline."""
        values = {result.name: result.values(metric) for result in self.results}
        return (
            {} if self.baseline is None else differences(values.pop(self.baseline), values, not self.untested)
        )

    @property
    def descriptive(self) -> bool:
        """Whether there are too few subjects to claim significance, or they may be one and the same."""
        return bool(self.untested) or len(self.subjects) < FEWEST_SUBJECTS


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over volumes; `sd` is None for one."""

    mean: float
    sd: float | None
    volumes: int


def summarise(values: Mapping[str, float]) -> Summary | None:
    """Of one method's scores; None without any."""
    if not values:
        return None
    sd = statistics.stdev(values.values()) if len(values) > 1 else None
    return Summary(statistics.fmean(values.values()), sd, len(values))


def mean_over(seeds: Sequence[MethodResult]) -> MethodResult:
    """One method's scores as means over its seeds, subject by subject; images of the first that has any.

    Args:
        seeds: results of the same name, on the same subjects in the same order.
    """

    def mean(key: str, scores: Sequence[SubjectScore]) -> float | None:
        values = [getattr(score, key) for score in scores]
        return None if None in values else statistics.fmean(values)

    first, keys = seeds[0], [metric.key for metric in METRICS]
    means = [
        replace(scores[0], **{key: mean(key, scores) for key in keys})
        for scores in zip(*(result.scores for result in seeds), strict=True)
    ]
    return replace(first, scores=means, images=next((seed.images for seed in seeds if seed.images), {}))


def spread_over(results: Mapping[str, Sequence[MethodResult]]) -> list[Column]:
    """The column that says how far a row's seeds lie apart; none where every row has one seed."""
    metric = METRICS[0]
    cells = {}
    for name, seeds in results.items():
        means = [summary.mean for summary in (summarise(seed.values(metric)) for seed in seeds) if summary]
        if len(means) > 1:
            cells[name] = f"{min(means):.2f} to {max(means):.2f} ({len(means)})"
    note = "smallest and largest mean (seeds)"
    return [Column(f"{metric.name} by seed", note, cells)] if cells else []


def extremes(result: MethodResult, metric: Metric) -> dict[str, str]:
    """The volumes worth a picture, by role: best, median and worst; fewer roles for fewer volumes."""
    values = result.values(metric)
    ranked = sorted(values, key=values.__getitem__, reverse=metric.best == "highest")
    roles = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    if len(ranked) < 3:
        roles = {"best": 0, "worst": 1} if len(ranked) == 2 else {"only": 0} if ranked else {}
    return {role: ranked[index] for role, index in roles.items()}


def scores(report: Report) -> dict[str, Any]:
    """The report without pictures and curves, ready for JSON; scores that are not finite become None."""
    return {
        "title": report.title,
        "labels": list(report.labels),
        "commands": list(report.commands),
        "ceiling_psnr": report.ceiling_psnr,
        "baseline": report.baseline,
        "descriptive": report.descriptive,
        "methods": [_method(report, result) for result in report.results],
        "settings": dict(report.settings),
        "notes": list(report.notes),
        "columns": [asdict(column) for column in report.columns],
    }


def _method(report: Report, result: MethodResult) -> dict[str, Any]:
    values = {metric.key: result.values(metric) for metric in METRICS}
    summaries = {key: summarise(of) for key, of in values.items()}
    compared = {metric.key: report.differences(metric).get(result.name) for metric in METRICS}
    return {
        "name": result.name,
        "means": {key: asdict(summary) if summary else None for key, summary in summaries.items()},
        "differences": {key: asdict(difference) for key, difference in compared.items() if difference},
        "subjects": [
            {"subject": score.subject, **{key: of.get(score.subject) for key, of in values.items()}}
            for score in result.scores
        ],
    }
