"""How good a teacher must be for refinement to help: a stage of `idr` that learns from images of another's.

    python benchmarks/teachers.py truth --results benchmarks/results
    python benchmarks/teachers.py runs/benchmark/brain/8x/seed-0/default

A run of the recipe `idr` begins where its second stage would, with the data and the steps of a row of
`noref benchmark brain`: what lies outside Ω is filled up from the images that a finished run makes of Ω∖Γ, or
from the full scans (`truth`), which nobody has. If refinement does what it should, it closes most of the
distance to supervised training with these. Prints the mean PSNR of the test scan, and of what was learned
from if it is not the truth; `--results` keeps both in `teachers.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from keep import keep
from torch import Tensor

from noref import api
from noref.data.shown import shown
from noref.experiments import EXPERIMENTS, Size
from noref.experiments.experiment import Run
from noref.methods.refinement import Refinement
from noref.metrics import psnr
from noref.sampling.bank import mask_bank
from noref.scan import Role, Scan

HOME = Path("runs/benchmark/brain")


def made(run: Path, scans: Iterable[Scan]) -> dict[str, Tensor]:
    """What a run's model makes of each scan, complex `(sets, y, x)`."""
    model = api.load(run)
    return {scan.id: model.estimate(scan).image[0].clone() for scan in scans}


def mean_psnr(scans: Sequence[Scan], images: Mapping[str, Tensor]) -> float:
    """Over the slices, each with its own maximum, dB."""
    pairs = [(scan, scan.reference) for scan in scans if scan.reference is not None]
    return fmean(
        float(psnr(shown(truth, scan)[None], shown(images[scan.id], scan)[None])) for scan, truth in pairs
    )


def teach(images: Mapping[str, Tensor]) -> None:
    """Has every stage of a refinement learn from these images, the first one too, with a bank of masks."""
    prepare, begin = Refinement.prepare, Refinement.begin

    def with_bank(method: Refinement, masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> None:
        prepare(method, masks)
        method.bank = mask_bank(masks)

    def taught(method: Refinement, stage: int, teacher: Mapping[str, Tensor]) -> None:
        del teacher
        begin(method, stage + 1, images)

    Refinement.prepare, Refinement.begin = with_bank, taught  # type: ignore[method-assign, assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", help="`truth`, or the folder of a finished run")
    parser.add_argument("--condition", default="8x", help="of the experiment brain")
    parser.add_argument("--results", type=Path, help="folder that gets the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("runs/teachers") / options.condition / options.teacher.replace("/", "-")
    run = Run(EXPERIMENTS["brain"], options.condition, "idr", 0, HOME, Size(stages=1))
    config = run.config().model_copy(update={"output": str(folder)})
    target = config.data.target
    assert target is not None
    scans = api.dataset(target, Role.TARGET)
    if options.teacher == "truth":
        images = {scan.id: scan.reference for scan in scans if scan.reference is not None}
    else:
        images = made(Path(options.teacher), [scan.as_target() for scan in scans])
    teach(images)
    api.train(config, resume=True)
    held = [str(path) for path in run.folders(EXPERIMENTS["brain"].conditions[options.condition].test)]
    test = api.dataset(target.model_copy(update={"path": held}), Role.TARGET)
    found = {"learned": mean_psnr(test, made(folder, test))}
    if options.teacher != "truth":
        found["learned from"] = mean_psnr(scans, images)
    for name, value in found.items():
        print(f"{name:12} {value:.2f} dB")
    if options.results is not None:
        rounded = {name: round(value, 3) for name, value in found.items()}
        keep(options.results / "teachers.json", f"{options.condition} {options.teacher}", rounded)


if __name__ == "__main__":
    main()
