"""The other masks that an acquisition with one evenly spaced mask could have had: its shifted offsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.sampling.draw import lines_of, sampled_in_lines

_HELD = 0.5
"""Every mask must hold more than this share of all masks' lines."""

_FILLED = 0.7
"""Share of a grid's places beside the ACS that must be sampled."""

_ROUNDED = 0.5
"""Largest distance of a line from its place on the grid, in lines; those of fastMRI's masks are rounded."""

_CHANCE = 0.025
"""Largest chance with which random lines would be as close to the grid as those found."""


def held_by_any(masks: Sequence[Tensor]) -> Tensor:
    """The samples of all masks together, one mask after the other: a large data set's are kept packed."""
    together = masks[0].clone()
    for mask in masks:
        together |= mask
    return together


def shifted_offsets(masks: Sequence[Tensor]) -> list[Tensor]:
    """All offsets of the one evenly spaced mask that scans were acquired with, as it was acquired first.

    The mask is what the scans' masks hold together; lines that were held out of some, or of all, come back.
    Its ACS stays where it is; the lines beside it move by 0, 1, … spacing − 1, those that the ACS hides with
    them. They reach as far as the acquisition did: less than one spacing beyond its outermost lines.

    Args:
        masks: bool `(ky, kx)` of equal shape; Ω∖Γ of every scan of a data set.

    Returns:
        bool `(ky, kx)`, one for each offset; none where the scans were acquired with different masks, or with
        one that is not made of evenly spaced lines.
    """
    together = held_by_any(masks)
    if not sampled_in_lines(together):
        return []
    acs, _ = acs_box(together)
    inside = torch.zeros(len(together), dtype=torch.bool)
    inside[acs] = True
    outside = lines_of(together)[:, 0] & ~inside
    held = [int((lines_of(mask)[:, 0] & outside).sum()) for mask in masks]
    grid = _grid(np.flatnonzero(outside.numpy()), inside.numpy())
    if grid is None or min(held) <= _HELD * int(outside.sum()):
        return []
    places, spacing = grid
    first, last = places[0] - spacing + 1, places[-1] + spacing - 1
    # One more before the first, whose shifts come in from below.
    places = np.concatenate(([places[0] - spacing], places))
    found = []
    for offset in range(spacing):
        moved = places + offset
        moved = moved[(moved >= max(first, 0)) & (moved <= min(last, len(inside) - 1))]
        lines = inside.clone()
        lines[torch.from_numpy(moved)] = True
        found.append(lines[:, None] & together.any(-2))
    return found


def _grid(lines: NDArray[np.intp], inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int] | None:
    """The places of an evenly spaced grid from the first to the last of some lines, and its spacing.

    Args:
        lines: their numbers, in order.
        inside: bool `(ky,)`, the ACS, which hides some.

    Returns:
        None if the lines are not on a grid, or too few of its places are theirs.
    """
    gaps = np.diff(lines)
    if len(gaps) < 2:
        return None
    # Wider gaps are those across the ACS and beside held-out lines.
    single = gaps[gaps <= 1.5 * gaps.min()]
    # Counted gap by gap: the mean one is not exact, and over many gaps it would drift.
    steps = np.rint(gaps / single.mean()).astype(int)
    if (steps == 0).any():
        return None
    number = np.concatenate(([0], steps.cumsum()))
    spacing, start, error = _straight(number, lines)
    places = np.rint(start + spacing * np.arange(number[-1] + 1)).astype(int)
    beside = places[~inside[places.clip(0, len(inside) - 1)]]
    if spacing < 1.5 or error > _ROUNDED + 1e-9 or len(lines) < _FILLED * len(beside):
        return None
    # The first and the last line make the grid; each of the others could have been anywhere between places.
    if ((1 + 2 * error) / spacing) ** (len(lines) - 2) > _CHANCE:
        return None
    places[number] = lines
    return places, round(spacing)


def _straight(number: NDArray[np.int_], lines: NDArray[np.intp]) -> tuple[float, float, float]:
    """Slope and start of the straight line with the smallest largest error, and that error."""
    # The best slope is one between two points, where the points that bound the error change.
    first, second = np.triu_indices(len(lines), 1)
    slopes = np.unique((lines[second] - lines[first]) / (number[second] - number[first]))
    rest = lines - slopes[:, None] * number
    best = np.ptp(rest, axis=1).argmin()
    low, high = rest[best].min(), rest[best].max()
    return float(slopes[best]), float(low + high) / 2, float(high - low) / 2
