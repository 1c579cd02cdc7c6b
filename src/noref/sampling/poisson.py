"""Variable-density Poisson discs: random points that keep a distance, which grows away from the centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.sampling.draw import draw
from noref.seeding import Key

Shape = tuple[int, int]

_SHORTER = 0.5
"""Most by which a disc is smaller than its radius: the few distances on a grid alone give few densities."""

_ROUND = 0.25
"""Discs of one round of candidates, as a share of the grid: more of them are in each other's way."""


def radial_distance(shape: Shape, block: Shape) -> NDArray[np.float64]:
    """Distance from the centre block `(rows, columns)`, `(ky, kx)`: 1 at the middle of the farther edges.

    `√(v² + u²)`, with v the lines to the block over the most that there are, u likewise along kx; zero inside
    the block alone.
    """
    axes = []
    for size, inside in zip(shape, block, strict=True):
        first, position = size // 2 - inside // 2, np.arange(size)
        beyond = np.maximum(np.maximum(first - position, position - (first + inside) + 1), 0)
        axes.append(beyond / max(beyond.max(), 1))
    distance: NDArray[np.float64] = np.hypot(axes[0][:, None], axes[1])
    return distance


@dataclass(frozen=True)
class _Discs:
    """Discs around every point of a grid, which lies in a larger one, so that none reaches over its edge.

    Attributes:
        points: bool, flat, where points may be.
        radius: around each of them, flat.
        offsets: from the middle of a disc to its points, the nearest first.
        apart: how far each of them is from the middle.
        inner: `(rows, columns)` of the grid inside the larger one.
        shape: of the larger one.
        step: how many candidates a round has.
    """

    points: NDArray[np.bool_]
    radius: NDArray[np.float64]
    offsets: NDArray[np.intp]
    apart: NDArray[np.float64]
    inner: tuple[slice, slice]
    shape: Shape
    step: int


@lru_cache(maxsize=8)
def _discs(shape: Shape, block: Shape, corners: bool, slope: float, first: int = 0) -> _Discs:
    """Discs of radius `1 + slope · r`; along the shorter axis of k-space they are shorter by as much."""
    distance = radial_distance(shape, block)
    stretch = [max(shape) / size for size in shape]
    longest = 1 + slope * distance.max()
    margin = [min(int(longest / by) + 1, size) for by, size in zip(stretch, shape, strict=True)]
    outer = (shape[0] + 2 * margin[0], shape[1] + 2 * margin[1])
    rows, columns = np.mgrid[-margin[0] : margin[0] + 1, -margin[1] : margin[1] + 1]
    apart = np.hypot(rows * stretch[0], columns * stretch[1]).ravel()
    order = np.argsort(apart, kind="stable")
    offsets = (rows * outer[1] + columns).ravel()[order]
    inner = (slice(margin[0], margin[0] + shape[0]), slice(margin[1], margin[1] + shape[1]))
    points, radius = np.zeros(outer, np.bool_), np.ones(outer)
    points[inner] = (distance > 0) & (corners | (distance < 1)) & (np.arange(shape[0]) >= first)[:, None]
    radius[inner] = 1 + slope * distance
    covered = int(np.searchsorted(apart[order], radius[points]).sum())
    step = max(int(_ROUND * points.sum() ** 2 / max(covered, 1)), 1)
    return _Discs(points.ravel(), radius.ravel(), offsets, apart[order], inner, outer, step)


def _throw(discs: _Discs, key: Key) -> NDArray[np.bool_]:
    """Points in random order, each taken unless it lies in the disc of one taken before, bool `(ky, kx)`.

    A round takes, of the next candidates at once, all that lie in no disc of an earlier candidate.
    """
    generator = key.numpy()
    free = discs.points.copy()
    taken = np.zeros_like(free)
    waiting = generator.permutation(np.flatnonzero(free))
    # The highest number that covers a point is that of this round's earliest candidate.
    owner = np.full(free.size, -1, np.intp)
    begin = 0
    while waiting.size:
        candidates = waiting[: discs.step]
        shorter = generator.uniform(0, _SHORTER, candidates.size)
        sizes = np.maximum(np.searchsorted(discs.apart, discs.radius[candidates] - shorter), 1)
        starts = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        covered = np.repeat(candidates, sizes) + discs.offsets[within]
        numbers = np.arange(begin + candidates.size, begin, -1)
        begin += candidates.size
        np.maximum.at(owner, covered, np.repeat(numbers, sizes))
        first = owner[candidates] == numbers
        taken[candidates[first]] = True
        free[covered[np.repeat(first, sizes)]] = False
        waiting = waiting[free[waiting]]
    return taken.reshape(discs.shape)[discs.inner]


@lru_cache(maxsize=64)
def _slope(shape: Shape, block: Shape, corners: bool, count: int, first: int = 0) -> float:
    """The slope with which just over `count` points fit, by bisection; the same for every scan."""
    # Their number varies by about 0.4 √count from draw to draw: it should hardly ever be too small.
    wanted = count + 1.5 * count**0.5

    def fitting(slope: float) -> int:
        return int(_throw(_discs(shape, block, corners, slope, first), Key(0, "", "poisson slope")).sum())

    low, high = 0.0, 1.0
    while fitting(high) > wanted:
        low, high = high, 2 * high
    while high - low > 1e-3 * high > 1e-6 and abs(fitting(high) - wanted) > 0.2 * count**0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if fitting(middle) > wanted else (low, middle)
    return high


def poisson_points(
    shape: Shape, block: Shape, count: int, key: Key, corners: bool = True, first: int = 0
) -> Tensor:
    """Exactly `count` points outside a centre block, no two of them close.

    Any two are apart by at least the smaller of their radii, `½ + s·r`, with r as in `radial_distance` and
    `√(Δky² + Δkx²)` as the distance in a square k-space: a shorter axis is stretched to the longer. A disc is
    smaller than `1 + s·r` by a random part of ½, so that the density falls without steps, about as
    `(1 + s·r)⁻²`. The slope s is found once for all scans, such that slightly more points fit; what is over
    is dropped at random.

    Args:
        shape: k-space matrix `(ky, kx)`.
        block: `(rows, columns)` of the centre block, which is sampled anyway.
        count: how many; at most all points outside the block.
        key: the stream of random numbers.
        corners: whether points lie beyond `r = 1`, too; without them the shutter is elliptical.
        first: the line before which there are no points (partial Fourier).

    Returns:
        bool `(ky, kx)`; fewer points where there are no more.

    Source: dart throwing (Cook, ACM Trans. Graph. 5, 1986), in rounds as of Luby (SIAM J. Comput. 15, 1986);
    the radius as in SigPy's `mri.poisson`.
    """
    if count == 0:
        return torch.zeros(shape, dtype=torch.bool)
    slope = _slope(shape, block, corners, count, first)
    points = _throw(_discs(shape, block, corners, slope, first), key)
    while points.sum() < count and slope > 0:
        slope = 0.97 * slope if slope > 1e-3 else 0.0
        points = _throw(_discs(shape, block, corners, slope, first), key)
    return draw(torch.from_numpy(points), count, key.fold("kept"))
