"""`brain`: the comparison with the papers. One coil, 2-D random masks, SIAT head slices as they are."""

from __future__ import annotations

from pathlib import Path

from noref.experiments import siat
from noref.experiments.experiment import STAGES, Condition, Experiment, Row
from noref.experiments.simulated import SEED, write_scan

_PLAIN = "loss.weighting=none"

ROWS = {
    "ssdu": Row("ssdu"),
    "default": Row("default"),
    "idr": Row("idr", STAGES),
    "supervised": Row("supervised"),
    "unet": Row("default", ("network={name: unet, features: 16, demodulate: true}",)),
    "ssdu-plain": Row("ssdu", (_PLAIN,)),
    "default-plain": Row("default", (_PLAIN,)),
    "idr-plain": Row("idr", (*STAGES, _PLAIN)),
    "idr-refined": Row("idr-refined", STAGES),
    "idr-mixed": Row("idr-mixed", STAGES),
    "idr-no-bank": Row("idr", (*STAGES, "method.bank=false")),
    "idr-dc-measured": Row("idr", (*STAGES, "method.dc=measured")),
    "idr-fixed-teacher": Row("idr-fixed-teacher", STAGES),
    "cyclic": Row("cyclic"),
    "multioperator": Row("multioperator"),
    "equivariant": Row("equivariant"),
    "parallel": Row("parallel"),
}
CORE = ("ssdu", "default", "idr", "supervised")
"""Three seeds; the others are a first look."""


def write(data: Path, output: Path, matrix: int) -> None:
    """Writes single-coil k-space of every slice, cropped to the matrix: `siatN/siatN-SLICE.h5`."""
    for scan in siat.SCANS:
        subject = f"siat{scan}"
        for index, image in enumerate(siat.slices(data, scan)):
            name = f"{subject}-{index:02d}"
            # What noise there is, is in the images: nothing is known without it.
            write_scan(
                output / subject, name, image, matrix, subject=subject, noise_db=None, coils=1, clean=False
            )


def condition(acceleration: int, test: int, seeds: dict[str, int]) -> Condition:
    """A table: one scan tests, the one before it validates, the other four train."""
    validation = siat.SCANS[test - 2]
    train = [scan for scan in siat.SCANS if scan not in (test, validation)]
    return Condition(
        train=tuple(f"siat{scan}" for scan in train),
        validation=(f"siat{validation}",),
        test=(f"siat{test}",),
        sampling={"mask": "random2d", "acceleration": acceleration, "acs": 8, "seed": SEED},
        seeds=seeds,
    )


EXPERIMENT = Experiment(
    name="brain",
    intro="SIAT T2 head slices, single coil, 2-D random masks, k-space cropped to the matrix. Made from "
    "combined images: for comparison with the papers. Four scans train, one validates, one is the test: one "
    "subject, so all intervals, which are over its slices, are descriptive. PSNR is of each slice, with its "
    "own maximum.",
    rows=ROWS,
    conditions={
        "8x": condition(8, 6, {row: 3 if row in CORE else 1 for row in ROWS}),
        "4x": condition(4, 6, dict.fromkeys(CORE, 3) | {"unet": 1}),
        **{f"8x-fold{test}": condition(8, test, dict.fromkeys(CORE, 1)) for test in siat.SCANS[:-1]},
    },
    classical=("zero-filled", "tv", "wavelet"),
    write=write,
)
