"""What the encoding spaces of ISMRMRD say of a slice: its lines' places, its field of view, its position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.formats.geometry import COUNTERS, Vector, vector
from noref.formats.mrd_header import EncodingSpace, Limits, MrdHeader
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
    wide, high, _ = space.encoded.matrix
    _check_size(path, wide, high)
    rows, ky = _places(path, "line", table["kspace_encode_step_1"], high, space.lines)
    return rows, (ky, wide or int(table["number_of_samples"].max()))


def partitions(path: Path, table: Table, space: EncodingSpace) -> tuple[NDArray[np.intp], int]:
    """Places of read-outs along kz, `kz // 2 − centre + kspace_encode_step_2`, and the matrix `kz`.

    Raises:
        NorefError: if a partition lies outside the matrix.
    """
    _, high, deep = space.encoded.matrix
    _check_size(path, high, deep)
    # Of volumes whose matrix is told like that of a slice, the partitions tell it.
    return _places(
        path, "partition", table["kspace_encode_step_2"], deep if deep > 1 else 0, space.partitions
    )


def _check_size(path: Path, wide: int, high: int) -> None:
    if max(wide, high) > LARGEST:
        raise NorefError(f"{path}: an encoded matrix of {wide} × {high} cannot be; correct encodedSpace")


def _places(
    path: Path, name: str, steps: NDArray[Any], size: int, limits: Limits | None
) -> tuple[NDArray[np.intp], int]:
    size = size or max(int(steps.max()), limits.maximum if limits else 0) + 1
    centre = limits.centre if limits else size // 2
    found = np.asarray(size // 2 - centre + steps, np.intp)
    if found.min() < 0 or found.max() >= size:
        outside = steps[(found < 0) | (found >= size)][0]
        raise NorefError(
            f"{path}: {name} {outside} lies outside the encoded matrix of {size} {name}s around {name} "
            f"{centre}; correct encodedSpace or encodingLimits"
        )
    return found, size


def padding(measured: Tensor, space: EncodingSpace) -> Tensor | None:
    """Known zeros `(ky, kx)`: lines beyond the resolution, outside the encoding limits on both sides.

    Lines whose mirror image could be measured were left out by partial Fourier, and are no zeros.

    Args:
        measured: bool `(ky, kx)`.
        space: of the slice.
    """
    outside = _outside(measured.shape[0], space.lines) & ~measured.any(-1)
    return outside[:, None].expand(measured.shape).clone() if outside.any() else None


def padding_of_partitions(measured: Tensor, space: EncodingSpace) -> Tensor | None:
    """The same of a slice of a volume, `(ky, kz)`: of lines and of partitions.

    Args:
        measured: bool `(ky, kz)`.
        space: of the volume.
    """
    lines, parts = (
        _outside(size, limits) & ~measured.any(1 - axis)
        for axis, (size, limits) in enumerate(
            zip(measured.shape, (space.lines, space.partitions), strict=True)
        )
    )
    outside = lines[:, None] | parts
    return outside if outside.any() else None


def _outside(size: int, limits: Limits | None) -> Tensor:
    """Which of so many places lie outside the limits on both sides, bool `(size,)`."""
    place = torch.arange(size)
    if limits is None:
        return torch.zeros(size, dtype=torch.bool)
    first = size // 2 - limits.centre + limits.minimum
    last = size // 2 - limits.centre + limits.maximum
    inside = (place >= first) & (place <= last)
    # The first place of an even matrix has no mirror image, and shares the last one's fate.
    mirrored = (2 * (size // 2) - place).clamp(max=size - 1)
    return ~inside & ~inside[mirrored]


def clinical(space: EncodingSpace, axis: int, size: int) -> int:
    """Pixels of the clinical field of view along an axis of the encoding: x, y or z.

    Args:
        space: its encoding.
        axis: 0, 1 or 2.
        size: pixels of the encoded one where the header does not tell.
    """
    encoded, recon = space.encoded, space.recon
    pixels = encoded.matrix[axis] or size
    if encoded.view[axis] and recon.view[axis]:
        # The image keeps the pixels of the encoded matrix: what the scanner interpolates is no crop.
        return max(round(pixels * min(recon.view[axis] / encoded.view[axis], 1)), 1)
    return min(recon.matrix[axis], pixels) or pixels


def clinical_plane(space: EncodingSpace, shape: tuple[int, int]) -> tuple[int, int]:
    """Pixels `(y, z)` of the clinical field of view of a plane of a volume, `(ky, kz)`."""
    # A matrix of one partition is that of a slice, and tells nothing.
    deep = clinical(space, 2, shape[1]) if space.encoded.matrix[2] > 1 else shape[1]
    return clinical(space, 1, shape[0]), deep


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
    encoded = space.encoded
    rows, columns = (clinical(space, axis, shape[1 - axis]) for axis in (1, 0))
    y, x = (encoded.view[axis] / (encoded.matrix[axis] or shape[1 - axis]) for axis in (1, 0))
    z = encoded.view[2] / (encoded.matrix[2] or 1)
    directions = directions_of(header, table[0])
    contrast, echoes = int(table["contrast"][0]), header.echo_times
    counters: dict[str, Any] = {name: int(table[name][0]) for name in COUNTERS}
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
        **counters,
    )


def slice_of_volume(
    header: Header, space: EncodingSpace, shape: tuple[int, int], index: int, count: int, turned: bool
) -> Header:
    """The header of a plane `(y, z)` of a volume, of that of the volume as `header_of` gives it.

    Planes lie around the volume's position, as pixels do around that of an image:
    `p + (index − (count − 1) / 2) Δx d_x`.

    Args:
        header: of the volume.
        space: its encoding.
        shape: `(ky, kz)`.
        index: of the plane along the read-out.
        count: planes.
        turned: whether partitions run against the slice normal, see `SIEMENS`.
    """
    crop = clinical_plane(space, shape)
    acceleration = header.acceleration * space.across
    planes = replace(header, crop=None if crop == shape else crop, acceleration=acceleration)
    if header.spacing is not None:
        y, x, _ = header.spacing
        planes = replace(planes, spacing=(y, space.encoded.view[2] / shape[1], x), thickness=x)
        if header.directions is not None and header.position is not None:
            along_x, along_y, normal = header.directions
            step = (index - (count - 1) / 2) * x * np.array(along_x)
            along_z = vector((-1 if turned else 1) * np.array(normal) + 0.0)
            position = vector(np.array(header.position) + step)
            return replace(planes, directions=(along_z, along_y, along_x), position=position)
    return replace(planes, directions=None, position=None)


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
