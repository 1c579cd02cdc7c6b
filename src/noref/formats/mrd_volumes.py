"""3-D Cartesian scans as slices: planes of both phase encodings, one for every pixel along the read-out.

The inverse transform along the read-out, which is fully sampled, makes a scan of each plane; undersampling is
in the plane, of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.coils.calibration import centred_block
from noref.errors import NorefError
from noref.formats.base import to_kspace
from noref.formats.mrd_checks import check_centre, check_place
from noref.formats.mrd_epi import evenly_sampled, lines_of
from noref.formats.mrd_frames import Frame, Numbers
from noref.formats.mrd_geometry import (
    SIEMENS,
    clinical,
    header_of,
    in_view,
    padding_of_partitions,
    partitions,
    places,
    slice_of_volume,
)
from noref.formats.mrd_header import CARTESIAN
from noref.formats.mrd_measurement import Measurement, noise_in_image
from noref.formats.mrd_readouts import Flag, Table, Values, flagged, grid
from noref.physics import crop_centre, ifft1c, pad_centre
from noref.scan import Role, Scan

HELD = 512 << 20
"""Bytes of a volume that are kept for the slices beside the one that was asked for."""

SAME = 1e-3
"""Share of a field of view by which another one is the same."""

BLOCK = 512
"""Read-outs that are transformed at once."""


def is_volume(table: Table, frame: Frame) -> bool:
    """Whether the lines of a frame are of several partitions, on the Cartesian grid."""
    return len(np.unique(table["kspace_encode_step_2"][frame.imaging])) > 1


def planes_of(path: Path, one: Measurement, frame: Frame) -> int:
    """How many slices a volume makes: pixels of the clinical field of view along the read-out.

    Raises:
        NorefError: if lines lie outside the encoded matrix.
    """
    space = evenly_sampled(one.header.space(frame.key[0]))
    _, (_, columns) = places(path, one.table[frame.imaging], space)
    return clinical(space, 0, columns)


def is_filled(one: Measurement, frame: Frame) -> bool:
    """Whether a volume has no empty place, and yet the header tells an acceleration: it was filled in."""
    space, own = one.header.space(frame.key[0]), one.table[frame.imaging]
    steps = [np.unique(own[f"kspace_encode_step_{step}"]) for step in (1, 2)]
    held = len(np.unique(own[["kspace_encode_step_1", "kspace_encode_step_2"]]))
    whole = all(len(step) == step[-1] - step[0] + 1 for step in steps) and held == len(steps[0]) * len(
        steps[1]
    )
    return whole and space.acceleration * space.across > 1


@dataclass(frozen=True)
class Slab:
    """Neighbouring slices of a volume.

    Attributes:
        first: the first of them.
        kspace: complex64 `(x, coils, ky, kz)`.
        count: read-outs of each place, int `(ky, kz)`.
        gain: variance of the noise in a sample, over that in one as it was acquired; averages apart.
        calibration: complex64 `(x, coils, ky, kz)`, the centre of a separate calibration scan, or None.
    """

    first: int
    kspace: Tensor
    count: NDArray[np.intp]
    gain: float
    calibration: Tensor | None

    def __contains__(self, index: int) -> bool:
        return self.first <= index < self.first + len(self.kspace)


@dataclass(frozen=True)
class _Along:
    """The read-out of a volume: columns of its k-space, planes of its image, and those that are wanted."""

    columns: int
    planes: int
    first: int
    last: int


def slab_of(path: Path, values: Values, one: Measurement, frame: Frame, index: int) -> Slab:
    """The slices around one of a volume, as many as `HELD` bytes take: of a small one, all.

    Args:
        path: of the file, for messages.
        values: of the read-outs.
        one: their measurement.
        frame: which of them make the volume.
        index: of the slice.

    Raises:
        NorefError: if read-outs contradict each other or the header, or the calibration scan is of another
            place, or of another field of view along the read-out.
    """
    space, own = evenly_sampled(one.header.space(frame.key[0])), one.table[frame.imaging]
    _, (ky, kx) = places(path, own, space)
    _, kz = partitions(path, own, space)
    many = max(HELD // (8 * int(own["active_channels"][0]) * ky * kz), 1)
    first, planes = index // many * many, planes_of(path, one, frame)
    along = _Along(kx, planes, first, min(first + many, planes))
    kspace, count, gain = _planes(path, values, one, frame.imaging, along)
    return Slab(first, kspace, count, gain, _calibration(path, values, one, frame, along))


def plane_of(
    path: Path,
    slab: Slab,
    one: Measurement,
    noise: Measurement | None,
    frame: Frame,
    index: int,
    name: str,
    role: Role,
) -> Scan:
    """A slice of a volume: k-space `(coils, ky, kz)`, one pixel along the read-out.

    Args:
        path: of the file, for messages.
        slab: that holds it.
        one: the measurement.
        noise: the measurement that brings the noise scans, or None.
        frame: the read-outs of the volume.
        index: of the slice.
        name: the slice's, `subject/scan/slice`.
        role: what it is to the training.

    Raises:
        NorefError: if nobody could learn from it.
    """
    space, own = evenly_sampled(one.header.space(frame.key[0])), one.table[frame.imaging]
    measured = torch.from_numpy(slab.count > 0)
    shape = (measured.shape[0], measured.shape[1])
    # The pixels of a slice are those of the encoded matrix.
    _, columns = places(path, own, space)
    placed = header_of(one.header, space, own, columns, on_grid=True)
    planes = planes_of(path, one, frame)
    turned = one.header.vendor.startswith(SIEMENS)
    return Scan(
        id=name,
        kspace=to_kspace(slab.kspace[index - slab.first].numpy(), f"{path}: {name}"),
        measured=measured,
        mask=measured,
        padding=padding_of_partitions(measured, space),
        calibration=None if slab.calibration is None else slab.calibration[index - slab.first].clone(),
        noise_cov=noise_in_image(noise, own, slab.count, slab.gain),
        role=role,
        header=slice_of_volume(placed, space, shape, index, planes, turned),
    )


def _planes(
    path: Path, values: Values, one: Measurement, numbers: Numbers, along: _Along
) -> tuple[Tensor, NDArray[np.intp], float]:
    """Some planes, the mean of all read-outs that a place got, and `count` and `gain` as `Slab` has them."""
    told = one.header.space(int(one.table["encoding_space_ref"][numbers[0]]))
    space, own = evenly_sampled(told), one.table[numbers]
    rows, (ky, kx) = places(path, own, space)
    columns, kz = partitions(path, own, space)
    place = torch.from_numpy(rows * kz + columns)
    coils, wanted = int(own["active_channels"][0]), slice(along.first, along.last)
    kspace = torch.zeros(along.last - along.first, coils, ky * kz, dtype=torch.complex64)
    taken, gain = 0, 1.0
    for start in range(0, len(numbers), BLOCK):
        block = slice(start, start + BLOCK)
        lines = lines_of(path, values, one, numbers[block], told)
        size = len(lines.samples)
        part, count = grid(path, lines.table, lines.samples, np.arange(size), (size, kx))
        taken, gain = taken + int(np.count_nonzero(count)), lines.gain
        resized = torch.from_numpy(part)
        if kx != along.columns:
            # A calibration scan's: the same pixels, of fewer samples or more.
            resized = pad_centre(resized, (size, max(kx, along.columns)))
            resized = crop_centre(resized, (size, along.columns))
        image = crop_centre(ifft1c(resized), (size, along.planes))[..., wanted]
        kspace.index_add_(2, place[block], image.movedim(-1, 0))
    count = np.bincount(place.numpy(), minlength=ky * kz)
    kspace /= torch.from_numpy(np.maximum(count, 1))
    # Of a partial echo the columns that are zero bring no noise.
    return (
        kspace.reshape(*kspace.shape[:2], ky, kz),
        count.reshape(ky, kz),
        gain * taken / (len(numbers) * kx),
    )


def _calibration(path: Path, values: Values, one: Measurement, frame: Frame, along: _Along) -> Tensor | None:
    """The fully sampled centre of the calibration scan's planes, brought to the image's field of view."""
    if not len(frame.calibration):
        return None
    number = int(one.table["encoding_space_ref"][frame.calibration[0]])
    own, space = (evenly_sampled(one.header.space(n)) for n in (number, frame.key[0]))
    if own.trajectory not in CARTESIAN:
        return None
    mine, wanted = own.encoded.view, space.encoded.view
    known = 0 not in (*mine, *wanted)
    if known and abs(mine[0] - wanted[0]) > SAME * wanted[0]:
        raise NorefError(
            f"{path}: a 3-D scan whose calibration scan has a field of view of {mine[0]:.4g} and not "
            f"{wanted[0]:.4g} mm along the read-out; leave its lines out"
        )
    tables = (one.table[numbers] for numbers in (frame.imaging, frame.calibration))
    shape = (int(own.encoded.matrix[1]), along.columns)
    image, calibrating = (
        header_of(one.header, of, heads, shape, on_grid=True)
        for of, heads in zip((space, own), tables, strict=True)
    )
    check_place(path, image, calibrating, (shape[0] or 1, shape[1]), mine[:2])
    kspace, count, _ = _planes(path, values, one, frame.calibration, along)
    sampled = torch.from_numpy(count > 0)
    block = centred_block(kspace, sampled)
    if flagged(one.table[frame.calibration], Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING).any():
        check_centre(path, sampled, block)
    if 0 in block.shape:
        return None
    if not known or mine[1:] == wanted[1:]:
        # Not the rest of the planes with it.
        return block.clone()
    # Rows of a plane are lines, and columns partitions.
    return torch.stack([in_view(path, plane, mine[:0:-1], wanted[:0:-1]) for plane in block])
