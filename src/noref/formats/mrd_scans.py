"""Scans of the read-outs of measurements, whichever file or stream brought them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.coils.calibration import centred_block
from noref.coils.whitening import noise_covariance
from noref.errors import NorefError
from noref.formats.base import Slices, scan_id, to_kspace
from noref.formats.filled import Acquired, acquired_lines, offset_of, without_filled
from noref.formats.mrd_checks import check_calibrated, check_centre, check_limits, check_place
from noref.formats.mrd_frames import Frame, frames, noise_scans
from noref.formats.mrd_geometry import cycles, header_of, in_view, padding, places
from noref.formats.mrd_header import CARTESIAN, EncodingSpace, MrdHeader
from noref.formats.mrd_readouts import (
    Flag,
    Table,
    Values,
    flagged,
    grid,
    read_samples,
    read_trajectory,
)
from noref.formats.zero_border import zero_columns
from noref.scan import Role, Scan

Averages = Literal["mean", "apart"]


@dataclass(frozen=True)
class Measurement:
    """One group of a file, or what a stream has brought of one.

    Attributes:
        group: its name.
        header: what its XML says.
        table: headers of its read-outs.
        noise: covariance of its noise scans, complex64 `(coils, coils)`, or None.
        dwell: microseconds between two samples of these; 0 if not told.
    """

    group: str
    header: MrdHeader
    table: Table
    noise: Tensor | None
    dwell: float


class MeasuredSlices(Slices):
    """The slices of one file: of some of the measurements in it, of all their scans.

    Args:
        path: of the file.
        pairs: measurements, and of each the one that brings its noise scans, or None.
        role: what the scans are to the training.
        averages: whether averages are averaged, or scans of their own: two measurements of the same, of which
            one can be held against what is made of the other.
        acquired: which lines count as measured, see `formats.filled`.
        calibrating: whether calibration lines without an image are lines of one, of the centre.

    Attributes:
        noise_beside: noise scans of another file, which count instead of the pairs'; or None.

    Raises:
        NorefError: if there is no image, or parts of the file contradict each other.
    """

    noise_beside: Measurement | None = None

    def __init__(
        self,
        path: Path,
        pairs: Sequence[tuple[Measurement, Measurement | None]],
        role: Role,
        averages: Averages,
        acquired: Acquired,
        *,
        calibrating: bool = False,
    ) -> None:
        found = [
            (one, noise, frames(one.table, one.header, apart=averages == "apart")) for one, noise in pairs
        ]
        if calibrating and not any(own for *_, own in found):
            pairs = [(imaging(one), noise) for one, noise in pairs]
            found = [(one, noise, frames(one.table, one.header)) for one, noise in pairs]
        several = sum(bool(own) for *_, own in found) > 1
        self._frames: list[tuple[Measurement, Measurement | None, Frame]] = []
        self._acquired: Acquired = acquired
        ids = []
        for one, noise, own in found:
            for frame in own:
                check(path, one, noise, frame)
                self._frames.append((one, noise, frame))
                parts = (path.stem, one.group.replace("/", ".") if several else "", frame.name)
                subject = one.header.subject or path.stem
                ids.append(scan_id(subject, ".".join(filter(None, parts)), frame.slice))
        if not ids:
            raise NorefError(f"{path}: holds no image data, no read-outs that are lines of an image")
        super().__init__(path, ids, role)

    def _read(self, index: int) -> Scan:
        one, noise, frame = self._frames[index]
        noise = self.noise_beside or noise
        with self._values(one) as values:
            return scan_of(self.path, values, one, noise, frame, self.ids[index], self.role, self._acquired)

    @abstractmethod
    def _values(self, one: Measurement) -> AbstractContextManager[Values]:
        """The numbers of a measurement's read-outs, inside the block."""


def imaging(one: Measurement) -> Measurement:
    """A measurement whose calibration lines are taken for lines of an image."""
    table = one.table.copy()
    table["flags"] &= ~np.uint64(Flag.CALIBRATION)
    return replace(one, table=table)


def scan_of(
    path: Path,
    values: Values,
    one: Measurement,
    noise: Measurement | None,
    frame: Frame,
    name: str,
    role: Role = Role.TARGET,
    acquired: Acquired = "header",
) -> Scan:
    """A slice of its read-outs.

    Args:
        path: of the file, or the name of the stream, for messages.
        values: of the read-outs.
        one: their measurement.
        noise: the measurement that brings the noise scans, or None.
        frame: which read-outs; `check` has let them pass.
        name: the slice's, `subject/scan/slice`.
        role: what it is to the training.
        acquired: which lines count as measured, see `formats.filled`.

    Raises:
        NorefError: if read-outs contradict each other or the header, or nobody could learn from them.
    """
    table = one.table[frame.imaging]
    space = one.header.space(int(table["encoding_space_ref"][0]))
    samples = read_samples(path, values, one.table, frame.imaging)
    rows = None
    if space.trajectory in CARTESIAN:
        rows, shape = places(path, table, space)
        kspace, count = grid(path, table, samples, rows, shape)
        trajectory = None
    else:
        positions = read_trajectory(path, values, one.table, frame.imaging)
        kspace, count, trajectory = _spokes(path, table, samples, positions, space)
    measured = torch.from_numpy(count > 0)
    if trajectory is None:
        check_calibrated(path, one.table, frame, space, measured)
    scan = Scan(
        id=name,
        kspace=to_kspace(kspace, f"{path}: {name}"),
        measured=measured,
        mask=measured,
        padding=_known_zeros(measured, space) if trajectory is None else None,
        trajectory=trajectory,
        calibration=_calibration(path, values, one, frame, space),
        noise_cov=None if noise is None else noise_in_image(noise, table, count),
        role=role,
        header=header_of(one.header, space, table, kspace.shape[-2:], trajectory is None),
    )
    if rows is None or acquired == "all":
        return scan
    lines = _acquired(table, rows, scan, one.header, frame)
    return scan if lines is None else without_filled(scan, lines)


def _known_zeros(measured: Tensor, space: EncodingSpace) -> Tensor | None:
    """Lines beyond the resolution, and columns that no read-out reaches on either side; None if none."""
    found = [one for one in (padding(measured, space), zero_columns(measured)) if one is not None]
    return torch.stack(found).any(0) if found else None


def _acquired(
    table: Table, rows: NDArray[np.intp], scan: Scan, header: MrdHeader, frame: Frame
) -> Tensor | None:
    """The lines that were acquired of an image that was filled in, see `acquired_lines`; else None.

    What several averages acquire together is none: each of them alone would have to be full.
    """
    factor = header.space(int(table["encoding_space_ref"][0])).acceleration
    calibrating = flagged(table, Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING)
    calibration: int | Tensor | None = header.calibration_lines
    if len(frame.calibration):
        calibration = 0
    elif calibrating.any():
        calibration = _marked(scan.measured[:, 0], rows[calibrating])
    for average in np.unique(table["average"]):
        own = scan.measured & _marked(scan.measured[:, 0], rows[table["average"] == average])[:, None]
        if acquired_lines(own, factor, calibration) is None:
            return None
    return acquired_lines(scan.measured, factor, calibration, offset_of(scan.kspace, round(factor)))


def _marked(like: Tensor, rows: NDArray[np.intp]) -> Tensor:
    """Bool, of the shape of `like`, true in some rows."""
    marked = torch.zeros_like(like)
    marked[torch.from_numpy(rows)] = True
    return marked


def _calibration(
    path: Path, values: Values, one: Measurement, frame: Frame, space: EncodingSpace
) -> Tensor | None:
    """The fully sampled centre of the slice's calibration scan, brought to the image's field of view.

    Raises:
        NorefError: if it is of another place than the image, or does not hold the centre of k-space.
    """
    if not len(frame.calibration):
        return None
    table = one.table[frame.calibration]
    own = one.header.space(int(table["encoding_space_ref"][0]))
    if own.trajectory not in CARTESIAN:
        return None
    samples = read_samples(path, values, one.table, frame.calibration)
    kspace, count = grid(path, table, samples, *places(path, table, own))
    sampled = torch.from_numpy(count > 0)
    block = centred_block(torch.from_numpy(kspace), sampled)
    if flagged(table, Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING).any():
        check_centre(path, sampled, block)
    if 0 in block.shape:
        return None
    mine, wanted = (part.encoded.view[:2] for part in (own, space))
    images = one.table[frame.imaging]
    image, calibrating = (
        header_of(one.header, of, heads, count.shape, True) for of, heads in ((space, images), (own, table))
    )
    check_place(path, image, calibrating, block, mine)
    if space.trajectory not in CARTESIAN and 0 not in space.recon.view[:2]:
        wanted = space.recon.view[:2]
    if mine == wanted or 0 in (*mine, *wanted):
        return block
    return in_view(path, block, mine, wanted)


def with_noise(path: Path, values: Values, one: Measurement) -> Measurement:
    """A measurement with the covariance of its noise scans, if it has any.

    Raises:
        NorefError: if these are of different channels, or do not hold what their headers say.
    """
    numbers = noise_scans(one.table)
    if not len(numbers):
        return one
    samples = read_samples(path, values, one.table, numbers)
    coils = {len(values) for values in samples}
    if len(coils) > 1:
        raise NorefError(
            f"{path}: noise scans of {_numbers(coils)} channels; leave out those of the other coils"
        )
    noise = noise_covariance(torch.from_numpy(np.concatenate(samples, axis=1)))
    return replace(one, noise=noise, dwell=float(one.table["sample_time_us"][numbers[0]]))


def check(path: Path, one: Measurement, noise: Measurement | None, frame: Frame) -> None:
    """Refuses what `Scan` has no place for, before anything is read.

    Raises:
        NorefError: if the read-outs of a slice are empty, differ in channels from each other or from the
            noise scans, lie outside the header's limits, or are partitions of a 3-D scan.
    """
    used = one.table[np.concatenate([frame.imaging, frame.calibration])]
    coils = set(used["active_channels"].tolist())
    if not one.table["number_of_samples"][frame.imaging].any():
        raise NorefError(f"{path}: read-outs without samples; export it again")
    if len(coils) > 1:
        raise NorefError(f"{path}: read-outs of {_numbers(coils)} channels in one scan; export it again")
    if noise is not None and noise.noise is not None and len(noise.noise) not in coils:
        raise NorefError(
            f"{path}: noise scans of {len(noise.noise)} channels, but {_numbers(coils)} in the image; export "
            "it with the noise scan of its own coils, or without one"
        )
    space = one.header.space(frame.key[0])
    if space.trajectory in CARTESIAN:
        check_limits(path, one.table[frame.imaging], space)
    partitions = np.unique(used["kspace_encode_step_2"])
    if len(partitions) > 1:
        raise NorefError(
            f"{path}: a 3-D scan of {len(partitions)} partitions, and noref reads 2-D slices; transform it "
            "along the partitions first"
        )


def _numbers(values: set[int]) -> str:
    return " and ".join(map(str, sorted(values)))


def _spokes(
    path: Path, table: Table, samples: list[NDArray[Any]], positions: list[NDArray[Any]], space: EncodingSpace
) -> tuple[NDArray[np.complex64], NDArray[np.intp], Tensor]:
    """Read-outs off the grid: k-space `(coils, readouts, samples)`, what of it counts, and the trajectory.

    Shorter read-outs than the longest end in samples that were not measured, at the centre of k-space.
    """
    longest = max(line.shape[-1] for line in samples)
    kspace = np.zeros((len(samples[0]), len(samples), longest), np.complex64)
    count = np.zeros(kspace.shape[1:], np.intp)
    trajectory = np.zeros((*count.shape, 2), np.float32)
    for i, (line, where) in enumerate(zip(samples, positions, strict=True)):
        start, stop = int(table["discard_pre"][i]), line.shape[-1] - int(table["discard_post"][i])
        kspace[:, i, start:stop] = line[:, start:stop]
        count[i, start:stop] = 1
        trajectory[i, : len(where)] = where[:, ::-1]
    return kspace, count, torch.from_numpy(trajectory * cycles(path, trajectory, space))


def noise_in_image(noise: Measurement, table: Table, count: NDArray[np.intp]) -> Tensor | None:
    """Covariance of the noise in k-space, complex64 `(coils, coils)`, from that of the noise scans.

    `Σ_noise · τ_noise / (τ b) · mean(1/n)`, with the dwell times τ, the receiver's relative noise bandwidth b
    and n averages of a sample (Kellman and McVeigh, MRM 54 (2005), for the first two).
    """
    if noise.noise is None:
        return None
    dwell = float(table["sample_time_us"][0])
    slower = noise.dwell / dwell if dwell and noise.dwell else 1.0
    return noise.noise * slower / noise.header.noise_bandwidth * float((1 / count[count > 0]).mean())
