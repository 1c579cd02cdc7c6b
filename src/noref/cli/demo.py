"""`noref demo`: simulate, train, compare, write the report; no data needed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noref import api
from noref.cli.evaluate import scored_source
from noref.cli.simulate import simulate
from noref.config import load_config
from noref.errors import NorefError
from noref.evaluation.results import METRICS, Report, summarise
from noref.scan import Role
from noref.scoring import Trained, report, score_all
from noref.training import Interrupted

RECIPES = ("ssdu", "default", "supervised")
"""The rows that are trained, each by its shipped recipe."""

CLASSICAL = ("zero-filled", "cg-sense", "wavelet")
"""The rows that are not: the others would take longer than they tell."""

VALIDATION_SUBJECTS, TEST_SUBJECTS = 8, 10
_FIRST_VALIDATION, _FIRST_TEST = 8001, 9101
BASELINE = "wavelet"

_SAMPLING = {"mask": "lines", "acceleration": 4, "acs": 12, "seed": 1}
_INTRO = (
    "A numerical phantom of the brain, a different subject in every scan, simulated on a finer grid, with "
    "coils that the reconstruction does not know, and undersampled 4 times in random lines. SSDU and noref's "
    "default learn from the undersampled scans alone; the supervised row also sees what they never see, the "
    "full scans.\n\n"
    "All networks have the same size, the same number of steps and the same data; Γ of other subjects chose "
    f"their weights. None has seen the {TEST_SUBJECTS} test subjects."
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("demo"),
    subjects: Annotated[int, typer.Option(min=2, help="Subjects to train on.")] = 80,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Visits of every subject. Default: the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
) -> None:
    """Simulate a target, train with and without references, and write a report."""
    if output.is_file() or (output.exists() and any(output.iterdir()) and not resume):
        raise NorefError(f"{output}: already holds files; go on with --resume, or give another --output")
    console = Console(stderr=True)
    train_data, validation_data, test_data = (output / "data" / n for n in ("train", "validation", "test"))
    commands = [
        _simulated(train_data, subjects, first=1),
        _simulated(validation_data, VALIDATION_SUBJECTS, first=_FIRST_VALIDATION),
        _simulated(test_data, TEST_SUBJECTS, first=_FIRST_TEST),
    ]
    length = [] if epochs is None else ["--epochs", str(epochs)]
    size = load_config("demo", [] if epochs is None else [f"training.epochs={epochs}"])
    overrides = [
        f"network.phases={size.network['phases']}",
        f"network.features={size.network['features']}",
        f"training.epochs={size.training.epochs}",
        f"training.batch={size.training.batch}",
        f"data.target.path={train_data}",
        f"data.validation.path={validation_data}",
        *(f"data.target.{key}={value}" for key, value in _SAMPLING.items()),
    ]
    runs = {recipe: output / recipe for recipe in RECIPES}
    for recipe, run in runs.items():
        console.print(f"training: {recipe}", highlight=False)
        settings = [*overrides, f"output={run}"]
        try:
            api.train(load_config(recipe, settings), resume=resume)
        except Interrupted:
            again = [
                "noref",
                "demo",
                "--output",
                str(output),
                "--subjects",
                str(subjects),
                *length,
                "--resume",
            ]
            print(f"noref: stopped and saved; go on with: {shlex.join(again)}", file=sys.stderr)
            raise typer.Exit(130) from None
        commands.append(shlex.join(["noref", "train", recipe, *settings]))
    page = output / "report.html"
    scored = ["noref", "evaluate", *map(str, runs.values()), f"path={test_data}"]
    scored += ["--classical", ",".join(CLASSICAL)]
    commands.append(shlex.join([*scored, "--baseline", BASELINE, "--output", str(page)]))
    trained = {recipe: [Trained.of(run)] for recipe, run in runs.items()}
    source = scored_source([trained[RECIPES[0]][0].model], [f"path={test_data}"])
    scans = api.dataset(source, Role.TARGET)
    made = report(
        score_all(trained, scans, classical=CLASSICAL),
        scans,
        page,
        title="noref demo",
        intro=_INTRO,
        baseline=BASELINE,
        commands=commands,
    )
    console.print(table(made), highlight=False, markup=False)
    print(page)


def _simulated(folder: Path, subjects: int, first: int) -> str:
    """Simulates the scans of a folder unless they are there; the command that would."""
    if not folder.exists():
        # Under its own name only when complete: a demo that was stopped must not go on with fewer scans.
        part = folder.with_name(f".part-{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        simulate(part, scans=subjects, slices=1, first=first)
        part.rename(folder)
    there = len(list(folder.glob("*.h5")))
    if there != subjects:
        raise NorefError(f"{folder}: holds {there} subjects, not {subjects}; give another --output")
    options = ["--scans", str(subjects), "--slices", "1", "--first", str(first)]
    return shlex.join(["noref", "simulate", str(folder), *options])


def table(made: Report) -> str:
    """The means as plain text."""
    width = max(12, 1 + max(len(result.name) for result in made.results))
    rows = [" " * width + "".join(f"{metric.name:>9}" for metric in METRICS)]
    for result in made.results:
        means = [summarise(result.values(metric)) for metric in METRICS]
        cells = [f"{'–' if mean is None else format(mean.mean, '.4g'):>9}" for mean in means]
        rows.append(f"{result.name:{width}}" + "".join(cells))
    return "\n".join(rows)
