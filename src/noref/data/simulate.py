"""Scans of phantoms: moving coils, noise, and nothing that a reconstruction could know beforehand.

Image and coils live on a finer grid than the scan; k-space is cropped from theirs, so that the scan holds
what lies between its pixels (Shimron et al., PNAS 2022), and maps have to be estimated from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from noref.data import coil_models
from noref.data.phantoms import phantom
from noref.errors import NorefError
from noref.formats.base import scan_id
from noref.physics import crop_centre, fft2c, nufft
from noref.sampling.masks import acquisition_mask
from noref.sampling.spokes import radial, turned
from noref.scan import Header, Scan
from noref.seeding import Key

FINER = 2
"""Pixels of the simulation per pixel of the scan, along each axis."""

OBJECT = 0.05
"""Pixels brighter than this share of the maximum are the object."""

SPACING, RANGE = 0.05, 0.8
"""Distance between slices, and the most that all of them span, in half fields of view."""

FIELD_OF_VIEW = {"brain": 240.0, "knee": 170.0, "cardiac": 380.0, "prostate": 380.0, "phantom": 240.0}
"""Millimetres across."""

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0))


def simulate_scan(
    anatomy: str,
    *,
    id: str,
    matrix: tuple[int, int],
    coils: int,
    noise_db: float | None,
    seed: int,
    z: float = 0.0,
    spacing: float = SPACING,
    spokes: int | None = None,
) -> Scan:
    """A fully sampled scan of a phantom, with its noiseless k-space; see `acquire`.

    Args:
        anatomy: a name in `noref.data.phantoms.ANATOMIES`.
        id: subject/scan/slice; the subject alone decides on anatomy and coils.
        matrix: `(ky, kx)`.
        coils: number of coils; loops or a birdcage, as the subject has it.
        noise_db: level of the noise; none if None.
        seed: of the data set.
        z: height of the slice, in half fields of view.
        spacing: to the next slice, in the same unit; for the header.
        spokes: golden-angle spokes to acquire, turned by an angle of the scan's own; k-space on the Cartesian
            grid if None.
    """
    subject = id.split("/", 1)[0]
    coil_key = Key(seed, subject, "coils")
    kind = coil_models.KINDS[int(coil_key.fold("kind").numpy().integers(len(coil_models.KINDS)))]
    fine = (FINER * matrix[0], FINER * matrix[1])
    image = phantom(anatomy, fine, Key(seed, subject, "phantom"), z)
    maps = coil_models.maps(kind, coils, fine, coil_key, z)
    trajectory = None if spokes is None else _spokes(spokes, matrix, Key(seed, id, "trajectory"))
    key = Key(seed, id, "noise")
    scan = acquire(image, maps, id=id, matrix=matrix, noise_db=noise_db, key=key, trajectory=trajectory)
    header = _header(anatomy, matrix, z, spacing)
    return replace(scan, header=header if spokes is None else replace(header, matrix=matrix))


def _spokes(number: int, matrix: tuple[int, int], key: Key) -> Tensor:
    """Golden-angle spokes to the edge of the matrix, read out with twofold oversampling."""
    return turned(radial(number, 2 * max(matrix), golden=True), float(key.numpy().uniform(0, 2 * math.pi)))


def acquire(
    image: Tensor,
    maps: Tensor,
    *,
    id: str,
    matrix: tuple[int, int],
    noise_db: float | None,
    key: Key,
    trajectory: Tensor | None = None,
) -> Scan:
    """The fully sampled scan of an image: k-space of a finer grid, cropped, with white noise.

    With a trajectory its samples alone, of the finer grid's image, with the same noise; the noiseless k-space
    that comes along, of which references are made, is the Cartesian one.

    `y_c = crop(F S_c x)·√(N/N_fine) + n_c`, with noise of `20·log10(rms of the combined image over the
    object / σ)` dB, `σ² = E|n|²` per coil sample.

    Args:
        image: complex `(y, x)` on a grid at least as fine as the scan's, its object brighter than 5 % of its
            maximum.
        maps: complex `(coils, y, x)` on the same grid.
        id: subject/scan/slice.
        matrix: `(ky, kx)` of the scan.
        noise_db: level of the noise; none if None.
        key: draws it.
        trajectory: float32 `(ky, kx, 2)`, cycles per field of view along y and x, or None.
    """
    finer = math.sqrt(image.numel() / math.prod(matrix))
    clean = crop_centre(fft2c(image * maps), matrix) / finer
    kspace = clean if trajectory is None else nufft((image * maps)[None], trajectory[None])[0] / finer
    if noise_db is not None:
        pixels = float((image.abs() > OBJECT * image.abs().max()).sum()) / finer**2
        sigma = float(torch.linalg.vector_norm(clean)) / math.sqrt(pixels) * 10 ** (-noise_db / 20)
        kspace = kspace + sigma * torch.randn(kspace.shape, dtype=clean.dtype, generator=key.torch())
    everywhere = torch.ones(kspace.shape[-2:], dtype=torch.bool)
    return Scan(
        id=id,
        kspace=kspace,
        measured=everywhere,
        mask=everywhere,
        trajectory=trajectory,
        clean=clean,
        raw=False,
        header=Header(matrix=None if trajectory is None else matrix),
    )


def _header(anatomy: str, matrix: tuple[int, int], z: float, spacing: float) -> Header:
    millimetres = FIELD_OF_VIEW[anatomy] / 2
    directions = SAGITTAL if anatomy == "knee" else AXIAL
    normal = directions[2]
    return Header(
        crop=matrix,
        spacing=(2 * millimetres / matrix[0], 2 * millimetres / matrix[1], spacing * millimetres),
        position=(z * millimetres * normal[0], z * millimetres * normal[1], z * millimetres * normal[2]),
        directions=directions,
        protocol=f"phantom {anatomy}",
    )


def simulate_data(
    anatomy: str,
    *,
    scans: int,
    slices: int,
    coils: int,
    matrix: tuple[int, int],
    noise_db: float | None,
    seed: int,
    first: int = 1,
    spokes: int | None = None,
) -> Iterator[Scan]:
    """All slices of one subject after another, each made when it is asked for.

    Args:
        anatomy: a name in `noref.data.phantoms.ANATOMIES`.
        scans: number of subjects.
        slices: of each.
        coils: number of coils.
        matrix: `(ky, kx)`.
        noise_db: as in `simulate_scan`.
        seed: of the data set.
        first: number of the first subject, `ANATOMY-0001` for 1. A number is the same subject in every data
            set of a seed.
        spokes: as in `simulate_scan`.

    Raises:
        NorefError: if the anatomy is unknown or a number is too small.
    """
    if min(scans, slices, coils, first) < 1 or min(matrix) < 16:
        raise NorefError(
            f"{scans} scans of {slices} slices, {coils} coils, matrix {matrix[0]}×{matrix[1]}: "
            "there must be at least one of each, and 16 pixels a side"
        )
    spacing = min(SPACING, RANGE / max(slices - 1, 1))
    for number in range(first, first + scans):
        subject = f"{anatomy}-{number:04d}"
        for index in range(slices):
            yield simulate_scan(
                anatomy,
                id=scan_id(subject, subject, index),
                matrix=matrix,
                coils=coils,
                noise_db=noise_db,
                seed=seed,
                z=spacing * (index - (slices - 1) / 2),
                spacing=spacing,
                spokes=spokes,
            )


def prospective(
    scan: Scan, *, kind: str, acceleration: float, acs: float, seed: int, partial_fourier: float = 1.0
) -> Scan:
    """The scan as a scanner would have acquired it: Ω drawn for life, no reference, no clean k-space.

    Args:
        scan: fully sampled.
        kind: of the mask, a name in `noref.sampling.masks.MASKS`.
        acceleration: `R`, as `acquisition_mask` counts it.
        acs: calibration lines, or their share of the matrix if below 1.
        seed: of the data set.
        partial_fourier: share of the lines that may be acquired.

    Raises:
        NorefError: as `acquisition_mask` does.
    """
    key = Key(seed, scan.id, "mask")
    mask = acquisition_mask(kind, scan.shape, acceleration, acs, key, partial_fourier)
    return scan.undersampled(mask).as_target()
