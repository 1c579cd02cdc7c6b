"""What helps where, on phantoms: rows of equal optimiser steps, three seeds, then one table.

    python benchmarks/phantoms.py

The target is a simulated prostate, undersampled 4 times in random lines; proxies are fully sampled brains and
knees, the control's are geometric. Each row is a shipped recipe, only its size and length overridden. Runs
land in `runs/phantoms/ROW-SEED` and are not repeated; `--row` trains one row only, so that several can run
side by side. Scores of subjects that no run has seen land in `benchmarks/results/phantoms.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from noref import api
from noref.cli.simulate import simulate
from noref.config import Config, Source, load_config
from noref.data.shown import shown
from noref.evaluation.score import by_classical, by_network, score
from noref.metrics import psnr
from noref.scan import Role
from noref.training.store import TeacherStore

Anatomy = Literal["brain", "knee", "prostate"]
SEEDS = (0, 1, 2)
STEPS, BATCH, VALIDATIONS = 400, 4, 10
HOME = Path("runs/phantoms")
SAMPLING = {"mask": "lines", "acceleration": 4, "acs": 12, "seed": 1}
SIZE = ["network.phases=4", "network.features=16", f"training.batch={BATCH}"]


@dataclass(frozen=True)
class Row:
    """A recipe, what is set beside size and length, the number of target subjects, and the coil maps."""

    recipe: str
    settings: tuple[str, ...] = ()
    targets: int = 40
    maps: str = "espirit"


# Of equal length, whatever roll-back would say.
_WHOLE = "training.rollback=0"
_STAGES = ("method.stages=4", _WHOLE)
_PLAIN = "loss.weighting=none"
# As published, but for the l1 of images, which is normalised here.
_DUAL = (
    "loss.kspace={l1: 2.0, nmse: 2.0}",
    "loss.image={l1: 2.0, ssim: 2.0, hfen1: 1.0, hfen2: 1.0}",
    "loss.dual=true",
)
ROWS = {
    "ssdu": Row("ssdu"),
    "ssdu, 5 targets": Row("ssdu", targets=5),
    "jssl": Row("jssl"),
    "jssl, 5 targets": Row("jssl", targets=5),
    "jssl, dual": Row("jssl", _DUAL),
    "jssl, acs maps": Row("jssl", maps="acs"),
    "jssl, learned maps": Row("jssl", ("network.refine_maps=true",), maps="acs"),
    "jssl, subset": Row("jssl-default", (_WHOLE,)),
    "jssl, subset, 5 targets": Row("jssl-default", (_WHOLE,), targets=5),
    "default": Row("default"),
    "default, 5 targets": Row("default", targets=5),
    "idr acquired": Row("idr", _STAGES),
    "idr refined": Row("idr", (*_STAGES, "method.data_term=refined")),
    "idr mixed": Row("idr", (*_STAGES, "method.data_term=mixed")),
    "jssl-idr": Row("jssl-idr", (_WHOLE,)),
    "jssl-idr, 5 targets": Row("jssl-idr", (_WHOLE,), targets=5),
    "ssdu, plain mean": Row("ssdu", (_PLAIN,)),
    "default, plain mean": Row("default", (_PLAIN,)),
    "supervised": Row("supervised"),
    "default, float32": Row("default", ("training.precision=float32",)),
}
CLASSICAL = ("zero-filled", "cg-sense", "wavelet")


def simulated(name: str, anatomy: Anatomy, scans: int, first: int) -> Path:
    """The folder of a data set, simulated unless it is there."""
    folder = HOME / "data" / name
    if not folder.exists():
        # Under its own name only when complete.
        part = folder.with_name(f".part-{name}")
        shutil.rmtree(part, ignore_errors=True)
        simulate(part, anatomy, scans=scans, slices=1, coils=6, matrix=96, first=first)
        part.rename(folder)
    return folder


def configured(name: str, row: Row, seed: int) -> Config:
    """The row's configuration: its recipe, the data, and epochs that make `STEPS` optimiser steps."""
    data = {
        "target": [simulated("target", "prostate", 40, 1)],
        "validation": [simulated("validation", "prostate", 8, 8001)],
    }
    recipe = load_config(row.recipe, [*row.settings, f"data.target.path={data['target'][0]}"])
    joint = recipe.method["name"] == "joint"
    if joint:
        data["proxy"] = [simulated("brain", "brain", 20, 1001), simulated("knee", "knee", 20, 2001)]
    per_step = BATCH // 2 if joint else BATCH
    stages = recipe.method.get("target", recipe.method).get("stages", 1)
    epochs = STEPS // (-(-row.targets // per_step)) // stages
    return load_config(
        row.recipe,
        [
            *SIZE,
            *row.settings,
            *(f"data.{kind}.path=[{','.join(map(str, folders))}]" for kind, folders in data.items()),
            *(f"data.{kind}.{key}={value}" for kind in data for key, value in SAMPLING.items()),
            *(f"data.{kind}.maps={row.maps}" for kind in data),
            f"data.target.subjects={row.targets}",
            f"training.epochs={epochs}",
            f"training.validate_every={max(1, epochs * stages // VALIDATIONS // stages)}",
            f"training.seed={seed}",
            f"output={folder_of(name, seed)}",
        ],
    )


def folder_of(name: str, seed: int) -> Path:
    """Of a row's run."""
    return HOME / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def scored(test: Source) -> dict[str, dict[str, list[float]]]:
    """PSNR, SSIM, NMSE and Γ of every test subject, by row and seed, each on the maps it learned on."""
    on = {
        maps: api.dataset(test.model_copy(update={"maps": maps}), Role.TARGET)
        for maps in {row.maps for row in ROWS.values()}
    }
    results = [score(name, by_classical(name), on[Row.maps]) for name in CLASSICAL]
    for name, row in ROWS.items():
        for seed in SEEDS:
            folder = folder_of(name, seed)
            if (folder / "model").exists():
                results.append(score(f"{name}|{seed}", by_network(api.load(folder).estimate), on[row.maps]))
    return {
        result.name: {
            key: [float(getattr(one, key)) for one in result.scores]
            for key in ("psnr", "ssim", "nmse", "gamma")
        }
        for result in results
    }


def stage_curve(name: str, seed: int) -> list[float]:
    """Mean PSNR of the images that each stage's network but the last made of its training scans."""
    targets = configured(name, ROWS[name], seed).data.target
    scans = [] if targets is None else api.dataset(targets, Role.TARGET)
    curve = []
    for stage in sorted((folder_of(name, seed) / "teacher").glob("stage-*")):
        teacher = TeacherStore(stage)
        values = []
        for scan in scans:
            if scan.reference is not None:
                reference = shown(scan.reference, scan)[None]
                values.append(float(psnr(reference, shown(teacher[scan.id], scan)[None])))
        curve.append(mean(values))
    return curve


def table(results: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Mean over subjects and seeds; beside PSNR, the range of the seeds' means."""
    lines = [f"{'':24}{'PSNR':>8}{'seeds':>16}{'SSIM':>8}{'NMSE':>8}{'Γ':>8}"]
    for name in (*CLASSICAL, *ROWS):
        found = [values for key, values in results.items() if key.split("|")[0] == name]
        if found:
            by_seed = [mean(values["psnr"]) for values in found]
            means = [mean(mean(values[key]) for values in found) for key in ("ssim", "nmse", "gamma")]
            spread = f"{min(by_seed):.2f}–{max(by_seed):.2f}"
            lines.append(f"{name:24}{mean(by_seed):8.2f}{spread:>16}" + "".join(f"{m:8.3f}" for m in means))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", action="append", choices=list(ROWS), help="train only this")
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS, help="with this seed only")
    options = parser.parse_args()
    for seed in options.seed or SEEDS:
        for name in options.row or ROWS:
            api.train(configured(name, ROWS[name], seed), resume=True)
    if options.row or options.seed:
        return
    test = simulated("test", "prostate", 12, 9001)
    results = scored(Source.model_validate({"path": str(test), **SAMPLING}))
    curves = {name: [stage_curve(name, seed) for seed in SEEDS] for name in ROWS if "idr" in name}
    path = Path("benchmarks/results/phantoms.json")
    path.write_text(json.dumps({"scores": results, "stages": curves}, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    for name, curve in curves.items():
        print(name, *(" ".join(f"{value:.2f}" for value in one) for one in curve), sep="  ")


if __name__ == "__main__":
    main()
