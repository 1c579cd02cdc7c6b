"""What the standing experiments simulate around real images: coils, noise, and the files of the scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noref.data import coil_models
from noref.data.phantoms import phantom, smooth_phase
from noref.data.simulate import acquire
from noref.errors import NorefError
from noref.formats import fastmri
from noref.formats.base import scan_id
from noref.seeding import Key

SEED = 2026
"""Of the data sets: fixes coils, noise, phases, Ω and Γ for life."""

COILS = 8

BRAINS = 120
"""Simulated ones: as many as there are slices to train on."""

BRAIN_PHASE = 0.15
"""Of their smooth random phase: the scans of heads are nearly real."""


def write_scan(
    folder: Path,
    name: str,
    image: Tensor,
    matrix: int,
    *,
    subject: str,
    noise_db: float | None,
    coils: int = COILS,
    clean: bool = True,
) -> None:
    """Writes the scan of an image, `FOLDER/NAME.h5`, fully sampled.

    Where noise is added, cropping k-space to the matrix is what takes the image's own noise out: what is left
    is the clean truth.

    Args:
        folder: of the data set.
        name: of the scan.
        image: complex `(y, x)`; where noise is added, on a grid at least twice as fine.
        matrix: of the scan.
        subject: whom the image is of; one placement of the coils each.
        noise_db: 20·log10 of the combined image's rms over the object over σ per coil sample; None adds none.
        coils: simulated ones; a single one sees everything alike.
        clean: whether the truth is written too; otherwise references hold the noise, as a scanner's do.

    Raises:
        NorefError: if the matrix is not that much coarser.
    """
    # Beyond half of their matrix the images' own noise would be taken for truth.
    finest = min(image.shape) // (1 if noise_db is None else 2)
    if matrix > finest:
        raise NorefError(
            f"--matrix {matrix}: too fine for images of {image.shape[0]}×{image.shape[1]}; "
            f"give at most {finest}"
        )
    shape = (image.shape[0], image.shape[1])
    if coils == 1:
        maps = torch.ones(1, *shape, dtype=image.dtype)
    else:
        kinds = coil_models.KINDS
        kind = kinds[int(Key(SEED, subject, "coil kind").numpy().integers(len(kinds)))]
        maps = coil_models.maps(kind, coils, shape, Key(SEED, subject, "coils"))
    made = acquire(
        image,
        maps,
        id=scan_id(subject, name, 0),
        matrix=(matrix, matrix),
        noise_db=noise_db,
        key=Key(SEED, name, "noise"),
    )
    fastmri.write(folder / f"{name}.h5", [made if clean else replace(made, clean=None)])


def write_brains(folder: Path, matrix: int, *, noise_db: float, coils: int = COILS) -> None:
    """Writes simulated brains, `FOLDER/phantom-NUMBER.h5`, fully sampled: proxies that nobody need scan.

    Their references hold their noise, as full scans do.

    Args:
        folder: of the data set.
        matrix: of the scans.
        noise_db: as in `write_scan`.
        coils: as in `write_scan`.
    """
    shape = (2 * matrix, 2 * matrix)
    for number in range(1, BRAINS + 1):
        name = f"phantom-{number:03d}"
        phase = torch.from_numpy(BRAIN_PHASE * smooth_phase(shape, Key(SEED, name, "phase")))
        magnitude = phantom("brain", shape, Key(SEED, name, "phantom")).abs()
        image = torch.polar(magnitude, phase.to(magnitude.dtype))
        write_scan(folder, name, image, matrix, subject=name, noise_db=noise_db, coils=coils, clean=False)
