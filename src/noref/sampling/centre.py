"""The calibration region of a mask, and the part of k-space that partial Fourier leaves."""

from __future__ import annotations

import torch
from torch import Tensor

Shape = tuple[int, int]


def acs_size(acs: float, size: int) -> int:
    """Number of calibration lines: `acs` itself from 1 up, below that a share of the matrix (fastMRI)."""
    return round(acs * size) if acs < 1 else int(acs)


def centre_lines(count: int, size: int) -> Tensor:
    """`count` positions around the centre `size // 2`, all if there are no more, bool `(size,)`."""
    inside = torch.zeros(size, dtype=torch.bool)
    start = size // 2 - min(count, size) // 2
    inside[start : start + min(count, size)] = True
    return inside


def centre_block(shape: Shape, rows: int, columns: int) -> Tensor:
    """A block of `rows × columns` around the centre, bool `(ky, kx)`."""
    return centre_lines(rows, shape[0])[:, None] & centre_lines(columns, shape[1])


def lines_from(first: int, size: int) -> Tensor:
    """The lines that partial Fourier acquires: those from the first one on, bool `(size,)`."""
    return torch.arange(size) >= first
