"""The masks that an acquisition could have had, to draw another one from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from noref.coils.calibration import acs_box
from noref.sampling.density import sampling_density
from noref.sampling.draw import draw_units, sampled_in_lines
from noref.sampling.offsets import held_by_any, shifted_offsets
from noref.seeding import Key

_SAME = 0.6
"""Masks that each hold more than this share of all their samples beside the ACS are one; Γ took the rest."""

_DRAWN = 32
"""Masks that are drawn to stand for those that an acquisition did not make."""


_ALIKE = 1.15
"""Largest ratio of the numbers of samples of masks that count as of one acceleration."""


def mask_bank(masks: Mapping[tuple[int, int], Sequence[Tensor]]) -> dict[tuple[int, int], Sequence[Tensor]]:
    """The masks to draw another one from: those of all scans, or others like the one that they share.

    Others like it are its shifted offsets where it is evenly spaced, random ones elsewhere. Warns where scans
    were undersampled more and less.

    Args:
        masks: bool `(ky, kx)`, Ω∖Γ of every scan of a data set, by shape.
    """
    for (ky, kx), of_shape in masks.items():
        counts = [int(mask.sum()) for mask in of_shape]
        if max(counts) > _ALIKE * min(counts):
            warnings.warn(
                f"scans of {ky}×{kx} with {min(counts)} to {max(counts)} samples are shown with each other's "
                "masks; better train scans of one acceleration only",
                stacklevel=3,
            )
    return {
        shape: shifted_offsets(of_shape) or drawn_alike(of_shape) or of_shape
        for shape, of_shape in masks.items()
    }


def drawn_alike(masks: Sequence[Tensor]) -> list[Tensor]:
    """Random masks like the one that all scans were acquired with.

    They hold its ACS and, beside it, as many samples as the fullest of them, drawn where it is dense, in its
    own unit (lines or points), no farther out than it reaches.

    Args:
        masks: bool `(ky, kx)` of equal shape; Ω∖Γ of every scan of a data set.

    Returns:
        bool `(ky, kx)`; none where the scans were acquired with different masks, or all samples are theirs.
    """
    together = held_by_any(masks)
    acs = torch.zeros_like(together)
    acs[acs_box(together)] = True
    beside = int((together & ~acs).sum())
    held = [int((mask & ~acs).sum()) for mask in masks]
    reach = torch.zeros_like(together)
    rows, columns = (together.any(axis).nonzero() for axis in (1, 0))
    reach[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    free = reach & ~acs
    if min(held) <= _SAME * beside or beside == int(free.sum()):
        return []
    share = max(held) / int(free.sum())
    weight = sampling_density([together]).log()
    lines = sampled_in_lines(together)
    key = Key(0, "", "bank")
    return [acs | draw_units(free, free, share, key.fold(n), weight, lines) for n in range(_DRAWN)]
