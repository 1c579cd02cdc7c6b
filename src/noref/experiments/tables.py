"""The tables of an experiment: every condition's runs scored on its test scans."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from noref import api
from noref.data.dataset import Dataset
from noref.evaluation.compare import share_closed
from noref.evaluation.results import METRICS, Column, MethodResult, Report, mean_over
from noref.evaluation.score import Reconstructor, by_classical, by_network
from noref.experiments.experiment import Experiment, Run
from noref.experiments.train import hours
from noref.scan import Role
from noref.scoring import Trained, report


def tabulate(
    experiment: Experiment,
    condition: str,
    runs: Sequence[Run],
    *,
    commands: Sequence[str],
    results: Path | None,
) -> tuple[Path, Report]:
    """Scores a condition's finished runs, and writes its page.

    Args:
        experiment: whose.
        condition: name of the table.
        runs: of the condition.
        commands: that made it.
        results: folder that gets a copy of the numbers; the page shows scans, which may not be published.

    Returns:
        the page, and what it shows.
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
        made = [*_shares(experiment, scored), Column("Training", "hours, mean over seeds", spent)]
        if experiment.further is None:
            return made
        reconstructors: dict[str, list[Reconstructor]] = {
            **{name: [by_classical(name)] for name in experiment.classical},
            **{name: [other] for name, other in experiment.others.items()},
            **{row: [by_network(run.model.estimate) for run in seeds] for row, seeds in trained.items()},
        }
        repeats = _scans(trained, [str(home / "data" / experiment.repeats)])
        return [*experiment.further(reconstructors, test, repeats), *made]

    page = home / condition / "report.html"
    made = report(
        trained,
        test,
        page,
        classical=experiment.classical,
        others=experiment.others,
        title=f"{experiment.name}, {condition}",
        intro=experiment.intro,
        baseline=experiment.baseline,
        commands=commands,
        columns=columns,
    )
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page.with_suffix(".json"), results / f"{experiment.name}-{condition}.json")
    return page, made


def _scans(trained: Mapping[str, Sequence[Trained]], paths: list[str]) -> Dataset:
    """Scans that are scored, undersampled as those of the training are."""
    given = next(iter(trained.values()))[0].model.config.data
    like = given.validation or given.target or given.proxy
    assert like is not None, "a run has scans"
    return api.dataset(like.model_copy(update={"path": paths, "role": None}), Role.TARGET)


def _shares(experiment: Experiment, scored: Mapping[str, Sequence[MethodResult]]) -> list[Column]:
    """The share of the distance between the anchors that every row closes, where both are there."""
    psnr = METRICS[0]
    values = {row: mean_over(seeds).values(psnr) for row, seeds in scored.items()}
    low, high = experiment.anchors
    if not (values.get(low) and values.get(high)):
        return []
    cells = {}
    for row, of in values.items():
        if row not in experiment.anchors and of.keys() == values[low].keys() == values[high].keys():
            share = share_closed(of, values[low], values[high])
            cells[row] = f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})"
    return [Column("Distance closed", f"{low} to {high}, 95 % bootstrap interval over slices", cells)]
