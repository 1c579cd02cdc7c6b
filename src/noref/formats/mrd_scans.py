"""Scans of the read-outs of measurements, whichever file or stream brought them."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.coils.calibration import centred_block
from noref.errors import NorefError
from noref.formats.base import Slices, scan_id, to_kspace
from noref.formats.filled import Acquired, acquired_lines, offset_of, without_filled
from noref.formats.mrd_checks import check_calibrated, check_centre, check_limits, check_place
from noref.formats.mrd_epi import evenly_sampled, lines_of
from noref.formats.mrd_frames import Frame, frames, in_time
from noref.formats.mrd_geometry import (
    clinical,
    clinical_plane,
    cycles,
    header_of,
    in_view,
    padding,
    partitions,
    places,
)
from noref.formats.mrd_header import CARTESIAN, EncodingSpace, MrdHeader
from noref.formats.mrd_matrix import with_matrices
from noref.formats.mrd_measurement import Measurement, listed, noise_in_image
from noref.formats.mrd_readouts import Flag, Table, Values, flagged, grid, read_samples, read_trajectory
from noref.formats.mrd_volumes import Slab, is_filled, is_volume, plane_of, planes_of, slab_of
from noref.formats.zero_border import zero_columns
from noref.scan import Role, Scan

Averages = Literal["mean", "apart"]


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
    _held: ClassVar[tuple[Frame, Slab] | None] = None
    """Of the volume that this process has read last."""

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
        pairs = [(with_matrices(one), noise) for one, noise in pairs]
        found = [
            (one, noise, frames(one.table, one.header, apart=averages == "apart")) for one, noise in pairs
        ]
        if calibrating and not any(own for *_, own in found):
            pairs = [(imaging(one), noise) for one, noise in pairs]
            found = [(one, noise, frames(one.table, one.header)) for one, noise in pairs]
        several = sum(bool(own) for *_, own in found) > 1
        self._frames: list[tuple[Measurement, Measurement | None, Frame, int | None]] = []
        self._acquired: Acquired = acquired
        self._in_time: list[tuple[str, int, int]] = []
        ids = []
        for one, noise, own in found:
            slabs = len({frame.slice for frame in own}) > 1
            for frame, time in zip(own, in_time(own), strict=True):
                check(path, one, noise, frame)
                group = one.group.replace("/", ".") if several else ""
                subject, volume = one.header.subject or path.stem, is_volume(one.table, frame)
                slab = f"slab{frame.slice}" if volume and slabs else ""
                scan = ".".join(filter(None, (path.stem, group, frame.name, slab)))
                if volume and acquired == "header" and is_filled(one, frame):
                    space = one.header.space(frame.key[0])
                    warnings.warn(
                        f"{path}: the header tells R = {space.acceleration * space.across:.3g}, and yet no "
                        "place of k-space is empty; what parallel imaging may have computed counts as "
                        "measured, as acquired=all says it is",
                        stacklevel=2,
                    )
                planes = range(planes_of(path, one, frame)) if volume else [None]
                for plane in planes:
                    self._frames.append((one, noise, frame, plane))
                    self._in_time.append(time)
                    ids.append(scan_id(subject, scan, frame.slice if plane is None else plane))
        if not ids:
            raise NorefError(f"{path}: holds no image data, no read-outs that are lines of an image")
        super().__init__(path, ids, role)

    def off_grid(self, index: int) -> bool:
        """Whether the header tells another trajectory than a Cartesian one."""
        one, _, frame, _ = self._frames[index]
        first = one.table["encoding_space_ref"][frame.imaging][0]
        return one.header.space(int(first)).trajectory not in CARTESIAN

    def pixels(self, index: int) -> tuple[int, int]:
        """Rows and columns of a slice's image, see `Slices`."""
        one, _, frame, plane = self._frames[index]
        space, own = evenly_sampled(one.header.space(frame.key[0])), one.table[frame.imaging]
        if space.trajectory not in CARTESIAN:
            return clinical(space, 1, 0), clinical(space, 0, 0)
        _, (ky, kx) = places(self.path, own, space)
        if plane is None:
            return clinical(space, 1, ky), clinical(space, 0, kx)
        return clinical_plane(space, (ky, partitions(self.path, own, space)[1]))

    def _read(self, index: int) -> Scan:
        scan, (part, number, count) = self._alone(index), self._in_time[index]
        if count == 1:
            return scan
        return replace(scan, header=replace(scan.header, frame=(number, count), frame_part=part))

    def _alone(self, index: int) -> Scan:
        """A slice, without what its file's others tell of it."""
        one, noise, frame, plane = self._frames[index]
        noise = self.noise_beside or noise
        name = self.ids[index]
        if plane is not None:
            slab = self._slab(one, frame, plane)
            return plane_of(self.path, slab, one, noise, frame, plane, name, self.role)
        with self._values(one) as values:
            return scan_of(self.path, values, one, noise, frame, name, self.role, self._acquired)

    def _slab(self, one: Measurement, frame: Frame, plane: int) -> Slab:
        """Those slices of a volume that are kept, if this is one of them; else others in their place."""
        held = MeasuredSlices._held
        if held is None or held[0] is not frame or plane not in held[1]:
            # Two at once would take twice the memory, whichever files they are of.
            held = MeasuredSlices._held = None
            with self._values(one) as values:
                held = MeasuredSlices._held = frame, slab_of(self.path, values, one, frame, plane)
        return held[1]

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
    told = one.header.space(int(table["encoding_space_ref"][0]))
    space, rows, gain = evenly_sampled(told), None, 1.0
    if space.trajectory in CARTESIAN:
        rows, shape = places(path, table, space)
        read = lines_of(path, values, one, frame.imaging, told)
        kspace, count = grid(path, read.table, read.samples, rows, shape)
        trajectory, gain = None, read.gain
    else:
        samples = read_samples(path, values, one.table, frame.imaging)
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
        noise_cov=noise_in_image(noise, table, count, gain),
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
    told = one.header.space(int(table["encoding_space_ref"][0]))
    own = evenly_sampled(told)
    if own.trajectory not in CARTESIAN:
        return None
    rows, shape = places(path, table, own)
    lines = lines_of(path, values, one, frame.calibration, told)
    kspace, count = grid(path, lines.table, lines.samples, rows, shape)
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
    check_place(path, image, calibrating, (block.shape[-2], block.shape[-1]), mine)
    if space.trajectory not in CARTESIAN and 0 not in space.recon.view[:2]:
        wanted = space.recon.view[:2]
    if mine == wanted or 0 in (*mine, *wanted):
        return block
    return in_view(path, block, mine, wanted)


def check(path: Path, one: Measurement, noise: Measurement | None, frame: Frame) -> None:
    """Refuses what `Scan` has no place for, before anything is read, and warns of ghosts.

    Raises:
        NorefError: if the read-outs of a slice are empty, differ in channels from each other or from the
            noise scans, lie outside the header's limits, or are partitions of a 3-D scan off the Cartesian
            grid.
    """
    used = one.table[np.concatenate([frame.imaging, frame.calibration])]
    coils = set(used["active_channels"].tolist())
    if not one.table["number_of_samples"][frame.imaging].any():
        raise NorefError(f"{path}: read-outs without samples; export it again")
    if len(coils) > 1:
        raise NorefError(f"{path}: read-outs of {listed(coils)} channels in one scan; export it again")
    if noise is not None and noise.noise is not None and len(noise.noise) not in coils:
        raise NorefError(
            f"{path}: noise scans of {len(noise.noise)} channels, but {listed(coils)} in the image; export "
            "it with the noise scan of its own coils, or without one"
        )
    space = one.header.space(frame.key[0])
    if space.trajectory in CARTESIAN:
        check_limits(path, one.table[frame.imaging], space)
    if is_volume(one.table, frame) and space.trajectory not in CARTESIAN:
        partitions = len(np.unique(one.table["kspace_encode_step_2"][frame.imaging]))
        raise NorefError(
            f"{path}: a {space.trajectory} scan of {partitions} partitions, and noref reads 3-D scans on the "
            "Cartesian grid alone; transform it along the partitions first"
        )
    reverse = flagged(one.table[frame.imaging], Flag.REVERSE)
    turned = frame.imaging[reverse]
    if 0 < len(turned) < len(frame.imaging) and not all(map(len, one.navigators.before(turned))):
        warnings.warn(
            f"{path}: lines are read out in both directions without navigators of both before them; they are "
            "taken to be in phase, and where they are not, ghosts lie half a field of view away",
            stacklevel=2,
        )


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
