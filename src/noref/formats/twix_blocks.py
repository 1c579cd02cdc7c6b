"""The measurement data blocks of Siemens raw files, as the table of read-outs that ISMRMRD files have.

A block is a header (once for all channels from VD on, before every channel in VB), and of every channel its
samples. twixtools knows the headers, and what their flags mean.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.base import damaged
from noref.formats.mrd_readouts import FIELDS, NO_IMAGE, Flag, Table

RAID_HEADER = 9736
"""Bytes that tell from VD on where measurements lie; these come after it."""

FLAGS = {
    "NOISEADJSCAN": Flag.NOISE,
    "PATREFSCAN": Flag.CALIBRATION,
    "PATREFANDIMASCAN": Flag.CALIBRATION_AND_IMAGING,
    "REFLECT": Flag.REVERSE,
    "noname60": Flag.NAVIGATION,
    "PHASCOR": Flag.PHASE_CORRECTION,
    "SLICE_ACCEL_PHASCOR": Flag.PHASE_CORRECTION,
    "RTFEEDBACK": Flag.FEEDBACK,
    "HPFEEDBACK": Flag.FEEDBACK,
    "RETRO_DUMMYSCAN": Flag.DUMMY,
    "B1_CONTROLLOOP": Flag.DUMMY,
    "MDH_VOP": Flag.DUMMY,
    "CT_NORMALIZE": Flag.SURFACE_COIL,
    "REFPHASESTABSCAN": Flag.STABILIZATION_REFERENCE,
    "PHASESTABSCAN": Flag.STABILIZATION,
}
"""Flags of Siemens, by twixtools' names, and those of ISMRMRD that say the same."""

COUNTERS = {
    "Par": "kspace_encode_step_2",
    "Ave": "average",
    "Sli": "slice",
    "Eco": "contrast",
    "Phs": "phase",
    "Rep": "repetition",
    "Set": "set",
}
"""Counters of Siemens, but for the lines, and those of ISMRMRD."""

PARALLEL = 0.999
"""Cosine of the angle between two slices that are parallel."""

NOISE_READOUT = 7680.0
"""Microseconds that a noise scan among the lines of an image takes: its bandwidth is 130 Hz a pixel."""


@dataclass(frozen=True)
class Part:
    """Where a measurement lies in a file.

    Attributes:
        name: its protocol's; empty in VB files, which hold one measurement and do not name it there.
        start: its first byte.
        stop: one past its last.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Blocks:
    """The headers of a measurement's read-outs, and where their samples are.

    Attributes:
        heads: one header a read-out.
        places: first byte of each.
        per_scan: bytes of the header that is there once for all channels: 0 in VB files.
        per_channel: bytes of the header before the samples of a channel.
    """

    heads: NDArray[np.void]
    places: NDArray[np.int64]
    per_scan: int
    per_channel: int


def is_twix(path: Path) -> bool:
    """Whether a file begins as raw files of Siemens do, whether they hold several measurements or one."""
    with path.open("rb") as file:
        start = file.read(64)
    if len(start) < 32:
        return False
    first, second = struct.unpack("<2I", start[:8])
    if _several(start):
        return True
    # A header's length, the number of its buffers, and the name of the first of these.
    return first > 0 and 0 < second <= 32 and re.match(rb"[A-Z][A-Za-z]{3,}\0", start[8:40]) is not None


def _several(start: bytes) -> bool:
    """Whether a file begins with the header of several measurements, as it does from VD on."""
    identity, count, _, _, first = struct.unpack("<4IQ", start[:24])
    return bool(identity < 10000 and 1 <= count <= 64 and RAID_HEADER <= first < 1 << 20)


def parts_of(path: Path, file: BinaryIO) -> list[Part]:
    """The measurements in a file.

    Raises:
        NorefError: if one of them is not all there.
    """
    from twixtools.hdr_def import MultiRaidFileHeader

    size = path.stat().st_size
    start = file.read(MultiRaidFileHeader.itemsize)
    if not _several(start):
        return [Part("", 0, size)]
    if len(start) < MultiRaidFileHeader.itemsize:
        raise _cut(path)
    told = np.frombuffer(start, MultiRaidFileHeader)[0]
    count = int(told["hdr"]["count_"])
    found = []
    for entry in told["entry"][:count]:
        first, length = int(entry["off_"]), int(entry["len_"])
        stop = size if count == 1 and length == 0 else first + length
        if stop > size:
            raise _cut(path)
        if length or count == 1:
            found.append(Part(bytes(entry["protName_"]).decode("latin1"), first, stop))
    return found


def blocks_of(path: Path, file: BinaryIO, part: Part) -> Blocks:
    """The headers of all read-outs of a measurement.

    Raises:
        NorefError: if it ends before its last block.
    """
    from twixtools import mdh_def

    several = part.start > 0
    head = np.dtype(mdh_def.Scan_header if several else mdh_def.VB17_header)
    per_scan, per_channel = (
        (head.itemsize, np.dtype(mdh_def.Channel_header).itemsize) if several else (0, 128)
    )
    assert head.fields is not None
    mask_at, samples_at = head.fields["EvalInfoMask"][1], head.fields["SamplesInScan"][1]
    last, other = (1 << mdh_def.mask_dict[name] for name in ("ACQEND", "SYNCDATA"))
    file.seek(part.start)
    at = part.start + int.from_bytes(file.read(4), "little")
    heads, places = bytearray(), list[int]()
    while True:
        file.seek(at)
        one = file.read(head.itemsize)
        if len(one) < head.itemsize or at + head.itemsize > part.stop:
            raise _cut(path)
        (flags,) = struct.unpack_from("<Q", one, mask_at)
        samples, channels = struct.unpack_from("<2H", one, samples_at)
        if flags & last:
            break
        length = per_scan + channels * (per_channel + 8 * samples)
        if flags & other:
            # Sensors' values; the length of such a block stands in its header.
            length = int.from_bytes(one[:4], "little") % (1 << 25)
        elif at + length <= part.stop:
            heads += one
            places.append(at)
        if length < head.itemsize or at + length > part.stop:
            raise _cut(path)
        at += length
    return Blocks(np.frombuffer(bytes(heads), head), np.array(places, np.int64), per_scan, per_channel)


def _cut(path: Path) -> NorefError:
    return damaged(path, ValueError("a measurement in it ends before its last block"))


def centre_of(blocks: Blocks) -> tuple[int, int]:
    """Line and partition at the centre of k-space that lines of the image tell, the largest; 0 if untold.

    Where there are none, calibration lines tell it.
    """
    flags = _flags(blocks)
    lines = flags & (NO_IMAGE | Flag.NOISE) == 0
    alone = (flags & Flag.CALIBRATION != 0) & (flags & Flag.CALIBRATION_AND_IMAGING == 0)
    lines = blocks.heads[lines & ~alone if (lines & ~alone).any() else lines]
    return int(lines["CenterLin"].max(initial=0)), int(lines["CenterPar"].max(initial=0))


def table_of(blocks: Blocks, dwell: float, noise_dwell: float | None) -> Table:
    """The headers of read-outs as ISMRMRD has them.

    Lines and partitions are counted so that the centre of k-space is `centre_of` for all of them. Slices are
    counted by where they lie along their normal, as scanners count them in another order, unless they are not
    parallel.

    Args:
        blocks: of a measurement.
        dwell: microseconds between two samples of a line.
        noise_dwell: those of noise scans; None for `NOISE_READOUT` over their number of samples.
    """
    heads, flags = blocks.heads, _flags(blocks)
    table = np.zeros(len(heads), FIELDS)
    table["flags"] = flags
    samples = table["number_of_samples"] = heads["SamplesInScan"]
    table["active_channels"] = heads["UsedChannels"]
    table["discard_pre"], table["discard_post"] = heads["CutOff"]["Pre"], heads["CutOff"]["Post"]
    table["center_sample"] = heads["CenterCol"]
    table["kspace_encode_step_1"] = heads["Counter"]["Lin"]
    for name, counter in COUNTERS.items():
        table[counter] = heads["Counter"][name]
    line, partition = centre_of(blocks)
    if line:
        table["kspace_encode_step_1"] += line - heads["CenterLin"].astype(int)
    if partition and heads["Counter"]["Par"].any():
        table["kspace_encode_step_2"] += partition - heads["CenterPar"].astype(int)
    noise = NOISE_READOUT / np.maximum(samples, 1) if noise_dwell is None else noise_dwell
    table["sample_time_us"] = np.where(flags & Flag.NOISE != 0, noise, dwell)
    place = heads["SliceData"]
    table["position"] = np.stack([place["SlicePos"][axis] for axis in ("Sag", "Cor", "Tra")], axis=-1)
    table["phase_dir"], table["read_dir"], table["slice_dir"] = _directions(place["Quaternion"])
    _count_slices(table, flags & Flag.NOISE == 0)
    return table


def _flags(blocks: Blocks) -> NDArray[np.int64]:
    """What read-outs are, by ISMRMRD's flags."""
    from twixtools.mdh_def import mask_dict

    theirs, found = blocks.heads["EvalInfoMask"], np.zeros(len(blocks.heads), np.int64)
    for name, flag in FLAGS.items():
        found[theirs & np.uint64(1 << mask_dict[name]) != 0] |= flag
    return found


def _directions(quaternions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Directions of phase encoding, read-out and slice `(3, blocks, 3)`, LPS; zero where there are none.

    The columns of the rotation that the quaternions `(blocks, 4)`, real part first, stand for.
    """
    told = np.linalg.norm(quaternions, axis=1) > 0
    found = np.zeros((3, len(told), 3))
    if told.any():
        turns = scipy.spatial.transform.Rotation.from_quat(quaternions[told][:, [1, 2, 3, 0]])
        found[:, told] = turns.as_matrix().transpose(2, 0, 1)
    return found


def _count_slices(table: Table, imaging: NDArray[np.bool_]) -> None:
    """Numbers slices by where they lie along their normal, if they are parallel and in different places."""
    numbers, first = np.unique(table["slice"][imaging], return_index=True)
    normals, positions = (table[name][imaging][first] for name in ("slice_dir", "position"))
    if len(numbers) < 2 or (normals @ normals[0] < PARALLEL).any():
        return
    along = positions @ normals[0]
    if len(np.unique(along)) == len(numbers):
        places = dict(zip(numbers.tolist(), along.argsort().argsort().tolist(), strict=True))
        table["slice"] = [places.get(number, number) for number in table["slice"].tolist()]


class TwixValues:
    """The samples of a measurement's read-outs, see `noref.formats.mrd_readouts.Values`.

    Args:
        path: of the file, for messages.
        file: open for reading.
        blocks: of the measurement.
    """

    def __init__(self, path: Path, file: BinaryIO, blocks: Blocks) -> None:
        self._path, self._file, self._blocks = path, file, blocks

    def samples(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Samples of some read-outs, coil by coil: real and imaginary parts in turn."""
        return [self._read(number) for number in numbers]

    def _read(self, number: int) -> NDArray[Any]:
        blocks, head = self._blocks, self._blocks.heads[number]
        channel = np.dtype(
            [("head", "V", blocks.per_channel), ("samples", "<f4", 2 * int(head["SamplesInScan"]))]
        )
        size = int(head["UsedChannels"]) * channel.itemsize
        self._file.seek(int(blocks.places[number]) + blocks.per_scan)
        read = self._file.read(size)
        if len(read) < size:
            raise _cut(self._path)
        return np.ravel(np.frombuffer(read, channel)["samples"])

    def positions(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Nothing: these files do not tell where samples off the grid were taken."""
        return [np.zeros(0, np.float32)] * len(numbers)
