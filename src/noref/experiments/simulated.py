"""What the standing experiments simulate around real images: coils, noise, and the files of the scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from noref.data import coil_models
from noref.data.simulate import acquire
from noref.errors import NorefError
from noref.formats import fastmri
from noref.formats.base import scan_id
from noref.seeding import Key

SEED = 2026
"""Of the data sets: fixes coils, noise, phases, Ω and Γ for life."""

COILS = 8


def write_scan(
    folder: Path,
    name: str,
    image: Tensor,
    matrix: int,
    *,
    subject: str,
    noise_db: float,
    clean: bool = True,
) -> None:
    """Writes the scan of an image by simulated coils, `FOLDER/NAME.h5`, fully sampled.

    Cropping k-space to the matrix is what takes the image's own noise out: what is left is the clean truth.

    Args:
        folder: of the data set.
        name: of the scan.
        image: complex `(y, x)`, on a grid at least twice as fine.
        matrix: of the scan.
        subject: whom the image is of; one placement of the coils each.
        noise_db: 20·log10 of the combined image's rms over the object over σ per coil sample.
        clean: whether the truth is written too; otherwise references hold the noise, as a scanner's do.

    Raises:
        NorefError: if the matrix is not that much coarser.
    """
    if 2 * matrix > min(image.shape):
        raise NorefError(
            f"--matrix {matrix}: images of {image.shape[0]}×{image.shape[1]} are not clean on more than half "
            f"their matrix; give at most {min(image.shape) // 2}"
        )
    kinds = coil_models.KINDS
    kind = kinds[int(Key(SEED, subject, "coil kind").numpy().integers(len(kinds)))]
    maps = coil_models.maps(kind, COILS, (image.shape[0], image.shape[1]), Key(SEED, subject, "coils"))
    made = acquire(
        image,
        maps,
        id=scan_id(subject, name, 0),
        matrix=(matrix, matrix),
        noise_db=noise_db,
        key=Key(SEED, name, "noise"),
    )
    fastmri.write(folder / f"{name}.h5", [made if clean else replace(made, clean=None)])
