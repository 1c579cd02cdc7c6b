"""`joint`: undersampled hearts learn with fully sampled heads, by each of the ways to use both."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import scipy
import torch
from torch import Tensor

from noref.data.phantoms import phantom, smooth_phase
from noref.errors import NorefError
from noref.experiments import siat
from noref.experiments.experiment import TWICE, Condition, Experiment, Row
from noref.experiments.simulated import SEED, write_scan
from noref.seeding import Key

NOISE = 30
TARGETS = (5, 10, 20, 40)
SETS = {"train": range(1, 41), "validation": range(44, 55), "test": range(58, 69)}
"""Numbers of the hearts; those between are dropped, since neighbours may be of one patient."""

PHANTOMS = 120
"""As many as there are heads."""

STEPS = 480
"""Hearts are few: of 1200 steps at 8x, those after the first 30 to 660 made Γ of the validation worse."""

_HALF = Fraction(1, 2)
_EQUAL = ("method.target.stages=2", "training.rollback=0")

ROWS = {
    "supervised": Row("supervised"),
    "supervised-proxy": Row("supervised-proxy", proxy="heads", target=False),
    "half-proxy": Row("supervised-proxy", proxy="heads", target=False, share=_HALF),
    "proxy-then-ssdu": Row("proxy-then-ssdu", start="half-proxy", share=_HALF),
    "ssdu": Row("ssdu"),
    "ssdu-everything": Row("ssdu-everything", proxy="heads"),
    "jssl": Row("jssl", proxy="heads"),
    "default": Row("default"),
    "jssl-default": Row("jssl-default", proxy="heads"),
    "jssl-idr": Row("jssl-idr", _EQUAL, proxy="heads"),
    "jssl-equivariant": Row("jssl-equivariant", proxy="heads"),
    "jssl-phantoms": Row("jssl", proxy="phantoms"),
    # Joint rows show half as many targets a step: with twice the steps, they show as many in all.
    "jssl-twice": Row("jssl", proxy="heads", share=TWICE),
    "ssdu-everything-twice": Row("ssdu-everything", proxy="heads", share=TWICE),
    "jssl-weight-0.2": Row("jssl", ("method.weight=0.2",), proxy="heads"),
    "jssl-weight-0.8": Row("jssl", ("method.weight=0.8",), proxy="heads"),
    "jssl-mixing-0.25": Row("jssl", ("training.mixing=0.25",), proxy="heads"),
    "jssl-mixing-0.75": Row("jssl", ("training.mixing=0.75",), proxy="heads"),
}
FEW = (
    "supervised",
    "supervised-proxy",
    "half-proxy",
    "proxy-then-ssdu",
    "ssdu",
    "jssl",
    "default",
    "jssl-default",
)
HEADLINE = ("supervised", "supervised-proxy", "ssdu", "jssl", "default", "jssl-default")
"""Three seeds with the fewest and the most targets."""

CORE = (*FEW, "ssdu-everything", "jssl-idr")


def write(data: Path, output: Path, matrix: int) -> None:
    """Writes the hearts, `train`, `validation`, `test`, and the proxies, `heads` and `phantoms`.

    All have a smooth random phase. The proxies' references hold their noise, as full scans do.
    """
    for part, numbers in SETS.items():
        for number in numbers:
            name = f"heart-{number:02d}"
            image = _with_phase(_heart(data, number), name)
            write_scan(output / part, name, image, matrix, subject=name, noise_db=NOISE)
    for scan in (1, 2, 3, 4):
        for index, image in enumerate(siat.slices(data, scan)):
            name = f"siat{scan}-{index:02d}"
            image = _with_phase(image.abs(), name)
            write_scan(
                output / "heads", name, image, matrix, subject=f"siat{scan}", noise_db=NOISE, clean=False
            )
    for number in range(1, PHANTOMS + 1):
        name = f"phantom-{number:03d}"
        image = phantom("phantom", (2 * matrix, 2 * matrix), Key(SEED, name, "phantom"))
        write_scan(output / "phantoms", name, image, matrix, subject=name, noise_db=NOISE, clean=False)


def _heart(data: Path, number: int) -> Tensor:
    """A short-axis slice, float32 `(y, x)`, magnitudes up to 1."""
    path = data / "cardiac_shortaxis" / f"im-{number:02d}.mat"
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                image = np.asarray(file["im_ori"]).T
        else:
            image = scipy.io.loadmat(path)["im_ori"]
    except (OSError, KeyError, ValueError) as error:
        raise NorefError(
            f"{path}: no short-axis slice there ({str(error).splitlines()[0]}); give --data the folder that "
            "holds the scans of the standing experiments"
        ) from None
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))


def _with_phase(magnitude: Tensor, name: str) -> Tensor:
    phase = smooth_phase((magnitude.shape[0], magnitude.shape[1]), Key(SEED, name, "phase"))
    return torch.polar(magnitude, torch.from_numpy(phase).to(magnitude.dtype))


def condition(rate: int, targets: int) -> Condition:
    """A table: of one acceleration and so many targets."""
    rows = tuple(ROWS) if (rate, targets) == (8, 5) else CORE if targets in (5, 40) else FEW
    return Condition(
        train=("train",),
        validation=("validation",),
        test=("test",),
        sampling={"mask": "lines", "acceleration": rate, "acs": 12, "seed": SEED},
        seeds={row: 3 if row in HEADLINE and targets in (5, 40) else 1 for row in ROWS if row in rows},
        targets=targets,
        # Without targets, their number is nothing to a run.
        without_targets=f"{rate}x-{TARGETS[0]}",
    )


EXPERIMENT = Experiment(
    name="joint",
    intro="Cardiac short-axis slices are the target: magnitude images given a smooth random phase, 8 "
    "simulated coils that differ from slice to slice, 30 dB, undersampled in lines. The proxies are fully "
    "sampled SIAT heads with the same phase model, the control's are geometric phantoms. Whose hearts they "
    "are is not known, neighbours may be one patient: blocks are kept apart, and intervals over slices are "
    "descriptive. PSNR is of each slice, with its own maximum, against the noiseless image.",
    rows=ROWS,
    conditions={f"{rate}x-{targets}": condition(rate, targets) for rate in (8, 4) for targets in TARGETS},
    classical=("zero-filled", "cg-sense", "wavelet"),
    write=write,
    untested="subjects may be one person",
    steps=STEPS,
)
