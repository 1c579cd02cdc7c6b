"""Writing ISMRMRD (MRD version 1) HDF5: raw data of scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.formats.base import new_hdf5
from noref.formats.mrd_header import EncodingSpace, Limits, MrdHeader, Space, build
from noref.formats.mrd_readouts import Flag
from noref.formats.mrd_records import GROUP, put_xml, readout_type
from noref.scan import Header, Scan, padding_of

NOISE_SAMPLES = 256
"""Fewest samples of the noise scan that stands for a covariance."""

FIRST, LAST = 0, 1
"""Which of a pair of flags."""

BOUNDS = {"kspace_encode_step_1": 1, "slice": 7, "repetition": 13}
"""The flag, counted from 1, of the first read-out of each of these; that of the last follows it."""


def write(path: Path, scans: Sequence[Scan]) -> None:
    """Writes raw data: measured samples, separate calibration lines, and a noise scan.

    Scans that differ in the middle of their id, `subject/scan/slice`, become repetitions. The noise scan has
    exactly the covariance of the first scan. What is no raw data (maps, Ω where it is less than what was
    measured, Γ, references) is not written.

    Args:
        path: of the file.
        scans: slices of one subject, matrix and number of coils; each is asked for once.

    Raises:
        NorefError: if there is none, they do not belong together, or points and not pieces of lines were
            sampled.
    """
    names, slices = dict[str, int](), dict[str, int]()
    with new_hdf5(path) as file:
        group = file.create_group(GROUP)
        for index, scan in enumerate(scans):
            if index == 0:
                first = scan
                # h5py makes a pool of the values: more of them than one at a time is faster.
                data = group.create_dataset("data", (0,), readout_type(), maxshape=(None,), chunks=(64,))
                header = _header_of(path, scan)
                if scan.noise_cov is not None:
                    _append(data, [_noise(scan)])
            _check_same(path, first, scan)
            volume = scan.id.rsplit("/", 1)[0]
            repetition = names.setdefault(volume, len(names))
            slices[volume] = slices.get(volume, -1) + 1
            readouts = list(_readouts(path, scan, header.spaces[0]))
            for readout in readouts:
                readout["head"]["idx"]["repetition"] = repetition
                readout["head"]["idx"]["slice"] = slices[volume]
            for which, place in ((FIRST, 0), (LAST, -1)):
                for flag in BOUNDS.values():
                    readouts[place]["head"]["flags"] |= np.uint64(1 << (flag - 1 + which))
            if index == len(scans) - 1:
                readouts[-1]["head"]["flags"] |= np.uint64(Flag.LAST)
            _append(data, readouts)
        if not names:
            raise NorefError(f"{path}: there is no slice to write")
        last = {"slice": max(slices.values()), "repetition": len(names) - 1}
        header = replace(header, spaces=[replace(header.spaces[0], last=last)])
        put_xml(group, build(header, first.coils))


def _append(data: h5py.Dataset, readouts: Sequence[NDArray[Any]]) -> None:
    before = len(data)
    data.resize(before + len(readouts), axis=0)
    block = np.empty(len(readouts), data.dtype)
    for i, readout in enumerate(readouts):
        block[i] = readout[0]
    data[before:] = block


def _check_same(path: Path, first: Scan, scan: Scan) -> None:
    def shared(scan: Scan) -> tuple[object, ...]:
        header = scan.header
        return scan.subject, scan.kspace.shape, scan.trajectory is None, header.crop, header.spacing

    if shared(first) != shared(scan):
        raise NorefError(
            f"{path}: slices {first.id} and {scan.id} differ in subject, matrix, coils or field of view; "
            "write them to different files"
        )


def _header_of(path: Path, scan: Scan) -> MrdHeader:
    """The header of scans like this one."""
    header = scan.header
    matrix = scan.shape
    lines = None
    if scan.trajectory is not None:
        if header.matrix is None:
            raise NorefError(f"{path}: {scan.id} has a trajectory, but no matrix of the image in its header")
        matrix = header.matrix
    else:
        inside = (~padding_of(scan)).any(-1).nonzero().flatten()
        left, right = (int(inside[0]), int(inside[-1])) if len(inside) else (0, matrix[0] - 1)
        if scan.calibration is not None:
            left = min(left, matrix[0] // 2 - scan.calibration.shape[-2] // 2)
        lines = Limits(0, right - left, matrix[0] // 2 - left)
    y, x, z = header.spacing or (0.0, 0.0, 0.0)
    # The field of view of a slice is its thickness; gaps are between positions.
    z = z if header.thickness is None else header.thickness
    encoded, recon = (
        Space((columns, rows, 1), (columns * x, rows * y, z))
        for rows, columns in (matrix, header.crop or matrix)
    )
    space = EncodingSpace(
        encoded,
        recon,
        lines,
        "cartesian" if scan.trajectory is None else "other",
        "" if scan.calibration is None else "separate",
        header.acceleration,
    )
    return MrdHeader(
        [space],
        scan.subject,
        header.protocol,
        field_strength=header.field_strength,
        repetition_time=header.repetition_time,
        echo_times=() if header.echo_time is None else (header.echo_time,),
        inversion_time=header.inversion_time,
        flip_angle=header.flip_angle,
    )


def _noise(scan: Scan) -> NDArray[Any]:
    """A noise scan whose samples have exactly the scan's covariance: `√Σ` times orthogonal waves."""
    assert scan.noise_cov is not None
    power, vectors = np.linalg.eigh((scan.noise_cov * abs(scan.scale) ** 2).numpy().astype(np.complex128))
    size = max(NOISE_SAMPLES, scan.coils)
    waves = np.exp(2j * math.pi / size * np.outer(np.arange(scan.coils), np.arange(size)))
    readout = _readout(vectors * np.sqrt(power.clip(0)) @ waves, scan.header)
    readout["head"]["flags"] = Flag.NOISE
    return readout


def _readouts(path: Path, scan: Scan, space: EncodingSpace) -> Iterator[NDArray[Any]]:
    """Calibration lines, then those of the image, from the first to the last."""
    if scan.trajectory is not None:
        yield from _spokes(scan, scan.trajectory, space)
        return
    assert space.lines is not None
    first = scan.shape[0] // 2 - space.lines.centre
    if scan.calibration is not None:
        size = scan.calibration.shape[-2:]
        if any(small > large for small, large in zip(size, scan.shape, strict=True)):
            raise NorefError(f"{path}: the calibration scan of {scan.id} is larger than its k-space")
        for line, values in enumerate(scan.calibration.movedim(-2, 0)):
            readout = _readout(_array(values * scan.scale), scan.header)
            readout["head"]["flags"] = Flag.CALIBRATION
            readout["head"]["center_sample"] = size[1] // 2
            readout["head"]["idx"]["kspace_encode_step_1"] = scan.shape[0] // 2 - size[0] // 2 + line - first
            yield readout
    for row in scan.measured.any(-1).nonzero().flatten().tolist():
        columns = scan.measured[row].nonzero().flatten()
        start, stop = int(columns[0]), int(columns[-1]) + 1
        if len(columns) < stop - start:
            raise NorefError(f"{path}: {scan.id} was sampled in points; raw data hold whole pieces of lines")
        readout = _readout(_array(scan.kspace[:, row] * scan.scale), scan.header)
        readout["head"]["center_sample"] = scan.shape[1] // 2
        readout["head"]["discard_pre"], readout["head"]["discard_post"] = start, scan.shape[1] - stop
        readout["head"]["idx"]["kspace_encode_step_1"] = row - first
        yield readout


def _spokes(scan: Scan, trajectory: Tensor, space: EncodingSpace) -> Iterator[NDArray[Any]]:
    """Read-outs off the grid, with their positions from −0.5 to 0.5."""
    matrix = torch.tensor(space.encoded.matrix[1::-1])
    for line, where in enumerate(trajectory / matrix):
        measured = scan.measured[line].nonzero().flatten()
        if len(measured) == 0:
            continue
        readout = _readout(_array(scan.kspace[:, line] * scan.scale), scan.header)
        readout["traj"][0] = where.flip(-1).numpy().ravel()
        readout["head"]["trajectory_dimensions"] = 2
        readout["head"]["discard_pre"] = int(measured[0])
        readout["head"]["discard_post"] = scan.shape[1] - int(measured[-1]) - 1
        readout["head"]["idx"]["kspace_encode_step_1"] = line
        yield readout


def _array(values: Tensor) -> NDArray[np.complex64]:
    return np.asarray(values.resolve_conj().numpy(), np.complex64)


def _readout(values: NDArray[Any], header: Header) -> NDArray[Any]:
    """One read-out of samples `(coils, samples)`, with its position in the scanner."""
    readout = np.zeros(1, readout_type())
    head = readout["head"]
    head["version"] = 1
    head["available_channels"], head["number_of_samples"] = values.shape
    head["active_channels"] = values.shape[0]
    if header.position is not None and header.directions is not None:
        head["position"] = header.position
        head["read_dir"], head["phase_dir"], head["slice_dir"] = header.directions
    readout["data"][0] = np.ascontiguousarray(values, np.complex64).view(np.float32).ravel()
    readout["traj"][0] = np.zeros(0, np.float32)
    return readout
