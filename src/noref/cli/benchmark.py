"""`noref benchmark`: a standing experiment on real scans, all its rows, one report a table."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from noref.cli.demo import table
from noref.config.build import nearest
from noref.errors import NorefError
from noref.evaluation.results import Report
from noref.experiments import EXPERIMENTS, Experiment, Run, Size
from noref.experiments.experiment import Begun
from noref.experiments.kept import Kept
from noref.experiments.pooled import pool
from noref.experiments.tables import Place, known, tabulate
from noref.experiments.train import begun_with, claim, hours, left, once, prepared, runs_of, train
from noref.networks import NETWORKS
from noref.training import Interrupted


def benchmark(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(EXPERIMENTS)}.")],
    data: Annotated[Path, typer.Option(help="Folder of the real scans.")] = Path("data"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of data, runs and reports.")] = Path(
        "runs/benchmark"
    ),
    condition: Annotated[list[str] | None, typer.Option(help="These tables only. May be repeated.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="These rows only. May be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="These seeds only. May be repeated.")] = None,
    matrix: Annotated[int, typer.Option(min=32, help="Matrix that k-space is cropped to.")] = 128,
    phases: Annotated[int | None, typer.Option(min=1, help="Of the networks. Default: the recipe's.")] = None,
    features: Annotated[
        int | None, typer.Option(min=1, help="Of the networks. Default: the recipe's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps of every run. Default: the experiment's.")
    ] = None,
    stages: Annotated[int, typer.Option(min=1, help="Of refinement, which share the steps.")] = Size.stages,
    network: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(NETWORKS)}. Default: the recipe's.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of this process. Default: all cores.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of the numbers: what it has of other runs stays in the tables."),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Say which runs there are, and train none.")
    ] = False,
    train_only: Annotated[bool, typer.Option("--train", help="Score nothing, train what is left.")] = False,
    score: Annotated[bool, typer.Option("--score", help="Train nothing, score what there is.")] = False,
) -> None:
    """Train and score a standing experiment; the same command goes on where it was stopped.

    Several processes with the same command, on one machine or on one file system, share the runs out.
    """
    if name not in EXPERIMENTS:
        raise NorefError(f"{name}: no such experiment; {nearest(name, list(EXPERIMENTS))}")
    if train_only and score:
        raise NorefError("--train and --score: that leaves nothing to do; give one of them, or none for both")
    experiment, home, size = EXPERIMENTS[name], output / name, Size(phases, features, steps, stages, network)
    _check("--network", [network] if network else (), NETWORKS)
    _check("--condition", condition or (), experiment.conditions)
    _check("--row", row or (), experiment.rows)
    runs = runs_of(experiment, home, size, conditions=condition or (), rows=row or (), seeds=seed or ())
    if not runs:
        raise NorefError(f"{name}: no run is of that --condition, --row and --seed; see what --list says")
    begun = begun_with(experiment, matrix, size)
    scored = {} if results is None else known(results, experiment, begun)
    if list_only:
        print(listed(runs, scored))
        return
    if threads is not None:
        torch.set_num_threads(threads)
    prepared(experiment, data, home, matrix, size)
    if not score:
        try:
            train(left(runs, scored))
        except Interrupted:
            print(f"noref: stopped and saved; go on with: {shlex.join(_command())}", file=sys.stderr)
            raise typer.Exit(130) from None
    if train_only:
        return
    # All that there is of each table, whoever trained it.
    tables = runs_of(experiment, home, size, conditions=condition or ())
    here = {run.condition for run in tables if run.finished}
    tables = [run for run in tables if run.condition in {*here, *(condition or ())}]
    if not tables:
        print("noref: nothing of it is here; name the tables with --condition to have pages", file=sys.stderr)
    with claim(home / "report.lock", wait=True):
        _show(_pages(experiment, tables, data, home, begun, results))


def _check(option: str, given: Sequence[str], known: Collection[str]) -> None:
    for one in given:
        if one not in known:
            raise NorefError(f"{option}: {one!r} is unknown; {nearest(one, list(known))}")


def _command() -> list[str]:
    """What the user typed."""
    return ["noref", *sys.argv[1:]]


def _show(pages: Iterable[tuple[Path, Report]]) -> None:
    """Prints the scores and the place of every page, once it is written."""
    console = Console(stderr=True)
    for page, made in pages:
        console.print(f"{made.title}\n{table(made)}", highlight=False, markup=False)
        print(page)


def _pages(
    experiment: Experiment,
    runs: Sequence[Run],
    data: Path,
    home: Path,
    size: Begun,
    results: Path | None,
) -> Iterator[tuple[Path, Report]]:
    """Writes the pages of every table of the runs that has a finished one, here or among the results.

    Those that pool several tables come last.
    """
    command, conditions = shlex.join(_command()), list(dict.fromkeys(run.condition for run in runs))
    for condition in conditions:
        of = [run for run in runs if run.condition == condition]
        yield from tabulate(experiment, condition, of, data=data, size=size, command=command, results=results)
    if results is None:
        return
    for name, of_tables in experiment.pooled.items():
        page = home / name / "report.html"
        if set(of_tables.tables) & set(conditions) and (made := pool(experiment, name, size, results, page)):
            yield page, made


def listed(runs: Sequence[Run], scored: Mapping[Place, Kept]) -> str:
    """The runs, a line each: condition, row, seed, and the hours of those that need no training any more.

    Args:
        runs: of an experiment.
        scored: those whose scores are among the results.
    """
    todo, runs = {run.folder for run in left(runs, scored)}, once(runs)
    width = max(len(run.row) for run in runs)
    wide = max(len(run.condition) for run in runs)
    lines = []
    for run in runs:
        line = scored.get((run.condition, run.row, run.seed))
        took = hours(run) if run.finished or line is None else line.hours
        state = "" if took is None or math.isnan(took) else f"{took:.2f} CPU h"
        if run.folder in todo:
            state = "to do"
        elif not run.finished:
            state = f"{state}, scores kept".lstrip(", ")
        lines.append(f"{run.condition:{wide}}  {run.row:{width}}  seed {run.seed}  {state}".rstrip())
    return "\n".join([*lines, f"{len(todo)} of {len(runs)} runs are to be trained"])
