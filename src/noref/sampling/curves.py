"""Acquisition masks of radial and spiral scans on the Cartesian grid (pseudo-radial, pseudo-spiral).

All are bool `(ky, kx)`, hold a centre block, and hold nothing before the `first` line (partial Fourier). They
order the two phase-encode axes of a 3-D scan; in a 2-D scan they are "for comparison with the papers".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import hypot, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.sampling.centre import Shape, centre_block, lines_from
from noref.sampling.points import acs_block
from noref.sampling.spokes import spoke_angles
from noref.seeding import Key

TURNS = 1.0
"""Turns of a spiral arm from the centre to the corners."""

POWER = 2.0
"""Of the time by which a spiral arm moves away from the centre; above 1 the centre is denser."""

Curves = Callable[[NDArray[np.float64], int], NDArray[np.complex128]]


def pseudo_radial(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A centre block and spokes of successive golden angles, in exact number of samples `ky·kx / R`.

    Spokes are straight lines on the grid without a gap and reach the border of k-space, as an ellipse where
    it is not square. Of the last one only the samples nearest to the centre are taken.

    Source: Winkelmann et al., IEEE TMI 2007, 26:68.
    """
    return _along(_spokes, shape, acceleration, acs, key, first)


def pseudo_spiral(shape: Shape, acceleration: float, acs: float, key: Key, first: int = 0) -> Tensor:
    """A centre block and spiral arms of successive golden angles, in exact number of samples `ky·kx / R`.

    An arm is `r(t) = t²`, `φ(t) = φ₀ + 2πt` for t from 0 to 1, r = 1 in the corners. Where arms do not meet,
    their density is as `√(1 + π² r) / r`: it falls as `1/r` near the centre, as of spokes, as `r^−½` far from
    it. Of the last arm only the samples nearest to the centre are taken.

    Source: Kim et al., MRM 2003, 50:214, for the arms; Liu & Saloner, QIMS 2014, 4:57 (CIRCUS), for spirals
    on a grid.
    """
    return _along(_arms, shape, acceleration, acs, key, first)


def _along(curves: Curves, shape: Shape, acceleration: float, acs: float, key: Key, first: int) -> Tensor:
    """The centre block and the first new samples that turned curves pass through, one after the other."""
    block = centre_block(shape, *acs_block(shape, acs))
    free = (~block & lines_from(first, shape[0])[:, None]).numpy().ravel()
    others = min(round(shape[0] * shape[1] / acceleration) - int(block.sum()), int(free.sum()))
    mask = block.numpy().ravel().copy()
    if others > 0:
        start = float(key.numpy().uniform(0, 2 * pi))
        visit = _visits(curves, shape, free, others, start)
        mask[np.argpartition(visit, others - 1)[:others]] = True
    return torch.from_numpy(mask.reshape(shape))


def _visits(
    curves: Curves, shape: Shape, free: NDArray[np.bool_], others: int, start: float
) -> NDArray[np.intp]:
    """When each free sample was visited first, flat; of as many curves as visit `others`."""
    number = others // max(shape) + 1
    while True:
        angles = spoke_angles(number, golden=True, start=start).numpy()
        places = _places(curves(angles, max(shape)), shape)
        visit = np.full(free.size, len(places))
        # Backwards, as of the visits of a sample the one that is written last remains.
        visit[places[::-1]] = np.arange(len(places))[::-1]
        visit[~free] = len(places)
        if np.count_nonzero(visit < len(places)) >= others:
            return visit
        number += number // 2 + 1


def _places(points: NDArray[np.complex128], shape: Shape) -> NDArray[np.intp]:
    """Flat indices of the samples nearest to points ky + i kx, of those on the grid."""
    inside, places = np.ones(points.shape, np.bool_), np.zeros(points.shape, np.intp)
    for part, size in zip((points.real, points.imag), shape, strict=True):
        place = np.rint(part * (size / max(shape))).astype(np.intp) + size // 2
        inside &= (place >= 0) & (place < size)
        places = places * size + place
    return places[inside]


def _spokes(angles: NDArray[np.float64], size: int) -> NDArray[np.complex128]:
    """Spokes of a square k-space in samples from its centre, ky + i kx, the centre first."""
    direction = np.exp(1j * angles)
    # One step along the axis that a spoke is nearer to: neither a gap nor a sample twice.
    direction /= np.maximum(np.abs(direction.real), np.abs(direction.imag))
    steps = np.arange(-(size // 2), size // 2 + 1)
    return np.asarray(direction[:, None] * steps[np.argsort(np.abs(steps), kind="stable")])


def _arms(angles: NDArray[np.float64], size: int) -> NDArray[np.complex128]:
    """Spiral arms of a square k-space in samples from its centre, ky + i kx, the centre first."""
    return np.asarray(np.exp(1j * angles)[:, None] * _arm(size))


@lru_cache(maxsize=8)
def _arm(size: int) -> NDArray[np.complex128]:
    """The spiral arm of angle zero, at steps of half a sample."""
    reach = hypot(size, size) / 2
    time = np.linspace(0, 1, 8 * size)
    arm = reach * time**POWER * np.exp(2j * pi * TURNS * time)
    length = np.concatenate(([0.0], np.abs(np.diff(arm)).cumsum()))
    time = np.interp(np.arange(0, length[-1], 0.5), length, time)
    return np.asarray(reach * time**POWER * np.exp(2j * pi * TURNS * time))
