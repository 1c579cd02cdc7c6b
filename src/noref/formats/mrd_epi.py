"""Echo-planar read-outs as lines of a Cartesian scan: turned, brought to even samples, and in phase.

Lines that are read out in both directions differ by a shift in k-space and by a phase, of which come ghosts
half a field of view away. Read-outs without phase encoding, the navigators, tell both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.errors import NorefError
from noref.formats.mrd_frames import NONE, Numbers
from noref.formats.mrd_geometry import clinical
from noref.formats.mrd_header import CARTESIAN, EncodingSpace, Space, Trapezoid
from noref.formats.mrd_measurement import Measurement
from noref.formats.mrd_readouts import Flag, Table, Values, flagged, placed, read_samples
from noref.physics import fft1c, ifft1c

LONGER = 1.001
"""By how much sampling may end after the gradient does, for rounding."""

SMALLEST = 1e-2
"""Singular values that even samples are not made of, as a share of the largest."""


@dataclass(frozen=True)
class Lines:
    """Read-outs that can be put on the grid.

    Attributes:
        table: their headers.
        samples: complex64 `(coils, samples)` of each.
        gain: variance of the noise in a sample, over that in one as it was acquired.
    """

    table: Table
    samples: list[NDArray[Any]]
    gain: float = 1.0


def evenly_sampled(space: EncodingSpace) -> EncodingSpace:
    """The encoding space of lines that `lines_of` gives.

    Read-outs that are sampled while their gradient rises or falls are given the clinical field of view.
    """
    wide, view = space.encoded.matrix[0], space.encoded.view
    if not _uneven(space) or not wide:
        return space
    kept = clinical(space, 0, wide)
    encoded = Space((kept, *space.encoded.matrix[1:]), (view[0] * kept / wide, *view[1:]))
    return replace(space, encoded=encoded)


def lines_of(path: Path, values: Values, one: Measurement, numbers: Numbers, space: EncodingSpace) -> Lines:
    """Read-outs on even samples, and in phase with each other whatever their direction.

    Of reversed ones `e^{i(a + b x)}` is taken off along x, which the navigators before them tell, see
    `difference`; without navigators they are turned and nothing else.

    Args:
        path: of the file, for messages.
        values: of the read-outs.
        one: their measurement.
        numbers: those wanted, ascending.
        space: their encoding, as the header tells it.

    Raises:
        NorefError: if they contradict their headers, or nobody can say where they were sampled.
    """
    own, samples = one.table[numbers], read_samples(path, values, one.table, numbers)
    regrid, reverse = _regridding(path, own, space), flagged(own, Flag.REVERSE)
    groups = [NONE] * len(numbers)
    if reverse.any():
        before = one.navigators.before(numbers)
        groups = [group if turn else NONE for group, turn in zip(before, reverse, strict=True)]
    if regrid is None and not any(map(len, groups)):
        return Lines(own, samples)
    kx = evenly_sampled(space).encoded.matrix[0] or int(own["number_of_samples"].max())

    def even(head: np.void, line: NDArray[Any]) -> tuple[NDArray[np.complex64], slice]:
        return (
            placed(path, head, line, kx) if regrid is None else (regrid.apply(path, head, line), slice(0, kx))
        )

    phases = dict[int, NDArray[np.complex64] | None]()
    turned, found = own.copy(), []
    turned["flags"] &= ~np.uint64(Flag.REVERSE)
    turned["number_of_samples"], turned["center_sample"] = kx, kx // 2
    for i, (line, group) in enumerate(zip(samples, groups, strict=True)):
        part, columns = even(own[i], line)
        whole = np.zeros((len(line), kx), np.complex64)
        whole[:, columns] = part
        first = int(group[0]) if len(group) else -1
        if first not in phases:
            phases[first] = _phases(path, values, one.table, group, kx, even)
        correction = phases[first]
        found.append(whole if correction is None else _multiplied(whole, correction))
        turned["discard_pre"][i], turned["discard_post"][i] = columns.start, kx - columns.stop
    return Lines(turned, found, 1.0 if regrid is None else regrid.gain)


def difference(forward: Tensor, reverse: Tensor) -> tuple[float, float]:
    """By what reversed read-outs differ from others: a phase `a`, and `b` a pixel along x.

    With `q(x) = Σ_c conj(f_c(x)) r_c(x)`, `b = arg Σ_x conj(q(x)) q(x + 1)` (Ahn and Cho, IEEE Transactions
    on Medical Imaging 6 (1987), 32) and `a = arg Σ_x q(x) e^{−i b x}`: coils and pixels count by their
    energy.

    Args:
        forward: complex `(coils, x)`, a navigator along x.
        reverse: the same, of a reversed one.

    Returns:
        `a` at `x = 0`, the first pixel, and `b`, radians.
    """
    both = (forward.conj() * reverse).sum(0).to(torch.complex128)
    slope = float((both[:-1].conj() * both[1:]).sum().angle())
    along = torch.arange(len(both), dtype=torch.float64)
    ramp = torch.polar(torch.ones_like(along), -slope * along)
    return float((both * ramp).sum().angle()), slope


def _phases(
    path: Path,
    values: Values,
    table: Table,
    group: Numbers,
    kx: int,
    even: Callable[[np.void, NDArray[Any]], tuple[NDArray[np.complex64], slice]],
) -> NDArray[np.complex64] | None:
    """What reversed lines are multiplied by along x, by their navigators; None without."""
    if not len(group):
        return None
    # Of an odd number in turns, the mean of both directions is of the same time: drift cancels.
    reverse = flagged(table[group], Flag.REVERSE)
    if len(group) % 2 == 0 and reverse[:-1].any() and not reverse[:-1].all():
        group, reverse = group[:-1], reverse[:-1]
    lines = []
    for head, line in zip(table[group], read_samples(path, values, table, group), strict=True):
        part, columns = even(head, line)
        lines.append(np.zeros((len(line), kx), np.complex64))
        lines[-1][:, columns] = part
    if len({len(line) for line in lines}) > 1:
        raise NorefError(f"{path}: navigators of different channels in one scan; export it again")
    along_x = ifft1c(torch.from_numpy(np.stack(lines)))
    phase, slope = difference(*(along_x[torch.from_numpy(of)].mean(0) for of in (~reverse, reverse)))
    return np.asarray(np.exp(-1j * (phase + slope * np.arange(kx))), np.complex64)


def _multiplied(line: NDArray[np.complex64], factors: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """A read-out `(coils, kx)` multiplied along x."""
    product: NDArray[np.complex64] = fft1c(ifft1c(torch.from_numpy(line)) * torch.from_numpy(factors)).numpy()
    return product


@dataclass(frozen=True)
class _Regridding:
    """What makes even samples `(coils, kx)` of uneven ones `(coils, samples)`.

    Attributes:
        forward: complex64 `(samples, kx)`.
        reverse: of reversed read-outs, in the order of acquisition.
        gain: variance of the noise in a pixel, over that in a sample as it was acquired.
    """

    forward: NDArray[np.complex64]
    reverse: NDArray[np.complex64]
    gain: float

    def apply(self, path: Path, head: np.void, line: NDArray[Any]) -> NDArray[np.complex64]:
        if line.shape[-1] != len(self.forward):
            raise NorefError(
                f"{path}: a read-out of {line.shape[-1]} samples, where trajectoryDescription tells of "
                f"{len(self.forward)}; correct numSamples"
            )
        by = self.reverse if int(head["flags"]) & Flag.REVERSE else self.forward
        made: NDArray[np.complex64] = line @ by
        return made


def _uneven(space: EncodingSpace) -> bool:
    """Whether lines are sampled while their gradient changes."""
    one = space.gradient
    return one is not None and space.trajectory in CARTESIAN and one.rise + one.fall > 0


def _regridding(path: Path, table: Table, space: EncodingSpace) -> _Regridding | None:
    """Least squares, of pixels of the clinical field of view alone: `F (E^H E)^{−1} E^H`.

    `E` takes pixels to samples at `k(t)`, the area of the gradient up to the middle of each dwell time. What
    is sampled is as wide as the encoded matrix, and the middle of the gradient is the centre of k-space.
    """
    gradient, wide = space.gradient, space.encoded.matrix[0]
    if gradient is None or not _uneven(space):
        return None
    samples = gradient.samples or int(table["number_of_samples"].max())
    dwell = gradient.dwell or float(table["sample_time_us"][0])
    total, reading = gradient.rise + gradient.flat + gradient.fall, dwell * samples
    begin = gradient.delay or (total - reading) / 2
    if not wide or reading <= 0 or begin < 0 or begin + reading > total * LONGER:
        raise NorefError(
            f"{path}: EPI of {samples} samples from {begin:.6g} to {begin + reading:.6g} µs of a gradient of "
            f"{total:.6g} µs, and a matrix of {wide}: correct trajectoryDescription and encodedSpace"
        )
    known = replace(gradient, delay=begin, dwell=dwell, samples=samples)
    return _regridding_of(known, wide, clinical(space, 0, wide))


@lru_cache(maxsize=8)
def _regridding_of(gradient: Trapezoid, wide: int, kept: int) -> _Regridding:
    begin, dwell, samples = gradient.delay, gradient.dwell, gradient.samples
    time = begin + dwell * (np.arange(samples) + 0.5)
    read = _area(gradient, np.array([begin, begin + dwell * samples]))
    middle = _area(gradient, np.array(gradient.rise + gradient.flat + gradient.fall)) / 2
    cycles = (_area(gradient, time) - middle) * wide / (read[1] - read[0])
    x = np.arange(kept) - kept // 2
    made = []
    for direction in (1, -1):
        encoding = np.exp(-2j * np.pi * direction / wide * np.outer(cycles, x)) / np.sqrt(wide)
        made.append(np.linalg.pinv(encoding, SMALLEST))
    forward, reverse = (fft1c(torch.from_numpy(one.T)).to(torch.complex64).numpy() for one in made)
    return _Regridding(forward, reverse, float(np.square(np.abs(made[0])).sum() / kept))


def _area(gradient: Trapezoid, time: NDArray[Any]) -> NDArray[np.float64]:
    """The area under a gradient of height 1 from its beginning to some times, in microseconds."""
    rise, flat, fall = gradient.rise, gradient.flat, gradient.fall
    up, top, down = (
        np.clip(time, 0, rise),
        np.clip(time - rise, 0, flat),
        np.clip(time - rise - flat, 0, fall),
    )
    area: NDArray[np.float64] = up**2 / (2 * (rise or 1)) + top + down - down**2 / (2 * (fall or 1))
    return area
