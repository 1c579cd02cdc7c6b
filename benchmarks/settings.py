"""What Γ of the validation scans says of a recipe's settings, by a smaller network than the tables'.

    python benchmarks/settings.py brain 4x equivariant
    python benchmarks/settings.py brain 4x equivariant method.weight=4.0 training.lr=6.0e-3

Trains a row of a standing experiment, whose data `noref benchmark` has prepared, with other settings, in half
of the steps. Prints the Γ by which its weights were chosen and their PSNR, both of the validation scans: no
test scan is read. Runs are in `runs/settings`; stopped, the same command goes on. `--results` keeps the
numbers in `settings.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from noref import api
from noref.config import load_config, save_config
from noref.experiments import EXPERIMENTS, Size
from noref.experiments.experiment import Run
from noref.files import whole

SIZE = Size(phases=4, features=16, steps=600)


def chosen(metrics: Path) -> dict[str, Any]:
    """Step, Γ and PSNR of the validation with the best Γ, of a run's `metrics.jsonl`."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    best = min((row for row in rows if row.get("gamma") is not None), key=lambda row: float(row["gamma"]))
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
    home = Path("runs/settings") / experiment.name / options.condition
    folder = home / " ".join([options.row, *options.settings])
    run = Run(experiment, options.condition, options.row, 0, Path("runs/benchmark") / experiment.name, SIZE)
    row = folder.with_name(f"{folder.name}.yaml")
    save_config(run.config(), row)
    if not (folder / "model" / "model.safetensors").exists():
        api.train(load_config(str(row), [*options.settings, f"output={folder}"]), resume=True)
    found = chosen(folder / "metrics.jsonl")
    print(f"{experiment.name} {options.condition} {folder.name}: {found}")
    if options.results is not None:
        file = options.results / "settings.json"
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        before[f"{experiment.name} {options.condition} {folder.name}"] = found
        with whole(file) as temporary:
            temporary.write_text(json.dumps(before, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
