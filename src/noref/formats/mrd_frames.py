"""Which read-outs of an ISMRMRD measurement make which slice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noref.formats.mrd_header import SEPARATE, MrdHeader
from noref.formats.mrd_readouts import NO_IMAGE, Flag, Table, flagged

SCANS = ("encoding_space_ref", "contrast", "phase", "repetition", "set")
"""What tells scans of a measurement apart; segments are parts of one."""

IN_TIME = ("phase", "repetition")
"""Those of which a dynamic scan has many; the first that differs counts."""

Numbers = NDArray[np.intp]

NONE: Numbers = np.empty(0, np.intp)
"""No read-outs."""


@dataclass(frozen=True)
class Frame:
    """The read-outs of one slice, by their numbers in the file, ascending.

    Attributes:
        key: its counters, see `keys`.
        name: what tells its scan from the others of the measurement, such as `contrast1.repetition0`.
        slice: its number.
        imaging: lines of the image, calibration lines among them where these belong to it.
        calibration: lines of a separate calibration scan; empty without one.
    """

    key: tuple[int, ...]
    name: str
    slice: int
    imaging: Numbers
    calibration: Numbers


class Navigators:
    """Which navigators belong to a line: the last ones before it, of its slice and encoding space.

    They are those between two lines of the slice, or before the first: those of a shot, if every shot has its
    own, otherwise those of the repetition, or of the scan. Those of one direction alone are none.

    Args:
        table: headers of all read-outs.
    """

    def __init__(self, table: Table) -> None:
        marked, line = flagged(table, Flag.PHASE_CORRECTION), ~flagged(table, NO_IMAGE | Flag.NOISE)
        used = np.flatnonzero(marked | line)
        places = np.stack([table[name][used] for name in ("slice", "encoding_space_ref")], axis=1)
        place = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
        # Slice by slice, in the order of acquisition.
        order = place.argsort(kind="stable")
        self._numbers, place = used[order], place[order]
        navigates = marked[self._numbers]
        reverse = flagged(table, Flag.REVERSE)[self._numbers] & navigates
        joined = np.zeros(len(used), bool)
        joined[1:] = navigates[:-1] & (place[1:] == place[:-1])
        first = np.flatnonzero(navigates & ~joined)
        count, reversed_ = (
            np.diff(np.append(0, values.cumsum())[np.append(first, len(used))])
            for values in (navigates, reverse)
        )
        both = (reversed_ > 0) & (reversed_ < count)
        self._first, self._last = first[both], (first + count)[both]
        begins = np.zeros(len(used), np.intp)
        begins[self._first] = 1
        last = begins.cumsum() - 1
        there = (last >= 0) & ~navigates
        there[there] = place[self._first[last[there]]] == place[there]
        self._group = np.full(len(table), -1)
        self._group[self._numbers[there]] = last[there]

    def before(self, numbers: Numbers) -> list[Numbers]:
        """The navigators of some read-outs, by their numbers, ascending; `NONE` of those without."""
        groups = (int(group) for group in self._group[numbers])
        return [NONE if i < 0 else self._numbers[self._first[i] : self._last[i]] for i in groups]


def noise_scans(table: Table) -> Numbers:
    """The read-outs that hold noise alone."""
    return np.flatnonzero(flagged(table, Flag.NOISE))


def counters(apart: bool) -> tuple[str, ...]:
    """What tells scans apart; averages, too, if each is a scan of its own."""
    return (*SCANS, "average") if apart else SCANS


def keys(table: Table, apart: bool) -> NDArray[np.int64]:
    """The `counters` and the slice of every read-out `(readouts, counters)`: equal within a frame."""
    return np.stack([table[name] for name in (*counters(apart), "slice")], axis=1)


def frames(
    table: Table, header: MrdHeader, *, apart: bool = False, varying: Collection[str] | None = None
) -> list[Frame]:
    """Every slice of every scan: encoding spaces, contrasts, phases, repetitions and sets are scans.

    Lines that are for calibration alone join the image they were measured with. They stay apart where the
    header says that they are separate, or a line of the image is in the same place: then, and for scans
    without calibration lines beside others that have some, they are the slice's calibration scan. Where
    calibration is interleaved, that is the mean of all other scans of the slice: not of this one, parts of
    which may have to stay hidden.

    Args:
        table: headers of all read-outs.
        header: of the measurement.
        apart: whether each average is a scan of its own.
        varying: the counters that names tell, if these are not all read-outs; else those that differ.
    """
    useful = ~flagged(table, NO_IMAGE | Flag.NOISE)
    alone = useful & flagged(table, Flag.CALIBRATION) & ~flagged(table, Flag.CALIBRATION_AND_IMAGING)
    calibrating = useful & flagged(table, Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING)
    names = counters(apart)
    if varying is None:
        varying = [name for name in names if len(np.unique(table[name][useful & ~alone])) > 1]
    told = [i for i, name in enumerate(names) if name in varying]
    found = []
    unique, of = np.unique(keys(table, apart), axis=0, return_inverse=True)
    for number in np.unique(of[useful & ~alone]):
        key, mine = unique[number], of == number
        space, slice_ = header.space(int(key[0])), int(key[-1])
        imaging, own = np.flatnonzero(mine & useful & ~alone), np.flatnonzero(mine & alone)
        here = table["slice"] == slice_
        calibration = NONE
        if len(own) and space.calibration not in SEPARATE and not _collide(table, imaging, own):
            imaging = np.union1d(imaging, own)
        elif (calibrating & here).any():
            if len(own) or not (calibrating & mine).any():
                kind = here & (alone if (alone & here).any() else calibrating)
                # With this scan, or else with the first.
                with_ = number if len(own) else of[kind].min()
                calibration = np.flatnonzero(kind & (of == with_))
        elif space.calibration == "interleaved":
            same = table["encoding_space_ref"] == key[0]
            calibration = np.flatnonzero(useful & here & same & ~mine)
        name = ".".join(f"{names[i].removesuffix('_space_ref')}{key[i]}" for i in told)
        found.append(Frame(tuple(key.tolist()), name, slice_, imaging, calibration))
    return found


def in_time(found: Sequence[Frame]) -> list[tuple[str, int, int]]:
    """Of each frame: the part of its name that tells it from others of its slice, its number, their count.

    What differs in time are cardiac phases, or else repetitions; the part is empty where nothing does.
    """
    for name in IN_TIME:
        at = SCANS.index(name)
        slices = [(*frame.key[:at], *frame.key[at + 1 :]) for frame in found]
        numbers: dict[tuple[int, ...], list[int]] = {}
        for frame, one in zip(found, slices, strict=True):
            numbers.setdefault(one, []).append(frame.key[at])
        if len(numbers) < len(found):
            return [
                (f"{name}{frame.key[at]}", sorted(numbers[one]).index(frame.key[at]), len(numbers[one]))
                for frame, one in zip(found, slices, strict=True)
            ]
    return [("", 0, 1)] * len(found)


def _collide(table: Table, imaging: Numbers, own: Numbers) -> bool:
    """Whether calibration lines lie where lines of the image do."""
    names = ("kspace_encode_step_1", "kspace_encode_step_2")
    lines = [{tuple(line) for line in table[list(names)][numbers].tolist()} for numbers in (imaging, own)]
    return bool(lines[0] & lines[1])
