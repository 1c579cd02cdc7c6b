"""`brain`: the comparison with the papers. One coil, 2-D random masks, SIAT head slices as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from noref.experiments import siat
from noref.experiments.experiment import STAGES, TWICE, Condition, Experiment, Pooled, Row
from noref.experiments.simulated import SEED, write_brains, write_scan
from noref.physics import fft2c, ifft2c

PHANTOM_NOISE = 22
"""dB, as the scans' own is."""

INTERPOLATED = "interpolated"
"""Folder of the same slices, as consoles interpolate them."""

EDGE = 4
"""Samples over which the filter of interpolated images falls to 1 / e."""

_PLAIN = "loss.weighting=none"
_UNET = "network={name: unet, features: 16, demodulate: true}"
_FOUR_TIMES = Fraction(4)

_STRONG = "method.weight=4"
"""Of equivariance; Γ of the validation scan chose it here, and 1 with coils (`benchmarks/settings.py`)."""

ROWS = {
    "ssdu": Row("ssdu"),
    "default": Row("default"),
    "idr": Row("idr", STAGES),
    "supervised": Row("supervised"),
    "unet": Row("default", (_UNET,)),
    "supervised-unet": Row("supervised", (_UNET,)),
    "ssdu-plain": Row("ssdu", (_PLAIN,)),
    "ssdu-uniform": Row("ssdu", ("method.partition.weight=uniform",)),
    "default-plain": Row("default", (_PLAIN,)),
    "idr-plain": Row("idr", (*STAGES, _PLAIN)),
    "idr-refined": Row("idr-refined", STAGES),
    "idr-mixed": Row("idr-mixed", STAGES),
    "idr-no-bank": Row("idr", (*STAGES, "method.bank=false")),
    "idr-dc-measured": Row("idr", (*STAGES, "method.dc=measured")),
    "idr-fixed-teacher": Row("idr-fixed-teacher", STAGES),
    # `default` to its end, and only then refined: with five stages in the same steps none of them is flat.
    "idr-two-long-stages": Row("idr", ("method.stages=2", "training.rollback=0"), share=TWICE),
    "cyclic": Row("cyclic"),
    "multioperator": Row("multioperator"),
    "equivariant": Row("equivariant"),
    "parallel": Row("parallel"),
    "proxies": Row("jssl-default", proxy="phantoms"),
    "proxies-equivariant": Row("jssl-equivariant", proxy="phantoms"),
    # In all as many steps as those that train twice as long.
    "proxies-then-equivariant": Row("equivariant", ("training.lr=1.0e-3",), start="proxies-equivariant"),
    "default-twice": Row("default", share=TWICE),
    "equivariant-twice": Row("equivariant", share=TWICE),
    "equivariant-strong": Row("equivariant", (_STRONG,)),
    "equivariant-strong-twice": Row("equivariant", (_STRONG,), share=TWICE),
    "proxies-equivariant-twice": Row("jssl-equivariant", proxy="phantoms", share=TWICE),
    "proxies-equivariant-four-times": Row("jssl-equivariant", proxy="phantoms", share=_FOUR_TIMES),
    # What the second schedule of `idr-two-long-stages` brings without guesses. It draws the subsets anew that
    # `default` drew.
    "default-restarted": Row("default", ("training.lr=1.5e-3",), start="default"),
    "supervised-twice": Row("supervised", share=TWICE),
    # The moves that equivariance has.
    "supervised-augmented-twice": Row("supervised", ("method.augment=true",), share=TWICE),
    "supervised-four-times": Row("supervised", share=_FOUR_TIMES),
}
CORE = ("ssdu", "default", "idr", "supervised")
"""Three seeds; the others are a first look."""

BEYOND = (
    "unet",
    "equivariant",
    "proxies-equivariant",
    "proxies-then-equivariant",
    "equivariant-twice",
    "equivariant-strong",
    "equivariant-strong-twice",
    "supervised-twice",
    "supervised-augmented-twice",
)
"""Of these, what is looked at where scans are sampled more densely, too."""

PAPERS = (*CORE, "ssdu-plain", "default-plain", "idr-plain")
"""What is looked at on images like the papers'."""


def write(data: Path, output: Path, matrix: int) -> None:
    """Writes single-coil k-space of every slice, cropped to the matrix: `siatN/siatN-SLICE.h5`.

    Beside them the same slices `interpolated`, and `phantoms` for rows with proxies.
    """
    for scan in siat.SCANS:
        subject = f"siat{scan}"
        for index, image in enumerate(siat.slices(data, scan)):
            name = f"{subject}-{index:02d}"
            for folder, made in ((output, image), (output / INTERPOLATED, interpolated(image, matrix))):
                # What noise there is, is in the images: nothing is known without it.
                write_scan(
                    folder / subject, name, made, matrix, subject=subject, noise_db=None, coils=1, clean=False
                )
    write_brains(output / "phantoms", matrix, noise_db=PHANTOM_NOISE, coils=1)


def interpolated(image: Tensor, matrix: int) -> Tensor:
    """The image as a scanner would show it that acquired half of the matrix along each axis.

    `Fᴴ (1 + e^((|k| − matrix/4) / 4))⁻¹ F x`, with |k| the distance from the centre of k-space: consoles
    taper k-space and pad it with zeros. Hardly anything is left outside, of noise neither (Shimron et al.,
    PNAS 2022).

    Args:
        image: complex `(y, x)`.
        matrix: of the scan to be.
    """
    rows, columns = (torch.arange(size) - size // 2 for size in image.shape)
    distance = (rows[:, None].square() + columns.square()).sqrt()
    return ifft2c(torch.sigmoid((matrix / 4 - distance) / EDGE) * fft2c(image))


def condition(acceleration: int, test: int, seeds: dict[str, int], of: str = "") -> Condition:
    """A table: one scan tests, the one before it validates, the other four train.

    Args:
        acceleration: of all of them.
        test: number of the scan.
        seeds: of each row.
        of: folder of the data that they are in.
    """
    validation = siat.SCANS[test - 2]
    train = [scan for scan in siat.SCANS if scan not in (test, validation)]
    return Condition(
        train=tuple(str(Path(of, f"siat{scan}")) for scan in train),
        validation=(str(Path(of, f"siat{validation}")),),
        test=(str(Path(of, f"siat{test}")),),
        sampling={"mask": "random2d", "acceleration": acceleration, "acs": 8, "seed": SEED},
        seeds=seeds,
    )


FOLDS = {
    f"8x-fold{test}": condition(8, test, dict.fromkeys((*CORE, "equivariant-strong"), 1))
    for test in siat.SCANS[:-1]
}
"""Every other scan as the test: of the core, and of the row that was best on scan 6 at equal steps."""

EXPERIMENT = Experiment(
    name="brain",
    intro="SIAT T2 head slices, single coil, 2-D random masks, k-space cropped to the matrix. Made from "
    "combined images: for comparison with the papers. PSNR is of each slice, with its own maximum.",
    division="Four scans train, one validates, one is the test: one subject, so all intervals, which are "
    "over its slices, are descriptive.",
    rows=ROWS,
    conditions={
        "8x": condition(8, 6, {row: 3 if row in CORE else 1 for row in ROWS}),
        "4x": condition(4, 6, dict.fromkeys(CORE, 3) | dict.fromkeys(BEYOND, 1)),
        **FOLDS,
        **{
            f"{rate}x-interpolated": condition(rate, 6, dict.fromkeys(PAPERS, 1), INTERPOLATED)
            for rate in (8, 4)
        },
    },
    classical=("zero-filled", "tv", "wavelet"),
    write=write,
    pooled={
        "8x-folds": Pooled(
            tables=(*FOLDS, "8x"),
            division="Each of the six scans is the test once, of networks that four "
            "others trained and one validated. Intervals are the smallest and the largest of the six.",
            untested="each two of the networks share two or three of their four training scans",
        )
    },
)
