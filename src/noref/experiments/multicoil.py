"""`brain-multicoil`: simulated coils on SIAT head slices, 1-D lines, noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noref.experiments import siat
from noref.experiments.experiment import STAGES, TWICE, Condition, Experiment, Row
from noref.experiments.simulated import SEED, write_brains, write_scan
from noref.files import whole
from noref.sampling.masks import acquisition_mask
from noref.seeding import Key

NOISE = (40, 25)
RATES = (4, 8)
TABLES = ((4, 40, False), (8, 40, False), (4, 25, False), (4, 40, True))
"""Acceleration, noise, and whether all scans share one mask: each is changed alone."""

ACS = 12
PHANTOMS = f"{NOISE[0]}dB/phantoms"

_POINTS = "method.partition={weight: gaussian, share: 0.4, unit: points}"

ROWS = {
    "ssdu": Row("ssdu"),
    "ssdu-points": Row("ssdu", (_POINTS,)),
    "ssdu-drawn": Row("ssdu", ("method.partition.share=[0.05, 0.45]",)),
    "weighted": Row("weighted"),
    "robust": Row("robust"),
    "default": Row("default"),
    "idr": Row("idr", STAGES),
    "supervised": Row("supervised"),
    "equivariant": Row("equivariant"),
    "proxies-equivariant": Row("jssl-equivariant", proxy=PHANTOMS),
    "proxies-then-equivariant": Row("equivariant", ("training.lr=1.0e-3",), start="proxies-equivariant"),
    "default-twice": Row("default", share=TWICE),
    "equivariant-twice": Row("equivariant", share=TWICE),
    "supervised-twice": Row("supervised", share=TWICE),
    "equivariant-one-mask": Row("equivariant", ("method.other=false",)),
}
CORE = ("ssdu", "default", "idr", "supervised")
LOOKED_AT = {
    False: (
        "ssdu-drawn",
        "equivariant",
        "proxies-equivariant",
        "proxies-then-equivariant",
        "default-twice",
        "equivariant-twice",
        "supervised-twice",
    ),
    True: ("equivariant-one-mask",),
}
"""With little noise, too: where masks differ, and where there is one for all."""

EVERYWHERE = [row for row in ROWS if all(row not in some for some in LOOKED_AT.values())]


def write(data: Path, output: Path, matrix: int) -> None:
    """Writes every slice at both levels of noise, `40dB/siat1/siat1-00.h5`; phantoms; masks for all."""
    for scan in siat.SCANS:
        subject = f"siat{scan}"
        for index, image in enumerate(siat.slices(data, scan)):
            for level in NOISE:
                folder = output / f"{level}dB" / subject
                write_scan(folder, f"{subject}-{index:02d}", image, matrix, subject=subject, noise_db=level)
    write_brains(output / PHANTOMS, matrix, noise_db=NOISE[0])
    for rate in {rate for rate, _, one_mask in TABLES if one_mask}:
        key = Key(SEED, "everyone", "mask")
        mask = acquisition_mask("equispaced", (matrix, matrix), rate, ACS, key)
        with whole(output / _mask(rate)) as temporary, temporary.open("wb") as file:
            np.save(file, mask.numpy())


def _mask(rate: int) -> str:
    return f"equispaced-{rate}x.npy"


def _others(rate: int) -> dict[str, dict[str, Any]]:
    """Real scans of other scanners: two undersampled here, one as it was acquired."""
    lines = {"mask": "lines", "acceleration": rate, "seed": SEED}
    mchiew = {"path": "mchiew_brain_16ch_full_96.mat", "key": "raw", "axes": "ky,kx,slice,coils", "acs": ACS}
    loraks = {"path": "loraks_mprage_4ch_full.mat", "key": "kData", "axes": "ky,kx,coils", "acs": 2 * ACS}
    bart = {"path": "bart_picsbrain_8ch_poisson_undersampled.cfl"}
    scans: dict[str, dict[str, Any]] = {"mchiew": mchiew | lines, "loraks": loraks | lines, "bart": bart}
    if rate > RATES[0]:
        # Its 96 lines leave none beside the calibration.
        del scans["mchiew"]
    return {name: of | {"path": f"multicoil/{of['path']}"} for name, of in scans.items()}


def condition(rate: int, level: int, one_mask: bool) -> Condition:
    """A table: of one acceleration, one level of noise, masks of each scan's own or one for all."""
    little = level == NOISE[0]
    rows = [*EVERYWHERE, *(LOOKED_AT[one_mask] if little else ())]
    sampling = {"mask": "lines", "acceleration": rate, "acs": ACS, "seed": SEED}
    return Condition(
        train=tuple(f"{level}dB/siat{scan}" for scan in (1, 2, 3, 4)),
        validation=(f"{level}dB/siat5",),
        test=(f"{level}dB/siat6",),
        sampling=sampling | ({"mask": _mask(rate)} if one_mask else {}),
        seeds={row: 3 if row in CORE and little and not one_mask else 1 for row in rows},
        also=_others(rate),
    )


EXPERIMENT = Experiment(
    name="brain-multicoil",
    intro="SIAT T2 head slices, denoised by cropping k-space, times 8 simulated coils that are moved for "
    "each scan, noise added, 1-D lines. Maps are estimated from the noisy calibration lines. Four scans "
    "train, one validates, one is the test: one subject, so all intervals, which are over its slices, are "
    "descriptive. PSNR is of each slice, with its own maximum, against the noiseless image.",
    rows=ROWS,
    conditions={
        f"{rate}x-{level}dB{'-one-mask' * one_mask}": condition(rate, level, one_mask)
        for rate, level, one_mask in TABLES
    },
    classical=("zero-filled", "cg-sense", "wavelet"),
    write=write,
)
