"""The tables of an experiment: every condition's runs scored on its test scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from noref import api
from noref.config import PLACE, Source
from noref.data.dataset import Dataset
from noref.evaluation.compare import share_closed
from noref.evaluation.results import METRICS, Column, Report, mean_over
from noref.evaluation.score import by_classical, by_network
from noref.experiments.experiment import Experiment, Measure, Run
from noref.experiments.kept import Kept, check_same_scans, keep, kept
from noref.experiments.train import hours
from noref.files import whole
from noref.scan import Role
from noref.scoring import Scored, Trained, report, score_all, shared_subjects

OTHERS = "A real scan of another scanner than the models were trained for: one subject, descriptive."

FINGERPRINT = "zero-filled"
"""The method without settings, of every table, by whose scores scans are known again."""


def check_results(results: Path, experiment: Experiment, size: Mapping[str, Any]) -> None:
    """Refuses a folder of scores that could not stand in the experiment's tables.

    Raises:
        NorefError: as `kept` does.
    """
    for condition in experiment.conditions:
        for path in results.glob(f"{experiment.name}-{condition}*.jsonl"):
            kept(path, size)


def tabulate(
    experiment: Experiment,
    condition: str,
    runs: Sequence[Run],
    *,
    data: Path,
    size: Mapping[str, Any],
    command: str,
    results: Path | None,
) -> Iterator[tuple[Path, Report]]:
    """Scores a condition's finished runs on its test scans, and on others, and writes the pages.

    Runs that are not here, but whose scores are among the results, stand in the tables beside these.

    Args:
        experiment: whose.
        condition: name of the table.
        runs: of the condition.
        data: folder of the real scans.
        size: that the experiment was begun with.
        command: that was typed.
        results: folder of the numbers: a page's, `EXPERIMENT-CONDITION.json`, without its pictures, since
            the scans may not be published; and those of each run, `EXPERIMENT-CONDITION.jsonl`.

    Yields:
        each page, and what it shows.
    """
    name, home = f"{experiment.name}, {condition}", runs[0].home / condition
    order = list(experiment.rows)
    here = [run for run in runs if run.finished and experiment.rows[run.row].scored]
    here.sort(key=lambda run: (order.index(run.row), run.seed))
    write = partial(_write, experiment, here, size=size, command=command)

    def file(name: str) -> Path | None:
        return results / f"{experiment.name}-{condition}{name}.jsonl" if results is not None else None

    of_it = file("")
    if not here and not (of_it and of_it.exists()):
        return
    test = _scans(runs[0], experiment.conditions[condition].test)
    repeats = _scans(runs[0], (experiment.repeats,)) if experiment.repeats else None
    page = home / "report.html"
    made = write(test, page, of_it, title=name, intro=experiment.intro, repeats=repeats)
    if made:
        yield page, made
    for other, settings in experiment.conditions[condition].also.items():
        source = Source.model_validate({**settings, "path": str(data / settings["path"])})
        scans, page = api.dataset(source, Role.TARGET), home / f"report-{other}.html"
        made = write(scans, page, file(f"-{other}"), title=f"{name}: {other}", intro=OTHERS)
        if made:
            yield page, made


def _scans(run: Run, names: tuple[str, ...]) -> Dataset:
    """Scans that are scored, undersampled as those of the training are."""
    given = run.config().data
    like = given.validation or given.target or given.proxy
    assert like is not None, "a run has scans"
    paths = [str(path) for path in run.folders(names)]
    how = Source.model_validate({**like.model_dump(exclude=set(PLACE)), "path": paths})
    return api.dataset(how, Role.TARGET)


def _write(
    experiment: Experiment,
    here: Sequence[Run],
    scans: Dataset,
    page: Path,
    file: Path | None,
    *,
    title: str,
    intro: str,
    size: Mapping[str, Any],
    command: str,
    repeats: Dataset | None = None,
) -> Report | None:
    """Writes the page of the runs that are here and of those in the file, and all of them to the file."""
    known = {(run.row, run.seed) for run in here}
    before = kept(file, size) if file is not None else []
    elsewhere = [run for run in before if (run.row, run.seed) not in known and run.row in experiment.rows]
    if not here and not elsewhere:
        return None
    trained: dict[str, list[Trained]] = {}
    for run in here:
        trained.setdefault(run.row, []).append(Trained.of(run.folder))
    scored = score_all(trained, scans, classical=experiment.classical, others=experiment.others)
    (plain,) = scored[FINGERPRINT]
    subjects = [score.subject for score in plain.result.scores]
    psnr, gamma = (plain.result.values(metric) for metric in METRICS if metric.key in ("psnr", "gamma"))
    fingerprint = fmean((psnr or gamma).values())
    if file is not None:
        check_same_scans(file, elsewhere, fingerprint, subjects)
    measures = _measures(experiment, trained, scans, repeats) if repeats is not None else []
    flat = [one for row in trained for one in scored[row]]
    measured = {of.name: [value for row in trained for value in of.values[row]] for of in measures}
    mine = [
        Kept(
            row=run.row,
            seed=run.seed,
            size=size,
            fingerprint=fingerprint,
            command=command,
            hours=hours(run),
            measures={name: values[place] for name, values in measured.items()},
            scored=flat[place],
        )
        for place, run in enumerate(here)
    ]
    every = sorted([*mine, *elsewhere], key=lambda run: list(experiment.rows).index(run.row))
    rows: dict[str, list[Kept]] = {}
    for one in every:
        rows.setdefault(one.row, []).append(one)
    table = {name: seeds for name, seeds in scored.items() if name not in trained}
    table |= {row: [one.scored for one in seeds] for row, seeds in rows.items()}
    made = report(
        table,
        scans,
        page,
        title=title,
        intro=intro,
        baseline=experiment.baseline,
        commands=list(dict.fromkeys(one.command for one in every)),
        notes=shared_subjects(trained, scans),
        columns=[*_measured(measures, rows), *_shares(experiment, table), _hours(rows)],
        people=experiment.people,
    )
    if file is not None:
        keep(file, every)
        with whole(file.with_suffix(".json")) as temporary:
            temporary.write_bytes(page.with_suffix(".json").read_bytes())
    return made


def _measures(
    experiment: Experiment, trained: Mapping[str, Sequence[Trained]], scans: Dataset, repeats: Dataset
) -> Sequence[Measure]:
    """What the experiment measures itself."""
    if experiment.further is None:
        return []
    untrained = {name: by_classical(name) for name in experiment.classical} | dict(experiment.others)
    reconstructors = {name: [made_by] for name, made_by in untrained.items()}
    reconstructors |= {
        row: [by_network(run.model.estimate) for run in seeds] for row, seeds in trained.items()
    }
    return experiment.further(reconstructors, scans, repeats)


def _measured(measures: Sequence[Measure], rows: Mapping[str, Sequence[Kept]]) -> list[Column]:
    """The experiment's own columns, means over seeds."""
    columns = []
    for of in measures:
        kept_values = {row: [one.measures[of.name] for one in seeds] for row, seeds in rows.items()}
        cells = {row: f"{fmean(values):.3f}" for row, values in ({**of.values} | kept_values).items()}
        columns.append(Column(of.name, of.note, cells))
    return columns


def _hours(rows: Mapping[str, Sequence[Kept]]) -> Column:
    cells = {row: f"{fmean(one.hours for one in seeds):.2f}" for row, seeds in rows.items()}
    return Column("Training", "CPU hours, mean over seeds, on the machine that each was trained on", cells)


def _shares(experiment: Experiment, table: Mapping[str, Sequence[Scored]]) -> list[Column]:
    """The share of the distance between the anchors that every row closes, where both are there."""
    psnr = METRICS[0]
    values = {row: mean_over([seed.result for seed in seeds]).values(psnr) for row, seeds in table.items()}
    if experiment.anchors is None:
        return []
    low, high = experiment.anchors
    if not (values.get(low) and values.get(high)):
        return []
    cells = {}
    for row, of in values.items():
        if row not in experiment.anchors and of.keys() == values[low].keys() == values[high].keys():
            share = share_closed(of, values[low], values[high])
            cells[row] = f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})"
    return [Column("Distance closed", f"{low} to {high}, 95 % bootstrap interval over slices", cells)]
