"""Tables of several tables' scans: every scan is the test of networks that never saw it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from noref.errors import NorefError
from noref.evaluation.compare import by_subject
from noref.evaluation.report import write_report
from noref.evaluation.results import METRICS, Column, MethodResult, Report, SubjectScore, mean_over
from noref.experiments import kept
from noref.experiments.columns import shares
from noref.experiments.experiment import Experiment
from noref.experiments.kept import Kept
from noref.files import whole
from noref.scoring import Scored

PSNR = METRICS[0]


def pool(
    experiment: Experiment, name: str, size: Mapping[str, int | None], results: Path, page: Path
) -> Report | None:
    """Writes the page of a pooled table, and its numbers, from what is kept of its tables.

    A row is in it if each of its tables has it, by the seeds that all of them have: no subject counts more.

    Args:
        experiment: whose.
        name: of the pooled table.
        size: that the experiment was begun with.
        results: folder of the numbers of its tables, and of its own: `EXPERIMENT-NAME.json`.
        page: to write.

    Returns:
        what the page shows; None, and no page, where there is no row that all of the tables have.

    Raises:
        NorefError: if a row was trained otherwise for one table than for another.
    """
    stems = [f"{experiment.name}-{table}" for table in experiment.pooled[name]]
    runs = _in_all([kept.read(results / f"{stem}.jsonl", size) for stem in stems])
    rows = {row: [of for key, of in runs.items() if key[0] == row] for row in experiment.rows}
    rows = {row: seeds for row, seeds in rows.items() if seeds}
    if not rows:
        return None
    pages = [json.loads((results / f"{stem}.json").read_text(encoding="utf-8")) for stem in stems]
    scored = _untrained(experiment, pages)
    for row, seeds in rows.items():
        if len({one.settings for of in seeds for one in of}) > 1:
            raise NorefError(
                f"{results}: {row} has other settings in one of {', '.join(stems)} than in the others; "
                "remove its lines there, and train it again"
            )
        scored[row] = [
            Scored(_joined(row, [one.scored.result for one in of]), settings=of[0].settings) for of in seeds
        ]
    every = [one for seeds in rows.values() for of in seeds for one in of]
    ceilings = [one["ceiling_psnr"] for one in pages]
    made = Report(
        f"{experiment.name}, {name}",
        [mean_over([seed.result for seed in seeds]) for seeds in scored.values()],
        intro=experiment.intro,
        commands=_distinct(one.command for one in every),
        labels=_distinct(label for one in pages for label in one["labels"]),
        ceiling_psnr=None if None in ceilings else fmean(ceilings),
        baseline=experiment.baseline,
        settings={row: seeds[0].settings for row, seeds in scored.items() if seeds[0].settings},
        notes=[
            f"All scans of {', '.join(experiment.pooled[name])}: each tests networks that were trained on "
            "others. These share most of their training scans, so the subjects are not independent.",
            f"By the seeds that all of these tables have: {_seeds(rows)}.",
        ],
        columns=[*shares(experiment, scored), *_subjects(experiment, scored)],
        people=experiment.people,
    )
    write_report(page, made)
    with whole(results / f"{experiment.name}-{name}.json") as temporary:
        temporary.write_bytes(page.with_suffix(".json").read_bytes())
    return made


def _in_all(tables: Sequence[Sequence[Kept]]) -> dict[tuple[str, int], list[Kept]]:
    """What each of the tables has of every run that all of them have, by row and seed."""
    found = [{one.key: one for one in table} for table in tables]
    return {key: [of[key] for of in found] for key in found[0] if all(key in of for of in found)}


def _untrained(experiment: Experiment, pages: Sequence[Mapping[str, Any]]) -> dict[str, list[Scored]]:
    """Methods that have no line, such as classical ones, by the numbers of every page."""
    results = [
        {
            method["name"]: MethodResult(method["name"], [SubjectScore(**of) for of in method["subjects"]])
            for method in page["methods"]
        }
        for page in pages
    ]
    names = (*experiment.classical, *experiment.others)
    return {name: [Scored(_joined(name, [of[name] for of in results]))] for name in names}


def _joined(name: str, results: Iterable[MethodResult]) -> MethodResult:
    return MethodResult(name, [score for result in results for score in result.scores])


def _subjects(experiment: Experiment, scored: Mapping[str, Sequence[Scored]]) -> list[Column]:
    """A column for every subject: PSNR, and the share of the distance between the anchors."""
    means = {
        row: by_subject(mean_over([seed.result for seed in seeds]).values(PSNR))
        for row, seeds in scored.items()
    }
    low, high = (means.get(anchor, {}) for anchor in experiment.anchors or ("", ""))
    cells: dict[str, dict[str, str]] = {}
    for row, of in means.items():
        for subject, value in of.items():
            text = f"{value:.2f}"
            if row not in (experiment.anchors or ()) and low.get(subject, 0) < high.get(subject, 0):
                text += f" ({(value - low[subject]) / (high[subject] - low[subject]):.0%})"
            cells.setdefault(subject, {})[row] = text
    note = f"{PSNR.name}, {PSNR.unit} (distance closed)"
    return [Column(subject, note, of) for subject, of in cells.items()]


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _seeds(rows: Mapping[str, Sequence[Sequence[Kept]]]) -> str:
    """Such as `ssdu 0, default 0 and 1`."""
    return ", ".join(f"{row} {' and '.join(str(of[0].seed) for of in seeds)}" for row, seeds in rows.items())
