"""The standing experiments: every row by its shipped recipe, then one report.

    python benchmarks/prepare.py brain runs/data/brain-small --matrix 128
    python benchmarks/standing.py brain --acceleration 8 --data runs/data/brain-small

Each row is trained in `runs/EXPERIMENT-Rx/ROW` and goes on from its checkpoint when the script is started
again; `--row` trains one row only, so that several can run side by side. Scores land in `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from noref import api
from noref.cli.demo import table
from noref.cli.evaluate import report
from noref.config import load_config

ROWS = {
    "brain": ["ssdu", "default", "idr", "supervised"],
    "brain-multicoil": ["default"],
}
CLASSICAL = {
    "brain": ["zero-filled", "wavelet"],
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


def overrides(
    experiment: str, acceleration: float, data: Path, epochs: int, size: tuple[int, int]
) -> list[str]:
    """What is set for every row alike: data, size and length."""
    sampling = {**SAMPLING[experiment], "acceleration": acceleration, "seed": SEED}
    return [
        *(f"data.target.{key}={value}" for key, value in sampling.items()),
        f"data.target.path={data / 'train'}",
        f"data.validation.path={data / 'validation'}",
        f"network.phases={size[0]}",
        f"network.features={size[1]}",
        f"training.epochs={epochs}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=list(ROWS))
    parser.add_argument("--acceleration", type=float, default=4)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=40, help="in all; shared out over stages")
    parser.add_argument("--phases", type=int, default=6)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument(
        "--row", choices=[row for rows in ROWS.values() for row in rows], help="train only this"
    )
    options = parser.parse_args()
    name = f"{options.experiment}-{options.acceleration:g}x"
    size = (options.phases, options.features)
    rows = [options.row] if options.row else ROWS[options.experiment]
    for row in rows:
        stages = load_config(row, [f"data.target.path={options.data / 'train'}"]).method.get("stages", 1)
        common = overrides(
            options.experiment, options.acceleration, options.data, options.epochs // stages, size
        )
        api.train(load_config(row, [*common, f"output=runs/{name}/{row}"]), resume=True)
    if options.row:
        return
    page = Path("runs") / name / "report.html"
    made = report(
        {row: Path("runs") / name / row for row in rows},
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
