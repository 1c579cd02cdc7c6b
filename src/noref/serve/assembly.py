"""From read-outs as they come to slices as they are complete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats import Averages
from noref.formats.base import scan_id
from noref.formats.mrd_frames import counters, frames
from noref.formats.mrd_header import SEPARATE, EncodingSpace, MrdHeader
from noref.formats.mrd_readouts import NO_IMAGE, Flag, Table, table_of
from noref.formats.mrd_scans import Measurement, check, scan_of, with_noise
from noref.scan import Scan
from noref.serve.wire import MIB, Readout

Counters = tuple[int, ...]
"""What tells frames apart, see `noref.formats.mrd_frames.keys`."""

_OVERHEAD = 1024
"""Bytes that a read-out takes beside its numbers, at most."""


@dataclass(frozen=True, slots=True)
class Held:
    """A read-out that waits for the rest of its slice.

    Attributes:
        number: in the order of arrival.
        key: its frame's.
        readout: itself.
    """

    number: int
    key: Counters
    readout: Readout

    @property
    def flags(self) -> int:
        """What it is."""
        return int(self.readout.head["flags"])

    @property
    def calibrates(self) -> bool:
        """Whether it belongs to the calibration of its slice."""
        return bool(self.flags & (Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING))

    @property
    def alone(self) -> bool:
        """Whether it is for calibration and nothing else."""
        return bool(self.flags & Flag.CALIBRATION) and not self.flags & Flag.CALIBRATION_AND_IMAGING

    @property
    def size(self) -> int:
        """Bytes."""
        return self.readout.samples.nbytes + self.readout.positions.nbytes + _OVERHEAD


class HeldValues:
    """The numbers of read-outs in memory, see `noref.formats.mrd_readouts.Values`."""

    def __init__(self, held: Sequence[Held]) -> None:
        self._held = held

    def samples(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Real and imaginary parts in turn."""
        return [self._held[number].readout.samples for number in numbers]

    def positions(self, numbers: NDArray[np.intp]) -> Sequence[NDArray[Any]]:
        """Where samples were taken."""
        return [self._held[number].readout.positions for number in numbers]


@dataclass(frozen=True)
class Complete:
    """The read-outs of a complete slice, with those of other scans that calibrate it.

    Attributes:
        key: of its frame.
        held: read-outs in the order of arrival.
        header: of the measurement.
        noise: the measurement that brings noise scans, or None.
        varying: counters that names tell.
        averages: "mean" or "apart".
        name: the scan's.
    """

    key: Counters
    held: Sequence[Held]
    header: MrdHeader
    noise: Measurement | None
    varying: Collection[str]
    averages: Averages
    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(one.size for one in self.held)

    def scan(self, largest: int) -> tuple[Scan, NDArray[Any]]:
        """The slice, as a file with these read-outs would give it, and the header of its first read-out.

        Args:
            largest: bytes of k-space beyond which it is refused.

        Raises:
            NorefError: if it cannot be, or is larger.
        """
        where = Path(self.name)
        table = _table(where, self.held)
        apart = self.averages == "apart"
        found = frames(table, self.header, apart=apart, varying=self.varying)
        (frame,) = (one for one in found if one.key == self.key)
        values, one = HeldValues(self.held), Measurement("", self.header, table, None, 0.0)
        check(where, one, self.noise, frame)
        for numbers in (frame.imaging, frame.calibration):
            if len(numbers):
                part = table[numbers]
                _check_size(where, part, self.header.space(int(part["encoding_space_ref"][0])), largest)
        names = ".".join(filter(None, (self.name, frame.name)))
        name = scan_id(self.header.subject or self.name, names, frame.slice)
        scan = scan_of(where, values, one, self.noise, frame, name)
        return scan, self.held[frame.imaging[0]].readout.head


@dataclass
class _Frame:
    """A slice that is not complete."""

    held: list[Held] = field(default_factory=list)
    imaging: bool = False
    calibrated: bool = False


class Assembly:
    """The slices of one connection, each given away as soon as it is complete.

    A slice is complete when its last read-out says so (`LAST_IN_SLICE`; with averages, that of the last
    average), or that its repetition ends (`LAST_IN_REPETITION`), that the measurement ends, or when a
    read-out of a later repetition comes. All others are at the end of the stream. Slices that other scans are
    to calibrate wait for these: separate calibration lines, or, interleaved, all other repetitions.

    Args:
        name: of the scan.
        header: of the measurement.
        averages: "mean", or "apart" for averages as scans of their own.

    Attributes:
        held: bytes that wait.
    """

    def __init__(self, name: str, header: MrdHeader, averages: Averages = "mean") -> None:
        self.name, self.header, self.averages, self.held = name, header, averages, 0
        self._names = counters(averages == "apart")
        self._repetition = self._names.index("repetition")
        self._count, self._newest = 0, 0
        self._frames: dict[Counters, _Frame] = {}
        self._done: set[Counters] = set()
        # Of each slice those of its first scan that has any: for calibration alone, or all that calibrate.
        self._calibration: dict[tuple[int, bool], list[Held]] = {}
        self._noise: list[Held] = []
        self._measured: Measurement | None = None
        self._varying = {name for space in header.spaces for name, last in space.last.items() if last}
        self._first: Counters | None = None

    def add(self, readout: Readout) -> list[Complete]:
        """Takes a read-out; gives the slices that are complete with it.

        Raises:
            NorefError: if it belongs to a slice that was given away already.
        """
        held = Held(self._count, self._key(readout.head), readout)
        self._count += 1
        if held.flags & Flag.NOISE:
            self._noise.append(held)
            self.held += held.size
            self._measured = None
            return []
        complete: list[Complete] = []
        if not held.flags & NO_IMAGE:
            complete = self._of_repetitions_before(held)
            self._keep(held)
        return complete + self._ended_by(held)

    def finish(self) -> list[Complete]:
        """All slices that are left; no read-out follows."""
        return self._take(sorted(self._frames), last=True)

    def _key(self, head: NDArray[Any]) -> Counters:
        index = head["idx"]
        here = (int(index[name]) for name in (*self._names[1:], "slice"))
        return (int(head["encoding_space_ref"]), *here)

    def _keep(self, held: Held) -> None:
        key = held.key
        if key in self._done and not held.alone:
            counted = dict(zip((*self._names, "slice"), key, strict=True))
            raise NorefError(
                f"{self.name}: line {held.readout.head['idx']['kspace_encode_step_1']} of slice {key[-1]}, "
                f"repetition {counted['repetition']} came after the image of that slice was made; mark its "
                "last read-out alone as the last in its slice"
            )
        if key not in self._done:
            frame = self._frames.setdefault(key, _Frame())
            frame.held.append(held)
            frame.imaging |= not held.alone
            frame.calibrated |= held.calibrates
            self.held += held.size
        if held.calibrates:
            for alone in {False, held.alone}:
                self._keep_calibration((key[-1], alone), held)
        if not held.alone:
            self._first = self._first or key
            changed = zip(self._names, self._first, key, strict=False)
            self._varying.update(name for name, first, value in changed if first != value)

    def _keep_calibration(self, place: tuple[int, bool], held: Held) -> None:
        kept = self._calibration.setdefault(place, [])
        if kept and held.key > kept[0].key:
            return
        if kept and held.key < kept[0].key:
            self.held -= sum(one.size for one in kept)
            kept.clear()
        kept.append(held)
        self.held += held.size

    def _of_repetitions_before(self, held: Held) -> list[Complete]:
        repetition = held.key[self._repetition]
        if repetition <= self._newest:
            return []
        self._newest = repetition
        return self._take([key for key in sorted(self._frames) if key[self._repetition] < repetition])

    def _ended_by(self, held: Held) -> list[Complete]:
        key, flags, space = held.key, held.flags, self.header.space(held.key[0])
        if held.alone and space.calibration in SEPARATE:
            # The end of the calibration scan.
            return []
        ended: Iterable[Counters] = ()
        if flags & Flag.LAST:
            ended = self._frames
        elif self.averages == "mean" and held.readout.head["idx"]["average"] < space.last.get("average", 0):
            return []
        elif flags & Flag.LAST_IN_REPETITION:
            ended = (one for one in self._frames if one[self._repetition] == key[self._repetition])
        elif flags & Flag.LAST_IN_SLICE:
            ended = (key,)
        return self._take(sorted(ended))

    def _take(self, keys: Iterable[Counters], last: bool = False) -> list[Complete]:
        """Those of some slices that there is an image of, and nothing more to wait for."""
        taken = [key for key in keys if (frame := self._frames.get(key)) and frame.imaging]
        taken = [key for key in taken if last or not self._waits(key)]
        complete = [self._complete(key) for key in taken]
        for key in taken:
            self.held += _OVERHEAD - sum(one.size for one in self._frames.pop(key).held)
            self._done.add(key)
        return complete

    def _waits(self, key: Counters) -> bool:
        waiting = self.header.space(key[0]).calibration in (*SEPARATE, "interleaved")
        return waiting and not self._frames[key].calibrated and (key[-1], False) not in self._calibration

    def _complete(self, key: Counters) -> Complete:
        held = {one.number: one for one in self._frames[key].held}
        for alone in (False, True):
            held.update((one.number, one) for one in self._calibration.get((key[-1], alone), ()))
        if (
            len(held) == len(self._frames[key].held)
            and self.header.space(key[0]).calibration == "interleaved"
        ):
            # All other scans of the slice calibrate it.
            alike = (one for one in self._frames if (one[0], one[-1]) == (key[0], key[-1]))
            held.update((one.number, one) for other in alike for one in self._frames[other].held)
        if self._noise and self._measured is None:
            where = Path(self.name)
            table = _table(where, self._noise)
            empty = Measurement("", self.header, table, None, 0.0)
            self._measured = with_noise(where, HeldValues(self._noise), empty)
        return Complete(
            key,
            [held[number] for number in sorted(held)],
            self.header,
            self._measured,
            frozenset(self._varying),
            self.averages,
            self.name,
        )


def _table(where: Path, held: Sequence[Held]) -> Table:
    return table_of(where, np.stack([one.readout.head for one in held]))


def _check_size(where: Path, table: Table, space: EncodingSpace, largest: int) -> None:
    """Refuses k-space that a header makes larger than anyone sent."""
    wide, high, _ = space.encoded.matrix
    samples = max(wide, int(table["number_of_samples"].max()))
    lines = max(high, len(table), int(table["kspace_encode_step_1"].max()) + 1)
    size = 8 * int(table["active_channels"].max()) * samples * lines
    if size > largest:
        raise NorefError(
            f"{where}: a slice of {lines} × {samples} samples in {table['active_channels'].max()} channels "
            f"takes {size / MIB:.0f} MiB, and at most {largest / MIB:.0f} are allowed; correct encodedSpace, "
            "or raise the server's --memory"
        )
