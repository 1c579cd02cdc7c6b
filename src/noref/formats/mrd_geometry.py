"""What the encoding spaces of ISMRMRD say of a slice: its lines' places, its field of view, its position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.formats.geometry import COUNTERS, Vector, vector
from noref.formats.mrd_header import EncodingSpace, MrdHeader
from noref.formats.mrd_readouts import Table
from noref.physics import crop_centre, fft2c, ifft2c, pad_centre
from noref.scan import Header

LARGEST = 16384
"""Samples along an axis beyond which a header must be wrong."""

FINER = 8
"""Pixels to a sample in which a calibration scan's image is cut to another field of view."""

SIEMENS = "SIEMENS"
"""A vendor whose directions along the read-out and the lines are those of an image by the forward transform:
in one by the inverse transform they point the other way."""

UNIT = 0.01
"""Most by which the length of a direction differs from 1; others are none."""

EDGE = 0.51
"""Where k-space ends, as a share of the matrix, with room for rounding."""


def places(path: Path, table: Table, space: EncodingSpace) -> tuple[NDArray[np.intp], tuple[int, int]]:
    """Rows of read-outs, `ky // 2 − centre + kspace_encode_step_1`, and the matrix `(ky, kx)`.

    Raises:
        NorefError: if a line lies outside the matrix.
    """
    lines = table["kspace_encode_step_1"]
    wide, high, _ = space.encoded.matrix
    if max(wide, high) > LARGEST:
        raise NorefError(f"{path}: an encoded matrix of {wide} × {high} cannot be; correct encodedSpace")
    last = max(int(lines.max()), space.lines.maximum if space.lines else 0)
    ky = high or last + 1
    kx = wide or int(table["number_of_samples"].max())
    centre = space.lines.centre if space.lines else ky // 2
    rows = np.asarray(ky // 2 - centre + lines, np.intp)
    if rows.min() < 0 or rows.max() >= ky:
        outside = lines[(rows < 0) | (rows >= ky)][0]
        raise NorefError(
            f"{path}: line {outside} lies outside the encoded matrix of {ky} lines around line {centre}; "
            "correct encodedSpace or encodingLimits"
        )
    return rows, (ky, kx)


def padding(measured: Tensor, space: EncodingSpace) -> Tensor | None:
    """Known zeros `(ky, kx)`: lines beyond the resolution, outside the encoding limits on both sides.

    Lines whose mirror image could be measured were left out by partial Fourier, and are no zeros.
    """
    if space.lines is None:
        return None
    ky = measured.shape[0]
    line = torch.arange(ky)
    first = ky // 2 - space.lines.centre + space.lines.minimum
    last = ky // 2 - space.lines.centre + space.lines.maximum
    inside = (line >= first) & (line <= last)
    # The first line of an even matrix has no mirror image, and shares the last one's fate.
    mirrored = (2 * (ky // 2) - line).clamp(max=ky - 1)
    outside = ~inside & ~inside[mirrored] & ~measured.any(-1)
    return outside[:, None].expand(measured.shape).clone() if outside.any() else None


def cycles(path: Path, trajectory: NDArray[np.float32], space: EncodingSpace) -> NDArray[np.float32]:
    """What turns positions along `(ky, kx)` into cycles per field of view of the image.

    Files hold them in units of the encoded matrix, from −0.5 to 0.5, or in cycles per encoded field of view.
    """
    matrix, view, shown = (
        np.array(values[1::-1], np.float32)
        for values in (space.encoded.matrix, space.encoded.view, space.recon.view)
    )
    reach = np.abs(trajectory).max((0, 1))
    if not matrix.all():
        raise NorefError(
            f"{path}: a {space.trajectory} scan whose header gives no encoded matrix; add encodedSpace"
        )
    if (reach > EDGE * matrix).any():
        raise NorefError(
            f"{path}: its trajectory reaches {reach.max():.4g}, beyond an encoded matrix of "
            f"{matrix.max():.0f}; give it in cycles per field of view, or from -0.5 to 0.5"
        )
    zoom = shown / view if view.all() and shown.all() else np.ones(2, np.float32)
    return np.asarray(zoom if reach.max() > EDGE else zoom * matrix, np.float32)


def in_view(path: Path, block: Tensor, own: tuple[float, ...], wanted: tuple[float, ...]) -> Tensor:
    """A calibration block of one field of view as it would have been measured with another.

    Its image, interpolated so that whole pixels miss the field of view by less than a hundredth, is cut to it
    or surrounded by zeros.

    Args:
        path: of the file, for messages.
        block: complex64 `(coils, ky, kx)`, its centre at `N // 2`.
        own: its field of view along x and y, in millimetres.
        wanted: that of the image.

    Raises:
        NorefError: if the fields of view are too different to be true.
    """
    size = np.array(block.shape[-2:])
    zoom = np.array(wanted[::-1]) / np.array(own[::-1])
    if (FINER * size * zoom > LARGEST).any():
        raise NorefError(
            f"{path}: a field of view {zoom.max():.4g} times that of its calibration scan cannot be; correct "
            "fieldOfView_mm"
        )
    cut = np.maximum((FINER * size * zoom).round().astype(int), 1)
    kept = np.maximum((size * zoom).astype(int), 1)
    larger = np.maximum(FINER * size, cut)
    image = pad_centre(ifft2c(pad_centre(block, _shape(FINER * size))), _shape(larger))
    return crop_centre(fft2c(crop_centre(image, _shape(cut))), _shape(kept))


def _shape(sizes: NDArray[np.int64]) -> tuple[int, int]:
    return int(sizes[0]), int(sizes[1])


def header_of(
    header: MrdHeader, space: EncodingSpace, table: Table, shape: tuple[int, ...], on_grid: bool
) -> Header:
    """Geometry and timing of a slice with the pixels of the encoded matrix, placed as its first read-out is.

    Args:
        header: of the measurement.
        space: of the slice.
        table: headers of its read-outs.
        shape: `(ky, kx)`.
        on_grid: whether it is the matrix of the image.
    """
    encoded, recon = space.encoded, space.recon
    crop = []
    for axis in (1, 0):
        pixels = encoded.matrix[axis] or shape[1 - axis]
        if encoded.view[axis] and recon.view[axis]:
            # The image keeps the pixels of the encoded matrix: what the scanner interpolates is no crop.
            pixels = round(pixels * min(recon.view[axis] / encoded.view[axis], 1))
        elif recon.matrix[axis]:
            pixels = min(recon.matrix[axis], pixels)
        crop.append(pixels)
    y, x = (encoded.view[axis] / (encoded.matrix[axis] or shape[1 - axis]) for axis in (1, 0))
    z = encoded.view[2] / (encoded.matrix[2] or 1)
    directions = directions_of(header, table[0])
    rows, columns = crop
    contrast, echoes = int(table["contrast"][0]), header.echo_times
    return Header(
        crop=None if on_grid and (rows, columns) == shape else (rows, columns),
        matrix=None if on_grid else (rows, columns),
        spacing=(y, x, z) if x and y and z else None,
        thickness=z or None,
        position=None if directions is None else vector(table["position"][0]),
        directions=directions,
        protocol=header.protocol,
        acceleration=space.acceleration,
        repetition_time=header.repetition_time,
        echo_time=echoes[contrast] if contrast < len(echoes) else None,
        inversion_time=header.inversion_time,
        flip_angle=header.flip_angle,
        field_strength=header.field_strength,
        **{name: int(table[name][0]) for name in COUNTERS},
    )


def directions_of(header: MrdHeader, head: NDArray[Any] | np.void) -> tuple[Vector, Vector, Vector] | None:
    """Directions of an image by the inverse transform, along x, y and the slice normal; None if not told.

    Args:
        header: of the measurement.
        head: of a read-out or image of it.
    """
    turned = -1 if header.vendor.startswith(SIEMENS) else 1
    # Without negative zeros.
    signs = {"read_dir": turned, "phase_dir": turned, "slice_dir": 1}
    along_x, along_y, normal = (sign * head[name] + 0.0 for name, sign in signs.items())
    if any(abs(np.linalg.norm(axis) - 1) >= UNIT for axis in (along_x, along_y, normal)):
        return None
    return vector(along_x), vector(along_y), vector(normal)
