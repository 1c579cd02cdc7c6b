"""The tables of an experiment: every condition's runs scored on its test scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noref import api
from noref.config import PLACE, Source
from noref.data.dataset import Dataset
from noref.errors import NorefError
from noref.evaluation.results import Report
from noref.evaluation.score import Reconstructor, by_classical, by_network
from noref.experiments import kept
from noref.experiments.columns import HOURS, measured_columns, shares
from noref.experiments.experiment import Begun, Experiment, Run
from noref.experiments.kept import Kept, Scans
from noref.experiments.train import hours
from noref.files import whole
from noref.scan import Role
from noref.scoring import Scored, Trained, report, score_all, shared_subjects, summary

Place = tuple[str, str, int]
"""Condition, row and seed of a run."""

OTHERS = "A real scan of another scanner than the models were trained for: one subject, descriptive."


def known(results: Path, experiment: Experiment, size: Begun) -> dict[Place, Kept]:
    """What the results have of an experiment's runs, by condition, row and seed.

    Raises:
        NorefError: as `kept.read` does.
    """
    found = {}
    for name, condition in experiment.conditions.items():
        tables = [
            {one.key: one for one in kept.read(results / f"{_stem(experiment, name, other)}.jsonl", size)}
            for other in ("", *condition.also)
        ]
        # Of a run that is not on all pages yet the model is needed.
        for key, one in tables[0].items():
            if all(key in table for table in tables):
                found[name, *key] = one
    return found


def tabulate(
    experiment: Experiment,
    condition: str,
    runs: Sequence[Run],
    *,
    data: Path,
    size: Begun,
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
        results: folder of the numbers: a page's, `EXPERIMENT-CONDITION.json`, without its pictures, since the
            scans may not be published; and those of each run, `EXPERIMENT-CONDITION.jsonl`.

    Yields:
        each page, and what it shows.
    """
    name, home = f"{experiment.name}, {condition}", runs[0].home / condition
    here = [run for run in runs if run.finished]
    table = _Table(experiment, condition, here, size, command, results)
    if not table.has():
        return
    test = _scans(runs[0], experiment.conditions[condition].test)
    repeats = _scans(runs[0], (experiment.repeats,)) if experiment.repeats else None
    page = home / "report.html"
    intro = f"{experiment.intro} {experiment.division}".strip()
    yield page, table.write(test, page, title=name, intro=intro, repeats=repeats)
    for other, settings in experiment.conditions[condition].also.items():
        if not table.has(other):
            continue
        source = Source.model_validate({**settings, "path": str(data / settings["path"])})
        scans, page = api.dataset(source, Role.TARGET), home / f"report-{other}.html"
        yield page, table.write(scans, page, other, title=f"{name}: {other}", intro=OTHERS)


def _stem(experiment: Experiment, condition: str, other: str = "") -> str:
    """Of the names of a table's files among the results; of other scans if these are named."""
    return "-".join(filter(None, (experiment.name, condition, other)))


def _scans(run: Run, names: tuple[str, ...]) -> Dataset:
    """Scans that are scored, undersampled as those of the training are."""
    given = run.config().data
    like = given.validation or given.target or given.proxy
    assert like is not None, "a run has scans"
    paths = [str(path) for path in run.folders(names)]
    how = Source.model_validate({**like.model_dump(exclude=set(PLACE)), "path": paths})
    return api.dataset(how, Role.TARGET)


@dataclass(frozen=True)
class _Table:
    """What the pages of a condition share; see `tabulate`."""

    experiment: Experiment
    condition: str
    here: Sequence[Run]
    size: Begun
    command: str
    results: Path | None

    def file(self, other: str, suffix: str) -> Path | None:
        """Among the results, of the condition's scans or of others."""
        stem = _stem(self.experiment, self.condition, other)
        return None if self.results is None else self.results / f"{stem}{suffix}"

    def kept(self, other: str = "", scans: Scans | None = None) -> list[Kept]:
        """The runs among the results."""
        file = self.file(other, ".jsonl")
        return [] if file is None else kept.read(file, self.size, scans)

    def has(self, other: str = "") -> bool:
        """Whether there is a run for the page, here or among the results."""
        return bool(self.here) or any(one.row in self.experiment.rows for one in self.kept(other))

    def write(
        self,
        scans: Dataset,
        page: Path,
        other: str = "",
        *,
        title: str,
        intro: str,
        repeats: Dataset | None = None,
    ) -> Report:
        """Scores the runs that are here, keeps that, and writes the page of all that is kept.

        Args:
            scans: of the page.
            page: to write.
            other: name of the scans, if they are others than the condition's.
            title: of the page.
            intro: of the page.
            repeats: scans that were repeated, of an experiment that measures on them.

        Raises:
            NorefError: if what was kept is of other scans, or of runs that differ in more than their seeds.
        """
        experiment, known = self.experiment, Scans.of(scans)
        trained = [(run, Trained.of(run.folder)) for run in self.here]
        # Before anything is scored, which takes minutes.
        self._check(trained, other, known)
        untrained = {name: by_classical(name) for name in experiment.classical} | dict(experiment.others)
        scored = score_all({}, scans, classical=experiment.classical, others=experiment.others)
        measured = {
            name: [self._measured(name, made_by, scans, repeats)] for name, made_by in untrained.items()
        }
        fresh: dict[tuple[str, int], Scored] = {}
        mine, notes = list[Kept](), list[str]()
        for run, of in trained:
            ((of_run,),) = score_all({run.row: [of]}, scans, classical=()).values()
            measures = self._measured(run.row, by_network(of.model.estimate), scans, repeats)
            mine.append(self._line(run, of_run, known, measures))
            fresh[mine[-1].key] = of_run
            notes += shared_subjects({run.row: [of]}, scans)
        every = self._all(mine, other, known)
        for one in every:
            scored.setdefault(one.row, []).append(fresh.get(one.key, one.scored))
            measured.setdefault(one.row, []).append(
                one.measures | ({} if one.hours is None else {HOURS: one.hours})
            )
        made = report(
            scored,
            scans,
            page,
            title=title,
            intro=intro,
            baseline=experiment.baseline,
            commands=list(dict.fromkeys(one.command for one in every)),
            notes=list(dict.fromkeys(notes)),
            columns=[*measured_columns(experiment, measured), *shares(experiment, scored)],
            untested=experiment.untested,
        )
        if numbers := self.file(other, ".json"):
            with whole(numbers) as temporary:
                temporary.write_bytes(page.with_suffix(".json").read_bytes())
        return made

    def _check(self, trained: Sequence[tuple[Run, Trained]], other: str, scans: Scans) -> None:
        """Refuses what was kept of other scans, and of seeds that were trained otherwise than those here."""
        here = {(run.row, run.seed) for run, _ in trained}
        settings = {one.row: one for one in self.kept(other, scans) if one.key not in here}
        for run, of in trained:
            before = settings.get(run.row)
            if before is not None and before.settings != summary(of.model):
                raise NorefError(
                    f"{run.folder}: trained with other settings than seed {before.seed} of {run.row}, whose "
                    f"scores are in {self.file(other, '.jsonl')}; remove that line, or the run"
                )

    def _measured(
        self, row: str, made_by: Reconstructor, scans: Dataset, repeats: Dataset | None
    ) -> Mapping[str, float]:
        """What the experiment itself measures of a row."""
        further = self.experiment.further
        return further(row, made_by, scans, repeats) if further is not None and repeats is not None else {}

    def _line(self, run: Run, scored: Scored, scans: Scans, measures: Mapping[str, float]) -> Kept:
        """What is kept of a run."""
        spent = hours(run)
        return Kept(
            row=run.row,
            seed=run.seed,
            size=dict(self.size),
            scans=scans,
            settings=scored.settings,
            command=self.command,
            hours=spent if math.isfinite(spent) else None,
            measures={name: value for name, value in measures.items() if math.isfinite(value)},
            curve=kept.validations(scored.curve),
            scores=kept.scores(scored.result),
        )

    def _all(self, mine: list[Kept], other: str, scans: Scans) -> list[Kept]:
        """The runs that are here and those that were kept, of the experiment's rows, in their order."""
        file, order = self.file(other, ".jsonl"), list(self.experiment.rows)
        if file is not None:
            mine = kept.keep(file, mine, order) if mine else self.kept(other, scans)
        return sorted(
            (one for one in mine if one.row in order), key=lambda one: (order.index(one.row), one.seed)
        )
