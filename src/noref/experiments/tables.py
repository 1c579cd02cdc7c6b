"""The tables of an experiment: every condition's runs scored on its test scans."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from noref import api
from noref.config import PLACE, Source
from noref.data.dataset import Dataset
from noref.evaluation.compare import share_closed
from noref.evaluation.results import METRICS, Column, MethodResult, Report, mean_over
from noref.evaluation.score import Reconstructor, by_classical, by_network
from noref.experiments.experiment import Experiment, Run
from noref.experiments.train import hours
from noref.scan import Role
from noref.scoring import Trained, report

OTHERS = "A real scan of another scanner than the models were trained for: one subject, descriptive."


def tabulate(
    experiment: Experiment,
    condition: str,
    runs: Sequence[Run],
    *,
    data: Path,
    commands: Sequence[str],
    results: Path | None,
) -> Iterator[tuple[Path, Report]]:
    """Scores a condition's finished runs on its test scans, and on others, and writes the pages.

    Args:
        experiment: whose.
        condition: name of the table.
        runs: of the condition.
        data: folder of the real scans.
        commands: that made it.
        results: folder that gets a copy of the numbers; the page shows scans, which may not be published.

    Yields:
        each page, and what it shows.
    """
    rows: dict[str, list[Run]] = {}
    for run in runs:
        if run.finished and experiment.rows[run.row].scored:
            rows.setdefault(run.row, []).append(run)
    trained = {row: [Trained.of(run.folder) for run in seeds] for row, seeds in rows.items()}
    home = runs[0].home
    test = _scans(trained, [str(home / "data" / name) for name in experiment.conditions[condition].test])

    def columns(scored: Mapping[str, Sequence[MethodResult]]) -> list[Column]:
        spent = {row: f"{sum(map(hours, seeds)) / len(seeds):.2f}" for row, seeds in rows.items()}
        made = [*_shares(experiment, scored), Column("Training", "CPU hours, mean over seeds", spent)]
        if experiment.further is None:
            return made
        reconstructors: dict[str, list[Reconstructor]] = {
            **{name: [by_classical(name)] for name in experiment.classical},
            **{name: [other] for name, other in experiment.others.items()},
            **{row: [by_network(run.model.estimate) for run in seeds] for row, seeds in trained.items()},
        }
        repeats = _scans(trained, [str(home / "data" / experiment.repeats)])
        return [*experiment.further(reconstructors, test, repeats), *made]

    table = partial(
        report,
        trained,
        classical=experiment.classical,
        others=experiment.others,
        baseline=experiment.baseline,
        commands=commands,
        people=experiment.people,
    )
    name, page = f"{experiment.name}, {condition}", home / condition / "report.html"
    yield page, table(test, page, title=name, intro=experiment.intro, columns=columns)
    _keep(page, results, f"{experiment.name}-{condition}")
    for other, settings in experiment.conditions[condition].also.items():
        source = Source.model_validate({**settings, "path": str(data / settings["path"])})
        page = home / condition / f"report-{other}.html"
        scans = api.dataset(source, Role.TARGET)
        yield page, table(scans, page, title=f"{name}: {other}", intro=OTHERS)
        _keep(page, results, f"{experiment.name}-{condition}-{other}")


def _keep(page: Path, results: Path | None, name: str) -> None:
    """Copies a page's numbers to a folder."""
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page.with_suffix(".json"), results / f"{name}.json")


def _scans(trained: Mapping[str, Sequence[Trained]], paths: list[str]) -> Dataset:
    """Scans that are scored, undersampled as those of the training are."""
    given = next(iter(trained.values()))[0].model.config.data
    like = given.validation or given.target or given.proxy
    assert like is not None, "a run has scans"
    how = Source.model_validate({**like.model_dump(exclude=set(PLACE)), "path": paths})
    return api.dataset(how, Role.TARGET)


def _shares(experiment: Experiment, scored: Mapping[str, Sequence[MethodResult]]) -> list[Column]:
    """The share of the distance between the anchors that every row closes, where both are there."""
    psnr = METRICS[0]
    values = {row: mean_over(seeds).values(psnr) for row, seeds in scored.items()}
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
