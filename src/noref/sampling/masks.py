"""Acquisition masks: which part of k-space a scanner measures.

`R` counts the ACS. Masks are bool `(ky, kx)`, read-out last; a 2-D scan can only acquire those made of whole
lines.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.sampling.draw import draw
from noref.sampling.poisson import poisson_points
from noref.seeding import Key

Shape = tuple[int, int]


def acs_size(acs: float, size: int) -> int:
    """Number of calibration lines: `acs` itself from 1 up, below that a share of the matrix (fastMRI)."""
    return round(acs * size) if acs < 1 else int(acs)


def _centre(count: int, size: int) -> Tensor:
    """`count` positions around the centre `size // 2`, bool `(size,)`."""
    inside = torch.zeros(size, dtype=torch.bool)
    start = size // 2 - count // 2
    inside[start : start + count] = True
    return inside


def centre_block(shape: Shape, rows: int, columns: int) -> Tensor:
    """A block of `rows × columns` around the centre, bool `(ky, kx)`."""
    return _centre(min(rows, shape[0]), shape[0])[:, None] & _centre(min(columns, shape[1]), shape[1])


def random_lines(shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The ACS and uniformly random lines (fastMRI's random mask), their number exactly `ky / R`."""
    centre = _centre(acs_size(acs, shape[0]), shape[0])
    others = round(shape[0] / acceleration) - int(centre.sum())
    lines = centre | draw(~centre, max(others, 0), key)
    return lines[:, None].expand(shape).clone()


def equispaced_lines(shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The ACS and every n-th line from a random offset, n such that ACS and lines together give `R`.

    fastMRI's `EquispacedMaskFraction`: `n = R (a − N) / (a R − N)` for `a` ACS lines of `N`.
    """
    size, low = shape[0], acs_size(acs, shape[0])
    centre = _centre(low, size)
    if low * acceleration >= size:
        return centre[:, None].expand(shape).clone()
    spacing = acceleration * (low - size) / (low * acceleration - size)
    offset = int(key.numpy().integers(0, max(round(spacing), 1)))
    positions = np.around(np.arange(offset, size - 1, spacing)).astype(int)
    lines = centre.clone()
    lines[torch.from_numpy(positions)] = True
    return lines[:, None].expand(shape).clone()


def random_points(shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """A sampled centre block and random points of variable density, in exact number `ky·kx / R`.

    Outside the block the density falls as `(1 − r)³`, `r` the distance from the centre over that of the
    corners. Cannot be acquired in a 2-D scan: "for comparison with the papers".
    """
    block = centre_block(shape, acs_size(acs, shape[0]), acs_size(acs, shape[1]))
    ky, kx = (torch.arange(n, dtype=torch.float64).sub(n // 2).div(n / 2) for n in shape)
    radius = torch.sqrt(ky[:, None] ** 2 + kx**2) / 2**0.5
    log_weight = 3 * torch.log((1 - radius).clamp_min(1e-3))
    others = round(shape[0] * shape[1] / acceleration) - int(block.sum())
    return block | draw(~block, max(others, 0), key, log_weight)


def poisson(shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """A sampled centre block and variable-density Poisson discs, in exact number `ky·kx / R`.

    See `poisson_points`. For the two phase-encode axes of a 3-D scan; as `random_points` in a 2-D one.
    """
    return _poisson(shape, acceleration, acs, key, corners=True)


def poisson_elliptical(shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The same without the corners of k-space, as SigPy's: nothing is sampled beyond the ellipse.

    Raises:
        NorefError: if the ellipse holds fewer points.
    """
    return _poisson(shape, acceleration, acs, key, corners=False)


def _poisson(shape: Shape, acceleration: float, acs: float, key: Key, *, corners: bool) -> Tensor:
    block = (min(acs_size(acs, shape[0]), shape[0]), min(acs_size(acs, shape[1]), shape[1]))
    count = round(shape[0] * shape[1] / acceleration)
    others = poisson_points(shape, block, max(count - block[0] * block[1], 0), key, corners)
    mask = centre_block(shape, *block) | others
    if int(mask.sum()) < count:
        raise NorefError(
            f"mask poisson-elliptical: all of the ellipse is {mask.numel() / int(mask.sum()):.2f}-fold "
            f"undersampled, acceleration {acceleration:g} is less; raise it, or use mask poisson"
        )
    return mask


MASKS: dict[str, Callable[[Shape, float, float, Key], Tensor]] = {
    "lines": random_lines,
    "equispaced": equispaced_lines,
    "random2d": random_points,
    "poisson": poisson,
    "poisson-elliptical": poisson_elliptical,
}

IN_POINTS = frozenset({"random2d", "poisson", "poisson-elliptical"})
"""Those that are not made of lines."""


def acquisition_mask(kind: str, shape: Shape, acceleration: float, acs: float, key: Key) -> Tensor:
    """The mask of one scan.

    Args:
        kind: a name in `MASKS`.
        shape: k-space matrix `(ky, kx)`.
        acceleration: `R`, the ACS counted.
        acs: calibration lines (size of the centre block for points), or their share of the matrix if below 1.
        key: of the data set's seed and the scan; without an epoch, so that it is fixed for life.

    Raises:
        NorefError: if the ACS alone is more than `1/R` of k-space.
    """
    low = [acs_size(acs, size) for size in shape]
    calibrated = low[0] * (low[1] if kind in IN_POINTS else shape[1])
    if calibrated * acceleration > shape[0] * shape[1]:
        raise NorefError(
            f"mask {kind}: {low[0]} calibration lines of {shape[0]} leave no room for acceleration "
            f"{acceleration:g}; lower acs or acceleration"
        )
    return MASKS[kind](shape, acceleration, acs, key)


def mask_from_file(path: Path, shape: Shape) -> Tensor:
    """A mask from a `.npy` file of shape `(ky, kx)` or `(ky,)`.

    Raises:
        NorefError: if the file cannot be read, or fits no axis of `shape`.
    """
    try:
        with path.open("rb") as file:
            mask = torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False) != 0)
    except (OSError, ValueError) as error:
        raise NorefError(f"{path}: not a .npy mask ({error}); save it with numpy.save") from None
    if mask.shape == shape[:1]:
        return mask[:, None].expand(shape).clone()
    if mask.shape == shape:
        return mask
    raise NorefError(
        f"{path}: a mask of {tuple(mask.shape)} fits no axis of k-space {shape}; give (ky, kx) or (ky,)"
    )
