"""The read-outs of ISMRMRD files: their headers as one table, and their samples where k-space wants them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError

Table = NDArray[np.void]
"""Headers of read-outs, with the fields of `FIELDS`."""


class Flag(IntFlag):
    """What a read-out is; ISMRMRD counts its flags from 1."""

    LAST_IN_SLICE = 1 << 7
    LAST_IN_REPETITION = 1 << 13
    NOISE = 1 << 18
    CALIBRATION = 1 << 19
    CALIBRATION_AND_IMAGING = 1 << 20
    REVERSE = 1 << 21
    NAVIGATION = 1 << 22
    PHASE_CORRECTION = 1 << 23
    LAST = 1 << 24
    FEEDBACK = 1 << 25
    DUMMY = 1 << 26
    REALTIME_FEEDBACK = 1 << 27
    SURFACE_COIL = 1 << 28
    STABILIZATION_REFERENCE = 1 << 29
    STABILIZATION = 1 << 30


NO_IMAGE = (
    Flag.NAVIGATION
    | Flag.PHASE_CORRECTION
    | Flag.FEEDBACK
    | Flag.DUMMY
    | Flag.REALTIME_FEEDBACK
    | Flag.SURFACE_COIL
    | Flag.STABILIZATION_REFERENCE
    | Flag.STABILIZATION
)
"""Read-outs that are neither lines of an image, nor calibration, nor noise."""

NEEDED = {"flags": "u8", "number_of_samples": "i8", "active_channels": "i8"}
OPTIONAL = {
    "discard_pre": "i8",
    "discard_post": "i8",
    "center_sample": "i8",
    "encoding_space_ref": "i8",
    "trajectory_dimensions": "i8",
    "sample_time_us": "f8",
    "position": "3f8",
    "read_dir": "3f8",
    "phase_dir": "3f8",
    "slice_dir": "3f8",
}
COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
)
FIELDS = np.dtype([*NEEDED.items(), *OPTIONAL.items(), *((name, "i8") for name in COUNTERS)])


class Values(Protocol):
    """Where the numbers of read-outs are kept: in a file, or in what a stream has brought."""

    def samples(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Samples of some read-outs, coil by coil: real and imaginary parts in turn."""

    def positions(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Where they were taken, sample by sample; nothing where that is not told."""


class FileValues:
    """Those of a table in a file.

    Args:
        data: the read-outs.
    """

    def __init__(self, data: h5py.Dataset) -> None:
        self._data = data

    def samples(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """See `Values`."""
        return list(self._data.fields("data")[numbers])

    def positions(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """See `Values`."""
        if "traj" not in self._data.dtype.names:
            return [np.zeros(0, np.float32)] * len(numbers)
        return list(self._data.fields("traj")[numbers])


def is_data(item: Any) -> bool:
    """Whether an item of an HDF5 file is a table of read-outs."""
    return isinstance(item, h5py.Dataset) and {"head", "data"} <= set(item.dtype.names or ())


def read_table(path: Path, data: h5py.Dataset) -> Table:
    """The headers of all read-outs; what they may lack is zero.

    Raises:
        NorefError: if they lack what nobody can do without, or some are not in the file.
    """
    # Else HDF5 makes them up, however many a damaged length says.
    if data.compression is None and data.id.get_storage_size() < data.size * data.dtype["head"].itemsize:
        raise NorefError(
            f"{path}: damaged or incomplete ({data.size} read-outs are not all there); copy it again"
        )
    return table_of(path, data.fields("head")[()])


def table_of(path: Path, heads: NDArray[Any]) -> Table:
    """The headers of read-outs, of whatever fields; what they may lack is zero.

    Raises:
        NorefError: if they lack what nobody can do without.
    """
    names = set(heads.dtype.names or ())
    counters = heads["idx"] if "idx" in names else np.zeros(len(heads), [])
    counted = set(counters.dtype.names or ())
    missing = [name for name in NEEDED if name not in names]
    if COUNTERS[0] not in counted:
        missing.append(f"idx.{COUNTERS[0]}")
    if missing:
        raise NorefError(f"{path}: the headers of its read-outs lack {', '.join(missing)}; export it again")
    table = np.zeros(len(heads), FIELDS)
    for name in names & {*NEEDED, *OPTIONAL}:
        table[name] = heads[name]
    for name in counted & set(COUNTERS):
        table[name] = counters[name]
    return table


def flagged(table: Table, flags: Flag) -> NDArray[np.bool_]:
    """Which read-outs have any of some flags."""
    return np.asarray((table["flags"] & np.uint64(flags)) != 0)


def read_samples(path: Path, values: Values, table: Table, numbers: NDArray[np.intp]) -> list[NDArray[Any]]:
    """Samples of some read-outs, complex64 `(coils, samples)` each.

    Args:
        path: of the file, for messages.
        values: of the read-outs.
        table: their headers.
        numbers: which of them, ascending.

    Raises:
        NorefError: if one has more or fewer samples than its header says.
    """
    found = []
    for number, parts in zip(numbers, values.samples(numbers), strict=True):
        coils, samples = (int(table[name][number]) for name in ("active_channels", "number_of_samples"))
        if len(parts) != 2 * coils * samples:
            raise NorefError(
                f"{path}: read-out {number} holds {len(parts) // 2} samples where its header says "
                f"{coils} channels of {samples}; export it again"
            )
        found.append(parts.astype(np.float32, copy=False).view(np.complex64).reshape(coils, samples))
    return found


def read_trajectory(
    path: Path, values: Values, table: Table, numbers: NDArray[np.intp]
) -> list[NDArray[Any]]:
    """Where samples of some read-outs were taken, float32 `(samples, 2)` each: `(kx, ky)`, the file's units.

    Raises:
        NorefError: if a read-out has no such positions.
    """
    found = []
    for number, where in zip(numbers, values.positions(numbers), strict=True):
        axes, samples = (int(table[name][number]) for name in ("trajectory_dimensions", "number_of_samples"))
        if axes < 2 or len(where) != axes * samples:
            raise NorefError(
                f"{path}: read-out {number} is off the Cartesian grid, and its positions in k-space are not "
                "in the file; export it with its trajectory"
            )
        found.append(np.asarray(where, np.float32).reshape(samples, axes)[:, :2])
    return found


def grid(
    path: Path, table: Table, samples: list[NDArray[Any]], rows: NDArray[np.intp], shape: tuple[int, int]
) -> tuple[NDArray[np.complex64], NDArray[np.intp]]:
    """Read-outs in their places: the mean of all that a place got, and of how many.

    Sample `j` of a read-out lies at column `kx // 2 − center_sample + j`. A reversed one is flipped first;
    the half sample by which that moves an even number of samples belongs to the phase correction. What
    `discard_pre` and `discard_post` name is left out. A `center_sample` of 0 was not given.

    Args:
        path: of the file, for messages.
        table: headers of these read-outs.
        samples: of each, `(coils, samples)`.
        rows: of each in k-space.
        shape: of k-space, `(ky, kx)`.

    Returns:
        complex64 `(coils, ky, kx)`, and int `(ky, kx)`.

    Raises:
        NorefError: if a sample lies outside k-space.
    """
    kspace = np.zeros((len(samples[0]), *shape), np.complex64)
    count = np.zeros(shape, np.intp)
    for head, line, row in zip(table, samples, rows, strict=True):
        values, columns = placed(path, head, line, shape[1])
        kspace[:, row, columns] += values
        count[row, columns] += 1
    several = count > 1
    kspace[:, several] /= count[several]
    return kspace, count


def placed(path: Path, head: np.void, line: NDArray[Any], kx: int) -> tuple[NDArray[np.complex64], slice]:
    """What counts of a read-out, turned if it is reversed, and the columns that it has in k-space.

    Args:
        path: of the file, for messages.
        head: its header.
        line: its samples, `(coils, samples)`.
        kx: columns of k-space.

    Raises:
        NorefError: if a sample lies outside.
    """
    size = line.shape[-1]
    start, stop = int(head["discard_pre"]), size - int(head["discard_post"])
    centre = int(head["center_sample"]) or size // 2
    if int(head["flags"]) & Flag.REVERSE:
        line, centre = line[:, ::-1], 2 * (size // 2) - centre
        start, stop = size - stop, size - start
    if start >= stop:
        return line[:, :0], slice(0, 0)
    place = kx // 2 - centre
    if place + start < 0 or place + stop > kx:
        raise NorefError(
            f"{path}: read-outs of {size} samples around sample {centre} do not fit an encoded matrix of "
            f"{kx}; correct encodedSpace or center_sample"
        )
    return line[:, start:stop], slice(place + start, place + stop)
