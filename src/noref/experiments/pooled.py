"""Tables of several tables' scans: every scan is the test of networks that never saw it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from noref.errors import NorefError
from noref.evaluation.compare import by_subject
from noref.evaluation.report import write_report
from noref.evaluation.results import METRICS, Column, MethodResult, Report, SubjectScore, mean_over
from noref.evaluation.tables import percent
from noref.experiments import kept
from noref.experiments.experiment import Begun, Experiment
from noref.experiments.kept import Kept
from noref.files import whole

PSNR = METRICS[0]


@dataclass(frozen=True)
class _Page:
    """What the numbers of a table tell of all but its runs.

    Attributes:
        labels: of the page.
        ceiling: PSNR that a perfect reconstruction would reach, dB; None where that is not known.
        results: scores of methods that are not trained, by name.
    """

    labels: Sequence[str]
    ceiling: float | None
    results: Mapping[str, MethodResult]

    @classmethod
    def read(cls, path: Path, untrained: Iterable[str]) -> _Page:
        try:
            page: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            results = {
                method["name"]: MethodResult(
                    method["name"], [SubjectScore(**of) for of in method["subjects"]]
                )
                for method in page["methods"]
            }
            return cls(page["labels"], page["ceiling_psnr"], {name: results[name] for name in untrained})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NorefError(
                f"{path}: not the numbers of a table ({type(error).__name__}: {error}); have its --condition "
                "scored again, with --score"
            ) from None


def pool(experiment: Experiment, name: str, size: Begun, results: Path, page: Path) -> Report | None:
    """Writes the page of a pooled table, and its numbers, from what is kept of its tables.

    A row is in it if each of its tables has it, by the seeds that all of them have.

    Args:
        experiment: whose.
        name: of the pooled table.
        size: that the experiment was begun with.
        results: folder of the numbers of its tables, and of its own: `EXPERIMENT-NAME.json`.
        page: to write.

    Returns:
        what the page shows; None, and no page, where there is no row that all of the tables have.

    Raises:
        NorefError: if a row was trained otherwise for one table than for another, or numbers cannot be read.
    """
    of = experiment.pooled[name]
    stems = [f"{experiment.name}-{table}" for table in of.tables]
    runs = _in_all([kept.read(results / f"{stem}.jsonl", size) for stem in stems])
    if not runs:
        return None
    for (row, seed), lines in runs.items():
        for stem, line in zip(stems, lines, strict=True):
            if line.settings != lines[0].settings:
                raise NorefError(
                    f"{results / stem}.jsonl: {row}, seed {seed}, was trained with other settings than in "
                    f"{stems[0]}.jsonl; remove that line, and the run"
                )
    untrained = (*experiment.classical, *experiment.others)
    pages = [_Page.read(results / f"{stem}.json", untrained) for stem in stems]
    made = {method: _joined(method, [one.results[method] for one in pages]) for method in untrained}
    seeds: dict[str, list[int]] = {}
    settings = {}
    for row in experiment.rows:
        by_seed = {seed: lines for (of_row, seed), lines in runs.items() if of_row == row}
        if by_seed:
            made[row] = mean_over(
                [_joined(row, [line.scored.result for line in lines]) for lines in by_seed.values()]
            )
            seeds[row], settings[row] = list(by_seed), next(iter(by_seed.values()))[0].settings
    ceilings = [one.ceiling for one in pages if one.ceiling is not None]
    report = Report(
        f"{experiment.name}, {name}",
        list(made.values()),
        intro=f"{experiment.intro} {of.division}",
        commands=list(dict.fromkeys(line.command for lines in runs.values() for line in lines)),
        labels=list(dict.fromkeys(label for one in pages for label in one.labels)),
        ceiling_psnr=fmean(ceilings) if len(ceilings) == len(pages) else None,
        baseline=experiment.baseline,
        settings=settings,
        notes=[
            f"The test scans of {', '.join(of.tables)}. Of each row the seeds that all of these have: "
            + ", ".join(f"{row} {' and '.join(map(str, numbers))}" for row, numbers in seeds.items())
            + ".",
            "The regularisation of classical methods is chosen by Γ, which flatters their Γ.",
        ],
        columns=_columns(experiment, made),
        untested=of.untested,
    )
    write_report(page, report)
    with whole(results / f"{experiment.name}-{name}.json") as temporary:
        temporary.write_bytes(page.with_suffix(".json").read_bytes())
    return report


def _in_all(tables: Sequence[Sequence[Kept]]) -> dict[tuple[str, int], list[Kept]]:
    """What each of the tables has of every run that all of them have, by row and seed."""
    found = [{line.key: line for line in table} for table in tables]
    return {key: [of[key] for of in found] for key in found[0] if all(key in of for of in found)}


def _joined(name: str, results: Iterable[MethodResult]) -> MethodResult:
    return MethodResult(name, [score for result in results for score in result.scores])


def _columns(experiment: Experiment, made: Mapping[str, MethodResult]) -> list[Column]:
    """The share of the distance between the anchors that is closed; PSNR and that share of every subject.

    Without shares where an anchor is missing, or where the anchors of any subject change places.
    """
    means = {row: by_subject(result.values(PSNR)) for row, result in made.items()}
    low, high = (means.get(anchor, {}) for anchor in experiment.anchors or ("", ""))
    apart = low.keys() == high.keys() and all(low[subject] < high[subject] for subject in low)
    closed: dict[str, str] = {}
    cells: dict[str, dict[str, str]] = {}
    for row, of in means.items():
        shares = {}
        if apart and of.keys() == low.keys() and row not in (experiment.anchors or ()):
            shares = {
                subject: (of[subject] - low[subject]) / (high[subject] - low[subject]) for subject in of
            }
            mean, start, end = (fmean(values.values()) for values in (of, low, high))
            share = (mean - start) / (end - start)
            least, most = min(shares.values()), max(shares.values())
            closed[row] = f"{percent(share)} ({percent(least)} to {percent(most)})"
        for subject, value in of.items():
            text = f"{value:.2f}" + (f" ({percent(shares[subject])})" if shares else "")
            cells.setdefault(subject, {})[row] = text
    columns = [Column("Distance closed", "of the mean; by subject the least and the most", closed)]
    columns += [Column(subject, f"{PSNR.name}, {PSNR.unit}", of) for subject, of in cells.items()]
    return [column for column in columns if column.cells]
