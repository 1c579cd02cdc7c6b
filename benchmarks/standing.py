"""The standing experiments: every row by its shipped recipe, then one report.

    python benchmarks/prepare.py brain runs/data/brain-small --matrix 128
    python benchmarks/standing.py brain --acceleration 8 --data runs/data/brain-small

Each row is trained in `runs/EXPERIMENT-Rx/ROW` and goes on from its checkpoint when the script is started
again; `--row` trains some rows only, so that several can run side by side, `--score` scores what has been
trained. All rows take equally many optimiser steps: epochs are shared out over stages. Scores land in
`benchmarks/results`.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from noref import api
from noref.cli.demo import table
from noref.cli.evaluate import report
from noref.config import Config, load_config


@dataclass(frozen=True)
class Row:
    """A recipe, and what is set beside data, size and length."""

    recipe: str
    settings: tuple[str, ...] = ()


# As the plan of the experiments has it; of equal length, whatever roll-back would say.
_STAGES = ("method.stages=5", "training.rollback=0")
_PLAIN = "loss.weighting=none"
ROWS = {
    "brain": {
        "ssdu": Row("ssdu"),
        "default": Row("default"),
        "idr": Row("idr", _STAGES),
        "supervised": Row("supervised"),
        "ssdu-plain": Row("ssdu", (_PLAIN,)),
        "default-plain": Row("default", (_PLAIN,)),
        "idr-plain": Row("idr", (*_STAGES, _PLAIN)),
        "idr-refined": Row("idr-refined", _STAGES),
        "idr-mixed": Row("idr-mixed", _STAGES),
        "idr-dc-measured": Row("idr", (*_STAGES, "method.dc=measured")),
        "idr-fixed-teacher": Row("idr-fixed-teacher", _STAGES),
        "cyclic": Row("cyclic"),
        "multioperator": Row("multioperator"),
        "unet": Row("default", ("network={name: unet, features: 16, demodulate: true}",)),
    },
    "brain-multicoil": {"default": Row("default")},
}
CLASSICAL = {
    "brain": ["zero-filled", "tv", "wavelet"],
    "brain-multicoil": ["zero-filled", "cg-sense", "wavelet"],
}
SAMPLING = {
    "brain": {"mask": "random2d", "acs": 8},
    "brain-multicoil": {"mask": "lines", "acs": 12},
}
SUBJECTS = " Scans 1-4 train, 5 validates, 6 is the test: one subject, so all spreads are descriptive."
INTRO = {
    "brain": "SIAT T2 head slices, single coil, 2-D random masks, k-space cropped to the matrix." + SUBJECTS,
    "brain-multicoil": "SIAT T2 head slices times simulated coils, random lines, noise added." + SUBJECTS,
}
SEED = 2026


def configured(row: Row, options: argparse.Namespace, output: Path) -> Config:
    """The row's configuration: its recipe, what every row has, and its own settings."""
    sampling = {**SAMPLING[options.experiment], "acceleration": options.acceleration, "seed": SEED}
    target = f"data.target.path={options.data / 'train'}"
    stages = load_config(row.recipe, [target, *row.settings]).method.get("stages", 1)
    if options.epochs % stages:
        raise SystemExit(f"--epochs {options.epochs}: not to be shared out over {stages} stages")
    size = [f"network.phases={options.phases}", f"network.features={options.features}"]
    return load_config(
        row.recipe,
        [
            *(f"data.target.{key}={value}" for key, value in sampling.items()),
            target,
            f"data.validation.path={options.data / 'validation'}",
            *size,
            f"training.epochs={options.epochs // stages}",
            *row.settings,
            f"output={output}",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=list(ROWS))
    parser.add_argument("--acceleration", type=float, default=4)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=40, help="in all; shared out over stages")
    parser.add_argument("--phases", type=int, default=6)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument(
        "--row",
        action="append",
        choices=[row for rows in ROWS.values() for row in rows],
        help="train these only",
    )
    parser.add_argument("--score", action="store_true", help="train nothing, score what there is")
    options = parser.parse_args()
    if wrong := set(options.row or ()) - set(ROWS[options.experiment]):
        parser.error(f"{options.experiment} has no row {', '.join(sorted(wrong))}")
    name = f"{options.experiment}-{options.acceleration:g}x"
    rows, home = ROWS[options.experiment], Path("runs") / f"{options.experiment}-{options.acceleration:g}x"
    for row in () if options.score else options.row or rows:
        api.train(configured(rows[row], options, home / row), resume=True)
    if options.row:
        return
    page = home / "report.html"
    made = report(
        {row: home / row for row in rows if (home / row / "model").exists()},
        [f"path={options.data / 'test'}"],
        page,
        classical=CLASSICAL[options.experiment],
        title=f"{options.experiment}, {options.acceleration:g}×",
        intro=INTRO[options.experiment],
        baseline="wavelet",
    )
    print(table(made))
    # The page shows the scans, which carry no licence to redistribute; the scores alone are kept.
    results = Path("benchmarks/results")
    results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page.with_suffix(".json"), results / f"{name}.json")


if __name__ == "__main__":
    main()
