"""`noref demo`: simulate, train, compare, write the report; no data needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noref import api
from noref.classical import CLASSICAL
from noref.cli.evaluate import report
from noref.cli.simulate import simulate
from noref.config import load_config
from noref.errors import NorefError
from noref.evaluation.results import METRICS, Report, summarise

RECIPES = ("ssdu", "default", "supervised")
"""The rows that are trained, each by its shipped recipe."""

_SAMPLING = {"mask": "lines", "acceleration": 4, "acs": 12, "seed": 1}
_INTRO = (
    "A numerical phantom of the brain, a different subject in every scan, simulated on a finer grid, with "
    "coils that the reconstruction does not know, and undersampled 4 times in random lines. SSDU and noref's "
    "default learn from the undersampled scans alone; the supervised row also sees what they never see, the "
    "full scans.\n\n"
    "All networks have the same size, the same number of steps and the same data. None has seen the ten "
    "test subjects."
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("demo"),
    subjects: Annotated[int, typer.Option(min=2, help="Subjects to train on.")] = 60,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Visits of every subject. Default: the recipe's.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
) -> None:
    """Simulate a target, train with and without references, and write a report."""
    if output.exists() and any(output.iterdir()) and not resume:
        raise NorefError(f"{output}: already holds files; go on with --resume, or give another --output")
    console = Console(stderr=True)
    train_data, test_data = output / "data" / "train", output / "data" / "test"
    for folder, scans, seed in ((train_data, subjects, 1), (test_data, 10, 2)):
        if not folder.exists():
            simulate(folder, scans=scans, slices=1, seed=seed)
    size = load_config("demo", [] if epochs is None else [f"training.epochs={epochs}"])
    overrides = [
        f"network.phases={size.network['phases']}",
        f"network.features={size.network['features']}",
        f"training.epochs={size.training.epochs}",
        f"data.target.path={train_data}",
        *(f"data.target.{key}={value}" for key, value in _SAMPLING.items()),
    ]
    commands = [f"noref simulate {train_data} --scans {subjects} --slices 1 --seed 1"]
    for recipe in RECIPES:
        run = output / recipe
        console.print(f"training: {recipe}", highlight=False)
        api.train(load_config(recipe, [*overrides, f"output={run}"]), resume=resume)
        commands.append(f"noref train {recipe} {' '.join(overrides)} output={run}")
    page = output / "report.html"
    made = report(
        {name: output / name for name in RECIPES},
        [f"path={test_data}", "holdout=0.07"],
        page,
        classical=list(CLASSICAL),
        title="noref demo",
        intro=_INTRO,
        baseline="wavelet",
        commands=commands,
    )
    console.print(table(made), highlight=False, markup=False)
    print(page)


def table(made: Report) -> str:
    """The means as plain text."""
    rows = [f"{'':12}" + "".join(f"{metric.name:>10}" for metric in METRICS)]
    for result in made.results:
        means = [summarise(result.values(metric)) for metric in METRICS]
        cells = [f"{'–' if mean is None else format(mean.mean, '.4g'):>10}" for mean in means]
        rows.append(f"{result.name:12}" + "".join(cells))
    return "\n".join(rows)
