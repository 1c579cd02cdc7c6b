"""What must agree in ISMRMRD files: limits and lines, calibration scans and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from noref.coils.calibration import centred_block
from noref.coils.maps import MIN_LINES
from noref.errors import NorefError
from noref.formats.mrd_frames import Frame
from noref.formats.mrd_header import SEPARATE, EncodingSpace
from noref.formats.mrd_readouts import Flag, Table, flagged
from noref.scan import Header

ALIKE = 0.999
"""Smallest cosine between directions of scans that lie alike, 2.6 degrees."""

NEAREST = 2.0
"""Millimetres below which no pixel or slice is taken to be, where it is asked whether scans lie together."""


def check_limits(path: Path, table: Table, space: EncodingSpace) -> None:
    """Refuses encoding limits that contradict themselves or the lines and partitions of an image.

    Args:
        path: of the file, for messages.
        table: headers of the lines.
        space: theirs.

    Raises:
        NorefError: if the centre, a line or a partition lies outside them.
    """
    for name, limits, numbers in (
        ("line", space.lines, table["kspace_encode_step_1"]),
        ("partition", space.partitions, table["kspace_encode_step_2"]),
    ):
        if limits is None or not numbers.any():
            continue
        told = f"{name}s {limits.minimum} to {limits.maximum}"
        if not limits.minimum <= limits.centre <= limits.maximum:
            raise NorefError(
                f"{path}: the header's limits contradict themselves, {told} and {name} {limits.centre} for "
                "their centre; correct encodingLimits"
            )
        outside = numbers[(numbers < limits.minimum) | (numbers > limits.maximum)]
        if len(outside):
            raise NorefError(
                f"{path}: {name} {outside[0]} lies outside the header's limits, {told}; correct "
                "encodingLimits"
            )


def check_calibrated(path: Path, table: Table, frame: Frame, space: EncodingSpace, measured: Tensor) -> None:
    """Refuses a slice whose calibration scan is missing, while other slices of the measurement have one.

    Args:
        path: of the file, for messages.
        table: headers of all read-outs.
        frame: the slice.
        space: its encoding.
        measured: bool `(ky, kx)`.

    Raises:
        NorefError: if the header says that calibration is separate, and the image cannot do without.
    """
    alone = flagged(table, Flag.CALIBRATION) & ~flagged(table, Flag.CALIBRATION_AND_IMAGING)
    if len(frame.calibration) or space.calibration not in SEPARATE or not alone.any():
        return
    if min(centred_block(measured[None], measured).shape[-2:]) < MIN_LINES:
        others = " and ".join(map(str, np.unique(table["slice"][alone])))
        raise NorefError(
            f"{path}: slice {frame.slice} has no calibration lines, and those in the file are of slice "
            f"{others}; give a calibration scan of the same slices"
        )


def check_centre(path: Path, sampled: Tensor, block: Tensor) -> None:
    """Refuses calibration lines without the centre of the matrix that their header says they are of.

    Args:
        path: of the file, for messages.
        sampled: bool `(ky, kx)`, what they hold.
        block: the centre among it.

    Raises:
        NorefError: if it is empty.
    """
    if 0 not in block.shape:
        return
    (ky, kx), lines = sampled.shape, sampled.any(-1).nonzero().flatten()
    raise NorefError(
        f"{path}: its calibration scan does not hold the centre of its matrix, {ky} × {kx}, but lines "
        f"{int(lines[0])} to {int(lines[-1])}; give one of this matrix, or one with its own "
        "encodedSpace"
    )


def check_place(
    path: Path, image: Header, own: Header, matrix: tuple[int, int], view: tuple[float, ...]
) -> None:
    """Refuses a calibration scan of another place than its image's; passes where a place is not told.

    Their centres may differ by half a slice's thickness along the normal, and in the plane by half a pixel of
    the calibration scan.

    Args:
        path: of the calibration scan, for messages.
        image: geometry of the image.
        own: that of the calibration scan.
        matrix: of the calibration scan, `(ky, kx)`.
        view: its field of view along x and y, in millimetres; 0 where not told.

    Raises:
        NorefError: naming how far apart they are.
    """
    if image.position is None or own.position is None or not (image.directions and own.directions):
        return
    ours, theirs = np.array(image.directions), np.array(own.directions)
    if (np.einsum("ij,ij->i", ours, theirs) < ALIKE).any():
        raise NorefError(
            f"{path}: its calibration scan lies in another orientation than the image; give the one that was "
            "measured for it"
        )
    apart = np.array(own.position) - np.array(image.position)
    thickness = max((header.spacing[2] for header in (image, own) if header.spacing), default=0.0)
    room = np.array([view[0] / matrix[1], view[1] / matrix[0], thickness])
    if (np.abs(ours @ apart) > np.maximum(room, NEAREST) / 2).any():
        raise NorefError(
            f"{path}: its calibration scan lies {np.linalg.norm(apart):.3g} mm away from the image; give the "
            "one that was measured for it"
        )
