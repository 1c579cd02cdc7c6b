"""What Γ of the validation scans says of a recipe's settings, by a smaller network than the tables'.

    python benchmarks/settings.py brain 4x equivariant
    python benchmarks/settings.py brain 4x equivariant method.weight=4.0 training.lr=6.0e-3

Trains a row of a standing experiment, whose data `noref benchmark` has prepared, with other settings, in half
of the steps and by seed 0. Prints the Γ by which its weights were chosen and their PSNR, both of the
validation scans: no test scan is read. Runs are in `runs/settings`; stopped, the same command goes on, and
with other settings under the same name it is refused. `--results` keeps the numbers in `settings.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from keep import keep

from noref import api
from noref.config import load_config, save_config
from noref.experiments import EXPERIMENTS, Size
from noref.experiments.experiment import Run
from noref.experiments.train import claim

PHASES, FEATURES = 4, 16


def chosen(metrics: Path) -> dict[str, Any]:
    """Step, Γ and PSNR of the validation whose weights were taken: the best Γ of the last stage."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    validated = [row for row in rows if row.get("gamma") is not None]
    last = [row for row in validated if row.get("stage") == validated[-1].get("stage")]
    best = min(last, key=lambda row: float(row["gamma"]))
    return {"step": best["step"], "gamma": round(best["gamma"], 4), "psnr": round(best["psnr"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("condition", help="table of the experiment")
    parser.add_argument("row", help="of the table")
    parser.add_argument("settings", nargs="*", help="key=value")
    parser.add_argument("--results", type=Path, help="folder that gets the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = EXPERIMENTS[options.experiment]
    condition = experiment.conditions.get(options.condition)
    if condition is None or options.row not in condition.seeds or not condition.validation:
        parser.error(f"{experiment.name} has no such row and table, or no scan validates it")
    if experiment.rows[options.row].start:
        parser.error(f"{options.row} starts from a network of the tables' size")
    size = Size(PHASES, FEATURES, experiment.steps // 2)
    folder = Path(
        "runs/settings", experiment.name, options.condition, " ".join([options.row, *options.settings])
    )
    run = Run(experiment, options.condition, options.row, 0, Path("runs/benchmark") / experiment.name, size)
    row = folder.with_name(f"{folder.name}.yaml")
    with claim(folder.with_name(f"{folder.name}.lock"), wait=True):
        save_config(run.config().model_copy(update={"output": str(folder)}), row)
        # Where the run is there, this compares its settings with these, and trains nothing.
        api.train(load_config(str(row), options.settings), resume=True)
    found = {"phases": PHASES, "features": FEATURES, "steps": size.steps, **chosen(folder / "metrics.jsonl")}
    name = f"{experiment.name} {options.condition} {folder.name}"
    print(f"{name}: {found}")
    if options.results is not None:
        keep(options.results / "settings.json", name, found)


if __name__ == "__main__":
    main()
