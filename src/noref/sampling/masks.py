"""Acquisition masks by name: which part of k-space a scanner measures.

Masks are bool `(ky, kx)`, read-out last; a 2-D scan can only acquire those made of whole lines. `R` counts
the ACS and what partial Fourier leaves out, but for the few masks whose `R` is their spacing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noref.errors import NorefError
from noref.sampling.centre import Shape, acs_size
from noref.sampling.curves import pseudo_radial, pseudo_spiral
from noref.sampling.lines import equispaced_lines, gaussian_lines, magic_lines, random_lines, regular_lines
from noref.sampling.points import caipi, gaussian_points, poisson, poisson_elliptical, random_points
from noref.seeding import Key

MASKS: dict[str, Callable[[Shape, float, float, Key, int], Tensor]] = {
    "lines": random_lines,
    "gaussian1d": gaussian_lines,
    "equispaced": equispaced_lines,
    "regular": regular_lines,
    "magic": magic_lines,
    "random2d": random_points,
    "gaussian2d": gaussian_points,
    "poisson": poisson,
    "poisson-elliptical": poisson_elliptical,
    "caipi": caipi,
    "pseudo-radial": pseudo_radial,
    "pseudo-spiral": pseudo_spiral,
}

IN_POINTS = frozenset(
    {"random2d", "gaussian2d", "poisson", "poisson-elliptical", "caipi", "pseudo-radial", "pseudo-spiral"}
)
"""Those that are not made of lines."""

SPACED = frozenset({"regular", "magic", "caipi"})
"""Those whose `R` is their spacing, a whole number: the ACS adds to it, partial Fourier takes away."""


def acquisition_mask(
    kind: str, shape: Shape, acceleration: float, acs: float, key: Key, partial_fourier: float = 1.0
) -> Tensor:
    """The mask of one scan.

    Args:
        kind: a name in `MASKS`.
        shape: k-space matrix `(ky, kx)`.
        acceleration: `R`, the ACS and partial Fourier counted; of those in `SPACED` the spacing.
        acs: calibration lines (size of the centre block for points), or their share of the matrix if below 1.
        key: of the data set's seed and the scan; without an epoch, so that it is fixed for life.
        partial_fourier: share of the lines that may be acquired, such as 6/8; the first ones are left out.

    Raises:
        NorefError: if the ACS alone is more than `1/R` of k-space, if partial Fourier cuts into it or leaves
            less than `1/R`, or if `R` is a spacing and no whole number.
    """
    low = [acs_size(acs, size) for size in shape]
    first = shape[0] - round(partial_fourier * shape[0])
    if first > shape[0] // 2 - min(low[0], shape[0]) // 2:
        raise NorefError(
            f"mask {kind}: partial_fourier {partial_fourier:g} cuts into the {low[0]} calibration lines of "
            f"{shape[0]}; raise it, or lower acs"
        )
    if kind in SPACED:
        if acceleration != int(acceleration):
            raise NorefError(
                f"mask {kind}: acceleration {acceleration:g} is its spacing; give a whole number"
            )
        return MASKS[kind](shape, acceleration, acs, key, first)
    calibrated = low[0] * (low[1] if kind in IN_POINTS else shape[1])
    if calibrated * acceleration > shape[0] * shape[1]:
        raise NorefError(
            f"mask {kind}: {low[0]} calibration lines of {shape[0]} leave no room for acceleration "
            f"{acceleration:g}; lower acs or acceleration"
        )
    unit = shape[1] if kind in IN_POINTS else 1
    if round(unit * shape[0] / acceleration) > unit * (shape[0] - first):
        raise NorefError(
            f"mask {kind}: partial_fourier {partial_fourier:g} alone undersamples by more than acceleration "
            f"{acceleration:g}; raise either"
        )
    return MASKS[kind](shape, acceleration, acs, key, first)


def read_mask(path: Path) -> Tensor:
    """A mask from a `.npy` file, bool.

    Raises:
        NorefError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False) != 0)
    except (OSError, ValueError) as error:
        raise NorefError(f"{path}: not a .npy mask ({error}); save it with numpy.save") from None


def mask_from_file(path: Path, shape: Shape) -> Tensor:
    """A mask from a `.npy` file of shape `(ky, kx)` or `(ky,)`.

    Raises:
        NorefError: if the file cannot be read, or fits no axis of `shape`.
    """
    mask = read_mask(path)
    if mask.shape == shape[:1]:
        return mask[:, None].expand(shape).clone()
    if mask.shape == shape:
        return mask
    raise NorefError(
        f"{path}: a mask of {tuple(mask.shape)} fits no axis of k-space {shape}; give (ky, kx) or (ky,)"
    )
