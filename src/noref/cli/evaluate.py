"""`noref evaluate`: a report on trained runs, classical methods beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from noref import api
from noref.classical import ANY_SAMPLING
from noref.cli.sources import divided, named_paths, source
from noref.config import Source
from noref.errors import NorefError
from noref.files import check_writable
from noref.scan import Role
from noref.scoring import Trained, report, score_all, shared_subjects


def evaluate(
    runs: Annotated[
        list[str], typer.Argument(help="Run or model folders, and key=value of the scans, such as path=test.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    classical: Annotated[
        str, typer.Option(help="Classical methods to compare with, separated by commas.")
    ] = ",".join(ANY_SAMPLING),
    baseline: Annotated[str | None, typer.Option(help="The row that the others are compared with.")] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Reconstruction without references",
) -> None:
    """Score runs on scans they have not seen, with and without references, and write a report."""
    folders, settings = divided(runs)
    named = [(_name(Path(folder)), Path(folder)) for folder in folders]
    rows = [name for name in classical.split(",") if name]
    every = [*rows, *(name for name, _ in named)]
    twice = [name for name in every if every.count(name) > 1]
    if twice:
        raise NorefError(f"{twice[0]}: two rows of this name; rename a run folder, or leave one out")
    if baseline is not None and baseline not in every:
        raise NorefError(f"--baseline: {baseline!r} is no row; there are {', '.join(every)}")
    if output.is_dir():
        raise NorefError(f"{output}: is a folder; name the page to write, such as {output / 'report.html'}")
    if output.suffix == ".json":
        raise NorefError(f"{output}: the numbers lie beside the page; name that, such as report.html")
    for path in (output, output.with_suffix(".json")):
        check_writable(path)
    trained = {name: [Trained.of(folder)] for name, folder in named}
    scans = api.dataset(scored_source([runs[0].model for runs in trained.values()], settings), Role.TARGET)
    warnings = shared_subjects(trained, scans)
    for line in warnings:
        print(f"noref: warning: {line}", file=sys.stderr)
    scored = score_all(trained, scans, classical=rows)
    report(scored, scans, output, title=title, baseline=baseline, notes=warnings)
    print(output)


def _name(folder: Path) -> str:
    """What a run is called in the report; a model folder goes by the name of its run."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def scored_source(models: Sequence[api.Model], settings: Sequence[str]) -> Source:
    """What is scored: `path=…` among the settings; what is not given is as in the first training."""
    given = models[0].config.data if models else None
    base = None if given is None else given.validation or given.target or given.proxy
    if base is not None:
        # Of the scans scored it has to be said: they may lie anywhere.
        base = base.model_copy(update={"subject_folder": 0})
    paths, rest = named_paths([], settings)
    if not paths:
        raise NorefError("no scans to score; give path=FOLDER of scans that no run was trained on")
    return source(paths, rest, base)
