"""Writes the standing experiments' scans as fastMRI-style HDF5, one file a scan.

    python benchmarks/prepare.py brain runs/data/brain-small --data FOLDER --matrix 128
    python benchmarks/prepare.py brain-multicoil runs/data/brain-multicoil-small --data FOLDER --matrix 128

`brain`: single-coil k-space of the combined images as they are, cropped to the matrix. `brain-multicoil`: the
images at full size times simulated coils, then cropped (the twofold downsampling that denoises them: the
clean truth), plus noise; the coils are moved for each scan. Scans 1-4 train, 5 validates, 6 tests.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.data import coil_models
from noref.data.simulate import acquire
from noref.formats import fastmri
from noref.scan import Scan
from noref.seeding import Key

SETS = {1: "train", 2: "train", 3: "train", 4: "train", 5: "validation", 6: "test"}
SEED = 2026


def images(data: Path, scan: int) -> Tensor:
    """The 30 slices of a SIAT scan, complex64 `(slices, 256, 256)`, scaled to a maximum of 1."""
    (file,) = sorted((data / "brain_siat").glob(f"siat_scan{scan}_*.npy"))
    slices = torch.from_numpy(np.load(file)[:, 7:263])
    return slices / slices.abs().max()


def brain(image: Tensor, name: str, matrix: int) -> Scan:
    """Single-coil k-space of one slice, as it is."""
    shape = (image.shape[-2], image.shape[-1])
    one = torch.ones(1, *shape, dtype=image.dtype)
    scan = acquire(image, one, id=name, matrix=(matrix, matrix), noise_db=None, key=Key(SEED, name, "noise"))
    return replace(scan, clean=None)


def brain_multicoil(image: Tensor, name: str, matrix: int, coils: int, noise: float) -> Scan:
    """k-space of one slice seen by simulated coils, with noise; the noiseless one as the clean truth."""
    subject = name.split("/")[0]
    kind = coil_models.KINDS[int(Key(SEED, subject, "coil kind").numpy().integers(len(coil_models.KINDS)))]
    maps = coil_models.maps(kind, coils, (image.shape[-2], image.shape[-1]), Key(SEED, subject, "coils"))
    key = Key(SEED, name, "noise")
    return acquire(image, maps, id=name, matrix=(matrix, matrix), noise_db=noise, key=key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=["brain", "brain-multicoil"])
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--matrix", type=int, default=128)
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--noise", type=float, default=40.0, help="dB, brain-multicoil only")
    options = parser.parse_args()
    for scan, part in SETS.items():
        made = []
        for index, image in enumerate(images(options.data, scan)):
            name = f"siat{scan}/siat{scan}/{index:03d}"
            if options.experiment == "brain":
                made.append(brain(image, name, options.matrix))
            else:
                made.append(brain_multicoil(image, name, options.matrix, options.coils, options.noise))
        path = options.output / part / f"siat{scan}.h5"
        fastmri.write(path, made)
        print(path)


if __name__ == "__main__":
    main()
